"""From labelled images and what somebody's own detector found in them to a calibration of that detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passband.detections.detections import Detections
from passband.detections.labelled import Labelled, LabelledImages, read_labelled
from passband.errors import CalibrationError
from passband.estimate.performance import MOST_LABELLED, adapt
from passband.estimate.records import from_record, to_record
from passband.estimate.rows import CalibrationRow
from passband.judge.calibrate import calibration_row
from passband.judge.calibrated import Calibrated, calibrated, change_by_adapting
from passband.judge.own_detector import OwnDetector, any_detector, without_scores
from passband.types import Progress


def calibrate_own(
    labelled: Labelled, *, name: str, progress: Progress | None = None
) -> Calibrated[OwnDetector]:
    """Calibrate a detector whose network is not here on labelled images and its detections there.

    What is known of many detectors is adapted to it: the labelled images say how far to move, and how much
    these images scatter. Three say something, ten much.

    Parameters
    ----------
    labelled
        Micrographs, what is there, and what the detector found. One that cannot be used is left out and
        told.
    name
        What to call the detector.
    progress
        Called before each micrograph and at the end.

    Returns
    -------
    Calibrated
        The calibration, and how well each image is told by the others.

    Raises
    ------
    CalibrationError
        If no image can be used, naming why, the annotations hold no object at all, or the detector found
        nothing on any image.
    DetectionsError
        If annotations or detections cannot be used.
    """
    if labelled.detections is None:
        raise CalibrationError("wanted what the detector found in the labelled images, got none")
    usable = read_labelled(labelled)
    scored = all(d.scored for d in usable.found.values())
    rows, sizes = scored_rows(usable, scored=scored, domain=name, progress=progress)
    notes = []
    if len(rows) > MOST_LABELLED:
        kept = np.sort(np.random.default_rng(0).choice(len(rows), MOST_LABELLED, replace=False))
        notes.append(f"{MOST_LABELLED} of the {len(rows)} labelled images were drawn: more say no more")
        rows = [rows[int(i)] for i in kept]
    known = any_detector(scored=scored)
    threshold = labelled.detections.score_threshold or 0.0
    start = replace(from_record(known.calibration), score_threshold=threshold if scored else 0.0)
    own = OwnDetector(
        name=name,
        scored=scored,
        calibration=to_record(adapt(start, rows, domain=name)),
        training={
            **({"pixel_size": [min(sizes), max(sizes)]} if len(sizes) == len(rows) else {}),
            "categories": list(labelled.detections.categories),
        },
    )
    return calibrated(own, usable, rows, change_by_adapting(start, rows), notes)


def scored_rows(
    usable: LabelledImages, *, scored: bool, domain: str = "", progress: Progress | None = None
) -> tuple[list[CalibrationRow], list[float]]:
    """The rows of labelled images by what was found in them, and the pixel sizes in Å that are known.

    Parameters
    ----------
    usable
        With detections.
    scored
        Whether features of scores are among those of a row.
    domain
        Of all; each image's folder if not given.
    progress
        Called before each micrograph and at the end.
    """
    rows, sizes = [], []
    for path, micrograph in usable.each(progress):
        found: Detections = usable.found[path]
        row = calibration_row(micrograph, found, usable.truth[path], domain=domain or usable.domain(path))
        rows.append(row if scored else replace(row, features=without_scores(row.features)))
        if micrograph.pixel_size is not None:
            sizes.append(float(micrograph.pixel_size))
    return rows, sizes
