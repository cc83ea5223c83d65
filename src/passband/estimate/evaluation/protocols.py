"""How good label-free estimates are: rows with measured scores, held out in one of four ways.

Whatever a model chooses, it chooses on the training rows of its fold: the default mixes its two learners,
scales its intervals and decides where to abstain by leaving out, inside these rows, one domain after the
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from passband.detections.matching import PAPER
from passband.errors import CalibrationError, ParameterError
from passband.estimate.calibration import Calibration, Forecast
from passband.estimate.evaluation.metrics import Evaluation, Metrics, Predictions, summarise
from passband.estimate.evaluation.peers import PEERS, QUANTILE_FOREST, peer_intervals, quantile_forest
from passband.estimate.features import SCORE_FLOOR
from passband.estimate.performance import adapt, fit_calibration, forecast
from passband.estimate.regressor import (
    RECIPES,
    TARGETS,
    ScoreTable,
    fit_forests,
    guess,
    image_folds,
    training_rows,
)
from passband.estimate.rows import CalibrationRow, RowTable, tabulate
from passband.types import Progress, Vector

MODELS: tuple[str, ...] = (*RECIPES, *PEERS, QUANTILE_FOREST)
"""What can be evaluated: the recipes of calibrations and what they are compared with."""

PROTOCOLS = ("random", "grouped", "leave-one-domain-out", "leave-one-set-out")
_FOLDS = 5


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
    faults = []
    if model not in MODELS:
        faults.append(f"model must be one of {sorted(MODELS)}, got {model!r}")
    if protocol not in PROTOCOLS:
        faults.append(f"protocol must be one of {list(PROTOCOLS)}, got {protocol!r}")
    if repeats < 1:
        faults.append(f"repeats must be at least 1, got {repeats}")
    if few_shot < 0 or (few_shot and (protocol != "leave-one-domain-out" or model not in RECIPES)):
        faults.append(
            f"few_shot must be at least 0, and more only for leave-one-domain-out and one of "
            f"{sorted(RECIPES)}, got {few_shot}"
        )
    if faults:
        raise ParameterError("; ".join(faults))
    table = tabulate(rows, RECIPES.get(model, RECIPES["paper-rf"]))
    fixed = protocol.startswith("leave-one") and not few_shot
    nominal = None if few_shot and model != "passband" else coverage
    folds = [_splits(table, protocol, seed + i) for i in range(1 if fixed or few_shot else repeats)]
    total, begun = sum(len(f) for f in folds), 0
    done = []
    for name, train, _ in (split for splits in folds for split in splits):
        if not train.any():
            raise CalibrationError(
                f"without {name!r} and its images, 0 rows of {len(rows)} are left to train on: label more"
            )
    for i, splits in enumerate(folds):
        parts = [_nothing(table) for _ in range(repeats if few_shot else 1)]
        for name, train, out in splits:
            if progress:
                progress(name, begun, total)
            begun += 1
            if few_shot:
                _predict_few(rows, table, (train, out), few_shot, model, nominal, seed, parts)
            else:
                _fill(parts[0], out, _predict(rows, table, (train, out), model, nominal, seed + i))
        for part in parts if nominal is None else ():
            part.low[:], part.high[:] = math.nan, math.nan
        done += parts
    if progress:
        progress("", total, total)
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
    done = []
    for i in range(1 if protocol.startswith("leave-one") else repeats):
        p = replace(_nothing(table), truth=truth)
        for _, train, out in _splits(table, protocol, seed + i):
            forest = RandomForestRegressor(100, random_state=seed + i)
            p.value[out] = forest.fit(table.inputs[train], truth[train, 0]).predict(table.inputs[out])[
                :, None
            ]
        done.append(p)
    e = summarise("paper-rf", protocol, None, tuple(done), 0)
    return e.overall["f1"], dict(e.domains["f1"])


def sets_of(domain: str) -> frozenset[str]:
    """Sets of images that a domain was tested on, by its label.

    Parameters
    ----------
    domain
        "TRAINED_TESTED", "SET: FOCUS" or "SET:FOCUS", where SET may join several by "&" and may carry a
        variant after "-".

    Returns
    -------
    frozenset of str
        One name or more.

    Examples
    --------
    >>> [sorted(sets_of(d)) for d in ("A&B_C", "A: over_under", "A&B_A&B", "B-starved:under")]
    [['C'], ['A'], ['A', 'B'], ['B']]
    """
    tested = domain.split(":")[0] if ":" in domain else domain.rsplit("_", 1)[-1]
    return frozenset(part.split("-")[0].strip() for part in tested.split("&"))


Split = tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]


def _splits(table: RowTable, protocol: str, seed: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, training rows and held-out rows of each fold."""
    images = table.images
    if protocol == "leave-one-set-out":
        tested = [sets_of(d) for d in table.domains]
        sets = sorted(set().union(*tested))
        _refuse_one(sets, "set")
        splits = []
        for name in sets:
            touched = np.array([name in t for t in tested])
            rest = training_rows("1", [str(int(t)) for t in touched], images)
            # A row tested on several sets is trained on for none of them and held out for none.
            out = np.array([t == {name} for t in tested])
            if out.any():
                splits.append((name, rest, out))
        if not splits:
            raise CalibrationError(f"every row was tested on several sets of {sets}: none can be left out")
        return splits
    if protocol == "random":
        # Every row counts as an image of its own: this is what makes the protocol optimistic.
        images = tuple(str(i) for i in range(len(images)))
    if protocol == "leave-one-domain-out":
        folds: Sequence[str] = table.domains
        _refuse_one(sorted(set(folds)), "domain")
    else:
        folds = image_folds(images, _FOLDS, seed)
    names = np.asarray(folds)
    return [(f, training_rows(f, folds, images), names == f) for f in sorted(set(folds))]


