"""How well an estimate tells good answers from bad ones: confusion, precision and recall, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from passband.drawing.saving import ACCENT, QUIET, place
from passband.estimate.evaluation.diagnostics import classify, confusion, precision_recall
from passband.estimate.evaluation.figures import LABELS, held_rows, say_nothing
from passband.estimate.evaluation.metrics import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_confusion(
    evaluation: Evaluation, target: str = "f1", *, bins: int = 5, axes: Axes | None = None
) -> Figure:
    """How many rows were measured in one range of the score and estimated in another.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    bins
        Of equal width, from 0 to 1.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Numbers of rows of the first repeat; the shade is their share of the rows measured in that range.
    """
    edges = np.linspace(0, 1, bins + 1)
    h = held_rows(evaluation.repeats[0], target)
    figure, axes = place(axes, (5.0, 4.8))
    axes.set(xlabel=f"estimated {LABELS[target]}", ylabel=f"measured {LABELS[target]}", aspect="equal")
    if not len(h.value):
        return say_nothing(figure, axes)
    cells = confusion(h.value, h.truth, edges)
    share = cells / np.maximum(1, cells.sum(axis=1, keepdims=True))
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="#ffffff", linewidth=1)
    for (i, j), n in np.ndenumerate(cells):
        colour = "#fefefe" if share[i, j] > 0.55 else "#111111"
        axes.text(j + 0.5, i + 0.5, str(n), ha="center", va="center", color=colour, fontsize=40 / bins)
    ticks = [f"{a:.1f} to {b:.1f}" if bins <= 5 else f"{a:.1f}" for a, b in pairwise(edges)]
    axes.set_xticks(np.arange(bins) + 0.5, ticks, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(bins) + 0.5, ticks, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    right = np.trace(cells) / cells.sum()
    near = sum(np.trace(cells, offset=k) for k in (-1, 0, 1)) / cells.sum()
    axes.set_title(f"{100 * right:.0f} % in the same range, {100 * near:.0f} % at most one off", fontsize=10)
    return figure


def draw_precision_recall(
    evaluation: Evaluation, target: str = "f1", *, threshold: float = 0.5, axes: Axes | None = None
) -> Figure:
    """Precision against recall of telling scores of at least a threshold from their estimates.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    threshold
        Of the measured score.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        The star marks the same threshold of the estimate; the dashed line guesses at random.
    """
    figure, axes = place(axes, (5.0, 4.4))
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    rows = [h for h in (held_rows(p, target) for p in evaluation.repeats) if len(h.value)]
    told = [classify(h.value, h.truth, threshold) for h in rows]
    if not told or told[0].share == 0:
        return say_nothing(figure, axes)
    curves = [precision_recall(h.value, h.truth, threshold) for h in rows]
    for curve in curves:
        axes.plot(curve.x, curve.y, color=ACCENT, linewidth=1.4, alpha=max(0.25, 1 / len(curves)))
    axes.axhline(told[0].share, color=QUIET, linestyle="--", linewidth=1, label="guessing at random")
    precision, recall = (float(np.mean([getattr(t, n) for t in told])) for n in ("precision", "recall"))
    axes.plot(recall, precision, "*", color="#b5712c", markersize=13, label=f"estimate ≥ {threshold:g}")
    axes.set_title(
        f"telling {LABELS[target]} ≥ {threshold:g}: precision {precision:.3f}, recall {recall:.3f}",
        fontsize=10,
    )
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def draw_classification(
    evaluation: Evaluation,
    target: str = "f1",
    *,
    measures: Sequence[str] = ("precision", "recall", "f1", "accuracy"),
    axes: Axes | None = None,
) -> Figure:
    """How well scores of at least a threshold are told, against the threshold.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    measures
        Among precision, recall, f1 and accuracy of the telling.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Dashed: what guessing at random reaches, the same for precision, recall and F1.
    """
    figure, axes = place(axes, (5.2, 4.2))
    axes.set(xlabel=f"threshold of {LABELS[target]}", ylim=(0, 1.02), xlim=(0.05, 0.95))
    rows = [h for h in (held_rows(p, target) for p in evaluation.repeats) if len(h.value)]
    if not rows:
        return say_nothing(figure, axes)
    thresholds = np.arange(1, 10) / 10
    told = [[classify(h.value, h.truth, float(t)) for h in rows] for t in thresholds]
    looks = {
        "precision": ("s", "#4a78b5"),
        "recall": ("^", "#b5712c"),
        "f1": ("o", "#3a8f5c"),
        "accuracy": ("D", "#8a5aa8"),
    }
    for name in measures:
        # 0/0 in one repeat makes the mean NaN: no dot rather than a wrong one.
        mean = [float(np.mean([getattr(t, name) for t in ts])) for ts in told]
        marker, colour = looks[name]
        label = "F1 of the telling" if name == "f1" else name
        axes.plot(thresholds, mean, f"{marker}-", color=colour, markersize=4, linewidth=1.2, label=label)
    chances = [("share", "at random")] if set(measures) - {"accuracy"} else []
    chances += [("chance_accuracy", "accuracy at random")] if "accuracy" in measures else []
    for (name, label), colour in zip(chances, (QUIET, looks["accuracy"][1]), strict=False):
        chance = [getattr(ts[0], name) for ts in told]
        axes.plot(thresholds, chance, linestyle="--", color=colour, linewidth=1, label=label)
    axes.set_title(f"telling {LABELS[target]} of at least a threshold", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure
