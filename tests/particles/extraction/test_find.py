"""Particles drawn here, where the truth is known, are found, cut and measured as they were drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.detections.detections import Detections
from passband.errors import DetectionsError, ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.particles.extraction.crop import COLUMNS, cut_particles, reaches, window_of
from passband.particles.extraction.find import ExtractionSettings, find_particles
from passband.particles.extraction.outlines import clusters_of, kept_labels, labels_of_detections

DEFAULT = ExtractionSettings()
SIDE = 160
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)


def ellipse(y, x, long, short=None, degrees=0.0):
    """Counter-clockwise from the x axis with y up, as the table tells it."""
    t = math.radians(degrees)
    along = (X - x) * math.cos(t) - (Y - y) * math.sin(t)
    across = (X - x) * math.sin(t) + (Y - y) * math.cos(t)
    return (along / long) ** 2 + (across / (short or long)) ** 2 <= 1


def micrograph(*masks, noise=0.05, level=1.0, seed=0, **more):
    pixels = noise * np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    for mask in masks:
        pixels[mask] += level
    return Micrograph(pixels=pixels.astype(np.float32), name="drawn.tif", **more)


SPREAD = [ellipse(30, 30, 12), ellipse(40, 110, 10), ellipse(110, 40, 14, 9, 30), ellipse(115, 115, 11)]


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def matched(labels, masks):
    """Whether each mask is one object, at an IoU no worse than a pixel's rim of these sizes leaves."""
    best = [max(iou(labels == i, m) for i in range(1, labels.max() + 1)) for m in masks]
    return labels.max() == len(masks) and min(best) > 0.8


@pytest.mark.parametrize("threshold", ["otsu", "local"])
@pytest.mark.parametrize("level", [1.0, -1.0])
def test_particles_are_found_whether_bright_or_dark(level, threshold):
    labels = find_particles(micrograph(*SPREAD, level=level), replace(DEFAULT, threshold=threshold))
    assert labels.dtype == np.int32
    assert matched(labels, SPREAD)


def test_asked_for_the_other_polarity_there_are_none_of_them():
    labels = find_particles(micrograph(*SPREAD), replace(DEFAULT, polarity="dark"))
    assert not labels[np.logical_or.reduce(SPREAD)].any()


def test_counts_and_scale_of_grey_levels_change_nothing():
    m = micrograph(*SPREAD)
    for scale, shift in ((65535 / 3, 9000.0), (1e30, 0.0), (1e-30, 0.0)):
        other = replace(m, pixels=(m.pixels.astype(np.float64) * scale + shift).astype(np.float32))
        labels = find_particles(other)
        assert matched(labels, SPREAD)
        np.testing.assert_allclose(
            cut_particles(other, labels).crops, cut_particles(m, labels).crops, atol=2e-5
        )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_micrograph_has_the_same_particles_turned(turns):
    m = micrograph(*SPREAD)
    turned = find_particles(replace(m, pixels=np.rot90(m.pixels, turns).copy()))
    assert np.array_equal(np.rot90(turned > 0, -turns), find_particles(m) > 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", ["otsu", "local"])
def test_noise_alone_holds_no_particles(seed, threshold):
    settings = replace(DEFAULT, threshold=threshold)
    assert find_particles(micrograph(noise=1.0, seed=seed), settings).max() == 0


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30])
def test_a_constant_micrograph_holds_no_particles_and_constant_crops_are_zero(value):
    m = Micrograph(pixels=np.full((64, 48), value, np.float32), name="flat.tif")
    assert find_particles(m).max() == 0
    labels = np.zeros((64, 48), np.int32)
    labels[20:40, 10:30] = 1
    cut = cut_particles(m, labels)
    assert cut.crops.shape == (1, 48, 48)
    assert not cut.crops.any()


def test_one_giant_particle_is_one_particle_and_shown_whole():
    giant = ellipse(80, 80, 74)
    labels = find_particles(micrograph(giant))
    assert matched(labels, [giant])
    cut = cut_particles(micrograph(giant), labels)
    assert cut.table["scale"][0] * 48 > 148
    assert cut.masks[0].sum() == pytest.approx(cut.table["area_px"][0] / cut.table["scale"][0] ** 2, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3)])
def test_the_smallest_micrographs_hold_none(shape):
    pixels = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    assert find_particles(Micrograph(pixels=pixels, name="tiny.tif")).max() == 0


