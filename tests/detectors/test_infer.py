"""Inference: scale, tiles, memory, and micrographs with nothing in them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from torchvision.models.detection import MaskRCNN

from passband.cavities.draws import draw_set
from passband.cavities.image import simulate_cavities
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors import infer
from passband.detectors.bundle import default_bundle
from passband.detectors.config import SLIM
from passband.detectors.infer import detect
from passband.detectors.rescale import rescaling, resized
from passband.errors import BundleError, ParameterError
from passband.estimate.look import unlike
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

pytestmark = pytest.mark.training


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


@pytest.fixture(scope="module")
def whole(scene):
    """What the shipped detector finds in it."""
    return detect(scene[0], default_bundle())


def test_the_shipped_detector_finds_simulated_cavities(scene, whole):
    """Of most foils nearly all; of some, with a hundred cavities near the noise, a third."""
    reached = [f1(scene[1], whole)]
    for record in draw_set(["A:under"], 4, seed=78):
        image = simulate_cavities(record)
        foil = Micrograph(pixels=image.pixels, name="a", pixel_size=record.conditions.pixel_size)
        reached.append(f1(np.array([m.box_xyxy for m in image.instances]), detect(foil, default_bundle())))
    assert np.median(reached) > 0.8


def test_the_tiles_of_a_large_micrograph_are_told_and_a_small_one_s_is_not(scene, whole, monkeypatch):
    told = []
    assert len(detect(scene[0], default_bundle(), progress=lambda *w: told.append(w))) == len(whole)
    assert told == []
    monkeypatch.setattr(infer, "TILES", (384,))
    detect(scene[0], default_bundle(), progress=lambda *w: told.append(w))
    assert told == [("tile", n, 4) for n in range(4)]


def test_detection_does_not_depend_on_gain_and_offset(scene, whole):
    micrograph, _ = scene
    other = replace(micrograph, pixels=(0.37 * micrograph.pixels + 900).astype(np.float32))
    assert f1(whole.boxes_xyxy, detect(other, default_bundle())) > 0.97


def test_tiled_inference_equals_whole_inference_away_from_the_tiles_sides(scene, whole, monkeypatch):
    for side in (384, 256):
        monkeypatch.setattr(infer, "TILES", (side,))
        assert f1(whole.boxes_xyxy, detect(scene[0], default_bundle())) > 0.9


def test_an_image_among_others_of_its_kind_has_the_objects_that_it_has_alone(scene, whole):
    """What is looked at in a tile does not depend on how much else there is."""
    micrograph, (height, width) = scene[0], scene[0].shape
    pair = np.concatenate([micrograph.pixels, micrograph.pixels[:, ::-1]], axis=1)
    four = replace(micrograph, pixels=np.concatenate([pair, pair[::-1]]))
    boxes = detect(four, default_bundle()).boxes_xyxy
    here = boxes[(boxes[:, 2] < width) & (boxes[:, 3] < height)]
    alone = whole.boxes_xyxy[(whole.boxes_xyxy[:, 2:] < np.array([width, height]) - 1).all(axis=1)]
    matches = match_boxes(alone, here, OPTIMAL)
    assert object_scores(matches).f1 > 0.9


def test_masks_lie_on_their_boxes_inside_the_image(scene, whole):
    found = whole
    assert len(found.masks) == len(found) > 0
    assert (np.diff(found.scores) <= 0).all()
    height, width = scene[0].shape
    for mask, box in zip(found.masks, found.boxes_xyxy, strict=True):
        assert mask.y >= 0 and mask.x >= 0 and mask.pixels.any()
        assert mask.y + mask.pixels.shape[0] <= height and mask.x + mask.pixels.shape[1] <= width
        assert np.abs(np.array(mask.box_xyxy) - box).max() <= 1.5


def test_candidates_go_down_to_the_weakest_and_the_answer_among_them_stays_as_it_is(
    scene, whole, monkeypatch
):
    bundle = default_bundle()
    weak = replace(bundle, score_threshold=0.05)
    candidates = detect(scene[0], weak)
    answer = candidates.above(bundle.score_threshold)
    np.testing.assert_array_equal(answer.boxes_xyxy, whole.boxes_xyxy)
    np.testing.assert_array_equal(answer.scores, whole.scores)
    assert len(answer.masks) == len(answer) and answer.score_threshold == whole.score_threshold
    assert candidates.score_threshold == 0.05
    assert len(candidates) > len(answer) and candidates.scores.min() < answer.score_threshold
    monkeypatch.setattr(infer, "TILES", (384,))  # put together from tiles, each has its own outline
    tiled = detect(scene[0], weak).above(bundle.score_threshold)
    for mask, box in zip(tiled.masks, tiled.boxes_xyxy, strict=True):
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


class Heads:
    """Heads of a network that find what they are told to, each object in all pixels of its box."""

    def __init__(self, find):
        self.find = find

    def box_roi_pool(self, features, proposals, size):
        return features["0"][0, 0].numpy()

    def box_head(self, pooled):
        return pooled

    def box_predictor(self, seen):
        return seen, None

    def postprocess_detections(self, seen, deltas, proposals, size):
        boxes, scores = self.find(seen, *size[0])
        return [boxes], [scores], [torch.ones(len(boxes), dtype=torch.int64)]

    def has_mask(self):
        return True

    def mask_roi_pool(self, features, boxes, size):
        return boxes[0]

    def mask_head(self, pooled):
        return pooled

    def mask_predictor(self, boxes):
        return torch.full((len(boxes), 2, 28, 28), 9.0)


def patches_in(features, height, width):
    places = scipy.ndimage.find_objects(scipy.ndimage.label(features[:height, :width] > 2)[0])
    boxes = [[x.start, y.start, x.stop, y.stop] for y, x in places]
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.linspace(0.99, 0.9, len(boxes))


class Seeing(MaskRCNN):
    """A network that finds each bright patch of what it is given, exactly."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.roi_heads = Heads(patches_in)

    def backbone(self, padded):
        assert padded.shape[2] % 32 == padded.shape[3] % 32 == 0
        return {"0": padded[:, :1]}

    def rpn(self, images, features):
        return features, {}


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


