"""Why a forest says what it says: exact Shapley values of the features of each row.

The game is TreeSHAP's path-dependent one: a tree is asked with some features known; where it looks at
an unknown one it goes both ways, weighted by how much training data went each way. A leaf then counts
with a product over the features on its path: of 1 or 0 for a known feature (the row fits the path or
does not), of a ratio of training data for an unknown one. The Shapley value of a product game is the
integral of a polynomial over [0, 1], which Gauss-Legendre quadrature gives exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.forest import Forest


@dataclass(frozen=True, kw_only=True, eq=False)
class _Leaves:
    """The leaves whose paths look at d features.

    Parameters
    ----------
    feature
        Which they look at, (d, l).
    low, high
        A row fits the path where low < feature <= high, float32 (d, l).
    ratio
        Share of the training data that fits, as the tree's splits on this feature have it, (d, l).
    unknown
        The ratio times one minus each node of the quadrature, (d, q, l).
    nodes, weights
        Of the quadrature, (q,).
    place
        Of each feature and leaf in the flat table of all features and leaves, (d, l).
    """

    feature: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ratio: np.ndarray
    unknown: np.ndarray
    place: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Paths:
    """All leaves in groups; their values over the number of trees, (leaves, k); the expected value, (k,)."""

    groups: tuple[_Leaves, ...]
    value: np.ndarray
    expected: np.ndarray


def expected_value(forest: Forest) -> Float64[np.ndarray, " k"]:
    """Mean of what the forest says over its training data, of which Shapley values are departures.

    Parameters
    ----------
    forest
        With its cover.

    Returns
    -------
    ndarray
        float64 (k,), one for each output.

    Raises
    ------
    CalibrationError
        If the forest was stored without its cover.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> from passband.estimate.forest import from_sklearn
    >>> x = np.arange(8.0)[:, None]
    >>> grown = RandomForestRegressor(1, bootstrap=False, random_state=0).fit(x, x[:, 0])
    >>> expected_value(from_sklearn(grown)).tolist()
    [3.5]
    """
    return _paths(forest).expected.copy()


def shapley_values(forest: Forest, x: np.ndarray) -> Float64[np.ndarray, "n p k"]:
    """How much each feature moves what the forest says of a row, from its expected value.

    Parameters
    ----------
    forest
        With its cover.
    x
        Finite rows, float64 (n, ``n_features``).

    Returns
    -------
    ndarray
        float64 (n, ``n_features``, outputs). Over the features of a row they sum to the prediction less
        `expected_value`, to rounding.

    Raises
    ------
    CalibrationError
        If the forest was stored without its cover, or the rows have another number of columns or are
        not finite.

    References
    ----------
    S. M. Lundberg, S.-I. Lee, A unified approach to interpreting model predictions (2017),
    arXiv:1705.07874. S. M. Lundberg et al., From local explanations to global understanding with
    explainable AI for trees, Nature Machine Intelligence 2 (2020), doi:10.1038/s42256-019-0138-9.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> from passband.estimate.forest import from_sklearn, predict
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> forest = from_sklearn(RandomForestRegressor(5, random_state=0).fit(x, x[:, 0] - x[:, 1]))
    >>> values = shapley_values(forest, x[:2])
    >>> values.shape
    (2, 3, 1)
    >>> bool(np.allclose(values.sum(axis=1), predict(forest, x[:2]) - expected_value(forest)))
    True
    """
    if x.ndim != 2 or x.shape[1] != forest.n_features or not np.isfinite(x).all():
        raise CalibrationError(f"the forest wants finite rows of {forest.n_features} columns, got {x.shape}")
    paths = _paths(forest)
    limit = np.finfo(np.float32).max
    shares = np.zeros((forest.n_features, len(forest.leaves)))
    said = np.empty((len(x), forest.n_features, forest.outputs))
    for i, row in enumerate(np.clip(x, -limit, limit).astype(np.float32)):
        for leaves in paths.groups:
            shares.ravel()[leaves.place] = _shares(leaves, row)
        said[i] = shares @ paths.value
    return said


def _shares(leaves: _Leaves, row: np.ndarray) -> Float64[np.ndarray, "d l"]:
    """Of each leaf, what share of its value the features on its path give or take for a row."""
    here = row[leaves.feature]
    fits = ((here > leaves.low) & (here <= leaves.high)).astype(np.float64)
    factor = leaves.unknown + leaves.nodes[:, None] * fits[:, None, :]
    product = np.multiply.reduce(factor, axis=0) * leaves.weights[:, None]
    # Divided by its own factor, which is more than 0, a feature's product is that of all others.
    np.divide(product, factor, out=factor)
    return np.asarray(factor.sum(axis=1) * (fits - leaves.ratio))


@lru_cache(maxsize=4)
def _paths(forest: Forest) -> _Paths:
    """What every path looks at; made once for a forest."""
    if forest.cover is None:
        raise CalibrationError(
            "this forest was stored without the numbers of training rows in its leaves, so its estimates "
            "cannot be explained; calibrate anew with this version"
        )
    m, n_leaves, p = len(forest.feature), len(forest.leaves), forest.n_features
    parent, is_left = np.full(m + n_leaves, -1), np.zeros(m + n_leaves, bool)
    for child, left in ((forest.left, True), (forest.right, False)):
        at = np.where(child >= 0, child, m + ~child)
        parent[at], is_left[at] = np.arange(m), left
    cover = np.concatenate([np.zeros(m), forest.cover.astype(np.float64)])
    for leaf, above, _ in _climb(parent, m, n_leaves):
        np.add.at(cover, above, forest.cover[leaf])
    low = np.full((p, n_leaves), -np.inf, np.float32)
    high, ratio = np.full((p, n_leaves), np.inf, np.float32), np.ones((p, n_leaves))
    seen = np.zeros((p, n_leaves), bool)
    for leaf, above, below in _climb(parent, m, n_leaves):
        f, cut, left = forest.feature[above], forest.threshold[above], is_left[below]
        seen[f, leaf] = True
        ratio[f, leaf] *= cover[below] / cover[above]
        high[f, leaf] = np.where(left, np.minimum(high[f, leaf], cut), high[f, leaf])
        low[f, leaf] = np.where(left, low[f, leaf], np.maximum(low[f, leaf], cut))
    value = forest.leaves / len(forest.roots)
    groups = []
    depth = seen.sum(axis=0)
    for d in range(1, int(depth.max()) + 1):
        mine = np.flatnonzero(depth == d)
        if mine.size:
            feature = np.nonzero(seen[:, mine].T)[1].reshape(len(mine), d).T
            groups.append(_group(feature, mine, low, high, ratio))
    expected = (value * ratio.prod(axis=0)[:, None]).sum(axis=0)
    return _Paths(groups=tuple(groups), value=value, expected=expected)


def _group(
    feature: np.ndarray, mine: np.ndarray, low: np.ndarray, high: np.ndarray, ratio: np.ndarray
) -> _Leaves:
    d = len(feature)
    # q nodes are exact up to degree 2q - 1; the polynomial has degree d - 1.
    t, w = np.polynomial.legendre.leggauss((d + 1) // 2)
    nodes = (t + 1) / 2
    own = ratio[feature, mine]
    return _Leaves(
        feature=np.ascontiguousarray(feature),
        low=low[feature, mine],
        high=high[feature, mine],
        ratio=own,
        unknown=np.ascontiguousarray(own[:, None, :] * (1 - nodes)[:, None]),
        place=feature * ratio.shape[1] + mine,
        nodes=nodes,
        weights=w / 2,
    )


def _climb(parent: np.ndarray, m: int, n_leaves: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Leaves, the nodes above and the nodes or leaves below, step by step from the leaves to the roots."""
    leaf = np.arange(n_leaves)
    below = m + leaf
    steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while True:
        inside = parent[below] >= 0
        leaf, below = leaf[inside], below[inside]
        if not leaf.size:
            return steps
        steps.append((leaf, parent[below], below))
        below = parent[below]
