"""What both training loops share: the learning rate, the log, and all that a stopped run goes on with."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from passband.adam import Adam
from passband.errors import ParameterError
from passband.store.runs import Checkpoint, write_log


def schedule(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step: linear warm-up, then a cosine to 1 %.

    Examples
    --------
    >>> [round(schedule(step, 100), 2) for step in (0, 3, 50, 99)]
    [0.25, 1.0, 0.54, 0.01]
    """
    warm = max(1, steps // 25)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class TrainLog:
    """Mean losses in a file; the checkpoint holds it too, so that steps made twice are told once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[dict[str, float]] = []
        self.recent: list[dict[str, float]] = []
        self.before, self.began = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Of training, in this process and before."""
        return self.before + time.monotonic() - self.began

    def end_line(self, step: int) -> None:
        """Add a line of mean losses since the last one."""
        means = {n: sum(r[n] for r in self.recent) / len(self.recent) for n in self.recent[0]}
        self.lines.append(
            {"step": step, "seconds": round(self.seconds, 1)} | {n: round(m, 5) for n, m in means.items()}
        )
        self.recent.clear()
        if self.path is not None:
            write_log(self.path, self.lines)

    def state(self) -> list[Any]:
        """What a checkpoint says of it."""
        return [self.lines, self.recent, self.seconds]

    def resume(self, state: Sequence[Any]) -> None:
        """Go on from what a checkpoint says, or from nothing."""
        self.lines, self.recent, self.before = state
        self.began = time.monotonic()
        if self.path is not None:
            write_log(self.path, self.lines)


def training_tensors(model: nn.Module, optimizer: Adam, average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that the next step follows from."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.items()}
    tensors |= {f"optimizer.{k}": v.contiguous() for k, v in optimizer.state().items()}
    return {k: v.cpu() for k, v in tensors.items()}


def resume_training(
    kept: Checkpoint | None,
    model: nn.Module,
    optimizer: Adam,
    average: dict[str, Tensor],
    log: TrainLog,
) -> int:
    """Load a checkpoint, if there is one, and return the step to go on with.

    Raises
    ------
    ParameterError
        If the checkpoint is of another version.
    """
    if kept is None:
        log.resume([[], [], 0.0])
        return 0
    model.load_state_dict(kept.under("model."))
    device = next(model.parameters()).device
    average.update({k: v.to(device) for k, v in kept.under("average.").items()})
    try:
        optimizer.load_state(kept.under("optimizer."))
    except KeyError as e:
        raise ParameterError(
            f"the checkpoint is of another version of Passband ({e} is missing); start in a new folder"
        ) from e
    log.resume(kept.state["log"])
    return int(kept.state["step"])
