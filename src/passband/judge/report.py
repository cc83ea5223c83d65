"""Verdicts on many micrographs as one self-contained page, and the same as CSV, COCO and JSON.

The page needs no network and no other file. Its look is in ``page.html``, its words in `page` and `sheet`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from passband.detections.files import write_coco
from passband.drawing.thumbnails import Picture, picture_of
from passband.errors import ParameterError, PassbandError
from passband.estimate.calibration import HeldOutScores
from passband.judge.page import report_page
from passband.judge.sheet import Sheet
from passband.judge.tables import objects_csv, results_csv
from passband.judge.verdict import verdicts_to_json
from passband.store.files import write_whole
from passband.store.folders import sole_writer

__all__ = ["Picture", "Sheet", "picture_of", "report_page", "write_report"]


_FILES = ("results.csv", "objects.csv", "results.json", "detections.coco.json")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
UNFINISHED = (
    "A run in this folder began and has not finished: it is still at work, was stopped, or failed. What is "
    "finished is kept; run the same command again to go on."
)


@contextlib.contextmanager
def report_folder(folder: Path) -> Iterator[None]:
    """Hold a report's folder against other runs; until `write_report` an old page says that it is none.

    A disk without room is no reason to give up: verdicts are told all the same.

    Parameters
    ----------
    folder
        Made where it is missing.

    Raises
    ------
    ParameterError
        If it is a file.
    DatasetError
        If another run is writing to it; told which.
    PassbandError
        If it cannot be written for another reason than want of room.
    """
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"{folder} is a file; give a folder for the report")
    held = contextlib.ExitStack()
    try:
        write_whole(folder / "parts" / ".keep", "")
        held.enter_context(sole_writer(folder))
        if (folder / "report.html").exists():
            write_whole(folder / "report.html", report_page((), notes=(UNFINISHED,), headline="Not finished"))
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
    except (PassbandError, OSError) as e:
        cause = e if isinstance(e, OSError) else e.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _NO_ROOM:
            held.close()
            raise e if isinstance(e, PassbandError) else PassbandError(f"{folder}: {e.strerror or e}") from e
    with held:
        yield


def keep_parts(folder: Path, parts: Collection[Path]) -> None:
    """Take away the parts of a report that are of other files or options than these."""
    kept = {part.name for part in parts}
    for path in (folder / "parts").glob("*.json"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


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
