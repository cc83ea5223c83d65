"""What a study's run does: simulate the scenes once, train a network under one condition, test it under all.

All networks are tested on the same images, of scenes that none was trained on. Beside its scores stands what
each network's own answers tell without labels (`detectors.evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from passband.detectors.evidence import Familiar, answers, dice, evidence, familiar, frechet
from passband.detectors.scenes import SceneImages
from passband.detectors.segment import segmenter_of, standardised
from passband.detectors.train_segmenter import (
    SegmenterConfig,
    mixed_precision,
    segmentation_loss,
    targets,
    train_segmenter,
)
from passband.detectors.unet import UNet, segmenter_network
from passband.engines.settings import EngineSettings
from passband.errors import DatasetError, ParameterError
from passband.generalise.conditions import Point, point_from_values, shown
from passband.generalise.study import Structures, Study, Training, study_from_values
from passband.hrtem.dataset.dataset import Dataset, open_dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import SimulationStudy, Splits
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges, Range, Uniform
from passband.processes import one_thread
from passband.store.parts import key
from passband.types import Progress
from passband.units import MM, NM
from passband.words import counted

SHARES = (0.15, 0.75)
"""Share of objects in a window that is tested on: F1 of hardly any, or of little else, tells little."""
TEST_SEED = 0x7E57
"""Of conditions and noise of the test images."""
_FAMILIAR = 24
"""Training images that a network's test images are compared with."""
LEARNING_RATE = 6e-3
"""Half of it leaves one small network in five at calling all background, where it began."""
BATCH_PIXELS = 32 * 64 * 64
"""Of the crops of a step, unless a dozen crops are more."""


def prepare(
    study: Mapping[str, Any],
    folder: str,
    engine: EngineSettings | None = None,
    progress: Progress | None = None,
) -> None:
    """Simulate the scenes of a study, or find them simulated.

    Parameters
    ----------
    study
        Of `Study.values`.
    folder
        Of the study; what a condition says of the particles gets a dataset in ``data``.
    engine
        Who does it; this process if not given.
    progress
        Called as work goes on.
    """
    engine = engine or EngineSettings()
    workers, scheduler = (1 if engine.engine == "inline" else engine.workers), engine.scheduler
    of = study_from_values(study)
    points = [*of.train.points(), *of.test.points()]
    for place, point in {data_folder(folder, p): p for p in points if not p.dataset}.items():
        simulation = simulation_of(of.structures, of.training, point)
        simulate_dataset(simulation, place, workers=workers, scheduler=scheduler, progress=progress)


def train_and_test(study: Mapping[str, Any], run: Mapping[str, Any], folder: str) -> list[dict[str, Any]]:
    """Train the network of a run, and test it under every test condition of its study.

    Parameters
    ----------
    study
        Of `Study.values`.
    run
        Of `Run.values`; and "device", where images and networks are calculated, if that is no CPU.
    folder
        That `prepare` simulated the scenes into.

    Returns
    -------
    list of dict
        For each test condition in order its columns; ``f1`` of all pixels of its images together and
        ``loss``, the mean over the images; ``image_f1``, the mean over the images of the F1 of each, and
        ``one_f1``, that of the first alone. Where the study asks for evidence the mean of each of `EVIDENCE`;
        ``frechet``, how far the features of the images together are from those of training images; and
        the evidence of the first image alone, by names that begin with ``one_``.

    Raises
    ------
    TrainingError
        If the loss is no number any more.
    ParameterError
        If a specimen that it is to be tested on is one that it would be trained on.
    DatasetError
        If a dataset is no longer what it was when the study was made.
    """
    of = study_from_values(study)
    point = point_from_values(run["train"])
    device = str(run.get("device", "cpu"))
    scenes = _Scenes(folder, of.datasets, device)
    dataset = scenes(point)
    _refuse_known(of, scenes, point)
    ranges = conditions_of(point, of.training)
    config = replace(training_config(run["network"], of.training, int(run["seed"])), device=device)
    with one_thread():
        keep_freed_memory()
        source = SceneImages(dataset, dataset.split("train"), ranges=ranges, device=device)
        bundle = train_segmenter(config, source)
        model = segmenter_of(bundle).to(device)
        known = None
        if of.evidence:
            own = _training_images(source, of.structures.test_side).to(device)
            known = familiar(own, answers(model, own))
        rows = []
        for to in of.test_points():
            images, objects = _test_images(scenes, to, of.training, of.structures)
            scores = score_network(model, images.to(device), objects.to(device), known)
            rows.append({**to.columns("test"), **scores})
        return rows


