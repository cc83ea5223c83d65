"""Particle models in files: numbers and settings only, nothing of a file is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from passband.errors import BundleError
from passband.estimate.records import calibration_parts, open_calibration
from passband.particles.model import ParticleModel
from passband.particles.networks.invariant import ClassifierSettings, InvariantClassifier
from passband.particles.networks.rvae import RVAE, RVAESettings
from passband.store.tensors import Sealed, read_sealed, write_sealed

_CLASSIFIER, _GENERATOR = "classifier.", "generator."


def write_particle_model(model: ParticleModel, path: str | Path) -> str:
    """Write a model to one file, whole or not at all, and return its digest."""
    settings, tensors = calibration_parts(model.calibration)
    header: dict[str, Any] = {"kind": "particles", "name": model.name, "classes": list(model.classes)}
    header |= {"training": dict(model.training), "calibration": settings}
    for prefix, part in ((_CLASSIFIER, model.classifier), (_GENERATOR, model.generator)):
        header[prefix] = None if part is None else part.settings.to_dict()
        if part is not None:
            tensors |= {prefix + k: v.detach().cpu().contiguous() for k, v in part.state_dict().items()}
    return write_sealed(header, tensors, path)


def read_particle_model(path: str | Path) -> ParticleModel:
    """Read a model; no code of the file is run.

    Raises
    ------
    BundleError
        If the file is missing, damaged, of a newer format, or a bundle of another kind.
    """
    return open_particle_model(read_sealed(path))


def open_particle_model(sealed: Sealed) -> ParticleModel:
    """The model of a file that was read; as `read_particle_model`."""
    path, header = sealed.path, sealed.header
    if sealed.kind != "particles":
        raise BundleError(f"{path}: a detector's bundle; wanted one that classifies particles")
    try:
        classes = tuple(str(c) for c in header["classes"])
        classifier = generator = None
        if (values := header[_CLASSIFIER]) is not None:
            classifier = InvariantClassifier(ClassifierSettings.from_dict(values), len(classes))
            classifier.load_state_dict(sealed.under(_CLASSIFIER))
            classifier.eval()
        if (values := header[_GENERATOR]) is not None:
            generator = RVAE(RVAESettings.from_dict(values))
            generator.load_state_dict(sealed.under(_GENERATOR))
            generator.eval()
        return ParticleModel(
            name=str(header["name"]),
            classes=classes,
            classifier=classifier,
            generator=generator,
            training=header["training"],
            calibration=open_calibration(sealed),
            digest=sealed.digest,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as e:
        raise BundleError(f"{path}: a bundle whose settings cannot be understood: {e!r}") from e
