"""A particle model is fitted, written and read whole; what it cannot learn from or read is refused."""

import json
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import jaxtyping
import numpy as np
import pytest

from passband.data.cards import SYMMETRY, Disorder, angle_error, draw_cards, make_cards
from passband.data.crop_sets import CropSet
from passband.errors import BundleError, ParameterError
from passband.learn.bundle import Bundle, CalibrationRecord, read_bundle, write_bundle
from passband.learn.detector import SLIM
from passband.learn.harmonics import HarmonicSettings
from passband.learn.invariant import deformed_pool
from passband.learn.particle_model import (
    Answer,
    ParticleConfig,
    classify_particles,
    describe_particles,
    fit_particle_model,
    read_particle_model,
    reconstruct,
    traverse,
    write_particle_model,
)
from passband.learn.rvae import Sampling
from passband.learn.train_rvae import RVAETraining

NAMES = ("clubs", "spades", "hearts", "diamonds")
FOLDS = np.array(list(SYMMETRY.values()))
BRIEF = RVAETraining(epochs=2, batch=16, learning_rate=3e-3, sampling=Sampling(stride=6))
CONFIG = ParticleConfig(name="cards", steps=150, training=BRIEF, seed=2)
MOVED = Disorder(angle=60, shear=(-8, 8), scale=(1, 1.2), shift_y=(-0.1, 0.1))


