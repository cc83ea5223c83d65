"""What estimates are good for: telling good answers from bad ones, choosing which to keep, being believed.

Every function takes estimates beside the scores that were measured: arrays of equal length, which is
checked always and not by annotation in the tests only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from passband.errors import ParameterError
from passband.types import Vector

_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Classified:
    """How well "the score is at least a threshold" is told from the estimate.

    Parameters
    ----------
    threshold
        Of the score, the same for the estimate.
    share
        Of the measured scores that are at least the threshold: the precision, recall and F1 of guessing
        at random with this share.
    precision, recall, f1
        Of saying so where the estimate is at least the threshold; NaN for 0/0.
    accuracy, chance_accuracy
        Share of right answers, and that of guessing at random.
    """

    threshold: float
    share: float
    precision: float
    recall: float
    f1: float
    accuracy: float
    chance_accuracy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Points of a line in a figure, float64 (k,) each."""

    x: Vector
    y: Vector


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityBins:
    """What was measured where some score was estimated; bins without a row are left out.

    Parameters
    ----------
    estimate, measured
        Means in each bin, float64 (k,).
    low, high
        Ends of a 95 % bootstrap interval of the measured mean; NaN in a bin of one row.
    n
        Rows in each bin, int64 (k,).
    error
        Mean over rows of |mean estimated - mean measured| of their bins.
    """

    estimate: Vector
    measured: Vector
    low: Vector
    high: Vector
    n: Int64[np.ndarray, " k"]
    error: float


def classify(estimate: np.ndarray, measured: np.ndarray, threshold: float) -> Classified:
    """Tell scores of at least a threshold from their estimates.

    Parameters
    ----------
    estimate, measured
        float64 (n,), at least one row, finite.
    threshold
        Scores of at least this are called good.

    Returns
    -------
    Classified
        Its measures.

    Raises
    ------
    ParameterError
        If the arrays differ in length, are empty or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> told = classify(np.array([0.9, 0.6, 0.4, 0.2]), np.array([0.8, 0.3, 0.7, 0.1]), 0.5)
    >>> told.precision, told.recall, told.accuracy, told.share
    (0.5, 0.5, 0.5, 0.5)
    """
    _check(estimate, measured)
    said, good = estimate >= threshold, measured >= threshold
    right, share = float((said & good).sum()), float(good.mean())
    return Classified(
        threshold=threshold,
        share=share,
        precision=_ratio(right, float(said.sum())),
        recall=_ratio(right, float(good.sum())),
        f1=_ratio(2 * right, float(said.sum() + good.sum())),
        accuracy=float((said == good).mean()),
        chance_accuracy=share**2 + (1 - share) ** 2,
    )


def precision_recall(estimate: np.ndarray, measured: np.ndarray, threshold: float) -> Curve:
    """Precision against recall of calling a score good, over all thresholds of the estimate.

    Parameters
    ----------
    estimate, measured
        float64 (n,), at least one row, finite.
    threshold
        Measured scores of at least this are good.

    Returns
    -------
    Curve
        x is recall, rising, y precision: a point for each value of the estimate, the largest first. Empty
        where no score is good.

    Raises
    ------
    ParameterError
        If the arrays differ in length, are empty or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> curve = precision_recall(np.array([0.9, 0.6, 0.4]), np.array([0.8, 0.3, 0.7]), 0.5)
    >>> curve.x.tolist(), curve.y.round(3).tolist()
    ([0.5, 0.5, 1.0], [1.0, 0.5, 0.667])
    """
    _check(estimate, measured)
    order = np.argsort(-estimate, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(estimate[order])), len(order) - 1)
    good = np.cumsum(measured[order] >= threshold)
    if good[-1] == 0:
        return Curve(x=np.zeros(0), y=np.zeros(0))
    return Curve(x=good[ends] / good[-1], y=good[ends] / (ends + 1.0))


