"""Laws of counting electrons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from passband.errors import ParameterError
from passband.optics.camera import blur, count_electrons, expose
from passband.optics.conditions import ImagingConditions


@pytest.mark.parametrize("mean", [0.0, 0.03, 0.31, 1.0, 2.53, 7.77, 16.0, 19.99, 47.97, 48.3, 85.3, 200.0])
def test_counts_follow_the_poisson_distribution(mean: float) -> None:
    """Chi-squared over all counts with an expectation of ten and more."""
    n = 500_000
    counts = count_electrons(torch.full((1, n), mean), seed=(7, int(100 * mean)), noise="poisson").numpy()
    top = int(scipy.stats.poisson.ppf(1 - 10 / n, mean)) if mean else 0
    expected = scipy.stats.poisson.pmf(np.arange(top + 1), np.float32(mean)) * n
    found = np.bincount(counts.astype(int).ravel(), minlength=top + 2)
    found = np.append(found[: top + 1], found[top + 1 :].sum())
    expected = np.append(expected, n - expected.sum())
    enough = expected >= 10
    if enough.sum() == 1:
        np.testing.assert_allclose(found[enough], n, atol=30)
        return
    pooled = [np.append(v[enough], v[~enough].sum()) for v in (found, expected)]
    keep = pooled[1] > 1
    chi2 = ((pooled[0] - pooled[1]) ** 2 / np.maximum(pooled[1], 1))[keep].sum()
    assert scipy.stats.chi2.sf(chi2, keep.sum() - 1) > 1e-4


def test_two_and_three_electrons_from_the_rest_of_a_mean_are_as_rare_as_they_should_be() -> None:
    """Just below a step of the tables nearly all of the mean is rest."""
    n, mean = 6_000_000, np.float32(0.0624)
    counts = count_electrons(torch.full((1, n), float(mean)), seed=(9,), noise="poisson").numpy()
    for least in (1, 2, 3):
        expected = n * scipy.stats.poisson.sf(least - 1, mean)
        assert abs((counts >= least).sum() - expected) < 5 * np.sqrt(expected), least


def test_counts_of_a_varied_image_are_right_level_by_level() -> None:
    """The tables are indexed by pixel: an error in one level would hide in an even image."""
    expected = torch.linspace(0, 60, 601).repeat(4000, 1)
    counts = count_electrons(expected, seed=(3,), noise="poisson")
    error = (counts.mean(0) - expected[0]) / torch.sqrt(expected[0].clamp_min(1e-9) / 4000)
    assert error[1:].abs().max() < 5
    ratio = counts.var(0)[20:] / expected[0, 20:]
    assert (ratio - 1).abs().max() < 0.15
    assert abs(float(ratio.mean()) - 1) < 0.005


def test_the_gaussian_limit_has_the_same_mean_and_variance() -> None:
    counts = count_electrons(torch.full((400, 400), 25.0), seed=(1,))
    assert not torch.equal(counts, counts.round())
    assert abs(counts.mean().item() - 25) < 0.1
    assert abs(counts.var().item() - 25) < 0.5


def test_auto_counts_exactly_where_electrons_are_few() -> None:
    counts = count_electrons(torch.full((50, 50), 19.0), seed=(1,))
    assert torch.equal(counts, counts.round())


def test_the_seed_makes_the_noise() -> None:
    image = torch.full((32, 32), 5.0)
    same, again = (count_electrons(image, seed=(1, 2)) for _ in range(2))
    assert torch.equal(same, again)
    for other in ((1, 3), (2, 2)):
        assert not torch.equal(same, count_electrons(image, seed=other))


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_what_no_camera_can_count_is_refused(bad: float) -> None:
    image = torch.ones(8, 8)
    image[3, 3] = bad
    with pytest.raises(ParameterError, match="finite and not negative"):
        count_electrons(image, seed=(0,))


def test_the_modulation_transfer_function_blurs_without_loss() -> None:
    y = torch.arange(64)
    wave = 1 + torch.cos(2 * torch.pi * y * 16 / 64)[:, None].expand(64, 64)
    seen = blur(wave.contiguous(), 0.25)
    torch.testing.assert_close(seen, 1 + (wave - 1) / 2, atol=1e-5, rtol=0)


CAMERA = ImagingConditions(
    dose=100.0,
    mtf_half=0.3,
    quantum_efficiency=0.6,
    dqe_falloff=0.4,
    gain=8.0,
    offset=200.0,
    readout=5.0,
    gain_noise=0.02,
)


def read(conditions: ImagingConditions, mean: float = 100.0, count: int = 24, n: int = 96) -> torch.Tensor:
    flat = torch.full((n, n), mean)
    return torch.stack([expose(flat, conditions, seed=(5, i)) for i in range(count)])


def test_counts_are_gain_times_electrons_and_the_offset_whatever_the_noise() -> None:
    counts = read(CAMERA)
    error = (counts.var() / counts.numel()).sqrt().item()
    # The pattern of gains is one for all images: its mean over a pixel's neighbours is no noise.
    assert counts.mean().item() == pytest.approx(1000, abs=5 * error + 800 * 4 * 0.02 / 96)


@pytest.mark.parametrize("mean", [3.0, 100.0])
@pytest.mark.parametrize("efficiency", [1.0, 0.5, 0.2])
def test_variance_adds_up_for_a_sharp_camera(mean: float, efficiency: float) -> None:
    """gain² (electrons / efficiency (1 + gain noise²) + electrons² gain noise²) + readout²."""
    c = replace(CAMERA, mtf_half=math.inf, quantum_efficiency=efficiency)
    wanted = 64 * (mean / efficiency * (1 + 0.02**2) + mean**2 * 0.02**2) + 25
    assert read(c, mean).var().item() == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("falloff", [0.0, 0.4, 1.0])
def test_the_noise_spectrum_and_the_efficiency_are_what_they_are_said_to_be(falloff: float) -> None:
    """DQE(q) = signal transfer² electrons / noise spectrum; the noise's is MTF^(2 - 2 w)."""
    c = ImagingConditions(dose=100.0, mtf_half=0.3, quantum_efficiency=0.6, dqe_falloff=falloff)
    n, mean = 96, 100.0
    noise = read(c, mean) - mean
    power = (torch.fft.fft2(noise).abs() ** 2).mean(0) / n**2
    q = torch.fft.fftfreq(n)
    q = torch.sqrt(q[:, None] ** 2 + q[None, :] ** 2)
    mtf = 1 / (1 + (q / 0.3) ** 2)
    for low, high in ((0.01, 0.1), (0.2, 0.3), (0.4, 0.5)):
        ring = (q >= low) & (q < high)
        efficiency = (mtf**2 * mean / power)[ring].mean() * 23 / 24  # the mean of 1 / chi² of 24 images
        assert efficiency.item() == pytest.approx(0.6 * (mtf[ring] ** (2 * falloff)).mean().item(), rel=0.04)


