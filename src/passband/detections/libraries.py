"""What detection libraries hand out, torchvision's dictionaries and Ultralytics' results, to `Detections`.

Both are told by their attributes: neither library is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from passband.detections.detections import Detections
from passband.detections.gathering import Faults
from passband.detections.masks import centre_pixel, mask_from_polygons, tight_mask
from passband.detections.numbers import shown
from passband.errors import DetectionsError

_MASK_CUT = 0.5


def from_torchvision(
    prediction: Mapping[str, Any], image_shape: tuple[int, int], *, score_threshold: float = 0.0
) -> Detections:
    """Take a torchvision detector's output, or target, for one image.

    Parameters
    ----------
    prediction
        "boxes" (n, 4), and where there are any "scores" (n,) and "masks" (n, 1, H, W) or (n, H, W), as
        tensors or arrays. Masks are cut at 0.5; one that nowhere reaches it keeps the pixel at the centre
        of its box. Without scores every score is 1.
    image_shape
        Height and width of the image in pixels.
    score_threshold
        The detector kept objects at or above this score; others are dropped.

    Returns
    -------
    Detections
        In the order given.

    Raises
    ------
    DetectionsError
        Naming every fault.

    Examples
    --------
    >>> import numpy as np
    >>> from_torchvision({"boxes": np.array([[1.0, 2, 5, 6]]), "scores": np.array([0.5])}, (8, 8)).areas
    array([16.])
    """
    faults = Faults("this torchvision prediction")
    if "boxes" not in prediction:
        faults.add(f"wanted 'boxes', got {', '.join(map(repr, prediction)) or 'nothing'}")
        faults.raise_if_any()
    boxes = _array(prediction["boxes"])
    scores = _array(prediction["scores"]) if "scores" in prediction else np.ones(len(boxes))
    masks = prediction.get("masks")
    boxes, scores = _checked(boxes, scores, faults)
    outlines = None
    if masks is not None:
        soft = _array(masks)
        if soft.ndim == 4 and soft.shape[1] == 1:
            soft = soft[:, 0]
        if soft.shape != (len(boxes), *image_shape):
            faults.add(f"masks must be {(len(boxes), 1, *image_shape)}, got {_array(masks).shape}")
        elif soft.dtype.kind not in "fiub":
            faults.add(f"masks must be numbers, got {soft.dtype}")
        else:
            outlines = [tight_mask(m >= _MASK_CUT) for m in soft]
    return _assembled(image_shape, boxes, scores, outlines, "scores" in prediction, faults).above(
        score_threshold
    )


def from_ultralytics(result: Any, *, score_threshold: float = 0.0) -> Detections:
    """Take one Ultralytics result: a `Results` object, told by its attributes.

    Parameters
    ----------
    result
        With orig_shape (height, width), boxes.xyxy (n, 4), boxes.conf (n,), and masks or None. The outlines
        masks.xy are used, which are in pixels of the original image whatever size the network worked at.
    score_threshold
        The detector kept objects at or above this score; others are dropped.

    Returns
    -------
    Detections
        In the order given.

    Raises
    ------
    DetectionsError
        Naming every fault.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> boxes = SimpleNamespace(xyxy=np.array([[1.0, 2, 5, 6]]), conf=np.array([0.5]))
    >>> len(from_ultralytics(SimpleNamespace(orig_shape=(8, 8), boxes=boxes, masks=None)))
    1
    """
    faults = Faults("this Ultralytics result")
    try:
        shape = (int(result.orig_shape[0]), int(result.orig_shape[1]))
        boxes, scores = _array(result.boxes.xyxy), _array(result.boxes.conf)
        masks = getattr(result, "masks", None)
        polygons = None if masks is None else [_array(p).tolist() for p in masks.xy]
    except (AttributeError, TypeError, IndexError, ValueError) as error:
        raise DetectionsError(
            f"wanted an Ultralytics result with orig_shape, boxes.xyxy and boxes.conf: {error}"
        ) from error
    boxes, scores = _checked(boxes, scores, faults)
    outlines = None
    if polygons is not None and len(polygons) != len(boxes):
        faults.add(f"{len(polygons)} outlines for {len(boxes)} boxes")
    elif polygons is not None:
        outlines = []
        for i, polygon in enumerate(polygons):
            flat = [v for point in polygon for v in point]
            try:
                # The outline of an object smaller than the network's mask pixel has fewer than three points.
                outlines.append(mask_from_polygons([flat], shape) if len(polygon) >= 3 else None)
            except DetectionsError as error:
                faults.add(str(error), f"object {i}")
                outlines.append(None)
    return _assembled(shape, boxes, scores, outlines, True, faults).above(score_threshold)


def _array(value: Any) -> npt.NDArray[Any]:
    """Array of a tensor on any device, of an array, or of a list."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _checked(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any], faults: Faults
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes (n, 4) and scores (n,) as float64; whatever else is a fault, raised where nothing can follow."""
    if boxes.size == 0:
        boxes = np.zeros((0, 4))
    if boxes.dtype.kind not in "fiu" or scores.dtype.kind not in "fiu":
        faults.add(f"boxes and scores must be numbers, got {boxes.dtype} and {scores.dtype}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        faults.add(f"boxes must be (n, 4) and scores (n,), got {boxes.shape} and {shown(scores.shape)}")
    faults.raise_if_any()
    return boxes.astype(np.float64), scores.astype(np.float64)


def _assembled(
    image_shape: tuple[int, int],
    boxes: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    outlines: list[Any] | None,
    scored: bool,
    faults: Faults,
) -> Detections:
    """Give the detections of one image, or one error with every fault."""
    shape = (int(image_shape[0]), int(image_shape[1]))
    masks = None
    if outlines is not None:
        places = [box if np.isfinite(box).all() else [0.0] * 4 for box in boxes.tolist()]
        masks = tuple(m or centre_pixel(p, shape) for m, p in zip(outlines, places, strict=True))
    try:
        found = Detections(image_shape=shape, boxes_xyxy=boxes, scores=scores, masks=masks, scored=scored)
    except DetectionsError as error:
        faults.add(f"image 'this one': {str(error).partition(': ')[2]}")
    faults.raise_if_any()
    return found
