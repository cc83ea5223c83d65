"""A study is run once, whatever ends its driver or its workers, and its table is the same to the byte."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import fake_tasks
import pytest
import torch
from made_study import TESTS, made_study, options, run, table

from passband.engines.settings import EngineSettings
from passband.errors import DatasetError, ParameterError, PassbandError
from passband.generalise.export import export_csv, export_parquet
from passband.generalise.folder import open_study
from passband.generalise.ledger import LEDGER
from passband.generalise.performing import job_of, perform
from passband.generalise.run import RunOptions, Work, run_study, study_status
from passband.generalise.shards import Shard, shard_from_text, work_shard
from passband.generalise.study import RECIPE
from passband.store.folders import sole_writer
from passband.store.parts import read_part

HERE = Path(fake_tasks.__file__).parent


def results(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "results").iterdir()}


def test_every_run_and_test_condition_makes_one_row(tmp_path: Path) -> None:
    study = made_study()
    status = run(study, tmp_path / "s")
    assert (status.runs, status.done, status.failed, status.pending) == (12, 12, 0, 0)
    assert status.rows == status.wanted_rows == 12 * len(TESTS)
    head, *lines = table(tmp_path / "s").decode().splitlines()
    assert head == (
        "run,train_network,train_defocus_nm,train_cs_mm,train_focal_spread,train_dose,train_materials,"
        "train_diameter_nm,test_defocus_nm,test_cs_mm,test_focal_spread,test_dose,test_materials,"
        "test_diameter_nm,seed,f1,loss"
    )
    assert len(set(lines)) == len(lines) == 36
    assert lines[0].split(",")[2:3] + lines[0].split(",")[8:9] == ["10.0", "-20.0"]


def test_a_second_start_adds_nothing(tmp_path: Path) -> None:
    run(made_study(), tmp_path / "s")
    before = results(tmp_path / "s"), table(tmp_path / "s")
    assert run(made_study(), tmp_path / "s").done == 12
    assert (results(tmp_path / "s"), table(tmp_path / "s")) == before
    assert (tmp_path / "s" / "data").read_text() == "prepared study\n"


def test_processes_give_what_inline_gives_to_the_byte(tmp_path: Path) -> None:
    run(made_study(), tmp_path / "a")
    run(made_study(), tmp_path / "b", engine="processes")
    assert table(tmp_path / "a") == table(tmp_path / "b")


def test_failures_are_kept_and_hold_up_no_other(tmp_path: Path) -> None:
    study = made_study(range(9), seeds=1)
    status = run(study, tmp_path / "s", "sometimes", engine="processes")
    assert (status.done, status.failed, status.pending) == (2, 7, 0)
    said = [error for _, error in status.errors]
    assert said == [
        "ValueError: no such focus",
        "ValueError: loss is nan, wanted a finite number; did the training diverge?",
        "its worker died each time it was tried, perhaps because memory ran out",
        "memory ran out",
        "ValueError: the task gave 2 rows, wanted a list of 3, one for each test condition",
        "SystemExit: leaving",
        "ValueError: f1 is good, wanted a finite number; did the training diverge?",
    ]
    again = run(study, tmp_path / "s", "sometimes")
    assert (again.done, again.failed) == (2, 7)
    (tmp_path / "s" / "cured").touch()
    cured = run_study(study, tmp_path / "s", options("sometimes", retry_failed=True))
    assert (cured.done, cured.failed, cured.rows) == (9, 0, 27)
    run(study, tmp_path / "whole")
    assert table(tmp_path / "whole") == table(tmp_path / "s")


DRIVER = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from made_study import made_study, options, run
if sys.argv[3] == "worker":
    from passband.generalise.shards import shard_from_text, work_shard
    print(work_shard(sys.argv[2], shard_from_text("1/1")).ended)
else:
    run(made_study(), Path(sys.argv[2]), "tenth", engine=sys.argv[3])
"""


