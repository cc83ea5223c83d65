"""Training of the autoencoders of `rvae`: one visible loop that a kill does not undo."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from passband.adam import Adam
from passband.errors import ParameterError
from passband.particles.networks.alignment import learn_templates
from passband.particles.networks.objective import Sampling, Step, labelled_objective, unlabelled_objective
from passband.particles.networks.rvae import RVAE, CropsAsClasses, Posterior, class_probabilities
from passband.store.runs import Checkpoint, arrays_sha256, read_checkpoint, write_checkpoint, write_log

_CHECKPOINT = "rvae.safetensors"
_LOG = "rvae.csv"
_UPRIGHT = math.radians(30)  # a labelled crop that starts from less is in its class's orientation
_SLOPE_RIDGE = 0.5  # in squared factors: a few labelled crops hardly make a slope
_PAIRS = 64  # of crop and class, that one backward pass holds on a processor
_TYPICAL = 500  # crops of a class that its typical factors are found from


@dataclass(frozen=True, kw_only=True)
class RVAETraining:
    """What a trained model follows from, beside its settings and the crops.

    Parameters
    ----------
    epochs, batch
        Passes over the unlabelled crops, and crops a step.
    learning_rate
        Of Adam, throughout.
    beta
        Weight of the divergence at first and at last.
    beta_epochs
        Over which it rises, evenly.
    emphasis
        Weight of the classifier's loss on labelled crops.
    sampling
        Which pixels and classes a step computes.
    seed
        Of first weights and of everything drawn.

    Raises
    ------
    ParameterError
        Naming every fault.
    """

    epochs: int = 12
    batch: int = 64
    learning_rate: float = 1e-3
    beta: tuple[float, float] = (1.0, 1.0)
    beta_epochs: int = 1
    emphasis: float = 30.0
    sampling: Sampling = field(default=Sampling(stride=4, thinning=0.05))
    seed: int = 0

    def __post_init__(self) -> None:
        names = ("epochs", "batch", "beta_epochs")
        faults = [f"{n} must be at least 1" for n in names if getattr(self, n) < 1]
        if not 0 < self.learning_rate < 1:
            faults.append(f"learning rate must lie between 0 and 1, got {self.learning_rate}")
        if not (len(self.beta) == 2 and 0 <= min(self.beta) <= max(self.beta) <= 1000):
            faults.append(f"beta must be two weights of 0 to 1000, got {self.beta}")
        if not 0 <= self.emphasis <= 1e6:
            faults.append(f"emphasis must lie in 0 to 1e6, got {self.emphasis}")
        if faults:
            raise ParameterError("rVAE training: " + "; ".join(faults))


REFERENCE_TRAINING = RVAETraining(
    epochs=100,
    learning_rate=5e-4 * math.sqrt(2),
    beta=(1.0, 2.0),
    beta_epochs=30,
    sampling=Sampling(stride=6),
)
"""The recipe of the paper's notebook, by a part of the pixels at each step.

The notebook's rate is 5e-4, but pyroVED takes two steps of Adam a batch, the second with zero gradients; for
steady gradients the two go as far as one at a rate the square root of 2 higher.
"""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What the log says of one pass.

    Parameters
    ----------
    number
        From 1.
    bound
        Mean bound on -log p(x) of the unlabelled crops (of the labelled, if there are no others), nats.
    labelled_accuracy
        Of the model's own classifier on the labelled crops; NaN without one.
    seconds
        Processor time since training began.
    """

    number: int
    bound: float
    labelled_accuracy: float
    seconds: float


