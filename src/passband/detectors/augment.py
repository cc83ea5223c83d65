"""Augmentation of training crops: draw a record, apply it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch.nn.functional import interpolate


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to one crop.

    Parameters
    ----------
    y, x
        First row and column of the crop.
    side
        Of what is cut from the image, in pixels; it is then enlarged or shrunk to the crop's.
    turns
        Quarter turns, anticlockwise.
    mirrored
        Whether it is mirrored left to right, before turning.
    saturation
        Values beyond plus or minus this are clipped, as in an image stretched to eight bits.
    noise
        Standard deviation of added noise; the image's own spread is 1.
    noise_seed
        Of that noise.
    """

    y: int
    x: int
    side: int
    turns: int
    mirrored: bool
    saturation: float
    noise: float
    noise_seed: int


def draw_augmentation(
    rng: np.random.Generator,
    shape: tuple[int, int],
    crop: int,
    *,
    zoom: tuple[float, float] = (1.0, 1.0),
    around: tuple[int, int] | None = None,
) -> Augmentation:
    """Draw the crop of an image and what is done to it.

    Parameters
    ----------
    rng
        Source of randomness.
    shape
        Height and width of the image; at least ``crop``.
    crop
        Side of the crop in pixels.
    zoom
        By how much it is enlarged, drawn evenly in its logarithm; less where the image is too small for that.
    around
        Row and column that the crop holds, or None for any.

    Examples
    --------
    >>> import numpy as np
    >>> draw_augmentation(np.random.default_rng(0), (64, 64), 64).y
    0
    >>> large = draw_augmentation(np.random.default_rng(0), (640, 640), 64, zoom=(0.5, 0.5), around=(9, 639))
    >>> large.side, large.y <= 9, large.x
    (128, True, 512)
    """
    side = crop
    if zoom != (1.0, 1.0):
        by = math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1])))
        side = min(round(crop / by), *shape)
    places = [(0, length - side) for length in shape]
    if around is not None:
        places = [
            (max(low, at - side + 1), min(high, at)) for (low, high), at in zip(places, around, strict=True)
        ]
    return Augmentation(
        y=int(rng.integers(places[0][0], places[0][1] + 1)),
        x=int(rng.integers(places[1][0], places[1][1] + 1)),
        side=side,
        turns=int(rng.integers(4)),
        mirrored=bool(rng.integers(2)),
        saturation=float(rng.uniform(1.5, 5.0)),
        noise=float(rng.uniform(0, 0.4)) if rng.random() < 0.3 else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )


def resampled(values: np.ndarray, side: int) -> np.ndarray:
    """Square arrays brought to another side by taking the nearest pixels.

    Examples
    --------
    >>> resampled(np.array([[[1, 2], [3, 4]]]), 4)[0].tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    """
    if values.shape[-1] == side:
        return values
    places = ((np.arange(side) + 0.5) * values.shape[-1] / side).astype(np.int64)
    return values[..., places[:, None], places]


def turn(values: np.ndarray, record: Augmentation) -> np.ndarray:
    """Mirror and turn the last two axes of an array.

    Examples
    --------
    >>> import numpy as np
    >>> a = Augmentation(
    ...     y=0, x=0, side=2, turns=1, mirrored=False, saturation=5, noise=0, noise_seed=0
    ... )
    >>> turn(np.array([[1, 2], [3, 4]]), a).tolist()
    [[2, 4], [1, 3]]
    """
    if record.mirrored:
        values = values[..., ::-1]
    return np.ascontiguousarray(np.rot90(values, record.turns, axes=(-2, -1)))


def augment_image(
    image: Float[np.ndarray, "c y x"], record: Augmentation, crop: int
) -> Float32[np.ndarray, "c crop crop"]:
    """The crop of a network's input image, turned, saturated and made noisier.

    Parameters
    ----------
    image
        (channels, y, x) from `detector_input`, of any precision.
    record
        From `draw_augmentation`.
    crop
        Side of the crop in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> a = Augmentation(
    ...     y=1, x=1, side=2, turns=0, mirrored=False, saturation=2, noise=0, noise_seed=0
    ... )
    >>> augment_image(np.full((1, 4, 4), 3, np.float32), a, 2).tolist()
    [[[2.0, 2.0], [2.0, 2.0]]]
    """
    window = np.s_[:, record.y : record.y + record.side, record.x : record.x + record.side]
    out = turn(_scaled(image[window].astype(np.float32), crop), record)
    if record.noise > 0:
        noise = np.random.default_rng(record.noise_seed).standard_normal(out.shape[1:], np.float32)
        out = out + np.float32(record.noise) * noise
    clipped: np.ndarray = np.clip(out, -record.saturation, record.saturation).astype(np.float32)
    return clipped


def _scaled(image: Float32[np.ndarray, "c y x"], side: int) -> Float32[np.ndarray, "c side side"]:
    """Bilinearly; where it is shrunk, averaged first."""
    if image.shape[-1] == side:
        return image
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    out: np.ndarray = interpolate(tensor, (side, side), mode="bilinear", antialias=True)[0].numpy()
    return out
