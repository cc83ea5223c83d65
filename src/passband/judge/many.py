"""Many micrograph files to verdicts and a report: found, read, judged, and resumed after a stop.

One bad file does not stop the others; it ends up among the errors.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from passband import __version__
from passband.detections.given import DetectionsFile, Given, given_detections
from passband.drawing.thumbnails import Picture, picture_of
from passband.engines.settings import EngineSettings
from passband.engines.tasks import run_tasks
from passband.errors import ParameterError, PassbandError, ReadError
from passband.estimate.records import from_record
from passband.judge.parts import load_part, save_part
from passband.judge.report import keep_parts, report_folder, write_report
from passband.judge.sheet import Sheet
from passband.judge.verdict import Judge, Verdict, without_detections
from passband.micrographs import scale_bar
from passband.micrographs.about import about_conditions
from passband.micrographs.many import Errors, Reading, find_micrographs, frames_of, without_name
from passband.processes import one_thread
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
        Another detector's detections, to be judged instead of the bundle's, or None.
    frames
        Which frames of every stack are judged, each as a micrograph named "film.mrc#12"; None where a
        file is one micrograph.
    """

    judge: Judge
    reading: Reading = field(default_factory=Reading)
    detections: DetectionsFile | None = None
    frames: slice | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and (self.detections or self.reading.frame is not None):
            raise ParameterError("frames of a film go neither with detections of a file nor with one frame")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of many files.

    Parameters
    ----------
    verdicts
        In the order of the files; empty where they were taken one by one.
    errors
        What could not be assessed, and why.
    counts
        How many verdicts there are of each kind.
    reused
        How many verdicts were taken from an earlier run.
    page
        The report, or None where none was wanted or nothing was assessed.
    notes
        What was left out of the files given, and what was made of the detections, a sentence each.
    """

    verdicts: tuple[Verdict, ...]
    errors: Errors
    counts: Mapping[str, int] = field(default_factory=dict)
    reused: int = 0
    page: Path | None = None
    notes: tuple[str, ...] = ()


def assess_files(
    paths: Sequence[str],
    plan: Plan,
    *,
    report: Path | None = None,
    engine: EngineSettings | None = None,
    take: Callable[[Verdict], None] | None = None,
    progress: Progress | None = None,
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
    engine
        Who does it, each of one thread; this process with all its threads if not given.
    take
        Called with each verdict, in the order of the files, instead of keeping it: then memory does not
        grow with their number, unless there is a report, which shows them all.
    progress
        Called before the first micrograph and after each.

    Returns
    -------
    Outcome
        Verdicts of all that could be assessed, the same whoever did it.

    Raises
    ------
    ParameterError
        If the judge is in no file that another process could read.
    PassbandError
        If the plan does not hold at all: a detection file that cannot be used, a report folder that
        cannot be written.
    """
    if plan.judge.wants_detections and plan.detections is None:
        raise without_detections(plan.judge.name)
    if report is None:
        return _assess_files(paths, plan, None, engine, take, progress)
    with report_folder(report):
        return _assess_files(paths, plan, report, engine, take, progress)


