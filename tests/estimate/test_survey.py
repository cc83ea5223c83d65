"""Estimators of a finite population: exact where they must be, unbiased over every draw, honest in width."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.errors import ParameterError
from passband.estimate.sampling import Design, allocate, draw, strata_by
from passband.estimate.survey import Ratio, Surveyed, mean_of, survey_median, survey_ratio

SCORES = st.lists(
    st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=4, max_size=12
).map(lambda rows: np.array(rows, np.float64))


def one_stratum(n: int, labelled: list[int] | np.ndarray) -> Design:
    return Design(strata=np.zeros(n, np.int64), labelled=np.asarray(labelled, np.int64))


def told(truth: np.ndarray, proxy: np.ndarray, design: Design, **how: float) -> Surveyed:
    done = survey_ratio(mean_of(truth[design.labelled], proxy, design, **how), design)
    assert done is not None
    return done


def population(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts in images, skewed, and a detector that misses some and makes some up."""
    rng = np.random.default_rng(seed)
    truth = rng.negative_binomial(2, 0.1, n).astype(np.float64)
    return truth, rng.binomial(truth.astype(int), 0.8) + rng.poisson(2, n).astype(np.float64)


@given(SCORES, st.integers(2, 3))
def test_over_every_draw_the_mean_of_the_estimates_is_the_truth(rows, k) -> None:
    truth, proxy = rows.T + 0.0
    n = len(truth)
    # A mean of what has no bound is nowhere clipped, so it is the estimator as such.
    values = [
        survey_ratio(
            Ratio(
                numerator=truth[list(some)],
                denominator=np.ones(k),
                proxy_numerator=proxy + 0.0,
                proxy_denominator=np.ones(n),
                lowest=-math.inf,
                highest=math.inf,
            ),
            one_stratum(n, list(some)),
        ).value
        for some in itertools.combinations(range(n), k)
    ]
    assert np.mean(values) == pytest.approx(truth.mean(), abs=1e-12)


def test_over_every_stratified_draw_as_well() -> None:
    truth, proxy = population(3, 9)
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    values = []
    for a in itertools.combinations(range(4), 2):
        for b in itertools.combinations(range(4, 9), 3):
            design = Design(strata=strata, labelled=np.array([*a, *b]))
            ratio = mean_of(truth[design.labelled], proxy, design, reach=1.0)
            free = Ratio(
                numerator=ratio.numerator,
                denominator=ratio.denominator,
                proxy_numerator=proxy,
                proxy_denominator=np.ones(9),
                lowest=-math.inf,
                highest=math.inf,
            )
            values.append(survey_ratio(free, design).value)
    assert np.mean(values) == pytest.approx(truth.mean(), abs=1e-12)


@given(SCORES)
def test_with_all_labelled_it_is_the_truth_without_width(rows) -> None:
    truth, proxy = np.ascontiguousarray(rows.T)
    done = told(truth, proxy, one_stratum(len(truth), np.arange(len(truth))))
    assert (done.low, done.high) == (done.value, done.value)
    assert done.value == pytest.approx(truth.mean(), abs=1e-12)


@given(SCORES, st.integers(2, 3), st.floats(-0.2, 0.2))
def test_a_guess_that_is_wrong_by_a_constant_gives_the_truth(rows, k, off) -> None:
    truth = np.ascontiguousarray(rows[:, 0]) * 0.6 + 0.2
    done = told(truth, truth + off, one_stratum(len(truth), np.arange(k)))
    assert done.value == pytest.approx(truth.mean(), abs=1e-9)
    assert done.low <= done.value <= done.high
    # That it is so everywhere is not known: the width is not zero.
    assert done.high > done.low


