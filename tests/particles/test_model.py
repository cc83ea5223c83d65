"""Classes, poses and factors of particles that a model never saw; what does not fit it is refused."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest

from made_cards import quick, small
from passband.errors import ParameterError
from passband.particles.cards import SYMMETRY, angle_error
from passband.particles.fit import ParticleConfig
from passband.particles.model import (
    Classification,
    classify_particles,
    describe_particles,
    reconstruct,
    traverse,
)

pytestmark = pytest.mark.training

FOLDS = np.array(list(SYMMETRY.values()))


@pytest.fixture(scope="module")
def lean():
    return quick(small())


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
    told = Classification(
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


@pytest.fixture
def as_in_the_product(monkeypatch):
    """Without the tests' checker of shapes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_crops_that_do_not_fit_the_model_are_refused(lean, as_in_the_product):
    crops = small().labelled
    with pytest.raises(ParameterError, match="20 pixels a side; this model takes 12"):
        classify_particles(lean, np.zeros((2, 20, 20), np.float32))
    with pytest.raises(ParameterError, match="RGB"):
        classify_particles(lean, np.zeros((2, 12, 12, 3), np.float32))
    crops[1, 2, 3] = np.nan
    with pytest.raises(ParameterError, match=r"1 of them hold values that are not finite \(numbers 1\)"):
        classify_particles(lean, crops)


def test_a_model_without_an_autoencoder_gives_classes_alone(lean):
    assert classify_particles(lean, small().labelled).label.shape == (6,)
    with pytest.raises(ParameterError, match="no autoencoder"):
        describe_particles(lean, small().labelled)
    with pytest.raises(ParameterError, match="no autoencoder"):
        traverse(lean, 0, 0, np.zeros(1, np.float32))
    with pytest.raises(ParameterError, match="cannot go without"):
        ParticleConfig(reference=True, generative=False)


@pytest.mark.parametrize("which", ["ours", "reference"])
def test_no_crops_have_an_empty_description(which, request):
    model = request.getfixturevalue(which)
    d = describe_particles(model, np.zeros((0, 48, 48), np.float32))
    assert d.answer.probabilities.shape == (0, 4) and d.latent.shape == (0, 2) and d.shift.shape == (0, 2)
    assert reconstruct(model, d).shape == (0, 48, 48)