def _refuse_one(names: Sequence[str], what: str) -> None:
    if len(names) < 2:
        raise CalibrationError(
            f"all rows are of one {what}, {names[0]!r}: leaving it out leaves nothing to train on; evaluate "
            "with the protocol 'grouped'"
        )


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


def _predict(
    rows: Sequence[CalibrationRow],
    table: RowTable,
    split: Split,
    model: str,
    nominal: float | None,
    seed: int,
) -> Forecast:
    """Estimate held-out rows by what was fitted to the training rows of their fold."""
    train, asked = table.select(split[0]), table.select(split[1])
    if model in RECIPES and (nominal is not None or RECIPES[model].blend):
        return forecast(_calibrate(rows, split[0], model, nominal, seed), asked.features)
    if model in RECIPES:
        return _without_intervals(guess(fit_forests(train.inputs, train.scores, seed), asked.inputs))
    if model == QUANTILE_FOREST:
        value, ends = quantile_forest(train, asked, nominal or 0.9, seed)
        said = _without_intervals(value)
        return said if nominal is None else replace(said, low=ends.low, high=ends.high)
    said = _without_intervals(PEERS[model](train, asked, seed))
    if nominal is None:
        return said
    ends = peer_intervals(PEERS[model], train, said.value, nominal, seed)
    return replace(said, low=ends.low, high=ends.high)


def _predict_few(
    rows: Sequence[CalibrationRow],
    table: RowTable,
    split: Split,
    few: int,
    model: str,
    nominal: float | None,
    seed: int,
    parts: Sequence[Predictions],
) -> None:
    """Show the model a few labelled images of the held-out domain, anew for each part."""
    train, out = split
    names = sorted({table.images[int(i)] for i in np.flatnonzero(out)})
    calibration = _calibrate(rows, train, model, nominal, seed) if RECIPES[model].blend else None
    for i, part in enumerate(parts):
        order = np.random.default_rng([seed + i, few]).permutation(len(names))
        shown = {names[int(k)] for k in order[: min(few, len(names) // 2)]}
        labelled = out & np.array([name in shown for name in table.images])
        rest = out & ~labelled
        if calibration is None:
            some = table.select(train | labelled)
            regressor = fit_forests(some.inputs, some.scores, seed + i)
            said = _without_intervals(guess(regressor, table.select(rest).inputs))
        else:
            known = [rows[int(k)] for k in np.flatnonzero(labelled)]
            adapted = calibration
            if any(r.features["count"] > 0 for r in known):
                adapted = adapt(calibration, known, domain=known[0].domain)
            said = forecast(adapted, table.select(rest).features)
        _fill(part, rest, said)


def _calibrate(
    rows: Sequence[CalibrationRow], train: np.ndarray, model: str, nominal: float | None, seed: int
) -> Calibration:
    known = [rows[int(i)] for i in np.flatnonzero(train)]
    # Threshold and rule are carried along by a calibration; neither changes an estimate.
    return fit_calibration(
        known, score_threshold=SCORE_FLOOR, matching=PAPER, coverage=nominal or 0.9, seed=seed, model=model
    )


def _without_intervals(value: ScoreTable) -> Forecast:
    nan = np.full(value.shape, np.nan)
    return Forecast(
        value=value,
        low=nan,
        high=nan,
        novelty=np.full(len(value), np.nan),
        abstained=np.zeros(len(value), bool),
    )
