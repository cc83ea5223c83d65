"""Power spectrum of a micrograph over half the plane, its smooth trend, and the spots of crystals.

The power at one frequency of a disordered object scatters about its mean like an exponential variable.
The largest powers are clipped and left out, or the spots of crystals would pull.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy import fft, ndimage, special
from scipy.interpolate import BSpline

from passband.optics.spectra import sample_tiles
from passband.types import Image, Vector

Trend = Float64[np.ndarray, "b"]
Edges = Float64[np.ndarray, "e"]

SIDE = 1024
"""Longest side of a tile, pixels; larger images give the mean power of several."""
TAPER = 0.25
"""Share of each side over which the window falls to zero at the borders."""
BAND = (0.1, 1.2)
"""Frequencies used, 1/Å: below lie particles' shapes and uneven light, above no lens transfers."""
OF_NYQUIST = 0.9
CLIP = 5.0
"""A power above this many times its mean counts as this many times."""
_PIECE = 0.1375  # 1/Å of the trend: a shorter one would follow the rings themselves
_ITERATIONS = 12


@dataclass(frozen=True, kw_only=True)
class Periodogram:
    """Power at the usable frequencies of half the plane.

    Parameters
    ----------
    power
        In units of the median of all.
    frequency
        Distance from zero, 1/Å.
    azimuth
        Angle from the x towards the y axis, rad.
    where
        Boolean (v, u) on the grid of ``rfft2``: the frequencies that the arrays list, row by row.
    field
        Height and width of a tile, Å.
    looks
        How many independent draws each power stands for; below 1 as the window couples neighbours.
    law
        The same, of the law by which one power scatters: 1 is exponential.
    low, high
        The band, 1/Å.
    spots
        Share of the band's frequencies left out as crystals' spots.
    """

    power: Vector
    frequency: Vector
    azimuth: Vector
    where: Bool[np.ndarray, "v u"]
    field: tuple[float, float]
    looks: float
    law: float
    low: float
    high: float
    spots: float

    @property
    def excess_of_clipping(self) -> float:
        """What clipping takes from the mean of a power of mean 1."""
        n = self.law
        return float(special.gammaincc(n + 1, n * CLIP) - CLIP * special.gammaincc(n, n * CLIP))


