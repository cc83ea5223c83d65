"""Crops made worse in known ways, to see where a model's answers stop being right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int
from scipy.ndimage import gaussian_filter

from passband.errors import ParameterError
from passband.estimate.rows import CalibrationRow
from passband.particles.batches import batch_row
from passband.particles.model import ParticleModel
from passband.particles.networks.warping import Affine, deform

Crops = Float32[np.ndarray, "n y x"]


def _deformed(crops: Crops, rng: np.random.Generator, **ranges: float) -> Crops:
    n, size = len(crops), crops.shape[1]

    def drawn(name: str) -> np.ndarray:
        reach = ranges.get(name, 0.0)
        values: np.ndarray = rng.uniform(-reach, reach, n)
        return values

    affine = Affine(
        angle=drawn("angle"),
        shear_x=drawn("shear"),
        shear_y=drawn("shear"),
        scale=np.exp(drawn("log_scale")),
        shift_x=drawn("shift") * size,
        shift_y=drawn("shift") * size,
    )
    moved: np.ndarray = deform(torch.from_numpy(crops), affine, size).numpy()
    return moved


def _noisy(crops: Crops, rng: np.random.Generator, strength: float) -> Crops:
    worse: np.ndarray = crops + np.float32(strength) * rng.standard_normal(crops.shape, np.float32)
    return worse


def _contaminated(crops: Crops, rng: np.random.Generator, strength: float) -> Crops:
    worse: np.ndarray = crops + (rng.random(crops.shape) < strength).astype(np.float32)
    return worse


@dataclass(frozen=True)
class Worsening:
    """A way to make crops worse: what it does at a strength, and the greatest strength."""

    apply: Callable[[Crops, np.random.Generator, float], Crops]
    greatest: float


DISORDERS: dict[str, Worsening] = {
    "angle": Worsening(lambda x, rng, s: _deformed(x, rng, angle=s), 180.0),
    "shear": Worsening(lambda x, rng, s: _deformed(x, rng, shear=s), 45.0),
    "scale": Worsening(lambda x, rng, s: _deformed(x, rng, log_scale=s), 0.7),
    "shift": Worsening(lambda x, rng, s: _deformed(x, rng, shift=s), 0.3),
    "noise": Worsening(_noisy, 3.0),
    "contamination": Worsening(_contaminated, 0.6),
    "blur": Worsening(lambda x, rng, s: gaussian_filter(x, (0, s, s)).astype(np.float32), 5.0),
}
"""By name; strengths are degrees, degrees, logarithm of the scale, share of the crop's side, intensity,
share of the pixels, and pixels."""


def stress_rows(
    model: ParticleModel,
    crops: Crops,
    labels: Int[np.ndarray, " n"],
    *,
    seed: int,
    strengths: int = 12,
    batches: int = 3,
    size: int = 200,
    least: int | None = None,
    disorders: Mapping[str, Worsening] = DISORDERS,
) -> Iterator[CalibrationRow]:
    """Batches under each disorder at rising strengths, with the model's accuracy on them.

    Parameters
    ----------
    model
        The model.
    crops, labels
        Labelled crops, best ones that nothing was learnt from.
    seed
        Of batches and disorder.
    strengths
        Steps from none to the greatest.
    batches
        At each step.
    size
        Crops a batch.
    least
        Of the smallest batch, where batches shall differ, as micrographs do: then each has from this many
        crops to ``size``, drawn evenly in the logarithm.
    disorders
        By name; every one is a domain.

    Raises
    ------
    ParameterError
        If there are fewer than two crops.
    """
    if len(crops) < 2:
        raise ParameterError(f"{len(crops)} labelled crops; a stress test wants two at least")
    for place, (name, disorder) in enumerate(disorders.items()):
        rng = np.random.default_rng([seed, place])
        for step in range(strengths):
            strength = disorder.greatest * step / max(strengths - 1, 1)
            for batch in range(batches):
                n = size if least is None else round(float(np.exp(rng.uniform(*np.log([least, size])))))
                chosen = rng.choice(len(crops), n, replace=len(crops) < n)
                worse = disorder.apply(crops[chosen], rng, strength)
                label = f"{name} {strength:.3g} #{batch + 1}"
                yield batch_row(model, worse, labels[chosen], domain=name, name=label)
