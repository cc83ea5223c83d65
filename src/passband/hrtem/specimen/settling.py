"""Putting particles down: alone, upon one another, or grown together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import ConvexHull, cKDTree

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import Atoms
from passband.hrtem.specimen.nanoparticles import CLEARANCE, FEWEST, Meeting


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A particle where it came to lie.

    Parameters
    ----------
    atoms
        In the cell's axes, not wrapped into it.
    foot
        (3,), where its centre is.
    """

    atoms: Atoms
    foot: Float64[np.ndarray, 3]


def settled(
    made: Atoms,
    foot: Float64[np.ndarray, 3],
    earlier: list[Atoms],
    meeting: Meeting,
    period: Float64[np.ndarray, 3],
) -> Placed:
    """Put a particle down among earlier ones.

    Parameters
    ----------
    made
        Its atoms about its centre.
    foot
        Where its centre is to be, Å.
    earlier
        Particles that lie there already, in the cell's axes.
    meeting
        "rest" lifts it as far as it takes to keep 2 Å from every atom of the earlier ones; "grow" leaves out
        its atoms that are nearer than that to an earlier one's convex hull, or rests if fewer than twelve
        would be left; "" refuses.
    period
        Å along x, y and z; 0 where there is none.

    Raises
    ------
    ParameterError
        If it shares a place and may not.
    """
    placed = replace(made, positions=made.positions + foot)
    met = [i for i, other in enumerate(earlier) if _distance(placed, other, period) < CLEARANCE]
    if not met:
        return Placed(atoms=placed, foot=foot)
    number = len(earlier) + 1
    if meeting == "grow":
        kept = np.ones(len(placed.numbers), bool)
        for i in met:
            centre = (earlier[i].positions.min(0) + earlier[i].positions.max(0)) / 2
            about = replace(earlier[i], positions=earlier[i].positions - centre)
            kept &= ~near_hull(placed.positions - centre, about, period)
        if kept.sum() >= FEWEST:
            return Placed(atoms=some_atoms(placed, kept), foot=foot)
    if meeting:
        lifted = foot + np.array([0.0, 0.0, _lift(placed, earlier, period)])
        return Placed(atoms=replace(made, positions=made.positions + lifted), foot=lifted)
    nearest = _distance(placed, earlier[met[0]], period)
    raise ParameterError(
        f"particles {met[0] + 1} and {number} overlap: two of their atoms are {nearest:.2f} Å apart, "
        f'wanted {CLEARANCE} Å or more; move one of them, or give the later one meeting "rest" or "grow"'
    )


def some_atoms(atoms: Atoms, kept: Bool[np.ndarray, n]) -> Atoms:
    """Those atoms that are kept."""
    return Atoms(numbers=atoms.numbers[kept], positions=atoms.positions[kept], thermal=atoms.thermal[kept])


def near_hull(
    positions: Float64[np.ndarray, "n 3"], atoms: Atoms, period: Float64[np.ndarray, 3]
) -> Bool[np.ndarray, n]:
    """Which points, relative to a particle's centre, are within 2 Å of its convex hull.

    Parameters
    ----------
    positions
        Å, relative to the centre that `atoms` are about.
    atoms
        Of the particle, about its centre.
    period
        Å along x, y and z.
    """
    flat = positions[:, :2] - period[:2] * np.round(positions[:, :2] / period[:2])
    relative = np.column_stack([flat, positions[:, 2]])
    reach = float(np.linalg.norm(atoms.positions, axis=1).max()) + CLEARANCE
    near = np.flatnonzero((relative**2).sum(1) < reach**2)
    faces = ConvexHull(atoms.positions).equations
    outside = (relative[near] @ faces[:, :3].T + faces[:, 3] > CLEARANCE).any(1)
    found = np.zeros(len(positions), bool)
    found[near[~outside]] = True
    return found


def _wrapped(positions: np.ndarray, period: np.ndarray) -> np.ndarray:
    r = positions.copy()
    r[:, :2] = np.mod(r[:, :2], period[:2])
    r[:, :2][r[:, :2] >= period[:2]] = 0.0
    return r


def _distance(one: Atoms, other: Atoms, period: np.ndarray) -> float:
    """Between the nearest two atoms, Å; infinite where they are far apart."""
    tree = cKDTree(_wrapped(other.positions, period), boxsize=period)
    found, _ = tree.query(_wrapped(one.positions, period), distance_upper_bound=CLEARANCE)
    return float(np.min(found))


def _lift(placed: Atoms, earlier: list[Atoms], period: np.ndarray) -> float:
    """How far up a particle clears every atom below or beside it."""
    others = np.concatenate([e.positions for e in earlier])
    flat = cKDTree(_wrapped(others, period)[:, :2], boxsize=period[:2])
    mine = cKDTree(_wrapped(placed.positions, period)[:, :2], boxsize=period[:2])
    pairs = mine.sparse_distance_matrix(flat, CLEARANCE, output_type="coo_matrix")
    rise = others[pairs.col, 2] - placed.positions[pairs.row, 2]
    needed = rise + np.sqrt(np.maximum(CLEARANCE**2 - pairs.data**2, 0))
    return max(0.0, float(needed.max(initial=0.0))) + 1e-9
