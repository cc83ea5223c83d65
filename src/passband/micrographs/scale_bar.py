"""The pixel size that a scale bar burned into an image tells: lettering read, bar found and measured.

Lettering is read by RapidOCR, whose models come with its package (the extra ``ocr``). What is doubtful stays
unknown: no number, an unusual one, no bar beside it, or two bars that disagree.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from passband.types import Image, Mask, Region
from passband.units import NM, UM

if TYPE_CHECKING:
    from rapidocr import RapidOCR

_LABEL = re.compile(r"[^\w.,]{0,2}(\d{1,4}(?:[.,]\d)?0?)\s?(nm|[µμu]m|Å)[.,|]?")
_UNITS = {"nm": NM, "um": UM, "Å": 1.0}
_USUAL = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
"""Leading figures of the lengths that scale bars have."""
LEAST_CONFIDENCE = 0.8
"""Of the lettering, as the library says."""
_LEAST_CONTRAST = 40
"""Of lettering, in grey levels of 256."""
_STEEP, _EVEN, _APART, _GROUND = 0.22, 0.06, 0.35, 0.35
"""Shares of the contrast of its lettering: how far a bar's pixels may lie from the level of the letters, how
far from each other in the mean, how far what is beside a bar must, and how far what is above and below."""
_EDGE, _LEVEL = 0.15, 12
"""Of a drawn edge: least step, as a share of the image's contrast; by how much neighbours along it differ."""
_STRIP = 512
"""Rows that are searched for such an edge at a time."""
_SHORTEST, _LONGEST = 12, 0.8
"""A bar has at least so many pixels, and at most this share of the image's width."""
_AGREE = 0.03


@dataclass(frozen=True, kw_only=True)
class ScaleBar:
    """A scale bar and what it says.

    Parameters
    ----------
    pixel_size
        Å.
    words
        Of its lettering.
    length
        Of the bar, pixels.
    confidence
        Of the lettering, 0 to 1.
    bar, label
        Where they are.
    """

    pixel_size: float
    words: str
    length: float
    confidence: float
    bar: Region
    label: Region


class Label(NamedTuple):
    """Lettering that names a length, Å."""

    words: str
    length: float
    confidence: float
    box: Region


def find_scale_bar(pixels: Image) -> ScaleBar | None:
    """The scale bar of an image, or None where there is none that is beyond doubt.

    Parameters
    ----------
    pixels
        float32 (y, x), of any range.

    Returns
    -------
    ScaleBar or None
        None also where RapidOCR is not installed.
    """
    if not installed() or not may_hold_bar(pixels):
        return None
    grey = _grey(pixels)
    found = [bar for label in read_lengths(grey) if (bar := bar_of(grey, label)) is not None]
    if not found:
        return None
    sizes = [bar.pixel_size for bar in found]
    if max(sizes) > (1 + _AGREE) * min(sizes):
        return None
    return max(found, key=lambda bar: bar.confidence)


def installed() -> bool:
    """Whether lettering can be read at all."""
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


