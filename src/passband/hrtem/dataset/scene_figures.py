"""Simulated scenes side by side, each with the labels of its particles."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.types import LabelImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HUES = ("#ffb000", "#29b6f6", "#ff6f91", "#8bd450", "#c792ea")
"""Of a scene's particles, in turn; light enough for grey micrographs."""

LINE = 50
"""Letters above an image that is 3.3 inches wide."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenePanel:
    """One scene as it is drawn.

    Parameters
    ----------
    micrograph
        One of its images.
    labels
        (y, x): 0 background, i on particle i.
    title, words
        Above the image.
    """

    micrograph: Micrograph
    labels: LabelImage
    title: str
    words: str = ""


def draw_scenes(panels: Sequence[ScenePanel], *, columns: int = 4, title: str = "") -> Figure:
    """Draw micrographs with the outlines of their labels.

    Parameters
    ----------
    panels
        At least one scene; each image's darkest and brightest half percent of pixels are clipped.
    columns
        How many stand in a row.
    title
        Above all of them.

    Returns
    -------
    Figure
        One scene's image and outlines in each of its axes.

    Raises
    ------
    ParameterError
        If there is no scene, or labels do not fit their image.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ParameterError("no scene came to be drawn, wanted at least one")
    for p in panels:
        if p.labels.shape != p.micrograph.shape:
            raise ParameterError(
                f"labels of {p.labels.shape} do not fit {p.micrograph.name!r} of {p.micrograph.shape} "
                "(height, width)"
            )
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.3 * columns, 3.9 * rows + (0.4 if title else 0)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, p in zip(grid.flat, panels, strict=False):
        low, high = np.percentile(p.micrograph.pixels, (0.5, 99.5))
        axes.imshow(p.micrograph.pixels, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
        axes.imshow(label_overlay(p.labels), interpolation="none")
        lines = [*textwrap.wrap(p.title, LINE), *textwrap.wrap(p.words, LINE)]
        axes.set_title("\n".join(lines), fontsize=8.5, loc="left")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def label_overlay(labels: LabelImage, *, width: int = 2) -> np.ndarray:
    """Outlines of labels as a picture to lay over an image.

    Parameters
    ----------
    labels
        (y, x): 0 background, i on particle i; outlines are periodic, as the labels are.
    width
        Of the outlines, pixels.

    Returns
    -------
    array
        uint8 (y, x, 4): red, green, blue, opacity.

    Examples
    --------
    >>> overlay = label_overlay(np.pad(np.ones((3, 3), int), 2), width=1)
    >>> (overlay[..., 3] > 128).sum().item(), overlay[3, 3, 3].item()
    (8, 26)
    """
    inner = labels > 0
    kept = inner.copy()
    for shift in range(1, width + 1):
        for axis in (0, 1):
            for step in (-shift, shift):
                kept &= np.roll(labels, step, axis) == labels
    hues = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in HUES], np.uint8)
    overlay = np.zeros((*labels.shape, 4), np.uint8)
    overlay[inner, :3] = hues[(labels[inner] - 1) % len(hues)]
    overlay[inner, 3] = np.where(kept[inner], 26, 230)
    return overlay
