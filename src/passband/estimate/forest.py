"""A forest of regression trees as flat arrays: stored without pickle, predicted with numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from passband.errors import CalibrationError
from passband.types import Vector

_MAX_DEPTH = 512
_CHUNK = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest:
    """Regression trees with their inner nodes in one row of arrays and their leaves in another.

    A child of at least 0 is an inner node, always further on than its parent; a child below 0 is the
    leaf ``~child``. A row goes left where its feature, as float32, is at most the threshold.

    Parameters
    ----------
    feature
        Column that each inner node looks at, int16 (m,).
    threshold
        float32 (m,).
    left, right
        Children, int32 (m,).
    roots
        First node or leaf of each tree, int32 (t,), at least one tree.
    leaves
        Mean of the training targets in each leaf, float64 (l, k).
    n_features
        How many columns a row has.

    Raises
    ------
    CalibrationError
        Naming every fault of the arrays, so that arrays from a file cannot lead outside or around.
    """

    # Plain arrays: types and shapes are checked below always, not by annotation in the tests only.
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    roots: np.ndarray
    leaves: np.ndarray
    n_features: int

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise CalibrationError("a forest cannot be used: " + "; ".join(faults))

    @property
    def outputs(self) -> int:
        """How many targets are predicted."""
        return int(self.leaves.shape[1])


def from_sklearn(model: Any) -> Forest:
    """Flatten a fitted RandomForestRegressor or ExtraTreesRegressor.

    Parameters
    ----------
    model
        The fitted scikit-learn forest.

    Returns
    -------
    Forest
        Predicts the same numbers to rounding (1e-12).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> x = np.arange(20.0)[:, None]
    >>> forest = from_sklearn(RandomForestRegressor(5, random_state=0).fit(x, x[:, 0] > 9))
    >>> predict(forest, np.array([[1.0], [18.0]]))[:, 0].tolist()
    [0.0, 1.0]
    """
    parts: dict[str, list[np.ndarray]] = {k: [] for k in _GROWN}
    roots, nodes, leaves = [], 0, 0
    for tree in (estimator.tree_ for estimator in model.estimators_):
        inner = tree.children_left >= 0
        code = np.where(inner, nodes + np.cumsum(inner) - 1, ~(leaves + np.cumsum(~inner) - 1))
        roots.append(code[0])
        parts["feature"].append(tree.feature[inner])
        parts["threshold"].append(_round_down(tree.threshold[inner]))
        parts["left"].append(code[tree.children_left[inner]])
        parts["right"].append(code[tree.children_right[inner]])
        parts["leaves"].append(tree.value[~inner, :, 0])
        nodes += int(inner.sum())
        leaves += int((~inner).sum())
    flat = {key: np.concatenate(value) for key, value in parts.items()}
    return Forest(
        feature=flat["feature"].astype(np.int16),
        threshold=flat["threshold"],
        left=flat["left"].astype(np.int32),
        right=flat["right"].astype(np.int32),
        roots=np.array(roots, np.int32),
        leaves=np.ascontiguousarray(flat["leaves"], np.float64),
        n_features=int(model.n_features_in_),
    )


def predict_trees(forest: Forest, x: np.ndarray) -> Float64[np.ndarray, "n t k"]:
    """Ask every tree about every row.

    Parameters
    ----------
    forest
        The trees.
    x
        Finite rows, float64 (n, ``n_features``).

    Returns
    -------
    ndarray
        float64 (n, trees, outputs); for many rows this is large, `predict` is not.

    Raises
    ------
    CalibrationError
        If the rows have another number of columns or are not finite.
    """
    if x.ndim != 2 or x.shape[1] != forest.n_features or not np.isfinite(x).all():
        raise CalibrationError(f"the forest wants finite rows of {forest.n_features} columns, got {x.shape}")
    limit = np.finfo(np.float32).max
    rows = np.clip(x, -limit, limit).astype(np.float32)
    trees = len(forest.roots)
    node = np.tile(forest.roots, len(rows))
    active = np.flatnonzero(node >= 0)
    while active.size:
        at = node[active]
        go_left = rows[active // trees, forest.feature[at]] <= forest.threshold[at]
        node[active] = np.where(go_left, forest.left[at], forest.right[at])
        active = active[node[active] >= 0]
    return np.asarray(forest.leaves[~node].reshape(len(rows), trees, forest.outputs), np.float64)


def predict(forest: Forest, x: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """Mean over trees, row by row.

    Parameters
    ----------
    forest
        The trees.
    x
        Finite rows, float64 (n, ``n_features``).

    Returns
    -------
    ndarray
        float64 (n, outputs).

    Raises
    ------
    CalibrationError
        If the rows have another number of columns or are not finite.

    Examples
    --------
    >>> stump = Forest(
    ...     feature=np.array([0], np.int16),
    ...     threshold=np.array([0.5], np.float32),
    ...     left=np.array([-1], np.int32),
    ...     right=np.array([-2], np.int32),
    ...     roots=np.array([0], np.int32),
    ...     leaves=np.array([[10.0], [20.0]]),
    ...     n_features=1,
    ... )
    >>> predict(stump, np.array([[0.2], [0.8]])).tolist()
    [[10.0], [20.0]]
    """
    chunks = [predict_trees(forest, x[i : i + _CHUNK]).mean(axis=1) for i in range(0, len(x), _CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros((0, forest.outputs))


def from_arrays(arrays: Mapping[str, np.ndarray], n_features: int) -> Forest:
    """Make a forest of stored arrays, checked through and through.

    Parameters
    ----------
    arrays
        Those of a forest by name, perhaps damaged or hostile. Earlier versions stored a ``cover`` too,
        which nothing needs.
    n_features
        How many columns a row has.

    Returns
    -------
    Forest
        The trees.

    Raises
    ------
    CalibrationError
        Naming every missing, unknown or faulty array.
    """
    arrays = {name: array for name, array in arrays.items() if name != "cover"}
    names, came = set(_DTYPES), set(arrays)
    if came != names:
        raise CalibrationError(
            f"a forest wants the arrays {sorted(names)}; missing {sorted(names - came)}, "
            f"unknown {sorted(came - names)}"
        )
    return Forest(n_features=n_features, **arrays)


def _round_down(threshold: Vector) -> Float32[np.ndarray, " m"]:
    """Largest float32 not above: for float32 features it parts the same rows as the float64."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


