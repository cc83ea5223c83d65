"""A design put to the test: networks trained by it and by the usual ways, all tested over the range."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from passband.detectors.scenes import SceneImages
from passband.detectors.segment import segmenter_of
from passband.detectors.train_segmenter import Draw, SegmenterConfig, train_segmenter
from passband.errors import DatasetError, ParameterError
from passband.generalise.conditions import Point
from passband.generalise.design import WAYS, Design, design_to_json, training_ways
from passband.generalise.study import Structures, Training
from passband.generalise.work import (
    TEST_SEED,
    score_network,
    simulation_of,
    training_config,
    windows,
)
from passband.hrtem.dataset.dataset import Dataset, open_dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.optics.conditions import ConditionRanges
from passband.processes import one_thread
from passband.store.files import write_whole
from passband.store.parts import read_part, write_part
from passband.types import Image, LabelImage, Progress
from passband.units import KEV

TESTS = 16
"""Conditions of the range that networks are tested under."""
SCENES = Structures(scenes=84, test_share=1 / 3)


def verify_design(
    design: Design,
    folder: str | Path,
    *,
    network: str = "tiny",
    seeds: int = 3,
    training: Training | None = None,
    structures: Structures = SCENES,
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Train networks by a design, by conditions drawn evenly and by the middle alone, and test them all.

    Parameters
    ----------
    design
        To be tested.
    folder
        Where scenes and results are kept; what is there already is not done again.
    network, seeds
        Size, and how many of each way.
    training, structures
        How they are trained, and on what scenes; energy and pixels are those of the range.
    progress
        Called as work goes on.

    Returns
    -------
    dict
        For each of `WAYS` the mean F1 over the images of the condition where it is ``worst``, and the
        ``mean`` over conditions, both of the mean over seeds.

    Raises
    ------
    DatasetError
        If the folder holds the test of another design.
    ParameterError
        If the range has no one pixel size.
    """
    folder, training = Path(folder), training or Training()
    training = replace(
        training, energy_kev=_one(design, "energy") / KEV, pixel_size=_one(design, "pixel_size")
    )
    configs = [training_config(network, training, seed) for seed in range(seeds)]
    _claim(folder, design, network, training, structures)
    simulation = simulation_of(structures, training, Point(defocus_nm=0.0))
    simulate_dataset(simulation, folder / "data", progress=progress)
    dataset = open_dataset(folder / "data")
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed, config in enumerate(configs):
        for place, (way, conditions) in enumerate(training_ways(design, seed=seed).items()):
            if progress:
                progress(f"{way} {seed + 1}", len(WAYS) * seed + place, len(WAYS) * seeds)
            path = folder / f"{way}_{seed}.json"
            part = read_part(path)
            if part is None:
                part = {"f1": _train_and_test(conditions, design, dataset, config)}
                write_part(path, part)
            found[way].append(part["f1"])
    means = {way: np.mean(scores, axis=0) for way, scores in found.items()}
    return {way: {"worst": _short(f1.min()), "mean": _short(f1.mean())} for way, f1 in means.items()}


def _short(value: np.floating) -> float:
    return round(float(value), 4)


def _one(design: Design, name: str) -> float:
    """What waves and labels have one of."""
    value = getattr(design.target.ranges, name)
    if not isinstance(value, int | float):
        raise ParameterError(f"{design.target.name}: scenes are of one {name}; give a number, not a range")
    return float(value)


def _claim(folder: Path, design: Design, network: str, training: Training, structures: Structures) -> None:
    """Say what the folder is for, or find that it is for the same."""
    folder.mkdir(parents=True, exist_ok=True)
    said = design_to_json(design) + json.dumps([network, repr(training), repr(structures)])
    path = folder / "design.json"
    if path.exists() and path.read_text("utf-8") != said:
        raise DatasetError(f"{folder} holds the test of another design; choose a new folder for this one")
    write_whole(path, said)


class _Mixture:
    """Images under one of several conditions, each as often."""

    def __init__(self, sources: Sequence[Draw]) -> None:
        self.sources = sources

    def __call__(self, rng: np.random.Generator) -> tuple[Image, LabelImage]:
        return self.sources[int(rng.integers(len(self.sources)))](rng)


def _train_and_test(
    conditions: tuple[ConditionRanges, ...], design: Design, dataset: Dataset, config: SegmenterConfig
) -> list[float]:
    """Mean F1 over the images of each condition tested."""
    with one_thread():
        keep_freed_memory()
        known = [SceneImages(dataset, dataset.split("train"), ranges=c) for c in conditions]
        model = segmenter_of(train_segmenter(config, _Mixture(known)))
        scores = []
        for place, test in enumerate(conditions_tested(design)):
            source = SceneImages(dataset, dataset.split("test"), ranges=test)
            scores.append(
                score_network(model, *windows(source, TEST_SEED + 1000 * place, Structures.test_side))[
                    "image_f1"
                ]
            )
        return scores


def conditions_tested(design: Design) -> tuple[ConditionRanges, ...]:
    """Conditions of the range to test under: drawn from those it was judged at, the same for every way."""
    order = np.random.default_rng(1).permutation(len(design.tests))[:TESTS]
    return tuple(design.tests[i] for i in sorted(order))
