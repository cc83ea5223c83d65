"""Narrower intervals for images that were taken as those of the calibration were: same instrument and pixels.

What a new material, instrument or focus may do to an estimate is most of an interval's width. Of an image
that comes from an instrument of the calibration, at a pixel size of it, and is like its images, the scores
of the nearest known images tell more: near is who falls into the same leaves of trees that were grown on
all features. How far the quantiles must reach is found on images that the trees did not see, so that nine
of ten known domains, and of fewer than ten all, get the coverage that is wanted.

References
----------
N. Meinshausen, Quantile regression forests, J. Mach. Learn. Res. 7 (2006) 983.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.conformal import Interval
from passband.estimate.forest import Forest, from_sklearn, predict_trees
from passband.estimate.regressor import TARGETS, ScoreTable, image_folds

TREES = 100
LEAF = 4
"""Images that a leaf holds at least."""
FOLDS = 5
SLACK = 1.02
"""Factor by which a pixel size may lie beyond those that are known."""
_LEVELS = (0.5, 0.99)
_DOMAINS_COVERED = 0.9
_LEAST_ROWS = 10
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Taken:
    """With what an image was taken.

    Parameters
    ----------
    instrument
        Its name, empty where unknown.
    pixel_size
        Å, or None where unknown.
    """

    instrument: str = ""
    pixel_size: float | None = None

    @property
    def known(self) -> bool:
        """Whether both are."""
        return bool(self.instrument) and self.pixel_size is not None


UNKNOWN = Taken()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An instrument of the calibration, and the pixel sizes at which its images were taken.

    Parameters
    ----------
    instrument
        Its name.
    low, high
        Lowest and highest pixel size, Å.
    """

    instrument: str
    low: float
    high: float

    def holds(self, taken: Taken) -> bool:
        """Whether an image was taken so.

        Examples
        --------
        >>> known = Setting(instrument="Talos", low=2.0, high=4.0)
        >>> known.holds(Taken(instrument="talos", pixel_size=4.01)), known.holds(Taken(pixel_size=3.0))
        (True, False)
        """
        if taken.pixel_size is None or _same(taken.instrument) != _same(self.instrument):
            return False
        return self.low / SLACK <= taken.pixel_size <= self.high * SLACK


@dataclass(frozen=True, kw_only=True, eq=False)
class InDomain:
    """What is known of images that are like those of the calibration.

    Parameters
    ----------
    forest
        Whose one output is the number of a leaf.
    leaves
        In which leaf of each tree each known image lies, int32 (n, t).
    scores
        Measured, float64 (n, 3), columns in the order of `TARGETS`, in [0, 1].
    levels
        Nominal coverage of the quantiles of each score, float64 (3,), inside (0, 1).
    settings
        With what the known images were taken, at least one.

    Raises
    ------
    CalibrationError
        Naming what does not fit.
    """

    # Plain arrays: types and shapes are checked below always, not by annotation in the tests only.
    forest: Forest
    leaves: np.ndarray
    scores: np.ndarray
    levels: np.ndarray
    settings: tuple[Setting, ...]

    def __post_init__(self) -> None:
        n, trees = len(self.scores), len(self.forest.roots)
        faults = []
        if self.forest.outputs != 1:
            faults.append(f"a forest of {self.forest.outputs} outputs")
        elif (self.forest.leaves[:, 0] != np.arange(len(self.forest.leaves))).any():
            faults.append("a forest whose leaves are not numbered")
        if self.leaves.dtype != np.int32 or self.leaves.shape != (n, trees) or not n:
            faults.append(f"leaves must be int32 ({n}, {trees}), got {self.leaves.dtype} {self.leaves.shape}")
        elif not ((self.leaves >= 0) & (self.leaves < len(self.forest.leaves))).all():
            faults.append("leaves that the forest does not have")
        for name, shape in (("scores", (n, len(TARGETS))), ("levels", (len(TARGETS),))):
            a = getattr(self, name)
            if a.dtype != np.float64 or a.shape != shape or not ((a >= 0) & (a <= 1)).all():
                faults.append(f"{name} must be float64 {shape} in [0, 1], got {a.dtype} {a.shape}")
        if not self.settings:
            faults.append("no instrument")
        if faults:
            raise CalibrationError("what is known of like images cannot be used: " + "; ".join(faults))

    def knows(self, taken: Taken) -> bool:
        """Whether some known images were taken so."""
        return any(setting.holds(taken) for setting in self.settings)


