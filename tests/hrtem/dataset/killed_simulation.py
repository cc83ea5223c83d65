"""Runs the command again and again and kills it: a process of its own, with everything imported once.

``killed_simulation.py STUDY SMALL_STUDY OUT TIMES SEED`` kills runs of STUDY on one folder TIMES times after
random times, and a run of SMALL_STUDY on a new folder just before each of its renames. After each kill what
is there must be whole; at the end the command runs on undisturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import threadpoolctl
import typer
import zarr

from passband.cli import app
from passband.hrtem.dataset.check import check_dataset
from passband.hrtem.dataset.simulate import simulate_scene
from passband.hrtem.dataset.study_file import read_study

COMMAND = typer.main.get_command(app)


def start(study: str, folder: Path, prepare: Callable[[], None]) -> int:
    """The command in a process group of its own, which is its pid."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    prepare()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    COMMAND(["simulate", "hrtem", study, "--out", str(folder), "--workers", "1"], standalone_mode=False)
    os._exit(0)


def die_at(step: int) -> Callable[[], None]:
    """Let this process kill itself just before one of its renames."""

    def prepare() -> None:
        rename, count = Path.replace, 0

        def replace(self: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        Path.replace = replace

    return prepare


def killed(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def finish(study: str, folder: Path) -> None:
    """What is there must be whole; then the command runs to its end."""
    if (folder / "manifest.json").exists():
        assert not check_dataset(folder).faults, check_dataset(folder).faults
    assert not killed(start(study, folder, lambda: None))


def kill_at_random(study: str, folder: Path, times: int, seed: int) -> None:
    rng, kills, whole = random.Random(seed), 0, []
    while kills < times:
        child = start(study, folder, lambda: None)
        time.sleep(rng.uniform(0.1, 0.4))
        os.killpg(child, signal.SIGKILL)
        if killed(child):
            kills += 1
        else:  # it was done before: begin anew, or a quick machine would have nothing left to kill
            shutil.rmtree(folder)
        if (folder / "manifest.json").exists():
            found = check_dataset(folder)
            assert not found.faults, found.faults
            whole.append(found.whole)
    print(f"killed {kills} with {whole} scenes whole", flush=True)
    finish(study, folder)


def kill_at_each_rename(study: str, folder: Path) -> None:
    step = 1
    while killed(start(study, folder / str(step), die_at(step))):
        finish(study, folder / str(step))
        step += 1


def main(study: str, small_study: str, out: str, times: str, seed: str) -> None:
    simulate_scene(read_study(study), 0)  # so that all is imported once, here, and children start at once
    assert zarr and threadpoolctl
    kill_at_random(study, Path(out, "random"), int(times), int(seed))
    kill_at_each_rename(small_study, Path(out, "steps"))


if __name__ == "__main__":
    main(*sys.argv[1:])
