"""Convex hulls of many small masks at once: all outlines are walked down together.

The hull is that of the midpoints of a mask's pixel edges, as everywhere in `passband.detections.scores`. For
one mask a library is as good; for the thousands of a dense micrograph a call for each costs seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from passband.types import InstanceMask, Vector

_MOST_POINTS = 300_000
"""Points of outlines that are walked down at a time: they stay in the cache."""


def hull_circularities(instances: Sequence[InstanceMask]) -> Vector:
    """Perimeter of each mask's convex hull over that of the disc of the hull's area.

    Parameters
    ----------
    instances
        Masks with at least one pixel each.

    Returns
    -------
    Vector
        Shape (n,), at least 1.

    Examples
    --------
    >>> y, x = np.mgrid[:41, :41] - 20
    >>> disc = InstanceMask(y=0, x=0, pixels=np.hypot(y, x) <= 20)
    >>> hull_circularities([disc, disc]).round(3).tolist()
    [1.004, 1.004]
    """
    found = np.empty(len(instances))
    points = np.array([2 * m.pixels.shape[0] + 1 for m in instances], np.int64)
    order = np.argsort(points, kind="stable")  # of like height together, so that little is padded
    start = 0
    while start < len(order):
        most = points[order[start : start + _MOST_POINTS // int(points[order[start]])]]
        stop = start + max(1, int((np.arange(1, len(most) + 1) * most <= _MOST_POINTS).sum()))
        found[order[start:stop]] = _circularities([instances[int(i)] for i in order[start:stop]])
        start = stop
    return found


def _circularities(instances: Sequence[InstanceMask]) -> Vector:
    left, right = _outlines(instances)
    lengths, below = (np.split(both, 2) for both in _envelope(np.concatenate([left, -right])))
    known = np.isfinite(left)
    ends = known.argmax(axis=1), known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    n = np.arange(len(left))
    perimeter = lengths[0] + lengths[1] + sum(right[n, e] - left[n, e] for e in ends)
    area = -(below[0] + below[1])
    return np.asarray(perimeter / (2 * np.sqrt(math.pi * area)), np.float64)


def _outlines(
    instances: Sequence[InstanceMask],
) -> tuple[Float64[np.ndarray, "n p"], Float64[np.ndarray, "n p"]]:
    """Leftmost and rightmost x at every half pixel of y, NaN where a mask has no row."""
    heights, widths = np.array([m.pixels.shape for m in instances], np.int64).T
    held = np.concatenate([m.pixels.ravel() for m in instances])
    places, before = np.flatnonzero(held), np.append(0, np.cumsum(held))
    # Each row of each mask: where it begins and ends in all of them, and how many pixels are held before.
    who = np.repeat(np.arange(len(instances)), heights)
    row = np.arange(len(who)) - np.repeat(np.cumsum(heights) - heights, heights)
    begin = (np.cumsum(heights * widths) - heights * widths)[who] + row * widths[who]
    first, after = before[begin], before[begin + widths[who]]
    some = first < after
    who, begin, at = who[some], begin[some], 2 * row[some] + 1
    leftmost, rightmost = places[first[some]] - begin, places[after[some] - 1] - begin
    shape = (len(instances), 2 * int(heights.max()) + 1)
    left, right = np.full(shape, np.inf), np.full(shape, -np.inf)
    left[who, at], right[who, at] = leftmost - 0.5, rightmost + 0.5
    for step in (-1, 1):  # an edge between two rows belongs to both
        left[who, at + step] = np.minimum(left[who, at + step], leftmost)
        right[who, at + step] = np.maximum(right[who, at + step], rightmost)
    empty = np.isinf(left)
    left[empty], right[empty] = np.nan, np.nan
    return left, right


def _envelope(x: Float64[np.ndarray, "n p"]) -> tuple[Vector, Vector]:
    """Length of the lower convex envelope of each outline, and the integral under it; y in half pixels.

    Point by point down all outlines at once: what no longer turns outward is taken back off.
    """
    n, p = x.shape
    flat, first, known = x.ravel(), np.arange(n) * p, np.isfinite(x)
    corners, count = np.zeros(n * p, np.intp), np.zeros(n, np.intp)
    for j in range(p):
        here = np.flatnonzero(known[:, j])
        some = here[count[here] > 1]
        while len(some):
            start, end = first[some], first[some] + count[some] - 1
            a, b = corners[end - 1], corners[end]
            xb = flat[start + b]
            inward = (xb - flat[start + a]) * (j - b) >= (flat[start + j] - xb) * (b - a)
            some = some[inward]
            count[some] -= 1
            some = some[count[some] > 1]
        corners[first[here] + count[here]] = j
        count[here] += 1
    table = corners.reshape(n, p)
    held = np.arange(1, p) < count[:, None]
    at = np.take_along_axis(x, table, axis=1)
    dx, dy = np.where(held, np.diff(at), 0), np.where(held, np.diff(table), 0) / 2
    under = np.where(held, at[:, 1:] + at[:, :-1], 0) * dy / 2
    return np.hypot(dx, dy).sum(axis=1), under.sum(axis=1)