@contextmanager
def small_pool(size=1600):
    """Fewer deformed crops for a fit to draw from: enough for these, and quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passband.learn.invariant._POOL", size)
        if "size" in (deformed_pool.__kwdefaults__ or {}):
            patch.setitem(deformed_pool.__kwdefaults__, "size", size)
        yield


def cards(disorder, count, seed):
    record = draw_cards(disorder, count, seed=seed)
    return make_cards(record), record


def card_crops(labelled=5, unlabelled=8, seed=41, **changed):
    known, record = cards(Disorder(angle=4, shear=(-8, 8), scale=(1, 1.2)), labelled, seed)
    values = {"classes": NAMES, "labelled": known, "labels": record.suit, "about": {"protocol": "drawn here"}}
    values["unlabelled"] = cards(MOVED, unlabelled, seed + 1)[0] if unlabelled else None
    return CropSet(**(values | changed))


@pytest.fixture(scope="module")
def ours():
    with small_pool():
        return fit_particle_model(card_crops(), CONFIG)


@pytest.fixture(scope="module")
def reference():
    return fit_particle_model(card_crops(), replace(CONFIG, reference=True))


@pytest.fixture(scope="module")
def unseen():
    return cards(MOVED, 20, 51)


def small(count=6, classes=2, size=12, **changed):
    """Crops that cost nothing: a bar or a block, and noise."""
    crops = 0.02 * np.random.default_rng(0).standard_normal((count, size, size), np.float32)
    crops[::2, 4:8, 4:8] += 1
    crops[1::2, 2:10, 5:7] += 1
    values = {"classes": tuple("abcde"[:classes]), "labelled": crops, "labels": np.arange(count) % 2}
    return CropSet(**(values | changed))


LEAN = ParticleConfig(steps=2, generative=False)


def quick(crops, config=LEAN, **more):
    few = partial(HarmonicSettings, rings=5, orders=2)
    with small_pool(60), pytest.MonkeyPatch.context() as patch:
        patch.setattr("passband.learn.particle_model.HarmonicSettings", few)
        return fit_particle_model(crops, config, **more)


def test_turned_cards_that_it_never_saw_are_known(ours, unseen):
    crops, record = unseen
    answer = classify_particles(ours, crops)
    assert (answer.label == record.suit).mean() > 0.95
    np.testing.assert_allclose(answer.probabilities.sum(1), 1, atol=1e-5)
    assert answer.probabilities.shape == (80, 4) and answer.distance.shape == (80,)


@pytest.mark.parametrize("which", ["ours", "reference"])
def test_a_description_is_of_the_same_particles_in_range(which, unseen, request):
    model, (crops, _) = request.getfixturevalue(which), unseen
    d = describe_particles(model, crops)
    answer = classify_particles(model, crops)
    np.testing.assert_allclose(d.answer.probabilities, answer.probabilities, atol=1e-6)
    np.testing.assert_allclose(answer.probabilities.sum(1), 1, atol=1e-5)
    shapes = {"angle": (), "angle_spread": (), "shift": (2,), "scale": (), "latent": (2,), "misfit": ()}
    for name, shape in shapes.items():
        values = getattr(d, name)
        assert values.shape == (80, *shape) and np.isfinite(values).all(), name
    assert np.abs(d.angle).max() <= 180 and (d.angle_spread > 0).all() and (d.scale > 0).all()
    assert (d.latent_spread > 0).all() and (d.misfit > -1e-3).all()


def test_the_angle_is_that_from_the_labelled_orientation(ours, unseen):
    crops, record = unseen
    right = record.affine
    d = describe_particles(ours, crops)
    known = d.answer.label == record.suit
    errors = angle_error(d.angle[known], right.angle[known], FOLDS[record.suit[known]])
    # Shear of 8 degrees along either axis is itself a turn of up to 8; the median is about 2.5 of it.
    assert np.median(errors) < 6


def test_a_quarter_turn_moves_the_angle_and_leaves_class_and_factors(ours, unseen):
    crops, _ = unseen
    one, other = (describe_particles(ours, c) for c in (crops, np.rot90(crops, 1, (1, 2)).copy()))
    assert np.array_equal(one.answer.label, other.answer.label)
    away = angle_error(other.angle - one.angle, np.full(80, 90.0), FOLDS[one.answer.label])
    assert np.quantile(away, 0.95) < 1
    moved = np.abs(other.latent - one.latent) / one.latent.std(0)
    assert np.quantile(moved.max(1), 0.95) < 0.1


def test_an_answer_that_is_known_is_used(ours, unseen):
    crops = unseen[0][:12]
    told = Answer(
        probabilities=np.tile(np.eye(4, dtype=np.float32)[2], (12, 1)), distance=np.zeros(12, np.float32)
    )
    d = describe_particles(ours, crops, answer=told)
    assert d.answer is told
    assert not np.array_equal(d.latent, describe_particles(ours, crops).latent)


@pytest.mark.parametrize("which", ["ours", "reference"])
def test_a_reconstruction_is_of_the_particle_it_describes(which, unseen, request):
    model, crops = request.getfixturevalue(which), unseen[0][:12]
    d = describe_particles(model, crops)
    again = reconstruct(model, d)
    assert again.shape == crops.shape and again.min() >= 0 and again.max() <= 1
    still = reconstruct(model, replace(d, shift=0 * d.shift))
    moved = reconstruct(model, replace(d, shift=0 * d.shift, angle=d.angle + np.float32(90)))
    np.testing.assert_allclose(moved, np.rot90(still, 1, (1, 2)), atol=1e-4)


def test_a_traverse_changes_one_thing_alone(ours):
    turned = traverse(ours, 2, "angle", np.array([0, 90, 180], np.float32))
    assert turned.shape == (3, 48, 48)
    np.testing.assert_allclose(turned[1], np.rot90(turned[0]), atol=1e-4)
    np.testing.assert_allclose(turned[2], np.rot90(turned[0], 2), atol=1e-4)
    same = traverse(ours, 2, 1, np.zeros(2, np.float32))
    np.testing.assert_allclose(same[0], turned[0], atol=1e-5)
    unit = float(ours.generator.typical[1, 2, 0])  # of a model hardly trained it is small
    steps = np.array([-1, 1], np.float32) / unit
    assert np.abs(np.diff(traverse(ours, 2, 0, steps), axis=0)).max() > 1e-4
    for bad in (2, -1, "shear"):
        with pytest.raises(ParameterError, match="no factor"):
            traverse(ours, 0, bad, np.zeros(1, np.float32))


def answers_equal(one, other):
    return one.probabilities.tobytes() == other.probabilities.tobytes() and (
        one.distance.tobytes() == other.distance.tobytes()
    )


@pytest.mark.parametrize("which", ["ours", "reference"])
def test_a_bundle_read_back_gives_the_same_answers_bit_for_bit(which, unseen, request, tmp_path):
    model, crops = request.getfixturevalue(which), unseen[0][:12]
    path = tmp_path / "cards.safetensors"
    digest = write_particle_model(model, path)
    again = read_particle_model(path)
    assert (again.name, again.classes, again.digest, again.size) == ("cards", NAMES, digest, 48)
    assert again.training == json.loads(json.dumps(model.training))
    assert answers_equal(classify_particles(model, crops), classify_particles(again, crops))
    one, other = describe_particles(model, crops), describe_particles(again, crops)
    for name in ("angle", "angle_spread", "shift", "scale", "latent", "latent_spread", "misfit"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert reconstruct(model, one).tobytes() == reconstruct(again, other).tobytes()


def test_the_same_seed_gives_the_same_bundle_and_another_another(tmp_path):
    config = replace(
        LEAN, generative=True, training=RVAETraining(epochs=1, batch=8, sampling=Sampling(stride=4))
    )
    crops = small(unlabelled=small(5).labelled)
    one, two, three = (
        write_particle_model(quick(crops, c), tmp_path / "a.safetensors")
        for c in (config, config, replace(config, seed=5))
    )
    assert one == two != three


def test_the_test_crops_are_not_looked_at(tmp_path):
    plain = write_particle_model(quick(small()), tmp_path / "a.safetensors")
    tested = small(test=np.ones((3, 12, 12), np.float32), test_truth=np.array([0, 1, 1]))
    assert write_particle_model(quick(tested), tmp_path / "b.safetensors") == plain


def test_a_calibration_travels_with_the_model(tmp_path):
    record = CalibrationRecord(settings={"coverage": 0.9}, arrays={"edges": np.arange(3.0)})
    write_particle_model(replace(quick(small()), calibration=record), tmp_path / "a.safetensors")
    again = read_particle_model(tmp_path / "a.safetensors").calibration
    assert again.settings == {"coverage": 0.9} and again.arrays["edges"].tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "small.safetensors"
    write_particle_model(quick(small()), path)
    return path


def test_a_flipped_byte_is_noticed_wherever_it_is(written, tmp_path):
    content = written.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 8, 40, len(content) - 1, *rng.integers(0, len(content), 25)]:
        broken = bytearray(content)
        broken[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "broken.safetensors").write_bytes(broken)
        with pytest.raises(BundleError, match=r"broken\.safetensors"):
            read_particle_model(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, -1])
def test_a_truncated_bundle_is_refused(written, tmp_path, keep):
    content = written.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(BundleError, match=r"short\.safetensors"):
        read_particle_model(tmp_path / "short.safetensors")


def test_other_files_are_refused_as_particle_bundles_and_particle_bundles_as_detectors(written, tmp_path):
    detector = Bundle(name="discs", detector=SLIM, weights={}, score_threshold=0.5, training={})
    write_bundle(detector, tmp_path / "detector.safetensors")
    with pytest.raises(BundleError, match=r"detector\.safetensors: a detector's bundle"):
        read_particle_model(tmp_path / "detector.safetensors")
    with pytest.raises(BundleError, match=r"small\.safetensors: a bundle that classifies particles"):
        read_bundle(written)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.safetensors: not a Passband bundle"):
        read_particle_model(tmp_path / "text.safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        read_particle_model(tmp_path / "none.safetensors")


def test_held_out_accuracy_is_there_with_four_labels_a_class_and_not_with_fewer():
    assert 0 <= quick(small(8)).training["held_out_accuracy"] <= 1
    assert quick(small(7)).training["held_out_accuracy"] is None


def test_what_a_model_was_trained_on_is_with_it(ours):
    assert ours.training["labels"] == [5, 5, 5, 5] and ours.training["unlabelled"] == 32
    assert ours.training["epochs"] == 2 and ours.training["about"] == {"protocol": "drawn here"}
    assert 0 <= ours.training["pseudo_labelled"] <= 32


@pytest.fixture
def as_in_the_product(monkeypatch):
    """Without the tests' checker of shapes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_labels_that_cannot_be_learnt_from_are_refused():
    none = np.zeros((0, 12, 12), np.float32)
    with pytest.raises(ParameterError, match="no labelled crop"):
        quick(small(labelled=none, labels=np.zeros(0, int)))
    with pytest.raises(ParameterError, match="no labelled crop of c, d"):
        quick(small(classes=4))
    with pytest.raises(ParameterError, match="one class"):
        quick(small(classes=1, labels=np.zeros(6, int)))
    with pytest.raises(ParameterError, match=r"no labelled crop.*one class"):
        quick(small(classes=1, labelled=none, labels=np.zeros(0, int)))
    with pytest.raises(ParameterError, match="constant"):
        quick(small(labelled=np.full((6, 12, 12), 0.5, np.float32)))


