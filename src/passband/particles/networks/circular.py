"""Angles as random variables: a wrapped normal posterior, and its divergence from priors on the circle.

A normal posterior whose mean and spread are an angle's puts probability on the line, not the circle: it
counts phi and phi + 2 pi as different. Here the posterior is the normal wrapped around the circle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_WRAPS = 3  # copies of the normal on each side; enough for spreads up to pi
_NODES = 33
_POINTS = 256  # of the circle
GREATEST_SPREAD = math.pi
"""A normal as wide as this, in rad, is uniform on the circle to within 1.5 %."""

_UNIFORM = math.log(2 * math.pi)


@lru_cache(maxsize=4)
def _nodes(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Gauss-Hermite nodes and weights of the standard normal."""
    at, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    with torch.inference_mode(False):
        return torch.as_tensor(at, dtype=dtype), torch.as_tensor(weight / weight.sum(), dtype=dtype)


@lru_cache(maxsize=8)
def _series(length: float, dtype: torch.dtype) -> Tensor:
    """Cosine coefficients of the projected normal's log density."""
    angle = torch.arange(_POINTS, dtype=torch.float64) * (2 * math.pi / _POINTS)
    with torch.inference_mode(False):
        terms = torch.fft.rfft(projected_normal_log_density(angle, length)).real / _POINTS
        terms[1:] *= 2
        series: Tensor = terms.to(dtype)
    return series


def wrapped_normal_entropy(spread: Tensor) -> Tensor:
    """Entropy in nats of a normal wrapped around the circle.

    Parameters
    ----------
    spread
        Standard deviation before wrapping, rad, any shape, up to `GREATEST_SPREAD`.

    Examples
    --------
    >>> narrow = wrapped_normal_entropy(torch.tensor(0.1, dtype=torch.float64))
    >>> round(float(narrow), 6) == round(0.5 * math.log(2 * math.pi * math.e * 0.01), 6)
    True
    """
    u, weight = _nodes(spread.dtype)
    u, weight = u.to(spread.device), weight.to(spread.device)
    turns = 2 * math.pi * torch.arange(-_WRAPS, _WRAPS + 1, dtype=spread.dtype, device=spread.device)
    inverse = 1 / spread[..., None, None]
    exponent = -inverse * turns * (u[:, None] + 0.5 * inverse * turns)
    overlap = (torch.logsumexp(exponent, -1) * weight).sum(-1)
    return 0.5 * (_UNIFORM + 1) + torch.log(spread) - overlap


def normal_divergence(mean: Tensor, spread: Tensor) -> Tensor:
    """Divergence in nats of a normal from the standard normal, element by element.

    Examples
    --------
    >>> float(normal_divergence(torch.tensor(1.0), torch.tensor(1.0)))
    0.5
    """
    return 0.5 * (mean**2 + spread**2 - 1) - torch.log(spread)


def von_mises_divergence(mean: Tensor, spread: Tensor, concentration: float = 0.0) -> Tensor:
    """Divergence of a wrapped normal from a von Mises prior about zero.

    Parameters
    ----------
    mean, spread
        Of the wrapped normal, rad.
    concentration
        Of the prior; 0 is the uniform distribution on the circle.

    Examples
    --------
    >>> wide = torch.tensor(math.pi, dtype=torch.float64)
    >>> bool(von_mises_divergence(torch.zeros_like(wide), wide) < 1e-3)
    True
    """
    k = torch.as_tensor(concentration, dtype=spread.dtype)
    normaliser = _UNIFORM + float(torch.log(torch.special.i0e(k)) + k)
    towards = concentration * torch.exp(-0.5 * spread**2) * torch.cos(mean)
    return normaliser - towards - wrapped_normal_entropy(spread)


def projected_normal_divergence(mean: Tensor, spread: Tensor, length: float = 0.0) -> Tensor:
    """Divergence of a wrapped normal from a projected normal prior about zero.

    The prior is the direction of a point in the plane that is normal about (length, 0) with unit spread
    (doi:10.1214/15-BA989).

    Parameters
    ----------
    mean, spread
        Of the wrapped normal, rad.
    length
        Distance of the plane's mean from the origin; 0 is the uniform distribution.

    Examples
    --------
    >>> half = torch.tensor(0.5)
    >>> a, b = projected_normal_divergence(half, half), von_mises_divergence(half, half)
    >>> bool(torch.isclose(a, b))
    True
    """
    terms = _series(float(length), spread.dtype).to(spread.device)
    order = torch.arange(len(terms), dtype=spread.dtype, device=spread.device)
    waves = torch.exp(-0.5 * (order * spread[..., None]) ** 2) * torch.cos(order * mean[..., None])
    return -wrapped_normal_entropy(spread) - (terms * waves).sum(-1)


def projected_normal_log_density(angle: Tensor, length: float) -> Tensor:
    """Logarithm of the density of a projected normal about zero, per rad.

    Examples
    --------
    >>> round(float(projected_normal_log_density(torch.tensor(1.0), 0.0)), 4)
    -1.8379
    """
    t = length * torch.cos(angle)
    # log(1 + t Phi(t) / phi(t)): by the scaled function on the left, by its logarithm on the right
    left = t.clamp(max=0)
    small = torch.log1p(left * math.sqrt(math.pi / 2) * torch.special.erfcx(-left / math.sqrt(2)))
    right = t.clamp(min=0.5)
    log_ratio = torch.log(right) + torch.special.log_ndtr(right) + 0.5 * right**2 + 0.5 * _UNIFORM
    middle = t.clamp(0, 1)
    near = torch.log1p(middle * torch.exp(torch.special.log_ndtr(middle) + 0.5 * middle**2 + 0.5 * _UNIFORM))
    large = torch.nn.functional.softplus(log_ratio)
    return -_UNIFORM - 0.5 * length**2 + torch.where(t < 0, small, torch.where(t < 0.75, near, large))


ANGLE_PRIORS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "von-mises": von_mises_divergence,
    "projected-normal": projected_normal_divergence,
    "normal": lambda mean, spread, _: normal_divergence(mean, spread),
}
"""Divergence of an angle's posterior (mean, spread) from a prior of the given concentration. With
"normal" the angle is not wrapped, as in pyroVED."""
