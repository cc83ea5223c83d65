"""Laws of scattering: the potential is exact, and waves keep what physics keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.errors import ParameterError
from passband.hrtem.specimen.specimen import Specimen
from passband.hrtem.wave.potential import potential_band, projected_potential, sampling_band
from passband.hrtem.wave.scattering import (
    WaveSettings,
    exit_wave,
    exit_waves,
    multislice,
    wave_from_array,
)
from passband.hrtem.wave.scattering_factors import LOBATO, scattering_factor
from passband.optics.bands import from_band, to_band
from passband.units import POTENTIAL_PER_SCATTERING_FACTOR

CELL = (20.0, 16.0, 12.0)


def atoms(count: int, seed: int = 0, cell: tuple[float, float, float] = CELL) -> Specimen:
    rng = np.random.default_rng(seed)
    return Specimen(
        numbers=rng.choice([6, 34, 48, 79], count),
        positions=rng.uniform(0, 1, (count, 3)) * np.array(cell) * 0.999,
        particle=np.ones(count, np.int32),
        thermal=np.full(count, 0.006),
        cell=cell,
        focus_plane=cell[2],
    )


def image(specimen: Specimen, **settings: float) -> torch.Tensor:
    wave = exit_wave(specimen, WaveSettings(**{"band": math.inf, **settings}))
    return wave.array.abs() ** 2


def test_the_potential_is_exact_to_structure_factors_inside_the_band() -> None:
    s = atoms(60, cell=(20.0, 16.0, 2.0))
    v = projected_potential(s, pixel_size=0.2, slice_thickness=2.0, dtype=torch.float64)[0]
    band = potential_band(sampling_band(s, 0.2))
    assert band.kept == (69, 87)
    found = (to_band(v + 0j, band) / v.numel()).numpy()
    ky, kx = (k.numpy() for k in band.frequencies())
    k2 = ky**2 + kx**2
    exact = np.zeros(found.shape, complex)
    for z, (x, y, _), u in zip(s.numbers, s.positions, s.thermal, strict=True):
        factor = POTENTIAL_PER_SCATTERING_FACTOR * scattering_factor(int(z), k2)
        exact += factor * np.exp(-2 * np.pi**2 * u * k2) * np.exp(-2j * np.pi * (ky * y + kx * x)) / (20 * 16)
    assert np.sqrt((np.abs(found - exact) ** 2).sum() / (np.abs(exact) ** 2).sum()) < 1e-4
    assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max()


def test_mean_inner_potential_of_gold_is_that_of_its_atoms() -> None:
    """V0 = 47.878 f(0) / volume per atom: 30 V, independent atoms."""
    s = replace(atoms(1, cell=(8.0, 8.0, 2.0)), numbers=np.array([79]))
    v = projected_potential(s, pixel_size=0.2, slice_thickness=2.0)
    assert v.mean().item() * 64 == pytest.approx(47.878 * 10.5758, rel=1e-4)


def test_every_scattering_factor_falls_from_a_positive_value() -> None:
    k2 = np.linspace(0, 9, 200)
    for z in LOBATO:
        f = scattering_factor(z, k2)
        assert f[0] > 0.3 and (np.diff(f) < 1e-9).all() and (f > 0).all(), z
        # Mott-Bethe far out: f -> Z / (2 pi² a0 k²), within what screening leaves at 3/Å.
        assert f[-1] * 9 * 2 * math.pi**2 * 0.529177 / z == pytest.approx(1, abs=0.35), z


def test_an_atom_is_shared_by_the_slices_around_it() -> None:
    """By its height between their middles, 1 and 3 Å; beyond the outermost middles it is theirs alone."""
    for z, shares in ((1.0, (1, 0)), (1.5, (0.75, 0.25)), (2.0, (0.5, 0.5)), (0.2, (1, 0)), (3.9, (0, 1))):
        s = replace(atoms(1, cell=(8.0, 8.0, 4.0)), positions=np.array([[4.0, 4.0, z]]))
        slices = projected_potential(s, pixel_size=0.2, slice_thickness=2.0).sum((1, 2))
        np.testing.assert_allclose(slices / slices.sum(), shares, atol=1e-6)


def test_an_image_does_not_depend_on_where_slices_are_cut() -> None:
    """Half a slice higher, in focus as before: atoms counted by slices alone would stand elsewhere."""
    s = replace(
        atoms(60), positions=atoms(60).positions * (1, 1, 0.7) + np.array([0, 0, 1.5]), focus_plane=6.0
    )
    lifted = replace(s, positions=s.positions + np.array([0, 0, 1.0]), focus_plane=7.0)
    one, other = (exit_wave(x, WaveSettings(pixel_size=0.1)).array.abs() ** 2 for x in (s, lifted))
    assert (one - other).std() < 0.02 * one.std()


def test_vacuum_does_nothing() -> None:
    band = sampling_band(atoms(1), 0.2)
    wave = multislice([None] * 5, band, energy=300e3, slice_thickness=2.0)
    assert wave[0, 0] == 1 and wave.abs().sum() == 1


def test_electrons_are_kept() -> None:
    for pixel_size in (0.4, 0.2, 0.08):
        wave = exit_wave(atoms(120), WaveSettings(pixel_size=pixel_size, band=math.inf)).spectrum
        assert (wave.abs() ** 2).sum().item() == pytest.approx(1, abs=1e-5), pixel_size
        assert wave[0, 0].abs() < 0.999


def test_free_space_there_and_back() -> None:
    s = atoms(40)
    band = sampling_band(s, 0.2)
    start = multislice(
        list(projected_potential(s, pixel_size=0.2, slice_thickness=2.0, dtype=torch.float64)),
        band,
        energy=300e3,
        slice_thickness=2.0,
    )
    there = multislice([None] * 3, band, energy=300e3, slice_thickness=7.0, incident=start)
    back = multislice([None] * 3, band, energy=300e3, slice_thickness=-7.0, incident=there)
    torch.testing.assert_close(back, start)
    assert (there - start).abs().max() > 1e-3


def test_a_shifted_specimen_shifts_the_image() -> None:
    s = atoms(60)
    by = np.array([0.83, -1.37, 0.0])
    moved = replace(s, positions=(s.positions + by) % np.array(CELL))
    one, other = (exit_wave(x, WaveSettings(pixel_size=0.1)) for x in (s, moved))
    ky, kx = one.band.frequencies()
    shift = torch.exp(-2j * math.pi * (kx * by[0] + ky * by[1]))
    error = (other.spectrum - one.spectrum * shift).abs().pow(2).sum().sqrt()
    scattered = one.spectrum.abs().pow(2).sum() - one.spectrum[0, 0].abs() ** 2
    # Not zero: what aliases when a wave is multiplied on a grid depends on where the grid is.
    assert error / scattered.sqrt() < 1e-3


def test_thinner_slices_and_finer_sampling_converge() -> None:
    # Slices meet atoms in bins, so slices as thick as the cell's layers make no sense: random atoms.
    s = atoms(40)
    fine = exit_wave(s, WaveSettings(pixel_size=0.1, slice_thickness=0.25)).spectrum
    errors = [
        (exit_wave(s, WaveSettings(pixel_size=p, slice_thickness=t)).spectrum - fine)
        .abs()
        .pow(2)
        .sum()
        .sqrt()
        for p, t in ((0.2, 4.0), (0.2, 2.0), (0.1, 1.0), (0.1, 0.5))
    ]
    scattered = (fine.abs().pow(2).sum() - fine[0, 0].abs() ** 2).sqrt()
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 * scattered


def test_single_precision_is_enough() -> None:
    s = atoms(200)
    band = sampling_band(s, 0.2)
    waves = [
        from_band(
            multislice(
                list(projected_potential(s, pixel_size=0.2, slice_thickness=2.0, dtype=d)),
                band,
                energy=300e3,
                slice_thickness=2.0,
            ),
            band,
        )
        for d in (torch.float32, torch.float64)
    ]
    assert (waves[0] - waves[1]).abs().max() < 1e-5


def test_the_wave_is_focused_on_the_focus_plane() -> None:
    """A phase object in focus has no contrast; above and below it has, the same on both sides."""
    atom = Specimen(
        numbers=np.array([6]),
        positions=np.array([[10.0, 8.0, 5.0]]),
        particle=np.array([1], np.int32),
        thermal=np.array([0.05]),
        cell=CELL,
        focus_plane=5.0,
    )
    contrast = {z: image(replace(atom, focus_plane=z)).std().item() for z in (1.0, 4.5, 5.0, 5.5, 9.0)}
    assert contrast[5.0] < 0.1 * contrast[1.0]
    assert contrast[5.0] < contrast[4.5] and contrast[5.0] < contrast[5.5]
    assert contrast[1.0] == pytest.approx(contrast[9.0], rel=0.2)


def test_a_batch_is_its_members() -> None:
    deep = atoms(80, seed=1, cell=(20.0, 16.0, 16.0))
    batch = exit_waves([atoms(50), deep])
    for s, wave in zip((atoms(50), deep), batch, strict=True):
        torch.testing.assert_close(wave.spectrum, exit_wave(s).spectrum, atol=2e-6, rtol=0)


def test_a_substrate_calculated_once_gives_the_same_waves() -> None:
    """The second specimen finds the slab's wave; the third has another slab and must not."""
    rng = np.random.default_rng(5)
    slab = replace(atoms(80, seed=1), particle=np.zeros(80, np.int32))
    slab = replace(slab, positions=slab.positions * (1, 1, 0.5))

    def on(slab: Specimen, seed: int) -> Specimen:
        above = atoms(30, seed)
        return replace(
            slab,
            numbers=np.concatenate([slab.numbers, above.numbers]),
            positions=np.concatenate([slab.positions, above.positions * (1, 1, 0.4) + (0, 0, 6.5)]),
            particle=np.concatenate([slab.particle, above.particle]),
            thermal=np.concatenate([slab.thermal, above.thermal]),
        )

    other = replace(slab, positions=slab.positions + rng.uniform(0, 0.01, (80, 3)))
    for s in (on(slab, 2), on(slab, 3), on(other, 3)):
        settings = WaveSettings(pixel_size=0.2, band=math.inf)
        whole = multislice(
            list(projected_potential(s, pixel_size=0.2, slice_thickness=2.0)),
            sampling_band(s, 0.2),
            energy=300e3,
            slice_thickness=2.0,
        )
        found = exit_wave(s, settings, at_exit_face=True).spectrum
        torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)


