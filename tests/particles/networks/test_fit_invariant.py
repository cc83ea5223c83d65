"""A fit is the same each time, learns from what it is given alone, and refuses what it cannot learn from."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch

from passband.errors import ParameterError
from passband.particles.networks import fit_invariant as module
from passband.particles.networks.fit_invariant import deformed_pool, fit_classifier
from passband.particles.networks.harmonics import HarmonicSettings, harmonics, invariants
from passband.particles.networks.invariant import ClassifierSettings, Nuisances

pytestmark = pytest.mark.training

TINY = ClassifierSettings(
    harmonics=HarmonicSettings(size=12, rings=5, orders=2), steps=3, hidden=4, pool=1600
)


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
    turned, moved = (
        float(deformed(s, 300, level).coefficients[:, : rings - 2].std(0).max()) for s in (still, TINY)
    )
    assert turned < 0.02  # turns alone leave a disc's rings
    assert moved > 10 * turned


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


def test_mirrored_crops_are_drawn_only_where_a_particle_may_lie_on_either_side():
    """Invariants tell hands apart, so each deformed crop shows which one it was made from."""
    crop = np.zeros((1, 48, 48), np.float32)
    crop[0, 12:36, 18:22] = crop[0, 12:16, 18:32] = crop[0, 22:25, 18:27] = 1  # an F
    still = {"shift": 0.0, "shear": 0.0, "scale": 0.0, "noise": ((0.0, 0.0),), "contamination": 0.0}
    shape = HarmonicSettings(size=48)
    hands = torch.from_numpy(np.concatenate([crop, crop[:, :, ::-1]]))
    each = invariants(harmonics(hands, shape), shape)
    for mirrored, seen in ((False, {0}), (True, {0, 1})):
        settings = ClassifierSettings(harmonics=shape, nuisances=Nuisances(**still, mirrored=mirrored))
        pool = deformed_pool(crop, np.zeros(1, int), settings, seed=0, size=40)
        found = torch.cdist(invariants(pool.coefficients, shape), each).argmin(1)
        assert set(found.tolist()) == seen


def test_a_fit_draws_from_as_many_deformed_crops_as_its_settings_say(monkeypatch):
    made, real = [], module.deformed_pool
    monkeypatch.setattr(
        module, "deformed_pool", lambda *args, **more: made.append(real(*args, **more)) or made[-1]
    )
    crops = 0.02 * np.random.default_rng(0).standard_normal((24, 12, 12), np.float32)
    crops[::2, 4:8, 4:8] += 1
    crops[1::2, 2:10, 5:7] += 1
    settings = replace(TINY, steps=60, hidden=32, pool=160)
    sure = quick(crops[:8], settings=settings, unlabelled=crops[8:]).pseudo_labelled
    assert [len(pool.labels) for pool in made] == [160, round(160 / sure) * sure]
