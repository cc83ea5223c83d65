"""How good an answer is (precision, recall, F1), and what it says of sizes, density and swelling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from passband.detections.hulls import hull_circularities
from passband.detections.masks import hold_pixels
from passband.detections.matching import Matches, MatchingRule
from passband.errors import ParameterError
from passband.types import InstanceMask, Vector


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Precision, recall and F1 of objects, with the rule that matched them.

    Parameters
    ----------
    precision
        Share of the predicted objects that are true, in [0, 1].
    recall
        Share of the true objects that were found, in [0, 1].
    f1
        Harmonic mean of the two, 2 TP / (2 TP + FP + misses).
    true_positives, false_positives, misses
        Matched pairs, predictions without a true object, true objects without a prediction.
    rule
        The matching rule; the numbers mean nothing without it.

    Examples
    --------
    >>> from passband.detections.matching import OPTIMAL
    >>> print(Scores(precision=1.0, recall=0.5, f1=2 / 3, true_positives=1, false_positives=0, misses=1,
    ...              rule=OPTIMAL))
    F1 0.67 (optimal one-to-one, box IoU >= 0.5)
    """

    precision: float
    recall: float
    f1: float
    true_positives: int
    false_positives: int
    misses: int
    rule: MatchingRule

    def __str__(self) -> str:
        return f"F1 {self.f1:.2f} ({self.rule})"


def object_scores(matches: Matches) -> Scores:
    """Precision, recall and F1 of matched objects.

    Nothing to find and nothing claimed is a perfect answer: all three are 1. In every other case without a
    match all three are 0, also where the quotient has no value: predictions on an empty image recall
    nothing, and a silent answer to a full image is not precise. So silence earns nothing, a failure is
    never lost as NaN, and swapping truth and prediction swaps precision and recall in every case.

    Parameters
    ----------
    matches
        From `passband.detections.matching.match_boxes`.

    Returns
    -------
    Scores
        The counts, the three scores and the rule.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detections.matching import OPTIMAL, match_boxes
    >>> truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]])
    >>> print(object_scores(match_boxes(truth, truth[:1], OPTIMAL)))
    F1 0.67 (optimal one-to-one, box IoU >= 0.5)
    """
    hits = len(matches.pairs)
    wrong, misses = matches.n_predicted - hits, matches.n_truth - hits
    if hits:
        precision, recall = hits / matches.n_predicted, hits / matches.n_truth
        f1 = 2 * hits / (2 * hits + wrong + misses)
    else:
        precision = recall = f1 = 0.0 if wrong or misses else 1.0
    return Scores(
        precision=precision,
        recall=recall,
        f1=f1,
        true_positives=hits,
        false_positives=wrong,
        misses=misses,
        rule=matches.rule,
    )


def equivalent_diameters(instances: Sequence[InstanceMask], *, pixel_size: float = 1.0) -> Vector:
    """Diameter of each object, 2 sqrt(dmin dmax), from the centre of its convex hull to the hull's vertices.

    The hull is that of the midpoints of the edges of the object's pixels, the centre is the hull's centroid.
    Midpoints because a disc of radius r then gives 2 r within a pixel (0.3 to 0.7 too many on average); pixel
    corners give up to 1.2 too many, and pixel centres give a single pixel no size at all.

    Parameters
    ----------
    instances
        n masks, each with at least one pixel.
    pixel_size
        Å per pixel; with 1 the diameters are in pixels.

    Returns
    -------
    float64 (n,)
        Diameters in Å, or in pixels where no pixel size is given.

    Raises
    ------
    ParameterError
        If a mask is empty or the pixel size is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:21, :21] - 10
    >>> disc = InstanceMask(y=0, x=0, pixels=np.hypot(y, x) <= 10)
    >>> equivalent_diameters([disc]).round(1).tolist()
    [20.8]
    """
    _positive(pixel_size=pixel_size)
    return np.array([_hull(m).diameter for m in _nonempty(instances)], np.float64) * pixel_size


def heywood_circularity(mask: InstanceMask) -> float:
    """Perimeter of an object's convex hull over that of the disc of the hull's area.

    1 for a disc, 2/sqrt(pi) = 1.128 for a square, larger the longer the object. The hull is that of
    `equivalent_diameters`; its corners are cut by half a pixel, so a square of 20 pixels gives 1.113.

    Parameters
    ----------
    mask
        One object, with at least one pixel.

    Returns
    -------
    float
        perimeter / (2 sqrt(pi area)), at least 1.

    Raises
    ------
    ParameterError
        If the mask is empty.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:41, :41] - 20
    >>> round(heywood_circularity(InstanceMask(y=0, x=0, pixels=np.hypot(y, x) <= 20)), 3)
    1.004
    """
    return _hull(_nonempty([mask])[0]).circularity


def heywood_circularities(instances: Sequence[InstanceMask]) -> Vector:
    """`heywood_circularity` of each object, shape (n,)."""
    masks = _nonempty(instances)
    tall = np.array([m.pixels.shape[0] > _TALL for m in masks], bool)
    values = np.empty(len(masks))
    values[~tall] = hull_circularities([m for m, t in zip(masks, tall, strict=True) if not t])
    values[tall] = [_hull(m).circularity for m, t in zip(masks, tall, strict=True) if t]
    return values


