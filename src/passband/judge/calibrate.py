"""From labelled images to a bundle that knows how well it does: detect, score, fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, MatchingRule, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import Bundle
from passband.errors import CalibrationError
from passband.estimate.features import detection_features, image_features
from passband.estimate.performance import adapt, fit_calibration
from passband.estimate.records import from_record, to_record
from passband.estimate.rows import CalibrationRow
from passband.micrographs.micrograph import Micrograph


def calibration_row(
    micrograph: Micrograph,
    detections: Detections,
    truth: Detections,
    *,
    domain: str,
    matching: MatchingRule = OPTIMAL,
) -> CalibrationRow:
    """Features of a detector's answer on one labelled image, beside its measured scores.

    Parameters
    ----------
    micrograph
        The image.
    detections
        What the detector found in it.
    truth
        What a person or a simulation knows to be there; an image with nothing to find has no box.
    domain
        Where the image comes from.
    matching
        Decides which detection is which object.

    Returns
    -------
    CalibrationRow
        With the 18 features of the detections and those of the image.

    Raises
    ------
    CalibrationError
        If the three are not of one image size.

    Examples
    --------
    >>> import numpy as np
    >>> image = Micrograph(pixels=np.eye(64, dtype=np.float32), name="a.tif")
    >>> found = Detections(
    ...     image_shape=(64, 64), boxes_xyxy=np.array([[3.0, 4, 13, 16]]), scores=np.array([0.9])
    ... )
    >>> calibration_row(image, found, found, domain="A").f1
    1.0
    """
    shapes = {micrograph.shape, detections.image_shape, truth.image_shape}
    if len(shapes) > 1:
        raise CalibrationError(
            f"{micrograph.name}: micrograph, detections and truth are of different sizes: "
            f"{micrograph.shape}, {detections.image_shape}, {truth.image_shape}"
        )
    scores = object_scores(match_boxes(truth.boxes_xyxy, detections.boxes_xyxy, matching))
    return CalibrationRow(
        features={**detection_features(detections), **image_features(micrograph)},
        f1=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        domain=domain,
        image=micrograph.name,
    )


def adapt_bundle(bundle: Bundle, rows: Sequence[CalibrationRow]) -> Bundle:
    """The same bundle with its calibration adapted to the domain of a few labelled images.

    Parameters
    ----------
    bundle
        Whose detector, at its score threshold, gave the rows.
    rows
        From `calibration_row`; all count as one domain.

    Raises
    ------
    CalibrationError
        If the bundle holds no calibration, or one that does not know how domains differ, or the rows do
        not fit it.
    """
    if bundle.calibration is None:
        raise CalibrationError(f"the bundle {bundle.name!r} holds no calibration that could be adapted")
    domain = ", ".join(sorted({r.domain for r in rows}))
    adapted = adapt(from_record(bundle.calibration), rows, domain=domain)
    return replace(bundle, calibration=to_record(adapted), digest="")


def calibrate_bundle(
    bundle: Bundle,
    rows: Sequence[CalibrationRow],
    *,
    matching: MatchingRule = OPTIMAL,
    coverage: float = 0.9,
    seed: int = 0,
) -> Bundle:
    """The same bundle with a calibration fitted on rows of its own detector.

    Parameters
    ----------
    bundle
        Whose detector, at its score threshold, gave the rows.
    rows
        From `calibration_row`.
    matching
        By which the rows were scored.
    coverage
        That the intervals shall have.
    seed
        Of the fit.

    Raises
    ------
    CalibrationError
        If the rows are too few or do not fit together.
    """
    calibration = fit_calibration(
        rows, score_threshold=bundle.score_threshold, matching=matching, coverage=coverage, seed=seed
    )
    return replace(bundle, calibration=to_record(calibration), digest="")
