"""Commands on crops: cards drawn, a bundle fitted, crops classified; what cannot work is told in a line."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from passband.cli import app
from passband.detectors.bundle import default_bundle, write_bundle
from passband.particles.cards import Disorder, draw_cards, make_cards
from passband.particles.crop_sets import CropSet, read_crop_set, write_crop_set

pytestmark = pytest.mark.training


def call(*words):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)


def cards(count, angle, seed):
    record = draw_cards(Disorder(angle=angle), count, seed=seed)
    return make_cards(record), record.suit


FIT = ("--epochs", 1, "--steps", 100, "--pool", 800, "--seed", 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    labelled, labels = cards(8, 4, 0)
    test, truth = cards(20, 180, 2)
    crops = CropSet(
        classes=("clubs", "spades", "hearts", "diamonds"),
        labelled=labelled,
        labels=labels,
        unlabelled=cards(15, 180, 1)[0],
        test=test,
        test_truth=truth,
    )
    return write_crop_set(crops, tmp_path_factory.mktemp("cards") / "t.npz")


@pytest.fixture(scope="module")
def bundle(data):
    out = data.parent / "b.safetensors"
    done = call("rvae", "fit", data, "--out", out, *FIT, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["labelled"] == 32
    assert not out.with_name(out.name + ".training").exists()
    return out


def test_a_classified_file_tells_what_the_contract_names(data, bundle):
    done = call("rvae", "classify", bundle, data, "--json")
    said = json.loads(done.out)
    assert said["n"] == 80 and sum(said["counts"].values()) == 80
    assert set(said["per_class"]) == {"clubs", "spades", "hearts", "diamonds"}
    assert said["accuracy"] == pytest.approx(np.mean(list(said["per_class"].values())))
    assert said["accuracy"] > 0.9
    assert 0.25 <= said["mean_probability"] <= 1 and 0 <= said["rejected"] <= 1


def test_the_table_has_a_row_for_every_crop(data, bundle, tmp_path):
    assert call("rvae", "classify", bundle, data, "--out", tmp_path / "t.csv").status == 0
    with (tmp_path / "t.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 80
    sums = [sum(float(v) for k, v in r.items() if k.startswith("p_")) for r in rows]
    assert np.allclose(sums, 1, atol=1e-3)
    assert all(abs(float(r["angle_deg"])) <= 180 and float(r["scale"]) > 0 for r in rows)


def test_the_same_command_gives_the_same_bundle(data, tmp_path):
    quick = ("--epochs", 1, "--steps", 5, "--pool", 100, "--seed")
    said = []
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        out = tmp_path / f"{name}.safetensors"
        assert call("rvae", "fit", data, "--out", out, *quick, seed).status == 0
        said.append(call("rvae", "classify", out, data, "--json").out)
    assert said[0] == said[1] != said[2]


def test_crops_of_no_class_count_as_right_where_they_are_rejected(data, bundle, tmp_path):
    crops = read_crop_set(data)
    noise = np.random.default_rng(0).random((40, 48, 48)).astype(np.float32)
    strange = CropSet(
        classes=crops.classes,
        labelled=crops.labelled,
        labels=crops.labels,
        test=noise,
        test_truth=np.full(40, -1),
    )
    write_crop_set(strange, tmp_path / "s.npz")
    said = json.loads(call("rvae", "classify", bundle, tmp_path / "s.npz", "--json").out)
    assert said["accuracy"] == said["per_class"]["none of them"] == said["rejected"]


def test_cards_are_made_as_asked(tmp_path):
    out = tmp_path / "c.npz"
    assert call("cards", "make", "--angle", 30, "--seed", 5, "--labels", 2, "--out", out).status == 0
    with np.load(out) as file:
        assert {"X_lab", "y_lab", "X_unl", "y_unl", "X_test", "y_test"} <= set(file.files)
        assert file["X_lab"].shape == (8, 48, 48) and file["X_unl"].shape == (12000, 48, 48)
        assert file["X_test"].dtype == np.uint8
        assert np.bincount(file["y_test"]).tolist() == [1000] * 4


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"hello", "cannot be read"), (b"", "cannot be read"), (None, "no such file")],
)
def test_what_is_no_crops_is_refused_in_a_line(tmp_path, content, words):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    done = call("rvae", "fit", path, "--out", tmp_path / "b.safetensors")
    assert done.status == 2 and words in done.err and "Traceback" not in done.err
    assert not (tmp_path / "b.safetensors").exists()


def test_a_detector_is_refused_where_particles_are_classified(data, tmp_path):
    write_bundle(default_bundle(), tmp_path / "d.safetensors")
    done = call("rvae", "classify", tmp_path / "d.safetensors", data)
    assert done.status == 2 and "detector" in done.err


def test_crops_of_another_size_are_refused(bundle, tmp_path):
    small = CropSet(
        classes=("a", "b"),
        labelled=np.random.default_rng(0).random((2, 32, 32), np.float32),
        labels=np.array([0, 1]),
        test=np.ones((1, 32, 32), np.float32),
    )
    write_crop_set(small, tmp_path / "s.npz")
    done = call("rvae", "classify", bundle, tmp_path / "s.npz")
    assert done.status == 2 and "48" in done.err and "32" in done.err