@given(SCORES, st.integers(2, 3), st.floats(0, 1))
def test_a_guess_that_is_the_same_everywhere_is_the_labels_alone(rows, k, same) -> None:
    truth = np.ascontiguousarray(rows[:, 0])
    design = one_stratum(len(truth), np.arange(k))
    ratio = mean_of(truth[:k], np.full(len(truth), same), design)
    a, b = survey_ratio(ratio, design), survey_ratio(ratio.without_proxy(), design)
    for name in ("value", "low", "high"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-9)
    assert a.value == pytest.approx(truth[:k].mean(), abs=1e-9)


@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_images_and_of_labels_does_not_matter(rows, random) -> None:
    truth, proxy = np.ascontiguousarray(rows.T)
    n = len(truth)
    order = list(range(n))
    random.shuffle(order)
    place = np.argsort(order)
    here = told(truth, proxy, one_stratum(n, [0, 1, 2]))
    there = told(truth[order], proxy[order], one_stratum(n, place[[2, 0, 1]]))
    for name in ("value", "low", "high", "width_with_more"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), abs=1e-9)


@given(SCORES, st.integers(1, 12))
def test_an_interval_of_a_score_lies_in_its_range_and_holds_what_is_labelled(rows, k) -> None:
    truth, proxy = np.ascontiguousarray(rows.T)
    n = len(truth)
    k = min(k, n)
    done = told(truth, proxy, one_stratum(n, np.arange(k)))
    known = truth[:k].sum() / n
    assert 0 <= done.low <= done.value <= done.high <= 1 + 1e-12
    assert known - 1e-12 <= done.low and done.high <= known + (n - k) / n + 1e-12
    assert (done.high > done.low) == (k < n)


def test_one_label_says_no_more_than_that_it_is_one_of_them() -> None:
    done = told(np.full(50, 0.6), np.full(50, 0.5), one_stratum(50, [7]))
    assert (done.low, done.high) == pytest.approx((0.6 / 50, (0.6 + 49) / 50))
    assert math.isnan(done.width_with_more)
    counts = told(np.full(50, 6.0), np.full(50, 5.0), one_stratum(50, [7]), reach=6.0)
    assert (counts.low, counts.high) == (pytest.approx(0.12), math.inf)


@pytest.mark.parametrize(("k", "missed"), [(3, 0.53), (10, 0.2), (30, 0.07)])
def test_equal_residuals_leave_what_a_draw_may_miss(k: int, missed: float) -> None:
    n = 1000
    done = told(np.ones(n), np.full(n, 0.5), one_stratum(n, np.arange(k)))
    assert done.high == 1
    assert 1 - done.low == pytest.approx(missed, abs=0.012)
    # Were one image more than that a failure, a draw would miss all of them less often than once in ten.
    failures = math.ceil((1 - done.low) * n) + 1
    assert math.comb(n - failures, k) / math.comb(n, k) < 0.1
    counts = told(np.full(n, 4.0), np.full(n, 4.0), one_stratum(n, np.arange(k)), reach=4.0)
    assert counts.low < 4 < counts.high
    none = told(np.zeros(n), np.zeros(n), one_stratum(n, np.arange(k)), reach=0.0)
    assert none.value == 0 and none.high == math.inf


def t_interval(truth: np.ndarray, proxy: np.ndarray, k: int) -> tuple[float, float]:
    """By the textbook: the first ``k`` are labelled."""
    from scipy.stats import t

    residual = truth[:k] - proxy[:k]
    half = t.ppf(0.95, k - 1) * residual.std(ddof=1) * math.sqrt((1 - k / len(truth)) / k)
    return proxy.mean() + residual.mean() - half, proxy.mean() + residual.mean() + half


def test_the_interval_of_a_mean_is_students_with_the_correction_of_a_finite_population() -> None:
    truth, proxy = population(0, 30)
    done = told(truth, proxy, one_stratum(30, np.arange(8)), reach=1.0)
    assert (done.low, done.high) == pytest.approx(t_interval(truth, proxy, 8))
    # Ten more labels of the same spread, by the same formula.
    from scipy.stats import t

    spread = (truth - proxy)[:8].std(ddof=1)
    assert done.width_with_more == pytest.approx(2 * t.ppf(0.95, 17) * spread * math.sqrt((1 - 18 / 30) / 18))


