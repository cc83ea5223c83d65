"""One micrograph's part of the page: picture, reasons, scores, sizes."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

import numpy as np

from passband.drawing.html import LABELS, counted, number_text, words_html
from passband.drawing.thumbnails import Picture
from passband.estimate.calibration import Estimate
from passband.judge.policy import Judgement
from passband.judge.verdict import SCORES, Verdict
from passband.units import NM, UM

MARKS: dict[Judgement, str] = {"trust": "✓", "review": "!", "reject": "✕"}


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What the page shows of one micrograph."""

    verdict: Verdict
    picture: Picture


def badge(verdict: Judgement) -> str:
    """A verdict as a coloured label; its mark and word say the same without colour."""
    return f'<span class="badge {verdict}"><span aria-hidden="true">{MARKS[verdict]}</span> {verdict}</span>'


def interval_bar(e: Estimate) -> str:
    """An estimate on a line from 0 to 1, with its interval, as SVG."""
    low, high = 100 * e.low, 100 * e.high
    return (
        '<svg class="interval" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" y="6" width="100" height="4"/>'
        f'<rect class="band" x="{low:.1f}" y="3" width="{max(high - low, 0.5):.1f}" height="10"/>'
        f'<rect class="dot" x="{min(100 * e.value, 99) - 0.5:.1f}" width="1.5" height="16"/></svg>'
    )


def density_text(density: float) -> str:
    """A number density, given per Å², in words."""
    return f"{number_text(density * UM**2)} /µm²"


def score_colours(n: int) -> list[str]:
    """``n`` colours from score 0 to 1, of a perceptually uniform map without the end that is lost on grey."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [str(to_hex(c)) for c in matplotlib.colormaps["plasma"](np.linspace(0.25, 1.0, n))]


def sheet_html(i: int, sheet: Sheet, *, tooltips: bool, unfolded: bool) -> str:
    """The part of the page about one micrograph.

    Parameters
    ----------
    i
        Its anchor is ``m`` and this number.
    sheet
        What to show.
    tooltips
        Whether each outline says its score and diameter.
    unfolded
        Whether it shows at once.

    Returns
    -------
    str
        HTML; whatever a user named is escaped.
    """
    v, p = sheet.verdict, sheet.picture
    f1 = f"estimated F1 {v.estimates['f1'].value:.2f}" if v.estimates else "no estimate"
    n = counted(len(v.detections), "detection")
    source = "data:image/webp;base64," + base64.b64encode(p.data).decode()
    # A tall image must not push everything else off the screen.
    limit = f"max-width:min(100%,{78 * p.width / p.height:.1f}vh)"
    reasons = "".join(f"<li>{words_html(r)}</li>" for r in v.reasons)
    return f"""<details class="sheet of-{v.verdict}" id="m{i}"{" open" if unfolded else ""}>
