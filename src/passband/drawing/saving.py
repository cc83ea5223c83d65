"""Figures: where they are drawn, and how they are written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from passband.errors import ParameterError
from passband.store.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT = "#2b5c8a"
QUIET = "#808080"
"""Of what is no result: diagonals, baselines, words beside."""
CLASS_COLOURS = (
    "#4a78b5", "#b5712c", "#3a8f5c", "#8a5aa8", "#c04f5f", "#2a93a0", "#8c8420", "#7a6a5c",
)  # fmt: skip
"""Of classes, in their order, again from the first where there are more; seen on white and on black."""


def place(axes: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Axes to draw on, those given or those of a new figure, without a frame above and right.

    Parameters
    ----------
    axes
        Of a figure's subplots, or None.
    size
        Width and height of a new figure, inches.

    Returns
    -------
    tuple of Figure and Axes
        The figure of the axes, and the axes.
    """
    from matplotlib.figure import Figure

    if axes is None:
        axes = Figure(figsize=size, layout="constrained").add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    figure = axes.figure
    if not isinstance(figure, Figure):
        raise ParameterError("wanted axes of a figure, not of a figure inside another")
    return figure, axes


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure, whole or not at all.

    Parameters
    ----------
    figure
        From this module or not.
    path
        Its suffix says the format: .png, .svg, .pdf.
    dpi
        Pixels per inch, where the format has pixels.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ParameterError
        If matplotlib does not know the format.
    PassbandError
        If the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ParameterError(
            f"{path}: figures are written as {', '.join(sorted(known))}, not {kind or 'that'!r}"
        )
    content = io.BytesIO()
    # Without a date the same figure gives the same bytes.
    stamp = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(content, format=kind, dpi=dpi, metadata=stamp)
    return write_whole(path, content.getvalue())
