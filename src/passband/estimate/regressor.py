"""How the scores are regressed on features: the recipes, the fit, and fits that leave rows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from passband.errors import CalibrationError
from passband.estimate import forest as trees
from passband.estimate.features import PAPER_FEATURES
from passband.estimate.forest import Forest

Inputs = Float64[np.ndarray, "n q"]
ScoreTable = Float64[np.ndarray, "n k"]

TARGETS: tuple[str, ...] = ("f1", "precision", "recall")
"""What is estimated, in the order of every table of targets."""

MIN_TRAINING_ROWS = 10
"""A fit on fewer rows says nothing."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a regressor and its residuals are made.

    Parameters
    ----------
    inputs
        The features that the regressor sees.
    extra
        Extremely randomised trees on all rows instead of a random forest on bootstrap samples.
    joint
        One forest for all targets, which share their splits, instead of one for each.
    min_leaf
        Fewest training rows in a leaf.
    max_leaves
        Most leaves of a tree, None for no bound; keeps a calibration small.
    difficulty_leaf
        Fewest rows in a leaf of a second forest, which learns from held-out residuals how large an
        error to expect, so that intervals are wide only where errors are; None: equally wide everywhere.
    across_domains
        Residuals come from held-out domains; otherwise from held-out images of the same domains.
    """

    inputs: tuple[str, ...]
    extra: bool
    joint: bool
    min_leaf: int
    max_leaves: int | None
    difficulty_leaf: int | None
    across_domains: bool


RECIPES: dict[str, Recipe] = {
    # Li et al. 2025: standardised features, 100 trees, scikit-learn's defaults, in-domain intervals.
    "paper-rf": Recipe(
        inputs=PAPER_FEATURES,
        extra=False,
        joint=False,
        min_leaf=1,
        max_leaves=None,
        difficulty_leaf=None,
        across_domains=False,
    ),
    # Random cuts and leaves of three rows follow a training domain less closely.
    "passband": Recipe(
        inputs=PAPER_FEATURES,
        extra=True,
        joint=True,
        min_leaf=3,
        max_leaves=256,
        difficulty_leaf=8,
        across_domains=True,
    ),
}
"""The published recipe and the default."""

DIFFICULTY_FLOOR = 0.05
"""Added to every expected error: none is taken to be certain."""

_N_TREES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Regressor:
    """A fitted regressor of the three scores.

    Parameters
    ----------
    center, scale
        The inputs' means and standard deviations over the training rows, shape (p,).
    forests
        One forest of three outputs, or one of one output for each target.
    """

    # Plain arrays: types and shapes are checked below always, not by annotation in the tests only.
    center: np.ndarray
    scale: np.ndarray
    forests: tuple[Forest, ...]

    def __post_init__(self) -> None:
        p = len(self.center)
        faults = []
        for name in ("center", "scale"):
            array = getattr(self, name)
            if array.dtype != np.float64 or array.shape != (p,):
                faults.append(f"{name} must be float64 of shape ({p},), got {array.dtype} of {array.shape}")
            elif not np.isfinite(array).all() or (name == "scale" and not (array > 0).all()):
                faults.append(f"{name} must be finite, and a scale positive")
        if sum(f.outputs for f in self.forests) != len(TARGETS):
            faults.append(
                f"forests of {[f.outputs for f in self.forests]} outputs for {len(TARGETS)} targets"
            )
        if any(f.n_features != p for f in self.forests):
            faults.append(f"forests of {[f.n_features for f in self.forests]} features for {p} inputs")
        if faults:
            raise CalibrationError("a regressor cannot be used: " + "; ".join(faults))


@dataclass(frozen=True, kw_only=True, eq=False)
class Guesses:
    """What a regressor says of some rows.

    Parameters
    ----------
    value
        Estimates, float64 (n, 3), columns in the order of `TARGETS`; NaN where no fit could be made.
    spread
        Standard deviation over trees, float64 (n, 3).
    """

    value: ScoreTable
    spread: ScoreTable


def fit_regressor(x: Inputs, y: ScoreTable, recipe: Recipe, seed: int) -> Regressor:
    """Fit the forests of a recipe.

    Parameters
    ----------
    x
        Inputs in the recipe's order, float64 (n, p).
    y
        Scores, float64 (n, 3), columns in the order of `TARGETS`.
    recipe
        What to fit.
    seed
        Seed of the trees.

    Returns
    -------
    Regressor
        Ready for `guess`.

    Raises
    ------
    CalibrationError
        If there are fewer than `MIN_TRAINING_ROWS` rows.
    """
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

    if len(x) < MIN_TRAINING_ROWS:
        raise CalibrationError(f"a fit wants at least {MIN_TRAINING_ROWS} rows, got {len(x)}")
    center, scale = x.mean(axis=0), x.std(axis=0)
    # As scikit-learn's scaler: a constant column is shifted but not stretched, rounding aside.
    scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(center)] = 1.0
    grow = ExtraTreesRegressor if recipe.extra else RandomForestRegressor
    targets = [y] if recipe.joint else list(y.T)
    forests = []
    for target in targets:
        model = grow(
            _N_TREES, min_samples_leaf=recipe.min_leaf, max_leaf_nodes=recipe.max_leaves, random_state=seed
        )
        forests.append(trees.from_sklearn(model.fit((x - center) / scale, target)))
    return Regressor(center=center, scale=scale, forests=tuple(forests))


def guess(regressor: Regressor, x: Inputs) -> Guesses:
    """Estimates of some rows, and how far the trees disagree about each.

    Parameters
    ----------
    regressor
        Fitted.
    x
        Finite inputs, float64 (n, p).

    Returns
    -------
    Guesses
        n rows.

    Raises
    ------
    CalibrationError
        If x has another number of columns or is not finite.
    """
    z = (x - regressor.center) / regressor.scale
    value, spread = [], []
    for start in range(0, max(len(z), 1), 2048):
        said = [trees.predict_trees(f, z[start : start + 2048]) for f in regressor.forests]
        value.append(np.concatenate([s.mean(axis=1) for s in said], axis=1))
        spread.append(np.concatenate([s.std(axis=1) for s in said], axis=1))
    return Guesses(value=np.concatenate(value), spread=np.concatenate(spread))


def training_rows(group: str, groups: Sequence[str], images: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Rows that may be trained on when a group is held out: of other groups and of other images.

    Parameters
    ----------
    group
        What is held out.
    groups, images
        Group and image name of every row. An image of the held-out group is removed wherever it
        occurs: another detector's detections of it are no independent row.

    Returns
    -------
    ndarray
        Boolean (n,).

    Examples
    --------
    >>> training_rows("B", ["A", "A", "B"], ["one.tif", "two.tif", "two.tif"]).tolist()
    [True, False, False]
    """
    out = np.asarray(groups) == group
    names = np.asarray(images)
    return np.asarray(~out & ~np.isin(names, names[out]))


