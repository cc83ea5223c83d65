"""Fitting Thon rings: periodogram, search over focus and astigmatism, maximum likelihood.

The power at one frequency of a disordered object scatters about its mean like an exponential variable.
The mean is a smooth trend times ``1 - c(k) cos 2chi(k)``; trend and contrast c are free but smooth, so
that focal spread, illumination, noise, camera and the specimen's thickness need not be known. The
largest powers are clipped and left out, or the spots of crystals would pull.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy import fft, ndimage, special
from scipy.interpolate import BSpline

from passband.optics.spectra import sample_tiles
from passband.types import Image, Vector

Focus = Float64[np.ndarray, "3"]
Trend = Float64[np.ndarray, "b"]
Contrast = Float64[np.ndarray, "c"]
Edges = Float64[np.ndarray, "e"]

SIDE = 1024
"""Longest side of a tile, pixels; larger images give the mean power of several."""
TAPER = 0.25
"""Share of each side over which the window falls to zero at the borders."""
LOWEST, HIGHEST = 0.1, 1.2
"""Frequencies used, 1/Å: below lie particles' shapes and uneven light, above no lens transfers."""
OF_NYQUIST = 0.9
CLIP = 5.0
"""A power above this many times its mean counts as this many times."""
_PIECE = 0.1375  # 1/Å of the trend: a shorter one would follow the rings themselves
_ITERATIONS = 12
SECTORS = 16
"""Of half a turn, within which the search takes the focus as one."""
_CUTS = (0.35, 0.5, 0.7, 1.0)  # 1/Å, the information limits that the search tries
_ASTIGMATISM_STEP = 15.0
_ANGLES = 12
APART = 60.0
"""Å between two answers that count as different."""
_CONTRAST_PIECES = 5
_SPREAD = 0.2  # of the contrast's coefficients about 0, before the image is seen: noise shows none
_MOST_CONTRAST = 0.95
_ROUGH, _FINE = 6, 15  # steps of a candidate's fit, and of the best one's last
_LITTLE = 0.01  # nats, a step that gains less is the last
_UNIT = 100.0  # Å; brings the lens on a scale with the other parameters


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
    high = min(HIGHEST, OF_NYQUIST * 0.5 / pixel_size)
    low = min(LOWEST, high / 6)
    off_axes = (np.abs(ky) * height * pixel_size > 1.5) & (np.abs(kx) * width * pixel_size > 1.5)
    band = (k >= low) & (k <= high) & off_axes
    ring = np.rint(k * (min(height, width) * pixel_size)).astype(np.intp)
    expected = np.interp(ring, *_medians(ring, power, law))
    spots = _outliers(power, expected, band, 4.5, 3)
    spots = ndimage.maximum_filter(spots, 3)
    where = band & ~spots
    kept = power[where]
    return Periodogram(
        power=kept / (np.median(kept) or 1.0) if kept.size else kept,
        frequency=k[where],
        azimuth=np.arctan2(*np.broadcast_arrays(ky, kx))[where],
        where=where,
        looks=law * float(square.sum() ** 2 / (square.size * (square**2).sum())),
        law=law,
        low=low,
        high=high,
        spots=float(spots[band].mean()) if band.any() else 0.0,
    )


def drop_spots(seen: Periodogram, mean: Vector) -> Periodogram:
    """Leave out where power stands above a fit's mean, spots too weak to be seen before it."""
    ratio, expected = (np.zeros(seen.where.shape) for _ in range(2))
    ratio[seen.where], expected[seen.where] = seen.power, mean
    kept = ~_outliers(ratio, expected, seen.where, 1.7, 5)[seen.where]
    where = seen.where.copy()
    where[seen.where] = kept
    return replace(
        seen,
        power=seen.power[kept],
        frequency=seen.frequency[kept],
        azimuth=seen.azimuth[kept],
        where=where,
        spots=seen.spots + (1 - seen.spots) * float(1 - kept.mean()),
    )


