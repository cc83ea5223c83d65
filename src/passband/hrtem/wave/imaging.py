"""From an exit wave to micrographs: lens, focal spread, pixels, dose and camera together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from passband.errors import ParameterError
from passband.hrtem.wave.scattering import ExitWave
from passband.optics.bands import Band, from_band, grid_fault, real_from_band, real_to_band
from passband.optics.camera import Noise, blur, expose
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import Lens, is_round, lens_of, motion_envelope, transfer_function
from passband.units import electron_wavelength

QUASI_COHERENT_BELOW = 15.0
"""Focal spread, Å, below which its envelope does: on default scenes images are then 1.3 % off."""
FOCAL_ERROR = 0.01
"""Largest error of the focal average at any frequency that counts, for the number of its points."""
_GPU_BATCH = 32


def focal_points(conditions: ImagingConditions, wave: ExitWave) -> int:
    """How many foci are averaged for an image; 0 stands for the quasi-coherent envelope.

    Parameters
    ----------
    conditions
        Gives focal spread, energy and aperture.
    wave
        Gives the band.

    Returns
    -------
    int
        0 below a focal spread of 15 Å; else the points of a Gauss-Hermite rule whose error is under
        0.01 for the interference of any two frequencies inside the aperture and inside the circle
        that holds 99.99 % of what the wave scatters. Too few points are worse than the envelope.

    Examples
    --------
    >>> from passband.hrtem.wave.scattering import wave_from_array
    >>> fringes = 1 + 0.1j * np.cos(2 * np.pi * 1.25 * 0.2 * np.arange(64)) * np.ones((64, 1))
    >>> wave = wave_from_array(fringes, pixel_size=0.2, energy=300e3)
    >>> [focal_points(ImagingConditions(energy=300e3, focal_spread=d), wave) for d in (10, 30, 60)]
    [0, 7, 13]
    """
    if conditions.focal_spread < QUASI_COHERENT_BELOW:
        return 0
    wavelength = electron_wavelength(conditions.energy)
    highest = min(_scattered_within(wave), conditions.aperture / wavelength)
    largest = math.pi * wavelength * conditions.focal_spread * highest**2
    return next((n for n in range(3, 100, 2) if _quadrature_error(n, round(largest, 2)) < FOCAL_ERROR), 99)


def image_intensity(
    wave: ExitWave, lens: Lens, *, foci: int = 0, shape: tuple[int, int] | None = None
) -> Tensor:
    """Intensity in the image plane, at the points of a grid over the wave's field.

    Parameters
    ----------
    wave
        The exit wave.
    lens
        Of tensors (b, 1, 1); any may require a gradient.
    foci
        Points of the focal average, or 0 for the quasi-coherent envelope.
    shape
        Grid points (y, x), enough for the wave's band; the wave's own if not given.

    Returns
    -------
    Tensor
        Real (b, y, x); 1 where there is no specimen.

    Raises
    ------
    ParameterError
        If the grid is too coarse for the wave's band.

    References
    ----------
    K. Ishizuka, Ultramicroscopy 5 (1980) 55, doi:10.1016/S0304-3991(80)80011-0, on what envelopes
    leave out.

    Examples
    --------
    >>> from passband.hrtem.wave.scattering import wave_from_array
    >>> wave = wave_from_array(np.ones((8, 8), np.complex64), pixel_size=0.2, energy=300e3)
    >>> image_intensity(wave, lens_of([ImagingConditions(energy=300e3, C10=-500.0)])).mean().item()
    1.0
    """
    band = wave.band if shape is None else wave.band.on_grid(shape)
    spectrum = wave.spectrum
    if foci == 0:
        return _squared(from_band(spectrum * _transfer(band, lens, spectrum), band))
    nodes, weights = np.polynomial.hermite.hermgauss(foci)
    still = torch.zeros_like(lens.focal_spread)
    image: Tensor | None = None
    for node, weight in zip(nodes, weights / math.sqrt(math.pi), strict=True):
        member = replace(lens, C10=lens.C10 + lens.focal_spread * float(node), focal_spread=still)
        part = float(weight) * _squared(from_band(spectrum * _transfer(band, member, spectrum), band))
        image = part if image is None else image + part
    assert image is not None
    return image


def simulate_micrographs(
    wave: ExitWave,
    conditions: Sequence[ImagingConditions],
    *,
    seed: int,
    noise: Noise = "auto",
    first: int = 0,
) -> Tensor:
    """Micrographs of one specimen under many imaging conditions.

    The expected intensity is that of the lens, blurred by drift and vibration and, where asked, integrated
    over the pixels; the inelastic share of it is spread evenly over the image; the camera counts electrons,
    blurs and reads them, as `optics.camera.expose` tells.

    Parameters
    ----------
    wave
        The exit wave; its device is where images are calculated.
    conditions
        One for each image; pixel sizes must give images of one shape.
    seed
        Image i has the counting noise of (seed, first + i), whatever the others are.
    noise
        As in `optics.camera.count_electrons`.
    first
        Place of the first image in a series, from 0: so a part of it can be drawn by itself.

    Returns
    -------
    Tensor
        float32 (b, y, x): electrons per pixel (times ``gain``, with ``offset``), or intensity where the dose
        is infinite.

    Raises
    ------
    ParameterError
        If energies differ from the wave's, an aperture is wider than the Nyquist frequency of the wave's
        sampling, pixel sizes do not divide the field, or ``first`` is negative. The band that a stored
        wave keeps may be narrower than such an aperture, and is then what limits the image.

    Examples
    --------
    >>> from passband.hrtem.wave.scattering import wave_from_array
    >>> wave = wave_from_array(np.ones((64, 64), np.complex64), pixel_size=0.2, energy=300e3)
    >>> c = ImagingConditions(energy=300e3, C10=-500.0, dose=400.0, pixel_size=0.2)
    >>> images = simulate_micrographs(wave, [c, c], seed=1)
    >>> images.shape, abs(images.mean().item() - 16) < 0.2
    (torch.Size([2, 64, 64]), True)
    """
    _refuse_unfit(wave, conditions)
    if first < 0:
        raise ParameterError(f"the first image's place must not be negative, got {first}")
    device = wave.spectrum.device
    size = 1 if device.type == "cpu" else _GPU_BATCH
    images = torch.empty((len(conditions), *image_shape(wave, conditions[0].pixel_size)), device=device)
    done = 0

    def alike(c: ImagingConditions) -> tuple[int, tuple[int, int], bool]:
        filtered = _is_filtered(c)
        return focal_points(c, wave), image_shape(wave, c.pixel_size), filtered

    for (foci, shape, filtered), run in groupby(conditions, alike):
        together = list(run)
        for start in range(0, len(together), size):
            batch = together[start : start + size]
            # In double precision: chi runs to thousands of radians.
            lens = lens_of(batch, dtype=torch.float64, device=device)
            grid = _working_grid(wave.band, shape, filtered)
            intensity = image_intensity(wave, lens, foci=foci, shape=grid)
            for c, values in zip(batch, intensity, strict=True):
                expected = _on_pixels(values, wave.band.extent, shape, c).float()
                if c.inelastic_share:
                    expected = torch.lerp(expected, expected.mean(), c.inelastic_share)
                if math.isfinite(c.dose):
                    area = wave.band.extent[0] * wave.band.extent[1] / (shape[0] * shape[1])
                    electrons = expected * (c.dose * area)
                    expected = expose(electrons, c, seed=(seed, first + done), noise=noise)
                elif math.isfinite(c.mtf_half):
                    expected = blur(expected, c.mtf_half)
                images[done] = expected
                done += 1
    return images


def image_shape(wave: ExitWave, pixel_size: float) -> tuple[int, int]:
    """Pixels (y, x) of an image of a wave's field.

    Parameters
    ----------
    wave
        Gives the field.
    pixel_size
        Å.

    Returns
    -------
    tuple
        (y, x).

    Raises
    ------
    ParameterError
        If the field is not a whole number of pixels, within 1 % of a pixel's size, or of more than can be
        calculated.
    """
    if fault := grid_fault(wave.band.extent, pixel_size):
        raise ParameterError(fault)
    ratios = [length / pixel_size for length in wave.band.extent]
    if any(round(r) < 1 or abs(r / round(r) - 1) > 0.01 for r in ratios):
        raise ParameterError(
            f"a field of {wave.band.extent[0]:g} x {wave.band.extent[1]:g} Å is no whole number of pixels "
            f"of {pixel_size:g} Å; take {wave.band.extent[0] / max(1, round(ratios[0])):.6g} Å"
        )
    return round(ratios[0]), round(ratios[1])


def _refuse_unfit(wave: ExitWave, conditions: Sequence[ImagingConditions]) -> None:
    if not conditions:
        raise ParameterError("no imaging conditions were given; at least one is needed")
    for c in conditions:
        if abs(c.energy - wave.energy) > 1e-6 * wave.energy:
            raise ParameterError(
                f"the wave was calculated for {wave.energy / 1e3:g} keV and cannot be imaged at "
                f"{c.energy / 1e3:g} keV; give the same energy"
            )
        wavelength = electron_wavelength(c.energy)
        carried = wavelength * min(
            n / (2 * length) for n, length in zip(wave.band.shape, wave.band.extent, strict=True)
        )
        if math.isfinite(c.aperture) and c.aperture > carried:
            raise ParameterError(
                f"an aperture of {1e3 * c.aperture:g} mrad is wider than the {1e3 * carried:.3g} mrad "
                f"that the wave's sampling carries; sample it at {wavelength / 2 / c.aperture:.3g} Å or finer"
            )
    if len({image_shape(wave, c.pixel_size) for c in conditions}) > 1:
        raise ParameterError("images of one call must have one shape; simulate each pixel size by itself")


def _is_filtered(c: ImagingConditions) -> bool:
    """Whether the intensity between grid points counts: it is integrated, or moves."""
    return bool(c.integrate_pixels or c.drift_y or c.drift_x or c.vibration)


def _working_grid(band: Band, shape: tuple[int, int], filtered: bool) -> tuple[int, int]:
    """The image's grid where it will do, or a finer one whose intensity has no aliases."""
    enough = all(n >= (2 * kept - 2 if filtered else kept) for n, kept in zip(shape, band.kept, strict=True))
    if enough:
        return shape
    fine = [max(n, scipy.fft.next_fast_len(2 * kept)) for n, kept in zip(shape, band.kept, strict=True)]
    return fine[0], fine[1]