def training_config(network: str, training: Training, seed: int) -> SegmenterConfig:
    """How a network of a study is trained.

    Raises
    ------
    ParameterError
        If there is no such network.
    """
    return SegmenterConfig(
        network=segmenter_network(network),
        steps=training.steps,
        crop=training.crop,
        batch=max(12, BATCH_PIXELS // training.crop**2),
        learning_rate=LEARNING_RATE,
        seed=seed,
    )


def images_tested(folder: str | Path, study: Study, point: Point) -> tuple[Tensor, Tensor]:
    """What the networks of a study are tested on under a condition.

    Parameters
    ----------
    folder
        Of the study, whose scenes are simulated.
    study, point
        The study and one of its test conditions.

    Returns
    -------
    tuple
        Images, each of mean 0 and spread 1 before it was cut out, and their objects, (b, 1, y, x).

    Raises
    ------
    DatasetError
        If the scenes are not there.
    """
    scenes = _Scenes(str(folder), study.datasets)
    return _test_images(scenes, point, study.training, study.structures)


@torch.inference_mode()
def score_network(
    model: UNet, images: Tensor, objects: Tensor, known: Familiar | None = None
) -> dict[str, float]:
    """Pixel F1 of a network and its mean loss, and what its answers tell without labels.

    Parameters
    ----------
    model
        In evaluation mode.
    images
        (b, 1, y, x), each of mean 0 and spread 1.
    objects
        (b, 1, y, x): 1 on an object.
    known
        Its training images; without them scores alone are told.

    Returns
    -------
    dict
        As `train_and_test` tells; without an object anywhere F1 is 1 where none is found, and else 0.
    """
    said = answers(model, images)
    found = said.logits > 0
    pairs = zip(said.logits[:, None], objects[:, None], strict=True)
    losses = [float(segmentation_loss(*pair)) for pair in pairs]
    each = dice(found, objects)
    scores = {"f1": float(dice(found[None], objects[None])), "loss": float(np.mean(losses))}
    more = {"image_f1": float(each.mean()), "one_f1": float(each[0])}
    if known is not None:
        device = images.device.type
        half = device == "cpu" and mixed_precision(SegmenterConfig())
        with torch.autocast(device, torch.bfloat16, enabled=half):
            told = evidence(model, images, said, known)
        more |= {name: float(values.mean()) for name, values in told.items()}
        more["frechet"] = frechet(said, known)
        more |= {f"one_{name}": float(values[0]) for name, values in told.items()}
    return scores | {name: float(f"{value:.5g}") for name, value in more.items()}


def conditions_of(point: Point, training: Training) -> ConditionRanges:
    """What the images of a condition are drawn from: its defocus with the jitter, all else as it says.

    Examples
    --------
    >>> conditions_of(Point(defocus_nm=10.0), Training()).C10
    Uniform(low=-115.0, high=-85.0)
    """
    return ConditionRanges(
        energy=training.energy_kev * 1e3,
        C10=_about(-point.defocus_nm * NM, point.jitter_nm * NM),
        C12=point.astigmatism_nm * NM,
        phi12=Uniform(low=0.0, high=math.pi) if point.astigmatism_nm else 0.0,
        C30=_about(point.cs_mm * MM, point.cs_jitter_mm * MM),
        focal_spread=_about(point.focal_spread, point.focal_spread_jitter),
        dose=_times(point.dose, point.dose_factor),
        pixel_size=training.pixel_size,
    )


def _about(middle: float, jitter: float) -> Range:
    return Uniform(low=middle - jitter, high=middle + jitter) if jitter else middle


def _times(middle: float, factor: float) -> Range:
    return Uniform(low=middle / factor, high=middle * factor) if factor > 1 else middle


def data_folder(folder: str | Path, point: Point) -> Path:
    """Where the scenes of a condition lie that are simulated for a study.

    Examples
    --------
    >>> data_folder("study", Point(defocus_nm=0.0, materials=("Au", "ZnS wurtzite"))).as_posix()
    'study/data/Au+ZnS_wurtzite_3-5nm'
    """
    name = f"{shown(point.materials)}_{shown(point.diameter_nm)}nm"
    return Path(folder) / "data" / name.replace(" ", "_")


@dataclass(frozen=True)
class _Scenes:
    """Where the scenes of each condition of a study are; opened once in a process."""

    folder: str
    datasets: tuple[tuple[str, str], ...]
    device: str = "cpu"

    def __call__(self, point: Point) -> Dataset:
        return _dataset(self._place(point), point.dataset.rpartition("@")[2])

    def _place(self, point: Point) -> Path:
        if point.dataset:
            return Path(dict(self.datasets)[point.dataset])
        return data_folder(self.folder, point)


@lru_cache(maxsize=8)
def _dataset(folder: Path, digest: str) -> Dataset:
    dataset = open_dataset(folder)
    if not dataset.study.digest().startswith(digest):
        raise DatasetError(
            f"{folder} holds another dataset than when the study was made; put that one back, or begin the "
            "study in a new folder"
        )
    return dataset


@lru_cache(maxsize=64)
def _specimens(dataset: Dataset, split: str) -> frozenset[str]:
    """What the specimens of a split follow from, each as one text."""
    return frozenset(repr(dataset.record(n).specimen) for n in dataset.split(split))


def _refuse_known(of: Study, scenes: _Scenes, point: Point) -> None:
    """A score on specimens that were trained on would tell nothing."""
    trained = scenes(point)
    tests = {scenes(to): to.dataset for to in of.test.points()}
    for tested, name in tests.items():
        both = _specimens(trained, "train") & _specimens(tested, "test")
        if both:
            raise ParameterError(
                f"{counted(len(both), 'specimen')} to test on, of {name or 'the study'}, would be "
                f"trained on, in {point.dataset or 'the study'}; simulate one of the two with another seed"
            )


def simulation_of(of: Structures, training: Training, point: Point) -> SimulationStudy:
    """The scenes of what a condition says of the particles."""
    share = of.test_scenes / of.scenes
    side = _whole_pixels(of.field_nm * NM, training.pixel_size)
    energy = training.energy_kev * 1e3
    return SimulationStudy(
        scenes=of.scenes,
        seed=of.seed,
        splits=Splits(train=1 - share, validation=0.0, test=share),
        specimen=SpecimenRanges(
            materials=point.materials,
            diameters=(point.diameter_nm[0] * NM, point.diameter_nm[1] * NM),
            count=of.particles,
            cell=(side, side),
            thickness=(of.thickness_nm[0] * NM, of.thickness_nm[1] * NM),
        ),
        wave=WaveSettings(energy=energy),
        imaging=ConditionRanges(energy=energy, pixel_size=training.pixel_size),
    )


def _whole_pixels(side: float, pixel_size: float) -> float:
    """The side of a field, Å, made a multiple of sixteen pixels."""
    return max(1, math.ceil(side / pixel_size / 16 - 1e-9)) * 16 * pixel_size


@lru_cache(maxsize=256)
def _test_images(scenes: _Scenes, point: Point, training: Training, of: Structures) -> tuple[Tensor, Tensor]:
    """Images of test scenes under a condition, and where their objects are; kept between runs.

    Of all scenes, with the same noise in every condition; or of so many that are the condition's own.
    """
    dataset = scenes(point)
    chosen, seed = list(dataset.split("test")), TEST_SEED
    if of.test_images:
        seed = int(key(asdict(point))[:12], 16)
        chosen = sorted(np.random.default_rng(seed).permutation(chosen)[: of.test_images].tolist())
    source = SceneImages(dataset, chosen, ranges=conditions_of(point, training), device=scenes.device)
    return windows(source, seed, of.test_side)


def _training_images(source: SceneImages, side: int) -> Tensor:
    """Images of what a network was trained on, as the test images are."""
    few = SceneImages(source.dataset, source.scenes[:_FAMILIAR], ranges=source.ranges, device=source.device)
    return windows(few, TEST_SEED, side)[0]


def windows(source: SceneImages, seed: int, side: int) -> tuple[Tensor, Tensor]:
    """One window of each scene, of so many pixels a side, with some object and some background in it."""
    images, objects = [], []
    for place, (pixels, labels) in enumerate(source.each(seed=seed)):
        window = _window(labels > 0, side, np.random.default_rng((seed, place)))
        images.append(standardised(pixels)[window])
        objects.append(targets(labels[window], "binary"))
    return torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(np.stack(objects))


def _window(inside: np.ndarray, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A window whose share of objects is within `SHARES` where there is one, else the one that is nearest."""
    height, width = (min(side, n // 16 * 16) for n in inside.shape)
    sums = np.pad(inside.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    y, x = (np.arange(0, n - side + 1, 8) for n, side in zip(inside.shape, (height, width), strict=True))
    y, x = y[:, None], x[None, :]
    within = sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x]
    share = within / (height * width)
    off = np.maximum(0, np.maximum(SHARES[0] - share, share - SHARES[1]))
    best = np.flatnonzero(off.ravel() == off.min())
    i, j = np.unravel_index(int(rng.choice(best)), off.shape)
    top, left = int(y[i, 0]), int(x[0, j])
    return slice(top, top + height), slice(left, left + width)
