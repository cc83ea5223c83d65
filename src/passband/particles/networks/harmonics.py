"""Circular harmonics of crops: numbers that a turn does not change, and the turn between two crops.

A crop's pixels are averaged over rings with weights exp(i m phi). A turn by theta multiplies the average
of order m by exp(i m theta), whatever the ring: moduli stay, and so do products of one ring's average with
the conjugate of another's. All of it is one matrix product and a few products of its results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from passband.errors import ParameterError

LAGS = (1, 2, 4)
"""Rings that far apart have their products among the invariants."""
_ANGLES = 360
_TINY = 1e-6
_FINE = 8  # sub-pixels along each side of a pixel: rings of few pixels are round only so


@dataclass(frozen=True, kw_only=True)
class HarmonicSettings:
    """Of rings and orders.

    Parameters
    ----------
    size
        Side of a crop in pixels.
    rings
        Their number, evenly spaced to the crop's edge; each is a Gaussian in radius.
    orders
        Highest angular order.

    Raises
    ------
    ParameterError
        If a value is out of range.

    Examples
    --------
    >>> HarmonicSettings(size=48).coefficients
    204
    """

    size: int
    rings: int = 12
    orders: int = 8

    def __post_init__(self) -> None:
        if not (8 <= self.size <= 512 and 5 <= self.rings <= 64 and 1 <= self.orders <= 64):
            raise ParameterError(
                "harmonics: wanted size 8 to 512, rings 5 to 64, orders 1 to 64, got "
                f"{self.size}, {self.rings}, {self.orders}"
            )

    @property
    def coefficients(self) -> int:
        """Numbers per crop: order 0 of each ring, then real and imaginary parts of the others."""
        return self.rings * (1 + 2 * self.orders)

    @property
    def invariants(self) -> int:
        """Numbers per crop that a turn does not change."""
        products = sum(2 * (self.rings - lag) for lag in LAGS)
        return self.rings + self.orders * (self.rings + products)


@lru_cache(maxsize=8)
def harmonic_basis(settings: HarmonicSettings) -> Float32[Tensor, "pixels coefficients"]:
    """What crops, as rows of pixels, are multiplied by.

    Examples
    --------
    >>> basis = harmonic_basis(HarmonicSettings(size=48))
    >>> tuple(basis.shape), bool((basis[:, :12].sum(0) - 1).abs().max() < 1e-5)
    ((2304, 204), True)
    """
    size, rings = settings.size, settings.rings
    at = (np.arange(size * _FINE) + 0.5) / _FINE - size / 2
    x, y = np.meshgrid(at, -at)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    spacing = size / 2 / rings
    centres = (np.arange(rings) + 0.5) * spacing
    ring = np.exp(-0.5 * ((radius - centres[:, None, None]) / (0.6 * spacing)) ** 2)
    ring /= ring.sum(axis=(1, 2), keepdims=True)
    waves = [np.ones_like(angle)]
    waves += [wave(m * angle) for wave in (np.cos, np.sin) for m in range(1, settings.orders + 1)]
    parts = [(ring * w).reshape(rings, size, _FINE, size, _FINE).sum(axis=(2, 4)) for w in waves]
    basis = np.concatenate([p.reshape(rings, -1) for p in parts]).T.astype(np.float32)
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(basis))


def harmonics(crops: Float32[Tensor, "n y x"], settings: HarmonicSettings) -> Float32[Tensor, "n c"]:
    """Circular harmonics of crops: order 0, then real, then imaginary parts, (order, ring) each.

    Examples
    --------
    >>> harmonics(torch.ones(1, 48, 48), HarmonicSettings(size=48))[0, :3].round(decimals=4).tolist()
    [1.0, 1.0, 1.0]
    """
    return crops.flatten(1) @ harmonic_basis(settings).to(crops.device)


def invariants(coefficients: Float32[Tensor, "n c"], settings: HarmonicSettings) -> Float32[Tensor, "n f"]:
    """What a turn leaves as it was: order 0, moduli, and products of rings over the root of their moduli.

    Parameters
    ----------
    coefficients
        From `harmonics`.
    settings
        Those they were made with.

    Examples
    --------
    >>> s = HarmonicSettings(size=48)
    >>> crop = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(0))
    >>> a, b = (invariants(harmonics(c, s), s) for c in (crop, crop.rot90(1, (1, 2))))
    >>> tuple(a.shape), bool((a - b).abs().max() < 1e-4)
    ((1, 572), True)
    """
    n, rings, orders = len(coefficients), settings.rings, settings.orders
    still, waves = coefficients[:, :rings], coefficients[:, rings:].view(n, 2, orders, rings)
    re, im = waves[:, 0], waves[:, 1]
    modulus = (re * re + im * im + _TINY).sqrt()
    root = modulus.rsqrt()
    re, im = re * root, im * root
    out = [still, modulus.flatten(1)]
    for lag in LAGS:
        a, b, c, d = re[..., lag:], im[..., lag:], re[..., :-lag], im[..., :-lag]
        out += [(a * c + b * d).flatten(1), (b * c - a * d).flatten(1)]
    return torch.cat(out, 1)


def turn_between(
    coefficients: Float32[Tensor, "n c"],
    templates: Float32[Tensor, "n c"],
    settings: HarmonicSettings,
) -> tuple[Float32[Tensor, " n"], Float32[Tensor, " n"]]:
    """How far each crop is turned from its template, by their correlation over all angles.

    Parameters
    ----------
    coefficients, templates
        From `harmonics`, one template for each crop.
    settings
        Those they were made with.

    Returns
    -------
    angle, correlation
        In rad, anticlockwise, within plus or minus pi; and how well they agree there, at most 1.

    Examples
    --------
    >>> s = HarmonicSettings(size=48)
    >>> crop = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(0))
    >>> turned = harmonics(crop.rot90(1, (1, 2)), s)
    >>> angle, agreement = turn_between(turned, harmonics(crop, s), s)
    >>> round(math.degrees(float(angle)), 1), round(float(agreement), 2)
    (90.0, 1.0)
    """
    n, rings, orders = len(coefficients), settings.rings, settings.orders
    weight = torch.arange(rings, dtype=coefficients.dtype, device=coefficients.device) + 0.5
    a = coefficients[:, rings:].view(n, 2, orders, rings)
    b = templates[:, rings:].view(n, 2, orders, rings)
    re = ((a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1]) * weight).sum(-1)
    im = ((a[:, 1] * b[:, 0] - a[:, 0] * b[:, 1]) * weight).sum(-1)
    step = 2 * math.pi / _ANGLES
    angles = torch.arange(_ANGLES, dtype=a.dtype, device=a.device) * step
    order = torch.arange(1, orders + 1, dtype=a.dtype, device=a.device)[:, None]
    curve = re @ torch.cos(order * angles) + im @ torch.sin(order * angles)
    best = curve.argmax(1, keepdim=True)
    low, high = (curve.gather(1, (best + d) % _ANGLES)[:, 0] for d in (-1, 1))
    top = curve.gather(1, best)[:, 0]
    bend = (low - 2 * top + high).clamp(max=-(_TINY**2))
    angle = (best[:, 0] + (0.5 * (low - high) / bend).clamp(-0.5, 0.5)) * step
    power = ((a**2 * weight).sum((1, 2, 3)) * (b**2 * weight).sum((1, 2, 3))).sqrt()
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi, top / power.clamp(min=_TINY**2)


def turned(
    coefficients: Float32[Tensor, "n c"], angle: Float32[Tensor, " n"], settings: HarmonicSettings
) -> Float32[Tensor, "n c"]:
    """The harmonics of the crops turned by an angle, rad anticlockwise.

    Examples
    --------
    >>> s = HarmonicSettings(size=48)
    >>> crop = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(0))
    >>> quarter = turned(harmonics(crop, s), torch.tensor([math.pi / 2]), s)
    >>> bool((quarter - harmonics(crop.rot90(1, (1, 2)), s)).abs().max() < 1e-4)
    True
    """
    n, rings, orders = len(coefficients), settings.rings, settings.orders
    waves = coefficients[:, rings:].view(n, 2, orders, rings)
    order = torch.arange(1, orders + 1, dtype=angle.dtype, device=angle.device)
    phase = (angle[:, None] * order)[:, :, None]
    cos, sin = torch.cos(phase), torch.sin(phase)
    re, im = waves[:, 0] * cos - waves[:, 1] * sin, waves[:, 0] * sin + waves[:, 1] * cos
    return torch.cat([coefficients[:, :rings], re.flatten(1), im.flatten(1)], 1)