def told(boxes, scores):
    """A network that says this of every tile."""
    network = Seeing()
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    network.roi_heads = Heads(lambda *_: (boxes, torch.tensor(scores)))
    return network


def kept_boxes(boxes, at=(0, 0), whole=(100, 120), scores=None, threshold=0.5):
    """Boxes of a tile of 100 x 120 pixels that are kept, in the pixels of the whole image."""
    part = torch.zeros(2, 100, 120)
    network = told(boxes, scores or [0.9] * len(boxes))
    found, _ = infer._detect_tile(network, part, at, whole, threshold)
    assert len(found.boxes) == len(found.masks)
    return found.boxes.tolist()


@pytest.mark.parametrize(
    ("touching", "clear", "inner"),
    [
        ([1.9, 40, 9, 50], [2, 40, 9, 50], {"at": (0, 300), "whole": (100, 420)}),
        ([40, 1.9, 50, 9], [40, 2, 50, 9], {"at": (300, 0), "whole": (400, 120)}),
        ([110, 40, 118.1, 50], [110, 40, 118, 50], {"whole": (100, 121)}),
        ([40, 90, 50, 98.1], [40, 90, 50, 98], {"whole": (101, 120)}),
    ],
    ids=["left", "top", "right", "bottom"],
)
def test_an_object_at_a_tiles_side_is_the_neighbours_but_at_the_images_side_it_is_whole(
    touching, clear, inner
):
    """Within two pixels of a side with a neighbour an object may be cut; where the image ends it is not."""
    y, x = inner.get("at", (0, 0))
    moved = [[x0 + x, y0 + y, x1 + x, y1 + y] for x0, y0, x1, y1 in (clear,)]
    assert np.allclose(kept_boxes([touching, clear], **inner), moved)
    assert np.allclose(kept_boxes([touching, clear]), [touching, clear])


