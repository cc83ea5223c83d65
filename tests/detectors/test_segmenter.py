"""Laws of the segmenter: what it sees, how it is trained, what it gives back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.detectors.bundle import Bundle, read_bundle, write_bundle
from passband.detectors.infer import detect
from passband.detectors.loop import schedule
from passband.detectors.rescale import resized
from passband.detectors.segment import (
    label_objects,
    object_mask,
    segment,
    segment_objects,
    standardised,
    tiled_logits,
)
from passband.detectors.train_segmenter import (
    LOSSES,
    SegmenterConfig,
    segmentation_loss,
    targets,
    train_segmenter,
)
from passband.detectors.unet import NETWORKS, UNet, UNetConfig, count_weights
from passband.errors import BundleError, ParameterError, TrainingError
from passband.micrographs.micrograph import Micrograph

QUICK = SegmenterConfig(
    network=UNetConfig(widths=(4, 8)), crop=32, batch=8, steps=40, stock=6, precision="float32"
)


def discs(rng, noise=0.5, side=64):
    """Discs that do not touch, on noise."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int32)
    for i, cell in enumerate(rng.permutation((side // 16) ** 2)[:5], 1):
        row, column = divmod(int(cell), side // 16)
        labels[np.hypot(y - 16 * row - 8, x - 16 * column - 8) <= rng.uniform(3, 6)] = i
    return ((labels > 0) + noise * rng.standard_normal((side, side))).astype(np.float32), labels


def f1(found, wanted):
    return 2 * (found & wanted).sum() / (found.sum() + wanted.sum())


@pytest.fixture(scope="module")
def trained():
    return train_segmenter(QUICK, discs)


def random_bundle(config, seed=0):
    torch.manual_seed(seed)
    model = UNet(config)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return Bundle(name="random", detector=config, weights=model.state_dict(), score_threshold=0.5)


@pytest.mark.parametrize(
    ("name", "weights"), [("tiny", 30_000), ("small", 130_000), ("published", 14_000_000)]
)
def test_named_sizes_are_what_they_are_called(name, weights):
    assert abs(count_weights(NETWORKS[name]) / weights - 1) < 0.03


@pytest.mark.parametrize("config", [NETWORKS["tiny"], UNetConfig(widths=(2, 3, 4, 5))])
def test_a_logit_depends_on_nothing_beyond_the_halo(config):
    model = UNet(config).eval()
    model.load_state_dict(random_bundle(config).weights)
    side = 2 * config.halo + 4 * config.stride
    image = torch.randn(1, 1, side, side)
    at = config.halo
    changed = image.clone()
    changed[..., at + config.halo + config.stride :] = 9
    with torch.inference_mode():
        one, other = model(image), model(changed)
    assert torch.equal(one[..., : at + 1], other[..., : at + 1])
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(70, 93), (33, 200), (16, 17), (3, 5), (1, 1)])
@pytest.mark.parametrize("config", [NETWORKS["tiny"], UNetConfig(widths=(2, 4, 8), output="instances")])
def test_tiles_do_not_show(config, shape):
    model = UNet(config).eval()
    model.load_state_dict(random_bundle(config).weights)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = tiled_logits(model, image, 1024)
    assert whole.shape[1:] == shape
    assert torch.allclose(tiled_logits(model, image, 4 * config.stride), whole, atol=1e-4)


def test_a_small_budget_gives_the_same_and_too_small_a_one_is_refused(monkeypatch):
    bundle = random_bundle(NETWORKS["tiny"])
    micrograph = Micrograph(pixels=discs(np.random.default_rng(0), side=512)[0], name="discs")
    wide = segment(micrograph, bundle)
    seen = []
    tiled = tiled_logits
    monkeypatch.setattr(
        "passband.detectors.segment.tiled_logits", lambda m, p, side: seen.append(side) or tiled(m, p, side)
    )
    np.testing.assert_allclose(segment(micrograph, bundle, memory_gb=0.58), wide, atol=1e-5)
    assert seen[0] < 512
    with pytest.raises(ParameterError, match="give 0"):
        segment(micrograph, bundle, memory_gb=0.4)


@pytest.mark.parametrize(
    ("pixel_size", "varied", "enlarged"),
    [(None, True, 1), (0.3, True, 1), (0.1, True, 0.5), (2.0, True, 2), (3.0, True, 1), (3.0, False, 3)],
)
def test_a_known_pixel_size_is_brought_into_the_range_that_was_learned(
    monkeypatch, pixel_size, varied, enlarged
):
    """But where pixels are far too coarse: there a network of many scales takes the image as it comes."""
    known = {"pixel_size": [0.2, 1.0], "varied": varied}
    bundle = replace(random_bundle(NETWORKS["tiny"]), training=known)
    seen = []
    tiled = tiled_logits
    monkeypatch.setattr(
        "passband.detectors.segment.tiled_logits",
        lambda m, p, side: seen.append(p.shape) or tiled(m, p, side),
    )
    pixels = discs(np.random.default_rng(0))[0]
    chance = segment(Micrograph(pixels=pixels, name="a", pixel_size=pixel_size), bundle)
    assert seen == [(round(64 * enlarged),) * 2]
    assert chance.shape == (1, 64, 64)


def test_an_image_that_is_too_fine_is_segmented_as_at_its_scale(trained):
    bundle = replace(trained, training={**trained.training, "pixel_size": [1.0, 1.0]})
    fine = np.kron(discs(np.random.default_rng(11), noise=1)[0], np.ones((4, 4), np.float32))
    known = segment(Micrograph(pixels=fine, name="a", pixel_size=0.25), bundle)[0] > 0.5
    shrunk = segment(Micrograph(pixels=resized(fine, 0.25), name="a"), trained)[0] > 0.5
    assert (known == np.kron(shrunk, np.ones((4, 4), bool))).mean() > 0.95
    unknown = segment(Micrograph(pixels=fine, name="a"), bundle)[0] > 0.5
    assert f1(known, unknown) < 0.9


def test_brightness_and_contrast_of_the_camera_do_not_matter(trained):
    pixels, _ = discs(np.random.default_rng(3))
    one = segment(Micrograph(pixels=pixels, name="a"), trained)
    other = segment(Micrograph(pixels=40 * pixels + 1000, name="b"), trained)
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.training
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_discs_are_learnt_and_found_in_images_that_it_never_saw(seed):
    config = replace(QUICK, seed=seed, steps=150, learning_rate=1e-2)
    bundle = train_segmenter(config, discs)
    scores, counts = [], []
    for i in range(5):
        pixels, labels = discs(np.random.default_rng([100, seed, i]))
        found = segment_objects(Micrograph(pixels=pixels, name="new"), bundle)
        scores.append(f1(object_mask(found), labels > 0))
        counts.append(len(found) - labels.max())
    assert np.mean(scores) > 0.75
    assert np.abs(np.mean(counts)) <= 2


@pytest.mark.training
def test_a_stopped_training_goes_on_to_the_same_weights_and_log(tmp_path, monkeypatch):
    monkeypatch.setattr("passband.detectors.train_segmenter.CHECKPOINT_STEPS", 7)
    config = replace(QUICK, steps=20, batch=2, look=5)
    validation = [discs(np.random.default_rng(9))]
    whole = train_segmenter(config, discs, tmp_path / "whole", validation=validation)
    calls = 0

    def dies(rng):
        nonlocal calls
        calls += 1
        if calls > config.stock + 15:
            raise KeyboardInterrupt
        return discs(rng)

    with pytest.raises(KeyboardInterrupt):
        train_segmenter(config, dies, tmp_path / "cut", validation=validation)
    again = train_segmenter(config, discs, tmp_path / "cut", validation=validation)
    for name, value in whole.weights.items():
        assert torch.equal(again.weights[name], value), name
    logs = [(tmp_path / f / "log.csv").read_text().splitlines() for f in ("whole", "cut")]
    assert [[r.split(",")[i] for i in (0, 2)] for r in logs[0]] == [
        [r.split(",")[i] for i in (0, 2)] for r in logs[1]
    ]
    with pytest.raises(ParameterError, match="learning_rate"):
        train_segmenter(replace(config, learning_rate=1.0), discs, tmp_path / "cut")
    with pytest.raises(ParameterError, match="start"):
        train_segmenter(config, discs, tmp_path / "cut", start=whole)
    with pytest.raises(ParameterError, match="another"):
        train_segmenter(config, discs, tmp_path / "cut", depends={"of": "another"})


@pytest.mark.parametrize("patience", [1, 2])
def test_the_best_look_is_kept_and_looking_in_vain_stops(monkeypatch, patience):
    told, seen = iter([3.0, 1.0, 2.0, 1.5, 0.1, 9.0, 9.0, 9.0]), []

    def look(model, images, loss):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return next(told)

    monkeypatch.setattr("passband.detectors.train_segmenter.validation_loss", look)
    config = replace(QUICK, steps=40, batch=1, look=5, patience=patience)
    bundle = train_segmenter(config, discs, validation=[discs(np.random.default_rng(0))])
    assert len(seen) == 2 + patience  # the best was the second, and so many were no better
    assert all(torch.equal(bundle.weights[k], v) for k, v in seen[1].items())
    assert not torch.equal(bundle.weights["head.bias"], seen[-1]["head.bias"])


def test_without_patience_it_looks_to_the_end_and_keeps_the_best(monkeypatch):
    told, seen = iter([3.0, 1.0, 2.0, 1.5]), []
    monkeypatch.setattr(
        "passband.detectors.train_segmenter.validation_loss",
        lambda model, images, loss: seen.append(model.state_dict()["head.bias"].clone()) or next(told),
    )
    config = replace(QUICK, steps=20, batch=1, look=5)
    bundle = train_segmenter(config, discs, validation=[discs(np.random.default_rng(0))])
    assert len(seen) == 4
    assert torch.equal(bundle.weights["head.bias"], seen[1])


def test_a_loss_that_is_no_number_is_a_failure_with_a_reason():
    def broken(rng):
        pixels, labels = discs(rng)
        return np.where(labels > 0, np.inf, pixels).astype(np.float32), labels

    with np.errstate(invalid="ignore"), pytest.raises(TrainingError, match="at step 1"):
        train_segmenter(QUICK, broken)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop": 33}, "multiple of 2"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"precision": "half"}, "precision"),
        ({"fresh": -1}, "fresh must not be negative"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ParameterError, match=words):
        replace(QUICK, **changes)


def test_images_smaller_than_a_crop_and_other_networks_are_refused():
    with pytest.raises(ParameterError, match="smaller than a crop of 32"):
        train_segmenter(QUICK, lambda rng: (np.eye(20, dtype=np.float32), np.eye(20, dtype=np.int32)))
    with pytest.raises(ParameterError, match="another network"):
        train_segmenter(QUICK, discs, start=random_bundle(NETWORKS["tiny"]))
    with pytest.raises(ParameterError, match="two widths"):
        UNetConfig(widths=(4,))


@pytest.mark.parametrize("output", ["binary", "instances"])
def test_a_bundle_is_read_as_it_was_written(tmp_path, output):
    bundle = random_bundle(UNetConfig(widths=(2, 4), output=output))
    write_bundle(bundle, tmp_path / "b.safetensors")
    again = read_bundle(tmp_path / "b.safetensors")
    assert again.detector == bundle.detector
    micrograph = Micrograph(pixels=discs(np.random.default_rng(0))[0], name="a")
    np.testing.assert_allclose(segment(micrograph, again), segment(micrograph, bundle), atol=0.01)
    one, other = detect(micrograph, again), segment_objects(micrograph, again)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    with pytest.raises(BundleError, match="U-Net"):
        UNetConfig.from_dict({"widths": "wide"})


def test_objects_that_touch_are_parted_where_the_border_is_told():
    chance = np.zeros((2, 20, 30), np.float32)
    chance[0, 5:15, 2:28] = 0.9
    chance[1, :, 14:16] = 0.9
    assert label_objects(chance[:1]).max() == 1
    parted = label_objects(chance)
    assert parted.max() == 2
    assert parted[10, 5] != parted[10, 25]
    assert ((parted > 0) == (chance[0] > 0.5)).all()


def test_specks_are_no_objects():
    chance = np.zeros((1, 8, 8), np.float32)
    chance[0, 1, 1:4] = 1
    assert label_objects(chance).max() == 0
    chance[0, 2, 1] = 1
    assert label_objects(chance).max() == 1


def test_scores_are_mean_probabilities_best_first(trained):
    found = segment_objects(Micrograph(pixels=discs(np.random.default_rng(8))[0], name="a"), trained)
    chance = segment(Micrograph(pixels=discs(np.random.default_rng(8))[0], name="a"), trained)[0]
    assert (np.diff(found.scores) <= 0).all()
    m = found.masks[0]
    window = chance[m.y : m.y + m.pixels.shape[0], m.x : m.x + m.pixels.shape[1]]
    assert found.scores[0] == pytest.approx(window[m.pixels].mean(), abs=1e-6)


def test_a_flat_image_has_no_objects(trained):
    assert len(segment_objects(Micrograph(pixels=np.ones((40, 50), np.float32), name="a"), trained)) == 0
    assert (standardised(np.full((3, 3), 7, np.float32)) == 0).all()


def test_the_border_lies_between_two_objects_and_nowhere_else():
    labels = np.zeros((6, 8), np.int32)
    labels[1:5, 1:4], labels[1:5, 4:7] = 1, 2
    border = targets(labels, "instances")[1]
    wanted = np.zeros((6, 8))
    wanted[1:5, 3:5] = 1
    np.testing.assert_array_equal(border, wanted)
    assert targets(np.minimum(labels, 1), "instances")[1].sum() == 0
    for turned in (labels.T, labels[::-1], labels[:, ::-1]):
        assert targets(turned, "instances")[1].sum() == 8


def test_the_loss_is_least_for_the_truth():
    wanted = (torch.rand(2, 1, 8, 8) > 0.5).float()
    right = float(segmentation_loss(20 * wanted - 10, wanted))
    assert right < 0.01
    assert float(segmentation_loss(torch.zeros(2, 1, 8, 8), wanted)) > 1
    assert float(segmentation_loss(10 - 20 * wanted, wanted)) > 5


def test_the_learning_rate_warms_up_and_falls():
    shares = [schedule(step, 200) for step in range(200)]
    assert np.argmax(shares) == 7
    assert (np.diff(shares[:8]) > 0).all()
    assert (np.diff(shares[8:]) < 0).all()
    assert max(shares) == 1


def test_entropy_alone_says_how_probable_an_object_is_and_with_overlap_more():
    """Of pixels that are alike, four in ten on objects."""
    objects = (torch.arange(1000) % 10 < 4).float().reshape(1, 1, 25, 40)
    chances = torch.linspace(0.05, 0.95, 91)
    best = {
        name: chances[
            min(range(91), key=lambda i: loss(torch.full_like(objects, chances[i]).logit(), objects))
        ]
        for name, loss in LOSSES.items()
    }
    assert best["entropy"] == pytest.approx(0.4, abs=0.006)
    assert best["entropy and overlap"] > 0.45
    with pytest.raises(ParameterError, match="entropy and overlap"):
        SegmenterConfig(loss="dice")
