"""Surfaces of particles as a microscope shows them: rounded, rough, disordered.

A convex body is a number for each point: how large the body must be to reach it. Rounding mixes that number
with a sphere's, roughness adds bumps to it; the atoms of the lowest numbers are kept, as many as before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import ConvexHull, cKDTree

from passband.hrtem.specimen.crystals import Atoms

DISORDER_DEPTH = 4.0
"""Å, over which disorder falls off from the surface inwards, to 1/e."""
_BUMP = 12.0  # Å from one bump to the next
_NEAREST = 0.7  # of an atom's distance to its neighbour, below which a displacement is not made


@dataclass(frozen=True, kw_only=True)
class Surface:
    """How a particle's surface differs from the plain cut through its crystal.

    Parameters
    ----------
    rounding
        0 for sharp edges, 1 for a sphere; the number of atoms stays. A decahedron or an icosahedron has no
        crystal beyond its faces, and loses up to 15 % of its atoms at edges and corners instead.
    roughness
        Root mean square height of its bumps and hollows, Å; they lie some 12 Å apart.
    disorder
        Standard deviation of the atoms' displacements along one axis at the surface, Å.
    seed
        Of bumps and displacements.
    """

    rounding: float = 0.0
    roughness: float = 0.0
    disorder: float = 0.0
    seed: int = 0


PLAIN = Surface()


def surface_faults(surface: Surface, diameter: float) -> list[str]:
    """What is wrong with a surface of a particle, in words."""
    wrong = []
    if not 0 <= surface.rounding <= 1:
        wrong.append(f"rounding must be 0 to 1, got {surface.rounding}")
    if not 0 <= surface.roughness <= diameter / 8:
        wrong.append(f"roughness must be 0 to an eighth of the diameter in Å, got {surface.roughness}")
    if not 0 <= surface.disorder <= 1:
        wrong.append(f"disorder must be 0 to 1 Å, got {surface.disorder}")
    if surface.seed < 0:
        wrong.append(f"the seed of a surface must be 0 or more, got {surface.seed}")
    return wrong


def reshaped(
    positions: Float64[np.ndarray, "n 3"], far: Float64[np.ndarray, n], surface: Surface, diameter: float
) -> Float64[np.ndarray, n]:
    """How large a rounded, rough body must be to reach each point.

    Parameters
    ----------
    positions
        About the body's centre, Å.
    far
        Diameter of the plain body (of the sphere of its volume) whose surface a point lies on, Å.
    surface
        What to do to it.
    diameter
        Of the body that is meant, Å.

    Examples
    --------
    >>> corner = np.array([[10.0, 10.0, 10.0]])  # of a cube that is as large as a sphere of 24.8 Å
    >>> reshaped(corner, np.array([24.8]), Surface(rounding=1.0), 24.8).round(1).tolist()
    [34.6]
    """
    length = np.sqrt((positions**2).sum(1))
    far = (1 - surface.rounding) * far + surface.rounding * 2 * length
    if surface.roughness:
        rng = np.random.default_rng([surface.seed, 0xB])
        ways = rng.standard_normal((12, 3))
        # Waves along the surface, from two thirds to one and a half times the length of a bump.
        ways *= (math.pi * diameter / _BUMP * rng.uniform(0.67, 1.5, 12) / np.linalg.norm(ways, axis=1))[
            :, None
        ]
        phases = rng.uniform(0, 2 * math.pi, 12)
        to_surface = positions / np.maximum(length, 1e-9)[:, None]
        height = surface.roughness * np.cos(to_surface @ ways.T + phases).sum(1) / math.sqrt(6)
        far = far / (1 + np.clip(height, -3 * surface.roughness, 3 * surface.roughness) * 2 / diameter)
    return far


def nearest(far: Float64[np.ndarray, n], count: int) -> Bool[np.ndarray, n]:
    """Which points are reached first, so many of them.

    Examples
    --------
    >>> nearest(np.array([3.0, 1.0, 2.0]), 2).tolist()
    [False, True, True]
    """
    kept = np.zeros(len(far), bool)
    kept[np.argsort(far, kind="stable")[:count]] = True
    return kept


def disordered(atoms: Atoms, surface: Surface) -> Atoms:
    """Atoms displaced at random near the surface.

    A displacement that brings an atom nearer to another than 0.7 of its distance to its nearest neighbour is
    drawn again, so strong disorder is a little weaker than it says.

    Parameters
    ----------
    atoms
        Of a particle about its centre.
    surface
        Its disorder and seed.
    """
    if not surface.disorder:
        return atoms
    r = atoms.positions
    hull = ConvexHull(r).equations
    depth = -(r @ hull[:, :3].T + hull[:, 3]).max(1)
    rng = np.random.default_rng([surface.seed, 0xD])
    width = surface.disorder * np.exp(-depth / DISORDER_DEPTH)
    moves = rng.standard_normal(r.shape) * width[:, None]
    least = _NEAREST * _to_neighbour(r)
    for i in range(24):
        near = np.flatnonzero(_to_neighbour(r + moves) < least)
        if not len(near):
            break
        moves[near] = rng.standard_normal((len(near), 3)) * width[near, None] if i < 16 else 0.3 * moves[near]
    moved = r + moves
    return replace(atoms, positions=moved)


def _to_neighbour(positions: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, n]:
    """Distance of each atom to the nearest other one."""
    return np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]
