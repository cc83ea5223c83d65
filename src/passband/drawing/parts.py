"""Parts of a page as numbers, which templates draw: histograms, scale bars, figures in the reader's ink."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from passband.drawing.html import data_address
from passband.drawing.saving import ACCENT
from passband.drawing.thumbnails import Picture
from passband.units import NM
from passband.words import counted, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ink follows the reader's choice of light or dark; an image sees that choice but not the page's colours.
_INK = (
    f"<style>svg{{color:#1c1f23;--accent:{ACCENT};fill:currentColor}}"
    "@media (prefers-color-scheme:dark){svg{color:#e8eaed;--accent:#8fbce6}}</style>"
)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure within a page.

    Parameters
    ----------
    heading, caption
        Its words.
    title
        Of its first axes, for readers who do not see it.
    address
        An SVG without outside resources; black and the accent follow the reader's light or dark.
    """

    heading: str
    caption: str
    title: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle, and its words.

    Parameters
    ----------
    x, y, width, height
        In the units of the drawing it stands in, y downwards.
    words
        Above it, or said when it is pointed at.
    """

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Diameters as bars, in a drawing 400 wide and 150 high.

    Parameters
    ----------
    bars
        The empty ones are left out.
    ticks
        Of the axis: place and number.
    median
        Its place.
    most
        Of the highest bar.
    words
        About all.
    """

    bars: tuple[Box, ...]
    ticks: tuple[tuple[float, str], ...]
    median: float
    most: int
    words: str


def embed(figure: Figure, heading: str, caption: str) -> Chart:
    """A figure as a page shows it.

    Parameters
    ----------
    figure
        With a title on its first axes.
    heading, caption
        Its words.

    Returns
    -------
    Chart
        The same for the same figure.
    """
    import matplotlib

    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    content = io.BytesIO()
    # The same figure gives the same bytes: neither date nor random names.
    with matplotlib.rc_context({"svg.hashsalt": "passband"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, dpi=110)
    text = content.getvalue().decode("utf-8").replace("#000000", "currentColor")
    text = text.replace(ACCENT, "var(--accent)")
    start = text.index(">", text.index("<svg")) + 1
    address = data_address((text[:start] + _INK + text[start:]).encode(), "image/svg+xml")
    return Chart(heading=heading, caption=caption, title=figure.axes[0].get_title(), address=address)


def histogram(
    values: Float[np.ndarray, " n"], unit: str, *, top: float | None = None, bins: int
) -> Histogram | None:
    """The histogram of some diameters, from zero.

    Parameters
    ----------
    values
        Finite; above ``top`` they count in the last bar.
    unit
        Of the values.
    top
        Where the axis ends; without it at the largest value.
    bins
        How many bars at most.

    Returns
    -------
    Histogram or None
        None of no values.

    Examples
    --------
    >>> drawn = histogram(np.array([1.0, 1.2, 3.0]), "nm", bins=4)
    >>> drawn.words, [bar.words for bar in drawn.bars]
    ('3 diameters, median 1.2 nm', ['0.75 to 1.5 nm: 2', '2.25 to 3 nm: 1'])
    """
    if not len(values):
        return None
    end = float(values.max()) * 1.0001 if top is None else top
    left, right, high, base = 34.0, 392.0, 12.0, 116.0  # of the drawing
    counts, edges = np.histogram(np.minimum(values, end), bins, (0, end))
    unit_height = (base - high) / counts.max()

    def across(value: float) -> float:
        return left + (right - left) * min(value, end) / end

    bars = tuple(
        Box(
            x=across(a) + 0.5,
            y=base - n * unit_height,
            width=across(b) - across(a) - 1,
            height=n * unit_height,
            words=f"{a:.3g} to {b:.3g} {unit}: {n}",
        )
        for a, b, n in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if n
    )
    step = round_length(end / 3)
    ticks = np.arange(0, end + step / 1e6, step).round(9).tolist()
    middle = float(np.median(values))
    return Histogram(
        bars=bars,
        ticks=tuple((across(t), f"{t:g}") for t in ticks),
        median=across(middle),
        most=int(counts.max()),
        words=f"{counted(len(values), 'diameter')}, median {number_text(middle)} {unit}",
    )


def scale_bar(picture: Picture, pixel_size: float | None, *, size: float = 1.0) -> Box | None:
    """A bar of 1, 2 or 5 times a power of ten, in the lower left of a picture.

    Parameters
    ----------
    picture
        Of a micrograph.
    pixel_size
        Of that micrograph, Å; None where it is not known.
    size
        Of bar and words; larger than 1 for a picture that is shown small.

    Returns
    -------
    Box or None
        In pixels of the picture; None without a pixel size.
    """
    if pixel_size is None:
        return None
    per_nm = picture.scale * NM / pixel_size
    length = round_length(0.22 * picture.width / per_nm)
    pad, thick = 0.025 * picture.width, 0.009 * size * picture.width
    return Box(
        x=pad,
        y=picture.height - pad - thick,
        width=length * per_nm,
        height=thick,
        words=f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm",
    )


def round_length(length: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is no longer.

    Examples
    --------
    >>> round_length(47.0), round_length(0.2)
    (20.0, 0.2)
    """
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(m * power for m in (1, 2, 5) if m * power <= length * (1 + 1e-9)))
