"""Metrics of estimates beside measured scores, their averages, ranges and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool

from passband.estimate.regressor import (
    TARGETS,
    ScoreTable,
)
from passband.types import Vector

ALARM = 0.5
"""The alarm is raised for a score below this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One estimate of every row, made without its fold, beside what was measured.

    Parameters
    ----------
    value, low, high
        float64 (n, 3), columns in the order of `TARGETS`; NaN in rows that were not held out, low and
        high also without intervals.
    truth
        Measured scores, float64 (n, 3).
    novelty
        float64 (n,), NaN where the model has none.
    abstained
        Boolean (n,): the model says that its estimate is not to be used.
    domains, images
        Of each row.
    """

    value: ScoreTable
    low: ScoreTable
    high: ScoreTable
    truth: ScoreTable
    novelty: Vector
    abstained: Bool[np.ndarray, " n"]
    domains: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """How far estimates of one score lie from the measured ones.

    Parameters
    ----------
    n
        Rows.
    mae, rmse, r2, bias
        bias is the mean of estimated minus measured; r2 is NaN where the measured score is constant.
    nrmse, nmae
        rmse over the standard deviation, mae over the mean of the measured score; NaN for a division by 0.
    auroc
        Of the alarm that the score is below 0.5; NaN where all rows lie on one side.
    coverage, mean_width
        Of the intervals of the rows on which the model did not abstain; NaN without.
    """

    n: int
    mae: float
    rmse: float
    r2: float
    nrmse: float
    nmae: float
    bias: float
    auroc: float
    coverage: float
    mean_width: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of one model under one protocol.

    Parameters
    ----------
    model, protocol
        As asked for.
    few_shot
        How many labelled images of each held-out domain the model was given.
    nominal
        Meant coverage of the intervals, None without.
    overall
        Metrics of each target, averaged over the repeats.
    domains
        For each target, metrics of each domain.
    abstained
        Share of the rows on which the model abstained.
    novel_share
        Share of the rows with a novelty above 1.
    repeats
        The predictions of each repeat.
    """

    model: str
    protocol: str
    few_shot: int = 0
    nominal: float | None
    overall: Mapping[str, Metrics]
    domains: Mapping[str, Mapping[str, Metrics]]
    abstained: float
    novel_share: float
    repeats: tuple[Predictions, ...]

    def worst_domain(self, target: str) -> str:
        """Name the domain whose intervals cover least."""
        shares = {name: m.coverage for name, m in self.domains[target].items()}
        return min(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])


def summarise(
    model: str, protocol: str, nominal: float | None, repeats: tuple[Predictions, ...], few_shot: int
) -> Evaluation:
    """Metrics of each repeat, averaged."""
    names = sorted(set(repeats[0].domains))
    inside = {name: np.flatnonzero(np.asarray(repeats[0].domains) == name) for name in names}
    every = np.arange(len(repeats[0].novelty))
    overall, domains = {}, {}
    for j, target in enumerate(TARGETS):
        overall[target] = _mean([_metrics(p, j, every) for p in repeats])
        each = {name: _mean([_metrics(p, j, rows) for p in repeats]) for name, rows in inside.items()}
        domains[target] = {name: m for name, m in each.items() if m.n}
    known = [np.isfinite(p.value[:, 0]) for p in repeats]
    novel = [(p.novelty > 1)[k].mean() for p, k in zip(repeats, known, strict=True)]
    return Evaluation(
        model=model,
        protocol=protocol,
        few_shot=few_shot,
        nominal=nominal,
        overall=overall,
        domains=domains,
        abstained=float(np.mean([p.abstained[k].mean() for p, k in zip(repeats, known, strict=True)])),
        novel_share=float(np.mean(novel)),
        repeats=repeats,
    )


