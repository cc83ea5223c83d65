"""Who does the tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from passband.errors import ParameterError
from passband.processes import core_count

ENGINES = ("inline", "processes", "dask")
BATCH_SYSTEMS = ("slurm", "pbs", "lsf")
"""That start workers as their jobs."""
MOST_WORKERS = 10_000
_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx)://)?([^\s/:\[\]]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


@dataclass(frozen=True, kw_only=True)
class BatchJobs:
    """Jobs of a batch system, each of one worker or more, that Dask hands in and replaces when they end.

    Parameters
    ----------
    system
        "slurm", "pbs" or "lsf".
    options
        Pairs of a keyword of dask-jobqueue's cluster and its value, as ("queue", "short").
    """

    system: str
    options: tuple[tuple[str, str], ...] = ()


def batch_jobs(scheduler: str | None) -> BatchJobs | None:
    """The jobs that "slurm:queue=short,memory=4GB,walltime=01:00:00" asks for; None of an address.

    Raises
    ------
    ParameterError
        If an option has no value, or there is to be no core.

    Examples
    --------
    >>> batch_jobs("slurm:memory=4GB")
    BatchJobs(system='slurm', options=(('memory', '4GB'),))
    >>> batch_jobs("tcp://host:8786")
    """
    name, _, text = (scheduler or "").partition(":")
    system = name.lower()
    if system not in BATCH_SYSTEMS:
        return None
    options = [tuple(part.strip() for part in option.partition("=")) for option in text.split(",") if option]
    wrong = [name for name, _, value in options if not name.isidentifier() or not value]
    if wrong:
        raise ParameterError(
            f"options of {system} are name=value with commas between, as slurm:queue=short,memory=4GB; "
            f"got {text!r}"
        )
    cores = dict((name, value) for name, _, value in options).get("cores", "1")
    if not cores.isdecimal() or int(cores) < 1:
        raise ParameterError(
            f"cores of a job of {system} must be a whole number of at least 1, got {cores!r}"
        )
    return BatchJobs(system=system, options=tuple((name, value) for name, _, value in options))


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
        Address of a Dask scheduler to join, as "tcp://host:8786", whose workers have one thread each; or
        the jobs that are to be workers, as `batch_jobs` takes them.
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
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise ParameterError(f"workers must be 1 to {MOST_WORKERS:,}, got {self.workers}")
        if self.scheduler is not None and self.engine != "dask":
            raise ParameterError(f"a scheduler is Dask's, and the engine is {self.engine}; take engine dask")
        jobs = batch_jobs(self.scheduler)
        if self.scheduler is not None and not jobs and not _ADDRESS.fullmatch(self.scheduler):
            raise ParameterError(
                "a scheduler is an address, as tcp://host:8786, or a batch system, as "
                f"slurm:queue=short,memory=4GB; got {self.scheduler!r}"
            )
        if self.scheduler is not None and not jobs and self.workers is not None:
            raise ParameterError("a scheduler has workers of its own; give either workers or a scheduler")
        if jobs and self.workers is None:
            raise ParameterError("how many jobs is not said: give the number of workers, as --workers 20")


def chosen_engine(workers: int | None, scheduler: str | None, *, most: int) -> EngineSettings:
    """The engine that a number of workers or the address of a scheduler asks for.

    Parameters
    ----------
    workers
        Processes of this machine, as many as cores if not given; one is this process itself. With a
        batch system, its workers.
    scheduler
        Address of a Dask scheduler, whose workers then do it; or a batch system, as `batch_jobs` takes it.
    most
        No more workers than that are of use.

    Raises
    ------
    ParameterError
        If there is to be no worker, or both are given.

    Examples
    --------
    >>> chosen_engine(8, None, most=3)
    EngineSettings(engine='processes', workers=3, scheduler=None, parcel_seconds=2.0)
    """
    if scheduler is not None:
        return EngineSettings(engine="dask", scheduler=scheduler, workers=workers)
    wanted = EngineSettings(workers=core_count() if workers is None else workers)
    count = max(1, min(wanted.workers or 1, most))
    return EngineSettings(engine="inline" if count == 1 else "processes", workers=count)
