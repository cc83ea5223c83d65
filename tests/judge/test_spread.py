"""Intervals of what objects measure hold as often as they say, where they are strewn at random."""

import numpy as np
import pytest

from passband.estimate.calibration import Estimate
from passband.judge.spread import (
    COVERAGE,
    count_interval,
    density_interval,
    mean_interval,
    objects_there,
    swelling_interval,
)
from passband.judge.verdict import Sizes

AREA, THICKNESS = 1e8, 1e3  # Å², Å


def strewn(rng: np.random.Generator, mean: float) -> np.ndarray:
    return 30.0 * np.exp(rng.normal(0, 0.4, rng.poisson(mean)))


def sizes(diameters: np.ndarray) -> Sizes:
    swelling = 100 * np.pi / 6 * float((diameters**3).sum()) / (AREA * THICKNESS)
    return Sizes(
        diameters=diameters,
        pixel_size=1.0,
        thickness=THICKNESS,
        density=len(diameters) / AREA,
        swelling_percent=swelling,
    )


@pytest.mark.parametrize("mean", [12, 100])
def test_intervals_hold_in_nine_of_ten_fields(mean):
    rng = np.random.default_rng(mean)
    volume = np.pi / 6 * 30.0**3 * np.exp(4.5 * 0.4**2)  # of a lognormal, in the mean
    true = {
        "diameter": 30.0 * np.exp(0.4**2 / 2),
        "density": mean / AREA,
        "swelling": 100 * mean * volume / (AREA * THICKNESS),
    }
    fields = [f for f in (strewn(rng, mean) for _ in range(1500)) if len(f) > 1]
    held = dict.fromkeys(true, 0)
    for field in fields:
        s = sizes(field)
        intervals = mean_interval(field), density_interval(s), swelling_interval(s)
        for name, (low, high) in zip(true, intervals, strict=True):
            held[name] += low <= true[name] <= high
    assert abs(held["diameter"] / len(fields) - COVERAGE) < 0.04
    assert COVERAGE - 0.02 < held["density"] / len(fields) < 0.98  # counts are whole: never less
    assert COVERAGE - (0.14 if mean < 50 else 0.06) < held["swelling"] / len(fields) < 0.96


def test_more_objects_are_told_more_narrowly_and_none_at_all_not():
    few, many = (count_interval(n) for n in (5, 500))
    assert few[0] < 5 < few[1] and (few[1] - few[0]) / 5 > 10 * (many[1] - many[0]) / 500
    empty = sizes(np.zeros(0))
    assert density_interval(empty) is None and swelling_interval(empty) is None
    assert mean_interval(np.ones(1)) is None and count_interval(0)[0] == 0


def test_how_many_there_are_needs_a_recall_that_is_known():
    def told(low, value, high):
        return Estimate(value=value, low=low, high=high, coverage=0.9)

    sure = {"precision": told(0.9, 0.95, 1.0), "recall": told(0.4, 0.5, 0.6)}
    value, low, high = objects_there(60, sure)
    assert (value, low, high) == pytest.approx((114, 90, 150))
    assert objects_there(60, {**sure, "recall": told(0.0, 0.5, 1.0)}) is None
    assert objects_there(0, sure) is None and objects_there(60, {}) is None
