"""From labelled images to a bundle that knows how well it does: detect, score, fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.detections.matching import OPTIMAL, MatchingRule, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import Bundle
from passband.detectors.segment import object_mask
from passband.errors import CalibrationError, PassbandError
from passband.estimate.features import detection_features, image_features
from passband.estimate.intervals import MIN_DOMAIN_ROWS
from passband.estimate.performance import MOST_LABELLED, adapt, fit_calibration
from passband.estimate.records import from_record, to_record
from passband.estimate.rows import CalibrationRow
from passband.judge.verdict import by_pixels, found_and_told
from passband.micrographs.many import Reading, find_micrographs
from passband.micrographs.micrograph import Micrograph
from passband.types import Mask, Progress
from passband.words import counted


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
    _refuse_other_sizes(micrograph, detections.image_shape, truth.image_shape)
    scores = object_scores(match_boxes(truth.boxes_xyxy, detections.boxes_xyxy, matching))
    return CalibrationRow(
        features={**detection_features(detections), **image_features(micrograph)},
        f1=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        domain=domain,
        image=micrograph.name,
    )


def pixel_row(
    micrograph: Micrograph,
    detections: Detections,
    told: Mapping[str, float],
    truth: Mask,
    *,
    domain: str,
) -> CalibrationRow:
    """What a segmenter's answer tells of itself on one labelled image, beside its measured scores of pixels.

    Parameters
    ----------
    micrograph
        The image.
    detections, told
        As `segment_with_evidence` gives them.
    truth
        Where objects are, boolean (y, x).
    domain
        Where the image comes from.

    Raises
    ------
    CalibrationError
        If the three are not of one image size.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.estimate.regressor import SEGMENTER_FEATURES
    >>> image = Micrograph(pixels=np.eye(64, dtype=np.float32), name="a.tif")
    >>> nothing = Detections(
    ...     image_shape=(64, 64), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), masks=()
    ... )
    >>> told = dict.fromkeys(SEGMENTER_FEATURES, 0.0)
    >>> pixel_row(image, nothing, told, image.pixels > 0, domain="A").recall
    0.0
    """
    _refuse_other_sizes(micrograph, detections.image_shape, truth.shape)
    found = object_mask(detections)
    both, said, there = (int(m.sum()) for m in (found & truth, found, truth))
    empty = float(said == there == 0)
    return CalibrationRow(
        features={"count": float(len(detections)), **told, **image_features(micrograph)},
        f1=2 * both / (said + there) if said + there else empty,
        precision=both / said if said else empty,
        recall=both / there if there else empty,
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
        rows,
        score_threshold=bundle.score_threshold,
        matching=matching,
        coverage=coverage,
        seed=seed,
        model="segmenter" if by_pixels(bundle) else "passband",
    )
    return replace(bundle, calibration=to_record(calibration), digest="")


def calibrate(
    images: Sequence[str],
    annotations: Path,
    bundle: Bundle,
    *,
    sidecar: Mapping[str, float] | None = None,
    anew: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Calibrate a bundle's estimates on labelled micrographs.

    A few images adapt the calibration that the bundle has to the domain that they are from. Where there
    are `MIN_DOMAIN_ROWS` and more from several folders, or more than can be adapted to, a new one is
    fitted to these images alone.

    Parameters
    ----------
    images
        Files, folders and wildcards; the images of one folder count as one domain.
    annotations
        COCO file, YOLO files or label images that say what is there.
    bundle
        Whose detector is run on the images.
    sidecar
        Pixel sizes in Å by file name.
    anew
        Fit a new calibration in any case.
    progress
        Called before each micrograph and at the end.

    Returns
    -------
    Bundle
        The same with a new or adapted calibration.

    Raises
    ------
    CalibrationError
        Naming every image that cannot be used, or if they are too few.
    DetectionsError
        If the annotations cannot be used.
    """
    files, missing = find_micrographs(images)
    reading = Reading(sidecar=sidecar or {})
    micrographs, faults = {}, [f"{path}: {words}" for path, words in missing]
    for path in files:
        try:
            micrographs[path] = reading.read(path)
        except PassbandError as e:
            faults.append(str(e))
    shapes = {path: m.shape for path, m in micrographs.items()}
    truth = read_detections(annotations, images=shapes, skip_others=True)
    faults += [f"{path}: {annotations} says nothing of it" for path in shapes if path not in truth]
    if faults:
        raise CalibrationError(f"{counted(len(faults), 'image')} cannot be used: " + "; ".join(faults))
    rows = []
    for done, (path, micrograph) in enumerate(micrographs.items()):
        if progress:
            progress(path, done, len(files))
        domain = Path(path).resolve().parent.name
        rows.append(_row(micrograph, bundle, truth[path], domain))
    if progress:
        progress("", len(files), len(files))
    many = len(rows) > MOST_LABELLED or (len(rows) >= MIN_DOMAIN_ROWS and len({r.domain for r in rows}) > 1)
    known = None if bundle.calibration is None else from_record(bundle.calibration)
    if anew or many or known is None or not known.adaptable:
        return calibrate_bundle(bundle, rows)
    return adapt_bundle(bundle, rows)


def _row(micrograph: Micrograph, bundle: Bundle, truth: Detections, domain: str) -> CalibrationRow:
    """The row of one labelled image: by boxes for a detector, by pixels for a segmenter."""
    found, told = found_and_told(micrograph, bundle)
    if not by_pixels(bundle):
        return calibration_row(micrograph, found, truth, domain=domain)
    if truth.masks is None and len(truth):
        raise CalibrationError(
            f"{micrograph.name}: its annotations are boxes, and a segmenter is scored by pixels; give label "
            "images, or COCO with outlines"
        )
    return pixel_row(micrograph, found, told, object_mask(truth), domain=domain)


def _refuse_other_sizes(micrograph: Micrograph, found: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if len({micrograph.shape, found, truth}) > 1:
        raise CalibrationError(
            f"{micrograph.name}: micrograph, detections and truth are of different sizes: "
            f"{micrograph.shape}, {found}, {truth}"
        )
