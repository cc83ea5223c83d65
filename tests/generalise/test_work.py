"""Laws of what a study's run does: scenes once, a network under one condition, tested under all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from passband.engines.settings import EngineSettings
from passband.generalise import work
from passband.generalise.conditions import Axes, Point
from passband.generalise.page import write_study_report
from passband.generalise.run import RunOptions, run_study
from passband.generalise.study import Structures, Study, Training
from passband.hrtem.dataset.dataset import open_dataset

pytestmark = pytest.mark.training

STUDY = Study(
    name="small",
    networks=("tiny",),
    seeds=1,
    train=Axes(defocus_nm=(-10.0, 10.0), diameter_nm=((1.0, 1.4),)),
    test=Axes(defocus_nm=(-10.0, 10.0), dose=(400.0, 2000.0), diameter_nm=((1.0, 1.4),)),
    training=Training(steps=3, crop=32, pixel_size=0.4),
    structures=Structures(scenes=4, field_nm=3.2, thickness_nm=(0.0, 0.0), particles=(1, 2)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    work.prepare(STUDY.values(), str(place))
    return str(place)


def run_values(place=0):
    return list(STUDY.runs())[place].values()


def test_there_is_a_row_for_each_test_condition_in_order(folder):
    rows = work.train_and_test(STUDY.values(), run_values(), folder)
    assert [(r["test_defocus_nm"], r["test_dose"]) for r in rows] == [
        (-10.0, 400.0), (-10.0, 2000.0), (10.0, 400.0), (10.0, 2000.0)
    ]  # fmt: skip
    assert all(0 <= r["f1"] <= 1 and r["loss"] > 0 for r in rows)


def test_a_run_gives_the_same_bytes_whatever_was_run_before(folder):
    first = json.dumps(work.train_and_test(STUDY.values(), run_values(), folder))
    other = json.dumps(work.train_and_test(STUDY.values(), run_values(1), folder))
    work._test_images.cache_clear()
    torch.manual_seed(5)
    np.random.seed(5)
    assert json.dumps(work.train_and_test(STUDY.values(), run_values(), folder)) == first != other


def test_no_network_is_tested_on_a_scene_that_it_was_trained_on(folder, monkeypatch):
    drawn = {"train": set(), "test": set()}
    real = work.SceneImages

    class Watched(real):
        def image(self, number, *, seed):
            drawn["test" if work.TEST_SEED <= seed < work.TEST_SEED + 100 else "train"].add(number)
            return super().image(number, seed=seed)

    monkeypatch.setattr(work, "SceneImages", Watched)
    work._test_images.cache_clear()
    work.train_and_test(STUDY.values(), run_values(), folder)
    work._test_images.cache_clear()
    dataset = open_dataset(work.data_folder(folder, next(STUDY.train.points())))
    assert drawn["test"] == set(dataset.split("test"))
    assert drawn["train"] == set(dataset.split("train"))
    assert len(drawn["test"]) == STUDY.structures.test_scenes == 1


def test_conditions_are_those_of_the_point():
    ranges = work.conditions_of(
        Point(defocus_nm=-20.0, cs_mm=1.2, focal_spread=30.0, dose=50.0),
        Training(jitter_nm=2.0, energy_kev=80),
    )
    assert (ranges.C10.low, ranges.C10.high) == (180.0, 220.0)
    assert (ranges.C30, ranges.focal_spread, ranges.dose, ranges.energy) == (1.2e7, 30.0, 50.0, 80e3)


def test_f1_is_of_all_pixels_together():
    class Threshold(torch.nn.Module):
        def forward(self, x):
            return x

    images = torch.tensor([[[[1.0, 1.0, -1.0, -1.0]]], [[[1.0, -1.0, -1.0, -1.0]]]])
    objects = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]], [[[1.0, 0.0, 0.0, 0.0]]]])
    assert work.score_network(Threshold(), images, objects)["f1"] == pytest.approx(2 * 2 / (3 + 3))
    nothing = torch.zeros_like(objects)
    assert work.score_network(Threshold(), -torch.ones_like(images), nothing)["f1"] == 1
    assert work.score_network(Threshold(), images, nothing)["f1"] == 0


def test_each_set_of_materials_has_scenes_of_its_own(tmp_path):
    study = Study(
        networks=("tiny",),
        train=Axes(materials=(("Au",),), diameter_nm=((1.0, 1.4),)),
        test=Axes(materials=(("Au",), ("CdSe",)), diameter_nm=((1.0, 1.2), (1.0, 1.4))),
        training=STUDY.training,
        structures=STUDY.structures,
    )
    work.prepare(study.values(), str(tmp_path))
    made = {p.name for p in (tmp_path / "data").iterdir()}
    assert made == {f"{m}_1-{d}nm" for m in ("Au", "CdSe") for d in ("1.2", "1.4")}
    rows = work.train_and_test(study.values(), next(study.runs()).values(), str(tmp_path))
    assert [(r["test_materials"], r["test_diameter_nm"]) for r in rows] == [
        ("Au", "1-1.2"), ("Au", "1-1.4"), ("CdSe", "1-1.2"), ("CdSe", "1-1.4")
    ]  # fmt: skip


def test_a_study_is_run_from_its_scenes_to_its_table(tmp_path):
    status = run_study(
        STUDY, tmp_path / "study", RunOptions(engine=EngineSettings(engine="inline", workers=1))
    )
    assert (status.runs, status.done, status.failed) == (2, 2, 0)
    page = write_study_report(tmp_path / "study", STUDY, tmp_path / "page")
    text = page.read_text()
    assert text.count("<figure>") == 3 and "defocus" in text
    assert {p.name for p in page.parent.iterdir()} == {"report.html", "map.png", "curves.png"}
