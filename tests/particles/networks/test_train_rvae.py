"""Training is repeatable, can be stopped, uses every label, and keeps a turn out of the factors."""

import math
from dataclasses import replace
from itertools import pairwise

import jaxtyping
import numpy as np
import pytest
import torch

from passband.errors import ParameterError
from passband.particles.cards import SYMMETRY, Disorder, angle_error, draw_cards, make_cards
from passband.particles.networks import train_rvae as module
from passband.particles.networks.objective import Sampling
from passband.particles.networks.rvae import RVAE, CropsAsClasses, RVAESettings
from passband.particles.networks.train_rvae import REFERENCE_TRAINING, RVAETraining, train_rvae

pytestmark = pytest.mark.training

SIZE = 9
TRAINING = RVAETraining(epochs=3, batch=4, sampling=Sampling(stride=2, thinning=0.05), emphasis=5.0, seed=7)


def tiny(**changed):
    return RVAE(RVAESettings(**({"size": SIZE, "classes": 3, "hidden": 6, "own_classifier": True} | changed)))


def crops(count, seed=0, size=SIZE):
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed))


def labels(count):
    return torch.arange(count) % 3


def train(model, training=TRAINING, known=7, others=10, **more):
    return train_rvae(model, crops(known, 1), labels(known), crops(others, 2), training, **more)


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[k], other[k]) for k in one)


def test_the_same_seed_gives_the_same_weights_and_another_others():
    one, two, three = tiny(), tiny(), tiny()
    log = train(one)
    torch.rand(17)  # whatever else was drawn in between
    again = train(two)
    train(three, replace(TRAINING, seed=8))
    assert same(state(one), state(two)) and not same(state(one), state(three))
    assert [e.bound for e in log] == [e.bound for e in again]


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_a_model_trained_again_is_the_same_again(prior):
    model = tiny(class_prior=prior)
    train(model)
    first = state(model)
    train(model)
    assert same(first, state(model))


