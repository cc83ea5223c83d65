"""The loop learns, resumes to the same weights, and augments truly."""

import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from passband.cavities.domains import draw_set
from passband.cavities.files import truth_of
from passband.cavities.image import simulate_cavities
from passband.detectors.augment import Augmentation, augment_image, draw_augmentation, turn
from passband.detectors.bundle import write_bundle
from passband.detectors.mask_rcnn import SLIM
from passband.detectors.train import (
    TrainConfig,
    _batch,
    _cropped,
    _fingerprint,
    _sample,
    _schedule,
    train_detector,
)
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

TINY = TrainConfig(images=2, batch=2, steps=4, crop=96, domains=("B:under",), seed=3)


def scene(seed=0):
    (record,) = draw_set(["B:under"], 1, seed=seed)
    image = simulate_cavities(record)
    return Micrograph(pixels=image.pixels, name=f"scene {seed}", pixel_size=4.0), truth_of(image)


def log_of(folder):
    return [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_killed_run_goes_on_to_the_same_weights_and_the_same_log(tmp_path, monkeypatch):
    monkeypatch.setattr("passband.detectors.train.LOG_STEPS", 3)  # the checkpoint is within a line,
    whole = train_detector(TINY, tmp_path / "whole")
    monkeypatch.setattr("passband.detectors.train.CHECKPOINT_STEPS", 2)

    class Killed(BaseException):
        pass

    calls = []
    real = _batch

    def dies(*args):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return real(*args)

    monkeypatch.setattr("passband.detectors.train._batch", dies)
    with pytest.raises(Killed):
        train_detector(TINY, tmp_path / "parts")
    monkeypatch.setattr("passband.detectors.train._batch", real)
    resumed = train_detector(TINY, tmp_path / "parts")
    for key, value in whole.weights.items():
        torch.testing.assert_close(resumed.weights[key], value, rtol=1e-4, atol=1e-6, msg=key)
    one, other = log_of(tmp_path / "whole"), log_of(tmp_path / "parts")
    assert one[0] == other[0] and [line[0] for line in one[1:]] == ["3", "4"]
    for a, b in zip(one[1:], other[1:], strict=True):
        assert a[0] == b[0] and [float(v) for v in a[2:]] == pytest.approx(
            [float(v) for v in b[2:]], rel=1e-3
        )
    assert float(other[1][1]) <= float(other[2][1])
    (tmp_path / "parts" / "log.csv").unlink()  # the checkpoint holds it whole
    train_detector(TINY, tmp_path / "parts")
    assert log_of(tmp_path / "parts") == other


def test_another_configuration_does_not_go_on_from_a_checkpoint(tmp_path):
    train_detector(TINY, tmp_path)
    with pytest.raises(ParameterError, match="another configuration"):
        train_detector(TrainConfig(images=2, batch=2, steps=4, crop=96, domains=("A:under",)), tmp_path)


def test_the_loss_falls_on_one_image(tmp_path):
    config = TrainConfig(images=1, batch=1, steps=60, crop=96, domains=("B:under",), average=0.0)
    train_detector(config, tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()[1:]
    first, last = (sum(float(v) for v in line.split(",")[2:]) for line in (lines[0], lines[-1]))
    assert last < first


def test_training_can_start_from_a_bundle_of_the_same_detector(tmp_path):
    first = tmp_path / "first.safetensors"
    bundle = train_detector(TINY, tmp_path / "a")
    write_bundle(bundle, first)
    still = replace(TINY, start=str(first), steps=1, learning_rate=1e-12, average=0.0)
    again = train_detector(still, tmp_path / "b")
    name = "backbone.stem.0.weight"
    torch.testing.assert_close(again.weights[name], bundle.weights[name].half().float(), rtol=0, atol=1e-6)
    assert again.training["refined"] and not bundle.training["refined"]
    other = replace(still, detector=replace(SLIM, box_iou=0.4))
    with pytest.raises(ParameterError, match="another detector"):
        train_detector(other, tmp_path / "c")


def test_labelled_images_train_as_the_same_simulated_ones_do(tmp_path):
    records = list(draw_set(TINY.domains, TINY.images, seed=TINY.seed))
    simulated = [simulate_cavities(r) for r in records]
    samples = [
        (Micrograph(pixels=i.pixels, name=str(n), pixel_size=3.0 + n), truth_of(i))
        for n, i in enumerate(simulated)
    ]
    given = train_detector(TINY, tmp_path / "given", samples=samples)
    drawn = train_detector(TINY, tmp_path / "drawn")
    for key, value in drawn.weights.items():
        torch.testing.assert_close(given.weights[key], value, rtol=0, atol=0, msg=key)
    assert drawn.training["simulated"] and not given.training["simulated"]
    assert given.training["pixel_size"] == [3.0, 4.0] and given.training["images"] == 2
    assert "domains" not in given.training  # they were not read
    unknown = replace(samples[0][0], pixel_size=None)
    again = train_detector(TINY, tmp_path / "unknown", samples=[(unknown, samples[0][1])])
    assert "pixel_size" not in again.training  # and so nothing is rescaled


def test_other_images_do_not_go_on_from_a_checkpoint(tmp_path):
    config = replace(TINY, steps=1)
    first, second = scene(1), scene(2)
    train_detector(config, tmp_path, samples=[first])
    train_detector(config, tmp_path, samples=[first])  # the same do
    for others in ([second], [first, second], [(first[0], second[1])], None):
        with pytest.raises(ParameterError, match="other images"):
            train_detector(config, tmp_path, samples=others)


def test_the_checkpoint_of_a_simulated_run_is_known_by_its_configuration_alone():
    assert json.loads(_fingerprint(TINY, None)) == json.loads(json.dumps(asdict(TINY)))


def test_labelled_images_that_cannot_be_used_are_named_together(tmp_path):
    micrograph, truth = scene()
    small = Micrograph(pixels=micrograph.pixels[:64, :80], name="small")
    bare = replace(truth, masks=None)
    samples = [(small, truth), (replace(micrograph, name="bare"), bare)]
    with pytest.raises(ParameterError, match=r"small is .* crop of 96 .* its truth .* bare has boxes"):
        train_detector(TINY, tmp_path, samples=samples)
    with pytest.raises(ParameterError, match="no labelled image"):
        train_detector(TINY, tmp_path, samples=[])


def test_bad_settings_are_named_together():
    with pytest.raises(ParameterError, match=r"images.*crop"):
        TrainConfig(images=0, crop=16)


def test_the_learning_rate_warms_up_and_falls():
    rates = [_schedule(i, 100) for i in range(100)]
    assert rates[0] < rates[3] == max(rates)
    assert rates[-1] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


def test_targets_follow_their_crop():
    images, targets = _batch([_sample(*scene(), 2)], np.random.default_rng(0), TINY)
    assert images[0].shape == (2, 96, 96)
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
            _cropped([InstanceMask(y=20, x=30, pixels=np.ones((20, 20), bool))], record.y, record.x, 64),
            record,
        )
        np.testing.assert_array_equal(seen, expected)
