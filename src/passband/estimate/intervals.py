"""How wide an interval must be: estimates of rows left out, their errors, and what these promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from passband.estimate import conformal
from passband.estimate.blend import Blend, fit_blend, from_logit, standardise, to_logit
from passband.estimate.conformal import Interval
from passband.estimate.effects import (
    ALIKE,
    SHIFT_ALONE,
    DomainEffect,
    LabelledRows,
    expected_spread,
    fit_effect,
    learn,
    radius,
)
from passband.estimate.regressor import (
    TARGETS,
    Recipe,
    Regressor,
    ScoreTable,
    cross_fit,
    fit_forests,
    image_folds,
)
from passband.estimate.rows import RowTable
from passband.types import Vector

NEW_DOMAINS = "new domains"
NEW_IMAGES = "new images"
MIN_DOMAIN_ROWS = 30
FOLDS = 5
FEW = 10
"""Labelled images with which the level of intervals of adapted estimates is chosen."""
MOST_LEVEL = 0.98
_DOMAINS_COVERED = 0.9
_LEAST_ROWS = 10
_DRAWS = 10
WIDEST = 0.9
"""An estimate whose F1 interval is wider than this share of the held-out ones is no estimate."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The interval of one score, and what it reached on rows left out of it.

    Parameters
    ----------
    radius
        Half width: in expected standard deviations of the error, in logits, where a domain's effect is
        known; otherwise as it is.
    mean_width
        Mean width over the calibration rows.
    worst_domain
        The domain least covered when it was left out.
    worst_coverage
        The share of its rows covered then; NaN where no domain could be left out.
    r2
        Of the held-out estimates; at most 0 the estimate knows no more than a constant would, and its
        interval is [0, 1].
    level
        Nominal coverage of intervals that are adapted to labelled images: so high that with `FEW` of them
        nine of ten known domains got the coverage that is wanted, and of fewer than ten all.
    """

    radius: float
    mean_width: float
    worst_domain: str
    worst_coverage: float
    r2: float
    level: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedEstimator:
    """A regressor, what it says of rows that it was fitted without, and for what that speaks.

    Parameters
    ----------
    regressor
        Fitted to all rows.
    held_out
        Estimates of every row without its group, float64 (n, 3); NaN where there is none.
    groups
        What was held out, for every row: domains, or folds of images.
    valid_for
        `NEW_DOMAINS` or `NEW_IMAGES`.
    effect
        What a group adds to the errors, or None: all errors are alike.
    """

    regressor: Regressor
    held_out: ScoreTable
    groups: Sequence[str]
    valid_for: str
    effect: DomainEffect | None


def fit_and_hold_out(table: RowTable, recipe: Recipe, seed: int) -> FittedEstimator:
    """Fit all rows, and find out what is said of rows left out.

    Parameters
    ----------
    table
        Rows.
    recipe
        What to fit.
    seed
        Seed of trees and folds.

    Returns
    -------
    FittedEstimator
        With domains held out, or folds of images where the recipe is for these or domains do not suffice.
    """
    x, y, images = table.inputs, table.scores, table.images
    folds = image_folds(images, FOLDS, seed)
    if not recipe.blend:
        return FittedEstimator(
            regressor=fit_forests(x, y, seed),
            held_out=cross_fit(x, y, folds, images, seed),
            groups=folds,
            valid_for=NEW_IMAGES,
            effect=None,
        )
    groups, valid_for = folds, NEW_IMAGES
    if len(set(table.domains)) > 1 and len(x) >= MIN_DOMAIN_ROWS:
        blend, held_out = fit_blend(x, y, table.domains, images, names=recipe.inputs)
        known = np.isfinite(held_out[:, 0]) & found_something(table)
        left = {d for d, k in zip(table.domains, known, strict=True) if k}
        if len(left) > 1 and known.sum() >= MIN_DOMAIN_ROWS:
            groups, valid_for = list(table.domains), NEW_DOMAINS
    if valid_for == NEW_IMAGES:
        blend, held_out = fit_blend(x, y, folds, images, names=recipe.inputs)
    known = np.flatnonzero(np.isfinite(held_out[:, 0]) & found_something(table))
    effect = None
    if len(known):
        effect = fit_effect(
            standardise(blend, x[known]),
            counts_of(table)[known],
            to_logit(y[known]) - to_logit(held_out[known]),
            [groups[int(i)] for i in known],
        )
        effect = replace(effect, variances=effect.variances + recipe.stranger * SHIFT_ALONE)
    return FittedEstimator(
        regressor=blend, held_out=held_out, groups=groups, valid_for=valid_for, effect=effect
    )


def counts_of(table: RowTable) -> Vector:
    """Detections in each image."""
    return table.features[:, table.names.index("count")]


def found_something(table: RowTable) -> Bool[np.ndarray, " n"]:
    """Rows with at least one detection.

    Without one, F1 is 1 where nothing is there and 0 where it was missed: the interval is [0, 1]
    whatever the residuals, and those of such rows would only widen all others.
    """
    return np.asarray(counts_of(table) > 0)


def make_intervals(
    values: ScoreTable, spread: ScoreTable | None, radii: Float64[np.ndarray, " k"]
) -> Interval:
    """Intervals around estimates: symmetric in logits where a spread is known, else as they are.

    Parameters
    ----------
    values
        Estimates in [0, 1], float64 (n, k).
    spread
        Expected standard deviation of the errors in logits, float64 (n, k), or None.
    radii
        Of each score, shape (k,).

    Returns
    -------
    Interval
        Ends in [0, 1], float64 (n, k) each.

    Examples
    --------
    >>> low, high = make_intervals(np.array([[0.9]]), np.ones((1, 1)), np.array([1.6]))
    >>> bool(0.9 - low[0, 0] > high[0, 0] - 0.9)
    True
    """
    if spread is None:
        return Interval(np.clip(values - radii, 0, 1), np.clip(values + radii, 0, 1))
    center = to_logit(values)
    return Interval(from_logit(center - radii * spread), from_logit(center + radii * spread))


def measure_reach(table: RowTable, fitted: FittedEstimator, coverage: float) -> dict[str, Reach]:
    """Make each target's interval from rows that were left out.

    Where domains were left out, the radius is never under that of Student's law: the rows of a handful of
    domains cannot show that less suffices for the next one.

    Parameters
    ----------
    table, fitted
        Rows and what came of them.
    coverage
        Wanted, inside (0, 1).

    Returns
    -------
    dict
        The reach of each of `TARGETS`.
    """
    kept = np.flatnonzero(np.isfinite(fitted.held_out[:, 0]) & found_something(table))
    said, truth = fitted.held_out[kept], table.scores[kept]
    groups = [fitted.groups[int(i)] for i in kept]
    spread = None
    residuals = np.abs(truth - said)
    if fitted.effect is not None and isinstance(fitted.regressor, Blend):
        inputs = standardise(fitted.regressor, table.inputs[kept])
        spread = expected_spread(fitted.effect, inputs, counts_of(table)[kept])
        residuals = np.abs(to_logit(truth) - to_logit(said)) / spread
    least = radius(coverage)
    levels = _levels(table.select(kept), fitted, said, coverage)
    reaches = {}
    for j, target in enumerate(TARGETS):
        worst, share = "", math.nan
        if fitted.valid_for == NEW_DOMAINS:
            reached = max(least, conformal.domain_quantile(residuals[:, j], groups, coverage))
            shares = conformal.leave_one_out_coverage(residuals[:, j], groups, coverage, least=least)
            worst = min(shares, key=shares.__getitem__)
            share = shares[worst]
        else:
            reached = conformal.conformal_quantile(residuals[:, j], coverage)
        column = None if spread is None else spread[:, j : j + 1]
        low, high = make_intervals(said[:, j : j + 1], column, np.array([reached]))
        variance = float(truth[:, j].var())
        error = float(((said[:, j] - truth[:, j]) ** 2).mean())
        reaches[target] = Reach(
            radius=reached,
            mean_width=float((high - low).mean()),
            worst_domain=worst,
            worst_coverage=share,
            r2=1 - error / variance if variance > 0 else 1.0,
            level=levels[j],
        )
    return reaches


def _levels(table: RowTable, fitted: FittedEstimator, said: ScoreTable, coverage: float) -> list[float]:
    """Of each score, the nominal coverage that nine of ten known domains want, a few images labelled."""
    if fitted.valid_for != NEW_DOMAINS or fitted.effect is None or not isinstance(fitted.regressor, Blend):
        return [coverage] * len(TARGETS)
    from scipy.special import stdtr

    inputs, counts = standardise(fitted.regressor, table.inputs), np.maximum(counts_of(table), 1)
    errors = to_logit(table.scores) - to_logit(said)
    domains = np.asarray(table.domains)
    needed = []
    for number, name in enumerate(np.unique(domains)):
        members = np.flatnonzero(domains == name)
        if len(members) < _LEAST_ROWS:
            continue
        shares = []
        for draw in range(_DRAWS):
            order = np.random.default_rng([number, draw]).permutation(members)
            few = min(FEW, len(members) // 2)
            shown, rest = order[:few], order[few:]
            labelled = LabelledRows(
                domain=str(name), inputs=inputs[shown], counts=counts[shown], errors=errors[shown]
            )
            shift, spread = learn(fitted.effect, labelled, inputs[rest], counts[rest])
            shares.append(2 * stdtr(ALIKE + few, np.abs(errors[rest] - shift) / spread) - 1)
        needed.append(np.quantile(np.concatenate(shares), coverage, axis=0))
    if not needed:
        return [coverage] * len(TARGETS)
    enough = np.quantile(needed, _DOMAINS_COVERED, axis=0, method="higher")
    return [float(v) for v in np.clip(enough, coverage, max(MOST_LEVEL, coverage))]
