"""Train a segmenter: images drawn on the fly, one visible loop, the same weights for the same seed.

An image is drawn whole, kept in a small stock, and cut into crops at random until a newer one takes its
place. Everything of a step follows from the seed and the step's number, so that a stopped run goes on to the
same weights; on one processor type with one thread, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from passband.adam import Adam
from passband.detectors.bundle import Bundle, load_weights
from passband.detectors.loop import TrainLog, resume_training, schedule, training_tensors
from passband.detectors.segment import standardised
from passband.detectors.unet import UNet, UNetConfig
from passband.errors import ParameterError, TrainingError
from passband.processes import device_fault
from passband.store.runs import Checkpoint, arrays_sha256, read_checkpoint, write_checkpoint
from passband.types import Image, LabelImage, Progress

Labelled = tuple[Image, LabelImage]
"""Pixels, and 0 on the background, i on object i."""
Draw = Callable[[np.random.Generator], Labelled]
"""Draws one labelled image; the same for the same state of the generator."""

CHECKPOINT_STEPS = 250
LOG_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """What a trained segmenter follows from, beside the images.

    Parameters
    ----------
    network
        The U-Net.
    name
        Of the bundle.
    crop, batch, steps
        Side of a training crop in pixels, a multiple of the network's stride; crops a step; steps.
    learning_rate
        Of Adam at its highest, after a warm-up over 4 % of the steps; it falls as a cosine.
    stock, fresh
        Images that crops are cut from, and how many of them are drawn anew at each step.
    patience
        Stop when the loss on the validation images was no better in so many looks; 0 for never.
    look
        Steps between two looks at the validation images.
    seed
        Of first weights, images and crops.
    image_seed
        Of the images alone: networks that have it in common see the same ones, drawn once by `train_many`.
    loss
        "entropy and overlap": cross-entropy and soft Dice, which leans outward where an outline is in
        doubt; "entropy": the first alone, so that half of the doubtful pixels lie on either side.
    precision
        "float32"; "bfloat16" in mixed precision; "auto" for the latter where the processor has it.
    device
        "cpu" or "cuda". The weights are the same for the same seed on one kind of device.

    Raises
    ------
    ParameterError
        Naming every fault; if there is no such device here.
    """

    network: UNetConfig = field(default_factory=UNetConfig)
    name: str = "segmenter"
    crop: int = 64
    batch: int = 32
    steps: int = 400
    learning_rate: float = 3e-3
    stock: int = 64
    fresh: int = 1
    patience: int = 0
    look: int = 50
    seed: int = 0
    image_seed: int | None = None
    loss: str = "entropy and overlap"
    precision: str = "auto"
    device: str = "cpu"

    @property
    def images_seed(self) -> int:
        """What the images follow from."""
        return self.seed if self.image_seed is None else self.image_seed

    def __post_init__(self) -> None:
        faults = [
            f"{n} must be at least 1, got {getattr(self, n)}"
            for n in ("crop", "batch", "steps", "stock", "look")
            if getattr(self, n) < 1
        ]
        faults += [f"{n} must not be negative" for n in ("fresh", "patience", "seed") if getattr(self, n) < 0]
        if self.crop % self.network.stride:
            faults.append(f"crop must be a multiple of {self.network.stride} pixels, got {self.crop}")
        if self.loss not in LOSSES:
            faults.append(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            faults.append(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        if fault := device_fault(self.device):
            faults.append(fault)
        if faults:
            raise ParameterError("training: " + "; ".join(faults))


def train_segmenter(
    config: SegmenterConfig,
    draw: Draw,
    out: str | Path | None = None,
    *,
    depends: dict[str, Any] | None = None,
    start: Bundle | None = None,
    validation: Sequence[Labelled] = (),
    training: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Train a U-Net to tell objects from background.

    Parameters
    ----------
    config
        What to train.
    draw
        Source of labelled images, each at least a crop in size.
    out
        Folder for checkpoint and ``log.csv``, from which a stopped run goes on; None keeps nothing.
    depends
        JSON values that ``draw`` follows from: a checkpoint of others is refused.
    start
        Begin with the weights of this bundle, of the same network.
    validation
        Labelled images to choose the best weights by, and to stop early.
    training
        JSON values for the bundle: the conditions and structures that it was trained on.
    progress
        Called as work goes on.

    Returns
    -------
    Bundle
        Without calibration, score threshold 0.5.

    Raises
    ------
    ParameterError
        If an image is smaller than a crop; if the folder holds the checkpoint of another run; if the bundle
        to start from is of another network.
    TrainingError
        If the loss is no number any more.

    Examples
    --------
    >>> def disc(rng):
    ...     labels = np.zeros((64, 64), np.int32)
    ...     labels[20:44, 20:44] = 1
    ...     return (labels + rng.normal(0, 1, labels.shape)).astype(np.float32), labels
    >>> config = SegmenterConfig(network=UNetConfig(widths=(2, 4)), steps=2, batch=2, crop=32)
    >>> train_segmenter(config, disc).detector.widths
    (2, 4)
    """
    report = progress or (lambda what, done, total: None)
    torch.manual_seed(config.seed)
    model = UNet(config.network)
    if start is not None:
        if start.detector != config.network:
            raise ParameterError(f"bundle {start.name!r} holds another network than the one to be trained")
        load_weights(model, start)
    layout = memory_layout(config)
    model = model.to(config.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = Adam(model.parameters(), learning_rate=config.learning_rate)
    follows = {
        "segmenter": asdict(config),
        "images": depends or {},
        "start": None if start is None else arrays_sha256(*(v.numpy() for v in start.weights.values())),
    }
    folder = None if out is None else Path(out)
    log = TrainLog(None if folder is None else folder / "log.csv")
    best: dict[str, Tensor] = {}
    kept = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = read_checkpoint(folder / "checkpoint.safetensors", follows)
    first = resume_training(kept, model, optimizer, best, log)
    looks: list[float] = list(kept.state["looks"]) if kept else []
    stock = Stock(draw, config, first)
    for step in range(first, config.steps):
        images, objects = stock.batch(step, config.seed)
        stock.turn_over(step)
        optimizer.learning_rate = config.learning_rate * schedule(step, config.steps)
        model.train()
        with torch.autocast(config.device, dtype=torch.bfloat16, enabled=mixed_precision(config)):
            logits = model(images.to(config.device, memory_format=layout))
        loss = LOSSES[config.loss](logits.float(), objects.to(config.device))
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(f"the loss was {value} at step {step + 1}; take a lower learning rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        log.recent.append({"loss": value})
        last = step + 1 == config.steps
        if validation and ((step + 1) % config.look == 0 or last):
            looks.append(validation_loss(model, validation, LOSSES[config.loss]))
            if looks[-1] == min(looks):
                best = {k: v.detach().clone() for k, v in model.state_dict().items()}
            last |= bool(config.patience) and len(looks) - 1 - int(np.argmin(looks)) >= config.patience
        if (step + 1) % LOG_STEPS == 0 or last:
            log.end_line(step + 1)
            report("train", step + 1, config.steps)
        if folder is not None and ((step + 1) % CHECKPOINT_STEPS == 0 or last):
            state = {"step": config.steps if last else step + 1, "log": log.state(), "looks": looks}
            held = training_tensors(model, optimizer, best)
            write_checkpoint(folder / "checkpoint.safetensors", follows, Checkpoint(state, held))
        if last:
            break
    words = {"refined": start is not None, **(training or {})}
    return trained_bundle(config, best or model.state_dict(), words)


def trained_bundle(
    config: SegmenterConfig, weights: Mapping[str, Tensor], training: Mapping[str, Any]
) -> Bundle:
    """The bundle of a network that was trained, without calibration; it says how it was trained."""
    recipe = {k: getattr(config, k) for k in ("crop", "batch", "steps", "learning_rate", "seed")}
    return Bundle(
        name=config.name,
        detector=config.network,
        weights={k: v.detach().cpu().contiguous() for k, v in weights.items()},
        score_threshold=0.5,
        training={**training, **recipe},
    )


def segmentation_loss(logits: Float[Tensor, "b c y x"], objects: Float[Tensor, "b c y x"]) -> Tensor:
    """Cross-entropy and one less the soft Dice coefficient, of every logit.

    Examples
    --------
    >>> right = torch.tensor([[[[9.0, -9.0]]]])
    >>> round(float(segmentation_loss(right, (right > 0).float())), 3)
    0.0
    """
    entropy = entropy_loss(logits, objects)
    chance = torch.sigmoid(logits)
    common = (chance * objects).sum((0, 2, 3))
    dice = (2 * common + 1) / (chance.sum((0, 2, 3)) + objects.sum((0, 2, 3)) + 1)
    return entropy + (1 - dice).mean()


def entropy_loss(logits: Float[Tensor, "b c y x"], objects: Float[Tensor, "b c y x"]) -> Tensor:
    """Cross-entropy of every logit, the mean."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, objects)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "entropy and overlap": segmentation_loss,
    "entropy": entropy_loss,
}
"""What a training makes small, by its name."""


def targets(labels: LabelImage, output: str) -> Float[np.ndarray, "c y x"]:
    """What the logits of labels ought to say: object, and for instances the border between two.

    Examples
    --------
    >>> targets(np.array([[1, 1, 2, 2, 0]]), "instances")[1]
    array([[0., 1., 1., 0., 0.]], dtype=float32)
    """
    planes = [labels > 0]
    if output == "instances":
        planes.append(_borders(labels))
    return np.stack(planes).astype(np.float32)


def _borders(labels: LabelImage) -> np.ndarray:
    """Pixels of an object beside which another one lies."""
    border = np.zeros(labels.shape, bool)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = labels[: labels.shape[0] - dy, max(0, -dx) : labels.shape[1] - max(0, dx)]
        b = labels[dy:, max(0, dx) : labels.shape[1] + min(0, dx)]
        differ = (a != b) & (a > 0) & (b > 0)
        border[: labels.shape[0] - dy, max(0, -dx) : labels.shape[1] - max(0, dx)] |= differ
        border[dy:, max(0, dx) : labels.shape[1] + min(0, dx)] |= differ
    return border


@torch.inference_mode()
def validation_loss(
    model: UNet, images: Sequence[Labelled], loss: Callable[[Tensor, Tensor], Tensor] = segmentation_loss
) -> float:
    """Mean loss of a network on whole images, cut to a multiple of its stride."""
    model.eval()
    losses = []
    stride = model.config.stride
    for pixels, labels in images:
        height, width = (side // stride * stride for side in pixels.shape)
        image = torch.from_numpy(standardised(pixels)[None, None, :height, :width])
        logits = model(image.to(model.head.weight.device)).cpu()
        wanted = torch.from_numpy(targets(labels[:height, :width], model.config.output))[None]
        losses.append(float(loss(logits, wanted)))
    return float(np.mean(losses))


def mixed_precision(config: SegmenterConfig) -> bool:
    """Whether a training is done in bfloat16 where that is safe."""
    if config.precision == "auto":
        if config.device != "cpu":
            return True
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return config.precision == "bfloat16"


def memory_layout(config: SegmenterConfig) -> torch.memory_format:
    """Channels last, but for a few channels in full precision, which are faster the other way."""
    few = config.network.widths[0] % 8 and not mixed_precision(config)
    return torch.contiguous_format if few else torch.channels_last


class Stock:
    """Images that crops are cut from; the oldest give way to new ones, step by step.

    Image i follows from the seed of the images and i; at step s the stock holds the last ``stock`` of the
    images that were drawn until then, so that a run which goes on draws those again and no others.
    """

    def __init__(self, draw: Draw, config: SegmenterConfig, step: int) -> None:
        self.draw, self.config = draw, config
        self.images: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        drawn = config.stock + step * config.fresh
        for place in range(drawn - config.stock, drawn):
            self._add(place)

    def _add(self, place: int) -> None:
        pixels, labels = self.draw(np.random.default_rng([self.config.images_seed, 2, place]))
        if min(pixels.shape) < self.config.crop:
            raise ParameterError(
                f"an image of {pixels.shape[0]} x {pixels.shape[1]} pixels is smaller than a crop of "
                f"{self.config.crop}"
            )
        planes = targets(labels, self.config.network.output)
        self.images[place] = standardised(pixels).astype(np.float16), planes.astype(bool)

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor]:
        """Crops of a step for the network of a seed, turned, mirrored, and what its logits ought to say."""
        rng, config = np.random.default_rng([seed, 1, step]), self.config
        oldest = step * config.fresh
        crops: list[np.ndarray] = []
        planes: list[np.ndarray] = []
        for _ in range(config.batch):
            image, wanted = self.images[oldest + int(rng.integers(config.stock))]
            y, x = (int(rng.integers(side - config.crop + 1)) for side in image.shape)
            turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            window = slice(y, y + config.crop), slice(x, x + config.crop)
            for part, kept in ((image[window], crops), (wanted[:, *window], planes)):
                turned = np.rot90(part, turns, (-2, -1))
                kept.append(turned[..., ::-1] if mirrored else turned)
        images = torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]
        wanted_planes = torch.from_numpy(np.stack(planes).astype(np.float32))
        return images, wanted_planes

    def turn_over(self, step: int) -> None:
        """After a step the oldest images give way to new ones."""
        oldest = step * self.config.fresh
        for place in range(oldest, oldest + self.config.fresh):
            del self.images[place]
            self._add(place + self.config.stock)
