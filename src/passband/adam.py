"""Adam with decoupled weight decay, in plain tensor operations.

`torch.optim` loads torch's compiler the first time that an optimiser is made, and uses none of it here:
seconds of processor time and 150 MB, more than a small classifier takes to train (`benchmarks/bench_rvae.py`
prints both). This is the same rule (arXiv:1412.6980, arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

_EPSILON = 1e-8


class Adam:
    """What `torch.optim.AdamW` does, for one group of parameters.

    Parameters
    ----------
    parameters
        To be changed in place at each step.
    learning_rate, betas
        Attributes: a schedule sets them between steps.
    weight_decay
        Share of a parameter that a step of learning rate 1 would take off it; 0 makes it Adam.

    Examples
    --------
    >>> w = Parameter(torch.tensor([3.0]))
    >>> optimizer = Adam([w], learning_rate=0.1)
    >>> for _ in range(200):
    ...     w.grad = None
    ...     w.square().sum().backward()
    ...     optimizer.step()
    >>> bool(w.abs() < 0.01)
    True
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.betas, self.weight_decay = learning_rate, betas, weight_decay
        self.steps = 0
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients; one without a gradient stays, its averages too."""
        self.steps += 1
        first, second = self.betas
        rate = self.learning_rate / (1 - first**self.steps)
        root = math.sqrt(1 - second**self.steps)
        for p, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            if p.grad is None:
                continue
            p.mul_(1 - self.learning_rate * self.weight_decay)
            mean.lerp_(p.grad, 1 - first)
            square.mul_(second).addcmul_(p.grad, p.grad, value=1 - second)
            p.addcdiv_(mean, square.sqrt().div_(root).add_(_EPSILON), value=-rate)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """All that the next step follows from, beside the parameters and the three settings."""
        out = {"steps": torch.tensor(self.steps)}
        for i, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            out |= {f"{i}.mean": mean, f"{i}.square": square}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave; KeyError if something is missing."""
        self.steps = int(state["steps"])
        for i, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            mean.copy_(state[f"{i}.mean"])
            square.copy_(state[f"{i}.square"])


def one_cycle(optimizer: Adam, step: int, steps: int, highest: float) -> None:
    """Set learning rate and first beta for a step of a run: up over three tenths, then down to nothing.

    Cosine pieces as in `torch.optim.lr_scheduler.OneCycleLR` (arXiv:1708.07120): from a 25th of the highest
    rate to it, then to a 250,000th; the first beta goes the other way between 0.95 and 0.85.

    Parameters
    ----------
    optimizer
        Whose attributes are set.
    step, steps
        Place of the step, from 0, and how many there are.
    highest
        The learning rate at the top.
    """
    top = max(0.3 * steps - 1, 1e-9)
    rising = step <= top
    share = step / top if rising else min(1.0, (step - top) / max(steps - 1 - top, 1e-9))
    rates, betas = (
        ((highest / 25, highest), (0.95, 0.85)) if rising else ((highest, highest / 25e4), (0.85, 0.95))
    )
    optimizer.learning_rate, first = (
        end + (start - end) * (1 + math.cos(math.pi * share)) / 2 for start, end in (rates, betas)
    )
    optimizer.betas = (first, optimizer.betas[1])
