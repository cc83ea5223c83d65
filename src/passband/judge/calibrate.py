"""From labelled images to a bundle that knows how well it does: detect, score, fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled, read_labelled
from passband.detections.matching import OPTIMAL, MatchingRule
from passband.detections.measured import measured_scores
from passband.detectors.bundle import Bundle
from passband.detectors.segment import object_mask, pixels_of
from passband.errors import CalibrationError
from passband.estimate.calibration import Calibration
from passband.estimate.features import detection_features, image_features
from passband.estimate.intervals import MIN_DOMAIN_ROWS
from passband.estimate.left_out import told, told_anew
from passband.estimate.look import Look, Seen, extend_look, unlike
from passband.estimate.performance import MOST_LABELLED, adapt, fit_calibration
from passband.estimate.records import from_record, to_record
from passband.estimate.rows import CalibrationRow
from passband.judge.calibrated import Calibrated, Change, calibrated, change_by_adapting, novel
from passband.judge.own_detector import any_detector
from passband.judge.verdict import answer_of, by_pixels, taken
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.types import Mask, Progress
from passband.words import counted

HARDLY_ANY = 0.1
"""A detector of this mean F1 on labelled images is not for them."""


def calibration_row(
    micrograph: Micrograph,
    detections: Detections,
    truth: Detections,
    *,
    domain: str,
    matching: MatchingRule = OPTIMAL,
    seen: Seen | None = None,
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
    seen
        What the network saw, if it is known.

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
        taken=taken(micrograph),
        seen=seen,
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
        taken=taken(micrograph),
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
    return replace(bundle, calibration=to_record(adapted), look=_look_with(bundle, rows), digest="")


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
    return replace(bundle, calibration=to_record(calibration), look=_look_with(bundle, rows), digest="")


def _look_with(bundle: Bundle, rows: Sequence[CalibrationRow]) -> Look | None:
    """What a bundle's network saw in known images, with those that are labelled now."""
    seen = [row.seen for row in rows if row.seen is not None]
    return extend_look(bundle.look, seen) if bundle.look is not None and seen else bundle.look


def _looks_strange(bundle: Bundle, row: CalibrationRow) -> bool:
    return bundle.look is not None and row.seen is not None and unlike(bundle.look, row.seen) > 1


def calibrate(
    images: Sequence[str],
    annotations: Path | DetectionsFile,
    bundle: Bundle,
    *,
    sidecar: Mapping[str, float] | None = None,
    anew: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Calibrate a bundle's estimates on labelled micrographs, as `calibrate_on`, without what it tells."""
    file = annotations if isinstance(annotations, DetectionsFile) else DetectionsFile(path=annotations)
    labelled = Labelled(images=images, annotations=file, reading=Reading(sidecar=sidecar or {}))
    return calibrate_on(labelled, bundle, anew=anew, progress=progress).result


def calibrate_on(
    labelled: Labelled, bundle: Bundle, *, anew: bool = False, progress: Progress | None = None
) -> Calibrated[Bundle]:
    """Calibrate a bundle's estimates on labelled micrographs.

    A few images adapt the calibration that the bundle has to the domain that they are from, or that of any
    detector where it has none yet. Where there are `MIN_DOMAIN_ROWS` and more from several folders, or more
    than can be adapted to, a new one is fitted to these images alone.

    Parameters
    ----------
    labelled
        Micrographs and what is there. One that cannot be used is left out and told; one that has the
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
        The same bundle with a new or adapted calibration, and how well it tells.

    Raises
    ------
    CalibrationError
        If too few images can be used, naming those that cannot, or the annotations hold no object at all.
    DetectionsError
        If the annotations cannot be used.
    """
    usable = read_labelled(labelled)
    rows = [
        labelled_row(micrograph, bundle, usable.truth[path], usable.domain(path))
        for path, micrograph in usable.each(progress)
    ]
    many = len(rows) > MOST_LABELLED or (len(rows) >= MIN_DOMAIN_ROWS and len({r.domain for r in rows}) > 1)
    known = _known(bundle)
    if anew or many or known is None or not known.adaptable:
        fitted = calibrate_bundle(bundle, rows)
        change = Change(
            before=None if known is None else told(known, rows),
            after=told_anew(lambda some: _calibration(calibrate_bundle(bundle, some)), rows),
        )
        return calibrated(fitted, usable, rows, change)
    start = replace(known, labelled=None)
    adaptable = replace(bundle, calibration=to_record(known))
    done = calibrated(adapt_bundle(adaptable, rows), usable, rows, change_by_adapting(start, rows))
    if bundle.calibration is None:
        return done
    strange = sum(novel(start, row) or _looks_strange(bundle, row) for row in rows)
    if 2 * strange <= len(rows) and done.measured >= HARDLY_ANY:
        return done
    words = f"{strange} of {counted(len(rows), 'labelled image')} lie outside what the calibration knows"
    words = f"{words}, and their measured F1 is {done.measured:.2f} in the mean: are they of what "
    words += f"{bundle.name!r} is for? What the labels teach holds for images like them alone"
    return replace(done, notes=(*done.notes, words))


def _known(bundle: Bundle) -> Calibration | None:
    """What a bundle knows of itself; of a detector that knows nothing yet, what is known of any."""
    if bundle.calibration is not None:
        return from_record(bundle.calibration)
    if by_pixels(bundle):
        return None
    known = from_record(any_detector(scored=True).calibration)
    return replace(known, score_threshold=bundle.score_threshold)


def _calibration(bundle: Bundle) -> Calibration:
    assert bundle.calibration is not None
    return from_record(bundle.calibration)


def labelled_row(
    micrograph: Micrograph, answer: Detections | Bundle | None, truth: Detections, domain: str
) -> CalibrationRow:
    """The row of one labelled image: by boxes for a detector, by pixels for a segmenter.

    Parameters
    ----------
    micrograph, truth
        The image, and what is there.
    answer
        What was found in it, or the bundle whose network is asked.
    domain
        Where the image comes from.

    Raises
    ------
    CalibrationError
        If there is no answer, the three are not of one image size, or a segmenter's truth has no outlines.
    """
    if answer is None:
        raise CalibrationError(f"{micrograph.name}: neither detections nor a bundle came")
    if isinstance(answer, Detections):
        return calibration_row(micrograph, answer, truth, domain=domain)
    said = answer_of(micrograph, answer)
    if not by_pixels(answer):
        return calibration_row(micrograph, said.detections, truth, domain=domain, seen=said.seen)
    if truth.masks is None and len(truth):
        raise CalibrationError(
            f"{micrograph.name}: its annotations are boxes, and a segmenter is scored by pixels; give label "
            "images, or COCO with outlines"
        )
    crowds = pixels_of(truth.crowds, truth.image_shape) if truth.crowds else None
    there = object_mask(truth)
    return pixel_row(micrograph, said.detections, said.told, there, domain=domain, crowds=crowds)


def _refuse_other_sizes(micrograph: Micrograph, found: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if len({micrograph.shape, found, truth}) > 1:
        raise CalibrationError(
            f"{micrograph.name}: micrograph, detections and truth are of different sizes: "
            f"{micrograph.shape}, {found}, {truth}"
        )
