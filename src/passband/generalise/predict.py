"""Scores predicted: what a network will reach under a condition that nobody tested it under.

What may tell it: the conditions themselves; the metrics of how alike they transfer (`optics.shift`); and,
once there are images, what the network's own answers on them say without labels (`detectors.evidence`). A
Gaussian process and trees learn it from the networks of a study. It is judged on pairs of which neither the
training condition nor the test condition was learned from, and the spread of those errors sets the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from passband.errors import ParameterError
from passband.estimate.regressor import SEGMENTER_FEATURES
from passband.generalise.conditions import Point
from passband.generalise.study import Training
from passband.generalise.work import conditions_of
from passband.optics.conditions import draw_conditions
from passband.optics.shift import Seen, epsilon, information, look, metrics
from passband.types import Vector

TREES = 150
LENGTH, NOISE = 6.0, 0.01
"""Of the process: its length in deviations of what it is told, and its noise over the scores' variance."""
CERTAIN = 0.05
"""Intervals are as wide as this and one less the predicted F1: low scores are told less well."""
MOST_CONDITIONS = 0.95
"""In so many new conditions the intervals hold as often as they promise."""
EVIDENCE_USED = tuple(name for name in SEGMENTER_FEATURES if name != "share")
"""Not the share found, which tells a score where all scenes hold much the same; nor the distances of images
from the training images, which on a grid of defocus made predictions worse. Both chosen there."""
FOLDS = 8
"""Conditions of each side are left out in at most so many groups."""
MOST_ROWS = 2500
"""More rows are thinned to learn from, at random."""
OTHERS = 1 / 3
"""So large a share of them is of other studies, and no larger while there are enough of the own. Chosen on a
grid of defocus: a half or four fifths were worse there, none much worse."""
SAMPLE = 12
"""Conditions that a range is taken as."""
GROUPS: dict[str, tuple[str, ...]] = {
    "conditions": ("conditions",),
    "conditions and metrics": ("conditions", "metrics"),
    "images": ("evidence",),
    "all": ("conditions", "metrics", "evidence"),
}
"""What a prediction may rest on, by name."""
_LOGGED = ("dose", "dose_factor")
_NUMBERS = tuple(f.name for f in fields(Point) if f.type == "float")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Networks under conditions: one row for each network and test condition.

    Parameters
    ----------
    columns
        What may tell the score, float64 (n, p) for each of "conditions", "metrics", "evidence".
    names
        Of the columns of each.
    score
        float64 (n,).
    train, test
        Which condition, whole numbers (n,).
    """

    columns: Mapping[str, Float64[np.ndarray, "n p"]]
    names: Mapping[str, tuple[str, ...]]
    score: Vector
    train: np.ndarray
    test: np.ndarray

    def inputs(self, group: str) -> Float64[np.ndarray, "n p"]:
        """The columns of a group of `GROUPS`."""
        return np.concatenate([self.columns[part] for part in GROUPS[group]], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Scores that were predicted with both conditions of each pair left out.

    Parameters
    ----------
    score, low, high
        float64 (n,).
    """

    score: Vector
    low: Vector
    high: Vector


def pairs_of(
    rows: Sequence[Mapping[str, Any]],
    *,
    score: str = "image_f1",
    one: bool = False,
    training: Training | None = None,
) -> Pairs:
    """What may tell the scores of a study's rows.

    Parameters
    ----------
    rows
        As `export.study_rows` gives them; of several studies, if they agree in pixels and energy.
    score
        Column to tell.
    one
        Take what was seen on the first image alone, and its score.
    training
        Energy and pixels of the networks.

    Raises
    ------
    ParameterError
        If there is no row, or rows lack the score or the evidence.
    """
    wanted = [f"one_{n}" if one else n for n in EVIDENCE_USED]
    target = "one_f1" if one else score
    lacking = [n for n in (*wanted, target) if any(row.get(n) is None for row in rows)]
    if not rows or lacking:
        raise ParameterError(
            f"{len(rows)} rows came, and some lack {', '.join(lacking) or 'everything'}; take the rows of a "
            "study with `evidence = true`, as it is unless [study] says otherwise"
        )
    training = training or Training()
    points = {side: [point_of(row, side) for row in rows] for side in ("train", "test")}
    numbered = {side: {p: i for i, p in enumerate(dict.fromkeys(points[side]))} for side in points}
    pairs = list(zip(points["train"], points["test"], strict=True))
    told = {pair: _told(*pair, training) for pair in dict.fromkeys(pairs)}
    first = told[pairs[0]]
    columns = {part: np.array([list(told[pair][part].values()) for pair in pairs], float) for part in first}
    columns["evidence"] = np.array([[row[n] for n in wanted] for row in rows], float)
    return Pairs(
        columns=columns,
        names={**{part: tuple(values) for part, values in first.items()}, "evidence": tuple(wanted)},
        score=np.array([row[target] for row in rows], float),
        train=np.array([numbered["train"][p] for p, _ in pairs]),
        test=np.array([numbered["test"][p] for _, p in pairs]),
    )


