"""The shift between two sets of images, however they are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from made_dataset import made_dataset
from passband.cli import app
from passband.detectors.bundle import named_bundle, write_bundle
from passband.errors import ParameterError
from passband.generalise.shift import (
    ImageSet,
    about_shift,
    draw_shift,
    read_set,
    shift_between,
    shift_sentence,
    shift_to_json,
)
from passband.hrtem.dataset.dataset import open_dataset
from passband.optics.conditions import ConditionRanges, Uniform

NEAR = "[conditions]\ndefocus_nm = [-10, 10]\ncs_mm = 0\nfocal_spread = 10\nenergy_kev = 300\ndose = 400\n"
FAR = "[conditions]\ndefocus_nm = 60\ncs_mm = 1.2\nfocal_spread = 30\nenergy_kev = 300\ndose = 400\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    near, far = tmp_path / "near.toml", tmp_path / "far.toml"
    near.write_text(NEAR)
    far.write_text(FAR)
    return near, far


def test_a_file_gives_its_conditions_in_the_units_it_names(files) -> None:
    near, far = (read_set(f).ranges for f in files)
    assert Uniform(low=-100.0, high=100.0) == near.C10
    assert (far.C10, far.C30, far.focal_spread, far.energy) == (-600.0, 1.2e7, 30.0, 300e3)


def test_equal_sets_are_not_shifted_and_others_are(files) -> None:
    near, far = map(read_set, files)
    same, moved = shift_between(near, near), shift_between(near, far)
    assert same.values["sigma"] == same.values["sigma_coverage"] == 1
    assert same.values["defocus_distance_nm"] == 0
    assert moved.values["sigma"] < 0.9 and moved.values["defocus_distance_nm"] == pytest.approx(60)
    back = shift_between(far, near)
    assert back.values["sigma"] == pytest.approx(moved.values["sigma"])
    assert back.values["sigma_coverage"] == pytest.approx(moved.values["coverage_of_training"])
    assert "60 nm apart" in shift_sentence(moved)


def test_pixels_of_two_sizes_are_compared_by_frequency() -> None:
    fine, coarse = (ImageSet(name="x", ranges=ConditionRanges(C10=-300.0, pixel_size=p)) for p in (0.2, 0.4))
    assert shift_between(fine, coarse).values["sigma"] == pytest.approx(1)


def test_what_is_not_said_is_told(tmp_path: Path) -> None:
    few = tmp_path / "few.toml"
    few.write_text("[conditions]\ndefocus_nm = 40\n")
    shift = shift_between(read_set(few), read_set(few))
    told = json.loads(shift_to_json(shift))
    assert told["assumed"]["test"] == ["cs_mm 0", "focal_spread 10", "energy_kev 300"]
    assert any(name == "assumed" for name, _ in about_shift(shift))


def test_an_infinite_dose_is_no_number_in_json(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[conditions]\ndefocus_nm = 40\ndose = inf\n")
    shift = shift_between(read_set(path), read_set(path))
    told = json.loads(shift_to_json(shift), parse_constant=lambda c: pytest.fail(c))
    assert told["bits_train"] is None and told["sigma"] == 1
    assert about_shift(shift)


def test_a_micrograph_that_tells_no_focus_is_named(tmp_path: Path) -> None:
    path = tmp_path / "small.tif"
    tifffile.imwrite(path, np.zeros((20, 20), np.float32))
    with pytest.raises(ParameterError, match=r"small\.tif.*at least 64 x 64"):
        read_set(path, energy=300e3, pixel_size=0.5)


def test_the_bundle_that_ships_says_where_it_was_trained(files) -> None:
    ours = read_set("hrtem")
    assert Uniform(low=-2600.0, high=2000.0) == ours.ranges.C10
    assert 0 < shift_between(ours, read_set(files[1])).values["sigma"] < 1


def test_a_dataset_says_its_own_conditions() -> None:
    folder = made_dataset()
    assert read_set(folder).ranges == open_dataset(folder).study.imaging


def test_a_bundle_of_a_dataset_says_the_ranges_that_it_was_trained_on(tmp_path: Path) -> None:
    said = {"C10": {"low": -300.0, "high": -100.0}, "focal_spread": {"mean": 20.0, "deviation": 1.0}}
    said["dose"] = 50
    bundle = replace(named_bundle("hrtem"), training={"conditions": said})
    write_bundle(bundle, tmp_path / "mine.safetensors")
    ranges = read_set(tmp_path / "mine.safetensors").ranges
    assert Uniform(low=-300.0, high=-100.0) == ranges.C10 and ranges.dose == 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[conditions]\ndefocus_nm = [5, 1]\nfoo = 1", "2 faults"),
        ("[conditions]\ndefocus = 5", "did you mean defocus_nm"),
        ("[conditions]\ndose = -5", "dose must be more than zero"),
        ("[conditions]\nfocal_spread = [-5, 5]", "focal_spread must not be negative"),
        ("[conditions]\ncs_mm = [1, 2, 3]", "a number or"),
        ("[conditions]\ncs_mm = true", "a number or"),
        ("defocus_nm = 5", r"no table \[conditions\]"),
        ("[conditions]", r"no table \[conditions\]"),
        ("x", "is not TOML"),
    ],
)
def test_a_file_that_says_no_conditions_is_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=said):
        read_set(path)


def test_what_says_no_conditions_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="the bundle cavities does not say"):
        read_set("cavities")
    with pytest.raises(Exception, match="simulate hrtem"):
        read_set(tmp_path)


def test_the_command_prints_one_object_and_draws(files, tmp_path: Path) -> None:
    plot = tmp_path / "shift.png"
    done = CliRunner().invoke(app, ["shift", *map(str, files), "--json", "--plot", str(plot)])
    told = json.loads(done.stdout)
    assert {"epsilon_train", "epsilon_test", "sigma", "sigma_coverage", "defocus_distance_nm"} <= set(told)
    assert plot.exists()
    assert CliRunner().invoke(app, ["shift", "nowhere.toml", str(files[0])]).exit_code == 2


def test_the_picture_shows_both_and_what_they_share(files) -> None:
    figure = draw_shift(shift_between(*map(read_set, files)))
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["shared", "near", "far"]
