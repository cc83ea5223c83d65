"""Laws of the texture statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.errors import ParameterError
from passband.optics import spectra


def noise(shape=(256, 256), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def standard(image):
    return spectra.standardise(spectra.sample_tiles(np.asarray(image, np.float32)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900))
def test_tiles_reach_both_ends_and_stay_few(height, width):
    y, x = np.mgrid[:height, :width]
    rows, columns = (spectra.sample_tiles(a.astype(np.float32)) for a in (y, x))
    assert 1 <= len(rows) <= 9
    assert rows.shape[1:] == (min(256, height), min(256, width))
    assert (rows.min(), rows.max()) == (0, height - 1)
    assert (columns.min(), columns.max()) == (0, width - 1)


def test_a_small_image_is_seen_whole():
    image = noise((512, 256))
    assert np.array_equal(spectra.sample_tiles(image).reshape(512, 256), image)


def test_no_pixels_give_no_tiles():
    with pytest.raises(ParameterError, match=r"got shape \(0, 4\)"):
        spectra.sample_tiles(np.zeros((0, 4), np.float32))


@pytest.mark.parametrize("level", [0.0, 7.0, -1e-38, 3e38])
def test_a_constant_image_standardises_to_zero(level):
    assert not spectra.standardise(np.full((2, 5, 4), level, np.float32)).any()


def test_extreme_values_neither_overflow_nor_vanish():
    for size in (1e-38, 3e38):
        z = spectra.standardise((noise((1, 64, 64)).clip(-1, 1) * np.float32(size)).astype(np.float32))
        assert abs(z.mean()) < 1e-3 and abs(z.std() - 1) < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 300), (3, 3), (40, 41), (256, 256)])
def test_power_is_shared_out_whole(shape):
    ring = spectra.ring_spectrum(standard(noise(shape)))
    assert len(ring.frequency) == len(ring.density) == len(ring.weight)
    assert np.all(np.diff(ring.frequency) > 0) and np.all(ring.frequency <= 0.5)
    whole = 1.0 if ring.density.any() else 0.0
    assert sum(spectra.octave_shares(ring)) == pytest.approx(whole)


def test_rings_count_every_frequency_of_the_disc_once():
    ring = spectra.ring_spectrum(standard(noise((64, 64))))
    f = np.fft.fftfreq(64)
    radius = np.rint(np.hypot(f[:, None], f) * 64)
    assert ring.weight.sum() == ((radius >= 1) & (radius <= 32)).sum()


def test_white_noise_is_flat_and_all_noise():
    z = standard(noise())
    assert abs(spectra.spectral_slope(spectra.ring_spectrum(z))) < 0.2
    assert spectra.noise_level(z) == pytest.approx(1, abs=0.02)
    assert spectra.gradient_anisotropy(z) < 0.03
    assert np.abs(spectra.shape_moments(z)).max() < 0.05
    assert spectra.unevenness(z) < 0.01


@pytest.mark.parametrize("period,octave", [(64, 1), (32, 2), (16, 3), (8, 4), (4, 5)])
def test_a_wave_lies_in_its_octave(period, octave):
    # Half an octave above the edge, well inside.
    x = np.arange(256) * 1.4 / period
    wave = np.tile(np.sin(2 * np.pi * x), (256, 1))
    assert spectra.octave_shares(spectra.ring_spectrum(standard(wave)))[octave] > 0.95


def test_smoothing_steepens_the_spectrum_and_lowers_the_noise():
    from scipy import ndimage

    sharp, smooth = standard(noise()), standard(ndimage.gaussian_filter(noise(), 1.5))
    assert spectra.noise_level(smooth) < 0.3 * spectra.noise_level(sharp)
    slopes = [spectra.spectral_slope(spectra.ring_spectrum(z)) for z in (smooth, sharp)]
    assert slopes[0] < slopes[1] - 1


@given(st.integers(0, 3))
@settings(max_examples=4, deadline=None)
def test_quarter_turns_change_nothing(turns):
    image = noise((256, 256)) + np.linspace(0, 3, 256, dtype=np.float32)
    a, b = (standard(i) for i in (image, np.rot90(image, turns)))
    for measure in (spectra.noise_level, spectra.gradient_anisotropy, spectra.unevenness):
        assert measure(b) == pytest.approx(measure(a), rel=1e-4)
    shares = [spectra.octave_shares(spectra.ring_spectrum(z)) for z in (a, b)]
    assert shares[1] == pytest.approx(shares[0], abs=1e-5)


def test_outlying_edges_do_not_count_as_noise():
    image = noise()
    image[60:200, 60:200] += 40
    ratio = spectra.noise_level(standard(image)) * image.std()
    assert ratio == pytest.approx(1, abs=0.05)


def test_saturation_counts_both_ends():
    clipped = np.clip(noise((1, 256, 256)), -1, 1)
    assert spectra.saturation(clipped) == pytest.approx(0.317, abs=0.01)  # P(|z| > 1) of a Gaussian
