"""Where Thon rings may be: every focus and astigmatism at once, by Fourier transforms in squared frequency.

Power is binned in squared frequency and azimuth. With the phase of a spherical aberration taken out, rings
of any focus are one line of the transform of each sector; the sum over the sectors, each at the focus that
an astigmatism gives it, is the score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import fft

from passband.optics.periodogram import surplus, trend_basis
from passband.optics.ring_model import SPHERICAL, RingModel, RingProblem, Start
from passband.types import Vector

SECTORS = 32
"""Of half a turn, within which the search takes the focus as one."""
CUTS = (0.15, 0.21, 0.3, 0.42, 0.6, 0.85, 1.2)
"""1/Å, the information limits that the search tries."""
MOST_TRIED = 100
"""Values of an unknown spherical aberration; a cut that would need more is left out."""
LEAST_HELD = 50
"""Frequencies below a cut that is searched."""
SAME, SAME_C30 = 20.0, 2e6
"""Å; lenses nearer to each other than this are one."""
_WIDEST = 2.5  # the largest astigmatism of a cut, in units of its resolution in focus
_EACH = 3  # candidates of a cut and sign


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What is sought.

    Parameters
    ----------
    defocus
        Largest |C10|, Å.
    astigmatism
        Largest C12 as a share of |C10|.
    C30
        Spherical aberrations tried, Å: one that is known, or the ends of a range.
    """

    defocus: float
    astigmatism: float
    C30: tuple[float, ...]


def find_starts(problem: RingProblem, reach: Reach, model: RingModel | None = None) -> list[Start]:
    """Foci and astigmatisms at which rings stand out, the most striking first, of either sign.

    Parameters
    ----------
    problem
        Power, and the wavelength.
    reach
        What is sought.
    model
        Rings found already: what they leave is searched.

    Returns
    -------
    list of Start
        Several of each cut and sign, at the top of their peaks.
    """
    seen = problem.seen
    smooth = np.exp(problem.smooth @ problem.trend_basis)
    rest = surplus(
        seen, smooth if model is None else problem.mean(model.lens, model.trend, model.contrast).value
    )
    found = []
    for cut in [c for c in CUTS if seen.low * 1.3 < c < seen.high * 1.3] or [seen.high]:
        for value in _tried(reach.C30, cut, problem.wavelength):
            found += _starts_below(problem, rest, min(cut, seen.high), value, reach)
    return sorted(found, key=lambda s: -s.score)


def different(found: list[Start]) -> list[Start]:
    """Starts of different focus or spherical aberration, the most striking of each."""
    left = found[:300]
    focus, spherical = (np.array([s.lens[i] for s in left]) for i in (0, SPHERICAL))
    kept: list[Start] = []
    new = np.ones(len(left), bool)
    for i, s in enumerate(left):
        if not new[i]:
            continue
        kept.append(s)
        near = np.abs(focus - focus[i]) <= SAME
        # Without spherical aberration a lens and its opposite have one spectrum.
        near |= (spherical == 0) & (np.abs(focus + focus[i]) <= SAME)
        new &= ~(near & (np.abs(spherical - spherical[i]) <= SAME_C30))
    return kept


def _tried(C30: tuple[float, ...], cut: float, wavelength: float) -> Vector:
    """Spherical aberrations whose phases at the cut differ by half of a turn."""
    low, high = min(C30), max(C30)
    if low == high:
        return np.array([low])
    tried = max(2, math.ceil((high - low) * wavelength**3 * cut**4) + 1)
    return np.linspace(low, high, tried) if tried <= MOST_TRIED else np.array([])


