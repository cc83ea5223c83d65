"""Two accounts of an unknown detector: each is believed where it holds, and intervals hold in any case."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from passband.estimate.effects import ALIKE, COMPONENTS, DomainEffect, LabelledRows, learn, radius
from passband.estimate.mixture import LEVEL, PLAIN, PLAIN_ALIKE, Mixture, quantile, weigh_accounts

LIKE_OTHERS = np.array([1.0, 0.05, 0.5, 0.3, 1.0])
EFFECT = DomainEffect(variances=LIKE_OTHERS[None])


def drawn(rng, variances, alike, n, p=3):
    """What deviates of one detector by an account, part by part, at inputs and counts of its own."""
    inputs, counts = rng.normal(size=(n, p)), np.round(np.exp(rng.uniform(0, 4, n)))
    shift, slopes, smooth, noise, few = variances
    square = ((inputs[:, None] - inputs) ** 2).sum(axis=2)
    wave = np.linalg.cholesky(np.exp(-square / (2 * 1.5**2)) + 1e-9 * np.eye(n))
    errors = (
        np.sqrt(shift) * rng.normal()
        + inputs @ rng.normal(size=p) * np.sqrt(slopes / p)
        + np.sqrt(smooth) * wave @ rng.normal(size=n)
        + np.sqrt(noise + few / counts) * rng.normal(size=n)
    )
    return inputs, counts, errors * np.sqrt(alike / rng.chisquare(alike))


def world(rng, plain, m):
    """m labelled images and one more of a detector that follows an account; what the regressor says."""
    account = (PLAIN, PLAIN_ALIKE) if plain else (LIKE_OTHERS, ALIKE)
    inputs, counts, errors = drawn(rng, *account, m + 1)
    said = rng.normal(0.3, 1.5, m + 1)
    scores = LEVEL + errors if plain else said + errors
    labelled = LabelledRows(
        domain="mine",
        inputs=inputs[:m],
        counts=counts[:m],
        errors=(scores - said)[:m, None],
        scores=scores[:m, None],
    )
    return labelled, said[m:, None], inputs[m:], counts[m:], scores[m]


def told(plain, m, worlds=300):
    """Weights of the first account, and whether the 90 % interval held, in many worlds."""
    rng = np.random.default_rng([m, plain])
    weights, held = [], []
    for _ in range(worlds):
        labelled, said, inputs, counts, truth = world(rng, plain, m)
        both = weigh_accounts(EFFECT, labelled, said, inputs, counts)
        weights.append(both.weight[0])
        held.append(quantile(both, 0.05)[0, 0] <= truth <= quantile(both, 0.95)[0, 0])
    return np.array(weights), np.array(held)


@pytest.mark.parametrize("m", [3, 10])
def test_what_holds_is_believed_and_intervals_hold_over_both(m):
    """Of worlds half by one account and half by the other, 90 % of intervals hold, exactly but for chance."""
    others, one = told(False, m)
    plain, two = told(True, m)
    assert others.mean() > 0.6 and plain.mean() < 0.45 and others.mean() - plain.mean() > 0.3
    assert np.concatenate([one, two]).mean() == pytest.approx(0.9, abs=0.05)  # four deviations


def test_more_labels_decide_more_surely():
    sure = [told(False, m, 150)[0].mean() - told(True, m, 150)[0].mean() for m in (1, 5, 20)]
    assert sure[0] < sure[1] < sure[2] and sure[2] > 0.6


def test_labelled_images_that_score_alike_narrow_the_interval():
    """However wild the answers: the second account tells it, the first could not."""
    rng = np.random.default_rng(3)
    inputs, said = rng.normal(size=(10, 3)), rng.normal(0, 2, 11)
    scores = 1.8 + 0.1 * rng.normal(size=(10, 1))
    some = LabelledRows(
        domain="mine", inputs=inputs, counts=np.full(10, 40.0), errors=scores - said[:10, None], scores=scores
    )
    asked = said[10:, None], np.zeros((1, 3)), np.full(1, 40.0)
    both = weigh_accounts(EFFECT, some, *asked)
    wide = 2 * radius(0.9, 10) * learn(EFFECT, some, *asked[1:])[1][0, 0]
    assert both.weight[0] < 0.01
    assert quantile(both, 0.95)[0, 0] - quantile(both, 0.05)[0, 0] < 0.6 * wide


def test_quantiles_are_those_of_students_law_where_one_account_has_all_weight():
    rng = np.random.default_rng(0)
    center, spread = rng.normal(size=(2, 5, 3)), np.exp(rng.normal(size=(2, 5, 3)))
    freedom = np.array([6.0, 13.0])
    for weight, only in ((1.0, 0), (0.0, 1)):
        both = Mixture(np.full(3, weight), center, spread, freedom)
        for share in (0.03, 0.5, 0.97):
            wanted = center[only] + spread[only] * t.ppf(share, freedom[only])
            np.testing.assert_allclose(quantile(both, share), wanted, atol=1e-6)


def test_a_quantile_has_its_share_below_it_and_rises_with_it():
    rng = np.random.default_rng(1)
    both = Mixture(
        np.array([0.3, 0.8]), 3 * rng.normal(size=(2, 40, 2)), np.exp(rng.normal(size=(2, 40, 2))),
        np.array([9.0, 6.0]),
    )  # fmt: skip
    last = -np.inf
    for share in (0.02, 0.2, 0.5, 0.9, 0.99):
        at = quantile(both, share)
        laws = t.cdf((at - both.center) / both.spread, both.freedom[:, None, None])
        below = both.weight * laws[0] + (1 - both.weight) * laws[1]
        np.testing.assert_allclose(below, share, atol=1e-6)
        assert (at > last).all()
        last = at


def test_plain_has_a_variance_for_each_part():
    assert len(PLAIN) == len(COMPONENTS) and (PLAIN > 0).all()
