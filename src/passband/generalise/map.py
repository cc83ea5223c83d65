"""The generalisation map: the mean score of the networks of each training condition, by test condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

from passband.drawing.saving import place
from passband.errors import ParameterError
from passband.generalise.conditions import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "defocus_nm": "underfocus, nm",
    "cs_mm": "Cs, mm",
    "focal_spread": "focal spread, Å",
    "dose": "dose, e/Å²",
    "materials": "material",
    "diameter_nm": "diameter, nm",
    "dataset": "dataset",
    "network": "network",
    "astigmatism_nm": "astigmatism, nm",
    "jitter_nm": "jitter of defocus, nm",
    "cs_jitter_mm": "jitter of Cs, mm",
    "focal_spread_jitter": "jitter of focal spread, Å",
    "dose_factor": "factor of dose",
}
"""Of the axes, in words."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneralisationMap:
    """Scores of networks, by what they were trained and tested under.

    Parameters
    ----------
    train, test
        Columns of the conditions: those whose values differ, or the first.
    train_values, test_values
        Of each condition, a value for each of these columns, in the order of the map.
    mean
        Mean score (training conditions, test conditions); NaN where there is none.
    deviation
        Standard deviation between the networks of a training condition; NaN of fewer than two.
    count
        Networks.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    train_values: tuple[tuple[Any, ...], ...]
    test_values: tuple[tuple[Any, ...], ...]
    mean: Float64[np.ndarray, "a b"]
    deviation: Float64[np.ndarray, "a b"]
    count: Int64[np.ndarray, "a b"]

    @property
    def train_names(self) -> list[str]:
        """A few letters for each training condition."""
        return [", ".join(map(_short, v)) for v in self.train_values]

    @property
    def test_names(self) -> list[str]:
        """A few letters for each test condition."""
        return [", ".join(map(_short, v)) for v in self.test_values]


def generalisation_map(rows: Sequence[Mapping[str, Any]], score: str = "f1") -> GeneralisationMap:
    """The map of a study's rows.

    Parameters
    ----------
    rows
        As `export.study_rows` gives them.
    score
        "f1" or "loss", or what else the rows hold.

    Raises
    ------
    ParameterError
        If there is no row, or none holds such a score.

    Examples
    --------
    >>> rows = [
    ...     {"train_defocus_nm": t, "test_defocus_nm": 10.0, "seed": s, "f1": 0.8 + s / 10}
    ...     for t in (-10.0, 10.0) for s in (0, 1)
    ... ]
    >>> generalisation_map(rows).mean.round(3).tolist()
    [[0.85], [0.85]]
    """
    if not rows or score not in rows[0]:
        raise ParameterError(f"a map needs rows that hold {score!r}, got {len(rows)} rows")
    sides = {side: _columns(rows, side) for side in ("train", "test")}
    values = {
        side: tuple(sorted({tuple(row[c] for c in columns) for row in rows}))
        for side, columns in sides.items()
    }
    places = {side: {v: i for i, v in enumerate(values[side])} for side in values}
    shape = len(values["train"]), len(values["test"])
    found: list[list[list[float]]] = [[[] for _ in range(shape[1])] for _ in range(shape[0])]
    for row in rows:
        i, j = (places[side][tuple(row[c] for c in sides[side])] for side in ("train", "test"))
        found[i][j].append(float(row[score]))
    return GeneralisationMap(
        train=sides["train"],
        test=sides["test"],
        train_values=values["train"],
        test_values=values["test"],
        mean=_each(found, lambda cell: float(np.mean(cell)) if cell else np.nan),
        deviation=_each(found, lambda cell: float(np.std(cell, ddof=1)) if len(cell) > 1 else np.nan),
        count=np.array([[len(cell) for cell in line] for line in found], np.int64),
    )


def draw_map(of: GeneralisationMap, *, score: str = "F1", axes: Axes | None = None) -> Figure:
    """The map as colours with numbers: a row for each training condition.

    Parameters
    ----------
    of
        The map.
    score
        What is drawn, in words.
    axes
        To draw on; a new figure's otherwise.
    """
    rows, columns = of.mean.shape
    figure, axes = place(axes, (1.8 + 0.55 * max(columns, 5), 1.6 + 0.42 * max(rows, 3)))
    image = axes.imshow(of.mean, cmap="viridis", aspect="auto")
    low, high = image.get_clim()
    for (i, j), value in np.ndenumerate(of.mean):
        if np.isfinite(value) and of.mean.size <= 600:
            dark = (value - low) < 0.6 * (high - low)
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", size=8, color="w" if dark else "k")
    axes.set_xticks(range(columns), of.test_names, rotation=0 if columns <= 12 else 90, size=8)
    axes.set_yticks(range(rows), of.train_names, size=8)
    axes.set_xlabel(f"tested at {_axis(of.test)}")
    axes.set_ylabel(f"trained at {_axis(of.train)}")
    axes.set_title(f"Mean {score} of {_networks(of)}", size=10)
    figure.colorbar(image, ax=axes, label=score)
    return figure


def draw_curves(of: GeneralisationMap, *, score: str = "F1", axes: Axes | None = None) -> Figure:
    """The score over the first test axis, a line for each training condition, bands of one deviation.

    Parameters
    ----------
    of
        The map.
    score
        What is drawn, in words.
    axes
        To draw on; a new figure's otherwise.
    """
    import matplotlib

    figure, axes = place(axes, (7.0, 4.4))
    numbers = all(isinstance(v[0], int | float) for v in of.test_values) and len(of.test) == 1
    x = np.array([v[0] for v in of.test_values], float) if numbers else np.arange(len(of.test_values))
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.9, len(of.train_values)))
    for i, name in enumerate(of.train_names):
        axes.plot(x, of.mean[i], "o-", color=colours[i], ms=4, label=name)
        spread = np.nan_to_num(of.deviation[i])
        axes.fill_between(x, of.mean[i] - spread, of.mean[i] + spread, color=colours[i], alpha=0.15, lw=0)
    if not numbers:
        axes.set_xticks(x, of.test_names, rotation=45, ha="right")
    axes.set_xlabel(f"tested at {_axis(of.test)}")
    axes.set_ylabel(score)
    axes.set_title(f"{score} by where {_networks(of)} were trained", size=10)
    if len(of.train_values) <= 12:
        axes.legend(title=f"trained at {_axis(of.train)}", frameon=False, fontsize=8, title_fontsize=8)
    return figure


def _columns(rows: Sequence[Mapping[str, Any]], side: str) -> tuple[str, ...]:
    known = [*(f.name for f in fields(Point)), "network"]
    names = [f"{side}_{n}" for n in known if f"{side}_{n}" in rows[0]]
    turning = tuple(n for n in names if len({row[n] for row in rows}) > 1)
    return turning or tuple(names[:1])


def _each(found: list[list[list[float]]], what: Any) -> np.ndarray:
    return np.array([[what(cell) for cell in line] for line in found], float)


def _axis(columns: tuple[str, ...]) -> str:
    return "; ".join(NAMES[c.split("_", 1)[1]] for c in columns)


def _networks(of: GeneralisationMap) -> str:
    few, many = int(of.count.min()), int(of.count.max())
    each = f"{many}" if few == many else f"{few} to {many}"
    return f"{each} network{'s' * (many != 1)} of each condition"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