def image_folds(images: Sequence[str], folds: int, seed: int) -> list[str]:
    """Assign every image, with all its rows, to one of some folds of nearly equal numbers of images.

    Parameters
    ----------
    images
        Image name of every row.
    folds
        How many; fewer where there are fewer images.
    seed
        Seed of the draw.

    Returns
    -------
    list of str
        The fold of every row.

    Examples
    --------
    >>> sorted(set(image_folds(["a", "a", "b", "c"], 2, seed=0)))
    ['0', '1']
    """
    names, which = np.unique(np.asarray(images), return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names)) % min(folds, len(names))
    return [str(f) for f in fold[which]]


def cross_fit(
    x: Inputs, y: ScoreTable, groups: Sequence[str], images: Sequence[str], recipe: Recipe, seed: int
) -> Guesses:
    """Guesses of every row by a regressor that saw neither its group nor its image.

    Parameters
    ----------
    x, y
        As in `fit_regressor`.
    groups, images
        Group and image name of every row.
    recipe
        What to fit.
    seed
        Seed of the trees.

    Returns
    -------
    Guesses
        NaN in the rows of a group that leaves fewer than `MIN_TRAINING_ROWS` to train on.
    """
    names = np.asarray(groups)
    value, spread = np.full(y.shape, np.nan), np.full(y.shape, np.nan)
    for group in np.unique(names):
        train = training_rows(str(group), groups, images)
        if train.sum() < MIN_TRAINING_ROWS:
            continue
        out = names == group
        said = guess(fit_regressor(x[train], y[train], recipe, seed), x[out])
        value[out], spread[out] = said.value, said.spread
    return Guesses(value=value, spread=spread)


def difficulty_inputs(x: Inputs, said: Guesses) -> Float64[np.ndarray, "n r"]:
    """Put together what an expected error is learned from: the inputs, the estimates and their spread.

    Examples
    --------
    >>> said = Guesses(value=np.zeros((2, 3)), spread=np.ones((2, 3)))
    >>> difficulty_inputs(np.zeros((2, 8)), said).shape
    (2, 14)
    """
    return np.concatenate([x, said.value, said.spread], axis=1)


def expected_error(difficulty: Regressor | None, x: Inputs, said: Guesses) -> ScoreTable:
    """How large an error of each estimate to expect, up to a factor.

    Parameters
    ----------
    difficulty
        Fitted on held-out residuals, or None for the same everywhere.
    x
        Inputs of the estimates, float64 (n, p).
    said
        The estimates.

    Returns
    -------
    ndarray
        float64 (n, 3), more than zero.
    """
    if difficulty is None:
        return np.ones_like(said.value)
    return guess(difficulty, difficulty_inputs(x, said)).value + DIFFICULTY_FLOOR
