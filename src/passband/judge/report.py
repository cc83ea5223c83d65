"""Verdicts on many micrographs as one self-contained page, and the same as CSV, COCO and JSON.

The page needs no network and no other file. Its look is in ``page.html``, its words in `page` and `sheet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from passband.detections.files import write_coco
from passband.drawing.thumbnails import Picture, picture_of
from passband.estimate.calibration import HeldOutScores
from passband.judge.page import report_page
from passband.judge.sheet import Sheet
from passband.judge.tables import objects_csv, results_csv
from passband.judge.verdict import verdicts_to_json
from passband.store.files import write_whole

__all__ = ["Picture", "Sheet", "picture_of", "report_page", "write_report"]


def write_report(
    folder: Path,
    sheets: Sequence[Sheet],
    *,
    errors: Sequence[tuple[str, str]] = (),
    subtitle: str = "",
    calibrated: HeldOutScores | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write report.html, results.csv, objects.csv, results.json and detections.coco.json.

    Parameters
    ----------
    folder
        Made where it is missing. Each file appears whole or not at all.
    sheets
        In the order of the results; the page sorts by estimated F1, the worst first.
    errors
        Pairs of a path and what was wrong with it.
    subtitle
        A line about the bundle, say.
    calibrated
        What the calibration said of rows that it had not seen, to be drawn.
    notes
        What was made of the files given, a sentence each.

    Returns
    -------
    Path
        Of the page.
    """
    verdicts = [s.verdict for s in sheets]
    write_whole(folder / "results.csv", results_csv(verdicts))
    write_whole(folder / "objects.csv", objects_csv(verdicts))
    write_whole(folder / "results.json", verdicts_to_json(verdicts, errors, notes))
    write_coco(folder / "detections.coco.json", {v.path: v.detections for v in verdicts})
    page = report_page(sheets, errors=errors, subtitle=subtitle, calibrated=calibrated, notes=notes)
    return write_whole(folder / "report.html", page)
