"""A share of a study's runs, done by one job of an array: files are all that it writes.

Job i of N does every N-th run. It needs no driver, ends by itself before its time is over, and goes on where
it was when the same job is handed in again.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passband.engines.parcels import DEATHS
from passband.engines.tasks import run_tasks
from passband.errors import DatasetError, ParameterError
from passband.generalise.folder import StudyFolder, open_study
from passband.generalise.performing import Job, is_of, job_of, perform, record
from passband.generalise.run import PREPARED
from passband.processes import device_fault
from passband.store.parts import read_part, write_part
from passband.types import Progress

_WORDS = "its worker was ended each time it was tried, perhaps because memory or the job's time ran out"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Share ``number`` of ``of`` shares of the runs, counted from 1.

    Raises
    ------
    ParameterError
        If there is no such share.

    Examples
    --------
    >>> shard_from_text("3/100")
    Shard(number=3, of=100)
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ParameterError(
                f"a shard is i/N with i from 1 to N, got {self.number}/{self.of}; number the array from 1"
            )


def shard_from_text(text: str) -> Shard:
    """The shard that "i/N" names.

    Raises
    ------
    ParameterError
        If it names none.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not found:
        raise ParameterError(f"a shard is i/N, as 3/100 for the third of a hundred, got {text!r}")
    return Shard(number=int(found[1]), of=int(found[2]))


@dataclass(frozen=True, kw_only=True)
class ShardOutcome:
    """What a job did.

    Parameters
    ----------
    done, left
        Runs of the shard that have a result now, and that have none yet.
    ended
        "all done", "time is up", or "stopped" by a signal.
    """

    done: int
    left: int
    ended: str


def work_shard(
    path: str | Path,
    shard: Shard,
    *,
    until_seconds: float | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> ShardOutcome:
    """Do the runs of one shard that have no result yet, in this process.

    Parameters
    ----------
    path
        Of the study's folder, begun and prepared.
    shard
        Which runs.
    until_seconds
        From now; no run is begun that would last longer if it took as long as the longest before it.
    device
        As in `RunOptions`.
    progress
        Called with a few words, how many runs of the shard are done, and how many it has.

    Raises
    ------
    DatasetError
        If there is no study, or what its runs share was not made yet.
    ParameterError
        If the time is not positive, or there is no such device.
    """
    begun = time.monotonic()
    if until_seconds is not None and until_seconds <= 0:
        raise ParameterError(f"the time must be more than 0 s, got {until_seconds:g}")
    if fault := device_fault(device):
        raise ParameterError(fault)
    folder = open_study(path)
    if not (folder.path / PREPARED).exists():
        raise DatasetError(
            f"{path}: what the runs share is not made yet; "
            f"`passband study run FILE --out {path} --begin-only` makes it"
        )
    total, longest = len(range(shard.number, folder.study.run_count + 1, shard.of)), 0.0
    job, done, ended = job_of(folder, device), 0, "all done"
    with _stoppable(), _journal(folder, job, shard) as begin:
        try:
            for values in itertools.islice(_values(folder), shard.number - 1, None, shard.of):
                if not _has_result(folder, job, str(values["name"])):
                    at = time.monotonic()
                    if until_seconds is not None and at - begun + longest > until_seconds:
                        ended = "time is up"
                        break
                    begin(str(values["name"]))
                    (outcome,) = run_tasks(lambda v: perform(job, v), [values])
                    if outcome.failure:
                        raise DatasetError(outcome.failure.words)
                    longest = max(longest, time.monotonic() - at)
                done += 1
                if progress:
                    progress("", done, total)
        except _StoppedError:
            ended = "stopped"
    if ended != "all done":
        names = (str(v["name"]) for v in itertools.islice(_values(folder), shard.number - 1, None, shard.of))
        done = sum(folder.result(name).exists() for name in names)
    return ShardOutcome(done=done, left=total - done, ended=ended)


def _values(folder: StudyFolder) -> Iterator[dict[str, Any]]:
    return (run.values() for run in folder.study.runs())


def _has_result(folder: StudyFolder, job: Job, name: str) -> bool:
    path = folder.result(name)
    return path.exists() and is_of(read_part(path), name, job.digest)


class _StoppedError(BaseException):
    """A signal came that asks this process to end; no task may catch it as its own error."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, end the run at hand."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _journal(folder: StudyFolder, job: Job, shard: Shard) -> Iterator[Any]:
    """Keep which run this shard is at: one at which its process was killed time after time has failed."""
    path = folder.path / "shards" / f"{shard.number}-of-{shard.of}.json"
    before = read_part(path) or {}
    deaths = {before["run"]: before["deaths"] + 1} if "run" in before else {}
    for name, count in deaths.items():
        if count >= DEATHS and not _has_result(folder, job, name):
            outcome: dict[str, Any] = {"rows": [], "error": _WORDS, "traceback": None, "seconds": None}
            write_part(folder.result(name), record(name, job.digest, count, outcome))

    def begin(name: str) -> None:
        write_part(path, {"run": name, "deaths": deaths.get(name, 0)})

    try:
        yield begin
    finally:  # whatever ended it by itself was no sudden death
        path.unlink(missing_ok=True)