def test_touching_discs_are_cut_apart_or_kept_as_one_cluster():
    pair = [ellipse(60, 50, 14), ellipse(60, 77, 14)]
    alone = ellipse(120, 110, 14)
    m = micrograph(*pair, level=0.0)
    m = replace(m, pixels=m.pixels + np.logical_or.reduce([*pair, alone]).astype(np.float32))
    assert matched(find_particles(m), [*pair, alone])
    assert matched(find_particles(m, replace(DEFAULT, split=False)), [pair[0] | pair[1], alone])


def test_a_ring_is_filled_and_the_gap_between_touching_discs_is_not():
    ring = ellipse(80, 80, 30) & ~ellipse(80, 80, 22)
    assert find_particles(micrograph(ring))[80, 80] == 1
    angles = np.radians([90, 210, 330])
    three = [ellipse(80 + 34.2 * math.sin(a), 80 + 34.2 * math.cos(a), 30) for a in angles]
    together = np.logical_or.reduce(three)
    assert not together[80, 80]
    assert find_particles(micrograph(together))[80, 80] == 0


def test_particles_at_the_border_are_dropped_unless_they_may_stay():
    cut = ellipse(0, 80, 14)
    m = micrograph(*SPREAD, cut)
    assert matched(find_particles(m), SPREAD)
    kept = find_particles(m, replace(DEFAULT, keep_border=True))
    assert matched(kept, [cut, *SPREAD])
    assert cut_particles(m, kept).table["touches_border"].tolist() == [True, False, False, False, False]


def test_dust_beside_particles_is_left_out_unless_asked_for():
    dust = ellipse(75, 75, 4.6)
    m = micrograph(*(ellipse(y, x, 20) for y in (40, 115) for x in (40, 115)), dust)
    assert find_particles(m).max() == 4
    assert find_particles(m, replace(DEFAULT, least_share=0.0)).max() == 5


def test_limits_of_size_are_in_nm_where_the_pixel_size_is_known_and_else_in_pixels():
    limits = replace(DEFAULT, least_diameter_nm=11.0, least_diameter_px=1.0, least_share=0.0)
    large = [m for m in SPREAD if 2 * math.sqrt(m.sum() / math.pi) * 0.5 > 11]  # 0.5 nm a pixel
    assert 0 < len(large) < 4
    assert matched(find_particles(micrograph(*SPREAD, pixel_size=5.0), limits), large)
    assert find_particles(micrograph(*SPREAD), limits).max() == 4
    with pytest.raises(ParameterError, match="least diameter is given in nm and the pixel size"):
        find_particles(micrograph(*SPREAD), replace(limits, least_diameter_px=None))


def test_every_fault_of_the_settings_is_told_at_once():
    with pytest.raises(ParameterError) as e:
        ExtractionSettings(
            polarity="grey", threshold="none", smoothing=-1, neck=1.0, least_solidity=math.nan,
            least_share=2, size=4, window_px=math.inf, least_diameter_nm=0,
            least_diameter_px=9, greatest_diameter_px=8,
        )  # fmt: skip
    words = (
        "polarity", "threshold", "smoothing", "neck", "least_solidity", "least_share", "size",
        "window_px", "least_diameter_nm", "at least 9",
    )  # fmt: skip
    assert [w for w in words if w not in str(e.value)] == []


@settings(max_examples=20, deadline=None)
@given(degrees=st.floats(0, 180), ratio=st.floats(1.5, 3))
def test_orientation_is_counter_clockwise_with_y_up(degrees, ratio):
    mask = ellipse(80, 80, 15 * ratio, 15, degrees)
    table = cut_particles(micrograph(mask), mask.astype(np.int32)).table
    off = (table["orientation_degrees"][0] - degrees + 90) % 180 - 90
    assert abs(off) < 1.5
    assert 0 <= table["orientation_degrees"][0] < 180
    assert table["eccentricity"][0] == pytest.approx(math.sqrt(1 - 1 / ratio**2), abs=0.02)


