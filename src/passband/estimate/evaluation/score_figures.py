"""Estimates beside what was measured: parity, reliability; and what moved an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from passband.drawing.saving import ACCENT, QUIET, place
from passband.errors import ParameterError
from passband.estimate.calibration import Estimate
from passband.estimate.evaluation.diagnostics import reliability
from passband.types import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ScorePair:
    """A score estimated without labels, and the same score measured with them.

    Parameters
    ----------
    estimate
        Without labels.
    measured
        With labels, in [0, 1].
    group
        Of which it is one, such as a domain.
    """

    estimate: Estimate
    measured: float
    group: str = ""


def draw_parity(pairs: Sequence[ScorePair], *, name: str = "F1") -> Figure:
    """Estimated against measured scores, each with its interval.

    Parameters
    ----------
    pairs
        At least one.
    name
        Of the score.

    Returns
    -------
    Figure
        On the diagonal an estimate is right; the title gives the mean absolute error and how many
        intervals hold the measured value.

    Raises
    ------
    ParameterError
        If there is no pair.
    """
    from matplotlib.figure import Figure

    if not pairs:
        raise ParameterError("estimated against measured: no pair came, wanted at least one")
    measured = np.array([p.measured for p in pairs])
    value, low, high = (np.array([getattr(p.estimate, n) for p in pairs]) for n in ("value", "low", "high"))
    figure = Figure(figsize=(5.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, zorder=1)
    groups = sorted({p.group for p in pairs})
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, len(groups)))
    markers = "osD^vP*X"
    for i, (group, colour) in enumerate(zip(groups, colours, strict=True)):
        mine = np.array([p.group == group for p in pairs])
        bars = np.maximum(0, [value[mine] - low[mine], high[mine] - value[mine]])
        axes.errorbar(
            measured[mine], value[mine], yerr=bars, fmt=markers[i % len(markers)], color=colour,
            markersize=4.5, elinewidth=0.8, alpha=0.75, label=group or None,
        )  # fmt: skip
    error = float(np.abs(value - measured).mean())
    held = int(((low <= measured) & (measured <= high)).sum())
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set(xlabel=f"measured {name}", ylabel=f"estimated {name}, without labels")
    axes.set_title(
        f"mean absolute error {error:.3f}; {held} of {len(pairs)} intervals hold the measured value\n"
        f"(meant to: {100 * pairs[0].estimate.coverage:.0f} %)",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    if any(groups):
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


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


def draw_explanations(
    values: np.ndarray, features: np.ndarray, names: Sequence[str], *, axes: Axes | None = None
) -> Figure:
    """How much each feature moved each estimate: a dot for each row, the strongest feature on top.

    Parameters
    ----------
    values
        Shapley values of one output, float64 (n, p).
    features
        What the rows are, float64 (n, p); a dot's colour is the rank of its row's feature.
    names
        Of the p features.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Features sorted by their mean absolute value, which stands beside each.

    Raises
    ------
    ParameterError
        If there is no row, or the shapes do not fit.
    """
    if values.ndim != 2 or values.shape != features.shape or values.shape[1] != len(names) or not len(values):
        raise ParameterError(
            f"wanted values and features of (rows, {len(names)}), at least one row; got {values.shape} and "
            f"{features.shape}"
        )
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from scipy.stats import rankdata

    strength = np.abs(values).mean(axis=0)
    order = np.argsort(strength, kind="stable")
    figure, axes = place(axes, (6.4, 1.2 + 0.3 * len(names)))
    axes.axvline(0, color=QUIET, linewidth=1, zorder=1)
    span = float(np.abs(values).max()) or 1.0
    many = len(values) * len(names) > 4000
    for y, f in enumerate(order):
        rank = rankdata(features[:, f]) / len(features)
        axes.scatter(
            values[:, f], y + _swarm(values[:, f], span / 50), c=rank, cmap="coolwarm", vmin=0, vmax=1, s=6,
            linewidths=0, rasterized=many,
        )  # fmt: skip
    labels = [f"{names[f].replace('_', ' ')}  {strength[f]:.3f}" for f in order]
    axes.set_yticks(range(len(order)), labels, fontsize=8)
    axes.set(xlabel="moves the estimate by", ylim=(-0.7, len(order) - 0.3))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), "coolwarm"), ax=axes, pad=0.02, aspect=40)
    bar.set_ticks([0, 1], labels=["low", "high"])
    bar.set_label("the feature's value", labelpad=-12, fontsize=8)
    bar.outline.set_visible(False)
    return figure


def _swarm(x: Vector, width: float) -> Vector:
    """Heights at which dots of nearly equal x stand beside one another, in [-0.4, 0.4]."""
    bins = np.floor(x / width).astype(np.int64)
    most = np.unique(bins, return_counts=True)[1].max()
    heights = np.zeros(len(x))
    for b in np.unique(bins):
        own = np.flatnonzero(bins == b)
        heights[own] = (np.arange(len(own)) - (len(own) - 1) / 2) * min(0.8 / most, 0.08)
    return heights
