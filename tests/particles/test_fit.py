"""A fit is the same each time, goes on where it stopped, and refuses what it cannot learn from."""

from dataclasses import replace

import numpy as np
import pytest

from made_cards import LEAN, made_ours, quick, small
from passband.errors import ParameterError
from passband.particles.bundle import write_particle_model
from passband.particles.fit import ParticleConfig
from passband.particles.model import describe_particles
from passband.particles.networks.objective import Sampling
from passband.particles.networks.train_rvae import REFERENCE_TRAINING, RVAETraining

pytestmark = pytest.mark.training


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


def test_held_out_accuracy_is_there_with_four_labels_a_class_and_not_with_fewer():
    assert 0 <= quick(small(8)).training["held_out_accuracy"] <= 1
    assert quick(small(7)).training["held_out_accuracy"] is None


def test_what_a_model_was_trained_on_is_with_it():
    ours = made_ours()
    assert ours.training["labels"] == [5, 5, 5, 5] and ours.training["unlabelled"] == 32
    assert ours.training["epochs"] == 2 and ours.training["about"] == {"protocol": "drawn here"}
    assert 0 <= ours.training["pseudo_labelled"] <= 32


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


def test_a_recipe_that_is_not_given_belongs_to_what_is_fitted_and_has_its_seed():
    assert ParticleConfig(seed=3).recipe == RVAETraining(seed=3)
    assert ParticleConfig(seed=3, reference=True).recipe == replace(REFERENCE_TRAINING, seed=3)
    given = RVAETraining(epochs=7, seed=1)
    assert ParticleConfig(seed=3, reference=True, training=given).recipe is given
