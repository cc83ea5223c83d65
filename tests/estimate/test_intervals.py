"""Intervals hold for domains like the known ones, and say so where they cannot."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from passband.estimate import intervals
from passband.estimate.blend import Blend, from_logit, to_logit
from passband.estimate.effects import SMOOTH, LabelledRows, expected_spread, fit_effect, learn, radius
from passband.estimate.features import PAPER_FEATURES
from passband.estimate.in_domain import Taken
from passband.estimate.intervals import (
    FEW,
    NEW_DOMAINS,
    NEW_IMAGES,
    FittedEstimator,
    counts_of,
    fit_and_hold_out,
    found_something,
    make_intervals,
    measure_reach,
)
from passband.estimate.regressor import RECIPES, cross_fit, image_folds
from passband.estimate.rows import RowTable

pytestmark = pytest.mark.training

P = len(PAPER_FEATURES)
# A standard normal input stays as it is: the errors below are drawn in the units of the inputs.
PLAIN = Blend(
    logged=np.zeros(P, bool),
    center=np.zeros(P),
    scale=np.ones(P),
    rows=np.zeros((1, P)),
    weights=np.zeros((1, 3)),
    trend=np.zeros((P + 1, 3)),
    share=np.full(3, 0.5),
    nothing=np.full(3, 0.5),
)


def table(inputs, scores, domains, images=None):
    return RowTable(
        names=PAPER_FEATURES,
        features=inputs,
        inputs=inputs,
        scores=scores,
        domains=tuple(domains),
        images=tuple(images or (str(i) for i in range(len(inputs)))),
        taken=(Taken(),) * len(inputs),
    )


def rows(n=60, domains=3, seed=0):
    rng = np.random.default_rng(seed)
    inputs = 0.05 + rng.random((n, P))
    inputs[:, 1] = rng.integers(1, 90, n)
    scores = np.clip(inputs[:, 3:6] + 0.1 * rng.normal(size=(n, 3)), 0, 1)
    return table(inputs, scores, [f"D{i % domains}" for i in range(n)])


def drawn(domains, size, seed, variances=(0.5, 0.3, 0.3, 0.15, 1.0)):
    """Estimates, and scores that miss them by errors drawn from the model's own law."""
    rng = np.random.default_rng(seed)
    n = domains * size
    inputs = rng.normal(size=(n, P))
    inputs[:, 1] = np.round(np.exp(rng.uniform(0, 4, n)))
    said, errors = rng.uniform(0.2, 0.9, (n, 3)), np.empty((n, 3))
    shift, slopes, smooth, noise, few = variances
    for d in range(domains):
        own = slice(d * size, (d + 1) * size)
        z = np.clip(inputs[own], -4, 4)
        square = ((z[:, None] - z) ** 2).sum(axis=2)
        wave = np.linalg.cholesky(np.exp(-square / (2 * SMOOTH**2)) + 1e-9 * np.eye(size))
        errors[own] = (
            np.sqrt(shift) * rng.normal(size=3)
            + z @ rng.normal(size=(P, 3)) * np.sqrt(slopes / P)
            + np.sqrt(smooth) * wave @ rng.normal(size=(size, 3))
            + np.sqrt(noise + few / inputs[own, 1])[:, None] * rng.normal(size=(size, 3))
        )
    scores = from_logit(to_logit(said) + errors)
    return table(inputs, scores, [f"d{i // size}" for i in range(n)]), said


def fitted(known, said):
    z, counts = np.clip(known.inputs, -4, 4), counts_of(known)
    effect = fit_effect(z, counts, to_logit(known.scores) - to_logit(said), known.domains)
    return FittedEstimator(
        regressor=PLAIN, held_out=said, groups=known.domains, valid_for=NEW_DOMAINS, effect=effect
    )


def test_new_domains_are_covered_as_often_as_stated():
    """Worlds of ten known domains and six new ones: the mean share of the new is the nominal one, up to
    three standard errors over the worlds."""
    shares = {0.8: [], 0.9: []}
    for seed in range(12):
        every, said = drawn(16, 12, seed)
        known, new = every.select(np.arange(120)), np.arange(120, 192)
        fit = fitted(known, said[:120])
        spread = expected_spread(fit.effect, np.clip(every.inputs[new], -4, 4), counts_of(every)[new])
        for coverage, found in shares.items():
            radii = np.array([r.radius for r in measure_reach(known, fit, coverage).values()])
            low, high = make_intervals(said[new], spread, radii)
            truth = every.scores[new]
            found.append(((low - 1e-9 <= truth) & (truth <= high + 1e-9)).mean())
    for coverage, found in shares.items():
        slack = 3 * np.std(found) / math.sqrt(len(found))
        assert coverage - slack <= np.mean(found) < coverage + 0.5 * (1 - coverage)


def test_with_a_few_labelled_images_every_known_domain_is_covered():
    """At the level that is found, by other draws of the labelled images than it was found by."""
    known, said = drawn(6, 40, seed=3)
    fit = fitted(known, said)
    z, counts = np.clip(known.inputs, -4, 4), counts_of(known)
    errors, domains = to_logit(known.scores) - to_logit(said), np.array(known.domains)
    reaches = measure_reach(known, fit, 0.9).values()
    assert all(0.9 <= reach.level <= 0.98 for reach in reaches)
    radii = np.array([radius(reach.level, FEW) for reach in reaches])
    for name in set(known.domains):
        held = []
        for seed in range(20):
            order = np.random.default_rng([7, seed]).permutation(np.flatnonzero(domains == name))
            few, rest = order[:FEW], order[FEW:]
            some = LabelledRows(domain="a", inputs=z[few], counts=counts[few], errors=errors[few])
            shift, spread = learn(fit.effect, some, z[rest], counts[rest])
            held.append(np.abs(errors[rest] - shift) <= radii * spread)
        assert (np.concatenate(held).mean(axis=0) > 0.87).all()