def test_a_detection_needs_its_score_and_a_pixel_each_way():
    boxes = [[10, 10, 20, 20], [30, 10, 40, 20], [50, 10, 51, 11], [60, 10, 60.9, 20], [70, 10, 80, 10.9]]
    kept = kept_boxes(boxes, scores=[0.5, 0.499, 0.9, 0.9, 0.9])
    assert np.allclose(kept, [boxes[0], boxes[2]])


def test_a_mask_covers_the_pixels_its_box_touches_and_is_never_empty():
    box = torch.tensor([10.6, 20.2, 14.1, 23.0])
    halves = torch.zeros(28, 28)
    halves[:, 14:] = 1.0
    mask = infer._mask(box, halves)
    assert mask.box_xyxy == (10, 20, 15, 23)
    assert mask.pixels[:, :2].sum() == 0 and mask.pixels[:, 3:].all()
    for unsure in (0.0, 0.5):
        assert infer._mask(box, torch.full((28, 28), unsure)).pixels.all()  # none passes 1/2: the whole box
    assert infer._mask(torch.tensor([3.0, 4, 3, 4]), halves).pixels.shape == (1, 1)


@pytest.mark.parametrize(
    ("pixel_size", "factor"),
    [(1.0, 0.5), (2.0, 1.0), (3.0, 1.0), (5.0, 1.0), (10.0, 2.0), (0.1, 0.25), (90.0, 4.0), (None, 1.0)],
)
def test_a_micrograph_is_brought_to_the_nearest_pixel_size_of_training_and_by_four_times_at_most(
    pixel_size, factor
):
    bundle = replace(default_bundle(), training={"pixel_size": [2.0, 5.0]})
    image = Micrograph(pixels=np.zeros((4, 4), np.float32), name="a", pixel_size=pixel_size)
    assert rescaling(image, bundle) == factor
    assert rescaling(image, replace(bundle, training={})) == 1


def test_shrinking_averages_so_that_detail_finer_than_a_new_pixel_vanishes_instead_of_aliasing():
    """A Gaussian of 0.4 new pixels leaves exp(-2 pi² sigma² f²) of a wave; between two pixels, cos(pi f)."""
    x = np.arange(1024)
    for frequency in (3 / 8, 1 / 16, 1 / 64):
        wave = np.cos(2 * np.pi * frequency * x).astype(np.float32)
        shrunk = resized(np.tile(wave, (64, 1)), 0.25)
        assert shrunk.shape == (16, 256)
        left = np.exp(-2 * (np.pi * 1.6 * frequency) ** 2) * np.cos(np.pi * frequency)
        assert np.sqrt(2) * shrunk[8, 32:-32].std() == pytest.approx(left, rel=0.02, abs=1e-3)


def test_enlarging_keeps_what_is_there_and_no_side_becomes_too_small_for_the_network():
    y, x = np.mgrid[:20, :30]
    ramp = (3 * x + 7 * y).astype(np.float32)
    assert resized(ramp, 1.0) is ramp
    larger = resized(ramp, 2.0)
    assert larger.shape == (40, 60)
    y, x = np.mgrid[1:39, 1:59]  # a new pixel's centre lies at (x + 1/2) / 2 - 1/2 in the old ones
    np.testing.assert_allclose(larger[1:-1, 1:-1], 3 * (x / 2 - 0.25) + 7 * (y / 2 - 0.25), rtol=1e-5)
    assert resized(ramp, 0.25).shape == (16, 16)


