"""How good label-free estimates are: rows with measured scores, held out by a protocol.

Whatever a model chooses, it chooses on the training rows of its fold: the default mixes its two learners,
scales its intervals and decides where to abstain by leaving out, inside these rows, one domain after the
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from passband.detections.matching import PAPER
from passband.errors import CalibrationError, ParameterError
from passband.estimate.calibration import Calibration, Forecast
from passband.estimate.evaluation.metrics import Evaluation, Metrics, Predictions, summarise
from passband.estimate.evaluation.peers import PEERS, QUANTILE_FOREST, peer_intervals, quantile_forest
from passband.estimate.evaluation.protocols import PROTOCOLS, Fold
from passband.estimate.features import CANDIDATE_FEATURES, SCORE_FLOOR
from passband.estimate.performance import adapt, fit_calibration, forecast
from passband.estimate.regressor import (
    RECIPES,
    TARGETS,
    ScoreTable,
    fit_forests,
    guess,
)
from passband.estimate.rows import CalibrationRow, RowTable, tabulate
from passband.types import Progress, Vector

MODELS: tuple[str, ...] = (*RECIPES, *PEERS, QUANTILE_FOREST)
"""What can be evaluated: the recipes of calibrations and what they are compared with."""
OF_DETECTIONS: tuple[str, ...] = tuple(
    m
    for m in MODELS
    if m not in RECIPES or (set(RECIPES[m].inputs) <= set(CANDIDATE_FEATURES) and not RECIPES[m].stranger)
)
"""Those for rows of one detector's boxes."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is estimated, by what."""

    rows: Sequence[CalibrationRow]
    table: RowTable
    model: str
    nominal: float | None


