"""What is done of tasks: one after another, in parcels that take seconds, and again where a worker died."""

from __future__ import annotations

import itertools
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from passband.errors import PassbandError

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
    error
        The exception; of those that came from another process only Passband's own, and that memory ran out.
    """

    words: str
    killed: bool = False
    error: BaseException | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A task, and what it returned or why it did not."""

    task: Any
    value: Any = None
    failure: Failure | None = None


def words_of(error: BaseException) -> str:
    r"""What an exception says, on one line of at most 500 letters.

    Examples
    --------
    >>> from passband.errors import ParameterError
    >>> words_of(ValueError("no\n such value")), words_of(ParameterError("wrong"))
    ('ValueError: no such value', 'wrong')
    """
    if isinstance(error, MemoryError):
        return "memory ran out"
    said = " ".join(str(error).split())
    name = "" if isinstance(error, PassbandError) and said else type(error).__name__
    return ": ".join(filter(None, (name, said)))[:500]


def done(function: Callable[[Any], Any], task: Any) -> Outcome:
    """What comes of a task, whatever it does but end this process."""
    try:
        return Outcome(task=task, value=function(task))
    except (Exception, SystemExit) as e:
        return Outcome(task=task, failure=Failure(words=words_of(e), error=e))


def work(function: Callable[[Any], Any], tasks: Sequence[Any]) -> tuple[list[Outcome], float]:
    """What a worker does with a parcel: the outcomes, and how many seconds they took."""
    begun = time.perf_counter()
    outcomes = [_to_be_sent(done(function, task)) for task in tasks]
    return outcomes, time.perf_counter() - begun


def _to_be_sent(outcome: Outcome) -> Outcome:
    """Without an exception that another process might not be able to make again."""
    failure = outcome.failure
    if failure is None or failure.error is None or isinstance(failure.error, (PassbandError, MemoryError)):
        return outcome
    if os.environ.get("PASSBAND_TRACEBACK"):
        traceback.print_exception(failure.error)
    return replace(outcome, failure=replace(failure, error=None))


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """Tasks that a worker gets together, and how many workers have died that held its only one."""

    tasks: tuple[Any, ...]
    deaths: int = 0


class Parcels:
    """Tasks on their way into parcels; what a dead worker held comes back one by one."""

    def __init__(self, tasks: Iterable[Any], seconds: float) -> None:
        self._tasks, self._seconds = iter(tasks), seconds
        self._again: deque[Parcel] = deque()
        self._size = 1

    def take(self) -> Parcel | None:
        """The next parcel, if there is one."""
        if self._again:
            return self._again.popleft()
        tasks = tuple(itertools.islice(self._tasks, self._size))
        return Parcel(tasks=tasks) if tasks else None

    def took(self, parcel: Parcel, seconds: float) -> None:
        """Learn from a parcel how many tasks the next ones may hold: no more than twice as many."""
        wanted = int(self._seconds * len(parcel.tasks) / max(seconds, 1e-9))
        self._size = max(1, min(wanted, 2 * self._size, PARCEL))

    def died(self, parcel: Parcel, *, certain: bool = False) -> Generator[Outcome]:
        """What a dead worker held is done again, or fails if it was alone with too many of them."""
        alone = len(parcel.tasks) == 1
        deaths = parcel.deaths + alone
        if alone and (certain or deaths >= DEATHS):
            words = "its worker died each time it was tried, perhaps because memory ran out"
            yield Outcome(task=parcel.tasks[0], failure=Failure(words=words, killed=True))
        else:
            self._again.extend(Parcel(tasks=(task,), deaths=deaths) for task in parcel.tasks)
