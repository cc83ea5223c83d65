"""Where a particle is and how it is turned, before any network: its centroid and its class's template."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float32, Int
from torch import Tensor
from torch.nn import functional as nnf

from passband.particles.networks.harmonics import HarmonicSettings, harmonics, turn_between, turned
from passband.particles.networks.warping import warp

_SMOOTHING = 1.5  # px, before the centroid
_ROUNDS = 6
_UPRIGHT = 0.35  # rad: half of a class's labelled crops within this of each other stand alike


def start_poses(
    crops: Float32[Tensor, "n y x"],
    templates: Float32[Tensor, "n c"],
    settings: HarmonicSettings,
) -> Float32[Tensor, "n 4"]:
    """Centroid and turn of each crop against the template of a class.

    Parameters
    ----------
    crops
        One particle each, brighter than its surroundings.
    templates
        Circular harmonics of the class that each is taken for, centred, from `learn_templates`.
    settings
        Of the harmonics.

    Returns
    -------
    Tensor
        Angle in rad, shift along x and y in half crops, and 0 for the logarithm of the scale.
    """
    shifts = centroids(crops)
    still = crops.new_zeros(len(crops))
    centred = move_back(crops, torch.stack([still, shifts[:, 0], shifts[:, 1], still], 1))
    angle, _ = turn_between(harmonics(centred, settings), templates, settings)
    return torch.stack([angle, shifts[:, 0], shifts[:, 1], still], 1)


def centroids(crops: Float32[Tensor, "n y x"]) -> Float32[Tensor, "n 2"]:
    """Centre of what is brighter than halfway between surroundings and brightest, after smoothing.

    Returns
    -------
    Tensor
        x to the right and y up, in half crops from the centre.

    Examples
    --------
    >>> crop = torch.zeros(1, 48, 48)
    >>> crop[0, 10:20, 30:40] = 1
    >>> [round(v, 2) for v in (centroids(crop)[0] * 23.5).tolist()]
    [11.0, 9.0]
    """
    size = crops.shape[-1]
    smooth = smoothed(crops, _SMOOTHING).flatten(1)
    low, high = smooth.quantile(0.25, dim=1, keepdim=True), smooth.amax(1, keepdim=True)
    weight = (smooth - 0.5 * (low + high)).clamp(min=0)
    at = torch.linspace(-1, 1, size, dtype=crops.dtype, device=crops.device)
    weight = weight.view(-1, size, size)
    total = weight.sum((1, 2)).clamp(min=1e-9)
    return torch.stack([(weight.sum(1) @ at) / total, -(weight.sum(2) @ at) / total], 1)


def smoothed(crops: Float32[Tensor, "n y x"], spread: float) -> Float32[Tensor, "n y x"]:
    """Crops after a Gaussian of a standard deviation in pixels, zero beyond their edges.

    Examples
    --------
    >>> dot = torch.zeros(1, 9, 9)
    >>> dot[0, 4, 4] = 1
    >>> round(float(smoothed(dot, 1.0).sum()), 4)
    1.0
    """
    kernel = _gaussian(spread).to(crops)
    reach = len(kernel) // 2
    rows = nnf.conv2d(crops[:, None], kernel.view(1, 1, 1, -1), padding=(0, reach))
    smooth: Tensor = nnf.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return smooth[:, 0]


def move_back(crops: Float32[Tensor, "n y x"], poses: Float32[Tensor, "n 4"]) -> Float32[Tensor, "n y x"]:
    """Crops with their poses taken out: centred, upright, of scale 1.

    Examples
    --------
    >>> crop = torch.rand(1, 9, 9)
    >>> quarter = torch.tensor([[torch.pi / 2, 0.0, 0.0, 0.0]])
    >>> bool((move_back(crop.rot90(1, (1, 2)), quarter) - crop).abs().max() < 1e-5)
    True
    """
    size = crops.shape[-1]
    cos, sin = torch.cos(poses[:, 0]), torch.sin(poses[:, 0])
    back = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    back = back * torch.exp(-poses[:, 3])[:, None, None]
    shifts = -(back @ poses[:, 1:3, None])[:, :, 0] * ((size - 1) / 2)
    return warp(crops, back, shifts, size)


def learn_templates(
    crops: Float32[Tensor, "n y x"], labels: Int[Tensor, " n"], classes: int, settings: HarmonicSettings
) -> Float32[Tensor, "k c"]:
    """Circular harmonics of each class: the mean of its crops, centred and turned to agree.

    The turns start from those the crops have, so where labelled crops stand upright, so does the template.

    Parameters
    ----------
    crops, labels
        Labelled crops; each class has one at least.
    classes
        How many.
    settings
        Of the harmonics.
    """
    shifts = centroids(crops)
    still = crops.new_zeros(len(crops))
    centred = move_back(crops, torch.stack([still, shifts[:, 0], shifts[:, 1], still], 1))
    coefficients = harmonics(centred, settings)
    templates = []
    for k in range(classes):
        mine = coefficients[labels == k]
        upright = template = mine.mean(0, keepdim=True)
        for _ in range(_ROUNDS):
            angle, _ = turn_between(mine, template.expand(len(mine), -1), settings)
            if angle.abs().median() < _UPRIGHT:
                break  # they stand alike as they are: to turn a few of them by a near symmetry would blur it
            template = turned(mine, -angle, settings).mean(0, keepdim=True)
            drift, _ = turn_between(template, upright, settings)
            template = turned(template, -drift, settings)
        templates.append(template[0])
    return torch.stack(templates)


@lru_cache(maxsize=4)
def _gaussian(spread: float) -> Tensor:
    at = torch.arange(-int(3 * spread), int(3 * spread) + 1)
    values = torch.exp(-0.5 * (at / spread) ** 2)
    return values / values.sum()