def trend_basis(seen: Periodogram, frequency: Vector) -> Float64[np.ndarray, "n b"]:
    """Cubic splines in frequency whose exponential is the smooth trend; finer at low frequency."""
    pieces = max(3, round((seen.high - seen.low) / _PIECE))
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


@dataclass(frozen=True, kw_only=True)
class RingSearch:
    """What is known of the lens and where its focus is sought.

    Parameters
    ----------
    wavelength
        Å.
    C30
        Å.
    most_defocus, most_astigmatism
        Largest |C10| and C12, Å.
    """

    wavelength: float
    C30: float
    most_defocus: float
    most_astigmatism: float

    def cycles(self, k2: np.ndarray, focus: np.ndarray | float) -> np.ndarray:
        """2 chi over 2 pi at squared frequencies, for a defocus coefficient in Å."""
        return np.asarray(self.wavelength * k2 * (focus + 0.5 * self.C30 * self.wavelength**2 * k2))


@dataclass(frozen=True, kw_only=True)
class RingModel:
    """Rings fitted to a periodogram.

    Parameters
    ----------
    lens
        float64 (3,): C10, C12 cos 2 phi12, C12 sin 2 phi12, Å.
    covariance
        float64 (3, 3) of the lens, Å², from the likelihood's curvature.
    trend, contrast
        Coefficients of the smooth trend and of the rings' contrast.
    gain
        Log-likelihood above the trend without rings, in nats of independent draws.
    """

    lens: Focus
    covariance: Float64[np.ndarray, "3 3"]
    trend: Trend
    contrast: Contrast
    gain: float


class Mean(NamedTuple):
    """Mean power at each frequency: a trend times rings about 1, of a contrast and a phase."""

    smooth: Vector
    rings: Vector
    contrast: Vector
    phase: Vector
    cosine: Vector


class RingProblem:
    """A periodogram beside what every trial of a model needs of it."""

    def __init__(self, seen: Periodogram, search: RingSearch) -> None:
        self.seen, self.search = seen, search
        self.k2 = seen.frequency**2
        self.cosine, self.sine = np.cos(2 * seen.azimuth), np.sin(2 * seen.azimuth)
        self.trend_basis = trend_basis(seen, seen.frequency)
        self.contrast_basis = contrast_basis(seen, seen.frequency)
        self.smooth = fit_trend(seen, self.trend_basis)
        self.nothing = float(log_likelihood(seen, np.exp(self.trend_basis @ self.smooth)).sum())

    def phase(self, lens: Focus) -> Vector:
        """2 chi at each frequency, rad."""
        focus = lens[0] + lens[1] * self.cosine + lens[2] * self.sine
        return 2 * math.pi * self.search.cycles(self.k2, focus)

    def mean(self, lens: Focus, trend: Trend, contrast: Contrast) -> Mean:
        """What a model says of each power."""
        c, phase = np.clip(self.contrast_basis @ contrast, 0, _MOST_CONTRAST), self.phase(lens)
        cosine = np.cos(phase)
        return Mean(np.exp(self.trend_basis @ trend), 1 - c * cosine, c, phase, cosine)

    def parts(self, lens: Focus, trend: Trend, contrast: Contrast) -> tuple[Vector, Vector]:
        """The smooth trend, and the rings about 1."""
        smooth, rings, *_ = self.mean(lens, trend, contrast)
        return smooth, rings


