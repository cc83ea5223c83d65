"""Estimates of F1, precision and recall without labels: calibrate on labelled rows, then estimate.

A calibration belongs to one detector at one score threshold and to one matching rule. Its intervals
say for what they were calibrated: for new domains, where whole domains could be left out, or for new
images of the known domains only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from passband.errors import CalibrationError, ParameterError
from passband.estimate import conformal, novelty
from passband.estimate.intervals import (
    FOLDS,
    NEW_DOMAINS,
    NEW_IMAGES,
    Reach,
    fit_difficulty,
    hold_out,
    measure_reach,
)
from passband.estimate.novelty import Reference
from passband.estimate.regressor import (
    MIN_TRAINING_ROWS,
    RECIPES,
    TARGETS,
    Regressor,
    expected_error,
    fit_regressor,
    guess,
)
from passband.estimate.rows import CalibrationRow, name_faults, number_faults, tabulate
from passband.measure.matching import MatchingRule

__all__ = [
    "Calibration",
    "CalibrationRow",
    "Estimate",
    "Outlook",
    "Reach",
    "estimate_scores",
    "fit_calibration",
]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score estimated without labels.

    Parameters
    ----------
    value
        The estimate, in [0, 1].
    low, high
        Ends of its interval, in [0, 1].
    coverage
        How often such an interval is meant to contain the measured score.
    """

    value: float
    low: float
    high: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What can be said of an image without labels.

    Parameters
    ----------
    estimates
        "f1", "precision" and "recall".
    novelty
        Distance from the rows that the calibration knows; above 1 the image lies outside.
    unusual
        The features outside the calibration's range, the farthest first.
    """

    estimates: Mapping[str, Estimate]
    novelty: float
    unusual: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """All that is needed to estimate the scores of one detector.

    Parameters
    ----------
    model
        A key of `RECIPES`.
    features
        The features that a row must have, no more and no fewer.
    score_threshold
        The detector's, on which every feature depends.
    matching
        The rule by which the scores were measured.
    coverage
        Meant coverage of the intervals.
    valid_for
        `NEW_DOMAINS` or `NEW_IMAGES` (of the same domains).
    domains
        How many rows each domain gave.
    reach
        The interval of each target.
    regressor, difficulty, reference
        What estimates, what says how large an error to expect (None: the same everywhere), and what is
        known.

    Raises
    ------
    CalibrationError
        Naming every part that does not fit.
    """

    model: str
    features: tuple[str, ...]
    score_threshold: float
    matching: MatchingRule
    coverage: float
    valid_for: str
    domains: Mapping[str, int]
    reach: Mapping[str, Reach]
    regressor: Regressor
    difficulty: Regressor | None
    reference: Reference

    def __post_init__(self) -> None:
        faults = []
        if self.model not in RECIPES:
            faults.append(f"model must be one of {sorted(RECIPES)}, got {self.model!r}")
        elif missing := [n for n in RECIPES[self.model].inputs if n not in self.features]:
            faults.append(f"the model wants features that are missing: {missing}")
        elif len(self.regressor.center) != len(RECIPES[self.model].inputs):
            faults.append(
                f"the regressor has {len(self.regressor.center)} inputs, another number than the model"
            )
        elif (self.difficulty is None) != (RECIPES[self.model].difficulty_leaf is None):
            faults.append("an expected error is learned by this model, or comes with a model that has none")
        elif self.difficulty is not None and len(self.difficulty.center) != (
            len(RECIPES[self.model].inputs) + 2 * len(TARGETS)
        ):
            faults.append("the expected error has another number of inputs than the model's")
        if len(set(self.features)) != len(self.features) or len(self.features) != len(self.reference.center):
            faults.append(f"{len(self.features)} features, {len(self.reference.center)} known")
        if not 0 <= self.score_threshold <= 1:
            faults.append(f"score_threshold must be in [0, 1], got {self.score_threshold!r}")
        if not 0 < self.coverage < 1:
            faults.append(f"coverage must be inside (0, 1), got {self.coverage!r}")
        if self.valid_for not in (NEW_DOMAINS, NEW_IMAGES):
            faults.append(f"valid_for must be {NEW_DOMAINS!r} or {NEW_IMAGES!r}, got {self.valid_for!r}")
        if set(self.reach) != set(TARGETS) or not all(0 <= r.radius < math.inf for r in self.reach.values()):
            faults.append(f"wanted a finite radius of each of {list(TARGETS)}")
        elif not all(
            0 <= r.mean_width <= 1 and not abs(r.worst_coverage - 0.5) > 0.5 for r in self.reach.values()
        ):
            faults.append("mean widths and worst coverages must be in [0, 1]")
        if faults:
            raise CalibrationError("a calibration cannot be used: " + "; ".join(faults))
        object.__setattr__(self, "domains", MappingProxyType(dict(self.domains)))
        object.__setattr__(self, "reach", MappingProxyType(dict(self.reach)))

    @property
    def statement(self) -> str:
        """For what the intervals hold, in words."""
        names = ", ".join(self.domains)
        if self.valid_for == NEW_IMAGES:
            return (
                f"{self.coverage:.0%} intervals, in-domain only: they were calibrated on held-out images of "
                f"{names} and promise nothing for another material, instrument or focus"
            )
        worst = self.reach["f1"]
        return (
            f"{self.coverage:.0%} intervals calibrated on held-out domains ({names}); with each domain left "
            f"out in turn, the worst F1 coverage was {worst.worst_coverage:.0%} ({worst.worst_domain})"
        )


def fit_calibration(
    rows: Sequence[CalibrationRow],
    *,
    score_threshold: float,
    matching: MatchingRule,
    coverage: float = 0.9,
    seed: int = 0,
    model: str = "passband",
) -> Calibration:
    """Fit estimates and their intervals to images with measured scores.

    The residuals that set the intervals come from regressors that saw neither the row's domain nor
    its image. Where fewer than two domains can be left out, or there are fewer than 30 rows, whole
    images are left out instead and the calibration says "in-domain only".

    Parameters
    ----------
    rows
        Labelled images, all with the same features.
    score_threshold
        The detector's, in [0, 1].
    matching
        The rule by which the rows were scored.
    coverage
        Wanted coverage, inside (0, 1).
    seed
        Seed of the trees and folds.
    model
        A key of `RECIPES`.

    Returns
    -------
    Calibration
        Reproducible from the rows and the seed.

    Raises
    ------
    CalibrationError
        If the rows are too few, differ in their features or lack some that the model needs.
    ParameterError
        If the coverage is not inside (0, 1) or the model unknown.

    Examples
    --------
    >>> from passband.measure.matching import OPTIMAL
    >>> from passband.estimate.features import CANDIDATE_FEATURES
    >>> rows = [
    ...     CalibrationRow(
    ...         features=dict.fromkeys(CANDIDATE_FEATURES, i / 40),
    ...         f1=i / 40, precision=i / 40, recall=i / 40, domain="AB"[i % 2], image=f"{i}.tif",
    ...     )
    ...     for i in range(40)
    ... ]
    >>> calibration = fit_calibration(rows, score_threshold=0.1, matching=OPTIMAL)
    >>> calibration.valid_for, dict(calibration.domains)
    ('new domains', {'A': 20, 'B': 20})
    >>> f1 = estimate_scores(calibration, rows[30].features).estimates["f1"]
    >>> f1.low < 0.75 < f1.high
    True
    """
    if model not in RECIPES:
        raise ParameterError(f"model must be one of {sorted(RECIPES)}, got {model!r}")
    if not 0 < coverage < 1:
        raise ParameterError(f"coverage must lie inside (0, 1), got {coverage!r}")
    recipe = RECIPES[model]
    _refuse_few(rows, coverage)
    table = tabulate(rows, recipe)
    held_out = hold_out(table, recipe, seed)
    difficulty, hard = fit_difficulty(table, held_out, recipe, seed)
    return Calibration(
        model=model,
        features=table.names,
        score_threshold=score_threshold,
        matching=matching,
        coverage=coverage,
        valid_for=held_out.valid_for,
        domains=dict(sorted(Counter(table.domains).items())),
        reach=measure_reach(table, held_out, hard, coverage),
        regressor=fit_regressor(table.inputs, table.scores, recipe, seed),
        difficulty=difficulty,
        reference=novelty.fit_reference(table.features, table.images, seed),
    )


def estimate_scores(calibration: Calibration, features: Mapping[str, float]) -> Outlook:
    """Estimate the scores of one image from its features.

    Parameters
    ----------
    calibration
        For the detector that made the detections, at its threshold.
    features
        Exactly those named in ``calibration.features``.

    Returns
    -------
    Outlook
        Estimates with intervals, and whether the image lies outside what the calibration knows.

    Raises
    ------
    CalibrationError
        Naming every feature that is missing, unknown or no finite number.
    """
    faults = name_faults(set(features), set(calibration.features)) + number_faults(features)
    if faults:
        raise CalibrationError("these features do not fit the calibration: " + "; ".join(faults))
    recipe = RECIPES[calibration.model]
    row = np.array([features[n] for n in calibration.features], np.float64)
    inputs = np.array([[features[n] for n in recipe.inputs]], np.float64)
    said = guess(calibration.regressor, inputs)
    hard = expected_error(calibration.difficulty, inputs, said)[0]
    radii = np.array([calibration.reach[t].radius for t in TARGETS]) * hard
    values = np.clip(said.value[0], 0, 1)
    low, high = conformal.unit_intervals(values, radii)
    if features["count"] == 0:  # either nothing is there, or it was missed
        low, high = np.zeros_like(low), np.ones_like(high)
    estimates = {
        t: Estimate(value=float(v), low=float(a), high=float(b), coverage=calibration.coverage)
        for t, v, a, b in zip(TARGETS, values, low, high, strict=True)
    }
    return Outlook(
        estimates=MappingProxyType(estimates),
        novelty=novelty.novelty(calibration.reference, row),
        unusual=novelty.unusual(calibration.reference, row, calibration.features),
    )


def _refuse_few(rows: Sequence[CalibrationRow], coverage: float) -> None:
    """Stop where neither a fit nor a finite interval can be had."""
    # Leaving a fifth of the images out must leave enough to train on, and n rows give a finite
    # conformal radius from n >= coverage / (1 - coverage).
    wanted = max(2 * MIN_TRAINING_ROWS, math.ceil(coverage / (1 - coverage) - 1e-9))
    images = len({r.image for r in rows})
    if len(rows) < wanted or images < FOLDS:
        raise CalibrationError(
            f"{len(rows)} rows of {images} images came; a calibration at coverage {coverage:g} wants at "
            f"least {wanted} rows of {FOLDS} images: label more images"
        )
