"""Crops show what lies in their image, enlarged, turned and told truly."""

import numpy as np

from passband.cavities.draws import draw_set
from passband.cavities.files import truth_of
from passband.cavities.image import simulate_cavities
from passband.detections.detections import Detections
from passband.detectors.augment import Augmentation, augment_image, draw_augmentation, turn
from passband.detectors.crops import Sample, cropped, draw_crops, on_disk, sample_of
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask


def scene(seed=0):
    (record,) = draw_set(["B:under"], 1, seed=seed)
    image = simulate_cavities(record)
    return Micrograph(pixels=image.pixels, name=f"scene {seed}", pixel_size=4.0), truth_of(image)


def test_targets_follow_their_crop():
    images, targets = draw_crops([sample_of(*scene(), 2)], np.random.default_rng(0), crop=64, count=1)
    assert images[0].shape == (2, 64, 64)
    for boxes, masks in ((t["boxes"].numpy(), t["masks"].numpy().astype(bool)) for t in targets):
        assert len(boxes) == len(masks) > 0
        for (x0, y0, x1, y1), mask in zip(boxes.astype(int), masks, strict=True):
            assert mask[y0:y1, x0:x1].sum() == mask.sum()  # nothing outside its box,
            assert mask[y0, x0:x1].any() and mask[y1 - 1, x0:x1].any()  # and the box is tight
            assert mask[y0:y1, x0].any() and mask[y0:y1, x1 - 1].any()


def test_image_and_masks_are_turned_alike():
    rng = np.random.default_rng(0)
    for _ in range(16):
        record = draw_augmentation(rng, (80, 90), 64)
        mask = np.zeros((1, 80, 90), np.float32)
        mask[0, 20:40, 30:50] = 1
        record = Augmentation(**{**record.__dict__, "noise": 0.0})
        seen = augment_image(mask, record, 64)[0] > 0.5
        (expected,) = turn(
            cropped([InstanceMask(y=20, x=30, pixels=np.ones((20, 20), bool))], record.y, record.x, 64)[0],
            record,
        )
        np.testing.assert_array_equal(seen, expected)


def test_an_object_counts_in_a_crop_if_three_pixels_of_it_show_each_way():
    """Of less there is nothing to learn: the box would be a line."""
    square = InstanceMask(y=20, x=30, pixels=np.ones((10, 12), bool))
    for shown in (1, 2, 3, 4):
        # Over the crop's top, bottom, left and right side.
        for y, x in ((30 - shown, 10), (shown - 44, 10), (0, 42 - shown), (0, shown - 34)):
            seen, _ = cropped([square], y, x, 64)
            assert len(seen) == (shown >= 3)
            if len(seen):
                assert seen.shape == (1, 64, 64)
                whole = np.zeros((300, 300), bool)
                whole[100 + 20 : 100 + 30, 100 + 30 : 100 + 42] = True
                np.testing.assert_array_equal(seen[0], whole[100 + y : 164 + y, 100 + x : 164 + x])
    # What counts is what shows of the object, not of its box: here two rows or columns of ten.
    for stripe in (np.s_[4:6, :], np.s_[:, 4:6]):
        thin = np.zeros((10, 10), bool)
        thin[stripe] = True
        whole = InstanceMask(y=5, x=5, pixels=thin)
        assert len(cropped([whole], 0, 0, 64)[0]) == 1  # it is thin, and all of it shows
        assert len(cropped([whole], 10, 10, 64)[0]) == 0  # of its two rows or columns at most one is left
    three = np.eye(3, dtype=bool)
    assert len(cropped([InstanceMask(y=5, x=5, pixels=three)], 0, 0, 64)[0]) == 1
    assert (
        len(cropped([InstanceMask(y=5, x=5, pixels=np.zeros((10, 10), bool)), square], 0, 0, 64)[0]) == 1
    )  # the others stay


def square_sample(shape, *squares, labels=None):
    """An image of zeros with square objects (y, x, side)."""
    return Sample(
        inputs=np.zeros((2, *shape), np.float16),
        instances=tuple(InstanceMask(y=y, x=x, pixels=np.ones((side, side), bool)) for y, x, side in squares),
        labels=np.array(labels or [1] * len(squares), np.int64),
    )


