"""Train the detector, on simulated cavities or on labelled images: one configuration, one visible loop.

Everything that decides the result is in `TrainConfig`; a killed run goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from passband.adam import Adam
from passband.cavities.domains import DOMAINS, draw_set
from passband.cavities.files import truth_of
from passband.cavities.image import CavityImage, CavityRecord, simulate_cavities
from passband.detections.detections import Detections
from passband.detectors.augment import augment_image, draw_augmentation, turn
from passband.detectors.bundle import Bundle, read_bundle
from passband.detectors.config import SLIM, DetectorConfig
from passband.detectors.loop import TrainLog, resume_training, schedule, training_tensors
from passband.detectors.mask_rcnn import build_detector, detector_input, input_channels
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.store.runs import Checkpoint, arrays_sha256, read_checkpoint, write_checkpoint
from passband.types import InstanceMask, Progress

LabelledImage = tuple[Micrograph, Detections]
"""A micrograph and what is known to be there, with its masks."""

CHECKPOINT_STEPS = 200
"""A killed run loses at most so many steps."""
LOG_STEPS = 20
"""The log has a line of mean losses for each so many steps."""


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
    crop, batch, steps
        Side of a training crop in pixels, crops per step, steps.
    learning_rate
        Of AdamW at its highest, after a warm-up over 4 % of the steps; it falls as a cosine.
    average
        Decay of the moving average of the weights, which is what the bundle gets.
    seed
        Of the images, crops and first weights.
    coco_weights
        Start from COCO weights (the resnet50 configuration, with a network at hand).
    start
        Start from the weights of this bundle file, of the same detector.
    """

    detector: DetectorConfig = field(default=SLIM)
    name: str = "cavities-slim"
    domains: tuple[str, ...] = ("A:under", "B:under", "C:under")
    images: int = 1000
    crop: int = 256
    batch: int = 6
    steps: int = 2300
    learning_rate: float = 1.5e-3
    average: float = 0.998
    seed: int = 0
    coco_weights: bool = False
    start: str | None = None

    def __post_init__(self) -> None:
        faults = [f"{n} must be at least 1" for n in ("images", "batch", "steps") if getattr(self, n) < 1]
        if not 64 <= self.crop <= 512:
            faults.append(f"crop must be 64 to 512 pixels, got {self.crop}")
        if faults:
            raise ParameterError("training: " + "; ".join(faults))


