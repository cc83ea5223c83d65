"""Statistics of an image's texture: ring spectrum, noise, moments, gradients.

All take a stack of tiles, shape (t, y, x), and are defined for constant tiles and for tiles of one
pixel. Those that take a *standardised* stack do not change with the gain and offset of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32
from scipy import fft

from passband.errors import ParameterError
from passband.types import Image, Vector

# Not "t y x": a tile is smaller than the image (y, x) it is cut from.
Tiles = Float32[np.ndarray, "t v u"]

TILE = 256
OCTAVES = (128, 64, 32, 16, 8, 4)
"""Octave ``k`` of the spectrum runs from 1/k to 2/k cycles/pixel; the last ends at Nyquist."""

# The 3 x 3 kernel that is blind to any quadratic surface multiplies white noise by 6; the median of
# |x| of a Gaussian is 0.6745 of its standard deviation.
_LAPLACIAN_GAIN = 6 * 0.67448975


@dataclass(frozen=True, kw_only=True)
class RingSpectrum:
    """Power of an image averaged over rings of equal spatial frequency.

    Parameters
    ----------
    frequency
        Centre of each ring in cycles/pixel, ascending, zero left out; may be empty.
    density
        Mean power in each ring, the sum over all frequencies being 1; all zero for a constant image.
    weight
        How many frequencies of the full plane each ring holds.
    """

    frequency: Vector
    density: Vector
    weight: Vector


def sample_tiles(pixels: Image, size: int = TILE, per_axis: int = 3) -> Tiles:
    """Tiles spread evenly over an image: the whole of a small one, a sample of a large one.

    Parameters
    ----------
    pixels
        float32 (y, x), at least 1 x 1.
    size
        Side of a tile in pixels; an image that is smaller gives tiles as long as itself.
    per_axis
        At most this many tiles along each axis.

    Returns
    -------
    Tiles
        float32 (t, y, x), t at most ``per_axis`` squared. They overlap where the side of the image is
        no multiple of the tile's.

    Raises
    ------
    ParameterError
        If the image is not two-dimensional or has no pixels.

    Examples
    --------
    >>> import numpy as np
    >>> sample_tiles(np.zeros((512, 700), np.float32)).shape
    (6, 256, 256)
    """
    if pixels.ndim != 2 or pixels.size == 0:
        raise ParameterError(f"tiles are cut from a non-empty (y, x) image, got shape {pixels.shape}")
    starts = []
    for length in pixels.shape:
        side = min(size, length)
        n = min(per_axis, math.ceil(length / side))
        starts.append([round(s) for s in np.linspace(0, length - side, n)])
    height, width = (min(size, length) for length in pixels.shape)
    cut = [pixels[y : y + height, x : x + width] for y in starts[0] for x in starts[1]]
    return np.ascontiguousarray(np.stack(cut), np.float32)


def standardise(tiles: Tiles) -> Tiles:
    """Mean 0 and standard deviation 1 over the whole stack; all zero if it is constant.

    Parameters
    ----------
    tiles
        float32 (t, y, x) in any unit.

    Returns
    -------
    Tiles
        float32 (t, y, x), without unit.

    Examples
    --------
    >>> import numpy as np
    >>> standardise(np.array([[[1.0, 3.0]]], np.float32)).tolist()
    [[[-1.0, 1.0]]]
    """
    # Not by the standard deviation, which rounding lifts above zero.
    if tiles.min() == tiles.max():
        return np.zeros_like(tiles)
    # In float32 the squares of extreme values would overflow or vanish.
    z = tiles.astype(np.float64)
    z -= z.mean()
    z /= math.sqrt(float(np.vdot(z, z)) / z.size)
    return z.astype(np.float32)


def ring_spectrum(tiles: Tiles) -> RingSpectrum:
    """Rotational average of the power spectrum, mean over tiles, under a Hann window.

    Parameters
    ----------
    tiles
        Standardised stack, float32 (t, y, x).

    Returns
    -------
    RingSpectrum
        Rings one frequency step of the longer side wide, up to Nyquist (0.5 cycles/pixel).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(64)
    >>> wave = np.tile(np.sin(2 * np.pi * x / 8), (64, 1))[None].astype(np.float32)
    >>> ring = ring_spectrum(wave)
    >>> float(ring.frequency[ring.density.argmax()])
    0.125
    """
    _, height, width = tiles.shape
    window = np.outer(_hann(height), _hann(width)).astype(np.float32)
    # The mean that the window sees is taken off, or it would leak into the lowest rings.
    level = np.einsum("tyx,yx->t", tiles, window) / window.sum()
    spectrum = fft.rfft2((tiles - level[:, None, None].astype(np.float32)) * window)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0, dtype=np.float64)
    ring, twice, weight = _rings(height, width)
    side = max(height, width)
    length = side // 2 + 1
    total = np.bincount(ring.ravel(), (power * twice).ravel(), minlength=length)[1:length]
    held = weight > 0
    frequency = (np.arange(1, length) / side)[held]
    # An image of one pixel has no ring, and numpy counts nothing in integers.
    weight, total = weight[held].astype(np.float64), total[held].astype(np.float64)
    whole = total.sum()
    density = total / weight / whole if whole > 0 else np.zeros_like(total)
    return RingSpectrum(frequency=frequency, density=density, weight=weight)


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ring of each frequency that rfft2 gives, how many it stands for, and how many each ring has."""
    ring = np.rint(
        np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None, :]) * max(height, width)
    ).astype(np.intp)
    # rfft2 stores half a plane: the columns between the edges stand for two.
    twice = np.full(ring.shape, 2.0)
    twice[:, 0] = 1.0
    if width % 2 == 0:
        twice[:, -1] = 1.0
    length = max(height, width) // 2 + 1
    weight = np.bincount(ring.ravel(), twice.ravel(), minlength=length)[1:length]
    return ring, twice, weight