def test_equal_residuals_allow_for_the_heaviest_members_being_those_that_were_missed() -> None:
    weights = np.r_[np.ones(19), 81.0]
    ratio = Ratio(
        numerator=np.ones(10),
        denominator=np.ones(10),
        proxy_numerator=weights * 0.5,
        proxy_denominator=weights,
    )
    # Three of the other ten may have been missed, and one weighs 81 of 100.
    done = survey_ratio(ratio, one_stratum(20, np.arange(10)))
    missed = [math.comb(20 - d, 10) / math.comb(20, 10) >= 0.1 for d in range(1, 5)]
    assert missed == [True, True, True, False]
    assert (done.value, done.low, done.high) == (1, pytest.approx(1 - 0.83), 1)


def test_a_ratio_is_unbiased_to_first_order_and_its_width_that_of_linear_residuals() -> None:
    truth, found = population(5, 40)
    hits = np.minimum(truth, found) * 0.9
    design = one_stratum(40, np.arange(12))
    ratio = Ratio(
        numerator=2 * hits[:12],
        denominator=(truth + found)[:12],
        proxy_numerator=0.8 * found,
        proxy_denominator=found,
    )
    done = survey_ratio(ratio, design)
    alone = survey_ratio(ratio.without_proxy(), design)
    # F1 by the labels alone is that of the labelled objects pooled; a guess that is the same everywhere
    # changes nothing, however many objects are found.
    assert alone.value == pytest.approx(2 * hits[:12].sum() / (truth + found)[:12].sum())
    assert done.value == pytest.approx(alone.value)
    assert done.high - done.low == pytest.approx(alone.high - alone.low)
    from scipy.stats import t

    linear = (2 * hits - alone.value * (truth + found))[:12] / (truth + found)[:12].mean()
    half = t.ppf(0.95, 11) * linear.std(ddof=1) * math.sqrt((1 - 12 / 40) / 12)
    assert (alone.high - alone.low) / 2 == pytest.approx(half)


def test_a_ratio_of_nothing_is_none_and_one_without_a_guess_is_told_by_the_labels() -> None:
    design = one_stratum(6, [0, 1])
    ratio = Ratio(
        numerator=np.zeros(2),
        denominator=np.zeros(2),
        proxy_numerator=np.ones(6),
        proxy_denominator=np.ones(6),
    )
    assert survey_ratio(ratio, design) is None
    empty = np.array([0.0, 0, 1, 1, 1, 1])
    unguessed = Ratio(
        numerator=np.array([1.0, 2]),
        denominator=np.array([2.0, 3]),
        proxy_numerator=empty,
        proxy_denominator=empty,
    )
    assert survey_ratio(unguessed, design) == survey_ratio(unguessed.without_proxy(), design)


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=3, max_size=8), st.integers(0, 5))
def test_with_all_labelled_the_median_is_that_of_all_objects(images, seed) -> None:
    sizes = [np.array(one, np.float64) for one in images]
    found = [np.random.default_rng(seed).integers(1, 9, 4).astype(np.float64) for _ in images]
    design = one_stratum(len(images), np.arange(len(images)))
    done = survey_median(sizes, found, design)
    everything = np.concatenate(sizes)
    if not len(everything):
        assert done is None
    else:
        wanted = float(np.quantile(everything, 0.5, method="inverted_cdf"))
        assert (done.low, done.value, done.high) == (wanted, wanted, wanted)


def test_found_sizes_narrow_the_median_and_a_guess_that_is_right_hits_it() -> None:
    rng = np.random.default_rng(2)
    found = [rng.lognormal(rng.normal(2, 0.5), 0.3, 20) for _ in range(60)]
    design = one_stratum(60, np.arange(10))
    right = survey_median(found[:10], found, design)
    alone = survey_median(found[:10], [np.zeros(0)] * 60, design)
    wanted = float(np.quantile(np.concatenate(found), 0.5, method="inverted_cdf"))
    assert right.value == wanted and right.low <= wanted <= right.high
    assert alone.low <= alone.value <= alone.high
    assert right.high - right.low < alone.high - alone.low


