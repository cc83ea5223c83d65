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

__version__ = "0.1.0"

PUBLIC = {
    "Bundle": "passband.detectors.bundle",
    "ConditionRanges": "passband.optics.conditions",
    "Detections": "passband.detections.detections",
    "ImagingConditions": "passband.optics.conditions",
    "Micrograph": "passband.micrographs.micrograph",
    "PassbandError": "passband.errors",
    "Policy": "passband.judge.policy",
    "SpecimenRanges": "passband.hrtem.specimen",
    "Verdict": "passband.judge.verdict",
    "assess": "passband.kinds",
    "build_specimen": "passband.hrtem.specimen",
    "default_bundle": "passband.detectors.bundle",
    "detect": "passband.detectors.infer",
    "draw_cavities": "passband.cavities.domains",
    "draw_specimen": "passband.hrtem.specimen",
    "exit_wave": "passband.hrtem.scattering",
    "fit_thon_rings": "passband.optics.thon",
    "open_dataset": "passband.hrtem.dataset",
    "read_bundle": "passband.detectors.bundle",
    "read_detections": "passband.detections.files",
    "read_micrograph": "passband.micrographs.readers",
    "simulate_cavities": "passband.cavities.image",
    "simulate_micrographs": "passband.hrtem.imaging",
    "write_bundle": "passband.detectors.bundle",
}
__all__ = sorted(PUBLIC)


def __getattr__(name: str) -> object:
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'passband' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
