"""Scores in every empty case, and sizes against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.detections.matching import OPTIMAL, PAPER, Matches, match_boxes
from passband.detections.scores import (
    box_diameters,
    equivalent_diameters,
    heywood_circularities,
    heywood_circularity,
    number_density,
    object_scores,
    swelling_percent,
)
from passband.errors import ParameterError
from passband.types import InstanceMask

# Other work on the machine must not fail a law.
unhurried = settings(deadline=None)


def counted(hits, truth, predicted):
    """Matches with given counts."""
    pairs = np.stack([np.arange(hits)] * 2, axis=1)
    return Matches(pairs=pairs, n_truth=truth, n_predicted=predicted, rule=OPTIMAL)


def ellipse(a, b, offset=(0.0, 0.0)):
    """Mask of an ellipse with half axes a (x) and b (y)."""
    n = math.ceil(max(a, b)) + 3
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    return InstanceMask(y=5, x=9, pixels=((x - offset[0]) / a) ** 2 + ((y - offset[1]) / b) ** 2 <= 1)


@pytest.mark.parametrize(
    ("hits", "truth", "predicted", "precision", "recall", "f1"),
    [
        (3, 4, 5, 3 / 5, 3 / 4, 2 / 3),
        (4, 4, 4, 1, 1, 1),
        (0, 0, 0, 1, 1, 1),  # nothing to find, nothing claimed: a perfect answer
        (0, 0, 3, 0, 0, 0),  # claims on an empty image
        (0, 3, 0, 0, 0, 0),  # silence on a full one
        (0, 3, 2, 0, 0, 0),  # the released table has NaN here
    ],
)
def test_scores_by_hand(hits, truth, predicted, precision, recall, f1):
    s = object_scores(counted(hits, truth, predicted))
    assert (s.precision, s.recall, s.f1) == pytest.approx((precision, recall, f1))
    assert (s.true_positives, s.false_positives, s.misses) == (hits, predicted - hits, truth - hits)


@unhurried
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_scores_are_finite_ordered_and_swap_with_the_roles(hits, misses, wrong):
    s = object_scores(counted(hits, hits + misses, hits + wrong))
    swapped = object_scores(counted(hits, hits + wrong, hits + misses))
    assert (s.precision, s.recall, s.f1) == (swapped.recall, swapped.precision, swapped.f1)
    low, high = sorted([s.precision, s.recall])
    assert 0 <= low - 1e-12 <= s.f1 + 1e-12 or s.f1 == 0
    assert low - 1e-12 <= s.f1 <= high + 1e-12
    if s.precision + s.recall:
        assert s.f1 == pytest.approx(2 * s.precision * s.recall / (s.precision + s.recall))


def test_printed_scores_name_their_rule():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]])
    assert str(object_scores(match_boxes(boxes, boxes[:1], OPTIMAL))) == (
        "F1 0.67 (optimal one-to-one, box IoU >= 0.5)"
    )
    assert "IoU >= 0.1" in str(object_scores(match_boxes(boxes, boxes, PAPER)))


@unhurried
@given(st.floats(3, 60), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_disc_has_its_diameter_within_a_pixel_and_circularity_near_1(radius, x, y):
    disc = ellipse(radius, radius, (x, y))
    assert equivalent_diameters([disc])[0] == pytest.approx(2 * radius, abs=1)
    # The hull of few pixels is a polygon of few corners. Of all discs with radii from 3 to 60 in steps of
    # 1/64, centred on pixels, corners, edges and at random, the worst has an excess of 0.2675 over its
    # radius (radius 9.89).
    assert 1 <= heywood_circularity(disc) <= 1 + 0.27 / radius


def test_an_ellipse_has_the_geometric_mean_of_its_axes():
    # dmin and dmax are the half axes. Circularity by Ramanujan's perimeter (error below 1e-5 here).
    a, b = 40.0, 20.0
    perimeter = math.pi * (3 * (a + b) - math.sqrt((3 * a + b) * (a + 3 * b)))
    mask = ellipse(a, b)
    # Centred on a pixel it is 81 by 41 pixels wide: 2 sqrt(40.5 x 20.5).
    assert equivalent_diameters([mask])[0] == pytest.approx(math.sqrt(81 * 41), abs=0.1)
    assert heywood_circularity(mask) == pytest.approx(perimeter / (2 * math.pi * math.sqrt(a * b)), rel=0.01)


def test_a_square_is_less_round_than_a_disc():
    # Pixel hulls lose half a pixel at each corner: within 1.5 % at 20 pixels, 0.3 % at 100.
    for side, slack in ((20, 0.015), (100, 0.003)):
        square = InstanceMask(y=0, x=0, pixels=np.ones((side, side), bool))
        assert heywood_circularity(square) == pytest.approx(4 / (2 * math.sqrt(math.pi)), rel=slack)


def test_circularity_is_of_the_hull_so_a_bay_does_not_count():
    whole = ellipse(20, 20)
    bay = whole.pixels.copy()
    bay[20:26, 20:30] = False
    with_bay = InstanceMask(y=0, x=0, pixels=bay)
    assert heywood_circularity(with_bay) == heywood_circularity(whole)
    assert equivalent_diameters([with_bay])[0] == equivalent_diameters([whole])[0]


def test_the_smallest_objects_have_sizes():
    dot = InstanceMask(y=0, x=0, pixels=np.ones((1, 1), bool))
    line = InstanceMask(y=0, x=0, pixels=np.ones((1, 7), bool))
    # A pixel's edge midpoints make a diamond of half diagonals 1/2: diameter 1, a square's circularity.
    assert equivalent_diameters([dot])[0] == pytest.approx(1)
    assert heywood_circularities([dot, line])[0] == pytest.approx(2 / math.sqrt(math.pi))
    assert heywood_circularities([dot, line])[1] > 1.5


@unhurried
@given(st.integers(0, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_sizes_do_not_turn_with_the_image(turns, flip, seed):
    pixels = np.random.default_rng(seed).random((9, 12)) < 0.3
    pixels[4, 5] = True
    turned = np.rot90(pixels.T if flip else pixels, turns)
    a, b = (InstanceMask(y=0, x=0, pixels=np.ascontiguousarray(p)) for p in (pixels, turned))
    assert equivalent_diameters([a])[0] == pytest.approx(equivalent_diameters([b])[0])
    assert heywood_circularity(a) == pytest.approx(heywood_circularity(b))


@unhurried
@given(st.floats(0.1, 100))
def test_diameters_scale_with_the_pixel_and_volumes_with_its_cube(pixel_size):
    masks = [ellipse(5, 5), ellipse(8, 3)]
    d = equivalent_diameters(masks)
    scaled = equivalent_diameters(masks, pixel_size=pixel_size)
    np.testing.assert_allclose(scaled, pixel_size * d)
    # Everything larger by one factor: the swelling stays.
    area, thickness = 1e4, 500.0
    assert swelling_percent(scaled, area * pixel_size**2, thickness * pixel_size) == pytest.approx(
        swelling_percent(d, area, thickness)
    )


def test_boxes_have_the_size_of_the_ellipse_inside():
    boxes = np.array([[0, 0, 80, 40], [10.5, 10, 14.5, 19]])
    np.testing.assert_allclose(box_diameters(boxes), [math.sqrt(3200), 6])
    np.testing.assert_allclose(box_diameters(boxes, pixel_size=3.0), 3 * box_diameters(boxes))
    mask = ellipse(40, 20)
    own_box = np.array([[0, 0, 81, 41]])
    assert equivalent_diameters([mask])[0] == pytest.approx(box_diameters(own_box)[0], abs=0.1)


def test_no_objects_no_sizes():
    assert equivalent_diameters([]).shape == heywood_circularities([]).shape == (0,)
    assert box_diameters(np.zeros((0, 4))).shape == (0,)


def test_density_and_swelling_in_closed_form():
    assert number_density(120, 3e6) == 4e-5
    assert number_density(0, 1.0) == 0
    # A sphere of diameter d in a foil of d³ fills pi/6 of it: 100 pi/6 / (1 - pi/6) = 109.9 %.
    assert swelling_percent([10.0], area=100.0, thickness=10.0) == pytest.approx(
        100 * (math.pi / 6) / (1 - math.pi / 6)
    )
    assert swelling_percent([], area=1.0, thickness=1.0) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: number_density(-1, 1.0), "count"),
        (lambda: number_density(1, 0.0), "area"),
        (lambda: swelling_percent([1.0], area=-1.0, thickness=math.nan), "area.*; thickness"),
        (lambda: swelling_percent([1.0, -2.0, math.nan], area=1e9, thickness=1.0), r"\[1, 2\]"),
        (lambda: swelling_percent([10.0], area=100.0, thickness=5.0), "do not fit in a foil"),
        (lambda: equivalent_diameters([ellipse(3, 3)], pixel_size=0.0), "pixel_size"),
        (lambda: box_diameters(np.array([[0, 0, 1, 1]]), pixel_size=-1.0), "pixel_size"),
        (lambda: box_diameters(np.zeros((1, 4))), r"boxes \[0\]"),
        (lambda: box_diameters(np.zeros((2, 3))), r"\(n, 4\), got \(2, 3\)"),
        (
            lambda: equivalent_diameters([InstanceMask(y=0, x=0, pixels=np.zeros((2, 2), bool))]),
            r"empty: \[0\]",
        ),
    ],
)
def test_what_has_no_size_is_refused_by_name(call, words):
    with pytest.raises(ParameterError, match=words):
        call()


@unhurried
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_many_objects_have_the_circularities_that_each_has_alone_however_tall(seed, count):
    """Those of up to 128 rows are measured together, taller ones one by one."""
    rng = np.random.default_rng(seed)
    masks = []
    for rows in rng.choice([3, 40, 128, 129, 200], count):
        pixels = rng.random((int(rows), 30)) < 0.2
        pixels[0, 3] = pixels[-1, 7] = True
        masks.append(InstanceMask(y=0, x=0, pixels=pixels))
    alone = [heywood_circularity(m) for m in masks]
    np.testing.assert_allclose(heywood_circularities(masks), alone, rtol=1e-9)


def test_a_rectangle_has_the_hull_that_is_worked_out_by_hand():
    """Of h x w pixels: its sides, and at each corner a half pixel cut off both ways."""
    h, w = 6, 10
    mask = InstanceMask(y=3, x=4, pixels=np.pad(np.ones((h, w), bool), ((2, 1), (1, 3))))
    area = h * w - 4 * 0.125
    perimeter = 2 * (h - 1) + 2 * (w - 1) + 4 * math.sqrt(0.5)
    assert heywood_circularity(mask) == pytest.approx(perimeter / (2 * math.sqrt(math.pi * area)))
    # Its vertices lie (w/2, h/2 - 1/2) and (w/2 - 1/2, h/2) from its centre.
    reach = sorted([math.hypot(w / 2, h / 2 - 0.5), math.hypot(w / 2 - 0.5, h / 2)])
    assert equivalent_diameters([mask])[0] == pytest.approx(2 * math.sqrt(reach[0] * reach[1]))


def test_a_foil_that_is_all_cavity_has_no_swelling():
    volume = math.pi / 6
    with pytest.raises(ParameterError, match="do not fit"):
        swelling_percent([1.0], area=volume, thickness=1.0)
    assert swelling_percent([1.0], area=2 * volume, thickness=1.0) == pytest.approx(100)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_a_diameter_of_nothing_or_without_end_is_named(wrong):
    with pytest.raises(ParameterError, match=r"\[1\] are"):
        swelling_percent([1.0, wrong], area=1e9, thickness=1e9)
    with pytest.raises(ParameterError, match="area must be a positive number"):
        number_density(1, wrong)


@pytest.mark.parametrize(
    "boxes", [[[0, 0, 0, 4]], [[0, 0, 4, 0]], [[0, 0, 4, math.inf]], [[math.nan, 0, 4, 4]], [[5, 0, 4, 4]]]
)
def test_a_box_without_extent_both_ways_has_no_size(boxes):
    with pytest.raises(ParameterError, match=r"boxes \[0\] are not finite with x0 < x1 and y0 < y1"):
        box_diameters(np.array(boxes, np.float64))


def test_a_box_narrower_than_a_pixel_has_a_size_and_of_several_the_wrong_ones_are_named():
    np.testing.assert_allclose(box_diameters(np.array([[0.5, 0, 0.75, 1]])), 0.5)
    with pytest.raises(ParameterError, match=r"boxes \[1, 2\] are"):
        box_diameters(np.array([[0.0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0]]))
