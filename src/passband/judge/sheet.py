"""One micrograph's part of the page: picture, reasons, scores, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from passband.drawing.html import LABELS
from passband.drawing.parts import Box, Histogram, histogram, scale_bar
from passband.drawing.thumbnails import Picture
from passband.estimate.calibration import Estimate
from passband.judge.spread import density_interval, mean_interval, objects_there, swelling_interval
from passband.judge.verdict import SCORES, Verdict
from passband.units import NM, UM
from passband.words import counted, number_text


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What the page shows of one micrograph; ``conditions`` say how it was taken."""

    verdict: Verdict
    picture: Picture
    conditions: tuple[tuple[str, str], ...] = ()


class Outline(NamedTuple):
    """Something drawn around in a picture.

    Parameters
    ----------
    grade
        Tenth of the score, 0 to 9.
    path
        As SVG, in pixels of the picture.
    words
        Said when it is pointed at; empty where one path is of many objects.
    """

    grade: int
    path: str
    words: str


@dataclass(frozen=True, kw_only=True)
class SheetParts:
    """A sheet as the page draws it.

    Parameters
    ----------
    anchor
        Of its place in the page.
    verdict, picture
        Of the sheet.
    found
        The number of its detections, in words.
    outlines
        Of its detections.
    bar
        None where the pixel size is not known.
    scores
        Name and estimate; none of a verdict without.
    measures
        Name and words.
    sizes
        None of no detections.
    """

    anchor: str
    verdict: Verdict
    picture: Picture
    found: str
    outlines: list[Outline]
    bar: Box | None
    scores: list[tuple[str, Estimate]]
    measures: list[tuple[str, str]]
    sizes: Histogram | None


def density_text(density: float) -> str:
    """A number density, given per Å², in words."""
    return f"{number_text(density * UM**2)} /µm²"


def score_colours(n: int) -> list[str]:
    """``n`` colours from score 0 to 1, of a perceptually uniform map without the end that is lost on grey."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [str(to_hex(c)) for c in matplotlib.colormaps["plasma"](np.linspace(0.25, 1.0, n))]


def sheet_parts(i: int, sheet: Sheet, *, tooltips: bool) -> SheetParts:
    """What the page draws of one micrograph.

    Parameters
    ----------
    i
        Its anchor is ``m`` and this number.
    sheet
        What to show.
    tooltips
        Whether each outline says its score and diameter.
    """
    v, p = sheet.verdict, sheet.picture
    d = v.sizes.diameters if v.sizes.diameters_nm is None else v.sizes.diameters_nm
    unit = "px" if v.sizes.diameters_nm is None else "nm"
    return SheetParts(
        anchor=f"m{i}",
        verdict=v,
        picture=p,
        found=counted(len(v.detections), "detection"),
        outlines=_outlines(sheet, d, unit) if tooltips else _joined_outlines(sheet),
        bar=scale_bar(p, v.sizes.pixel_size),
        scores=[(LABELS[name], v.estimates[name]) for name in SCORES if name in v.estimates],
        measures=[*_measures(v, d, unit), *_conditions(sheet)],
        sizes=histogram(d, unit, bins=int(np.clip(2 * np.sqrt(len(d)), 6, 24))),
    )


def _measures(v: Verdict, diameters: np.ndarray, unit: str) -> list[tuple[str, str]]:
    s, d = v.sizes, diameters
    lines = [("Objects", f"{len(v.detections)} at a score of {v.detections.score_threshold:.2f} or more")]
    if (there := objects_there(len(v.detections), v.estimates)) is not None:
        value, low, high = (number_text(n) for n in there)
        lines.append(("Objects there", f"{value} ({low} to {high}) by the estimated precision and recall"))
    if len(d):
        mean, middle = number_text(float(d.mean())), number_text(float(np.median(d)))
        within = _within(mean_interval(d))
        lines.append(("Diameter", f"mean {mean}{within} {unit}, deviation {d.std():.2g}, median {middle}"))
    if s.density is not None:
        within = _within(density_interval(s), UM**2)
        lines.append(("Number density", density_text(s.density).replace(" /", f"{within} /")))
    if s.swelling_percent is not None:
        lines.append(("Swelling", f"{number_text(s.swelling_percent)}{_within(swelling_interval(s))} %"))
    return lines


def _within(interval: tuple[float, float] | None, unit: float = 1.0) -> str:
    """An interval in words, after what it is of."""
    if interval is None:
        return ""
    return f" ({number_text(interval[0] * unit)} to {number_text(interval[1] * unit)})"


def _conditions(sheet: Sheet) -> list[tuple[str, str]]:
    """How the micrograph was taken, as far as it is known; of other sheets the pixel size alone."""
    v, s = sheet.verdict, sheet.verdict.sizes
    thickness = "unknown" if s.thickness is None else f"{s.thickness / NM:.4g} nm, given"
    size = "unknown" if s.pixel_size is None else f"{s.pixel_size / NM:.4g} nm"
    lines = [(name.capitalize(), words) for name, words in sheet.conditions] or [("Pixel size", size)]
    if v.novelty is not None:
        edge = "within what the calibration knows" if v.novelty <= 1 else "beyond what the calibration knows"
        lines.append(("Novelty", f"{v.novelty:.2f}: {edge}, whose edge is 1"))
    return [*lines, ("Foil thickness", thickness)]


def grades(scores: np.ndarray) -> list[int]:
    """Tenth of each score, 0 to 9."""
    tenths: list[int] = np.minimum(9, (10 * scores).astype(int)).tolist()
    return tenths


def _outlines(sheet: Sheet, diameters: np.ndarray, unit: str) -> list[Outline]:
    """Each detection's own."""
    scores = sheet.verdict.detections.scores
    return [
        Outline(grade, path, f"score {score:.2f}, ⌀ {size:.3g} {unit}")
        for grade, path, score, size in zip(
            grades(scores), sheet.picture.outlines, scores, diameters, strict=True
        )
    ]


def _joined_outlines(sheet: Sheet) -> list[Outline]:
    """One for all detections of a grade."""
    joined: dict[int, list[str]] = {}
    for grade, path in zip(grades(sheet.verdict.detections.scores), sheet.picture.outlines, strict=True):
        joined.setdefault(grade, []).append(path)
    return [Outline(grade, "".join(paths), "") for grade, paths in sorted(joined.items())]
