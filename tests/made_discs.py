"""Micrographs of discs, each in its own cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np


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