@pytest.mark.parametrize("stratified", [False, True])
def test_intervals_of_skewed_residuals_hold_about_as_often_as_they_say(stratified) -> None:
    """Twenty labels of skewed counts; 1,000 draws have a standard error of .0095 at .9."""
    truth, proxy = population(1, 200)
    strata = strata_by(proxy, 20) if stratified else np.zeros(200, np.int64)
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        design = Design(strata=strata, labelled=draw(strata, 20, rng))
        done = told(truth, proxy, design, reach=1.0)
        held += done.low <= truth.mean() <= done.high
    assert 0.85 <= held / 1000 <= 0.94


def test_strata_weigh_by_their_sizes_with_satterthwaites_degrees() -> None:
    from scipy.stats import t

    truth, proxy = population(7, 40)
    strata = np.repeat([0, 1], [30, 10])
    labelled = np.array([0, 3, 6, 30, 31, 32])
    done = told(truth, proxy, Design(strata=strata, labelled=labelled), reach=1.0)
    residual = truth - proxy
    value, parts = proxy.mean(), []
    for members, some in ((range(30), labelled[:3]), (range(30, 40), labelled[3:])):
        share, size = len(members) / 40, len(members)
        value += share * residual[some].mean()
        parts.append(share**2 * (1 - 3 / size) / 3 * residual[some].var(ddof=1))
    freedom = sum(parts) ** 2 / sum(p**2 / 2 for p in parts)
    half = t.ppf(0.95, freedom) * math.sqrt(sum(parts))
    assert (done.value, done.high - done.value) == pytest.approx((value, half))


def test_where_all_are_of_one_size_the_size_changes_nothing_and_a_large_one_not_drawn_widens() -> None:
    truth, proxy = population(9, 30)
    design = one_stratum(30, np.arange(8))
    plain = told(truth, proxy, design, reach=1.0)
    same = told(truth, proxy, design, reach=1.0, size=np.full(30, 7.0))
    for name in ("low", "high", "width_with_more"):
        assert getattr(same, name) == pytest.approx(getattr(plain, name))
    crowded = np.ones(30)
    crowded[20] = 20.0
    wide = told(truth, proxy, design, reach=1.0, size=crowded)
    # The model of residuals as large as the images: 8 drawn and 21 others of size 1, one of size 20.
    residual = (truth - proxy)[:8]
    spread = residual.var(ddof=1)
    variance = spread * ((1 / 8 - 1 / 30) ** 2 * 8 + (21 + 400) / 900)
    from scipy.stats import t

    assert wide.value == plain.value
    assert wide.high - wide.value == pytest.approx(t.ppf(0.95, 7) * math.sqrt(variance))
    # One that was drawn does not narrow what the labels' own spread says, and is all that tells it.
    drawn = np.ones(30)
    drawn[3] = 20.0
    one = told(truth, proxy, design, reach=1.0, size=drawn)
    plain_variance = spread / 8 * (1 - 8 / 30)
    assert one.high - one.value == pytest.approx(t.ppf(0.95, 1) * math.sqrt(plain_variance))
    drawn[:3] = 20.0  # four of eight: (4 x 400 + 4)^2 / (4 x 160,000 + 4) is 4.02
    four = told(truth, proxy, design, reach=1.0, size=drawn)
    freedom = (4 * 400 + 4) ** 2 / (4 * 160_000 + 4) - 1
    assert four.high - four.value == pytest.approx(t.ppf(0.95, freedom) * math.sqrt(plain_variance))


