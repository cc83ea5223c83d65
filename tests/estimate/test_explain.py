"""Shapley values of a forest: equal to the enumerated game, additive, fair, and refused without cover."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from passband.errors import CalibrationError
from passband.estimate.explain import expected_value, shapley_values
from passband.estimate.forest import Forest, from_arrays, from_sklearn, predict, to_arrays


def grown(model=RandomForestRegressor, n=60, p=5, k=2, trees=3, seed=0, **settings):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, p)), 1)
    y = np.column_stack([x[:, i % p] * x[:, (i + 1) % p] + rng.normal(size=n) for i in range(k)])
    fitted = model(trees, random_state=seed, **settings).fit(x, y.squeeze())
    return from_sklearn(fitted), x, fitted


def ask(tree, x, known, at=0):
    """What a scikit-learn tree expects of a row of which only some features are known."""
    if tree.children_left[at] < 0:
        return tree.value[at, :, 0]
    left, right = tree.children_left[at], tree.children_right[at]
    f = tree.feature[at]
    if f in known:
        return ask(tree, x, known, left if np.float32(x[f]) <= tree.threshold[at] else right)
    weight = tree.weighted_n_node_samples
    return (weight[left] * ask(tree, x, known, left) + weight[right] * ask(tree, x, known, right)) / weight[
        at
    ]


def enumerated(fitted, x):
    """Shapley values by their definition, over all coalitions."""
    p = len(x)
    trees = [e.tree_ for e in fitted.estimators_]

    def worth(known):
        return np.mean([ask(t, x, known) for t in trees], axis=0)

    found = np.zeros((p, len(worth(()))))
    for f in range(p):
        others = [g for g in range(p) if g != f]
        for size in range(p):
            weight = math.factorial(size) * math.factorial(p - size - 1) / math.factorial(p)
            for known in itertools.combinations(others, size):
                found[f] += weight * (worth((*known, f)) - worth(known))
    return found


@pytest.mark.parametrize("model", [RandomForestRegressor, ExtraTreesRegressor])
@pytest.mark.parametrize("settings", [{}, {"max_depth": 1}, {"max_leaf_nodes": 6}, {"min_samples_leaf": 40}])
def test_values_equal_the_enumerated_game(model, settings):
    for seed, p in ((0, 1), (1, 4), (2, 5)):
        forest, x, fitted = grown(model, p=p, seed=seed, **settings)
        new = np.vstack([x[:2], x[:1] + 7.5])
        found = shapley_values(forest, new)
        for i, row in enumerate(new):
            np.testing.assert_allclose(found[i], enumerated(fitted, row), rtol=1e-9, atol=1e-12)


def test_a_row_is_explained_whole():
    forest, x, fitted = grown(n=300, p=9, k=3, trees=20)
    found = shapley_values(forest, x)
    assert found.shape == (300, 9, 3)
    np.testing.assert_allclose(
        found.sum(axis=1) + expected_value(forest), predict(forest, x), rtol=1e-10, atol=1e-12
    )
    wanted = np.mean([e.tree_.value[0, :, 0] for e in fitted.estimators_], axis=0)
    np.testing.assert_allclose(expected_value(forest), wanted, rtol=1e-6)  # the means at the roots


def test_a_feature_that_no_tree_looks_at_moves_nothing():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=80), np.zeros(80), rng.normal(size=80)])
    forest = from_sklearn(RandomForestRegressor(5, random_state=0).fit(x, x[:, 0] + x[:, 2]))
    found = shapley_values(forest, np.column_stack([x[:, 0], rng.normal(size=80), x[:, 2]]))
    assert (found[:, 1] == 0).all() and (np.abs(found[:, [0, 2]]) > 1e-6).any()


def both() -> Forest:
    """1 where both features are above 0, else 0: by feature 0 first in one tree, by 1 in the other."""
    return Forest(
        feature=np.array([0, 1, 1, 0], np.int16),
        threshold=np.zeros(4, np.float32),
        left=np.array([-1, -2, -4, -5], np.int32),
        right=np.array([1, -3, 3, -6], np.int32),
        roots=np.array([0, 2], np.int32),
        leaves=np.array([[0.0], [0], [1], [0], [0], [1]]),
        n_features=3,
        cover=np.array([6, 3, 3, 6, 3, 3], np.float32),
    )


def test_features_that_play_the_same_part_get_the_same():
    found = shapley_values(both(), np.array([[1.0, 1, 1], [1, -1, 1]]))[..., 0]
    # v() = 1/4, v(0) = v(1) = 1/2, v(01) = 1: each moves (1/4 + 1/2) / 2.
    np.testing.assert_allclose(found[0], [0.375, 0.375, 0])
    # The second row: v(0) = 1/2, v(1) = v(01) = 0.
    np.testing.assert_allclose(found[1], [0.125, -0.375, 0])


def test_the_edge_of_a_split_belongs_to_the_left():
    x = np.array([[0.0, 0.0, 0.0]])
    assert predict(both(), x)[0, 0] == 0
    assert shapley_values(both(), x).sum() + expected_value(both())[0] == pytest.approx(0)


def test_trees_of_one_leaf_have_nothing_to_explain():
    x = np.zeros((12, 2))
    forest = from_sklearn(RandomForestRegressor(3, random_state=0).fit(x, np.ones(12)))
    assert (shapley_values(forest, x) == 0).all() and expected_value(forest).tolist() == [1.0]
    assert shapley_values(forest, x[:0]).shape == (0, 2, 1)


def test_a_forest_without_cover_is_refused_in_words():
    forest, x, _ = grown()
    for bare in (replace(forest, cover=None), from_arrays(_without_cover(forest), 5)):
        assert np.array_equal(predict(bare, x), predict(forest, x))
        with pytest.raises(CalibrationError, match="calibrate anew"):
            shapley_values(bare, x)
        with pytest.raises(CalibrationError, match="calibrate anew"):
            expected_value(bare)


def _without_cover(forest):
    return {name: array for name, array in to_arrays(forest).items() if name != "cover"}


def test_rows_that_do_not_fit_are_refused():
    forest, _, _ = grown()
    for bad in (np.full((1, 5), np.nan), np.zeros((1, 4)), np.zeros(5)):
        with pytest.raises(CalibrationError, match="finite rows of 5 columns"):
            shapley_values(forest, bad)