def may_hold_bar(pixels: Image) -> bool:
    """Whether an image of any range has a straight level edge as only something drawn has: soon told.

    Looked at in strips, so that a large image takes no more memory than it has.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(128, 30, (200, 200)).clip(0, 255).astype(np.float32)
    >>> drawn = noise.copy()
    >>> drawn[150:156, 40:100] = 255
    >>> may_hold_bar(noise), may_hold_bar(drawn)
    (False, True)
    """
    every = max(2, max(pixels.shape) // 1024)
    low, high = (float(v) for v in np.percentile(pixels[::every, ::every], (1, 99)))
    one = _grey_level(pixels)
    step = max(_LEAST_CONTRAST * one, _EDGE * (high - low))
    return any(
        _has_edge(pixels[top : top + _STRIP + 2], step, _LEVEL * one) for top in range(0, len(pixels), _STRIP)
    )


def _has_edge(strip: Image, step: float, level: float) -> bool:
    """Whether a run of neighbours that are alike steps by more than so much from what is two rows away."""
    for inner, outer in ((strip[2:], strip[:-2]), (strip[:-2], strip[2:])):
        edge = (np.abs(inner - outer) > step)[:, 1:] & (np.abs(np.diff(inner, axis=1)) < level)
        run = edge[:, _SHORTEST - 1 :]
        for by in range(1, _SHORTEST):
            run = run & edge[:, _SHORTEST - 1 - by : -by]
        if run.any():
            return True
    return False


def read_lengths(grey: Image) -> list[Label]:
    """Lettering of an image, 0 to 255, that names a length and nothing else.

    Raises
    ------
    ImportError
        If RapidOCR is not installed.
    """
    shown = np.round(grey).astype(np.uint8)
    answer: Any = _reader()(np.stack([shown] * 3, -1), use_cls=False)
    if answer.txts is None:
        return []
    labels = []
    for words, score, corners in zip(answer.txts, answer.scores, answer.boxes, strict=True):
        length = length_of(words)
        if length is None or float(score) < LEAST_CONFIDENCE:
            continue
        (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
        box = Region(*(max(0, round(float(v))) for v in (top, left, bottom, right)))
        labels.append(Label(words, length, float(score), box))
    return labels


def length_of(words: str) -> float | None:
    """The length in Å that lettering names, or None where it is no usual length of a scale bar.

    Examples
    --------
    >>> length_of("100 nm"), length_of("0.5µm"), length_of("10.0um"), length_of("3.7 nm"), length_of("5.0 mm")
    (1000.0, 5000.0, 100000.0, None, None)
    """
    match = _LABEL.fullmatch(words.strip())
    if match is None:
        return None
    number = float(match[1].replace(",", "."))
    if number <= 0:
        return None
    leading = number / 10 ** math.floor(math.log10(number) + 1e-9)
    if not any(abs(leading - usual) < 1e-6 for usual in _USUAL):
        return None
    return number * _UNITS[re.sub("[µμ]", "u", match[2])]


def bar_of(grey: Image, label: Label) -> ScaleBar | None:
    """The bar beside lettering, or None where there is none or several might be it."""
    box, height = label.box, len(grey)
    inside = grey[box.top : box.bottom, box.left : box.right]
    if inside.size == 0:
        return None
    low, high = (float(v) for v in np.percentile(inside, (2, 98)))
    tall = box.bottom - box.top
    if high - low < _LEAST_CONTRAST:
        return None
    top, bottom = max(0, box.top - 2 * tall), min(height, box.bottom + 2 * tall)
    near: list[tuple[float, float, Region]] = []
    for level in (high, low):
        same = np.abs(grey[top:bottom] - level) <= _STEEP * (high - low)
        bars = [Region(b.top + top, b.left, b.bottom + top, b.right) for b in _runs(same)]
        bars = [b for b in bars if _stands_out(grey, b, high - low, letters=_inside(b, box))]
        bars += _joined(bars, box)
        for b in bars:
            away = _away(b, box)
            if b.bottom - b.top <= tall and b.right - b.left >= 0.8 * tall and away <= 1.5 * tall:
                near.append((away, _measured(grey, b), b))
    if not near:
        return None
    near.sort(key=lambda found: (found[0], -found[1]))
    _, length, bar = near[0]
    if any(not _within(b, bar) and not _same(b, bar) for _, _, b in near[1:]):
        return None
    if _goes_on(grey, bar, box, high - low):
        return None
    return ScaleBar(
        pixel_size=label.length / length,
        words=label.words,
        length=length,
        confidence=label.confidence,
        bar=bar,
        label=box,
    )


def _runs(same: Mask) -> list[Region]:
    """Level bars among pixels of one level: the same run in one row or in several that follow each other."""
    width = same.shape[1]
    bars: list[Region] = []
    growing: list[list[tuple[int, int, int]]] = []
    for y, row in enumerate([*same, np.zeros(width, bool)]):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        pairs = edges.reshape(-1, 2)
        lengths = pairs[:, 1] - pairs[:, 0]
        found = [(int(a), int(b)) for a, b in pairs[(lengths >= _SHORTEST) & (lengths <= _LONGEST * width)]]
        still = []
        for rows in growing:
            _, left, right = rows[-1]
            match = next((f for f in found if _alike(f, (left, right))), None)
            if match is None:
                bars.append(Region(rows[0][0], _middle(rows, 1), rows[-1][0] + 1, _middle(rows, 2)))
            else:
                found.remove(match)
                still.append([*rows, (y, *match)])
        growing = [*still, *([(y, *f)] for f in found)]
    return bars


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two runs are of the same bar, the edge of which may be blurred."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return shared >= 0.9 * (max(one[1], other[1]) - min(one[0], other[0]))


def _middle(rows: list[tuple[int, int, int]], which: int) -> int:
    return int(np.median([row[which] for row in rows]))


def _stands_out(grey: Image, bar: Region, contrast: float, *, letters: bool) -> bool:
    """Whether it is long and thin, even, and all along and at both ends unlike what is beside it.

    Among letters more so: what is left of their ground below them is no bar.
    """
    thick, long = bar.bottom - bar.top, bar.right - bar.left
    if long < 2.5 * thick:
        return False
    rows = grey[bar.top : bar.bottom, bar.left + 1 : bar.right - 1]
    level = float(np.median(rows))
    if float(np.abs(rows - level).mean()) > _EVEN * contrast:
        return False
    sides = [grey[y, bar.left : bar.right] for y in (bar.top - 3, bar.bottom + 2) if 0 <= y < len(grey)]
    apart = [(np.abs(side - level) > _APART * contrast).mean() for side in sides]
    grounds = [float(np.median(side)) for side in sides]
    if len(grounds) == 2 and abs(grounds[0] - grounds[1]) > _GROUND * contrast:
        return False  # the strip between two things
    ends = [x for x in (bar.left - 4, bar.right + 3) if 0 <= x < grey.shape[1]]
    middle = (bar.top + bar.bottom) // 2
    beyond = [abs(float(grey[middle, x]) - level) > _APART * contrast for x in ends]
    return bool(sides and min(apart) > (0.93 if letters else 0.8) and len(ends) == 2 and all(beyond))


def _joined(bars: list[Region], label: Region) -> list[Region]:
    """Bars that their lettering parts in two: as long on its left as on its right, and beside its middle."""
    tall, middle = label.bottom - label.top, (label.left + label.right) / 2
    beside = [b for b in bars if label.top < (b.top + b.bottom) / 2 < label.bottom]
    return [
        Region(min(a.top, b.top), a.left, max(a.bottom, b.bottom), b.right)
        for a in beside
        for b in beside
        if a.right < middle < b.left
        and abs(a.top - b.top) <= 1
        and abs((a.right - a.left) - (b.right - b.left)) <= 0.1 * (b.right - b.left) + 2
        and abs((a.left + b.right) / 2 - middle) <= 0.3 * tall
    ]


def _inside(bar: Region, label: Region) -> bool:
    """Whether most of a bar lies within the lettering's box."""
    height = min(bar.bottom, label.bottom) - max(bar.top, label.top)
    width = min(bar.right, label.right) - max(bar.left, label.left)
    return 2 * max(0, height) * max(0, width) > (bar.bottom - bar.top) * (bar.right - bar.left)


def _goes_on(grey: Image, bar: Region, label: Region, contrast: float) -> bool:
    """Whether a bar beside its lettering is half of one: more lies beyond, or one end alone has a tick."""
    middle = (bar.top + bar.bottom) // 2
    if not label.top < middle < label.bottom - 1:
        return False
    level, tall = float(np.median(grey[middle, bar.left : bar.right])), label.bottom - label.top
    if bar.right <= label.left + tall // 2:
        columns, outer, inner = slice(label.right, label.right + 2 * tall), bar.left, bar.right - 1
    elif bar.left >= label.right - tall // 2:
        columns, outer, inner = slice(max(0, label.left - 2 * tall), label.left), bar.right - 1, bar.left
    else:
        return False
    ticks = [
        any(
            (np.abs(grey[y, max(0, x - 2) : x + 3] - level) < _STEEP * contrast).any()
            for y in (bar.top - 3, bar.bottom + 2)
            if 0 <= y < len(grey)
        )
        for x in (outer, inner)
    ]
    if ticks == [True, False]:
        return True
    same = np.abs(grey[:, columns] - level) < _APART * contrast
    around = [same[y] for y in (bar.top - 4, bar.bottom + 3) if 0 <= y < len(grey)]
    return int((same[middle] & ~np.any(around, axis=0)).sum()) >= _SHORTEST // 2


def _within(one: Region, other: Region) -> bool:
    """Whether a bar lies within another, as the halves of a parted one do."""
    return other.left <= one.left and one.right <= other.right and abs(one.top - other.top) <= 2


def _same(one: Region, other: Region) -> bool:
    """Whether two bars are one, as a bar and its outline are."""
    return abs(one.left - other.left) <= 2 and abs(one.right - other.right) <= 2


def _away(bar: Region, label: Region) -> float:
    """How far a bar lies from its lettering, pixels; nought for one above or below it, or that it parts."""
    down = max(bar.top - label.bottom, label.top - bar.bottom, 0)
    along = max(bar.left - label.right, label.left - bar.right, 0)
    return float(down + along)


def _measured(grey: Image, bar: Region) -> float:
    """Length of a bar between the points where its level has fallen half way to what is beside it."""
    rows = grey[bar.top : bar.bottom]
    profile = np.asarray(rows.mean(0), np.float64)
    level = float(np.median(profile[bar.left : bar.right]))

    def end(at: int, step: int) -> float:
        """Pixels by which the bar goes on beyond its last pixel, some of it by half and less."""
        beyond = [profile[at + step * k] for k in range(1, 6) if 0 <= at + step * k < len(profile)]
        if len(beyond) < 3:
            return 0.0
        outside = float(np.median(beyond[2:]))
        if abs(level - outside) < 1e-9:
            return 0.0
        share = [np.clip((value - outside) / (level - outside), 0, 1) for value in beyond[:2]]
        return float(sum(share))

    return (bar.right - bar.left) + end(bar.left, -1) + end(bar.right - 1, 1)


def _grey(pixels: Image) -> Image:
    """0 to 255; what lies in that range already is left as it is."""
    one = _grey_level(pixels)
    return pixels if one == 1.0 else (pixels - pixels.min()) / np.float32(one)


def _grey_level(pixels: Image) -> float:
    """How much of an image's own unit is one of 256 grey levels."""
    low, high = float(pixels.min()), float(pixels.max())
    return 1.0 if low >= 0 and 128 <= high <= 255 else max((high - low) / 255, 1e-30)


@lru_cache(maxsize=1)
def _reader() -> RapidOCR:
    from rapidocr import RapidOCR

    one = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={**one, "Global.log_level": "error"})
