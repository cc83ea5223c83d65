"""The lens and multislice against abTEM, the field's reference: same wave, same potential, same result.

abTEM's arrays are (x, y), ours (y, x).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from passband.hrtem.specimen.specimen import Specimen
from passband.hrtem.wave.imaging import image_intensity, simulate_micrographs
from passband.hrtem.wave.potential import antialias_band, projected_potential, sampling_band
from passband.hrtem.wave.scattering import (
    WaveSettings,
    exit_wave,
    multislice,
    wave_from_array,
)
from passband.optics.bands import from_band
from passband.optics.conditions import (
    ConditionRanges,
    Grid,
    ImagingConditions,
    Uniform,
    draw_conditions,
)
from passband.optics.transfer import lens_of

pytestmark = pytest.mark.filterwarnings("ignore")
CELL = (18.0, 14.4, 12.0)


@pytest.fixture(scope="module")
def abtem() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("abtem", reason="the oracle is not installed")
        settings = {"precision": "float64", "device": "cpu", "diagnostics.progress_bar": False}
        with module.config.set({**settings, "dask.lazy": False}):
            yield module


def atoms() -> Specimen:
    rng = np.random.default_rng(4)
    count = 240
    return Specimen(
        numbers=rng.choice([6, 34, 48, 79], count),
        positions=rng.uniform(0, 1, (count, 3)) * np.array(CELL) * 0.999,
        particle=np.ones(count, np.int32),
        thermal=np.zeros(count),
        cell=CELL,
        focus_plane=CELL[2],
    )


def reference_wave(abtem: Any) -> np.ndarray:
    """abTEM's exit wave of our potential, (y, x)."""
    v = projected_potential(atoms(), pixel_size=0.2, slice_thickness=2.0, dtype=torch.float64)
    potential = abtem.PotentialArray(
        np.ascontiguousarray(v.numpy().transpose(0, 2, 1)), slice_thickness=2.0, sampling=(0.2, 0.2)
    )
    wave = abtem.PlaneWave(energy=300e3).multislice(potential).array
    return np.ascontiguousarray(wave.T)


def test_the_same_potential_gives_the_same_exit_wave(abtem: Any) -> None:
    expected = reference_wave(abtem)
    v = projected_potential(atoms(), pixel_size=0.2, slice_thickness=2.0, dtype=torch.float64)
    band = antialias_band(sampling_band(atoms(), 0.2))
    for slices in (v, v.float()):
        spectrum = multislice(list(slices), band, energy=300e3, slice_thickness=2.0)
        found = from_band(spectrum, band).numpy()
        assert np.abs(found - expected).max() < 1e-5
    assert np.abs(expected - 1).std() > 0.1


def conditions() -> list[ImagingConditions]:
    """Fifty, every aberration with both signs among them."""
    signed = {"C12": 60.0, "C21": 900.0, "C23": 900.0, "C50": 4e7}
    ranges = ConditionRanges(
        C10=Uniform(low=-500.0, high=500.0),
        C30=Grid(values=(-2e5, 0.0, 1.2e7)),
        phi12=Uniform(low=-3.0, high=3.0),
        phi21=Uniform(low=-3.0, high=3.0),
        phi23=Uniform(low=-3.0, high=3.0),
        focal_spread=Uniform(low=0.0, high=60.0),
        angular_spread=Grid(values=(0.0, 3e-4)),
        aperture=Grid(values=(math.inf, 0.0153)),
        dose=math.inf,
        **{name: Uniform(low=-v, high=v) for name, v in signed.items()},
    )
    return draw_conditions(ranges, 50, seed=2)


def reference_image(abtem: Any, array: np.ndarray, c: ImagingConditions) -> np.ndarray:
    wave = abtem.Waves(np.ascontiguousarray(array.T), energy=c.energy, sampling=0.2)
    names = ("C10", "C12", "phi12", "C21", "phi21", "C23", "phi23", "C30", "C50", "focal_spread")
    ctf = abtem.CTF(
        **{n: getattr(c, n) for n in names},
        angular_spread=1e3 * c.angular_spread,
        semiangle_cutoff=1e3 * c.aperture,
    )
    return np.asarray(wave.apply_ctf(ctf).intensity().array).T


def test_the_same_wave_gives_the_same_images_under_fifty_conditions(abtem: Any) -> None:
    array = reference_wave(abtem)
    wave = wave_from_array(array, pixel_size=0.2, energy=300e3)
    for c in conditions():
        found = image_intensity(wave, lens_of([c], dtype=torch.float64))[0].numpy()
        expected = reference_image(abtem, array, c)
        assert np.std(found - expected) < 1e-5 * np.std(expected), c


def test_a_focal_ensemble_is_abtems_mean_over_foci(abtem: Any) -> None:
    array = reference_wave(abtem)
    wave = wave_from_array(array, pixel_size=0.2, energy=300e3)
    c = ImagingConditions(
        energy=300e3, C10=-400.0, C30=1.2e7, focal_spread=30.0, angular_spread=0.0, pixel_size=0.2
    )
    foci = np.linspace(-3.5, 3.5, 141) * 30.0
    weight = np.exp(-((foci / 30.0) ** 2))
    still = {"energy": 300e3, "C30": 1.2e7, "focal_spread": 0.0, "angular_spread": 0.0}
    expected = sum(
        w * reference_image(abtem, array, ImagingConditions(C10=-400.0 + d, **still))
        for d, w in zip(foci, weight / weight.sum(), strict=True)
    )
    found = simulate_micrographs(wave, [c], seed=0)[0].numpy()
    assert np.std(found - expected) < 0.01 * np.std(expected)


def test_images_of_atoms_agree_where_abtems_potential_is_fine_enough(abtem: Any) -> None:
    """At 0.05 Å, atoms in the middles of slices, where abTEM puts all of a slice; its own potential is
    somewhat off there too, and the image less."""
    import ase

    s = atoms()
    middles = np.floor(s.positions[:, 2] / 2.0) * 2.0 + 1.0
    s = replace(s, positions=np.column_stack([s.positions[:, :2], middles]))
    cell = ase.Atoms(numbers=s.numbers, positions=s.positions, cell=s.cell, pbc=True)
    potential = abtem.Potential(cell, sampling=0.05, slice_thickness=2.0, projection="infinite")
    array = abtem.PlaneWave(energy=300e3).multislice(potential).array.T
    c = ImagingConditions(
        energy=300e3, C10=-250.0, C30=0.0, focal_spread=10.0, angular_spread=0.0, pixel_size=0.05
    )
    settings = WaveSettings(pixel_size=0.05, band=math.inf)
    ours = exit_wave(s, settings)
    # Ours is focused half a slice above the exit face of the last slice's atoms: see exit_waves.
    at_face = ImagingConditions(**{**vars(c), "C10": c.C10 + 1.0})
    expected = reference_image_at(abtem, array, c)
    found = image_intensity(ours, lens_of([at_face], dtype=torch.float64))[0].numpy()  # abTEM's envelope
    assert np.std(found - expected) < 0.02 * np.std(expected)


def reference_image_at(abtem: Any, array: np.ndarray, c: ImagingConditions) -> np.ndarray:
    wave = abtem.Waves(np.ascontiguousarray(array.T), energy=c.energy, sampling=c.pixel_size)
    ctf = abtem.CTF(C10=c.C10, C30=c.C30, focal_spread=c.focal_spread)
    return np.asarray(wave.apply_ctf(ctf).intensity().array).T
