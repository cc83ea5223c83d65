"""Training images from simulated HRTEM: any wave of a dataset, under conditions drawn on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from passband.errors import ParameterError
from passband.hrtem.dataset.dataset import Dataset, Scene
from passband.optics.conditions import ConditionRanges, ImagingConditions
from passband.types import Image, LabelImage

_IN_MEMORY = 512


class SceneImages:
    """Draws labelled images of a dataset's scenes; a wave serves every lens and dose.

    Parameters
    ----------
    dataset
        Of `passband simulate hrtem`.
    scenes
        Numbers of the scenes to draw from: those of its training split, say.
    ranges
        What conditions are drawn from; the dataset's own if not given.

    Raises
    ------
    ParameterError
        If there is no scene to draw from.
    """

    def __init__(
        self, dataset: Dataset, scenes: Sequence[int], *, ranges: ConditionRanges | None = None
    ) -> None:
        if not scenes:
            raise ParameterError("no scene to draw images from; wanted a split that has some")
        self.scenes = tuple(scenes)
        self.ranges = ranges or dataset.study.imaging
        self._scene = lru_cache(maxsize=_IN_MEMORY)(dataset.scene)

    def __call__(self, rng: np.random.Generator) -> tuple[Image, LabelImage]:
        """One image under conditions drawn anew, and its labels."""
        pixels, labels, _ = self.image(int(rng.choice(self.scenes)), seed=int(rng.integers(2**53)))
        return pixels, labels

    def image(self, number: int, *, seed: int) -> tuple[Image, LabelImage, ImagingConditions]:
        """The image of one scene that follows from a seed."""
        scene: Scene = self._scene(number)
        images, conditions = scene.draw_images(1, seed=seed, ranges=self.ranges)
        return images[0].numpy(), scene.labels, conditions[0]

    def each(self, *, seed: int) -> list[tuple[Image, LabelImage]]:
        """One image of every scene: to validate or to test on."""
        return [self.image(n, seed=seed + place)[:2] for place, n in enumerate(self.scenes)]
