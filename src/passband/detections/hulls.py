"""Convex hulls of many small masks at once: every point of an outline is weighed against every other.

The hull is that of the midpoints of a mask's pixel edges, as everywhere in `passband.detections.scores`. For
one mask a library is as good; for the thousands of a dense micrograph a call for each costs seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from passband.types import InstanceMask, Vector

_MOST_PAIRS = 4_000_000
"""Pairs of points that are held at a time."""


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
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * int(points[order[stop]]) ** 2 <= _MOST_PAIRS:
            stop += 1
        chunk = order[start:stop]
        found[chunk] = _circularities([instances[int(i)] for i in chunk])
        start = stop
    return found


def _circularities(instances: Sequence[InstanceMask]) -> Vector:
    left, right = _outlines(instances)
    lengths, below = zip(*(_envelope(side) for side in (left, -right)), strict=True)
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
    heights = np.array([m.pixels.shape[0] for m in instances])
    widths = np.array([m.pixels.shape[1] for m in instances])
    ends = np.cumsum(heights * widths)
    flat = np.flatnonzero(np.concatenate([m.pixels.ravel() for m in instances]))
    which = np.searchsorted(ends, flat, side="right")
    row, column = np.divmod(flat - (ends - heights * widths)[which], widths[which])
    new = np.flatnonzero(np.diff(which * (heights.max() + 1) + row, prepend=-1))
    last = np.append(new[1:], len(flat)) - 1
    shape = (len(instances), 2 * int(heights.max()) + 1)
    left, right = np.full(shape, np.inf), np.full(shape, -np.inf)
    who, at = which[new], 2 * row[new] + 1
    left[who, at], right[who, at] = column[new] - 0.5, column[last] + 0.5
    for step in (-1, 1):  # an edge between two rows belongs to both
        left[who, at + step] = np.minimum(left[who, at + step], column[new])
        right[who, at + step] = np.maximum(right[who, at + step], column[last])
    empty = np.isinf(left)
    left[empty], right[empty] = np.nan, np.nan
    return left, right


def _envelope(x: Float64[np.ndarray, "n p"]) -> tuple[Vector, Vector]:
    """Length of the lower convex envelope of each outline, and the integral under it; y in half pixels."""
    n, p = x.shape
    y = np.arange(p) / 2
    step = y[None, :] - y[:, None]
    np.fill_diagonal(step, 1)
    slope = (x[:, None, :] - x[:, :, None]) / step
    before = np.where(np.triu(np.ones((p, p), bool), 1), slope, -np.inf)
    after = np.where(np.triu(np.ones((p, p), bool), 1), slope, np.inf)
    steepest = np.where(np.isnan(before), -np.inf, before).max(axis=1)  # to a point from those before it
    flattest = np.where(np.isnan(after), np.inf, after).min(axis=2)  # from a point to those after it
    corner = np.isfinite(x) & (steepest < flattest)
    index = np.where(corner, np.arange(p), -1)
    previous = np.maximum.accumulate(index, axis=1)[:, :-1]
    rows, at = np.nonzero(corner[:, 1:] & (previous >= 0))
    back = previous[rows, at]
    dx, dy = x[rows, at + 1] - x[rows, back], y[at + 1] - y[back]
    length = np.bincount(rows, np.hypot(dx, dy), n)
    under = np.bincount(rows, dy * (x[rows, at + 1] + x[rows, back]) / 2, n)
    return length, under
