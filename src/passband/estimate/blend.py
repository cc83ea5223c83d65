"""The default regressor: a Gaussian process where rows are known, a linear trend in logits beyond them.

Both learners have fits that leave a group of rows out in closed form, so what they would have said of a
domain without its rows costs a small matrix and no second fit. How much of each goes into an estimate is
chosen for each score by these held-out guesses alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.features import PAPER_FEATURES

LENGTH = 2.5
"""Length scale of the process in standard deviations of the inputs."""
SIGNAL, NOISE = 0.06, 0.02
"""Variances of the process and of its noise; a score lies in [0, 1]."""
RIDGE = 10.0
"""Penalty on the slopes of the trend; its intercept is free."""
RESERVE = 0.02
"""Pull of the mixture towards one half, in units of squared error: held-out domains are few."""
MOST_ROWS = 2000
"""More rows are thinned to this many, every domain alike."""
TOP = 4.0
"""Standardised inputs end here: nothing is extrapolated far."""

LONG_TAILED = ("count", "area_ratio", "mean_size", "std_size")
"""Inputs that are seen as logarithms."""
_EDGE = 0.05
_SHARES = np.linspace(0, 1, 21)
_FEWEST = 10

Scores = Float64[np.ndarray, "n k"]
Rows = Float64[np.ndarray, "n p"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Blend:
    """A fitted blend of the two learners, for three scores.

    Parameters
    ----------
    logged
        Inputs that are seen as logarithms, boolean (p,).
    center, scale
        Of the inputs, float64 (p,).
    rows
        Standardised inputs of the training rows, float64 (n, p).
    weights
        Of the process at each row, float64 (n, k).
    trend
        Intercept and slopes in logits, float64 (p + 1, k).
    share
        Of the trend in each estimate, float64 (k,), 0 to 1.
    nothing
        Estimates where nothing was found, float64 (k,).

    Raises
    ------
    CalibrationError
        Naming every array that does not fit.
    """

    # Plain arrays: types and shapes are checked below always, not by annotation in the tests only.
    logged: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    trend: np.ndarray
    share: np.ndarray
    nothing: np.ndarray

    def __post_init__(self) -> None:
        p, n, k = len(self.logged), len(self.rows), 3
        wanted = {
            "center": (p,),
            "scale": (p,),
            "rows": (n, p),
            "weights": (n, k),
            "trend": (p + 1, k),
            "share": (k,),
            "nothing": (k,),
        }
        faults = []
        if self.logged.dtype != np.bool_ or self.logged.ndim != 1:
            faults.append(f"logged must be boolean (p,), got {self.logged.dtype} {self.logged.shape}")
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
                faults.append(f"{name} must be finite float64 {shape}, got {array.dtype} {array.shape}")
        if not faults and not ((self.scale > 0).all() and ((self.share >= 0) & (self.share <= 1)).all()):
            faults.append("scale must be positive and share in [0, 1]")
        if faults:
            raise CalibrationError("a regressor cannot be used: " + "; ".join(faults))


def to_logit(score: np.ndarray) -> np.ndarray:
    """Scores in [0, 1] on a line where an error means the same everywhere; 0 and 1 stay finite.

    Examples
    --------
    >>> from_logit(to_logit(np.array([0.0, 0.5, 1.0]))).round(9).tolist()
    [0.0, 0.5, 1.0]
    """
    inner = _EDGE + (1 - 2 * _EDGE) * score
    return np.asarray(np.log(inner / (1 - inner)))


def from_logit(value: np.ndarray) -> np.ndarray:
    """Back to scores, cut to [0, 1]."""
    # The hyperbolic tangent does not overflow where the exponential of the logistic function does.
    return np.asarray(np.clip(0.5 + np.tanh(value / 2) / (2 - 4 * _EDGE), 0, 1))


def fit_blend(
    x: Rows,
    y: Scores,
    groups: Sequence[str],
    images: Sequence[str],
    *,
    names: Sequence[str] = PAPER_FEATURES,
) -> tuple[Blend, Scores]:
    """Fit the blend, and say what it would have said of each group without it.

    Parameters
    ----------
    x
        Inputs, float64 (n, p).
    y
        Scores, float64 (n, k).
    groups, images
        Group and image name of every row. A group is held out with every row of its images.
    names
        Of the inputs; `LONG_TAILED` ones are seen as logarithms.

    Returns
    -------
    blend, held_out
        The fit to all rows, and the guess of every row without its group, float64 (n, k): NaN where
        that leaves fewer than ten rows, or where the row was thinned out. The inputs' means and scales
        are those of all rows; no score of a held-out row is used, but for the mixture, which all choose.

    Raises
    ------
    CalibrationError
        If there are fewer than ten rows.

    References
    ----------
    C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning (2006), 5.4.2, for leaving rows out.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.random((60, 8))
    >>> blend, held_out = fit_blend(x, x[:, :3], ["A", "B", "C"] * 20, [str(i) for i in range(60)])
    >>> bool(np.abs(guess_blend(blend, x) - x[:, :3]).mean() < np.abs(held_out - x[:, :3]).mean() < 0.2)
    True
    """
    if len(x) < _FEWEST:
        raise CalibrationError(f"a fit wants at least {_FEWEST} rows, got {len(x)}")
    logged = np.array([name in LONG_TAILED for name in names])
    empty = _nothing_found(x, logged)
    kept = _thin(groups, ~empty)
    if len(kept) < _FEWEST:
        raise CalibrationError(f"a fit wants at least {_FEWEST} rows with a detection, got {len(kept)}")
    tall = _with_logs(x[kept], logged)
    center, scale = tall.mean(axis=0), tall.std(axis=0)
    scale[scale <= 1e-9 * (1 + np.abs(center))] = 1.0
    z, scores = np.clip((tall - center) / scale, -TOP, TOP), y[kept]
    ones = np.column_stack([np.ones(len(z)), z])
    penalty = np.diag([1e-9, *[RIDGE] * z.shape[1]])
    inverse = np.linalg.inv(_kernel(z, z) + NOISE * np.eye(len(z)))
    gram, right = ones.T @ ones + penalty, ones.T @ to_logit(scores)
    process, trend = np.full(scores.shape, np.nan), np.full(scores.shape, np.nan)
    every, every_picture = np.asarray(groups), np.asarray(images)
    members, pictures = every[kept], every_picture[kept]
    weights = inverse @ (scores - 0.5)
    held_out = np.full(y.shape, np.nan)
    for group in np.unique(every):
        own, theirs = members == group, every_picture[every == group]
        out = np.flatnonzero(own | np.isin(pictures, theirs))
        if len(z) - len(out) < _FEWEST:
            continue
        missing = np.linalg.solve(inverse[np.ix_(out, out)], weights[out])
        process[out[own[out]]] = (scores[out] - missing)[own[out]]
        part = ones[out]
        slopes = np.linalg.solve(gram - part.T @ part, right - part.T @ to_logit(scores[out]))
        trend[own] = from_logit(ones[own] @ slopes)
        others = (every != group) & ~np.isin(every_picture, theirs)
        held_out[empty & (every == group)] = _mean_or_half(y[empty & others])
    share = _choose(process, trend, scores, members)
    held_out[kept] = np.clip(process + share * (trend - process), 0, 1)
    blend = Blend(
        logged=logged,
        center=center,
        scale=scale,
        rows=z,
        weights=weights,
        trend=np.linalg.solve(gram, right),
        share=share,
        nothing=_mean_or_half(y[empty]),
    )
    return blend, held_out


def guess_blend(blend: Blend, x: Rows) -> Scores:
    """Estimates of some rows.

    Parameters
    ----------
    blend
        Fitted.
    x
        Finite inputs, float64 (n, p).

    Returns
    -------
    ndarray
        float64 (n, k), in [0, 1].

    Raises
    ------
    CalibrationError
        If x has another number of columns or is not finite.
    """
    parts = []
    for start in range(0, max(len(x), 1), 2048):
        some = x[start : start + 2048]
        z = standardise(blend, some)
        process = 0.5 + _kernel(z, blend.rows) @ blend.weights
        trend = from_logit(blend.trend[0] + z @ blend.trend[1:])
        value = np.clip(process + blend.share * (trend - process), 0, 1)
        value[_nothing_found(some, blend.logged)] = blend.nothing
        parts.append(value)
    return np.concatenate(parts)


def standardise(blend: Blend, x: Rows) -> Rows:
    """Inputs as the blend sees them.

    Parameters
    ----------
    blend
        Fitted.
    x
        Finite inputs, float64 (n, p).

    Returns
    -------
    ndarray
        float64 (n, p), within `TOP`.

    Raises
    ------
    CalibrationError
        If x has another number of columns or is not finite.
    """
    if x.ndim != 2 or x.shape[1] != len(blend.center) or not np.isfinite(x).all():
        raise CalibrationError(f"wanted finite rows of {len(blend.center)} columns, got {x.shape}")
    return np.asarray(np.clip((_with_logs(x, blend.logged) - blend.center) / blend.scale, -TOP, TOP))


def squared_distances(a: Rows, b: Float64[np.ndarray, "m p"]) -> Float64[np.ndarray, "n m"]:
    """Between every row of a and every row of b, float64 (n, m).

    Examples
    --------
    >>> squared_distances(np.array([[0.0, 0]]), np.array([[3.0, 4], [0, 0]])).tolist()
    [[25.0, 0.0]]
    """
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.asarray(np.maximum(square, 0))


def _kernel(a: Rows, b: Float64[np.ndarray, "m p"]) -> Float64[np.ndarray, "n m"]:
    """Covariance of the process; its level is as uncertain as its shape."""
    return np.asarray(SIGNAL * (1 + np.exp(-squared_distances(a, b) / (2 * LENGTH**2))))


def _with_logs(x: Rows, logged: np.ndarray) -> Rows:
    columns = x.astype(np.float64)
    columns[:, logged] = np.log(np.maximum(columns[:, logged], 0) + 1e-6)
    return columns


def _choose(process: Scores, trend: Scores, y: Scores, names: np.ndarray) -> Float64[np.ndarray, " k"]:
    """The trend's share with the least held-out error; a domain counts as the root of its rows."""
    known = np.isfinite(process[:, 0])
    share = np.full(y.shape[1], 0.5)
    if not known.any():
        return share
    _, which, counts = np.unique(names[known], return_inverse=True, return_counts=True)
    weight = counts[which] ** -0.5
    weight /= weight.sum()
    for j in range(y.shape[1]):
        a, b, truth = process[known, j], trend[known, j], y[known, j]
        errors = [(weight * (a + s * (b - a) - truth) ** 2).sum() + RESERVE * (s - 0.5) ** 2 for s in _SHARES]
        share[j] = _SHARES[int(np.argmin(errors))]
    return share


def _nothing_found(x: Rows, logged: np.ndarray) -> np.ndarray:
    """Rows whose counts and sizes are all zero; without such inputs none is."""
    return np.asarray((x[:, logged] == 0).all(axis=1) & logged.any())


def _mean_or_half(scores: Scores) -> Float64[np.ndarray, " k"]:
    return scores.mean(axis=0) if len(scores) else np.full(scores.shape[1], 0.5)


def _thin(groups: Sequence[str], usable: np.ndarray) -> np.ndarray:
    """Usable rows: all, or about `MOST_ROWS`, the same number of every group where it has them."""
    rows = np.flatnonzero(usable)
    if len(rows) <= MOST_ROWS:
        return rows
    order = np.random.default_rng(0).permutation(rows)
    names = np.asarray(groups)[order]
    rank = np.empty(len(order), int)
    for name in np.unique(names):
        inside = np.flatnonzero(names == name)
        rank[inside] = np.arange(len(inside))
    return np.sort(order[np.argsort(rank, kind="stable")][:MOST_ROWS])
