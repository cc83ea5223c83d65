"""Micrographs made small enough for a page, with the outlines of what was found in them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from passband.detections.detections import Detections
from passband.drawing.html import data_address
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

SIDE = 1000
"""Longer side of a picture in the page, in pixels."""
BUDGET = 15_000_000
"""Bytes of all pictures of a page together; with more of them each is made smaller."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A micrograph made small enough for a page, with its detections outlined.

    Parameters
    ----------
    data
        WebP file, 8-bit grey, contrast stretched.
    width, height
        Of the picture in pixels.
    scale
        Pixels of the picture per pixel of the micrograph, at most 1.
    outlines
        One SVG path for each detection, in pixels of the picture.
    """

    data: bytes
    width: int
    height: int
    scale: float
    outlines: tuple[str, ...]

    @property
    def address(self) -> str:
        """What a page embeds it by."""
        return data_address(self.data, "image/webp")


def picture_of(micrograph: Micrograph, detections: Detections, *, side: int = SIDE) -> Picture:
    """Small picture of a micrograph and the outlines of its detections.

    Parameters
    ----------
    micrograph
        The image; its darkest and brightest half percent of pixels are clipped.
    detections
        Found in it; a box stands in for a mask that is missing.
    side
        Longer side at most, in pixels.

    Examples
    --------
    >>> image = Micrograph(pixels=np.eye(80, 120, dtype=np.float32), name="a.tif")
    >>> box = Detections(image_shape=(80, 120), boxes_xyxy=np.array([[10.0, 20, 30, 40]]), scores=np.ones(1))
    >>> small = picture_of(image, box, side=60)
    >>> small.width, small.height, small.outlines
    (60, 40, ('M5 10h10v10h-10z',))
    """
    low, high = np.percentile(micrograph.pixels, (0.5, 99.5))
    if high <= low:
        low, high = float(micrograph.pixels.min()), float(micrograph.pixels.max())
    grey = np.clip((micrograph.pixels - low) / max(high - low, 1e-30), 0, 1) * 255
    height, width = micrograph.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    masks = detections.masks or (None,) * len(detections)
    outlines = tuple(
        _box_outline(box, scale) if mask is None or not mask.pixels.any() else _mask_outline(mask, scale)
        for box, mask in zip(detections.boxes_xyxy, masks, strict=True)
    )
    data = _encode(grey.astype(np.uint8), size)
    return Picture(data=data, width=size[0], height=size[1], scale=scale, outlines=outlines)


def within_budget(pictures: Sequence[Picture], budget: int = BUDGET) -> list[Picture]:
    """The same pictures, coarser where all together would make a page too large.

    Parameters
    ----------
    pictures
        Of one page.
    budget
        Bytes of all together.

    Returns
    -------
    list of Picture
        Width, height and outlines stay as they are: only the pixels get coarser.
    """
    from PIL import Image

    total = sum(len(p.data) for p in pictures)
    if total <= budget:
        return list(pictures)
    shrink, small = (budget / total) ** 0.5, []
    for p in pictures:
        size = (max(1, round(p.width * shrink)), max(1, round(p.height * shrink)))
        grey = np.asarray(Image.open(io.BytesIO(p.data)).convert("L"))
        small.append(replace(p, data=_encode(grey, size)))
    return small


def outlined(picture: Picture, colours: Sequence[str], side: int) -> bytes:
    """A picture made smaller still, with its outlines in it, for where there is no room to draw over it.

    Parameters
    ----------
    picture
        Its outlines are drawn.
    colours
        Of each outline, as "#rrggbb".
    side
        Longer side at most, in pixels.

    Returns
    -------
    bytes
        WebP file.

    Examples
    --------
    >>> image = Micrograph(pixels=np.eye(80, 120, dtype=np.float32), name="a.tif")
    >>> nothing = Detections(image_shape=(80, 120), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    >>> outlined(picture_of(image, nothing), [], 30)[:4]
    b'RIFF'
    """
    from PIL import Image, ImageDraw

    scale = min(1.0, side / max(picture.width, picture.height))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    image = Image.open(io.BytesIO(picture.data)).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    for path, colour in zip(picture.outlines, colours, strict=True):
        points = [(x * scale, y * scale) for x, y in _points(path)]
        draw.line([*points, points[0]], fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=4)
    return buffer.getvalue()


def _points(path: str) -> list[tuple[float, float]]:
    """Corners of an outline as `_box_outline` or `_mask_outline` wrote it."""
    if "h" not in path:
        pairs = (pair.split(" ") for pair in path[1:-1].split("L"))
        return [(float(x), float(y)) for x, y in pairs]
    x, y, w, h = (float(n) for n in re.findall(r"-?[\d.]+(?:e[-+]?\d+)?", path)[:4])
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def _box_outline(box: np.ndarray, scale: float) -> str:
    x0, y0, x1, y1 = (float(c) * scale for c in box)
    w, h = f"{x1 - x0:.4g}", f"{y1 - y0:.4g}"
    return f"M{x0:.4g} {y0:.4g}h{w}v{h}h-{w}z"


def _mask_outline(mask: InstanceMask, scale: float) -> str:
    """Outline of a mask's largest part, simplified to a third of a pixel of the picture."""
    from skimage.measure import approximate_polygon, find_contours

    padded = np.pad(mask.pixels, 1).astype(np.float32)
    contours = find_contours(padded, 0.5)  # type: ignore[no-untyped-call]
    longest = max(contours, key=len)
    yx = approximate_polygon(longest, 0.35 / scale)  # type: ignore[no-untyped-call]
    # Pixel centres lie at half-integers in an SVG, and the padding has moved all by one.
    points = np.round((yx[:-1, ::-1] + np.array([mask.x - 0.5, mask.y - 0.5])) * scale, 1)
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "z"


def _encode(grey: np.ndarray, size: tuple[int, int]) -> bytes:
    from PIL import Image

    image = Image.fromarray(grey)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=4)
    return buffer.getvalue()