def contrast_basis(seen: Periodogram, frequency: Vector) -> Float64[np.ndarray, "n c"]:
    """Quadratic splines in frequency for the rings' contrast."""
    return splines(frequency, np.linspace(seen.low, seen.high, _CONTRAST_PIECES + 1), 2)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Rings found by the search.

    Parameters
    ----------
    score
        Standard deviations above what no rings would give.
    lens
        As in `RingModel`, on the search's grid.
    cut
        Frequency up to which they stand out best, 1/Å.
    """

    score: float
    lens: Focus
    cut: float


def find_candidates(problem: RingProblem) -> list[Candidate]:
    """Foci and astigmatisms at which rings stand out, the most striking first, of either sign.

    Power is binned in squared frequency and azimuth. In each sector it is correlated with the cosine
    of every focus, less what the smooth trend could mimic; the sum over the sectors, each at the focus
    that an astigmatism gives it, is the score.
    """
    seen, search = problem.seen, problem.search
    k2, (counts, rest) = _binned(problem)
    step = 0.16 / (search.wavelength * min(seen.high, 1.0) ** 2)
    margin, last = math.ceil(search.most_astigmatism / step), math.ceil(search.most_defocus / step)
    # With C30 = 0 the two signs of focus give one spectrum.
    places = np.arange(-last if search.C30 else 0, last + 1)
    focus = step * np.arange(places[0] - margin, last + margin + 1)
    cosines = np.cos(2 * math.pi * search.cycles(k2, focus[:, None])).astype(np.float32)
    astigmatisms = _astigmatisms(search.most_astigmatism)
    azimuth = (np.arange(SECTORS) + 0.5) * math.pi / SECTORS
    along = astigmatisms @ np.stack([np.cos(2 * azimuth), np.sin(2 * azimuth)])
    shifts = margin + np.rint(along / step).astype(np.intp)
    basis = trend_basis(seen, np.sqrt(k2)).astype(np.float32)
    found = []
    for cut in [c for c in _CUTS if c < seen.high] or [seen.high]:
        # Uneven weights, or the sharp end of the band would make side maxima.
        weight = np.where(k2 < cut**2, 1 / (1 + (k2 / (0.7 * cut**2)) ** 4), 0).astype(np.float32)
        inside = basis * (counts.sum(axis=1) * (weight > 0)).astype(np.float32)[:, None]
        normal = basis.T @ inside + 1e-3 * np.eye(basis.shape[1], dtype=np.float32)
        filters = cosines * weight
        filters -= (filters @ inside) @ np.linalg.solve(normal, basis.T) * (weight > 0)
        scores, variances = -(filters @ rest), filters**2 @ counts
        total, spread = (np.zeros((len(shifts), len(places)), np.float32) for _ in range(2))
        for s in range(SECTORS):
            at = shifts[:, s : s + 1] + np.arange(len(places))
            total += scores[at, s]
            spread += variances[at, s]
        z = total * math.sqrt(seen.looks) / np.sqrt(np.maximum(spread, 1e-6))
        best = z.max(axis=0)
        for side in (places >= 0, places < 0) if search.C30 else (places >= 0,):
            left = np.where(side, best, -np.inf)
            for _ in range(2):
                i = int(left.argmax())
                if left[i] == -np.inf:
                    break
                lens = np.array([step * places[i], *astigmatisms[z[:, i].argmax()]])
                found.append(Candidate(score=float(left[i]), lens=lens, cut=cut))
                left[np.abs(places - places[i]) * step < APART] = -np.inf
    return sorted(found, key=lambda c: -c.score)


def fit_rings(problem: RingProblem, start: Candidate) -> RingModel:
    """Maximum likelihood from a candidate on: lens, trend and contrast together, by Fisher scoring."""
    seen = problem.seen
    knots = np.linspace(seen.low, seen.high, problem.contrast_basis.shape[1])
    return _climb(problem, start.lens, problem.smooth, np.where(knots < start.cut, 0.4, 0.05), _ROUGH)


def refit_without_spots(problem: RingProblem, model: RingModel) -> tuple[RingProblem, RingModel]:
    """Fit again without the frequencies whose power the rings do not explain."""
    trend, rings = problem.parts(model.lens, model.trend, model.contrast)
    fewer = RingProblem(drop_spots(problem.seen, trend * rings), problem.search)
    return fewer, _climb(fewer, model.lens, model.trend, model.contrast, _FINE)


def _climb(problem: RingProblem, lens: Focus, trend: Trend, contrast: Contrast, steps: int) -> RingModel:
    n = len(trend)
    prior = np.concatenate([np.zeros(3 + n), np.full(len(contrast), _SPREAD**-2)])
    damping = 1e-3

    def value(mean: Mean, contrast: Contrast) -> float:
        kept = float(((contrast / _SPREAD) ** 2).sum()) / 2
        return float(log_likelihood(problem.seen, mean.smooth * mean.rings).sum()) - kept

    mean = problem.mean(lens, trend, contrast)
    here = value(mean, contrast)
    for _ in range(steps):
        slopes, rest = _slopes(problem, mean)
        curvature = slopes.T @ slopes + np.diag(prior + 1e-6)
        uphill = slopes.T @ rest - prior * np.concatenate([np.zeros(3 + n), contrast])
        rise = -math.inf
        while damping < 1e3:
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), uphill)
            # A contrast just under zero may come back; one far under it would be stuck.
            new = (
                lens + _UNIT * step[:3],
                trend + step[3 : 3 + n],
                np.clip(contrast + step[3 + n :], -0.1, 1.0),
            )
            trial = problem.mean(*new)
            there = value(trial, new[2])
            rise = there - here
            if rise > -1e-6:
                (lens, trend, contrast), mean, here = new, trial, there
                damping = max(damping / 10, 1e-6)
                break
            damping *= 10
        if rise < _LITTLE:
            break
    slopes, _ = _slopes(problem, mean)
    covariance = np.linalg.inv(slopes.T @ slopes + np.diag(prior + 1e-6))[:3, :3]
    looks = problem.seen.looks
    return RingModel(
        lens=lens,
        covariance=covariance * _UNIT**2 / looks,
        trend=trend,
        contrast=contrast,
        gain=looks * (float(log_likelihood(problem.seen, mean.smooth * mean.rings).sum()) - problem.nothing),
    )


def _slopes(problem: RingProblem, mean: Mean) -> tuple[Float64[np.ndarray, "n p"], Vector]:
    """Derivatives of the logarithm of the mean power, and what is left of the power."""
    smooth, rings, c, phase, cosine = mean
    by_focus = c * np.sin(phase) / rings * (2 * math.pi * problem.search.wavelength * _UNIT) * problem.k2
    slopes = np.concatenate(
        [
            np.stack([by_focus, by_focus * problem.cosine, by_focus * problem.sine], axis=1),
            problem.trend_basis,
            -(cosine / rings)[:, None] * problem.contrast_basis,
        ],
        axis=1,
    )
    return slopes, surplus(problem.seen, smooth * rings)


def _binned(problem: RingProblem) -> tuple[Vector, np.ndarray]:
    """Squared frequency of each bin; by sector, how many frequencies it holds and their summed surplus."""
    seen, search = problem.seen, problem.search
    span = seen.high**2
    fastest = search.cycles(np.array(span), search.most_defocus + search.most_astigmatism)
    n = int(np.clip(6 * abs(fastest), 200, 1500))
    bins = np.minimum((problem.k2 / span * n).astype(np.intp), n - 1)
    sector = ((seen.azimuth % math.pi) / math.pi * SECTORS).astype(np.intp) % SECTORS
    rest = surplus(seen, np.exp(problem.trend_basis @ problem.smooth))
    cell = bins * SECTORS + sector
    sums = [np.bincount(cell, w, minlength=n * SECTORS).reshape(n, SECTORS) for w in (None, rest)]
    held = sums[0].any(axis=1)
    k2 = (np.arange(n) + 0.5) * span / n
    return k2[held], np.stack(sums)[:, held].astype(np.float32)


def _astigmatisms(most: float) -> Float64[np.ndarray, "a 2"]:
    """Cosine and sine part of every astigmatism tried, Å."""
    size = np.arange(_ASTIGMATISM_STEP, most + 1e-9, _ASTIGMATISM_STEP)
    angle = 2 * math.pi * np.arange(_ANGLES) / _ANGLES
    polar = (size[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)).reshape(-1, 2)
    return np.concatenate([np.zeros((1, 2)), polar])


def _taper(length: int) -> Vector:
    """Cosine-tapered window without zeros."""
    x = (np.arange(length) + 0.5) / length
    return np.asarray(
        np.sin(0.5 * math.pi * np.minimum(1, np.minimum(x, 1 - x) * 2 / TAPER)) ** 2, np.float64
    )


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
