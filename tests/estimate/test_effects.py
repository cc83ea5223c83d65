"""What is learned of a domain: variances come back, labels narrow and shift, few objects widen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.errors import CalibrationError
from passband.estimate import effects
from passband.estimate.effects import (
    ALIKE,
    COMPONENTS,
    SMOOTH,
    DomainEffect,
    LabelledRows,
    expected_spread,
    fit_effect,
    learn,
    radius,
)

pytestmark = pytest.mark.training

EFFECT = DomainEffect(variances=np.array([[0.6, 0.3, 0.4, 0.2, 2.0], [0.1, 0.5, 0.2, 0.1, 1.0]]))


def drawn(variances, domains, size, seed, p=4):
    """Errors of some domains, drawn from the model's own law part by part."""
    rng = np.random.default_rng(seed)
    n = domains * size
    inputs, counts = rng.normal(size=(n, p)), np.round(np.exp(rng.uniform(0, 4, n)))
    shift, slopes, smooth, noise, few = variances
    errors = np.empty((n, 1))
    for d in range(domains):
        own = slice(d * size, (d + 1) * size)
        z = inputs[own]
        square = ((z[:, None] - z) ** 2).sum(axis=2)
        wave = np.linalg.cholesky(np.exp(-square / (2 * SMOOTH**2)) + 1e-9 * np.eye(size))
        errors[own, 0] = (
            np.sqrt(shift) * rng.normal()
            + z @ rng.normal(size=p) * np.sqrt(slopes / p)
            + np.sqrt(smooth) * wave @ rng.normal(size=size)
            + np.sqrt(noise + few / counts[own]) * rng.normal(size=size)
        )
    return inputs, counts, errors, [f"d{i // size}" for i in range(n)]


def labelled(m, seed=0, p=4, k=2, error=None):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(m, k)) if error is None else np.full((m, k), error)
    return LabelledRows(
        domain="new",
        inputs=rng.normal(size=(m, p)),
        counts=np.round(np.exp(rng.uniform(0, 4, m))),
        errors=errors,
    )


def test_variances_of_simulated_domains_come_back():
    """Within a factor of two and a half, from forty domains; a part that is not there stays small."""
    truth = np.array([0.8, 0.6, 0.5, 0.15, 1.5])
    found = fit_effect(*drawn(truth, domains=40, size=25, seed=0)).variances[0]
    assert (np.abs(np.log(found / truth)) < np.log(2.5)).all(), dict(zip(COMPONENTS, found, strict=True))


@pytest.mark.parametrize("part", range(5), ids=COMPONENTS)
def test_the_part_that_is_there_is_the_largest(part):
    truth = np.full(5, 1e-3)
    truth[part] = 1.0
    found = fit_effect(*drawn(truth, domains=20, size=20, seed=part)).variances[0]
    assert np.argmax(found) == part and 0.5 < found[part] < 2


def test_of_a_large_domain_some_rows_are_used_and_of_small_ones_all(monkeypatch):
    monkeypatch.setattr(effects, "MOST_ROWS", 20)
    sizes, parts = [], effects._parts
    monkeypatch.setattr(effects, "_parts", lambda z, counts: sizes.append(len(z)) or parts(z, counts))
    inputs, counts, errors, _ = drawn(EFFECT.variances[0], domains=1, size=60, seed=1)
    fit_effect(inputs, counts, errors, ["large"] * 50 + ["small"] * 10)
    assert sizes == [20, 10]


def as_expected(some, inputs, counts):
    """The spread where labelled images scatter just as was expected: of none at all it is known exactly."""
    none = LabelledRows(**{**vars(some), "errors": np.zeros_like(some.errors)})
    m = len(some.counts)
    return learn(EFFECT, none, inputs, counts)[1] * np.sqrt((ALIKE + m) / ALIKE)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_labels_that_scatter_as_expected_never_widen(seed, m):
    rng = np.random.default_rng(seed)
    inputs, counts = 3 * rng.normal(size=(9, 4)), rng.integers(0, 40, 9).astype(float)
    spread = as_expected(labelled(m, seed), inputs, counts)
    assert (spread <= expected_spread(EFFECT, inputs, counts) + 1e-9).all()
    # and noise, also that of few objects, is never learned away
    noise = EFFECT.variances[:, 3] + EFFECT.variances[:, 4] / np.maximum(counts, 1)[:, None]
    assert (spread**2 >= noise - 1e-9).all()


