"""Specimens for HRTEM: nanoparticles on or in a film.

Draw, record, apply: `draw_specimen` makes a `SpecimenRecord`, plain numbers and seeds; `build_specimen`
turns a record into atoms, the same bit for bit each time.

The beam travels towards +z: first through the film, whose atoms do not depend on the particles that
rest on it, then through the particles. The cell is periodic in x and y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int, Int32

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import HEAVIEST, Atoms
from passband.hrtem.specimen.draws import draw_specimen
from passband.hrtem.specimen.films import build_film
from passband.hrtem.specimen.nanoparticles import CLEARANCE, build_particle
from passband.hrtem.specimen.record import SpecimenRanges, SpecimenRecord
from passband.hrtem.specimen.settling import near_hull, settled, some_atoms

__all__ = [
    "Specimen",
    "SpecimenRanges",
    "SpecimenRecord",
    "build_specimen",
    "draw_specimen",
    "isolate",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """Atoms in a cell that is periodic in x and y.

    Parameters
    ----------
    numbers
        Atomic numbers, (n,).
    positions
        (n, 3), columns x, y, z in Å, inside the cell; the beam travels towards +z.
    particle
        int32 (n,): 0 on the substrate, i on particle i.
    thermal
        Mean square displacement along one axis, <u_x²>, (n,), Å².
    cell
        Extent in x, y and z, Å.
    focus_plane
        The z that focus is counted from, Å: the particles' mid-plane.

    Raises
    ------
    ParameterError
        Naming every fault: no atoms, arrays of unequal length, coordinates that are not finite or
        outside the cell, unknown elements.

    Examples
    --------
    >>> one = Specimen(
    ...     numbers=np.array([79]),
    ...     positions=np.array([[1.0, 2.0, 3.0]]),
    ...     particle=np.array([1], np.int32),
    ...     thermal=np.array([0.008]),
    ...     cell=(10.0, 10.0, 6.0),
    ...     focus_plane=3.0,
    ... )
    >>> one.count
    1
    """

    numbers: Int[np.ndarray, n]
    positions: Float64[np.ndarray, "n 3"]
    particle: Int32[np.ndarray, n]
    thermal: Float64[np.ndarray, n]
    cell: tuple[float, float, float]
    focus_plane: float

    def __post_init__(self) -> None:
        wrong = []
        n = len(self.numbers)
        if n == 0:
            wrong.append("it holds no atoms")
        lengths = (len(self.positions), len(self.particle), len(self.thermal))
        if set(lengths) != {n}:
            wrong.append(
                f"{n} numbers, but {lengths[0]} positions, {lengths[1]} particle indices, "
                f"{lengths[2]} thermal displacements"
            )
        if not all(math.isfinite(v) and v > 0 for v in self.cell):
            wrong.append(f"the cell must have three positive lengths in Å, got {self.cell}")
        elif n and not np.isfinite(self.positions).all():
            i = int(np.flatnonzero(~np.isfinite(self.positions).all(1))[0])
            wrong.append(f"coordinates must be finite; atom {i} is at {self.positions[i].tolist()}")
        elif n:
            out = ((self.positions < 0) | (self.positions > np.array(self.cell))).any(1)
            if out.any():
                i = int(np.flatnonzero(out)[0])
                wrong.append(
                    f"{int(out.sum())} atoms lie outside the cell {self.cell} Å, atom {i} at "
                    f"{self.positions[i].round(3).tolist()}; wrap x and y into it and make it taller for z"
                )
        if n and not (int(self.numbers.min()) >= 1 and int(self.numbers.max()) <= HEAVIEST):
            wrong.append(
                f"atomic numbers must be 1 to {HEAVIEST}, got {int(self.numbers.min())} to "
                f"{int(self.numbers.max())}"
            )
        if len(self.particle) and int(self.particle.min()) < 0:
            wrong.append("particle indices must be 0 (substrate) or more")
        if not (np.isfinite(self.thermal).all() and (self.thermal >= 0).all()):
            wrong.append("thermal displacements must be finite and 0 Å² or more")
        if not math.isfinite(self.focus_plane):
            wrong.append(f"the focus plane must be finite, got {self.focus_plane}")
        if wrong:
            raise ParameterError(f"specimen: {'; '.join(wrong)}")

    @property
    def count(self) -> int:
        """Number of particles."""
        return int(self.particle.max())


def isolate(specimen: Specimen, index: int) -> Specimen:
    """One part of a specimen alone, in the same cell at the same focus.

    Parameters
    ----------
    specimen
        Whole.
    index
        0 for the substrate, i for particle i.

    Raises
    ------
    ParameterError
        If no atom belongs to that part.

    Examples
    --------
    >>> whole = build_specimen(draw_specimen(SpecimenRanges(count=(1, 1)), 0))
    >>> isolate(whole, 1).count
    1
    """
    kept = specimen.particle == index
    if not kept.any():
        raise ParameterError(
            f"the specimen has no part {index}; wanted 0 for the substrate or 1 to {specimen.count}"
        )
    return replace(
        specimen,
        numbers=specimen.numbers[kept],
        positions=specimen.positions[kept],
        particle=specimen.particle[kept],
        thermal=specimen.thermal[kept],
    )


def build_specimen(record: SpecimenRecord) -> Specimen:
    """The atoms of a specimen.

    The film lies at low z, where the beam enters. A particle that lies deeper than its clearance of
    2 Å above the film, or on a rough one, displaces the film's atoms that are nearer than that to its convex
    hull. Particles are put down in their order; one that would share a place with an earlier one does what
    its `meeting` says. The cell's height is the content's with its margins, rounded up to a multiple of 2 Å.

    Parameters
    ----------
    record
        From `draw_specimen`, from `SpecimenRecord.from_json`, or written by hand.

    Returns
    -------
    Specimen
        The film's atoms first, then the particles' in order.

    Raises
    ------
    ParameterError
        If a film or a particle cannot be made, a particle is wider than the cell, or two particles overlap
        that were not told what to do then.

    Examples
    --------
    >>> specimen = build_specimen(draw_specimen(SpecimenRanges(), seed=3))
    >>> specimen.cell[:2], specimen.cell[2] % 2
    ((102.4, 102.4), 0.0)
    """
    period = np.array([*record.cell, 0.0])
    crystals = {m.name: m for m in record.materials}
    film = build_film(record.film)
    groups: list[Atoms] = []
    for i, particle in enumerate(record.particles, 1):
        made = build_particle(particle, crystals[particle.material])
        _refuse_too_wide(made, i, record.cell)
        foot = np.array([particle.x, particle.y, record.thickness - particle.depth - _lowest(made)])
        placed = settled(made, foot, groups, particle.meeting, period)
        if particle.depth > -CLEARANCE or record.roughness:
            near = near_hull(film.positions - placed.foot, made, period)
            film = some_atoms(film, ~near)
        groups.append(placed.atoms)
    low = min([0.0, *map(_lowest, groups), *([_lowest(film)] if len(film.numbers) else [])])
    high = max(
        [record.thickness, *(float(g.positions[:, 2].max()) for g in (film, *groups) if len(g.numbers))]
    )
    positions = np.concatenate([film.positions, *(g.positions for g in groups)])
    positions[:, 2] += record.margin - low
    positions[:, :2] = np.mod(positions[:, :2], period[:2])
    positions[:, :2][positions[:, :2] >= period[:2]] = 0.0  # np.mod rounds -1e-17 up to the period
    middles = [float(g.positions[:, 2].min() + g.positions[:, 2].max()) / 2 for g in groups]
    middle = float(np.mean(middles)) if middles else record.thickness / 2
    height = 2.0 * math.ceil((high - low + 2 * record.margin) / 2)
    return Specimen(
        numbers=np.concatenate([film.numbers, *(g.numbers for g in groups)]),
        positions=positions,
        particle=np.repeat(
            np.arange(len(groups) + 1, dtype=np.int32),
            [len(film.numbers), *(len(g.numbers) for g in groups)],
        ),
        thermal=np.concatenate([film.thermal, *(g.thermal for g in groups)]),
        cell=(*record.cell, max(height, 2.0)),
        focus_plane=middle + record.margin - low,
    )


def _lowest(atoms: Atoms) -> float:
    return float(atoms.positions[:, 2].min())


def _refuse_too_wide(atoms: Atoms, index: int, cell: tuple[float, float]) -> None:
    width = np.ptp(atoms.positions[:, :2], axis=0) + CLEARANCE
    if (width > np.array(cell)).any():
        raise ParameterError(
            f"particle {index} is {width[0]:.1f} x {width[1]:.1f} Å wide as it is turned, with {CLEARANCE} Å "
            f"to its own image; the cell of {cell[0]:g} x {cell[1]:g} Å is too small: enlarge it"
        )
