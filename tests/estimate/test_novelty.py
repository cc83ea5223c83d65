"""Laws of the distance from what is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from passband.errors import CalibrationError
from passband.estimate.novelty import (
    FEW_KNOWN,
    Reference,
    extend_reference,
    fit_reference,
    know_domains,
    novelty,
    only,
    unusual,
)

pytestmark = pytest.mark.training

NAMES = ("tail", "plain", "same")


def known(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.lognormal(3, 1, n), rng.normal(size=n), np.full(n, 7.0)])


@pytest.fixture(scope="module")
def reference():
    return fit_reference(known(), [str(i) for i in range(300)], seed=0)


def test_rows_like_the_known_ones_are_rarely_new(reference):
    share = np.mean([novelty(reference, row) > 1 for row in known(1000, seed=1)])
    assert share < 0.04  # 1 % by the edge, and a little for rows that were not among the known


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.sampled_from([-1, 1]))
def test_far_rows_are_new_and_named(reference, column, sign):
    row = np.array([20.0, 0, 7])
    row[column] += sign * 1e4
    assert novelty(reference, row) > 1
    assert unusual(reference, row, NAMES)[0] == NAMES[column]


def test_novelty_grows_on_the_way_out(reference):
    values = [novelty(reference, np.array([20.0, v, 7])) for v in (4, 8, 16, 1e3, 1e9)]
    assert values == sorted(values) and np.isfinite(values).all()


def test_nothing_inside_is_unusual(reference):
    for row in known():
        assert unusual(reference, row, NAMES) == ()


def test_several_rows_of_one_image_do_not_make_the_space_denser():
    rows = known(60)
    once = fit_reference(rows, [str(i) for i in range(60)], seed=0)
    many = fit_reference(np.tile(rows, (6, 1)), [str(i) for i in range(60)] * 6, seed=0)
    assert many.edge > 0.5 * once.edge


def test_large_tables_are_thinned_alike_for_one_seed():
    a, b = (fit_reference(known(2600), [str(i) for i in range(2600)], seed=3) for _ in range(2))
    assert a.rows.shape == (2000, 3) and np.array_equal(a.rows, b.rows)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_few_rows_that_are_shown_are_known(reference, n):
    far = np.column_stack([10.0 ** np.arange(5, 5 + n), np.linspace(50, 900, n), np.full(n, 9.0)])
    more = extend_reference(reference, far)
    for row in far:
        assert novelty(reference, row) > 1
        assert novelty(more, row) == 0 and unusual(more, row, NAMES) == ()
        assert novelty(more, row + np.array([0, 0.01, 0])) < 1
    assert more.edge == reference.edge


def test_rows_that_were_known_stay_known(reference):
    more = extend_reference(reference, np.full((7, 3), 1e6))
    for row in known(20, seed=4):
        assert novelty(more, row) <= novelty(reference, row)
    # and what lies neither here nor there is new as before
    assert novelty(more, np.array([20.0, -1e6, 7])) == novelty(reference, np.array([20.0, -1e6, 7]))


def test_bad_references_are_refused(reference):
    parts = {name: getattr(reference, name) for name in ("center", "scale", "low", "high", "rows", "edge")}
    for change, words in (
        ({"scale": -reference.scale}, "positive"),
        ({"edge": float("nan")}, "edge"),
        ({"rows": reference.rows[:4]}, "more than 5"),
        ({"rows": reference.rows * np.float32(np.nan)}, "NaN"),
        ({"low": reference.low[:2]}, "low must be"),
    ):
        with pytest.raises(CalibrationError, match=words):
            Reference(**(parts | change))


def test_the_scale_of_a_bell_is_its_standard_deviation_and_a_few_wild_values_do_not_move_it():
    """The quartiles of a Gaussian lie 1.349 standard deviations apart; a wild value moves no quartile."""
    bell = 7 + 3 * norm.ppf((np.arange(4000) + 0.5) / 4000)
    tame = fit_reference(bell[:, None], [str(i) for i in range(4000)], seed=0)
    assert tame.scale == pytest.approx(3, rel=1e-3) and tame.center == pytest.approx(7, abs=1e-9)
    wild = np.concatenate([bell, [1e3, -1e3]])
    moved = fit_reference(wild[:, None], [str(i) for i in range(4002)], seed=0)
    assert wild.std() > 20
    assert moved.scale == pytest.approx(3, rel=2e-3)


def test_where_half_the_values_are_alike_the_scale_is_a_tenth_of_the_deviation():
    """The quartiles of a rare count are both 0, and dividing by their distance would make all else far."""
    rare = np.zeros((100, 1))
    rare[:10] = 5.0
    assert fit_reference(rare, [str(i) for i in range(100)], seed=0).scale == pytest.approx(0.1 * 1.5)
    same = fit_reference(np.full((100, 1), -40.0), [str(i) for i in range(100)], seed=0)
    assert same.scale == pytest.approx(0.04)  # a thousandth of its size, so that any departure is far


@pytest.fixture(scope="module")
def domains():
    """Ten domains far from each other, of forty rows each, and what is known of them."""
    rng = np.random.default_rng(2)
    level = np.repeat(rng.normal(0, 20, (10, 3)), 40, axis=0)
    rows = level + rng.normal(size=level.shape)
    names = [f"d{i // 40}" for i in range(400)]
    reference = fit_reference(rows, [str(i) for i in range(400)], seed=0)
    return rows, know_domains(reference, rows, names)


@pytest.mark.parametrize("few", FEW_KNOWN)
def test_where_few_rows_of_a_domain_are_all_that_is_known_its_others_are_near_and_other_domains_far(
    domains, few
):
    rows, reference = domains
    near, far = [], []
    for d in range(10):
        known = only(reference, rows[40 * d : 40 * d + few])
        near += [novelty(known, row) < 1 for row in rows[40 * d + few : 40 * d + 40]]
        far += [novelty(known, row) > 1 for row in np.delete(rows, np.s_[40 * d : 40 * d + 40], axis=0)[::9]]
    assert np.mean(near) > 0.85 and np.mean(far) > 0.85


def test_few_rows_that_differ_among_themselves_widen_what_is_near(domains):
    rows, reference = domains
    wild = rows[::53]  # one or two of each domain
    another = rows[20::80]
    narrow, wide = only(reference, rows[:8]), only(reference, wild)
    assert wide.edge > 2 * narrow.edge
    assert np.mean([novelty(wide, row) < 1 for row in another]) > 0.7
    assert np.mean([novelty(narrow, row) < 1 for row in another]) < 0.4
