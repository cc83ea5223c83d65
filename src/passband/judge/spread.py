"""How far what is measured of an image's objects may lie from what its specimen has: by sampling alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from passband.estimate.calibration import Estimate
from passband.judge.verdict import Sizes
from passband.types import Vector

COVERAGE = 0.9
Interval = tuple[float, float]
_LEAST_RECALL = 0.05


def mean_interval(values: Vector) -> Interval | None:
    """Interval of a mean by Student's t; None of fewer than two values.

    Examples
    --------
    >>> import numpy as np
    >>> low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(low, 2), round(high, 2)
    (0.31, 3.69)
    """
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    reach = (
        float(stdtrit(len(values) - 1, (1 + COVERAGE) / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5
    )
    return float(values.mean()) - reach, float(values.mean()) + reach


def count_interval(count: int) -> Interval:
    """Interval of the mean of counts of which one is known, Poisson's (Garwood 1936).

    Examples
    --------
    >>> [round(v, 2) for v in count_interval(10)], count_interval(0)[0]
    ([5.43, 16.96], 0.0)
    """
    from scipy.special import gammaincinv

    low, high = (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
    return float(gammaincinv(count, low)) if count else 0.0, float(gammaincinv(count + 1, high))


def density_interval(sizes: Sizes) -> Interval | None:
    """Of the number density per Å², were the objects strewn at random; None where it is unknown."""
    if not sizes.density:
        return None
    count = len(sizes.diameters)
    low, high = count_interval(count)
    return sizes.density * low / count, sizes.density * high / count


def swelling_interval(sizes: Sizes) -> Interval | None:
    """Of the swelling in percent, were the objects strewn at random; None where it is unknown.

    The variance of the sum of the volumes of a random number of objects is the sum of their squares. In the
    logarithm, for the swelling is positive and a few large objects make most of it.
    """
    if not sizes.swelling_percent:
        return None
    volumes = sizes.diameters**3
    from scipy.special import ndtri

    relative = math.sqrt(float((volumes**2).sum())) / float(volumes.sum())
    factor = math.exp(float(ndtri((1 + COVERAGE) / 2)) * relative)
    return sizes.swelling_percent / factor, sizes.swelling_percent * factor


def objects_there(found: int, estimates: Mapping[str, Estimate]) -> tuple[float, float, float] | None:
    """How many objects there are, by estimated precision and recall: value, low and high.

    Both intervals must hold for this one to, so it holds in no less than twice their coverage less one. None
    where next to nothing may have been found, so that there is no end to what may be there.

    Examples
    --------
    >>> e = Estimate(value=0.8, low=0.5, high=1.0, coverage=0.9)
    >>> objects_there(100, {"precision": e, "recall": e})
    (100.0, 50.0, 200.0)
    """
    precision, recall = estimates.get("precision"), estimates.get("recall")
    if precision is None or recall is None or not found or recall.low < _LEAST_RECALL or recall.value <= 0:
        return None
    value = found * precision.value / recall.value
    return value, found * precision.low / recall.high, found * precision.high / recall.low