def test_a_radius_for_new_domains_is_never_below_students():
    known, said = drawn(6, 20, seed=0)
    exact = replace(known, scores=said)
    for reach in measure_reach(exact, fitted(known, said), 0.9).values():
        assert reach.radius == radius(0.9) and reach.r2 == 1


def test_the_reach_is_that_of_its_intervals():
    known, said = drawn(6, 20, seed=1)
    fit = fitted(known, said)
    spread = expected_spread(fit.effect, np.clip(known.inputs, -4, 4), counts_of(known))
    for j, reach in enumerate(measure_reach(known, fit, 0.9).values()):
        low, high = make_intervals(said[:, [j]], spread[:, [j]], np.array([reach.radius]))
        assert reach.mean_width == pytest.approx((high - low).mean())
        truth = known.scores[:, j]
        assert reach.r2 == pytest.approx(1 - ((said[:, j] - truth) ** 2).mean() / truth.var())
        inside = (low[:, 0] - 1e-9 <= truth) & (truth <= high[:, 0] + 1e-9)
        assert inside.mean() >= 0.9
        assert reach.worst_domain in known.domains and 0 <= reach.worst_coverage <= 1


def test_estimates_worse_than_a_constant_have_no_positive_r2():
    known, said = drawn(6, 20, seed=1)
    wrong = said.copy()
    wrong[:, 2] = 1 - known.scores[:, 2]
    reach = measure_reach(known, fitted(known, wrong), 0.9)
    assert reach["recall"].r2 < 0 < reach["f1"].r2


def test_rows_with_nothing_found_are_in_no_radius():
    known, said = drawn(6, 20, seed=2)
    fit = fitted(known, said)
    silent = known.inputs.copy()
    silent[::5, 1] = 0
    off = known.scores.copy()
    off[::5] = np.round(1 - off[::5])
    some = replace(known, inputs=silent, features=silent, scores=off)
    kept = np.flatnonzero(found_something(some))
    assert len(kept) == 96
    rest = replace(fit, held_out=said[kept], groups=[fit.groups[int(i)] for i in kept])
    assert measure_reach(some, fit, 0.9) == measure_reach(some.select(kept), rest, 0.9)


unit = st.floats(0, 1)


@settings(deadline=None)
@given(arrays(float, (6, 3), elements=unit), st.floats(0, 9), st.booleans())
def test_intervals_hold_their_value_and_stay_scores(values, radius, scaled):
    spread = np.linspace(0.1, 3, 18).reshape(6, 3) if scaled else None
    low, high = make_intervals(values, spread, np.full(3, radius))
    assert (low >= 0).all() and (high <= 1).all()
    assert (low <= values + 1e-9).all() and (values <= high + 1e-9).all()
    wider = make_intervals(values, spread, np.full(3, 1.5 * radius))
    assert (wider.low <= low + 1e-9).all() and (wider.high >= high - 1e-9).all()


def test_intervals_are_symmetric_in_logits_or_as_they_are():
    values = np.array([[0.3, 0.5, 0.7]])
    low, high = make_intervals(values, None, np.array([0.1, 0.2, 0.4]))
    np.testing.assert_allclose(low, [[0.2, 0.3, 0.3]])
    np.testing.assert_allclose(high, [[0.4, 0.7, 1.0]])
    low, high = make_intervals(values, np.full((1, 3), 0.5), np.full(3, 1.2))
    np.testing.assert_allclose(to_logit(high) - to_logit(values), 0.6)
    np.testing.assert_allclose(to_logit(values) - to_logit(low), 0.6)


def test_domains_are_left_out_where_they_can_be():
    known = rows()
    fit = fit_and_hold_out(known, RECIPES["passband"], 0)
    assert fit.valid_for == NEW_DOMAINS and tuple(fit.groups) == known.domains
    assert isinstance(fit.regressor, Blend) and fit.effect is not None and np.isfinite(fit.held_out).all()


@pytest.mark.parametrize("n,domains", [(60, 1), (24, 2)], ids=["one domain", "few rows"])
def test_otherwise_images_are(n, domains):
    known = rows(n, domains)
    fit = fit_and_hold_out(known, RECIPES["passband"], 7)
    assert fit.valid_for == NEW_IMAGES and fit.groups == image_folds(known.images, intervals.FOLDS, 7)


def test_a_domain_of_silence_is_none_to_leave_out():
    """Of one domain only some rows have a detection and can be left out: that is no sample of domains."""
    known = rows(100, 1)
    quiet = known.inputs.copy()
    quiet[:40, [1, 2, 5, 7]] = 0
    some = replace(
        known, inputs=quiet, features=quiet, domains=("silent",) * 40 + ("large",) * 55 + ("small",) * 5
    )
    fit = fit_and_hold_out(some, RECIPES["passband"], 0)
    assert fit.valid_for == NEW_IMAGES
    assert math.isnan(measure_reach(some, fit, 0.8)["f1"].worst_coverage)


def test_the_published_recipe_leaves_images_out(monkeypatch):
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 3)
    known = rows()
    fit = fit_and_hold_out(known, RECIPES["paper-rf"], 1)
    assert fit.valid_for == NEW_IMAGES and fit.effect is None
    folds = image_folds(known.images, intervals.FOLDS, 1)
    expected = cross_fit(known.inputs, known.scores, folds, known.images, 1)
    np.testing.assert_array_equal(fit.held_out, expected)