def train_rvae(
    model: RVAE,
    labelled: Float32[Tensor, "n y x"],
    labels: Int[Tensor, " n"],
    unlabelled: Float32[Tensor, "m y x"],
    training: RVAETraining,
    *,
    probabilities: Float32[Tensor, "m k"] | None = None,
    folder: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a model in place.

    All labelled batches are spread over each pass through the unlabelled ones, whatever the two numbers
    are. With a folder, a run that was stopped goes on after its last whole pass and ends as if it had not
    been stopped.

    Parameters
    ----------
    model
        Weights are drawn anew from the seed.
    labelled, labels, unlabelled
        Crops in [0, 1], and classes; either part may be empty.
    training
        How.
    probabilities
        Of the classes of the unlabelled crops, where the model has no classifier of its own and more than
        one class.
    folder
        For checkpoint and log.
    on_epoch
        Called after each pass.

    Raises
    ------
    ParameterError
        If there are no crops, a crop is not finite or outside [0, 1] where the likelihood wants that, or
        the folder holds another run.
    """
    _refuse(model, labelled, unlabelled)
    _draw_weights(model, training.seed)
    if model.settings.class_prior == "learned":
        model.log_prior.fill_(-torch.tensor(float(model.settings.classes)).log())
    if model.settings.start_pose:
        model.templates.copy_(
            learn_templates(labelled, labels, model.settings.classes, model.settings.harmonics)
        )
    optimizer = Adam(model.parameters(), learning_rate=training.learning_rate)
    crops = {"labelled": labelled, "labels": labels, "unlabelled": unlabelled}
    if probabilities is not None:
        crops["probabilities"] = probabilities
    depends = _depends(model, training, crops)
    log = _resume(folder, depends, model, optimizer)
    before = log[-1].seconds if log else 0.0
    began = time.process_time()
    device = model.grid.device
    at_once = _crops_at_once(model, training)
    for number in range(len(log) + 1, training.epochs + 1):
        generator = torch.Generator(device).manual_seed(training.seed * 1_000_003 + number)
        share = min(1.0, (number - 1) / training.beta_epochs)
        beta = training.beta[0] + (training.beta[1] - training.beta[0]) * share
        step = Step(beta, training.sampling, generator)
        total, seen = 0.0, torch.zeros(model.settings.classes, device=device)
        for known, chosen in _batches(len(labelled), len(unlabelled), training.batch, generator):
            optimizer.zero_grad()
            for some in chosen.split(len(chosen) if known else at_once):  # type: ignore[no-untyped-call]
                if known:
                    images, known_labels = labelled[some].to(device), labels[some].to(device)
                    loss = labelled_objective(model, images, known_labels, step, emphasis=training.emphasis)
                else:
                    images = unlabelled[some].to(device)
                    if probabilities is None:
                        believed = class_probabilities(model, images)
                    else:
                        believed = probabilities[some].to(device)
                    loss = unlabelled_objective(model, images, believed, step)
                    seen += believed.detach().sum(0)
                loss.backward()  # type: ignore[no-untyped-call]
                if not known or not len(unlabelled):
                    total += float(loss.detach())
            optimizer.step()
        if model.settings.class_prior == "learned" and len(unlabelled):
            model.log_prior.copy_(((seen + 1) / (seen + 1).sum()).log())
        log.append(
            Epoch(
                number=number,
                bound=total / (len(unlabelled) or len(labelled)),
                labelled_accuracy=_accuracy(model, labelled, labels),
                seconds=before + time.process_time() - began,
            )
        )
        _find_typical(model, labelled, labels, unlabelled, probabilities)
        _find_frame(model, labelled, labels)
        _keep(folder, depends, model, optimizer, log)
        if on_epoch:
            on_epoch(log[-1])
    return log


def _crops_at_once(model: RVAE, training: RVAETraining) -> int:
    """How many crops of a batch go backward together: the objective is their sum, so memory alone says.

    It is short on a processor where the decoder runs for every pixel, and for every class.
    """
    short = model.settings.invariances and model.grid.device.type == "cpu" and not training.sampling.thinning
    return max(1, _PAIRS // model.settings.classes) if short else training.batch


@torch.no_grad()
def _find_frame(model: RVAE, images: Tensor, labels: Tensor) -> None:
    """Where the decoder has the labelled particles: their own orientation becomes angle 0, on the mean.

    If most of them are upright, by the turn that the encoder starts from, a factor that turns them in the
    decoder shows as a slope of the angle over it, and is taken out.
    """
    for k in range(model.settings.classes):
        mine = images[labels == k].to(model.grid.device)
        if not len(mine):
            continue
        found = _encoded(model, mine, k)
        upright = found.start[:, 0].expand(len(mine)).abs() < _UPRIGHT
        model.frame[k, 1] = found.pose[:, 3].mean()
        model.lean[k] = 0.0
        if upright.float().mean() <= 0.5:
            turn = found.pose[:, 0] - found.start[:, 0]  # about the labelled orientation, or half a turn off
            model.frame[k, 0] = torch.atan2(torch.sin(turn).mean(), torch.cos(turn).mean())
            continue
        turn, factors = found.pose[upright, 0], found.latent[upright] - model.typical[0, k]
        middle = torch.atan2(torch.sin(turn).mean(), torch.cos(turn).mean())
        away = torch.remainder(turn - middle + math.pi, 2 * math.pi) - math.pi
        spread = factors - factors.mean(0)
        weight = spread.T @ spread + _SLOPE_RIDGE * torch.eye(spread.shape[1], device=spread.device)
        model.lean[k] = torch.linalg.solve(weight, spread.T @ (away - away.mean()))
        model.frame[k, 0] = middle + away.mean() - factors.mean(0) @ model.lean[k]


@torch.no_grad()
def _find_typical(
    model: RVAE, labelled: Tensor, labels: Tensor, unlabelled: Tensor, probabilities: Tensor | None
) -> None:
    """Mean and spread of the factors of each class's particles, known or most probable."""
    device = model.grid.device
    if probabilities is None and len(unlabelled):
        parts = unlabelled.split(_TYPICAL)  # type: ignore[no-untyped-call]
        probabilities = torch.cat([class_probabilities(model, part.to(device)).cpu() for part in parts])
    believed = labels[:0] if probabilities is None else probabilities.argmax(1)
    for k in range(model.settings.classes):
        known = torch.nonzero(labels == k)[:_TYPICAL, 0]
        others = torch.nonzero(believed == k)[: _TYPICAL - len(known), 0]
        mine = torch.cat([labelled[known], unlabelled[others]]).to(device)
        if len(mine):
            latent = _encoded(model, mine, k).latent
            model.typical[0, k] = latent.mean(0)
            if len(mine) > 1:
                model.typical[1, k] = latent.std(0)


def _encoded(model: RVAE, images: Tensor, label: int) -> Posterior:
    every = torch.arange(len(images), device=images.device)
    return model.encode(images, CropsAsClasses(every, torch.full_like(every, label)))


def _batches(
    labelled: int, unlabelled: int, batch: int, generator: torch.Generator
) -> Iterator[tuple[bool, Tensor]]:
    """Places of crops, a batch at a time, and whether they are labelled; labelled ones spread evenly."""

    def split(count: int) -> list[Tensor]:
        order = torch.randperm(count, generator=generator, device=generator.device).cpu()
        return [order[i : i + batch] for i in range(0, count, batch)]

    others, known = split(unlabelled), split(labelled)
    given = 0
    for i, chosen in enumerate(others):
        yield False, chosen
        while given < len(known) and (given + 0.5) * len(others) < (i + 1) * len(known):
            yield True, known[given]
            given += 1
    for chosen in known[given:]:
        yield True, chosen


def _draw_weights(model: RVAE, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()


@torch.no_grad()
def _accuracy(model: RVAE, images: Tensor, labels: Tensor) -> float:
    if not (model.settings.own_classifier and len(images)):
        return float("nan")
    said = class_probabilities(model, images.to(model.grid.device)).argmax(1).cpu()
    return float((said == labels).float().mean())


def _refuse(model: RVAE, labelled: Tensor, unlabelled: Tensor) -> None:
    faults, size = [], model.settings.size
    if not len(labelled) + len(unlabelled):
        faults.append("no crops")
    for name, crops in (("labelled", labelled), ("unlabelled", unlabelled)):
        if not len(crops):
            continue
        if crops.shape[1:] != (size, size):
            faults.append(f"{name} crops of {tuple(crops.shape[1:])} pixels, wanted {size} x {size}")
        elif not torch.isfinite(crops).all():
            faults.append(f"some {name} crops hold values that are not finite")
        elif model.settings.likelihood != "gaussian" and (crops.min() < 0 or crops.max() > 1):
            low, high = float(crops.min()), float(crops.max())
            faults.append(
                f"{name} crops hold values of {low:.3g} to {high:.3g}, and the {model.settings.likelihood} "
                "likelihood wants 0 to 1; clip or scale them, or use the gaussian one"
            )
    if model.settings.start_pose and not len(labelled):
        faults.append("a pose to start from wants labelled crops")
    if faults:
        raise ParameterError("rVAE training: " + "; ".join(faults))


def _depends(model: RVAE, training: RVAETraining, crops: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a checkpoint belongs to; the number of epochs may grow."""
    recipe = {k: v for k, v in asdict(training).items() if k != "epochs"}
    seen = {name: arrays_sha256(part.numpy()) for name, part in crops.items()}
    return {"model": model.settings.to_dict(), "training": recipe, "crops": seen}


def _resume(
    folder: str | Path | None, depends: Mapping[str, Any], model: RVAE, optimizer: Adam
) -> list[Epoch]:
    """Load what a folder holds of this run."""
    kept = None if folder is None else read_checkpoint(Path(folder) / _CHECKPOINT, depends)
    if folder is None or kept is None:
        return []
    model.load_state_dict(kept.under("model."))
    optimizer.load_state(kept.under("optimizer."))
    log = [Epoch(**row) for row in kept.state["log"]]
    write_log(Path(folder) / _LOG, kept.state["log"])  # a run may stop between its checkpoint and its log
    return log


def _keep(
    folder: str | Path | None, depends: Mapping[str, Any], model: RVAE, optimizer: Adam, log: Sequence[Epoch]
) -> None:
    """Store all that the next pass follows from, and the log for people."""
    if folder is None:
        return
    tensors = {f"model.{k}": v.cpu().contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"optimizer.{k}": v.cpu().contiguous() for k, v in optimizer.state().items()}
    rows = [asdict(row) for row in log]
    write_checkpoint(Path(folder) / _CHECKPOINT, depends, Checkpoint({"log": rows}, tensors))
    write_log(Path(folder) / _LOG, rows)
