"""Laws of the conformal radii."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from passband.errors import ParameterError
from passband.estimate import conformal


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("n", [19, 60])
def test_coverage_on_exchangeable_rows_is_within_binomial_bounds(n, coverage):
    """One new row for each of 3000 calibration sets: the count of covered rows is binomial."""
    rng = np.random.default_rng(7)
    trials = 3000
    draws = np.abs(rng.standard_t(3, (trials, n + 1)))
    covered = sum(d[-1] <= conformal.conformal_quantile(d[:-1], coverage) for d in draws)
    exact = math.ceil((n + 1) * coverage - 1e-9) / (n + 1)  # what the order statistic gives, >= coverage
    low, high = binom.ppf([1e-4, 1 - 1e-4], trials, exact)
    assert low <= covered <= high


def test_domains_that_differ_in_scale_are_covered_on_average():
    """New domains drawn as the known ones were: the mean over domains reaches the stated coverage."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(300):
        scale = np.exp(0.5 * rng.normal(size=21))
        residuals = np.abs(rng.normal(size=(21, 40))) * scale[:, None]
        names = np.repeat([f"d{i}" for i in range(20)], 40).tolist()
        radius = conformal.domain_quantile(residuals[:20].ravel(), names, 0.9)
        shares.append((residuals[20] <= radius).mean())
    assert abs(np.mean(shares) - 0.9) < 4 * np.std(shares) / math.sqrt(len(shares))


residual_lists = st.lists(st.floats(0, 10), min_size=1, max_size=60).map(np.array)


@settings(deadline=None)
@given(residual_lists, st.floats(0.05, 0.95))
def test_radius_covers_its_own_rows_and_is_one_of_them(residuals, coverage):
    radius = conformal.conformal_quantile(residuals, coverage)
    assert (residuals <= radius).mean() >= coverage - 1e-9
    assert radius == math.inf or radius in residuals


@settings(deadline=None)
@given(residual_lists, st.floats(0.05, 0.9), st.randoms(use_true_random=False))
def test_radius_grows_with_coverage_and_ignores_order(residuals, coverage, random):
    shuffled = np.array(random.sample(residuals.tolist(), len(residuals)))
    radius = conformal.conformal_quantile(residuals, coverage)
    assert conformal.conformal_quantile(shuffled, coverage) == radius
    assert conformal.conformal_quantile(residuals, coverage + 0.05) >= radius


def test_balanced_equals_pooled_share_in_domains_of_one_size():
    residuals = np.arange(1.0, 101)
    radius = conformal.balanced_quantile(residuals, ["a", "b"] * 50, 0.9)
    assert (residuals <= radius).mean() == pytest.approx(0.9)


def test_repeating_a_domains_rows_leaves_the_balance():
    rng = np.random.default_rng(0)
    a, b = rng.random(30), 2 * rng.random(10)
    once = conformal.balanced_quantile(np.r_[a, b], ["a"] * 30 + ["b"] * 10, 0.9)
    more = conformal.balanced_quantile(np.r_[np.tile(a, 9), b], ["a"] * 270 + ["b"] * 10, 0.9)
    assert more == once


@settings(deadline=None)
@given(residual_lists, st.integers(1, 5), st.floats(0.1, 0.9))
def test_domain_radius_is_never_below_the_pooled_one(residuals, kinds, coverage):
    domains = [f"d{i % kinds}" for i in range(len(residuals))]
    pooled = conformal.conformal_quantile(residuals, coverage)
    assert conformal.domain_quantile(residuals, domains, coverage) >= pooled


def test_a_strange_domain_shows_when_it_is_left_out():
    residuals = np.r_[np.linspace(0, 1, 40), np.linspace(5, 6, 20)]
    shares = conformal.leave_one_out_coverage(residuals, ["a"] * 20 + ["b"] * 20 + ["odd"] * 20, 0.9)
    assert shares["odd"] == 0 and shares["a"] == shares["b"] == 1


def test_the_radius_has_a_floor_when_a_domain_is_left_out():
    residuals = np.r_[np.linspace(0, 1, 40), np.linspace(1, 2, 20)]
    domains = ["a"] * 20 + ["b"] * 20 + ["odd"] * 20
    free, floored = (
        conformal.leave_one_out_coverage(residuals, domains, 0.9, least=least)["odd"] for least in (0.0, 1.5)
    )
    assert free == 0 and floored == 0.5


@pytest.mark.parametrize("coverage", [0, 1, -1, math.nan])
def test_coverage_outside_is_refused(coverage):
    with pytest.raises(ParameterError, match="inside"):
        conformal.conformal_quantile(np.ones(3), coverage)


def test_bad_residuals_are_refused():
    with pytest.raises(ParameterError, match="negative or NaN"):
        conformal.conformal_quantile(np.array([1, math.nan]), 0.5)
    with pytest.raises(ParameterError, match="got 0 and 0"):
        conformal.balanced_quantile(np.zeros(0), [], 0.5)
    with pytest.raises(ParameterError, match="at least two, got 1"):
        conformal.leave_one_out_coverage(np.ones(3), ["a"] * 3, 0.5)
