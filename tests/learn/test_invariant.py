"""A classifier fitted to a few upright cards knows turned ones that it never saw, and strangers."""

import json
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch

from passband.data.cards import STRANGERS, Disorder, draw_cards, draw_template, make_cards
from passband.errors import ParameterError
from passband.learn.harmonics import HarmonicSettings
from passband.learn.invariant import (
    Answer,
    ClassifierSettings,
    Nuisances,
    classify_crops,
    deformed_pool,
    fit_classifier,
)

SETTINGS = ClassifierSettings(harmonics=HarmonicSettings(size=48), steps=150, seed=3)
KNOWN = Disorder(angle=4, shear=(-8, 8), scale=(1, 1.2))
MOVED = Disorder(angle=180, shear=(-8, 8), scale=(1, 1.2), shift_x=(-0.08, 0.08), shift_y=(-0.08, 0.08))
TINY = ClassifierSettings(harmonics=HarmonicSettings(size=12, rings=5, orders=2), steps=3, hidden=4)


@pytest.fixture(scope="module", autouse=True)
def small_pool():
    """An eighth of the deformed crops that a fit draws from: enough for these, and quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passband.learn.invariant._POOL", 1600)
        deformed = deformed_pool.__kwdefaults__
        if deformed:
            patch.setitem(deformed, "size", 1600)
        yield


def cards(disorder, count, seed, shapes=None):
    record = draw_cards(disorder, count, seed=seed)
    templates = None if shapes is None else [draw_template(s) for s in shapes.values()]
    return make_cards(record, templates), record.suit


@pytest.fixture(scope="module")
def fitted(small_pool):
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


def quick(crops=None, labels=None, settings=TINY, classes=2, **more):
    if crops is None:
        crops = np.random.default_rng(0).random((10, 12, 12), np.float32)
    if labels is None:
        labels = np.arange(len(crops)) % 2
    return fit_classifier(crops, labels, settings, classes=classes, **more)


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


def test_the_same_seed_gives_the_same_classifier_and_another_another():
    unlabelled = np.random.default_rng(1).random((6, 12, 12), np.float32)
    one, two = quick(unlabelled=unlabelled), quick(unlabelled=unlabelled)
    assert same(one.model, two.model) and one.held_out_accuracy == two.held_out_accuracy
    assert not same(one.model, quick(settings=replace(TINY, seed=1), unlabelled=unlabelled).model)


def test_a_fit_draws_nothing_from_the_global_generator():
    before = torch.random.get_rng_state()
    quick()
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_crops_given_are_left_as_they_were():
    crops = np.random.default_rng(0).random((10, 12, 12), np.float32)
    copy = crops.copy()
    quick(crops, unlabelled=crops)
    assert np.array_equal(crops, copy)


def test_crops_are_held_out_with_four_labels_a_class_and_not_with_fewer():
    rng = np.random.default_rng(0)
    four, three = np.array([0, 1] * 4), np.array([0, 1, 0, 1, 0, 1, 0])
    assert 0 <= quick(rng.random((8, 12, 12), np.float32), four).held_out_accuracy <= 1
    assert np.isnan(quick(rng.random((7, 12, 12), np.float32), three).held_out_accuracy)


def test_no_crop_held_out_is_learnt_from():
    """Random labels cannot be told: accuracy on crops held out is chance, whatever the fit."""
    rng = np.random.default_rng(5)
    crops = rng.random((80, 12, 12), np.float32)
    fitted = quick(crops, rng.permutation(np.arange(80) % 2), replace(TINY, steps=100, hidden=64))
    # Twenty crops held out: five standard errors would be all of them, three are 0.34.
    assert abs(fitted.held_out_accuracy - 0.5) < 0.34


def test_unlabelled_crops_are_learnt_from_only_if_asked():
    rng = np.random.default_rng(0)
    crops = 0.02 * rng.standard_normal((24, 12, 12), np.float32)
    crops[::2, 4:8, 4:8] += 1  # a block, and a bar
    crops[1::2, 2:10, 5:7] += 1
    settings = replace(TINY, steps=60, hidden=32)
    asked = quick(crops[:8], settings=settings, unlabelled=crops[8:])
    not_asked = quick(crops[:8], settings=replace(settings, self_training=0), unlabelled=crops[8:])
    assert 0 < asked.pseudo_labelled <= 16 and not_asked.pseudo_labelled == 0
    assert not same(asked.model, not_asked.model)


def test_progress_ends_whole():
    said = []
    quick(
        settings=replace(TINY, steps=101), progress=lambda what, done, total: said.append((what, done, total))
    )
    assert [s for s in said if s[0] == "fit"] == [("fit", 100, 101), ("fit", 101, 101)]


def deformed(settings, size, crops=None):
    if crops is None:
        crops = np.random.default_rng(0).random((3, 12, 12), np.float32)
    return deformed_pool(crops, np.array([0, 1, 1]), settings, seed=0, size=size)


def test_a_pool_of_deformed_crops_keeps_their_labels_and_is_of_the_size_asked_for():
    pool = deformed(TINY, 30)
    assert len(pool.labels) == len(pool.source) == len(pool.coefficients) == 30
    assert np.array_equal(pool.labels.numpy(), np.array([0, 1, 1])[pool.source])
    assert np.bincount(pool.source).tolist() == [10, 10, 10]


def test_only_the_nuisances_asked_for_deform():
    still = replace(TINY, nuisances=Nuisances(shift=0, shear=0, scale=0))
    level = np.full((3, 12, 12), 0.5, np.float32)
    at = np.arange(12) - 5.5
    level[:, np.hypot(*np.meshgrid(at, at)) > 5] = 0
    rings = TINY.harmonics.rings
    one = deformed(still, 30, level).coefficients[:, : rings - 2]  # turns alone leave a disc's rings
    assert float(one.std(0).max()) < 0.02
    assert float(deformed(TINY, 30, level).coefficients[:, : rings - 2].std(0).max()) > 0.02


FAULTS = {
    "no labels": {"crops": np.zeros((0, 12, 12), np.float32)},
    "1 class": {"classes": 1, "labels": np.zeros(10, int)},
    "no labelled crop of class 2": {"classes": 3},
    "constant": {"crops": np.full((10, 12, 12), 0.1, np.float32)},
    "not finite": {"crops": np.full((10, 12, 12), np.nan, np.float32)},
    "wanted \\(n, 12, 12\\)": {"crops": np.random.default_rng(0).random((10, 13, 13), np.float32)},
    "10 labelled crops but 9 labels": {"labels": np.arange(9) % 2},
    "label": {"labels": np.arange(10) % 2 + np.array([0] * 9 + [5])},
    "labels": {"labels": np.arange(10) % 2 - np.array([0] * 9 + [5])},
}


@pytest.fixture
def as_in_the_product(monkeypatch):
    """Without the tests' checker of shapes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("words", list(FAULTS))
def test_labelled_crops_that_cannot_be_learnt_from_are_refused(words, as_in_the_product):
    with pytest.raises(ParameterError, match=words):
        quick(**FAULTS[words])


def test_every_fault_is_named_at_once(as_in_the_product):
    with pytest.raises(ParameterError) as e:
        quick(np.full((10, 12, 12), np.nan, np.float32), np.zeros(9, int), classes=3)
    for words in ("not finite", "10 labelled crops but 9 labels", "no labelled crop of class 1, 2"):
        assert words in str(e.value)


@pytest.fixture(scope="module")
def tiny():
    return quick().model


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
        isinstance(answer, Answer) and answer.probabilities.shape == (0, 2) and answer.distance.shape == (0,)
    )


def test_constant_crops_get_a_finite_answer(tiny):
    answer = classify_crops(tiny, np.zeros((2, 12, 12), np.float32))
    assert np.isfinite(answer.probabilities).all() and np.isfinite(answer.distance).all()


@pytest.mark.parametrize(
    "bad", [{"hidden": 0}, {"steps": 0}, {"batch": 0}, {"rejected": 0.0}, {"rejected": 0.5}], ids=str
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
