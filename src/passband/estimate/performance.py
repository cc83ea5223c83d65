"""Estimates of F1, precision and recall without labels: calibrate on labelled rows, then estimate.

A calibration belongs to one detector at one score threshold and to one matching rule. Its intervals
say for what they were calibrated: for new domains, where whole domains could be left out, or for new
images of the known domains only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from passband.detections.matching import MatchingRule
from passband.errors import CalibrationError, ParameterError
from passband.estimate import novelty
from passband.estimate.blend import Blend, from_logit, standardise, to_logit
from passband.estimate.calibration import Calibration, Estimate, Forecast, HeldOutScores, Outlook
from passband.estimate.effects import LabelledRows, expected_spread, learn, radius
from passband.estimate.in_domain import InDomain, Taken, ends, fit_in_domain
from passband.estimate.intervals import (
    FOLDS,
    MIN_DOMAIN_ROWS,
    NEW_DOMAINS,
    WIDEST,
    counts_of,
    fit_and_hold_out,
    found_something,
    make_intervals,
    measure_reach,
)
from passband.estimate.mixture import quantile, weigh_accounts
from passband.estimate.regressor import (
    MIN_TRAINING_ROWS,
    RECIPES,
    TARGETS,
    ScoreTable,
    guess,
)
from passband.estimate.rows import CalibrationRow, RowTable, name_faults, number_faults, tabulate
from passband.types import Vector

MOST_LABELLED = 200
"""Labelled images of one domain that a calibration is adapted to; more are better used to calibrate anew."""


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
    >>> from passband.detections.matching import OPTIMAL
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
    fitted = fit_and_hold_out(table, recipe, seed)
    known = np.isfinite(fitted.held_out[:, 0])
    shown = known & found_something(table)
    if shown.sum() < _finite_from(coverage):
        raise CalibrationError(
            f"{len(rows)} rows came, but of {shown.sum()} with a detection could others tell; a calibration "
            f"at coverage {coverage:g} wants {_finite_from(coverage)}: label images on which the detector "
            "finds some"
        )
    reach = measure_reach(table, fitted, coverage)
    reference = novelty.fit_reference(table.features, table.images, seed)
    if recipe.stranger:
        reference = novelty.know_domains(reference, table.features, table.domains)
    calibration = Calibration(
        model=model,
        features=table.names,
        score_threshold=score_threshold,
        matching=matching,
        coverage=coverage,
        valid_for=fitted.valid_for,
        domains=dict(sorted(Counter(table.domains).items())),
        reach=reach,
        regressor=fitted.regressor,
        effect=fitted.effect,
        reference=reference,
        widest=1.0,
        held_out=HeldOutScores(estimated=fitted.held_out[known], measured=table.scores[known]),
        in_domain=_like_images(table, reference, fitted.valid_for, coverage, seed),
    )
    low, high = _intervals(calibration, table.inputs[shown], counts_of(table)[shown], fitted.held_out[shown])
    return replace(calibration, widest=float(np.quantile(high[:, 0] - low[:, 0], WIDEST)))


def adapt(calibration: Calibration, rows: Sequence[CalibrationRow], *, domain: str) -> Calibration:
    """The same calibration for one domain of which a few images are labelled.

    How far to trust so few is not guessed: the calibration knows how much domains differ from each
    other and how much images of one do.

    Parameters
    ----------
    calibration
        With a known effect of domains.
    rows
        Labelled images of the domain, from the same detector; those without a detection teach nothing.
    domain
        What to call it.

    Returns
    -------
    Calibration
        Whose estimates are for images of this domain. It replaces an earlier adaptation.

    Raises
    ------
    CalibrationError
        If the rows do not fit, there are none with a detection or more than `MOST_LABELLED`, or the
        calibration does not know how domains differ.

    Examples
    --------
    >>> from passband.detections.matching import OPTIMAL
    >>> from passband.estimate.features import CANDIDATE_FEATURES
    >>> rows = [
    ...     CalibrationRow(
    ...         features=dict.fromkeys(CANDIDATE_FEATURES, i / 40) | {"count": 9.0},
    ...         f1=i / 40, precision=i / 40, recall=i / 40, domain="AB"[i % 2], image=f"{i}.tif",
    ...     )
    ...     for i in range(40)
    ... ]
    >>> known = fit_calibration(rows, score_threshold=0.1, matching=OPTIMAL)
    >>> worse = [replace(r, f1=r.f1 / 2, domain="C") for r in rows[20::4]]
    >>> said = [estimate_scores(c, rows[30].features) for c in (known, adapt(known, worse, domain="C"))]
    >>> bool(said[1].estimates["f1"].value < said[0].estimates["f1"].value - 0.1)
    True
    """
    if not calibration.adaptable or not isinstance(calibration.regressor, Blend):
        raise CalibrationError(
            "this calibration does not know how domains differ, so a few images cannot adapt it; it wants "
            "the model 'passband' and two or more domains: calibrate anew on more images"
        )
    table = tabulate(rows, RECIPES[calibration.model])
    if faults := name_faults(set(table.names), set(calibration.features)):
        raise CalibrationError("these rows do not fit the calibration: " + "; ".join(faults))
    shown = np.flatnonzero(found_something(table))
    if not 0 < len(shown) <= MOST_LABELLED:
        raise CalibrationError(
            f"{len(shown)} labelled images with a detection came; wanted 1 to {MOST_LABELLED}: "
            + ("calibrate anew on so many" if len(shown) else "label images on which the detector finds some")
        )
    x, counts = table.inputs[shown], counts_of(table)[shown]
    said = guess(calibration.regressor, x)
    measured = to_logit(table.scores[shown])
    stranger = RECIPES[calibration.model].stranger > 0
    labelled = LabelledRows(
        domain=domain,
        inputs=standardise(calibration.regressor, x),
        counts=counts,
        errors=measured - to_logit(said),
        scores=measured if stranger else np.zeros((0, 0)),
    )
    order = [table.names.index(n) for n in calibration.features]
    # Of another detector nothing is known but what it was seen to do.
    know = novelty.only if stranger else novelty.extend_reference
    reference = know(calibration.reference, table.features[:, order])
    return replace(calibration, labelled=labelled, reference=reference)


def forecast(
    calibration: Calibration,
    features: Float64[np.ndarray, "n p"],
    taken: Taken | None = None,
    *,
    unlike: float = 0.0,
) -> Forecast:
    """Estimate the scores of many images.

    Parameters
    ----------
    calibration
        For the detector that made the detections, at its threshold.
    features
        Finite, columns in the order of ``calibration.features``, float64 (n, p).
    taken
        With what all of them were taken, where that is known.
    unlike
        How far what the network saw in them lies from what is known, by `look.unlike`; above 1 it is strange.

    Returns
    -------
    Forecast
        n rows.

    Raises
    ------
    CalibrationError
        If the features have another number of columns or are not finite.

    Examples
    --------
    >>> from passband.detectors.bundle import default_bundle
    >>> from passband.estimate.records import from_record
    >>> known = from_record(default_bundle().calibration)
    >>> forecast(known, np.zeros((2, len(known.features)))).high[:, 0].tolist()
    [1.0, 1.0]
    """
    wanted = len(calibration.features)
    if features.ndim != 2 or features.shape[1] != wanted or not np.isfinite(features).all():
        raise CalibrationError(f"wanted finite rows of {wanted} features, got {features.shape}")
    columns = [calibration.features.index(n) for n in RECIPES[calibration.model].inputs]
    counts = features[:, calibration.features.index("count")]
    inputs = features[:, columns]
    values = np.clip(guess(calibration.regressor, inputs), 0, 1)
    if calibration.labelled is not None and calibration.labelled.scores.size:
        values, low, high = _by_both_accounts(calibration, inputs, counts, values)
    else:
        if calibration.labelled is not None:
            values = from_logit(to_logit(values) + _learned(calibration, inputs, counts)[0])
        low, high = _intervals(calibration, inputs, counts, values)
    far = np.array([max(unlike, novelty.novelty(calibration.reference, row)) for row in features])
    known = calibration.in_domain
    alike = np.zeros(len(features), bool)
    if known is not None and calibration.labelled is None and taken is not None and known.knows(taken):
        alike = (far <= 1) & (counts > 0)
        like = ends(known, novelty.scaled(calibration.reference, features[alike]))
        low[alike] = np.minimum(like.low, values[alike])
        high[alike] = np.maximum(like.high, values[alike])
    empty = counts == 0  # either nothing is there, or it was missed
    low[empty], high[empty] = 0.0, 1.0
    wide = high[:, 0] - low[:, 0] > calibration.widest + 1e-9
    told = (wide | (far > 1)) & RECIPES[calibration.model].blend  # the published recipe never abstains
    return Forecast(value=values, low=low, high=high, novelty=far, abstained=empty | told, in_domain=alike)


def estimate_scores(
    calibration: Calibration,
    features: Mapping[str, float],
    taken: Taken | None = None,
    *,
    unlike: float = 0.0,
) -> Outlook:
    """Estimate the scores of one image from its features.

    Parameters
    ----------
    calibration
        For the detector that made the detections, at its threshold.
    features
        Exactly those named in ``calibration.features``.
    taken
        With what the image was taken, where that is known.
    unlike
        As of `forecast`.

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
    row = np.array([features[n] for n in calibration.features], np.float64)
    said = forecast(calibration, row[None], taken, unlike=unlike)
    estimates = {
        t: Estimate(
            value=float(said.value[0, j]),
            low=float(said.low[0, j]),
            high=float(said.high[0, j]),
            coverage=calibration.coverage,
        )
        for j, t in enumerate(TARGETS)
    }
    return Outlook(
        estimates=MappingProxyType(estimates),
        novelty=float(said.novelty[0]),
        unusual=novelty.unusual(calibration.reference, row, calibration.features),
        abstained=bool(said.abstained[0]),
        in_domain=bool(said.in_domain[0]),
        unlike=unlike,
    )


