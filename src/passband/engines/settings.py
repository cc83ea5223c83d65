"""Who does the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from passband.errors import ParameterError
from passband.processes import core_count

ENGINES = ("inline", "processes", "dask")


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


def chosen_engine(workers: int | None, scheduler: str | None, *, most: int) -> EngineSettings:
    """The engine that a number of workers or the address of a scheduler asks for.

    Parameters
    ----------
    workers
        Processes of this machine, as many as cores if not given; one is this process itself.
    scheduler
        Address of a Dask scheduler, whose workers then do it.
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
        if workers is not None:
            raise ParameterError("a scheduler has workers of its own; give either workers or a scheduler")
        return EngineSettings(engine="dask", scheduler=scheduler)
    wanted = EngineSettings(workers=core_count() if workers is None else workers)
    count = max(1, min(wanted.workers or 1, most))
    return EngineSettings(engine="inline" if count == 1 else "processes", workers=count)
