"""Independent tasks done by this process, by processes beside it, or by Dask: one call, one answer a task.

Whatever the engine: a worker is a process of one thread; short tasks go to it in parcels that take seconds;
no more tasks are taken from their iterator than are about to be done, so that a million of them need no room;
a worker that dies costs nothing but the parcel it held, which is done again, task by task. A task that was
alone at the deaths of two workers is taken for what kills them: it fails, the others go on.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from passband.errors import ParameterError, PassbandError
from passband.processes import ONE_THREAD, core_count, one_thread

ENGINES = ("inline", "processes", "dask")
PARCEL = 200
"""Most tasks of a parcel."""
DEATHS = 2
"""Of workers that held a task alone, before it is taken for their cause."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a task gave no value.

    Parameters
    ----------
    words
        What its exception said, or that its worker died.
    killed
        Whether its worker died.
    """

    words: str
    killed: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A task, and what it returned or why it did not."""

    task: Any
    value: Any = None
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Who does the tasks.

    Parameters
    ----------
    engine
        "inline", "processes" or "dask".
    workers
        How many processes; as many as cores if not given. Inline there is none but this one.
    scheduler
        Address of a Dask scheduler to join, as "tcp://host:8786", whose workers have one thread each.
    parcel_seconds
        About how long the tasks of a parcel take together.

    Raises
    ------
    ParameterError
        If there is no such engine, or the settings do not go together.
    """

    engine: str = "inline"
    workers: int | None = None
    scheduler: str | None = None
    parcel_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ParameterError(f"engine must be {', '.join(ENGINES)}, got {self.engine!r}")
        if self.workers is not None and self.workers < 1:
            raise ParameterError(f"workers must be at least 1, got {self.workers}")
        if self.scheduler is not None and self.engine != "dask":
            raise ParameterError(f"a scheduler is Dask's, and the engine is {self.engine}; take engine dask")


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
    engines = {"inline": _inline, "processes": _in_processes, "dask": _by_dask}
    return engines[settings.engine](function, tasks, settings)


def words_of(error: BaseException) -> str:
    r"""What an exception says, on one line of at most 500 letters.

    Examples
    --------
    >>> words_of(ValueError("no\n such value")), words_of(ParameterError("wrong"))
    ('ValueError: no such value', 'wrong')
    """
    if isinstance(error, MemoryError):
        return "memory ran out"
    said = " ".join(str(error).split())
    name = "" if isinstance(error, PassbandError) and said else type(error).__name__
    return ": ".join(filter(None, (name, said)))[:500]


def _done(function: Callable[[Any], Any], task: Any) -> Outcome:
    try:
        return Outcome(task=task, value=function(task))
    except (Exception, SystemExit) as e:
        return Outcome(task=task, failure=Failure(words=words_of(e)))


def _work(function: Callable[[Any], Any], tasks: Sequence[Any]) -> tuple[list[Outcome], float]:
    """What a worker does with a parcel: the outcomes, and how many seconds they took."""
    begun = time.perf_counter()
    return [_done(function, task) for task in tasks], time.perf_counter() - begun


@dataclass(frozen=True, kw_only=True)
class _Parcel:
    tasks: tuple[Any, ...]
    deaths: int = 0


class _Parcels:
    """Tasks on their way into parcels; what a dead worker held comes back one by one."""

    def __init__(self, tasks: Iterable[Any], seconds: float) -> None:
        self._tasks, self._seconds = iter(tasks), seconds
        self._again: deque[_Parcel] = deque()
        self._size = 1

    def take(self) -> _Parcel | None:
        """The next parcel, if there is one."""
        if self._again:
            return self._again.popleft()
        tasks = tuple(itertools.islice(self._tasks, self._size))
        return _Parcel(tasks=tasks) if tasks else None

    def took(self, parcel: _Parcel, seconds: float) -> None:
        """Learn from a parcel how many tasks the next ones may hold: no more than twice as many."""
        wanted = int(self._seconds * len(parcel.tasks) / max(seconds, 1e-9))
        self._size = max(1, min(wanted, 2 * self._size, PARCEL))

    def died(self, parcel: _Parcel, *, certain: bool = False) -> Generator[Outcome]:
        """What a dead worker held is done again, or fails if it was alone with too many of them."""
        alone = len(parcel.tasks) == 1
        deaths = parcel.deaths + alone
        if alone and (certain or deaths >= DEATHS):
            words = "its worker died each time it was tried, perhaps because memory ran out"
            yield Outcome(task=parcel.tasks[0], failure=Failure(words=words, killed=True))
        else:
            self._again.extend(_Parcel(tasks=(task,), deaths=deaths) for task in parcel.tasks)


def _inline(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome]:
    """All tasks in this process, on one thread as a worker has."""
    with one_thread():
        for task in tasks:
            yield _done(function, task)


def _in_processes(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome]:
    """Each worker is a pool of its own of one process: when it dies, it is known what it held."""
    from loky import ProcessPoolExecutor
    from loky.process_executor import BrokenProcessPool

    def start() -> Any:
        return ProcessPoolExecutor(1, initializer=_begin_worker, env=ONE_THREAD)

    parcels = _Parcels(tasks, settings.parcel_seconds)
    idle: list[Any] = [None] * (settings.workers or core_count())
    busy: dict[Future[tuple[list[Outcome], float]], tuple[Any, _Parcel]] = {}

    def hand_out() -> None:
        while idle and (parcel := parcels.take()):
            pool = idle.pop() or start()
            busy[pool.submit(_work, function, parcel.tasks)] = pool, parcel

    try:
        hand_out()
        while busy:
            finished, _ = wait(busy, return_when=FIRST_COMPLETED)
            outcomes: list[Outcome] = []
            for future in finished:
                pool, parcel = busy.pop(future)
                try:
                    answers, seconds = future.result()
                except BrokenProcessPool:
                    pool.shutdown(kill_workers=True)
                    idle.append(None)
                    outcomes += parcels.died(parcel)
                else:
                    idle.append(pool)
                    parcels.took(parcel, seconds)
                    outcomes += answers
            hand_out()
            yield from outcomes
    finally:
        for pool in [*idle, *(pool for pool, _ in busy.values())]:
            if pool is not None:
                pool.shutdown(kill_workers=True)


def _begin_worker() -> None:
    """Leave Ctrl-C to who gave the work, and end when they are gone: nobody waits for it then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    giver = os.getppid()

    def watch() -> None:
        while os.getppid() == giver:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _by_dask(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome]:
    """Parcels by the workers of a Dask scheduler, which gives what a dead one held to another itself."""
    try:
        import dask
        import distributed
    except ImportError as e:
        raise PassbandError(
            f"the engine dask needs a library that is missing ({e.name}): pip install 'passband[dask]'"
        ) from e
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    mine = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.admin.low-level-log-length": 8,  # parcels that were sent would be kept
        "distributed.scheduler.worker-saturation": 1.0,  # a dying worker holds one parcel
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(mine))
        where = settings.scheduler
        if where is None:
            where = stack.enter_context(
                distributed.LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=settings.workers or core_count(),
                    threads_per_worker=1,
                    dashboard_address=None,
                    memory_limit=0,
                    preload=[__name__],
                    silence_logs=logging.CRITICAL,
                )
            )
        try:
            client = stack.enter_context(
                distributed.Client(where, set_as_default=False, timeout=20)  # type: ignore[no-untyped-call]
            )
        except OSError as e:
            raise PassbandError(
                f"no Dask scheduler answers at {where}; see whether it runs, and its address"
            ) from e
        yield from _by_client(client, function, tasks, settings)