def _like_images(
    table: RowTable, reference: novelty.Reference, valid_for: str, coverage: float, seed: int
) -> InDomain | None:
    """What tells of images taken as these were, where that is known and intervals are for new domains."""
    known = np.array([one.known for one in table.taken], bool)
    some = table.select(found_something(table) & known)
    if valid_for != NEW_DOMAINS or len(some.taken) < MIN_DOMAIN_ROWS:
        return None
    return fit_in_domain(
        novelty.scaled(reference, some.features),
        some.scores,
        some.domains,
        some.images,
        some.taken,
        coverage=coverage,
        seed=seed,
    )


def _learned(
    c: Calibration, inputs: Float64[np.ndarray, "n q"], counts: Vector
) -> tuple[ScoreTable, ScoreTable]:
    """Shift and spread in logits that the labelled images teach."""
    assert c.labelled is not None and c.effect is not None and isinstance(c.regressor, Blend)
    return learn(c.effect, c.labelled, standardise(c.regressor, inputs), counts)


def _by_both_accounts(
    c: Calibration, inputs: Float64[np.ndarray, "n q"], counts: Vector, values: ScoreTable
) -> tuple[ScoreTable, ScoreTable, ScoreTable]:
    """Estimates of an unknown detector and the ends of their intervals."""
    assert c.labelled is not None and c.effect is not None and isinstance(c.regressor, Blend)
    both = weigh_accounts(c.effect, c.labelled, to_logit(values), standardise(c.regressor, inputs), counts)
    tail = (1 - np.array([c.reach[t].level for t in TARGETS])) / 2
    middle, low, high = (from_logit(quantile(both, share)) for share in (0.5, tail, 1 - tail))
    return middle, np.minimum(low, middle), np.maximum(high, middle)


