"""Passband tells an electron microscopist whether a model's answer on a micrograph can be trusted.

The public names are the keys of `PUBLIC`. Each is imported when it is first used, so that
``import passband`` and ``passband --help`` are quick.

Examples
--------
>>> import passband
>>> "assess" in passband.__all__
True
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0"

PUBLIC = {
    "Bundle": "passband.detectors.bundle",
    "ConditionRanges": "passband.optics.conditions",
    "Detections": "passband.detections.detections",
    "ExtractionSettings": "passband.particles.extraction.find",
    "ImagingConditions": "passband.optics.conditions",
    "Micrograph": "passband.micrographs.micrograph",
    "ParticleModel": "passband.particles.model",
    "PassbandError": "passband.errors",
    "Policy": "passband.judge.policy",
    "SpecimenRanges": "passband.hrtem.specimen.specimen",
    "Verdict": "passband.judge.verdict",
    "assess": "passband.kinds",
    "build_specimen": "passband.hrtem.specimen.specimen",
    "calibrate": "passband.judge.calibrate",
    "classify_library": "passband.particles.library.fit",
    "classify_particles": "passband.particles.model",
    "default_bundle": "passband.detectors.bundle",
    "detect": "passband.detectors.infer",
    "draw_cavities": "passband.cavities.draws",
    "draw_specimen": "passband.hrtem.specimen.specimen",
    "evaluate": "passband.estimate.evaluation.evaluate",
    "exit_wave": "passband.hrtem.wave.scattering",
    "extend_library": "passband.particles.library.library",
    "find_particles": "passband.particles.extraction.find",
    "fit_library": "passband.particles.library.fit",
    "fit_thon_rings": "passband.optics.thon",
    "label_library": "passband.particles.library.labels",
    "open_dataset": "passband.hrtem.dataset.dataset",
    "open_library": "passband.particles.library.library",
    "read_bundle": "passband.detectors.bundle",
    "read_detections": "passband.detections.files",
    "read_micrograph": "passband.micrographs.readers",
    "read_particle_model": "passband.particles.bundle",
    "report_library": "passband.particles.library.fit",
    "simulate_cavities": "passband.cavities.image",
    "simulate_micrographs": "passband.hrtem.wave.imaging",
    "write_bundle": "passband.detectors.bundle",
    "write_particle_model": "passband.particles.bundle",
}
__all__ = sorted(PUBLIC)


def __getattr__(name: str) -> object:
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'passband' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