def test_a_crop_without_an_object_is_drawn_again_once_only():
    """Else the detector would learn that there is always something to find."""
    corner = square_sample((640, 640), (0, 0, 5))
    rng, twin = (np.random.default_rng(0) for _ in range(2))
    images, targets = draw_crops([corner], rng, crop=64, count=3)
    assert len(images) == len(targets) == 3
    assert [len(t["boxes"]) for t in targets] == [0, 0, 0]
    for _ in range(6):
        twin.integers(1)
        draw_augmentation(twin, (640, 640), 64)
    assert rng.integers(2**62) == twin.integers(2**62)
    _, (target,) = draw_crops([square_sample((640, 640), (0, 0, 640))], rng, crop=64, count=1)
    assert target["boxes"].tolist() == [[0, 0, 64, 64]] and target["labels"].tolist() == [1]


def test_crops_laid_on_objects_hold_one_wherever_it_lies():
    """Of objects that fill a thousandth of an image, crops at random hardly hold any."""
    few = square_sample((1500, 1500), (0, 0, 9), (1491, 700, 9), (600, 1491, 9))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        _, targets = draw_crops([few], rng, crop=64, count=20, on_objects=1.0, zoom=(0.8, 1.25))
        # Where an edge of the crop leaves less than three of its pixels, it is drawn again.
        assert sum(len(t["boxes"]) > 0 for t in targets) >= 18


def test_an_enlarged_crop_shows_less_and_shows_it_larger():
    sample = square_sample((300, 300), (100, 120, 40))
    sample.inputs[:, 100:140, 120:160] = 3
    for zoom, side in ((0.5, 20), (1.0, 40), (2.0, 80)):
        found = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            (image,), (target,) = draw_crops(
                [sample], rng, crop=128, count=1, on_objects=1.0, zoom=(zoom, zoom)
            )
            assert image.shape == (2, 128, 128)
            assert target["masks"].shape[1:] == (128, 128)
            for (x0, y0, x1, y1), mask in zip(target["boxes"].int().tolist(), target["masks"], strict=True):
                if min(x0, y0) > 0 and max(x1, y1) < 128:  # whole in the crop
                    found.append((x1 - x0, y1 - y0))
                    inside = image[0][mask.bool()]
                    assert inside.median() > 1  # it lies where the image is bright
        assert found and all(abs(length - side) <= 1 for pair in found for length in pair)


def test_labels_stay_with_their_objects():
    sample = square_sample((200, 200), (20, 20, 12), (20, 60, 12), (120, 120, 30), labels=[3, 1, 2])
    large = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        _, targets = draw_crops([sample], rng, crop=128, count=4, masks=False)
        for target in targets:
            assert "masks" not in target
            for (x0, y0, x1, y1), label in zip(
                target["boxes"].tolist(), target["labels"].tolist(), strict=True
            ):
                if max(x1 - x0, y1 - y0) > 12:
                    assert label == 2
                    large += 1
    assert large > 3
    _, (target,) = draw_crops(
        [square_sample((64, 64), (5, 5, 9), (40, 30, 20), labels=[3, 1])],
        np.random.default_rng(0),
        crop=64,
        count=1,
    )
    sides = (target["boxes"][:, 2] - target["boxes"][:, 0]).tolist()
    assert dict(zip(sides, target["labels"].tolist(), strict=True)) == {9: 3, 20: 1}


def test_boxes_stand_for_objects_without_outlines_and_crowds_teach_nothing():
    boxes = np.array([[-0.4, 3.6, 10.2, 9.5], [50.0, 60, 64.3, 64.2]])
    crowd = InstanceMask(y=30, x=40, pixels=np.ones((5, 6), bool))
    truth = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2), crowds=(crowd,))
    pixels = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    sample = sample_of(Micrograph(pixels=pixels, name="a"), truth, 2)
    assert [m.box_xyxy for m in sample.instances] == [(0, 4, 10, 10), (50, 60, 64, 64)]
    flat = (sample.inputs == 0).all(axis=0)
    assert flat[30:35, 40:46].all() and flat.sum() < 40


def test_samples_on_disk_are_the_same_and_small_ones_are_filled_up_to_a_crop(tmp_path):
    sample = square_sample((40, 100), (3, 4, 9))
    sample.inputs[:] = np.random.default_rng(0).normal(size=sample.inputs.shape)
    (kept, again) = on_disk([sample, sample], 64, tmp_path)
    np.testing.assert_array_equal(kept.inputs, again.inputs)
    assert kept.inputs.shape == (2, 64, 100) and kept.instances is sample.instances
    np.testing.assert_array_equal(kept.inputs[:, :40], sample.inputs)
    assert not kept.inputs[:, 40:].any() and not list(tmp_path.iterdir())
