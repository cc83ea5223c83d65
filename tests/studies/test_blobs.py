"""Planted discs are found, whatever the gain, the offset and the turn; nothing is found in nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from blobs import STEP, BlobConfig, detect_blobs, fit_blobs
from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph

pytestmark = pytest.mark.training

PLANTED = ((30.0, 40.0, 4.0), (90.0, 36.0, 6.0), (60.0, 100.0, 8.0), (120.0, 110.0, 5.0))
"""Row, column and standard deviation in pixels of Gaussian discs."""
BRIGHT = BlobConfig(sigma=(2.0, 12.0), polarity="bright", score_threshold=0.5)


def micrograph(pixels, name="planted"):
    return Micrograph(pixels=np.ascontiguousarray(pixels, np.float32), name=name)


def planted(noise=0.05, sign=1.0, shape=(150, 144), seed=0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = noise * np.random.default_rng(seed).standard_normal(shape)
    for row, column, sigma in PLANTED:
        pixels += sign * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
    return micrograph(pixels)


def truth(shape=(150, 144)):
    """Boxes around discs of the radius that a scale stands for, sqrt(2) sigma."""
    boxes = [
        (x + 0.5 - r, y + 0.5 - r, x + 0.5 + r, y + 0.5 + r) for y, x, s in PLANTED for r in [2**0.5 * s]
    ]
    return Detections(image_shape=shape, boxes_xyxy=np.array(boxes), scores=np.ones(len(boxes)))


def f1(found, shape=(150, 144)):
    return object_scores(match_boxes(truth(shape).boxes_xyxy, found.boxes_xyxy, OPTIMAL)).f1


def test_planted_discs_are_found_where_they_are_and_as_large_as_they_are():
    found = detect_blobs(planted(), BRIGHT)
    assert len(found) == len(PLANTED)
    for row, column, sigma in PLANTED:
        x0, y0, x1, y1 = found.boxes_xyxy.T
        near = np.hypot((y0 + y1) / 2 - row - 0.5, (x0 + x1) / 2 - column - 0.5).argmin()
        assert abs((y0 + y1)[near] / 2 - row - 0.5) <= 1 and abs((x0 + x1)[near] / 2 - column - 0.5) <= 1
        # A Gaussian disc answers most at its own sigma, and scales come in steps.
        assert sigma / STEP < (x1 - x0)[near] / 2 / 2**0.5 < sigma * STEP


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_polarity_is_kept_apart(sign):
    own, other = ("bright", "dark") if sign > 0 else ("dark", "bright")
    image = planted(sign=sign)
    assert f1(detect_blobs(image, replace(BRIGHT, polarity=own))) == 1
    assert f1(detect_blobs(image, replace(BRIGHT, polarity=other))) == 0
    # The trough around a bright disc is no dark disc, so that both together find each disc once.
    assert f1(detect_blobs(image, replace(BRIGHT, polarity="either"))) == 1


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (37.0, 900.0), (1.0, -50.0)])
def test_gain_and_offset_change_nothing(gain, offset):
    image = planted()
    other = micrograph(gain * image.pixels + offset)
    a, b = detect_blobs(image, BRIGHT), detect_blobs(other, BRIGHT)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)  # float32 pixels keep that many digits


def test_a_quarter_turn_turns_the_boxes():
    image = planted()
    turned = micrograph(np.rot90(image.pixels))  # anticlockwise: (row, column) -> (width - column, row)
    a, b = detect_blobs(image, BRIGHT), detect_blobs(turned, BRIGHT)
    x0, y0, x1, y1 = a.boxes_xyxy.T
    width = image.shape[1]
    expected = np.stack([y0, width - x1, y1, width - x0], axis=1)
    order, other = np.lexsort(expected.T), np.lexsort(b.boxes_xyxy.T)
    np.testing.assert_allclose(b.boxes_xyxy[other], expected[order], atol=1e-6)
    np.testing.assert_allclose(b.scores[other], a.scores[order], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e4])
@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64)])
def test_nothing_is_found_in_a_flat_image(shape, value):
    assert len(detect_blobs(micrograph(np.full(shape, value)), replace(BRIGHT, polarity="either"))) == 0


def test_noise_alone_scores_less_than_a_clear_disc():
    noise = micrograph(np.random.default_rng(1).standard_normal((200, 200)))
    loud = detect_blobs(noise, replace(BRIGHT, score_threshold=0.0)).scores
    assert len(loud) and loud.max() < detect_blobs(planted(), BRIGHT).scores.min()


def test_blobs_kept_share_no_more_than_they_may():
    noise = micrograph(np.random.default_rng(1).standard_normal((200, 200)))
    counts = []
    for overlap in (0.0, 0.4, 1.0):
        found = detect_blobs(noise, replace(BRIGHT, score_threshold=0.0, overlap=overlap))
        b, area = found.boxes_xyxy, found.areas
        low, high = np.maximum(b[:, None, :2], b[None, :, :2]), np.minimum(b[:, None, 2:], b[None, :, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=2) - np.diag(area)
        assert (shared <= overlap * np.minimum(area[:, None], area) + 1e-9).all()
        counts.append(len(found))
    assert counts[0] < counts[1] < counts[2]


def test_the_score_falls_with_noise():
    means = []
    for noise in (0.02, 0.1, 0.3, 1.0):
        found = detect_blobs(planted(noise), replace(BRIGHT, score_threshold=0.0))
        pairs = match_boxes(truth().boxes_xyxy, found.boxes_xyxy, OPTIMAL).pairs
        means.append(found.scores[pairs[:, 1]].mean())
    assert all(a > b for a, b in itertools.pairwise(means))
    assert means[0] > 0.9


def test_a_line_and_an_edge_are_no_blobs():
    y, x = np.mgrid[:128, :128]
    lines = np.exp(-((x - y) ** 2) / 30.0) + 2.0 * (x > 100)
    lines = lines + 0.05 * np.random.default_rng(2).standard_normal(lines.shape)
    inside = detect_blobs(micrograph(lines), BRIGHT).boxes_xyxy
    centre = (inside[:, :2] + inside[:, 2:]) / 2
    crossing = np.hypot(*(centre - 100).T) < 20  # where the line meets the edge there is a round end
    assert (crossing | (centre.min(axis=1) < 12) | (centre.max(axis=1) > 116)).all()


def test_masks_are_discs_in_their_boxes_inside_the_image():
    found = detect_blobs(planted(shape=(126, 114)), BRIGHT)  # the last disc touches the border
    assert len(found.masks) == len(found) and (np.diff(found.scores) <= 0).all()
    assert (found.boxes_xyxy[:, 3] == 126).any()
    for mask, (x0, y0, x1, y1) in zip(found.masks, found.boxes_xyxy, strict=True):
        height, width = mask.pixels.shape
        assert mask.y >= 0 and mask.x >= 0 and mask.y + height <= 126 and mask.x + width <= 114
        assert abs(mask.y - y0) < 1 and abs(mask.x - x0) < 1
        if x1 < 114 and y1 < 126:
            assert mask.pixels.sum() == pytest.approx(np.pi / 4 * (x1 - x0) * (y1 - y0), rel=0.15)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_fit_finds_the_polarity_and_serves_other_images(sign):
    config = fit_blobs([(planted(0.3, sign, seed=s), truth()) for s in range(3)])
    assert config.polarity == ("bright" if sign > 0 else "dark")
    assert f1(detect_blobs(planted(0.3, sign, seed=9), config)) > 0.8


def test_a_fit_wants_objects():
    empty = replace(truth(), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    with pytest.raises(ParameterError, match=r"2 images without any object"):
        fit_blobs([(planted(), empty)] * 2)


def test_bad_settings_are_named_together():
    with pytest.raises(ParameterError, match=r"sigma.*growth.*background.*overlap.*score_threshold"):
        BlobConfig(sigma=(3.0, 2.0), growth=0.0, background=160, overlap=2.0, score_threshold=-1.0)
