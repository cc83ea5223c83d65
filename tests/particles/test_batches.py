"""What is known of a batch's accuracy without labels, and how crops are made worse."""

import numpy as np
import pytest

from made_library import draw, made_bundle, made_library
from passband.errors import CalibrationError, ParameterError
from passband.estimate.regressor import BATCH_FEATURES
from passband.kinds import assess
from passband.micrographs.micrograph import Micrograph
from passband.particles.about import about_particle_model
from passband.particles.batches import batch_features, batch_row, calibrate_particles
from passband.particles.bundle import read_particle_model, write_particle_model
from passband.particles.library.library import open_library
from passband.particles.model import classify_particles, explained_best
from passband.particles.stress import DISORDERS, stress_rows

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def model():
    return read_particle_model(made_bundle())


@pytest.fixture(scope="module")
def crops():
    library = open_library(made_library())
    return np.asarray(library.crops[:]), (library.table["eccentricity"] <= 0.7).astype(int)


def test_features_are_finite_and_have_their_names(model, crops):
    found = batch_features(model, crops[0])
    assert set(found) == {"count", "mean_probability", *BATCH_FEATURES}
    assert np.isfinite(list(found.values())).all() and found["count"] == len(crops[0])


@pytest.mark.parametrize("name, feature", [("noise", "same_noisier"), ("shift", "same_shifted")])
def test_fewer_answers_stay_where_the_model_begins_to_err(model, crops, name, feature):
    """Not at any strength: of crops that are all noise every answer may be the same class, and stays."""
    rng = np.random.default_rng(0)

    def worse(step):
        return DISORDERS[name].apply(crops[0], rng, DISORDERS[name].greatest * step / 8)

    made_worse = map(worse, range(1, 9))
    errs = next(c for c in made_worse if (classify_particles(model, c).label == crops[1]).mean() < 0.9)
    well, badly = (batch_features(model, c)[feature] for c in (crops[0], errs))
    assert 0 <= badly < well - 0.05 and well <= 1


def test_features_do_not_depend_on_the_order_of_crops(model, crops):
    there, back = (batch_features(model, c) for c in (crops[0], crops[0][::-1].copy()))
    assert there == pytest.approx(back, abs=1e-5)


def test_no_crops_are_refused(model):
    with pytest.raises(CalibrationError):
        batch_features(model, np.zeros((0, 48, 48), np.float32))


def test_a_row_has_the_accuracy_that_its_labels_give(model, crops):
    said = classify_particles(model, crops[0]).label
    assert batch_row(model, crops[0], said, domain="a", name="b").f1 == 1
    assert batch_row(model, crops[0], 1 - said, domain="a", name="b").f1 == 0


def test_what_explains_best_is_one_of_the_classes(model, crops):
    assert set(explained_best(model, crops[0]).tolist()) <= {0, 1}


@pytest.mark.parametrize("name", DISORDERS)
def test_a_disorder_of_no_strength_changes_nothing_and_of_full_strength_much(crops, name):
    rng = np.random.default_rng(0)
    none = DISORDERS[name].apply(crops[0], rng, 0.0)
    full = DISORDERS[name].apply(crops[0], rng, DISORDERS[name].greatest)
    assert none.shape == full.shape == crops[0].shape and none.dtype == np.float32
    assert np.abs(none - crops[0]).max() < 1e-4
    assert np.abs(full - crops[0]).mean() > 0.01


def test_one_crop_is_too_few_for_a_stress_test(model, crops):
    with pytest.raises(ParameterError):
        next(stress_rows(model, crops[0][:1], crops[1][:1], seed=0))


def test_batches_differ_in_size_only_where_that_is_asked_for(model, crops):
    some = {"noise": DISORDERS["noise"]}
    asked = {"seed": 0, "strengths": 3, "batches": 2, "size": 16, "disorders": some}
    alike, varied = (
        [r.features["count"] for r in stress_rows(model, *crops, **asked, least=least)] for least in (None, 4)
    )
    assert set(alike) == {16}
    assert len(set(varied)) > 2 and 4 <= min(varied) <= max(varied) <= 16


@pytest.fixture(scope="module")
def calibrated(model, crops, tmp_path_factory):
    some = {name: DISORDERS[name] for name in ("noise", "blur", "shift")}
    rows = list(stress_rows(model, *crops, seed=0, strengths=6, batches=2, size=20, disorders=some))
    assert len(rows) == 36 and {r.domain for r in rows} == set(some)
    path = tmp_path_factory.mktemp("bundle") / "c.safetensors"
    write_particle_model(calibrate_particles(model, rows), path)
    return read_particle_model(path)


def test_a_micrograph_is_judged_by_a_calibrated_classifier(calibrated):
    verdict = assess(Micrograph(pixels=draw(7), name="new.npy", pixel_size=5.0), calibrated)
    assert verdict.verdict in ("trust", "review", "reject")
    assert len(verdict.detections) == 16
    f1 = verdict.estimates["f1"]
    assert 0 <= f1.low <= f1.value <= f1.high <= 1
    assert any("right class" in reason for reason in verdict.reasons)


def test_it_says_what_it_was_calibrated_on_and_nothing_of_a_matching_of_boxes(model, calibrated):
    lines = dict(about_particle_model(calibrated))
    assert lines["calibration"] == "36 batches of crops of 3 domains"
    assert "matching" not in lines and "interval width" in lines
    assert "`passband particles fit --help`" in dict(about_particle_model(model))["calibration"]


def test_without_calibration_or_particles_the_answer_is_review(model):
    assert assess(Micrograph(pixels=draw(7), name="new.npy"), model).verdict == "review"
    noise = np.random.default_rng(0).normal(0, 1e-3, (96, 96)).astype(np.float32)
    noise[:2, :2] = 1
    empty = assess(Micrograph(pixels=noise, name="empty.npy"), model)
    assert empty.verdict != "trust"


def test_a_model_of_loose_crops_says_that_it_cannot_find_particles(model):
    from dataclasses import replace

    loose = replace(model, training={})
    with pytest.raises(ParameterError, match="fitted to crops"):
        assess(Micrograph(pixels=draw(7), name="new.npy"), loose)
