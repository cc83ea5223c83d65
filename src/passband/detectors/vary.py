"""Vary simulated images beyond what is simulated: scale, absorption, grain, uneven light, blur, clipping.

A network that is to work on micrographs of any kind must not learn what only the simulator does. Each image
is varied by a record that is drawn first, so that an image can be made again and shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Float32, Integer

from passband.types import Image, LabelImage


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What is done to one image, in this order.

    Parameters
    ----------
    bin
        Pixels that are made one, by the mean; may be no whole number.
    absorption
        Share of the intensity that a sphere's middle takes away, of the largest sphere of the image, and
        less in thinner places, as Beer's law says; below zero it is brighter by so much in proportion to
        the thickness, as in a dark field.
    fade
        Spread of a factor on the absorption, which every object has of its own.
    grain, grain_size
        Spread of smooth noise in shares of the image's own spread, and its size in pixels.
    light, light_angle
        How much brighter one side is than the other, in the image's own spread, and which side.
    blur
        Standard deviation of a Gaussian, pixels.
    noise
        Of white noise, in the image's own spread.
    gamma
        Power of the grey values between the darkest and the brightest.
    halfway
        Whether objects end where they are half as dark as in the mean of what is left, as people and
        thresholds draw them, instead of at their last atoms, where they are too thin to be seen.
    seed
        Of grain, noise and fading.
    """

    bin: float = 1.0
    absorption: float = 0.0
    fade: float = 0.0
    grain: float = 0.0
    grain_size: float = 2.0
    light: float = 0.0
    light_angle: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    gamma: float = 1.0
    halfway: bool = False
    seed: int = 0


def draw_variation(
    rng: np.random.Generator,
    *,
    most_bin: float = 8.0,
    opaque: bool = False,
    bright: float = 0.0,
    halfway: bool = False,
) -> Variation:
    """Draw a variation; each kind of it is left out of a third (absorption) to a half of the images.

    Parameters
    ----------
    rng
        Source of randomness.
    most_bin
        Largest binning, drawn evenly in its logarithm from 1.
    opaque
        Whether absorption is drawn evenly in the logarithm of the optical thickness, from 0.05 to 3, where
        the middle lets 5 % through; else it takes away half of the intensity at most.
    bright
        Share of the images that have absorption in which objects are brighter instead.
    halfway
        As in `Variation`.

    Examples
    --------
    >>> draw_variation(np.random.default_rng(0), most_bin=1).bin
    1.0
    """

    def sometimes(value: float) -> float:
        return value if rng.random() < 0.5 else 0.0

    def absorption() -> float:
        if not opaque:
            return float(rng.uniform(0.02, 0.5))
        depth = math.exp(rng.uniform(math.log(0.05), math.log(3)))
        return -depth if rng.random() < bright else 1 - math.exp(-depth)

    return Variation(
        bin=math.exp(rng.uniform(0, math.log(most_bin))),
        absorption=absorption() if rng.random() < 0.65 else 0.0,
        fade=float(rng.uniform(0, 0.5)),
        grain=sometimes(float(rng.uniform(0.1, 1.0))),
        grain_size=math.exp(rng.uniform(math.log(0.7), math.log(4))),
        light=sometimes(float(rng.normal(0, 0.5))),
        light_angle=float(rng.uniform(0, 2 * math.pi)),
        blur=sometimes(float(rng.uniform(0, 1.5))),
        noise=sometimes(float(rng.uniform(0, 1.0))),
        gamma=math.exp(float(rng.normal(0, 0.15))),
        halfway=halfway,
        seed=int(rng.integers(2**53)),
    )


