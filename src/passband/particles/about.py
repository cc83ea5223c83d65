"""What a model of particles is, in words."""

from __future__ import annotations

from passband.estimate.about import about_calibration
from passband.particles.model import ParticleModel
from passband.types import Lines


def about_particle_model(model: ParticleModel) -> Lines:
    """A classifier of particles: classes, what it learnt from, how it did on crops held out.

    Parameters
    ----------
    model
        From a file or not.

    Raises
    ------
    CalibrationError
        If its calibration cannot be used.
    """
    about = model.training
    parts = [] if model.classifier is None else ["invariant classifier"]
    if model.generator is not None:
        parts.append(f"autoencoder with {', '.join(model.generator.settings.invariances) or 'no invariance'}")
    held_out = about.get("held_out_accuracy")
    labels = zip(model.classes, about.get("labels", ()), strict=False)
    lines = [
        ("bundle", model.name),
        ("digest", model.digest or "none: not read from a file"),
        ("classifies", f"particles in crops of {model.size} x {model.size} pixels"),
        ("labelled crops", ", ".join(f"{name} {n}" for name, n in labels)),
        ("unlabelled crops", str(about.get("unlabelled", "unknown"))),
        ("parts", " and ".join(parts)),
        ("accuracy held out", "unknown: too few labels" if held_out is None else f"{held_out:.3f}"),
    ]
    return lines + about_calibration(model.calibration, particles=True)
