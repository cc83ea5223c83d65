"""The mean over the focal spread as a few coherent images that are added, each with an envelope of its own.

Two beams of squared frequencies a and b interfere by exp(-c (a - b)²), c = (pi wavelength D / 2)², when an
image is averaged over foci. The usual envelope puts exp(-c a²) exp(-c b²) in its place: right where one of
the two is the direct beam, wrong between two scattered ones. Here that function is factorised by Cholesky's
method on a few squared frequencies, its nodes, the first of them zero: what is left out vanishes at every
node and is never negative. One node is the envelope.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from passband.hrtem.wave.scattering import ExitWave
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import Lens
from passband.units import electron_wavelength

LOST = 0.003
"""Largest share of the scattered intensity that the nodes may leave out. On particles the error is at most
3.2 times as much of the image's deviation (`studies/focal_average.py`): 1 %."""
_RINGS = 96
_STEP = 0.25  # of the focal spread that nodes are chosen for, Å


def focal_nodes(conditions: ImagingConditions, wave: ExitWave) -> tuple[float, ...]:
    """Squared frequencies, 1/Å², on which the focal average of an image is exact.

    Parameters
    ----------
    conditions
        Gives focal spread, energy and aperture.
    wave
        Gives how much is scattered where.

    Returns
    -------
    tuple of float
        As many as coherent images are added; (0,) is the envelope. So many that at most 0.003 of the
        scattered intensity is left out.

    Examples
    --------
    >>> from passband.hrtem.wave.scattering import wave_from_array
    >>> fringes = 1 + 0.1j * np.cos(2 * np.pi * 1.25 * 0.2 * np.arange(64)) * np.ones((64, 1))
    >>> wave = wave_from_array(fringes, pixel_size=0.2, energy=300e3)
    >>> focal_nodes(ImagingConditions(energy=300e3, focal_spread=0.0), wave)
    (0.0,)
    >>> len(focal_nodes(ImagingConditions(energy=300e3, focal_spread=10.0), wave))
    2
    """
    spread = math.ceil(conditions.focal_spread / _STEP) * _STEP
    return _chosen(wave, spread, conditions.aperture)


def focal_factors(k2: Tensor, lens: Lens, nodes: Tensor) -> Tensor:
    """What stands in the envelope's place in each of the coherent images.

    Parameters
    ----------
    k2
        Squared frequencies, 1/Å², (u, v).
    lens
        Of tensors (b, 1, 1); gives wavelength and focal spread, whose gradient may be asked for.
    nodes
        (r,) or (b, r), of the lens's type, zero first.

    Returns
    -------
    Tensor
        Real (b, r, u, v). The sum over r of its products at two frequencies is exp(-c (a - b)²) if one of
        the two is a node.

    References
    ----------
    H. Harbrecht, M. Peters and R. Schneider, Appl. Numer. Math. 62 (2012) 428,
    doi:10.1016/j.apnum.2011.10.001: Cholesky factors of few nodes, and the error that their trace tells.

    Examples
    --------
    >>> from passband.optics.transfer import lens_of, temporal_envelope
    >>> lens = lens_of([ImagingConditions(energy=300e3, focal_spread=30.0)], dtype=torch.float64)
    >>> k2 = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    >>> one = focal_factors(k2, lens, torch.zeros(1, dtype=torch.float64))
    >>> torch.allclose(one[:, 0], temporal_envelope(k2, lens))
    True
    """
    c = (0.5 * math.pi * lens.wavelength * lens.focal_spread) ** 2
    columns = torch.exp(-c * (nodes[..., :, None] - k2.reshape(-1)) ** 2)
    if nodes.shape[-1] > 1:
        corner = torch.exp(-c * (nodes[..., :, None] - nodes[..., None, :]) ** 2)
        columns = torch.linalg.solve_triangular(torch.linalg.cholesky(corner), columns, upper=False)
    return columns.reshape(*columns.shape[:-1], *k2.shape)


@lru_cache(maxsize=32)
def _chosen(wave: ExitWave, spread: float, aperture: float) -> tuple[float, ...]:
    """Nodes one by one, each the one that leaves the least of the scattered intensity out."""
    if spread == 0:
        return (0.0,)
    wavelength = electron_wavelength(wave.energy)
    power, highest = _rings(wave)
    place = np.linspace(0, highest, _RINGS)
    power = np.where(place > (aperture / wavelength) ** 2, 0.0, power)
    c = (0.5 * math.pi * wavelength * spread) ** 2
    left = np.exp(-c * (place[:, None] - place) ** 2)
    nodes: list[float] = []
    while not nodes or (power * left.diagonal()).sum() > LOST * power.sum():
        own = left.diagonal()
        gain = np.where(own > 1e-9, (power @ left**2) / np.maximum(own, 1e-9), -1.0)
        best = int(gain.argmax()) if nodes else 0
        nodes.append(float(place[best]))
        left = left - np.outer(left[:, best], left[best]) / own[best]
    return tuple(nodes)


@lru_cache(maxsize=4)
def _rings(wave: ExitWave) -> tuple[np.ndarray, float]:
    """Scattered intensity over squared frequency, from zero to the highest, and the highest."""
    ky, kx = wave.band.frequencies(device=wave.spectrum.device)
    k2 = (ky * ky + kx * kx).flatten()
    highest = float(k2.max())
    power = (wave.spectrum.detach().abs().double() ** 2).flatten()
    power[0] = 0
    ring = (k2 * ((_RINGS - 1) / max(highest, 1e-12))).round().long()
    return torch.bincount(ring, power, _RINGS).cpu().numpy(), highest
