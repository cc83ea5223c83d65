"""The model of Thon rings, fitted by maximum likelihood.

The mean power at a frequency is a smooth trend times ``1 - c + c G (1 - cos 2(chi - w))``. Trend and
contrast c are free but smooth, so that focal spread, illumination, noise, camera and the specimen's
thickness need not be known. G is what drift and vibration along one direction take, w the share of
amplitude contrast as an angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from passband.optics.periodogram import (
    Periodogram,
    Trend,
    below,
    drop_spots,
    fit_trend,
    log_likelihood,
    splines,
    surplus,
    trend_basis,
)
from passband.types import Vector

Contrast = Float64[np.ndarray, "c"]
Lens = Float64[np.ndarray, "7"]
"""C10, C12 cos 2 phi12, C12 sin 2 phi12, C30 (Å); w (rad); cosine and sine part of the envelope (Å²)."""
FOCUS, SPHERICAL, OFFSET, ALONG, ACROSS = 0, 3, 4, 5, 6
_UNIT = np.array([100.0, 100.0, 100.0, 1e6, 0.1, 1.0, 1.0])  # brings the lens on a scale with the rest
OFFSET_SPREAD = 0.07
"""rad; of amplitude contrast about none, before the image is seen: carbon has 0.02 to 0.1."""
_ENVELOPE_SPREAD = 5.0  # Å²; a drift of 2 Å has 13
_CONTRAST_PIECES = 5
_CONTRAST_SPREAD = 0.2  # of its coefficients about 0, before the image is seen: noise shows none
_MOST_CONTRAST = 0.95
_LITTLE = 0.03  # nats, a step that gains less is the last
STEPS = 8


@dataclass(frozen=True, kw_only=True)
class RingModel:
    """Rings fitted to a periodogram.

    Parameters
    ----------
    lens
        float64 (7,), as in `Lens`.
    covariance
        float64 (7, 7) of the lens, from the likelihood's curvature; zero where held.
    trend, contrast
        Coefficients of the smooth trend and of the rings' contrast.
    gain
        Log-likelihood above the trend without rings, in nats of independent draws.
    """

    lens: Lens
    covariance: Float64[np.ndarray, "7 7"]
    trend: Trend
    contrast: Contrast
    gain: float


class Mean(NamedTuple):
    """Mean power at each frequency, and its parts."""

    value: Vector
    rings: Vector
    contrast: Vector
    phase: Vector
    envelope: Vector


@dataclass(frozen=True, kw_only=True)
class RingProblem:
    """A periodogram beside what every trial of a model needs of it.

    Parameters
    ----------
    seen
        The power.
    wavelength
        Å.
    """

    seen: Periodogram
    wavelength: float
    k2: Vector = field(init=False)
    cosine: Vector = field(init=False)
    sine: Vector = field(init=False)
    trend_basis: Float64[np.ndarray, "b n"] = field(init=False)
    contrast_basis: Float64[np.ndarray, "c n"] = field(init=False)
    smooth: Trend = field(init=False)
    nothing: float = field(init=False)

    def __post_init__(self) -> None:
        seen = self.seen
        edges = np.linspace(seen.low, seen.high, _CONTRAST_PIECES + 1)
        basis = trend_basis(seen, seen.frequency)
        smooth = fit_trend(seen, basis)
        for name, value in {
            "k2": seen.frequency**2,
            "cosine": np.cos(2 * seen.azimuth),
            "sine": np.sin(2 * seen.azimuth),
            "trend_basis": np.ascontiguousarray(basis.T),
            "contrast_basis": np.ascontiguousarray(splines(seen.frequency, edges, 2).T),
            "smooth": smooth,
            "nothing": float(log_likelihood(seen, np.exp(basis @ smooth)).sum()),
        }.items():
            object.__setattr__(self, name, value)

    def below(self, cut: float) -> RingProblem:
        """The same of the frequencies up to a cut, 1/Å."""
        return (
            self
            if cut >= self.seen.high
            else RingProblem(seen=below(self.seen, cut), wavelength=self.wavelength)
        )

    def focus(self, lens: Lens) -> Vector:
        """C10 at each frequency's azimuth, Å."""
        return np.asarray(lens[0] + lens[1] * self.cosine + lens[2] * self.sine)

    def phase(self, lens: Lens) -> Vector:
        """2 (chi - w) at each frequency, rad."""
        bent = self.focus(lens) + 0.5 * lens[SPHERICAL] * self.wavelength**2 * self.k2
        return np.asarray(2 * math.pi * self.wavelength * self.k2 * bent - 2 * lens[OFFSET])

    def mean(self, lens: Lens, trend: Trend, contrast: np.ndarray) -> Mean:
        """What a model says of each power."""
        c = np.clip(contrast @ self.contrast_basis, 0, _MOST_CONTRAST)
        phase = self.phase(lens)
        squeezed = self.k2 * (lens[ALONG] * self.cosine + lens[ACROSS] * self.sine)
        envelope = np.exp(-np.clip(squeezed, -2, 20))
        rings = np.maximum(1 - c + c * envelope * (1 - np.cos(phase)), 0.02)
        return Mean(np.exp(trend @ self.trend_basis) * rings, rings, c, phase, envelope)


