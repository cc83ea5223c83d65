"""What the blend says of a group without it is what a refit without it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.errors import CalibrationError
from passband.estimate import blend as module
from passband.estimate.blend import (
    NOISE,
    RIDGE,
    Blend,
    fit_blend,
    from_logit,
    guess_blend,
    squared_distances,
    standardise,
    to_logit,
)
from passband.estimate.features import PAPER_FEATURES

pytestmark = pytest.mark.training

SHAPE = {"logged": (8,), "center": (8,), "scale": (8,), "weights": (60, 3), "trend": (9, 3), "share": (3,)}
COUNTED = [name in module.LONG_TAILED for name in PAPER_FEATURES]


def rows(n=60, seed=0):
    """Inputs, scores that follow them, three groups, and images of which some lie in two groups."""
    rng = np.random.default_rng(seed)
    x = 0.05 + rng.random((n, 8))
    groups = ["abc"[i % 3] for i in range(n)]
    images = [f"i{i % (n - 9)}" for i in range(n)]  # the last nine rows repeat the first nine images
    groups[-9:] = ["b", "c", "a"] * 3
    y = np.clip(x[:, 3:6] + 0.1 * rng.normal(size=(n, 3)), 0, 1)
    return x, y, groups, images


def left(group, groups, images):
    """Rows of other groups and other images, by name and the long way round."""
    own = {image for image, g in zip(images, groups, strict=True) if g == group}
    return np.array([g != group and i not in own for g, i in zip(groups, images, strict=True)])


def refit(blend, x, y, share):
    """A blend of some rows only, by plain normal equations, seeing inputs as the given one does."""
    z = standardise(blend, x)
    ones = np.column_stack([np.ones(len(z)), z])
    penalty = np.diag([1e-9, *[RIDGE] * z.shape[1]])
    return Blend(
        logged=blend.logged,
        center=blend.center,
        scale=blend.scale,
        rows=z,
        weights=np.linalg.solve(module._kernel(z, z) + NOISE * np.eye(len(z)), y - 0.5),
        trend=np.linalg.solve(ones.T @ ones + penalty, ones.T @ to_logit(y)),
        share=np.full(3, float(share)),
        nothing=np.full(3, 0.5),
    )


@pytest.mark.parametrize("share", [0.0, 1.0, 0.35], ids=["process", "trend", "both"])
def test_held_out_guesses_are_those_of_a_refit(monkeypatch, share):
    monkeypatch.setattr(module, "_choose", lambda process, *_: np.full(process.shape[1], share))
    x, y, groups, images = rows()
    blend, held_out = fit_blend(x, y, groups, images)
    for group in "abc":
        own, train = np.asarray(groups) == group, left(group, groups, images)
        assert 20 <= train.sum() < (~own).sum()  # some rows of other groups are of its images
        expected = guess_blend(refit(blend, x[train], y[train], share), x[own])
        np.testing.assert_allclose(held_out[own], expected, atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_fit_itself_is_that_of_all_rows(monkeypatch, share):
    monkeypatch.setattr(module, "_choose", lambda process, *_: np.full(process.shape[1], share))
    x, y, groups, images = rows()
    blend, _ = fit_blend(x, y, groups, images)
    asked = rows(20, seed=1)[0]
    np.testing.assert_allclose(
        guess_blend(blend, asked), guess_blend(refit(blend, x, y, share), asked), atol=1e-9
    )


def test_scores_of_a_held_out_group_reach_its_guesses_by_the_share_alone(monkeypatch):
    x, y, groups, images = rows()
    own = np.asarray(groups) == "b"
    touched = ~left("b", groups, images)
    changed = np.where(touched[:, None], 1 - y, y)
    (first, before), (second, after) = (fit_blend(x, s, groups, images) for s in (y, changed))
    # Both guesses lie between the same two learners: they differ by the change of the share at most.
    assert (np.abs(after - before)[own] <= np.abs(second.share - first.share) + 1e-12).all()
    monkeypatch.setattr(module, "_choose", lambda process, *_: np.full(process.shape[1], 0.5))
    before, after = (fit_blend(x, s, groups, images)[1] for s in (y, changed))
    np.testing.assert_allclose(before[own], after[own], atol=1e-12)
    assert not np.allclose(before[~touched], after[~touched])


def test_rows_with_nothing_found_get_the_mean_of_such_rows():
    x, y, groups, images = rows()
    x[::4, COUNTED] = 0
    blend, held_out = fit_blend(x, y, groups, images)
    np.testing.assert_allclose(guess_blend(blend, x)[::4], np.tile(y[::4].mean(axis=0), (15, 1)))
    assert np.abs(guess_blend(blend, x)[1] - y[::4].mean(axis=0)).min() > 1e-3
    empty = np.arange(60) % 4 == 0
    for group in "abc":
        own, known = np.asarray(groups) == group, left(group, groups, images)
        np.testing.assert_allclose(
            held_out[own & empty], np.tile(y[known & empty].mean(axis=0), ((own & empty).sum(), 1))
        )


def test_a_group_with_nothing_found_at_all_is_one_like_others():
    x, y, groups, _ = rows()
    groups = ["d" if i < 6 else g for i, g in enumerate(groups)]
    x[:6, COUNTED] = 0
    held_out = fit_blend(x, y, groups, [str(i) for i in range(60)])[1]
    np.testing.assert_array_equal(held_out[:6], 0.5)  # no other group has such rows
    assert np.isfinite(held_out).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(-6, 9))
def test_guesses_are_scores_anywhere(seed, size):
    x, y, groups, images = rows()
    blend, held_out = fit_blend(x, np.round(y), groups, images)
    asked = 10.0**size * np.random.default_rng(seed).normal(size=(30, 8))
    for said in (guess_blend(blend, asked), held_out):
        assert ((said >= 0) & (said <= 1)).all()


def test_more_rows_than_fit_are_thinned_and_every_group_stays():
    n = 3000
    groups = ["large"] * (n - 130) + ["middle"] * 100 + ["small"] * 30
    kept = module._thin(groups, np.arange(n) % 10 > 0)
    assert len(kept) == module.MOST_ROWS == len(set(kept.tolist())) and (kept % 10 > 0).all()
    names = np.asarray(groups)[kept]
    assert (names == "small").sum() == 27 and (names == "middle").sum() == 90


def test_rows_that_were_thinned_out_have_no_held_out_guess(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 45)
    x, y, groups, images = rows()
    blend, held_out = fit_blend(x, y, groups, images)
    known = np.isfinite(held_out).all(axis=1)
    assert known.sum() == len(blend.rows) == 45 and np.isnan(held_out[~known]).all()
    assert set(np.asarray(groups)[known]) == set("abc")


def test_a_group_that_leaves_too_little_has_no_guess():
    x, y, _, _ = rows(30)
    held_out = fit_blend(x, y, ["a"] * 21 + ["b"] * 9, [str(i) for i in range(30)])[1]
    assert np.isnan(held_out[:21]).all() and np.isfinite(held_out[21:]).all()


def test_the_learner_that_is_right_about_new_groups_gets_the_larger_share():
    """Groups lie apart along an input: a line goes on beyond them, the process falls back."""
    rng = np.random.default_rng(0)
    x, groups = 0.05 + rng.random((120, 8)), [str(i // 20) for i in range(120)]
    images = [str(i) for i in range(120)]
    x[:, 3] += np.arange(120) // 20
    line = from_logit(np.repeat(0.8 * (x[:, 3:4] - 3), 3, axis=1))
    wave = 0.5 + 0.4 * np.sin(6 * x[:, [4]]) * np.ones((1, 3))
    assert fit_blend(x, line, groups, images)[0].share.min() > 0.6
    assert fit_blend(x[:, [4] * 8], wave, ["abc"[i % 3] for i in range(120)], images)[0].share.max() < 0.4


def test_constant_inputs_and_scores_are_no_trouble():
    x, y, groups, images = rows()
    x[:], y[:] = 0.1, 0.7
    blend, held_out = fit_blend(x, y, groups, images)
    # The intercept of the trend is free, the noise of the process draws it towards one half a little.
    assert np.abs(held_out - 0.7).max() < 0.01 and np.abs(guess_blend(blend, x) - 0.7).max() < 0.01


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(np.array))
def test_scores_come_back_from_logits(scores):
    np.testing.assert_allclose(from_logit(to_logit(scores)), scores, atol=1e-12)


def test_far_logits_are_perfect_scores_and_no_warning():
    assert from_logit(np.array([-1e6, -800, 800, np.inf])).tolist() == [0, 0, 1, 1]


def test_squared_distances_are_squares_of_distances():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    expected = [[((p - q) ** 2).sum() for q in b] for p in a]
    np.testing.assert_allclose(squared_distances(a, b), expected, atol=1e-12)


def test_too_few_rows_are_counted():
    x, y, groups, images = rows(30)
    with pytest.raises(CalibrationError, match="at least 10 rows, got 9"):
        fit_blend(x[:9], y[:9], groups[:9], images[:9])
    x[9:, COUNTED] = 0
    with pytest.raises(CalibrationError, match="with a detection, got 9"):
        fit_blend(x, y, groups, images)


def test_rows_of_another_kind_are_refused():
    x, y, groups, images = rows()
    blend, _ = fit_blend(x, y, groups, images)
    with pytest.raises(CalibrationError, match=r"8 columns, got \(60, 7\)"):
        guess_blend(blend, x[:, :7])
    with pytest.raises(CalibrationError, match="finite"):
        guess_blend(blend, np.full((1, 8), np.nan))
    assert guess_blend(blend, x[:0]).shape == (0, 3)


@pytest.mark.parametrize("name", SHAPE)
def test_arrays_that_do_not_fit_are_named(name):
    x, y, groups, images = rows()
    blend, _ = fit_blend(x, y, groups, images)
    good = vars(blend)
    assert good[name].shape == SHAPE[name]
    for bad in (good[name][:-1], good[name].astype(np.float32), good[name][None]):
        with pytest.raises(CalibrationError, match="cannot be used"):
            Blend(**{**good, name: bad})
    if name != "logged":
        with pytest.raises(CalibrationError, match=f"{name} must be"):
            Blend(**{**good, name: np.full_like(good[name], np.nan)})


def test_a_share_or_scale_that_cannot_be_is_refused():
    x, y, groups, images = rows()
    good = vars(fit_blend(x, y, groups, images)[0])
    for change in ({"share": np.full(3, 1.1)}, {"share": np.full(3, -0.1)}, {"scale": np.zeros(8)}):
        with pytest.raises(CalibrationError, match=r"scale must be positive and share in \[0, 1\]"):
            Blend(**{**good, **change})