def dask_setup(worker: Any) -> None:
    """What a worker that Dask starts here does first: Ctrl-C, and what is said, are left to its driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not os.environ.get("PASSBAND_TRACEBACK"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def _by_client(
    client: Any, function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome]:
    """Two parcels for each worker there is are at the scheduler."""
    from distributed import KilledWorker

    parcels = _Parcels(tasks, settings.parcel_seconds)
    busy: dict[Any, _Parcel] = {}
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room, looked = 0, 0.0
    while True:
        if time.monotonic() - looked > 5 or not room:  # workers come and go
            room, looked = 2 * max(_single_threads(client, settings), 1), time.monotonic()
        while len(busy) < room and (parcel := parcels.take()):
            future = client.submit(_work, function, parcel.tasks, pure=False)
            busy[future] = parcel
            future.add_done_callback(finished.put)
        if not busy:
            return
        try:
            future = finished.get(timeout=1)
        except queue.Empty:
            if client.status not in ("running", "connecting"):
                raise _lost(settings) from None
            continue
        if future.status in ("lost", "pending"):  # done, but its worker died before it told: done again
            future.add_done_callback(finished.put)
            continue
        if future.status not in ("finished", "error"):
            raise _lost(settings)
        parcel = busy.pop(future)
        try:
            answers, seconds = future.result()
        except KilledWorker:
            yield from parcels.died(parcel, certain=True)
        except Exception as e:
            if client.status != "running":
                raise _lost(settings) from e
            raise PassbandError(f"a worker of Dask could not do its work: {words_of(e)}") from e
        else:
            parcels.took(parcel, seconds)
            yield from answers


def _single_threads(client: Any, settings: EngineSettings) -> int:
    """How many workers there are.

    Raises
    ------
    ParameterError
        If one has several threads, which would share the state of one process.
    """
    try:
        threads = client.nthreads().values()
    except OSError as e:
        raise _lost(settings) from e
    if any(n > 1 for n in threads):
        raise ParameterError(
            f"workers of the Dask scheduler have up to {max(threads)} threads; start them with --nthreads 1"
        )
    return len(threads)


def _lost(settings: EngineSettings) -> PassbandError:
    where = f"at {settings.scheduler}" if settings.scheduler else "of this machine"
    return PassbandError(
        f"the Dask scheduler {where} was lost; what is finished is kept: run the same command again"
    )
