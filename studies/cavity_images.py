"""Simulated micrographs of cavities with their truth, as cameras give them and as people send them."""

from __future__ import annotations

from collections.abc import Sequence

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


def sent(record: CavityRecord, name: str, rng: np.random.Generator) -> tuple[Micrograph, Detections]:
    """The same as people send it: in eight bits, clipped, packed, scratched, written upon."""
    image = export_image(simulate_cavities(record), draw_export(rng, record.shape))
    micrograph = Micrograph(pixels=image.pixels, name=name, pixel_size=record.conditions.pixel_size)
    return micrograph, truth_of(image)


def pairs(names: Sequence[str], count: int, seed: int) -> list[tuple[str, int, CavityRecord]]:
    """Records of so many images of each of some domains."""
    return [
        (name, i, record)
        for k, name in enumerate(names)
        for i, record in enumerate(draw_set([name], count, seed=seed + 100 * k))
    ]


def seen(name: str, i: int, record: CavityRecord, seed: int) -> tuple[Micrograph, Detections]:
    """An image with its truth; every other one as people send it."""
    if i % 2:
        return sent(record, f"{name}/{i}", np.random.default_rng([seed, i]))
    return labelled(record, f"{name}/{i}")
