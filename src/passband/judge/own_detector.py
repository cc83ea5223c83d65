"""A calibration without a network: what is known of how well somebody's own detector does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from passband.detections.detections import Detections
from passband.detectors.bundle import SHIPPED, Bundle
from passband.errors import BundleError
from passband.estimate.about import about_calibration
from passband.estimate.calibration import Outlook
from passband.estimate.features import detection_features, image_features
from passband.estimate.performance import estimate_scores
from passband.estimate.reasons import Moved, what_moved
from passband.estimate.records import CalibrationRecord, calibration_parts, from_record, open_calibration
from passband.judge.policy import DEFAULT_POLICY, Evidence, Policy, unusable, weigh
from passband.judge.verdict import (
    Judge,
    Verdict,
    detector_judge,
    measure_sizes,
    overfull,
    pair_of,
    refuse_other_shape,
    verdict_of,
    without_detections,
)
from passband.micrographs.micrograph import Micrograph
from passband.store.tensors import Sealed, read_sealed, write_sealed
from passband.types import Lines, Progress
from passband.units import NM

KIND = "own detector"
ANY = {
    "any detector": SHIPPED.with_name("any-detector.safetensors"),
    "any outlines": SHIPPED.with_name("any-outlines.safetensors"),
}
"""Calibrations on many detectors that ship, by their model: of objects with scores, and of outlines alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnDetector:
    """How well a detector does whose network is not here, but whose detections are given.

    Parameters
    ----------
    name
        What people call it.
    scored
        Whether its detections have scores; without, they are outlines alone.
    calibration
        Of its detections, at its threshold.
    training
        JSON values: "pixel_size" holds [low, high] in Å of the labelled images where it is known,
        "categories" the classes that it was calibrated for, or none for all.
    digest
        SHA-256 of the file it was read from; empty if it was not.
    """

    name: str
    scored: bool
    calibration: CalibrationRecord
    training: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    @property
    def score_threshold(self) -> float:
        """Detections below it do not count."""
        return float(self.calibration.settings["score_threshold"])

    @property
    def adapted(self) -> bool:
        """Whether labelled images of the detector itself are known, or of others only."""
        return self.calibration.settings["adapted_to"] is not None


def write_own_detector(own: OwnDetector, path: str | Path) -> str:
    """Write a calibration to one file, whole or not at all, and return its digest."""
    settings, arrays = calibration_parts(own.calibration)
    header = {"kind": KIND, "name": own.name, "scored": own.scored, "training": dict(own.training)}
    return write_sealed({**header, "calibration": settings}, arrays, path)


def open_own_detector(sealed: Sealed) -> OwnDetector:
    """The calibration of a file that was read.

    Raises
    ------
    BundleError
        If it cannot be understood.
    """
    try:
        calibration = open_calibration(sealed)
        if calibration is None:
            raise BundleError(f"{sealed.path}: holds no calibration")
        return OwnDetector(
            name=str(sealed.header["name"]),
            scored=bool(sealed.header["scored"]),
            calibration=calibration,
            training=sealed.header["training"],
            digest=sealed.digest,
        )
    except (KeyError, TypeError, ValueError) as e:
        raise BundleError(f"{sealed.path}: a calibration that cannot be understood: {e!r}") from e


@lru_cache(maxsize=2)
def any_detector(*, scored: bool) -> OwnDetector:
    """What is known of detectors in general.

    Parameters
    ----------
    scored
        Of those with scores, or of outlines alone.

    Examples
    --------
    >>> any_detector(scored=True).name, any_detector(scored=False).adapted
    ('any detector', False)
    """
    return open_own_detector(read_sealed(ANY["any detector" if scored else "any outlines"]))


def own_detector_judge(
    own: OwnDetector, *, policy: Policy = DEFAULT_POLICY, thickness: float | None = None
) -> Judge:
    """The judge of a detector's given detections; as `assess_given`."""

    def judge(micrograph: Micrograph, given: Detections | None, progress: Progress | None) -> Verdict:
        if given is None:
            raise without_detections(own.name)
        return assess_given(micrograph, own, given, policy=policy, thickness=thickness)

    return Judge(
        function=judge,
        name=own.name,
        digest=own.digest,
        settings={"policy": asdict(policy), "thickness": thickness},
        calibration=own.calibration,
        score_threshold=own.score_threshold,
        wants_detections=True,
    )


