"""Which conditions to train under, so that a network holds over a whole range of them.

A network answers best under conditions that transfer like one that it was trained under. So a set of training
conditions is as good as the likeness of the test condition that is worst served: the cosine of T², which
orders F1 best of the metrics (decision 16), between it and the training condition nearest to it. Conditions
are taken one by one, each the one that lifts that least likeness most.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from passband.errors import ParameterError
from passband.generalise.shift import CONDITION_NAMES, ImageSet
from passband.optics.conditions import ConditionRanges, ImagingConditions, Uniform, draw_conditions
from passband.optics.shift import View, transfer
from passband.store.files import write_whole
from passband.types import Lines
from passband.words import counted, number_text

LEVELS, MOST_TESTS, MOST_BUDGET = 7, 343, 200
"""Values of each ranged name that a range is tested at; of more combinations some are drawn."""
DESIGNED = ("C10", "C30", "C12", "focal_spread", "angular_spread", "mtf_half")
"""What is designed. All else that has a range, as dose, is drawn from it in every image."""
WAYS = ("designed", "uniform", "middle")


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Training conditions for a range.

    Parameters
    ----------
    target
        The range.
    chosen
        Training conditions, in the order in which they were taken.
    tests
        Conditions of the range that it is judged at.
    worst, mean
        Least and mean likeness over the tests by way: "designed", "uniform" (as many conditions, drawn from
        the range) and "middle" (its middle alone).
    """

    target: ImageSet
    chosen: tuple[ConditionRanges, ...]
    tests: tuple[ConditionRanges, ...]
    worst: dict[str, float]
    mean: dict[str, float]

    @property
    def ranged(self) -> list[str]:
        """Names of what is designed."""
        return [n for n in DESIGNED if isinstance(getattr(self.target.ranges, n), Uniform)]


def training_ways(design: Design, *, seed: int = 0) -> dict[str, tuple[ConditionRanges, ...]]:
    """Training conditions of each of `WAYS`; those of "uniform" follow from the seed."""
    ranges = design.target.ranges
    return {
        "designed": design.chosen,
        "uniform": _drawn(ranges, len(design.chosen), seed),
        "middle": (_middle_of(ranges),),
    }


def design_training(target: ImageSet, budget: int, *, view: View | None = None) -> Design:
    """Choose training conditions for a range of test conditions.

    Parameters
    ----------
    target
        The range; at least one of `DESIGNED` must have one.
    budget
        How many training conditions, 1 to `MOST_BUDGET`.
    view
        What of the transfer counts; the default `View` if not given.

    Raises
    ------
    ParameterError
        If the budget or the range cannot be.

    Examples
    --------
    >>> wide = ImageSet(name="wide", ranges=ConditionRanges(C10=Uniform(low=-800.0, high=-100.0)))
    >>> made = design_training(wide, 3)
    >>> len(made.chosen), made.worst["designed"] > made.worst["middle"]
    (3, True)
    """
    if not 1 <= budget <= MOST_BUDGET:
        raise ParameterError(
            f"the budget is how many conditions to train under, 1 to {MOST_BUDGET}, got {budget}"
        )
    ranged = [n for n in DESIGNED if isinstance(getattr(target.ranges, n), Uniform)]
    if not ranged:
        raise ParameterError(
            f"{target.name} has no range to design for; give defocus_nm, cs_mm, focal_spread or "
            "astigmatism_nm as [lowest, highest]"
        )
    if not isinstance(target.ranges.energy, int | float):
        raise ParameterError(f"{target.name}: waves are of one energy; give one energy_kev")
    view = view or View()
    tests = _grid(target.ranges, ranged)
    profiles = np.array([_profile(t, view) for t in tests])
    alike = _cosines(profiles, profiles)  # candidates are the tests themselves
    taken: list[int] = []
    best = np.zeros(len(tests))
    for _ in range(min(budget, len(tests))):
        lifted = np.maximum(alike, best)
        score = lifted.min(1) + 1e-3 * lifted.mean(1)
        score[taken] = -1
        taken.append(int(score.argmax()))
        best = np.maximum(best, alike[taken[-1]])
    made = Design(target=target, chosen=tuple(tests[i] for i in taken), tests=tuple(tests), worst={}, mean={})
    near = {
        way: _cosines(np.array([_profile(c, view) for c in conditions]), profiles).max(0)
        for way, conditions in training_ways(made).items()
    }
    return replace(
        made,
        worst={way: float(likeness.min()) for way, likeness in near.items()},
        mean={way: float(likeness.mean()) for way, likeness in near.items()},
    )


