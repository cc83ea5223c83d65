"""Independent tasks done by this process, by processes beside it, or by Dask: one call, one answer a task.

Whatever the engine: a worker is a process of one thread; short tasks go to it in parcels that take seconds;
no more tasks are taken from their iterator than are about to be done, so that a million of them need no room;
a worker that dies costs nothing but the parcel it held, which is done again, task by task. A task that was
alone at the deaths of two workers is taken for what kills them: it fails, the others go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import Any

from passband.engines.by_dask import by_dask
from passband.engines.local import in_processes
from passband.engines.parcels import Outcome, done
from passband.engines.settings import EngineSettings
from passband.errors import PassbandError
from passband.processes import one_thread


def run_tasks(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings | None = None
) -> Generator[Outcome]:
    """Do independent tasks and give each outcome as it comes, in any order.

    Parameters
    ----------
    function
        Of one task; importable by a worker, as its tasks and values are to be told from one process to
        another.
    tasks
        Taken as they can be done.
    settings
        Who does them; this process if not given.

    Yields
    ------
    Outcome
        One for each task. When the iterator is closed, or an error leaves it, its workers are gone.

    Raises
    ------
    PassbandError
        If a library is missing or the scheduler is lost; an exception of the function is an outcome.

    Examples
    --------
    >>> [(o.task, o.value) for o in run_tasks(abs, [-1, 2])]
    [(-1, 1), (2, 2)]
    >>> [o.failure.words for o in run_tasks(abs, ["a"])]
    ["TypeError: bad operand type for abs(): 'str'"]
    """
    settings = settings or EngineSettings()
    engines = {"inline": _inline, "processes": in_processes, "dask": by_dask}
    return engines[settings.engine](function, tasks, settings)


def run_values(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings | None = None
) -> Generator[tuple[Any, Any]]:
    """Do independent tasks that may not fail, as `run_tasks` does.

    Yields
    ------
    task, value
        As they come.

    Raises
    ------
    PassbandError
        Of the first task that raised one, of the same class; or if memory ran out, or workers died.
    RuntimeError
        If a task raised something else in another process; here it is raised as it is.

    Examples
    --------
    >>> list(run_values(abs, [-1, 2]))
    [(-1, 1), (2, 2)]
    """
    with contextlib.closing(run_tasks(function, tasks, settings)) as outcomes:
        for outcome in outcomes:
            failure = outcome.failure
            if failure is None:
                yield outcome.task, outcome.value
            elif failure.killed or isinstance(failure.error, MemoryError):
                raise PassbandError(
                    f"{failure.words}; what is finished is kept: run the same command again, "
                    "with fewer --workers"
                ) from failure.error
            else:
                raise failure.error or RuntimeError(f"a worker failed: {failure.words}")


def _inline(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome]:
    """All tasks in this process, on one thread as a worker has."""
    with one_thread():
        for task in tasks:
            yield done(function, task)
