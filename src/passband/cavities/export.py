"""What becomes of an image between the camera and the file that people send: draw, record, apply.

Resampled, sharpened or smoothed, stretched to eight bits and clipped, packed as JPEG, with dead columns and
scratches, and with a scale bar, lettering or a whole data bar burned in.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from passband.cavities.image import CavityImage
from passband.types import Image, InstanceMask, Mask

_WORDS = (
    "nm",
    "100 nm",
    "20 nm",
    "0.5 µm",
    "HV 200 kV",
    "x 78,000",
    "under",
    "+1 um",
    "#3",
    "2016-02-27",
    "MAG",
)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Something written over an image.

    Parameters
    ----------
    text
        Its letters; none for a bar alone.
    y, x
        Its upper left corner, pixels.
    size
        Height of the letters, pixels.
    bar
        Height and width of the scale bar below it, pixels; (0, 0) for none.
    level
        0 black to 1 white.
    ground
        Level of the rectangle that it stands on, or None for the image itself.
    """

    text: str
    y: int
    x: int
    size: int
    bar: tuple[int, int] = (0, 0)
    level: float = 1.0
    ground: float | None = None


@dataclass(frozen=True, kw_only=True)
class Export:
    """All that is done to one image, in this order.

    Parameters
    ----------
    scratches
        Straight lines: y, x and angle (rad) of a point of each, its half width in pixels and by how many
        deviations of the image it is darker.
    columns
        Dead columns of the camera.
    smoothing
        Deviation of a Gaussian blur of image and noise, pixels, as by resampling; 0 for none.
    clipped
        Percent of the pixels that become black and white.
    gamma
        Of the grey levels.
    quality
        Of JPEG; 0 for none.
    data_bar
        Height of a bar at the foot that hides the image, pixels; 0 for none.
    writings
        What is written over it.
    """

    scratches: tuple[tuple[float, float, float, float, float], ...] = ()
    columns: tuple[int, ...] = ()
    smoothing: float = 0.0
    clipped: tuple[float, float] = (0.5, 0.5)
    gamma: float = 1.0
    quality: int = 0
    data_bar: int = 0
    writings: tuple[Writing, ...] = ()


def draw_export(rng: np.random.Generator, shape: tuple[int, int]) -> Export:
    """Draw what is done to an image.

    Parameters
    ----------
    rng
        Source of all randomness.
    shape
        Height and width of the image, pixels.

    Examples
    --------
    >>> draw_export(np.random.default_rng(4), (512, 512)).smoothing
    0.0
    """
    height, width = shape
    scratches = tuple(
        (
            float(rng.uniform(0, height)),
            float(rng.uniform(0, width)),
            float(rng.uniform(0, math.pi)),
            float(rng.uniform(0.5, 3)),
            float(rng.uniform(-1, 3)),
        )
        for _ in range(int(rng.integers(1, 9)) if rng.random() < 0.15 else 0)
    )
    columns = tuple(
        int(c) for c in rng.integers(0, width, int(rng.integers(1, 3)) if rng.random() < 0.1 else 0)
    )
    smoothing = float(rng.uniform(0.4, 3.0)) if rng.random() < 0.35 else 0.0
    low, high = rng.uniform(0, 2, 2) if rng.random() < 0.8 else (0.0, 0.0)
    gamma = float(math.exp(rng.normal(0, 0.3))) if rng.random() < 0.4 else 1.0
    quality = int(rng.integers(40, 96)) if rng.random() < 0.35 else 0
    bar = int(rng.uniform(0.04, 0.12) * height) if rng.random() < 0.1 else 0
    return Export(
        scratches=scratches,
        columns=columns,
        smoothing=smoothing,
        clipped=(float(low), float(high)),
        gamma=gamma,
        quality=quality,
        data_bar=bar,
        writings=_draw_writings(rng, shape, bar),
    )


