"""The page itself: headline, table of all micrographs, and their sheets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from passband.drawing.html import counted, figure_html, number_text, short_paths, words_html
from passband.drawing.thumbnails import within_budget
from passband.estimate.calibration import HeldOutScores
from passband.estimate.evaluation.score_figures import draw_reliability
from passband.judge.sheet import (
    MARKS,
    Sheet,
    badge,
    density_text,
    interval_bar,
    score_colours,
    sheet_html,
)
from passband.judge.verdict import Verdict

TOOLTIP_BUDGET = 20_000
"""Outlines that get a tooltip each; a page with more joins them by score, or browsers choke."""
OPEN_SHEETS = 12
"""A page with at most this many micrographs shows them all unfolded."""


def report_page(
    sheets: Sequence[Sheet],
    *,
    errors: Sequence[tuple[str, str]] = (),
    subtitle: str = "",
    calibrated: HeldOutScores | None = None,
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

    Returns
    -------
    str
        The same for the same arguments.
    """
    order = sorted(range(len(sheets)), key=lambda i: (_sort_value(sheets[i].verdict), i))
    pictures = within_budget([sheets[i].picture for i in order])
    ordered = [(i, replace(sheets[i], picture=p)) for i, p in zip(order, pictures, strict=True)]
    counts = Counter(s.verdict.verdict for s in sheets)
    tooltips = sum(len(s.verdict.detections) for s in sheets) <= TOOLTIP_BUDGET
    columns, rows = _table(ordered)
    unfolded = len(sheets) <= OPEN_SHEETS
    colours = score_colours(10)
    text = resources.files("passband.judge").joinpath("page.html").read_text("utf-8")
    return Template(text).substitute(
        title=f"Passband: {counted(len(sheets), 'micrograph')}",
        headline=_headline(counts, len(errors)),
        subtitle=_subtitle(sheets, subtitle),
        share="".join(f'<i class="{v}" style="flex:{counts[v]}"></i>' for v in MARKS if counts[v]),
        filters="\n".join(
            f'<label><input type="checkbox" id="show-{v}" checked> {badge(v)} {counts[v]}</label>'
            for v in MARKS
            if counts[v]
        ),
        caption=_caption(sheets),
        columns=columns,
        rows=rows,
        errors=_errors(errors),
        sheets="\n".join(sheet_html(i, s, tooltips=tooltips, unfolded=unfolded) for i, s in ordered),
        reliability=_reliability(calibrated),
        footer=_footer(tooltips),
        ramp=", ".join(score_colours(6)),
        **{f"c{i}": colour for i, colour in enumerate(colours)},
    )


Cell = tuple[str, float | None]
"""What a cell of the table shows, and what it sorts by."""
NONE: Cell = ("&ndash;", None)


def _score_cell(v: Verdict, name: str) -> Cell:
    e = v.estimates.get(name)
    return NONE if e is None else (f"{e.value:.2f}", e.value)


def _f1_cell(v: Verdict) -> Cell:
    e = v.estimates.get("f1")
    if e is None:
        return NONE
    spread = f'<span class="soft">{e.low:.2f}&ndash;{e.high:.2f}</span>'
    return f"<b>{e.value:.2f}</b> {spread}{interval_bar(e)}", e.value


def _diameter_cell(v: Verdict) -> Cell:
    nm, diameters = v.sizes.diameters_nm, v.sizes.diameters
    if len(diameters) == 0:
        return NONE
    middle = float(np.median(diameters if nm is None else nm))
    return f"{number_text(middle)} {'px' if nm is None else 'nm'}", middle


def _density_cell(v: Verdict) -> Cell:
    density = v.sizes.density
    return NONE if density is None else (density_text(density), density)


def _swelling_cell(v: Verdict) -> Cell:
    swelling = v.sizes.swelling_percent
    return NONE if swelling is None else (f"{swelling:.2g} %", swelling)


COLUMNS: dict[str, Callable[[Verdict], Cell]] = {
    "Estimated F1": _f1_cell,
    "Precision": partial(_score_cell, name="precision"),
    "Recall": partial(_score_cell, name="recall"),
    "Objects": lambda v: (str(len(v.detections)), len(v.detections)),
    "Median ⌀": _diameter_cell,
    "Density": _density_cell,
    "Swelling": _swelling_cell,
}
"""The columns of numbers; one without any number is left out."""


