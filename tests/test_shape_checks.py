"""What `shape_checks.checked` refuses is what jaxtyping's own decorator refuses."""

from __future__ import annotations

from dataclasses import dataclass

import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError

from passband.particles.model import grey
from shape_checks import check, checked, jaxtyped


def pair(a: Float[np.ndarray, "n m"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    return np.zeros(len(b) if b[0] else a.shape[1])


def total(a: Float[np.ndarray, " n"], times: float = 1) -> float:
    return times * float(a.sum())


def name(text: str) -> int:
    return len(text)


@dataclass
class Held:
    a: Float[np.ndarray, " n"]
    b: Float[np.ndarray, " n"]


@pytest.fixture(params=["ours", "jaxtyping"])
def decorate(request):
    return checked(typechecker=check) if request.param == "ours" else jaxtyped(typechecker=check)


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (pair, (np.zeros((2, 3)), np.zeros(2)), (np.zeros((2, 3)), np.zeros(3))),
        (pair, (np.zeros((2, 2)), np.ones(2)), (np.zeros((2, 3)), np.ones(2))),
        (total, (np.zeros(3), 2), (np.zeros((3, 1)), 2)),
        (name, ("three",), (3,)),
    ],
    ids=["sizes of two arguments", "size of the result", "number of axes", "a plain type"],
)
def test_functions_take_what_they_say(decorate, function, right, wrong):
    decorate(function)(*right)
    with pytest.raises(TypeCheckError):
        decorate(function)(*wrong)


def test_constructors_of_dataclasses_are_checked():
    held = checked(Held)
    held(np.zeros(3), np.zeros(3))
    with pytest.raises(TypeCheckError):
        held(np.zeros(3), np.zeros(4))


def test_each_call_has_sizes_of_its_own(decorate):
    inner = decorate(total)

    @decorate
    def outer(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> float:
        return inner(a) + inner(b)

    assert outer(np.ones(3), np.ones(4)) == 7


def test_the_product_is_checked_and_can_be_left_alone(monkeypatch):
    with pytest.raises(TypeCheckError):
        grey(np.zeros((3, 4), np.float32))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert checked(total)(np.ones((2, 2))) == 4