def _on_pixels(
    intensity: Tensor, extent: tuple[float, float], shape: tuple[int, int], conditions: ImagingConditions
) -> Tensor:
    """Intensity blurred by the specimen's motion, integrated over pixels, on the image's grid."""
    grid = (intensity.shape[0], intensity.shape[1])
    c = conditions
    if grid == shape and not _is_filtered(c):
        return intensity
    kept = tuple(n if n == m else min(n, m) - 1 | 1 for n, m in zip(shape, grid, strict=True))
    fine = Band(shape=grid, extent=extent, kept=(kept[0], kept[1]))
    ky, kx = fine.frequencies(dtype=intensity.dtype, device=intensity.device)
    kx = kx[: fine.half[1] + 1]
    motion = motion_envelope(ky, kx, vibration=c.vibration, drift_y=c.drift_y, drift_x=c.drift_x)
    spectrum = real_to_band(intensity, fine) * motion
    if c.integrate_pixels:
        spectrum = spectrum * (
            torch.sinc(ky * (extent[0] / shape[0])) * torch.sinc(kx * (extent[1] / shape[1]))
        )
    scale = 1 / (grid[0] * grid[1])
    image = real_from_band(spectrum * scale, Band(shape=shape, extent=extent, kept=fine.kept))
    return image.clamp_min(0)


