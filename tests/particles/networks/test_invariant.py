"""A classifier fitted to a few upright cards knows turned ones that it never saw, and strangers."""

import json
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest

from passband.errors import ParameterError
from passband.particles.cards import STRANGERS, Disorder, draw_cards, draw_template, make_cards
from passband.particles.networks.fit_invariant import fit_classifier
from passband.particles.networks.harmonics import HarmonicSettings
from passband.particles.networks.invariant import (
    Classification,
    ClassifierSettings,
    Nuisances,
    classify_crops,
)

pytestmark = pytest.mark.training

SETTINGS = ClassifierSettings(harmonics=HarmonicSettings(size=48), steps=100, pool=800, seed=3)
KNOWN = Disorder(angle=4, shear=(-8, 8), scale=(1, 1.2))
MOVED = Disorder(angle=180, shear=(-8, 8), scale=(1, 1.2), shift_x=(-0.08, 0.08), shift_y=(-0.08, 0.08))
TINY = ClassifierSettings(
    harmonics=HarmonicSettings(size=12, rings=5, orders=2), steps=3, hidden=4, pool=1600
)


def cards(disorder, count, seed, shapes=None):
    record = draw_cards(disorder, count, seed=seed)
    templates = None if shapes is None else [draw_template(s) for s in shapes.values()]
    return make_cards(record, templates), record.suit


@pytest.fixture(scope="module")
def fitted():
    crops, labels = cards(KNOWN, 8, seed=31)
    return fit_classifier(crops, labels, SETTINGS, classes=4)


def test_turned_cards_that_it_never_saw_are_known(fitted):
    for angle in (60, 180):
        crops, suit = cards(replace(MOVED, angle=angle), 100, seed=32)
        assert (classify_crops(fitted.model, crops).label == suit).mean() > 0.95
    assert 0.8 < fitted.held_out_accuracy <= 1


def test_probabilities_are_probabilities_and_the_label_is_the_greatest(fitted):
    answer = classify_crops(fitted.model, cards(replace(MOVED, noise=0.5), 20, seed=33)[0])
    assert answer.probabilities.shape == (80, 4) and answer.probabilities.min() >= 0
    np.testing.assert_allclose(answer.probabilities.sum(1), 1, atol=1e-5)
    assert np.array_equal(answer.label, answer.probabilities.argmax(1))
    assert answer.probabilities.max(1).std() > 0
    assert np.array_equal(answer.rejected, answer.distance > 1)


def test_a_quarter_turn_changes_no_answer(fitted):
    crops, _ = cards(MOVED, 20, seed=34)
    one = classify_crops(fitted.model, crops)
    for turns in (1, 2, 3):
        other = classify_crops(fitted.model, np.rot90(crops, turns, (1, 2)).copy())
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-3)
        np.testing.assert_allclose(one.distance, other.distance, rtol=1e-2, atol=1e-3)


def test_an_answer_does_not_depend_on_the_others_in_the_batch(fitted):
    crops, _ = cards(MOVED, 300, seed=35)  # more than one batch
    every, some = classify_crops(fitted.model, crops), classify_crops(fitted.model, crops[1020:1030])
    np.testing.assert_allclose(every.probabilities[1020:1030], some.probabilities, atol=1e-4)
    np.testing.assert_allclose(every.distance[1020:1030], some.distance, rtol=1e-3)


def test_strangers_are_farther_than_unseen_members_of_the_classes(fitted):
    mine, _ = cards(MOVED, 75, seed=36)
    strange, _ = cards(MOVED, 75, seed=37, shapes=STRANGERS)
    near, far = (classify_crops(fitted.model, c).distance for c in (mine, strange))
    assert far.mean() > near.mean()
    auroc = (far[:, None] > near[None]).mean() + 0.5 * (far[:, None] == near[None]).mean()
    assert auroc > 0.9


@pytest.fixture
def as_in_the_product(monkeypatch):
    """Without the tests' checker of shapes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def tiny():
    crops = np.random.default_rng(0).random((10, 12, 12), np.float32)
    return fit_classifier(crops, np.arange(10) % 2, TINY, classes=2).model


def test_crops_of_another_size_or_with_nan_are_not_classified(tiny, as_in_the_product):
    for bad in (np.zeros((3, 13, 13), np.float32), np.zeros((12, 12), np.float32)):
        with pytest.raises(ParameterError, match="this classifier takes"):
            classify_crops(tiny, bad)
    crops = np.random.default_rng(0).random((5, 12, 12), np.float32)
    for bad in (np.nan, np.inf):
        crops[2, 3, 4] = bad
        with pytest.raises(ParameterError, match="1 of 5 crops hold values that are not finite"):
            classify_crops(tiny, crops)


def test_no_crops_get_no_answers(tiny):
    answer = classify_crops(tiny, np.zeros((0, 12, 12), np.float32))
    assert (
        isinstance(answer, Classification)
        and answer.probabilities.shape == (0, 2)
        and answer.distance.shape == (0,)
    )


def test_constant_crops_get_a_finite_answer(tiny):
    answer = classify_crops(tiny, np.zeros((2, 12, 12), np.float32))
    assert np.isfinite(answer.probabilities).all() and np.isfinite(answer.distance).all()


@pytest.mark.parametrize(
    "bad",
    [{"hidden": 0}, {"steps": 0}, {"batch": 0}, {"pool": 0}, {"rejected": 0.0}, {"rejected": 0.5}],
    ids=str,
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        ClassifierSettings(harmonics=HarmonicSettings(size=12), **bad)


def test_every_bad_nuisance_is_named_at_once():
    with pytest.raises(ParameterError) as e:
        Nuisances(shift=0.6, shear=50, scale=0.9, noise=((0.5, 0.1),), contamination=2)
    for word in ("shift", "shear", "scale", "noise", "contamination"):
        assert word in str(e.value)
    with pytest.raises(ParameterError, match="noise"):
        Nuisances(noise=())


def test_settings_go_through_json_and_back():
    s = replace(TINY, nuisances=Nuisances(noise=((0, 1), (2, 3))), self_training=0, seed=9)
    assert ClassifierSettings.from_dict(json.loads(json.dumps(s.to_dict()))) == s
