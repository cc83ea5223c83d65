"""Files of crops to a model that classifies them, and back: what `passband rvae` does."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from passband.data.crop_sets import CropSet, read_crop_set
from passband.data.files import refuse_unwritable, write_whole
from passband.errors import ParameterError
from passband.learn.invariant import Answer
from passband.learn.particle_model import (
    ParticleConfig,
    ParticleModel,
    Progress,
    classify_particles,
    describe_particles,
    fit_particle_model,
    read_particle_model,
    write_particle_model,
)
from passband.learn.rvae import INVARIANCES
from passband.learn.train_rvae import REFERENCE_TRAINING

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
    run = out.with_name(out.name + ".run")
    refuse_unwritable(out)
    config = replace(config or ParticleConfig(), name=out.stem)
    model = fit_particle_model(crops, config, folder=run, progress=progress)
    digest = write_particle_model(model, out)
    for name in ("rvae.safetensors", "rvae.csv"):
        (run / name).unlink(missing_ok=True)
    if run.is_dir() and not any(run.iterdir()):
        run.rmdir()
    about = model.training
    return {
        "bundle": str(out),
        "digest": digest,
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
    training = replace(REFERENCE_TRAINING if reference else config.training, seed=seed)
    if epochs is not None and epochs > 0:
        training = replace(training, epochs=epochs)
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


def _table(model: ParticleModel, images: np.ndarray, answer: Answer) -> str:
    names = ["crop", "class", *(f"p_{c}" for c in model.classes), "distance", "rejected"]
    columns = [np.arange(len(images)), np.array(model.classes)[answer.label]]
    columns += [*answer.probabilities.T.round(5), answer.distance.round(4), answer.rejected.astype(int)]
    if model.generator is not None:
        d = describe_particles(model, images, answer=answer)
        names += ["angle_deg", "angle_spread_deg", "shift_x_px", "shift_y_px", "scale", "misfit"]
        columns += [
            v.round(4) for v in (d.angle, d.angle_spread, d.shift[:, 0], d.shift[:, 1], d.scale, d.misfit)
        ]
        names += [f"factor_{i + 1}" for i in range(d.latent.shape[1])]
        columns += list(d.latent.T.round(4))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()
