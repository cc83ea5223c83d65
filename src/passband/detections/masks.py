"""One object's pixels from and to run lengths, polygons and label images.

Masks are cropped as they are decoded: a thousand small objects in a large image never become a thousand
large images. The run lengths are decoded here because pycocotools answers damaged ones with whatever is in
memory; it fills polygons and packs run lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from passband.detections.numbers import number, shown
from passband.errors import DetectionsError
from passband.types import InstanceMask

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""
_MAX_OUTLINE = 2**23


def hold_pixels(masks: Sequence[InstanceMask]) -> npt.NDArray[np.bool_]:
    """Which masks have a pixel, shape (n,).

    Examples
    --------
    >>> pixels = np.array([[[True, False]], [[False, False]]])
    >>> hold_pixels([InstanceMask(y=0, x=0, pixels=p) for p in pixels]).tolist()
    [True, False]
    """
    return np.array([np.count_nonzero(m.pixels) > 0 for m in masks], bool)


def tight_mask(pixels: npt.NDArray[np.bool_], *, y: int = 0, x: int = 0) -> InstanceMask | None:
    """Crop an object's pixels to where they are.

    Parameters
    ----------
    pixels
        Boolean (h, w); True on the object.
    y, x
        Where the first pixel lies in the image.

    Returns
    -------
    InstanceMask or None
        None where no pixel is True.

    Examples
    --------
    >>> import numpy as np
    >>> tight_mask(np.eye(5, dtype=bool)[1:3], y=1).box_xyxy
    (1.0, 1.0, 3.0, 3.0)
    """
    rows = np.flatnonzero(pixels.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(pixels.any(axis=0))
    crop = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return InstanceMask(y=y + int(rows[0]), x=x + int(columns[0]), pixels=np.array(crop, bool))


def centre_pixel(box_xyxy: Sequence[float], image_shape: tuple[int, int]) -> InstanceMask:
    """Give the mask of an object whose outline is finer than a pixel: the one at the centre of its box."""
    x0, y0, x1, y1 = box_xyxy
    y = min(max(int((y0 + y1) / 2), 0), image_shape[0] - 1)
    x = min(max(int((x0 + x1) / 2), 0), image_shape[1] - 1)
    return InstanceMask(y=y, x=x, pixels=np.ones((1, 1), bool))


def box_mask(box_xyxy: Sequence[float], image_shape: tuple[int, int]) -> InstanceMask:
    """Give the mask of all pixels whose centre lies in a box, or of the one at its own centre.

    Examples
    --------
    >>> box_mask((0.4, 1, 2.6, 3), (8, 8)).box_xyxy
    (0.0, 1.0, 3.0, 3.0)
    """
    x0, y0, x1, y1 = (math.ceil(v - 0.5) for v in box_xyxy)
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, image_shape[1]), min(y1, image_shape[0])
    if x1 <= x0 or y1 <= y0:
        return centre_pixel(box_xyxy, image_shape)
    return InstanceMask(y=y0, x=x0, pixels=np.ones((y1 - y0, x1 - x0), bool))


def clipped_polygon(points: npt.NDArray[np.float64], image_shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The part of a polygon that lies in the image; itself where it reaches less than a pixel outside.

    Parameters
    ----------
    points
        float64 (n, 2): x, y in pixels.
    image_shape
        Height and width.

    Returns
    -------
    array
        float64 (m, 2); fewer than three points where nothing lies inside.

    References
    ----------
    Sutherland and Hodgman, doi:10.1145/360767.360802.

    Examples
    --------
    >>> clipped_polygon(np.array([[-4.0, 1], [4, 1], [4, 3], [-4, 3]]), (8, 8)).tolist()
    [[0.0, 1.0], [4.0, 1.0], [4.0, 3.0], [0.0, 3.0]]
    """
    height, width = image_shape
    if (points >= -1).all() and (points <= (width + 1, height + 1)).all():
        return points
    for axis, limit, side in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        depth = side * (points[:, axis] - limit)
        kept: list[npt.NDArray[np.float64]] = []
        for i in range(len(points)):
            before, here = depth[i - 1], depth[i]
            if (before < 0) != (here < 0):
                crossing = points[i - 1] + (points[i] - points[i - 1]) * (before / (before - here))
                crossing[axis] = limit
                kept.append(crossing)
            if here >= 0:
                kept.append(points[i])
        points = np.array(kept, np.float64).reshape(-1, 2)
        if len(points) < 3:
            return points[:0]
    return points


def without_holes(mask: InstanceMask, holes: Sequence[InstanceMask]) -> InstanceMask | None:
    """A mask less the pixels of others; None where none is left."""
    pixels = mask.pixels.copy()
    height, width = pixels.shape
    for hole in holes:
        y, x = hole.y - mask.y, hole.x - mask.x
        h, w = hole.pixels.shape
        rows, columns = slice(max(y, 0), min(y + h, height)), slice(max(x, 0), min(x + w, width))
        if rows.start < rows.stop and columns.start < columns.stop:
            part = hole.pixels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
            pixels[rows, columns] &= ~part
    return tight_mask(pixels, y=mask.y, x=mask.x)