def octave_shares(ring: RingSpectrum) -> tuple[float, ...]:
    """Share of the power in each octave of `OCTAVES`; what is slower than 1/128 belongs to the first.

    Returns
    -------
    tuple of float
        One share for each octave, from slow to fast, summing to 1; all 0 for a constant image.

    Examples
    --------
    >>> import numpy as np
    >>> white = np.random.default_rng(0).normal(size=(1, 256, 256)).astype(np.float32)
    >>> [round(s, 1) for s in octave_shares(ring_spectrum(white))]
    [0.0, 0.0, 0.0, 0.0, 0.2, 0.8]
    """
    power = ring.density * ring.weight
    edges = np.array([1 / k for k in OCTAVES])
    octave = np.clip(np.searchsorted(edges, ring.frequency * (1 + 1e-9), side="right") - 1, 0, None)
    return tuple(float(p) for p in np.bincount(octave, power, minlength=len(OCTAVES)))


def spectral_slope(ring: RingSpectrum) -> float:
    """Exponent of the power law through the ring spectrum, d ln(density) / d ln(frequency).

    Returns
    -------
    float
        0 for white noise, near -2 for edges, 0 where fewer than two octaves hold power. Each octave
        weighs the same, or the many fast rings would decide alone.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.arange(1, 129) / 256
    >>> round(spectral_slope(RingSpectrum(frequency=f, density=f**-3.0, weight=f)), 2)
    -3.0
    """
    lit = ring.density > 0
    if not lit.any():
        return 0.0
    x, y = np.log(ring.frequency[lit]), np.log(ring.density[lit])
    octave = np.floor(x / math.log(2)).astype(np.intp)
    octave -= octave.min()
    count = np.bincount(octave)
    held = count > 0
    x, y = (np.bincount(octave, v)[held] / count[held] for v in (x, y))
    if len(x) < 2:
        return 0.0
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def noise_level(tiles: Tiles) -> float:
    """White noise's standard deviation, from the median response to a Laplacian.

    Parameters
    ----------
    tiles
        Standardised stack, float32 (t, y, x).

    Returns
    -------
    float
        In units of the image's standard deviation: 1 for white noise alone, 0 for a smooth surface
        and for tiles under 3 x 3 pixels.

    References
    ----------
    J. Immerkær, Comput. Vis. Image Underst. 64 (1996) 300, doi:10.1006/cviu.1996.0060; the median
    instead of the mean keeps edges out.

    Examples
    --------
    >>> import numpy as np
    >>> noise_level(np.arange(25.0, dtype=np.float32).reshape(1, 5, 5))
    0.0
    """
    if min(tiles.shape[1:]) < 3:
        return 0.0
    rows = tiles[:, :-2] - 2 * tiles[:, 1:-1] + tiles[:, 2:]
    response = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return _median(np.abs(response)) / _LAPLACIAN_GAIN