def start(folder: Path, engine: str, *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-c", DRIVER, str(HERE), str(folder), engine]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(folder: Path, count: int) -> None:
    end = time.monotonic() + 120  # workers load their libraries first, on a busy machine slowly
    while time.monotonic() < end:
        if (folder / "results").is_dir() and len(list((folder / "results").glob("[!.]*"))) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no results came")


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_a_killed_driver_loses_nothing(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "s"
    with start(folder, engine) as driver:
        wait_for(folder, 3)
        if engine == "processes":
            os.killpg(driver.pid, signal.SIGKILL)  # its workers with it
        driver.kill()
    kept = results(folder)
    status = study_status(folder)
    assert status.done == len(kept) >= 3 and status.running == 0 and status.pending == 12 - status.done
    run(made_study(), folder, "tenth", engine="processes")
    assert {name: results(folder)[name] for name in kept} == kept
    run(made_study(), tmp_path / "whole")
    assert table(folder) == table(tmp_path / "whole")


def test_a_full_disk_stops_the_study_and_fails_no_run(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "s"
    with pytest.raises(PassbandError, match="No space left on device; what is finished is kept: make room"):
        run(made_study(), folder, "without_room")
    assert (study_status(folder).failed, study_status(folder).pending) == (0, 12)

    rename, count = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal count
        count += "results" in str(target)
        if count > 4 and "results" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    folder = tmp_path / "t"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(PassbandError, match=r"cannot be written: No space left on device"):
            run(made_study(), folder)
    assert (study_status(folder).done, study_status(folder).failed) == (4, 0)
    assert run(made_study(), folder).done == 12


def test_a_result_delivered_twice_is_one_row(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run_study(made_study(), folder, options(engine=None))
    for _ in range(2):
        assert work_shard(folder, Shard(number=1, of=1)).ended == "all done"
    before = results(folder)
    assert study_status(folder).rows == 36
    (folder / LEDGER).unlink()
    assert run(made_study(), folder).rows == 36
    assert results(folder) == before


@pytest.mark.parametrize("damage", ["cut", "garbled", "emptied", "lost", "other"])
def test_a_damaged_ledger_is_made_anew_from_the_results(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "s"
    run(made_study(), folder)
    wanted, path = table(folder), folder / LEDGER
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbled":
        path.write_bytes(b"x" * 200 + content[200:])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "lost":
        path.unlink()
    else:
        run(made_study([1]), tmp_path / "other")
        shutil.copy(tmp_path / "other" / LEDGER, path)
    status = study_status(folder)
    assert (status.done, status.rows) == (12, 36)
    assert table(folder) == wanted


def test_a_damaged_result_that_was_not_taken_in_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run(made_study(), folder)
    wanted, before = table(folder), results(folder)
    (folder / LEDGER).unlink()
    one, other, *_ = sorted((folder / "results").iterdir())
    one.write_bytes(one.read_bytes()[:-9])
    other.write_bytes((tmp_path / "s" / "results" / sorted(before)[2]).read_bytes())
    assert study_status(folder).pending == 2
    run(made_study(), folder)
    assert table(folder) == wanted


def test_two_drivers_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run_study(made_study(), folder, options(engine=None))
    with sole_writer(folder):
        with pytest.raises(DatasetError, match="another run is writing to"):
            run(made_study(), folder)
        assert study_status(folder).pending == 12  # told beside the driver


def test_an_edited_study_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    run(made_study(), tmp_path / "s")
    with pytest.raises(DatasetError, match=r"choose a new folder(.|\n)*seeds: 2, 3"):
        run(made_study(seeds=3), tmp_path / "s")
    with pytest.raises(DatasetError, match="of the task fake_tasks:trivial, and this is fake_tasks:tenth"):
        run(made_study(), tmp_path / "s", "tenth")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.doc").touch()
    with pytest.raises(DatasetError, match=r"holds no study \(there is thesis.doc\)"):
        run(made_study(), tmp_path / "t")


def test_another_recipe_is_refused(tmp_path: Path, monkeypatch) -> None:
    run(made_study(), tmp_path / "s")
    monkeypatch.setattr("passband.generalise.folder.RECIPE", RECIPE + 1)
    with pytest.raises(
        DatasetError, match=f"trained by recipe {RECIPE}, and this one trains by {RECIPE + 1}"
    ):
        study_status(tmp_path / "s")


def test_work_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(PassbandError, match="the work fake_tasks:nothing cannot be imported"):
        run(made_study(), tmp_path / "s", "nothing")
    with pytest.raises(PassbandError, match="the work no_module:x cannot be imported"):
        run_study(made_study(), tmp_path / "t", RunOptions(work=Work(task="no_module:x", prepare=None)))


def test_shards_together_do_every_run_once(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with pytest.raises(DatasetError, match="wanted the folder of a study"):
        work_shard(folder, Shard(number=1, of=5))
    run_study(made_study(), folder, options(engine=None))
    done = [work_shard(folder, Shard(number=i, of=5)).done for i in range(1, 6)]
    assert done == [3, 3, 2, 2, 2]
    assert study_status(folder).done == 12
    run(made_study(), tmp_path / "whole")
    assert table(folder) == table(tmp_path / "whole")


def test_a_task_is_told_of_a_device_that_is_no_cpu(tmp_path: Path) -> None:
    """Every worker is, and a result is the same run's whatever it was made on."""
    study = made_study([10.0], seeds=1)
    run_study(study, tmp_path / "s", options("told", engine=None))
    folder, values = open_study(tmp_path / "s"), next(study.runs()).values()
    for device, share in (("cpu", 0.25), ("cuda", 0.75)):
        name = perform(job_of(folder, device), values)
        assert name == values["name"]
        assert read_part(folder.result(name))["rows"][0]["f1"] == share
        folder.result(name).unlink()


def test_a_device_that_is_not_there_is_told_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="device must be cpu or cuda, got 'tpu'"):
        RunOptions(device="tpu")
    if torch.cuda.is_available():
        return
    with pytest.raises(ParameterError, match="torch sees no CUDA device on this machine; take cpu"):
        RunOptions(device="cuda")
    run_study(made_study(), tmp_path / "s", options(engine=None))
    with pytest.raises(ParameterError, match="torch sees no CUDA device"):
        work_shard(tmp_path / "s", Shard(number=1, of=1), device="cuda")
    assert (
        RunOptions(device="cuda", engine=EngineSettings(engine="dask")).device == "cuda"
    )  # the workers' own


def test_a_shard_ends_before_its_time_is_over(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run_study(made_study(), folder, options("tenth", engine=None))
    begun = time.monotonic()
    outcome = work_shard(folder, Shard(number=1, of=1), until_seconds=0.35)
    assert time.monotonic() - begun < 0.6
    assert (outcome.ended, outcome.done + outcome.left) == ("time is up", 12)
    assert 0 < outcome.done < 5
    assert work_shard(folder, Shard(number=1, of=1)).left == 0


def test_a_shard_that_is_told_to_end_ends_well_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run_study(made_study(), folder, options("tenth", engine=None))
    with start(folder, "worker", "timeout", "--preserve-status", "-s", "TERM", "20") as job:
        wait_for(folder, 2)
        job.terminate()
        assert job.communicate()[0] == "stopped\n"
        assert job.returncode == 0
    assert 2 <= study_status(folder).done < 12
    assert not list((folder / "shards").iterdir())
    assert work_shard(folder, Shard(number=1, of=1)).ended == "all done"


def test_a_run_that_kills_its_job_fails_at_the_third_hand_in(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run_study(made_study(range(2, 6), seeds=1), folder, options("sometimes", engine=None))
    for _ in range(2):
        with start(folder, "worker") as job:
            job.communicate()
            assert job.returncode == -signal.SIGKILL
    assert work_shard(folder, Shard(number=1, of=1)).ended == "all done"
    status = study_status(folder)
    assert status.failed == 4 and "its worker was ended each time" in status.errors[1][1]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/3/5"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="a shard is i/N"):
        shard_from_text(text)


def test_tables_are_the_same_in_both_forms(tmp_path: Path) -> None:
    import csv

    import pyarrow.parquet as pq

    folder = tmp_path / "s"
    run_study(made_study(), folder, options(engine=None))
    with pytest.raises(DatasetError, match="has no row yet"):
        export_csv(folder, tmp_path / "a.csv")
    run(made_study(), folder)
    assert export_csv(folder, tmp_path / "a.csv") == export_parquet(folder, tmp_path / "a.parquet") == 36
    with (tmp_path / "a.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    found = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [{k: str(v) for k, v in row.items()} for row in found] == rows


def test_parquet_without_its_library_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    run(made_study(), tmp_path / "s")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PassbandError, match=r"pip install 'passband\[parquet\]'"):
        export_parquet(tmp_path / "s", tmp_path / "a.parquet")


DASK_KILLED = """
import json, sys
sys.path[:0] = [sys.argv[1]]
import fake_tasks
from passband.engines.settings import EngineSettings
from passband.engines.tasks import run_tasks

if __name__ == "__main__":
    once = (sys.argv[2] + "/once",)
    settings = EngineSettings(engine="dask", workers=2)
    told = {}
    for o in run_tasks(fake_tasks.twice, [1, once, "kill", 2], settings):
        told[str(o.task)] = o.failure.killed if o.failure else o.value
    print(json.dumps([told["1"], told["2"], told[str(once)], told["kill"]]))
"""


def by_script(text: str, folder: Path) -> list[object]:
    """What a script prints, JSON in each line: Dask's threads and sockets are left to its process."""
    script = folder / "driver.py"
    script.write_text(text)
    command = [sys.executable, str(script), str(HERE), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return list(map(json.loads, done.stdout.splitlines()))


@pytest.mark.slow
def test_a_task_that_kills_workers_of_dask_is_one_failure(tmp_path: Path) -> None:
    assert by_script(DASK_KILLED, tmp_path) == [[2, 4, "lived", True]]


DASK = textwrap.dedent(
    """
    import json, os, subprocess, sys, time
    sys.path[:0] = [sys.argv[1]]
    from pathlib import Path
    from made_study import made_study, run
    from passband.errors import PassbandError
    from passband.engines.settings import EngineSettings
    from passband.generalise.run import RunOptions, Work, run_study

    if __name__ == "__main__":
        out = Path(sys.argv[2])
        print(json.dumps(run(made_study(), out / "dask", engine="dask").done))
        where = out / "scheduler.json"
        env = {**os.environ, "PYTHONPATH": sys.argv[1], "DASK_LOGGING__DISTRIBUTED": "critical"}
        def dask(kind, *words):
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(where)]
            return subprocess.Popen([*command, "--no-dashboard", *words], env=env, stderr=subprocess.DEVNULL)

        scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0")
        while not where.exists():
            time.sleep(0.1)
        worker = dask("worker", "--nthreads", "1")
        settings = EngineSettings(engine="dask", scheduler=json.loads(where.read_text())["address"])
        work = Work(task="fake_tasks:tenth", prepare=None)
        def lose(now, done, total):
            if done == 2:
                scheduler.kill()
        try:
            run_study(made_study(), out / "lost", RunOptions(engine=settings, work=work), progress=lose)
        except PassbandError as e:
            print(json.dumps(str(e)))
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    """
)


def test_dask_gives_the_same_and_a_lost_scheduler_loses_nothing(tmp_path: Path) -> None:
    finished, lost = by_script(DASK, tmp_path)
    assert finished == 12
    assert "was lost; what is finished is kept: run the same command again" in str(lost)
    run(made_study(), tmp_path / "whole")
    assert table(tmp_path / "dask") == table(tmp_path / "whole")
    assert 2 <= study_status(tmp_path / "lost").done < 12
    alone = RunOptions(work=Work(task="fake_tasks:tenth", prepare=None))
    assert run_study(made_study(), tmp_path / "lost", alone).done == 12
    assert table(tmp_path / "lost") == table(tmp_path / "whole")
