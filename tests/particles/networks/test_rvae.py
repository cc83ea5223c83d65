"""The autoencoders' objective, term by term, against sums written out here."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as nnf

from passband.errors import ParameterError
from passband.particles.networks.objective import (
    Sampling,
    Step,
    choose_pairs,
    evidence,
    labelled_objective,
    sample_points,
    unlabelled_objective,
)
from passband.particles.networks.rvae import (
    INVARIANCES,
    LIKELIHOODS,
    RVAE,
    CropsAsClasses,
    Posterior,
    RVAESettings,
    class_probabilities,
    reference_settings,
)

pytestmark = pytest.mark.training

ALL = {"size": 9, "classes": 3, "hidden": 6, "invariances": INVARIANCES}


def tiny(seed=0, **changed):
    """A small model of every invariance, with weights large enough to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = RVAE(RVAESettings(**(ALL | changed)))
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.6)
    return model


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(count, size=9, seed=1):
    return torch.rand(count, size, size, generator=generator(seed))


def whole(seed=0, beta=1.0):
    return Step(beta, Sampling(), generator(seed))


def every_pair(count, classes):
    image, label = torch.nonzero(torch.ones(count, classes), as_tuple=True)
    return CropsAsClasses(image, label)


def drawn(model, count, seed=3):
    g = generator(seed)
    pose = 0.3 * torch.randn(count, 4, generator=g)
    latent = torch.randn(count, model.settings.latent, generator=g)
    return pose, latent, torch.arange(count) % model.settings.classes


def pictures(model, pose, latent, label):
    size = model.settings.size
    return model.decode(pose, latent, label).view(-1, size, size)


# Part of the pixels


