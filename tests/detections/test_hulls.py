"""Hulls of many masks at once are those of each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from passband.detections.hulls import hull_circularities
from passband.detections.scores import heywood_circularities
from passband.types import InstanceMask


def qhull(mask: InstanceMask) -> float:
    """By a library: all edge midpoints of all pixels."""
    y, x = np.nonzero(mask.pixels)
    points = np.concatenate([np.c_[x + dx, y + dy] for dx, dy in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))])
    hull = ConvexHull(points)
    return float(hull.area / (2 * np.sqrt(np.pi * hull.volume)))


@pytest.mark.parametrize("density", [0.02, 0.3, 0.9])
def test_random_masks_have_the_library_s_hulls(density):
    """Gaps between rows, empty borders, one pixel, all sizes in one call."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(200):
        pixels = rng.random(rng.integers(1, 25, 2)) < density
        pixels[tuple(rng.integers(0, s) for s in pixels.shape)] = True
        masks.append(InstanceMask(y=3, x=5, pixels=pixels))
    assert hull_circularities(masks) == pytest.approx([qhull(m) for m in masks], rel=1e-12)


def test_large_and_small_masks_keep_their_places(monkeypatch):
    y, x = np.mgrid[:151, :151] - 75
    masks = [
        InstanceMask(y=0, x=0, pixels=np.hypot(y, x / 2) <= 37),
        InstanceMask(y=0, x=0, pixels=np.ones((1, 1), bool)),
        InstanceMask(y=0, x=0, pixels=np.ones((2, 9), bool)),
    ]
    wanted = [qhull(m) for m in masks]
    assert hull_circularities(masks) == pytest.approx(wanted, rel=1e-12)
    monkeypatch.setattr("passband.detections.hulls._MOST_POINTS", 1)  # one mask at a time
    assert hull_circularities(masks) == pytest.approx(wanted, rel=1e-12)


def test_no_mask_has_no_hull():
    assert hull_circularities([]).shape == (0,)


def test_a_tall_mask_is_measured_by_itself_and_alike():
    y, x = np.mgrid[:301, :301] - 150
    masks = [InstanceMask(y=0, x=0, pixels=np.hypot(y, x) <= r) for r in (150, 20)]
    assert heywood_circularities(masks) == pytest.approx([qhull(m) for m in masks], rel=1e-12)
