"""Laws of what thermal motion takes from the wave."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.errors import ParameterError
from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen, draw_specimen, isolate
from passband.hrtem.wave.absorption import diffuse_factor, diffuse_share_beyond
from passband.hrtem.wave.potential import projected_potential, sampling_band, slice_potential
from passband.hrtem.wave.scattering import WaveSettings, exit_wave, exit_waves
from passband.hrtem.wave.scattering_factors import scattering_factor
from passband.optics.bands import from_band, to_band
from passband.units import POTENTIAL_PER_SCATTERING_FACTOR, interaction_constant

SETTINGS = WaveSettings(band=math.inf)


def atom(number: int, thermal: float) -> Specimen:
    return Specimen(
        numbers=np.array([number]),
        positions=np.array([[4.0, 4.0, 1.0]]),
        particle=np.array([1], np.int32),
        thermal=np.array([thermal]),
        cell=(8.0, 8.0, 2.0),
        focus_plane=1.0,
    )


def scene(seed: int = 1) -> Specimen:
    ranges = SpecimenRanges(
        materials=("Au",), diameters=(15, 15), count=(1, 1), cell=(32.0, 32.0), thickness=(10, 10)
    )
    return build_specimen(draw_specimen(ranges, seed))


def intensity(specimen: Specimen, **settings: float) -> float:
    spectrum = exit_wave(specimen, replace(SETTINGS, **settings)).spectrum
    return float((spectrum.abs().double() ** 2).sum())


@pytest.mark.parametrize(
    ("number", "thermal", "off"), [(79, 0.008, 0.15), (48, 0.015, 0.08), (14, 0.006, 0.06), (6, 0.008, 0.04)]
)
def test_the_mean_over_displacements_is_the_wave_that_is_left(
    number: int, thermal: float, off: float
) -> None:
    """The transmission of an atom at rest, averaged over a Gaussian of places, against the model's.

    The model is of second order in the phase, 3.6 rad within gold at rest: it is off by a few percent for
    light atoms and by an eighth for gold.
    """
    at_rest, sigma = atom(number, 0.0), interaction_constant(300e3)
    band = sampling_band(at_rest, 0.05)
    v = projected_potential(at_rest, pixel_size=0.05, slice_thickness=2.0, dtype=torch.float64)[0]
    ky, kx = band.frequencies(dtype=torch.float64)
    smear = torch.exp(-2 * math.pi**2 * thermal * (ky**2 + kx**2))
    points = math.prod(band.shape)
    mean = from_band(to_band(torch.polar(torch.ones_like(v), sigma * v), band) * smear / points, band)
    moving = slice_potential(
        [atom(number, thermal)], band, 1, 2.0, "cpu", torch.float64, absorbing=sigma / 2
    )(0)
    assert moving is not None
    phase = sigma * moving[0]
    model = torch.polar(torch.exp(-phase.imag), phase.real)
    unabsorbed = torch.polar(torch.ones_like(v), phase.real)
    error, without = (float(((mean - m).abs() ** 2).mean()) for m in (model, unabsorbed))
    assert error < off * without
    lost, said = (float((1 - m.abs() ** 2).mean()) for m in (mean, model))
    assert said == pytest.approx(lost, rel=off)


@pytest.mark.parametrize(("number", "thermal"), [(79, 0.008), (6, 0.008)])
def test_what_is_absorbed_is_what_is_scattered_diffusely(number: int, thermal: float) -> None:
    """The potential's variance over the plane is the integral of the diffuse intensity over angles."""
    k = np.linspace(0, 40, 40_001)
    potential = POTENTIAL_PER_SCATTERING_FACTOR * scattering_factor(number, k**2)
    intensity = potential**2 * (1 - np.exp(-4 * np.pi**2 * thermal * k**2))
    scattered = np.trapezoid(2 * np.pi * k * intensity, k)
    assert diffuse_factor(number, thermal, np.zeros(1))[0] == pytest.approx(scattered, rel=0.01)


