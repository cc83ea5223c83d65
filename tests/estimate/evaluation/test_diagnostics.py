"""Diagnostics of estimates, against scikit-learn's and their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from passband.errors import ParameterError
from passband.estimate.evaluation.diagnostics import (
    classify,
    confusion,
    kept_means,
    precision_recall,
    reliability,
)

pytestmark = pytest.mark.training

scores = st.integers(0, 20).map(lambda k: k / 20)  # ties are common
pairs = st.lists(st.tuples(scores, scores), min_size=1, max_size=40)


def columns(rows):
    return np.array([a for a, _ in rows]), np.array([b for _, b in rows])


@given(pairs, scores)
def test_classification_is_scikit_learns(rows, threshold):
    estimate, measured = columns(rows)
    told = classify(estimate, measured, threshold)
    said, good = estimate >= threshold, measured >= threshold
    wanted = metrics.precision_recall_fscore_support(good, said, average="binary", zero_division=np.nan)
    np.testing.assert_allclose([told.precision, told.recall], wanted[:2])
    if said.any() or good.any():
        assert told.f1 == pytest.approx(metrics.f1_score(good, said))
    else:
        assert math.isnan(told.f1)
    assert told.accuracy == pytest.approx(metrics.accuracy_score(good, said))
    assert told.share == pytest.approx(good.mean())


def test_chance_is_what_random_guesses_reach():
    rng = np.random.default_rng(0)
    measured = rng.random(200_000)
    told = classify(rng.permutation(measured), measured, 0.7)
    for name in ("precision", "recall", "f1"):
        assert getattr(told, name) == pytest.approx(told.share, abs=0.01)
    assert told.accuracy == pytest.approx(told.chance_accuracy, abs=0.01)


@given(pairs, scores)
def test_the_precision_recall_curve_is_scikit_learns(rows, threshold):
    estimate, measured = columns(rows)
    curve = precision_recall(estimate, measured, threshold)
    good = measured >= threshold
    if not good.any():
        assert len(curve.x) == len(curve.y) == 0
        return
    precision, recall, _ = metrics.precision_recall_curve(good, estimate)
    np.testing.assert_allclose(curve.x, recall[-2::-1])
    np.testing.assert_allclose(curve.y, precision[-2::-1])


@given(pairs)
def test_every_row_is_in_one_cell(rows):
    estimate, measured = columns(rows)
    edges = np.linspace(0, 1, 6)
    cells = confusion(estimate, measured, edges)
    assert cells.sum() == len(rows)
    np.testing.assert_array_equal(cells.sum(axis=1), np.histogram(measured, edges)[0])
    np.testing.assert_array_equal(cells.sum(axis=0), np.histogram(estimate, edges)[0])


@given(pairs)
def test_keeping_all_rows_keeps_the_mean(rows):
    doubt, cost = columns(rows)
    curve = kept_means(doubt, cost)
    assert curve.x[-1] == 1 and curve.y[-1] == pytest.approx(cost.mean())
    for share, mean in zip(curve.x, curve.y, strict=True):
        kept = doubt <= np.sort(doubt)[round(share * len(doubt)) - 1]
        assert kept.mean() == pytest.approx(share) and cost[kept].mean() == pytest.approx(mean)


def test_dropping_the_worst_first_lowers_the_error():
    error = np.random.default_rng(0).random(50)
    assert (np.diff(kept_means(error, error).y) > 0).all()


def test_reliable_estimates_lie_on_the_diagonal():
    rng = np.random.default_rng(0)
    estimate = rng.random(4000)
    measured = np.clip(estimate + rng.normal(0, 0.05, 4000), 0, 1)
    found = reliability(estimate, measured, bins=8)
    assert found.n.sum() == 4000 and len(found.n) == 8 and found.error < 0.01
    assert (np.abs(found.estimate - found.measured) < 0.02).all()
    assert reliability(estimate, measured - 0.3).error == pytest.approx(0.3, abs=0.01)


def test_bars_hold_the_mean_nineteen_times_in_twenty():
    """95 % bootstrap intervals of a mean of 30: within 4 standard errors of .93, their known shortfall."""
    rng = np.random.default_rng(1)
    held = []
    for i in range(400):
        found = reliability(np.full(30, 0.5), rng.random(30), seed=i)
        held.append(found.low[0] <= 0.5 <= found.high[0])
    assert 0.88 < np.mean(held) < 0.98


def test_a_bin_of_one_row_has_no_bar():
    found = reliability(np.array([0.05, 1.0]), np.array([0.5, 1.0]))
    assert found.n.tolist() == [1, 1] and np.isnan([found.low, found.high]).all()


def test_arrays_that_do_not_fit_are_refused():
    one = np.array([0.5])
    for a, b in ((one, np.zeros(2)), (np.zeros(0), np.zeros(0)), (one, np.array([np.nan]))):
        for call in (
            lambda a=a, b=b: classify(a, b, 0.5),
            lambda a=a, b=b: precision_recall(a, b, 0.5),
            lambda a=a, b=b: confusion(a, b, np.array([0.0, 1])),
            lambda a=a, b=b: kept_means(a, b),
            lambda a=a, b=b: reliability(a, b),
        ):
            with pytest.raises(ParameterError, match="two finite arrays"):
                call()
    with pytest.raises(ParameterError, match="bins"):
        reliability(one, one, bins=0)
