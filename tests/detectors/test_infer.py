"""Inference: scale, tiles, memory, and micrographs with nothing in them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from torchvision.models.detection import MaskRCNN

from passband.cavities.domains import draw_set
from passband.cavities.image import simulate_cavities
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors import infer
from passband.detectors.bundle import default_bundle
from passband.detectors.infer import detect, rescaling
from passband.errors import BundleError, ParameterError
from passband.micrographs.micrograph import Micrograph


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scene():
    (record,) = draw_set(["A:under"], 1, seed=77)
    image = simulate_cavities(record)
    micrograph = Micrograph(pixels=image.pixels, name="a", pixel_size=record.conditions.pixel_size)
    return micrograph, np.array([m.box_xyxy for m in image.instances])


def f1(truth, found):
    return object_scores(match_boxes(truth, found.boxes_xyxy, OPTIMAL)).f1


def test_the_shipped_detector_finds_simulated_cavities(scene):
    assert f1(scene[1], detect(scene[0], default_bundle())) > 0.8


def test_detection_does_not_depend_on_gain_and_offset(scene):
    micrograph, _ = scene
    other = replace(micrograph, pixels=(0.37 * micrograph.pixels + 900).astype(np.float32))
    a, b = detect(micrograph, default_bundle()), detect(other, default_bundle())
    assert f1(a.boxes_xyxy, b) > 0.97


def test_tiled_inference_equals_whole_inference_away_from_the_tiles_sides(scene, monkeypatch):
    whole = detect(scene[0], default_bundle())
    monkeypatch.setattr(infer, "TILES", (384,))
    tiled = detect(scene[0], default_bundle())
    assert f1(whole.boxes_xyxy, tiled) > 0.93


def test_masks_lie_on_their_boxes_inside_the_image(scene):
    found = detect(scene[0], default_bundle())
    assert len(found.masks) == len(found) > 0
    assert (np.diff(found.scores) <= 0).all()
    height, width = scene[0].shape
    for mask, box in zip(found.masks, found.boxes_xyxy, strict=True):
        assert mask.y >= 0 and mask.x >= 0 and mask.pixels.any()
        assert mask.y + mask.pixels.shape[0] <= height and mask.x + mask.pixels.shape[1] <= width
        assert np.abs(np.array(mask.box_xyxy) - box).max() <= 1.5


def test_a_finer_micrograph_is_rescaled_and_its_boxes_come_back_in_its_own_pixels(scene):
    micrograph, truth = scene
    fine = np.kron(micrograph.pixels, np.ones((2, 2), np.float32))
    bundle = default_bundle()
    low = micrograph.pixel_size
    narrow = replace(bundle, training={**bundle.training, "pixel_size": [low, low]})
    found = detect(Micrograph(pixels=fine, name="fine", pixel_size=low / 2), narrow)
    assert rescaling(Micrograph(pixels=fine, name="fine", pixel_size=low / 2), narrow) == 0.5
    assert f1(2 * truth, found) > 0.75


@pytest.mark.parametrize("shape", [(1, 1), (5, 700), (33, 31)])
def test_odd_shapes_and_flat_images_give_an_answer(shape):
    flat = Micrograph(pixels=np.full(shape, 7, np.float32), name="flat")
    assert len(detect(flat, default_bundle())) == 0
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    detect(Micrograph(pixels=noise, name="noise"), default_bundle())


def test_tiles_cover_every_pixel():
    for length in (1, 255, 256, 257, 511, 1000, 4096):
        starts = infer._starts(length, 256, 64)
        covered = np.zeros(length, bool)
        for s in starts:
            assert s >= 0 and s + 256 <= max(length, 256)
            covered[s : s + 256] = True
        assert covered.all()


def test_a_budget_too_small_says_what_it_needs(scene):
    with pytest.raises(ParameterError, match="GB is too small"):
        detect(scene[0], default_bundle(), memory_gb=0.1)


def test_weights_of_another_network_are_refused(scene):
    with pytest.raises(BundleError, match="do not fit"):
        detect(scene[0], replace(default_bundle(), weights={"w": torch.zeros(2)}))


class Seeing(MaskRCNN):
    """A network that finds each bright patch of what it is given, exactly."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def backbone(self, padded):
        assert padded.shape[2] % 32 == padded.shape[3] % 32 == 0
        return padded[0, 0].numpy()

    def rpn(self, images, features):
        return features, {}

    def roi_heads(self, features, proposals, size):
        height, width = size[0]
        places = scipy.ndimage.find_objects(scipy.ndimage.label(features[:height, :width] > 2)[0])
        boxes = [[x.start, y.start, x.stop, y.stop] for y, x in places]
        n = len(boxes)
        found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "scores": torch.linspace(0.99, 0.9, n),
            "masks": torch.ones(n, 1, 28, 28),
        }
        return [found], {}


def seen_in_tiles(monkeypatch, pixels, tile):
    """What is found by a network that sees all, as a sorted list of boxes."""
    monkeypatch.setattr(infer, "_network", lambda bundle: Seeing())
    monkeypatch.setattr(infer, "TILES", (tile,))
    found = detect(Micrograph(pixels=pixels, name="patches"), default_bundle())
    assert [m.box_xyxy for m in found.masks] == [tuple(b) for b in found.boxes_xyxy]
    return sorted(map(tuple, found.boxes_xyxy.astype(int).tolist()))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("length", [1, 3, 59, 60, 61, 64, 80, 101, 104])
def test_no_object_is_lost_between_two_tiles_wherever_their_sides_cut_it(monkeypatch, length, turned):
    """Tiles of 256 share 64 pixels: what is longer may be whole in none of them, and its pieces must stay.

    What touches no side of one of the tiles by two pixels is found there, once and whole.
    """
    pixels = np.zeros((240, 640), np.float32)  # tiles begin at 0, 192 and 384
    patches = [(start, 9 * i + 3, start + length, 9 * i + 7) for i, start in enumerate(range(147, 265, 5))]
    for x0, y0, x1, y1 in patches:
        pixels[y0:y1, x0:x1] = 1
    boxes = seen_in_tiles(monkeypatch, np.ascontiguousarray(pixels.T) if turned else pixels, 256)
    if turned:
        boxes = sorted((x0, y0, x1, y1) for y0, x0, y1, x1 in boxes)
    assert {y0 for _, y0, _, _ in boxes} == {y0 for _, y0, _, _ in patches}
    if length <= 60:
        assert boxes == sorted(patches)