def test_the_table_says_where_and_how_large_each_is():
    m = micrograph(*SPREAD, pixel_size=5.0)
    labels = np.select(SPREAD, [1, 2, 3, 4], 0).astype(np.int32)
    cut = cut_particles(m, labels)
    assert list(cut.table) == list(COLUMNS)
    assert [cut.table[n].dtype for n in COLUMNS] == [np.dtype(k) for k in COLUMNS.values()]
    assert cut.source == "drawn.tif"
    np.testing.assert_allclose(cut.table["y"], [30, 40, 110, 115], atol=0.3)
    np.testing.assert_allclose(cut.table["x"], [30, 110, 40, 115], atol=0.3)
    np.testing.assert_array_equal(cut.table["area_px"], [s.sum() for s in SPREAD])
    np.testing.assert_allclose(cut.table["diameter_px"], [24, 20, 2 * math.sqrt(14 * 9), 22], rtol=0.03)
    np.testing.assert_allclose(cut.table["diameter_nm"], cut.table["diameter_px"] * 0.5)
    for i, mask in enumerate(SPREAD):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [int(cut.table[f"box_{n}"][i]) for n in ("y0", "x0", "y1", "x1")]
        assert box == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    uncalibrated = cut_particles(replace(m, pixel_size=None), labels).table
    assert np.isnan(uncalibrated["diameter_nm"]).all()
    assert np.isnan(uncalibrated["pixel_size"]).all()


@pytest.mark.parametrize("level", [1.0, -1.0])
def test_particles_are_bright_in_their_crops_and_lie_in_their_middle(level):
    m = micrograph(*SPREAD, level=level)
    cut = cut_particles(m, find_particles(m))
    assert cut.crops.dtype == np.float32
    assert 0 <= cut.crops.min() < cut.crops.max() <= 1
    for crop, mask in zip(cut.crops, cut.masks, strict=True):
        assert crop[mask].mean() > crop[~mask].mean() + 0.5
        centre = np.argwhere(mask).mean(axis=0)
        np.testing.assert_allclose(centre, 23.5, atol=0.5)


def test_a_crop_of_as_many_pixels_as_its_window_is_the_micrograph_itself():
    pixels = np.random.default_rng(3).random((90, 90)).astype(np.float32)
    labels = np.zeros((90, 90), np.int32)
    labels[40:50, 30:42] = 1  # centre of gravity between pixels, so the window's pixels are the micrograph's
    cut = cut_particles(
        Micrograph(pixels=pixels, name="a"), labels, replace(DEFAULT, window_px=48.0, polarity="bright")
    )
    low, high = np.percentile(pixels, [0.5, 99.5])
    own = np.percentile(pixels[labels > 0], [1, 99])
    low, high = min(low, own[0]), max(high, own[1])
    wanted = np.clip((pixels - low) / (high - low), 0, 1)[21:69, 12:60]
    np.testing.assert_allclose(cut.crops[0], wanted, atol=1e-5)
    assert np.array_equal(cut.masks[0], labels[21:69, 12:60] == 1)


def test_beyond_the_edge_a_crop_is_background_and_says_how_much():
    corner = ellipse(8, 8, 7)
    m = micrograph(corner, noise=0.0)
    cut = cut_particles(m, corner.astype(np.int32), replace(DEFAULT, window_px=49.0, size=49))
    assert (cut.crops[0][:16] == 0).all()
    # rows and columns -16 to 32, of which 0 to 32 are there
    assert cut.table["outside"][0] == pytest.approx(1 - (33 / 49) ** 2)
    assert not cut.masks[0][:16].any()


def test_neighbours_are_hidden_where_asked_for():
    two = [ellipse(80, 80, 10), ellipse(80, 106, 10)]
    labels = np.select(two, [1, 2], 0).astype(np.int32)
    settings = replace(DEFAULT, window_px=80.0)
    seen = cut_particles(micrograph(*two), labels, settings)
    hidden = cut_particles(micrograph(*two), labels, replace(settings, hide_neighbours=True))
    # 26 pixels to the right at 80 / 48 to the crop pixel
    assert seen.crops[0][20:28, 35:43].min() > 0.7
    assert hidden.crops[0][20:28, 35:43].max() < 0.5
    assert np.abs(hidden.crops - seen.crops)[seen.masks].max() < 0.1


def test_windows_are_common_to_a_micrograph_and_show_nine_in_ten_whole():
    m = micrograph(*SPREAD)
    labels = np.select(SPREAD, [1, 2, 3, 4], 0).astype(np.int32)
    assert np.unique(cut_particles(m, labels).table["scale"]).size == 1
    assert window_of(m, labels, DEFAULT) == pytest.approx(1.25 * np.percentile(reaches(labels), 90))
    calibrated = replace(m, pixel_size=5.0)
    window = replace(DEFAULT, window_nm=20.0, window_px=50.0)
    assert window_of(calibrated, labels, window) == 40.0
    assert window_of(m, labels, window) == 50.0


