"""Which features moved an estimate, and how far: Shapley values against a usual image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from passband.errors import ParameterError
from passband.estimate.calibration import Calibration
from passband.estimate.regressor import RECIPES, TARGETS, guess

_MOST_INPUTS = 12


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What one feature did to an estimate.

    Parameters
    ----------
    feature
        Its name.
    effect
        Estimated score with it less without it, averaged over all orders in which features become known.
    value, usual
        Of the feature, in the image and in the middle of the calibration.
    """

    feature: str
    effect: float
    value: float
    usual: float


def what_moved(
    calibration: Calibration, features: Float64[np.ndarray, " p"], target: str = "f1"
) -> tuple[Moved, ...]:
    """Share out the difference between an estimate and that of a usual image among the inputs.

    Every subset of the inputs is tried, so the shares are exact: they add up to the difference. What a
    few labelled images taught is no feature of the image and is left out.

    Parameters
    ----------
    calibration
        That gave the estimate.
    features
        Finite, in the order of ``calibration.features``, shape (p,).
    target
        One of `TARGETS`.

    Returns
    -------
    tuple of Moved
        One for each input of the model, the largest effect first.

    Raises
    ------
    ParameterError
        If the target is unknown or there are too many inputs to try every subset.

    References
    ----------
    S. Lundberg, S.-I. Lee, A unified approach to interpreting model predictions, NeurIPS 2017; a single
    reference image, as in M. Sundararajan, A. Najmi, The many Shapley values for model explanation (2020).

    Examples
    --------
    >>> from passband.estimate.records import from_record
    >>> from passband.detectors.bundle import default_bundle
    >>> known = from_record(default_bundle().calibration)
    >>> features = known.reference.center.copy()
    >>> features[known.features.index("mean_score")] = 0.55
    >>> moved = what_moved(known, features)
    >>> moved[0].feature, moved[0].effect < 0, moved[1].effect
    ('mean_score', True, 0.0)
    """
    inputs = RECIPES[calibration.model].inputs
    p = len(inputs)
    if target not in TARGETS or p > _MOST_INPUTS:
        raise ParameterError(
            f"wanted one of {list(TARGETS)} and at most {_MOST_INPUTS} inputs, got {target!r} and {p}"
        )
    columns = [calibration.features.index(name) for name in inputs]
    here, usual = features[columns], calibration.reference.center[columns]
    subsets = np.arange(2**p)
    known = (subsets[:, None] >> np.arange(p)) & 1 == 1
    said = guess(calibration.regressor, np.where(known, here, usual))[:, TARGETS.index(target)]
    sizes = known.sum(axis=1)
    moved = []
    for j, name in enumerate(inputs):
        without = subsets[~known[:, j]]
        weight = np.array([math.factorial(s) * math.factorial(p - s - 1) for s in range(p)]) / math.factorial(
            p
        )
        effect = float((weight[sizes[without]] * (said[without | 1 << j] - said[without])).sum())
        moved.append(Moved(feature=name, effect=effect, value=float(here[j]), usual=float(usual[j])))
    return tuple(sorted(moved, key=lambda m: -abs(m.effect)))
