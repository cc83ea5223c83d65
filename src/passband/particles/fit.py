"""Labelled and unlabelled crops to a particle model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from passband.errors import ParameterError
from passband.particles.bundle import write_particle_model
from passband.particles.crop_sets import CropSet
from passband.particles.model import ParticleModel, grey
from passband.particles.networks.fit_invariant import fit_classifier
from passband.particles.networks.harmonics import HarmonicSettings
from passband.particles.networks.invariant import ClassifierSettings, Nuisances, classify_crops
from passband.particles.networks.rvae import RVAE, RVAESettings, reference_settings
from passband.particles.networks.train_rvae import REFERENCE_TRAINING, Epoch, RVAETraining, train_rvae
from passband.store.files import refuse_unwritable
from passband.types import Progress

_CONCENTRATION = 4.0  # of angles about the one that the correlation with a template gives: 30 degrees


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
        Of the autoencoder; if not given, the pyroVED recipe for the reference, else the defaults.
    steps, pool
        Of the classifier: training steps, and deformed crops that it learns from.
    seed
        Of everything drawn.
    """

    name: str = "particles"
    reference: bool = False
    generative: bool = True
    invariances: tuple[str, ...] = ("rotation", "translation", "scale")
    latent: int = 2
    nuisances: Nuisances = field(default=Nuisances())
    training: RVAETraining | None = None
    steps: int = 1200
    pool: int = 12_800
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reference and not self.generative:
            raise ParameterError(
                "the reference's classifier is part of its autoencoder: it cannot go without"
            )

    @property
    def recipe(self) -> RVAETraining:
        """How the autoencoder is trained.

        Examples
        --------
        >>> ParticleConfig(reference=True, seed=3).recipe == replace(REFERENCE_TRAINING, seed=3)
        True
        """
        return self.training or replace(
            REFERENCE_TRAINING if self.reference else RVAETraining(), seed=self.seed
        )


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
                pool=config.pool,
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
    generator, recipe = None, config.recipe
    if config.generative:
        generator = trained = RVAE(settings)

        def tell(epoch: Epoch) -> None:
            report("train the autoencoder", epoch.number, recipe.epochs)
            if on_epoch:
                on_epoch(trained, epoch)

        log = train_rvae(
            generator,
            torch.from_numpy(grey(crops.labelled)),
            torch.from_numpy(crops.labels),
            torch.from_numpy(grey(unlabelled)),
            recipe,
            probabilities=None if answer is None else torch.from_numpy(answer.probabilities),
            folder=folder,
            on_epoch=tell,
        )
        generator.eval()
        about |= {"epochs": len(log), "training": asdict(recipe)}
    return ParticleModel(
        name=config.name, classes=crops.classes, classifier=classifier, generator=generator, training=about
    )


def fit_into(
    out: str | Path,
    crops: CropSet,
    config: ParticleConfig,
    *,
    finish: Callable[[ParticleModel], ParticleModel] | None = None,
    progress: Progress | None = None,
) -> ParticleModel:
    """Fit a model and write its bundle.

    Until it is written, a folder beside it holds the checkpoint: a run that is killed while the autoencoder
    trains goes on from there when it is run again.

    Parameters
    ----------
    out
        File of the bundle.
    crops, config, progress
        As for `fit_particle_model`.
    finish
        What to make of the model before it is written.

    Returns
    -------
    ParticleModel
        With the digest of the file.

    Raises
    ------
    PassbandError
        If the crops cannot be learnt from, the file cannot be written, or the folder holds the checkpoint
        of another run.
    """
    out = Path(out)
    refuse_unwritable(out)
    beside = out.with_name(f"{out.name}.training")
    model = fit_particle_model(crops, config, folder=beside, progress=progress)
    model = finish(model) if finish else model
    digest = write_particle_model(model, out)
    for left in beside.glob("rvae.*"):
        left.unlink()
    with contextlib.suppress(OSError):  # not there, or a person keeps something in it
        beside.rmdir()
    return replace(model, digest=digest)


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
