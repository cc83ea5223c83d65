"""What a detector is trained on: labelled images as the network sees them, and crops of these."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from passband.detections.detections import Detections
from passband.detectors.augment import Augmentation, augment_image, draw_augmentation, resampled, turn
from passband.detectors.mask_rcnn import detector_input
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

LabelledImage = tuple[Micrograph, Detections]
"""A micrograph and what is known to be there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A labelled image as a network is trained on it.

    Parameters
    ----------
    inputs
        float16 (channels, y, x), as `detector_input` gives it; no smaller than a crop.
    instances
        Its objects; where only boxes are known, the whole of each box.
    labels
        int64 (n,): the class of each object, from 1.
    """

    inputs: np.ndarray
    instances: tuple[InstanceMask, ...]
    labels: np.ndarray


def sample_of(
    micrograph: Micrograph, truth: Detections, channels: int, classes: Sequence[str] = ()
) -> Sample:
    """The network's view of an image, in half the memory, with its objects.

    Parameters
    ----------
    micrograph, truth
        The image and what is there.
    channels
        That the network takes.
    classes
        Names of the classes; without them all objects are of one.

    Examples
    --------
    >>> box = np.array([[10.0, 4, 20, 12]])
    >>> truth = Detections(image_shape=(64, 64), boxes_xyxy=box, scores=np.ones(1), categories=("loop",))
    >>> s = sample_of(Micrograph(pixels=np.eye(64, dtype=np.float32), name="a"), truth, 2, ["void", "loop"])
    >>> s.inputs.shape, s.instances[0].pixels.shape, s.labels.tolist()
    ((2, 64, 64), (8, 10), [2])
    """
    labels = np.ones(len(truth), np.int64)
    if classes and truth.categories is not None:
        labels = np.array([1 + list(classes).index(name) for name in truth.categories], np.int64)
    inputs = detector_input(micrograph.pixels, channels).numpy().astype(np.float16)
    for crowd in truth.crowds:  # what is not told apart teaches nothing: it is made flat
        rows, columns = crowd.pixels.shape
        inputs[:, crowd.y : crowd.y + rows, crowd.x : crowd.x + columns][:, crowd.pixels] = 0
    return Sample(
        inputs=inputs,
        instances=_boxed(truth) if truth.masks is None else truth.masks,
        labels=labels,
    )


def on_disk(samples: Iterable[Sample], crop: int, folder: Path) -> list[Sample]:
    """The same with their pixels in one unnamed file, so that any number takes little memory.

    Parameters
    ----------
    samples
        Read one after the other; an image smaller than a crop is laid on its corner, as detection fills up
        an image's last tile.
    crop
        Side of a crop in pixels.
    folder
        On whose disk the file is; it is gone with the process.
    """
    kept: list[Sample] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        shapes = []
        for sample in samples:
            inputs = _filled(sample.inputs, crop)
            file.write(inputs.tobytes())
            shapes.append(inputs.shape)
            kept.append(replace(sample, inputs=inputs[:, :0]))
        if not kept:
            return []
        file.flush()
        pixels = np.memmap(file, np.float16, "r")
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    return [
        replace(sample, inputs=pixels[end - math.prod(shape) : end].reshape(shape))
        for sample, shape, end in zip(kept, shapes, ends, strict=True)
    ]


def _filled(inputs: np.ndarray, crop: int) -> np.ndarray:
    low, right = (max(0, crop - side) for side in inputs.shape[1:])
    return np.pad(inputs, ((0, 0), (0, low), (0, right))) if low or right else inputs


def _boxed(truth: Detections) -> tuple[InstanceMask, ...]:
    """Each box as an object that fills it."""
    height, width = truth.image_shape
    filled = []
    for x0, y0, x1, y1 in np.round(truth.boxes_xyxy).astype(int):
        x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
        size = max(1, min(y1, height) - y0), max(1, min(x1, width) - x0)
        filled.append(InstanceMask(y=int(y0), x=int(x0), pixels=np.ones(size, bool)))
    return tuple(filled)


def draw_crops(
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    crop: int,
    count: int,
    on_objects: float = 0.0,
    zoom: tuple[float, float] = (1.0, 1.0),
    masks: bool = True,
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Crops and targets of one step, as torchvision's detectors take them.

    A crop without an object is drawn again once: some must stay, or the detector learns that there is
    always something to find.

    Parameters
    ----------
    samples
        Drawn from evenly.
    rng
        Source of randomness.
    crop, count
        Side of a crop in pixels, and how many.
    on_objects
        Share of the crops that are laid over an object of theirs, so that objects which lie far apart are
        seen often.
    zoom
        By how much a crop is enlarged, drawn evenly in its logarithm from this range.
    masks
        Whether the targets hold masks.

    Returns
    -------
    images, targets
        float32 (channels, crop, crop) each; and boxes float32 (n, 4), labels int64 (n,) and masks uint8
        (n, crop, crop).
    """
    images, targets = [], []
    for _ in range(count):
        for _ in range(2):
            sample = samples[int(rng.integers(len(samples)))]
            around = _centre(sample, rng, on_objects)
            record = draw_augmentation(rng, sample.inputs.shape[1:], crop, zoom=zoom, around=around)
            shown, places = cropped(sample.instances, record.y, record.x, record.side)
            if len(shown):
                break
        images.append(torch.from_numpy(augment_image(sample.inputs, record, crop)))
        targets.append(_target(shown, sample.labels[places], record, crop, masks))
    return images, targets


def _centre(sample: Sample, rng: np.random.Generator, share: float) -> tuple[int, int] | None:
    """A pixel in the middle of an object, for some of the crops."""
    if not share or not sample.instances or rng.random() >= share:
        return None
    one = sample.instances[int(rng.integers(len(sample.instances)))]
    return one.y + one.pixels.shape[0] // 2, one.x + one.pixels.shape[1] // 2


def _target(
    shown: np.ndarray, labels: np.ndarray, record: Augmentation, crop: int, masks: bool
) -> dict[str, Tensor]:
    shown = turn(resampled(shown, crop), record)
    seen = shown.any(axis=(1, 2))  # a thin one can be lost where a crop is made smaller
    shown, labels = shown[seen], labels[seen]
    rows, columns = np.asarray(shown.any(axis=2)), np.asarray(shown.any(axis=1))
    boxes = np.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            crop - columns[:, ::-1].argmax(1),
            crop - rows[:, ::-1].argmax(1),
        ],
        axis=1,
    ).astype(np.float32)
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels)}
    return target | {"masks": torch.from_numpy(shown.astype(np.uint8))} if masks else target


def cropped(instances: Sequence[InstanceMask], y: int, x: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (n, side, side) of the objects that show in a crop, and which they are.

    Of an object that the crop cuts at least 3 pixels must show each way, or all that there are.
    """
    shown, places = [], []
    for place, m in enumerate(instances):
        height, width = m.pixels.shape
        y0, x0 = max(m.y - y, 0), max(m.x - x, 0)
        y1, x1 = min(m.y - y + height, side), min(m.x - x + width, side)
        if y1 <= y0 or x1 <= x0:
            continue
        part = m.pixels[y0 + y - m.y : y1 + y - m.y, x0 + x - m.x : x1 + x - m.x]
        if any(part.any(axis=a).sum() < min(3, m.pixels.any(axis=a).sum() or 1) for a in (0, 1)):
            continue
        full = np.zeros((side, side), bool)
        full[y0:y1, x0:x1] = part
        shown.append(full)
        places.append(place)
    masks = np.stack(shown) if shown else np.zeros((0, side, side), bool)
    return masks, np.array(places, np.int64)
