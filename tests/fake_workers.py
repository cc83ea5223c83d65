"""What workers might do instead of their work, and judges that cost nothing; importable by them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from made_discs import detect_discs, detect_discs_and_see
from passband.errors import ParameterError
from passband.judge.verdict import Judge
from passband.kinds import JudgeFile


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


@dataclass(frozen=True)
class DiscsJudge:
    """A bundle's judge with the tests' detector of discs."""

    bundle: Path

    def __call__(self) -> Judge:
        from passband.judge import verdict

        verdict.detect = detect_discs
        verdict.detect_and_see = detect_discs_and_see
        return replace(JudgeFile(path=self.bundle)(), source=self)