def vary(
    pixels: Image, labels: LabelImage, variation: Variation
) -> tuple[Float32[np.ndarray, "h w"], Integer[np.ndarray, "h w"]]:
    """An image and its labels as a record says.

    Parameters
    ----------
    pixels
        Of a mean above zero, as intensities and counts are.
    labels
        0 background, i on object i.
    variation
        What is done.

    Returns
    -------
    tuple
        Pixels of mean 0 and spread 1, and labels, both of the binned size.

    Examples
    --------
    >>> flat, labels = np.ones((8, 8), np.float32), np.eye(8, dtype=np.int32)
    >>> [a.shape for a in vary(flat, labels, Variation(bin=2, noise=1))]
    [(4, 4), (4, 4)]
    """
    v, rng = variation, np.random.default_rng(variation.seed)
    height, width = (max(1, round(side / v.bin)) for side in pixels.shape)
    image = torch.from_numpy(np.ascontiguousarray(pixels))[None, None]
    if (height, width) != pixels.shape:
        image = torch.nn.functional.interpolate(image, size=(height, width), mode="area")
        rows = np.minimum(((np.arange(height) + 0.5) * v.bin).astype(int), pixels.shape[0] - 1)
        columns = np.minimum(((np.arange(width) + 0.5) * v.bin).astype(int), pixels.shape[1] - 1)
        labels = labels[np.ix_(rows, columns)]
    out: np.ndarray = image[0, 0].numpy().astype(np.float32)
    if v.absorption or v.halfway:
        thickness = _thickness(labels, v.fade, rng)
        passed = (1 - v.absorption) ** thickness if v.absorption > 0 else 1 - v.absorption * thickness
        out = out * passed
        if v.halfway:
            labels = _halfway(labels, np.abs(1 - passed) if v.absorption else thickness)
    out = (out - out.mean()) / (out.std() or 1.0)
    if v.grain:
        out = out + v.grain * _smooth(rng.standard_normal(out.shape).astype(np.float32), v.grain_size)
    if v.light:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        out = out + v.light * (y * math.sin(v.light_angle) + x * math.cos(v.light_angle)).astype(np.float32)
    if v.blur:
        out = scipy.ndimage.gaussian_filter(out, v.blur)
    out = (out - out.mean()) / (out.std() or 1.0)
    if v.noise:
        out = out + v.noise * rng.standard_normal(out.shape).astype(np.float32)
    if v.gamma != 1.0:
        low, high = np.percentile(out, (0.1, 99.9))
        out = np.clip((out - low) / (high - low or 1.0), 0, 1) ** v.gamma
    out = out - out.mean()
    return np.asarray(out / (out.std() or 1.0), np.float32), np.ascontiguousarray(labels)


def _thickness(labels: LabelImage, fade: float, rng: np.random.Generator) -> Image:
    """How thick each object is, as if it were round, in shares of the largest one; faded by a factor each."""
    inside = np.pad(labels > 0, 1, mode="edge")
    depth = scipy.ndimage.distance_transform_edt(inside)[1:-1, 1:-1] - 0.5  # edges lie between pixels
    count = int(labels.max())
    if count == 0:
        return np.zeros(labels.shape, np.float32)
    radii = np.concatenate([[1.0], scipy.ndimage.maximum(depth, labels, np.arange(1, count + 1))])
    factors = np.clip(rng.normal(1, fade, count + 1), 0.2, 2)
    radius = np.maximum(radii[labels], 1.0)
    chord = np.sqrt(np.maximum(depth * (2 * radius - depth), 0)) * factors[labels]
    return np.asarray(np.clip(chord / max(radii.max(), 1.0), 0, 1.9), np.float32)


def _halfway(labels: LabelImage, darkness: Image) -> LabelImage:
    """Objects without what is less than half as dark as their mean; the mean of what is left, so again."""
    numbers = np.arange(int(labels.max()) + 1)
    kept = labels
    for _ in range(4):
        with np.errstate(divide="ignore", invalid="ignore"):  # of objects of which nothing is left
            means = scipy.ndimage.mean(darkness, kept, numbers) if len(numbers) else np.zeros(1)
        kept = np.where(darkness >= 0.5 * np.asarray(means)[labels], labels, 0)
    return np.asarray(kept, labels.dtype)


def _smooth(noise: Image, size: float) -> Image:
    smooth = scipy.ndimage.gaussian_filter(noise, size, mode="wrap")
    return np.asarray(smooth / (smooth.std() or 1.0), np.float32)
