"""Laws of the optimiser: torch's own is the judge."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from passband.adam import Adam, one_cycle


def _loss(net: nn.Module, seed: int) -> torch.Tensor:
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(seed))
    loss: torch.Tensor = (net(x) - x.sum(1, keepdim=True).sin()).square().mean()
    return loss


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torch(decay: float) -> None:
    mine, theirs = _net(), _net()
    ours = Adam(mine.parameters(), learning_rate=0.01, weight_decay=decay)
    peer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=decay)
    for step in range(50):
        for net, optimizer in ((mine, ours), (theirs, peer)):
            optimizer.zero_grad()
            _loss(net, step).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 25, 1200])
def test_one_cycle_is_that_of_torch(steps: int) -> None:
    mine = Adam(_net().parameters(), learning_rate=1.0)
    peer = torch.optim.AdamW(_net().parameters(), lr=0.003)
    schedule = torch.optim.lr_scheduler.OneCycleLR(peer, 0.003, total_steps=steps)
    for step in range(steps):
        one_cycle(mine, step, steps, 0.003)
        group = peer.param_groups[0]
        assert mine.learning_rate == pytest.approx(group["lr"], rel=1e-6)
        assert mine.betas[0] == pytest.approx(group["betas"][0], rel=1e-6)
        peer.step()
        if step + 1 < steps:
            schedule.step()


def test_a_run_cut_in_two_ends_as_a_whole_one() -> None:
    whole, cut = _net(), _net()
    one, two = Adam(whole.parameters(), learning_rate=0.01), Adam(cut.parameters(), learning_rate=0.01)
    for step in range(20):
        if step == 9:
            state = copy.deepcopy(two.state())
            two = Adam(cut.parameters(), learning_rate=0.01)
            two.load_state(state)
        for net, optimizer in ((whole, one), (cut, two)):
            optimizer.zero_grad()
            _loss(net, step).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_a_gradient_stays() -> None:
    still = nn.Parameter(torch.ones(3))
    Adam([still], learning_rate=0.1, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones(3))


def test_neither_training_nor_segmenting_loads_the_compiler_of_torch() -> None:
    code = """
import sys, torch
import passband.detectors.segment_files
from passband.detectors.bundle import named_bundle
from passband.adam import Adam
named_bundle("hrtem")
w = torch.nn.Parameter(torch.ones(2))
o = Adam([w], learning_rate=0.1)
w.sum().backward()
o.step()
o.zero_grad()
print(*({"torch._dynamo", "torchvision"} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