def fit_in_domain(
    features: Float64[np.ndarray, "n p"],
    scores: ScoreTable,
    domains: Sequence[str],
    images: Sequence[str],
    taken: Sequence[Taken],
    *,
    coverage: float,
    seed: int = 0,
) -> InDomain:
    """Grow the trees, and find how far the quantiles must reach.

    Parameters
    ----------
    features
        Of about the same scale each, since trees split them at random.
    scores
        Measured, columns in the order of `TARGETS`.
    domains, images
        Of each row.
    taken
        With what each was; at least one is known.
    coverage
        Wanted, inside (0, 1).
    seed
        Of trees and folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(size=(200, 2))
    >>> y = np.repeat(x[:, :1], 3, axis=1)
    >>> with_what = [Taken(instrument="Talos", pixel_size=2.0)] * 200
    >>> names = [str(i) for i in range(200)]
    >>> known = fit_in_domain(x, y, ["A"] * 200, names, with_what, coverage=0.9)
    >>> low, high = ends(known, np.array([[0.5, 0.5]]))
    >>> bool(0.3 < low[0, 0] < 0.5 < high[0, 0] < 0.7)
    True
    """
    names = np.asarray(domains)
    folds = np.asarray(image_folds(images, FOLDS, seed))
    needed = np.empty(scores.shape)
    for fold in np.unique(folds):
        out = folds == fold
        grown = _grow(features[~out], scores[~out], seed)
        needed[out] = _needed(_weights(*grown, features[out]), scores[~out], scores[out])
    each = [needed[names == d] for d in np.unique(names)]
    each = [n for n in each if len(n) >= _LEAST_ROWS] or [needed]
    levels = np.quantile(
        [np.quantile(n, coverage, axis=0) for n in each], _DOMAINS_COVERED, axis=0, method="higher"
    )
    forest, leaves = _grow(features, scores, seed)
    return InDomain(
        forest=forest,
        leaves=leaves,
        scores=np.ascontiguousarray(scores),
        levels=np.clip(levels, *_LEVELS),
        settings=_settings(taken),
    )


def ends(known: InDomain, features: Float64[np.ndarray, "n p"]) -> Interval:
    """Ends of the intervals of images that are like the known ones.

    Parameters
    ----------
    known
        From `fit_in_domain`.
    features
        Scaled as those were, float64 (n, p).

    Returns
    -------
    Interval
        float64 (n, 3) each.
    """
    weights = _weights(known.forest, known.leaves, features)
    low, high = (np.empty((len(features), len(TARGETS))) for _ in range(2))
    for j, level in enumerate(known.levels):
        order = np.argsort(known.scores[:, j], kind="stable")
        reached, values = weights[:, order].cumsum(axis=1), known.scores[order, j]
        for side, share in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
            side[:, j] = values[np.minimum((reached < share - 1e-9).sum(axis=1), len(values) - 1)]
    return Interval(low, high)


def _settings(taken: Sequence[Taken]) -> tuple[Setting, ...]:
    """Each instrument once, with its pixel sizes."""
    sizes: dict[str, list[float]] = {}
    names: dict[str, str] = {}
    for one in taken:
        if one.instrument and one.pixel_size is not None:
            name = names.setdefault(_same(one.instrument), one.instrument)
            sizes.setdefault(name, []).append(one.pixel_size)
    return tuple(Setting(instrument=n, low=min(s), high=max(s)) for n, s in sorted(sizes.items()))


def _same(instrument: str) -> str:
    """A name in which neither case nor spaces count."""
    return " ".join(instrument.casefold().split())


def _grow(x: np.ndarray, y: ScoreTable, seed: int, leaf: int = LEAF) -> tuple[Forest, np.ndarray]:
    """Trees that tell the number of a leaf, and the leaves of the rows that they were grown on."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(TREES, min_samples_leaf=leaf, random_state=seed).fit(x, y)
    forest = from_sklearn(model)
    numbered = replace(forest, leaves=np.arange(len(forest.leaves), dtype=np.float64)[:, None])
    return numbered, _leaves(numbered, x)


def _leaves(forest: Forest, x: np.ndarray) -> np.ndarray:
    return predict_trees(forest, x)[..., 0].astype(np.int32)


def _weights(forest: Forest, leaves: np.ndarray, x: np.ndarray) -> Float64[np.ndarray, "m n"]:
    """How much each known row counts for each of some others: they add up to 1."""
    sizes = np.bincount(leaves.ravel(), minlength=len(forest.leaves))
    found = np.empty((len(x), len(leaves)))
    for start in range(0, len(x), _CHUNK):
        at = _leaves(forest, x[start : start + _CHUNK])
        each = 1.0 / np.maximum(sizes[at], 1)
        same = leaves[None] == at[:, None]
        found[start : start + _CHUNK] = np.einsum("mnt,mt->mn", same, each) / leaves.shape[1]
    return found


def _needed(weights: np.ndarray, known: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The least nominal coverage at which an interval holds the truth."""
    needed = np.empty(truth.shape)
    for j in range(truth.shape[1]):
        at_most = (weights * (known[:, j] <= truth[:, j, None])).sum(axis=1)
        below = (weights * (known[:, j] < truth[:, j, None])).sum(axis=1)
        needed[:, j] = np.maximum.reduce([0 * below, 1 - 2 * at_most, 2 * below - 1])
    return needed