def test_an_aperture_that_is_closed_stops_all_and_a_wide_one_little() -> None:
    shares = [diffuse_share_beyond(79, 0.008, energy=300e3, angle=a) for a in (0.0, 0.01, 0.03, 0.3)]
    assert shares[0] == 1 and shares == sorted(shares, reverse=True) and shares[-1] < 0.06
    # Atoms that move more scatter diffusely at smaller angles.
    assert diffuse_share_beyond(79, 0.03, energy=300e3, angle=0.03) < shares[2]
    with pytest.raises(ParameterError, match="atoms that move"):
        diffuse_share_beyond(79, 0.0, energy=300e3, angle=0.01)


def test_absorption_only_takes_away_and_more_of_it_more() -> None:
    whole, half, full = (intensity(scene(), absorption=a) for a in (0.0, 0.5, 1.0))
    assert whole > half > full > 0.9
    # Where much is lost there is less to lose: the second half takes less than the first, but not by much.
    assert 0.5 < (whole - half) / (whole - full) < 0.55


def test_a_wave_loses_what_its_atoms_absorb() -> None:
    """Of one slice: the mean of 1 - exp(-2 sigma W), W the imaginary part of the potential."""
    one, sigma = atom(14, 0.006), interaction_constant(300e3)
    band = sampling_band(one, 0.05)
    v = slice_potential([one], band, 1, 2.0, "cpu", absorbing=sigma / 2)(0)
    assert v is not None
    lost = float((1 - torch.exp(-2 * sigma * v.imag)).mean())
    fine = replace(SETTINGS, pixel_size=0.05, absorption=1.0)
    kept = [
        float((exit_wave(one, s).spectrum.abs().double() ** 2).sum())
        for s in (fine, replace(fine, absorption=0.0))
    ]
    assert kept[1] - kept[0] == pytest.approx(lost, rel=0.03)


def test_atoms_at_rest_lose_nothing() -> None:
    still = replace(scene(), thermal=np.zeros(len(scene().numbers)))
    assert intensity(still, absorption=1.0) == pytest.approx(intensity(still), abs=1e-6)
    assert not diffuse_factor(79, 0.0, np.ones((3, 2))).any()


def test_gold_takes_away_more_than_as_many_carbon_atoms() -> None:
    gold = isolate(scene(), 1)
    carbon = replace(gold, numbers=np.full(len(gold.numbers), 6))
    lost = [1 - intensity(s, absorption=1.0) / intensity(s) for s in (gold, carbon)]
    assert lost[0] > 20 * lost[1] > 0


def test_a_stack_of_cells_loses_what_each_loses() -> None:
    """Of a single atom, then of two far behind each other that are apart in the plane."""
    one = replace(atom(79, 0.008), cell=(16.0, 16.0, 4.0))
    two = replace(
        one,
        numbers=np.array([79, 79]),
        positions=np.array([[4.0, 4.0, 1.0], [12.0, 12.0, 3.0]]),
        particle=np.array([1, 1], np.int32),
        thermal=np.array([0.008, 0.008]),
    )
    losses = [1 - intensity(s, absorption=1.0) / intensity(s) for s in (one, two)]
    assert losses[1] == pytest.approx(2 * losses[0], rel=0.02)


def test_a_batch_and_a_substrate_that_is_kept_give_the_same_wave() -> None:
    specimen, settings = scene(), replace(SETTINGS, absorption=1.0)
    alone = exit_wave(specimen, settings).spectrum
    for wave in exit_waves([specimen, specimen], settings):
        torch.testing.assert_close(wave.spectrum, alone, atol=1e-5, rtol=0)
    # The substrate's wave is kept for each absorption by itself.
    assert not torch.allclose(exit_wave(specimen, SETTINGS).spectrum, alone, atol=1e-4)


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ParameterError, match="absorption must be a share of 0 to 1"):
        WaveSettings(absorption=share)
