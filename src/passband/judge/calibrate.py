"""From labelled images to a bundle that knows how well it does: detect, score, fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.given import DetectionsFile, read_given
from passband.detections.matching import OPTIMAL, MatchingRule
from passband.detections.measured import found_by_class, measured_scores
from passband.detectors.bundle import Bundle
from passband.detectors.segment import object_mask, pixels_of
from passband.errors import CalibrationError, DetectionsError, PassbandError
from passband.estimate.features import detection_features, image_features
from passband.estimate.intervals import MIN_DOMAIN_ROWS
from passband.estimate.performance import MOST_LABELLED, adapt, fit_calibration
from passband.estimate.records import from_record, to_record
from passband.estimate.rows import CalibrationRow
from passband.judge.verdict import by_pixels, found_and_told
from passband.micrographs.many import Reading, find_micrographs
from passband.micrographs.micrograph import Micrograph
from passband.store.runs import arrays_sha256
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
    scores = measured_scores(truth, detections, matching)
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
    crowds: Mask | None = None,
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
    crowds
        Pixels that are left out of the scores, boolean (y, x), or None.

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
    if crowds is not None:
        found, truth = found & ~crowds, truth & ~crowds
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
    annotations: Path | DetectionsFile,
    bundle: Bundle,
    *,
    sidecar: Mapping[str, float] | None = None,
    anew: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Calibrate a bundle's estimates on labelled micrographs, as `calibrate_on`, without its notes."""
    labelled = Labelled(images=images, annotations=annotations, sidecar=sidecar or {})
    return calibrate_on(labelled, bundle, anew=anew, progress=progress).bundle


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Labelled micrographs, by where they lie.

    Parameters
    ----------
    images
        Files, folders and wildcards; the images of one folder count as one domain.
    annotations
        COCO file, YOLO files, label images and what else `read_detections` reads, that say what is there.
    sidecar
        Pixel sizes in Å by file name.
    """

    images: Sequence[str]
    annotations: Path | DetectionsFile
    sidecar: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A bundle with its new calibration.

    Parameters
    ----------
    bundle
        The bundle.
    notes
        What was mended, left out and passed over, a sentence each.
    """

    bundle: Bundle
    notes: tuple[str, ...] = ()


def calibrate_on(
    labelled: Labelled, bundle: Bundle, *, anew: bool = False, progress: Progress | None = None
) -> Calibrated:
    """Calibrate a bundle's estimates on labelled micrographs.

    A few images adapt the calibration that the bundle has to the domain that they are from. Where there
    are `MIN_DOMAIN_ROWS` and more from several folders, or more than can be adapted to, a new one is
    fitted to these images alone.

    Parameters
    ----------
    labelled
        Micrographs and what is there. One that cannot be used is left out and noted; one that has the
        pixels of another counts once.
    bundle
        Whose detector is run on the images.
    anew
        Fit a new calibration in any case.
    progress
        Called before each micrograph and at the end.

    Returns
    -------
    Calibrated
        The same bundle with a new or adapted calibration, and notes.

    Raises
    ------
    CalibrationError
        If too few images can be used, naming those that cannot, or the annotations hold no object at all.
    DetectionsError
        If the annotations cannot be used.
    """
    file = labelled.annotations
    file = file if isinstance(file, DetectionsFile) else DetectionsFile(path=file)
    notes: list[str] = []
    files, missing = find_micrographs(labelled.images, notes)
    reading = Reading(sidecar=labelled.sidecar)
    micrographs, faults = {}, [f"{path}: {words}" for path, words in missing]
    by_content: dict[str, str] = {}
    for path in files:
        try:
            micrograph = reading.read(path)
        except PassbandError as e:
            faults.append(str(e))
            continue
        same = by_content.setdefault(arrays_sha256(micrograph.pixels), path)
        if same != path:
            faults.append(f"{path}: is the same image as {same}, which counts once")
        else:
            micrographs[path] = micrograph
    given = read_given({path: m.shape for path, m in micrographs.items()}, file)
    notes += given.notes
    truth: dict[str, Detections] = {}
    for path in micrographs:
        try:
            truth[path] = given.of(path)
        except DetectionsError as e:
            faults.append(f"{path}: {e}")
    told = f"{counted(len(faults), 'image')} cannot be used: " + "; ".join(faults)
    if faults and (file.strict or not truth):
        raise CalibrationError(told)
    if not any(len(d) for d in truth.values()):
        raise CalibrationError(
            f"{file.path} holds no object on any of the {counted(len(truth), 'image')}: such truth tells "
            "nothing of what a detector misses; check that it is the right file"
        )
    if faults:
        notes.append(told)
    rows: list[CalibrationRow] = []
    found_of, there_of = Counter[str](), Counter[str]()
    for done, path in enumerate(truth):
        if progress:
            progress(path, done, len(truth))
        domain = Path(path).resolve().parent.name
        row, classes = _row(micrographs[path], bundle, truth[path], domain)
        rows.append(row)
        for name, (hit, there) in classes.items():
            found_of[name] += hit
            there_of[name] += there
    if progress:
        progress("", len(truth), len(truth))
    if len(there_of) > 1:
        each = ", ".join(f"{name} {found_of[name]} of {there_of[name]}" for name in sorted(there_of))
        notes.append(f"found of each class: {each}; the estimates are of all together")
    many = len(rows) > MOST_LABELLED or (len(rows) >= MIN_DOMAIN_ROWS and len({r.domain for r in rows}) > 1)
    known = None if bundle.calibration is None else from_record(bundle.calibration)
    if anew or many or known is None or not known.adaptable:
        return Calibrated(bundle=calibrate_bundle(bundle, rows), notes=tuple(notes))
    return Calibrated(bundle=adapt_bundle(bundle, rows), notes=tuple(notes))


def _row(
    micrograph: Micrograph, bundle: Bundle, truth: Detections, domain: str
) -> tuple[CalibrationRow, Mapping[str, tuple[int, int]]]:
    """The row of one labelled image, by boxes or for a segmenter by pixels, and what was found by class."""
    found, told = found_and_told(micrograph, bundle)
    if not by_pixels(bundle):
        row = calibration_row(micrograph, found, truth, domain=domain)
        return row, found_by_class(truth, found)
    if truth.masks is None and len(truth):
        raise CalibrationError(
            f"{micrograph.name}: its annotations are boxes, and a segmenter is scored by pixels; give label "
            "images, or COCO with outlines"
        )
    crowds = pixels_of(truth.crowds, truth.image_shape) if truth.crowds else None
    return pixel_row(micrograph, found, told, object_mask(truth), domain=domain, crowds=crowds), {}


def _refuse_other_sizes(micrograph: Micrograph, found: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if len({micrograph.shape, found, truth}) > 1:
        raise CalibrationError(
            f"{micrograph.name}: micrograph, detections and truth are of different sizes: "
            f"{micrograph.shape}, {found}, {truth}"
        )
