"""How reliable estimates are, whatever they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from passband.drawing.saving import ACCENT, QUIET, place
from passband.estimate.evaluation.diagnostics import reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_reliability(
    estimate: np.ndarray, measured: np.ndarray, *, name: str = "F1", bins: int = 10, axes: Axes | None = None
) -> Figure:
    """Mean measured score against mean estimated score, bin by bin of the estimate.

    Parameters
    ----------
    estimate, measured
        Scores in [0, 1], float64 (n,), at least one row, finite.
    name
        Of the score.
    bins
        Of equal width, from 0 to 1.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Bars are 95 % bootstrap intervals of the mean; below stands how many rows each bin has.

    Raises
    ------
    ParameterError
        If the arrays differ in length, are empty or not finite.
    """
    found = reliability(estimate, measured, bins=bins)
    figure, axes = place(axes, (5.0, 4.8))
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, zorder=1)
    below = axes.twinx()
    below.set_zorder(0)
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    middles = np.clip(np.floor(found.estimate * bins), 0, bins - 1) / bins + 0.5 / bins
    below.bar(middles, found.n, width=0.92 / bins, color=QUIET, alpha=0.25)
    below.set(ylim=(0, 5 * found.n.max()), yticks=[])
    below.spines[:].set_visible(False)
    for x, n in zip(middles, found.n, strict=True):
        below.annotate(str(n), (x, 0), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    bars = np.nan_to_num(np.maximum(0, [found.measured - found.low, found.high - found.measured]))
    axes.errorbar(
        found.estimate, found.measured, yerr=bars, fmt="o-", color=ACCENT, markersize=5, linewidth=1.2,
        elinewidth=1.2, capsize=2,
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"estimated {name}", ylabel=f"mean measured {name}")
    axes.set_title(f"mean distance from the diagonal {found.error:.3f}, n = {len(estimate)}", fontsize=10)
    return figure
