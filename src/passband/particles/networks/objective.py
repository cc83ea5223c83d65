"""What a VAE of particles learns by: the evidence of crops, with their classes known or summed over.

A step computes a part of the objective, drawn so that its mean is the whole: some pixels of each crop, and
the classes that are probable enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional as nnf

from passband.errors import ParameterError
from passband.particles.networks.rvae import RVAE, CropsAsClasses


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which part of the objective a step computes; its mean over draws is the whole objective.

    Parameters
    ----------
    stride
        One pixel of each square of so many a side is used, the same place in every square of a crop, drawn
        for each crop; 1 uses all.
    thinning
        A class less probable than this is left out at random, and weighs more when it is not; 0 sums over
        all.
    """

    stride: int = 1
    thinning: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.stride <= 16 and 0 <= self.thinning < 1):
            raise ParameterError(
                f"sampling: stride must be 1 to 16 and thinning in [0, 1), got {self.stride}, {self.thinning}"
            )


class Step(NamedTuple):
    """How a step computes the objective: the weight of the divergence, which part, and what draws it."""

    beta: float
    sampling: Sampling
    generator: torch.Generator


def sample_points(
    model: RVAE,
    images: Float32[Tensor, "n y x"],
    image: Int[Tensor, " p"],
    stride: int,
    offsets: Int[Tensor, "n 2"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (p, k, 2), values (p, k) and weights (p, k) of every stride-th pixel of crops.

    Parameters
    ----------
    model
        Whose grid the pixels lie on.
    images
        The crops.
    image
        Which of them each of the p results is of.
    stride
        Distance of the pixels.
    offsets
        Row and column of the first, below the stride; one for each crop.
    """
    size = model.settings.size
    steps = torch.arange(0, size, stride, device=images.device)
    rows, columns = offsets[:, :1] + steps, offsets[:, 1:] + steps
    inside = (rows < size)[:, :, None] & (columns < size)[:, None, :]
    rows, columns = rows.clamp(max=size - 1), columns.clamp(max=size - 1)
    place = (rows[:, :, None] * size + columns[:, None, :]).flatten(1)
    values = images.flatten(1).gather(1, place)
    points = model.grid.view(-1, 2)[place]
    weights = inside.flatten(1).to(images.dtype) * stride**2
    return points[image], values[image], weights[image]


def evidence(
    model: RVAE,
    images: Float32[Tensor, "n y x"],
    pairs: CropsAsClasses,
    step: Step,
) -> Float[Tensor, " p"]:
    """An upper bound on -log p(x | y) of each pair of crop and class, by one draw, nats.

    Parameters
    ----------
    model
        The model.
    images
        Crops.
    pairs
        Which crop is taken as which class.
    step
        How much of the objective is computed.
    """
    s = model.settings
    posterior = model.encode(images, pairs)
    pose, latent = model.sample(posterior, step.generator)
    if s.invariances and step.sampling.stride > 1:
        offsets = torch.randint(
            step.sampling.stride, (len(images), 2), generator=step.generator, device=images.device
        )
        points, values, weights = sample_points(model, images, pairs.image, step.sampling.stride, offsets)
        fit = (model.misfit(model.decode(pose, latent, pairs.label, points), values) * weights).sum(1)
    else:
        fit = model.misfit(model.decode(pose, latent, pairs.label), images.flatten(1)[pairs.image]).sum(1)
    return fit + step.beta * model.divergence(posterior)


def choose_pairs(
    probabilities: Float[Tensor, "n k"], thinning: float, generator: torch.Generator
) -> tuple[CropsAsClasses, Tensor]:
    """Pairs of crop and class to compute, with weights whose mean is the probability.

    Returns
    -------
    pairs, weights
        The weights have the gradient of the probabilities.

    Examples
    --------
    >>> p = torch.tensor([[0.9, 0.1]])
    >>> pairs, weights = choose_pairs(p, 0.0, torch.Generator())
    >>> pairs.label.tolist(), [round(w, 2) for w in weights.tolist()]
    ([0, 1], [0.9, 0.1])
    """
    fixed = probabilities.detach()
    keep = (fixed / thinning).clamp(max=1) if thinning > 0 else torch.ones_like(fixed)
    kept = torch.rand(keep.shape, generator=generator, device=keep.device) < keep
    image, label = torch.nonzero(kept, as_tuple=True)
    return CropsAsClasses(image, label), probabilities[image, label] / keep[image, label]


def unlabelled_objective(
    model: RVAE,
    images: Float32[Tensor, "n y x"],
    probabilities: Float[Tensor, "n k"],
    step: Step,
) -> Tensor:
    """Bound on -log p(x), summed over crops: exact over classes, or by chance with the same mean.

    Parameters
    ----------
    model
        The model.
    images
        Crops without labels.
    probabilities
        Of the classes: from `class_probabilities`, or from another classifier.
    step
        How much of the objective is computed.
    """
    thinned = step.sampling.thinning > 0
    given = probabilities.detach() if thinned else probabilities
    pairs, weights = choose_pairs(given, step.sampling.thinning, step.generator)
    fit = (weights * evidence(model, images, pairs, step)).sum()
    if thinned and probabilities.requires_grad:
        fit = fit + _pull(model, images, probabilities, step)
    return fit + (probabilities * (torch.log(probabilities + 1e-10) - model.log_prior)).sum()


def _pull(
    model: RVAE,
    images: Tensor,
    probabilities: Tensor,
    step: Step,
) -> Tensor:
    """Zero, with the gradient that the bounds of all classes have on the probabilities.

    It needs the bounds' values alone, so coarser pixels do, and nothing is kept for a backward pass.
    """
    stride = step.sampling.stride
    coarse = Sampling(stride=min(2 * stride, 16) if stride > 1 else 1)
    with torch.no_grad():
        image, label = torch.nonzero(torch.ones_like(probabilities), as_tuple=True)
        pairs = CropsAsClasses(image, label)
        bound = evidence(model, images, pairs, step._replace(sampling=coarse))
    weighted = probabilities * bound.view_as(probabilities)
    return (weighted - weighted.detach()).sum()


def labelled_objective(
    model: RVAE,
    images: Float32[Tensor, "n y x"],
    labels: Int[Tensor, " n"],
    step: Step,
    *,
    emphasis: float,
) -> Tensor:
    """Bound on -log p(x, y), and the classifier's -log q(y|x) times ``emphasis``, summed over crops."""
    pairs = CropsAsClasses(torch.arange(len(images), device=images.device), labels)
    bound = evidence(model, images, pairs, step)
    total = bound.sum() - model.log_prior[labels].sum()
    if model.settings.own_classifier:
        total = total + emphasis * nnf.cross_entropy(
            model.classify(images.flatten(1)), labels, reduction="sum"
        )
    return total