def _assess_files(
    paths: Sequence[str],
    plan: Plan,
    report: Path | None,
    engine: EngineSettings | None,
    take: Callable[[Verdict], None] | None,
    progress: Progress | None,
) -> Outcome:
    """`assess_files` in a folder that is held and marked as unfinished."""
    notes: list[str] = []
    files, missing = find_micrographs(paths, notes)
    notes += plan.reading.notes_on(files)
    given = None if plan.detections is None else given_detections(files, plan.reading, plan.detections)
    if given is not None:
        notes += given.notes
        threshold = plan.judge.score_threshold
        scores = np.concatenate([d.scores for d in given.found.values() if d.scored] or [np.zeros(0)])
        if (low := int((scores < threshold).sum())) > 0:
            notes.append(
                f"{low:,} of {len(scores):,} objects scored below {threshold:g}, the threshold that "
                f"{plan.judge.name!r} was calibrated at, and were left out"
            )
    items = _Items(files=files, plan=plan, given=given)
    verdicts: list[Verdict] = []
    sheets: list[Sheet] = []
    parts: set[Path] = set()
    errors, reused, counts = list(missing), 0, Counter[str]()
    unkept = ""
    if progress and len(items):
        progress(items.first, 0, len(items))
    outcomes = _outcomes(items, plan, report, engine, progress)
    with contextlib.closing(outcomes):
        for done, (item, answer) in enumerate(_in_order(outcomes), 1):
            if isinstance(answer, str):
                errors.append((item.name, answer))
            else:
                verdict = answer.verdict
                counts[verdict.verdict] += 1
                reused += answer.reused
                if take:
                    take(verdict)
                else:
                    verdicts.append(verdict)
                if answer.picture is not None:
                    sheets.append(
                        Sheet(verdict=verdict, picture=answer.picture, conditions=answer.conditions)
                    )
                if answer.part is not None:
                    parts.add(answer.part)
                unkept = unkept or answer.unkept
            if progress:
                progress(item.name if done < len(items) else "", done, len(items))
    if unkept:
        notes.append(f"what is finished could not be kept, so a stopped run would begin anew: {unkept}")
    page = None
    if report is not None:
        known = plan.judge.calibration
        try:
            page = write_report(
                report,
                sheets,
                errors=errors,
                subtitle=_subtitle(plan),
                calibrated=None if known is None else from_record(known).held_out,
                notes=notes,
            )
            keep_parts(report, parts)
        except PassbandError as e:  # the verdicts are worth more than their page
            errors.append((str(report), f"the report was not written: {e}"))
    return Outcome(
        verdicts=tuple(verdicts),
        errors=tuple(errors),
        counts=counts,
        reused=reused,
        page=page,
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One image to judge; ``given`` is what the file of detections holds of it."""

    number: int
    path: str
    frame: int | None
    given: Given | None = None

    @property
    def name(self) -> str:
        return self.path if self.frame is None else f"{self.path}#{self.frame}"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Of the part, ``unkept`` says why it could not be written."""

    verdict: Verdict
    picture: Picture | None
    reused: bool
    conditions: tuple[tuple[str, str], ...] = ()
    part: Path | None = None
    unkept: str = ""


class _Items:
    """All images, in order: files, or the frames of every film."""

    def __init__(self, *, files: Sequence[str], plan: Plan, given: Given | None) -> None:
        self._given = given
        wanted = plan.frames
        self._files = [(path, [None] if wanted is None else frames_of(path, wanted)) for path in files]
        self._count = sum(len(frames) for _, frames in self._files)
        self.first = files[0] if files else ""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Item]:
        images = ((path, frame) for path, frames in self._files for frame in frames)
        for number, (path, frame) in enumerate(images):
            given = None if self._given is None else self._given.only(path)
            yield _Item(number=number, path=path, frame=frame, given=given)


def _outcomes(
    items: _Items,
    plan: Plan,
    report: Path | None,
    engine: EngineSettings | None,
    progress: Progress | None,
) -> Generator[tuple[_Item, _Answer | str]]:
    """What comes of each image, in any order."""
    how = _How(reading=plan.reading, report=report, folder=str(Path.cwd()))
    if engine is None or engine.engine == "inline":
        with one_thread() if engine else contextlib.nullcontext():
            for item in items:
                yield item, _assess(how, plan.judge, item, _within(progress, item, len(items)))
        return
    source = plan.judge.source
    if source is None:
        raise ParameterError("only a judge that is in a file can judge in other processes; take one worker")
    with contextlib.closing(run_tasks(partial(_assess_there, how, source), items, engine)) as outcomes:
        for outcome in outcomes:
            yield outcome.task, outcome.value if outcome.failure is None else outcome.failure.words


def _within(progress: Progress | None, item: _Item, total: int) -> Progress | None:
    """What is called before each tile of a large image: how far that image is."""
    if progress is None:
        return None

    def tell(what: str, done: int, tiles: int) -> None:
        progress(f"{item.name}, {what} {done + 1} of {tiles}", item.number, total)

    return tell


def _in_order(
    outcomes: Iterable[tuple[_Item, _Answer | str]],
) -> Iterator[tuple[_Item, _Answer | str]]:
    """Each when those before it have come."""
    early: dict[int, tuple[_Item, _Answer | str]] = {}
    wanted = 0
    for item, answer in outcomes:
        early[item.number] = item, answer
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1


