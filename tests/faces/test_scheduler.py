"""A scheduler's workers give what this process gives, to the byte, whatever the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from made_dataset import made_dataset, tree, write_study

ENVIRONMENT = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"}
MAIN = "from passband.cli import main; main()"


@pytest.mark.slow
def test_datasets_and_verdicts_by_a_scheduler_are_those_made_here(tmp_path: Path) -> None:
    place = tmp_path / "scheduler.json"

    def dask(kind: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(place)]
        return subprocess.Popen([*command, "--no-dashboard", *words], env=ENVIRONMENT)

    def passband(*words: str) -> str:
        command = [sys.executable, "-c", MAIN, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "images").mkdir()
    for i in range(5):
        np.save(tmp_path / "images" / f"{i}.npy", np.random.default_rng(i).normal(size=(96, 96)))
    started = [dask("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        while not place.exists():
            time.sleep(0.1)
        started.append(dask("worker", "--nthreads", "1"))
        where = json.loads(place.read_text())["address"]
        study = write_study(tmp_path, scenes=32)
        passband("simulate", "hrtem", str(study), "--out", str(tmp_path / "set"), "--scheduler", where)
        found = passband("assess", "images", "--json", "--report", "there", "--scheduler", where)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert tree(tmp_path / "set") == tree(made_dataset(32))
    assert found == passband("assess", "images", "--json", "--report", "here", "--workers", "1")
    for name in ("report.html", "results.csv", "objects.csv", "detections.coco.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
