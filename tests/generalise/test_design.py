"""Training conditions for a range: what must hold of every design, and of its test."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from passband.cli import app
from passband.errors import DatasetError, ParameterError
from passband.generalise import verify
from passband.generalise.design import (
    WAYS,
    about_design,
    condition_values,
    design_to_json,
    design_training,
    training_ways,
    write_conditions,
)
from passband.generalise.shift import ImageSet
from passband.generalise.study import Structures, Training
from passband.generalise.verify import conditions_tested, verify_design
from passband.optics.conditions import ConditionRanges, Uniform, draw_conditions
from passband.optics.shift import View, transfer

VIEW = View(rings=48)
WIDE = ImageSet(
    name="wide",
    ranges=ConditionRanges(C10=Uniform(low=-800.0, high=200.0), focal_spread=Uniform(low=10.0, high=40.0)),
)


def test_more_conditions_never_serve_the_worst_one_worse() -> None:
    worst = [design_training(WIDE, n, view=VIEW).worst["designed"] for n in (1, 2, 4, 8)]
    assert worst == sorted(worst) and worst[-1] > worst[0]


def test_a_design_serves_the_worst_condition_better_than_the_usual_ways() -> None:
    for ranges in (
        WIDE.ranges,
        ConditionRanges(C10=Uniform(low=-600.0, high=-50.0), C30=Uniform(low=0.0, high=1.2e7)),
        ConditionRanges(C10=-300.0, C12=Uniform(low=0.0, high=200.0)),
    ):
        made = design_training(ImageSet(name="x", ranges=ranges), 4, view=VIEW)
        assert made.worst["designed"] > made.worst["middle"]
        assert made.worst["designed"] >= made.worst["uniform"]


def test_every_condition_is_of_the_range_and_keeps_what_is_not_designed() -> None:
    ranges = replace(WIDE.ranges, dose=Uniform(low=50.0, high=500.0))
    made = design_training(ImageSet(name="x", ranges=ranges), 5, view=VIEW)
    for way, conditions in training_ways(made).items():
        assert len(conditions) == (1 if way == "middle" else 5)
        for c in conditions:
            assert -800 <= c.C10 <= 200 and 10 <= c.focal_spread <= 40
            assert c.dose == ranges.dose
    assert len(set(made.chosen)) == 5


@pytest.mark.parametrize(
    "ranges",
    [
        ConditionRanges(C10=Uniform(low=-800.0, high=200.0)),
        ConditionRanges(C10=Uniform(low=-300.0, high=-10.0), focal_spread=Uniform(low=5.0, high=60.0)),
        ConditionRanges(C10=Uniform(low=-900.0, high=-10.0), C30=Uniform(low=0.0, high=2e7)),
    ],
)
def test_one_condition_is_the_one_that_serves_the_worst_best(ranges) -> None:
    made = design_training(ImageSet(name="x", ranges=ranges), 1, view=VIEW)
    profiles = np.stack([transfer(draw_conditions(t, 1, seed=0), VIEW).power.numpy() for t in made.tests])
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    assert made.worst["designed"] == pytest.approx((profiles @ profiles.T).min(1).max())


def test_a_budget_of_all_serves_all() -> None:
    one = ImageSet(name="x", ranges=ConditionRanges(C10=Uniform(low=-300.0, high=-200.0)))
    made = design_training(one, 50, view=VIEW)
    assert len(set(made.chosen)) == len(made.chosen) == len(made.tests) == 7
    assert made.worst["designed"] == pytest.approx(1)


def test_no_condition_is_taken_twice_where_two_transfer_alike() -> None:
    both_sides = ImageSet(name="x", ranges=ConditionRanges(C10=Uniform(low=-300.0, high=300.0)))
    assert len(set(design_training(both_sides, 7, view=VIEW).chosen)) == 7


@pytest.mark.parametrize(
    ("ranges", "budget", "said"),
    [
        (WIDE.ranges, 0, "budget is how many"),
        (WIDE.ranges, -3, "budget is how many"),
        (WIDE.ranges, 10_000, "1 to 200"),
        (ConditionRanges(), 3, "no range to design for"),
        (ConditionRanges(dose=Uniform(low=1.0, high=9.0)), 3, "no range to design for"),
        (replace(WIDE.ranges, energy=Uniform(low=8e4, high=3e5)), 3, "one energy_kev"),
    ],
)
def test_what_cannot_be_designed_is_refused_in_words(ranges, budget, said) -> None:
    with pytest.raises(ParameterError, match=said):
        design_training(ImageSet(name="x", ranges=ranges), budget, view=VIEW)


def test_it_is_told_in_the_names_and_units_of_a_condition_file(tmp_path: Path) -> None:
    made = design_training(WIDE, 2, view=VIEW)
    tables = tomllib.loads(write_conditions(made, tmp_path / "train.toml").read_text())["train"]
    assert tables == json.loads(design_to_json(made))["train"]
    for table, chosen in zip(tables, made.chosen, strict=True):
        assert table["defocus_nm"] == pytest.approx(-chosen.C10 / 10)
        assert table["focal_spread"] == pytest.approx(chosen.focal_spread)
    assert {name for name, _ in about_design(made)} > {"designed", "uniform", "middle"}
    assert condition_values(ConditionRanges(C30=1.2e7, dose=Uniform(low=1.0, high=2.0))) == {
        "cs_mm": 1.2,
        "dose": [1.0, 2.0],
    }


def test_the_command_prints_one_object(tmp_path: Path) -> None:
    target = tmp_path / "range.toml"
    target.write_text("[conditions]\ndefocus_nm = [10, 60]\n")
    command = [
        "design",
        "--target",
        str(target),
        "--budget",
        "2",
        "--out",
        str(tmp_path / "t.toml"),
        "--json",
    ]
    done = CliRunner().invoke(app, command)
    assert len(json.loads(done.stdout)["train"]) == 2 and (tmp_path / "t.toml").exists()
    assert CliRunner().invoke(app, ["design", "--target", str(target), "--budget", "0"]).exit_code == 2


@pytest.mark.training
def test_networks_of_each_way_are_trained_once_and_tested_alike(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(verify, "TESTS", 3)
    few = Structures(scenes=4, field_nm=6.4, thickness_nm=(0.0, 0.0), particles=(1, 1))
    how = {"seeds": 1, "training": Training(steps=3, crop=32), "structures": few}
    coarse = ImageSet(name="coarse", ranges=replace(WIDE.ranges, pixel_size=0.4))
    made = design_training(coarse, 2, view=VIEW)
    found = verify_design(made, tmp_path / "v", **how)
    assert set(found) == set(WAYS) and len(conditions_tested(made)) == 3
    assert all(0 <= scores["worst"] <= scores["mean"] <= 1 for scores in found.values())
    monkeypatch.setattr(verify, "_train_and_test", lambda *_: pytest.fail("trained again"))
    assert verify_design(made, tmp_path / "v", **how) == found
    with pytest.raises(ParameterError, match="no network"):
        verify_design(made, tmp_path / "u", network="huge", **how)
    assert not (tmp_path / "u").exists()
    blurred = ImageSet(name="x", ranges=replace(coarse.ranges, pixel_size=Uniform(low=0.2, high=0.4)))
    with pytest.raises(ParameterError, match="one pixel_size"):
        verify_design(design_training(blurred, 2, view=VIEW), tmp_path / "w", **how)
    with pytest.raises(DatasetError, match="another design"):
        verify_design(design_training(coarse, 3, view=VIEW), tmp_path / "v", **how)