<summary>{badge(v.verdict)}<h3>{escape(v.path)}</h3><span class="num soft">{f1}, {n}</span></summary>
<div class="body">
<figure><div class="image" style="{limit}">
<img src="{source}" width="{p.width}" height="{p.height}"{"" if unfolded else ' decoding="async"'}
 alt="Micrograph {escape(v.path)} with {n} outlined">
{_overlay(sheet, tooltips)}</div>
<figcaption class="ramp"><span>score 0</span><i></i><span>1</span></figcaption></figure>
<div>
<ul class="reasons">{reasons}</ul>
{_scores(v)}
{_measures(v)}
{_histogram(v)}
</div>
</div>
</details>"""


def _scores(v: Verdict) -> str:
    if not v.estimates:
        return '<p class="soft">F1, precision and recall are not estimated.</p>'
    rows = []
    for name in SCORES:
        e = v.estimates[name]
        said = f"{e.value:.2f} <span class='soft'>({e.low:.2f}&ndash;{e.high:.2f})</span>"
        bar = f"<td>{interval_bar(e)}</td>"
        rows.append(f'<tr><th scope="row">{LABELS[name]}</th>{bar}<td class="num">{said}</td></tr>')
    return (
        '<table class="scores" aria-label="Estimated scores with intervals">'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _measures(v: Verdict) -> str:
    s, nm = v.sizes, v.sizes.diameters_nm
    lines = [("Objects", f"{len(v.detections)} at a score of {v.detections.score_threshold:.2f} or more")]
    if len(s.diameters):
        d, unit = (s.diameters, "px") if nm is None else (nm, "nm")
        mean, middle = number_text(float(d.mean())), number_text(float(np.median(d)))
        lines.append(("Diameter", f"{mean} ± {d.std():.2g} {unit}, median {middle} {unit}"))
    if s.density is not None:
        lines.append(("Number density", density_text(s.density)))
    if s.swelling_percent is not None:
        lines.append(("Swelling", f"{s.swelling_percent:.3g} %"))
    if s.pixel_size is None:
        lines.append(("Pixel size", "unknown"))
    else:
        lines.append(("Pixel size", f"{s.pixel_size / NM:.4g} nm"))
    return "<dl>" + "".join(f"<dt>{a}</dt><dd>{b}</dd>" for a, b in lines) + "</dl>"


def _histogram(v: Verdict) -> str:
    """Size histogram as inline SVG; nothing for no objects."""
    nm = v.sizes.diameters_nm
    d, unit = (v.sizes.diameters, "px") if nm is None else (nm, "nm")
    if len(d) == 0:
        return ""
    top = float(d.max()) * 1.0001
    edges = np.linspace(0, top, int(np.clip(2 * np.sqrt(len(d)), 6, 24)) + 1)
    counts, _ = np.histogram(d, edges)
    width, height, left, bottom = 400.0, 150.0, 34.0, 34.0
    x = left + (width - left - 8) * edges / top
    unit_height = (height - bottom - 12) / counts.max()
    base = height - bottom
    parts = [f'<line x1="{left}" x2="{width - 8}" y1="{base}" y2="{base}"/>']
    for a, b, n, lo, hi in zip(x[:-1], x[1:], counts, edges[:-1], edges[1:], strict=True):
        if n:
            parts.append(
                f'<rect x="{a + 0.5:.1f}" y="{base - n * unit_height:.1f}" width="{b - a - 1:.1f}" '
                f'height="{n * unit_height:.1f}"><title>{lo:.3g} to {hi:.3g} {unit}: {n}</title></rect>'
            )
    middle = left + (width - left - 8) * float(np.median(d)) / top
    parts.append(f'<line class="median" x1="{middle:.1f}" x2="{middle:.1f}" y1="8" y2="{base}"/>')
    for tick in _ticks(top):
        at = left + (width - left - 8) * tick / top
        parts.append(f'<text x="{at:.1f}" y="{base + 14}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{(left + width) / 2}" y="{height - 4}" text-anchor="middle">diameter ({unit}), '
        "median dashed</text>"
    )
    parts.append(f'<text x="{left - 6}" y="20" text-anchor="end">{counts.max()}</text>')
    parts.append(f'<text x="{left - 6}" y="{base}" text-anchor="end">0</text>')
    label = (
        f"Histogram of {counted(len(d), 'diameter')}: {d.min():.3g} to {d.max():.3g} {unit}, "
        f"median {np.median(d):.3g} {unit}"
    )
    return (
        f'<svg class="histogram" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _round_length(length: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is no longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(m * power for m in (1, 2, 5) if m * power <= length * (1 + 1e-9)))


def _ticks(top: float) -> list[float]:
    step = _round_length(top / 3)
    return [float(t) for t in np.arange(0, top + step / 1e6, step).round(9)]


def _overlay(sheet: Sheet, tooltips: bool) -> str:
    v, p = sheet.verdict, sheet.picture
    nm = v.sizes.diameters_nm
    d, unit = (v.sizes.diameters, "px") if nm is None else (nm, "nm")
    grade = np.minimum(9, (10 * v.detections.scores).astype(int))
    if tooltips:
        paths = [
            f'<path class="s{g}" d="{path}"><title>score {s:.2f}, ⌀ {size:.3g} {unit}</title></path>'
            for g, path, s, size in zip(grade, p.outlines, v.detections.scores, d, strict=True)
        ]
    else:
        joined: dict[int, list[str]] = {}
        for g, path in zip(grade, p.outlines, strict=True):
            joined.setdefault(int(g), []).append(path)
        paths = [f'<path class="s{g}" d="{"".join(some)}"/>' for g, some in sorted(joined.items())]
    bar = "" if v.sizes.pixel_size is None else _scale_bar(p, v.sizes.pixel_size / NM)
    return f'<svg viewBox="0 0 {p.width} {p.height}" aria-hidden="true">{"".join(paths)}{bar}</svg>'


def _scale_bar(p: Picture, pixel_size_nm: float) -> str:
    per_nm = p.scale / pixel_size_nm
    length = _round_length(0.22 * p.width / per_nm)
    pad, thick, size = 0.025 * p.width, 0.009 * p.width, 0.034 * p.width
    y = p.height - pad - thick
    shown = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    return (
        f'<rect class="bar" x="{pad:.1f}" y="{y:.1f}" width="{length * per_nm:.1f}" height="{thick:.1f}"/>'
        f'<text x="{pad:.1f}" y="{y - 0.4 * size:.1f}" font-size="{size:.1f}" '
        f'stroke-width="{size / 8:.1f}">{shown}</text>'
    )
