"""What a segmenter's own answers tell of how good they are, without labels.

A network that is sure, and answers alike when the image is changed in ways that change no object, is more
often right. Agreement is the Dice coefficient of the objects found in the image and in the changed one; the
reversal of contrast is among the changes because networks are wrong there consistently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband.detectors.unet import UNet
from passband.estimate.regressor import SEGMENTER_FEATURES

NOISE = 0.5
"""Deviation of the noise that is added, in deviations of the image."""
SCALE = 0.75
SMOOTH = (9, 21)
"""Sides of the windows by whose majority an answer is made even, pixels."""
RINGS = 12
_TOGETHER = 32
"""Images that a GPU is asked about at once."""
EVIDENCE = (*SEGMENTER_FEATURES, "spectrum_distance", "feature_distance")
"""What `evidence` tells of each image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Familiar:
    """What a network's training images look like to it, to measure by how far others differ.

    Parameters
    ----------
    spectrum
        (RINGS,), mean over images of the logarithm of ring power.
    features, spread
        (channels,), of the coarsest level's features averaged over an image: mean and deviation.
    """

    spectrum: Tensor
    features: Tensor
    spread: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a network says of images.

    Parameters
    ----------
    logits
        (b, 1, y, x), above zero on an object.
    features
        (b, channels), of the coarsest level, averaged over each image.
    """

    logits: Tensor
    features: Tensor


@torch.inference_mode()
def answers(model: UNet, images: Float[Tensor, "b 1 y x"]) -> Answers:
    """Ask a network about images; on a CPU one by one: so all that a layer makes stays in the cache.

    Parameters
    ----------
    model
        In evaluation mode.
    images
        Of mean 0 and spread 1; sides are multiples of its stride.

    Examples
    --------
    >>> from passband.detectors.unet import NETWORKS
    >>> answers(UNet(NETWORKS["tiny"]).eval(), torch.randn(3, 1, 32, 32)).features.shape
    torch.Size([3, 32])
    """
    seen: list[Tensor] = []
    hook = model.down[-1].register_forward_hook(lambda _, __, out: seen.append(out.mean((2, 3)).float()))
    try:
        parts = torch.split(images, 1 if images.device.type == "cpu" else _TOGETHER)
        each = [model(part.contiguous(memory_format=torch.channels_last))[:, :1] for part in parts]
    finally:
        hook.remove()
    return Answers(logits=torch.cat(each).float(), features=torch.cat(seen))


def familiar(images: Float[Tensor, "b 1 y x"], said: Answers) -> Familiar:
    """What images look like to a network.

    Parameters
    ----------
    images
        Like those that it was trained on.
    said
        Of the network, on them.

    Examples
    --------
    >>> from passband.detectors.unet import NETWORKS
    >>> images = torch.randn(3, 1, 32, 32)
    >>> familiar(images, answers(UNet(NETWORKS["tiny"]).eval(), images)).features.shape
    torch.Size([32])
    """
    mean, spread = _moments(said)
    return Familiar(spectrum=log_rings(images).mean(0), features=mean, spread=spread)


@torch.inference_mode()
def evidence(
    model: UNet, images: Float[Tensor, "b 1 y x"], said: Answers, known: Familiar, *, seed: int = 0
) -> dict[str, Tensor]:
    """What a network's answers on images tell of themselves; it is asked four times more.

    Parameters
    ----------
    model
        In evaluation mode.
    images
        Of mean 0 and spread 1; sides are multiples of the network's stride.
    said
        Its answers on them.
    known
        Its training images.
    seed
        Of the noise that is added, which differs from image to image.

    Returns
    -------
    dict
        For each of `EVIDENCE` a number an image, (b,): those of `agreements`, and the distances of ring
        spectrum (mean of natural logarithms) and of features (in the training images' deviations) from the
        training images.

    Examples
    --------
    >>> from passband.detectors.unet import NETWORKS
    >>> model, images = UNet(NETWORKS["tiny"]).eval(), torch.randn(3, 1, 32, 32)
    >>> said = answers(model, images)
    >>> found = evidence(model, images, said, familiar(images, said))
    >>> tuple(found) == EVIDENCE, found["agree_noise"].shape
    (True, torch.Size([3]))
    """
    stride = model.config.stride
    changed = changes(images, seed=seed, stride=stride)
    told = agreements(said.logits, ((name, answers(model, other).logits) for name, other in changed))
    unlike = (said.features - known.features) / (known.spread + 1e-6)
    values = {
        **told,
        "spectrum_distance": (log_rings(images) - known.spectrum).abs().mean(1),
        "feature_distance": unlike.square().mean(1).sqrt(),
    }
    return {name: values[name] for name in EVIDENCE}


def changes(
    images: Float[Tensor, "b 1 y x"], *, seed: int = 0, stride: int = 1
) -> Iterator[tuple[str, Tensor]]:
    """Images changed in ways that change no object: noise added, the negative, a quarter turn, made smaller.

    One after another, so that only one of them takes room.

    Parameters
    ----------
    images
        Of mean 0 and spread 1.
    seed
        Of the noise.
    stride
        That the sides of the smaller ones are multiples of.

    Examples
    --------
    >>> {name: tuple(c.shape[2:]) for name, c in changes(torch.randn(1, 1, 32, 16))}
    {'noise': (32, 16), 'negative': (32, 16), 'turn': (16, 32), 'scale': (24, 12)}
    """
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).to(images)
    yield "noise", (images + NOISE * noise) / (1 + NOISE**2) ** 0.5
    yield "negative", -images
    yield "turn", torch.rot90(images, 1, (2, 3))
    smaller = [max(stride, round(n * SCALE / stride) * stride) for n in images.shape[-2:]]
    shrunk = nn.functional.interpolate(
        images, size=tuple(smaller), mode="bilinear", align_corners=False, antialias=True
    )
    yield "scale", _respread(shrunk)


def agreements(logits: Float[Tensor, "b 1 y x"], others: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """What answers tell of themselves, beside the answers on changed images.

    Parameters
    ----------
    logits
        Above zero on an object.
    others
        Names of `changes`, and the logits of each in pixels of its own.

    Returns
    -------
    dict
        Numbers an image, (b,): ``share`` of the image that is objects; mean ``confidence``, 0 to 1;
        ``soft_dice``, the Dice coefficient expected if the network's chances are right; for each change
        ``agree_`` and its name, the Dice coefficient of what is found in both; ``smooth_9`` and
        ``smooth_21``, that of what is found and of its majority in windows of so many pixels; ``edge``, how
        many outlines are crossed by a step of a pixel down or right, in the mean.

    Examples
    --------
    >>> logits = torch.tensor([[[[9.0, -9.0]]]])
    >>> told = agreements(logits, [("negative", -logits)])
    >>> {k: round(float(v), 3) for k, v in told.items() if k[:6] != "smooth"}
    {'share': 0.5, 'confidence': 1.0, 'soft_dice': 1.0, 'agree_negative': 0.0, 'edge': 1.0}
    """
    chance, found = torch.sigmoid(logits), logits > 0
    agree = {}
    for name, other in others:
        back = torch.rot90(other, -1, (2, 3)) if name == "turn" else other
        back = back if back.shape == logits.shape else _resized(back, logits.shape[-2:])
        agree[f"agree_{name}"] = dice(back > 0, found)
    crossed = [found.diff(dim=d).float().flatten(1) for d in (2, 3)]
    return {
        "share": found.float().mean((1, 2, 3)),
        "confidence": (2 * chance - 1).abs().mean((1, 2, 3)),
        "soft_dice": dice(chance, found),
        **agree,
        **{f"smooth_{n}": dice(_majority(found, n), found) for n in SMOOTH},
        "edge": torch.stack([c.sum(1) / max(1, c.shape[1]) for c in crossed]).sum(0),
    }


def frechet(said: Answers, known: Familiar) -> float:
    """Fréchet distance of the features of images together from those of training images.

    Channels are taken one by one, as normal and independent: of so few images no covariance is told.

    References
    ----------
    D. C. Dowson and B. V. Landau, J. Multivariate Anal. 12 (1982) 450.

    Examples
    --------
    >>> from passband.detectors.unet import NETWORKS
    >>> images = torch.randn(3, 1, 32, 32)
    >>> said = answers(UNet(NETWORKS["tiny"]).eval(), images)
    >>> round(frechet(said, familiar(images, said)), 4)
    0.0
    """
    mean, spread = _moments(said)
    apart = (mean - known.features).square() + (spread - known.spread).square()
    return float(apart.sum().sqrt())


def dice(one: Tensor, other: Tensor) -> Tensor:
    """Dice coefficient of the masks of each image, (b,); 1 of two that are empty.

    Examples
    --------
    >>> dice(torch.tensor([[[[True, True]]]]), torch.tensor([[[[True, False]]]])).item()
    0.6666...
    """
    a, b = one.float().flatten(1), other.float().flatten(1)
    total = a.sum(1) + b.sum(1)
    return torch.where(total > 0, 2 * (a * b).sum(1) / total.clamp_min(1e-12), 1.0)


def log_rings(images: Float[Tensor, "b 1 y x"]) -> Float[Tensor, "b r"]:
    """Logarithm of the mean power in rings of equal width up to half a cycle per pixel, (b, RINGS).

    Examples
    --------
    >>> log_rings(torch.randn(2, 1, 32, 32)).shape
    torch.Size([2, 12])
    """
    height, width = images.shape[-2:]
    power = torch.fft.rfft2(images[:, 0]).abs().square() / (height * width)
    qy, qx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    ring = (2 * RINGS * torch.hypot(qy, qx)).long().flatten().to(images.device)
    inside = ring < RINGS
    sums = power.new_zeros(len(images), RINGS).index_add_(1, ring[inside], power.flatten(1)[:, inside])
    counts = torch.bincount(ring[inside], minlength=RINGS).clamp_min(1)
    return torch.log(sums / counts + 1e-9)


def _moments(said: Answers) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel; of one image no deviation."""
    one = len(said.features) == 1
    mean = said.features.mean(0)
    return mean, torch.zeros_like(mean) if one else said.features.std(0)


def _resized(images: Tensor, size: list[int] | torch.Size) -> Tensor:
    return nn.functional.interpolate(images, size=tuple(size), mode="bilinear", align_corners=False)


def _majority(found: Tensor, side: int) -> Tensor:
    """Where more than half of a window is found; beyond the image nothing counts."""
    share = found.float()
    for window in ((side, 1), (1, side)):
        half = window[0] // 2, window[1] // 2
        share = nn.functional.avg_pool2d(share, window, 1, half, count_include_pad=False)
    return share > 0.5


def _respread(images: Tensor) -> Tensor:
    """Mean 0 and spread 1 again."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) / (images.std((2, 3), keepdim=True) + 1e-6)
