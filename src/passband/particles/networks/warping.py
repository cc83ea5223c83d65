"""Affine deformation of many small images at once: draw a record, apply it.

Coordinates are x to the right and y up, from the image's centre; angles turn anticlockwise as displayed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import grid_sample


@dataclass(frozen=True, kw_only=True)
class Affine:
    """How each of n images is deformed.

    A point p goes to ``scale R(angle) Y(shear_y) X(shear_x) p + shift``, with X moving x by
    -tan(shear_x) y, and Y moving y by -tan(shear_y) x: torchvision's convention.

    Parameters
    ----------
    angle, shear_x, shear_y
        Degrees, shape (n,).
    scale
        Shape (n,).
    shift_x, shift_y
        Pixels to the right and up, shape (n,).
    """

    angle: np.ndarray
    shear_x: np.ndarray
    shear_y: np.ndarray
    scale: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray

    def __len__(self) -> int:
        return len(self.angle)

    def __getitem__(self, of: slice) -> Affine:
        """How some of the images are deformed."""
        return Affine(**{f.name: getattr(self, f.name)[of] for f in fields(self)})

    @property
    def matrices(self) -> Float[np.ndarray, "n 2 2"]:
        """What the points are multiplied by.

        Examples
        --------
        >>> zero, one = np.zeros(1), np.ones(1)
        >>> quarter = Affine(angle=90 * one, shear_x=zero, shear_y=zero, scale=2 * one, shift_x=zero,
        ...                  shift_y=zero)
        >>> quarter.matrices[0].round(6).tolist()
        [[0.0, -2.0], [2.0, 0.0]]
        """
        angle = np.deg2rad(self.angle)
        one, zero = np.ones(len(self)), np.zeros(len(self))
        turned = _stack(np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))
        up = _stack(one, zero, -np.tan(np.deg2rad(self.shear_y)), one)
        along = _stack(one, -np.tan(np.deg2rad(self.shear_x)), zero, one)
        product: np.ndarray = turned @ up @ along * self.scale[:, None, None]
        return product

    @property
    def rotation(self) -> Float[np.ndarray, " n"]:
        """The turn that the whole deformation amounts to, degrees: that of its polar decomposition.

        Shear turns too: by half the difference of the two shears, nearly, beside the angle.

        Examples
        --------
        >>> none, one = np.zeros(1), np.ones(1)
        >>> a = Affine(angle=none, shear_x=10 * one, shear_y=none, scale=one, shift_x=none, shift_y=none)
        >>> a.rotation.round(2).tolist()
        [5.04]
        """
        m = self.matrices
        turn: np.ndarray = np.rad2deg(np.arctan2(m[:, 1, 0] - m[:, 0, 1], m[:, 0, 0] + m[:, 1, 1]))
        return turn

    @property
    def strain(self) -> Float[np.ndarray, " n"]:
        """Shear with the turn that it brings taken out: -(tan shear_x + tan shear_y) / 2.

        Shear along x and along y differ by a rotation, which the angle holds already; this is the part
        that changes the shape.
        """
        total: np.ndarray = np.tan(np.deg2rad(self.shear_x)) + np.tan(np.deg2rad(self.shear_y))
        return -total / 2


def _stack(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.stack([np.stack([a, b], -1), np.stack([c, d], -1)], -2)


def deform(images: Float32[Tensor, "n y x"], affine: Affine, size: int) -> Float32[Tensor, "n size size"]:
    """Apply a record to images; as `warp`.

    Parameters
    ----------
    images
        One for each deformation of the record, or views of one (``expand``).
    affine
        How each is deformed.
    size
        Side of the results in pixels; pixels keep their size.

    Examples
    --------
    >>> image, zero, one = torch.arange(9.0).reshape(1, 3, 3), np.zeros(1), np.ones(1)
    >>> right = Affine(angle=zero, shear_x=zero, shear_y=zero, scale=one, shift_x=one, shift_y=zero)
    >>> deform(image, right, 3)[0].round().int().tolist()
    [[0, 0, 1], [0, 3, 4], [0, 6, 7]]
    """
    matrices = torch.from_numpy(affine.matrices.astype(np.float32))
    shifts = torch.from_numpy(np.stack([affine.shift_x, affine.shift_y], 1).astype(np.float32))
    return warp(images, matrices, shifts, size)


def warp(
    images: Float32[Tensor, "n y x"],
    matrices: Float32[Tensor, "n 2 2"],
    shifts: Float32[Tensor, "n 2"],
    size: int,
) -> Float32[Tensor, "n size size"]:
    """Deform images about their centres; bilinear, zero outside.

    Parameters
    ----------
    images
        One for each result, or views of one (``expand``).
    matrices
        What points of the image are multiplied by, (x, y up).
    shifts
        Pixels, (x right, y up).
    size
        Side of the results in pixels; pixels keep their size.

    Examples
    --------
    >>> image = torch.arange(9.0).reshape(1, 3, 3)
    >>> quarter = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    >>> warp(image, quarter, torch.zeros(1, 2), 3)[0].round().int().tolist()
    [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    """
    height, width = images.shape[1:]
    inverse = torch.linalg.inv(matrices)
    back = -(inverse @ shifts[:, :, None])
    at = torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2
    x, y = at.expand(size, size), -at[:, None].expand(size, size)
    points = torch.stack([x.reshape(-1), y.reshape(-1)])
    source = inverse @ points + back
    grid = torch.stack([source[:, 0] * (2 / width), source[:, 1] * (-2 / height)], -1)
    out = grid_sample(images[:, None], grid.view(-1, size, size, 2), align_corners=False)
    return out[:, 0]
