"""Running a study: every run once, whatever ends the driver or its workers; how far it is; its table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from passband.engines.settings import EngineSettings
from passband.engines.tasks import run_tasks
from passband.errors import DatasetError, ParameterError, PassbandError
from passband.generalise.carrying import unpack
from passband.generalise.folder import StudyFolder, Work, begin_study, open_study
from passband.generalise.ledger import Ledger, open_ledger, read_ledger
from passband.generalise.performing import job_of, named_function, perform
from passband.generalise.study import Study
from passband.processes import device_fault
from passband.store.folders import sole_writer
from passband.store.parts import write_part
from passband.types import Progress

PREPARED = "prepared.json"
_ERRORS = 20


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """How far a study is.

    Parameters
    ----------
    folder, name
        Of the study.
    runs, done, failed, running, pending
        How many; each run is in one state.
    rows, wanted_rows
        Pairs of a network and a test condition that there are, and that there will be.
    seconds
        What the runs that are done took together.
    errors
        The first failed runs by name, and why they failed.
    """

    folder: Path
    name: str
    runs: int
    done: int
    failed: int
    running: int
    pending: int
    rows: int
    wanted_rows: int
    seconds: float
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a study is run.

    Parameters
    ----------
    engine
        Who does the runs; None to make the folder and what runs share, and do none.
    work
        What is done.
    retry_failed
        Whether runs that failed before are tried again.
    packs
        Files of `passband.generalise.carrying.pack`, whose results are taken instead of made.
    device
        "cpu", or "cuda", which all workers of a machine share: images then have other noise than on a CPU,
        and networks are the same but for chance.

    Raises
    ------
    ParameterError
        If there is no such device, here or, with Dask, anywhere.
    """

    engine: EngineSettings | None = field(default_factory=EngineSettings)
    work: Work = field(default_factory=Work)
    retry_failed: bool = False
    packs: tuple[Path, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        elsewhere = self.device == "cuda" and self.engine is not None and self.engine.engine == "dask"
        fault = None if elsewhere else device_fault(self.device)
        if fault:
            raise ParameterError(fault)


def run_study(
    study: Study, folder: str | Path, options: RunOptions, *, progress: Progress | None = None
) -> StudyStatus:
    """Do every run of a study that is not done; a second call does nothing more.

    Parameters
    ----------
    study
        What to run.
    folder
        New, empty, or begun with the same study. It can be gone on with after any interruption.
    options
        Who does what.
    progress
        Called with a few words, how many runs have ended, and how many there are.

    Returns
    -------
    StudyStatus
        Runs may have failed: their errors are kept, and no other run is held up.

    Raises
    ------
    DatasetError
        If the folder or a pack is of another study, or the folder in use, or cannot be written.
    PassbandError
        If the work cannot be imported, there is no room, or the scheduler is lost.
    """
    begun = begin_study(folder, study, options.work)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sole_writer(begun.path))
        unpack(begun, options.packs)
        ledger = stack.enter_context(open_ledger(begun))
        if options.retry_failed:
            ledger.forget_failures()
        if ledger.counts()["pending"]:
            _prepare(begun, options.engine or EngineSettings(engine="processes"), progress)
            if options.engine is not None:
                _do(begun, ledger, options, progress)
        return _status(begun, ledger)


def _prepare(folder: StudyFolder, engine: EngineSettings, progress: Progress | None) -> None:
    if folder.work.prepare is not None:
        prepare = named_function(folder.work.prepare)
        prepare(folder.study.values(), str(folder.path), engine, progress)
    if not (folder.path / PREPARED).exists():
        write_part(folder.path / PREPARED, {"study": folder.digest})


def _do(folder: StudyFolder, ledger: Ledger, options: RunOptions, progress: Progress | None) -> None:
    assert options.engine is not None
    job = job_of(folder, options.device)
    counts = ledger.counts()
    ended, failed = counts["done"] + counts["failed"], counts["failed"]
    total = sum(counts.values())
    named_function(folder.work.task)  # a task that is not there is said once, not for every run
    outcomes = run_tasks(partial(perform, job), ledger.begin_pending(), options.engine)
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            name, failure = outcome.task["name"], outcome.failure
            if failure is None:
                state = ledger.take_file(name)
            elif failure.killed:
                ledger.fail(outcome.task, failure.words)
                state = "failed"
            else:
                raise PassbandError(failure.words)
            if state is None:
                raise DatasetError(
                    f"{folder.result(name)} is not what its worker wrote; do the workers see the folder "
                    f"{folder.path.absolute()} of this machine? Run the same command again"
                )
            ended += 1
            failed += state == "failed"
            if progress:
                progress(f"{failed} failed" if failed else "", ended, total)


def study_status(folder: str | Path) -> StudyStatus:
    """How far a study is; results that workers have delivered meanwhile are taken in.

    Raises
    ------
    DatasetError
        If there is no study, or it is damaged.
    """
    begun = open_study(folder)
    with ledger_of(begun) as ledger:
        return _status(begun, ledger)


@contextlib.contextmanager
def ledger_of(folder: StudyFolder) -> Iterator[Ledger]:
    """The ledger with all that was delivered, or beside a driver at work, as that last told it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_writer(folder.path))
        except (DatasetError, OSError):  # a driver is at work, or the folder is another's
            ledger = stack.enter_context(read_ledger(folder))
        else:
            ledger = stack.enter_context(open_ledger(folder))
        yield ledger


def _status(folder: StudyFolder, ledger: Ledger) -> StudyStatus:
    study = folder.study
    return StudyStatus(
        folder=folder.path,
        name=study.name,
        runs=study.run_count,
        **ledger.counts(),
        rows=ledger.row_count(),
        wanted_rows=study.run_count * len(study.test),
        seconds=ledger.seconds(),
        errors=tuple(ledger.errors(_ERRORS)),
    )


__all__ = ["RunOptions", "StudyStatus", "Work", "ledger_of", "run_study", "study_status"]
