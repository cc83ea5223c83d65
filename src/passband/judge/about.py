"""What Passband and a detector's bundle are, in words."""

from __future__ import annotations

from collections.abc import Mapping

from passband import __version__
from passband.cavities.domains import DOMAINS
from passband.detectors.bundle import Bundle, default_bundle
from passband.errors import BundleError
from passband.estimate.about import about_calibration
from passband.judge.policy import DEFAULT_POLICY
from passband.judge.trust_map import about_map, trust_map
from passband.micrographs.readers import SUFFIXES
from passband.types import Lines
from passband.units import NM


def about_passband() -> Lines:
    """Version, readable formats, simulated domains, and the bundle that comes with the package."""
    lines = [("Passband", __version__), ("reads", " ".join(SUFFIXES))]
    lines += [(f"domain {name}", domain.about) for name, domain in DOMAINS.items()]
    try:
        return lines + about_bundle(default_bundle())
    except BundleError as e:
        return [*lines, ("bundle", f"none comes with this installation ({e})")]


def about_bundle(bundle: Bundle) -> Lines:
    """A bundle's detector, conditions of training, and calibration with its coverage.

    Parameters
    ----------
    bundle
        From a file or not.

    Raises
    ------
    CalibrationError
        If its calibration cannot be used.
    """
    count = sum(w.numel() for w in bundle.weights.values())
    lines = [
        ("bundle", bundle.name),
        ("digest", bundle.digest or "none: not read from a file"),
        ("detector", f"{bundle.detector.in_words}, {_many(count)} weights"),
        ("score threshold", f"{bundle.score_threshold:g}"),
    ]
    for name, value in bundle.training.items():
        if name == "pixel_size":
            lines.append(("pixel size", f"{value[0] / NM:.3g} to {value[1] / NM:.3g} nm in training"))
        elif name == "domains":
            lines.append(("trained on", ", ".join(dict.fromkeys(map(str, value)))))  # each once
        elif name == "held_out" and isinstance(value, Mapping):
            told = ", ".join(f"{k} {v:.2f}" for k, v in value.items() if isinstance(v, (int, float)))
            lines.append(("images held out", f"{told} in the mean"))
        elif isinstance(value, (str, int, float)):
            lines.append((name.replace("_", " "), f"{value}"))
    if classes := getattr(bundle.detector, "classes", ()):
        lines.append(("classes", ", ".join(classes)))
    known = trust_map(bundle.training)
    return lines + about_calibration(bundle.calibration) + (about_map(known, DEFAULT_POLICY) if known else [])


def _many(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