@pytest.mark.parametrize("falloff", [0.0, 0.4, 1.0])
def test_the_signal_is_passed_by_the_mtf_wherever_noise_comes_in(falloff: float) -> None:
    grating = 1e6 * (1 + 0.5 * torch.cos(2 * torch.pi * torch.arange(64) * 16 / 64))[None, :].repeat(64, 1)
    c = ImagingConditions(dose=1.0, mtf_half=0.25, dqe_falloff=falloff)
    seen = expose(grating, c, seed=(0, 0)).mean(0)
    torch.testing.assert_close(seen, 1e6 + (grating[0] - 1e6) / 2, atol=2e3, rtol=0)


def test_a_perfect_camera_reads_what_is_counted() -> None:
    flat = torch.full((32, 32), 7.0)
    c = ImagingConditions(dose=1.0)
    assert torch.equal(expose(flat, c, seed=(3, 1)), count_electrons(flat, seed=(3, 1)))
    blurred = expose(flat, replace(c, mtf_half=0.3), seed=(3, 1))
    assert torch.equal(blurred, blur(count_electrons(flat, seed=(3, 1)), 0.3))


def test_the_pattern_of_gains_stays_and_readings_do_not() -> None:
    many = torch.full((32, 32), 1e8)
    c = ImagingConditions(dose=1.0, gain_noise=0.1)
    one, two = (expose(many, c, seed=(1, i)) for i in (0, 1))
    other = expose(many, c, seed=(2, 0))
    assert torch.corrcoef(torch.stack([one.ravel(), two.ravel()]))[0, 1] > 0.99
    assert abs(torch.corrcoef(torch.stack([one.ravel(), other.ravel()]))[0, 1]) < 0.15
    dark = ImagingConditions(dose=1.0, readout=4.0, offset=-3.0)
    one, two = (expose(torch.zeros(64, 64), dark, seed=(1, i)) for i in (0, 1))
    assert abs(torch.corrcoef(torch.stack([one.ravel(), two.ravel()]))[0, 1]) < 0.08
    assert one.mean().item() == pytest.approx(-3, abs=0.3) and one.std().item() == pytest.approx(4, rel=0.05)
