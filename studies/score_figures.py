"""Scores as figures: estimates beside what was measured, what moved a forest, means of domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from passband.drawing.saving import QUIET, place
from passband.errors import ParameterError
from passband.estimate.calibration import Estimate
from passband.estimate.evaluation.figures import GROUP_COLOURS, LABELS
from passband.estimate.evaluation.metrics import Evaluation
from passband.estimate.regressor import TARGETS
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


def draw_domain_scores(
    evaluation: Evaluation,
    target: str = "f1",
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Mean measured score of each domain.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    groups
        Domains by the name of their group, at most four; all in one without a name otherwise.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Bars are standard deviations over rows; dashed lines and bands those of all rows of a group.
    """
    p = evaluation.repeats[0]
    truth, domains = p.truth[:, TARGETS.index(target)], np.asarray(p.domains)
    every = {"": sorted(set(p.domains))} if groups is None else groups
    figure, axes = place(axes, (5.8, 3.8))
    labels: list[str] = []
    for (name, own), colour in zip(every.items(), GROUP_COLOURS, strict=False):
        inside = truth[np.isin(domains, own)]
        if not len(inside):
            continue
        axes.axhline(inside.mean(), color=colour, linestyle="--", linewidth=1, label=name or None)
        axes.axhspan(
            inside.mean() - inside.std(), inside.mean() + inside.std(), color=colour, alpha=0.12, linewidth=0
        )
        for domain in own:
            mine = truth[domains == domain]
            if len(mine):
                axes.errorbar(len(labels), mine.mean(), yerr=mine.std(), fmt="o", color=colour, capsize=3)
                labels.append(f"{domain}\n(n = {len(mine)})")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set(ylim=(0, 1), ylabel=f"mean measured {LABELS[target]}")
    if groups:
        axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
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
