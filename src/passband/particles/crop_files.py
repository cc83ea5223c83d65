"""Files of crops to a model that classifies them, and back: what `passband rvae` does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import ParameterError
from passband.particles.bundle import read_particle_model
from passband.particles.crop_sets import CropSet, read_crop_set
from passband.particles.fit import ParticleConfig, fit_into
from passband.particles.model import ParticleModel, classify_particles, describe_particles
from passband.particles.networks.invariant import Classification
from passband.particles.networks.rvae import INVARIANCES
from passband.store.columns import columns_csv
from passband.store.files import write_whole
from passband.types import Progress

Summary = dict[str, Any]
"""JSON values."""


def fit_bundle(
    data: str | Path,
    out: str | Path,
    *,
    config: ParticleConfig | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Fit a model to a file of crops and write its bundle.

    Parameters
    ----------
    data
        For `read_crop_set`, with labelled crops.
    out
        The bundle; a checkpoint stands beside it until it is written, and a killed run goes on from there.
    config
        What to fit; ours if not given.
    progress
        Called as work goes on.

    Returns
    -------
    dict
        JSON values: the bundle's path and digest, classes, numbers of crops, accuracy held out.
    """
    out = Path(out)
    crops = read_crop_set(data)
    model = fit_into(out, crops, replace(config or ParticleConfig(), name=out.stem), progress=progress)
    about = model.training
    return {
        "bundle": str(out),
        "digest": model.digest,
        "classes": list(model.classes),
        "labelled": len(crops.labelled),
        "unlabelled": about["unlabelled"],
        "pseudo_labelled": about.get("pseudo_labelled"),
        "held_out_accuracy": about.get("held_out_accuracy"),
        "epochs": about.get("epochs", 0),
    }


def choose_config(
    *, epochs: int | None, seed: int, reference: bool = False, invariances: str | None = None
) -> ParticleConfig:
    """The configuration that a command's options ask for.

    Examples
    --------
    >>> choose_config(epochs=0, seed=1).generative
    False
    """
    config = ParticleConfig(seed=seed, reference=reference)
    training = replace(config.recipe, epochs=epochs) if epochs else None
    if invariances is None:
        chosen = INVARIANCES[:2] if reference else config.invariances
    else:
        chosen = tuple(i.strip() for i in invariances.split(",") if i.strip() not in ("", "none"))
    return replace(config, training=training, generative=epochs != 0, invariances=chosen)


def classify_file(bundle: str | Path, data: str | Path, *, table: str | Path | None = None) -> Summary:
    """Classify the test crops of a file, or its unlabelled ones if it has none.

    Parameters
    ----------
    bundle
        Of a particle model.
    data
        For `read_crop_set`.
    table
        CSV to write: a row a crop with its class, probabilities, distance, pose and factors.

    Returns
    -------
    dict
        JSON values: ``n``, ``part`` ("test" or "unlabelled"), ``counts`` by class, ``mean_probability``,
        ``rejected`` (share), and where truth is there ``accuracy`` and ``per_class``. Crops that are of no
        class (truth -1) count as right if they are rejected.
    """
    model, crops = read_particle_model(bundle), read_crop_set(data)
    part, images, truth = _chosen(crops, Path(data))
    answer = classify_particles(model, images)
    if table is not None:
        write_whole(table, _table(model, images, answer))
    counts = np.bincount(answer.label, minlength=len(model.classes)).tolist()
    summary: Summary = {
        "n": len(images),
        "part": part,
        "counts": dict(zip(model.classes, counts, strict=True)),
        "mean_probability": _mean(answer.probabilities.max(1, initial=0)),
        "rejected": _mean(answer.rejected),
    }
    if truth is not None:
        if truth.size and truth.max() >= len(model.classes):
            raise ParameterError(
                f"{data} has labels up to {truth.max()}, but {bundle} knows {len(model.classes)} classes"
            )
        right = np.where(truth < 0, answer.rejected, answer.label == truth)
        names = [*enumerate(model.classes), *([(-1, "none of them")] if (truth < 0).any() else [])]
        summary |= {"accuracy": _mean(right)}
        summary |= {"per_class": {name: _mean(right[truth == k]) for k, name in names}}
    return summary


def summary_to_json(summary: Summary) -> str:
    """A summary as JSON, with a newline."""
    return json.dumps(summary, indent=2) + "\n"


def summary_in_words(summary: Summary) -> str:
    """A summary as lines, a name and a value each.

    Examples
    --------
    >>> print(summary_in_words({"n": 2, "accuracy": 0.98765, "counts": {"a": 2}, "digest": None}))
    n         2
    accuracy  0.988
    counts    a 2
    """
    width = max(map(len, summary))
    lines = []
    for name, value in summary.items():
        if value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {_word(v)}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        lines.append(f"{name.replace('_', ' '):{width}}  {_word(value)}")
    return "\n".join(lines)


def _word(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 6) if values.size else None


def _chosen(crops: CropSet, path: Path) -> tuple[str, np.ndarray, np.ndarray | None]:
    if crops.test is not None:
        return "test", crops.test, crops.test_truth
    if crops.unlabelled is not None:
        return "unlabelled", crops.unlabelled, crops.unlabelled_truth
    raise ParameterError(f"{path}: nothing to classify: wanted X_test or X_unl")


def _table(model: ParticleModel, images: np.ndarray, answer: Classification) -> str:
    columns = {"crop": np.arange(len(images)), "class": np.array(model.classes)[answer.label]}
    columns |= {f"p_{name}": answer.probabilities[:, k] for k, name in enumerate(model.classes)}
    columns |= {"distance": answer.distance, "rejected": answer.rejected.astype(int)}
    if model.generator is not None:
        d = describe_particles(model, images, answer=answer)
        columns |= {"angle_deg": d.angle, "angle_spread_deg": d.angle_spread}
        columns |= {"shift_x_px": d.shift[:, 0], "shift_y_px": d.shift[:, 1], "scale": d.scale}
        columns |= {"misfit": d.misfit}
        columns |= {f"factor_{j + 1}": d.latent[:, j] for j in range(d.latent.shape[1])}
    return columns_csv(columns)
