"""Micrographs with outlined detections, and histograms of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from passband.detections.detections import Detections
from passband.drawing.saving import ACCENT
from passband.errors import ParameterError
from passband.judge.verdict import Sizes, Verdict
from passband.micrographs.micrograph import Micrograph
from passband.types import Vector
from passband.units import NM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

COLOURS = "plasma"
"""Of scores: perceptually uniform, and seen on grey but for its darkest quarter, which is left out."""


def draw_detections(micrograph: Micrograph, detections: Detections, *, title: str = "") -> Figure:
    """Micrograph with its detections outlined in the colour of their score.

    Parameters
    ----------
    micrograph
        The image; its darkest and brightest half percent of pixels are clipped.
    detections
        Found in it; a box stands in for a mask that is missing.
    title
        Above the image.

    Returns
    -------
    Figure
        With a colour bar of the score, and a scale bar where the pixel size is known.

    Raises
    ------
    ParameterError
        If the detections were made on an image of another shape.
    """
    from matplotlib.figure import Figure

    height, width = micrograph.shape
    side = 7.0 / max(height, width)
    figure = Figure(
        figsize=(max(2.5, width * side) + 0.9, max(2.0, height * side) + 0.4), layout="constrained"
    )
    axes = figure.add_subplot()
    _outline(axes, micrograph, detections)
    _add_score_bar(figure, [axes], detections.score_threshold)
    axes.set_title(title, fontsize=11)
    return figure


def draw_verdicts(judged: Sequence[tuple[Micrograph, Verdict]]) -> Figure:
    """Micrographs side by side, each with its outlined detections, verdict and estimated F1.

    Parameters
    ----------
    judged
        At least one micrograph with its verdict; four stand in a row.

    Returns
    -------
    Figure
        With one colour bar of the score.

    Raises
    ------
    ParameterError
        If there is none, or a verdict is of an image of another shape.
    """
    from matplotlib.figure import Figure

    if not judged:
        raise ParameterError("no micrograph came to be drawn with its verdict, wanted at least one")
    columns = min(4, len(judged))
    rows = -(-len(judged) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.8, 4.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(judged) :]:
        axes.set_axis_off()
    for axes, (micrograph, verdict) in zip(grid.flat, judged, strict=False):
        _outline(axes, micrograph, verdict.detections)
        f1 = verdict.estimates.get("f1")
        said = "no estimate" if f1 is None else f"estimated F1 {f1.value:.2f} ({f1.low:.2f} to {f1.high:.2f})"
        axes.set_title(f"{verdict.verdict}\n{said}", fontsize=11)
    _add_score_bar(figure, list(grid.flat), judged[0][1].detections.score_threshold)
    return figure


def _outline(axes: Axes, micrograph: Micrograph, detections: Detections) -> None:
    """A micrograph with its detections' outlines and a scale bar, on given axes."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize
    from matplotlib.patheffects import Normal, Stroke

    if detections.image_shape != micrograph.shape:
        raise ParameterError(
            f"detections of an image of {detections.image_shape} do not fit {micrograph.name!r} "
            f"of {micrograph.shape} (height, width)"
        )
    height, width = micrograph.shape
    low, high = np.percentile(micrograph.pixels, (0.5, 99.5))
    extent = (0, width, height, 0)
    axes.imshow(micrograph.pixels, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="none")
    lines = LineCollection(_outlines(detections), cmap=_score_colours(), norm=Normalize(0, 1), linewidths=1.3)
    lines.set_array(detections.scores)
    lines.set_path_effects([Stroke(linewidth=2.3, foreground="black", alpha=0.35), Normal()])
    axes.add_collection(lines)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    if micrograph.pixel_size is not None:
        _add_scale_bar(axes, width, height, micrograph.pixel_size / NM)


def _score_colours() -> ListedColormap:
    import matplotlib
    from matplotlib.colors import ListedColormap

    return ListedColormap(matplotlib.colormaps[COLOURS](np.linspace(0.25, 1, 256)))


def _add_score_bar(figure: Figure, axes: list[Axes], threshold: float) -> None:
    """A colour bar of the score beside some axes, with the threshold marked."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _score_colours()), ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("detection score")
    bar.ax.axhline(threshold, color="black", linewidth=1.2)


def draw_sizes(sizes: Sizes, *, title: str = "") -> Figure:
    """Histogram of diameters.

    Parameters
    ----------
    sizes
        From a verdict; in nm where the pixel size is known, in pixels otherwise.
    title
        Above the axes.

    Returns
    -------
    Figure
        With the median marked; empty axes that say so where there is no object.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    nm = sizes.diameters_nm
    diameters, unit = (sizes.diameters, "pixels") if nm is None else (nm, "nm")
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=f"diameter ({unit})", ylabel="objects")
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    if len(diameters) == 0:
        axes.text(0.5, 0.5, "nothing was found", transform=axes.transAxes, ha="center", color="0.4")
        axes.set(xticks=[], yticks=[])
        return figure
    bins = int(np.clip(2 * np.sqrt(len(diameters)), 6, 30))
    axes.hist(diameters, bins=bins, range=(0, float(diameters.max()) * 1.001), color=ACCENT, rwidth=0.94)
    middle = float(np.median(diameters))
    axes.axvline(middle, color="0.15", linestyle="--", linewidth=1)
    label = f"median {middle:.3g} {unit}\nn = {len(diameters)}"
    axes.text(0.98, 0.95, label, transform=axes.transAxes, ha="right", va="top", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _outlines(detections: Detections) -> list[np.ndarray]:
    """Closed lines (k, 2) of x and y in pixels, upper left corner at 0, one for each detection."""
    from skimage.measure import find_contours

    lines = []
    for box, mask in zip(detections.boxes_xyxy, detections.masks or (None,) * len(detections), strict=True):
        if mask is None or not mask.pixels.any():
            x0, y0, x1, y1 = box
            lines.append(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]))
            continue
        padded = np.pad(mask.pixels, 1).astype(np.float32)
        longest: Vector = max(find_contours(padded, 0.5), key=len)  # type: ignore[no-untyped-call]
        lines.append(longest[:, ::-1] + np.array([mask.x - 0.5, mask.y - 0.5]))
    return lines


def _add_scale_bar(axes: Axes, width: int, height: int, pixel_size_nm: float) -> None:
    """A bar of a round length, about a fifth of the image, lower left."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    wanted = 0.22 * width * pixel_size_nm
    power = 10.0 ** np.floor(np.log10(wanted))
    length = float(max(m * power for m in (1, 2, 5) if m * power <= wanted))
    pad, thick = 0.03 * min(width, height), 0.011 * min(width, height)
    x, y = pad, height - pad - thick
    bar = Rectangle(
        (x, y), length / pixel_size_nm, thick, facecolor="white", edgecolor="black", linewidth=0.6
    )
    axes.add_patch(bar)
    words = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    shadow = [withStroke(linewidth=2, foreground="black", alpha=0.6)]
    axes.text(x, y - thick, words, color="white", fontsize=10, weight="bold", path_effects=shadow)
