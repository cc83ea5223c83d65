"""Augmentation of training crops: draw a record, apply it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to one crop.

    Parameters
    ----------
    y, x
        First row and column of the crop.
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
    turns: int
    mirrored: bool
    saturation: float
    noise: float
    noise_seed: int


def draw_augmentation(rng: np.random.Generator, shape: tuple[int, int], crop: int) -> Augmentation:
    """Draw the crop of an image and what is done to it.

    Parameters
    ----------
    rng
        Source of randomness.
    shape
        Height and width of the image; at least ``crop``.
    crop
        Side of the crop in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> draw_augmentation(np.random.default_rng(0), (64, 64), 64).y
    0
    """
    return Augmentation(
        y=int(rng.integers(shape[0] - crop + 1)),
        x=int(rng.integers(shape[1] - crop + 1)),
        turns=int(rng.integers(4)),
        mirrored=bool(rng.integers(2)),
        saturation=float(rng.uniform(1.5, 5.0)),
        noise=float(rng.uniform(0, 0.4)) if rng.random() < 0.3 else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )


def turn(values: np.ndarray, record: Augmentation) -> np.ndarray:
    """Mirror and turn the last two axes of an array.

    Examples
    --------
    >>> import numpy as np
    >>> a = Augmentation(y=0, x=0, turns=1, mirrored=False, saturation=5, noise=0, noise_seed=0)
    >>> turn(np.array([[1, 2], [3, 4]]), a).tolist()
    [[2, 4], [1, 3]]
    """
    if record.mirrored:
        values = values[..., ::-1]
    return np.ascontiguousarray(np.rot90(values, record.turns, axes=(-2, -1)))


def augment_image(
    image: Float32[np.ndarray, "c y x"], record: Augmentation, crop: int
) -> Float32[np.ndarray, "c crop crop"]:
    """The crop of a network's input image, turned, saturated and made noisier.

    Parameters
    ----------
    image
        float32 (channels, y, x) from `detector_input`.
    record
        From `draw_augmentation`.
    crop
        Side of the crop in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> a = Augmentation(y=1, x=1, turns=0, mirrored=False, saturation=2, noise=0, noise_seed=0)
    >>> augment_image(np.full((1, 4, 4), 3, np.float32), a, 2).tolist()
    [[[2.0, 2.0], [2.0, 2.0]]]
    """
    out = turn(image[:, record.y : record.y + crop, record.x : record.x + crop], record)
    if record.noise > 0:
        noise = np.random.default_rng(record.noise_seed).standard_normal(out.shape[1:], np.float32)
        out = out + np.float32(record.noise) * noise
    clipped: np.ndarray = np.clip(out, -record.saturation, record.saturation).astype(np.float32)
    return clipped
