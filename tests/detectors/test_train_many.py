"""Networks that are trained at once learn what each would have learnt alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.detectors.train_many import logits_of_many, train_many
from passband.detectors.train_segmenter import SegmenterConfig, train_segmenter
from passband.detectors.unet import UNet, UNetConfig
from passband.engines.settings import EngineSettings
from passband.errors import ParameterError, TrainingError

pytestmark = pytest.mark.training
CONFIG = SegmenterConfig(
    network=UNetConfig(widths=(2, 4, 6)), crop=16, batch=4, steps=6, stock=3, precision="float32"
)


def blobs(side):
    def draw(rng):
        labels = np.zeros((24, 24), np.int32)
        y, x = rng.integers(0, 24 - side, 2)
        labels[y : y + side, x : x + side] = 1
        return (labels + 0.5 * rng.standard_normal(labels.shape)).astype(np.float32), labels

    return draw


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("output", ["binary", "instances"])
@pytest.mark.parametrize("training", [True, False])
def test_the_logits_of_many_are_those_of_each(residual, output, training):
    models = [
        UNet(UNetConfig(widths=(2, 3, 4), residual=residual, output=output)).train(training) for _ in range(3)
    ]
    images = torch.randn(4, 3, 1, 16, 12)
    together = logits_of_many(models, images)
    statistics = [m.down[0].first_norm.running_mean.clone() for m in models]
    for i, model in enumerate(models):
        fresh = UNet(model.config).train(training)
        fresh.load_state_dict(model.state_dict())
        torch.testing.assert_close(together[:, i], fresh(images[:, i]), atol=1e-5, rtol=1e-4)
        assert bool(statistics[i].any()) == training


def test_many_at_once_learn_what_each_learns_alone():
    configs = [replace(CONFIG, seed=3), replace(CONFIG, seed=4), replace(CONFIG, seed=3, learning_rate=1e-3)]
    draws = [blobs(6), blobs(9), blobs(6)]
    together = train_many(configs, draws)
    for bundle, config, draw in zip(together, configs, draws, strict=True):
        alone = train_segmenter(config, draw)
        for name, value in alone.weights.items():
            torch.testing.assert_close(bundle.weights[name], value, atol=2e-4, rtol=2e-3, msg=name)
    assert not torch.allclose(together[0].weights["head.bias"], together[2].weights["head.bias"], atol=1e-4)


def test_images_in_common_are_drawn_once_and_each_learns_what_it_learns_alone():
    drawn = []

    def draw(rng):
        drawn.append(1)
        return blobs(6)(rng)

    configs = [replace(CONFIG, seed=s, image_seed=7) for s in (1, 2, 3)]
    together = train_many(configs, [draw] * 3)
    assert len(drawn) == CONFIG.stock + CONFIG.steps * CONFIG.fresh
    for bundle, config in zip(together, configs, strict=True):
        for name, value in train_segmenter(config, draw).weights.items():
            torch.testing.assert_close(bundle.weights[name], value, atol=2e-4, rtol=2e-3, msg=name)


def test_a_network_does_not_feel_its_neighbours():
    one = train_many([CONFIG, replace(CONFIG, seed=9)], [blobs(6), blobs(9)])[0]
    other = train_many([CONFIG, replace(CONFIG, seed=5, learning_rate=0.1)], [blobs(6), blobs(3)])[0]
    for name, value in one.weights.items():
        torch.testing.assert_close(other.weights[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_an_engine_trains_each_as_alone_to_the_bit(request):
    if request.config.getoption("draws"):
        pytest.skip("a worker draws as it always does")
    configs = [replace(CONFIG, seed=3), replace(CONFIG, seed=4, steps=3)]
    draws, told = [blobs(6), blobs(9)], []
    trained = train_many(
        configs,
        draws,
        engine=EngineSettings(engine="processes", workers=1),
        training=[{"which": 0}, {"which": 1}],
        progress=lambda *words: told.append(words),
    )
    assert told == [("train", 1, 2), ("train", 2, 2)]
    for i, (bundle, config, draw) in enumerate(zip(trained, configs, draws, strict=True)):
        alone = train_segmenter(config, draw)
        assert bundle.training["which"] == i
        assert all(torch.equal(bundle.weights[name], value) for name, value in alone.weights.items())


def test_what_must_agree_is_named():
    with pytest.raises(ParameterError, match="agree in crop, steps"):
        train_many([CONFIG, replace(CONFIG, crop=20, steps=7)], [blobs(6)] * 2)
    with pytest.raises(ParameterError, match="2 networks and 1 sources"):
        train_many([CONFIG] * 2, [blobs(6)])
    with pytest.raises(ParameterError, match="patience"):
        train_many([replace(CONFIG, patience=2)], [blobs(6)])

    def broken(rng):
        pixels, labels = blobs(6)(rng)
        return np.where(labels > 0, np.inf, pixels).astype(np.float32), labels

    with np.errstate(invalid="ignore"), pytest.raises(TrainingError, match=r"network 1 .* step 1"):
        train_many([CONFIG, CONFIG], [blobs(6), broken])
    with pytest.raises(ParameterError, match="wanted as many sources"):
        train_many([], [], engine=EngineSettings())
    with np.errstate(invalid="ignore"), pytest.raises(TrainingError, match=r"network 1: .* step 1"):
        train_many([CONFIG, CONFIG], [blobs(6), broken], engine=EngineSettings())


def test_a_device_that_is_not_there_is_told_before_work_begins() -> None:
    with pytest.raises(ParameterError, match="device must be cpu or cuda, got 'tpu'"):
        replace(CONFIG, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ParameterError, match="torch sees no CUDA device"):
            replace(CONFIG, device="cuda")
