"""Laws of the lens and the camera."""

import math

import numpy as np
import pytest

from passband.cavities.optics import (
    aberration_phase,
    count_electrons,
    envelope,
    frequency_squared,
    propagate_to_image,
)
from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions
from passband.units import electron_wavelength


def test_a_perfect_lens_in_focus_changes_nothing():
    rng = np.random.default_rng(0)
    wave = np.exp(1j * rng.normal(0, 0.3, (64, 48))).astype(np.complex64)
    c = ImagingConditions(C10=0, C30=0, focal_spread=0, angular_spread=0, pixel_size=2.0)
    np.testing.assert_allclose(propagate_to_image(wave, c), wave, atol=1e-5)


def test_a_lens_without_envelopes_keeps_the_norm_and_is_undone_by_its_reverse():
    rng = np.random.default_rng(1)
    wave = np.exp(1j * rng.normal(0, 0.3, (64, 64))).astype(np.complex64)
    c = ImagingConditions(C10=-8e3, C30=1e7, focal_spread=0, angular_spread=0, pixel_size=2.0)
    back = ImagingConditions(C10=8e3, C30=-1e7, focal_spread=0, angular_spread=0, pixel_size=2.0)
    image = propagate_to_image(wave, c)
    assert np.linalg.norm(image) == pytest.approx(np.linalg.norm(wave), rel=1e-5)
    np.testing.assert_allclose(propagate_to_image(image, back), wave, atol=1e-4)


def test_the_focal_spread_envelope_is_the_mean_over_a_gaussian_of_focus():
    k2 = frequency_squared((64, 64), 1.5)
    spread = 80.0
    c = ImagingConditions(C10=-500, focal_spread=spread, angular_spread=0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    mean = (
        sum(
            w * np.exp(-1j * aberration_phase(k2, ImagingConditions(C10=-500 + n * spread / math.sqrt(2))))
            for n, w in zip(nodes, weights, strict=True)
        )
        / weights.sum()
    )
    np.testing.assert_allclose(envelope(k2, c) * np.exp(-1j * aberration_phase(k2, c)), mean, atol=2e-4)


def test_the_aperture_passes_nothing_beyond_it():
    k2 = frequency_squared((64, 64), 1.0)
    c = ImagingConditions(aperture=0.005)
    alpha = electron_wavelength(c.energy) * np.sqrt(k2)
    assert (envelope(k2, c)[alpha > 0.0051] == 0).all()
    assert (envelope(k2, c)[alpha < 0.0049] > 0).all()


def test_a_perfect_camera_counts_with_variance_equal_to_the_mean():
    c = ImagingConditions(dose=12.0, pixel_size=1.5)
    counts = count_electrons(np.ones((400, 400), np.float32), c, seed=4)
    expected = 12.0 * 1.5**2
    error = 5 * math.sqrt(expected / counts.size)
    assert counts.mean() == pytest.approx(expected, abs=error)
    assert counts.var() == pytest.approx(expected, rel=0.03)
    assert (counts == counts.round()).all()


def test_the_mtf_keeps_the_mean_and_halves_the_contrast_at_its_half_frequency():
    x = np.arange(256)
    grating = (1 + 0.5 * np.cos(2 * np.pi * 0.25 * x))[None].repeat(8, 0).astype(np.float32)
    seen = count_electrons(grating, ImagingConditions(mtf_half=0.25), seed=0)
    assert seen.mean() == pytest.approx(1, abs=1e-5)
    assert np.ptp(seen) == pytest.approx(0.5 * np.ptp(grating), rel=1e-3)


def test_impossible_conditions_are_named_all_at_once():
    with pytest.raises(ParameterError, match=r"energy.*focal_spread.*dose"):
        ImagingConditions(energy=-1, focal_spread=-2, dose=0)
    with pytest.raises(ParameterError, match="not negative"):
        count_electrons(np.full((4, 4), -1, np.float32), ImagingConditions(), seed=0)