def _table(sheets: Sequence[tuple[int, Sheet]]) -> tuple[str, str]:
    """Headings and rows of the table of all micrographs."""
    cells = {name: [cell(s.verdict) for _, s in sheets] for name, cell in COLUMNS.items()}
    shown = {n: c for n, c in cells.items() if any(value is not None for _, value in c)}
    _, names = short_paths([s.verdict.path for _, s in sheets])
    heads = ['<th scope="col"><button type="button">Verdict</button></th>']
    heads.append('<th scope="col"><button type="button">Micrograph</button></th>')
    for name in shown:
        sorted_by = ' aria-sort="ascending"' if name == "Estimated F1" else ""
        heads.append(f'<th scope="col" class="num"{sorted_by}><button type="button">{name}</button></th>')
    heads.append('<th scope="col"><button type="button">First reason</button></th>')
    rows = []
    for k, ((i, sheet), name) in enumerate(zip(sheets, names, strict=True)):
        v = sheet.verdict
        row = f'<td data-v="{list(MARKS).index(v.verdict)}">{badge(v.verdict)}</td>'
        row += f'<td class="name"><a href="#m{i}">{escape(name)}</a></td>'
        for column in shown.values():
            words, value = column[k]
            row += f'<td class="num" data-v="{"" if value is None else f"{value:.6g}"}">{words}</td>'
        row += f'<td class="why"><span>{words_html(v.reasons[0])}</span></td>'
        rows.append(f'<tr class="of-{v.verdict}">{row}</tr>')
    return "".join(heads), "\n".join(rows)


def _sort_value(v: Verdict) -> float:
    return v.estimates["f1"].value if v.estimates else -1.0


def _headline(counts: Counter[Any], failed: int) -> str:
    words = {"trust": "trusted", "review": "to review", "reject": "rejected"}
    parts = [f"{counts[v]} {word}" for v, word in words.items() if counts[v]]
    if failed:
        parts.append(f'<a href="#errors">{failed} not assessed</a>')
    return f"{counted(counts.total() + failed, 'micrograph')}: {', '.join(parts) or 'none assessed'}"


def _subtitle(sheets: Sequence[Sheet], subtitle: str) -> str:
    folder, _ = short_paths([s.verdict.path for s in sheets])
    return escape(" · ".join(words for words in (f"Folder {folder}" if folder else "", subtitle) if words))


def _caption(sheets: Sequence[Sheet]) -> str:
    covers = {round(100 * v.verdict.estimates["f1"].coverage) for v in sheets if v.verdict.estimates}
    cover = f" Intervals are meant to hold the true value in {min(covers)} % of cases." if covers else ""
    return "Scores are estimates made without labels, the worst F1 first; click a heading to sort." + cover


def _footer(tooltips: bool) -> str:
    joined = "" if tooltips else " Outlines are too many for a tooltip each; objects.csv lists every object."
    return (
        "Beside this page: results.csv (one line per micrograph), objects.csv (one per object), "
        "detections.coco.json and results.json." + joined
    )


def _reliability(calibrated: HeldOutScores | None) -> str:
    """How far estimates can be believed: the calibration's own, of rows left out of it."""
    if calibrated is None or not len(calibrated.measured):
        return ""
    drawn = draw_reliability(calibrated.estimated[:, 0], calibrated.measured[:, 0])
    caption = (
        "What was measured on the labelled images of the calibration where some F1 was estimated, each "
        "image's domain left out of the fit. Below the diagonal estimates promise too much. Bars are 95 % "
        "bootstrap intervals of the mean; grey columns count images."
    )
    shown = figure_html(drawn, ("Reliability of the calibration", caption))
    return f'<h2 id="reliability">How far to believe the estimates</h2>\n{shown}'


def _errors(errors: Sequence[tuple[str, str]]) -> str:
    if not errors:
        return ""
    rows = "\n".join(f'<tr><td class="name">{escape(p)}</td><td>{escape(e)}</td></tr>' for p, e in errors)
    return (
        f'<h2 id="errors">Not assessed</h2>\n<div class="scroll"><table><thead><tr><th scope="col">File</th>'
        f'<th scope="col">What is wrong</th></tr></thead><tbody>\n{rows}\n</tbody></table></div>'
    )
