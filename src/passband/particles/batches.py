"""Named numbers that say how a particle model answers on a batch of crops, without any label.

Its accuracy is the micro-averaged F1: where every crop gets one class, precision and recall over all
classes together are the same number. So the estimators of F1 serve here as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Int

from passband.detections.matching import OPTIMAL
from passband.errors import CalibrationError
from passband.estimate.performance import fit_calibration
from passband.estimate.records import to_record
from passband.estimate.regressor import BATCH_FEATURES
from passband.estimate.rows import CalibrationRow
from passband.particles.model import ParticleModel, classify_particles
from passband.particles.networks.invariant import Classification, Nuisances, roughness
from passband.particles.networks.warping import Affine, deform

_PART = 0.6
_TURN = 37.0  # degrees; then in quarter turns from there
_SIGNS = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])


def batch_features(
    model: ParticleModel, crops: Float32[np.ndarray, "n y x"], *, answer: Classification | None = None
) -> dict[str, float]:
    """Statistics of a model's answer on crops.

    Parameters
    ----------
    model
        The model.
    crops
        Of its size, one or more; about 200 make a steady estimate.
    answer
        Theirs, if it is known already.

    Returns
    -------
    dict of str to float
        ``count``; ``mean_probability``, the mean of the greatest class probability; and `BATCH_FEATURES`,
        the shares of answers that stay when each crop is disturbed once more, in four ways each: moved by
        whole pixels along both axes; turned, sheared and magnified; given white noise as strong as it has
        already. Moves and deformations are 0.6 of what the classifier learnt to bear
        (`passband.particles.networks.invariant.Nuisances`).

    Raises
    ------
    CalibrationError
        If there are no crops.
    ParameterError
        If the crops do not fit the model.
    """
    answer = answer or classify_particles(model, crops)
    if not len(crops):
        raise CalibrationError("no crops came; an estimate wants one at least")
    values = [np.mean([_same(model, c, answer.label) for c in again]) for again in _disturbed(model, crops)]
    return {
        "count": float(len(crops)),
        "mean_probability": float(answer.probabilities.max(1).mean()),
        **{name: float(v) for name, v in zip(BATCH_FEATURES, values, strict=True)},
    }


def _same(model: ParticleModel, crops: Float32[np.ndarray, "n y x"], label: Int[np.ndarray, " n"]) -> float:
    return float((classify_particles(model, crops).label == label).mean())


def _disturbed(
    model: ParticleModel, crops: Float32[np.ndarray, "n y x"]
) -> Iterator[Iterator[Float32[np.ndarray, "n y x"]]]:
    """The crops in the three ways that `BATCH_FEATURES` names, four times each; alike for all crops."""
    size = crops.shape[1]
    images, one = torch.from_numpy(crops), np.ones(len(crops))
    known = Nuisances() if model.classifier is None else model.classifier.settings.nuisances
    step = max(1, round(_PART * known.shift * size))

    def deformed(place: int) -> Float32[np.ndarray, "n y x"]:
        a, b, c = _PART * _SIGNS[place] * (known.shear, known.shear, known.scale)
        affine = Affine(
            angle=(_TURN + 90 * place) * one, shear_x=a * one, shear_y=b * one, scale=(1 + c) * one,
            shift_x=0 * one, shift_y=0 * one,
        )  # fmt: skip
        moved: np.ndarray = deform(images, affine, size).numpy()
        return moved

    def shifted(place: int) -> Float32[np.ndarray, "n y x"]:
        down, right = step * _SIGNS[place, :2]
        moved = np.zeros_like(crops)
        ends = [(max(d, 0), size + min(d, 0)) for d in (down, right)]
        (top, bottom), (left, end) = ends
        moved[:, top:bottom, left:end] = crops[:, top - down : bottom - down, left - right : end - right]
        return moved

    with torch.inference_mode():
        noise = model.classifier.noise(images) if model.classifier else (roughness(images) / 4).sqrt()
    spread = noise.numpy()[:, None, None]
    rng = np.random.default_rng(0)
    yield (shifted(i) for i in range(len(_SIGNS)))
    yield (deformed(i) for i in range(len(_SIGNS)))
    yield (crops + spread * rng.standard_normal((size, size), np.float32) for _ in _SIGNS)


def batch_row(
    model: ParticleModel,
    crops: Float32[np.ndarray, "n y x"],
    labels: Int[np.ndarray, " n"],
    *,
    domain: str,
    name: str,
) -> CalibrationRow:
    """Features of a batch beside the accuracy that its labels give, and precision and recall by class.

    Parameters
    ----------
    model
        The model.
    crops, labels
        A batch with its classes.
    domain
        The disorder, or where the crops come from.
    name
        Of the batch.
    """
    answer = classify_particles(model, crops)
    k = len(model.classes)
    table = np.zeros((k, k))
    np.add.at(table, (labels, answer.label), 1)
    right = table.diagonal()
    known, given = table.sum(1), table.sum(0)
    return CalibrationRow(
        features=batch_features(model, crops, answer=answer),
        f1=float(right.sum() / max(known.sum(), 1)),
        precision=float(np.mean((right / given.clip(1))[known > 0])),
        recall=float(np.mean((right / known.clip(1))[known > 0])),
        domain=domain,
        image=name,
    )


def calibrate_particles(
    model: ParticleModel, rows: Sequence[CalibrationRow], *, coverage: float = 0.9, seed: int = 0
) -> ParticleModel:
    """The model with an estimator of its accuracy, fitted to batches whose labels are known.

    Parameters
    ----------
    model
        The model.
    rows
        From `batch_row`; the intervals are for disorders that were left out, where there are two at least.
    coverage
        Of the intervals.
    seed
        Of the fit.

    Raises
    ------
    CalibrationError
        If the rows are too few.
    """
    fitted = fit_calibration(
        rows, score_threshold=0.0, matching=OPTIMAL, coverage=coverage, seed=seed, model="particles"
    )
    return replace(model, calibration=to_record(fitted))
