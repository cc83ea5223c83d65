"""Which images to label next: those in which a detector finds most that it is in doubt about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passband.detections.detections import Detections
from passband.detections.labelled import LabelledImages
from passband.detectors.bundle import Bundle
from passband.detectors.infer import detect
from passband.types import Progress

POOL = 300
"""Of more images without labels so many are drawn and looked at."""
LOWEST_SCORE = 0.05
"""Objects found with less do not count."""


def suggest(
    usable: LabelledImages,
    bundle: Bundle,
    count: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Images without labels that a detector would learn most from, the first one first.

    Parameters
    ----------
    usable
        Labelled images, and those without.
    bundle
        The detector, trained on the former.
    count
        How many; fewer where there are not so many.
    seed
        Of the draw where there are more than `POOL`.
    progress
        Called before each image and at the end.
    """
    pool = list(usable.unlabelled)
    if len(pool) > POOL:
        pool = [pool[i] for i in np.sort(np.random.default_rng(seed).choice(len(pool), POOL, replace=False))]
    low = replace(bundle, score_threshold=LOWEST_SCORE)
    doubts = {path: doubt(detect(micrograph, low)) for path, micrograph in usable.some(pool, progress)}
    return tuple(sorted(pool, key=lambda path: -doubts[path])[:count])


def doubt(found: Detections) -> float:
    """How many objects of an image a detector is in doubt about: the sum of 4 s (1 - s) over their scores s.

    A score of 0.5 counts 1; one of 0 or 1 counts nothing.

    Examples
    --------
    >>> boxes = np.array([[0.0, 0, 9, 9], [20, 0, 29, 9]])
    >>> sure = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.array([1.0, 0.9]))
    >>> unsure = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.array([0.9, 0.5]))
    >>> round(doubt(sure), 2), round(doubt(unsure), 2)
    (0.36, 1.36)
    """
    return float((4 * found.scores * (1 - found.scores)).sum())