def _median(values: np.ndarray) -> float:
    """Of finite values; by one place of a partition, ten times as fast as by the two that numpy asks for."""
    middle = values.size // 2
    parted = np.partition(values, middle, axis=None)
    above = parted[middle]
    return float(above if values.size % 2 else (parted[:middle].max() + above) / 2)


def shape_moments(tiles: Tiles) -> tuple[float, float]:
    """Skewness and excess kurtosis of the grey values.

    Parameters
    ----------
    tiles
        Standardised stack, float32 (t, y, x).

    Returns
    -------
    tuple of float
        Skewness and excess kurtosis; both 0 for a Gaussian and for a constant image.

    Examples
    --------
    >>> import numpy as np
    >>> shape_moments(np.array([[[-1.0, 1.0]]], np.float32))
    (0.0, -2.0)
    """
    if not tiles.any():
        return 0.0, 0.0
    square = tiles * tiles
    skewness = (square * tiles).mean(dtype=np.float64)
    return float(skewness), float((square * square).mean(dtype=np.float64)) - 3.0


def saturation(tiles: Tiles) -> float:
    """Share of the pixels that hold the smallest or the largest value.

    Parameters
    ----------
    tiles
        Stack as read, float32 (t, y, x).

    Returns
    -------
    float
        1 for a constant or a two-valued image, near 0 for an image that uses its range.

    Examples
    --------
    >>> import numpy as np
    >>> saturation(np.array([[[0.0, 0.0, 1.0, 2.0]]], np.float32))
    0.75
    """
    extreme = (tiles == tiles.min()) | (tiles == tiles.max())
    return float(extreme.mean())


def gradient_anisotropy(tiles: Tiles) -> float:
    """How far the gradients share one direction, from the eigenvalues of their mean tensor.

    Parameters
    ----------
    tiles
        Standardised stack, float32 (t, y, x).

    Returns
    -------
    float
        (l1 - l2) / (l1 + l2): 0 for an isotropic or constant image, 1 for parallel stripes.

    References
    ----------
    J. Bigun, G. H. Granlund, Proc. 1st ICCV (1987) 433.

    Examples
    --------
    >>> import numpy as np
    >>> gradient_anisotropy(np.tile(np.arange(8.0, dtype=np.float32), (1, 8, 1)))
    1.0
    """
    if min(tiles.shape[1:]) < 2:
        return 0.0
    # Differences along both diagonals' means lie on one common grid.
    gx = (tiles[:, 1:, 1:] - tiles[:, 1:, :-1] + tiles[:, :-1, 1:] - tiles[:, :-1, :-1]) / 2
    gy = (tiles[:, 1:, 1:] - tiles[:, :-1, 1:] + tiles[:, 1:, :-1] - tiles[:, :-1, :-1]) / 2
    xx, yy, xy = (float(np.vdot(a, b)) for a, b in ((gx, gx), (gy, gy), (gx, gy)))
    return min(1.0, math.hypot(xx - yy, 2 * xy) / (xx + yy)) if xx + yy > 0 else 0.0


def unevenness(tiles: Tiles, block: int = 64) -> float:
    """Share of the variance that lies between blocks: illumination, thickness, bend contours.

    Parameters
    ----------
    tiles
        Standardised stack, float32 (t, y, x).
    block
        Side of a block in pixels; a side of the tile that is shorter makes one block.

    Returns
    -------
    float
        Between 0 (every block has the same mean; constant image) and 1.

    Examples
    --------
    >>> import numpy as np
    >>> halves = np.repeat(np.array([[[-1.0, 1.0]]], np.float32), 64, axis=1).repeat(64, axis=2)
    >>> unevenness(halves)
    1.0
    """
    _, height, width = tiles.shape
    rows, columns = (max(1, side // block) for side in (height, width))
    down, across = (-(-np.arange(n) * side // n) for n, side in ((rows, height), (columns, width)))
    sums = np.add.reduceat(np.add.reduceat(tiles, down, axis=1, dtype=np.float64), across, axis=2)
    size = np.outer(np.diff(down, append=height), np.diff(across, append=width))
    means = sums / size
    grand = float((means * size).sum() / (len(tiles) * size.sum()))
    between = float(((means - grand) ** 2 * size).sum() / (len(tiles) * size.sum()))
    return min(1.0, between)


def _hann(length: int) -> Vector:
    """Hann window without its zeros, so that a side of one or two pixels keeps its weight."""
    return np.asarray(np.sin(math.pi * (np.arange(length) + 0.5) / length) ** 2, np.float64)
