"""What a survey says of its folder, in words and as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from passband.detections.matching import OPTIMAL
from passband.estimate.survey import MORE, Surveyed
from passband.judge.survey_result import NAMES, SurveyResult
from passband.words import counted, number_text


def survey_to_json(result: SurveyResult) -> str:
    """The document of ``passband survey result --json``: one line; what is unknown or unbounded is null."""
    values: dict[str, Any] = {
        "n": result.n,
        "drawn": result.drawn,
        "labelled": result.labelled,
        "valid": result.valid,
        "reasons": list(result.invalid),
        "notes": list(result.notes),
        "matching": str(OPTIMAL),
    }
    for name, told in result.quantities.items():
        values[name] = {
            **_ends(told.corrected),
            "coverage": result.coverage,
            "labels_only": _ends(told.labels_only),
            "width_with_more": None if told.corrected is None else _number(told.corrected.width_with_more),
        }
    return json.dumps(values, allow_nan=False) + "\n"


def survey_in_words(result: SurveyResult) -> str:
    """The same for a reader."""
    head = ("", f"{result.coverage:.0%} interval", "labels alone")
    lines = [
        f"{result.labelled} of {result.n} images labelled; scores by {OPTIMAL}",
        "",
        f"{head[0]:<34}{'':>9}  {head[1]:<22}{head[2]}",
    ]
    for name, told in result.quantities.items():
        if told.corrected is None:
            lines.append(f"{NAMES[name]:<34}{'-':>9}  the labels hold no object to measure")
            continue
        alone = told.labels_only
        value = number_text(told.corrected.value)
        words = "" if alone is None else f"{number_text(alone.value)} ({_between(alone)})"
        lines.append(f"{NAMES[name]:<34}{value:>9}  {_between(told.corrected):<22}{words}".rstrip())
    lines += ["", *(f"{words}" for words in _gain(result))]
    if result.valid:
        lines.append(f"Valid: every drawn image is labelled, so the intervals hold in {result.coverage:.0%}.")
    lines += [f"Not valid: {words}" for words in result.invalid]
    lines += [f"Note: {words}" for words in result.notes]
    return "\n".join(lines) + "\n"


def _gain(result: SurveyResult) -> list[str]:
    """What further labels would gain, in words."""
    more = min(MORE, result.n - result.labelled)
    if not more:
        return ["Every image is labelled: nothing is estimated."]
    told = []
    for name in ("f1_mean", "f1_pooled", "count_total", "diameter_mean_px"):
        s = result.quantities[name].corrected
        if s is not None and math.isfinite(s.width_with_more) and math.isfinite(s.high):
            told.append(f"{NAMES[name]}: {number_text(s.high - s.low)} to {number_text(s.width_with_more)}")
    if not told:
        return ["One label tells nothing of the others: label more."]
    return [f"{counted(more, 'more label')} would narrow the intervals, " + "; ".join(told) + "."]


def _ends(s: Surveyed | None) -> dict[str, float | None]:
    return {name: None if s is None else _number(getattr(s, name)) for name in ("value", "low", "high")}


def _number(value: float) -> float | None:
    """A number for JSON, to nine digits; what is not finite is not known."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _between(s: Surveyed) -> str:
    high = number_text(s.high) if math.isfinite(s.high) else "any number"
    return f"{number_text(s.low)} to {high}"