def _starts_below(
    problem: RingProblem, rest: np.ndarray, cut: float, spherical: float, reach: Reach
) -> list[Start]:
    seen, wavelength = problem.seen, problem.wavelength
    resolution = 1 / (wavelength * cut**2)  # Å of focus
    # Rings that the tile cannot resolve at half the cut are not this cut's to find.
    most = min(reach.defocus, max(seen.field) / (wavelength * cut))
    widest = _WIDEST * resolution
    n = int(np.clip(2.2 * (most + widest) / resolution, 128, 8192))
    k2, counts, sums = _binned(problem, rest, cut, n)
    size = fft.next_fast_len(4 * n)
    step = n / (size * wavelength * cut**2)
    # Uneven weights, or the sharp end of the band would make side maxima.
    weight = 1 / (1 + (k2 / (0.7 * cut**2)) ** 4)
    held = counts.sum(axis=1)
    if held.sum() < LEAST_HELD:
        return []
    basis = trend_basis(seen, np.sqrt(k2))
    basis = basis[:, (basis[held > 0] > 1e-9).any(axis=0)]
    normal = basis.T @ (basis * held[:, None]) + 1e-3 * np.eye(basis.shape[1])
    azimuth = 2 * (np.arange(SECTORS) + 0.5) * math.pi / SECTORS
    harmonics = np.stack([np.ones(SECTORS), math.sqrt(2) * np.cos(azimuth), math.sqrt(2) * np.sin(azimuth)])
    # A trend that differs with azimuth, as drift makes it, is no ring.
    smooth = basis @ np.linalg.solve(normal, basis.T @ sums @ harmonics.T)
    rest_of = sums - counts * (smooth @ harmonics)
    chirp = weight * np.exp(-1j * math.pi * spherical * wavelength**3 * k2**2)
    shift = np.exp(-1j * math.pi * fft.fftfreq(size))  # the first bin's middle is not at zero
    lines = -(fft.fft(rest_of * chirp[:, None], size, axis=0) * shift[:, None]).real
    spread = _spread(chirp, held, basis, normal, size, shift)
    last = min(int(most / step), size // 2 - 1)
    margin = min(math.ceil(widest / step), size // 2 - 1 - last)
    places = np.arange(-last, last + 1)
    around = np.arange(-last - margin, last + margin + 1) % size
    table = np.ascontiguousarray(lines[around].T, np.float32)
    total = np.full(len(places), -np.inf, np.float32)
    which = np.zeros(len(places), np.intp)
    bends = _astigmatisms(widest, 0.35 * resolution)
    shifts = margin + np.rint(bends @ harmonics[1:] / (math.sqrt(2) * step)).astype(np.intp)
    shifts = np.clip(shifts, 0, 2 * margin)
    share = np.hypot(*bends.T)
    windows = np.lib.stride_tricks.sliding_window_view(table, len(places), axis=1)
    sectors = np.arange(SECTORS)
    for i, row in enumerate(shifts):
        here = windows[sectors, row].sum(axis=0)
        here[np.abs(places) * step * reach.astigmatism < share[i] - resolution / 2] = -np.inf
        better = here > total
        total[better], which[better] = here[better], i
    z = total * math.sqrt(seen.looks) / np.sqrt(spread[places % size])
    found = []
    for side in (places >= 0, places < 0):
        left = np.where(side, z, -np.inf)
        for _ in range(_EACH):
            i = int(left.argmax())
            if not math.isfinite(left[i]):
                break
            lens = np.zeros(7)
            lens[:3] = step * places[i], *bends[which[i]]
            lens[SPHERICAL] = spherical
            found.append(Start(lens=lens, cut=cut, score=float(left[i])))
            left[np.abs(places - places[i]) * step < resolution] = -np.inf
    return found


def _binned(
    problem: RingProblem, rest: np.ndarray, cut: float, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared frequency of each bin; by sector, how many frequencies it holds and their summed surplus."""
    inside = problem.seen.frequency < cut
    bins = (problem.k2[inside] / cut**2 * n).astype(np.intp)
    azimuth = problem.seen.azimuth[inside] % math.pi
    cell = bins * SECTORS + (azimuth / math.pi * SECTORS).astype(np.intp) % SECTORS
    counts, sums = (
        np.bincount(cell, w, minlength=n * SECTORS).reshape(n, SECTORS) for w in (None, rest[inside])
    )
    return (np.arange(n) + 0.5) * cut**2 / n, counts, sums


def _spread(
    chirp: np.ndarray, held: np.ndarray, basis: np.ndarray, normal: np.ndarray, size: int, shift: np.ndarray
) -> np.ndarray:
    """Variance of the score at each focus where there are no rings, what the trend takes left out."""
    plain = (np.abs(chirp) ** 2 * held).sum()
    twice = fft.fft(chirp**2 * held, size)[(2 * np.arange(size)) % size] * shift**2
    taken = (fft.fft(chirp[:, None] * basis * held[:, None], size, axis=0) * shift[:, None]).real
    mimicked = np.einsum("nb,bn->n", taken, np.linalg.solve(normal, taken.T))
    floor = 0.1 * plain
    return np.asarray(np.maximum(0.5 * (plain + twice.real) - mimicked, floor))


def _astigmatisms(most: float, step: float) -> Float64[np.ndarray, "a 2"]:
    """Cosine and sine part of every astigmatism tried, Å."""
    n = int(most / step)
    grid = step * np.arange(-n, n + 1)
    a, b = np.meshgrid(grid, grid)
    inside = np.hypot(a, b) <= most + 1e-9
    return np.stack([a[inside], b[inside]], axis=1)