def test_crops_that_do_not_fit_the_model_are_refused(written, as_in_the_product):
    model = read_particle_model(written)
    crops = small().labelled
    with pytest.raises(ParameterError, match="20 pixels a side; this model takes 12"):
        classify_particles(model, np.zeros((2, 20, 20), np.float32))
    with pytest.raises(ParameterError, match="RGB"):
        classify_particles(model, np.zeros((2, 12, 12, 3), np.float32))
    crops[1, 2, 3] = np.nan
    with pytest.raises(ParameterError, match=r"1 of them hold values that are not finite \(numbers 1\)"):
        classify_particles(model, crops)


def test_a_model_without_an_autoencoder_gives_classes_alone(written):
    model = read_particle_model(written)
    assert classify_particles(model, small().labelled).label.shape == (6,)
    with pytest.raises(ParameterError, match="no autoencoder"):
        describe_particles(model, small().labelled)
    with pytest.raises(ParameterError, match="no autoencoder"):
        traverse(model, 0, 0, np.zeros(1, np.float32))
    with pytest.raises(ParameterError, match="cannot go without"):
        ParticleConfig(reference=True, generative=False)


@pytest.mark.parametrize("which", ["ours", "reference"])
def test_no_crops_have_an_empty_description(which, request):
    model = request.getfixturevalue(which)
    d = describe_particles(model, np.zeros((0, 48, 48), np.float32))
    assert d.answer.probabilities.shape == (0, 4) and d.latent.shape == (0, 2) and d.shift.shape == (0, 2)
    assert reconstruct(model, d).shape == (0, 48, 48)


