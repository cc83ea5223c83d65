"""The kinds of bundle: how each is read, judges a micrograph, and is told in words.

To add a kind, add an entry to `KINDS`: nothing else asks what kind a bundle is of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle, bundle_file, default_bundle, open_bundle
from passband.errors import BundleError, ParameterError
from passband.judge.about import about_bundle
from passband.judge.own_detector import (
    KIND,
    OwnDetector,
    about_own_detector,
    bundle_judge,
    open_own_detector,
    own_detector_judge,
)
from passband.judge.policy import DEFAULT_POLICY, Policy
from passband.judge.verdict import Judge, Verdict
from passband.micrographs.micrograph import Micrograph
from passband.particles.about import about_particle_model
from passband.particles.bundle import open_particle_model
from passband.particles.judge import particle_judge
from passband.particles.model import ParticleModel
from passband.store.tensors import read_sealed
from passband.types import Lines

AnyBundle = Bundle | ParticleModel | OwnDetector


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of bundle.

    Parameters
    ----------
    type
        Of the bundles.
    open
        From a file that was read to the bundle.
    judge
        From a bundle, a policy and a foil's thickness to what judges micrographs by it.
    about
        What a bundle is, in words.
    """

    type: type
    open: Callable[..., AnyBundle]
    judge: Callable[..., Judge]
    about: Callable[[Any], Lines]


KINDS: dict[str, Kind] = {
    "detector": Kind(type=Bundle, open=open_bundle, judge=bundle_judge, about=about_bundle),
    KIND: Kind(type=OwnDetector, open=open_own_detector, judge=own_detector_judge, about=about_own_detector),
    "particles": Kind(
        type=ParticleModel, open=open_particle_model, judge=particle_judge, about=about_particle_model
    ),
}


def read_any(path: str | Path) -> AnyBundle:
    """Read a bundle of whichever kind; no code of the file is run.

    Raises
    ------
    BundleError
        If the file is missing, damaged, of a newer format, or no bundle.
    """
    sealed = read_sealed(path)
    return KINDS.get(sealed.kind, KINDS["detector"]).open(sealed)


def about_any(bundle: AnyBundle) -> Lines:
    """What a bundle of whichever kind is, in words."""
    return _kind(bundle).about(bundle)


def judge_of(bundle: AnyBundle, *, policy: Policy = DEFAULT_POLICY, thickness: float | None = None) -> Judge:
    """What judges micrographs by a bundle of whichever kind.

    Parameters
    ----------
    bundle
        Detector and calibration, or a classifier of particles.
    policy
        Thresholds of the verdict.
    thickness
        Of the foil in Å, for the swelling.

    Raises
    ------
    ParameterError
        If the thickness is not positive, or the bundle of no known kind.
    """
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        raise ParameterError(f"foil thickness must be a positive number of Å, got {thickness!r}")
    return _kind(bundle).judge(bundle, policy=policy, thickness=thickness)


@dataclass(frozen=True, kw_only=True)
class JudgeFile:
    """Makes the judge of a bundle's file, here and in other processes.

    Parameters
    ----------
    path
        Of the bundle; None for the one that ships.
    policy
        Thresholds of the verdict.
    thickness
        Of the foil in Å, for the swelling.
    digest
        That the bundle must have where another process reads it.
    """

    path: Path | None
    policy: Policy = DEFAULT_POLICY
    thickness: float | None = None
    digest: str | None = None

    def __call__(self) -> Judge:
        """The judge.

        Raises
        ------
        BundleError
            If the file is no bundle, or another one than where this was made.
        """
        path = None if self.path is None else bundle_file(self.path).absolute()
        bundle = default_bundle() if path is None else read_any(path)
        if self.digest not in (None, bundle.digest):
            raise BundleError(f"{self.path or bundle.name} is another bundle where a worker reads it")
        judge = judge_of(bundle, policy=self.policy, thickness=self.thickness)
        return replace(judge, source=replace(self, path=path, digest=bundle.digest))


def assess(
    micrograph: Micrograph,
    bundle: AnyBundle,
    *,
    detections: Detections | None = None,
    policy: Policy = DEFAULT_POLICY,
    thickness: float | None = None,
) -> Verdict:
    """Detect, estimate the scores without labels, and judge.

    Parameters
    ----------
    micrograph
        The image.
    bundle
        Detector and calibration; the calibration of somebody's own detector, without a network; or a
        classifier of particles, which are found as its library's were, and whose F1 is the share that gets
        its right class.
    detections
        Of another detector, to be judged instead of the bundle's, by its own calibration or else by what
        is known of detectors in general; with a classifier, the particles that it is to classify.
    policy
        Thresholds of the verdict.
    thickness
        Of the foil in Å, for the swelling.

    Returns
    -------
    Verdict
        The same for the same arguments.

    Raises
    ------
    ParameterError
        If every pixel has the same value, so that there is no image; or the thickness is not positive.
    DetectionsError
        If the detections were made on an image of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detectors.bundle import default_bundle
    >>> noise = np.random.default_rng(0).normal(100, 10, (128, 128)).astype(np.float32)
    >>> judged = assess(Micrograph(pixels=noise, name="noise.tif"), default_bundle())
    >>> judged.verdict == "trust", len(judged.reasons) > 0
    (False, True)
    """
    return judge_of(bundle, policy=policy, thickness=thickness)(micrograph, detections)


def _kind(bundle: AnyBundle) -> Kind:
    for kind in KINDS.values():
        if isinstance(bundle, kind.type):
            return kind
    raise ParameterError(f"wanted a bundle of a kind among {sorted(KINDS)}, got {type(bundle).__name__}")