def bootstrap(
    evaluation: Evaluation, target: str = "f1", *, draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the overall metrics, by drawing images with replacement.

    Parameters
    ----------
    evaluation
        Of which the first repeat is used.
    target
        One of `TARGETS`.
    draws
        How many.
    seed
        Of the draws.

    Returns
    -------
    dict
        Low and high end by the name of the metric; NaN where it was not measured.

    Examples
    --------
    >>> from passband.estimate.evaluation.evaluate import evaluate
    >>> from passband.estimate.features import CANDIDATE_FEATURES
    >>> from passband.estimate.rows import CalibrationRow
    >>> rows = [
    ...     CalibrationRow(
    ...         features=dict.fromkeys(CANDIDATE_FEATURES, i / 40),
    ...         f1=i / 40, precision=1, recall=1, domain="AB"[i % 2], image=f"{i}.tif",
    ...     )
    ...     for i in range(40)
    ... ]
    >>> ends = bootstrap(evaluate(rows, model="predict-the-mean", coverage=None), draws=50)
    >>> ends["mae"][0] < 0.25 < ends["mae"][1]
    True
    """
    p, j = evaluation.repeats[0], TARGETS.index(target)
    images, which = np.unique(np.asarray(p.images), return_inverse=True)
    members = [np.flatnonzero(which == i) for i in range(len(images))]
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in _MEASURES}
    for _ in range(draws):
        drawn = np.concatenate([members[i] for i in rng.integers(len(images), size=len(images))])
        m = _metrics(p, j, drawn)
        for name in _MEASURES:
            found[name].append(getattr(m, name))
    ends = {}
    for name, values in found.items():
        known = np.array(values)[np.isfinite(values)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
        ends[name] = (float(low), float(high))
    return ends


def auroc(positive: Bool[np.ndarray, " n"], score: Vector) -> float:
    """Probability that a positive row scores above a negative one, ties counting half.

    Parameters
    ----------
    positive
        Boolean (n,).
    score
        Shape (n,).

    Returns
    -------
    float
        NaN where all rows are of one kind.

    Examples
    --------
    >>> import numpy as np
    >>> auroc(np.array([True, False, True]), np.array([0.9, 0.1, 0.1]))
    0.75
    """
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return math.nan
    above = rankdata(score)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def _metrics(p: Predictions, j: int, rows: np.ndarray) -> Metrics:
    """Metrics of one target over some rows, given by their numbers, of one repeat."""
    rows = rows[np.isfinite(p.value[rows, j])]
    if not len(rows):
        return Metrics(n=0, **dict.fromkeys(_MEASURES, math.nan))
    truth, value = p.truth[rows, j], p.value[rows, j]
    error = value - truth
    spread, mean = float(truth.std()), float(truth.mean())
    mae, rmse = float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))
    kept = rows[~p.abstained[rows] & np.isfinite(p.low[rows, j])]
    low, high, held = p.low[kept, j], p.high[kept, j], p.truth[kept, j]
    # Estimates are sums of floats: an interval that ends on the score contains it.
    inside = (low - 1e-9 <= held) & (held <= high + 1e-9)
    return Metrics(
        n=len(rows),
        mae=mae,
        rmse=rmse,
        r2=1 - (rmse / spread) ** 2 if spread > 0 else math.nan,
        nrmse=rmse / spread if spread > 0 else math.nan,
        nmae=mae / mean if mean > 0 else math.nan,
        bias=float(error.mean()),
        auroc=auroc(truth < ALARM, -value),
        coverage=float(inside.mean()) if len(kept) else math.nan,
        mean_width=float((high - low).mean()) if len(kept) else math.nan,
    )


_MEASURES = tuple(f.name for f in fields(Metrics) if f.name != "n")


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    """Means over repeats, of those in which the number could be measured."""
    means = {}
    for name in _MEASURES:
        values = np.array([getattr(m, name) for m in metrics])
        known = values[np.isfinite(values)]
        means[name] = float(known.mean()) if len(known) else math.nan
    return Metrics(n=metrics[0].n, **means)
