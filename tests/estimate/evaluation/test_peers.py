"""What estimates are compared with does what its authors say."""

from __future__ import annotations

import numpy as np
import pytest

from passband.errors import CalibrationError
from passband.estimate.evaluation.peers import (
    PEERS,
    _share_above,
    difference_of_confidences,
    gradient_boosting,
    peer_intervals,
    predict_the_mean,
    quantile_forest,
    thresholded_confidence,
)
from passband.estimate.features import CANDIDATE_FEATURES, PAPER_FEATURES
from passband.estimate.in_domain import Taken
from passband.estimate.rows import RowTable

pytestmark = pytest.mark.training

INPUTS = [CANDIDATE_FEATURES.index(n) for n in PAPER_FEATURES]


def table(n=80, seed=0, noise=0.1):
    """Scores that follow the mean score, and shares of scores that add up to one."""
    rng = np.random.default_rng(seed)
    features = rng.random((n, len(CANDIDATE_FEATURES)))
    features[:, :9] = rng.dirichlet(np.ones(9), n)
    said = features[:, CANDIDATE_FEATURES.index("mean_score")]
    return RowTable(
        names=CANDIDATE_FEATURES,
        features=features,
        inputs=features[:, INPUTS],
        scores=np.clip(said[:, None] + noise * rng.normal(size=(n, 3)), 0, 1),
        domains=("A",) * n,
        images=tuple(f"{seed}-{i}" for i in range(n)),
        taken=(Taken(),) * n,
    )


def column(some, name):
    return some.features[:, CANDIDATE_FEATURES.index(name)]


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_says_scores_of_every_row_and_the_same_again(name):
    train, asked = table(), table(30, seed=1)
    said = PEERS[name](train, asked, 0)
    assert said.shape == (30, 3) and ((said >= 0) & (said <= 1)).all()
    np.testing.assert_array_equal(PEERS[name](train, asked, 0), said)


def test_the_mean_is_the_training_rows():
    train = table()
    np.testing.assert_array_equal(
        predict_the_mean(train, table(5, seed=1), 0), [train.scores.mean(axis=0)] * 5
    )


@pytest.mark.parametrize(
    "name,feature",
    [("mean-confidence", "mean_score"), ("area-weighted-confidence", "image_confidence")],
)
def test_confidence_is_taken_at_its_word(name, feature):
    asked = table(5, seed=1)
    np.testing.assert_array_equal(PEERS[name](table(), asked, 0), np.tile(column(asked, feature), (3, 1)).T)


def test_the_share_above_a_threshold_by_hand():
    """Half of the detections in 0.5 to 0.6, half in 0.9 to 1, evenly within."""
    some = table(1)
    some.features[0, :9] = 0
    some.features[0, [4, 8]] = 0.5
    found = _share_above(some, np.array([0.1, 0.5, 0.55, 0.6, 0.9, 0.95, 1.0]))
    np.testing.assert_allclose(found, [[1, 1, 0.75, 0.5, 0.5, 0.25, 0]], atol=1e-12)


def test_atcs_threshold_gives_the_training_rows_mean_score():
    train = table(noise=0.0)
    said = thresholded_confidence(train, train, 0)
    # 181 thresholds: the mean share moves by at most its part of a bin, a twentieth, from one to the next.
    np.testing.assert_allclose(said.mean(axis=0), train.scores.mean(axis=0), atol=0.05 * 0.2)
    # and the threshold is the training rows' own: surer detections elsewhere are a higher estimate.
    surer = table(30, seed=2)
    surer.features[:, :8], surer.features[:, 8] = 0, 1
    assert (thresholded_confidence(train, surer, 0) > said.mean(axis=0)).all()


def test_atc_names_the_shares_that_it_misses():
    train = table()
    few = RowTable(
        names=PAPER_FEATURES,
        features=train.inputs,
        inputs=train.inputs,
        scores=train.scores,
        domains=train.domains,
        images=train.images,
        taken=train.taken,
    )
    with pytest.raises(CalibrationError, match=r"missing: \['share_0_1'.*'share_0_8'\]"):
        thresholded_confidence(few, few, 0)


def test_doc_by_hand():
    train, asked = table(), table(3, seed=1)
    mean, scores = column(train, "mean_score").mean(), train.scores.mean(axis=0)
    column(asked, "mean_score")[:] = [mean, mean - 0.2, mean - 5]
    expected = [scores, scores - 0.2, np.zeros(3)]
    np.testing.assert_allclose(difference_of_confidences(train, asked, 0), expected)


def test_boosting_learns_what_is_there():
    train, asked = table(200), table(50, seed=1)
    error = np.abs(gradient_boosting(train, asked, 0) - asked.scores).mean()
    assert error < 0.5 * np.abs(predict_the_mean(train, asked, 0) - asked.scores).mean()


def test_quantile_intervals_hold_their_median_and_the_rows_of_the_domain():
    train, asked = table(150), table(150, seed=1)
    value, (low, high) = quantile_forest(train, asked, 0.9, 0)
    assert ((low <= value) & (value <= high)).all()
    assert np.isin(value, train.scores).all()  # quantiles are scores that were measured
    inside = (low <= asked.scores) & (asked.scores <= high)
    assert 0.84 < inside.mean() < 0.99
    narrow = quantile_forest(train, asked, 0.5, 0)[1]
    assert ((narrow.low >= low) & (narrow.high <= high)).all()


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_peer_intervals_hold_in_the_domain(coverage):
    """Split-conformal on held-out images: 200 rows of one domain, and 600 new ones of it."""
    train, asked = table(200), table(600, seed=1)
    peer = PEERS["mean-confidence"]
    value = peer(train, asked, 0)
    low, high = peer_intervals(peer, train, value, coverage, 0)
    inside = ((low <= asked.scores) & (asked.scores <= high)).mean(axis=0)
    # Standard deviation of the share: sqrt(c (1 - c) / 200) from the rows that set the radius.
    assert (np.abs(inside - coverage) < 4 * np.sqrt(coverage * (1 - coverage) / 200)).all()


def test_peer_intervals_rest_on_rows_that_were_not_trained_on():
    """A peer that knows its training rows by heart would promise intervals of no width."""

    def by_heart(train, asked, seed):
        known = dict(zip(train.images, train.scores, strict=True))
        return np.array([known.get(image, np.full(3, 0.5)) for image in asked.images])

    train = table(60)
    low, high = peer_intervals(by_heart, train, np.full((1, 3), 0.5), 0.9, 0)
    assert (high - low > 0.5).all()


def test_too_few_rows_for_intervals_are_counted():
    train = table(11)
    with pytest.raises(CalibrationError, match="11 rows leave too few"):
        peer_intervals(predict_the_mean, train, train.scores, 0.9, 0)
