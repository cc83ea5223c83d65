"""Particles to classes, poses and factors: a classifier and an autoencoder in one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from passband.data.crop_sets import CropSet, crop_faults
from passband.errors import BundleError, ParameterError
from passband.learn.bundle import CalibrationRecord
from passband.learn.harmonics import HarmonicSettings
from passband.learn.invariant import (
    Answer,
    ClassifierSettings,
    InvariantClassifier,
    Nuisances,
    classify_crops,
    fit_classifier,
)
from passband.learn.rvae import (
    RVAE,
    Pairs,
    Posterior,
    RVAESettings,
    class_probabilities,
    reference_settings,
    sample_points,
)
from passband.learn.sealed import read_sealed, write_sealed
from passband.learn.train_rvae import Epoch, RVAETraining, train_rvae

Progress = Callable[[str, int, int], None]
_BATCH = 512
_MISFIT_STRIDE = 3
_CONCENTRATION = 4.0  # of angles about the one that the correlation with a template gives: 30 degrees
_CLASSIFIER, _GENERATOR = "classifier.", "generator."


@dataclass(frozen=True, kw_only=True)
class ParticleConfig:
    """What a particle model follows from, beside the crops.

    Parameters
    ----------
    name
        What people call it.
    reference
        Whether to train pyroVED's ss-rVAE (its classifier and angle prior, its recipe) in place of ours.
    generative
        Whether to train the autoencoder; without it there are classes, but no poses or factors.
    invariances
        Of the autoencoder: any of rotation, translation, scale.
    latent
        Continuous factors beside the pose.
    nuisances
        What may differ between a particle and a labelled one, beside a turn.
    training
        Of the autoencoder.
    steps
        Of the classifier.
    seed
        Of everything drawn.
    """

    name: str = "particles"
    reference: bool = False
    generative: bool = True
    invariances: tuple[str, ...] = ("rotation", "translation", "scale")
    latent: int = 2
    nuisances: Nuisances = field(default=Nuisances())
    training: RVAETraining = field(default=RVAETraining())
    steps: int = 1200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reference and not self.generative:
            raise ParameterError(
                "the reference's classifier is part of its autoencoder: it cannot go without"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ParticleModel:
    """A classifier of particles, and what generates them.

    Parameters
    ----------
    name
        What people call it.
    classes
        Names.
    classifier
        Ours, or None where the autoencoder's own is used.
    generator
        The autoencoder, or None.
    training
        JSON values: what it was trained on and how well it did on crops held out.
    calibration
        The estimator of its accuracy, or None.
    digest
        SHA-256 of the file it was read from; empty if it was not.
    """

    name: str
    classes: tuple[str, ...]
    classifier: InvariantClassifier | None
    generator: RVAE | None
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    digest: str = ""

    @property
    def size(self) -> int:
        """Side of a crop in pixels."""
        if self.classifier is not None:
            return self.classifier.settings.harmonics.size
        assert self.generator is not None
        return self.generator.settings.size


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """What a model says of n particles, each taken as its most probable class.

    Parameters
    ----------
    answer
        Class probabilities and distances.
    angle, angle_spread
        Degrees anticlockwise from the class's labelled orientation, and one standard deviation; (n,).
    shift
        To the right and up, pixels, (n, 2).
    scale
        Relative to the class's typical one, (n,).
    latent, latent_spread
        Factors, (n, latent).
    misfit
        Mean of -log p(x) above that of the best possible reconstruction, nats a pixel, on a ninth of the
        pixels; (n,).
    """

    answer: Answer
    angle: Float32[np.ndarray, " n"]
    angle_spread: Float32[np.ndarray, " n"]
    shift: Float32[np.ndarray, "n 2"]
    scale: Float32[np.ndarray, " n"]
    latent: Float32[np.ndarray, "n z"]
    latent_spread: Float32[np.ndarray, "n z"]
    misfit: Float32[np.ndarray, " n"]


def fit_particle_model(
    crops: CropSet,
    config: ParticleConfig,
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[RVAE, Epoch], None] | None = None,
) -> ParticleModel:
    """Fit a model to labelled and unlabelled crops.

    Parameters
    ----------
    crops
        Its test crops are not looked at.
    config
        What to fit.
    folder
        For the checkpoint of a run that may be stopped; and its log.
    progress
        Called as work goes on.
    on_epoch
        Called after each pass of the autoencoder's training, with it.

    Raises
    ------
    ParameterError
        If a class has no label, there is only one, or crops cannot be learnt from.
    """
    _refuse(crops)
    report = progress or (lambda what, done, total: None)
    size, k = crops.labelled.shape[1], len(crops.classes)
    unlabelled = crops.unlabelled if crops.unlabelled is not None else np.zeros((0, size, size), np.float32)
    classifier, answer = None, None
    about: dict[str, Any] = {
        "about": dict(crops.about),
        "labels": np.bincount(crops.labels, minlength=k).tolist(),
    }
    about |= {"unlabelled": len(unlabelled), "seed": config.seed, "reference": config.reference}
    if config.reference:
        settings = reference_settings(size, k, invariant="rotation" in config.invariances)
    else:
        fitted = fit_classifier(
            crops.labelled,
            crops.labels,
            ClassifierSettings(
                harmonics=HarmonicSettings(size=size),
                nuisances=config.nuisances,
                steps=config.steps,
                seed=config.seed,
            ),
            classes=k,
            unlabelled=unlabelled,
            progress=report,
        )
        classifier = fitted.model
        accuracy = fitted.held_out_accuracy
        about |= {"held_out_accuracy": accuracy if np.isfinite(accuracy) else None}
        about |= {"pseudo_labelled": fitted.pseudo_labelled}
        answer = classify_crops(classifier, unlabelled)
        started = {"rotation", "translation"} <= set(config.invariances)
        settings = RVAESettings(
            size=size,
            classes=k,
            latent=config.latent,
            invariances=config.invariances,
            start_pose=started,
            angle_concentration=_CONCENTRATION if started else 0.0,
        )
    generator = None
    if config.generative:
        generator = RVAE(settings)
        log = train_rvae(
            generator,
            torch.from_numpy(_grey(crops.labelled)),
            torch.from_numpy(crops.labels),
            torch.from_numpy(_grey(unlabelled)),
            config.training,
            probabilities=None if answer is None else torch.from_numpy(answer.probabilities),
            folder=folder,
            on_epoch=lambda e: (
                report("train the autoencoder", e.number, config.training.epochs),
                on_epoch(generator, e) if on_epoch and generator else None,
            )[0],
        )
        generator.eval()
        about |= {"epochs": len(log), "training": asdict(config.training)}
    return ParticleModel(
        name=config.name, classes=crops.classes, classifier=classifier, generator=generator, training=about
    )


def classify_particles(model: ParticleModel, crops: Float32[np.ndarray, "n y x"]) -> Answer:
    """Class probabilities and distances of crops.

    Raises
    ------
    ParameterError
        If the crops are of another size than the model's, or not finite.
    """
    faults = crop_faults(crops)
    if not faults and crops.shape[1:] != (model.size, model.size):
        faults = [f"crops of {crops.shape[1]} pixels a side; this model takes {model.size}"]
    if faults:
        raise ParameterError("; ".join(faults))
    if model.classifier is not None:
        return classify_crops(model.classifier, crops)
    assert model.generator is not None
    with torch.inference_mode():
        batches = [
            class_probabilities(model.generator, torch.from_numpy(crops[i : i + _BATCH]))
            for i in range(0, len(crops), _BATCH)
        ]
    probabilities = torch.cat(batches).numpy() if batches else np.zeros((0, len(model.classes)), np.float32)
    return Answer(probabilities=probabilities, distance=np.zeros(len(crops), np.float32))


def describe_particles(
    model: ParticleModel, crops: Float32[np.ndarray, "n y x"], *, answer: Answer | None = None
) -> Description:
    """Classes, poses and factors of crops.

    Parameters
    ----------
    model
        With an autoencoder.
    crops
        Of the model's size.
    answer
        Theirs, if it is known already.

    Raises
    ------
    ParameterError
        If the model has no autoencoder, or the crops do not fit it.
    """
    generator = _generator(model)
    answer = answer or classify_particles(model, crops)
    half = (generator.settings.size - 1) / 2
    parts: list[list[Tensor]] = []
    with torch.inference_mode():
        for i in range(0, len(crops), _BATCH):
            images = torch.from_numpy(_grey(crops[i : i + _BATCH]))
            label = torch.from_numpy(answer.label[i : i + _BATCH])
            p = generator.encode(images, Pairs(torch.arange(len(images)), label))
            excess = _excess(generator, images, p, label)
            own = p.pose[:, [0, 3]] - generator.frame[label]
            turn = torch.remainder(own[:, 0] + torch.pi, 2 * torch.pi) - torch.pi
            parts.append(
                [
                    torch.rad2deg(turn),
                    torch.rad2deg(p.pose_spread[:, 0]),
                    p.pose[:, 1:3] * half,
                    torch.exp(own[:, 1]),
                    p.latent,
                    p.latent_spread,
                    excess,
                ]
            )
    z = generator.settings.latent
    empty = [np.zeros((0, *s), np.float32) for s in ((), (), (2,), (), (z,), (z,), ())]
    values = [torch.cat(column).numpy() for column in zip(*parts, strict=True)] if parts else empty
    names = ("angle", "angle_spread", "shift", "scale", "latent", "latent_spread", "misfit")
    return Description(answer=answer, **dict(zip(names, values, strict=True)))


def explained_best(model: ParticleModel, crops: Float32[np.ndarray, "n y x"]) -> Int[np.ndarray, " n"]:
    """The class by which the autoencoder explains each crop best: by its reconstruction and its factors.

    It asks the generative part alone, so it can disagree with the classifier.
    """
    generator = _generator(model)
    n_pixels = generator.settings.size**2
    best = []
    with torch.inference_mode():
        for i in range(0, len(crops), _BATCH):
            images = torch.from_numpy(_grey(crops[i : i + _BATCH]))
            n, bounds = torch.arange(len(images)), []
            for k in range(len(model.classes)):
                label = torch.full((len(images),), k)
                p = generator.encode(images, Pairs(n, label))
                fit = n_pixels * _excess(generator, images, p, label)
                bounds.append(fit + generator.divergence(p) - generator.log_prior[k])
            best.append(torch.stack(bounds, 1).argmin(1))
    return torch.cat(best).numpy() if best else np.zeros(0, np.int64)


def _excess(generator: RVAE, images: Tensor, posterior: Posterior, label: Tensor) -> Tensor:
    """How much worse than perfect the reconstruction is, on every third pixel of every third row."""
    n = len(images)
    offsets = torch.ones(n, 2, dtype=torch.int64)
    points, values, weights = sample_points(generator, images, torch.arange(n), _MISFIT_STRIDE, offsets)
    if generator.settings.invariances:
        logits = generator.decode(posterior.pose, posterior.latent, label, points)
    else:
        values, weights = images.flatten(1), torch.ones(n, images[0].numel())
        logits = generator.decode(posterior.pose, posterior.latent, label)
    best = torch.special.entr(values) + torch.special.entr(1 - values)
    over = (generator.misfit(logits, values) - best) * weights
    mean: Tensor = over.sum(1) / weights.sum(1)
    return mean


def reconstruct(model: ParticleModel, description: Description) -> Float32[np.ndarray, "n y x"]:
    """What the autoencoder makes of particles from their classes, poses and factors."""
    generator = _generator(model)
    half = (generator.settings.size - 1) / 2
    d = description
    label = torch.from_numpy(d.answer.label)
    pose = torch.from_numpy(np.column_stack([np.deg2rad(d.angle), d.shift / half, np.log(d.scale)])).float()
    pose[:, [0, 3]] += generator.frame[label]
    images = [
        generator.render(
            pose[i : i + _BATCH],
            torch.from_numpy(d.latent[i : i + _BATCH]),
            label[i : i + _BATCH],
        )
        for i in range(0, len(pose), _BATCH)
    ]
    size = generator.settings.size
    return torch.cat(images).numpy() if images else np.zeros((0, size, size), np.float32)


def traverse(
    model: ParticleModel, label: int, factor: int | str, values: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, "n y x"]:
    """A class as one factor changes: a latent factor by its number, or "scale" or "angle" of the pose.

    Parameters
    ----------
    model
        With an autoencoder.
    label
        Number of the class.
    factor
        Place of a latent factor, or a part of the pose: "angle" (degrees) or "scale".
    values
        It takes: of a latent factor in standard deviations of the class's particles from their mean. The
        other factors stay at the class's mean.
    """
    generator = _generator(model)
    n = len(values)
    pose = torch.zeros(n, 4)
    mean, spread = generator.typical[:, label]
    latent = mean.expand(n, -1).clone()
    given = torch.from_numpy(np.asarray(values, np.float32))
    if factor == "angle":
        pose[:, 0] = torch.deg2rad(given)
    elif factor == "scale":
        pose[:, 3] = torch.log(given)
    elif isinstance(factor, int) and 0 <= factor < latent.shape[1]:
        latent[:, factor] += given * spread[factor]
    else:
        raise ParameterError(
            f'no factor {factor!r}; there are 0 to {latent.shape[1] - 1}, "angle" and "scale"'
        )
    labels = torch.full((n,), label)
    pose[:, [0, 3]] += generator.frame[labels]
    images: np.ndarray = generator.render(pose, latent, labels).numpy()
    return images


def write_particle_model(model: ParticleModel, path: str | Path) -> str:
    """Write a model to one file, whole or not at all, and return its digest."""
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {"kind": "particles", "name": model.name, "classes": list(model.classes)}
    header["training"] = dict(model.training)
    header["calibration"] = None if model.calibration is None else dict(model.calibration.settings)
    for prefix, part in ((_CLASSIFIER, model.classifier), (_GENERATOR, model.generator)):
        header[prefix] = None if part is None else part.settings.to_dict()
        if part is not None:
            tensors |= {prefix + k: v.detach().cpu().contiguous() for k, v in part.state_dict().items()}
    if model.calibration is not None:
        for name, values in model.calibration.arrays.items():
            tensors["calibration." + name] = torch.from_numpy(np.ascontiguousarray(values).copy())
    return write_sealed(header, tensors, path)


def is_particle_model(path: str | Path) -> bool:
    """Whether a file is a bundle that classifies particles; BundleError if it is no bundle at all."""
    return read_sealed(path).header.get("kind") == "particles"


def read_particle_model(path: str | Path) -> ParticleModel:
    """Read a model; no code of the file is run.

    Raises
    ------
    BundleError
        If the file is missing, damaged, of a newer format, or a bundle of another kind.
    """
    header, tensors, digest = read_sealed(path)
    if header.get("kind") != "particles":
        raise BundleError(f"{path}: a detector's bundle; wanted one that classifies particles")
    try:
        classes = tuple(str(c) for c in header["classes"])
        classifier = generator = calibration = None
        if (values := header[_CLASSIFIER]) is not None:
            classifier = InvariantClassifier(ClassifierSettings.from_dict(values), len(classes))
            classifier.load_state_dict(_part(tensors, _CLASSIFIER))
            classifier.eval()
        if (values := header[_GENERATOR]) is not None:
            generator = RVAE(RVAESettings.from_dict(values))
            generator.load_state_dict(_part(tensors, _GENERATOR))
            generator.eval()
        if (values := header["calibration"]) is not None:
            arrays = {k: v.numpy() for k, v in _part(tensors, "calibration.").items()}
            calibration = CalibrationRecord(settings=values, arrays=arrays)
    except (KeyError, TypeError, ValueError, RuntimeError) as e:
        raise BundleError(f"{path}: a bundle whose settings cannot be understood: {e!r}") from e
    return ParticleModel(
        name=str(header["name"]),
        classes=classes,
        classifier=classifier,
        generator=generator,
        training=header["training"],
        calibration=calibration,
        digest=digest,
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _grey(crops: Float32[np.ndarray, "n y x"]) -> Float32[np.ndarray, "n y x"]:
    """Within [0, 1], as the likelihood wants; noise beyond that is cut off."""
    grey: np.ndarray = np.clip(crops, 0, 1)
    return grey


def _generator(model: ParticleModel) -> RVAE:
    if model.generator is None:
        raise ParameterError(f"{model.name} has no autoencoder: it gives classes only; fit it with one")
    return model.generator


def _refuse(crops: CropSet) -> None:
    counts = np.bincount(crops.labels, minlength=len(crops.classes))
    faults = []
    if not len(crops.labels):
        faults.append("no labelled crop: label a few of each class")
    elif missing := [name for name, n in zip(crops.classes, counts, strict=True) if not n]:
        faults.append(f"no labelled crop of {', '.join(missing)}: label at least one, or leave the class out")
    if len(crops.classes) < 2:
        faults.append("one class: there is nothing to tell apart; two at least are wanted")
    if faults:
        raise ParameterError("crops to learn from: " + "; ".join(faults))
