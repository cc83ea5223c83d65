"""Many micrograph files to verdicts and a report: found, read, judged, and resumed after a stop.

One bad file does not stop the others; it ends up among the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from passband import __version__
from passband.detections.detections import Detections
from passband.detections.given import detections_of, given_detections
from passband.drawing.thumbnails import picture_of
from passband.errors import ParameterError, PassbandError, ReadError
from passband.estimate.records import from_record
from passband.judge.parts import load_part, save_part
from passband.judge.report import write_report
from passband.judge.sheet import Sheet
from passband.judge.verdict import Judge, Verdict
from passband.micrographs.many import Errors, Reading, find_micrographs, without_name
from passband.micrographs.micrograph import Micrograph
from passband.store.files import write_whole
from passband.store.parts import key
from passband.store.runs import arrays_sha256
from passband.store.sealed import file_sha256
from passband.types import Progress


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How each micrograph is read and judged.

    Parameters
    ----------
    judge
        What gives the verdicts.
    reading
        Pixel sizes, frame of a stack.
    detections
        File of another detector's detections, to be judged instead of the bundle's, or None.
    """

    judge: Judge
    reading: Reading = field(default_factory=Reading)
    detections: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of many files.

    Parameters
    ----------
    verdicts
        In the order of the files.
    errors
        What could not be assessed, and why.
    reused
        How many verdicts were taken from an earlier run.
    page
        The report, or None where none was wanted or nothing was assessed.
    """

    verdicts: tuple[Verdict, ...]
    errors: Errors
    reused: int = 0
    page: Path | None = None


def assess_files(
    paths: Sequence[str], plan: Plan, *, report: Path | None = None, progress: Progress | None = None
) -> Outcome:
    """Assess many micrographs, and write a report of them.

    Parameters
    ----------
    paths
        Files, folders and wildcards.
    plan
        How to read and judge them.
    report
        Folder of the report. What is finished is kept in its folder ``parts``; a run with the same
        files, bundle and plan goes on from there.
    progress
        Called before each micrograph and at the end.

    Returns
    -------
    Outcome
        Verdicts of all that could be assessed.

    Raises
    ------
    PassbandError
        If the plan does not hold at all: a detection file that cannot be used, a report folder that
        cannot be written.
    """
    files, missing = find_micrographs(paths)
    if report is not None:
        _must_be_writable(report)
    given = (
        None
        if plan.detections is None
        else given_detections(files, plan.reading, plan.detections, threshold=plan.judge.score_threshold)
    )
    verdicts: list[Verdict] = []
    sheets: list[Sheet] = []
    errors, reused = list(missing), 0
    for done, path in enumerate(files):
        if progress:
            progress(path, done, len(files))
        try:
            part = None if report is None else report / "parts" / f"{_key(path, plan, given)}.json"
            # A bundle that is in no file has no digest to tell it from another.
            sheet = load_part(part, path) if part is not None and plan.judge.digest else None
            if sheet is not None:
                reused += 1
            elif part is None:
                verdicts.append(_judge(path, plan, given)[1])
                continue
            else:
                micrograph, verdict = _judge(path, plan, given)
                sheet = Sheet(verdict=verdict, picture=picture_of(micrograph, verdict.detections))
                save_part(part, sheet)
            verdicts.append(sheet.verdict)
            sheets.append(sheet)
        except PassbandError as e:
            errors.append((path, without_name(str(e), path)))
        except Exception as e:
            # A fault of Passband's own must not cost a night's work on the other files.
            errors.append((path, f"unexpected {type(e).__name__}: {e}; this is a fault in Passband"))
    if progress:
        progress("", len(files), len(files))
    page = None
    if report is not None and sheets:
        known = plan.judge.calibration
        page = write_report(
            report,
            sheets,
            errors=errors,
            subtitle=_subtitle(plan),
            calibrated=None if known is None else from_record(known).held_out,
        )
    return Outcome(verdicts=tuple(verdicts), errors=tuple(errors), reused=reused, page=page)


def _judge(path: str, plan: Plan, given: Mapping[str, Detections] | None) -> tuple[Micrograph, Verdict]:
    micrograph = plan.reading.read(path)
    detections = None if given is None else detections_of(path, given, str(plan.detections))
    return micrograph, plan.judge(micrograph, detections)


def _key(path: str, plan: Plan, given: Mapping[str, Detections] | None) -> str:
    """Fingerprint of all that a part depends on, but for the micrograph's name."""
    try:
        content = file_sha256(Path(path))
    except OSError as e:
        raise ReadError(f"cannot be read: {e.strerror or e}") from e
    depends = {
        "passband": __version__,
        "content": content,
        "suffix": Path(path).suffix.lower(),
        "bundle": plan.judge.digest,
        "frame": plan.reading.frame,
        "pixel_size": plan.reading.given_pixel_size(path),
        **plan.judge.settings,
    }
    if given is not None and path in given:
        d = given[path]
        masks = [a for m in d.masks or () for a in (np.array([m.y, m.x]), m.pixels)]
        depends["given"] = [arrays_sha256(d.boxes_xyxy, d.scores, *masks), d.score_threshold]
    return key(depends)


def _must_be_writable(report: Path) -> None:
    """Find out before hours of work, not after."""
    if report.exists() and not report.is_dir():
        raise ParameterError(f"{report} is a file; give a folder for the report")
    write_whole(report / "parts" / ".keep", "")


def _subtitle(plan: Plan) -> str:
    b = plan.judge
    words = f"Bundle {b.name} ({b.digest[:12] or 'not from a file'}), Passband {__version__}"
    return words if plan.detections is None else f"Detections of {plan.detections}. {words}"
