"""Where particles lie and how they are turned: discs on a periodic plane, and rotations."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial.transform import Rotation

Quaternion = tuple[float, float, float, float]
_STARTS, _STEPS = 8, 120
_OWN_IMAGE = 2.0  # Å between the rims of a disc and of its own image
_DENSEST = math.pi / math.sqrt(12)  # share of the plane that equal discs can cover; unequal ones hardly more


def place_discs(
    radii: Float64[np.ndarray, n], cell: tuple[float, float], gap: float, rng: np.random.Generator
) -> Float64[np.ndarray, "n 2"] | None:
    """Put discs on a periodic plane so that all gaps between their rims are wide enough.

    They start at random and are pushed apart where they are too near, which fills a plane that random
    trial alone would hardly ever fill.

    Parameters
    ----------
    radii
        Å.
    cell
        Periods in x and y, Å.
    gap
        Least distance between the rims of two discs, Å; below 0 they may overlap by as much. A disc keeps at
        least 2 Å from its own image.
    rng
        Where they start.

    Returns
    -------
    array or None
        Centres (n, 2), x and y in Å; None where no room was found.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> place_discs(np.array([20.0, 20.0, 20.0, 20.0]), (102.4, 102.4), 10.0, rng).shape
    (4, 2)
    >>> place_discs(np.array([50.0]), (102.4, 102.4), 10.0, rng) is None
    True
    """
    period = np.array(cell, np.float64)
    if not len(radii):
        return np.empty((0, 2))
    covered = math.pi * float((np.maximum(radii + gap / 2, 0) ** 2).sum())
    alone = len(radii) == 1
    if 2 * float(radii.max()) + max(gap, _OWN_IMAGE) > min(cell) or (
        not alone and covered > 1.05 * _DENSEST * math.prod(cell)
    ):
        return None
    wanted = radii[:, None] + radii + gap
    np.fill_diagonal(wanted, 0)
    for _ in range(_STARTS):
        centres = rng.random((len(radii), 2)) * period
        for _ in range(_STEPS):
            apart = centres[:, None] - centres
            apart -= period * np.round(apart / period)
            distance = np.hypot(apart[..., 0], apart[..., 1])
            missing = np.maximum(wanted - distance, 0)
            if not missing.any():
                return np.asarray(np.mod(centres, period))
            push = np.where(missing > 0, 0.52 * missing + 0.01, 0) / np.maximum(distance, 1e-3)
            centres = centres + (push[..., None] * apart).sum(1)
    return None


def press_together(
    centres: Float64[np.ndarray, "n 2"],
    radii: Float64[np.ndarray, n],
    cell: tuple[float, float],
    gap: float,
    pressed: Bool[np.ndarray, n],
    rng: np.random.Generator,
) -> Float64[np.ndarray, "n 2"]:
    """Move some discs against others, each at just the least distance from one before it.

    Parameters
    ----------
    centres, radii
        Of discs that keep the least distance, Å.
    cell
        Periods in x and y, Å.
    gap
        Least distance between two rims, Å.
    pressed
        Which are to be moved; the first never is, and one that finds no room beside another stays.
    rng
        Against which, and from which side.

    Returns
    -------
    array
        Centres that keep the least distance too.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> apart = np.array([[50.0, 50.0], [90.0, 90.0]])
    >>> moved = press_together(apart, np.array([8.0, 8.0]), (100.0, 100.0), -1.0, np.ones(2, bool), rng)
    >>> float(np.linalg.norm(moved[1] - moved[0]).round(9))
    15.0
    """
    period = np.array(cell, np.float64)
    centres = centres.copy()
    for i in np.flatnonzero(pressed):
        others = np.delete(np.arange(len(centres)), i)
        for _ in range(24 if i else 0):
            against = int(rng.integers(i))
            angle = rng.uniform(0, 2 * math.pi)
            reach = max(radii[i] + radii[against] + gap, 0.0)
            trial = centres[against] + reach * np.array([math.cos(angle), math.sin(angle)])
            away = centres[others] - trial
            away -= period * np.round(away / period)
            room = np.hypot(away[:, 0], away[:, 1]) - radii[others] - radii[i]
            if (room >= gap - 1e-9).all():
                centres[i] = np.mod(trial, period)
                break
    return centres


def uniform_rotation(rng: np.random.Generator) -> Quaternion:
    """A rotation drawn uniformly from SO(3), as a unit quaternion (w, x, y, z).

    References
    ----------
    A normalised Gaussian four-vector is uniform on the sphere: M. E. Muller, doi:10.1145/377939.377946.

    Examples
    --------
    >>> round(float(np.linalg.norm(uniform_rotation(np.random.default_rng(0)))), 12)
    1.0
    """
    w, x, y, z = (v := rng.standard_normal(4)) / np.linalg.norm(v)
    return float(w), float(x), float(y), float(z)


def near_zone_rotation(
    axes: Float64[np.ndarray, "k 3"], greatest_tilt: float, rng: np.random.Generator
) -> Quaternion:
    """A rotation that brings a zone axis near to the beam.

    Parameters
    ----------
    axes
        Equivalent axes as unit vectors, such as `crystals.zone_directions` gives; one is taken at random.
    greatest_tilt
        Of the axis from the beam, rad; the axis is uniform over the cone, the angle about it uniform.
    rng
        Source of randomness.

    Returns
    -------
    tuple
        Unit quaternion (w, x, y, z).

    Examples
    --------
    >>> q = near_zone_rotation(np.array([[0.6, 0.8, 0.0]]), 0.0, np.random.default_rng(0))
    >>> np.abs(Rotation.from_quat(q, scalar_first=True).apply([0.6, 0.8, 0.0])).round(6).tolist()
    [0.0, 0.0, 1.0]
    """
    axis = axes[rng.integers(len(axes))]
    aside = np.eye(3)[np.argmin(np.abs(axis))]
    first = np.cross(aside, axis)
    first /= np.linalg.norm(first)
    to_beam = Rotation.from_matrix(np.stack([first, np.cross(axis, first), axis]))
    spin = Rotation.from_rotvec([0.0, 0.0, rng.uniform(0, 2 * math.pi)])
    tilt = math.acos(rng.uniform(math.cos(greatest_tilt), 1.0))
    azimuth = rng.uniform(0, 2 * math.pi)
    tilted = Rotation.from_rotvec([-tilt * math.sin(azimuth), tilt * math.cos(azimuth), 0.0])
    x, y, z, w = (tilted * spin * to_beam).as_quat()
    return float(w), float(x), float(y), float(z)
