"""What estimates are compared with: confidence taken at its word, and learners of the shelf.

Each fits some rows and says the three scores of others. Intervals of those that bring none come from
held-out images of the training rows, as is usual: they promise nothing for another domain, which is
what the comparison shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate import conformal
from passband.estimate.conformal import Interval
from passband.estimate.intervals import FOLDS, make_intervals
from passband.estimate.regressor import MIN_TRAINING_ROWS, ScoreTable, image_folds, training_rows
from passband.estimate.rows import RowTable
from passband.types import Vector

Peer = Callable[[RowTable, RowTable, int], ScoreTable]
"""Fits the first table and estimates the scores of the second; the last is a seed."""
ROUNDS, TREES = 100, 100
"""Of gradient boosting, and of the forest of quantiles."""


def predict_the_mean(train: RowTable, asked: RowTable, seed: int) -> ScoreTable:
    """Say the training rows' mean of every row."""
    return np.tile(train.scores.mean(axis=0), (len(asked.scores), 1))


def mean_confidence(train: RowTable, asked: RowTable, seed: int) -> ScoreTable:
    """Take the mean score of the detections for every score."""
    return _repeat(_column(asked, "mean_score"), train)


def area_weighted_confidence(train: RowTable, asked: RowTable, seed: int) -> ScoreTable:
    """Take the mean score of the detections, weighted by their area, for every score."""
    return _repeat(_column(asked, "image_confidence"), train)


def thresholded_confidence(train: RowTable, asked: RowTable, seed: int) -> ScoreTable:
    """ATC: the share of detections above a threshold, chosen to give the training rows' mean score.

    The threshold is found in the histogram of scores, linear within a bin.

    References
    ----------
    S. Garg et al., Leveraging unlabeled data to predict out-of-distribution performance, ICLR 2022.
    """
    thresholds = np.linspace(0.1, 1, 181)
    known = _share_above(train, thresholds)
    said = _share_above(asked, thresholds)
    wanted = train.scores.mean(axis=0)
    chosen = [int(np.argmin(np.abs(known.mean(axis=0) - w))) for w in wanted]
    return np.asarray(said[:, chosen])


def difference_of_confidences(train: RowTable, asked: RowTable, seed: int) -> ScoreTable:
    """DoC: the training rows' mean score, less what the confidence has fallen since.

    References
    ----------
    D. Guillory et al., Predicting with confidence on unseen distributions, ICCV 2021.
    """
    fallen = _column(asked, "mean_score") - _column(train, "mean_score").mean()
    return np.asarray(np.clip(train.scores.mean(axis=0) + fallen[:, None], 0, 1))


def gradient_boosting(train: RowTable, asked: RowTable, seed: int) -> ScoreTable:
    """Boosted trees on the inputs, one model for each score."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    columns = [
        HistGradientBoostingRegressor(
            max_iter=ROUNDS, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=15, random_state=seed
        )
        .fit(train.inputs, target)
        .predict(asked.inputs)
        for target in train.scores.T
    ]
    return np.asarray(np.clip(np.column_stack(columns), 0, 1))


def quantile_forest(
    train: RowTable, asked: RowTable, coverage: float, seed: int
) -> tuple[ScoreTable, Interval]:
    """Medians and quantiles of a random forest's leaves.

    Parameters
    ----------
    train, asked
        What is fitted and what is estimated.
    coverage
        Of the intervals.
    seed
        Of the trees.

    Returns
    -------
    values, intervals
        float64 (n, 3) each.

    References
    ----------
    N. Meinshausen, Quantile regression forests, JMLR 7 (2006) 983.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, min_samples_leaf=5, random_state=seed).fit(
        train.inputs, train.scores
    )
    own, theirs = forest.apply(train.inputs), forest.apply(asked.inputs)
    levels = np.array([0.5, 0.5 - coverage / 2, 0.5 + coverage / 2])
    found = np.empty((len(levels), *asked.scores.shape))
    orders = np.argsort(train.scores, axis=0, kind="stable")
    for i, leaves in enumerate(theirs):
        alike = own == leaves
        weight = (alike / alike.sum(axis=0)).mean(axis=1)
        for j, order in enumerate(orders.T):
            at = np.searchsorted(np.cumsum(weight[order]), levels - 1e-12)
            found[:, i, j] = train.scores[order[np.minimum(at, len(order) - 1)], j]
    return found[0], Interval(found[1], found[2])


PEERS: dict[str, Peer] = {
    "predict-the-mean": predict_the_mean,
    "mean-confidence": mean_confidence,
    "area-weighted-confidence": area_weighted_confidence,
    "atc": thresholded_confidence,
    "doc": difference_of_confidences,
    "gradient-boosting": gradient_boosting,
}
QUANTILE_FOREST = "quantile-forest"


def peer_intervals(peer: Peer, train: RowTable, values: ScoreTable, coverage: float, seed: int) -> Interval:
    """Intervals of a peer from the errors that it makes on held-out images of its training rows.

    Parameters
    ----------
    peer
        What estimates.
    train
        Rows that it was fitted to.
    values
        Its estimates of other rows, float64 (n, 3).
    coverage
        Wanted, inside (0, 1).
    seed
        Of the folds.

    Returns
    -------
    Interval
        Equally wide everywhere, cut to [0, 1].
    """
    folds = image_folds(train.images, FOLDS, seed)
    residuals = []
    for fold in sorted(set(folds)):
        rest = training_rows(fold, folds, train.images)
        if rest.sum() < MIN_TRAINING_ROWS:
            continue
        out = train.select(np.asarray(folds) == fold)
        residuals.append(np.abs(peer(train.select(rest), out, seed) - out.scores))
    if not residuals:
        raise CalibrationError(f"{len(train.scores)} rows leave too few to train on without a fifth of them")
    errors = np.concatenate(residuals)
    radii = np.array([conformal.conformal_quantile(column, coverage) for column in errors.T])
    return make_intervals(values, None, radii)


def _column(table: RowTable, name: str) -> Vector:
    return np.asarray(table.features[:, table.names.index(name)], np.float64)


def _repeat(column: Vector, train: RowTable) -> ScoreTable:
    return np.repeat(column[:, None], train.scores.shape[1], axis=1)


def _share_above(table: RowTable, thresholds: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, "n t"]:
    """Share of each row's detections above each threshold."""
    names = [f"share_0_{k}" for k in range(1, 10)]
    if missing := [n for n in names if n not in table.names]:
        raise CalibrationError(f"atc wants the shares of scores too; columns missing: {missing}")
    shares = np.column_stack([_column(table, n) for n in names])
    edges = np.linspace(0.1, 1, 10)
    inside = np.clip((edges[1:, None] - thresholds) / 0.1, 0, 1)
    return np.asarray(shares @ inside, np.float64)