def test_more_labels_narrow_more():
    inputs, counts = np.random.default_rng(9).normal(size=(20, 4)), np.full(20, 10.0)
    means = []
    for m in (1, 4, 15, 40):
        some = LabelledRows(
            domain="new", **{k: v[:m] for k, v in vars(labelled(40)).items() if k != "domain"}
        )
        means.append(as_expected(some, inputs, counts).mean())
    assert means == sorted(means, reverse=True) and means[-1] < 0.75 * means[0]


@pytest.mark.parametrize("m", [2, 10])
def test_labels_that_scatter_more_widen_and_less_narrow(m):
    inputs, counts = np.random.default_rng(9).normal(size=(20, 4)), np.full(20, 10.0)
    some = labelled(m)
    spreads = [
        learn(EFFECT, LabelledRows(**{**vars(some), "errors": f * some.errors}), inputs, counts)[1]
        for f in (0.1, 1, 10)
    ]
    assert (spreads[0] < spreads[1]).all() and (spreads[1] < spreads[2]).all()
    assert (spreads[0] < as_expected(some, inputs, counts)).all()


@pytest.mark.parametrize("m", [0, 1, 3, 10])
def test_intervals_hold_as_often_as_they_say_where_domains_differ_in_noise(m):
    """Of 3,000 domains drawn from the model, each with a noise of its own, one asked image each."""
    variances, domains, size = EFFECT.variances[0], 3000, m + 1
    inputs, counts, errors, _ = drawn(variances, domains=domains, size=size, seed=m)
    rng, held = np.random.default_rng(5), 0
    effect = DomainEffect(variances=variances[None])
    for d in range(domains):
        own = slice(d * size, (d + 1) * size)
        z, c = inputs[own], counts[own]
        e = errors[own] * np.sqrt(ALIKE / rng.chisquare(ALIKE))
        shift, spread = np.zeros((1, 1)), expected_spread(effect, z[m:], c[m:])
        if m:
            some = LabelledRows(domain="new", inputs=z[:m], counts=c[:m], errors=e[:m])
            shift, spread = learn(effect, some, z[m:], c[m:])
        held += bool(abs(e[m, 0] - shift[0, 0]) <= radius(0.9, m) * spread[0, 0])
    assert held / domains == pytest.approx(0.9, abs=0.022)  # four deviations of a binomial


def test_no_difference_moves_nothing():
    inputs = np.random.default_rng(9).normal(size=(20, 4))
    shift, spread = learn(EFFECT, labelled(30, error=0.0), inputs, np.full(20, 10.0))
    np.testing.assert_array_equal(shift, 0)
    assert (spread < expected_spread(EFFECT, inputs, np.full(20, 10.0))).all()


@pytest.mark.parametrize("shift", [-1.5, 0.7])
def test_many_labels_recover_a_constant_shift(shift):
    inputs = np.random.default_rng(9).normal(size=(20, 4))
    said, _ = learn(EFFECT, labelled(600, error=shift), inputs, np.full(20, 10.0))
    assert np.abs(said / shift - 1).max() < 0.15
    few, _ = learn(EFFECT, labelled(1, error=shift), inputs, np.full(20, 10.0))
    assert (few / shift < 0.9).all()  # one image may be a chance


