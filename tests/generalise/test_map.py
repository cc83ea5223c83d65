"""Laws of the generalisation map, its figures and its page."""

from __future__ import annotations

import numpy as np
import pytest

from passband.errors import DatasetError, ParameterError
from passband.generalise.export import study_rows
from passband.generalise.map import draw_curves, draw_map, generalisation_map


def rows(train=(-10.0, 10.0), test=(-20.0, 0.0, 20.0), seeds=3, doses=(400.0,)):
    return [
        {
            "train_defocus_nm": t, "train_dose": 400.0, "train_materials": "Au",
            "test_defocus_nm": u, "test_dose": d, "test_materials": "Au",
            "seed": s, "f1": 0.9 - abs(t - u) / 100 - s / 10 + d / 10_000, "loss": abs(t - u),
        }
        for t in train for u in test for d in doses for s in range(seeds)
    ]  # fmt: skip


def test_every_cell_is_the_mean_of_its_networks_in_ascending_order():
    given = rows()
    np.random.default_rng(0).shuffle(given)
    found = generalisation_map(given)
    assert found.train_names == ["-10", "10"] and found.test_names == ["-20", "0", "20"]
    for i, t in enumerate((-10, 10)):
        for j, u in enumerate((-20, 0, 20)):
            assert found.mean[i, j] == pytest.approx(0.9 - abs(t - u) / 100 - 0.1 + 0.04)
    assert (found.count == 3).all()
    np.testing.assert_allclose(found.deviation, 0.1)


def test_only_what_varies_is_an_axis():
    assert generalisation_map(rows()).test == ("test_defocus_nm",)
    two = generalisation_map(rows(doses=(100.0, 400.0)))
    assert two.test == ("test_defocus_nm", "test_dose")
    assert two.test_names[0] == "-20, 100" and two.mean.shape == (2, 6)
    assert generalisation_map(rows(train=(5.0,))).train_names == ["5"]


def test_what_is_missing_is_no_number_and_one_network_has_no_spread():
    some = [r for r in rows(seeds=1) if (r["train_defocus_nm"], r["test_defocus_nm"]) != (10.0, 0.0)]
    found = generalisation_map(some)
    assert np.isnan(found.mean[1, 1]) and found.count[1, 1] == 0
    assert np.isnan(found.deviation).all()
    draw_map(found)
    draw_curves(found)


def test_other_scores_and_no_rows():
    assert generalisation_map(rows(), "loss").mean.min() == 10
    for bad, score in ((rows(), "dice"), ([], "f1")):
        with pytest.raises(ParameterError, match="a map needs rows"):
            generalisation_map(bad, score)


def test_figures_say_what_they_show():
    found = generalisation_map(rows(doses=(100.0, 400.0)))
    axes = draw_map(found).axes[0]
    assert axes.get_xlabel() == "tested at underfocus, nm; dose, e/Å²"
    assert {t.get_text() for t in axes.texts} >= {f"{found.mean[0, 0]:.2f}"}
    lines = draw_curves(generalisation_map(rows())).axes[0].lines
    assert [line.get_xdata().tolist() for line in lines] == [[-20, 0, 20]] * 2
    np.testing.assert_allclose(lines[1].get_ydata(), generalisation_map(rows()).mean[1])


def test_a_study_that_is_not_there_has_no_rows(tmp_path):
    with pytest.raises(DatasetError):
        study_rows(tmp_path)
