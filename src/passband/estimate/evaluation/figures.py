"""What an `Evaluation` holds as figures.

Points are those of its first repeat; curves and means are averages over all repeats. A row without an
estimate in a repeat is left out of it. A row on which the model abstained is drawn apart where rows are
drawn, and is in no curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from passband.drawing.saving import ACCENT, QUIET, place
from passband.errors import ParameterError
from passband.estimate.evaluation.diagnostics import kept_means
from passband.estimate.evaluation.metrics import Evaluation, Predictions
from passband.estimate.regressor import TARGETS
from passband.types import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"f1": "F1", "precision": "precision", "recall": "recall"}
GROUP_COLOURS = ("#3a8f5c", "#4a78b5", "#b5712c", "#8a5aa8")
_MARKERS = "osD^vP*X<>"
_MANY = 3000


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """The rows of one repeat that have an estimate of one score.

    Parameters
    ----------
    value, low, high, truth
        float64 (n,); low and high are NaN without intervals.
    domains
        Of each row, text (n,).
    """

    value: Vector
    low: Vector
    high: Vector
    truth: Vector
    domains: np.ndarray


def held_rows(predictions: Predictions, target: str = "f1", *, abstained: bool = False) -> Held:
    """Rows of one repeat that have an estimate.

    Parameters
    ----------
    predictions
        Of one repeat.
    target
        One of `TARGETS`.
    abstained
        Give those on which the model abstained instead of all others.

    Returns
    -------
    Held
        Perhaps no row.

    Raises
    ------
    ParameterError
        If there is no such target.
    """
    if target not in TARGETS:
        raise ParameterError(f"target must be one of {list(TARGETS)}, got {target!r}")
    p, j = predictions, TARGETS.index(target)
    kept = np.isfinite(p.value[:, j]) & (p.abstained == abstained)
    return Held(
        value=p.value[kept, j],
        low=p.low[kept, j],
        high=p.high[kept, j],
        truth=p.truth[kept, j],
        domains=np.asarray(p.domains)[kept],
    )


def draw_estimates(evaluation: Evaluation, target: str = "f1", *, axes: Axes | None = None) -> Figure:
    """Estimated against measured scores, a dot for each row of the first repeat.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        A colour for each domain; crosses are rows on which the model abstained; the title has the errors,
        means over the repeats.
    """
    h, apart = (held_rows(evaluation.repeats[0], target, abstained=a) for a in (False, True))
    figure, axes = place(axes, (5.0, 5.4))
    _diagonal(axes)
    for domain, look in _looks(evaluation).items():
        mine = h.domains == domain
        if mine.any():
            axes.scatter(
                h.truth[mine], h.value[mine], s=14, alpha=0.65, linewidths=0, label=domain,
                rasterized=len(h.value) > _MANY, color=look["color"], marker=look["marker"],
            )  # fmt: skip
    if len(apart.value):
        axes.scatter(
            apart.truth, apart.value, s=16, marker="x", color=QUIET, linewidths=0.8, label="abstained"
        )
    axes.set(xlabel=f"measured {LABELS[target]}", ylabel=f"estimated {LABELS[target]}")
    m = evaluation.overall[target]
    if not len(h.value):
        return say_nothing(figure, axes)
    axes.set_title(f"MAE {m.mae:.3f}, RMSE {m.rmse:.3f}, R² {m.r2:.3f}, n = {m.n}", fontsize=10)
    _list_domains(axes)
    return figure


def domain_means(evaluation: Evaluation, target: str = "f1") -> dict[str, Vector]:
    """Mean measured and mean estimated score of each domain.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.

    Returns
    -------
    dict of str to ndarray
        For each domain, float64 (4,): means of what was measured and estimated, then their standard
        deviations over rows; averages over the repeats.
    """
    each: dict[str, list[list[float]]] = {}
    for p in evaluation.repeats:
        h = held_rows(p, target)
        for domain in np.unique(h.domains).tolist():
            mine = h.domains == domain
            columns = (h.truth[mine], h.value[mine])
            each.setdefault(domain, []).append(
                [*(float(c.mean()) for c in columns), *(float(c.std()) for c in columns)]
            )
    return {domain: np.mean(each[domain], axis=0) for domain in sorted(each)}


def draw_domain_means(evaluation: Evaluation, target: str = "f1", *, axes: Axes | None = None) -> Figure:
    """Mean estimated against mean measured score of each domain.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Bars are standard deviations over the rows of a domain; the title has the errors of the means.
    """
    means = domain_means(evaluation, target)
    figure, axes = place(axes, (5.0, 5.4))
    _diagonal(axes)
    for domain, look in _looks(evaluation).items():
        if domain in means:
            x, y, dx, dy = means[domain]
            axes.errorbar(
                x, y, xerr=dx, yerr=dy, fmt=look["marker"], color=look["color"], elinewidth=0.7, markersize=6,
                label=domain,
            )  # fmt: skip
    axes.set(xlabel=f"mean measured {LABELS[target]}", ylabel=f"mean estimated {LABELS[target]}")
    if means:
        truth, value = np.array(list(means.values()))[:, :2].T
        error = value - truth
        r2 = 1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum() if np.ptp(truth) else math.nan
        words = f"of the means: MAE {np.abs(error).mean():.3f}, RMSE {np.sqrt((error**2).mean()):.3f}"
        axes.set_title(words + (f", R² {r2:.3f}" if math.isfinite(r2) else ""), fontsize=10)
        _list_domains(axes)
    return figure


def draw_scores(
    evaluation: Evaluation,
    target: str = "f1",
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Histogram of the measured scores.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    target
        One of `TARGETS`.
    groups
        Domains by the name of their group, at most four, stacked in its colour; all together otherwise.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        In bins of 0.1.
    """
    p = evaluation.repeats[0]
    truth, domains = p.truth[:, TARGETS.index(target)], np.asarray(p.domains)
    figure, axes = place(axes, (5.2, 3.8))
    parts = [truth] if groups is None else [truth[np.isin(domains, names)] for names in groups.values()]
    colours = [ACCENT] if groups is None else list(GROUP_COLOURS[: len(parts)])
    labels = None if groups is None else [f"{n} (n = {len(t)})" for n, t in zip(groups, parts, strict=True)]
    axes.hist(
        parts, bins=np.linspace(0, 1, 11).tolist(), stacked=True, color=colours, label=labels, rwidth=0.94
    )
    axes.set(xlabel=f"measured {LABELS[target]}", ylabel="rows", xlim=(0, 1))
    axes.set_title(f"mean {truth.mean():.3f}, standard deviation {truth.std():.3f}", fontsize=10)
    if labels:
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def draw_rejection(
    evaluation: Evaluation, target: str = "f1", *, by: str = "width", axes: Axes | None = None
) -> Figure:
    """What is left when the most doubtful rows are dropped first.

    Parameters
    ----------
    evaluation
        Of any model under any protocol; ``by="width"`` wants one with intervals.
    target
        One of `TARGETS`.
    by
        "width": rows of wide intervals go first, and the mean absolute error of the rest is drawn.
        "estimate": rows of low estimates go first, and the mean measured score of the rest is drawn, the
        rejection of Lynch et al., arXiv:2408.01558.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Beside the line: dropping at random, and by what was measured, which nothing can beat.

    Raises
    ------
    ParameterError
        If ``by`` is neither.
    """
    if by not in ("width", "estimate"):
        raise ParameterError(f"by must be 'width' or 'estimate', got {by!r}")
    doubt: Callable[[Held], Vector] = (lambda h: h.high - h.low) if by == "width" else (lambda h: -h.value)
    cost: Callable[[Held], Vector] = (
        (lambda h: np.abs(h.value - h.truth)) if by == "width" else (lambda h: h.truth)
    )
    best: Callable[[Held], Vector] = cost if by == "width" else (lambda h: -h.truth)
    figure, axes = place(axes, (5.2, 4.0))
    what = "mean absolute error" if by == "width" else f"mean measured {LABELS[target]}"
    axes.set(xlabel="share of the rows dropped", ylabel=f"{what} of the rest", xlim=(0, 0.9))
    rows = [held_rows(p, target) for p in evaluation.repeats]
    rows = [h for h in rows if len(h.value) and np.isfinite(doubt(h)).all()]
    if not rows:
        return say_nothing(figure, axes)
    kept = np.linspace(0.1, 1, 91)

    def line(rank: Callable[[Held], Vector]) -> Vector:
        curves = [kept_means(rank(h), cost(h)) for h in rows]
        return np.asarray(np.mean([np.interp(kept, c.x, c.y) for c in curves], axis=0), np.float64)

    by_doubt, name = line(doubt), "width of the interval" if by == "width" else f"estimated {LABELS[target]}"
    axes.plot(1 - kept, by_doubt, color=ACCENT, linewidth=1.6, label=f"by the {name}")
    axes.plot(1 - kept, line(best), color=QUIET, linewidth=1, linestyle=":", label="by what was measured")
    axes.axhline(by_doubt[-1], color=QUIET, linewidth=1, linestyle="--", label="at random")
    quarter = float(np.interp(0.75, kept, by_doubt))
    axes.set_title(f"all rows: {by_doubt[-1]:.3f}; without the worst quarter: {quarter:.3f}", fontsize=10)
    axes.set_ylim(0, 1.25 * float(by_doubt.max()) if by == "width" else 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower left" if by == "width" else "lower right")
    return figure


def draw_coverage(evaluation: Evaluation, target: str = "f1", *, axes: Axes | None = None) -> Figure:
    """Share of the rows of each domain whose interval holds the measured score, and how wide it is.

    Parameters
    ----------
    evaluation
        With intervals; without, the axes say so.
    target
        One of `TARGETS`.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Bars are 95 % binomial (Wilson) intervals; the line is the coverage that is meant.
    """
    measured = {n: m for n, m in evaluation.domains[target].items() if math.isfinite(m.coverage)}
    figure, axes = place(axes, (5.8, 1.4 + 0.32 * max(2, len(measured))))
    axes.set(xlim=(0, 1.02), xlabel="share of intervals that hold the measured score")
    if evaluation.nominal is None or not measured:
        return say_nothing(figure, axes)
    axes.axvline(evaluation.nominal, color=QUIET, linestyle="--", linewidth=1)
    order = sorted(measured, key=lambda n: measured[n].coverage, reverse=True)
    for y, name in enumerate(order):
        m = measured[name]
        low, high = wilson(m.coverage, m.n)
        bars = [[max(0, m.coverage - low)], [max(0, high - m.coverage)]]
        axes.errorbar(m.coverage, y, xerr=bars, fmt="o", color=ACCENT, markersize=5, capsize=3, elinewidth=1)
    labels = [f"{n} (n = {measured[n].n}, width {measured[n].mean_width:.2f})" for n in order]
    axes.set_yticks(range(len(order)), labels, fontsize=8)
    axes.set_ylim(-0.6, len(order) - 0.4)
    m = evaluation.overall[target]
    axes.set_title(
        f"all: {m.coverage:.2f} hold, meant {evaluation.nominal:g}; mean width {m.mean_width:.2f}",
        fontsize=10,
    )
    return figure


def wilson(share: float, n: int) -> tuple[float, float]:
    """Ends of the 95 % Wilson interval of a share.

    Parameters
    ----------
    share
        Found, in [0, 1].
    n
        Among how many.

    Returns
    -------
    tuple of float and float
        Lower and upper end.

    References
    ----------
    E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927), doi:10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> low, high = wilson(0.9, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    z = 1.959964
    middle, scale = share + z**2 / (2 * n), 1 + z**2 / n
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / scale, (middle + half) / scale


def _looks(evaluation: Evaluation) -> dict[str, dict[str, str]]:
    """Colour and marker of each domain, the same in every figure."""
    import matplotlib
    from matplotlib.colors import to_hex

    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    names = sorted(set(evaluation.repeats[0].domains))
    return {
        n: {"color": str(to_hex(colours[i % 10])), "marker": _MARKERS[(i + i // 10) % len(_MARKERS)]}
        for i, n in enumerate(names)
    }


def _list_domains(axes: Axes) -> None:
    """A legend below the axes, where it hides no dot."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(
        frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4,
        handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def say_nothing(figure: Figure, axes: Axes) -> Figure:
    """Axes that say that there is nothing to draw."""
    axes.text(0.5, 0.5, "not measured here", transform=axes.transAxes, ha="center", color=QUIET)
    axes.set(xticks=[], yticks=[])
    return figure
