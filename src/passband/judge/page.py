"""The page itself: headline, table of all micrographs, and their sheets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from passband.drawing.html import data_address, page, short_paths
from passband.drawing.parts import Chart, embed
from passband.drawing.thumbnails import outlined, within_budget
from passband.estimate.calibration import Estimate, HeldOutScores
from passband.estimate.evaluation.score_figures import draw_reliability
from passband.judge.sheet import Sheet, density_text, grades, score_colours, sheet_parts
from passband.judge.verdict import Verdict
from passband.words import counted, number_text

TOLD = {"trust": "trusted", "review": "to review", "reject": "rejected"}
"""Verdicts in the order of the page, and how its headline tells them."""
SORTED_BY = "Estimated F1"
TOOLTIP_BUDGET = 20_000
"""Outlines that get a tooltip each; a page with more joins them by score, or browsers choke."""
SMALL, SMALLEST, MANY = 144, 72, 300
"""Longer side of the picture in a row, pixels; with more than so many micrographs the smaller."""
OPEN_SHEETS = 12
"""A page with at most this many micrographs shows them all unfolded."""


def report_page(
    sheets: Sequence[Sheet],
    *,
    errors: Sequence[tuple[str, str]] = (),
    subtitle: str = "",
    calibrated: HeldOutScores | None = None,
    notes: Sequence[str] = (),
    headline: str = "",
) -> str:
    """The self-contained HTML page.

    Parameters
    ----------
    sheets
        In any order; the page sorts by estimated F1, the worst first.
    errors
        Pairs of a path and what was wrong with it.
    subtitle
        A line about the bundle, say.
    calibrated
        What the calibration said of rows that it had not seen, to be drawn.
    notes
        What was made of the files given, a sentence each.
    headline
        In place of the number of micrographs.

    Returns
    -------
    str
        The same for the same arguments.
    """
    order = sorted(range(len(sheets)), key=lambda i: (_sort_value(sheets[i].verdict), i))
    pictures = within_budget([sheets[i].picture for i in order])
    ordered = [(i, replace(sheets[i], picture=p)) for i, p in zip(order, pictures, strict=True)]
    counts: Counter[str] = Counter(s.verdict.verdict for s in sheets)
    tooltips = sum(len(s.verdict.detections) for s in sheets) <= TOOLTIP_BUDGET
    columns, rows = _table(ordered)
    return page(
        "judge/page.html",
        title=f"Passband: {counted(len(sheets), 'micrograph')}",
        headline=headline or counted(len(sheets) + len(errors), "micrograph"),
        unfinished=bool(headline),
        told=[f"{counts[v]} {word}" for v, word in TOLD.items() if counts[v]],
        subtitle=_subtitle(sheets, subtitle),
        counts=[(v, counts[v]) for v in TOLD if counts[v]],
        caption=_caption(sheets),
        columns=columns,
        sorted_by=SORTED_BY,
        rows=rows,
        errors=errors,
        notes=notes,
        sheets=[sheet_parts(i, s, tooltips=tooltips) for i, s in ordered],
        unfolded=len(sheets) <= OPEN_SHEETS,
        reliability=_reliability(calibrated),
        footer=_footer(tooltips) if sheets else "",
        colours=score_colours(10),
    )


class Cell(NamedTuple):
    """A cell of the table: what it says, what it sorts by, and the estimate that is drawn in it."""

    words: str
    value: float | None
    estimate: Estimate | None = None


NONE = Cell("\N{EN DASH}", None)


class Row(NamedTuple):
    """A micrograph in the table; ``rank`` is what its verdict sorts by, ``small`` its picture's address."""

    verdict: Verdict
    rank: int
    anchor: str
    name: str
    small: str
    cells: list[Cell]


def _score_cell(v: Verdict, name: str, *, drawn: bool = False) -> Cell:
    e = v.estimates.get(name)
    return NONE if e is None else Cell(f"{e.value:.2f}", e.value, e if drawn else None)