def mask_from_rle(rle: Any, image_shape: tuple[int, int]) -> InstanceMask | None:
    """Decode COCO run lengths, as a list or packed into text.

    Parameters
    ----------
    rle
        Mapping with "size" [height, width] and "counts": run lengths of background and object in turn,
        column by column, as a list of whole numbers or as COCO's packed text.
    image_shape
        Height and width that the size must equal.

    Returns
    -------
    InstanceMask or None
        None where the object has no pixel.

    Raises
    ------
    DetectionsError
        If the size differs, or the counts are no run lengths or do not add up to the image.

    Examples
    --------
    >>> mask_from_rle({"size": [2, 3], "counts": [2, 1, 3]}, (2, 3)).box_xyxy
    (1.0, 0.0, 2.0, 1.0)
    """
    size = rle.get("size")
    if not isinstance(size, (list, tuple)) or [number(s) for s in size] != [float(s) for s in image_shape]:
        height, width = image_shape
        raise DetectionsError(f"run lengths of size {shown(size)} in an image of {height} x {width}")
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    runs = _unpacked(counts) if isinstance(counts, bytes) else _listed(counts)
    pixels = image_shape[0] * image_shape[1]
    if (runs < 0).any() or (runs > pixels).any() or int(runs.sum()) != pixels:
        raise DetectionsError(f"run lengths must not be negative and must add up to {pixels} pixels")
    return _mask_from_runs(runs, image_shape[0])


def rle_from_mask(mask: InstanceMask, image_shape: tuple[int, int]) -> dict[str, Any]:
    """Encode a mask as COCO run lengths packed into text.

    Parameters
    ----------
    mask
        One object, inside the image.
    image_shape
        Height and width of the image.

    Returns
    -------
    dict
        "size" and "counts", ready for JSON.

    Raises
    ------
    DetectionsError
        If the mask has no pixel or reaches outside the image.

    Examples
    --------
    >>> import numpy as np
    >>> rle_from_mask(InstanceMask(y=0, x=1, pixels=np.ones((1, 1), bool)), (2, 3))
    {'size': [2, 3], 'counts': '213'}
    """
    from pycocotools.mask import frPyObjects

    height, width = image_shape
    x0, y0, x1, y1 = mask.box_xyxy
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height or not mask.pixels.any():
        raise DetectionsError(
            f"mask at x {x0:g} to {x1:g}, y {y0:g} to {y1:g} is empty or outside the image "
            f"of {height} x {width}"
        )
    # Steps along each column, with background before and after; then to places in the whole image.
    padded = np.zeros((mask.pixels.shape[1], mask.pixels.shape[0] + 2), np.int8)
    padded[:, 1:-1] = mask.pixels.T
    steps = np.diff(padded, axis=1)
    starts, stops = (
        (column + mask.x) * height + row + mask.y
        for column, row in (np.nonzero(steps == 1), np.nonzero(steps == -1))
    )
    # An object as high as the image runs on from one column into the next.
    joined = starts[1:] == stops[:-1]
    starts, stops = starts[np.append(True, ~joined)], stops[np.append(~joined, True)]
    edges = np.concatenate([[0], np.stack([starts, stops], axis=1).ravel(), [height * width]])
    runs = np.diff(edges)
    if runs[-1] == 0:
        runs = runs[:-1]
    packed = frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def mask_from_polygons(polygons: Any, image_shape: tuple[int, int]) -> InstanceMask | None:
    """Fill polygons, which together make one object.

    Parameters
    ----------
    polygons
        List of polygons, each a flat list x0, y0, x1, y1, ... of at least three points in pixels.
    image_shape
        Height and width of the image; points may lie at most one pixel outside.

    Returns
    -------
    InstanceMask or None
        None where the polygons cover no pixel.

    Raises
    ------
    DetectionsError
        If a polygon is no list of three or more points, or a point is no number or outside the image.

    Examples
    --------
    >>> mask_from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], (8, 8)).box_xyxy
    (1.0, 1.0, 4.0, 3.0)
    """
    from pycocotools.mask import frPyObjects, merge

    height, width = image_shape
    filled = []
    for polygon in polygons:
        if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
            raise DetectionsError(f"a polygon must list x, y of three or more points, got {shown(polygon)}")
        values = [number(v) for v in polygon]
        if any(v is None for v in values):
            raise DetectionsError(f"a polygon must hold finite numbers, got {shown(polygon)}")
        points = np.array(values, np.float64).reshape(-1, 2)
        if (points < -1).any() or (points > (width + 1, height + 1)).any():
            raise DetectionsError(f"a polygon reaches outside the image of {height} x {width}")
        steps = np.abs(points - np.roll(points, 1, axis=0))
        if steps.max(axis=1).sum() > _MAX_OUTLINE:  # filling takes memory for every step along it
            raise DetectionsError(f"an outline is longer than {_MAX_OUTLINE} pixels")
        filled += frPyObjects([points.ravel().tolist()], height, width)
    return _mask_from_runs(_unpacked(merge(filled)["counts"]), height)


