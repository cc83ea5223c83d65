"""Engines: one outcome a task, whatever befalls the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fake_tasks
import pytest

from passband.engines.parcels import Outcome
from passband.engines.settings import EngineSettings, chosen_engine
from passband.engines.tasks import run_tasks, run_values
from passband.errors import ParameterError, PassbandError

PROCESSES = EngineSettings(engine="processes", workers=2)


def told(outcomes: Iterator[Outcome]) -> dict[str, object]:
    return {str(o.task): o.failure.words if o.failure else o.value for o in outcomes}


def test_each_task_has_one_outcome_whatever_others_do(tmp_path: Path) -> None:
    ordinary = list(range(40))
    tasks = [*ordinary[:20], "raise", "exit", "memory", "kill", (str(tmp_path / "once"),), *ordinary[20:]]
    outcomes = list(run_tasks(fake_tasks.twice, tasks, PROCESSES))
    assert len(outcomes) == len(tasks)
    found = told(iter(outcomes))
    assert all(found[str(i)] == 2 * i for i in ordinary)
    assert found["raise"] == "ValueError: as it was told"
    assert found["exit"] == "SystemExit: 3"
    assert found["memory"] == "memory ran out"
    assert "its worker died each time" in str(found["kill"])
    assert found[str((str(tmp_path / "once"),))] == "lived"
    assert [o.task for o in outcomes if o.failure and o.failure.killed] == ["kill"]


def test_engines_agree() -> None:
    tasks = [*range(10), "raise"]
    inline = told(run_tasks(fake_tasks.twice, tasks))
    assert told(run_tasks(fake_tasks.twice, tasks, PROCESSES)) == inline


def test_a_worker_killed_from_outside_costs_nothing() -> None:
    outcomes = run_tasks(fake_tasks.slow, [0.02, *[0.05] * 20], PROCESSES)
    first = next(outcomes)
    os.kill(first.value, signal.SIGKILL)
    rest = list(outcomes)
    assert len(rest) == 20 and not any(o.failure for o in rest)


def test_only_a_window_of_the_tasks_is_taken() -> None:
    taken = 0

    def many() -> Iterator[int]:
        nonlocal taken
        for i in range(10**9):
            taken += 1
            yield i

    outcomes = run_tasks(fake_tasks.twice, many(), PROCESSES)
    for _ in range(100):
        next(outcomes)
    outcomes.close()
    assert taken < 3_000


def test_no_worker_outlives_who_gave_the_work(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys
        sys.path[:0] = [sys.argv[1]]
        import fake_tasks
        from passband.engines.settings import EngineSettings
        from passband.engines.tasks import run_tasks
        for o in run_tasks(fake_tasks.slow, [0, 0, 60], EngineSettings(engine="processes", workers=1)):
            print(o.value, flush=True)
        """
    )
    command = [sys.executable, "-c", code, str(Path(fake_tasks.__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        worker = int(driver.stdout.readline())
        driver.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the worker lives on")


def test_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    list(run_tasks(fake_tasks.twice, [1, "kill", 2], PROCESSES))
    patience = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < patience:
        time.sleep(0.05)  # a thread that was told to end may need a moment on a machine that has other work
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "threads"}, "engine must be inline, processes, dask, got 'threads'"),
        ({"workers": 0}, "workers must be 1 to 10,000, got 0"),
        ({"engine": "dask", "scheduler": "tcp://a:1", "workers": 2}, "either workers or a scheduler"),
        ({"workers": 10**19}, "workers must be 1 to 10,000, got 1000"),
        ({"engine": "processes", "scheduler": "tcp://a:1"}, "a scheduler is Dask's"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        EngineSettings(**settings)


@pytest.mark.parametrize(
    "where",
    ["", "foo:bar", "tcp://", "tcp://host", "http://x:1", "tcp://a:notaport", "a b:1", "x:1/y"],
)
def test_what_is_no_address_is_refused_before_anything_is_begun(where: str) -> None:
    with pytest.raises(ParameterError, match=r"a scheduler is an address, as tcp://host:8786"):
        EngineSettings(engine="dask", scheduler=where)


@pytest.mark.parametrize("where", ["tcp://host:8786", "127.0.0.1:80", "tls://[::1]:9", "a.b-c:12345"])
def test_what_is_an_address_is_one(where: str) -> None:
    assert EngineSettings(engine="dask", scheduler=where).scheduler == where


def test_a_worker_that_takes_much_memory_is_kept() -> None:
    settings = EngineSettings(engine="processes", workers=1, parcel_seconds=0.1)
    assert len({o.value for o in run_tasks(fake_tasks.keep_much, range(4), settings)}) == 1


def test_work_that_cannot_be_sent_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(PassbandError, match="cannot be handed to another process"):
        list(run_tasks(fake_tasks.twice, [threading.Lock()], PROCESSES))


def test_the_first_failure_is_raised_as_what_it_was() -> None:
    for settings in (EngineSettings(), PROCESSES):
        assert sorted(run_values(fake_tasks.twice, [1, 2], settings)) == [(1, 2), (2, 4)]
        with pytest.raises(PassbandError, match="memory ran out; what is finished is kept"):
            list(run_values(fake_tasks.twice, ["memory"], settings))
    with pytest.raises(ValueError, match="as it was told"):
        list(run_values(fake_tasks.twice, ["raise"]))
    with pytest.raises(RuntimeError, match="a worker failed: ValueError: as it was told"):
        list(run_values(fake_tasks.twice, ["raise"], PROCESSES))


def test_the_engine_follows_from_workers_and_scheduler() -> None:
    assert chosen_engine(1, None, most=9).engine == chosen_engine(5, None, most=1).engine == "inline"
    assert chosen_engine(5, None, most=3) == EngineSettings(engine="processes", workers=3)
    assert chosen_engine(None, "tcp://a:1", most=3) == EngineSettings(engine="dask", scheduler="tcp://a:1")
    with pytest.raises(ParameterError, match="either workers or a scheduler"):
        chosen_engine(2, "tcp://a:1", most=3)
