"""Laws of training images drawn from stored waves, and of varying them."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.detectors.scenes import SceneImages, train_on_dataset, varied_images
from passband.detectors.train_segmenter import SegmenterConfig
from passband.detectors.unet import UNetConfig
from passband.detectors.vary import Variation, draw_variation, vary
from passband.errors import ParameterError
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import SimulationStudy, Splits
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges, Uniform


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    study = SimulationStudy(
        scenes=4,
        splits=Splits(train=0.5, validation=0.25, test=0.25),
        specimen=SpecimenRanges(cell=(25.6, 25.6), diameters=(10, 14), thickness=(0, 0), count=(1, 1)),
        wave=WaveSettings(pixel_size=0.4),
        imaging=ConditionRanges(C10=Uniform(low=-120, high=-80), pixel_size=0.4),
    )
    return simulate_dataset(study, tmp_path_factory.mktemp("scenes") / "d", workers=1).dataset


def test_the_image_of_a_seed_is_always_the_same_and_others_differ(dataset):
    source = SceneImages(dataset, [0, 1])
    one, other = source(np.random.default_rng(3)), SceneImages(dataset, [0, 1])(np.random.default_rng(3))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(one[0], source(np.random.default_rng(4))[0])


def test_a_source_told_to_another_process_draws_the_same(dataset):
    source = SceneImages(dataset, [0, 1])
    for one in (source, varied_images(source, least=32)):
        other = pickle.loads(pickle.dumps(one))
        for a, b in zip(one(np.random.default_rng(3)), other(np.random.default_rng(3)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_waves_lie_where_images_are_calculated_also_in_another_process(dataset):
    source = SceneImages(dataset, [0], device="meta")
    for one in (source, pickle.loads(pickle.dumps(source))):
        assert one._scene(0).wave.spectrum.device.type == "meta"
    assert SceneImages(dataset, [0])._scene(0).wave.spectrum.device.type == "cpu"


def test_conditions_are_drawn_from_the_ranges_that_are_given(dataset):
    own = SceneImages(dataset, [0])
    far = SceneImages(dataset, [0], ranges=replace(dataset.study.imaging, C10=Uniform(low=300, high=400)))
    for seed in range(5):
        assert 80 <= own.image(0, seed=seed)[2].defocus <= 120
        assert -400 <= far.image(0, seed=seed)[2].defocus <= -300


def test_only_the_scenes_that_are_given_are_drawn(dataset):
    labels = [dataset.labels(i) for i in range(4)]
    source = SceneImages(dataset, [1, 3])
    seen = set()
    for seed in range(20):
        drawn = source(np.random.default_rng(seed))[1]
        seen |= {i for i in range(4) if np.array_equal(labels[i], drawn)}
    assert seen == {1, 3}
    with pytest.raises(ParameterError, match="no scene"):
        SceneImages(dataset, [])


def test_a_dataset_trains_a_network_that_says_what_it_was_trained_on(dataset, tmp_path):
    config = SegmenterConfig(network=UNetConfig(widths=(2, 4)), steps=3, batch=2, crop=32, stock=2, look=2)
    bundle = train_on_dataset(config, dataset, tmp_path)
    assert bundle.training["pixel_size"] == [0.4, 0.4]
    assert bundle.training["conditions"]["C10"] == {"low": -120, "high": -80}
    assert bundle.training["structures"]["materials"] == ["CdSe"]
    varied = train_on_dataset(config, dataset, varied=True)
    assert varied.training["pixel_size"] == [0.4, pytest.approx(2.4)]  # binned to a sixth at most
    assert any(not torch.equal(bundle.weights[k], varied.weights[k]) for k in bundle.weights)
    with pytest.raises(ParameterError, match="varied: false, true"):
        train_on_dataset(config, dataset, tmp_path, varied=True)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_what_is_varied_keeps_its_objects_and_is_standardised(seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros((96, 128), np.int32)
    labels[20:60, 30:70], labels[70:90, 90:120] = 1, 2
    pixels = (10 + labels + rng.standard_normal(labels.shape)).astype(np.float32)
    variation = draw_variation(rng)
    image, objects = vary(pixels, labels, variation)
    assert image.shape == objects.shape == (round(96 / variation.bin), round(128 / variation.bin))
    assert abs(image.mean()) < 1e-4
    assert image.std() == pytest.approx(1, abs=1e-3)
    for i in (1, 2):
        share, before = (objects == i).mean(), (labels == i).mean()
        assert share == pytest.approx(before, rel=0.35)
    np.testing.assert_array_equal(vary(pixels, labels, variation)[0], image)


def test_absorption_darkens_objects_the_more_the_thicker_they_are():
    y, x = np.mgrid[:64, :64]
    labels = (np.hypot(y - 32, x - 32) < 20).astype(np.int32)
    image, _ = vary(np.ones((64, 64), np.float32), labels, Variation(absorption=0.4))
    assert image[32, 32] < image[32, 46] < image[32, 51] < image[2, 2]
    assert image[labels == 0].std() == pytest.approx(0, abs=1e-5)


def ball(radius=40):
    y, x = np.mgrid[:128, :128]
    return (np.hypot(y - 64, x - 64) < radius).astype(np.int32)


def outlined(labels, **variation):
    return vary(np.ones(labels.shape, np.float32), labels, Variation(halfway=True, **variation))[1]


def test_beer_law_holds_through_the_middle_and_a_bright_object_grows_with_its_thickness():
    labels, noise = ball(), np.random.default_rng(0).normal(100, 1, (128, 128)).astype(np.float32)
    dark = [vary(noise, labels, Variation(absorption=a))[0] for a in (0.95, -3.0)]
    beyond = labels == 0
    for image, middle in zip(dark, (0.05, 4.0), strict=True):
        scale = (image[64, 64] - image[beyond].mean()) / image[beyond].std()
        assert scale == pytest.approx((middle - 1) * 100, rel=0.1)


@pytest.mark.parametrize("absorption", [0.0, 0.02, -0.02])
def test_a_ball_ends_halfway_where_it_is_half_as_dark_as_its_mean(absorption):
    """Of a chord 2 sqrt(R2 - r2): half of the mean over what is left lies at r = 0.931 R."""
    kept = outlined(ball(), absorption=absorption)
    assert np.sqrt(kept.sum() / ball().sum()) == pytest.approx(0.931, abs=0.012)


def test_an_opaque_object_ends_halfway_at_its_edge_and_every_object_has_its_own_half():
    assert outlined(ball(), absorption=0.9999).sum() > 0.97 * ball().sum()
    two = np.zeros((128, 128), np.int32)
    two[ball(20) > 0] = 1
    two[:12, :12] = 2
    alone = np.where(two == 1, 1, 0)
    np.testing.assert_array_equal(outlined(two) == 1, outlined(alone) == 1)
    assert set(np.unique(outlined(two))) == {0, 1, 2}
    assert outlined(np.zeros((8, 8), np.int32)).sum() == 0


def test_opaque_and_bright_are_drawn_as_they_are_asked_for():
    drawn = [
        draw_variation(np.random.default_rng(i), opaque=True, bright=0.25).absorption for i in range(2000)
    ]
    some = np.array([a for a in drawn if a])
    assert 0.6 < len(some) / 2000 < 0.7
    assert 0.2 < (some < 0).mean() < 0.3
    assert some.min() >= -3 and 0.9 < some.max() <= 1 - np.exp(-3)
    plain = [draw_variation(np.random.default_rng(i)).absorption for i in range(500)]
    assert min(plain) >= 0 and max(plain) <= 0.5


def test_nothing_is_done_where_nothing_is_asked_for():
    pixels = np.random.default_rng(0).normal(5, 2, (16, 16)).astype(np.float32)
    image, labels = vary(pixels, np.eye(16, dtype=np.int32), Variation())
    np.testing.assert_allclose(image, (pixels - pixels.mean()) / pixels.std(), atol=1e-5)
    np.testing.assert_array_equal(labels, np.eye(16))


def test_binned_scenes_are_repeated_until_a_crop_fits():
    periodic = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) % 7 + 1, np.eye(64, dtype=np.int32)
    source = varied_images(lambda rng: periodic, least=60)
    assert all(min(source(np.random.default_rng(i))[0].shape) >= 60 for i in range(10))
