"""Run a segmenter on a micrograph of any size within a memory budget: object probability, masks, objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Float32
from torch import Tensor

from passband.detections.detections import Detections
from passband.detections.masks import masks_from_labels
from passband.detectors.bundle import Bundle, load_weights
from passband.detectors.evidence import agreements, changes
from passband.detectors.rescale import rescaling, resized
from passband.detectors.unet import UNet, UNetConfig, folded
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.types import Image, InstanceMask, LabelImage, Mask

BASE_BYTES = 500_000_000
"""Peak memory of the process whatever the tile: libraries and weights."""
BYTES_PER_PIXEL = 40
"""Peak memory of the whole micrograph's input and probability, per pixel."""
TILES = (2048, 1024, 512, 256, 128)
"""Sides of a tile's inside, in pixels, the largest that fits first."""
MOST_ENLARGED = 2.0
"""Factor up to which a network that learned many scales has coarse micrographs enlarged."""
LEAST_AREA = 4
"""Pixels of the smallest object."""


def segment(
    micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 6.0
) -> Float32[np.ndarray, "c y x"]:
    """How probable it is that a pixel lies on an object; for instances, also on a border of two.

    Parameters
    ----------
    micrograph
        Rescaled first where its known pixel size lies outside the network's training range, but for one
        that is more than twice too coarse for a network that learned many scales.
    bundle
        Of a U-Net.
    memory_gb
        Memory the process may take; a large image is done in smaller tiles, with the same result.

    Returns
    -------
    array
        Probabilities, 0 to 1, in the micrograph's own pixels.

    Raises
    ------
    ParameterError
        If the bundle's network is none of these, or the budget does not hold the smallest tile.
    BundleError
        If the weights do not fit the configuration.
    """
    pixels, ask = _network(micrograph, bundle, memory_gb)
    return _chances(micrograph, ask(pixels))


def segment_objects(micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 6.0) -> Detections:
    """Objects that a segmenter finds, each with its mask; its score is the mean probability of its pixels.

    Parameters
    ----------
    micrograph, bundle, memory_gb
        As in `segment`.

    Returns
    -------
    Detections
        In the micrograph's own pixels, best score first.
    """
    return _objects(bundle, segment(micrograph, bundle, memory_gb=memory_gb)).outside(micrograph.written)


def segment_with_evidence(
    micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 6.0
) -> tuple[Detections, dict[str, float]]:
    """Objects that a segmenter finds, and what its answers tell of themselves without labels.

    Parameters
    ----------
    micrograph, bundle, memory_gb
        As in `segment`.

    Returns
    -------
    tuple
        Detections as `segment_objects` gives them, and the numbers of `evidence.agreements`, for which the
        network is asked four times more.
    """
    pixels, ask = _network(micrograph, bundle, memory_gb)
    logits = ask(pixels)
    changed = changes(torch.from_numpy(pixels)[None, None])
    told = agreements(
        logits[None, :1], ((name, ask(image[0, 0].numpy())[None, :1]) for name, image in changed)
    )
    found = _objects(bundle, _chances(micrograph, logits)).outside(micrograph.written)
    return found, {name: float(value) for name, value in told.items()}


def _network(
    micrograph: Micrograph, bundle: Bundle, memory_gb: float
) -> tuple[Image, Callable[[Image], Tensor]]:
    """What a network is shown of a micrograph, and what gives its logits; in a flat one nothing is found."""
    config = bundle.detector
    if not isinstance(config, UNetConfig):
        raise ParameterError(f"bundle {bundle.name!r} is no segmenter; `passband assess` uses it")
    model = segmenter_of(bundle)
    pixels = standardised(resized(micrograph.pixels, _scale(micrograph, bundle)))
    if float(np.ptp(micrograph.pixels)) == 0.0:
        return pixels, lambda image: torch.full((model.head.out_channels, *image.shape), -200.0)
    side = _tile_side(config, pixels.size, memory_gb)
    return pixels, partial(tiled_logits, model, side=side)


def _chances(micrograph: Micrograph, logits: Tensor) -> Float32[np.ndarray, "c y x"]:
    """Probabilities in the micrograph's own pixels."""
    if logits.shape[1:] != micrograph.shape:
        logits = torch.nn.functional.interpolate(
            logits[None], size=micrograph.shape, mode="bilinear", align_corners=False
        )[0]
    probable: np.ndarray = torch.sigmoid(logits).numpy()
    return probable


def _objects(bundle: Bundle, chance: Float32[np.ndarray, "c y x"]) -> Detections:
    """Objects, each with its mask, best score first."""
    labels = label_objects(chance, bundle.score_threshold)
    masks = masks_from_labels(labels)
    means = scipy.ndimage.mean(chance[0], labels, np.arange(1, len(masks) + 1)) if masks else np.zeros(0)
    scores = np.clip(np.asarray(means, np.float64), bundle.score_threshold, 1.0)
    order = np.argsort(-scores, kind="stable")
    height, width = chance.shape[1:]
    return Detections(
        image_shape=(height, width),
        boxes_xyxy=np.array([masks[i].box_xyxy for i in order], np.float64).reshape(-1, 4),
        scores=scores[order],
        masks=tuple(masks[i] for i in order),
        score_threshold=bundle.score_threshold,
    )