def bundle_judge(bundle: Bundle, *, policy: Policy = DEFAULT_POLICY, thickness: float | None = None) -> Judge:
    """The judge of a network's own answers, and of another's that are given, by what is known of any."""
    own_answers = detector_judge(bundle, policy=policy, thickness=thickness)

    def judge(micrograph: Micrograph, given: Detections | None, progress: Progress | None) -> Verdict:
        if given is None:
            return own_answers(micrograph, progress=progress)
        any_ = any_detector(scored=given.scored)
        return assess_given(micrograph, any_, given, policy=policy, thickness=thickness)

    return replace(own_answers, function=judge)


def assess_given(
    micrograph: Micrograph,
    own: OwnDetector,
    detections: Detections,
    *,
    policy: Policy = DEFAULT_POLICY,
    thickness: float | None = None,
) -> Verdict:
    """Judge detections of a detector by what is known of it.

    Parameters
    ----------
    micrograph
        The image.
    own
        What is known of the detector.
    detections
        What it found; those below its threshold, and of other classes than it was calibrated for, are left
        out.
    policy
        Thresholds of the verdict.
    thickness
        Of the foil in Å, for the swelling.

    Returns
    -------
    Verdict
        Without estimates where the detections have no scores and the calibration is of detections that do.

    Raises
    ------
    DetectionsError
        If the detections were made on an image of another shape.
    """
    findings = unusable(micrograph, policy)
    refuse_other_shape(micrograph, detections)
    kinds = own.training.get("categories")
    if kinds and detections.categories is not None:
        detections = detections.of(kinds)
    threshold = max(own.score_threshold, detections.score_threshold)
    found = detections.above(threshold) if own.scored and detections.scored else detections
    sizes = measure_sizes(found, micrograph.pixel_size, thickness)
    outlook: Outlook | None = None
    if not findings:
        moved: tuple[Moved, ...] = ()
        if own.scored == detections.scored and (own.scored or own.adapted):
            outlook, moved = _outlook(micrograph, found, own)
        evidence = Evidence(
            detections=found,
            outlook=outlook,
            bundle_name=own.name,
            own="adapted" if own.adapted else "any",
            pixel_size=micrograph.pixel_size,
            trained_pixel_size=pair_of(own.training.get("pixel_size")),
            overfull=overfull(sizes),
            moved=moved,
        )
        findings = weigh(evidence, policy)
    return verdict_of(micrograph, findings, found, outlook, sizes)


def without_scores(features: Mapping[str, float]) -> dict[str, float]:
    """Features of outlines alone: none of those that scores decide.

    Examples
    --------
    >>> without_scores({"share_0_9": 1.0, "mean_score": 1.0, "count": 3.0})
    {'count': 3.0}
    """
    of_scores = ("share_", "mean_score", "std_score", "image_confidence")
    return {name: value for name, value in features.items() if not name.startswith(of_scores)}


def about_own_detector(own: OwnDetector) -> Lines:
    """What a calibration without a network is, in words."""
    lines = [
        ("calibration of", f"{own.name}, {'with scores' if own.scored else 'outlines without scores'}"),
        ("digest", own.digest or "none: not read from a file"),
        ("score threshold", f"{own.score_threshold:g}"),
        ("classes", ", ".join(own.training.get("categories") or ()) or "all"),
    ]
    if (sizes := pair_of(own.training.get("pixel_size"))) is not None:
        lines.append(("pixel size", f"{sizes[0] / NM:.3g} to {sizes[1] / NM:.3g} nm of the labelled images"))
    return lines + about_calibration(own.calibration)


def _outlook(
    micrograph: Micrograph, found: Detections, own: OwnDetector
) -> tuple[Outlook, tuple[Moved, ...]]:
    calibration = from_record(own.calibration)
    known = {**detection_features(found), **image_features(micrograph)}
    wanted = {name: known[name] for name in calibration.features}
    outlook = estimate_scores(calibration, wanted)
    return outlook, what_moved(calibration, np.array(list(wanted.values()))) if len(found) else ()
