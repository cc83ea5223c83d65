"""Sampling: chosen for what scatters most, told where it is too coarse, and enough for converged images."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.errors import CoarseSamplingWarning, ParameterError
from passband.hrtem.dataset.study import SimulationStudy
from passband.hrtem.specimen.crystals import zone_directions
from passband.hrtem.specimen.labels import disc_labels
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import Particle
from passband.hrtem.specimen.placing import near_zone_rotation
from passband.hrtem.specimen.record import SpecimenRecord
from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen
from passband.hrtem.wave.imaging import image_intensity
from passband.hrtem.wave.sampling import Sampling, good_sampling, sampling_fault
from passband.hrtem.wave.scattering import WaveSettings, exit_wave
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import lens_of


def sphere(material: str, zone: tuple[int, int, int], diameter: float, side: float) -> Specimen:
    m = MATERIALS[material]
    turned = near_zone_rotation(zone_directions(m, zone), 0.0, np.random.default_rng(0))
    ball = Particle(material=material, diameter=diameter, x=side / 2, y=side / 2, rotation=turned)
    return build_specimen(SpecimenRecord(cell=(side, side), thickness=0.0, particles=(ball,), materials=(m,)))


@pytest.mark.parametrize(("material", "energy"), [("Au", 300e3), ("CdSe", 80e3)])
def test_the_chosen_sampling_gives_the_converged_image_on_the_particle(material: str, energy: float) -> None:
    s = sphere(material, (0, 1, 1) if material == "Au" else (0, 0, 1), 25.0, 32.0)
    conditions = [ImagingConditions(energy=energy, C10=c, C30=0.0, focal_spread=10.0) for c in (0.0, -100.0)]
    lenses, inside = lens_of(conditions, dtype=torch.float64), torch.as_tensor(disc_labels(s, (160, 160)) > 0)

    def images(settings: WaveSettings) -> torch.Tensor:
        wave = exit_wave(s, replace(settings, energy=energy))
        return image_intensity(wave, lenses, foci=5, shape=(160, 160))[:, inside]

    right = images(WaveSettings(pixel_size=0.06, slice_thickness=1.0))
    for found, exact in zip(images(WaveSettings()), right, strict=True):
        assert (found - exact).square().mean().sqrt() < 0.02 * exact.std()
    coarse = images(WaveSettings(pixel_size=0.4))
    assert (coarse - right).square().mean().sqrt() > 0.02 * right.std()


def test_the_element_that_needs_most_decides() -> None:
    assert good_sampling([6, 79, 48], 300e3) == good_sampling([79], 300e3)
    for z in range(1, 104):
        for energy in (80e3, 300e3):
            good = good_sampling([z], energy)
            assert sampling_fault([z], energy, good) is None
            finer = good_sampling([z, 79], energy)
            assert finer.pixel_size <= good.pixel_size and finer.slice_thickness <= good.slice_thickness
    assert good_sampling([79], 80e3).slice_thickness < good_sampling([79], 200e3).slice_thickness
    with pytest.raises(ParameterError, match="at least one element"):
        good_sampling([], 300e3)


def test_what_is_too_coarse_is_named() -> None:
    coarse = Sampling(pixel_size=0.3, slice_thickness=2.0)
    said = sampling_fault([6, 79], 80e3, coarse)
    assert said is not None
    assert "pixels of 0.3 Å and slices of 2 Å are too coarse for Au at 80 keV" in said
    assert "0.12 Å and 1 Å" in said


def test_waves_warn_of_a_coarse_sampling_and_choose_a_good_one() -> None:
    s = sphere("Au", (0, 0, 1), 12.0, 16.0)
    with pytest.warns(CoarseSamplingWarning, match=r"0\.2 Å are too coarse for Au at 300 keV"):
        exit_wave(s, WaveSettings(pixel_size=0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wave = exit_wave(s)
    assert wave.pixel_sizes[0] <= 0.12
    assert all(math.prod((2, 3, 5)) % p == 0 for n in wave.band.shape for p in _primes(n))


def _primes(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]


def test_a_substrate_does_not_decide_for_the_particles_on_it() -> None:
    one = sphere("CdSe", (0, 0, 1), 12.0, 16.0)
    lone = replace(one, numbers=np.where(np.arange(len(one.numbers)) == 0, 79, one.numbers))
    lone = replace(lone, particle=(lone.numbers != 79).astype(np.int32))
    assert exit_wave(lone).band.shape == exit_wave(one).band.shape
    assert exit_wave(replace(lone, particle=lone.particle + 1)).band.shape > exit_wave(one).band.shape


def test_a_study_says_what_sampling_was_chosen_for_it() -> None:
    study = SimulationStudy(scenes=10, specimen=SpecimenRanges(materials=("CdSe", "Au")))
    assert study.values()["wave"]["pixel_size"] == 0.12 and study.sampling_fault is None
    assert study == replace(study, wave=WaveSettings())
    coarse = replace(study, wave=WaveSettings(pixel_size=0.16))
    assert coarse.wave.slice_thickness == 2.0
    assert coarse.sampling_fault is not None
    assert "Au" in coarse.sampling_fault and "CdSe" not in coarse.sampling_fault
