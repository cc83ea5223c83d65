"""Named numbers that say how a particle model answers on a batch of crops, without any label.

Its accuracy is the micro-averaged F1: where every crop gets one class, precision and recall over all
classes together are the same number. So the estimators of F1 serve here as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch.nn.functional import avg_pool2d

from passband.errors import CalibrationError
from passband.estimate.performance import fit_calibration
from passband.estimate.records import to_record
from passband.estimate.regressor import BATCH_FEATURES
from passband.estimate.rows import CalibrationRow
from passband.learn.particle_model import (
    ParticleModel,
    classify_particles,
    describe_particles,
    explained_best,
)
from passband.measure.matching import OPTIMAL

_SURE = 0.9


def batch_features(model: ParticleModel, crops: Float32[np.ndarray, "n y x"]) -> dict[str, float]:
    """Statistics of a model's answer on crops.

    Parameters
    ----------
    model
        The model.
    crops
        Of its size, one or more; about 200 make a steady estimate.

    Returns
    -------
    dict of str to float
        ``count``, and `BATCH_FEATURES`: mean and standard deviation of the greatest class probability;
        share of crops above 0.9; mean entropy in nats; share whose class stays when the crop is smoothed
        over 3 x 3 pixels; mean logarithm of the distance and share rejected; the autoencoder's mean misfit
        (logarithm), mean squared latent factor (logarithm), and the share of crops that it, too, explains
        best by the class they were given; 0 without one.

    Raises
    ------
    ParameterError
        If the crops do not fit the model, or there are none.
    """
    answer = classify_particles(model, crops)
    if not len(crops):
        raise CalibrationError("no crops came; an estimate wants one at least")
    best = answer.probabilities.max(1)
    entropy = -(answer.probabilities * np.log(answer.probabilities + 1e-12)).sum(1)
    smooth = avg_pool2d(torch.from_numpy(crops)[:, None], 3, 1, 1, count_include_pad=False)[:, 0].numpy()
    again = classify_particles(model, smooth)
    misfit = latent = generated = 0.0
    if model.generator is not None:
        d = describe_particles(model, crops, answer=answer)
        misfit = float(np.log(d.misfit.clip(1e-6)).mean())
        latent = float(np.log1p((d.latent**2).mean(1)).mean())
        generated = float((explained_best(model, crops) == answer.label).mean())
    values = (
        float(best.mean()),
        float(best.std()),
        float((best > _SURE).mean()),
        float(entropy.mean()),
        float((again.label == answer.label).mean()),
        float(np.log(answer.distance + 1e-3).mean()),
        float(answer.rejected.mean()),
        misfit,
        latent,
        generated,
    )
    return {"count": float(len(crops)), **dict(zip(BATCH_FEATURES, values, strict=True))}


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
    said = classify_particles(model, crops).label
    k = len(model.classes)
    table = np.zeros((k, k))
    np.add.at(table, (labels, said), 1)
    right = table.diagonal()
    known, given = table.sum(1), table.sum(0)
    return CalibrationRow(
        features=batch_features(model, crops),
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
