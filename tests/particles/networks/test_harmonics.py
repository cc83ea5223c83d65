"""What a turn does to circular harmonics, and what it leaves."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.errors import ParameterError
from passband.particles.networks.harmonics import (
    HarmonicSettings,
    harmonic_basis,
    harmonics,
    invariants,
    turn_between,
    turned,
)
from passband.particles.networks.warping import warp

SETTINGS = HarmonicSettings(size=48)
angles = st.floats(-math.pi, math.pi)


def smooth(count=8, seed=0, size=48):
    """Crops of broad blobs without symmetry, that end within the greatest circle."""
    rng = np.random.default_rng(seed)
    at = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(at, -at)
    crops = []
    for _ in range(count):
        where, widths, heights = rng.uniform(-8, 8, (5, 2)), rng.uniform(3, 4, 5), rng.uniform(0.3, 1, 5)
        crops.append(
            sum(
                h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * w**2))
                for (a, b), w, h in zip(where, widths, heights, strict=True)
            )
        )
    return torch.from_numpy(np.stack(crops).astype(np.float32))


def rotate(crops, angle):
    angle = torch.as_tensor(angle, dtype=torch.float32).expand(len(crops))
    cos, sin = angle.cos(), angle.sin()
    matrices = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return warp(crops, matrices, torch.zeros(len(crops), 2), crops.shape[-1])


def of(crops, s=SETTINGS):
    return harmonics(crops, s)


def error(a, b):
    return torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi


@pytest.mark.parametrize("size", [48, 31])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_changes_no_invariant(size, turns):
    s = HarmonicSettings(size=size)
    crops = torch.rand(5, size, size, generator=torch.Generator().manual_seed(0))
    one, other = (invariants(of(c, s), s) for c in (crops, crops.rot90(turns, (1, 2))))
    assert one.shape[1] == s.invariants
    torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


@given(angle=angles)
@settings(max_examples=20, deadline=None)
def test_any_turn_of_a_smooth_crop_all_but_leaves_its_invariants(angle):
    crops = smooth()
    one, other = (invariants(of(c), SETTINGS) for c in (crops, rotate(crops, angle)))
    between = (one[:, None] - one[None]).norm(dim=-1)
    nearest = (between + 1e9 * torch.eye(len(crops))).amin()
    assert (one - other).norm(dim=1).max() < 0.15 * nearest


def test_a_mirrored_crop_has_other_invariants():
    crops = smooth()
    one, other = (invariants(of(c), SETTINGS) for c in (crops, crops.flip(2)))
    # Moduli are the same in a mirror; the products of rings tell the hands apart.
    moduli = SETTINGS.rings * (1 + SETTINGS.orders)
    torch.testing.assert_close(one[:, :moduli], other[:, :moduli], atol=1e-5, rtol=0)
    turned_a_little = invariants(of(rotate(crops, 0.5)), SETTINGS)
    assert ((one - other).norm(dim=1) > 4 * (one - turned_a_little).norm(dim=1)).all()


@given(angle=angles)
@settings(max_examples=30, deadline=None)
def test_the_turn_of_a_smooth_crop_is_found_within_half_a_degree(angle):
    crops = smooth()
    found, agreement = turn_between(of(rotate(crops, angle)), of(crops), SETTINGS)
    assert error(found, angle).abs().max() < math.radians(0.5)
    assert (agreement > 0.99).all() and (agreement <= 1 + 1e-5).all()


@given(angle=angles)
@settings(max_examples=20, deadline=None)
def test_turning_the_harmonics_is_turning_the_pixels(angle):
    crops = smooth()
    pixels, coefficients = of(rotate(crops, angle)), turned(of(crops), torch.full((8,), angle), SETTINGS)
    assert (pixels - coefficients).norm() < 0.02 * coefficients.norm()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_harmonics_by_quarters_is_exact(turns):
    crops = torch.rand(5, 48, 48, generator=torch.Generator().manual_seed(0))
    found = turned(of(crops), torch.full((5,), turns * math.pi / 2), SETTINGS)
    torch.testing.assert_close(found, of(crops.rot90(turns, (1, 2))), atol=2e-5, rtol=0)


@given(a=angles, b=angles)
@settings(max_examples=20)
def test_turns_add(a, b):
    coefficients = of(smooth())
    one = turned(turned(coefficients, torch.full((8,), a), SETTINGS), torch.full((8,), b), SETTINGS)
    other = turned(coefficients, torch.full((8,), a + b), SETTINGS)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@given(angle=angles)
@settings(max_examples=20)
def test_a_turn_of_harmonics_is_found_and_leaves_their_invariants(angle):
    coefficients = of(smooth())
    after = turned(coefficients, torch.full((8,), angle), SETTINGS)
    found, agreement = turn_between(after, coefficients, SETTINGS)
    assert error(found, angle).abs().max() < math.radians(0.1)
    torch.testing.assert_close(agreement, torch.ones(8), atol=2e-3, rtol=0)
    torch.testing.assert_close(
        invariants(after, SETTINGS), invariants(coefficients, SETTINGS), atol=1e-5, rtol=0
    )


def test_each_crop_is_turned_by_its_own_angle():
    crops, by = smooth(), torch.linspace(-3, 3, 8)
    found, _ = turn_between(of(rotate(crops, by)), of(crops), SETTINGS)
    assert error(found, by).abs().max() < math.radians(0.5)


def test_the_turn_does_not_depend_on_the_contrast():
    crops = smooth()
    moved = of(rotate(crops, 1.0))
    one, other = (turn_between(c, of(crops), SETTINGS) for c in (moved, 7 * moved))
    torch.testing.assert_close(one[0], other[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(one[1], other[1], atol=1e-4, rtol=0)


def test_harmonics_are_linear_in_the_crop():
    a, b = smooth(seed=1), smooth(seed=2)
    torch.testing.assert_close(of(3 * a - 0.5 * b), 3 * of(a) - 0.5 * of(b), atol=1e-5, rtol=0)
    assert of(a).shape[1] == SETTINGS.coefficients == harmonic_basis(SETTINGS).shape[1]


def test_an_even_crop_is_its_level_and_has_no_direction():
    found = of(torch.full((1, 48, 48), 0.7))
    torch.testing.assert_close(found[:, :12], torch.full((1, 12), 0.7), atol=1e-5, rtol=0)
    # The outermost rings are cut by the crop's straight border, which has a direction.
    assert found[0, 12:].view(2, 8, 12)[:, :, :10].abs().max() < 2e-3
    angle, agreement = turn_between(torch.zeros(1, 204), torch.zeros(1, 204), SETTINGS)
    assert torch.isfinite(angle).all() and agreement == 0


def test_invariants_have_finite_gradients_even_of_an_empty_crop():
    crops = torch.zeros(2, 48, 48, requires_grad=True)
    invariants(of(crops), SETTINGS).sum().backward()
    assert torch.isfinite(crops.grad).all()


def test_a_basis_first_used_without_gradients_can_be_learnt_through():
    crops = smooth().requires_grad_()
    harmonic_basis.cache_clear()
    try:
        with torch.inference_mode():
            of(smooth())
        of(crops).sum().backward()
    finally:
        harmonic_basis.cache_clear()
    assert crops.grad.abs().sum() > 0


@pytest.mark.parametrize("bad", [{"size": 7}, {"size": 513}, {"rings": 4}, {"rings": 65}, {"orders": 0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ParameterError, match="harmonics"):
        HarmonicSettings(**({"size": 48} | bad))
