"""Laws of what a study's run does: scenes once, a network under one condition, tested under all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from passband.detectors.evidence import EVIDENCE
from passband.detectors.unet import NETWORKS, UNet
from passband.engines.settings import EngineSettings
from passband.errors import ParameterError
from passband.generalise import work
from passband.generalise.conditions import Axes, Point
from passband.generalise.map_page import write_map_report
from passband.generalise.page import write_study_report
from passband.generalise.run import RunOptions, run_study
from passband.generalise.study import Structures, Study, Training
from passband.hrtem.dataset.dataset import open_dataset
from passband.optics.conditions import draw_conditions
from read_page import read_page

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
    trained, looked_at = [], []
    images, train = work.SceneImages, work.train_segmenter

    class Watched(images):
        def each(self, *, seed):
            looked_at.append(set(self.scenes))
            return super().each(seed=seed)

    monkeypatch.setattr(work, "SceneImages", Watched)
    monkeypatch.setattr(
        work, "train_segmenter", lambda c, source: (trained.append(set(source.scenes)), train(c, source))[1]
    )
    work._test_images.cache_clear()
    work.train_and_test(STUDY.values(), run_values(), folder)
    work._test_images.cache_clear()
    dataset = open_dataset(work.data_folder(folder, next(STUDY.train.points())))
    own, others = set(dataset.split("train")), set(dataset.split("test"))
    assert trained == [own] and not own & others and len(others) == STUDY.structures.test_scenes == 1
    # Of its own, what they look like; of the others, what it is tested on under each condition.
    assert looked_at == [own, *[others] * len(STUDY.test_points())]


def test_conditions_are_those_of_the_point():
    ranges = work.conditions_of(
        Point(defocus_nm=-20.0, cs_mm=1.2, focal_spread=30.0, dose=50.0, jitter_nm=2.0),
        Training(energy_kev=80),
    )
    assert (ranges.C10.low, ranges.C10.high) == (180.0, 220.0)
    assert (ranges.C30, ranges.focal_spread, ranges.dose, ranges.energy) == (1.2e7, 30.0, 50.0, 80e3)


def test_images_of_a_condition_differ_by_what_it_says():
    point = Point(
        defocus_nm=20.0, cs_mm=0.6, cs_jitter_mm=0.6, focal_spread=20.0, focal_spread_jitter=10.0,
        dose=100.0, dose_factor=4.0, astigmatism_nm=5.0,
    )  # fmt: skip
    drawn = draw_conditions(work.conditions_of(point, Training()), 200, seed=0)
    ends = {
        "C30": (0, 1.2e7), "focal_spread": (10, 30), "dose": (25, 400), "phi12": (0, np.pi), "C12": (50, 50),
    }  # fmt: skip
    for name, (low, high) in ends.items():
        values = [getattr(c, name) for c in drawn]
        assert low <= min(values) <= max(values) <= high
        assert max(values) - min(values) >= 0.9 * (high - low)


def test_a_window_has_some_of_an_object_and_some_background():
    inside = np.zeros((300, 260), bool)
    inside[:70, :70] = True
    seen = set()
    for seed in range(20):
        window = work._window(inside, 160, np.random.default_rng(seed))
        assert inside[window].shape == (160, 160)
        assert work.SHARES[0] <= inside[window].mean() <= work.SHARES[1]
        seen.add((window[0].start, window[1].start))
    assert len(seen) > 1
    faint = np.zeros((200, 200), bool)
    faint[:10, :10] = True
    assert faint[work._window(faint, 160, np.random.default_rng(0))].sum() == 100
    small = np.ones((40, 50), bool)
    assert small[work._window(small, 160, np.random.default_rng(0))].shape == (32, 48)


def test_test_conditions_may_have_scenes_of_their_own(tmp_path):
    study = replace(
        STUDY,
        test=Axes(defocus_nm=(-10.0, 0.0, 10.0), diameter_nm=((1.0, 1.4),)),
        structures=replace(STUDY.structures, scenes=8, test_share=0.75, test_images=2),
    )
    work.prepare(study.values(), str(tmp_path))
    own = [work.images_tested(tmp_path, study, p) for p in study.test_points()]
    again = [work.images_tested(tmp_path, study, p) for p in study.test_points()]
    assert all(images.shape[0] == 2 for images, _ in own)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(own, again, strict=True))
    objects = [truth for _, truth in own]
    assert not all(torch.equal(objects[0], other) for other in objects[1:])
    shared = replace(study, structures=replace(study.structures, test_images=0))
    truth = [work.images_tested(tmp_path, shared, p)[1] for p in study.test_points()]
    assert all(torch.equal(truth[0], other) for other in truth[1:]) and len(truth[0]) == 6


def test_rows_tell_what_the_networks_own_answers_say(folder):
    row = work.train_and_test(STUDY.values(), run_values(), folder)[0]
    for name in EVIDENCE:
        assert np.isfinite(row[name]) and np.isfinite(row[f"one_{name}"])
    assert all(0 <= row[n] <= 1 for n in EVIDENCE if "distance" not in n)
    assert 0 <= row["image_f1"] <= 1 and row["frechet"] > 0


def test_a_study_may_do_without_evidence(folder, tmp_path):
    plain = replace(STUDY, evidence=False)
    rows = work.train_and_test(plain.values(), run_values(), folder)
    told = work.train_and_test(STUDY.values(), run_values(), folder)
    assert not set(EVIDENCE) & set(rows[0])
    for row, full in zip(rows, told, strict=True):
        assert {n: full[n] for n in row} == row
    run_study(plain, tmp_path / "s", RunOptions(engine=EngineSettings(engine="inline")))
    with pytest.raises(ParameterError, match="evidence = true"):
        write_map_report(tmp_path / "s", tmp_path / "out")


def test_a_map_shows_what_was_measured_and_predicted_and_the_images(tmp_path):
    axes = Axes(defocus_nm=(-10.0, 0.0, 10.0), diameter_nm=((1.0, 1.4),))
    study = replace(STUDY, train=axes, test=axes)
    run_study(study, tmp_path / "s", RunOptions(engine=EngineSettings(engine="inline")))
    done = write_map_report(tmp_path / "s", tmp_path / "out")
    html = done.page.read_text("utf-8")
    read_page(html)
    assert done.networks == 3 and done.rows == 9 and done.error is not None
    assert html.count('<a href="#test-') == 9 and html.count('class="strip"') == 3
    table = (tmp_path / "out" / "map.csv").read_text().splitlines()
    assert len(table) == 10 and {"predicted_f1", "low", "high", "image_f1"} <= set(table[0].split(","))
    shutil.rmtree(tmp_path / "s" / "data")
    work._test_images.cache_clear()
    work._dataset.cache_clear()
    assert write_map_report(tmp_path / "s", tmp_path / "out").page.read_text().count("no longer there") == 3


def test_a_map_of_few_conditions_says_why_nothing_is_predicted(tmp_path):
    run_study(STUDY, tmp_path / "s", RunOptions(engine=EngineSettings(engine="inline")))
    done = write_map_report(tmp_path / "s", tmp_path / "out")
    assert done.error is None and "Nothing is predicted: 2 conditions came" in done.page.read_text("utf-8")


def test_f1_is_of_all_pixels_together():
    class Threshold(UNet):
        def __init__(self):
            super().__init__(NETWORKS["tiny"])

        def forward(self, x):
            self.down[-1](torch.zeros(1, 16, 2, 2))
            return x

    images = torch.tensor([[[[1.0, 1.0, -1.0, -1.0]]], [[[1.0, -1.0, -1.0, -1.0]]]])
    objects = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]], [[[1.0, 0.0, 0.0, 0.0]]]])
    assert work.score_network(Threshold().eval(), images, objects)["f1"] == pytest.approx(2 * 2 / (3 + 3))
    nothing = torch.zeros_like(objects)
    assert work.score_network(Threshold().eval(), -torch.ones_like(images), nothing)["f1"] == 1
    assert work.score_network(Threshold().eval(), images, nothing)["f1"] == 0


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_but_for_noise(folder):
    rows = work.train_and_test(STUDY.values(), run_values(), folder)
    others = work.train_and_test(STUDY.values(), {**run_values(), "device": "cuda"}, folder)
    for row, other in zip(rows, others, strict=True):
        assert set(row) == set(other)
        assert abs(row["spectrum_distance"] - other["spectrum_distance"]) < 0.1
        assert abs(row["loss"] - other["loss"]) < 0.1