def box_diameters(boxes_xyxy: npt.NDArray[Any], *, pixel_size: float = 1.0) -> Vector:
    """Diameter of each box where there is no mask: 2 sqrt(dmin dmax) of its half sides, sqrt(width height).

    It is that of an ellipse which fills the box.

    Parameters
    ----------
    boxes_xyxy
        (n, 4) in pixels, x0 < x1 and y0 < y1.
    pixel_size
        Å per pixel; with 1 the diameters are in pixels.

    Returns
    -------
    float64 (n,)
        Diameters in Å, or in pixels where no pixel size is given.

    Raises
    ------
    ParameterError
        If boxes have no extent or the pixel size is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> box_diameters(np.array([[0, 0, 4, 9]]), pixel_size=2).tolist()
    [12.0]
    """
    _positive(pixel_size=pixel_size)
    sides = _sides(boxes_xyxy)
    return np.sqrt(sides[:, 0] * sides[:, 1]) * pixel_size


def number_density(count: int, area: float) -> float:
    """Objects per imaged area, N / area.

    Parameters
    ----------
    count
        How many objects.
    area
        Imaged area in Å², more than zero.

    Returns
    -------
    float
        Objects per Å².

    Raises
    ------
    ParameterError
        If the count is negative or the area not positive.

    Examples
    --------
    >>> number_density(50, 1e6)
    5e-05
    """
    if count < 0:
        raise ParameterError(f"count of objects must not be negative, got {count}")
    _positive(area=area)
    return count / area


def swelling_percent(diameters: npt.ArrayLike, area: float, thickness: float) -> float:
    """Swelling by cavities taken as spheres: 100 V / (area thickness - V), V = sum of pi/6 d³.

    Parameters
    ----------
    diameters
        (n,) in Å; none gives no swelling.
    area
        Imaged area in Å², more than zero.
    thickness
        Foil thickness in Å, more than zero.

    Returns
    -------
    float
        Growth of the solid's volume in per cent.

    Raises
    ------
    ParameterError
        If a quantity is not positive, or the cavities fill the whole foil.

    References
    ----------
    R. Jacobs et al., Materials swelling revealed through automated semantic segmentation of cavities in
    electron microscopy images, arXiv:2208.01460.

    Examples
    --------
    >>> round(swelling_percent([100.0, 100.0], area=1e6, thickness=1000.0), 4)
    0.1048
    """
    _positive(area=area, thickness=thickness)
    d = np.asarray(diameters, np.float64).ravel()
    bad = np.flatnonzero(~(np.isfinite(d) & (d > 0)))
    if bad.size:
        raise ParameterError(f"diameters must be positive numbers of Å; {bad.tolist()} are {d[bad].tolist()}")
    volume = math.pi / 6 * float((d**3).sum())
    foil = area * thickness
    if volume >= foil:
        raise ParameterError(
            f"cavities of {volume:.4g} Å³ do not fit in a foil of {foil:.4g} Å³; "
            "check the pixel size and the thickness (both in Å)"
        )
    return 100 * volume / (foil - volume)


_TALL = 128
"""A mask of more rows is measured by itself: a library's hull takes less time."""


@dataclass(frozen=True, kw_only=True)
class _Hull:
    """What is measured on a convex hull, in pixels."""

    diameter: float
    circularity: float


def _hull(mask: InstanceMask) -> _Hull:
    """Measures of the convex hull of the midpoints of a mask's pixel edges."""
    from scipy.spatial import ConvexHull

    # Only the first and last pixel of a row can reach the hull, so those alone are given to Qhull.
    rows = np.flatnonzero(mask.pixels.any(axis=1))
    first = mask.pixels[rows].argmax(axis=1)
    last = mask.pixels.shape[1] - 1 - mask.pixels[rows, ::-1].argmax(axis=1)
    xs = (first - 0.5, last + 0.5, first, first, last, last)
    ys = (rows, rows, rows - 0.5, rows + 0.5, rows - 0.5, rows + 0.5)
    points = np.stack([np.concatenate(xs), np.concatenate(ys)], axis=1).astype(np.float64)
    hull = ConvexHull(points)
    vertices = points[hull.vertices] - points[hull.vertices[0]]
    following = np.roll(vertices, -1, axis=0)
    cross = vertices[:, 0] * following[:, 1] - vertices[:, 1] * following[:, 0]
    centre = ((vertices + following) * cross[:, None]).sum(axis=0) / (3 * cross.sum())
    reach = np.hypot(*(vertices - centre).T)
    # In two dimensions Qhull's "area" is the perimeter and its "volume" the area.
    return _Hull(
        diameter=2 * math.sqrt(float(reach.min() * reach.max())),
        circularity=float(hull.area) / (2 * math.sqrt(math.pi * float(hull.volume))),
    )


def _nonempty(instances: Sequence[InstanceMask]) -> Sequence[InstanceMask]:
    """Give the same masks, or an error naming those without a pixel."""
    empty = np.flatnonzero(~hold_pixels(instances)).tolist()
    if empty:
        raise ParameterError(f"masks must hold a pixel to have a size; these are empty: {empty}")
    return instances


def _sides(boxes_xyxy: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Width and height of each box, (n, 2)."""
    b = np.asarray(boxes_xyxy, np.float64)
    if b.ndim != 2 or b.shape[1] != 4:
        raise ParameterError(f"boxes must be (n, 4), got {b.shape}")
    sides: npt.NDArray[np.float64] = b[:, 2:] - b[:, :2]
    bad = np.flatnonzero(~(np.isfinite(sides) & (sides > 0)).all(axis=1))
    if bad.size:
        raise ParameterError(f"boxes {bad.tolist()} are not finite with x0 < x1 and y0 < y1")
    return sides


def _positive(**quantities: float) -> None:
    """Refuse, all at once, what is not a positive finite number."""
    faults = [
        f"{name} must be a positive number, got {value!r}"
        for name, value in quantities.items()
        if not (math.isfinite(value) and value > 0)
    ]
    if faults:
        raise ParameterError("; ".join(faults))