@pytest.mark.parametrize("size, stride", [(8, 2), (9, 2), (9, 3), (10, 4), (9, 4), (8, 5), (9, 16)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_mean_over_all_offsets_of_part_of_the_pixels_is_the_sum_over_all(size, stride, likelihood):
    model = tiny(size=size, likelihood=likelihood)
    images = crops(3, size)
    pose, latent, label = drawn(model, 3)
    full = model.misfit(model.decode(pose, latent, label), images.flatten(1)).sum(1)
    parts = []
    for row in range(stride):
        for column in range(stride):
            offsets = torch.tensor([[row, column]]).expand(3, -1)
            points, values, weights = sample_points(model, images, torch.arange(3), stride, offsets)
            fit = model.misfit(model.decode(pose, latent, label, points), values)
            parts.append((fit * weights).sum(1))
    assert len(parts) == stride**2
    torch.testing.assert_close(torch.stack(parts).mean(0), full, rtol=2e-5, atol=1e-3)


def test_every_pixel_is_in_one_offset_with_its_own_value():
    model, images, stride = tiny(size=10), crops(2, 10), 4
    seen = torch.zeros(2, 10, 10)
    for row in range(stride):
        for column in range(stride):
            # The two crops have different offsets.
            offsets = torch.tensor([[row, column], [column, row]])
            points, values, weights = sample_points(model, images, torch.arange(2), stride, offsets)
            for i in range(2):
                inside = weights[i] > 0
                assert set(weights[i][inside].tolist()) == {16.0}
                at = ((points[i][inside] * torch.tensor([1.0, -1.0]) + 1) * 4.5).round().long()
                torch.testing.assert_close(values[i][inside], images[i][at[:, 1], at[:, 0]])
                seen[i][at[:, 1], at[:, 0]] += 1
    assert (seen == 1).all()


def test_evidence_of_part_of_the_pixels_has_the_mean_of_the_whole():
    model, images = tiny(), crops(2)
    model.encode_spread.bias.data[:] = -30  # so narrow that the draw of pose and factors does not matter
    model.encode_spread.weight.data[:] = 0
    pairs = every_pair(2, 3)
    with torch.no_grad():
        full = evidence(model, images, pairs, whole())
        part = torch.stack(
            [evidence(model, images, pairs, Step(1.0, Sampling(stride=3), generator(i))) for i in range(600)]
        )
    standard_error = part.std(0) / len(part) ** 0.5
    assert ((part.mean(0) - full).abs() < 5 * standard_error + 0.02).all()
    assert (standard_error < 0.02 * full).all() and (part.std(0) > 0).all()


# Part of the classes


@pytest.mark.parametrize("thinning", [0.05, 0.3, 0.9])
def test_the_mean_weight_of_a_class_is_its_probability(thinning):
    p = torch.softmax(3 * torch.randn(40, 5, generator=generator(0)).double(), 1)
    draws, g = 2000, generator(1)
    total, square = torch.zeros_like(p), torch.zeros_like(p)
    computed = 0
    for _ in range(draws):
        pairs, weights = choose_pairs(p, thinning, g)
        total[pairs.image, pairs.label] += weights
        square[pairs.image, pairs.label] += weights**2
        computed += len(weights)
    mean = total / draws
    spread = (square / draws - mean**2).clamp(min=0).sqrt()
    # A class that is hardly ever drawn has no spread to go by: its chance is known, p / thinning.
    chance = (p / thinning).clamp(max=1)
    spread = torch.maximum(spread, (thinning * p - p**2).clamp(min=0).sqrt())
    assert ((mean - p).abs() <= 5 * spread / draws**0.5 + 1e-5).all()
    expected = chance.sum() * draws
    assert abs(computed - expected) < 5 * (draws * (chance * (1 - chance)).sum()) ** 0.5 + 1
    assert computed < 0.9 * draws * p.numel()


def test_without_thinning_every_class_is_there_with_its_probability():
    p = torch.softmax(torch.randn(4, 3, generator=generator(0)), 1)
    pairs, weights = choose_pairs(p, 0.0, generator(1))
    assert torch.equal(torch.stack(pairs, 1), torch.stack(every_pair(4, 3), 1))
    assert torch.equal(weights, p.flatten())


def test_weights_have_the_gradient_of_the_probabilities():
    p = torch.tensor([[0.7, 0.2, 0.1]], requires_grad=True)
    _, weights = choose_pairs(p, 0.0, generator())
    weights.sum().backward()
    assert torch.equal(p.grad, torch.ones(1, 3))


@pytest.mark.parametrize("bad", [{"stride": 0}, {"stride": 17}, {"thinning": -0.1}, {"thinning": 1.0}])
def test_sampling_out_of_range_is_refused(bad):
    with pytest.raises(ParameterError, match="sampling"):
        Sampling(**bad)


# The objective


def written_out(model, image, label, noise):
    """The bound on -log p(x | y) of one crop and class, from the distributions that the model states."""
    s = model.settings
    one = CropsAsClasses(torch.zeros(1, dtype=torch.long), torch.tensor([label]))
    q = model.encode(image[None], one)
    mean = torch.cat([q.pose, q.latent], 1)
    spread = torch.cat([q.pose_spread, q.latent_spread], 1)
    draw = mean + spread * noise
    logits = model.decode(draw[:, :4], draw[:, 4:], torch.tensor([label]))[0]
    x = image.flatten()
    fit = -(x * nnf.logsigmoid(logits) + (1 - x) * nnf.logsigmoid(-logits)).sum()
    scale = torch.tensor([1.0, s.shift_prior, s.shift_prior, s.scale_prior] + [1.0] * s.latent)
    prior = torch.distributions.Normal(torch.zeros_like(scale), scale)
    return fit + torch.distributions.kl_divergence(torch.distributions.Normal(mean, spread), prior).sum()


def test_the_unlabelled_objective_and_its_gradients_are_those_of_the_sum_over_classes():
    model, images = tiny(own_classifier=True, angle_prior="normal"), crops(4)
    found = unlabelled_objective(model, images, class_probabilities(model, images), whole(5))
    found.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()

    g = generator(5)
    torch.rand(4, 3, generator=g)  # which classes to compute: all
    noise = torch.randn(12, 6, generator=g).view(4, 3, 1, 6)
    q = torch.softmax(model.classify(images.flatten(1)), 1)
    value = torch.tensor(0.0)
    for i in range(4):
        for k in range(3):
            belief = torch.log(q[i, k]) - math.log(1 / 3)
            value = value + (q[i, k] * (written_out(model, images[i], k, noise[i, k]) + belief)).sum()
    assert float(found.detach()) == pytest.approx(float(value.detach()), rel=1e-5)
    value.backward()
    classified = [n for n in gradients if n.startswith("classify.")]
    assert len(classified) == 6
    for name, p in model.named_parameters():
        scale = float(p.grad.abs().max())
        assert scale > 0
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_probabilities_of_another_classifier_are_taken_as_they_are():
    model, images = tiny(angle_prior="normal"), crops(2)
    p = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    found = unlabelled_objective(model, images, p, whole(7))
    g = generator(7)
    torch.rand(2, 3, generator=g)
    noise = torch.randn(6, 6, generator=g).view(2, 3, 1, 6)
    expected = sum(
        float(p[i, k])
        * (float(written_out(model, images[i], k, noise[i, k]).detach()) + math.log(3 * p[i, k]))
        for i in range(2)
        for k in range(3)
        if p[i, k] > 0
    )
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("own", [True, False])
def test_with_one_class_and_no_labels_it_is_the_bound_of_an_rvae(own):
    model, images = tiny(classes=1, own_classifier=own, angle_prior="normal"), crops(3)
    found = unlabelled_objective(model, images, class_probabilities(model, images), whole(2))
    g = generator(2)
    torch.rand(3, 1, generator=g)
    noise = torch.randn(3, 6, generator=g).view(3, 1, 6)
    expected = sum(written_out(model, image, 0, e) for image, e in zip(images, noise, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    found.backward()
    for name, p in model.named_parameters():
        assert not name.startswith("classify.") or p.grad.abs().max() < 1e-3


def test_the_labelled_objective_is_the_bound_of_each_crops_own_class():
    model, images, labels = tiny(own_classifier=True, angle_prior="normal"), crops(3), torch.tensor([2, 0, 2])
    noise = torch.randn(3, 6, generator=generator(4)).view(3, 1, 6)
    bound = sum(written_out(model, images[i], int(labels[i]), noise[i]) for i in range(3)) + 3 * math.log(3)
    said = torch.log_softmax(model.classify(images.flatten(1)), 1)
    for emphasis in (0.0, 30.0):
        found = labelled_objective(model, images, labels, whole(4), emphasis=emphasis)
        expected = bound - emphasis * said[torch.arange(3), labels].sum()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_beta_weighs_the_divergence_alone():
    model, images, pairs = tiny(), crops(2), every_pair(2, 3)
    values = [evidence(model, images, pairs, whole(1, beta)) for beta in (0.0, 1.0, 3.0)]
    divergence = model.divergence(model.encode(images, pairs))
    torch.testing.assert_close(values[1] - values[0], divergence, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(values[2] - values[0], 3 * divergence, rtol=1e-4, atol=1e-3)


def test_class_probabilities_are_certain_of_one_class_and_refused_without_a_classifier():
    assert class_probabilities(tiny(classes=1), crops(2)).tolist() == [[1.0], [1.0]]
    with pytest.raises(ParameterError, match="wants class probabilities"):
        class_probabilities(tiny(), crops(2))
    found = class_probabilities(tiny(own_classifier=True), crops(2))
    torch.testing.assert_close(found.sum(1), torch.ones(2))


# The posterior and its prior


@pytest.mark.parametrize("angle_prior", ["von-mises", "projected-normal", "normal"])
def test_a_posterior_that_is_the_prior_diverges_by_nothing(angle_prior):
    model = tiny(angle_prior=angle_prior, shift_prior=0.2, scale_prior=0.3)
    wide = 1.0 if angle_prior == "normal" else math.pi
    pose, spread = torch.zeros(1, 4), torch.tensor([[wide, 0.2, 0.2, 0.3]])
    q = Posterior(pose, spread, torch.zeros(1, 2), torch.ones(1, 2))
    assert model.divergence(q).abs().max() < 1e-3
    for i in range(1, 4):
        moved = pose.clone()
        moved[0, i] = 2 * float(spread[0, i])
        assert float(model.divergence(q._replace(pose=moved))) == pytest.approx(2, abs=1e-3)


def test_what_a_model_is_not_invariant_to_stays_where_it_is():
    for invariances in ((), ("rotation",), ("translation",), ("scale",), ("rotation", "scale")):
        model = tiny(invariances=invariances)
        posterior = model.encode(crops(4), every_pair(4, 3))
        moves = {"rotation": [0], "translation": [1, 2], "scale": [3]}
        free = [i for name in invariances for i in moves[name]]
        fixed = [i for i in range(4) if i not in free]
        pose, latent = model.sample(posterior, generator())
        assert not pose[:, fixed].any() and not posterior.pose[:, fixed].any()
        assert (pose[:, free] != posterior.pose[:, free]).all()
        assert (latent != posterior.latent).all()
        changed = posterior.pose.clone()
        changed[:, fixed] += 1
        same = model.divergence(posterior._replace(pose=changed))
        torch.testing.assert_close(same, model.divergence(posterior))


def test_draws_have_the_mean_and_spread_of_the_posterior():
    model = tiny()
    q = model.encode(
        crops(1), CropsAsClasses(torch.zeros(20_000, dtype=torch.long), torch.ones(20_000, dtype=torch.long))
    )
    pose, latent = model.sample(q, generator())
    for values, mean, spread in ((pose, q.pose, q.pose_spread), (latent, q.latent, q.latent_spread)):
        z = (values - mean) / spread
        assert z.mean(0).abs().max() < 5 / 20_000**0.5
        assert (z.std(0) - 1).abs().max() < 5 / 40_000**0.5


def test_what_a_crop_is_taken_for_changes_what_is_believed_of_it():
    model, images = tiny(), crops(2)
    together = model.encode(images, every_pair(2, 3))
    assert (together.latent[0] - together.latent[1]).abs().max() > 1e-3
    for n, (i, k) in enumerate(zip(*every_pair(2, 3), strict=True)):
        alone = model.encode(images[i : i + 1], CropsAsClasses(torch.tensor([0]), k[None]))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("angle_prior", ["von-mises", "projected-normal", "normal"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradients_are_those_of_differences(angle_prior, likelihood):
    model = tiny(size=8, hidden=4, angle_prior=angle_prior, angle_concentration=0.7, likelihood=likelihood)
    model.double()
    pose, latent, label = (v.double() if v.is_floating_point() else v for v in drawn(model, 2))
    pose.requires_grad_()
    latent.requires_grad_()
    values = crops(2, 8).flatten(1).double()

    def misfit(p, z):
        return model.misfit(model.decode(p, z, label), values).sum()

    assert torch.autograd.gradcheck(misfit, (pose, latent))
    spread = torch.full((2, 4), 0.6, dtype=torch.float64, requires_grad=True)
    latent_spread = torch.full((2, 2), 0.9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *q: model.divergence(Posterior(*q)), (pose, spread, latent, latent_spread)
    )
    weights = [model.decode_point.weight, model.decode_code.weight, model.decode_out.bias]
    decoded = torch.func.functional_call
    names = ["decode_point.weight", "decode_code.weight", "decode_out.bias"]

    class Fit(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self):
            return self.inner.misfit(self.inner.decode(pose.detach(), latent.detach(), label), values).sum()

    fit = Fit()
    assert torch.autograd.gradcheck(
        lambda *w: decoded(fit, {f"inner.{n}": v for n, v in zip(names, w, strict=True)}, ()),
        tuple(w.detach().clone().requires_grad_() for w in weights),
    )


# Likelihoods


def test_the_continuous_bernoulli_is_a_density_and_torchs():
    model = tiny(likelihood="continuous-bernoulli")
    logits = torch.cat([torch.linspace(-30, 30, 301), torch.linspace(-0.2, 0.2, 401)]).double()[:, None]
    values = torch.linspace(0, 1, 1001, dtype=torch.float64)
    found = model.misfit(logits.expand(-1, 1001), values.expand(len(logits), -1))
    total = torch.trapezoid(torch.exp(-found), values, dim=1)
    # The rule of trapezoids errs by steps^2 f' / 12, which is 30^2 / 12 e-6 at worst.
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-4, rtol=0)
    mild = logits[:, 0].abs() < 15  # beyond, theirs loses digits on its way through probabilities
    theirs = torch.distributions.ContinuousBernoulli(logits=logits[mild])
    expected = -theirs.log_prob(values.expand(int(mild.sum()), -1))
    torch.testing.assert_close(found[mild], expected, atol=1e-6, rtol=1e-6)


def test_the_continuous_bernoulli_is_smooth_and_even_about_0_in_single_precision():
    model = tiny(likelihood="continuous-bernoulli")
    logits = torch.linspace(-0.06, 0.06, 1201, requires_grad=True)
    half = torch.full((1201,), 0.5)
    found = model.misfit(logits[None], half[None])[0]
    found.sum().backward()
    # -log density at 1/2 is log 2 + l^2 / 8 - (log 2 + l^2 / 12): its slope is l / 12.
    torch.testing.assert_close(found.detach(), logits.detach() ** 2 / 24, atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad, logits.detach() / 12, atol=5e-5, rtol=0)


def test_bernoulli_and_gaussian_misfits_are_minus_log_densities():
    logits, values = 2 * torch.randn(3, 81, generator=generator(0)), crops(3).flatten(1)
    bernoulli = tiny(likelihood="bernoulli").misfit(logits, values)
    expected = -values * torch.log(torch.sigmoid(logits)) - (1 - values) * torch.log(torch.sigmoid(-logits))
    torch.testing.assert_close(bernoulli, expected, atol=1e-5, rtol=1e-5)
    gaussian = tiny(likelihood="gaussian", noise=0.2).misfit(logits, values)
    expected = -torch.distributions.Normal(torch.sigmoid(logits), 0.2).log_prob(values)
    torch.testing.assert_close(gaussian, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_rendered_image_is_the_mean_of_the_pixels(likelihood):
    model = tiny(likelihood=likelihood)
    pose, latent, label = drawn(model, 2)
    found, logits = model.render(pose, latent, label), pictures(model, pose, latent, label).detach()
    if likelihood == "continuous-bernoulli":
        at = torch.linspace(0, 1, 2001)
        density = torch.exp(-model.misfit(logits.flatten()[:, None].expand(-1, 2001), at.expand(162, -1)))
        torch.testing.assert_close(
            found.flatten(), torch.trapezoid(density * at, at, dim=1), atol=1e-3, rtol=0
        )
    else:
        torch.testing.assert_close(found, torch.sigmoid(logits))


# The decoder


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_pose_turned_by_quarters_is_an_image_turned_by_quarters(size, turns):
    model = tiny(size=size)
    _, latent, label = drawn(model, 3)
    still, turned = torch.zeros(3, 4), torch.zeros(3, 4)
    turned[:, 0] = turns * math.pi / 2
    one, other = pictures(model, still, latent, label), pictures(model, turned, latent, label)
    torch.testing.assert_close(other, one.rot90(turns, (1, 2)), atol=1e-5, rtol=0)
    assert (one - other).abs().max() > 0.05


def test_a_pose_shifted_by_pixels_is_an_image_shifted_right_and_up():
    model = tiny(size=12)
    _, latent, label = drawn(model, 3)
    for angle in (0.0, 0.8):  # the shift is the image's, however the particle is turned
        still = torch.tensor([[angle, 0.0, 0.0, 0.0]]).expand(3, -1)
        moved = still + torch.tensor([0.0, 3 * 2 / 11, 2 * 2 / 11, 0.0])
        one, other = pictures(model, still, latent, label), pictures(model, moved, latent, label)
        torch.testing.assert_close(other[:, :10, 3:], one[:, 2:, :9], atol=1e-5, rtol=0)


def test_a_scale_of_two_magnifies_by_two():
    model = tiny(size=9)
    _, latent, label = drawn(model, 3)
    doubled = torch.tensor([[0.0, 0.0, 0.0, math.log(2)]]).expand(3, -1)
    one, other = pictures(model, torch.zeros(3, 4), latent, label), pictures(model, doubled, latent, label)
    torch.testing.assert_close(other[:, ::2, ::2], one[:, 2:7, 2:7], atol=1e-5, rtol=0)


@given(angle=st.floats(-3, 3), x=st.floats(-1, 1), y=st.floats(-1, 1), scale=st.floats(-0.5, 0.5))
@settings(max_examples=30, deadline=None)
def test_a_moved_point_has_the_value_that_it_had(angle, x, y, scale):
    model = tiny()
    _, latent, label = drawn(model, 1)
    points = torch.rand(1, 20, 2, generator=generator(0)) * 2 - 1
    c, s = math.exp(scale) * math.cos(angle), math.exp(scale) * math.sin(angle)
    moved = points @ torch.tensor([[c, -s], [s, c]]).T + torch.tensor([x, y])
    still, pose = torch.zeros(1, 4), torch.tensor([[angle, x, y, scale]])
    torch.testing.assert_close(
        model.decode(pose, latent, label, moved),
        model.decode(still, latent, label, points),
        atol=2e-5,
        rtol=0,
    )


def test_values_at_pixels_do_not_depend_on_which_others_are_asked_for():
    model = tiny()
    pose, latent, label = drawn(model, 3)
    grid = model.grid.reshape(1, -1, 2).expand(3, -1, -1)
    every = model.decode(pose, latent, label)
    torch.testing.assert_close(model.decode(pose, latent, label, grid[:, 5:50:7]), every[:, 5:50:7])


def test_without_invariances_a_pose_has_no_effect():
    model = tiny(invariances=())
    pose, latent, label = drawn(model, 3)
    assert torch.equal(model.decode(pose, latent, label), model.decode(0 * pose, latent, label))


def test_factors_and_classes_do_have_an_effect():
    for invariances in ((), INVARIANCES):
        model = tiny(invariances=invariances)
        pose, latent, label = drawn(model, 3)
        every = model.decode(pose, latent, label)
        assert (every - model.decode(pose, latent + 1, label)).abs().amax(1).min() > 1e-3
        assert (every - model.decode(pose, latent, (label + 1) % 3)).abs().amax(1).min() > 1e-3


# Settings

BAD = {
    "classes": 0, "latent": 0, "hidden": -1, "size": 7, "invariances": ("rotation", "mirror"),
    "likelihood": "poisson", "noise": 0.0, "angle_prior": "uniform", "angle_concentration": -1.0,
    "shift_prior": float("nan"), "scale_prior": float("inf"), "class_prior": "even",
}  # fmt: skip
MORE = [
    {"size": 513},
    {"invariances": ("scale", "scale")},
    {"angle_concentration": 51.0},
    {"angle_concentration": float("nan")},
    {"noise": -1.0},
    {"class_prior": (0.5, 0.5)},
    {"class_prior": (0.5, 0.6, -0.1)},
    {"class_prior": (0.5, 0.2, 0.2)},
    {"class_prior": (float("nan"),) * 3},
    {"start_pose": True, "invariances": ("rotation",)},
    {"start_pose": True, "invariances": ()},
]


@pytest.mark.parametrize("bad", [{k: v} for k, v in BAD.items()] + MORE, ids=str)
def test_a_bad_setting_is_refused_by_name(bad):
    name = next(iter(bad))
    with pytest.raises(ParameterError, match=f"^rVAE: .*{name.replace('_', '[_ ]').replace('start', '.*')}"):
        RVAESettings(**(ALL | bad))


def test_every_bad_setting_is_named_at_once():
    with pytest.raises(ParameterError) as e:
        RVAESettings(**(BAD | {"start_pose": True}))
    assert all(name.replace("_", " ") in str(e.value).replace("_", " ") for name in BAD)
    assert "start from" in str(e.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"class_prior": (0.5, 0.25, 0.25)},
        {"class_prior": "learned", "start_pose": True, "likelihood": "gaussian"},
        {"invariances": ()},
    ],
)
def test_settings_go_through_json_and_back(given):
    s = RVAESettings(**(ALL | given))
    assert RVAESettings.from_dict(json.loads(json.dumps(s.to_dict()))) == s


def test_settings_of_a_newer_version_are_refused():
    with pytest.raises(ParameterError, match=r"does not know.*colour"):
        RVAESettings.from_dict(RVAESettings(**ALL).to_dict() | {"colour": "red"})
    with pytest.raises(ParameterError):
        RVAESettings.from_dict({})


def test_the_reference_is_an_unwrapped_angle_and_its_own_classifier():
    s = reference_settings(48, 4)
    assert (s.angle_prior, s.angles, s.own_classifier) == ("normal", 1, True)
    assert s.invariances == ("rotation", "translation") and not s.start_pose
    assert reference_settings(48, 4, invariant=False).invariances == ()


def test_a_class_prior_that_is_given_is_the_models():
    model = tiny(class_prior=(0.5, 0.25, 0.25))
    torch.testing.assert_close(model.log_prior.exp(), torch.tensor([0.5, 0.25, 0.25]))
    assert tiny(class_prior="learned").log_prior.exp().tolist() == pytest.approx([1 / 3] * 3)