def point_of(row: Mapping[str, Any], side: str) -> Point:
    """The condition that a row's columns of a side tell of.

    Examples
    --------
    >>> point_of({"test_defocus_nm": 5.0, "test_materials": "Au+Ag"}, "test").materials
    ('Au', 'Ag')
    """
    given: dict[str, Any] = {}
    for f in fields(Point):
        value = row.get(f"{side}_{f.name}")
        if value is None or value == "":
            continue
        if f.name == "materials":
            value = tuple(str(value).split("+"))
        elif f.name == "diameter_nm":
            ends = tuple(map(float, str(value).split("-")))
            value = (ends[0], ends[-1])
        given[f.name] = value
    return Point(**given)


def distances(train: Point, test: Point) -> dict[str, float]:
    """The plain distances between two conditions, that metrics have to beat.

    Returns
    -------
    dict
        ``defocus``, nm; ``scaled``, of all numbers together, 10 nm of defocus counting as much as 0.6 mm of
        Cs, 10 Å of focal spread, 5 nm of astigmatism or e times the dose.

    Examples
    --------
    >>> distances(Point(defocus_nm=-10.0), Point(defocus_nm=15.0))["defocus"]
    25.0
    """
    scales = {"defocus_nm": 10.0, "cs_mm": 0.6, "focal_spread": 10.0, "astigmatism_nm": 5.0}
    apart = [(getattr(train, n) - getattr(test, n)) / s for n, s in scales.items()]
    apart.append(math.log(train.dose / test.dose))
    return {
        "defocus": abs(train.defocus_nm - test.defocus_nm),
        "scaled": math.sqrt(sum(v * v for v in apart)),
    }


def predict_held_out(
    pairs: Pairs,
    group: str = "all",
    *,
    of: Bool[np.ndarray, " n"] | None = None,
    coverage: float = 0.9,
    seed: int = 0,
    both: bool = True,
) -> Predicted:
    """Predict each score from pairs of other training and other test conditions.

    Parameters
    ----------
    pairs
        To predict.
    group
        A key of `GROUPS`.
    of
        Which pairs to predict; all if not given. The others, of other studies, only teach, and only where
        neither of their conditions is left out.
    coverage
        Of the intervals, inside (0, 1): so many of a new condition's scores lie within, in all but one of
        twenty conditions. From the errors of other conditions.
    seed
        Of the groups.
    both
        Whether both conditions are left out; otherwise the training condition alone.

    Returns
    -------
    Predicted
        Of those pairs, in order.

    Raises
    ------
    ParameterError
        If there are fewer than three conditions of a side to leave out.
    """
    x, own = pairs.inputs(group), np.ones(len(pairs.score), bool) if of is None else of
    parts = {side: _parts(getattr(pairs, side), seed, own) for side in ("train", "test")}
    if not both:
        parts["test"] = np.zeros_like(parts["test"])
    found = np.full(len(x), np.nan)
    for i in np.unique(parts["train"][own]):
        for j in np.unique(parts["test"][own]):
            asked = own & (parts["train"] == i) & (parts["test"] == j)
            known = (parts["train"] != i) & ((parts["test"] != j) | (not both))
            if asked.any():
                few = _thinned(np.flatnonzero(known & own), np.flatnonzero(known & ~own), seed)
                found[asked] = learn(x[few], pairs.score[few], seed=seed)(x[asked])
    found, score = found[own], pairs.score[own]
    parts = {side: part[own] for side, part in parts.items()}
    sides = [getattr(pairs, side)[own] for side in (("train", "test") if both else ("train",))]
    scale = CERTAIN + 1 - found
    wrong = np.abs(found - score) / scale
    radius = np.empty(len(found))
    for i, j in {*zip(parts["train"].tolist(), parts["test"].tolist(), strict=True)}:
        asked = (parts["train"] == i) & (parts["test"] == j)
        others = (parts["train"] != i) & ((parts["test"] != j) | (not both))
        widths = [_reach(wrong[others], s[others], coverage) for s in sides]
        radius[asked] = max(widths) * scale[asked]
    low, high = np.clip(found - radius, 0, 1), np.clip(found + radius, 0, 1)
    return Predicted(score=found, low=low, high=high)