def _diameter_cell(v: Verdict) -> Cell:
    nm, diameters = v.sizes.diameters_nm, v.sizes.diameters
    if len(diameters) == 0:
        return NONE
    middle = float(np.median(diameters if nm is None else nm))
    return Cell(f"{number_text(middle)} {'px' if nm is None else 'nm'}", middle)


def _density_cell(v: Verdict) -> Cell:
    density = v.sizes.density
    return NONE if density is None else Cell(density_text(density), density)


def _swelling_cell(v: Verdict) -> Cell:
    swelling = v.sizes.swelling_percent
    return NONE if swelling is None else Cell(f"{swelling:.2g} %", swelling)


COLUMNS: dict[str, Callable[[Verdict], Cell]] = {
    SORTED_BY: partial(_score_cell, name="f1", drawn=True),
    "Precision": partial(_score_cell, name="precision"),
    "Recall": partial(_score_cell, name="recall"),
    "Objects": lambda v: Cell(str(len(v.detections)), len(v.detections)),
    "Median ⌀": _diameter_cell,
    "Density": _density_cell,
    "Swelling": _swelling_cell,
}
"""The columns of numbers; one without any number is left out."""


def _table(sheets: Sequence[tuple[int, Sheet]]) -> tuple[list[str], list[Row]]:
    """Headings of the columns of numbers, and rows of the table of all micrographs."""
    verdicts = [s.verdict for _, s in sheets]
    all_cells = {name: [cell(v) for v in verdicts] for name, cell in COLUMNS.items()}
    shown = {n: c for n, c in all_cells.items() if any(cell.value is not None for cell in c)}
    _, names = short_paths([v.path for v in verdicts])
    side = SMALL if len(sheets) <= MANY else SMALLEST
    rows, colours = [], score_colours(10)
    for k, ((i, sheet), name) in enumerate(zip(sheets, names, strict=True)):
        v = sheet.verdict
        drawn = outlined(sheet.picture, [colours[grade] for grade in grades(v.detections.scores)], side)
        small = data_address(drawn, "image/webp")
        cells = [cells[k] for cells in shown.values()]
        rows.append(Row(v, list(TOLD).index(v.verdict), f"m{i}", name, small, cells))
    return list(shown), rows


def _sort_value(v: Verdict) -> float:
    return v.estimates["f1"].value if v.estimates else -1.0


def _subtitle(sheets: Sequence[Sheet], subtitle: str) -> str:
    folder, _ = short_paths([s.verdict.path for s in sheets])
    return " · ".join(words for words in (f"Folder {folder}" if folder else "", subtitle) if words)


def _caption(sheets: Sequence[Sheet]) -> str:
    covers = {round(100 * v.verdict.estimates["f1"].coverage) for v in sheets if v.verdict.estimates}
    cover = f" Intervals are meant to hold the true value in {min(covers)} % of cases." if covers else ""
    cover += (
        " Those of diameter, density and swelling are of 90 % and allow for chance in what the image shows,"
    )
    cover += " not for what was missed or wrongly found."
    return "Scores are estimates made without labels, the worst F1 first; click a heading to sort." + cover


def _footer(tooltips: bool) -> str:
    joined = "" if tooltips else " Outlines are too many for a tooltip each; objects.csv lists every object."
    return (
        "Beside this page: results.csv (one line per micrograph), objects.csv (one per object), "
        "detections.coco.json and results.json." + joined
    )


def _reliability(calibrated: HeldOutScores | None) -> Chart | None:
    """How far estimates can be believed: the calibration's own, of rows left out of it."""
    if calibrated is None or not len(calibrated.measured):
        return None
    drawn = draw_reliability(calibrated.estimated[:, 0], calibrated.measured[:, 0])
    caption = (
        "What was measured on the labelled images of the calibration where some F1 was estimated, each "
        "image's domain left out of the fit. Below the diagonal estimates promise too much. Bars are 95 % "
        "bootstrap intervals of the mean; grey columns count images."
    )
    return embed(drawn, "Reliability of the calibration", caption)
