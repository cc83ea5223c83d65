"""Workers of a Dask scheduler, started here or joined."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

from passband.engines import local
from passband.engines.parcels import DEATHS, Outcome, Parcel, Parcels, words_of, work
from passband.engines.settings import BatchJobs, EngineSettings, batch_jobs
from passband.errors import ParameterError, PassbandError
from passband.processes import core_count


def by_dask(
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
        where: Any = settings.scheduler
        jobs = batch_jobs(where)
        refused: list[str] = []
        if jobs is not None:
            where = stack.enter_context(_cluster_of(jobs, settings.workers or 1, refused))
        elif where is None:
            where = stack.enter_context(
                distributed.LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=settings.workers or core_count(),
                    threads_per_worker=1,
                    dashboard_address=None,
                    memory_limit=0,
                    preload=[local.__name__],
                    silence_logs=logging.CRITICAL,
                )
            )
        try:
            client = stack.enter_context(
                distributed.Client(where, set_as_default=False, timeout=20)  # type: ignore[no-untyped-call]
            )
        except (OSError, ValueError, TypeError) as e:
            raise PassbandError(
                f"no Dask scheduler answers at {where} ({words_of(e)}); see whether it runs, and its address"
            ) from e
        for outcome in _by_client(client, function, tasks, settings):
            if outcome is not None:
                yield outcome
            elif refused:
                raise PassbandError(f"no job could be handed in: {refused[0]}")


def _cluster_of(jobs: BatchJobs, workers: int, refused: list[str]) -> Any:
    """A cluster of jobs of one thread a process, kept at its number of workers when jobs end.

    Why a job was refused is added to ``refused`` as long as none was taken: Dask would try for ever.

    Raises
    ------
    PassbandError
        If dask-jobqueue is missing.
    ParameterError
        If it does not take the options.
    """
    try:
        import dask_jobqueue
        from distributed.core import Status
    except ImportError as e:
        raise PassbandError(
            f"workers as jobs need a library that is missing ({e.name}): pip install 'passband[jobqueue]'"
        ) from e
    kind = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}[jobs.system]
    make, options = getattr(dask_jobqueue, kind), dict[str, Any](jobs.options)
    try:
        options["cores"] = options["processes"] = int(options.get("cores", 1))
        make.job_cls("tcp://nowhere:8786", "job", **options)
    except (TypeError, ValueError) as e:
        raise ParameterError(
            f"{jobs.system} does not take these options: {words_of(e)}; they are those of a job of "
            f"dask-jobqueue's {kind}, and memory must be among them or in its jobqueue.yaml"
        ) from e
    taken, base = False, make.job_cls

    class Job(base):  # type: ignore[misc, valid-type]
        async def _submit_job(self, script: str) -> Any:
            nonlocal taken
            try:
                answer = await super()._submit_job(script)
            except (OSError, RuntimeError) as e:
                if not taken:
                    refused.append(words_of(e))
                self.status = Status.failed  # or the cluster could not be closed
                raise
            taken = True
            refused.clear()
            return answer

    cluster = make(job_cls=Job, **options, silence_logs=logging.CRITICAL)
    cluster.adapt(minimum=workers, maximum=workers)  # scale() would not replace a job that ended
    return cluster


def _by_client(
    client: Any, function: Callable[[Any], Any], tasks: Iterable[Any], settings: EngineSettings
) -> Generator[Outcome | None]:
    """Two parcels for each worker there is are at the scheduler; None while nothing comes for a second."""
    from distributed import KilledWorker

    parcels = Parcels(tasks, settings.parcel_seconds)
    busy: dict[Any, Parcel] = {}
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room, looked = 0, 0.0
    while True:
        if time.monotonic() - looked > 5 or not room:  # workers come and go
            room, looked = 2 * max(_single_threads(client, settings), 1), time.monotonic()
        while len(busy) < room and (parcel := parcels.take()):
            future = client.submit(work, function, parcel.tasks, pure=False)
            busy[future] = parcel
            future.add_done_callback(finished.put)
        if not busy:
            return
        try:
            future = finished.get(timeout=1)
        except queue.Empty:
            if client.status not in ("running", "connecting"):
                raise _lost(settings) from None
            yield None
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
