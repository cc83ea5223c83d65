"""Scores of detections against what is there: together, class by class, and without crowd regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, MatchingRule, match_boxes
from passband.detections.scores import Scores, object_scores
from passband.types import Vector


def measured_scores(truth: Detections, found: Detections, rule: MatchingRule = OPTIMAL) -> Scores:
    """Scores of all objects together, whatever their class.

    As in COCO's evaluation, a detection that is paired with no object and lies in a crowd region (the shared
    area is at least the rule's IoU times its own) is neither right nor wrong.

    Parameters
    ----------
    truth, found
        Of one image.
    rule
        Which detection is which object.

    Examples
    --------
    >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
    >>> found = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2))
    >>> truth = Detections(image_shape=(64, 64), boxes_xyxy=boxes[:1], scores=np.ones(1))
    >>> measured_scores(truth, found).precision
    0.5
    """
    matches = match_boxes(truth.boxes_xyxy, found.boxes_xyxy, rule)
    boxes, ignored = found.boxes_xyxy, np.zeros(len(found), bool)
    for crowd in truth.crowds:
        x0, y0, x1, y1 = crowd.box_xyxy
        width = np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], x0)
        height = np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], y0)
        ignored |= np.maximum(width, 0) * np.maximum(height, 0) >= rule.iou * found.areas
    ignored[matches.pairs[:, 1]] = False
    if ignored.any():
        matches = match_boxes(truth.boxes_xyxy, boxes[~ignored], rule)
    return object_scores(matches)


def found_by_class(
    truth: Detections, found: Detections, rule: MatchingRule = OPTIMAL
) -> dict[str, tuple[int, int]]:
    """Of each true class how many objects were found, as whatever class, and how many there are.

    Examples
    --------
    >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
    >>> truth = Detections(
    ...     image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2), categories=("loop", "void")
    ... )
    >>> found_by_class(truth, truth.of(["void"]))
    {'loop': (0, 1), 'void': (1, 1)}
    """
    names = truth.categories or ()
    pairs = match_boxes(truth.boxes_xyxy, found.boxes_xyxy, rule).pairs[:, 0]
    paired = [names[i] for i in pairs] if names else []
    return {name: (paired.count(name), names.count(name)) for name in sorted(set(names))}


def scores_by_class(truth: Detections, found: Detections, rule: MatchingRule = OPTIMAL) -> dict[str, Scores]:
    """Scores of each class that either side names, in the order of their names.

    Examples
    --------
    >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
    >>> truth = Detections(
    ...     image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2), categories=("loop", "void")
    ... )
    >>> {name: s.f1 for name, s in scores_by_class(truth, truth.of(["void"])).items()}
    {'loop': 0.0, 'void': 1.0}
    """
    names = sorted({*(truth.categories or ()), *(found.categories or ())})
    return {name: measured_scores(truth.of([name]), found.of([name]), rule) for name in names}


def f1_by_class(
    pairs: Iterable[tuple[Detections, Detections]], rule: MatchingRule = OPTIMAL
) -> dict[str, float]:
    """Mean F1 of each class over the images that hold or claim it, in the order of their names.

    Parameters
    ----------
    pairs
        What is there and what was found, of each image.
    rule
        Which detection is which object.

    Examples
    --------
    >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
    >>> both = Detections(
    ...     image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2), categories=("loop", "void")
    ... )
    >>> f1_by_class([(both, both), (both, both.of(["void"]))])
    {'loop': 0.5, 'void': 1.0}
    """
    each: dict[str, list[float]] = defaultdict(list)
    for truth, found in pairs:
        for name, scores in scores_by_class(truth, found, rule).items():
            each[name].append(scores.f1)
    return {name: float(np.mean(values)) for name, values in sorted(each.items())}


THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Score thresholds that one is chosen from: 0.05 to 0.95."""


def best_threshold(
    pairs: Sequence[tuple[Detections, Detections]], rule: MatchingRule = OPTIMAL
) -> tuple[float, tuple[Scores, ...]]:
    """The score threshold of highest mean F1 on labelled images, and what each image scores at one.

    Parameters
    ----------
    pairs
        What is there and what was found, the latter with every score that a threshold may keep.
    rule
        Which detection is which object.

    Returns
    -------
    threshold, scores
        Chosen on all images; of two that are equally good, the higher, and 0.5 where all are. Each image is
        scored at the threshold that is best for the others, so that its score did not choose; a single image
        at its own.

    Examples
    --------
    >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
    >>> found = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.array([0.92, 0.31]))
    >>> truth = Detections(image_shape=(64, 64), boxes_xyxy=boxes[:1], scores=np.ones(1))
    >>> threshold, (scores,) = best_threshold([(truth, found)])
    >>> threshold, scores.f1
    (0.9, 1.0)
    """
    table = [[measured_scores(truth, found.above(t), rule) for t in THRESHOLDS] for truth, found in pairs]
    f1 = np.array([[s.f1 for s in row] for row in table])
    sums = f1.sum(axis=0)
    others = [sums - own if len(pairs) > 1 else sums for own in f1]
    return THRESHOLDS[_last_best(sums)], tuple(
        row[_last_best(rest)] for row, rest in zip(table, others, strict=True)
    )


def _last_best(values: Vector) -> int:
    if np.ptp(values) < 1e-9:
        return THRESHOLDS.index(0.5)
    return int(np.flatnonzero(values >= values.max() - 1e-9)[-1])
