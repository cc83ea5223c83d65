"""A study by the jobs of a batch system that kills them: arrays of shares, and workers of Dask."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import fake_tasks
import pytest
from made_study import made_study, options, run, table

from passband.engines.settings import EngineSettings, batch_jobs
from passband.engines.tasks import run_tasks
from passband.errors import ParameterError, PassbandError
from passband.generalise.run import run_study, study_status

HERE = Path(fake_tasks.__file__).parent

# `sbatch --array=1-3 --wrap '...'` or `sbatch SCRIPT`: jobs begin at once; `timeout` ends those of an array.
SBATCH = """\
#!/bin/bash
cd "$(dirname "$0")"
job=$(( $(ls -d job.* 2>/dev/null | wc -l) + 1 )); mkdir job.$job
case "$1" in
  --array=*)
    range=${1#--array=}
    for i in $(seq ${range%-*} ${range#*-}); do
      SLURM_ARRAY_TASK_ID=$i timeout -s TERM "$FAKE_SECONDS" sh -c "$3" > job.$job/out.$i 2>&1 &
      echo $! >> job.$job/pids
    done ;;
  *)
    cp "$1" job.$job/script
    setsid bash job.$job/script > job.$job/out 2>&1 &
    echo $! >> job.$job/pids ;;
esac
echo "Submitted batch job $job"
"""
SCANCEL = """\
#!/bin/bash
kill -s KILL -- -$(cat "$(dirname "$0")/job.$1/pids")
"""


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a batch system, whose commands are found."""
    place = tmp_path / "batch"
    place.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return place


def pids(batch: Path) -> list[int]:
    return [int(line) for path in batch.glob("job.*/pids") for line in path.read_text().split()]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_an_array_that_is_killed_again_and_again_does_every_run_once(
    tmp_path: Path, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, study = tmp_path / "s", made_study(range(10, 34))
    run_study(study, folder, options("tenth", engine=None))
    worker = f"{sys.executable} -c 'from passband.cli import main; main()' study worker {folder}"
    command = ["sbatch", "--array=1-3", "--wrap", f"{worker} --shard $SLURM_ARRAY_TASK_ID/3"]
    done, seconds = [], 1.2  # each share takes 1.6 s and what Python takes to start
    while not done or done[-1] < 48:
        monkeypatch.setenv("FAKE_SECONDS", f"{seconds:.2f}")
        subprocess.run(command, check=True, capture_output=True)
        while not all(map(ended, pids(batch))):
            time.sleep(0.02)
        done.append(study_status(folder).done)
        seconds *= 1.7
        assert seconds < 60
    assert done[0] < 48 and done == sorted(done)
    assert (study_status(folder).failed, study_status(folder).rows) == (0, 144)
    run(study, tmp_path / "whole")
    assert table(folder) == table(tmp_path / "whole")
    rows = table(folder).decode().splitlines()
    assert len(set(rows)) == len(rows) == 145


def test_workers_of_dask_as_jobs_do_a_study(tmp_path: Path, batch: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(JOBS)
    command = [sys.executable, str(script), str(HERE), str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
    job = (batch / "job.1" / "script").read_text()
    assert "#SBATCH -p short" in job and "#SBATCH -t 00:10:00" in job and "--nthreads 1" in job
    assert len(pids(batch)) == 2
    deadline = time.monotonic() + 60
    while not all(map(ended, pids(batch))):
        assert time.monotonic() < deadline, "jobs outlive the study"
        time.sleep(0.05)
    run(made_study(), tmp_path / "whole")
    assert table(tmp_path / "s") == table(tmp_path / "whole")


JOBS = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from made_study import made_study
from passband.engines.settings import EngineSettings
from passband.generalise.run import RunOptions, Work, run_study

if __name__ == "__main__":
    where = "slurm:queue=short,memory=1GB,walltime=00:10:00,interface=lo"
    settings = EngineSettings(engine="dask", scheduler=where, workers=2)
    work = Work(task="fake_tasks:trivial", prepare="fake_tasks:prepare")
    print(run_study(made_study(), Path(sys.argv[2]), RunOptions(engine=settings, work=work)).done)
"""


REFUSED = """
import sys
from passband.engines.settings import EngineSettings
from passband.engines.tasks import run_tasks
from passband.errors import PassbandError

if __name__ == "__main__":
    where = "slurm:memory=1GB,queue=none,interface=lo"
    try:
        list(run_tasks(abs, [1], EngineSettings(engine="dask", scheduler=where, workers=1)))
    except PassbandError as e:
        print(e)
"""


def test_a_batch_system_that_takes_no_job_is_told(tmp_path: Path, batch: Path) -> None:
    (batch / "sbatch").write_text("#!/bin/sh\necho invalid partition specified >&2\nexit 1\n")
    script = tmp_path / "driver.py"
    script.write_text(REFUSED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert "no job could be handed in: RuntimeError" in done.stdout, done.stderr
    assert "invalid partition specified" in done.stdout


def test_jobs_that_cannot_be_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_jobs("tcp://host:8786") is None
    with pytest.raises(ParameterError, match="options of pbs are name=value"):
        batch_jobs("pbs:queue")
    with pytest.raises(ParameterError, match="how many jobs is not said"):
        EngineSettings(engine="dask", scheduler="lsf:memory=1GB")
    for cores in ("some", "0", "-1", "1.5"):
        with pytest.raises(ParameterError, match="cores of a job of slurm must be"):
            EngineSettings(engine="dask", scheduler=f"SLURM:memory=1GB,cores={cores}", workers=1)
    for where in ("slurm:", "slurm:memory=1GB,color=red"):
        jobs = EngineSettings(engine="dask", scheduler=where, workers=1)
        with pytest.raises(ParameterError, match="slurm does not take these options"):
            list(run_tasks(abs, [1], jobs))
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(PassbandError, match=r"pip install 'passband\[jobqueue\]'"):
        list(run_tasks(abs, [1], jobs))
