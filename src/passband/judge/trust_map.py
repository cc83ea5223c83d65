"""Where a network can be trusted: its score by focus and dose, on simulated images; its bundle carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from passband.errors import BundleError
from passband.types import Lines
from passband.units import NM
from passband.words import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from passband.judge.policy import Policy


@dataclass(frozen=True, kw_only=True, eq=False)
class TrustMap:
    """Mean pixel F1 of a network on simulated images that it was not trained on.

    Parameters
    ----------
    defocus_nm
        Columns, rising; positive is underfocus, float64 (n,).
    dose
        Rows, e/Å², float64 (m,).
    f1
        float64 (m, n), 0 to 1.
    pixel_size
        Of the images, Å, or None where it is not said.

    Raises
    ------
    BundleError
        If they do not fit together.

    Examples
    --------
    >>> known = {"defocus_nm": [-50, 50], "dose": [30, 100], "f1": [[0.0, 0.5], [0.25, 0.75]]}
    >>> trust_map({"map": known}).at(25.0), trust_map({}) is None
    ((0.375, 0.625), True)
    """

    # Plain arrays: shapes are checked below always, not by annotation in the tests only.
    defocus_nm: np.ndarray
    dose: np.ndarray
    f1: np.ndarray
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        sides = (*self.dose.shape, *self.defocus_nm.shape)
        fits = self.dose.ndim == self.defocus_nm.ndim == 1 and self.f1.shape == sides and self.f1.size > 0
        if not (fits and (np.diff(self.defocus_nm) > 0).all() and ((self.f1 >= 0) & (self.f1 <= 1)).all()):
            raise BundleError(
                f"a bundle's map needs rising defocus_nm, dose, and an f1 of 0 to 1 for each pair, got "
                f"{self.defocus_nm.shape}, {self.dose.shape} and f1 of shape {self.f1.shape}"
            )

    def at(self, defocus_nm: float) -> tuple[float, float] | None:
        """The scores at a focus with the lowest and the highest dose; None beyond the map."""
        if not self.defocus_nm[0] <= defocus_nm <= self.defocus_nm[-1]:
            return None
        rows = self.f1[[int(self.dose.argmin()), int(self.dose.argmax())]]
        low, high = (float(np.interp(defocus_nm, self.defocus_nm, row)) for row in rows)
        return low, high


def trust_map(training: Mapping[str, Any]) -> TrustMap | None:
    """The map that a bundle's training conditions hold; None where there is none.

    Raises
    ------
    BundleError
        If it is no map.
    """
    known = training.get("map")
    if known is None:
        return None
    try:
        values = {name: np.array(known[name], np.float64) for name in ("defocus_nm", "dose", "f1")}
        pixel = None if known.get("pixel_size") is None else float(known["pixel_size"])
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise BundleError(f"the map of a bundle cannot be understood: {e!r}") from e
    return TrustMap(pixel_size=pixel, **values)


def about_map(of: TrustMap, policy: Policy) -> Lines:
    """The map as a table: marked where the score would be trusted, and where rejected.

    Examples
    --------
    >>> from passband.judge.policy import DEFAULT_POLICY
    >>> known = {"defocus_nm": [-50, 50], "dose": [100], "f1": [[0.25, 0.85]]}
    >>> for name, words in about_map(trust_map({"map": known}), DEFAULT_POLICY):
    ...     print(f"{name + ':':16}{words}")
    map:            F1 of pixels, simulated; + trust, - reject
    underfocus, nm:    -50     50
    100 e/Å²:         0.25-  0.85+
    """
    at = "" if of.pixel_size is None else f" at {number_text(of.pixel_size / NM)} nm a pixel"
    lines = [("map", f"F1 of pixels, simulated{at}; + trust, - reject")]
    lines.append(("underfocus, nm", "".join(f"{number_text(d):>6} " for d in of.defocus_nm).rstrip()))
    for dose, scores in zip(of.dose, of.f1, strict=True):
        marks = ["+" if s >= policy.trust_f1 else "-" if s < policy.reject_f1 else " " for s in scores]
        cells = "".join(f"{s:>6.2f}{mark}" for s, mark in zip(scores, marks, strict=True))
        lines.append((f"{number_text(dose)} e/Å²", cells.rstrip()))
    return lines


def draw_trust_map(of: TrustMap, policy: Policy, *, axes: Axes | None = None) -> Figure:
    """The map in three colours, trust, review and reject, with its scores.

    Parameters
    ----------
    of
        The map.
    policy
        Says where scores are trusted and rejected.
    axes
        To draw on; a new figure's if not given.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap

    from passband.drawing.saving import place

    figure, axes = place(axes, (1.6 + 0.62 * max(6, len(of.defocus_nm)), 1.6 + 0.5 * len(of.dose)))
    edges = [0.0, policy.reject_f1, policy.trust_f1, 1.0 + 1e-9]
    colours = ListedColormap(["#d98c8c", "#e8d38a", "#9cc79c"])
    axes.imshow(of.f1, cmap=colours, norm=BoundaryNorm(edges, 3), aspect="auto", origin="lower")
    for (i, j), score in np.ndenumerate(of.f1):
        axes.text(j, i, f"{score:.2f}", ha="center", va="center", size=9)
    axes.set_xticks(range(len(of.defocus_nm)), [number_text(d) for d in of.defocus_nm])
    axes.set_yticks(range(len(of.dose)), [number_text(d) for d in of.dose])
    axes.set_xlabel("underfocus, nm (negative: overfocus)")
    axes.set_ylabel("dose, e/Å²")
    at = "" if of.pixel_size is None else f" at {number_text(of.pixel_size / NM)} nm a pixel"
    axes.set_title(
        f"Pixel F1 on simulated images{at}: green from {policy.trust_f1:g}, red under {policy.reject_f1:g}",
        size=10,
    )
    return figure
