"""Train the detector, on simulated cavities or on labelled images: one configuration, one visible loop.

Everything that decides the result is in `TrainConfig`; a killed run goes on from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from passband.adam import Adam
from passband.cavities.domains import DOMAINS
from passband.cavities.draws import draw_set
from passband.cavities.export import draw_export, export_image
from passband.cavities.files import truth_of
from passband.cavities.image import CavityRecord, simulate_cavities
from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle, read_bundle
from passband.detectors.config import SLIM, DetectorConfig
from passband.detectors.crops import LabelledImage, Sample, draw_crops, on_disk, sample_of
from passband.detectors.loop import TrainLog, resume_training, schedule, training_tensors
from passband.detectors.mask_rcnn import build_detector, input_channels
from passband.errors import ParameterError
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.micrographs.micrograph import Micrograph
from passband.processes import core_count, device_fault
from passband.store.runs import Checkpoint, arrays_sha256, read_checkpoint, write_checkpoint, write_log
from passband.store.sealed import digest
from passband.types import Progress

Look = Callable[[Bundle], Mapping[str, float]]
"""Measures a network as it is now: numbers by name."""

CHECKPOINT_STEPS = 200
CHECKPOINT_SECONDS = 60
"""A killed run loses at most so many steps, and hardly more than so many seconds."""
LOOKS = 8
"""So often the network is measured on the way."""
LOG_STEPS = 20
"""The log has a line of mean losses for each so many steps."""
CROP_WORKERS = 6
"""Processes that cut crops for a GPU."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a trained detector follows from.

    Parameters
    ----------
    detector
        The network.
    name
        Of the bundle.
    domains
        Simulated domains to train on, "SET:FOCUS"; not read where labelled images are given.
    images
        How many are simulated, 512 x 512 pixels each, of the domains in turn; not read where labelled
        images are given.
    exported
        Share of the simulated images that are trained on as people send them: in eight bits, clipped, packed,
        scratched, written upon (`passband.cavities.export`).
    crop, batch, steps
        Side of a training crop in pixels, crops per step, steps.
    learning_rate
        Of AdamW at its highest, after a warm-up over 4 % of the steps; it falls as a cosine.
    on_objects
        Share of the crops that are laid over an object, whatever the share of the image it fills.
    zoom
        Crops are enlarged by factors from this range.
    average
        Decay of the moving average of the weights, which is what the bundle gets.
    seed
        Of the images, crops and first weights.
    coco_weights
        Start from COCO weights (the resnet50 configuration, with a network at hand).
    start
        Start from the weights of this bundle file: of the same detector, or of one with other classes,
        anchors or outputs, of which all that fits is taken.
    device
        "cpu" or "cuda"; on a GPU other processes cut the crops.
    """

    detector: DetectorConfig = field(default=SLIM)
    name: str = "cavities-slim"
    domains: tuple[str, ...] = ("A:under", "B:under", "C:under")
    images: int = 1000
    exported: float = 0.0
    crop: int = 256
    batch: int = 6
    steps: int = 2300
    learning_rate: float = 1.5e-3
    on_objects: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    average: float = 0.998
    seed: int = 0
    coco_weights: bool = False
    start: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        faults = [f"{n} must be at least 1" for n in ("images", "batch", "steps") if getattr(self, n) < 1]
        if not 64 <= self.crop <= 1024:
            faults.append(f"crop must be 64 to 1024 pixels, got {self.crop}")
        for share in ("on_objects", "exported"):
            if not 0 <= getattr(self, share) <= 1:
                faults.append(f"{share} is a share, 0 to 1, got {getattr(self, share)}")
        if not 0.25 <= self.zoom[0] <= self.zoom[1] <= 4:
            faults.append(f"zoom must lie between 0.25 and 4, the lower first, got {self.zoom}")
        if fault := device_fault(self.device):
            faults.append(fault)
        if faults:
            raise ParameterError("training: " + "; ".join(faults))


def train_detector(
    config: TrainConfig,
    out: str | Path,
    *,
    samples: Iterable[LabelledImage] | None = None,
    look: Look | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Train a detector on simulated cavities, or on labelled images of anything.

    Parameters
    ----------
    config
        What to train.
    out
        Folder for the checkpoint and ``log.csv``; a run that was stopped goes on from there, and its log is
        that of a run which was not.
    samples
        Images to train on instead of simulated ones, each with the masks of all its objects, none if it
        shows none; boxes do for a detector without masks. They are read once, one after the other.
    look
        Measures the network a few times on the way, which ``looks.csv`` in the folder tells.
    progress
        Called as work goes on.

    Returns
    -------
    Bundle
        Without calibration, score threshold 0.5.

    Raises
    ------
    ParameterError
        If the folder holds the checkpoint of another configuration or of other images, or the bundle
        to start from another network; naming every labelled image that cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> tiny = TrainConfig(images=1, batch=1, steps=1, crop=64, domains=("B:under",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train_detector(tiny, folder).training["domains"]
    ['B:under']
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda what, done, total: None)
    torch.manual_seed(config.seed)
    keep_freed_memory()
    model = build_detector(config.detector, coco_weights=config.coco_weights)
    if config.start is not None:
        start_from(model, config)
    model = model.to(config.device, memory_format=torch.channels_last)
    optimizer = Adam(model.parameters(), learning_rate=config.learning_rate, weight_decay=1e-4)
    average = {k: v.clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
    kept, log, looks_kept = out / "checkpoint.safetensors", TrainLog(out / "log.csv"), out / "looks.csv"
    given = None if samples is None else _given(samples, config, out)
    depends = asdict(config) | ({} if given is None else {"labelled_images": given.sha256})
    checkpoint = read_checkpoint(kept, depends)
    first = resume_training(checkpoint, model, optimizer, average, log)
    looks = list(checkpoint.state.get("looks", [])) if checkpoint else []
    write_log(looks_kept, looks)
    if given is None:
        seen = list(_simulated(config, report))
        about = _simulated_origin(config)
    else:
        seen, about = given.samples, given.about
    model.train()
    kept_at = time.monotonic()
    for step, (seed, images, targets) in enumerate(_batches(seen, config, first), first):
        torch.manual_seed(seed)  # torchvision's samplers take the same regions in a resumed run
        images = [image.to(config.device) for image in images]
        targets = [{k: v.to(config.device) for k, v in target.items()} for target in targets]
        optimizer.learning_rate = config.learning_rate * schedule(step, config.steps)
        losses = model(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        decay = min(config.average, (step + 1) / (step + 10))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                average[key].lerp_(value, 1 - decay)
            else:
                average[key].copy_(value)
        log.recent.append({k: float(v.detach()) for k, v in losses.items()})
        if (step + 1) % LOG_STEPS == 0 or step + 1 == config.steps:
            log.end_line(step + 1)
            report("train", step + 1, config.steps)
        if look and ((step + 1) % -(-config.steps // LOOKS) == 0 or step + 1 == config.steps):
            now = _bundle(config, {k: v.clone() for k, v in average.items()}, about)
            looks.append({"step": step + 1, **look(now)})
            write_log(looks_kept, looks)
        late = time.monotonic() - kept_at > CHECKPOINT_SECONDS
        if late or (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == config.steps:
            kept_at = time.monotonic()
            state = {"step": step + 1, "log": log.state(), "looks": looks}
            write_checkpoint(kept, depends, Checkpoint(state, training_tensors(model, optimizer, average)))
    return _bundle(config, average, about)


class _Steps(Dataset[Any]):
    """What each step is trained on: a seed, crops and targets, which follow from the step's number."""

    def __init__(self, samples: Sequence[Sample], config: TrainConfig) -> None:
        self.samples, self.config = samples, config

    def __getitem__(self, step: int) -> tuple[int, list[Tensor], list[dict[str, Tensor]]]:
        config = self.config
        rng = np.random.default_rng([config.seed, 1, step])
        seed = int(rng.integers(2**62))
        images, targets = draw_crops(
            self.samples,
            rng,
            crop=config.crop,
            count=config.batch,
            on_objects=config.on_objects,
            zoom=config.zoom,
            masks=config.detector.masks,
        )
        return seed, images, targets


