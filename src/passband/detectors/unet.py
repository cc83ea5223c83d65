"""The segmenter: one U-Net in named sizes, for objects against a background."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from passband.errors import BundleError, ParameterError


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What a U-Net is built from.

    Parameters
    ----------
    widths
        Channels of each level, finest first; each level halves the pixels of the one before.
    residual
        Whether a level's two convolutions are added to what comes in, instead of taking its place.
    output
        "binary": one logit a pixel, object or background. "instances": a second one, border between
        objects, by which a watershed parts those that touch.

    Raises
    ------
    ParameterError
        If there are fewer than two levels or a width is none.

    Examples
    --------
    >>> UNetConfig(widths=(8, 16)).halo
    12
    """

    widths: tuple[int, ...] = (4, 8, 16, 32, 64)
    residual: bool = True
    output: Literal["binary", "instances"] = "binary"

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ParameterError(f"a U-Net needs two widths or more, each at least 1, got {self.widths}")
        if self.output not in OUTPUTS:
            raise ParameterError(f"output must be one of {', '.join(OUTPUTS)}, got {self.output!r}")

    @property
    def stride(self) -> int:
        """Pixels of the input in one of the coarsest level."""
        return 1 << (len(self.widths) - 1)

    @property
    def halo(self) -> int:
        """Pixels around a place that its logit may depend on, up to the next whole stride."""
        levels = len(self.widths)
        reach = sum((1 << i) * (3 if i == levels - 1 else 5) for i in range(levels))
        return -(-reach // self.stride) * self.stride

    @property
    def in_words(self) -> str:
        """What it is, for people."""
        shape = "-".join(map(str, self.widths))
        return f"{'residual ' * self.residual}U-Net {shape}, {self.output} output"

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        return asdict(self) | {"widths": list(self.widths)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> UNetConfig:
        """The configuration that `to_dict` wrote.

        Raises
        ------
        BundleError
            If it is none.
        """
        try:
            return cls(**{**d, "widths": tuple(int(w) for w in d["widths"])})
        except (TypeError, KeyError, ValueError, ParameterError) as e:
            raise BundleError(f"not a U-Net configuration of this version: {e!r}") from e


OUTPUTS: dict[str, int] = {"binary": 1, "instances": 2}
"""Logits a pixel of each output."""

NETWORKS: dict[str, UNetConfig] = {
    "tiny": UNetConfig(widths=(8, 16, 32), residual=False),
    "small": UNetConfig(widths=(4, 8, 16, 32, 64)),
    "published": UNetConfig(widths=(42, 84, 168, 336, 672)),
}
"""Named sizes: about 30,000 weights, 130,000, and 14 million as in the published studies."""


def segmenter_network(name: str, *, instances: bool = False) -> UNetConfig:
    """A network of `NETWORKS`, with the output that is wanted.

    Raises
    ------
    ParameterError
        If there is none of this name.

    Examples
    --------
    >>> segmenter_network("tiny", instances=True).output
    'instances'
    """
    if name not in NETWORKS:
        raise ParameterError(f"no network {name!r}, wanted one of {', '.join(NETWORKS)}")
    return replace(NETWORKS[name], output="instances" if instances else "binary")


class UNet(nn.Module):
    """A U-Net: two convolutions a level, halved by maxima, doubled by interpolation.

    Parameters
    ----------
    config
        Its widths.

    Examples
    --------
    >>> UNet(NETWORKS["tiny"])(torch.zeros(1, 1, 32, 48)).shape
    torch.Size([1, 1, 32, 48])
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.down = nn.ModuleList(
            Level(before, after, config.residual)
            for before, after in zip((1, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            Level(coarse + fine, fine, config.residual)
            for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], OUTPUTS[config.output], 1)

    def forward(self, images: Float[Tensor, "b 1 y x"]) -> Float[Tensor, "b c y x"]:
        """Logits of images whose mean is 0 and spread 1; sides are multiples of the stride."""
        features, kept = images, []
        for i, level in enumerate(self.down):
            features = level(nn.functional.max_pool2d(features, 2) if i else features)
            kept.append(features)
        kept.pop()
        for level in self.up:
            fine = kept.pop()
            coarse = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = level(torch.cat([fine, coarse], 1))
        logits: Tensor = self.head(features)
        return logits


class Level(nn.Module):
    """Two convolutions of 3 x 3, each normalised over the batch; added to the input where residual."""

    def __init__(self, before: int, after: int, residual: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1) if residual else None

    def forward(self, features: Tensor) -> Tensor:
        """Features of as many channels as it has, of the same pixels."""
        out = nn.functional.relu(self.first_norm(self.first(features)))
        out = self.second_norm(self.second(out))
        if self.skip is not None:
            out = out + self.skip(features)
        return nn.functional.relu(out)


def folded(model: UNet) -> UNet:
    """A copy for inference, the normalisations folded into the convolutions before them: a third faster.

    Examples
    --------
    >>> model, images = UNet(NETWORKS["tiny"]).eval(), torch.randn(1, 1, 16, 16)
    >>> bool(torch.allclose(folded(model)(images), model(images), atol=1e-5))
    True
    """
    out = copy.deepcopy(model).eval()
    for level in (*out.down, *out.up):
        assert isinstance(level, Level)
        for name in ("first", "second"):
            norm = f"{name}_norm"
            setattr(level, name, fuse_conv_bn_eval(getattr(level, name), getattr(level, norm)))
            setattr(level, norm, nn.Identity())
    return out


def count_weights(config: UNetConfig) -> int:
    """Trained numbers of a network.

    Examples
    --------
    >>> [round(count_weights(NETWORKS[n]), -3) for n in ("tiny", "small")]
    [30000, 130000]
    """
    with torch.device("meta"):
        return sum(p.numel() for p in UNet(config).parameters())
