"""Particles to classes, poses and factors: a classifier and an autoencoder in one bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from passband.errors import ParameterError
from passband.estimate.records import CalibrationRecord
from passband.particles.crop_sets import crop_faults
from passband.particles.networks.invariant import (
    Classification,
    InvariantClassifier,
    classify_crops,
)
from passband.particles.networks.objective import sample_points
from passband.particles.networks.rvae import RVAE, CropsAsClasses, Posterior, class_probabilities

_BATCH = 512
_MISFIT_STRIDE = 3


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

    answer: Classification
    angle: Float32[np.ndarray, " n"]
    angle_spread: Float32[np.ndarray, " n"]
    shift: Float32[np.ndarray, "n 2"]
    scale: Float32[np.ndarray, " n"]
    latent: Float32[np.ndarray, "n z"]
    latent_spread: Float32[np.ndarray, "n z"]
    misfit: Float32[np.ndarray, " n"]


def classify_particles(model: ParticleModel, crops: Float32[np.ndarray, "n y x"]) -> Classification:
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
    return Classification(probabilities=probabilities, distance=np.zeros(len(crops), np.float32))


def describe_particles(
    model: ParticleModel, crops: Float32[np.ndarray, "n y x"], *, answer: Classification | None = None
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
            images = torch.from_numpy(grey(crops[i : i + _BATCH]))
            label = torch.from_numpy(answer.label[i : i + _BATCH])
            p = generator.encode(images, CropsAsClasses(torch.arange(len(images)), label))
            excess = _excess(generator, images, p, label)
            own = p.pose[:, [0, 3]] - generator.upright(p.latent, label)
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
            images = torch.from_numpy(grey(crops[i : i + _BATCH]))
            n, bounds = torch.arange(len(images)), []
            for k in range(len(model.classes)):
                label = torch.full((len(images),), k)
                p = generator.encode(images, CropsAsClasses(n, label))
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
    pose[:, [0, 3]] += generator.upright(torch.from_numpy(d.latent), label)
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
    pose[:, [0, 3]] += generator.upright(latent, labels)
    images: np.ndarray = generator.render(pose, latent, labels).numpy()
    return images


def grey(crops: Float32[np.ndarray, "n y x"]) -> Float32[np.ndarray, "n y x"]:
    """Within [0, 1], as the likelihood wants; noise beyond that is cut off."""
    grey: np.ndarray = np.clip(crops, 0, 1)
    return grey


def _generator(model: ParticleModel) -> RVAE:
    if model.generator is None:
        raise ParameterError(f"{model.name} has no autoencoder: it gives classes only; fit it with one")
    return model.generator