def confusion(estimate: np.ndarray, measured: np.ndarray, edges: np.ndarray) -> Int64[np.ndarray, "k k"]:
    """How many rows were measured in one bin and estimated in another.

    Parameters
    ----------
    estimate, measured
        float64 (n,), at least one row, finite.
    edges
        Of the bins, rising, float64 (k + 1,); what lies outside counts with the nearest bin.

    Returns
    -------
    ndarray
        int64 (k, k): a line for each measured bin, a column for each estimated one.

    Raises
    ------
    ParameterError
        If the arrays differ in length, are empty or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> edges = np.array([0, 0.5, 1])
    >>> confusion(np.array([0.2, 0.7, 0.9]), np.array([0.1, 0.4, 1.0]), edges).tolist()
    [[1, 1], [0, 1]]
    """
    _check(estimate, measured)
    k = len(edges) - 1
    at = [np.clip(np.searchsorted(edges, v, side="right") - 1, 0, k - 1) for v in (measured, estimate)]
    return np.bincount(at[0] * k + at[1], minlength=k * k).reshape(k, k).astype(np.int64)


def kept_means(doubt: np.ndarray, cost: np.ndarray) -> Curve:
    """Mean of what is kept when the most doubtful rows are dropped first.

    Parameters
    ----------
    doubt
        The larger, the sooner a row is dropped; rows of equal doubt are dropped together.
    cost
        What is averaged: an absolute error, or a measured score.

    Returns
    -------
    Curve
        x is the share of rows kept, rising to 1, y the mean of their cost.

    Raises
    ------
    ParameterError
        If the arrays differ in length, are empty or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> curve = kept_means(np.array([3.0, 1.0, 2.0, 2.0]), np.array([8.0, 2.0, 3.0, 4.0]))
    >>> curve.x.tolist(), curve.y.tolist()
    ([0.25, 0.75, 1.0], [2.0, 3.0, 4.25])
    """
    _check(doubt, cost)
    order = np.argsort(doubt, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(doubt[order])), len(order) - 1)
    return Curve(x=(ends + 1) / len(order), y=np.cumsum(cost[order])[ends] / (ends + 1))


def reliability(
    estimate: np.ndarray, measured: np.ndarray, *, bins: int = 10, seed: int = 0
) -> ReliabilityBins:
    """Compare what was estimated with what was measured, bin by bin of the estimate.

    Parameters
    ----------
    estimate, measured
        Scores in [0, 1], float64 (n,), at least one row, finite.
    bins
        Of equal width, from 0 to 1.
    seed
        Of the bootstrap.

    Returns
    -------
    ReliabilityBins
        On the diagonal where estimates mean what they say.

    Raises
    ------
    ParameterError
        If the arrays differ in length, are empty or not finite, or there is no bin.

    Examples
    --------
    >>> import numpy as np
    >>> found = reliability(np.array([0.11, 0.13, 0.95]), np.array([0.2, 0.4, 0.95]))
    >>> found.measured.round(2).tolist(), found.n.tolist(), round(found.error, 3)
    ([0.3, 0.95], [2, 1], 0.12)
    """
    _check(estimate, measured)
    if bins < 1:
        raise ParameterError(f"bins must be at least 1, got {bins}")
    which = np.clip((estimate * bins).astype(np.int64), 0, bins - 1)
    rng = np.random.default_rng(seed)
    lines = []
    for b in np.unique(which):
        own = measured[which == b]
        draws = rng.choice(own, (_DRAWS, len(own))).mean(axis=1) if len(own) > 1 else np.array([math.nan])
        low, high = np.percentile(draws, (2.5, 97.5))
        lines.append((estimate[which == b].mean(), own.mean(), low, high, len(own)))
    columns: Float64[np.ndarray, "5 k"] = np.array(lines, np.float64).T
    return ReliabilityBins(
        estimate=columns[0],
        measured=columns[1],
        low=columns[2],
        high=columns[3],
        n=columns[4].astype(np.int64),
        error=float((np.abs(columns[0] - columns[1]) * columns[4]).sum() / len(estimate)),
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0 or not np.isfinite([a, b]).all():
        raise ParameterError(
            f"wanted two finite arrays of one length, at least 1; got shapes {a.shape} and {b.shape}"
        )
