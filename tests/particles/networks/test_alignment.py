"""Particles that were moved and turned are found where they went."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.particles.cards import SYMMETRY, Disorder, angle_error, draw_cards, make_cards
from passband.particles.networks.alignment import centroids, learn_templates, move_back, start_poses
from passband.particles.networks.harmonics import HarmonicSettings, turn_between, turned
from passband.particles.networks.warping import Affine

pytestmark = pytest.mark.training

SETTINGS = HarmonicSettings(size=48)
HALF = 23.5
STILL = Disorder(angle=0, shear=(0, 0), scale=(1, 1))
FOLDS = np.array(list(SYMMETRY.values()))


def drawn(disorder, count, seed):
    record = draw_cards(disorder, count, seed=seed)
    return record, torch.from_numpy(make_cards(record)), torch.from_numpy(record.suit)


def blob(x, y, size=48):
    at = torch.arange(size) - (size - 1) / 2
    image = torch.exp(-((at[None] - x) ** 2 + (-at[:, None] - y) ** 2) / (2 * 4.0**2))
    return image[None]


@given(x=st.floats(-9, 9), y=st.floats(-9, 9), size=st.sampled_from([48, 49]))
@settings(max_examples=30, deadline=None)
def test_the_centroid_is_where_a_blob_is(x, y, size):
    found = centroids(blob(x, y, size))[0] * (size - 1) / 2
    assert found.tolist() == pytest.approx([x, y], abs=0.05)


def test_the_centroid_follows_a_shift_whatever_the_brightness():
    _, crops, _ = drawn(STILL, 1, seed=0)
    moved = torch.roll(crops, (-3, 5), (1, 2))  # the shapes end 8 pixels from the border
    expected = centroids(crops) + torch.tensor([5.0, 3.0]) / HALF
    torch.testing.assert_close(centroids(moved), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(centroids(40 * moved - 7), expected, atol=1e-4, rtol=0)


def test_the_centroid_of_nothing_is_the_middle():
    assert centroids(torch.full((1, 48, 48), 0.4)).abs().max() < 1e-6


def test_moving_back_undoes_a_pose():
    record, crops, _ = drawn(STILL, 1, seed=0)
    pose = torch.tensor([[0.5, 0.1, -0.15, 0.1]]).expand(4, -1)
    full = np.ones(4)
    moved = make_cards(
        replace(
            record,
            affine=Affine(
                angle=full * math.degrees(0.5), shear_x=0 * full, shear_y=0 * full,
                scale=full * math.exp(0.1),
                shift_x=full * 0.1 * HALF, shift_y=full * -0.15 * HALF,
            ),
        )
    )  # fmt: skip
    again = move_back(torch.from_numpy(moved), pose)
    # Two interpolations blur edges; the shapes cover the same pixels.
    assert (again - crops).abs().mean() < 0.02
    assert (torch.from_numpy(moved) - crops).abs().mean() > 0.08


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_moving_back_by_quarters_and_whole_pixels_is_exact(turns):
    crops = torch.zeros(2, 48, 48)
    crops[:, 10:38, 10:38] = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    moved = torch.roll(crops.rot90(turns, (1, 2)), (-4, 6), (1, 2))
    pose = torch.tensor([[turns * math.pi / 2, 6 / HALF, 4 / HALF, 0.0]]).expand(2, -1)
    torch.testing.assert_close(move_back(moved, pose), crops, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [5, 20, 60])
def test_templates_of_upright_crops_stand_upright(count):
    record, crops, labels = drawn(replace(STILL, angle=4), count, seed=1)
    templates = learn_templates(crops, labels, 4, SETTINGS)
    found = np.rad2deg(start_poses(crops, templates[labels], SETTINGS)[:, 0].numpy())
    half = 180 / FOLDS[record.suit]
    near_zero = (found + half) % (2 * half) - half
    for k in range(4):
        assert abs(near_zero[record.suit == k].mean()) < 0.5


def test_a_template_does_not_depend_on_the_order_of_the_crops():
    _, crops, labels = drawn(replace(STILL, angle=20), 6, seed=2)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    one = learn_templates(crops, labels, 4, SETTINGS)
    other = learn_templates(crops[order], labels[order], 4, SETTINGS)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_one_crop_is_its_own_template():
    _, crops, labels = drawn(STILL, 1, seed=3)
    templates = learn_templates(crops, labels, 4, SETTINGS)
    angle, _ = turn_between(turned(templates, torch.ones(4), SETTINGS), templates, SETTINGS)
    torch.testing.assert_close(angle[torch.tensor(FOLDS == 1)], torch.ones(3), atol=1e-3, rtol=0)
    start = start_poses(crops, templates[labels], SETTINGS)
    assert start[:, 0].abs().max() < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_turned_and_shifted_cards_are_found(noise):
    moved = replace(STILL, angle=180, shift_x=(-0.1, 0.1), shift_y=(-0.1, 0.1), noise=noise)
    _, upright, labels = drawn(replace(STILL, angle=4), 20, seed=11)
    record, crops, suit = drawn(moved, 60, seed=12)
    templates = learn_templates(upright, labels, 4, SETTINGS)
    found = start_poses(crops, templates[suit], SETTINGS)
    assert not found[:, 3].any()
    errors = angle_error(np.rad2deg(found[:, 0].numpy()), record.affine.angle, FOLDS[record.suit])
    for k in range(4):
        # Twenty labelled cards within 4 degrees stand upright to 0.5 on the mean; four such errors.
        assert np.median(errors[record.suit == k]) < 2 + 4 * noise
    # A shape's centroid turns about its template's centre with it.
    still = replace(record, affine=replace(record.affine, shift_x=0 * errors, shift_y=0 * errors), noise=0.0)
    own = centroids(torch.from_numpy(make_cards(still))).numpy()
    shift = HALF * (found[:, 1:3].numpy() - own)
    true = np.stack([record.affine.shift_x, record.affine.shift_y], 1)
    assert np.median(np.abs(shift - true)) < 0.5
    assert np.median(np.abs(true)) > 2


def test_a_turned_crop_has_its_pose_turned():
    _, upright, labels = drawn(STILL, 3, seed=13)
    _, crops, suit = drawn(replace(STILL, angle=60, shift_y=(-0.1, 0.1)), 5, seed=14)
    templates = learn_templates(upright, labels, 4, SETTINGS)[suit]
    one, other = (start_poses(c, templates, SETTINGS) for c in (crops, crops.rot90(1, (1, 2))))
    away = angle_error(np.rad2deg((other - one)[:, 0].numpy()), np.full(20, 90.0), FOLDS[suit.numpy()])
    assert away.max() < 0.05
    torch.testing.assert_close(other[:, 1:3], torch.stack([-one[:, 2], one[:, 1]], 1), atol=1e-4, rtol=0)