def evaluate(
    rows: Sequence[CalibrationRow],
    *,
    model: str = "passband",
    protocol: str = "leave-one-domain-out",
    coverage: float | None = 0.9,
    repeats: int = 10,
    seed: int = 0,
    few_shot: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Estimate every row without its fold and compare with what was measured.

    Parameters
    ----------
    rows
        Labelled images, all with the same features.
    model
        One of `MODELS`.
    protocol
        "random": 5 folds of rows. "grouped": 5 folds of images. "leave-one-domain-out": one domain at a
        time, its images removed from the training rows wherever they occur. "leave-one-set-out": all
        domains that were tested on one set at a time (`sets_of`), likewise.
    coverage
        Meant coverage of the intervals; None leaves them out.
    repeats
        How often the folds, or the labelled images, are drawn anew; whole domains can be left out in one
        way only.
    seed
        The repeat ``i`` draws folds and trees with ``seed + i``.
    few_shot
        With "leave-one-domain-out": so many images of the held-out domain, but at most half of them, are
        drawn and shown to the model with their scores; they are not estimated. The default adapts to
        them, a forest is trained on them too and has then no intervals.
    progress
        Called before each fold and at the end.

    Returns
    -------
    Evaluation
        All metrics.

    Raises
    ------
    ParameterError
        If the model or protocol is unknown, there are no repeats, or few_shot does not fit the two.
    CalibrationError
        If a fold leaves too few rows to fit, or there is but one domain or set to leave out.

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
    >>> done = evaluate(rows, model="mean-confidence", coverage=None)
    >>> done.overall["f1"].n, done.overall["f1"].mae
    (40, 0.0)
    """
    _refuse(model, protocol, repeats, few_shot)
    way = PROTOCOLS[protocol]
    table = tabulate(rows, RECIPES.get(model, RECIPES["paper-rf"]))
    nominal = None if few_shot and model != "passband" else coverage
    asked = _Asked(rows=rows, table=table, model=model, nominal=nominal)
    draws = [way.folds(table, seed + i) for i in range(repeats if way.drawn else 1)]
    folds = [fold for draw in draws for fold in draw]
    _refuse_empty(folds, len(rows))
    done = []
    for i, draw in enumerate(draws):
        parts = [_nothing(table) for _ in range(repeats if few_shot else 1)]
        for fold in draw:
            if progress:
                progress(fold.name, folds.index(fold), len(folds))
            if few_shot:
                _predict_few(asked, fold, few_shot, seed, parts)
            else:
                _fill(parts[0], fold.out, _predict(asked, fold, seed + i))
        done += parts
    if progress:
        progress("", len(folds), len(folds))
    if nominal is None:
        done = [_without_ends(p) for p in done]
    return summarise(model, protocol, nominal, tuple(done), few_shot)


def evaluate_column(
    rows: Sequence[CalibrationRow],
    measured: Vector,
    *,
    protocol: str = "random",
    repeats: int = 10,
    seed: int = 0,
) -> tuple[Metrics, dict[str, Metrics]]:
    """Estimate one more measured number by the published forest: what lies outside [0, 1] has no intervals.

    Parameters
    ----------
    rows
        Labelled images, all with the same features.
    measured
        Of each, shape (n,); rows where it is NaN are left out.
    protocol, repeats, seed
        As in `evaluate`.

    Returns
    -------
    overall, domains
        Means over the repeats, and those of each domain by name.

    Raises
    ------
    ParameterError
        If the protocol is unknown.
    CalibrationError
        If nothing was measured, or as `evaluate`.

    Examples
    --------
    >>> from passband.estimate.features import CANDIDATE_FEATURES
    >>> rows = [
    ...     CalibrationRow(
    ...         features=dict.fromkeys(CANDIDATE_FEATURES, i / 40),
    ...         f1=1, precision=1, recall=1, domain="A", image=f"{i}.tif",
    ...     )
    ...     for i in range(40)
    ... ]
    >>> evaluate_column(rows, np.arange(40.0), repeats=1)[0].mae < 3
    True
    """
    from sklearn.ensemble import RandomForestRegressor

    if protocol not in PROTOCOLS:
        raise ParameterError(f"protocol must be one of {list(PROTOCOLS)}, got {protocol!r}")
    known = np.isfinite(measured)
    if not known.any():
        raise CalibrationError("no row has a measured value in this column")
    table = tabulate(rows, RECIPES["paper-rf"]).select(known)
    truth = np.repeat(measured[known][:, None], len(TARGETS), axis=1)
    way, done = PROTOCOLS[protocol], []
    for i in range(repeats if way.drawn else 1):
        p = replace(_nothing(table), truth=truth)
        for fold in way.folds(table, seed + i):
            forest = RandomForestRegressor(100, random_state=seed + i)
            forest.fit(table.inputs[fold.train], truth[fold.train, 0])
            p.value[fold.out] = forest.predict(table.inputs[fold.out])[:, None]
        done.append(p)
    e = summarise("paper-rf", protocol, None, tuple(done), 0)
    return e.overall["f1"], dict(e.domains["f1"])


def _nothing(table: RowTable) -> Predictions:
    shape = table.scores.shape
    value, low, high = (np.full(shape, np.nan) for _ in range(3))
    n = shape[0]
    return Predictions(
        value=value,
        low=low,
        high=high,
        truth=table.scores,
        novelty=np.full(n, np.nan),
        abstained=np.zeros(n, bool),
        domains=table.domains,
        images=table.images,
    )


def _fill(p: Predictions, out: np.ndarray, said: Forecast) -> None:
    """Write what was said of some rows into their places."""
    for name in ("value", "low", "high", "novelty", "abstained"):
        getattr(p, name)[out] = getattr(said, name)


def _without_ends(p: Predictions) -> Predictions:
    nan = np.full(p.value.shape, math.nan)
    return replace(p, low=nan, high=nan)


def _refuse(model: str, protocol: str, repeats: int, few_shot: int) -> None:
    faults = []
    if model not in MODELS:
        faults.append(f"model must be one of {sorted(MODELS)}, got {model!r}")
    if protocol not in PROTOCOLS:
        faults.append(f"protocol must be one of {list(PROTOCOLS)}, got {protocol!r}")
    if repeats < 1:
        faults.append(f"repeats must be at least 1, got {repeats}")
    shows = protocol in PROTOCOLS and PROTOCOLS[protocol].new_domains and model in RECIPES
    if few_shot < 0 or (few_shot and not shows):
        faults.append(
            f"few_shot must be at least 0, and more only for leave-one-domain-out and one of "
            f"{sorted(RECIPES)}, got {few_shot}"
        )
    if faults:
        raise ParameterError("; ".join(faults))


def _refuse_empty(folds: Sequence[Fold], n: int) -> None:
    for fold in folds:
        if not fold.train.any():
            raise CalibrationError(
                f"without {fold.name!r} and its images, 0 rows of {n} are left to train on: label more"
            )


def _predict(asked: _Asked, fold: Fold, seed: int) -> Forecast:
    """Estimate held-out rows by what was fitted to the training rows of their fold."""
    model, nominal = asked.model, asked.nominal
    train, out = asked.table.select(fold.train), asked.table.select(fold.out)
    if model in RECIPES and (nominal is not None or RECIPES[model].blend):
        return forecast(_calibrate(asked, fold.train, seed), out.features)
    if model in RECIPES:
        return _without_intervals(guess(fit_forests(train.inputs, train.scores, seed), out.inputs))
    if model == QUANTILE_FOREST:
        value, ends = quantile_forest(train, out, nominal or 0.9, seed)
        said = _without_intervals(value)
        return said if nominal is None else replace(said, low=ends.low, high=ends.high)
    said = _without_intervals(PEERS[model](train, out, seed))
    if nominal is None:
        return said
    ends = peer_intervals(PEERS[model], train, said.value, nominal, seed)
    return replace(said, low=ends.low, high=ends.high)


def _predict_few(asked: _Asked, fold: Fold, few: int, seed: int, parts: Sequence[Predictions]) -> None:
    """Show the model a few labelled images of the held-out domain, anew for each part."""
    table, model = asked.table, asked.model
    names = sorted({table.images[int(i)] for i in np.flatnonzero(fold.out)})
    calibration = _calibrate(asked, fold.train, seed) if RECIPES[model].blend else None
    for i, part in enumerate(parts):
        order = np.random.default_rng([seed + i, few]).permutation(len(names))
        shown = {names[int(k)] for k in order[: min(few, len(names) // 2)]}
        labelled = fold.out & np.array([name in shown for name in table.images])
        rest = fold.out & ~labelled
        if calibration is None:
            some = table.select(fold.train | labelled)
            regressor = fit_forests(some.inputs, some.scores, seed + i)
            said = _without_intervals(guess(regressor, table.select(rest).inputs))
        else:
            known = [asked.rows[int(k)] for k in np.flatnonzero(labelled)]
            adapted = calibration
            if any(r.features["count"] > 0 for r in known):
                adapted = adapt(calibration, known, domain=known[0].domain)
            said = forecast(adapted, table.select(rest).features)
        _fill(part, rest, said)


def _calibrate(asked: _Asked, train: np.ndarray, seed: int) -> Calibration:
    known = [asked.rows[int(i)] for i in np.flatnonzero(train)]
    # Threshold and rule are carried along by a calibration; neither changes an estimate.
    return fit_calibration(
        known,
        score_threshold=SCORE_FLOOR,
        matching=PAPER,
        coverage=asked.nominal or 0.9,
        seed=seed,
        model=asked.model,
    )


def _without_intervals(value: ScoreTable) -> Forecast:
    nan = np.full(value.shape, np.nan)
    return Forecast(
        value=value,
        low=nan,
        high=nan,
        novelty=np.full(len(value), np.nan),
        abstained=np.zeros(len(value), bool),
        in_domain=np.zeros(len(value), bool),
    )
