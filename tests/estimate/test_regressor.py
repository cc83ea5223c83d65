"""Fits that leave rows out really leave them out."""

from __future__ import annotations

import numpy as np
import pytest

from passband.errors import CalibrationError
from passband.estimate.regressor import (
    RECIPES,
    TARGETS,
    Forests,
    cross_fit,
    fit_forests,
    guess,
    image_folds,
    training_rows,
)

pytestmark = pytest.mark.training


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, len(RECIPES["paper-rf"].inputs))), rng.random((n, 3))


@pytest.fixture
def few_trees(monkeypatch):
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 5)


def test_the_paper_recipe_is_scikit_learns_pipeline():
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.preprocessing import StandardScaler

    x, y = table()
    x[:, 3] = 0.1  # a constant feature must not divide by zero
    scaler = StandardScaler().fit(x)
    fitted = guess(fit_forests(x, y, seed=4), x)
    for j in range(3):
        model = RandomForestRegressor(100, random_state=4).fit(scaler.transform(x), y[:, j])
        assert np.abs(fitted[:, j] - model.predict(scaler.transform(x))).max() < 1e-12


def test_a_held_out_groups_scores_do_not_reach_its_guesses(few_trees):
    """Change the scores of a domain and of its images elsewhere: its own guesses stay."""
    x, y = table()
    groups = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    images = [f"i{k}" for k in range(40)] + [f"i{k}" for k in range(20)]  # c shares all of a's images
    changed = y.copy()
    changed[:20] = 1 - changed[:20]
    changed[40:] = 1 - changed[40:]
    before, after = (cross_fit(x, t, groups, images, 0) for t in (y, changed))
    assert np.array_equal(before[:20], after[:20]) and np.array_equal(before[40:], after[40:])
    assert not np.array_equal(before[20:40], after[20:40])


def test_held_out_guesses_are_those_of_a_fit_to_the_other_rows(few_trees):
    x, y = table(30)
    groups, images = ["a"] * 15 + ["b"] * 15, [f"i{k % 27}" for k in range(30)]
    said = cross_fit(x, y, groups, images, 3)
    # b holds the images of a's first three rows.
    np.testing.assert_array_equal(said[15:], guess(fit_forests(x[3:15], y[3:15], 3), x[15:]))


def test_groups_that_leave_nothing_to_train_on_have_no_guess(few_trees):
    x, y = table(30)
    said = cross_fit(x, y, ["a"] * 25 + ["b"] * 5, [str(i) for i in range(30)], 0)
    assert np.isnan(said[:25]).all() and np.isfinite(said[25:]).all()


def test_training_rows_share_neither_group_nor_image():
    rng = np.random.default_rng(0)
    groups = rng.choice(list("abc"), 50).tolist()
    images = [str(i) for i in rng.integers(0, 30, 50)]
    for g in "abc":
        train = training_rows(g, groups, images)
        assert not {groups[i] for i in np.flatnonzero(train)} & {g}
        out = {images[i] for i in range(50) if groups[i] == g}
        assert not {images[i] for i in np.flatnonzero(train)} & out


def test_folds_keep_images_whole_and_are_alike_in_size():
    images = [f"i{k % 23}" for k in range(70)]
    folds = image_folds(images, 5, seed=1)
    assert len(set(zip(images, folds, strict=True))) == 23
    sizes = [len({i for i, f in zip(images, folds, strict=True) if f == fold}) for fold in set(folds)]
    assert len(sizes) == 5 and max(sizes) - min(sizes) <= 1
    assert folds == image_folds(images, 5, seed=1) != image_folds(images, 5, seed=2)


def test_fewer_images_than_folds_are_a_fold_each():
    assert sorted(set(image_folds(["a", "b", "b"], 5, seed=0))) == ["0", "1"]


def test_too_few_rows_are_counted():
    x, y = table(9)
    with pytest.raises(CalibrationError, match="at least 10 rows, got 9"):
        fit_forests(x, y, 0)


def test_forests_that_do_not_fit_are_refused(few_trees):
    x, y = table(20)
    good = vars(fit_forests(x, y, 0))
    for change, words in (
        ({"forests": good["forests"][:2]}, f"outputs for {len(TARGETS)} targets"),
        ({"center": np.zeros(3), "scale": np.ones(3)}, "features for 3 inputs"),
        ({"scale": np.zeros(8)}, "a scale positive"),
        ({"center": np.full(8, np.nan)}, "center must be finite"),
        ({"center": np.zeros(8, np.float32)}, "center must be float64"),
    ):
        with pytest.raises(CalibrationError, match=words):
            Forests(**{**good, **change})
