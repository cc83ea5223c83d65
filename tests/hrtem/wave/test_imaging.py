"""Laws of imaging: lens, focal spread, pixels and dose together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.errors import ParameterError
from passband.hrtem.wave.focal_average import focal_factors, focal_nodes
from passband.hrtem.wave.imaging import image_intensity, simulate_micrographs
from passband.hrtem.wave.scattering import ExitWave, wave_from_array
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import lens_of

N, PIXEL = 64, 0.4
BASE = ImagingConditions(
    energy=300e3, C10=-300.0, C30=0.0, focal_spread=10.0, angular_spread=0.0, pixel_size=PIXEL
)


def phase_object(strength: float = 0.3, seed: int = 0, band: float = 0.6) -> ExitWave:
    """A smooth random phase, limited to frequencies below the band."""
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(N, PIXEL)
    keep = np.hypot(k[:, None], k[None, :]) < band
    v = np.fft.ifft2(np.fft.fft2(rng.standard_normal((N, N))) * keep).real
    wave = np.exp(1j * strength * v / v.std())
    return wave_from_array(wave, pixel_size=PIXEL, energy=300e3, band=1.1)


def image(wave: ExitWave, c: ImagingConditions) -> torch.Tensor:
    return simulate_micrographs(wave, [c], seed=0)[0]


def test_no_contrast_without_aberration() -> None:
    c = replace(BASE, C10=0.0, focal_spread=0.0)
    wave = phase_object(band=0.5)  # twice this is within the band: little of the wave is cut off
    assert image(wave, c).std() < 0.01 * image(wave, BASE).std()


def test_reversing_focus_reverses_the_linear_contrast() -> None:
    under, over = (image(phase_object(0.01), replace(BASE, C10=d)) - 1 for d in (-300.0, 300.0))
    assert (under + over).std() < 0.03 * under.std()


def test_a_phase_object_is_dark_in_underfocus() -> None:
    y, x = np.indices((N, N)) - N // 2
    bump = np.exp(0.2j * np.exp(-(y**2 + x**2) / 18.0))
    wave = wave_from_array(bump, pixel_size=PIXEL, energy=300e3)
    centre = image(wave, replace(BASE, C10=-400.0))[N // 2, N // 2]
    assert centre < 1 < image(wave, replace(BASE, C10=400.0))[N // 2, N // 2]


@pytest.mark.parametrize("spread", [5.0, 15.0, 30.0, 60.0, 120.0])
def test_the_focal_average_is_the_mean_over_a_gaussian_of_focus(spread: float) -> None:
    wave, c = phase_object(0.8), replace(BASE, focal_spread=spread)
    foci = np.linspace(-4, 4, 401) * spread
    weight = np.exp(-((foci / spread) ** 2))
    exact = torch.zeros(N, N, dtype=torch.float64)
    for d, w in zip(foci, weight / weight.sum(), strict=True):
        lens = lens_of([replace(c, C10=c.C10 + d, focal_spread=0.0)], dtype=torch.float64)
        exact += w * image_intensity(wave, lens)[0]
    nodes = torch.tensor(focal_nodes(c, wave), dtype=torch.float64)
    lens = lens_of([c], dtype=torch.float64)
    average = image_intensity(wave, lens, nodes=nodes)[0]
    assert (average - exact).std() < 0.01 * exact.std()
    envelope = image_intensity(wave, lens)[0]
    assert len(nodes) == 1 or (envelope - exact).std() > 3 * (average - exact).std()
    rule = image_intensity(wave, lens, foci=101)[0]
    assert (rule - exact).std() < 1e-3 * exact.std()


def test_more_nodes_serve_a_larger_focal_spread() -> None:
    wave = phase_object()
    counts = [len(focal_nodes(replace(BASE, focal_spread=d), wave)) for d in (0.0, 5.0, 15.0, 30.0, 60.0)]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] > 2


def test_an_aperture_that_blocks_what_is_scattered_needs_one_node() -> None:
    c = replace(BASE, focal_spread=60.0, aperture=0.0008)
    assert focal_nodes(c, phase_object()) == (0.0,)


def test_focal_factors_are_exact_on_their_nodes_and_never_too_much() -> None:
    lens = lens_of([replace(BASE, focal_spread=d) for d in (20.0, 50.0)], dtype=torch.float64)
    nodes = torch.tensor([[0.0, 0.5, 1.2], [0.0, 0.3, 0.8]], dtype=torch.float64)
    k2 = torch.linspace(0, 1.5, 31, dtype=torch.float64)
    places = torch.cat([nodes, k2.expand(2, -1)], 1)
    for i in range(2):
        alone = lens_of([replace(BASE, focal_spread=(20.0, 50.0)[i])], dtype=torch.float64)
        f = focal_factors(places[i][None], alone, nodes[i])[0, :, 0]
        c = (math.pi * alone.wavelength.item() * (20.0, 50.0)[i] / 2) ** 2
        right = torch.exp(-c * (places[i][:, None] - places[i]) ** 2)
        torch.testing.assert_close((f.T @ f)[:3], right[:3])
        assert torch.linalg.eigvalsh(right - f.T @ f).min() > -1e-9
    both = focal_factors(k2[None], lens, nodes)
    torch.testing.assert_close(
        both[1:, :, 0, :], focal_factors(places[1][None, 3:], alone, nodes[1:])[:, :, 0]
    )


def test_mean_counts_are_dose_times_pixel_area() -> None:
    for dose in (5.0, 400.0):
        counts = image(phase_object(), replace(BASE, dose=dose))
        mean = dose * PIXEL**2
        assert counts.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(mean / N**2))


def test_variance_of_a_perfect_camera_is_its_mean() -> None:
    flat = wave_from_array(np.ones((N, N), complex), pixel_size=PIXEL, energy=300e3)
    for dose in (20.0, 400.0):
        counts = simulate_micrographs(flat, [replace(BASE, dose=dose)] * 20, seed=3)
        assert counts.var().item() / counts.mean().item() == pytest.approx(1, abs=0.02)


def test_an_image_depends_on_its_place_and_the_seed_alone() -> None:
    c = [replace(BASE, dose=100.0, C10=float(d)) for d in (-100, -200, -300)]
    wave = phase_object()
    three = simulate_micrographs(wave, c, seed=5)
    two = simulate_micrographs(wave, c[:2], seed=5)
    assert torch.equal(three[:2], two)
    mixed = simulate_micrographs(wave, [c[2], c[1]], seed=5)
    assert torch.equal(mixed[1], three[1])
    assert not torch.equal(simulate_micrographs(wave, c, seed=6)[0], three[0])
    twice = simulate_micrographs(wave, [c[0], c[0]], seed=5)
    assert not torch.equal(twice[0], twice[1])


def test_one_image_drawn_alone_is_that_of_the_series_bit_for_bit() -> None:
    c = [
        replace(BASE, dose=5.0),
        replace(BASE, dose=900.0, C12=30.0, mtf_half=0.3),
        replace(BASE, dose=100.0, focal_spread=40.0, drift_y=2.0),
        replace(BASE, dose=100.0, integrate_pixels=True),
        replace(BASE, dose=100.0, vibration=0.5, inelastic_share=0.2, mtf_half=0.3),
        replace(BASE, dose=100.0, mtf_half=0.3, quantum_efficiency=0.7, dqe_falloff=0.5, gain=3.0,
                offset=9.0, readout=2.0, gain_noise=0.01),
    ]  # fmt: skip
    wave = phase_object()
    series = simulate_micrographs(wave, c, seed=5)
    for i in range(len(c)):
        (alone,) = simulate_micrographs(wave, [c[i]], seed=5, first=i)
        assert torch.equal(alone, series[i])
    assert torch.equal(simulate_micrographs(wave, c[2:], seed=5, first=2), series[2:])


def test_a_batch_of_lenses_gives_the_images_of_its_members() -> None:
    wave = phase_object(0.5)
    several = [BASE, replace(BASE, C10=250.0, C12=30.0), replace(BASE, focal_spread=40.0)]
    nodes = torch.tensor([0.0, 0.4, 0.9], dtype=torch.float64)
    for how in ({"foci": 0}, {"foci": 5}, {"nodes": nodes}):
        batch = image_intensity(wave, lens_of(several, dtype=torch.float64), **how)
        for c, values in zip(several, batch, strict=True):
            alone = image_intensity(wave, lens_of([c], dtype=torch.float64), **how)[0]
            torch.testing.assert_close(values, alone)


def test_a_finer_grid_has_the_same_points() -> None:
    wave = phase_object()
    lens = lens_of([BASE], dtype=torch.float64)
    coarse = image_intensity(wave, lens)[0]
    fine = image_intensity(wave, lens, shape=(2 * N, 3 * N))[0]
    torch.testing.assert_close(fine[::2, ::3], coarse)


def test_pixels_integrate_the_intensity() -> None:
    """The mean of the intensity over each pixel, by brute force on a grid eight times finer."""
    wave = phase_object(0.5)
    c = replace(BASE, integrate_pixels=True)
    lens = lens_of([BASE], dtype=torch.float64)
    fine = image_intensity(wave, lens, shape=(16 * N, 16 * N))[0]
    around = torch.roll(fine, (8, 8), (0, 1)).reshape(N, 16, N, 16).mean((1, 3))
    # The window is half a fine point off centre, hence the tolerance of a sixteenth of a pixel.
    assert (image(wave, c) - around).std() < 0.05 * around.std()
    assert (image(wave, BASE) - around).std() > 2 * (image(wave, c) - around).std()


def test_coarse_pixels_keep_the_mean_and_the_low_frequencies() -> None:
    wave = phase_object(0.5)
    fine, coarse = (image(wave, replace(BASE, pixel_size=p)) for p in (PIXEL, 4 * PIXEL))
    assert coarse.shape == (N // 4, N // 4)
    low = torch.fft.fft2(fine)[:4, :4] / N**2
    torch.testing.assert_close(torch.fft.fft2(coarse)[:4, :4] / (N // 4) ** 2, low, atol=1e-5, rtol=1e-4)


def test_drift_blurs_along_its_direction_alone() -> None:
    wave = phase_object(0.5)
    still, moved = (image(wave, replace(BASE, drift_y=d)) for d in (0.0, 6.0))
    along, across = (torch.diff(moved, dim=d).std() / torch.diff(still, dim=d).std() for d in (0, 1))
    assert along < 0.5 * across
    assert moved.mean().item() == pytest.approx(still.mean().item(), abs=1e-4)


def test_vibration_is_the_mean_over_places_of_the_specimen() -> None:
    wave = phase_object(0.5)
    moved = image(wave, replace(BASE, vibration=0.8))
    still = image(wave, replace(BASE, pixel_size=PIXEL / 2))  # fine enough for every frequency of |wave|²
    k = torch.fft.fftfreq(2 * N, PIXEL / 2)
    envelope = torch.exp(-2 * math.pi**2 * 0.8**2 * (k[:, None] ** 2 + k[None, :] ** 2))
    blurred = torch.fft.ifft2(torch.fft.fft2(still) * envelope).real
    torch.testing.assert_close(moved, blurred[::2, ::2], atol=1e-5, rtol=0)
    assert moved.std() < 0.5 * still.std()


def test_electrons_that_lost_energy_damp_the_contrast_and_are_still_counted() -> None:
    wave = phase_object(0.5)
    sharp, damped = (image(wave, replace(BASE, inelastic_share=s)) for s in (0.0, 0.3))
    torch.testing.assert_close(damped - damped.mean(), 0.7 * (sharp - sharp.mean()), atol=1e-5, rtol=0)
    assert damped.mean().item() == pytest.approx(sharp.mean().item(), rel=1e-5)
    assert image(wave, replace(BASE, inelastic_share=1.0)).std() < 1e-6


def test_what_needs_a_dose_does_nothing_to_an_intensity() -> None:
    camera = {"quantum_efficiency": 0.5, "gain": 7.0, "offset": 3.0, "readout": 2.0, "gain_noise": 0.1}
    assert torch.equal(image(phase_object(), replace(BASE, **camera)), image(phase_object(), BASE))


def test_images_are_differentiable_in_the_lens() -> None:
    wave = phase_object(0.5)
    nodes = torch.tensor([0.0, 0.4], dtype=torch.float64)
    target = image_intensity(wave, lens_of([BASE], dtype=torch.float64), nodes=nodes)
    lens = lens_of([replace(BASE, C10=-280.0, focal_spread=14.0)], dtype=torch.float64)

    def loss(**values: torch.Tensor) -> torch.Tensor:
        return ((image_intensity(wave, replace(lens, **values), nodes=nodes) - target) ** 2).mean()

    for name in ("C10", "focal_spread"):
        value = getattr(lens, name).clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(**{name: value}), value)
        up, down = (loss(**{name: getattr(lens, name) + d}) for d in (1e-3, -1e-3))
        assert slope.item() == pytest.approx(((up - down) / 2e-3).item(), rel=1e-4), name
        assert slope > 0 or name != "C10"  # towards the target's -300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy": 200e3}, "calculated for 300 keV"),
        ({"aperture": 0.05}, "sample it at"),
        ({"pixel_size": 9.0}, "whole number of pixels"),
    ],
)
def test_conditions_that_do_not_fit_the_wave_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        simulate_micrographs(phase_object(), [replace(BASE, **change)], seed=0)


def test_a_negative_place_in_the_series_is_refused() -> None:
    with pytest.raises(ParameterError, match="must not be negative, got -1"):
        simulate_micrographs(phase_object(), [BASE], seed=0, first=-1)


def test_no_conditions_and_mixed_shapes_are_refused() -> None:
    with pytest.raises(ParameterError, match="at least one"):
        simulate_micrographs(phase_object(), [], seed=0)
    with pytest.raises(ParameterError, match="one shape"):
        simulate_micrographs(phase_object(), [BASE, replace(BASE, pixel_size=0.8)], seed=0)
