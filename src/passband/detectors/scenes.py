"""Training images from simulated HRTEM: any wave of a dataset, under conditions drawn on the fly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from passband.detectors.bundle import Bundle
from passband.detectors.train_segmenter import Draw, SegmenterConfig, train_segmenter
from passband.detectors.vary import Variation, draw_variation, vary
from passband.errors import ParameterError
from passband.hrtem.dataset.dataset import Dataset, Scene, open_dataset
from passband.optics.conditions import ConditionRanges, ImagingConditions
from passband.types import Image, LabelImage, Progress

_IN_MEMORY = 512
Variations = Callable[[np.random.Generator], Variation]
"""Draws a variation; the same for the same state of the generator."""
MOST_BIN = 6.0
VARIATIONS: Variations = partial(draw_variation, most_bin=MOST_BIN)
"""What `varied_images` does where nothing else is said."""


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
    device
        Where images are calculated: "cuda" draws many more, whose noise is another than on a CPU.

    Raises
    ------
    ParameterError
        If there is no scene to draw from.
    """

    def __init__(
        self,
        dataset: Dataset,
        scenes: Sequence[int],
        *,
        ranges: ConditionRanges | None = None,
        device: str = "cpu",
    ) -> None:
        if not scenes:
            raise ParameterError("no scene to draw images from; wanted a split that has some")
        self.dataset = dataset
        self.scenes = tuple(scenes)
        self.ranges = ranges or dataset.study.imaging
        self.device = device
        self._scene = lru_cache(maxsize=_IN_MEMORY)(self._read)

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process is told: where the dataset is, not what was read of it."""
        return _scene_images, (
            self.dataset.store.folder.absolute(),
            self.scenes,
            self.ranges,
            self.device,
        )

    def _read(self, number: int) -> Scene:
        scene = self.dataset.scene(number)
        if self.device == "cpu":
            return scene
        return replace(scene, wave=replace(scene.wave, spectrum=scene.wave.spectrum.to(self.device)))

    def __call__(self, rng: np.random.Generator) -> tuple[Image, LabelImage]:
        """One image under conditions drawn anew, and its labels."""
        pixels, labels, _ = self.image(int(rng.choice(self.scenes)), seed=int(rng.integers(2**53)))
        return pixels, labels

    def image(self, number: int, *, seed: int) -> tuple[Image, LabelImage, ImagingConditions]:
        """The image of one scene that follows from a seed."""
        scene: Scene = self._scene(number)
        images, conditions = scene.draw_images(1, seed=seed, ranges=self.ranges)
        return images[0].cpu().numpy(), scene.labels, conditions[0]

    def each(self, *, seed: int) -> list[tuple[Image, LabelImage]]:
        """One image of every scene: to validate or to test on."""
        return [self.image(n, seed=seed + place)[:2] for place, n in enumerate(self.scenes)]


def train_on_dataset(
    config: SegmenterConfig,
    dataset: Dataset,
    out: str | Path | None = None,
    *,
    varied: bool = False,
    start: Bundle | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Train a segmenter on a dataset's training scenes, and keep what does best on its validation scenes.

    Parameters
    ----------
    config
        What to train.
    dataset
        Finished.
    out
        Folder for checkpoint and log, or None.
    varied
        Whether images are varied beyond what is simulated, as `vary` does.
    start
        Bundle whose weights to begin with.
    progress
        Called as work goes on.

    Returns
    -------
    Bundle
        It says the conditions and structures that it was trained on.

    Raises
    ------
    ParameterError
        If there is no scene to train on, or an image is smaller than a crop.
    """
    source = SceneImages(dataset, dataset.split("train"))
    draw = varied_images(source, least=config.crop) if varied else source
    held = dataset.split("validation")
    if config.patience and not held:
        raise ParameterError(
            "patience needs scenes to validate on, and the dataset has none; see its [splits]"
        )
    validation: list[tuple[Image, LabelImage]] = []
    if held:
        kept = SceneImages(dataset, held)
        rng = np.random.default_rng([config.seed, 3])
        source_of = varied_images(kept, least=config.crop) if varied else kept
        validation = [source_of(rng) for _ in range(min(16, 4 * len(held)))]
    study = dataset.study.values()
    pixel = float(dataset.study.imaging.pixel_size)  # type: ignore[arg-type]
    return train_segmenter(
        config,
        draw,
        out,
        depends={"dataset": dataset.study.digest(), "varied": varied},
        start=start,
        validation=validation,
        training={
            "simulated": True,
            "conditions": study["imaging"],
            "structures": study["specimen"],
            "dataset": dataset.study.digest(),
            "varied": varied,
            "pixel_size": [pixel, pixel * (MOST_BIN if varied else 1)],
        },
        progress=progress,
    )


def varied_images(draw: Draw, *, least: int, variations: Variations = VARIATIONS) -> Draw:
    """Images of another source, varied; scenes repeat themselves where binned ones are too small.

    Parameters
    ----------
    draw
        The source, of periodic scenes.
    least
        Pixels of the smallest side.
    variations
        Draws what is done to an image.

    Examples
    --------
    >>> image = np.ones((64, 64), np.float32), np.eye(64, dtype=np.int32)
    >>> source = varied_images(lambda rng: image, least=48)
    >>> min(source(np.random.default_rng(1))[0].shape) >= 48
    True
    """
    return partial(_varied, draw, least, variations)


def _varied(
    draw: Draw, least: int, variations: Variations, rng: np.random.Generator
) -> tuple[Image, LabelImage]:
    pixels, labels = draw(rng)
    variation = variations(rng)
    short = math.ceil(least * variation.bin / min(pixels.shape))
    if short > 1:
        pixels, labels = np.tile(pixels, (short, short)), np.tile(labels, (short, short))
    return vary(pixels, labels, variation)


def _scene_images(folder: Path, scenes: Sequence[int], ranges: ConditionRanges, device: str) -> SceneImages:
    return SceneImages(open_dataset(folder), scenes, ranges=ranges, device=device)
