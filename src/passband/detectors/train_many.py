"""Train many segmenters at once on one device: convolutions are done together, all else is each one's own.

Networks of one shape are laid beside one another as groups of channels, so that a step of all of them is a
step of one wide network; each has its own weights, images, seed and learning rate, and learns what it would
have learnt alone. On a GPU, which one small network leaves idle, that is how to train thousands; on a CPU one
process a core is faster: with an engine, each is trained alone by one of its workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband.detectors.bundle import Bundle
from passband.detectors.loop import schedule
from passband.detectors.train_segmenter import (
    LOSSES,
    Draw,
    SegmenterConfig,
    Stock,
    mixed_precision,
    train_segmenter,
    trained_bundle,
)
from passband.detectors.unet import Level, UNet
from passband.engines.settings import EngineSettings
from passband.engines.tasks import run_values
from passband.errors import ParameterError, TrainingError
from passband.types import Progress

_ALIKE = ("network", "crop", "batch", "steps", "precision", "device")


def train_many(
    configs: Sequence[SegmenterConfig],
    draws: Sequence[Draw],
    *,
    engine: EngineSettings | None = None,
    training: Sequence[dict[str, Any]] | None = None,
    progress: Progress | None = None,
) -> list[Bundle]:
    """Train several U-Nets, each as `train_segmenter` would alone.

    Parameters
    ----------
    configs
        What to train. At once, network, crop, batch, steps, precision and device are the same for all, and
        ``patience`` is 0; by an engine they may differ.
    draws
        Source of labelled images for each; by an engine of processes, one that can be told to them. Networks
        of one source and one ``image_seed`` that are trained at once share images.
    engine
        Who trains them, each alone; if not given, this process trains all at once.
    training
        JSON values for each bundle.
    progress
        Called as work goes on, with steps done at once, or with networks trained by an engine.

    Returns
    -------
    list of Bundle
        The same as one by one: at once but for rounding, by an engine to the bit.

    Raises
    ------
    ParameterError
        If there is none, they differ in what must be the same, or an engine is to train on a GPU.
    TrainingError
        If the loss of any is no number any more, naming it.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from passband.detectors.unet import UNetConfig
    >>> def half(rng):
    ...     labels = np.repeat([[0], [1]], 16, 0).repeat(32, 1)
    ...     return (labels + rng.normal(0, 1, labels.shape)).astype(np.float32), labels
    >>> one = SegmenterConfig(network=UNetConfig(widths=(2, 4)), steps=2, batch=2, crop=32, stock=2)
    >>> len(train_many([one, replace(one, seed=1)], [half, half]))
    2
    """
    if not configs or len(configs) != len(draws):
        raise ParameterError(
            f"wanted as many sources of images as networks, at least one; got {len(configs)} networks and "
            f"{len(draws)} sources"
        )
    about = training or [{}] * len(configs)
    if engine is not None:
        return _train_each(list(zip(configs, draws, about, strict=True)), engine, progress)
    _refuse_unlike(configs)
    first, device = configs[0], configs[0].device
    models = []
    for config in configs:
        torch.manual_seed(config.seed)
        models.append(UNet(config.network).to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(
        [
            {"params": list(m.parameters()), "lr": c.learning_rate}
            for m, c in zip(models, configs, strict=True)
        ]
    )
    stocks = _stocks(configs, draws)
    each = set(stocks)
    for step in range(first.steps):
        drawn = [stock.batch(step, config.seed) for stock, config in zip(stocks, configs, strict=True)]
        for stock in each:
            stock.turn_over(step)
        images = torch.stack([d[0] for d in drawn], 1).to(device)
        objects = torch.stack([d[1] for d in drawn], 1).to(device)
        for group, config in zip(optimizer.param_groups, configs, strict=True):
            group["lr"] = config.learning_rate * schedule(step, first.steps)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=mixed_precision(first)):
            logits = logits_of_many(models, images)
        losses = torch.stack(
            [LOSSES[c.loss](logits[:, i].float(), objects[:, i]) for i, c in enumerate(configs)]
        )
        _refuse_lost(losses, step)
        optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for model in models:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if progress:
            progress("train", step + 1, first.steps)
    return [
        trained_bundle(config, model.state_dict(), words)
        for model, config, words in zip(models, configs, about, strict=True)
    ]


def logits_of_many(models: Sequence[UNet], images: Float[Tensor, "b n 1 y x"]) -> Float[Tensor, "b n c y x"]:
    """Logits of several networks of one shape, each for images of its own, in training or not as they are.

    Parameters
    ----------
    models
        n of them.
    images
        Of network i at ``images[:, i]``.

    Examples
    --------
    >>> from passband.detectors.unet import UNetConfig
    >>> two = [UNet(UNetConfig(widths=(2, 4))).eval() for _ in range(2)]
    >>> images = torch.randn(3, 2, 1, 8, 8)
    >>> together = logits_of_many(two, images)
    >>> bool(torch.allclose(together[:, 1], two[1](images[:, 1]), atol=1e-5))
    True
    """
    count = len(models)
    features, kept = images, []
    for place in range(len(models[0].down)):
        if place:
            features = _each(nn.functional.max_pool2d(features.flatten(1, 2), 2), count)
        features = _levels([m.down[place] for m in models], features)
        kept.append(features)
    kept.pop()
    for place in range(len(models[0].up)):
        coarse = nn.functional.interpolate(features.flatten(1, 2), scale_factor=2.0, mode="nearest")
        features = torch.cat([kept.pop(), _each(coarse, count)], 2)
        features = _levels([m.up[place] for m in models], features)
    return _convolved([m.head for m in models], features)


def _each(together: Tensor, count: int) -> Tensor:
    batch, channels, height, width = together.shape
    return together.reshape(batch, count, channels // count, height, width)


def _levels(levels: Sequence[nn.Module], features: Tensor) -> Tensor:
    of = [level for level in levels if isinstance(level, Level)]
    out = _normalised([m.first_norm for m in of], _convolved([m.first for m in of], features))
    out = _convolved([m.second for m in of], nn.functional.relu(out))
    out = _normalised([m.second_norm for m in of], out)
    skips = [m.skip for m in of if m.skip is not None]
    if skips:
        out = out + _convolved(skips, features)
    return nn.functional.relu(out)


def _convolved(layers: Sequence[nn.Conv2d], features: Tensor) -> Tensor:
    """One convolution in as many groups as there are networks."""
    weight = torch.cat([m.weight for m in layers])
    bias = None if layers[0].bias is None else torch.cat([m.bias for m in layers if m.bias is not None])
    out = nn.functional.conv2d(
        features.flatten(1, 2), weight, bias, padding=layers[0].padding, groups=len(layers)
    )
    return _each(out, len(layers))


def _normalised(layers: Sequence[nn.BatchNorm2d], features: Tensor) -> Tensor:
    """Channels are normalised one by one, so that those of all networks are normalised at once."""
    one = layers[0]
    mean, variance = (
        torch.cat([getattr(m, name) for m in layers]) for name in ("running_mean", "running_var")
    )
    out = nn.functional.batch_norm(
        features.flatten(1, 2), mean, variance, torch.cat([m.weight for m in layers]),
        torch.cat([m.bias for m in layers]), one.training, one.momentum or 0.0, one.eps,
    )  # fmt: skip
    if one.training:
        with torch.no_grad():
            parts = zip(layers, mean.chunk(len(layers)), variance.chunk(len(layers)), strict=True)
            for layer, own_mean, own_variance in parts:
                assert layer.running_mean is not None and layer.running_var is not None
                assert layer.num_batches_tracked is not None
                layer.running_mean.copy_(own_mean)
                layer.running_var.copy_(own_variance)
                layer.num_batches_tracked += 1
    return _each(out, len(layers))


def _stocks(configs: Sequence[SegmenterConfig], draws: Sequence[Draw]) -> list[Stock]:
    """For each network what its crops are cut from: one stock for those that see the same images."""
    shared: dict[tuple[Any, ...], Stock] = {}
    stocks = []
    for config, draw in zip(configs, draws, strict=True):
        alike = id(draw), config.images_seed, config.stock, config.fresh
        if alike not in shared:
            shared[alike] = Stock(draw, config, 0)
        stocks.append(shared[alike])
    return stocks


_Training = tuple[SegmenterConfig, Draw, dict[str, Any]]


def _train_each(
    trainings: Sequence[_Training], engine: EngineSettings, progress: Progress | None
) -> list[Bundle]:
    """Each network by a worker of one thread."""
    if any(config.device != "cpu" for config, _, _ in trainings):
        raise ParameterError("an engine trains on CPUs; take device cpu, or train at once without an engine")
    bundles: dict[int, Bundle] = {}
    with closing(run_values(_train_one, enumerate(trainings), engine)) as trained:
        for (place, _), bundle in trained:
            bundles[place] = bundle
            if progress:
                progress("train", len(bundles), len(trainings))
    return [bundles[place] for place in range(len(trainings))]


def _train_one(task: tuple[int, _Training]) -> Bundle:
    place, (config, draw, about) = task
    try:
        return train_segmenter(config, draw, training=about)
    except TrainingError as e:
        raise TrainingError(f"network {place}: {e}") from e


def _refuse_unlike(configs: Sequence[SegmenterConfig]) -> None:
    unlike = [n for n in _ALIKE if any(getattr(c, n) != getattr(configs[0], n) for c in configs)]
    if unlike:
        raise ParameterError(f"networks that are trained at once must agree in {', '.join(unlike)}")
    if any(c.patience for c in configs):
        raise ParameterError("networks that are trained at once stop at once: patience must be 0")


def _refuse_lost(losses: Tensor, step: int) -> None:
    values = losses.detach().cpu().numpy()
    lost = np.flatnonzero(~np.isfinite(values))
    if len(lost):
        raise TrainingError(
            f"the loss of network {lost[0]} was {values[lost[0]]} at step {step + 1}; "
            "take a lower learning rate"
        )