@dataclass(frozen=True, kw_only=True)
class _How:
    """What all images share: reading, and the names of the folders."""

    reading: Reading
    report: Path | None
    folder: str


def _assess_there(how: _How, source: Callable[[], Judge], item: _Item) -> _Answer | str:
    """What a worker does, in the folder that the paths are told from."""
    with contextlib.chdir(how.folder):
        return _assess(how, _judge_from(source), item)


@lru_cache(maxsize=2)
def _judge_from(source: Callable[[], Judge]) -> Judge:
    """A judge, made once for all that a process judges."""
    return source()


def _assess(how: _How, judge: Judge, item: _Item, progress: Progress | None = None) -> _Answer | str:
    """The verdict on one image, or why there is none: one bad file does not stop the others."""
    try:
        return _answer(how, judge, item, progress)
    except PassbandError as e:
        return without_name(str(e), item.path)
    except Exception as e:
        # A fault of Passband's own must not cost a night's work on the other files.
        return f"unexpected {type(e).__name__}: {e}; this is a fault in Passband"


def _answer(how: _How, judge: Judge, item: _Item, progress: Progress | None) -> _Answer:
    reading = how.reading if item.frame is None else replace(how.reading, frame=item.frame)
    part = None
    if how.report is not None:
        part = how.report / "parts" / f"{_key(item, reading, judge)}.json"
        # A bundle that is in no file has no digest to tell it from another.
        sheet = load_part(part, item.name) if judge.digest else None
        if sheet is not None:
            return _Answer(
                verdict=sheet.verdict,
                picture=sheet.picture,
                conditions=sheet.conditions,
                reused=True,
                part=part,
            )
    micrograph = reading.read(item.path)
    if item.frame is not None:
        micrograph = replace(micrograph, name=item.name)
    detections = None if item.given is None else item.given.of(item.path)
    verdict = judge(micrograph, detections, progress=progress)
    if part is None:
        return _Answer(verdict=verdict, picture=None, reused=False)
    picture, unkept = picture_of(micrograph, verdict.detections), ""
    sheet = Sheet(verdict=verdict, picture=picture, conditions=tuple(about_conditions(micrograph)))
    try:
        save_part(part, sheet)
    except PassbandError as e:
        unkept = str(e)
    return _Answer(
        verdict=verdict,
        picture=picture,
        conditions=sheet.conditions,
        reused=False,
        part=part,
        unkept=unkept,
    )


def _key(item: _Item, reading: Reading, judge: Judge) -> str:
    """Fingerprint of all that a part depends on, but for the micrograph's name."""
    path = Path(item.path)
    try:
        about = path.stat()
        content = _content(path.absolute(), about.st_size, about.st_mtime_ns)
    except OSError as e:
        raise ReadError(f"cannot be read: {e.strerror or e}") from e
    depends = {
        "passband": __version__,
        "content": content,
        "suffix": path.suffix.lower(),
        "bundle": judge.digest,
        "frame": reading.frame,
        "permissive": reading.permissive,
        "scale_bars": scale_bar.installed(),
        "pixel_size": reading.given_pixel_size(item.path),
        "defocus": reading.defocus,
        "instrument": reading.instrument,
        **judge.settings,
    }
    if item.given is not None and item.path in item.given.found:
        d = item.given.found[item.path]
        masks = [a for m in d.masks or () for a in (np.array([m.y, m.x]), m.pixels)]
        depends["given"] = [arrays_sha256(d.boxes_xyxy, d.scores, *masks), d.score_threshold, d.scored]
    return key(depends)


@lru_cache(maxsize=4)
def _content(path: Path, size: int, changed: int) -> str:
    """Checksum of a file; of a film once for all its frames."""
    return file_sha256(path)


def _subtitle(plan: Plan) -> str:
    b = plan.judge
    words = f"Bundle {b.name} ({b.digest[:12] or 'not from a file'}), Passband {__version__}"
    return words if plan.detections is None else f"Detections of {plan.detections.path}. {words}"
