"""The page itself: headline, table of all micrographs, and their sheets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from passband.report.pictures import within_budget
from passband.report.sheet import MARKS, Sheet, badge, counted, density_text, score_colours, sheet_html
from passband.verdict import SCORES, Verdict

TOOLTIP_BUDGET = 20_000
"""Outlines that get a tooltip each; a page with more joins them by score, or browsers choke."""
OPEN_SHEETS = 12
"""A page with at most this many micrographs shows them all unfolded."""


def report_page(
    sheets: Sequence[Sheet], *, errors: Sequence[tuple[str, str]] = (), subtitle: str = ""
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
    unfolded = len(sheets) <= OPEN_SHEETS
    colours = score_colours(10)
    text = resources.files("passband.report").joinpath("page.html").read_text("utf-8")
    return Template(text).substitute(
        title=f"Passband: {counted(len(sheets), 'micrograph')}",
        headline=_headline(counts, len(errors)),
        subtitle=escape(subtitle),
        share="".join(f'<i class="{v}" style="flex:{counts[v]}"></i>' for v in MARKS if counts[v]),
        filters="\n".join(
            f'<label><input type="checkbox" id="show-{v}" checked> {badge(v)} {counts[v]}</label>'
            for v in MARKS
            if counts[v]
        ),
        caption=_caption(sheets),
        columns="".join(
            f'<th scope="col"{c}><button type="button">{name}</button></th>' for name, c in COLUMNS
        ),
        rows="\n".join(_row(i, s.verdict) for i, s in ordered),
        errors=_errors(errors),
        sheets="\n".join(sheet_html(i, s, tooltips=tooltips, unfolded=unfolded) for i, s in ordered),
        footer=_footer(tooltips),
        ramp=", ".join(score_colours(6)),
        **{f"c{i}": colour for i, colour in enumerate(colours)},
    )


_NUM = ' class="num"'
COLUMNS = (
    ("Verdict", ""),
    ("Micrograph", ""),
    ("Estimated F1", ' class="num" aria-sort="ascending"'),
    ("Precision", _NUM),
    ("Recall", _NUM),
    ("Objects", _NUM),
    ("Median ⌀", _NUM),
    ("Density", _NUM),
    ("Swelling", _NUM),
    ("First reason", ""),
)


def _sort_value(v: Verdict) -> float:
    return v.estimates["f1"].value if v.estimates else -1.0


def _headline(counts: Counter[Any], failed: int) -> str:
    words = {"trust": "trusted", "review": "to review", "reject": "rejected"}
    parts = [f"{counts[v]} {word}" for v, word in words.items() if counts[v]]
    if failed:
        parts.append(f'<a href="#errors">{failed} not assessed</a>')
    return f"{counted(counts.total() + failed, 'micrograph')}: {', '.join(parts) or 'none assessed'}"


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


def _row(i: int, v: Verdict) -> str:
    cells = [f'<td data-v="{list(MARKS).index(v.verdict)}">{badge(v.verdict)}</td>']
    cells.append(f'<td class="name"><a href="#m{i}">{escape(v.path)}</a></td>')
    for name in SCORES:
        e = v.estimates.get(name)
        shown = "–" if e is None else f"{e.value:.2f}"
        if e is not None and name == "f1":
            shown += f' <span class="soft">({e.low:.2f}–{e.high:.2f})</span>'
        cells.append(_number(shown, None if e is None else e.value))
    s, nm = v.sizes, v.sizes.diameters_nm
    cells.append(_number(str(len(v.detections)), len(v.detections)))
    if len(s.diameters) == 0:
        cells.append(_number("–", None))
    elif nm is None:
        cells.append(_number(f"{np.median(s.diameters):.3g} px", float(np.median(s.diameters))))
    else:
        cells.append(_number(f"{np.median(nm):.3g} nm", float(np.median(nm))))
    cells.append(_number("–" if s.density is None else density_text(s.density), s.density))
    cells.append(
        _number("–" if s.swelling_percent is None else f"{s.swelling_percent:.2g} %", s.swelling_percent)
    )
    cells.append(f'<td class="why">{escape(v.reasons[0])}</td>')
    return f'<tr class="of-{v.verdict}">{"".join(cells)}</tr>'


def _number(shown: str, value: float | None) -> str:
    return f'<td class="num" data-v="{"" if value is None else f"{value:.6g}"}">{shown}</td>'


def _errors(errors: Sequence[tuple[str, str]]) -> str:
    if not errors:
        return ""
    rows = "\n".join(f'<tr><td class="name">{escape(p)}</td><td>{escape(e)}</td></tr>' for p, e in errors)
    return (
        f'<h2 id="errors">Not assessed</h2>\n<div class="scroll"><table><thead><tr><th scope="col">File</th>'
        f'<th scope="col">What is wrong</th></tr></thead><tbody>\n{rows}\n</tbody></table></div>'
    )