def test_learning_is_the_mean_and_spread_of_the_model_given_the_labels():
    """Against a joint draw of labelled and asked images, by regression on very many of them."""
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(3, 2)), rng.normal(size=(1, 2))
    z, counts = np.r_[known, asked], np.array([5.0, 20, 2, 8])
    shift, slopes, smooth, noise, few = EFFECT.variances[0]
    square = ((z[:, None] - z) ** 2).sum(axis=2)
    n = 200_000
    wave = np.linalg.cholesky(np.exp(-square / (2 * SMOOTH**2)) + 1e-12 * np.eye(4))
    draws = (
        np.sqrt(shift) * rng.normal(size=(n, 1))
        + rng.normal(size=(n, 2)) @ z.T * np.sqrt(slopes / 2)
        + np.sqrt(smooth) * rng.normal(size=(n, 4)) @ wave.T
        + np.sqrt(noise + few / counts) * rng.normal(size=(n, 4))
    )
    weight, *_ = np.linalg.lstsq(draws[:, :3], draws[:, 3], rcond=None)
    errors = np.array([[1.0], [-0.5], [2.0]])
    some = LabelledRows(domain="new", inputs=known, counts=counts[:3], errors=errors)
    effect = DomainEffect(variances=EFFECT.variances[:1])
    said, spread = learn(effect, some, asked, counts[3:])
    assert said[0, 0] == pytest.approx(float(weight @ errors[:, 0]), abs=0.02)
    scatter = float(errors[:, 0] @ np.linalg.solve(np.cov(draws[:, :3].T), errors[:, 0]))
    noisier = np.sqrt((ALIKE + scatter) / (ALIKE + 3))
    assert spread[0, 0] == pytest.approx(noisier * (draws[:, 3] - draws[:, :3] @ weight).std(), rel=0.01)


def test_few_objects_and_far_inputs_widen():
    spread = expected_spread(EFFECT, np.zeros((5, 4)), np.array([0.0, 1, 4, 40, 400]))
    assert (spread[0] == spread[1]).all() and (np.diff(spread[1:], axis=0) < 0).all()
    far = expected_spread(EFFECT, np.arange(4.0)[:, None] * np.ones((1, 4)), np.full(4, 10.0))
    assert (np.diff(far, axis=0) > 0).all()


def test_the_expected_spread_is_that_of_the_draws():
    variances = EFFECT.variances[0]
    inputs, counts, errors, _ = drawn(variances, domains=400, size=10, seed=3)
    scaled = errors / expected_spread(DomainEffect(variances=variances[None]), inputs, counts)
    assert (scaled**2).mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "variances",
    [np.zeros((3, 5)), np.full((3, 5), np.nan), np.ones((3, 4)), np.ones(5), np.ones((3, 5), "f4")],
)
def test_variances_that_cannot_be_are_refused(variances):
    with pytest.raises(CalibrationError, match="variances must be"):
        DomainEffect(variances=variances)


def test_labelled_images_that_do_not_fit_are_refused():
    good = vars(labelled(6))
    for change, words in (
        ({"inputs": good["inputs"][:5]}, "inputs must be finite float64 with 6 rows"),
        ({"errors": np.full((6, 2), np.nan)}, "errors must be finite"),
        ({"counts": np.zeros(6)}, "at least one detection each"),
        ({"counts": np.ones((6, 1))}, "counts must be"),
        (
            {"counts": np.zeros(0), "inputs": np.zeros((0, 4)), "errors": np.zeros((0, 2))},
            "at least one image",
        ),
    ):
        with pytest.raises(CalibrationError, match=words):
            LabelledRows(**{**good, **change})


def test_however_much_is_known_of_a_domain_an_images_own_noise_stays():
    """A shift of a million noises is learned from labels by subtracting numbers that are nearly equal.

    Rounding alone would leave less than nothing, the root of which is no number, or zero, which is an
    estimate without doubt.
    """
    rng = np.random.default_rng(0)
    for noise in np.logspace(-9, -6, 13):
        effect = DomainEffect(variances=np.array([[1e6, 1e-12, 1e-12, noise, 1e-12]]))
        asked = rng.normal(size=(50, 4))
        spread = learn(effect, labelled(60, k=1), asked, np.full(50, 40.0))[1]
        assert (spread >= np.sqrt(noise) * (1 - 1e-12)).all()