def test_a_stopped_fit_goes_on_and_ends_the_same(tmp_path):
    config = replace(
        LEAN, generative=True, training=RVAETraining(epochs=2, batch=8, sampling=Sampling(stride=4))
    )
    crops = small(unlabelled=small(5).labelled)
    whole = write_particle_model(quick(crops, config), tmp_path / "whole.safetensors")

    class KilledError(Exception):
        pass

    def kill(model, epoch):
        raise KilledError

    with pytest.raises(KilledError):
        quick(crops, config, folder=tmp_path / "run", on_epoch=kill)
    seen = []
    again = quick(
        crops, config, folder=tmp_path / "run", on_epoch=lambda model, epoch: seen.append(epoch.number)
    )
    assert seen == [2]
    assert write_particle_model(again, tmp_path / "again.safetensors") == whole


@pytest.mark.parametrize("invariances", [(), ("rotation",), ("translation", "scale")])
def test_any_invariances_can_be_chosen(invariances):
    training = RVAETraining(epochs=1, batch=4, sampling=Sampling(stride=4))
    model = quick(small(), replace(LEAN, generative=True, invariances=invariances, training=training))
    d = describe_particles(model, small().labelled)
    assert d.angle.any() == ("rotation" in invariances)
    assert d.shift.any() == ("translation" in invariances)
    assert (d.scale != 1).any() == ("scale" in invariances)
