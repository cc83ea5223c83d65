"""Enlarge or shrink a micrograph so that its pixels suit a network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Float32, Integer
from torch.nn.functional import interpolate

from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle
from passband.micrographs.micrograph import Micrograph
from passband.types import Image, InstanceMask

_SUB = 4  # places in each direction at which a scaled pixel is looked up


def rescaling(micrograph: Micrograph, bundle: Bundle) -> float:
    """Factor by which a micrograph is enlarged so that its pixels suit the detector.

    Parameters
    ----------
    micrograph
        Its pixel size may be unknown.
    bundle
        Its training conditions give the range of pixel sizes, and by what factor all its images were
        enlarged.

    Returns
    -------
    float
        That of all images inside the range or where a pixel size is unknown; never over 4 times as large or
        less than 1/4 of it.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detectors.config import SLIM
    >>> b = Bundle(name="b", detector=SLIM, weights={}, score_threshold=0.5, training={"pixel_size": [2, 5]})
    >>> rescaling(Micrograph(pixels=np.zeros((4, 4), np.float32), name="a", pixel_size=1.0), b)
    0.5
    """
    trained, every = bundle.training.get("pixel_size"), float(bundle.training.get("image_scale", 1.0))
    if micrograph.pixel_size is None or trained is None:
        return every
    nearest = min(max(micrograph.pixel_size, trained[0]), trained[1])
    return every * float(min(max(micrograph.pixel_size / nearest, 0.25), 4.0))


def resized(pixels: Image, scale: float) -> Float32[np.ndarray, "rows columns"]:
    """An image enlarged by a factor, bilinearly; where it is shrunk, averaged first.

    Examples
    --------
    >>> resized(np.ones((40, 60), np.float32), 0.5).shape
    (20, 30)
    """
    if scale == 1.0:
        return pixels
    if scale < 1:  # averaging, not sampling: noise must not alias
        pixels = scipy.ndimage.gaussian_filter(pixels, 0.4 / scale)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))[None, None]
    size = [max(16, round(side * scale)) for side in pixels.shape]
    out: np.ndarray = interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return out


def resized_mask(mask: InstanceMask, scale: float) -> InstanceMask:
    """One object of an image enlarged by a factor; of one that is shrunk away the best pixels are left.

    Examples
    --------
    >>> small = resized_mask(InstanceMask(y=8, x=4, pixels=np.ones((6, 10), bool)), 0.5)
    >>> small.y, small.x, small.pixels.shape
    (4, 2, (3, 5))
    """
    y, rows = _scaled_places(mask.y, mask.pixels.shape[0], scale)
    x, columns = _scaled_places(mask.x, mask.pixels.shape[1], scale)
    inside = (rows >= 0)[:, None] & (columns >= 0)[None]
    sampled = mask.pixels[np.maximum(rows, 0)[:, None], np.maximum(columns, 0)] & inside
    covered = sampled.reshape(len(rows) // _SUB, _SUB, len(columns) // _SUB, _SUB).mean((1, 3))
    pixels = covered >= 0.5
    if not pixels.any() and mask.pixels.any():
        pixels = covered == covered.max()
    return InstanceMask(y=y, x=x, pixels=pixels)


def _scaled_places(start: int, length: int, scale: float) -> tuple[int, Integer[np.ndarray, " n"]]:
    """First pixel of a scaled extent, and at `_SUB` places of each of its pixels the one before, or -1."""
    first, end = math.floor(start * scale + 1e-9), math.ceil((start + length) * scale - 1e-9)
    end = max(end, first + 1)
    places = (first + (np.arange((end - first) * _SUB) + 0.5) / _SUB) / scale - start
    before = np.floor(places).astype(np.int64)
    return first, np.where((before >= 0) & (before < length), before, -1)


def resized_labelled(
    micrograph: Micrograph, truth: Detections, scale: float
) -> tuple[Micrograph, Detections]:
    """A labelled micrograph enlarged by a factor, with what is there; its pixel size stays that of the file.

    Examples
    --------
    >>> box = Detections(image_shape=(40, 60), boxes_xyxy=np.array([[10.0, 8, 30, 20]]), scores=np.ones(1))
    >>> whole = Micrograph(pixels=np.eye(40, 60, dtype=np.float32), name="a")
    >>> image, half = resized_labelled(whole, box, 0.5)
    >>> image.shape, half.image_shape, half.boxes_xyxy.tolist()
    ((20, 30), (20, 30), [[5.0, 4.0, 15.0, 10.0]])
    """
    if scale == 1.0:
        return micrograph, truth
    pixels = resized(micrograph.pixels, scale)
    masks = None
    boxes = (truth.boxes_xyxy * scale).clip(0, [*pixels.shape[::-1]] * 2)
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if truth.masks is not None:
        scaled = [_within(resized_mask(m, scale), pixels.shape) for m in truth.masks]
        kept = np.array([i for i in kept.tolist() if scaled[i] is not None], np.int64)
        masks = tuple(m for i in kept.tolist() if (m := scaled[i]) is not None)
    crowds = [_within(resized_mask(m, scale), pixels.shape) for m in truth.crowds]
    return replace(micrograph, pixels=pixels), replace(
        truth,
        image_shape=pixels.shape,
        boxes_xyxy=boxes[kept],
        scores=truth.scores[kept],
        masks=masks,
        categories=None if truth.categories is None else tuple(truth.categories[i] for i in kept.tolist()),
        crowds=tuple(m for m in crowds if m is not None),
    )


def _within(mask: InstanceMask, shape: tuple[int, ...]) -> InstanceMask | None:
    """What of an object lies in an image, if anything does."""
    pixels = mask.pixels[max(0, -mask.y) : shape[0] - mask.y, max(0, -mask.x) : shape[1] - mask.x]
    if not pixels.any():
        return None
    return InstanceMask(y=max(0, mask.y), x=max(0, mask.x), pixels=np.ascontiguousarray(pixels))