def test_a_physical_window_shows_a_particle_alike_at_any_magnification():
    window = replace(DEFAULT, window_nm=30.0)
    whole = micrograph(ellipse(80, 80, 20), noise=0, pixel_size=5.0)
    half = micrograph(ellipse(80, 80, 10), noise=0, pixel_size=10.0)
    a, b = (cut_particles(m, (m.pixels > 0.5).astype(np.int32), window) for m in (whole, half))
    assert iou(a.masks[0], b.masks[0]) > 0.9
    assert a.table["scale"][0] == 2 * b.table["scale"][0]


def test_no_particles_give_no_crops():
    m = micrograph()
    cut = cut_particles(m, np.zeros(m.shape, np.int32))
    assert cut.crops.shape == cut.masks.shape == (0, 48, 48)
    assert all(len(column) == 0 for column in cut.table.values())


def test_detections_become_outlines_the_surest_on_top():
    boxes = np.array([[10.0, 10, 30, 30], [20, 10, 40, 30], [-0.5, 50, 9.5, 60.5]])
    found = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.array([0.9, 0.5, 0.7]))
    labels = labels_of_detections(found)
    assert labels[20, 24] == 1
    assert labels[20, 36] == 2
    assert labels[10, 10] == 0  # the corner of a box is not in its ellipse
    assert np.count_nonzero(labels == 1) == pytest.approx(math.pi * 100, rel=0.03)
    assert labels[55, 4] == 3


def test_rules_of_size_and_border_hold_for_outlines_too():
    m = micrograph(pixel_size=5.0)
    labels = np.select([*SPREAD, ellipse(0, 80, 14), ellipse(75, 75, 2)], [9, 7, 5, 3, 2, 1], 0)
    kept = kept_labels(m, labels, DEFAULT)
    assert kept.max() == 4
    assert np.array_equal(kept > 0, np.logical_or.reduce(SPREAD))
    assert kept[115, 115] == 1  # in the order of the numbers given
    with pytest.raises(ParameterError, match="160 x 80"):
        kept_labels(m, labels[:, :80], DEFAULT)
    with pytest.raises(DetectionsError, match="negative"):
        kept_labels(m, -labels, DEFAULT)


def test_without_splitting_outlines_that_touch_become_one_cluster():
    m = micrograph()
    labels = np.zeros(m.shape, np.int32)
    labels[40:60, 40:60], labels[40:60, 60:80], labels[100:120, 100:120] = 1, 2, 3
    assert kept_labels(m, labels, DEFAULT).max() == 3
    clusters = kept_labels(m, labels, replace(DEFAULT, split=False))
    assert clusters.max() == 2
    assert np.array_equal(clusters > 0, labels > 0)


@pytest.mark.parametrize("between", range(5))
@pytest.mark.parametrize("turned", [False, True])
def test_particles_touch_where_no_more_than_the_gap_is_between(between, turned):
    row = np.zeros((3, 12), np.int32)
    row[1, :2], row[1, 2 + between :] = 4, 9
    row = row.T if turned else row
    for gap in range(4):
        assert clusters_of(row, gap=gap).counts.tolist() == ([2] if between <= gap else [1, 1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), gap=st.floats(0, 6))
def test_clusters_are_those_of_the_distance_between_particles(seed, gap):
    rng = np.random.default_rng(seed)
    labels = np.zeros((24, 24), np.int32)
    for i in range(1, 7):
        y, x = rng.integers(0, 21, 2)
        labels[y : y + 3, x : x + 3] = i
    numbers = [i for i in range(1, 7) if (labels == i).any()]
    spots = [np.argwhere(labels == i) for i in numbers]
    near = [
        [
            math.sqrt(((a[:, None] - b[None]) ** 2).sum(-1).min()) <= max(math.sqrt(2), gap + 1) + 1e-6
            for b in spots
        ]
        for a in spots
    ]
    reach = np.linalg.matrix_power(np.array(near, float), len(numbers)) > 0
    found = clusters_of(labels, gap=gap)
    same = found.members[:, None] == found.members[None]
    assert np.array_equal(same, reach)
    assert found.counts.sum() == len(numbers)
    assert np.array_equal(found.labels > 0, labels > 0)


def test_nothing_has_no_clusters_and_a_gap_is_a_number():
    empty = clusters_of(np.zeros((4, 4), np.int32))
    assert empty.counts.tolist() == empty.members.tolist() == []
    with pytest.raises(ParameterError, match="gap"):
        clusters_of(np.zeros((4, 4), np.int32), gap=-1)