def test_a_stratum_of_one_label_joins_the_others() -> None:
    design = Design(strata=np.repeat([0, 1], 5), labelled=np.array([0, 1, 9]))
    assert design.strata.tolist() == [0] * 10
    assert design.weights.tolist() == pytest.approx([10 / 3] * 3)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=4), st.integers(8, 90))
def test_labels_are_shared_out_in_proportion_and_two_at_least(sizes, count) -> None:
    given_labels = allocate(sizes, count)
    assert sum(given_labels) == min(count, sum(sizes))
    assert all(2 <= g <= s for g, s in zip(given_labels, sizes, strict=True))
    with pytest.raises(ParameterError, match="too few"):
        allocate([9, 9, 9], 5)


def test_a_draw_is_that_of_its_seed_and_a_larger_one_holds_it() -> None:
    strata = np.zeros(100, np.int64)
    ten, again, more = (draw(strata, k, np.random.default_rng(5)) for k in (10, 10, 19))
    assert ten.tolist() == again.tolist() == sorted(set(ten.tolist()))
    assert set(ten.tolist()) < set(more.tolist())
    assert ten.tolist() != draw(strata, 10, np.random.default_rng(6)).tolist()
    assert draw(strata, 300, np.random.default_rng(5)).tolist() == list(range(100))
    three = strata_by(np.arange(100.0)[::-1].copy(), 20)
    assert np.bincount(three[draw(three, 20, np.random.default_rng(0))]).min() >= 6
    often = np.zeros(12)
    for seed in range(3000):
        often[draw(np.zeros(12, np.int64), 3, np.random.default_rng(seed))] += 1
    assert np.abs(often / 3000 - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 3000)


def test_strata_are_for_many_labels_and_for_guesses_that_differ() -> None:
    guess = np.random.default_rng(0).uniform(size=30)
    assert strata_by(guess, 19).max() == 0
    assert strata_by(np.full(30, 0.5), 20).max() == 0
    strata = strata_by(guess, 20)
    assert np.bincount(strata).tolist() == [10, 10, 10]
    assert guess[strata == 0].max() <= guess[strata == 1].min()


def test_what_does_not_fit_is_refused() -> None:
    for labelled in ([], [1, 1], [9], [-1]):
        with pytest.raises(ParameterError, match="different places from 0 to 3"):
            one_stratum(4, labelled)
    with pytest.raises(ParameterError, match="coverage"):
        Design(strata=np.zeros(4, np.int64), labelled=np.array([0]), coverage=1.0)
    design = one_stratum(4, [0, 1])
    with pytest.raises(ParameterError, match="proxy_numerator must be 4 finite numbers"):
        survey_ratio(mean_of(np.ones(2), np.array([1.0, np.nan, 1, 1]), design), design)


def test_of_an_endless_population_it_is_prediction_powered_inference() -> None:
    pytest.importorskip("ppi_py", reason="ppi-python is not installed: pip install 'passband[peers]'")
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    truth, proxy = population(11, 4000)
    design = one_stratum(4000, np.arange(400))
    done = told(truth, proxy, design, reach=1.0)
    value = ppi_mean_pointestimate(truth[:400], proxy[:400], proxy, lam=1)
    assert done.value == pytest.approx(float(np.squeeze(value)))
    low, high = (float(np.squeeze(e)) for e in ppi_mean_ci(truth[:400], proxy[:400], proxy, alpha=0.1, lam=1))
    # Theirs is a normal interval without the correction, and counts the guesses as drawn as well: their
    # variance over 4,000 is added, a part of each that is computed here.
    from scipy.stats import norm, t

    residual = truth[:400] - proxy[:400]
    drawn = math.sqrt(residual.var(ddof=0) / 400 + proxy.var(ddof=0) / 4000)
    assert (high - low) / 2 == pytest.approx(norm.ppf(0.95) * drawn, rel=0.01)
    ours = t.ppf(0.95, 399) * math.sqrt(residual.var(ddof=1) / 400 * (1 - 0.1))
    assert (done.high - done.low) / 2 == pytest.approx(ours)
