"""The judgement on a micrograph's particles: whether the classes they get can be trusted."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from passband.detections.detections import Detections
from passband.errors import ParameterError
from passband.estimate.performance import estimate_scores
from passband.estimate.records import from_record
from passband.judge.policy import DEFAULT_POLICY, Evidence, Policy, unusable, weigh
from passband.judge.verdict import Judge, Verdict, measure_sizes, verdict_of
from passband.micrographs.micrograph import Micrograph
from passband.particles.batches import batch_features
from passband.particles.extraction.crop import cut_particles
from passband.particles.extraction.find import ExtractionSettings, find_particles
from passband.particles.extraction.outlines import labels_of_detections
from passband.particles.model import ParticleModel, classify_particles
from passband.types import Progress


def particle_judge(
    model: ParticleModel, *, policy: Policy = DEFAULT_POLICY, thickness: float | None = None
) -> Judge:
    """The judge of a classifier's answers; as `assess_particles`. Particles have no foil's thickness."""

    def judge(micrograph: Micrograph, given: Detections | None, _: Progress | None) -> Verdict:
        return assess_particles(micrograph, model, detections=given, policy=policy)

    return Judge(
        function=judge,
        name=model.name,
        digest=model.digest,
        settings={"policy": asdict(policy), "thickness": thickness},
        calibration=model.calibration,
    )


def assess_particles(
    micrograph: Micrograph,
    model: ParticleModel,
    *,
    detections: Detections | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> Verdict:
    """Find particles, classify them, estimate the share that gets its right class, and judge.

    Parameters
    ----------
    micrograph
        The image; particles are found in it as the library's were.
    model
        The classifier. The F1 of a verdict is the share that gets its right class.
    detections
        The particles that it is to classify, instead of those that are found.
    policy
        Thresholds of the verdict.

    Returns
    -------
    Verdict
        The same for the same arguments.

    Raises
    ------
    ParameterError
        If the model was fitted to crops, so that it does not know how to find particles.
    """
    findings, outlook = unusable(micrograph, policy), None
    found = Detections(image_shape=micrograph.shape, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    if not findings:
        settings = _extraction(model)
        outlines = (
            find_particles(micrograph, settings) if detections is None else labels_of_detections(detections)
        )
        particles = cut_particles(micrograph, outlines, settings)
        strangers = 0
        if len(particles):
            answer = classify_particles(model, particles.crops)
            strangers = int(answer.rejected.sum())
            sides = [particles.table[f"box_{side}"] for side in ("x0", "y0", "x1", "y1")]
            found = Detections(
                image_shape=micrograph.shape,
                boxes_xyxy=np.stack(sides, 1).astype(float),
                scores=answer.probabilities.max(1).astype(float),
            )
            if model.calibration is not None:
                features = batch_features(model, particles.crops, answer=answer)
                outlook = estimate_scores(from_record(model.calibration), features)
        evidence = Evidence(
            detections=found,
            outlook=outlook,
            bundle_name=model.name,
            pixel_size=micrograph.pixel_size,
            strangers=strangers,
        )
        findings = weigh(evidence, policy)
    return verdict_of(micrograph, findings, found, outlook, measure_sizes(found, micrograph.pixel_size, None))


def _extraction(model: ParticleModel) -> ExtractionSettings:
    """How the particles that a model learnt from were found."""
    about = model.training.get("about", {})
    if "extraction" not in about:
        raise ParameterError(
            f"{model.name} was fitted to crops, not to a library, so it does not know how to find particles "
            "in a micrograph; fit it with `passband particles fit`, or classify crops with "
            "`passband rvae classify`"
        )
    return ExtractionSettings(**about["extraction"])
