"""Simulated micrographs of cavities with their truth, as cameras give them and as people send them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passband.cavities.draws import draw_set
from passband.cavities.export import draw_export, export_image
from passband.cavities.files import truth_of
from passband.cavities.image import CavityRecord, simulate_cavities
from passband.detections.detections import Detections
from passband.micrographs.micrograph import Micrograph


def labelled(record: CavityRecord, name: str) -> tuple[Micrograph, Detections]:
    """A simulated image and its truth, as a reader and an annotator would give them."""
    image = simulate_cavities(record)
    micrograph = Micrograph(pixels=image.pixels, name=name, pixel_size=record.conditions.pixel_size)
    return micrograph, truth_of(image)


def exported(micrograph: Micrograph, seed: int) -> Micrograph:
    """The micrograph as people export it: stretched to eight bits, up to 4 % of the pixels clipped."""
    share = np.random.default_rng(seed).uniform(0, 2)
    low, high = np.percentile(micrograph.pixels, (share, 100 - share))
    stretched = np.clip((micrograph.pixels - low) / max(float(high - low), 1e-6), 0, 1)
    return replace(micrograph, pixels=np.round(255 * stretched).astype(np.float32))


def pairs(names: Sequence[str], count: int, seed: int) -> list[tuple[str, int, CavityRecord]]:
    """Records of so many images of each of some domains."""
    return [
        (name, i, record)
        for k, name in enumerate(names)
        for i, record in enumerate(draw_set([name], count, seed=seed + 100 * k))
    ]


def seen(name: str, i: int, record: CavityRecord, seed: int) -> tuple[Micrograph, Detections]:
    """An image with its truth; every other one as people send it."""
    image = simulate_cavities(record)
    if i % 2:
        image = export_image(image, draw_export(np.random.default_rng([seed, i]), record.shape))
    micrograph = Micrograph(pixels=image.pixels, name=f"{name}/{i}", pixel_size=record.conditions.pixel_size)
    return micrograph, truth_of(image)