def take_periodogram(pixels: Image, pixel_size: float) -> Periodogram:
    """Power spectrum of an image under a window that hides its borders.

    Parameters
    ----------
    pixels
        float32 (y, x), finite and not constant.
    pixel_size
        Å.

    Returns
    -------
    Periodogram
        Without the frequencies on the axes, where seams of a camera lie, and without spots.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    >>> p = take_periodogram(noise, 0.2)
    >>> bool(0.9 < (p.power * np.log(2)).mean() < 1.1)
    True
    """
    tiles = sample_tiles(pixels, SIDE)
    _, height, width = tiles.shape
    window = np.outer(_taper(height), _taper(width))
    square = window**2
    power = np.zeros((height, width // 2 + 1))
    for tile in tiles.astype(np.float64):
        tile = (tile - tile.mean()) / (tile.std() or 1.0)
        spectrum = fft.rfft2((tile - (tile * window).sum() / window.sum()) * window)
        power += spectrum.real**2 + spectrum.imag**2
    law = min(float(len(tiles)), pixels.size / (height * width))  # tiles may overlap
    ky, kx = fft.fftfreq(height, pixel_size)[:, None], fft.rfftfreq(width, pixel_size)[None, :]
    k = np.hypot(ky, kx)
    high = min(BAND[1], OF_NYQUIST * 0.5 / pixel_size)
    low = min(BAND[0], high / 6)
    off_axes = (np.abs(ky) * height * pixel_size > 1.5) & (np.abs(kx) * width * pixel_size > 1.5)
    inside = (k >= low) & (k <= high) & off_axes
    ring = np.rint(k * (min(height, width) * pixel_size)).astype(np.intp)
    expected = np.interp(ring, *_medians(ring, power, law))
    spots = _outliers(power, expected, inside, 4.5, 3)
    spots = ndimage.maximum_filter(spots, 3)
    where = inside & ~spots
    kept = power[where]
    return Periodogram(
        power=kept / (np.median(kept) or 1.0) if kept.size else kept,
        frequency=k[where],
        azimuth=np.arctan2(*np.broadcast_arrays(ky, kx))[where],
        where=where,
        field=(height * pixel_size, width * pixel_size),
        looks=law * float(square.sum() ** 2 / (square.size * (square**2).sum())),
        law=law,
        low=low,
        high=high,
        spots=float(spots[inside].mean()) if inside.any() else 0.0,
    )


def drop_spots(seen: Periodogram, mean: Vector) -> Periodogram:
    """Leave out where power stands above a fit's mean, spots too weak to be seen before it."""
    ratio, expected = (np.zeros(seen.where.shape) for _ in range(2))
    ratio[seen.where], expected[seen.where] = seen.power, mean
    kept = ~_outliers(ratio, expected, seen.where, 1.7, 5)[seen.where]
    fewer = _part(seen, kept)
    return replace(fewer, spots=seen.spots + (1 - seen.spots) * float(1 - kept.mean()))


def below(seen: Periodogram, cut: float) -> Periodogram:
    """The part of a periodogram up to a frequency, 1/Å."""
    return seen if cut >= seen.high else replace(_part(seen, seen.frequency <= cut), high=cut)


def _part(seen: Periodogram, kept: np.ndarray) -> Periodogram:
    where = seen.where.copy()
    where[seen.where] = kept
    of = {name: getattr(seen, name)[kept] for name in ("power", "frequency", "azimuth")}
    return replace(seen, **of, where=where)


def trend_basis(seen: Periodogram, frequency: Vector) -> Float64[np.ndarray, "n b"]:
    """Cubic splines in frequency whose exponential is the smooth trend; finer at low frequency."""
    pieces = max(2, round((seen.high - seen.low) / _PIECE))
    edges = seen.low + (seen.high - seen.low) * np.linspace(0, 1, pieces + 1) ** 1.3
    return splines(frequency, edges, 3)


def fit_trend(seen: Periodogram, basis: Float64[np.ndarray, "n b"]) -> Trend:
    """Coefficients of the smooth trend through all power, rings and noise alike."""
    normal = basis.T @ basis + 1e-3 * np.eye(basis.shape[1])
    start = np.log(np.maximum(seen.power, 1e-3))
    b = np.asarray(np.linalg.solve(normal, basis.T @ start))
    for _ in range(_ITERATIONS):
        step = np.linalg.solve(normal, basis.T @ surplus(seen, np.exp(basis @ b)))
        b = b + step
        if np.abs(step).max() < 1e-3:
            break
    return b


def surplus(seen: Periodogram, mean: Vector) -> Vector:
    """Relative, clipped distance of each power from its mean; on average 0 where the mean is right."""
    return np.asarray(np.minimum(seen.power / mean, CLIP) - 1 + seen.excess_of_clipping)


def log_likelihood(seen: Periodogram, mean: Vector) -> Vector:
    """Logarithm of each power's likelihood, clipped, for one look; up to what the mean does not change."""
    return np.asarray(-(np.log(mean) + np.minimum(seen.power / mean, CLIP)))


def ring_medians(seen: Periodogram, width: float) -> tuple[Vector, Vector]:
    """Centres of rings of a width in 1/Å, and their mean power as told by its median."""
    ring, median = _medians(np.rint(seen.frequency / width).astype(np.intp), seen.power, seen.law)
    return ring * width, median


def splines(x: Vector, edges: Edges, degree: int) -> Float64[np.ndarray, "n b"]:
    """B-splines (n, b) over the pieces between edges, held beyond them; they sum to 1."""
    knots = np.concatenate([np.repeat(edges[0], degree), edges, np.repeat(edges[-1], degree)])
    held = np.clip(x, edges[0], edges[-1])
    return np.asarray(BSpline.design_matrix(held, knots, degree).toarray(), np.float64)


def _taper(length: int) -> Vector:
    """Cosine-tapered window without zeros."""
    x = (np.arange(length) + 0.5) / length
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(1, np.minimum(x, 1 - x) * 2 / TAPER)) ** 2, np.float64)


def _medians(group: np.ndarray, values: np.ndarray, law: float) -> tuple[Vector, Vector]:
    """Groups that hold a value, ascending, and their means told by their medians."""
    order = np.argsort(group, axis=None, kind="stable")
    names, starts = np.unique(group.ravel()[order], return_index=True)
    medians = np.array([np.median(v) for v in np.split(values.ravel()[order], starts[1:])])
    return names.astype(np.float64), medians * law / float(special.gammaincinv(law, 0.5))


def _outliers(power: np.ndarray, mean: np.ndarray, band: np.ndarray, limit: float, size: int) -> np.ndarray:
    """Where the mean ratio over a patch of the band passes the limit, and the patch around it."""
    ratio = np.where(band & (mean > 0), np.minimum(power / np.where(mean > 0, mean, 1), 20), 0)
    # rfft2 holds half a plane: beyond its edge stands, mirrored, what it left out; off the axes that is rare.
    held = ndimage.uniform_filter(band.astype(np.float64), size, mode="wrap")
    high = ndimage.uniform_filter(ratio, size, mode="wrap") > limit * np.maximum(held, 0.2)
    return np.asarray(ndimage.maximum_filter(high, size, mode="wrap"))