def train_detector(
    config: TrainConfig,
    out: str | Path,
    *,
    samples: Sequence[LabelledImage] | None = None,
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
        Images to train on instead of simulated ones: each with the masks of all its objects, none if
        it shows none, and no smaller than a crop.
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
        to start from another detector; naming every labelled image that cannot be used.

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
    model = build_detector(config.detector, coco_weights=config.coco_weights)
    if config.start is not None:
        model.load_state_dict(_start_weights(config))
    optimizer = Adam(model.parameters(), learning_rate=config.learning_rate, weight_decay=1e-4)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    if samples is not None:
        _refuse_unusable(samples, config.crop)
    kept, depends = out / "checkpoint.safetensors", _depends(config, samples)
    log = TrainLog(out / "log.csv")
    first = resume_training(read_checkpoint(kept, depends), model, optimizer, average, log)
    given = _simulated(config, report) if samples is None else samples
    seen = [_sample(micrograph, truth, input_channels(config.detector)) for micrograph, truth in given]
    model.train()
    for step in range(first, config.steps):
        rng = np.random.default_rng([config.seed, 1, step])  # a resumed run draws the same crops,
        torch.manual_seed(int(rng.integers(2**62)))  # and torchvision's samplers the same regions
        images, targets = _batch(seen, rng, config)
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
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == config.steps:
            state = {"step": step + 1, "log": log.state()}
            write_checkpoint(kept, depends, Checkpoint(state, training_tensors(model, optimizer, average)))
    return Bundle(
        name=config.name,
        detector=config.detector,
        weights=average,
        score_threshold=0.5,
        training={
            "simulated": samples is None,
            "refined": config.start is not None,
            **_origin(config, samples),
            **{k: getattr(config, k) for k in ("crop", "batch", "steps", "learning_rate", "seed")},
        },
    )


def _simulated(config: TrainConfig, report: Progress) -> Iterator[LabelledImage]:
    """Images of the configuration's domains with their truth."""
    records = list(draw_set(config.domains, config.images, seed=config.seed))
    for image in simulate_all(records, lambda done: report("simulate", done, len(records))):
        size = image.record.conditions.pixel_size
        yield Micrograph(pixels=image.pixels, name="simulated", pixel_size=size), truth_of(image)


def _origin(config: TrainConfig, samples: Sequence[LabelledImage] | None) -> dict[str, Any]:
    """What a bundle says of the images; no range of pixel sizes where one of them is unknown."""
    if samples is None:
        sizes = [DOMAINS[d.split(":")[0]].pixel_size for d in config.domains]
        extent = [min(s[0] for s in sizes), max(s[1] for s in sizes)]
        return {"domains": list(config.domains), "pixel_size": extent, "images": config.images}
    known = [m.pixel_size for m, _ in samples if m.pixel_size is not None]
    if len(known) < len(samples):
        return {"images": len(samples)}
    return {"pixel_size": [min(known), max(known)], "images": len(samples)}


def _refuse_unusable(samples: Sequence[LabelledImage], crop: int) -> None:
    """Name every labelled image that a crop does not fit in, or whose truth does not fit it."""
    faults = [] if samples else ["no labelled image came; wanted at least one"]
    for micrograph, truth in samples:
        if min(micrograph.shape) < crop:
            faults.append(f"{micrograph.name} is {micrograph.shape}, smaller than a crop of {crop} pixels")
        if truth.image_shape != micrograph.shape:
            faults.append(f"{micrograph.name} is {micrograph.shape} but its truth {truth.image_shape}")
        if truth.masks is None and len(truth):
            faults.append(f"{micrograph.name} has boxes without masks")
    if faults:
        shown = faults if len(faults) <= 10 else [*faults[:10], f"and {len(faults) - 10} more"]
        raise ParameterError("training on labelled images: " + "; ".join(shown))


def _start_weights(config: TrainConfig) -> dict[str, Tensor]:
    assert config.start is not None
    bundle = read_bundle(config.start)
    if bundle.detector != config.detector:
        raise ParameterError(f"{config.start} holds another detector than the one to be trained")
    return dict(bundle.weights)


def simulate_all(
    records: Sequence[CavityRecord], progress: Callable[[int], None] | None = None, workers: int = 2
) -> Iterator[CavityImage]:
    """Simulate records in several processes, in order.

    Parameters
    ----------
    records
        What to simulate.
    progress
        Called with the number done.
    workers
        Processes; 1 simulates here.

    Examples
    --------
    >>> from passband.cavities.domains import draw_set
    >>> records = list(draw_set(["A:under"], 2, seed=0, shape=(64, 64)))
    >>> [image.pixels.shape for image in simulate_all(records, workers=1)]
    [(64, 64), (64, 64)]
    """
    pool = ProcessPoolExecutor(workers) if workers > 1 and len(records) > 8 else None
    try:
        results = (
            pool.map(simulate_cavities, records, chunksize=4) if pool else map(simulate_cavities, records)
        )
        for done, image in enumerate(results, 1):
            if progress:
                progress(done)
            yield image
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


Sample = tuple[np.ndarray, tuple[InstanceMask, ...]]


def _sample(micrograph: Micrograph, truth: Detections, channels: int) -> Sample:
    """The network's view of an image, in half the memory, with its instances."""
    return detector_input(micrograph.pixels, channels).numpy().astype(np.float16), truth.masks or ()


def _batch(
    samples: Sequence[Sample], rng: np.random.Generator, config: TrainConfig
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Crops and targets of one step.

    A crop without an object is drawn again once: some must stay, or the detector learns that there is
    always something to find.
    """
    images, targets = [], []
    for _ in range(config.batch):
        for _ in range(2):
            image, instances = samples[int(rng.integers(len(samples)))]
            record = draw_augmentation(rng, image.shape[1:], config.crop)
            masks = _cropped(instances, record.y, record.x, config.crop)
            if len(masks):
                break
        images.append(torch.from_numpy(augment_image(image.astype(np.float32), record, config.crop)))
        masks = turn(masks, record)
        rows, columns = np.asarray(masks.any(axis=2)), np.asarray(masks.any(axis=1))
        boxes = np.stack(
            [
                columns.argmax(1),
                rows.argmax(1),
                config.crop - columns[:, ::-1].argmax(1),
                config.crop - rows[:, ::-1].argmax(1),
            ],
            axis=1,
        ).astype(np.float32)
        targets.append(
            {
                "boxes": torch.from_numpy(boxes),
                "labels": torch.ones(len(boxes), dtype=torch.int64),
                "masks": torch.from_numpy(masks.astype(np.uint8)),
            }
        )
    return images, targets


def _cropped(instances: Sequence[InstanceMask], y: int, x: int, crop: int) -> np.ndarray:
    """Masks (n, crop, crop) of the instances that show at least 3 x 3 pixels in a crop."""
    shown = []
    for m in instances:
        height, width = m.pixels.shape
        y0, x0 = max(m.y - y, 0), max(m.x - x, 0)
        y1, x1 = min(m.y - y + height, crop), min(m.x - x + width, crop)
        if y1 - y0 < 3 or x1 - x0 < 3:
            continue
        part = m.pixels[y0 + y - m.y : y1 + y - m.y, x0 + x - m.x : x1 + x - m.x]
        if min(part.any(axis=0).sum(), part.any(axis=1).sum()) < 3:
            continue
        full = np.zeros((crop, crop), bool)
        full[y0:y1, x0:x1] = part
        shown.append(full)
    return np.stack(shown) if shown else np.zeros((0, crop, crop), bool)


def _depends(config: TrainConfig, samples: Sequence[LabelledImage] | None) -> dict[str, Any]:
    """What a checkpoint belongs to: the configuration and, where images were given, these."""
    values = asdict(config)
    if samples is not None:
        seen = []
        for micrograph, truth in samples:
            seen.append(micrograph.pixels)
            for mask in truth.masks or ():
                seen += [np.array([mask.y, mask.x]), mask.pixels]
        values["labelled_images"] = arrays_sha256(*seen)
    return values
