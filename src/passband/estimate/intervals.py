"""How wide an interval must be: held-out residuals, the expected error that scales them, the radius."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from passband.estimate import conformal
from passband.estimate.regressor import (
    DIFFICULTY_FLOOR,
    TARGETS,
    Guesses,
    Recipe,
    Regressor,
    ScoreTable,
    cross_fit,
    difficulty_inputs,
    fit_regressor,
    image_folds,
)
from passband.estimate.rows import RowTable

NEW_DOMAINS = "new domains"
NEW_IMAGES = "new images"
MIN_DOMAIN_ROWS = 30
FOLDS = 5
DIFFICULTY_LEAVES = 48
"""Most leaves of a tree of the expected error, which varies more slowly than the score."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The interval of one score, and what it reached on rows left out of it.

    Parameters
    ----------
    radius
        Half width of the interval, in units of the estimate's difficulty.
    mean_width
        Mean width over the calibration rows.
    worst_domain
        The domain least covered when it was left out.
    worst_coverage
        The share of its rows covered then; NaN where no domain could be left out.
    """

    radius: float
    mean_width: float
    worst_domain: str
    worst_coverage: float


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Guesses of rows not trained on, and for what their residuals speak.

    Parameters
    ----------
    said
        Of every row; NaN where no fit could be made without its group.
    groups
        What was held out, for every row: domains, or folds of images.
    valid_for
        `NEW_DOMAINS` or `NEW_IMAGES`.
    """

    said: Guesses
    groups: Sequence[str]
    valid_for: str


def hold_out(table: RowTable, recipe: Recipe, seed: int) -> HeldOut:
    """Guesses of every row by a regressor that saw neither its domain nor its image.

    Parameters
    ----------
    table
        Rows.
    recipe
        What to fit.
    seed
        Seed of the trees and folds.

    Returns
    -------
    HeldOut
        By domain, or by folds of images where the recipe says so or the domains do not suffice.
    """
    x, y, images = table.inputs, table.scores, table.images
    if recipe.across_domains and len(set(table.domains)) > 1 and len(x) >= MIN_DOMAIN_ROWS:
        said = cross_fit(x, y, table.domains, images, recipe, seed)
        guessed = np.isfinite(said.value[:, 0])
        domains = {d for d, known in zip(table.domains, guessed, strict=True) if known}
        if len(domains) > 1 and guessed.sum() >= MIN_DOMAIN_ROWS:
            return HeldOut(said=said, groups=table.domains, valid_for=NEW_DOMAINS)
    folds = image_folds(images, FOLDS, seed)
    return HeldOut(said=cross_fit(x, y, folds, images, recipe, seed), groups=folds, valid_for=NEW_IMAGES)


def fit_difficulty(
    table: RowTable, held_out: HeldOut, recipe: Recipe, seed: int
) -> tuple[Regressor | None, ScoreTable]:
    """The regressor of the expected error, and what it expects of rows that it did not see.

    The radius must come from expectations as blind as the errors they scale, so these are
    cross-fitted over the same groups; the regressor that is kept sees all rows.

    Parameters
    ----------
    table, held_out
        Rows and their guesses.
    recipe
        Says whether an expected error is learned.
    seed
        Seed of the trees.

    Returns
    -------
    difficulty, hard
        The regressor or None, and the expected errors, float64 (n, 3), NaN where there is none.
    """
    said = held_out.said
    if recipe.difficulty_leaf is None:
        return None, np.ones_like(said.value)
    known = np.flatnonzero(np.isfinite(said.value[:, 0]) & found_something(table))
    known_said = Guesses(value=said.value[known], spread=said.spread[known])
    z = difficulty_inputs(table.inputs[known], known_said)
    errors = np.abs(table.scores[known] - known_said.value)
    coarse = replace(recipe, min_leaf=recipe.difficulty_leaf, max_leaves=DIFFICULTY_LEAVES)
    groups = [held_out.groups[int(i)] for i in known]
    images = [table.images[int(i)] for i in known]
    hard = np.full(said.value.shape, np.nan)
    hard[known] = cross_fit(z, errors, groups, images, coarse, seed).value + DIFFICULTY_FLOOR
    return fit_regressor(z, errors, coarse, seed), hard


def found_something(table: RowTable) -> Bool[np.ndarray, " n"]:
    """Rows with at least one detection.

    Without one, F1 is 1 where nothing is there and 0 where it was missed: the interval is [0, 1]
    whatever the residuals, and those of such rows would only widen all others.
    """
    return np.asarray(table.features[:, table.names.index("count")] > 0)


def measure_reach(table: RowTable, held_out: HeldOut, hard: ScoreTable, coverage: float) -> dict[str, Reach]:
    """Make each target's interval from the residuals of rows not trained on.

    Parameters
    ----------
    table, held_out
        Rows and their guesses.
    hard
        Expected errors of the guesses, float64 (n, 3).
    coverage
        Wanted, inside (0, 1).

    Returns
    -------
    dict
        The reach of each of `TARGETS`.
    """
    said = held_out.said
    kept = np.isfinite(said.value[:, 0]) & np.isfinite(hard[:, 0]) & found_something(table)
    domains = [d for d, known in zip(table.domains, kept, strict=True) if known]
    reaches = {}
    for j, target in enumerate(TARGETS):
        residuals = np.abs(table.scores[kept, j] - said.value[kept, j]) / hard[kept, j]
        worst, share = "", math.nan
        if held_out.valid_for == NEW_DOMAINS:
            radius = conformal.domain_quantile(residuals, domains, coverage)
            shares = conformal.leave_one_out_coverage(residuals, domains, coverage)
            worst = min(shares, key=shares.__getitem__)
            share = shares[worst]
        else:
            radius = conformal.conformal_quantile(residuals, coverage)
        values = np.clip(said.value[kept, j], 0, 1)
        low, high = conformal.unit_intervals(values, radius * hard[kept, j])
        reaches[target] = Reach(
            radius=radius, mean_width=float((high - low).mean()), worst_domain=worst, worst_coverage=share
        )
    return reaches