def test_the_largest_tile_that_the_budget_holds_is_taken_to_the_last_byte(monkeypatch):
    monkeypatch.setattr(infer, "BASE_BYTES", {"slim": 1000})
    monkeypatch.setattr(infer, "BYTES_PER_TILE_PIXEL", {"slim": 3})
    monkeypatch.setattr(infer, "BYTES_PER_PIXEL", 10)
    monkeypatch.setattr(infer, "BYTES_PER_STRIP_PIXEL", 100)
    monkeypatch.setattr(infer, "STRIP_MARGIN", 1)
    monkeypatch.setattr(infer, "TILES", (8, 4, 2))
    for side in (8, 4, 2):
        need = 1000 + 10 * 50 + 100 * min(5, side + 1) * 10 + 3 * side**2
        assert infer._tile_side(SLIM, (5, 10), need / 1e9) == side
        if side > 2:
            assert infer._tile_side(SLIM, (5, 10), (need - 1) / 1e9) == side // 2
    with pytest.raises(ParameterError, match=r"of 1e-06 GB .* give 0\.0 GB"):
        infer._tile_side(SLIM, (5, 10), 1000 / 1e9)
    monkeypatch.setattr(infer, "BASE_BYTES", {"slim": 2_000_000_000})
    monkeypatch.setattr(infer, "BYTES_PER_TILE_PIXEL", {"slim": 300_000_000})
    with pytest.raises(ParameterError, match=r"give 6\.7 GB"):  # 2 + 0.5 + 3 + 4 x 0.3
        infer._tile_side(SLIM, (5, 10_000_000), 1.0)


def test_the_budget_is_for_the_enlarged_micrograph_and_a_shrunk_one_is_read_whole(monkeypatch):
    asked = []
    monkeypatch.setattr(infer, "_tile_side", lambda config, shape, memory: asked.append(shape) or 256)
    bundle = replace(default_bundle(), training={"pixel_size": [2.0, 2.0]})
    for pixel_size in (1.0, 2.0, 3.0):
        flat = Micrograph(pixels=np.zeros((10, 11), np.float32), name="a", pixel_size=pixel_size)
        assert len(detect(flat, bundle)) == 0
    assert asked == [(10, 11), (10, 11), (15, 17)]  # times 1.5


def test_tiles_share_what_they_must_and_are_no_more_than_needed():
    for length in (257, 448, 449, 640, 1000, 4096):
        starts = infer._starts(length, 256, 64)
        assert starts[0] == 0 and starts[-1] == length - 256
        assert (np.diff(starts) <= 256 - 64).all()
        assert len(starts) == 1 + -(-(length - 256) // 192)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_boxes_and_masks_come_back_in_the_micrographs_own_pixels(scale):
    bundle = replace(default_bundle(), training={"pixel_size": [2.0, 2.0]})
    own = Micrograph(pixels=np.zeros((80, 100), np.float32), name="a", pixel_size=2.0 * scale)
    # Inside; over each side of the image; a sliver that is less than a pixel in it.
    boxes = np.array(
        [[10.0, 20, 30, 44], [-4, -6, 8, 10], [90, 70, 104, 86], [99.5, 0, 120, 8], [0, 79.5, 8, 99]]
    )
    masks = []
    for x0, y0, x1, y1 in (scale * boxes).astype(int).tolist():
        masks.append(InstanceMask(y=y0, x=x0, pixels=np.ones((y1 - y0, x1 - x0), bool)))
    scores = torch.tensor([0.9, 0.8, 1.1, 0.6, 0.55])
    scaled = torch.from_numpy((scale * boxes).astype(np.float32))
    labels = torch.ones(len(boxes), dtype=torch.int64)
    there = infer._Found(boxes=scaled, scores=scores, labels=labels, masks=masks)
    found = infer._in_own_pixels(own, bundle, there)
    expected = [[10, 20, 30, 44], [0, 0, 8, 10], [90, 70, 100, 80]]
    np.testing.assert_allclose(found.boxes_xyxy, expected)
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 1.0], atol=1e-6)
    assert [m.box_xyxy for m in found.masks] == [tuple(b) for b in expected]
    assert all(m.pixels.all() for m in found.masks)


def test_a_shrunk_mask_keeps_the_pixels_that_are_half_covered_or_more():
    pixels = np.zeros((4, 6), bool)
    pixels[:2, :2] = True  # a whole pixel of the half size,
    pixels[2, 2:4] = True  # a half of one,
    pixels[3, 5] = True  # and a quarter
    mask = infer._fitted(InstanceMask(y=6, x=8, pixels=pixels), np.array([4.0, 3, 7, 5]), 2.0, (50, 50))
    assert (mask.y, mask.x) == (3, 4)
    assert mask.pixels.tolist() == [[True, False, False], [False, True, False]]


