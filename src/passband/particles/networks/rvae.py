"""Variational autoencoders that know how a particle may move: VAE, rVAE, ss-VAE and ss-rVAE, by settings.

The decoder is a network of a pixel's coordinates in the particle's own frame, so turning, shifting or
magnifying a particle changes its pose and not its latent factors (doi:10.1039/d3dd00196b; the coordinate
decoder is that of arXiv:1909.11663, the sum over classes that of arXiv:1406.5298). pyroVED is the
reference; `reference_settings` has its choices.

Coordinates run from -1 to 1 over a crop, x to the right and y up; angles are in rad, anticlockwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as nnf

from passband.errors import ParameterError
from passband.particles.networks.alignment import move_back, start_poses
from passband.particles.networks.circular import ANGLE_PRIORS, GREATEST_SPREAD, normal_divergence
from passband.particles.networks.harmonics import HarmonicSettings

INVARIANCES = ("rotation", "translation", "scale")
LIKELIHOODS = ("bernoulli", "continuous-bernoulli", "gaussian")


@dataclass(frozen=True, kw_only=True)
class RVAESettings:
    """What a model is; its weights follow from training.

    Parameters
    ----------
    size
        Side of a crop in pixels.
    classes
        How many; 1 leaves the class out: a VAE, or an rVAE.
    latent
        Continuous factors beside the pose.
    invariances
        Any of "rotation", "translation", "scale". With none the decoder has no coordinates.
    hidden
        Units of each of the two hidden layers of every network.
    likelihood
        Of pixels: "bernoulli" (grey values as probabilities), "continuous-bernoulli" or "gaussian".
    noise
        Standard deviation of the Gaussian likelihood.
    angle_prior, angle_concentration
        "von-mises" or "projected-normal" with a concentration (0: uniform on the circle), or "normal".
    shift_prior
        Standard deviation of a shift, in half crops.
    scale_prior
        Standard deviation of the logarithm of the scale.
    class_prior
        Probabilities of the classes, or "uniform", or "learned" (from the mean of the posterior).
    own_classifier
        Whether q(y|x) is a network of this model, trained with it; if not, probabilities are given.
    start_pose
        Whether the encoder sees crops centred and turned to agree with a class's template, and corrects
        that, the angle by 45 degrees at most; the templates are the model's ``templates``. The priors of
        angle and shift are then about the pose that it starts from.

    Raises
    ------
    ParameterError
        Naming every fault.

    Examples
    --------
    >>> RVAESettings(size=48, classes=4).angles
    2
    """

    size: int
    classes: int = 1
    latent: int = 2
    invariances: tuple[str, ...] = ("rotation", "translation")
    hidden: int = 128
    likelihood: str = "bernoulli"
    noise: float = 0.3
    angle_prior: str = "von-mises"
    angle_concentration: float = 0.0
    shift_prior: float = 0.1
    scale_prior: float = 0.1
    class_prior: str | tuple[float, ...] = "uniform"
    own_classifier: bool = False
    start_pose: bool = False

    def __post_init__(self) -> None:
        faults = [f"{n} must be at least 1" for n in ("classes", "latent", "hidden") if getattr(self, n) < 1]
        if not 8 <= self.size <= 512:
            faults.append(f"size must be 8 to 512 pixels, got {self.size}")
        unknown = [i for i in self.invariances if i not in INVARIANCES]
        if unknown or len(set(self.invariances)) != len(self.invariances):
            faults.append(f"invariances must be some of {', '.join(INVARIANCES)}, got {self.invariances}")
        if self.likelihood not in LIKELIHOODS:
            faults.append(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {self.likelihood!r}")
        if self.angle_prior not in ANGLE_PRIORS:
            faults.append(f"angle prior must be one of {', '.join(ANGLE_PRIORS)}, got {self.angle_prior!r}")
        for name in ("noise", "shift_prior", "scale_prior"):
            if not 0 < getattr(self, name) < 100:
                faults.append(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.angle_concentration <= 50:
            faults.append(f"angle concentration must lie in 0 to 50, got {self.angle_concentration}")
        faults += self._prior_faults()
        if self.start_pose and not {"rotation", "translation"} <= set(self.invariances):
            faults.append("a pose to start from wants the invariances rotation and translation")
        if faults:
            raise ParameterError("rVAE: " + "; ".join(faults))

    def _prior_faults(self) -> list[str]:
        prior = self.class_prior
        if isinstance(prior, str):
            known = prior in ("uniform", "learned")
            return [] if known else [f"class prior must be uniform, learned or probabilities, got {prior!r}"]
        if len(prior) == self.classes and min(prior, default=0) > 0 and abs(sum(prior) - 1) <= 1e-6:
            return []
        return [f"class prior must be {self.classes} probabilities that sum to 1, got {prior}"]

    @property
    def angles(self) -> int:
        """Numbers that the encoder gives for the mean angle: a direction in the plane, or the angle."""
        if "rotation" not in self.invariances:
            return 0
        return 1 if self.angle_prior == "normal" else 2

    @property
    def harmonics(self) -> HarmonicSettings:
        """Of the templates that a pose to start from is found with."""
        return HarmonicSettings(size=self.size)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> RVAESettings:
        """Settings from the JSON values of `to_dict`; others are refused with ParameterError."""
        known = {f.name for f in fields(RVAESettings)}
        if unknown := set(values) - known:
            raise ParameterError(f"rVAE: settings that this Passband does not know: {sorted(unknown)}")
        if "size" not in values:
            raise ParameterError("rVAE: settings without a size")
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return RVAESettings(**{**values, **lists})


def reference_settings(size: int, classes: int, *, invariant: bool = True) -> RVAESettings:
    """The choices of pyroVED's ``ssiVAE``: ss-rVAE with rotation and translation, or ss-VAE.

    Examples
    --------
    >>> reference_settings(48, 4).angle_prior
    'normal'
    """
    return RVAESettings(
        size=size,
        classes=classes,
        invariances=("rotation", "translation") if invariant else (),
        angle_prior="normal",
        own_classifier=True,
    )


class Posterior(NamedTuple):
    """What the encoder believes of n particles.

    ``pose`` and ``pose_spread`` are (n, 4): angle in rad, shift along x and y in half crops, logarithm of
    the scale; what the model is not invariant to stays 0 with spread 1. ``latent`` and ``latent_spread``
    are (n, latent). ``start`` is the pose that the prior of the pose is about, (n, 4): the one that the
    encoder started from, or 0.
    """

    pose: Tensor
    pose_spread: Tensor
    latent: Tensor
    latent_spread: Tensor
    start: Tensor = torch.zeros(1, 4)


class CropsAsClasses(NamedTuple):
    """Particles taken as members of a class: ``image`` and ``label`` are places, shape (n,)."""

    image: Tensor
    label: Tensor


class RVAE(nn.Module):
    """Encoder, decoder and, if the settings say so, classifier."""

    grid: Tensor
    log_prior: Tensor
    templates: Tensor
    frame: Tensor
    """Angle and logarithm of the scale, (classes, 2), at which the decoder has a class's typical particle:
    nothing in the objective fixes either."""
    lean: Tensor
    """How that angle changes with the latent factors, rad, (classes, latent): a factor may hold a turn."""
    typical: Tensor
    """Mean and standard deviation of each class's latent factors, (2, classes, latent)."""

    def __init__(self, settings: RVAESettings) -> None:
        super().__init__()
        s, pixels = settings, settings.size**2
        self.settings = s
        moves = s.angles + 2 * ("translation" in s.invariances) + ("scale" in s.invariances)
        spreads = moves - (1 if s.angles == 2 else 0)
        self.encode_first = nn.Linear(pixels + s.classes, s.hidden)
        self.encode_hidden = nn.Linear(s.hidden, s.hidden)
        self.encode_mean = nn.Linear(s.hidden, moves + s.latent)
        self.encode_spread = nn.Linear(s.hidden, spreads + s.latent)
        codes = s.latent + s.classes
        if s.invariances:
            self.decode_point = nn.Linear(2, s.hidden)
            self.decode_code = nn.Linear(codes, s.hidden, bias=False)
            self.decode_layers = nn.ModuleList(nn.Linear(s.hidden, s.hidden) for _ in range(2))
            self.decode_out = nn.Linear(s.hidden, 1)
        else:
            self.decode_code = nn.Linear(codes, s.hidden)
            self.decode_layers = nn.ModuleList([nn.Linear(s.hidden, s.hidden)])
            self.decode_out = nn.Linear(s.hidden, pixels)
        if s.own_classifier:
            self.classify = nn.Sequential(
                nn.Linear(pixels, s.hidden), nn.Tanh(),
                nn.Linear(s.hidden, s.hidden), nn.Tanh(),
                nn.Linear(s.hidden, s.classes),
            )  # fmt: skip
        at = torch.linspace(-1, 1, s.size)
        grid = torch.stack([at.expand(s.size, s.size), -at[:, None].expand(s.size, s.size)], -1)
        self.register_buffer("grid", grid, persistent=False)
        prior = torch.full((s.classes,), 1 / s.classes) if isinstance(s.class_prior, str) else s.class_prior
        self.register_buffer("log_prior", torch.as_tensor(prior).log())
        self.register_buffer("frame", torch.zeros(s.classes, 2))
        self.register_buffer("lean", torch.zeros(s.classes, s.latent))
        typical = torch.stack([torch.zeros(s.classes, s.latent), torch.ones(s.classes, s.latent)])
        self.register_buffer("typical", typical)
        if s.start_pose:
            self.register_buffer("templates", torch.zeros(s.classes, s.harmonics.coefficients))

    def encode(self, images: Float32[Tensor, "n y x"], pairs: CropsAsClasses) -> Posterior:
        """What the encoder believes of particles, each taken as a member of a class.

        Parameters
        ----------
        images
            Crops.
        pairs
            Which crop is taken as which class.
        """
        if self.settings.start_pose:
            mine = images[pairs.image]
            with torch.no_grad():
                start = start_poses(mine, self.templates[pairs.label], self.settings.harmonics)
                upright = move_back(mine, start)
            each = CropsAsClasses(torch.arange(len(mine), device=images.device), pairs.label)
            seen = self._encode(upright, each)
            return seen._replace(pose=seen.pose + start, start=start)
        return self._encode(images, pairs)

    def _encode(self, images: Tensor, pairs: CropsAsClasses) -> Posterior:
        s = self.settings
        weight = self.encode_first.weight
        of_pixels, of_class = weight[:, : s.size**2], weight[:, s.size**2 :]
        seen = images.flatten(1) @ of_pixels.T + self.encode_first.bias
        h = torch.tanh(seen[pairs.image] + of_class.T[pairs.label])
        h = torch.tanh(self.encode_hidden(h))
        mean, spread = self.encode_mean(h), nnf.softplus(self.encode_spread(h)) + 1e-4
        n = len(mean)
        pose, pose_spread = mean.new_zeros(n, 4), mean.new_ones(n, 4)
        at = width = 0
        parts: list[tuple[Tensor, Tensor]] = [(pose[:, i], pose_spread[:, i]) for i in range(4)]
        if s.angles:
            if s.angles == 1:
                parts[0] = mean[:, 0], spread[:, 0]
            else:
                turn = torch.atan2(mean[:, 1], mean[:, 0] + 1)
                turn = turn / 4 if s.start_pose else turn  # the start is right to less than 45 degrees
                parts[0] = turn, spread[:, 0].clamp(max=GREATEST_SPREAD)
            at, width = s.angles, 1
        if "translation" in s.invariances:
            for i in range(2):
                parts[1 + i] = s.shift_prior * mean[:, at + i], s.shift_prior * spread[:, width + i]
            at, width = at + 2, width + 2
        if "scale" in s.invariances:
            parts[3] = s.scale_prior * mean[:, at], s.scale_prior * spread[:, width]
            at, width = at + 1, width + 1
        pose = torch.stack([m for m, _ in parts], 1)
        spreads = torch.stack([d for _, d in parts], 1)
        return Posterior(pose, spreads, mean[:, at:], spread[:, width:], torch.zeros_like(pose))

    def sample(self, posterior: Posterior, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw of pose (n, 4) and latent factors (n, latent) each, with gradients."""
        s = self.settings
        moves = [float(name in s.invariances) for name in ("rotation", "translation", "translation", "scale")]
        which = posterior.pose.new_tensor(moves)
        p, z = posterior.pose, posterior.latent
        noise = torch.randn(len(p), 4 + s.latent, generator=generator, dtype=p.dtype, device=p.device)
        return (
            p + which * posterior.pose_spread * noise[:, :4],
            z + posterior.latent_spread * noise[:, 4:],
        )

    def decode(
        self, pose: Float[Tensor, "p 4"], latent: Float[Tensor, "p z"], label: Int[Tensor, " p"],
        points: Float[Tensor, "p n 2"] | None = None,
    ) -> Float[Tensor, "p n"]:  # fmt: skip
        """Logits of pixel values (of the means where the likelihood is Gaussian).

        Parameters
        ----------
        pose, latent, label
            Of each particle.
        points
            Coordinates to give values at; all pixels, row by row, if not given.
        """
        s = self.settings
        weight = self.decode_code.weight
        h = latent @ weight[:, : s.latent].T + weight.T[s.latent :][label]
        if not s.invariances:
            h = torch.tanh(h + self.decode_code.bias)
            for layer in self.decode_layers:
                h = torch.tanh(layer(h))
            every: Tensor = self.decode_out(h)
            return every
        if points is None:
            points = self.grid.reshape(1, -1, 2).expand(len(pose), -1, 2)
        cos, sin = torch.cos(pose[:, 0]), torch.sin(pose[:, 0])
        turn_back = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        own = (points - pose[:, None, 1:3]) @ (turn_back * torch.exp(-pose[:, 3])[:, None, None])
        h = torch.baddbmm(
            (h + self.decode_point.bias)[:, None], own, self.decode_point.weight.T.expand(len(own), -1, -1)
        )
        h = torch.tanh_(h.view(-1, s.hidden))
        for layer in self.decode_layers:
            h = torch.tanh_(layer(h))
        out: Tensor = self.decode_out(h)
        return out.view(len(pose), -1)

    def upright(self, latent: Float[Tensor, "p z"], label: Int[Tensor, " p"]) -> Float[Tensor, "p 2"]:
        """Angle and log of the scale at which the decoder has particles upright and of their class's size."""
        turn = ((latent - self.typical[0, label]) * self.lean[label]).sum(1)
        return self.frame[label] + torch.stack([turn, torch.zeros_like(turn)], 1)

    def render(self, pose: Tensor, latent: Tensor, label: Tensor) -> Float[Tensor, "p y x"]:
        """Images of particles, without gradients."""
        with torch.no_grad():
            logits = self.decode(pose, latent, label).view(-1, self.settings.size, self.settings.size)
            if self.settings.likelihood == "continuous-bernoulli":
                return torch.distributions.ContinuousBernoulli(logits=logits).mean
            return torch.sigmoid(logits)

    def divergence(self, posterior: Posterior) -> Float[Tensor, " n"]:
        """Of the posterior of pose and latent factors from their priors, nats."""
        s = self.settings
        total = normal_divergence(posterior.latent, posterior.latent_spread).sum(1)
        pose, spread = posterior.pose - posterior.start.to(posterior.pose), posterior.pose_spread
        if "rotation" in s.invariances:
            total = total + ANGLE_PRIORS[s.angle_prior](pose[:, 0], spread[:, 0], s.angle_concentration)
        if "translation" in s.invariances:
            moved = normal_divergence(pose[:, 1:3] / s.shift_prior, spread[:, 1:3] / s.shift_prior)
            total = total + moved.sum(1)
        if "scale" in s.invariances:
            total = total + normal_divergence(pose[:, 3] / s.scale_prior, spread[:, 3] / s.scale_prior)
        return total

    def misfit(self, logits: Float[Tensor, "p n"], values: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
        """-log p(x | pose, latent, class) of each pixel, nats."""
        s = self.settings
        if s.likelihood == "gaussian":
            error = (torch.sigmoid(logits) - values) / s.noise
            return 0.5 * error**2 + math.log(s.noise * math.sqrt(2 * math.pi))
        cross = nnf.binary_cross_entropy_with_logits(logits, values, reduction="none")
        if s.likelihood == "bernoulli":
            return cross
        return cross - _log_normaliser(logits)


def _log_normaliser(logits: Tensor) -> Tensor:
    """Log C of the continuous Bernoulli: log of logits / tanh(logits / 2), by its series about 0."""
    near = logits.abs() < 0.05
    safe = torch.where(near, torch.ones_like(logits), logits)
    away = torch.log(safe.abs()) - torch.log(torch.tanh(safe.abs() / 2))
    return torch.where(near, math.log(2) + logits**2 / 12, away)


def class_probabilities(model: RVAE, images: Float32[Tensor, "n y x"]) -> Float[Tensor, "n k"]:
    """q(y|x) of the model's own classifier; certainty where there is one class."""
    if model.settings.own_classifier:
        return torch.softmax(model.classify(images.flatten(1)), 1)
    if model.settings.classes > 1:
        raise ParameterError("a model without a classifier of its own wants class probabilities")
    return images.new_ones(len(images), 1)
