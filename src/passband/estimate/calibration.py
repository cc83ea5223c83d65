"""What a calibration is, and what it says: the values that fitting, adapting and asking pass around."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from passband.detections.matching import MatchingRule
from passband.errors import CalibrationError
from passband.estimate.blend import Blend
from passband.estimate.effects import DomainEffect, LabelledRows
from passband.estimate.in_domain import InDomain
from passband.estimate.intervals import (
    NEW_DOMAINS,
    NEW_IMAGES,
    Reach,
)
from passband.estimate.novelty import Reference
from passband.estimate.regressor import (
    RECIPES,
    TARGETS,
    Regressor,
    ScoreTable,
)
from passband.types import Vector

MOST_NAMED = 12
"""Domains that a statement names each."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score estimated without labels.

    Parameters
    ----------
    value
        The estimate, in [0, 1].
    low, high
        Ends of its interval, in [0, 1].
    coverage
        How often such an interval is meant to contain the measured score.
    """

    value: float
    low: float
    high: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What can be said of an image without labels.

    Parameters
    ----------
    estimates
        "f1", "precision" and "recall".
    novelty
        Distance from the rows that the calibration knows, or from what the network saw in their images, the
        greater; above 1 the image lies outside.
    unusual
        The features outside the calibration's range, the farthest first.
    abstained
        The estimate says too little to be used: the image lies outside, nothing was found, or the F1
        interval is wider than nearly all of the calibration's own.
    in_domain
        The image was taken as images of the calibration were and is like them, so that its intervals are
        those of like images: they say nothing of another material, instrument or focus.
    unlike
        The distance from what the network saw alone; 0 where that is not known.
    """

    estimates: Mapping[str, Estimate]
    novelty: float
    unusual: tuple[str, ...]
    abstained: bool = False
    in_domain: bool = False
    unlike: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """What is said of many rows, as arrays.

    Parameters
    ----------
    value, low, high
        float64 (n, 3), columns in the order of `TARGETS`, in [0, 1].
    novelty
        float64 (n,).
    abstained, in_domain
        Boolean (n,), as of `Outlook`.
    """

    value: ScoreTable
    low: ScoreTable
    high: ScoreTable
    novelty: Vector
    abstained: Bool[np.ndarray, " n"]
    in_domain: Bool[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutScores:
    """Estimates of calibration rows that were left out of their fit, beside the measured scores.

    Parameters
    ----------
    estimated, measured
        float64 (n, 3), columns in the order of `TARGETS`, in [0, 1].
    """

    estimated: np.ndarray
    measured: np.ndarray

    def __post_init__(self) -> None:
        for name in ("estimated", "measured"):
            a = getattr(self, name)
            if a.dtype != np.float64 or a.shape != (len(self.measured), len(TARGETS)):
                raise CalibrationError(f"{name} must be float64 (n, {len(TARGETS)}), got {a.dtype} {a.shape}")
            if not ((a >= 0) & (a <= 1)).all():
                raise CalibrationError(f"{name} scores must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """All that is needed to estimate the scores of one detector.

    Parameters
    ----------
    model
        A key of `RECIPES`.
    features
        The features that a row must have, no more and no fewer.
    score_threshold
        The detector's, on which every feature depends.
    matching
        The rule by which the scores were measured.
    coverage
        Meant coverage of the intervals.
    valid_for
        `NEW_DOMAINS` or `NEW_IMAGES` (of the same domains).
    domains
        How many rows each domain gave.
    reach
        The interval of each target.
    regressor, effect, reference
        What estimates, what says how large an error to expect (None: the same everywhere), and what is
        known.
    widest
        F1 intervals wider than this abstain.
    held_out
        What was said of the calibration rows without their domain or fold.
    labelled
        A few images of the domain at hand, to which all estimates are adapted, or None.
    in_domain
        What tells of images that were taken as those of the calibration were; None where it is not known
        with what these were taken.

    Raises
    ------
    CalibrationError
        Naming every part that does not fit.
    """

    model: str
    features: tuple[str, ...]
    score_threshold: float
    matching: MatchingRule
    coverage: float
    valid_for: str
    domains: Mapping[str, int]
    reach: Mapping[str, Reach]
    regressor: Regressor
    effect: DomainEffect | None
    reference: Reference
    widest: float
    held_out: HeldOutScores
    labelled: LabelledRows | None = None
    in_domain: InDomain | None = None

    def __post_init__(self) -> None:
        faults = self._regressor_faults() + self._range_faults() + self._reach_faults()
        if faults:
            raise CalibrationError("a calibration cannot be used: " + "; ".join(faults))
        object.__setattr__(self, "domains", MappingProxyType(dict(self.domains)))
        object.__setattr__(self, "reach", MappingProxyType(dict(self.reach)))

    def _regressor_faults(self) -> list[str]:
        """Whether regressor, variances and labelled images are those of the model."""
        faults = []
        if self.model not in RECIPES:
            faults.append(f"model must be one of {sorted(RECIPES)}, got {self.model!r}")
        elif missing := [n for n in RECIPES[self.model].inputs if n not in self.features]:
            faults.append(f"the model wants features that are missing: {missing}")
        elif isinstance(self.regressor, Blend) != RECIPES[self.model].blend:
            faults.append(f"a regressor of another kind than the model {self.model!r}")
        elif len(self.regressor.center) != len(RECIPES[self.model].inputs):
            faults.append(
                f"the regressor has {len(self.regressor.center)} inputs, another number than the model"
            )
        if isinstance(self.regressor, Blend) and self.effect is None:
            faults.append("variances are missing, in whose units its radii are")
        if self.effect is not None and self.effect.variances.shape[0] != len(TARGETS):
            faults.append(f"variances of {self.effect.variances.shape[0]} scores")
        if self.labelled is not None and (
            not isinstance(self.regressor, Blend)
            or self.effect is None
            or self.labelled.inputs.shape[1:] != self.regressor.center.shape
            or self.labelled.errors.shape[1:] != (len(TARGETS),)
        ):
            faults.append("labelled images that do not fit the regressor")
        return faults

    def _range_faults(self) -> list[str]:
        faults = []
        if not 0 <= self.widest <= 1:
            faults.append(f"widest must be in [0, 1], got {self.widest!r}")
        if len(set(self.features)) != len(self.features) or len(self.features) != len(self.reference.center):
            faults.append(f"{len(self.features)} features, {len(self.reference.center)} known")
        if self.in_domain is not None and self.in_domain.forest.n_features != len(self.features):
            faults.append(f"like images of {self.in_domain.forest.n_features} features")
        if not 0 <= self.score_threshold <= 1:
            faults.append(f"score_threshold must be in [0, 1], got {self.score_threshold!r}")
        if not 0 < self.coverage < 1:
            faults.append(f"coverage must be inside (0, 1), got {self.coverage!r}")
        if self.valid_for not in (NEW_DOMAINS, NEW_IMAGES):
            faults.append(f"valid_for must be {NEW_DOMAINS!r} or {NEW_IMAGES!r}, got {self.valid_for!r}")
        return faults

    def _reach_faults(self) -> list[str]:
        every = self.reach.values()
        if set(self.reach) != set(TARGETS) or not all(0 <= r.radius < math.inf for r in every):
            return [f"wanted a finite radius of each of {list(TARGETS)}"]
        if not all(0 <= r.mean_width <= 1 and not abs(r.worst_coverage - 0.5) > 0.5 for r in every):
            return ["mean widths and worst coverages must be in [0, 1]"]
        if not all(0 < r.level < 1 for r in every):
            return ["levels must be inside (0, 1)"]
        return []

    @property
    def adaptable(self) -> bool:
        """Whether it knows how domains differ, so that a few images of a new one teach it something."""
        return self.valid_for == NEW_DOMAINS and self.effect is not None

    @property
    def statement(self) -> str:
        """For what the intervals hold, in words."""
        few = len(self.domains) <= MOST_NAMED
        names = ", ".join(self.domains) if few else f"{len(self.domains)} domains"
        if self.labelled is not None:
            return (
                f"{self.coverage:.0%} intervals for images like those of {self.labelled.domain!r}: the "
                f"estimates were adapted to {len(self.labelled.counts)} labelled ones; calibrated on {names}"
            )
        if self.valid_for == NEW_IMAGES:
            return (
                f"{self.coverage:.0%} intervals, in-domain only: they were calibrated on held-out images of "
                f"{names} and promise nothing for another material, instrument or focus"
            )
        worst, these = self.reach["f1"], names if few else f"{len(self.domains)} of them"
        return (
            f"{self.coverage:.0%} intervals calibrated on held-out domains ({these}); with each domain left "
            f"out in turn, the worst F1 coverage was {worst.worst_coverage:.0%} ({worst.worst_domain})"
        )
