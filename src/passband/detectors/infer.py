"""Run a bundle's detector on a micrograph: rescaled, in tiles, within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle, load_weights
from passband.detectors.config import DetectorConfig
from passband.detectors.rescale import rescaling, resized, resized_mask
from passband.detectors.segment import segment_objects
from passband.errors import ParameterError
from passband.estimate.look import Seen
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask, Progress, Vector

if TYPE_CHECKING:  # torchvision takes seconds to load, and a segmenter has no need of it
    from torchvision.models.detection import FasterRCNN

TILES = (1024, 768, 512, 384, 256)
"""Sides of a tile in pixels, largest first."""
BASE_BYTES = {"slim": 850_000_000, "resnet50": 4_000_000_000}
"""Peak memory of the process whatever the tile: libraries, weights, proposals and masks."""
BYTES_PER_TILE_PIXEL = {"slim": 350, "resnet50": 500}
"""Peak memory of a network per pixel of a tile; ``benchmarks/bench_memory.py`` measures both."""
BYTES_PER_PIXEL = 5
"""Memory of the micrograph itself, per pixel."""
STRIP_MARGIN = 200
BYTES_PER_STRIP_PIXEL = 24
"""Peak memory of a row of tiles' input, per pixel of its rows and those around it."""
NMS_IOU = 0.4
MOST_SHARED = 208
"""Pixels that two tiles share at most; hardly an object that is found is longer."""


def detect(
    micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 6.0, progress: Progress | None = None
) -> Detections:
    """Objects that a bundle's detector finds in a micrograph.

    Parameters
    ----------
    micrograph
        Rescaled first where its known pixel size lies outside the detector's training range.
    bundle
        Gives the network, its weights and the score threshold.
    memory_gb
        Memory the process may take; a large image is done in smaller tiles, with the same
        result away from their borders.
    progress
        Called before each tile of a micrograph that has several.

    Returns
    -------
    Detections
        In the micrograph's own pixels, best score first, with masks where the network gives them, and with
        classes where it tells them apart.

    Raises
    ------
    ParameterError
        If the budget does not hold the smallest tile.
    BundleError
        If the weights do not fit the configuration.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detectors.bundle import default_bundle
    >>> flat = Micrograph(pixels=np.zeros((64, 64), np.float32), name="empty")
    >>> len(detect(flat, default_bundle()))
    0
    """
    if not isinstance(bundle.detector, DetectorConfig):
        return segment_objects(micrograph, bundle, memory_gb=memory_gb)
    return detect_and_see(micrograph, bundle, memory_gb=memory_gb, progress=progress)[0]


def detect_and_see(
    micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 6.0, progress: Progress | None = None
) -> tuple[Detections, Seen | None]:
    """What `detect` finds, and what the network of a detector saw on the way, for `estimate.look`.

    Parameters
    ----------
    micrograph, memory_gb, progress
        As of `detect`.
    bundle
        Of a detector, not of a segmenter.

    Returns
    -------
    tuple
        Detections; and of each channel of every level of the features its mean over the image, then its
        deviation. In tiles they are those of the whole but for what lies at the borders. None of an image of
        one grey, in which there is nothing to see.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detectors.bundle import default_bundle
    >>> noise = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> seen = detect_and_see(Micrograph(pixels=noise, name="noise"), default_bundle())[1]
    >>> seen.numbers.shape, seen.side
    ((512,), 64.0)
    """
    found, sums = _find(micrograph, bundle, memory_gb, progress)
    seen = None
    if sums:
        side = math.sqrt(micrograph.pixels.size) * rescaling(micrograph, bundle)
        seen = Seen(numbers=np.concatenate([_mean_and_deviation(s) for s in sums]), side=side)
    return _in_own_pixels(micrograph, bundle, found).outside(micrograph.written), seen