def _grid(ranges: ConditionRanges, ranged: Sequence[str]) -> list[ConditionRanges]:
    ends = {n: getattr(ranges, n) for n in ranged}
    levels = {n: np.linspace(v.low, v.high, LEVELS).tolist() for n, v in ends.items()}
    points = list(itertools.product(*levels.values()))
    if len(points) > MOST_TESTS:
        few = np.random.default_rng(0).permutation(len(points))[:MOST_TESTS]
        points = [points[i] for i in sorted(few)]
    values: list[dict[str, Any]] = [dict(zip(ranged, p, strict=True)) for p in points]
    return [replace(ranges, **v) for v in values]


def _drawn(ranges: ConditionRanges, count: int, seed: int) -> tuple[ConditionRanges, ...]:
    """Training conditions drawn evenly from the range."""
    drawn = draw_conditions(ranges, count, seed=seed)
    return tuple(replace(ranges, **{n: getattr(c, n) for n in DESIGNED}) for c in drawn)


def _middle_of(ranges: ConditionRanges) -> ConditionRanges:
    middle: dict[str, Any] = {}
    for name in DESIGNED:
        value = getattr(ranges, name)
        if isinstance(value, Uniform):
            middle[name] = (value.low + value.high) / 2
    return replace(ranges, **middle)


def _profile(of: ConditionRanges, view: View) -> Float64[np.ndarray, " r"]:
    conditions: list[ImagingConditions] = draw_conditions(of, 1, seed=0)
    power = transfer(conditions, view).power.numpy()
    return np.asarray(power * np.sqrt(view.weights.numpy()))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    one, other = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (a, b))
    return np.asarray(one @ other.T)


def condition_values(of: ConditionRanges, *, always: Sequence[str] = ()) -> dict[str, float | list[float]]:
    """A condition by the names and units of a condition file; what is as by default is left out.

    Parameters
    ----------
    of
        The condition.
    always
        Names of `ConditionRanges` that are told in any case.

    Examples
    --------
    >>> condition_values(ConditionRanges(C10=-200.0))
    {'defocus_nm': 20.0}
    """
    usual = {f.name: f.default for f in fields(ConditionRanges)}
    told: dict[str, float | list[float]] = {}
    for said, (name, unit) in CONDITION_NAMES.items():
        value = getattr(of, name)
        if value == usual[name] and name not in always:
            continue
        if isinstance(value, Uniform):
            told[said] = sorted(round(v / unit, 6) + 0.0 for v in (value.low, value.high))
        else:
            told[said] = round(value / unit, 6) + 0.0
    return told


def design_to_json(design: Design) -> str:
    """The design as one JSON object."""
    chosen = [condition_values(c, always=design.ranged) for c in design.chosen]
    likeness = {"worst": design.worst, "mean": design.mean}
    return json.dumps({"target": design.target.name, "train": chosen, "likeness": likeness}) + "\n"


def about_design(design: Design) -> Lines:
    """The design in words."""
    lines = [("target", f"{design.target.name}, judged at {counted(len(design.tests), 'condition')}")]
    for i, c in enumerate(design.chosen, 1):
        values = condition_values(c, always=design.ranged)
        lines.append((f"train {i}", ", ".join(f"{n} {_number(v)}" for n, v in values.items())))
    for way in WAYS:
        words = f"least likeness {design.worst[way]:.2f}, mean {design.mean[way]:.2f}"
        lines.append((way, words))
    return lines


def _number(value: float | list[float]) -> str:
    return " to ".join(map(number_text, value)) if isinstance(value, list) else number_text(value)


def write_conditions(design: Design, out: str | Path) -> Path:
    """Write the training conditions as TOML: a table [[train]] for each."""
    chosen = [condition_values(c, always=design.ranged) for c in design.chosen]
    tables = ["\n".join(["[[train]]", *(f"{n} = {v}" for n, v in c.items())]) for c in chosen]
    return write_whole(Path(out), "\n\n".join(tables) + "\n")
