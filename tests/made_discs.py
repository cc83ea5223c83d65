"""Micrographs of discs, each in its own cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage

from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask


def draw_discs(seed: int, radius: float = 8) -> np.ndarray:
    """Six discs, float32 (96, 144)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :144]
    pixels = 0.05 * rng.standard_normal((96, 144))
    for cell in range(6):
        row, column = divmod(cell, 3)
        cy, cx = 48 * row + rng.integers(20, 28), 48 * column + rng.integers(20, 28)
        pixels[np.hypot(y - cy, x - cx) <= radius] += 1
    return pixels.astype(np.float32)


def disc_images(place: Path) -> Path:
    """A folder with three of them."""
    folder = place / "images"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        np.save(folder / f"{name}.npy", draw_discs(seed))
    return folder


def paths_of(images: Path) -> list[str]:
    """Its files, in order."""
    return sorted(str(p) for p in images.iterdir())


def detect_discs(
    micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 2.0, progress: object = None
) -> Detections:
    """Stands in for the network: smooth, cut, label; the brighter, the surer."""
    smooth = scipy.ndimage.gaussian_filter(micrograph.pixels, 1.5)
    labels, _ = scipy.ndimage.label(smooth > 0.5 * smooth.max())
    masks, scores = [], []
    for i, (rows, columns) in enumerate(scipy.ndimage.find_objects(labels), 1):
        pixels = labels[rows, columns] == i
        if pixels.sum() >= 12:
            masks.append(InstanceMask(y=rows.start, x=columns.start, pixels=pixels))
            scores.append(float(np.clip(smooth[rows, columns][pixels].mean() * 1.15, 0.5, 1)))
    return Detections(
        image_shape=micrograph.shape,
        boxes_xyxy=np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4),
        scores=np.array(scores, np.float64),
        masks=tuple(masks),
        score_threshold=bundle.score_threshold,
    )


def detect_discs_and_see(micrograph: Micrograph, bundle: Bundle, **given: object) -> tuple[Detections, None]:
    """Discs, and nothing else that a network would see."""
    return detect_discs(micrograph, bundle, **given), None
