"""Which predicted object is which true one: overlap, and two rules of one-to-one matching.

A score without its matching rule is not a number, so the rule travels with every result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64

from passband.errors import ParameterError
from passband.types import InstanceMask

IouMatrix = Float64[np.ndarray, "n m"]
Pairs = Int64[np.ndarray, "k 2"]
Indices = Int64[np.ndarray, "k"]
Overlaps = Float64[np.ndarray, "k"]

# Rows of truth are compared with all predictions in blocks of about this many pairs (16 MB a temporary).
_BLOCK = 2_000_000


@dataclass(frozen=True, kw_only=True)
class MatchingRule:
    """How predicted objects are paired with true ones.

    Parameters
    ----------
    kind
        A key of `MATCHERS`. "optimal": the one-to-one pairing with the most matches and, among those,
        the largest summed IoU; it depends on no order. "greedy-truth": each true box in turn takes the
        unused prediction that overlaps it most; it depends on the order of the truth.
    iou
        Two boxes may be paired when their IoU is at least this; in (0, 1].

    Raises
    ------
    ParameterError
        Naming every fault.

    Examples
    --------
    >>> print(OPTIMAL)
    optimal one-to-one, box IoU >= 0.5
    >>> print(MatchingRule(kind="greedy-truth", iou=0.3))
    greedy in truth order, box IoU >= 0.3
    """

    kind: str
    iou: float

    def __post_init__(self) -> None:
        faults = []
        if self.kind not in MATCHERS:
            faults.append(f"kind must be one of {', '.join(map(repr, MATCHERS))}, got {self.kind!r}")
        number = isinstance(self.iou, (int, float)) and not isinstance(self.iou, bool)
        if not (number and 0 < self.iou <= 1):
            faults.append(f"iou must be a number above 0 and at most 1, got {self.iou!r}")
        if faults:
            raise ParameterError("matching rule: " + "; ".join(faults))

    def __str__(self) -> str:
        words = {"optimal": "optimal one-to-one", "greedy-truth": "greedy in truth order"}
        return f"{words.get(self.kind, self.kind)}, box IoU >= {self.iou:g}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Which true object was paired with which predicted one.

    Parameters
    ----------
    pairs
        int64 (k, 2): index of the true and of the predicted object, in the order of the truth; none twice.
    n_truth, n_predicted
        How many objects there were of each.
    rule
        The rule that paired them.

    Raises
    ------
    ParameterError
        If an index is out of range or used twice.

    Examples
    --------
    >>> import numpy as np
    >>> m = Matches(pairs=np.array([[0, 2]]), n_truth=2, n_predicted=3, rule=OPTIMAL)
    >>> m.missed.tolist(), m.unclaimed.tolist()
    ([1], [0, 1])
    """

    pairs: Pairs
    n_truth: int
    n_predicted: int
    rule: MatchingRule

    def __post_init__(self) -> None:
        p = self.pairs
        if p.ndim != 2 or p.shape[1] != 2:
            raise ParameterError(f"matches: pairs must be (k, 2), got {p.shape}")
        faults = []
        for column, count, what in ((0, self.n_truth, "truth"), (1, self.n_predicted, "predicted")):
            indices = p[:, column]
            if indices.size and (indices.min() < 0 or indices.max() >= count):
                faults.append(f"{what} indices must lie in 0 to {count - 1}, got {indices.tolist()}")
            if len(np.unique(indices)) < len(indices):
                faults.append(f"{what} indices must not repeat, got {indices.tolist()}")
        if faults:
            raise ParameterError("matches: " + "; ".join(faults))

    @property
    def missed(self) -> Indices:
        """Indices of true objects that no prediction was paired with."""
        return np.setdiff1d(np.arange(self.n_truth), self.pairs[:, 0])

    @property
    def unclaimed(self) -> Indices:
        """Indices of predicted objects that were paired with no true one."""
        return np.setdiff1d(np.arange(self.n_predicted), self.pairs[:, 1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The pairs that may be matched, as a sparse matrix sorted by truth and then by prediction."""

    truth: Indices
    predicted: Indices
    iou: Overlaps


def box_iou(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> IouMatrix:
    """Intersection over union of every box of one set with every box of another.

    Parameters
    ----------
    a, b
        (n, 4) and (m, 4): x0, y0, x1, y1 in pixels, x0 < x1 and y0 < y1.

    Returns
    -------
    float64 (n, m)
        In [0, 1]; exactly 1 for a box with itself.

    Raises
    ------
    ParameterError
        If boxes are not (n, 4), not finite, or have no extent.

    Examples
    --------
    >>> import numpy as np
    >>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([[1.   , 0.333, 0.   ]])
    """
    return _iou(*_checked_boxes(a, b))


def mask_iou(a: Sequence[InstanceMask], b: Sequence[InstanceMask]) -> IouMatrix:
    """Intersection over union of every mask of one set with every mask of another.

    Parameters
    ----------
    a, b
        n and m masks in the same image, each with at least one pixel.

    Returns
    -------
    float64 (n, m)
        In [0, 1]; exactly 1 for a mask with itself.

    Raises
    ------
    ParameterError
        If a mask holds no pixel.

    Examples
    --------
    >>> import numpy as np
    >>> whole = InstanceMask(y=0, x=0, pixels=np.ones((4, 4), bool))
    >>> half = InstanceMask(y=2, x=0, pixels=np.ones((2, 4), bool))
    >>> mask_iou([whole], [whole, half])
    array([[1. , 0.5]])
    """
    sizes = [np.array([int(m.pixels.sum()) for m in masks], np.int64) for masks in (a, b)]
    empty = [np.flatnonzero(s == 0).tolist() for s in sizes]
    if empty[0] or empty[1]:
        raise ParameterError(f"masks must hold a pixel; these are empty: {empty[0]} and {empty[1]}")
    result = np.zeros((len(a), len(b)))
    if not result.size:
        return result
    boxes = [np.array([m.box_xyxy for m in masks]) for masks in (a, b)]
    for i, j in np.argwhere(_iou(*boxes) > 0):
        common = _common_pixels(a[i], b[j])
        result[i, j] = common / (sizes[0][i] + sizes[1][j] - common)
    return result


def match_boxes(
    truth_boxes: npt.NDArray[Any], predicted_boxes: npt.NDArray[Any], rule: MatchingRule
) -> Matches:
    """Pair predicted boxes with true ones by a rule.

    Parameters
    ----------
    truth_boxes, predicted_boxes
        (n, 4) and (m, 4): x0, y0, x1, y1 in pixels; either may be empty.
    rule
        `OPTIMAL`, `PAPER` or another `MatchingRule`. Scores and classes play no part in either.

    Returns
    -------
    Matches
        The pairs and the rule.

    Raises
    ------
    ParameterError
        If boxes are not (n, 4), not finite, or have no extent.

    References
    ----------
    D. F. Crouse, On implementing 2D rectangular assignment algorithms, doi:10.1109/TAES.2016.140952.

    Examples
    --------
    The first true box overlaps both predictions, the second only the first of them:

    >>> import numpy as np
    >>> truth = np.array([[0, 0, 10, 10], [0, 4, 10, 14]])
    >>> predicted = np.array([[0, 1, 10, 11], [0, -4, 10, 6]])
    >>> match_boxes(truth, predicted, MatchingRule(kind="optimal", iou=0.4)).pairs.tolist()
    [[0, 1], [1, 0]]
    >>> match_boxes(truth, predicted, MatchingRule(kind="greedy-truth", iou=0.4)).pairs.tolist()
    [[0, 0]]
    """
    truth, predicted = _checked_boxes(truth_boxes, predicted_boxes)
    pairs = MATCHERS[rule.kind](_candidates(truth, predicted, rule.iou))
    return Matches(pairs=pairs, n_truth=len(truth), n_predicted=len(predicted), rule=rule)


def match_optimal(candidates: Candidates) -> Pairs:
    """Most matches, then the largest summed IoU, over all one-to-one choices among the candidates."""
    # Boxes that touch no common chain of overlaps cannot compete, so each connected group is its own small
    # assignment: a thousand cavities cost thousands of operations, not the cube of a thousand.
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    t, p, iou = candidates.truth, candidates.predicted, candidates.iou
    if not t.size:
        return np.empty((0, 2), np.int64)
    n, m = int(t.max()) + 1, int(p.max()) + 1
    graph = coo_array((np.ones(t.size), (t, p + n)), shape=(n + m, n + m))
    group = connected_components(graph, directed=False)[1][t]
    order = np.argsort(group, kind="stable")
    pairs = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if members.size == 1:
            pairs.append((t[members[0]], p[members[0]]))
            continue
        rows, row = np.unique(t[members], return_inverse=True)
        columns, column = np.unique(p[members], return_inverse=True)
        # A match is worth more than any sum of IoUs, so their number is settled first.
        profit = np.zeros((len(rows), len(columns)))
        profit[row, column] = min(profit.shape) + 1 + iou[members]
        i, j = linear_sum_assignment(profit, maximize=True)
        allowed = profit[i, j] > 0
        pairs.extend(zip(rows[i[allowed]], columns[j[allowed]], strict=True))
    chosen = np.array(pairs, np.int64)
    return chosen[np.argsort(chosen[:, 0])]


def match_greedy_truth(candidates: Candidates) -> Pairs:
    """Each true box in turn takes the unused prediction with the highest IoU; the first of equals."""
    used: set[int] = set()
    pairs = []
    truths, starts = np.unique(candidates.truth, return_index=True)
    stops = np.append(starts, candidates.truth.size)[1:]
    for truth, start, stop in zip(truths.tolist(), starts, stops, strict=True):
        best = -math.inf
        choice = -1
        for iou, predicted in zip(
            candidates.iou[start:stop].tolist(), candidates.predicted[start:stop].tolist(), strict=True
        ):
            if predicted not in used and iou > best:
                best, choice = iou, predicted
        if choice >= 0:
            used.add(choice)
            pairs.append((truth, choice))
    return np.array(pairs, np.int64).reshape(-1, 2)


MATCHERS: dict[str, Callable[[Candidates], Pairs]] = {
    "optimal": match_optimal,
    "greedy-truth": match_greedy_truth,
}
"""Every kind of matching: from the pairs that may be matched to the pairs that are."""

OPTIMAL = MatchingRule(kind="optimal", iou=0.5)
"""The default: best one-to-one matching at box IoU 0.5."""

PAPER = MatchingRule(kind="greedy-truth", iou=0.1)
"""The rule of the label-free F1 study's released table: greedy in truth order at box IoU 0.1."""


def _checked_boxes(
    a: npt.NDArray[Any], b: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both sets as float64 (n, 4), or one error naming the faults of both."""
    faults = []
    checked = []
    for which, boxes in (("first", a), ("second", b)):
        boxes = np.asarray(boxes)
        if boxes.dtype.kind not in "iuf":
            faults.append(f"the {which} boxes must be numbers, got {boxes.dtype}")
            continue
        if boxes.ndim == 2 and boxes.shape[1] == 4:
            boxes = boxes.astype(np.float64)
            bad = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (_areas(boxes) > 0)))
            if bad.size:
                faults.append(f"the {which} boxes {bad.tolist()} are not finite with x0 < x1 and y0 < y1")
            checked.append(boxes)
        else:
            faults.append(f"the {which} boxes must be (n, 4), got {boxes.shape}")
    if faults:
        raise ParameterError("; ".join(faults))
    return checked[0], checked[1]


def _areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Areas of boxes; zero where either side is not positive, NaN where not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        areas: npt.NDArray[np.float64] = np.maximum(sides[:, 0], 0) * np.maximum(sides[:, 1], 0)
    return areas


def _iou(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> IouMatrix:
    """IoU of valid boxes, without checks."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    # Rounding of the union can carry the quotient past 1 by one unit in the last place.
    iou: IouMatrix = np.minimum(common / (_areas(a)[:, None] + _areas(b)[None, :] - common), 1.0)
    return iou


def _candidates(
    truth: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64], threshold: float
) -> Candidates:
    """All pairs with IoU at or above a threshold, found block by block so that memory stays bounded."""
    step = max(1, _BLOCK // max(1, len(predicted)))
    rows, columns, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for start in range(0, len(truth), step):
        iou = _iou(truth[start : start + step], predicted)
        row, column = np.nonzero(iou >= threshold)
        rows.append(row.astype(np.int64) + start)
        columns.append(column.astype(np.int64))
        values.append(iou[row, column])
    return Candidates(
        truth=np.concatenate(rows), predicted=np.concatenate(columns), iou=np.concatenate(values)
    )


def _common_pixels(a: InstanceMask, b: InstanceMask) -> int:
    """How many pixels two masks share."""
    y0, x0 = max(a.y, b.y), max(a.x, b.x)
    y1 = min(a.y + a.pixels.shape[0], b.y + b.pixels.shape[0])
    x1 = min(a.x + a.pixels.shape[1], b.x + b.pixels.shape[1])
    part_a = a.pixels[y0 - a.y : y1 - a.y, x0 - a.x : x1 - a.x]
    part_b = b.pixels[y0 - b.y : y1 - b.y, x0 - b.x : x1 - b.x]
    return int(np.count_nonzero(part_a & part_b))