def _intervals(
    c: Calibration, inputs: Float64[np.ndarray, "n q"], counts: Vector, values: ScoreTable
) -> tuple[ScoreTable, ScoreTable]:
    """Ends of the intervals around some estimates; [0, 1] for a score that cannot be told."""
    radii = np.array([c.reach[t].radius for t in TARGETS])
    spread = None
    if c.labelled is not None:
        spread = _learned(c, inputs, counts)[1]
        radii = np.array([radius(c.reach[t].level, len(c.labelled.counts)) for t in TARGETS])
    elif c.effect is not None and isinstance(c.regressor, Blend):
        spread = expected_spread(c.effect, standardise(c.regressor, inputs), counts)
    low, high = make_intervals(values, spread, radii)
    # An interval that ends on the estimate contains it, rounding aside.
    low, high = np.minimum(low, values), np.maximum(high, values)
    for j, target in enumerate(TARGETS):
        if c.labelled is None and c.valid_for == NEW_DOMAINS and c.reach[target].r2 <= 0:
            low[:, j], high[:, j] = 0.0, 1.0
    return low, high


def _finite_from(coverage: float) -> int:
    """How many residuals make a finite conformal radius."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def _refuse_few(rows: Sequence[CalibrationRow], coverage: float) -> None:
    """Stop where neither a fit nor a finite interval can be had."""
    # Leaving a fifth of the images out must leave enough to train on.
    wanted = max(2 * MIN_TRAINING_ROWS, _finite_from(coverage))
    images = len({r.image for r in rows})
    if len(rows) < wanted or images < FOLDS:
        raise CalibrationError(
            f"{len(rows)} rows of {images} images came; a calibration at coverage {coverage:g} wants at "
            f"least {wanted} rows of {FOLDS} images: label more images"
        )