def test_a_cropped_wave_is_the_whole_one_inside_the_band() -> None:
    whole, cropped = (exit_wave(atoms(50), WaveSettings(band=b)) for b in (math.inf, 1.25))
    ky, kx = cropped.band.frequencies()
    assert max(ky.abs().max(), kx.abs().max()) <= 1.25 + 1e-9
    v, u = cropped.band.half
    torch.testing.assert_close(whole.spectrum[: u + 1, : v + 1], cropped.spectrum[: u + 1, : v + 1])
    torch.testing.assert_close(whole.spectrum[-u:, -v:], cropped.spectrum[-u:, -v:])


def test_a_wave_from_an_array_gives_the_array_back() -> None:
    rng = np.random.default_rng(0)
    array = (rng.standard_normal((9, 12)) + 1j * rng.standard_normal((9, 12))).astype(np.complex64)
    wave = wave_from_array(array, pixel_size=0.3, energy=200e3)
    np.testing.assert_allclose(wave.array.numpy(), array, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((4, 4), np.float32), "lost its phase"),
        (np.ones(4, complex), "complex array"),
        (np.full((4, 4), np.nan + 0j), "must be finite"),
    ],
)
def test_what_is_no_wave_is_refused(array: np.ndarray, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        wave_from_array(array, pixel_size=0.2, energy=300e3)


def test_cells_that_cannot_be_calculated_are_refused() -> None:
    with pytest.raises(ParameterError, match="repeat the cell"):
        exit_wave(atoms(3, cell=(0.5, 16.0, 4.0)))
    with pytest.raises(ParameterError, match="one by one"):
        exit_waves([atoms(3), atoms(3, cell=(20.0, 18.0, 12.0))])
    with pytest.raises(ParameterError, match=r"energy must be .*; pixel_size must be"):
        WaveSettings(energy=-1.0, pixel_size=0.0)