def learn(
    x: Float64[np.ndarray, "n p"], score: Vector, *, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """From what may tell a score to the score, 0 to 1: the mean of a Gaussian process and of extra trees.

    Where networks fail as none did before, trees stay with what they saw; between, the process is finer.

    Parameters
    ----------
    x, score
        Of pairs whose score is known.
    seed
        Of the trees, and of which rows are learned from where there are very many.
    """
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.preprocessing import StandardScaler

    few = _thinned(np.arange(len(x)), np.arange(0), seed)
    x, score = x[few], score[few]
    scaler = StandardScaler().fit(x)
    kernel = RBF(LENGTH) + WhiteKernel(NOISE)
    process = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None)
    process.fit(scaler.transform(x), score)
    trees = ExtraTreesRegressor(TREES, random_state=seed).fit(x, score)
    return lambda asked: np.clip((process.predict(scaler.transform(asked)) + trees.predict(asked)) / 2, 0, 1)


def _thinned(own: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    """Numbers of the rows to learn from, of the own study and of others: all, or `MOST_ROWS` of them."""
    rng = np.random.default_rng(seed)
    many = min(len(others), max(round(OTHERS * MOST_ROWS), MOST_ROWS - len(own)))
    return np.sort(np.concatenate([rng.permutation(own)[: MOST_ROWS - many], rng.permutation(others)[:many]]))


def _reach(wrong: Vector, conditions: np.ndarray, coverage: float) -> float:
    """What covers so many of a condition's errors in nearly all of the conditions.

    Errors of a condition are alike, so that a share of all errors may be none of one condition's.
    """
    each = [np.quantile(wrong[conditions == c], coverage) for c in np.unique(conditions)]
    return float(np.quantile(each, MOST_CONDITIONS))


def _told(train: Point, test: Point, training: Training) -> dict[str, dict[str, float]]:
    """Of a pair, the conditions and the metrics."""
    cells: dict[str, float] = {}
    for name in _NUMBERS:
        here, there = (float(getattr(p, name)) for p in (train, test))
        if name in _LOGGED:
            here, there = math.log(here), math.log(there)
        cells |= {f"train_{name}": here, f"test_{name}": there, f"more_{name}": there - here}
    one, other = _seen(train, training), _seen(test, training)
    found = {
        **metrics(one, other),
        "epsilon_train": float(epsilon(one.flat, one.view)),
        "epsilon_test": float(epsilon(other.flat, other.view)),
        "bits_train": float(information(one.flat, one.view, dose=train.dose)),
        "bits_test": float(information(other.flat, other.view, dose=test.dose)),
        **distances(train, test),
    }
    return {"conditions": cells, "metrics": found}


@lru_cache(maxsize=4096)
def _seen(point: Point, training: Training) -> Seen:
    return look(draw_conditions(conditions_of(point, training), SAMPLE, seed=0))


def _parts(of: np.ndarray, seed: int, own: np.ndarray | None = None) -> np.ndarray:
    """Groups of conditions to leave out together; -1 of what no pair has that is asked of."""
    names = np.unique(of if own is None else of[own])
    if len(names) < 3:
        raise ParameterError(
            f"{len(names)} conditions came on a side; to be left out in turn, three or more are wanted"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    group = np.empty(len(names), int)
    group[order] = np.arange(len(names)) % min(FOLDS, len(names))
    at = np.searchsorted(names, of).clip(max=len(names) - 1)
    return np.where(names[at] == of, group[at], -1)
