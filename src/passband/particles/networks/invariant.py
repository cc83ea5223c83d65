"""A classifier that a turn cannot confuse: circular harmonics, their invariants, a small network.

It learns from a handful of labelled crops and, where they are given, many unlabelled ones. What may differ
between a particle and its labelled like is drawn while it learns (`Nuisances`). Beside probabilities, it
says how far a crop is from all that it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor, nn

from passband.errors import ParameterError
from passband.particles.networks.harmonics import HarmonicSettings, harmonics, invariants

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5)  # of noise, at which the reach is measured
BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """What may differ between a particle and a labelled one of its class, beside a turn.

    Parameters
    ----------
    shift
        Greatest shift along each axis, as a share of the crop's side.
    shear
        Greatest shear along each axis, degrees.
    scale
        Greatest change of size, as a share.
    noise
        Ranges of the standard deviation of added noise, in units of the crops' intensity; one is drawn,
        then a value in it. Half the crops get none.
    contamination
        Greatest share of pixels with an intensity of 1 on top; a quarter of the crops have some.
    mirrored
        Whether a particle may lie on either side.

    Raises
    ------
    ParameterError
        Naming every fault.

    Examples
    --------
    >>> Nuisances().shift
    0.1
    """

    shift: float = 0.1
    shear: float = 10.0
    scale: float = 0.1
    noise: tuple[tuple[float, float], ...] = ((0.0, 0.3), (0.5, 0.9))
    contamination: float = 0.15
    mirrored: bool = False

    def __post_init__(self) -> None:
        faults = [] if 0 <= self.shift <= 0.5 else [f"shift must lie in 0 to 0.5, got {self.shift}"]
        if not 0 <= self.shear <= 45:
            faults.append(f"shear must lie in 0 to 45 degrees, got {self.shear}")
        if not 0 <= self.scale <= 0.8:
            faults.append(f"scale must lie in 0 to 0.8, got {self.scale}")
        if not self.noise or not all(0 <= low <= high <= 100 for low, high in self.noise):
            faults.append(f"noise must be rising ranges from 0, got {self.noise}")
        if not 0 <= self.contamination <= 1:
            faults.append(f"contamination must be a share of the pixels, got {self.contamination}")
        if faults:
            raise ParameterError("nuisances: " + "; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What a classifier follows from, beside the crops.

    Parameters
    ----------
    harmonics
        Rings and orders; its size is the crops'.
    nuisances
        What is drawn while it learns.
    hidden
        Units of each of two hidden layers.
    steps, batch
        Of training.
    learning_rate
        Of AdamW at its highest.
    pool
        Deformed crops, made once, that training draws from: so many of labelled crops, and so many of
        unlabelled ones.
    self_training
        Classes with fewer labelled crops than this are few: then unlabelled crops that the classifier is
        sure of are learnt from in a second round. 0 never does.
    rejected
        Share of crops like the labelled ones that may be called unlike all of them.
    seed
        Of everything drawn.
    """

    harmonics: HarmonicSettings
    nuisances: Nuisances = field(default=Nuisances())
    hidden: int = 256
    steps: int = 1200
    batch: int = 256
    learning_rate: float = 3e-3
    pool: int = 12_800
    self_training: int = 50
    rejected: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("hidden", "steps", "batch", "pool")
        faults = [f"{n} must be at least 1" for n in counts if getattr(self, n) < 1]
        if not 0 < self.rejected < 0.5:
            faults.append(f"rejected must lie between 0 and 0.5, got {self.rejected}")
        if faults:
            raise ParameterError("classifier: " + "; ".join(faults))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ClassifierSettings:
        """Settings from the JSON values of `to_dict`."""
        nuisances = dict(values["nuisances"])
        nuisances["noise"] = tuple((float(a), float(b)) for a, b in nuisances["noise"])
        return ClassifierSettings(
            **{
                **values,
                "harmonics": HarmonicSettings(**values["harmonics"]),
                "nuisances": Nuisances(**nuisances),
            }
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Classification:
    """What a classifier says of n crops.

    Parameters
    ----------
    probabilities
        Of each class, shape (n, classes).
    distance
        From the nearest class, in units of the distance that `ClassifierSettings.rejected` of the crops
        like the labelled ones exceed at the same level of noise; shape (n,).
    """

    probabilities: Float32[np.ndarray, "n k"]
    distance: Float32[np.ndarray, " n"]

    @property
    def label(self) -> Int[np.ndarray, " n"]:
        """The most probable class."""
        best: np.ndarray = self.probabilities.argmax(1)
        return best

    @property
    def rejected(self) -> Bool[np.ndarray, " n"]:
        """Whether a crop is unlike all that was seen."""
        return self.distance > 1


class InvariantClassifier(nn.Module):
    """Crops to class probabilities and a distance; made by `fit_classifier`."""

    mean: Tensor
    spread: Tensor
    temperature: Tensor
    whitening: Tensor
    centres: Tensor
    edges: Tensor
    reach: Tensor

    def __init__(self, settings: ClassifierSettings, classes: int) -> None:
        super().__init__()
        self.settings, self.classes = settings, classes
        n = settings.harmonics.invariants
        self.network = nn.Sequential(
            nn.Linear(n, settings.hidden), nn.GELU(),
            nn.Linear(settings.hidden, settings.hidden), nn.GELU(),
            nn.Linear(settings.hidden, classes),
        )  # fmt: skip
        for name, value in {
            "mean": torch.zeros(n),
            "spread": torch.ones(n),
            "temperature": torch.ones(()),
            "whitening": torch.zeros(n, n),
            "centres": torch.zeros(classes, n),
            "edges": torch.zeros(()),
            "reach": torch.ones(len(LEVELS)),
        }.items():
            self.register_buffer(name, value)

    def features(self, coefficients: Float32[Tensor, "n c"]) -> Float32[Tensor, "n f"]:
        """Standardised invariants of circular harmonics."""
        return (invariants(coefficients, self.settings.harmonics) - self.mean) / self.spread

    def distance(
        self, features: Float32[Tensor, "n f"], noise: Float32[Tensor, " n"]
    ) -> Float32[Tensor, " n"]:
        """From the nearest class's centre over the reach at a crop's level of noise."""
        return self.raw_distance(features) / _interpolate(noise, self.reach)

    def raw_distance(self, features: Float32[Tensor, "n f"]) -> Float32[Tensor, " n"]:
        """From the nearest class's centre, in spreads within classes."""
        return torch.cdist(features @ self.whitening, self.centres).amin(1)

    def noise(self, crops: Float32[Tensor, "n y x"]) -> Float32[Tensor, " n"]:
        """Standard deviation of the white noise in each crop, from differences of neighbouring pixels."""
        return ((roughness(crops) - self.edges) / 4).clamp(min=0).sqrt()


def roughness(crops: Float32[Tensor, "n y x"]) -> Float32[Tensor, " n"]:
    """Mean square of the mixed difference of four neighbouring pixels: 4 variances of white noise.

    Examples
    --------
    >>> noise = torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0))
    >>> bool((roughness(noise) - 4).abs() < 0.1)
    True
    """
    rows = crops[:, 1:] - crops[:, :-1]
    mixed = (rows[:, :, 1:] - rows[:, :, :-1]).flatten(1)
    return mixed.square().mean(1)


def _interpolate(noise: Tensor, values: Tensor) -> Tensor:
    """Values known at `LEVELS`, in between and, along the last piece, beyond."""
    levels = torch.tensor(LEVELS, dtype=noise.dtype, device=noise.device)
    i = torch.searchsorted(levels, noise.contiguous()).clamp(1, len(levels) - 1)
    share = (noise - levels[i - 1]) / (levels[i] - levels[i - 1])
    return values[i - 1] + (values[i] - values[i - 1]) * share


def classify_crops(model: InvariantClassifier, crops: Float32[np.ndarray, "n y x"]) -> Classification:
    """Classify crops.

    Parameters
    ----------
    model
        From `fit_classifier`.
    crops
        Of the model's size.

    Raises
    ------
    ParameterError
        If the crops are of another size, or not finite.
    """
    size = model.settings.harmonics.size
    if crops.ndim != 3 or crops.shape[1:] != (size, size):
        raise ParameterError(f"crops of shape {crops.shape}; this classifier takes (n, {size}, {size})")
    device = model.mean.device
    probabilities, distances = [], []
    with torch.inference_mode():
        for i in range(0, len(crops), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(crops[i : i + BATCH], np.float32)).to(device)
            f = model.features(harmonics(batch, model.settings.harmonics))
            probabilities.append(torch.softmax(model.network(f) / model.temperature, 1).cpu())
            distances.append(model.distance(f, model.noise(batch)).cpu())
    if not probabilities:
        return Classification(
            probabilities=np.zeros((0, model.classes), np.float32), distance=np.zeros(0, np.float32)
        )
    answer = Classification(
        probabilities=torch.cat(probabilities).numpy(), distance=torch.cat(distances).numpy()
    )
    bad = ~np.isfinite(answer.distance)
    if bad.any():
        raise ParameterError(f"{bad.sum()} of {len(crops)} crops hold values that are not finite")
    return answer
