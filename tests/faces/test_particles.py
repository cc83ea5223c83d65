"""Commands on particles: labels to a bundle, a bundle to classes and a page; what cannot work is told."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from made_library import made_bundle, made_library, make_library
from passband.cli import app
from passband.detectors.bundle import default_bundle, write_bundle
from passband.errors import BundleError, DatasetError, ParameterError
from passband.particles.bundle import read_particle_model
from passband.particles.extraction.find import ExtractionSettings
from passband.particles.fit import ParticleConfig
from passband.particles.library.crop_pictures import thumbnails
from passband.particles.library.fit import (
    classify_library,
    crops_of_library,
    fit_library,
    passes_of,
    summarise_classes,
)
from passband.particles.library.labels import label_library
from passband.particles.library.library import extend_library, open_library
from passband.particles.model import classify_particles

pytestmark = pytest.mark.training


def call(*words):
    done = CliRunner().invoke(app, ["particles", *map(str, words)], catch_exceptions=False)
    return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)


@pytest.fixture
def library(tmp_path):
    """One that a test may change."""
    return shutil.copytree(made_library(), tmp_path / "lib")


def label(library, rows):
    table = library.parent / "some.csv"
    table.write_text("particle,label\n" + "".join(f"{i},{name}\n" for i, name in rows))
    label_library(library, table)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_labelled_crops_are_learnt_from_with_labels_and_the_others_without():
    library = open_library(made_library())
    crops = crops_of_library(library)
    labelled = library.labels != ""
    assert (crops.classes, labelled.sum(), len(library)) == (("bar", "disc"), 8, 32)
    np.testing.assert_array_equal(crops.labelled, library.crops[:][labelled])
    np.testing.assert_array_equal(crops.unlabelled, library.crops[:][~labelled])
    assert [crops.classes[k] for k in crops.labels] == library.labels[labelled].tolist()


def test_fit_then_classify_by_command(library, tmp_path):
    bundle = tmp_path / "shapes.bundle"
    asked = ("--steps", 20, "--pool", 200, "--epochs", 1, "--seed", 3)
    done = call("fit", library, "--out", bundle, *asked, "--json")
    assert done.status == 0
    about = json.loads(done.out)
    assert (about["labelled"], about["unlabelled"]) == ({"bar": 4, "disc": 4}, 24)
    assert about["autoencoder"] and about["digest"] == read_particle_model(bundle).digest
    assert 0 <= about["held_out_accuracy"] <= 1
    assert read_particle_model(bundle).training["seed"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lib", "shapes.bundle"]  # the checkpoint is gone
    done = call("classify", library, bundle, "--json")
    about, rows = json.loads(done.out), rows_of(library / "classes.csv")
    assert sum(about["counts"].values()) == about["total"] == len(rows) == 32
    assert about["counts"]["bar"] == sum(r["class"] == "bar" for r in rows)
    assert about["rejected"] == sum(r["rejected"] == "True" for r in rows)
    assert list(rows[0])[:6] == [
        "particle", "class", "probability_bar", "probability_disc", "distance", "rejected",
    ]  # fmt: skip
    assert {"angle_degrees", "relative_scale", "factor_1", "factor_2"} <= set(rows[0])
    opened, model = open_library(library), read_particle_model(bundle)
    answer = classify_particles(model, opened.crops[:])
    assert [r["particle"] for r in rows] == opened.table["particle"].tolist()
    np.testing.assert_allclose(
        [float(r["probability_bar"]) for r in rows], answer.probabilities[:, 0], rtol=1e-4
    )
    np.testing.assert_allclose([float(r["distance"]) for r in rows], answer.distance, rtol=1e-4)
    said = call("classify", library, bundle).out
    assert "mean probability" in said and f"of {about['total']} (" in said
    assert str(library / "classes.csv") in said


def test_classes_alone_have_no_poses(tmp_path):
    found = classify_library(shutil.copytree(made_library(), tmp_path / "lib"), made_bundle(generative=False))
    assert found.description is None
    assert list(rows_of(tmp_path / "lib" / "classes.csv")[0])[-1] == "rejected"
    summary = summarise_classes(found)
    assert sum(summary.counts.values()) == 32
    mean = {found.model.classes[k]: found.probability[found.answer.label == k].mean() for k in range(2)}
    assert {k: v for k, v in summary.mean_probability.items() if v is not None} == pytest.approx(
        mean, rel=1e-6
    )


def test_shapes_are_told_apart(library):
    found = classify_library(library, made_bundle(generative=False))
    truth = found.library.table["eccentricity"] > 0.7
    assert (truth == (np.array(found.model.classes)[found.answer.label] == "bar")).mean() > 0.9


def test_the_report_command_writes_a_page(library, tmp_path):
    done = call("report", library, made_bundle(), "--out", tmp_path / "page")
    assert done.status == 0
    assert {p.name for p in (tmp_path / "page").iterdir()} == {"report.html", "particles.csv", "crops.zip"}
    assert "report.html" in done.out


def test_one_label_of_each_class_is_enough(tmp_path):
    library = make_library(tmp_path, labels=1)
    done = call("fit", library, "--out", tmp_path / "b", "--steps", 5, "--pool", 100, "--classes-only")
    assert done.status == 0
    assert "learnt from 1 bar, 1 disc, and 30 unlabelled" in done.out
    assert "not measured" in done.out


def test_a_stopped_fit_goes_on_and_other_labels_want_another_place(library, tmp_path):
    from passband.particles.networks.train_rvae import RVAETraining

    class StopError(Exception):
        pass

    def stop(what, done, total):
        if what == "train the autoencoder" and done == 2:
            raise StopError

    config = ParticleConfig(name="a", steps=5, pool=100, training=RVAETraining(epochs=3))
    bundle, beside = tmp_path / "a.bundle", tmp_path / "a.bundle.training"
    with pytest.raises(StopError):
        fit_library(library, bundle, config, progress=stop)
    assert not bundle.exists() and (beside / "rvae.safetensors").exists()
    other = shutil.copytree(library, tmp_path / "other")
    label(other, [(open_library(other).table["particle"][-1], "bar")])
    with pytest.raises(ParameterError, match=r"a\.bundle\.training.*remove it"):
        fit_library(other, bundle, config)
    seen = []
    fit_library(library, bundle, config, progress=lambda what, done, total: seen.append((what, done)))
    assert [done for what, done in seen if what == "train the autoencoder"] == [3]
    assert bundle.exists() and not beside.exists()


def test_few_crops_get_as_many_steps_as_many_crops():
    passes = passes_of(made_library())
    assert passes > 100
    assert passes * 1 >= 2000  # one batch a pass


def test_what_cannot_be_learnt_from_is_told(library, tmp_path):
    ids = open_library(library).table["particle"].tolist()
    bare = make_library(tmp_path / "bare", labels=0)
    out = tmp_path / "b.bundle"
    done = call("fit", bare, "--out", out)
    assert done.status == 2
    assert "none of 32 particles has a label; label some with" in done.err
    label(bare, [(open_library(bare).table["particle"][0], "bar")])
    assert "all labels are 'bar'; two classes" in call("fit", bare, "--out", out).err
    np.save(tmp_path / "flat.npy", np.zeros((64, 64), np.float32))
    extend_library(tmp_path / "none", [str(tmp_path / "flat.npy")])
    for words in (("fit", tmp_path / "none", "--out", out), ("classify", tmp_path / "none", made_bundle())):
        done = call(*words)
        assert done.status == 2
        assert "holds no particle; add micrographs with" in done.err
    assert "is a folder; give the file" in call("fit", library, "--out", tmp_path).err
    assert "does not exist" in call("classify", tmp_path / "nowhere", made_bundle()).err
    assert not out.exists() and len(ids) == 32


def test_a_bundle_that_does_not_fit_is_told(library, tmp_path):
    small = tmp_path / "small"
    extend_library(
        small, [open_library(library).table["source"][0]], ExtractionSettings(size=32, split=False)
    )
    with pytest.raises(DatasetError, match=r"crops of 32 pixels a side.*takes 48.*--size 48"):
        classify_library(small, made_bundle())
    write_bundle(default_bundle(), tmp_path / "detector.bundle")
    with pytest.raises(BundleError, match="a detector's bundle; wanted one that classifies particles"):
        classify_library(library, tmp_path / "detector.bundle")
    with pytest.raises(BundleError, match="cannot be read"):
        classify_library(library, tmp_path / "no.bundle")
    assert not (library / "classes.csv").exists() and not (small / "classes.csv").exists()


def test_each_frame_of_a_film_gives_its_particles_and_is_found_again(tmp_path):
    y, x = np.mgrid[:96, :96]
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 96, 96))
    discs = [np.hypot(y - 40, x - c) < 14 for c in (30, 45, 60)]
    film = tmp_path / "film.npy"
    np.save(film, (noise - np.array(discs)).astype(np.float32))
    words = ("extract", film, "--out", tmp_path / "lib", "--frame", "all", "--window-px", 40, "--json")
    assert json.loads(call(*words).out)["particles"] == 3
    assert json.loads(call(*words).out)["there"] == 3  # a second time nothing comes to it
    library = open_library(tmp_path / "lib")
    assert sorted(library.table["source"]) == [f"{film}#{i}" for i in range(3)]
    assert [(t.missing, t.picture is None) for t in thumbnails(library, np.arange(3))] == [("", False)] * 3
