"""The parent's side of the parser process: one warm child, its clock, and its replacement.

The child reads files for all threads in turn. It is started when first needed, stays for the next file,
and is replaced when it dies, when its time is up, or after many files. It dies with this process: its
stdin closes then, and an alarm ends it where it is deep in a file.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from passband.micrographs.picture import Request
from passband.processes import ONE_THREAD

START_LIMIT_S = 60.0
"""Seconds for the child to start and load a library; no file is read in them."""
_FILES_PER_CHILD = 1000  # what libraries leak is bounded by this
_LINE_LIMIT = 2**20

# -P keeps the working directory, which may be a folder of strangers' files, from being imported from.
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from passband.micrographs.parsing import serve
serve()
"""


class ParserError(Exception):
    """The child gave no answer; the message says how it ended."""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What the child made of a file.

    Parameters
    ----------
    pixels
        float32 (y, x), int32 where labels were asked for, or None where there is an error.
    error
        Why there are no pixels, in words.
    quantities
        Values in base units with their sources.
    notes
        What reading changed.
    instrument
        The microscope's name, empty where it is not told.
    acquired
        When it was taken, as the file writes it.
    frames
        How many images it holds, of which one was to be chosen; 0 where that is not why there is an error.
    """

    pixels: NDArray[np.float32] | NDArray[np.int32] | None
    error: str = ""
    quantities: dict[str, tuple[float, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    instrument: str = ""
    acquired: str = ""
    frames: int = 0


class _Child:
    """A running parser process."""

    def __init__(self) -> None:
        path = [str(Path(entry).absolute()) for entry in sys.path if entry]
        self.files = 0
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Its stdin and stdout."""
        assert self.process.stdin is not None and self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def stop(self) -> None:
        """End it now."""
        self.process.kill()
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait()

    def disown(self) -> None:
        """Let go of a child that belongs to the process that we were forked from."""
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.returncode = 0  # or Popen would warn that it still runs


def _environment() -> dict[str, str]:
    """Ours, with one thread a library (each takes address space), and no plugins of HDF5 (they are code)."""
    return {
        **os.environ,
        **ONE_THREAD,
        "HDF5_PLUGIN_PRELOAD": "::",
        "PYTHONWARNINGS": "ignore",
    }


_lock = threading.Lock()
_child: _Child | None = None


def parse(request: Request, *, time_limit: float, memory_limit: int) -> Parsed:
    """Have the child parse one file.

    Parameters
    ----------
    request
        What to read.
    time_limit
        Seconds, from the moment the child has its libraries.
    memory_limit
        Bytes of address space that parsing may take beyond what the child held before.

    Raises
    ------
    ParserError
        If the child could not start, died, or did not answer in time; the next file gets a new one.
    """
    global _child
    with _lock:
        if _child is not None and _child.process.poll() is not None:
            _child.stop()
            _child = None
        try:
            if _child is None:
                _child = _Child()
            answer, last = _ask(_child, request, time_limit, memory_limit)
        except OSError as e:
            _drop()
            raise ParserError(f"the parser process could not be used ({e})") from e
        except BaseException:  # Ctrl-C too: the rest of an answer must not meet the next question
            _drop()
            raise
        if last:
            _drop()
        return answer


def _drop() -> None:
    global _child
    if _child is not None:
        _child.stop()
        _child = None


def _ask(child: _Child, request: Request, time_limit: float, memory_limit: int) -> tuple[Parsed, bool]:
    """Put one question; returns the answer and whether the child should be replaced."""
    stdin, stdout = child.pipes
    question = {"request": asdict(request), "time_limit": time_limit, "memory_limit": memory_limit}
    with _Clock(child, START_LIMIT_S, "did not start"):
        stdin.write(json.dumps(question).encode() + b"\n")
        stdin.flush()
        _line(stdout)
    with _Clock(child, time_limit, "gave no answer"):
        header = _line(stdout)
        child.files += 1
        last = bool(header.get("retire")) or child.files >= _FILES_PER_CHILD
        if "error" in header:
            frames = int(header.get("frames", 0))
            return Parsed(pixels=None, error=str(header["error"]), frames=frames), last
        height, width = (int(n) for n in header["shape"])
        if not (height > 0 and width > 0 and height * width <= request.pixel_budget):
            raise ParserError(f"the parser process offered an image of {height} x {width} pixels")
        pixels: NDArray[Any] = np.empty((height, width), np.int32 if request.labels else np.float32)
        rest = pixels.data.cast("B")
        while rest:
            got = stdout.readinto(rest)  # type: ignore[attr-defined]
            if not got:
                raise EOFError
            rest = rest[got:]
    quantities = {str(k): (float(v), str(source)) for k, (v, source) in header["quantities"].items()}
    notes = tuple(str(n) for n in header["notes"])
    name, acquired = (str(header[what]) for what in ("instrument", "acquired"))
    parsed = Parsed(pixels=pixels, quantities=quantities, notes=notes, instrument=name, acquired=acquired)
    return parsed, last


def _line(stdout: IO[bytes]) -> dict[str, Any]:
    line = stdout.readline(_LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise EOFError
    answer: dict[str, Any] = json.loads(line)
    return answer


class _Clock:
    """Kills a child that takes longer than its time, and says so in the error of what waited for it."""

    def __init__(self, child: _Child, seconds: float, what: str) -> None:
        self._words = f"the parser {what} within {seconds:g} s"
        self._late = False
        self._child = child
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True

    def _ring(self) -> None:
        self._late = True
        self._child.process.kill()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._timer.cancel()
        # Late and yet done: the answer is whole, but the child is dying, and the time was promised.
        if self._late:
            raise ParserError(self._words) from error
        if isinstance(error, Exception) and not isinstance(error, ParserError):
            raise ParserError(f"the parser died (exit status {self._status()})") from error

    def _status(self) -> int:
        try:
            return self._child.process.wait(1)
        except subprocess.TimeoutExpired:  # it closed its stdout and lives on: not for long
            self._child.process.kill()
            return self._child.process.wait()


def _forget_after_fork() -> None:
    """A forked child must neither talk to our parser nor wait for a lock that one of our threads holds."""
    global _child, _lock
    _lock = threading.Lock()
    if _child is not None:
        _child.disown()
        _child = None


def _close() -> None:
    if _lock.acquire(timeout=1):
        try:
            _drop()
        finally:
            _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_close)