def _squared(wave: Tensor) -> Tensor:
    """|wave|²; the obvious forms take longer."""
    if wave.requires_grad:
        return (wave * wave.conj()).real
    parts = torch.view_as_real(wave).square_()
    return parts[..., 0] + parts[..., 1]


def _transfer(band: Band, lens: Lens, spectrum: Tensor) -> Tensor:
    """The lens over a band, (b, u, v); of a round one, a quarter is calculated and mirrored."""
    ky, kx = band.frequencies(dtype=lens.C10.dtype, device=spectrum.device)
    if not is_round(lens):
        return transfer_function(ky, kx, lens).to(spectrum.dtype)
    (v, u), (top_v, top_u) = band.kept, band.half
    quarter = transfer_function(ky[:, : top_v + 1].abs(), kx[: top_u + 1].abs(), lens)
    quarter = quarter.to(spectrum.dtype)
    half = torch.cat([quarter[..., : v - top_v], quarter[..., 1:].flip(-1)], -1)
    return torch.cat([half[..., : u - top_u, :], half[..., 1:, :].flip(-2)], -2)


@lru_cache(maxsize=4)
def _scattered_within(wave: ExitWave) -> float:
    """Frequency, 1/Å, within which 99.99 % of the scattered intensity lies."""
    ky, kx = wave.band.frequencies(device=wave.spectrum.device)
    k = torch.sqrt(ky * ky + kx * kx).flatten()
    power = (wave.spectrum.detach().abs().double() ** 2).flatten()
    power[0] = 0
    order = torch.argsort(k)
    total = torch.cumsum(power[order], 0)
    return float(k[order][min(int((total < 0.9999 * total[-1]).sum()), len(k) - 1)])


@lru_cache(maxsize=4096)
def _quadrature_error(points: int, largest: float) -> float:
    """Largest error of the Gauss-Hermite mean of cos(a x) over a Gaussian, for a up to a limit."""
    a = np.linspace(0, largest, 400)
    nodes, weights = np.polynomial.hermite.hermgauss(points)
    mean = (weights / math.sqrt(math.pi) * np.cos(a[:, None] * nodes)).sum(1)
    return float(np.abs(mean - np.exp(-(a**2) / 4)).max())
