"""Tasks that cost nothing, fail, or take their worker with them; importable by workers."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from passband.generalise.study import study_from_values


def twice(task: Any) -> Any:
    if task == "raise":
        raise ValueError("as it was told")
    if task == "exit":
        raise SystemExit(3)
    if task == "memory":
        return bytearray(2**62)
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(task, tuple):  # dies the first time alone
        path = Path(task[0])
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "lived"
    return task * 2


def slow(task: float) -> int:
    time.sleep(task)
    return os.getpid()


def trivial(study: dict[str, Any], run: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    """A score that follows from both conditions and the seed."""
    return [
        {
            "f1": 1 / (1 + abs(p.defocus_nm - run["train"]["defocus_nm"])),
            "loss": (run["seed"] % 997) / 997,
        }
        for p in study_from_values(study).test_points()
    ]


def sometimes(study: dict[str, Any], run: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    """What befalls a run follows from its training defocus; a file named "cured" in the folder heals."""
    defocus, rows = run["train"]["defocus_nm"], trivial(study, run, folder)
    if Path(folder, "cured").exists():
        return rows
    if defocus == 1:
        raise ValueError("no such\nfocus")
    if defocus == 2:
        rows[0]["loss"] = float("nan")
    if defocus == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if defocus == 4:
        bytearray(2**62)
    if defocus == 5:
        return rows[1:]
    if defocus == 6:
        raise SystemExit("leaving")
    if defocus == 7:
        rows[0]["f1"] = "good"
    return rows


def told(study: dict[str, Any], run: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    """A score that tells what it was done on."""
    share = {None: 0.25, "cuda": 0.75}[run.get("device")]
    return [{"f1": share, "loss": 0.0} for _ in study_from_values(study).test_points()]


def tenth(study: dict[str, Any], run: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    """Trivial, a tenth of a second each."""
    time.sleep(0.1)
    return trivial(study, run, folder)


def without_room(study: dict[str, Any], run: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    raise OSError(errno.ENOSPC, "No space left on device")


def keep_much(task: int) -> int:
    """Take 400 MB, but at first, keep them, and wait until memory is looked at; the process."""
    kept.append(b"x" * 400_000_000 if task == 1 else b"")
    time.sleep(1.2)
    return os.getpid()


kept: list[Any] = []


def prepare(study: dict[str, Any], folder: str, engine: Any, progress: Any) -> None:
    """Notes that it was called."""
    with Path(folder, "data").open("a") as f:
        f.write(f"prepared {study['name']}\n")