def masks_from_labels(labels: npt.NDArray[Any]) -> tuple[InstanceMask, ...]:
    """Split a label image into its objects, in the order of their numbers.

    Parameters
    ----------
    labels
        Whole numbers (y, x): 0 is background, every other number one object, which may be in pieces.

    Returns
    -------
    tuple of InstanceMask
        One tight mask per number.

    Raises
    ------
    DetectionsError
        If the array is not two-dimensional, not of whole numbers, or holds a negative one.

    Examples
    --------
    >>> import numpy as np
    >>> [m.box_xyxy for m in masks_from_labels(np.array([[7, 0, 3], [7, 7, 0]]))]
    [(2.0, 0.0, 3.0, 1.0), (0.0, 0.0, 2.0, 2.0)]
    """
    from scipy.ndimage import find_objects

    labels = np.asarray(labels)
    if labels.dtype == bool:
        raise DetectionsError(
            "a mask of true and false does not tell objects apart; number them first (scipy.ndimage.label)"
        )
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iu":
        raise DetectionsError(
            "a label image must be a (y, x) array of whole numbers, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if int(labels.min()) < 0:
        raise DetectionsError(f"a label image must not hold negative numbers, got {int(labels.min())}")
    if int(labels.max()) > labels.size:  # numbers far apart: number them anew, keeping 0 and the order
        labels = np.searchsorted(np.union1d(labels, np.zeros(1, labels.dtype)), labels)
    numbered: npt.NDArray[np.int32] = labels.astype(np.int32, copy=False)
    masks = []
    for i, place in enumerate(find_objects(numbered), start=1):
        if place is not None:
            rows, columns = place
            masks.append(InstanceMask(y=rows.start, x=columns.start, pixels=numbered[place] == i))
    return tuple(masks)


def _listed(counts: Any) -> npt.NDArray[np.int64]:
    """Run lengths from a list of whole numbers."""
    if not isinstance(counts, (list, tuple)):
        raise DetectionsError(f"counts of run lengths must be text or a list, got {shown(counts)}")
    if any(isinstance(c, bool) or not isinstance(c, int) or abs(c) > 2**62 for c in counts):
        raise DetectionsError(f"counts of run lengths must be whole numbers, got {shown(counts)}")
    return np.array(counts, np.int64)


def _unpacked(packed: bytes) -> npt.NDArray[np.int64]:
    """Run lengths from COCO's packed text: five bits a character, each count less the last but one.

    The format is that of `rleFrString` in pycocotools (maskApi.c).
    """
    characters = np.frombuffer(packed, np.uint8).astype(np.int64) - 48
    if not characters.size:
        return np.empty(0, np.int64)
    last = (characters & 0x20) == 0
    if (characters < 0).any() or (characters > 63).any() or not last[-1]:
        raise DetectionsError("the text of run lengths is damaged")
    stops = np.flatnonzero(last)
    starts = np.append(0, stops[:-1] + 1)
    place = np.arange(characters.size) - np.repeat(starts, stops - starts + 1)
    if int(place.max()) > 10:  # more than any 55-bit count needs
        raise DetectionsError("the text of run lengths is damaged")
    values = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    negative = (characters[stops] & 0x10) != 0
    values = values - np.where(negative, np.int64(1) << (5 * (place[stops] + 1)), 0)
    runs: npt.NDArray[np.int64] = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def _mask_from_runs(runs: npt.NDArray[np.int64], height: int) -> InstanceMask | None:
    """Crop of the object from valid run lengths, filling only the columns it reaches."""
    edges = np.cumsum(runs)
    stops = edges[1::2]
    starts = edges[0::2][: stops.size]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not starts.size:
        return None
    column, end_column = starts // height, (stops - 1) // height
    row, end_row = starts % height, (stops - 1) % height + 1
    first, last = int(column[0]), int(end_column[-1])
    top, bottom = 0, height
    if (column == end_column).all():  # no run goes on into the next column: only the object's rows are filled
        top, bottom = int(row.min()), int(end_row.max())
    tall = bottom - top
    steps = np.zeros((last - first + 1) * tall + 1, np.int8)
    steps[(column - first) * tall + row - top] += 1
    steps[(end_column - first) * tall + end_row - top] -= 1
    columns = np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(-1, tall)
    return tight_mask(columns.T, y=top, x=first)