def test_training_draws_nothing_from_the_global_generator():
    model = tiny()
    before = torch.random.get_rng_state()
    train(model)
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_lowers_the_bound_and_learns_the_labels():
    images = torch.zeros(30, SIZE, SIZE)
    for k in range(3):
        images[k::3, 3 * k : 3 * k + 3] = 1
    model = tiny(hidden=32)
    log = train_rvae(
        model, images[:6], labels(6), images, replace(TRAINING, epochs=30, learning_rate=0.005, emphasis=30)
    )
    assert [e.number for e in log] == list(range(1, 31))
    # What the mean of all crops, 1/3 everywhere, says of one: 0.64 nats a pixel. How much better a training
    # gets is a matter of luck: two of the three classes may stay alike to it.
    mean = float(SIZE**2 * (math.log(3) - 2 / 3 * math.log(2)))
    assert log[-1].bound < min(log[0].bound, 0.9 * mean)
    assert log[-1].labelled_accuracy == 1
    assert all(b.seconds >= a.seconds for a, b in pairwise(log))


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, prior):
    whole, parts = tiny(class_prior=prior), tiny(class_prior=prior)
    log = train(whole, folder=tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(epoch):
        raise KilledError

    with pytest.raises(KilledError):
        train(parts, folder=tmp_path / "parts", on_epoch=kill)
    parts, seen = tiny(class_prior=prior), []
    again = train(parts, folder=tmp_path / "parts", on_epoch=lambda e: seen.append(e.number))
    assert seen == [2, 3]
    assert same(state(whole), state(parts))
    assert [e.bound for e in log] == [e.bound for e in again]
    rows = (tmp_path / "parts" / "rvae.csv").read_text("utf-8").splitlines()
    assert len(rows) == 4 and rows[0].startswith("number,bound")


def test_a_run_may_be_made_longer_and_a_finished_one_trains_no_more(tmp_path):
    short, longer, whole = tiny(), tiny(), tiny()
    train(short, replace(TRAINING, epochs=1), folder=tmp_path)
    train(longer, folder=tmp_path)
    train(whole)
    assert same(state(whole), state(longer))
    seen = []
    finished = tiny()
    told = (tmp_path / "rvae.csv").read_bytes()
    (tmp_path / "rvae.csv").unlink()  # a stop may come between the last checkpoint and the log
    assert len(train(finished, folder=tmp_path, on_epoch=seen.append)) == 3
    assert not seen and same(state(whole), state(finished))
    assert (tmp_path / "rvae.csv").read_bytes() == told


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("crops", "crops.labelled"),
        ("labels", "crops.labels"),
        ("training", "training.learning_rate: 0.001, 0.002"),
        ("settings", "model.latent: 2, 3"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_what_differs_is_said(tmp_path, other, words):
    train(tiny(), folder=tmp_path)
    model, training, known, classes = tiny(), TRAINING, crops(7, 1), labels(7)
    if other == "crops":
        known = crops(7, 9)
    elif other == "labels":
        classes = (classes + 1) % 3
    elif other == "training":
        training = replace(TRAINING, learning_rate=0.002)
    else:
        model = tiny(latent=3)
    with pytest.raises(ParameterError, match=rf"other data.* there and here: {words}"):
        train_rvae(model, known, classes, crops(10, 2), training, folder=tmp_path)


def test_a_folder_of_other_class_probabilities_is_refused(tmp_path):
    p = torch.full((10, 3), 1 / 3)
    train(tiny(own_classifier=False), folder=tmp_path, probabilities=p)
    with pytest.raises(ParameterError, match="other"):
        train(tiny(own_classifier=False), folder=tmp_path, probabilities=torch.eye(3)[labels(10)])


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    train(tiny(), folder=tmp_path)
    path = tmp_path / "rvae.safetensors"
    path.write_bytes({"cut": path.read_bytes()[:-9], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(ParameterError, match=r"rvae\.safetensors"):
        train(tiny(), folder=tmp_path)


@pytest.mark.parametrize("known, others", [(7, 101), (5, 1), (3, 0), (0, 6), (1, 1), (40, 7)])
def test_every_crop_is_used_once_in_each_pass_whatever_the_two_numbers(known, others, monkeypatch):
    seen = {"labelled": [], "unlabelled": []}
    size = 2  # crops a batch; the last batch of each is of one
    counts = {"labelled": max(2 * known - 1, 0), "unlabelled": max(2 * others - 1, 0)}
    order = []

    def count(name, real):
        def objective(model, images, *args, **kwargs):
            seen[name].append((images[:, 0, 0] * 1000).round().long())
            order.append(name)
            return real(model, images, *args, **kwargs)

        return objective

    for name in seen:
        real = getattr(module, f"{name}_objective")
        monkeypatch.setattr(module, f"{name}_objective", count(name, real))
    marked = {}
    for name, n in counts.items():
        marked[name] = crops(n, 3)
        marked[name][:, 0, 0] = torch.arange(n) / 1000
    passes = 1 if others > 100 else 2
    training = replace(TRAINING, epochs=passes, batch=size)
    train_rvae(tiny(), marked["labelled"], labels(counts["labelled"]), marked["unlabelled"], training)
    for name, n in counts.items():
        batches = {"labelled": known, "unlabelled": others}[name]
        assert len(seen[name]) == passes * batches
        for i in range(passes if n else 0):
            of_pass = torch.cat(seen[name][i * batches : (i + 1) * batches])
            assert of_pass.sort().values.tolist() == list(range(n))
        if n > 8 and passes == 2:
            assert not torch.equal(torch.cat(seen[name][:batches]), torch.cat(seen[name][batches:]))
    if (known, others) == (7, 101):
        at = np.flatnonzero(np.array(order[: known + others]) == "labelled")
        gaps = np.diff(at)
        assert gaps.min() >= 13 and gaps.max() <= 17  # 108 / 7 is 15.4: spread over the pass


def test_labels_move_the_weights_even_beside_many_unlabelled_crops():
    one, other = tiny(), tiny()
    brief = replace(TRAINING, epochs=1)
    train(one, brief, known=2, others=60)
    train(other, brief, known=0, others=60)
    assert not torch.equal(one.classify[0].weight, other.classify[0].weight)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
@pytest.mark.parametrize("bad", [1.2, -0.1])
def test_crops_beyond_0_and_1_are_refused_by_a_likelihood_that_wants_them_within(likelihood, bad):
    images = crops(6)
    images[3, 2, 1] = bad
    with pytest.raises(ParameterError, match="gaussian"):
        train_rvae(tiny(likelihood=likelihood), images, labels(6), crops(4), TRAINING)
    with pytest.raises(ParameterError, match="unlabelled"):
        train_rvae(tiny(likelihood=likelihood), crops(6), labels(6), images, TRAINING)


def test_the_gaussian_likelihood_takes_any_values():
    log = train_rvae(
        tiny(likelihood="gaussian"),
        3 * crops(6) - 1,
        labels(6),
        3 * crops(4) - 1,
        replace(TRAINING, epochs=1),
    )
    assert math.isfinite(log[0].bound)


def test_every_fault_of_the_crops_is_named_at_once(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in the product
    broken = crops(3)
    broken[1, 2, 3] = float("nan")
    with pytest.raises(ParameterError, match=r"unlabelled crops of .*wanted 9 x 9") as e:
        train_rvae(tiny(), broken, labels(3), crops(4, size=10), TRAINING)
    assert "not finite" in str(e.value)
    with pytest.raises(ParameterError, match="no crops"):
        train(tiny(), known=0, others=0)
    with pytest.raises(ParameterError, match="wants labelled crops"):
        train(tiny(start_pose=True), known=0)
    with pytest.raises(ParameterError, match="class probabilities"):
        train(tiny(own_classifier=False))


BAD = {"epochs": 0, "batch": 0, "beta_epochs": 0, "learning_rate": 0.0, "beta": (-1.0, 2.0), "emphasis": -1.0}


def test_every_bad_value_of_a_training_is_named_at_once():
    with pytest.raises(ParameterError) as e:
        RVAETraining(**BAD)
    assert all(name.replace("_", " ") in str(e.value).replace("_", " ") for name in BAD)


@pytest.mark.parametrize("bad", [{k: v} for k, v in BAD.items()] + [{"learning_rate": math.nan}], ids=str)
def test_a_bad_value_of_a_training_is_refused(bad):
    with pytest.raises(ParameterError, match="rVAE training"):
        RVAETraining(**bad)


def test_a_learned_class_prior_moves_to_the_shares_and_a_uniform_one_stays():
    shares = torch.eye(3)[torch.tensor([0] * 14 + [1] * 4 + [2] * 2)]
    for prior, expected in (("uniform", [1 / 3] * 3), ("learned", [15 / 23, 5 / 23, 3 / 23])):
        model = tiny(class_prior=prior, own_classifier=False)
        train(model, others=20, probabilities=shares)
        assert model.log_prior.exp().tolist() == pytest.approx(expected, abs=1e-5)


def test_beta_rises_evenly_from_the_first_pass(monkeypatch):
    betas = []
    real = module.unlabelled_objective
    monkeypatch.setattr(
        module, "unlabelled_objective", lambda m, i, p, step: betas.append(step.beta) or real(m, i, p, step)
    )
    train(tiny(), replace(TRAINING, epochs=4, batch=10, beta=(1.0, 3.0), beta_epochs=2))
    assert betas == [1.0, 2.0, 3.0, 3.0]
    assert REFERENCE_TRAINING.beta == (1.0, 2.0) and REFERENCE_TRAINING.epochs == 100


def test_a_pass_sees_every_crop_once_however_few_go_backward_together(monkeypatch):
    seen = []
    real = module.unlabelled_objective
    monkeypatch.setattr(
        module, "unlabelled_objective", lambda m, i, p, step: seen.append(i) or real(m, i, p, step)
    )
    monkeypatch.setattr(module, "_PAIRS", 9)
    every = replace(TRAINING, epochs=1, batch=10, sampling=Sampling(stride=2))
    train(tiny(), every)
    assert sorted(map(len, seen)) == [1, 3, 3, 3]
    found, wanted = torch.cat(seen).flatten(1), crops(10, 2).flatten(1)
    assert len(found) == len(wanted)
    assert torch.cdist(wanted, found).argmin(1).unique().numel() == len(wanted)
    assert torch.cdist(wanted, found).amin(1).max() < 1e-6


def test_the_rate_of_the_reference_is_that_of_two_steps_of_which_one_has_no_gradient():
    """The way that torch's Adam goes under a steady gradient, from the rate of the paper's notebook."""
    w = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([w], lr=5e-4)
    for step in range(8_000):
        w.grad = torch.full((1,), float(step % 2 == 0))
        optimizer.step()
        if step == 5_999:
            half = w.item()
    assert (half - w.item()) / 1_000 == pytest.approx(REFERENCE_TRAINING.learning_rate, rel=0.01)


# Cards at half their size, an autoencoder of a few passes

FOLDS = np.array(list(SYMMETRY.values()))


def small_cards(disorder, count, seed):
    record = draw_cards(disorder, count, seed=seed)
    cards = torch.from_numpy(make_cards(record))
    return torch.nn.functional.avg_pool2d(cards[:, None], 2)[:, 0].clamp(0, 1), torch.from_numpy(record.suit)


@pytest.fixture(scope="module")
def trained():
    known, known_labels = small_cards(Disorder(angle=4), 10, seed=21)
    others, suits = small_cards(Disorder(angle=120, shift_y=(-0.1, 0.1)), 90, seed=22)
    model = RVAE(
        RVAESettings(
            size=24, classes=4, hidden=48, start_pose=True, invariances=("rotation", "translation", "scale")
        )
    )
    training = RVAETraining(epochs=8, batch=16, learning_rate=4e-3, sampling=Sampling(stride=4), seed=1)
    log = train_rvae(model, known, known_labels, others, training, probabilities=torch.eye(4)[suits])
    return model, log, others, suits, known, known_labels


def encode(model, images, suits):
    with torch.no_grad():
        return model.encode(images, CropsAsClasses(torch.arange(len(images)), suits))


def test_a_short_training_on_cards_lowers_the_bound(trained):
    _, log, *_ = trained
    assert log[-1].bound < 0.5 * log[0].bound


def test_a_crop_turned_by_a_quarter_has_its_angle_turned_and_its_factors_left(trained):
    model, _, others, suits, *_ = trained
    for turns in (1, 2, 3):
        one = encode(model, others, suits)
        other = encode(model, others.rot90(turns, (1, 2)), suits)
        by = np.rad2deg((other.pose - one.pose)[:, 0].numpy())
        away = angle_error(by, np.full(len(by), 90.0 * turns), FOLDS[suits.numpy()])
        spread = one.latent.std(0)
        moved = ((other.latent - one.latent).abs() / spread).amax(1)
        # A few crops, as a club seen with noise of its pixels, may match their template as well elsewhere.
        assert np.quantile(away, 0.98) < 1.0
        assert torch.quantile(moved, 0.98) < 0.1
        scale = (other.pose - one.pose)[:, 3].abs()
        assert torch.quantile(scale, 0.98) < 0.01


def test_the_shift_turns_with_the_crop(trained):
    model, _, others, suits, *_ = trained
    one, other = encode(model, others, suits).pose, encode(model, others.rot90(1, (1, 2)), suits).pose
    # The shift that is found first turns exactly; the encoder's correction is of the upright crop.
    errors = (other[:, 1:3] - torch.stack([-one[:, 2], one[:, 1]], 1)).abs().amax(1) * 11.5
    assert float(errors.median()) < 0.5


def test_the_frame_is_where_the_labelled_crops_are(trained):
    model, *_, known, known_labels = trained
    seen = encode(model, known, known_labels)
    own = seen.pose[:, [0, 3]] - model.upright(seen.latent, known_labels)
    upright = seen.start[:, 0].abs() < math.radians(30)  # others start half a turn off: diamonds, which may
    for k in range(4):
        mine = known_labels == k
        assert float(own[mine, 1].mean()) == pytest.approx(0, abs=1e-4)
        if upright[mine].float().mean() > 0.5:
            assert float(own[mine & upright, 0].mean()) == pytest.approx(0, abs=1e-4)
        else:  # as many diamonds as not, by chance: then they have angle 0 about where they start
            assert FOLDS[k] == 2
            turn = own[mine, 0] - seen.start[mine, 0]
            assert float(torch.atan2(turn.sin().mean(), turn.cos().mean())) == pytest.approx(0, abs=1e-4)


def test_what_a_trained_model_renders_is_nearer_to_the_crop_than_the_mean_of_all(trained):
    model, _, others, suits, *_ = trained
    q = encode(model, others, suits)
    again = model.render(q.pose, q.latent, suits)
    error, plain = ((others - again) ** 2).mean(), ((others - others.mean(0)) ** 2).mean()
    assert error < 0.9 * plain


@torch.no_grad()
def test_a_factor_that_turns_particles_is_not_an_angle():
    """Upright crops keep angle 0 whatever their factor, where the decoder was made to turn with it."""
    known, labels = small_cards(Disorder(angle=4, shear=(-20, 20)), 40, seed=61)
    model = RVAE(RVAESettings(size=24, classes=4, latent=1, hidden=16))
    encoded = module._encoded

    def turned(model, images, label):
        found = encoded(model, images, label)
        factor = (found.latent - found.latent.mean()) / found.latent.std()
        pose = torch.zeros_like(found.pose)
        pose[:, 0] = 0.5 + 0.3 * factor[:, 0]
        return found._replace(pose=pose, latent=factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_encoded", turned)
        module._find_typical(model, known, labels, known[:0], None)
        module._find_frame(model, known, labels)
        for k in range(4):
            found = turned(model, known[labels == k], k)
            own = found.pose[:, 0] - model.upright(found.latent, torch.full((len(found.pose),), k))[:, 0]
            assert found.pose[:, 0].std() == pytest.approx(0.3, rel=1e-3)
            assert own.abs().max() < 0.05