def _draw_writings(rng: np.random.Generator, shape: tuple[int, int], bar: int) -> tuple[Writing, ...]:
    height, width = shape
    ground: float | None = float(rng.integers(2)) if rng.random() < 0.5 else None
    count = int(rng.integers(1, 3)) if bar or rng.random() < 0.2 else 0
    found = []
    for _ in range(count):
        size = int(rng.uniform(0.025, 0.06) * height) if not bar else max(6, int(0.6 * bar))
        scale = (max(2, size // 5), int(rng.uniform(0.05, 0.3) * width)) if rng.random() < 0.7 else (0, 0)
        y = height - bar + bar // 8 if bar else int(rng.choice((0.02, 0.86)) * height)
        x = int(rng.uniform(0.02, 0.7) * width)
        level = float(rng.integers(2)) if ground is None else 1 - ground
        if bar:
            level, ground = float(rng.integers(2)), None
        text = str(rng.choice(_WORDS)) if rng.random() < 0.9 else ""
        found.append(Writing(text=text, y=y, x=x, size=size, bar=scale, level=level, ground=ground))
    return tuple(found)


def export_image(image: CavityImage, export: Export) -> CavityImage:
    """An image as people send it: eight bits, and what cannot be seen any more is not in its truth.

    Parameters
    ----------
    image
        As the camera gave it.
    export
        From `draw_export`, or written by hand.

    Returns
    -------
    CavityImage
        Whole levels from 0 to 255 as float32. A cavity of which less than half is left is left out.

    Examples
    --------
    >>> from passband.cavities.domains import DOMAINS
    >>> from passband.cavities.draws import draw_cavities
    >>> from passband.cavities.image import simulate_cavities
    >>> record = draw_cavities(DOMAINS["B"], np.random.default_rng(0), shape=(64, 64))
    >>> sent = export_image(simulate_cavities(record), Export(data_bar=16))
    >>> sent.pixels[50:].max(), max(m.y + m.pixels.shape[0] for m in sent.instances) <= 48
    (np.float32(0.0), True)
    """
    pixels: Image = image.pixels.astype(np.float32)
    deviation = float(pixels.std()) or 1.0
    for scratch in export.scratches:
        pixels = pixels - np.float32(deviation) * _scratch(pixels.shape, scratch)
    for column in export.columns:
        pixels[:, column] = pixels[:, max(0, column - 1)] - np.float32(2 * deviation)
    if export.smoothing:
        pixels = scipy.ndimage.gaussian_filter(pixels, export.smoothing, truncate=3)
    low, high = np.percentile(pixels, (export.clipped[0], 100 - export.clipped[1]))
    levels = np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1) ** export.gamma
    canvas, hidden = _written(levels.astype(np.float32), export)
    if export.quality:
        packed = io.BytesIO()
        canvas.save(packed, "JPEG", quality=export.quality)
        canvas = PillowImage.open(packed).copy()
    left = tuple(m for m in (_left(one, hidden) for one in image.instances) if m is not None)
    return replace(image, pixels=np.asarray(canvas, np.float32), instances=left)


def _scratch(shape: tuple[int, ...], of: tuple[float, float, float, float, float]) -> Image:
    y, x, angle, width, depth = of
    away = (np.arange(shape[0])[:, None] - y) * math.cos(angle) - (np.arange(shape[1]) - x) * math.sin(angle)
    return (depth * np.exp(-((away / width) ** 2))).astype(np.float32)


def _written(levels: Image, export: Export) -> tuple[PillowImage.Image, Mask]:
    """The picture with its writing, and where that hides it."""
    canvas = PillowImage.fromarray(np.round(255 * levels).astype(np.uint8))
    cover = PillowImage.new("1", canvas.size)
    over = [(ImageDraw.Draw(canvas), False), (ImageDraw.Draw(cover), True)]
    width, height = canvas.size
    for draw, is_cover in over:
        if export.data_bar:
            ground = 0 if not export.writings or export.writings[0].level > 0.5 else 255
            draw.rectangle((0, height - export.data_bar, width, height), fill=1 if is_cover else ground)
        for one in export.writings:
            level = 1 if is_cover else round(255 * one.level)
            font = ImageFont.load_default(max(6, one.size))
            box = draw.textbbox((one.x, one.y), one.text or " ", font=font)
            below = (one.x, box[3] + 3, one.x + one.bar[1], box[3] + 3 + one.bar[0])
            if one.ground is not None:
                ends = max(box[2], below[2]) + 4, max(box[3], below[3]) + 4
                draw.rectangle((one.x - 4, one.y - 4, *ends), fill=1 if is_cover else round(255 * one.ground))
            draw.text((one.x, one.y), one.text, fill=level, font=font)
            if one.bar[1]:
                draw.rectangle(below, fill=level)
    return canvas, np.asarray(cover, bool)


def _left(mask: InstanceMask, hidden: Mask) -> InstanceMask | None:
    """What is still seen of an object; None where it is less than half."""
    height, width = mask.pixels.shape
    seen = mask.pixels & ~hidden[mask.y : mask.y + height, mask.x : mask.x + width]
    if not seen.any() or 2 * seen.sum() < mask.pixels.sum():
        return None
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    tight = seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return InstanceMask(y=mask.y + int(rows[0]), x=mask.x + int(columns[0]), pixels=tight)
