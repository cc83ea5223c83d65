"""Processes of this machine, of one thread each."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from passband.engines.parcels import Outcome, Parcel, Parcels, words_of, work
from passband.engines.settings import EngineSettings
from passband.errors import PassbandError
from passband.processes import ONE_THREAD, core_count

_NO_LEAK = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}
"""What large images take and give back is no leak, for which loky would begin a worker again, and say so."""


def in_processes(
    function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome]:
    """Each worker is a pool of its own of one process: when it dies, it is known what it held."""
    from loky import ProcessPoolExecutor
    from loky.process_executor import BrokenProcessPool

    def start() -> Any:
        return ProcessPoolExecutor(1, initializer=begin_worker, env=ONE_THREAD | _NO_LEAK)

    parcels = Parcels(tasks, settings.parcel_seconds)
    idle: list[Any] = [None] * (settings.workers or core_count())
    busy: dict[Future[tuple[list[Outcome], float]], tuple[Any, Parcel]] = {}

    def hand_out() -> None:
        while idle and (parcel := parcels.take()):
            pool = idle.pop() or start()
            busy[pool.submit(work, function, parcel.tasks)] = pool, parcel

    try:
        hand_out()
        while busy:
            finished, _ = wait(busy, return_when=FIRST_COMPLETED)
            outcomes: list[Outcome] = []
            for future in finished:
                pool, parcel = busy.pop(future)
                try:
                    answers, seconds = future.result()
                except BrokenProcessPool as e:
                    pool.shutdown(kill_workers=True)
                    if "un-serialize" in str(e):
                        raise _unsent(e) from e
                    idle.append(None)
                    outcomes += parcels.died(parcel)
                except Exception as e:
                    pool.shutdown(kill_workers=True)
                    raise _unsent(e) from e
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


def _unsent(error: Exception) -> PassbandError:
    return PassbandError(
        f"the work cannot be handed to another process: {words_of(error)}; functions must be importable there"
    )


def begin_worker() -> None:
    """Leave what is said to who gave the work, and end when they are gone: nobody waits for it then."""
    dask_setup(None)
    giver = os.getppid()

    def watch() -> None:
        while os.getppid() == giver:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def dask_setup(worker: Any) -> None:
    """What a worker that is started here does first: Ctrl-C, and what is said, are left to its driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # what a library prints must not get among the driver's answers
    if not os.environ.get("PASSBAND_TRACEBACK"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