Fitted = tuple[RingProblem, RingModel]


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a fit begins.

    Parameters
    ----------
    lens
        As in `Lens`.
    cut
        Frequency up to which the rings were seen, 1/Å.
    score
        Standard deviations above what no rings would give.
    """

    lens: Lens
    cut: float
    score: float


def fit_rings(problem: RingProblem, start: Start, *, free_C30: bool = False) -> RingModel:
    """Maximum likelihood from a start, first below its cut and then further and further out.

    Parameters
    ----------
    problem
        Of the whole band; parts of it are made once for each cut.
    start
        Lens to begin from.
    free_C30
        Whether the spherical aberration is fitted, too.
    """
    lens, cut = start.lens, start.cut
    while True:
        part = problem.below(cut)
        model = climb(part, lens, free_C30=free_C30)
        if cut >= problem.seen.high:
            return model
        lens, cut = model.lens, cut * math.sqrt(2)


def refit_without_spots(problem: RingProblem, lens: Lens, *, free_C30: bool = False) -> Fitted:
    """Fit again, and then without the frequencies whose power the rings do not explain."""
    model = climb(problem, lens, free_C30=free_C30)
    mean = problem.mean(model.lens, model.trend, model.contrast)
    fewer = RingProblem(seen=drop_spots(problem.seen, mean.value), wavelength=problem.wavelength)
    return fewer, climb(fewer, model.lens, model.trend, model.contrast, free_C30=free_C30, steps=2 * STEPS)


def climb(
    problem: RingProblem,
    lens: Lens,
    trend: Trend | None = None,
    contrast: np.ndarray | None = None,
    *,
    free_C30: bool = False,
    steps: int = STEPS,
) -> RingModel:
    """Fisher scoring of lens, trend and contrast together, from one place on."""
    trend = problem.smooth if trend is None else trend
    contrast = np.full(len(problem.contrast_basis), 0.3) if contrast is None else contrast
    n, free = len(trend), np.array([True, True, True, free_C30, True, True, True])
    precision = np.zeros(7)
    precision[OFFSET] = (_UNIT[OFFSET] / OFFSET_SPREAD) ** 2
    precision[ALONG:] = (_UNIT[ALONG] / _ENVELOPE_SPREAD) ** 2
    prior = np.concatenate([precision, np.zeros(n), np.full(len(contrast), _CONTRAST_SPREAD**-2)])
    held = np.concatenate([~free, np.zeros(n + len(contrast), bool)])
    centred = np.concatenate(
        [np.isin(np.arange(7), (OFFSET, ALONG, ACROSS)), np.zeros(n, bool), contrast > -9]
    )

    def packed(lens: Lens, trend: Trend, contrast: np.ndarray) -> np.ndarray:
        return np.concatenate([lens / _UNIT, trend, contrast])

    def value(mean: Mean, at: np.ndarray) -> float:
        kept = float((prior * centred * at**2).sum()) / 2
        return float(log_likelihood(problem.seen, mean.value).sum()) - kept

    at, mean = packed(lens, trend, contrast), problem.mean(lens, trend, contrast)
    here, damping = value(mean, at), 1e-3
    for _ in range(steps):
        slopes, rest = _slopes(problem, mean, free)
        curvature = slopes @ slopes.T + np.diag(prior + 1e-6 + held)
        uphill = slopes @ rest - prior * centred * at
        uphill[held] = 0
        rise = -math.inf
        while damping < 1e3:
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), uphill)
            new = at + step
            # A contrast just under zero may come back; one far under it would be stuck.
            new[7 + n :] = np.clip(new[7 + n :], -0.1, 1.0)
            trial = problem.mean(new[:7] * _UNIT, new[7 : 7 + n], new[7 + n :])
            there = value(trial, new)
            rise = there - here
            if rise > -1e-6:
                at, mean, here = new, trial, there
                damping = max(damping / 10, 1e-6)
                break
            damping *= 10
        if rise < _LITTLE:
            break
    slopes, _ = _slopes(problem, mean, free)
    looks = problem.seen.looks
    information = looks * slopes @ slopes.T + np.diag(prior + 1e-6 + held)
    covariance = np.linalg.inv(information)[:7, :7] * np.outer(free, free) * np.outer(_UNIT, _UNIT)
    return RingModel(
        lens=at[:7] * _UNIT,
        covariance=covariance,
        trend=at[7 : 7 + n],
        contrast=at[7 + n :],
        gain=looks * (float(log_likelihood(problem.seen, mean.value).sum()) - problem.nothing),
    )


def by_phase(mean: Mean) -> Vector:
    """Slope of the logarithm of the mean power with the rings' phase."""
    return np.asarray(mean.contrast * mean.envelope * np.sin(mean.phase) / mean.rings)


def _slopes(problem: RingProblem, mean: Mean, free: np.ndarray) -> tuple[Float64[np.ndarray, "p n"], Vector]:
    """Derivatives of the logarithm of the mean power, zero where held, and what is left of the power."""
    k2, cosine, sine = problem.k2, problem.cosine, problem.sine
    of_trend, of_contrast = problem.trend_basis, problem.contrast_basis
    slopes = np.empty((7 + len(of_trend) + len(of_contrast), len(k2)))
    turning = by_phase(mean)
    by_focus = turning * (2 * math.pi * problem.wavelength) * k2
    inside = mean.envelope * (1 - np.cos(mean.phase))
    by_envelope = -mean.contrast * inside / mean.rings * k2
    slopes[FOCUS] = by_focus
    slopes[1] = by_focus * cosine
    slopes[2] = by_focus * sine
    slopes[SPHERICAL] = by_focus * (0.5 * problem.wavelength**2) * k2 if free[SPHERICAL] else 0.0
    slopes[OFFSET] = -2 * turning
    slopes[ALONG] = by_envelope * cosine
    slopes[ACROSS] = by_envelope * sine
    slopes[:7] *= _UNIT[:, None]
    slopes[7 : 7 + len(of_trend)] = of_trend
    np.multiply((inside - 1) / mean.rings, of_contrast, out=slopes[7 + len(of_trend) :])
    return slopes, surplus(problem.seen, mean.value)
