"""From an exit wave to micrographs: lens, focal spread, pixels, dose and camera together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import groupby

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from passband.errors import ParameterError
from passband.hrtem.wave.focal_average import focal_factors, focal_nodes
from passband.hrtem.wave.scattering import ExitWave
from passband.optics.bands import Band, from_band, real_from_band, real_to_band
from passband.optics.camera import Noise, blur, expose
from passband.optics.conditions import ImagingConditions
from passband.optics.grids import grid_fault
from passband.optics.transfer import Lens, is_round, lens_of, motion_envelope, transfer_function
from passband.units import electron_wavelength

_GPU_BATCH = 32


def image_intensity(
    wave: ExitWave,
    lens: Lens,
    *,
    nodes: Tensor | None = None,
    foci: int = 0,
    shape: tuple[int, int] | None = None,
) -> Tensor:
    """Intensity in the image plane, at the points of a grid over the wave's field.

    Parameters
    ----------
    wave
        The exit wave.
    lens
        Of tensors (b, 1, 1); any may require a gradient.
    nodes
        Of the focal average, (r,) or (b, r), as `focal_nodes` chooses them; the quasi-coherent envelope if
        not given.
    foci
        If not 0, average over so many foci of a Gauss-Hermite rule instead: slower, and as exact as wanted.
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
    K. Ishizuka, Ultramicroscopy 5 (1980) 55, doi:10.1016/S0304-3991(80)80011-0: the transmission
    cross-coefficient, and what envelopes leave out of it.

    Examples
    --------
    >>> from passband.hrtem.wave.scattering import wave_from_array
    >>> wave = wave_from_array(np.ones((8, 8), np.complex64), pixel_size=0.2, energy=300e3)
    >>> image_intensity(wave, lens_of([ImagingConditions(energy=300e3, C10=-500.0)])).mean().item()
    1.0
    """
    band = wave.band if shape is None else wave.band.on_grid(shape)
    if foci:
        points, weights = np.polynomial.hermite.hermgauss(foci)
        at = [(float(x), float(w) / math.sqrt(math.pi)) for x, w in zip(points, weights, strict=True)]
        still = replace(lens, focal_spread=torch.zeros_like(lens.focal_spread))
        members = (replace(still, C10=lens.C10 + lens.focal_spread * x) for x, _ in at)
        images = (w * image_intensity(wave, m, shape=shape) for m, (_, w) in zip(members, at, strict=True))
    else:
        transfers = _transfers(band, lens, nodes, wave.spectrum)
        images = (_squared(from_band(wave.spectrum * transfer, band)) for transfer in transfers)
    image = next(images)
    for further in images:
        image = image + further
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
        return len(focal_nodes(c, wave)), image_shape(wave, c.pixel_size), _is_filtered(c)

    for (_, shape, filtered), run in groupby(conditions, alike):
        together = list(run)
        # In double precision: chi runs to thousands of radians.
        lenses = lens_of(together, dtype=torch.float64, device=device)
        for start in range(0, len(together), size):
            batch = together[start : start + size]
            members = {f.name: getattr(lenses, f.name)[start : start + size] for f in fields(lenses)}
            lens = Lens(**members)
            grid = _working_grid(wave.band, shape, filtered)
            nodes = torch.tensor([focal_nodes(c, wave) for c in batch], dtype=torch.float64, device=device)
            intensity = image_intensity(wave, lens, nodes=nodes, shape=grid)
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


def _transfers(band: Band, lens: Lens, nodes: Tensor | None, spectrum: Tensor) -> Iterator[Tensor]:
    """The lens over a band for each node, (b, u, v); what is round from a quarter, mirrored."""
    ky, kx = band.frequencies(dtype=lens.C10.dtype, device=spectrum.device)
    quarter = ky[:, : band.half[0] + 1].abs(), kx[: band.half[1] + 1].abs()
    around = is_round(lens)
    if nodes is None:
        coherent = transfer_function(*(quarter if around else (ky, kx)), lens).to(spectrum.dtype)
        yield _mirrored(coherent, band) if around else coherent
        return
    still = replace(lens, focal_spread=torch.zeros_like(lens.focal_spread))
    coherent = transfer_function(*(quarter if around else (ky, kx)), still).to(spectrum.dtype)
    factors = focal_factors(quarter[0] ** 2 + quarter[1] ** 2, lens, nodes).to(_REAL[spectrum.dtype])
    for factor in factors.unbind(1):
        yield _mirrored(coherent * factor, band) if around else coherent * _mirrored(factor, band)


_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def _mirrored(quarter: Tensor, band: Band) -> Tensor:
    """The whole band of a field that is even along both axes, (..., u, v), from its part above zero."""
    (v, u), (top_v, top_u) = band.kept, band.half
    half = torch.cat([quarter[..., : v - top_v], quarter[..., 1:].flip(-1)], -1)
    return torch.cat([half[..., : u - top_u, :], half[..., 1:, :].flip(-2)], -2)
