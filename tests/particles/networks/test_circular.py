"""Divergences on the circle are those that brute-force sums over the circle give."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from passband.particles.networks.circular import (
    ANGLE_PRIORS,
    GREATEST_SPREAD,
    _nodes,
    normal_divergence,
    projected_normal_log_density,
    wrapped_normal_entropy,
)

SPREADS = (0.02, 0.1, 0.5, 1.0, 1.8, 2.5, GREATEST_SPREAD)
MEANS = (0.0, 0.7, -2.0, 3.1)
WRAPPED = ("von-mises", "projected-normal")
# The sums below are exact to 1e-12; Gauss-Hermite's 33 nodes are not, but err by less than this, in nats.
ERROR = 2e-3

spreads = st.floats(0.02, GREATEST_SPREAD)
means = st.floats(-math.pi, math.pi)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def circle(count=20_000):
    """Points evenly on the circle: the sum of a smooth periodic function over them is its integral."""
    return (np.arange(count) + 0.5) * 2 * math.pi / count - math.pi


def wrapped_normal(at, mean, spread):
    turns = 2 * math.pi * np.arange(-12, 13)[:, None]
    return (np.exp(-0.5 * ((at - mean + turns) / spread) ** 2) / (spread * math.sqrt(2 * math.pi))).sum(0)


def von_mises(at, concentration):
    unscaled = np.exp(concentration * (np.cos(at) - 1))
    return unscaled / (unscaled.mean() * 2 * math.pi)


def projected_normal(at, length):
    """The integral along each ray of a normal about (length, 0), by a sum over the radius."""
    radius = (np.arange(4000) + 0.5) * (length + 9) / 4000
    x, y = radius * np.cos(at)[:, None] - length, radius * np.sin(at)[:, None]
    density = np.exp(-0.5 * (x**2 + y**2)) / (2 * math.pi)
    return (density * radius).sum(1) * (radius[1] - radius[0])


DENSITIES = {"von-mises": von_mises, "projected-normal": projected_normal}


def summed_divergence(mean, spread, prior):
    at = circle(len(prior))
    q = wrapped_normal(at, mean, spread)
    safe = np.where(q > 0, q, 1)
    return float((q * (np.log(safe) - np.log(prior))).mean() * 2 * math.pi)


@pytest.mark.parametrize("spread", SPREADS)
def test_the_entropy_is_that_of_the_wrapped_density(spread):
    q = wrapped_normal(circle(), 0.3, spread)
    summed = -(q * np.log(np.where(q > 0, q, 1))).mean() * 2 * math.pi
    assert float(wrapped_normal_entropy(tensor(spread))) == pytest.approx(summed, abs=ERROR)


def test_the_entropy_grows_with_the_spread_to_that_of_the_uniform():
    found = wrapped_normal_entropy(torch.linspace(0.02, GREATEST_SPREAD, 200, dtype=torch.float64))
    assert (found.diff() > -1e-4).all()
    assert found.max() <= math.log(2 * math.pi) + 1e-4
    assert float(found[-1]) == pytest.approx(math.log(2 * math.pi), abs=1e-3)


@pytest.mark.parametrize("concentration", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("prior", WRAPPED)
def test_a_divergence_is_its_sum_over_the_circle(prior, concentration):
    count = 20_000 if prior == "von-mises" else 2000  # spreads of 0.1 and more are wide of 2,000 points
    density = DENSITIES[prior](circle(count), concentration)
    for spread in SPREADS[0 if prior == "von-mises" else 1 :]:
        for mean in MEANS:
            found = float(ANGLE_PRIORS[prior](tensor(mean), tensor(spread), concentration))
            expected = summed_divergence(mean, spread, density)
            assert found == pytest.approx(expected, abs=ERROR * max(1, concentration)), (spread, mean)


@given(mean=means, spread=st.floats(0.05, 4))
@settings(max_examples=20)
def test_the_unwrapped_divergence_is_that_of_normals(mean, spread):
    q, p = torch.distributions.Normal(mean, spread), torch.distributions.Normal(0.0, 1.0)
    expected = float(torch.distributions.kl_divergence(q, p))
    assert float(ANGLE_PRIORS["normal"](tensor(mean), tensor(spread), 0.0)) == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_monte_carlo_agrees():
    rng = np.random.default_rng(0)
    at = rng.normal(0.4, 0.6, 200_000)
    log_q = np.log(wrapped_normal(at, 0.4, 0.6))
    for prior, log_p in (
        ("von-mises", 2.0 * np.cos(at) - np.log(2 * math.pi * np.i0(2.0))),
        ("projected-normal", projected_normal_log_density(torch.from_numpy(at), 2.0).numpy()),
    ):
        draws = log_q - log_p
        found = float(ANGLE_PRIORS[prior](tensor(0.4), tensor(0.6), 2.0))
        assert abs(draws.mean() - found) < 5 * draws.std() / len(at) ** 0.5


@given(mean=means, spread=spreads, concentration=st.floats(0, 20), prior=st.sampled_from([*ANGLE_PRIORS]))
def test_a_divergence_is_not_negative(mean, spread, concentration, prior):
    assert float(ANGLE_PRIORS[prior](tensor(mean), tensor(spread), concentration)) > -ERROR


def test_a_posterior_that_is_the_prior_diverges_by_nothing():
    for prior in WRAPPED:  # a spread of pi is all but uniform
        assert abs(float(ANGLE_PRIORS[prior](tensor(1.0), tensor(GREATEST_SPREAD), 0.0))) < 1e-3
    assert float(ANGLE_PRIORS["normal"](tensor(0.0), tensor(1.0), 0.0)) == 0
    # Narrow priors are all but normal, of spread 1 / sqrt(concentration) and 1 / length.
    assert float(ANGLE_PRIORS["von-mises"](tensor(0.0), tensor(0.2), 25.0)) == pytest.approx(0, abs=2e-3)
    assert float(ANGLE_PRIORS["projected-normal"](tensor(0.0), tensor(0.1), 10.0)) == pytest.approx(
        0, abs=2e-3
    )


@given(mean=means, spread=spreads, concentration=st.floats(0, 20), turns=st.sampled_from([-2, -1, 1, 2]))
def test_whole_turns_of_the_mean_change_a_wrapped_divergence_by_nothing(mean, spread, concentration, turns):
    for prior in WRAPPED:
        one, other = (
            float(ANGLE_PRIORS[prior](tensor(m), tensor(spread), concentration))
            for m in (mean, mean + 2 * math.pi * turns)
        )
        assert one == pytest.approx(other, abs=1e-9)


def test_the_unwrapped_divergence_does_count_turns():
    one, other = (float(ANGLE_PRIORS["normal"](tensor(m), tensor(0.5), 0.0)) for m in (0.3, 0.3 + math.tau))
    assert other - one == pytest.approx(((0.3 + math.tau) ** 2 - 0.3**2) / 2)


@given(spread=spreads, concentration=st.floats(0.1, 20), a=means, b=means)
@example(spread=3.0, concentration=3.0, a=3.0, b=2.75)
def test_a_mean_nearer_the_priors_diverges_less(spread, concentration, a, b):
    near, far = sorted((a, b), key=abs)
    for prior in WRAPPED:
        one, other = (
            float(ANGLE_PRIORS[prior](tensor(m), tensor(spread), concentration)) for m in (near, far)
        )
        assert one <= other + 1e-6 * concentration


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 4.0, 12.0])
def test_the_projected_normal_is_a_density(length):
    at = torch.from_numpy(circle(4000))
    total = float(projected_normal_log_density(at, length).exp().mean()) * 2 * math.pi
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("length", [0.0, 4.0, 12.0, 50.0])
def test_the_projected_normal_stays_finite_in_single_precision(length):
    found = projected_normal_log_density(torch.linspace(-math.pi, math.pi, 181), length)
    assert torch.isfinite(found).all()


def test_a_divergence_first_used_without_gradients_can_be_learnt_through():
    _nodes.cache_clear()
    with torch.inference_mode():
        wrapped_normal_entropy(tensor(0.5))
    spread = tensor(0.5).requires_grad_()
    wrapped_normal_entropy(spread).backward()
    assert torch.isfinite(spread.grad).all()


@pytest.fixture(autouse=True)
def no_nodes_of_before():
    yield
    _nodes.cache_clear()


@pytest.mark.parametrize("prior", list(ANGLE_PRIORS))
def test_gradients_are_those_of_differences(prior):
    mean = tensor(0.3, -2.0, 3.0).requires_grad_()
    spread = tensor(0.05, 0.8, 2.9).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: ANGLE_PRIORS[prior](m, s, 1.5), (mean, spread))
    assert torch.autograd.gradcheck(wrapped_normal_entropy, spread)
    assert torch.autograd.gradcheck(normal_divergence, (mean, spread))


@pytest.mark.parametrize("prior", list(ANGLE_PRIORS))
def test_gradients_stay_finite_at_the_ends_in_single_precision(prior):
    spread = torch.tensor([1e-4, 1e-2, GREATEST_SPREAD], requires_grad=True)
    mean = torch.tensor([0.0, math.pi, -math.pi], requires_grad=True)
    found = ANGLE_PRIORS[prior](mean, spread, 5.0)
    found.sum().backward()
    assert (
        torch.isfinite(found).all() and torch.isfinite(spread.grad).all() and torch.isfinite(mean.grad).all()
    )
