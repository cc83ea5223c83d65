"""Deforming many images at once agrees with geometry, with itself and with torchvision."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import _get_inverse_affine_matrix

from passband.particles.networks.warping import Affine, deform, warp

SIDE = 41
degrees = st.floats(-180, 180)
shears = st.floats(-40, 40)
scales = st.floats(0.3, 3)


def affine(**given):
    values = {f.name: 0.0 for f in fields(Affine)} | {"scale": 1.0} | given
    return Affine(**{name: np.atleast_1d(np.asarray(v, float)) for name, v in values.items()})


def smooth(seed=0):
    """A few broad blobs that bilinear interpolation loses little of, well away from the border."""
    rng = np.random.default_rng(seed)
    at = np.arange(SIDE) - (SIDE - 1) / 2
    x, y = np.meshgrid(at, -at)
    image = sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 3.5**2)) * h
        for a, b, h in zip(rng.uniform(-4, 4, 3), rng.uniform(-4, 4, 3), (1, 0.7, 0.4), strict=True)
    )
    return torch.from_numpy(image[None].astype(np.float32))


def matrix(**given):
    return torch.from_numpy(affine(**given).matrices.astype(np.float32))


def shift(x=0.0, y=0.0):
    return torch.tensor([[x, y]], dtype=torch.float32)


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_a_quarter_turn_is_exact_and_anticlockwise(size, turns):
    image = torch.rand(1, size, size, generator=torch.Generator().manual_seed(turns))
    turned = warp(image, matrix(angle=90.0 * turns), shift(), size)
    torch.testing.assert_close(turned, image.rot90(turns, (1, 2)), atol=2e-5, rtol=0)


def test_a_shift_goes_right_and_up_and_leaves_zeros():
    image = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0)) + 0.5
    moved = warp(image, matrix(), shift(3, 2), 12)
    torch.testing.assert_close(moved[:, :10, 3:], image[:, 2:, :9], atol=1e-5, rtol=0)
    assert not moved[:, 10:].any() and not moved[:, :, :3].any()


def test_a_scale_magnifies_what_is_there():
    image = smooth()
    doubled = warp(image, matrix(scale=1.5), shift(), SIDE)
    # Area grows with the square of the scale; interpolation changes a smooth image's sum by under 1 %.
    assert doubled.sum() / image.sum() == pytest.approx(1.5**2, rel=0.01)


def test_pixels_keep_their_size_in_a_larger_and_a_smaller_result():
    image = torch.rand(1, 10, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp(image, matrix(), shift(), 6), image[:, 2:8, 2:8], atol=1e-5, rtol=0)
    larger = warp(image, matrix(), shift(), 14)
    torch.testing.assert_close(larger[:, 2:12, 2:12], image, atol=1e-5, rtol=0)
    assert float(larger.sum()) == pytest.approx(float(image.sum()), rel=1e-4)


@given(a=degrees, b=degrees, sx=st.floats(-10, 10), scale=st.floats(0.8, 1.2), x=st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_two_deformations_are_their_product(a, b, sx, scale, x):
    image, first, then = smooth(), matrix(angle=a, shear_x=sx), matrix(angle=b, scale=scale)
    moved = shift(x, 0.5)
    twice = warp(warp(image, first, moved, SIDE), then, shift(), SIDE)
    once = warp(image, then @ first, (then @ moved[:, :, None])[:, :, 0], SIDE)
    torch.testing.assert_close(twice, once, atol=0.04, rtol=0)  # one interpolation more


@given(angle=degrees, sx=st.floats(-15, 15), sy=st.floats(-15, 15), scale=st.floats(0.8, 1.2))
@settings(max_examples=30, deadline=None)
def test_the_inverse_undoes_a_deformation(angle, sx, sy, scale):
    image, forth = smooth(), matrix(angle=angle, shear_x=sx, shear_y=sy, scale=scale)
    moved, back = shift(1.5, -2.0), torch.linalg.inv(forth)
    again = warp(warp(image, forth, moved, SIDE), back, -(back @ moved[:, :, None])[:, :, 0], SIDE)
    torch.testing.assert_close(again, image, atol=0.05, rtol=0)  # two interpolations


@given(angle=degrees, sx=shears, sy=shears, scale=scales)
def test_the_matrix_is_torchvisions(angle, sx, sy, scale):
    ours = affine(angle=angle, shear_x=sx, shear_y=sy, scale=scale).matrices[0]
    theirs = _get_inverse_affine_matrix([0.0, 0.0], angle, [0.0, 0.0], scale, [sx, sy], inverted=False)
    np.testing.assert_allclose(ours, np.reshape(theirs, (2, 3))[:, :2], atol=1e-9)


@given(angle=degrees, sx=shears, sy=shears, scale=scales)
def test_only_the_scale_changes_areas(angle, sx, sy, scale):
    found = np.linalg.det(affine(angle=angle, shear_x=sx, shear_y=sy, scale=scale).matrices[0])
    assert found == pytest.approx(scale**2)


@given(shear=st.floats(-1, 1))
def test_shear_moved_from_one_axis_to_the_other_is_a_turn_and_the_same_strain(shear):
    along, across = affine(shear_x=shear), affine(shear_y=shear)
    assert along.strain[0] == pytest.approx(across.strain[0], abs=1e-12)
    # Up to the turn by the shear, the two deform alike: their stretches agree to second order of it.
    stretches = [a.matrices[0].T @ a.matrices[0] for a in (along, across)]
    t = np.tan(np.deg2rad(shear))
    assert np.abs(stretches[0] - stretches[1]).max() <= 1.01 * t**2 + 1e-14  # and rounding
    assert stretches[0][0, 1] / 2 == pytest.approx(along.strain[0], abs=1e-12)


def test_each_image_of_a_batch_gets_its_own():
    images = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    many = affine(
        angle=np.array([0.0, 90, 180]), shear_x=np.zeros(3), shear_y=np.zeros(3), scale=np.ones(3),
        shift_x=np.zeros(3), shift_y=np.zeros(3),
    )  # fmt: skip
    assert len(many) == 3
    out = warp(images, torch.from_numpy(many.matrices.astype(np.float32)), torch.zeros(3, 2), 9)
    for i in range(3):
        torch.testing.assert_close(out[i], images[i].rot90(i, (0, 1)), atol=2e-5, rtol=0)


def test_a_record_is_applied_with_its_shifts_and_a_part_of_it_to_a_part_of_the_images():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((6, 12, 12), np.float32))
    record = Affine(**{f.name: rng.uniform(0.8, 1.2, 6) for f in fields(Affine)})
    whole = deform(images, record, 12)
    shifts = torch.tensor(np.stack([record.shift_x, record.shift_y], 1), dtype=torch.float32)
    matrices = torch.tensor(record.matrices, dtype=torch.float32)
    assert torch.equal(whole, warp(images, matrices, shifts, 12))
    parts = [deform(images[of], record[of], 12) for of in (slice(0, 2), slice(2, 6))]
    assert torch.equal(torch.cat(parts), whole)
