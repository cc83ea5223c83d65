"""What a calibration says of labelled images that it was not told of: before a few are shown, and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from passband.errors import CalibrationError
from passband.estimate.calibration import Calibration, Forecast
from passband.estimate.intervals import FOLDS
from passband.estimate.performance import MOST_LABELLED, adapt, forecast
from passband.estimate.regressor import image_folds
from passband.estimate.rows import CalibrationRow


@dataclass(frozen=True, kw_only=True)
class Told:
    """How well F1 was told of some labelled images.

    Parameters
    ----------
    mae
        Mean difference of estimated and measured F1, without sign.
    coverage
        Share of images whose interval holds the measured F1.
    width
        Mean width of the intervals.
    """

    mae: float
    coverage: float
    width: float


def told(calibration: Calibration, rows: Sequence[CalibrationRow]) -> Told:
    """How well a calibration tells of labelled images; they are not among those it was told of.

    Parameters
    ----------
    calibration
        For the detector that gave the rows.
    rows
        At least one.

    Examples
    --------
    >>> from passband.detectors.bundle import default_bundle
    >>> from passband.estimate.records import from_record
    >>> known = from_record(default_bundle().calibration)
    >>> nothing = dict.fromkeys(known.features, 0.0)
    >>> row = CalibrationRow(features=nothing, f1=0.0, precision=0, recall=0, domain="A", image="a.tif")
    >>> told(known, [row]).coverage
    1.0
    """
    return _told([_said(calibration, rows)], rows)


def told_left_out(start: Calibration, rows: Sequence[CalibrationRow]) -> Told | None:
    """How well each of some images is told once the calibration is adapted to the others.

    Parameters
    ----------
    start
        Not adapted to any of them.
    rows
        Labelled images of one domain and detector.

    Returns
    -------
    Told or None
        None where no image has another beside it on which something was found.
    """
    said, known = [], []
    for i, row in enumerate(rows):
        try:
            adapted = adapt(start, [*rows[:i], *rows[i + 1 :]], domain="others")
        except CalibrationError:  # nothing was found on any of the others
            continue
        said.append(_said(adapted, [row]))
        known.append(row)
    return _told(said, known) if known else None


def told_anew(
    fit: Callable[[Sequence[CalibrationRow]], Calibration], rows: Sequence[CalibrationRow]
) -> Told | None:
    """How well rows are told by calibrations that were fitted without their domain, or fold of images.

    Parameters
    ----------
    fit
        A calibration from some of the rows.
    rows
        Of one domain, of which each of five folds of images is left out, or of several.

    Returns
    -------
    Told or None
        None where no part leaves enough rows to fit.
    """
    names = [row.domain for row in rows]
    groups = names if len(set(names)) > 1 else image_folds([row.image for row in rows], FOLDS, 0)
    said, known = [], []
    for group in sorted(set(groups)):
        here = [row for row, g in zip(rows, groups, strict=True) if g == group]
        rest = [row for row, g in zip(rows, groups, strict=True) if g != group]
        try:
            said.append(_said(fit(rest), here))
        except CalibrationError:  # too few are left
            continue
        known += here
    return _told(said, known) if known else None


def width_with_more(start: Calibration, rows: Sequence[CalibrationRow], more: int) -> float | None:
    """Mean width of the F1 intervals, had so many more images like these been labelled.

    Parameters
    ----------
    start, rows
        As of `told_left_out`.
    more
        How many; in the mean they are like the others, which are counted again.

    Returns
    -------
    float or None
        None as of `told_left_out`.
    """
    widths = []
    for i, row in enumerate(rows):
        others = [*rows[:i], *rows[i + 1 :]]
        if not others:
            continue
        wanted = min(len(others) + more, MOST_LABELLED)
        try:
            adapted = adapt(start, [others[j % len(others)] for j in range(wanted)], domain="others")
        except CalibrationError:
            continue
        said = _said(adapted, [row])
        widths.append(float(said.high[0, 0] - said.low[0, 0]))
    return float(np.mean(widths)) if widths else None


def _said(calibration: Calibration, rows: Sequence[CalibrationRow]) -> Forecast:
    table = [[row.features[n] for n in calibration.features] for row in rows]
    return forecast(calibration, np.array(table, np.float64))


def _told(said: Sequence[Forecast], rows: Sequence[CalibrationRow]) -> Told:
    truth = np.array([r.f1 for r in rows])
    value, low, high = (
        np.concatenate([getattr(s, name)[:, 0] for s in said]) for name in ("value", "low", "high")
    )
    return Told(
        mae=float(np.abs(value - truth).mean()),
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        width=float((high - low).mean()),
    )