def _batches(samples: Sequence[Sample], config: TrainConfig, first: int) -> Iterable[Any]:
    """`_Steps` from the first on, in order; for a GPU other processes make them, or it would wait."""
    workers = 0 if config.device == "cpu" else min(CROP_WORKERS, core_count())
    steps = range(first, config.steps)
    return DataLoader(_Steps(samples, config), sampler=steps, batch_size=None, num_workers=workers)


def _bundle(config: TrainConfig, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> Bundle:
    return Bundle(
        name=config.name,
        detector=config.detector,
        weights={k: v.cpu() for k, v in weights.items()},
        score_threshold=0.5,
        training={
            **about,
            "refined": config.start is not None,
            **{k: getattr(config, k) for k in ("crop", "batch", "steps", "learning_rate", "seed")},
        },
    )


def _simulated(config: TrainConfig, report: Progress) -> Iterator[Sample]:
    """Samples of the configuration's domains."""
    drawn = draw_set(config.domains, config.images, seed=config.seed)
    sample = partial(_simulated_sample, input_channels(config.detector), config.exported, config.seed)
    return _by_all_cores(sample, list(enumerate(drawn)), lambda n: report("simulate", n, config.images))


def _simulated_sample(channels: int, exported: float, seed: int, job: tuple[int, CavityRecord]) -> Sample:
    number, record = job
    image = simulate_cavities(record)
    rng = np.random.default_rng([seed, 2, number])
    if rng.random() < exported:
        image = export_image(image, draw_export(rng, record.shape))
    size = record.conditions.pixel_size
    micrograph = Micrograph(pixels=image.pixels, name="simulated", pixel_size=size)
    return sample_of(micrograph, truth_of(image), channels)


def _simulated_origin(config: TrainConfig) -> dict[str, Any]:
    """What a bundle says of simulated images."""
    sizes = [DOMAINS[d.split(":")[0]].pixel_size for d in config.domains]
    extent = [min(s[0] for s in sizes), max(s[1] for s in sizes)]
    return {"simulated": True, "domains": list(config.domains), "pixel_size": extent, "images": config.images}


class _Given(NamedTuple):
    """Labelled images as they are trained on, what a bundle says of them, and their checksum."""

    samples: list[Sample]
    about: dict[str, Any]
    sha256: str


def _given(samples: Iterable[LabelledImage], config: TrainConfig, folder: Path) -> _Given:
    """Labelled images, read one after the other; an error names every one that cannot be used."""
    marks: list[str] = []
    sizes: list[float | None] = []
    faults: list[str] = []
    channels, classes = input_channels(config.detector), config.detector.classes

    def usable() -> Iterator[Sample]:
        for micrograph, truth in samples:
            fault = _unusable(micrograph, truth, config.detector)
            if fault:
                faults.append(f"{micrograph.name} {fault}")
                continue
            sample = sample_of(micrograph, truth, channels, classes)
            outlines = [
                part for m in (*sample.instances, *truth.crowds) for part in (np.array([m.y, m.x]), m.pixels)
            ]
            marks.append(arrays_sha256(micrograph.pixels, sample.labels, *outlines))
            sizes.append(micrograph.pixel_size)
            yield sample

    seen = on_disk(usable(), config.crop, folder)
    if not seen and not faults:
        faults.append("no labelled image came; wanted at least one")
    if faults:
        shown = faults if len(faults) <= 10 else [*faults[:10], f"and {len(faults) - 10} more"]
        raise ParameterError("training on labelled images: " + "; ".join(shown))
    known = [size for size in sizes if size is not None]
    about: dict[str, Any] = {"simulated": False, "images": len(seen)}
    if len(known) == len(seen):  # where one is unknown, nothing is rescaled
        about["pixel_size"] = [min(known), max(known)]
    return _Given(seen, about, digest({"images": marks}))


def _unusable(micrograph: Micrograph, truth: Detections, detector: DetectorConfig) -> str | None:
    """Why a labelled image cannot be trained on, if it cannot."""
    if truth.image_shape != micrograph.shape:
        return f"is {micrograph.shape} but its truth {truth.image_shape}"
    if detector.masks and truth.masks is None and len(truth):
        return "has boxes without masks"
    unknown = sorted(set(truth.categories or ()) - set(detector.classes)) if detector.classes else []
    return f"has objects of {', '.join(unknown)}, which the detector does not tell apart" if unknown else None


def start_from(model: nn.Module, config: TrainConfig) -> None:
    """Give a network the weights that it starts from: all of a bundle's that fit.

    Raises
    ------
    ParameterError
        If the bundle's network is of another kind.
    """
    assert config.start is not None
    bundle, fresh = read_bundle(config.start), model.state_dict()
    if (
        not isinstance(bundle.detector, DetectorConfig)
        or bundle.detector.backbone != config.detector.backbone
    ):
        raise ParameterError(
            f"{config.start} holds another network ({bundle.detector.in_words}) than the one to be trained "
            f"({config.detector.in_words})"
        )
    fit = {k: v for k, v in bundle.weights.items() if k in fresh and v.shape == fresh[k].shape}
    mine, theirs = config.detector.classes, bundle.detector.classes
    if mine != theirs and max(len(mine), len(theirs)) > 1:  # an output is of a class; others are learnt anew
        fit = {k: v for k, v in fit.items() if "_predictor." not in k or "conv5" in k}
    model.load_state_dict(fresh | fit)


def _by_all_cores(
    work: Callable[[Any], Any], jobs: Sequence[Any], progress: Callable[[int], None]
) -> Iterator[Any]:
    """What work makes of each job, in order, a process a core; a few are done here."""
    workers = core_count()
    pool = ProcessPoolExecutor(workers) if workers > 1 and len(jobs) > 8 else None
    try:
        results = pool.map(work, jobs, chunksize=4) if pool else map(work, jobs)
        for done, result in enumerate(results, 1):
            progress(done)
            yield result
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