_DTYPES = {
    "feature": np.int16,
    "threshold": np.float32,
    "left": np.int32,
    "right": np.int32,
    "roots": np.int32,
    "leaves": np.float64,
}
_GROWN = ("feature", "threshold", "left", "right", "leaves")


def _faults(forest: Forest) -> list[str]:
    """Every fault of the arrays of a forest, in words."""
    faults = _type_faults(forest)
    if faults:
        return faults
    m = len(forest.feature)
    if not len(forest.threshold) == len(forest.left) == len(forest.right) == m:
        return [f"feature, threshold, left and right differ in length ({m} features)"]
    if len(forest.roots) == 0 or len(forest.leaves) == 0 or forest.leaves.shape[1] == 0:
        faults.append("no trees or no leaves")
    if m and (forest.feature.min() < 0 or forest.feature.max() >= forest.n_features):
        faults.append(f"a feature lies outside 0 to {forest.n_features - 1}")
    if not (np.isfinite(forest.threshold).all() and np.isfinite(forest.leaves).all()):
        faults.append("thresholds or leaves hold NaN or infinity")
    faults += _branch_faults(forest)
    if not faults and _deeper_than(forest, _MAX_DEPTH):
        faults.append(f"trees deeper than {_MAX_DEPTH} nodes")
    return faults


def _type_faults(forest: Forest) -> list[str]:
    faults = []
    for name, dtype in _DTYPES.items():
        array, ndim = getattr(forest, name), 2 if name == "leaves" else 1
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
            shape, kind = getattr(array, "shape", None), getattr(array, "dtype", type(array).__name__)
            faults.append(f"{name} must be {np.dtype(dtype)} of {ndim} axes, got {kind} of shape {shape}")
    return faults


def _branch_faults(forest: Forest) -> list[str]:
    """Branches that lead outside or around."""
    m, n_leaves = len(forest.feature), len(forest.leaves)
    faults, own = [], np.arange(m)
    for name, child in (("left", forest.left), ("right", forest.right), ("roots", forest.roots)):
        if ((child >= m) | (child < -n_leaves)).any():
            faults.append(f"{name} points outside {m} nodes and {n_leaves} leaves")
        elif name != "roots" and ((child >= 0) & (child <= own)).any():
            faults.append(f"{name} points back, which would make a loop")
    return faults


def _deeper_than(forest: Forest, depth: int) -> bool:
    nodes = np.unique(forest.roots[forest.roots >= 0])
    for _ in range(depth):
        if nodes.size == 0:
            return False
        children = np.concatenate([forest.left[nodes], forest.right[nodes]])
        nodes = np.unique(children[children >= 0])
    return nodes.size > 0
