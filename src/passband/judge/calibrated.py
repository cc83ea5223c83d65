"""What comes of a calibration: the result, how well it tells what was left out, and what more labels buy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import numpy as np

from passband.detections.labelled import LabelledImages
from passband.estimate.calibration import Calibration
from passband.estimate.left_out import Told, told, told_left_out, width_with_more
from passband.estimate.novelty import novelty
from passband.estimate.rows import CalibrationRow
from passband.micrographs.many import Errors
from passband.words import counted

MORE = 10
"""Further labels, of which is told what they would gain."""
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What labelled images changed.

    Parameters
    ----------
    before, after
        How well F1 was told of these images before they were shown, and of each after others were; None
        where that cannot be said.
    narrower
        By how much `MORE` further labels would narrow the intervals; None likewise.
    """

    before: Told | None = None
    after: Told | None = None
    narrower: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated(Generic[R]):
    """A calibration, and how well it tells.

    Parameters
    ----------
    result
        What holds the calibration.
    used
        How many images it rests on.
    unused
        Pairs of a path and why it could not be used.
    measured
        Mean of their measured F1.
    change
        How well F1 was told before, and is now.
    notes
        What was mended, left out and passed over, a sentence each.
    """

    result: R
    used: int
    unused: Errors
    measured: float
    change: Change
    notes: tuple[str, ...]


def calibrated(
    result: R,
    usable: LabelledImages,
    rows: Sequence[CalibrationRow],
    change: Change,
    notes: Sequence[str] = (),
) -> Calibrated[R]:
    """What comes of a calibration.

    Parameters
    ----------
    result
        What holds it.
    usable, rows
        The labelled images, and the rows that came of them.
    change
        How well it told before, and tells now.
    notes
        More than the images themselves gave.
    """
    return Calibrated(
        result=result,
        used=len(rows),
        unused=usable.unused,
        measured=float(np.mean([r.f1 for r in rows])),
        change=change,
        notes=(*usable.notes, *notes),
    )


def change_by_adapting(start: Calibration, rows: Sequence[CalibrationRow]) -> Change:
    """What adapting a calibration to labelled images changes, each of them left out once."""
    after, more = told_left_out(start, rows), width_with_more(start, rows, MORE)
    gain = None if after is None or more is None else max(0.0, after.width - more)
    return Change(before=told(start, rows), after=after, narrower=gain)


def novel(calibration: Calibration, row: CalibrationRow) -> bool:
    """Whether a labelled image lies outside what a calibration knows."""
    values = np.array([row.features[n] for n in calibration.features], np.float64)
    return novelty(calibration.reference, values) > 1


def calibrated_in_words(done: Calibrated[R]) -> str:
    """What to read of a calibration, in lines.

    Examples
    --------
    >>> told = Told(mae=0.1, coverage=0.9, width=0.4)
    >>> change = Change(after=told, narrower=0.05)
    >>> done = Calibrated(result=None, used=10, unused=(), measured=0.8, change=change, notes=())
    >>> print(calibrated_in_words(done))
    measured F1 is 0.80 in the mean of 10 images
    now, each left out: estimates 0.100 off, 90 % of intervals hold, 0.40 wide
    ten more labelled images would narrow the intervals by about 0.05
    """
    lines = [f"measured F1 is {done.measured:.2f} in the mean of {counted(done.used, 'image')}"]
    for name, t in (
        ("before they were shown", done.change.before),
        ("now, each left out", done.change.after),
    ):
        if t is not None:
            held = f"{t.coverage:.0%}".replace("%", " %")
            lines.append(f"{name}: estimates {t.mae:.3f} off, {held} of intervals hold, {t.width:.2f} wide")
    if done.change.narrower is not None:
        lines.append(
            f"ten more labelled images would narrow the intervals by about {done.change.narrower:.2f}"
        )
    lines += [f"not used: {path}: {words}" for path, words in done.unused]
    return "\n".join(lines)


def calibrated_to_json(done: Calibrated[R]) -> str:
    """The machine-readable document of a calibration, one line.

    Examples
    --------
    >>> done = Calibrated(result=None, used=3, unused=(), measured=0.8, change=Change(), notes=())
    >>> json.loads(calibrated_to_json(done))["used"]
    3
    """
    values = {
        "images": done.used + len(done.unused),
        "used": done.used,
        "unused": [{"path": path, "why": words} for path, words in done.unused],
        "measured_f1": round(done.measured, 6),
        **{
            name: None if t is None else asdict(t)
            for name, t in (("before", done.change.before), ("after", done.change.after))
        },
        "narrower_by_ten_more": done.change.narrower,
        "notes": list(done.notes),
    }
    return json.dumps(values, allow_nan=False) + "\n"