def label_objects(chance: Float32[np.ndarray, "c y x"], threshold: float = 0.5) -> LabelImage:
    """Label image of the objects: connected pixels, parted at borders where the network tells them.

    Parameters
    ----------
    chance
        As `segment` gives it.
    threshold
        Pixels above it are on an object.

    Returns
    -------
    array
        int32 (y, x): 0 background, i on object i.

    Examples
    --------
    >>> int(label_objects(np.array([[[0.9] * 9 + [0.1] + [0.9] * 9]], np.float32)).max())
    2
    """
    inside = chance[0] > threshold
    labels: np.ndarray
    if len(chance) == 1:
        labels, _ = scipy.ndimage.label(inside)
    else:
        from skimage.segmentation import watershed

        cores, _ = scipy.ndimage.label(inside & (chance[1] < 0.5))
        labels = watershed(  # type: ignore[no-untyped-call]
            chance[1] - chance[0], cores, mask=inside
        )
    areas = np.bincount(labels.ravel())
    kept = areas >= LEAST_AREA
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)
    return np.asarray(numbers[labels], np.int32)


def object_mask(detections: Detections) -> Mask:
    """Pixels of all objects together.

    Examples
    --------
    >>> nothing = Detections(image_shape=(2, 3), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), masks=())
    >>> int(object_mask(nothing).sum())
    0
    """
    return pixels_of(detections.masks or (), detections.image_shape)


def pixels_of(masks: Sequence[InstanceMask], image_shape: tuple[int, int]) -> Mask:
    """Pixels of some masks together, boolean (y, x)."""
    mask = np.zeros(image_shape, bool)
    for m in masks:
        height, width = m.pixels.shape
        mask[m.y : m.y + height, m.x : m.x + width] |= m.pixels
    return mask


def standardised(pixels: Image) -> Image:
    """An image with mean 0 and spread 1; a flat one is 0 everywhere.

    Examples
    --------
    >>> standardised(np.array([[1, 3]], np.float32))
    array([[-1.,  1.]], dtype=float32)
    """
    centred = pixels - pixels.mean(dtype=np.float64)
    spread = float(np.sqrt(np.mean(centred * centred)))
    return np.asarray(centred / (spread or 1.0), np.float32)


@torch.inference_mode()
def tiled_logits(model: UNet, pixels: Image, side: int) -> Tensor:
    """Logits (c, y, x) of a standardised image, computed in tiles; the tiles do not show.

    Parameters
    ----------
    model
        In evaluation mode.
    pixels
        Mean 0 and spread 1.
    side
        Of a tile's inside, a multiple of the network's stride; around it the network sees as far as it can.

    Examples
    --------
    >>> from passband.detectors.unet import NETWORKS
    >>> model, image = UNet(NETWORKS["tiny"]).eval(), np.eye(80, dtype=np.float32)
    >>> bool(torch.allclose(tiled_logits(model, image, 16), tiled_logits(model, image, 128), atol=1e-5))
    True
    """
    height, width = pixels.shape
    stride, halo = model.config.stride, model.config.halo
    whole = np.pad(pixels, ((0, -height % stride), (0, -width % stride)), mode="symmetric")
    rows, columns = whole.shape
    logits = torch.empty(model.head.out_channels, rows, columns)
    for y in range(0, rows, side):
        for x in range(0, columns, side):
            top, left = max(0, y - halo), max(0, x - halo)
            part = whole[top : min(rows, y + side + halo), left : min(columns, x + side + halo)]
            images = torch.from_numpy(np.ascontiguousarray(part))[None, None]
            found = model(images.to(memory_format=torch.channels_last))[0]
            inside = logits[:, y : y + side, x : x + side]
            inside.copy_(found[:, y - top : y - top + inside.shape[1], x - left : x - left + inside.shape[2]])
    return logits[:, :height, :width]


def _scale(micrograph: Micrograph, bundle: Bundle) -> float:
    """Factor by which a micrograph is enlarged first.

    Where pixels are far coarser than those of a network that learned many scales, what is looked for has
    hardly the few pixels that the particles it learned would have there: it is taken as it comes.
    """
    scale = rescaling(micrograph, bundle)
    return 1.0 if scale > MOST_ENLARGED and bundle.training.get("varied") else scale


def _tile_side(config: UNetConfig, pixels: int, memory_gb: float) -> int:
    """The largest tile that the budget holds beside an input of so many pixels."""
    each = 4 * sum(7 * w / 4**i for i, w in enumerate(config.widths))
    fixed = BASE_BYTES + BYTES_PER_PIXEL * pixels
    needs = [fixed + each * min((side + 2 * config.halo) ** 2, 4 * pixels) for side in TILES]
    for side, need in zip(TILES, needs, strict=True):
        if need <= memory_gb * 1e9:
            return side
    raise ParameterError(
        f"a memory budget of {memory_gb} GB is too small for this network on this micrograph; "
        f"give {math.ceil(needs[-1] / 1e8) / 10:.1f} GB, or crop or bin the micrograph"
    )


@lru_cache(maxsize=2)
def segmenter_of(bundle: Bundle) -> UNet:
    """The network of a bundle, built once for each."""
    assert isinstance(bundle.detector, UNetConfig)
    model = folded(load_weights(UNet(bundle.detector), bundle))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
