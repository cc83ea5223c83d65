"""Classes, poses and factors of particles: manifolds, confusion, accuracy under disorder, crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from passband.drawing.saving import CLASS_COLOURS, QUIET, place
from passband.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>"
_MANY = 3000


@dataclass(frozen=True, kw_only=True, eq=False)
class AccuracyLine:
    """Accuracy of one method over a disorder.

    Parameters
    ----------
    name
        In the legend.
    disorder, accuracy
        Of each point, (n,); accuracies in [0, 1].
    low, high
        Of a band around it, (n,), or None.
    published
        Whether others reported it: drawn as hollow points.
    """

    name: str
    disorder: Float[np.ndarray, " n"]
    accuracy: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"] | None = None
    high: Float[np.ndarray, " n"] | None = None
    published: bool = False

    def __post_init__(self) -> None:
        n, parts = len(self.disorder), (self.accuracy, self.low, self.high)
        if any(part is not None and len(part) != n for part in parts) or (self.low is None) != (
            self.high is None
        ):
            raise ParameterError(
                f"line {self.name!r}: wanted as many accuracies as disorders ({n}), and both ends of a band "
                "or none"
            )


def draw_manifold(
    images: Float[np.ndarray, "k n y x"],
    classes: Sequence[str],
    values: Float[np.ndarray, " n"],
    *,
    factor: str = "factor 1",
) -> Figure:
    """Each class as one factor changes.

    Parameters
    ----------
    images
        Rows are classes, columns values, in [0, 1].
    classes
        Names of the rows.
    values
        Of the factor, one a column.
    factor
        Its name.

    Returns
    -------
    Figure
        A picture with a tick for each row and column.

    Raises
    ------
    ParameterError
        If the shapes do not fit, or there is nothing to draw.
    """
    if images.ndim != 4 or images.shape[:2] != (len(classes), len(values)) or not images.size:
        raise ParameterError(
            f"manifold: images of {images.shape}, wanted ({len(classes)} classes, {len(values)} values, y, x)"
        )
    k, n, height, width = images.shape
    figure, axes = place(None, (1.2 + 0.62 * n, 0.9 + 0.62 * k * height / width))
    axes.imshow(tile_images(images), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks((np.arange(n) + 0.5) * (width + 1) - 1, [f"{v:.3g}" for v in values], fontsize=8)
    axes.set_yticks((np.arange(k) + 0.5) * (height + 1) - 1, list(classes), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(factor)
    return figure


def tile_images(images: Float[np.ndarray, "k n y x"]) -> Float[np.ndarray, "h w"]:
    """Images side by side, white lines of a pixel between them."""
    k, n = images.shape[:2]
    framed = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=1)
    whole: np.ndarray = framed.transpose(0, 2, 1, 3).reshape(k * framed.shape[2], n * framed.shape[3])
    return whole[:-1, :-1]


def draw_confusion(
    counts: Int[np.ndarray, "k k"], classes: Sequence[str], *, axes: Axes | None = None
) -> Figure:
    """How many particles of each class were called what.

    Parameters
    ----------
    counts
        Rows are true classes, columns what was said.
    classes
        Their names.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        Numbers, and shares of their rows, which are the shade; the title has the accuracy.

    Raises
    ------
    ParameterError
        If the counts are not one for each pair of classes.

    Examples
    --------
    >>> figure = draw_confusion(np.array([[3, 1], [0, 4]]), ["rod", "cube"])
    >>> figure.axes[0].get_title(), figure.axes[0].texts[1].get_text().split()
    ('7 of 8 right: accuracy 0.875', ['1', '25', '%'])
    """
    k = len(classes)
    if counts.shape != (k, k) or not k:
        raise ParameterError(
            f"confusion: counts of {counts.shape}, wanted a row and a column for each of {k} classes"
        )
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 1.6 + 0.85 * max(k, 3)
    figure, axes = place(axes, (side + 0.3, side))
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="#ffffff", linewidth=1)
    for (i, j), count in np.ndenumerate(counts):
        words = f"{count}\n{100 * share[i, j]:.3g} %" if count else "0"
        colour = "#fefefe" if share[i, j] > 0.55 else "#111111"
        axes.text(j + 0.5, i + 0.5, words, ha="center", va="center", color=colour, fontsize=9)
    at = np.arange(k) + 0.5
    axes.set_xticks(at, list(classes), fontsize=9, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(at, list(classes), fontsize=9)
    axes.set(xlabel="said", ylabel="true", aspect="equal")
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    right, total = int(np.trace(counts)), int(counts.sum())
    said = f"{right} of {total} right" + (f": accuracy {right / total:.3f}" if total else "")
    axes.set_title(said, fontsize=10)
    return figure


def draw_accuracy_curve(
    lines: Sequence[AccuracyLine], *, disorder: str = "greatest turn (degrees)", axes: Axes | None = None
) -> Figure:
    """Accuracy against a disorder.

    Parameters
    ----------
    lines
        At least one; their bands are shaded, published ones are hollow points.
    disorder
        Name and unit of the horizontal axis.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        The accuracy axis begins below the least value drawn.

    Raises
    ------
    ParameterError
        If there is no line.
    """
    if not lines:
        raise ParameterError("accuracy over disorder: no line came, wanted at least one")
    figure, axes = place(axes, (5.6, 4.0))
    least = 1.0
    for i, line in enumerate(lines):
        colour, marker = CLASS_COLOURS[i % len(CLASS_COLOURS)], _MARKERS[i % len(_MARKERS)]
        order = np.argsort(line.disorder, kind="stable")
        x, y = line.disorder[order], line.accuracy[order]
        face, style = ("none", "") if line.published else (colour, "-")
        axes.plot(
            x, y, linestyle=style, marker=marker, color=colour, markerfacecolor=face, markersize=5,
            linewidth=1.4, label=line.name,
        )  # fmt: skip
        least = min(least, float(y.min())) if y.size else least
        if line.low is not None and line.high is not None:
            low, high = line.low[order], line.high[order]
            if line.published:
                bars = np.maximum(0, [y - low, high - y])
                axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=1, capsize=2)
            else:
                axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            least = min(least, float(low.min())) if low.size else least
    bottom = max(0.0, np.floor(20 * least - 0.2) / 20)
    axes.set(xlabel=disorder, ylabel="accuracy", ylim=(bottom, 1 + 0.02 * (1 - bottom)))
    axes.grid(axis="y", color=QUIET, alpha=0.2, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def draw_accuracy_map(
    accuracy: Float[np.ndarray, "s a"],
    shear: Float[np.ndarray, " s"],
    angle: Float[np.ndarray, " a"],
    *,
    published: Float[np.ndarray, "s a"] | None = None,
) -> Figure:
    """Accuracy over shear and angle as a map with numbers.

    Parameters
    ----------
    accuracy
        In [0, 1]; what is not known is NaN.
    shear, angle
        Of the rows and columns, degrees.
    published
        The same from others, drawn beside it on the same colours.

    Returns
    -------
    Figure
        One map, or two; numbers are percent.

    Raises
    ------
    ParameterError
        If the shapes do not fit.
    """
    from matplotlib.figure import Figure

    maps = {"accuracy here": accuracy} | ({} if published is None else {"published": published})
    wrong = [
        f"{name} {values.shape}" for name, values in maps.items() if values.shape != (len(shear), len(angle))
    ]
    known = [values[np.isfinite(values)] for values in maps.values()]
    if wrong or not sum(v.size for v in known):
        raise ParameterError(
            f"map of accuracy: {', '.join(wrong) or 'no number'}; wanted numbers of ({len(shear)} shears, "
            f"{len(angle)} angles)"
        )
    low = float(min(v.min() for v in known if v.size))
    width = 1.2 + 0.62 * len(angle)
    figure = Figure(figsize=(width * len(maps) + 1, 1.3 + 0.45 * len(shear)), layout="constrained")
    grid = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    for axes, (name, values) in zip(grid, maps.items(), strict=True):
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(values),
            cmap="viridis",
            vmin=low,
            vmax=1,
            edgecolors="#ffffff",
            linewidth=0.6,
        )
        for (i, j), value in np.ndenumerate(values):
            words = f"{100 * value:.1f}" if np.isfinite(value) else "?"
            colour = "#fefefe" if np.isfinite(value) and value < (low + 1.2) / 2.2 else "#111111"
            axes.text(j + 0.5, i + 0.5, words, ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(np.arange(len(angle)) + 0.5, [f"{v:g}" for v in angle], fontsize=8)
        axes.set_yticks(np.arange(len(shear)) + 0.5, [f"{v:g}" for v in shear], fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="greatest turn (degrees)")
        axes.set_title(name, fontsize=10)
    grid[0].set_ylabel("greatest shear (degrees)")
    bar = figure.colorbar(mesh, ax=list(grid), pad=0.02)
    bar.set_label("accuracy")
    bar.outline.set_visible(False)
    return figure


def draw_latent_map(
    latent: Float[np.ndarray, "n 2"],
    label: Int[np.ndarray, " n"],
    classes: Sequence[str],
    *,
    names: tuple[str, str] = ("factor 1", "factor 2"),
    axes: Axes | None = None,
) -> Figure:
    """Two factors of particles, coloured by class.

    Parameters
    ----------
    latent
        The two factors.
    label
        Number of each particle's class; another number is none of them, and grey.
    classes
        Their names.
    names
        Of the factors.
    axes
        To draw on; a new figure's otherwise.

    Returns
    -------
    Figure
        With a legend of the classes that occur, and how many there are of each.

    Raises
    ------
    ParameterError
        If there is not one class for each pair of factors.
    """
    if latent.ndim != 2 or latent.shape != (len(label), 2):
        raise ParameterError(f"map of factors: {latent.shape} for {len(label)} classes, wanted (n, 2) and n")
    figure, axes = place(axes, (5.4, 4.8))
    others = (label < 0) | (label >= len(classes))
    looks = [("none of them", others, QUIET, "x")]
    looks += [
        (name, label == k, CLASS_COLOURS[k % len(CLASS_COLOURS)], _MARKERS[k // len(CLASS_COLOURS) % 10])
        for k, name in enumerate(classes)
    ]
    for name, mine, colour, marker in looks:
        if mine.any():
            axes.scatter(
                latent[mine, 0], latent[mine, 1], s=12, color=colour, marker=marker, alpha=0.6,
                linewidths=1 if marker == "x" else 0, label=f"{name} ({mine.sum()})",
                rasterized=len(label) > _MANY,
            )  # fmt: skip
    axes.set(xlabel=names[0], ylabel=names[1])
    if len(label):
        axes.legend(frameon=False, fontsize=8, loc="best", markerscale=1.5)
    return figure
