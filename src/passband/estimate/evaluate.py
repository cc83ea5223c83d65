"""How good label-free estimates are: rows with measured scores, held out in one of three ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64

from passband.errors import ParameterError
from passband.estimate.features import SCORE_FLOOR
from passband.estimate.performance import CalibrationRow, estimate_scores, fit_calibration
from passband.estimate.regressor import (
    RECIPES,
    TARGETS,
    ScoreTable,
    fit_regressor,
    guess,
    image_folds,
    training_rows,
)
from passband.estimate.rows import RowTable, tabulate
from passband.measure.matching import PAPER
from passband.types import Vector

BASELINES: dict[str, str | None] = {
    "predict-the-mean": None,
    "mean-confidence": "mean_score",
    "area-weighted-confidence": "image_confidence",
}
"""What needs no fit: the feature that is taken for every score, or None for the training mean."""

PROTOCOLS = ("random", "grouped", "leave-one-domain-out")
ALARM = 0.5
"""The alarm is raised for a score below this."""
_FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One estimate of every row, made without its fold, beside what was measured.

    Parameters
    ----------
    value, low, high
        float64 (n, 3), columns in the order of `TARGETS`; low and high are NaN without intervals.
    truth
        Measured scores, float64 (n, 3).
    novelty
        float64 (n,), NaN without intervals.
    domains
        Of each row.
    """

    value: ScoreTable
    low: ScoreTable
    high: ScoreTable
    truth: ScoreTable
    novelty: Vector
    domains: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """How far estimates of one score lie from the measured ones.

    Parameters
    ----------
    n
        Rows.
    mae, rmse, r2, bias
        bias is the mean of estimated minus measured; r2 is NaN where the measured score is constant.
    auroc
        Of the alarm that the score is below 0.5; NaN where all rows lie on one side.
    coverage, mean_width
        Of the intervals; NaN without.
    """

    n: int
    mae: float
    rmse: float
    r2: float
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
    nominal
        Meant coverage of the intervals, None without.
    overall
        Metrics of each target, averaged over the repeats.
    domains
        For each target, metrics of each domain.
    known_coverage
        For each target, coverage among the rows with a novelty of at most 1.
    novel_share
        Share of the rows with a novelty above 1.
    repeats
        The predictions of each repeat.
    """

    model: str
    protocol: str
    nominal: float | None
    overall: Mapping[str, Metrics]
    domains: Mapping[str, Mapping[str, Metrics]]
    known_coverage: Mapping[str, float]
    novel_share: float
    repeats: tuple[Predictions, ...]

    def worst_domain(self, target: str) -> str:
        """Name the domain whose intervals cover least."""
        shares = {name: m.coverage for name, m in self.domains[target].items()}
        return min(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])


def evaluate(
    rows: Sequence[CalibrationRow],
    *,
    model: str = "passband",
    protocol: str = "leave-one-domain-out",
    coverage: float | None = 0.9,
    repeats: int = 10,
    seed: int = 0,
) -> Evaluation:
    """Estimate every row without its fold and compare with what was measured.

    Parameters
    ----------
    rows
        Labelled images, all with the same features.
    model
        A key of `RECIPES` or of `BASELINES`.
    protocol
        "random": 5 folds of rows. "grouped": 5 folds of images. "leave-one-domain-out": one domain at a
        time, its images removed from the training rows wherever they occur.
    coverage
        Meant coverage of the intervals; None leaves them out, which is much faster. Baselines have none.
    repeats
        How often the folds are drawn anew; a domain can be left out in one way only.
    seed
        The repeat ``i`` draws folds and trees with ``seed + i``.

    Returns
    -------
    Evaluation
        All metrics.

    Raises
    ------
    ParameterError
        If the model or protocol is unknown or there are no repeats.
    CalibrationError
        If a fold leaves too few rows to fit.

    Examples
    --------
    >>> from passband.estimate.features import CANDIDATE_FEATURES
    >>> rows = [
    ...     CalibrationRow(
    ...         features=dict.fromkeys(CANDIDATE_FEATURES, i / 40),
    ...         f1=i / 40, precision=i / 40, recall=i / 40, domain="AB"[i % 2], image=f"{i}.tif",
    ...     )
    ...     for i in range(40)
    ... ]
    >>> done = evaluate(rows, model="mean-confidence")
    >>> done.overall["f1"].n, done.overall["f1"].mae
    (40, 0.0)
    """
    faults = []
    if model not in RECIPES and model not in BASELINES:
        faults.append(f"model must be one of {sorted([*RECIPES, *BASELINES])}, got {model!r}")
    if protocol not in PROTOCOLS:
        faults.append(f"protocol must be one of {list(PROTOCOLS)}, got {protocol!r}")
    if repeats < 1:
        faults.append(f"repeats must be at least 1, got {repeats}")
    if faults:
        raise ParameterError("; ".join(faults))
    table = tabulate(rows, RECIPES.get(model, RECIPES["paper-rf"]))
    if protocol == "leave-one-domain-out":
        repeats = 1
    nominal = coverage if model in RECIPES else None
    done = []
    for i in range(repeats):
        splits = _splits(table, protocol, seed + i)
        done.append(_predict(rows, table, splits, model, nominal, seed + i))
    return _summarise(model, protocol, nominal, tuple(done))


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """Lay results out in columns, a line for each model, protocol and target.

    Parameters
    ----------
    evaluations
        Any number.

    Returns
    -------
    str
        Lines of equal layout; a dash stands for what was not measured.
    """
    widths = {
        "MAE": 7,
        "RMSE": 7,
        "R2": 8,
        "bias": 8,
        "AUROC": 7,
        "cover": 7,
        "worst": 7,
        "known": 7,
        "width": 7,
    }
    head = "".join(f"{name:>{width}}" for name, width in widths.items())
    lines = [f"{'protocol':<21}{'model':<25}{'score':<10}{'n':>5}{head}  worst domain"]
    for e in evaluations:
        for target in TARGETS:
            m, worst = e.overall[target], e.worst_domain(target)
            lowest = e.domains[target][worst].coverage
            cells = [
                f"{e.protocol:<21}{e.model:<25}{target:<10}{m.n:>5}",
                _cell(m.mae, 7, 3),
                _cell(m.rmse, 7, 3),
                _cell(m.r2, 8, 3),
                _cell(m.bias, 8, 3),
                _cell(m.auroc, 7, 3),
                _cell(m.coverage, 7, 2),
                _cell(lowest, 7, 2),
                _cell(e.known_coverage[target], 7, 2),
                _cell(m.mean_width, 7, 2),
                "" if math.isnan(lowest) else f"  {worst}",
            ]
            lines.append("".join(cells))
    return "\n".join(lines)


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


Split = tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]


def _splits(table: RowTable, protocol: str, seed: int) -> list[Split]:
    """Training rows and held-out rows of each fold."""
    images = table.images
    if protocol == "random":
        # Every row counts as an image of its own: this is what makes the protocol optimistic.
        images = tuple(str(i) for i in range(len(images)))
    folds = table.domains if protocol == "leave-one-domain-out" else image_folds(images, _FOLDS, seed)
    names = np.asarray(folds)
    return [(training_rows(f, folds, images), names == f) for f in sorted(set(folds))]


def _predict(
    rows: Sequence[CalibrationRow],
    table: RowTable,
    splits: Sequence[Split],
    model: str,
    nominal: float | None,
    seed: int,
) -> Predictions:
    """Estimate every row by what was fitted to the training rows of its fold."""
    shape = table.scores.shape
    value, low, high = (np.full(shape, np.nan) for _ in range(3))
    novelty = np.full(len(rows), np.nan)
    for train, out in splits:
        if model in BASELINES:
            value[out] = _baseline(table, BASELINES[model], train, out)
        elif nominal is None:
            fitted = fit_regressor(table.inputs[train], table.scores[train], RECIPES[model], seed)
            value[out] = guess(fitted, table.inputs[out]).value
        else:
            known = [rows[i] for i in np.flatnonzero(train).tolist()]
            # Threshold and rule are carried along by a calibration; neither changes an estimate.
            calibration = fit_calibration(
                known, score_threshold=SCORE_FLOOR, matching=PAPER, coverage=nominal, seed=seed, model=model
            )
            for i in np.flatnonzero(out).tolist():
                outlook = estimate_scores(calibration, rows[i].features)
                said = [outlook.estimates[t] for t in TARGETS]
                value[i], low[i], high[i] = ([getattr(e, k) for e in said] for k in ("value", "low", "high"))
                novelty[i] = outlook.novelty
    return Predictions(
        value=value, low=low, high=high, truth=table.scores, novelty=novelty, domains=table.domains
    )


def _baseline(
    table: RowTable, feature: str | None, train: Bool[np.ndarray, " n"], out: Bool[np.ndarray, " n"]
) -> Float64[np.ndarray, "out k"]:
    """Say what a baseline makes of the held-out rows."""
    if feature is None:
        return np.broadcast_to(table.scores[train].mean(axis=0), (int(out.sum()), len(TARGETS)))
    return np.repeat(table.features[out, table.names.index(feature)][:, None], len(TARGETS), axis=1)


def _summarise(
    model: str, protocol: str, nominal: float | None, repeats: tuple[Predictions, ...]
) -> Evaluation:
    """Metrics of each repeat, averaged."""
    names = sorted(set(repeats[0].domains))
    inside = {name: np.asarray(repeats[0].domains) == name for name in names}
    every = np.ones(len(repeats[0].novelty), bool)
    overall, domains, known = {}, {}, {}
    for j, target in enumerate(TARGETS):
        overall[target] = _mean([_metrics(p, j, every) for p in repeats])
        domains[target] = {
            name: _mean([_metrics(p, j, rows) for p in repeats]) for name, rows in inside.items()
        }
        known[target] = _mean([_metrics(p, j, p.novelty <= 1) for p in repeats]).coverage
    return Evaluation(
        model=model,
        protocol=protocol,
        nominal=nominal,
        overall=overall,
        domains=domains,
        known_coverage=known,
        novel_share=math.nan if nominal is None else float(np.mean([p.novelty > 1 for p in repeats])),
        repeats=repeats,
    )


def _metrics(p: Predictions, j: int, rows: Bool[np.ndarray, " n"]) -> Metrics:
    """Metrics of one target over some rows of one repeat."""
    if not rows.any():
        return Metrics(n=0, **dict.fromkeys(_MEASURES, math.nan))
    truth, value, low, high = (a[rows, j] for a in (p.truth, p.value, p.low, p.high))
    error = value - truth
    variance = float(((truth - truth.mean()) ** 2).sum())
    measured = bool(np.isfinite(low).all())
    # Estimates are sums of floats: an interval that ends on the score contains it.
    inside = (low - 1e-9 <= truth) & (truth <= high + 1e-9)
    return Metrics(
        n=int(rows.sum()),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        r2=1 - float((error**2).sum()) / variance if variance > 0 else math.nan,
        bias=float(error.mean()),
        auroc=auroc(truth < ALARM, -value),
        coverage=float(inside.mean()) if measured else math.nan,
        mean_width=float((high - low).mean()),
    )


_MEASURES = tuple(f.name for f in fields(Metrics) if f.name != "n")


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    means = {name: float(np.mean([getattr(m, name) for m in metrics])) for name in _MEASURES}
    return Metrics(n=metrics[0].n, **means)


def _cell(value: float, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.{digits}f}"
