"""What is slow to make is made once for all processes of a run of tests, in a folder that goes with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_VARIABLE = "PASSBAND_TESTS_MADE"


def begin() -> None:
    """Make the folder; processes that are started from now on share it."""
    os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="passband-tests-")


def end() -> None:
    """Remove it."""
    shutil.rmtree(os.environ.pop(_VARIABLE), ignore_errors=True)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder of a name of its own, made by whoever asks first; not to be changed."""
    place = Path(os.environ[_VARIABLE]) / name / name
    place.parent.mkdir(exist_ok=True)
    with (place.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place.parent / "whole").exists():
            make(place)
            (place.parent / "whole").touch()
    return place
