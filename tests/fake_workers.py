"""What workers might do instead of making a shard; importable by them."""

from __future__ import annotations

import os
import signal

from passband.errors import ParameterError


def dies(folder: str, manifest: str, shard: int) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def has_no_room(folder: str, manifest: str, shard: int) -> bool:
    raise ParameterError("no room for a particle")


def has_no_memory(folder: str, manifest: str, shard: int) -> bool:
    raise MemoryError


def has_a_fault(folder: str, manifest: str, shard: int) -> bool:
    raise KeyError(3)


def makes_odd_ones(folder: str, manifest: str, shard: int) -> bool:
    return shard % 2 == 1
