"""A stored forest says what scikit-learn's does, and hostile arrays are refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from passband.errors import CalibrationError
from passband.estimate import forest

pytestmark = pytest.mark.training


def data(n=120, p=6, k=1, seed=0):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, p)), 2)  # ties, so that thresholds lie between neighbouring values
    return x, np.column_stack([x[:, i] ** 2 + rng.normal(size=n) for i in range(k)]).squeeze()


@pytest.mark.parametrize(
    "model,outputs,settings",
    [
        *itertools.product([RandomForestRegressor, ExtraTreesRegressor], [1, 3], [{}, {"max_leaf_nodes": 8}]),
        (RandomForestRegressor, 1, {"max_depth": 1}),
        (RandomForestRegressor, 1, {"min_samples_leaf": 100}),  # trees of one leaf only
    ],
)
def test_predictions_equal_scikit_learns(model, outputs, settings):
    x, y = data(k=outputs)
    fitted = model(20, random_state=0, **settings).fit(x, y)
    flat = forest.from_sklearn(fitted)
    new = np.vstack([x, data(3000, seed=1)[0], x.astype(np.float32) + 1e-9])
    wanted = fitted.predict(new).reshape(len(new), outputs)
    assert np.abs(forest.predict(flat, new) - wanted).max() < 1e-12
    assert flat.outputs == outputs


def test_trees_equal_scikit_learns_one_by_one():
    x, y = data()
    fitted = RandomForestRegressor(7, random_state=0).fit(x, y)
    wanted = np.stack([tree.predict(x) for tree in fitted.estimators_], axis=1)
    assert np.array_equal(forest.predict_trees(forest.from_sklearn(fitted), x)[..., 0], wanted)


def test_thresholds_between_neighbouring_float32_part_them():
    """The float64 middle of two neighbours rounds to one of them; it must be the lower."""
    low = np.float32(1)
    x = np.array([[low], [np.nextafter(low, np.float32(2))]], np.float64)
    fitted = RandomForestRegressor(5, random_state=0, bootstrap=False).fit(x, [0.0, 1.0])
    assert forest.predict(forest.from_sklearn(fitted), x)[:, 0].tolist() == fitted.predict(x).tolist()


def test_no_rows_give_no_predictions():
    x, y = data()
    flat = forest.from_sklearn(RandomForestRegressor(2, random_state=0).fit(x, y))
    assert forest.predict(flat, x[:0]).shape == (0, 1)


def test_arrays_round_trip():
    x, y = data()
    flat = forest.from_sklearn(ExtraTreesRegressor(3, random_state=0).fit(x, y))
    arrays = {name: array for name, array in vars(flat).items() if name != "n_features"}
    again = forest.from_arrays(arrays, flat.n_features)
    for name, array in arrays.items():
        assert np.array_equal(getattr(again, name), array) and getattr(again, name).dtype == array.dtype


def test_what_earlier_versions_stored_besides_is_left_out():
    flat = forest.from_arrays(small(), 2)
    old = forest.from_arrays(small() | {"cover": np.array([2, 1, 4, 7], np.float32)}, 2)
    assert vars(old).keys() == vars(flat).keys()
    rows = np.array([[0.0, 0], [0, 1], [1, 0]])
    assert np.array_equal(forest.predict(old, rows), forest.predict(flat, rows))


def test_huge_values_go_somewhere_and_nan_nowhere():
    x, y = data()
    flat = forest.from_sklearn(RandomForestRegressor(3, random_state=0).fit(x, y))
    assert np.isfinite(forest.predict(flat, np.full((1, 6), 1e300))).all()
    for bad in (np.full((1, 6), np.nan), np.zeros((1, 5)), np.zeros(6)):
        with pytest.raises(CalibrationError, match="finite rows of 6 columns"):
            forest.predict(flat, bad)


def small():
    """Two trees: one of two inner nodes and three leaves, one of a leaf."""
    return {
        "feature": np.array([0, 1], np.int16),
        "threshold": np.array([0.5, 0.5], np.float32),
        "left": np.array([1, -1], np.int32),
        "right": np.array([-3, -2], np.int32),
        "roots": np.array([0, -4], np.int32),
        "leaves": np.array([[0.0], [1], [2], [3]]),
    }


def test_a_forest_written_by_hand():
    flat = forest.from_arrays(small(), 2)
    rows = np.array([[0.0, 0], [0, 1], [1, 0]])
    assert forest.predict_trees(flat, rows)[..., 0].tolist() == [[0, 3], [1, 3], [2, 3]]


@pytest.mark.parametrize(
    "change,words",
    [
        ({"left": [0, -1]}, "loop"),
        ({"left": [1, 0]}, "loop"),
        ({"right": [2, -2]}, "right points outside 2 nodes and 4 leaves"),
        ({"right": [-5, -2]}, "right points outside"),
        ({"roots": [7]}, "roots points outside"),
        ({"roots": []}, "no trees"),
        ({"feature": [0, 2]}, "outside 0 to 1"),
        ({"feature": [0, -1]}, "outside 0 to 1"),
        ({"feature": [0]}, "differ in length"),
        ({"threshold": [0.5, np.nan]}, "NaN"),
        ({"leaves": [[0], [1], [np.inf], [3]]}, "infinity"),
        ({"leaves": [0.0, 1, 2, 3]}, "leaves must be float64 of 2 axes"),
        ({"left": [[1], [-1]]}, "left must be int32 of 1 axes"),
    ],
)
def test_hostile_arrays_are_refused(change, words):
    arrays = small()
    arrays |= {name: np.array(value, arrays[name].dtype) for name, value in change.items()}
    with pytest.raises(CalibrationError, match=words):
        forest.from_arrays(arrays, 2)


def test_wrong_types_are_named_together():
    arrays = small() | {"left": np.array([1.0, -1]), "leaves": np.zeros((4, 1), np.float32)}
    with pytest.raises(CalibrationError, match=r"left must be int32.*leaves must be float64"):
        forest.from_arrays(arrays, 2)


def test_missing_and_unknown_arrays_are_named():
    arrays = small() | {"extra": np.zeros(1)}
    del arrays["roots"]
    with pytest.raises(CalibrationError, match=r"missing \['roots'\], unknown \['extra'\]"):
        forest.from_arrays(arrays, 2)


def test_a_chain_without_end_is_refused():
    m = 5000
    arrays = {
        "feature": np.zeros(m, np.int16),
        "threshold": np.zeros(m, np.float32),
        "left": np.r_[np.arange(1, m), -1].astype(np.int32),
        "right": np.full(m, -1, np.int32),
        "roots": np.zeros(1, np.int32),
        "leaves": np.zeros((1, 1)),
    }
    with pytest.raises(CalibrationError, match="deeper than"):
        forest.from_arrays(arrays, 1)
