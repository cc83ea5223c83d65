"""What a worker does for one run: the task, its rows looked through, one result file."""

from __future__ import annotations

import errno
import json
import math
import pkgutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from passband.engines.parcels import words_of
from passband.errors import PassbandError
from passband.generalise.folder import StudyFolder
from passband.generalise.study import study_from_values
from passband.store.parts import read_part, write_part

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all runs of a study share, as it is sent to a worker.

    Parameters
    ----------
    task
        "module:function".
    study
        Its values as JSON.
    digest
        The study's, for the results.
    folder
        Of the study.
    device
        Where the task is to calculate; one that is no CPU is told to it among the run's values.
    """

    task: str
    study: str
    digest: str
    folder: str
    device: str = "cpu"


def job_of(folder: StudyFolder, device: str = "cpu") -> Job:
    """The job of a study's folder."""
    return Job(
        task=folder.work.task,
        study=json.dumps(folder.study.values()),
        digest=folder.digest,
        folder=str(folder.path.absolute()),
        device=device,
    )


def named_function(name: str) -> Callable[..., Any]:
    """The function that "module:function" names.

    Raises
    ------
    PassbandError
        If there is none.

    Examples
    --------
    >>> named_function("math:sqrt")(4.0)
    2.0
    """
    try:
        function: Callable[..., Any] = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as e:
        raise PassbandError(f"the work {name} cannot be imported: {words_of(e)}") from e
    return function


def perform(job: Job, run: Mapping[str, Any]) -> str:
    """Do one run and write its result, also where it fails; a result that is there is left.

    Parameters
    ----------
    job
        Of the study.
    run
        `Run.values`, and "attempts": how often it was tried with this time.

    Returns
    -------
    str
        The run's name.

    Raises
    ------
    PassbandError
        If the task cannot be imported or the result cannot be written: no fault of the run.
    """
    name, folder = str(run["name"]), Path(job.folder)
    path = folder / "results" / f"{name}.json"
    if path.exists() and is_of(read_part(path), name, job.digest):
        return name
    task, begun = named_function(job.task), time.perf_counter()
    values = {k: v for k, v in run.items() if k != "attempts"}
    if job.device != "cpu":
        values["device"] = job.device
    rows: list[dict[str, Any]] = []
    error, told = None, None
    try:
        rows = looked_through(task(_study(job.study), values, job.folder), _tests(job.study))
    except (Exception, SystemExit) as e:
        if isinstance(e, OSError) and e.errno in _NO_ROOM:
            raise PassbandError(
                f"{folder}: {e.strerror}; what is finished is kept: make room, "
                "then run the same command again"
            ) from e
        error, told = words_of(e), "".join(traceback.format_exception(e, limit=-4))[-4000:]
    seconds = round(time.perf_counter() - begun, 6)
    outcome = {"rows": rows, "error": error, "traceback": told, "seconds": seconds}
    write_part(path, record(name, job.digest, int(run.get("attempts", 1)), outcome))
    return name


def record(name: str, digest: str, attempts: int, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What a result file holds."""
    return {"run": name, "study": digest, "attempts": attempts, **outcome}


def is_of(result: Mapping[str, Any] | None, name: str, digest: str) -> bool:
    """Whether what a file holds is the result of this run of this study."""
    return result is not None and (result.get("run"), result.get("study")) == (name, digest)


def looked_through(rows: Any, tests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A task's rows without the test conditions, which follow from their order.

    Raises
    ------
    ValueError
        If they are not one for each test condition, with finite scores.

    Examples
    --------
    >>> looked_through([{"test_dose": 5, "f1": 1, "loss": 0.5}], [{"test_dose": 5.0}])
    [{'f1': 1.0, 'loss': 0.5}]
    """
    if not isinstance(rows, list) or len(rows) != len(tests):
        got = f"{len(rows)} rows" if isinstance(rows, list) else type(rows).__name__
        raise ValueError(f"the task gave {got}, wanted a list of {len(tests)}, one for each test condition")
    kept = []
    for row, test in zip(rows, tests, strict=True):
        for column, value in test.items():
            if column in row and row[column] != value:
                raise ValueError(f"the task gave a row of {column} {row[column]}, wanted {value}")
        scores = {}
        for column in ("f1", "loss"):
            value = row.get(column)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{column} is {value}, wanted a finite number; did the training diverge?")
            scores[column] = float(value)
        others = {k: _plain(k, v) for k, v in row.items() if k not in scores and k not in test}
        kept.append({**scores, **others})
    return kept


def _plain(column: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise ValueError(f"{column} is of type {type(value).__name__}, wanted a number or a text")


@lru_cache(maxsize=4)
def _study(text: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text)
    return values


@lru_cache(maxsize=4)
def _tests(text: str) -> tuple[dict[str, Any], ...]:
    return tuple(p.columns("test") for p in study_from_values(json.loads(text)).test_points())
