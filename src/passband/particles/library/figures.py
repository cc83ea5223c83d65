"""Crops of particles as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from passband.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_crops(
    crops: Float[np.ndarray, "n y x"],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 8,
    title: str = "",
) -> Figure:
    """Crops in a grid, each with a caption.

    Parameters
    ----------
    crops
        At least one; 0 is black and 1 white.
    captions
        One for each crop, or none.
    columns
        How many stand in a row at most.
    title
        Above all.

    Returns
    -------
    Figure

    Raises
    ------
    ParameterError
        If there is no crop, or another number of captions.
    """
    from matplotlib.figure import Figure

    captions = [""] * len(crops) if captions is None else captions
    if not len(crops) or len(captions) != len(crops):
        raise ParameterError(
            f"crops: {len(crops)} came with {len(captions)} captions; wanted one or more, a caption each"
        )
    columns = min(columns, len(crops))
    rows = -(-len(crops) // columns)
    lines = max(caption.count("\n") + 1 if caption else 0 for caption in captions)
    figure = Figure(
        figsize=(1.15 * columns, (1.1 + 0.15 * lines) * rows + (0.35 if title else 0)), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, crop, caption in zip(grid.flat, crops, captions, strict=False):
        axes.imshow(crop, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(caption, fontsize=7.5, pad=2)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