def test_where_a_mask_has_no_pixel_in_the_image_its_box_stands_for_it():
    outside = InstanceMask(y=-5, x=3, pixels=np.pad(np.ones((3, 9), bool), ((0, 5), (0, 0))))
    mask = infer._fitted(outside, np.array([3.0, 1, 9.5, 2.2]), 1.0, (20, 20))
    assert mask.box_xyxy == (3, 1, 9, 2) and mask.pixels.all()
    thin = infer._fitted(outside, np.array([3.2, 1.2, 3.9, 1.9]), 1.0, (20, 20))
    assert thin.box_xyxy == (3, 1, 4, 2)


@pytest.mark.parametrize("shape", [(5, 700), (33, 31), (66, 90)])
def test_what_was_looked_at_first_changes_nothing_in_what_is_found_next(scene, shape):
    """Sides that are no multiple of 32 are padded, the small ones by half of them and more."""
    infer._network.cache_clear()
    before = detect(scene[0], default_bundle())
    infer._network.cache_clear()
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    detect(Micrograph(pixels=noise, name="noise"), default_bundle())
    after = detect(scene[0], default_bundle())
    assert len(before) > 0
    np.testing.assert_array_equal(after.boxes_xyxy, before.boxes_xyxy)


def test_what_a_network_sees_is_nearly_the_same_in_tiles(scene, monkeypatch):
    """And of the image laid out twice each way: how familiar it looks hardly changes."""
    bundle, micrograph = default_bundle(), scene[0]
    told = unlike(bundle.look, infer.detect_and_see(micrograph, bundle)[1])
    twice = replace(micrograph, pixels=np.tile(micrograph.pixels, (2, 2)))
    for image, tile, apart in ((twice, 1024, 0.12), (twice, 384, 0.25), (micrograph, 384, 0.25)):
        monkeypatch.setattr(infer, "TILES", (tile,))
        assert unlike(bundle.look, infer.detect_and_see(image, bundle)[1]) == pytest.approx(told, abs=apart)
    assert told < 1


def test_what_lies_beside_an_image_is_not_seen():
    """Tiles are padded; sums are of places where the image is."""
    level = torch.arange(2.0)[:, None, None] + torch.zeros(2, 3, 4)
    level[:, 2:] = 100.0
    level[:, :, 3:] = 100.0
    sums = infer._sums(level, torch.zeros(1, 1, 96, 128), ((0, 64), (0, 90)))
    assert sums[0].tolist() == [6, 6] and sums[1].tolist() == [0, 6] and sums[2].tolist() == [0, 6]


@pytest.mark.parametrize("kind", ["checks", "text", "a gradient"])
def test_what_no_micrograph_looks_like_is_strange_to_the_shipped_detector(kind):
    y, x = np.mgrid[:256, :256]
    pixels = {
        "checks": (y // 16 + x // 16) % 2,
        "text": np.random.default_rng(0).integers(0, 2, (32, 32)).repeat(8, 0).repeat(8, 1),
        "a gradient": x / 255 + (y > 128),
    }[kind]
    micrograph = Micrograph(pixels=pixels.astype(np.float32), name=kind, pixel_size=3.0)
    bundle = default_bundle()
    assert unlike(bundle.look, infer.detect_and_see(micrograph, bundle)[1]) > 1


@pytest.mark.parametrize("side", [64, 100, 160, 256])
def test_a_crop_of_a_foil_of_a_known_kind_is_no_stranger(side):
    """A small image tells less of how it looks, and is not blamed for it."""
    bundle, told = default_bundle(), []
    for record in draw_set(["A:under", "B:over", "C:under"], 5, seed=4477):
        pixels = simulate_cavities(record).pixels[130 : 130 + side, 90 : 90 + side]
        crop = Micrograph(pixels=pixels, name="crop", pixel_size=record.conditions.pixel_size)
        told.append(unlike(bundle.look, infer.detect_and_see(crop, bundle)[1]))
    assert np.mean(np.array(told) > 1) < 0.3
