"""How the scores are regressed on features: the recipes, the fit, and fits that leave rows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from passband.errors import CalibrationError
from passband.estimate import forest as trees
from passband.estimate.blend import Blend, guess_blend
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
    """How estimates and the residuals that their intervals rest on are made.

    Parameters
    ----------
    inputs
        The features that the regressor sees.
    blend
        A `Blend`, with intervals for new domains where whole domains could be left out; otherwise a
        forest for each score, with intervals from held-out images of the same domains.
    stranger
        Variance, in logits squared, of a shift of all errors by a detector that gave none of the rows; 0
        where estimates are for the detector that gave them.
    """

    inputs: tuple[str, ...]
    blend: bool
    stranger: float = 0.0


BATCH_FEATURES: tuple[str, ...] = ("same_shifted", "same_deformed", "same_noisier")
"""Of a particle model's answer on a batch of crops: `passband.particles.batches` computes them."""

SEGMENTER_FEATURES: tuple[str, ...] = (
    "share",
    "confidence",
    "soft_dice",
    "agree_noise",
    "agree_negative",
    "agree_turn",
    "agree_scale",
    "smooth_9",
    "smooth_21",
    "edge",
)
"""Of a segmenter's answers on a micrograph and on changed ones: `passband.detectors.evidence` has them."""

OUTLINE_FEATURES: tuple[str, ...] = (
    "count",
    "area_ratio",
    "mean_size",
    "std_size",
    "mean_circularity",
    "std_circularity",
    "spectral_slope",
    "noise_level",
)
"""Of objects that come without scores."""

RECIPES: dict[str, Recipe] = {
    # Li et al. 2025: standardised features, 100 trees, scikit-learn's defaults; they give no intervals.
    "paper-rf": Recipe(inputs=PAPER_FEATURES, blend=False),
    "passband": Recipe(inputs=PAPER_FEATURES, blend=True),
    "particles": Recipe(inputs=BATCH_FEATURES, blend=True),
    "segmenter": Recipe(inputs=SEGMENTER_FEATURES, blend=True),
    "any detector": Recipe(inputs=PAPER_FEATURES, blend=True, stranger=1.0),
    "any outlines": Recipe(inputs=OUTLINE_FEATURES, blend=True, stranger=1.0),
}
"""The published recipe, the default, those for particle models and for the pixels of segmenters, and those
that know many detectors, to be adapted to one more."""

_N_TREES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Forests:
    """Fitted forests of the three scores.

    Parameters
    ----------
    center, scale
        The inputs' means and standard deviations over the training rows, shape (p,).
    forests
        One for each score.
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


Regressor = Forests | Blend


def fit_forests(x: Inputs, y: ScoreTable, seed: int) -> Forests:
    """Fit the published forests.

    Parameters
    ----------
    x
        Inputs, float64 (n, p).
    y
        Scores, float64 (n, 3), columns in the order of `TARGETS`.
    seed
        Seed of the trees.

    Returns
    -------
    Forests
        Ready for `guess`.

    Raises
    ------
    CalibrationError
        If there are fewer than `MIN_TRAINING_ROWS` rows.

    Examples
    --------
    >>> x = np.linspace(0, 1, 40)[:, None]
    >>> guess(fit_forests(x, np.repeat(x, 3, axis=1), seed=0), x[:1]).round(1).tolist()
    [[0.0, 0.0, 0.0]]
    """
    from sklearn.ensemble import RandomForestRegressor

    if len(x) < MIN_TRAINING_ROWS:
        raise CalibrationError(f"a fit wants at least {MIN_TRAINING_ROWS} rows, got {len(x)}")
    center, scale = x.mean(axis=0), x.std(axis=0)
    # As scikit-learn's scaler: a constant column is shifted but not stretched, rounding aside.
    scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(center)] = 1.0
    z = (x - center) / scale
    grown = [RandomForestRegressor(_N_TREES, random_state=seed).fit(z, target) for target in y.T]
    return Forests(center=center, scale=scale, forests=tuple(trees.from_sklearn(model) for model in grown))


def guess(regressor: Regressor, x: Inputs) -> ScoreTable:
    """Estimates of some rows.

    Parameters
    ----------
    regressor
        Fitted.
    x
        Finite inputs, float64 (n, p).

    Returns
    -------
    ndarray
        float64 (n, 3), columns in the order of `TARGETS`.

    Raises
    ------
    CalibrationError
        If x has another number of columns or is not finite.
    """
    if isinstance(regressor, Blend):
        return guess_blend(regressor, x)
    z = (x - regressor.center) / regressor.scale
    return np.concatenate([trees.predict(f, z) for f in regressor.forests], axis=1)


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
    x: Inputs, y: ScoreTable, groups: Sequence[str], images: Sequence[str], seed: int
) -> ScoreTable:
    """Guesses of every row by forests that saw neither its group nor its image.

    Parameters
    ----------
    x, y
        As in `fit_forests`.
    groups, images
        Group and image name of every row.
    seed
        Seed of the trees.

    Returns
    -------
    ndarray
        float64 (n, 3), NaN in the rows of a group that leaves fewer than `MIN_TRAINING_ROWS` to train on.
    """
    names = np.asarray(groups)
    value = np.full(y.shape, np.nan)
    for group in np.unique(names):
        train = training_rows(str(group), groups, images)
        if train.sum() < MIN_TRAINING_ROWS:
            continue
        out = names == group
        value[out] = guess(fit_forests(x[train], y[train], seed), x[out])
    return value