def _find(
    micrograph: Micrograph, bundle: Bundle, memory_gb: float, progress: Progress | None
) -> tuple[_Found, list[Tensor]]:
    """What a detector finds, in the pixels that it sees, and the sums of its features."""
    config = bundle.detector
    assert isinstance(config, DetectorConfig)
    scale = rescaling(micrograph, bundle)
    larger = max(1.0, scale)
    tile = _tile_side(config, tuple(math.ceil(n * larger) for n in micrograph.shape), memory_gb)
    pixels = resized(micrograph.pixels, scale)
    if float(np.ptp(pixels)) == 0.0:
        return _nothing(config), []
    from torchvision.ops import nms

    from passband.detectors.mask_rcnn import grey_levels, input_channels, input_rows

    model = _network(bundle)
    channels, levels = input_channels(config), grey_levels(pixels)
    found: list[_Found] = []
    sums: list[Tensor] = []
    height, width = pixels.shape
    rows, columns = (_starts(length, tile, _overlap(tile)) for length in (height, width))
    for y in rows:
        strip = input_rows(pixels, channels, levels, y, min(height, y + tile))
        for x in columns:
            if progress and len(rows) * len(columns) > 1:
                progress("tile", len(found), len(rows) * len(columns))
            part = strip[:, :, x : x + tile]
            objects, of_features = _detect_tile(model, part, (y, x), (height, width), bundle.score_threshold)
            found.append(objects)
            sums = sums or [torch.zeros_like(level) for level in of_features]
            for total, level in zip(sums, of_features, strict=True):
                total += level  # small parts kept of every tile would keep its memory from being used again
    together = _Found(
        boxes=torch.cat([f.boxes for f in found]),
        scores=torch.cat([f.scores for f in found]),
        labels=torch.cat([f.labels for f in found]),
        masks=[m for f in found for m in f.masks or []] if config.masks else None,
    )
    # Best first, and of two classes at one place the better.
    return together.at(nms(together.boxes, together.scores, NMS_IOU)), sums


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """Objects of a tile or of all; of a network without outlines there is no mask."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: list[InstanceMask] | None

    def at(self, places: Tensor) -> _Found:
        return _Found(
            boxes=self.boxes[places],
            scores=self.scores[places],
            labels=self.labels[places],
            masks=None if self.masks is None else [self.masks[i] for i in places.tolist()],
        )


def _nothing(config: DetectorConfig) -> _Found:
    return _Found(
        boxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0).long(),
        masks=[] if config.masks else None,
    )


def _tile_side(config: DetectorConfig, shape: tuple[int, ...], memory_gb: float) -> int:
    """The largest tile that the budget holds beside a micrograph of such a shape."""
    needs = {side: needed_bytes(config, shape, side) for side in TILES}
    for side, need in needs.items():
        if need <= memory_gb * 1e9:
            return side
    raise ParameterError(
        f"a memory budget of {memory_gb} GB is too small for this detector on this micrograph; "
        f"give {needs[TILES[-1]] / 1e9:.1f} GB, or crop or bin the micrograph"
    )


def needed_bytes(config: DetectorConfig, shape: tuple[int, ...], tile: int) -> int:
    """The most memory that a process takes which detects in a micrograph of such a shape, in such tiles."""
    kind, (height, width) = config.backbone, shape
    strip = min(height, tile + STRIP_MARGIN) * width
    return (
        BASE_BYTES[kind]
        + BYTES_PER_PIXEL * height * width
        + BYTES_PER_STRIP_PIXEL * strip
        + BYTES_PER_TILE_PIXEL[kind] * tile * tile
    )


@lru_cache(maxsize=2)
def _network(bundle: Bundle) -> FasterRCNN:
    """The network of a bundle, built once for each."""
    from passband.detectors.mask_rcnn import build_detector, input_channels

    assert isinstance(bundle.detector, DetectorConfig)
    keep_freed_memory()
    model = load_weights(build_detector(bundle.detector), bundle).eval()
    model = model.to(memory_format=torch.channels_last)
    model.rpn.score_thresh = bundle.detector.objectness  # in training every proposal teaches
    # torchvision reads the strides of its pyramid off the first image, before padding, and keeps them.
    first = torch.zeros(input_channels(bundle.detector), 64, 64)
    _detect_tile(model, first, (0, 0), (64, 64), bundle.score_threshold)
    return model


def _overlap(tile: int) -> int:
    """Pixels that two neighbouring tiles share at least."""
    return min(tile // 4, MOST_SHARED)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of tiles that cover a length, the last flush with its end."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


@torch.inference_mode()
def _detect_tile(
    model: FasterRCNN, part: Tensor, at: tuple[int, int], whole: tuple[int, int], threshold: float
) -> tuple[_Found, list[Tensor]]:
    """What is in one tile, in the whole image's pixels, and the sums of its features.

    Objects that touch a side of the tile inside the image are left to the neighbour, which sees
    them whole, unless they are too long for what two tiles share.
    """
    from torchvision.models.detection.image_list import ImageList

    height, width = part.shape[1:]
    padded = torch.nn.functional.pad(part, (0, -width % 32, 0, -height % 32))[None]
    size = [(height, width)]
    features = model.backbone(padded)
    proposals, _ = model.rpn(ImageList(padded, size), features)
    heads = model.roi_heads
    seen = heads.box_head(heads.box_roi_pool(features, proposals, size))
    # What scores less is never kept, and cannot suppress what scores more.
    heads.score_thresh = threshold - 1e-6
    boxes, scores, labels = (
        of[0] for of in heads.postprocess_detections(*heads.box_predictor(seen), proposals, size)
    )
    keep = scores >= threshold
    keep &= (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    y, x = at
    # An object that is longer may be cut by both neighbours, and would be lost if each left it.
    whole_somewhere = _overlap(max(height, width)) - 4
    large = torch.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) > whole_somewhere
    touches = torch.zeros_like(keep)
    if x > 0:
        touches |= boxes[:, 0] < 2
    if y > 0:
        touches |= boxes[:, 1] < 2
    if x + width < whole[1]:
        touches |= boxes[:, 2] > width - 2
    if y + height < whole[0]:
        touches |= boxes[:, 3] > height - 2
    keep &= ~touches | large
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    shift = torch.tensor([x, y, x, y], dtype=boxes.dtype)
    masks = None
    if heads.has_mask():
        probability = _outlines(model, features, boxes, labels, size)
        masks = [_mask(b, p) for b, p in zip(boxes + shift, probability, strict=True)]
    found = _Found(boxes=boxes + shift, scores=scores, labels=labels, masks=masks)
    cut = _overlap(max(height, width)) // 2  # what a neighbour sees better, who has it farther inside
    own = [
        (cut if first > 0 else 0, n - (cut if first + n < end else 0))
        for first, n, end in zip(at, (height, width), whole, strict=True)
    ]
    return found, [_sums(level[0], padded, own) for level in features.values()]


def _sums(level: Tensor, padded: Tensor, own: Sequence[tuple[int, int]]) -> Tensor:
    """Places, sum and sum of squares of each channel of a level in such rows and columns, (3, channels)."""
    (top, bottom), (left, right) = (
        (first * m // n, -(-end * m // n))
        for (first, end), m, n in zip(own, level.shape[1:], padded.shape[2:], strict=True)
    )
    values = level[:, top:bottom, left:right]
    sums = values.sum((1, 2)), values.square().sum((1, 2))
    return torch.stack([torch.full_like(sums[0], values[0].numel()), *sums]).double()


def _mean_and_deviation(sums: Tensor) -> Vector:
    mean, square = sums[1] / sums[0], sums[2] / sums[0]
    return torch.cat([mean, (square - mean.square()).clamp(min=0).sqrt()]).numpy()


def _outlines(
    model: FasterRCNN, features: Any, boxes: Tensor, labels: Tensor, size: list[tuple[int, int]]
) -> Tensor:
    """How probable it is that a place of a box is of its object, shape (n, y, x)."""
    from torchvision.models.detection.roi_heads import maskrcnn_inference

    if not len(boxes):
        return torch.zeros(0, 1, 1)
    heads = model.roi_heads
    seen = heads.mask_head(heads.mask_roi_pool(features, [boxes], size))
    probability: Tensor = maskrcnn_inference(heads.mask_predictor(seen), [labels])[0]
    return probability[:, 0]


def _mask(box: Tensor, probability: Tensor) -> InstanceMask:
    """A predicted mask, resized to the pixels of its box; the whole box where none passes 1/2."""
    x0, y0, x1, y1 = (int(v) for v in (box[0].floor(), box[1].floor(), box[2].ceil(), box[3].ceil()))
    size = (max(1, y1 - y0), max(1, x1 - x0))
    pixels = interpolate(probability[None, None], size=size, mode="bilinear", align_corners=False)[0, 0] > 0.5
    if not pixels.any():
        pixels = torch.ones(size, dtype=torch.bool)
    return InstanceMask(y=y0, x=x0, pixels=pixels.numpy())


def _in_own_pixels(micrograph: Micrograph, bundle: Bundle, found: _Found) -> Detections:
    """Detections scaled back to the micrograph's pixels and clipped to its extent."""
    config = bundle.detector
    assert isinstance(config, DetectorConfig)
    height, width = micrograph.shape
    scale = rescaling(micrograph, bundle)
    own = found.boxes.numpy().astype(np.float64) / scale
    own[:, [0, 2]] = own[:, [0, 2]].clip(0, width)
    own[:, [1, 3]] = own[:, [1, 3]].clip(0, height)
    kept = np.flatnonzero((own[:, 2] - own[:, 0] >= 1) & (own[:, 3] - own[:, 1] >= 1))
    masks = None
    if found.masks is not None:
        masks = tuple(_fitted(found.masks[i], own[i], scale, (height, width)) for i in kept)
    names = tuple(config.classes[i - 1] for i in found.labels[kept].tolist()) if config.classes else None
    return Detections(
        image_shape=micrograph.shape,
        boxes_xyxy=own[kept],
        scores=found.scores.numpy().astype(np.float64)[kept].clip(0, 1),
        masks=masks,
        score_threshold=bundle.score_threshold,
        categories=names,
    )


def _fitted(mask: InstanceMask, box: np.ndarray, scale: float, shape: tuple[int, int]) -> InstanceMask:
    """A mask in the micrograph's pixels, inside the image."""
    if scale != 1.0:
        mask = resized_mask(mask, 1 / scale)
    y, x, pixels = mask.y, mask.x, mask.pixels
    top, left = max(0, -y), max(0, -x)
    inside = pixels[top : shape[0] - y, left : shape[1] - x]
    if not inside.any():
        x0, y0 = int(box[0]), int(box[1])
        inside = np.ones((max(1, int(box[3]) - y0), max(1, int(box[2]) - x0)), bool)
        y, x, top, left = y0, x0, 0, 0
    return InstanceMask(y=y + top, x=x + left, pixels=np.ascontiguousarray(inside))
