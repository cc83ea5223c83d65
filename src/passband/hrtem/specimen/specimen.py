"""Specimens for HRTEM: nanoparticles on or in amorphous carbon.

Draw, record, apply: `draw_specimen` makes a `SpecimenRecord`, plain numbers and seeds; `build_specimen`
turns a record into atoms, the same bit for bit each time.

The beam travels towards +z: first through the carbon, whose atoms do not depend on the particles that
rest on it, then through the particles. The cell is periodic in x and y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int, Int32
from scipy.spatial import ConvexHull, cKDTree

from passband.errors import ParameterError
from passband.hrtem.specimen.amorphous import amorphous_carbon
from passband.hrtem.specimen.crystals import B_TO_U, HEAVIEST, Atoms, Material, zone_directions
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import (
    CLEARANCE,
    MULTIPLE_TWINS,
    Particle,
    build_particle,
)
from passband.hrtem.specimen.placing import near_zone_rotation, place_discs, uniform_rotation
from passband.hrtem.specimen.record import SpecimenRanges, SpecimenRecord
from passband.hrtem.specimen.stacking import Fault, layer_distance

__all__ = [
    "Specimen",
    "SpecimenRanges",
    "SpecimenRecord",
    "build_specimen",
    "draw_specimen",
    "isolate",
]

CARBON_DEBYE_WALLER = 0.6
"""B of the substrate's atoms at room temperature, Å²; an ordinary value, none is agreed on."""
_REDRAWS = 40
_FAULT_SPACING = 3.0  # layers between two faults, so that each stays what it is


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


def draw_specimen(ranges: SpecimenRanges, seed: int) -> SpecimenRecord:
    """Draw the record of one specimen.

    A draw whose particles find no room in the cell is drawn again, so crowded specimens are rarer than
    `count` and `diameters` alone would make them.

    Parameters
    ----------
    ranges
        What to draw from.
    seed
        0 or more; each seed gives another specimen on another carbon film, the same each time.

    Returns
    -------
    SpecimenRecord
        To be given to `build_specimen`.

    Raises
    ------
    ParameterError
        If the particles of forty draws in a row find no room.

    Examples
    --------
    >>> record = draw_specimen(SpecimenRanges(count=(2, 2)), seed=1)
    >>> len(record.particles), record == draw_specimen(SpecimenRanges(count=(2, 2)), seed=1)
    (2, True)
    """
    if seed < 0:
        raise ParameterError(f"a specimen's seed must be 0 or more, got {seed}")
    rng = np.random.default_rng([seed, 0x5])
    substrate_seed = int(rng.integers(2**62))
    for _ in range(_REDRAWS):
        material = MATERIALS[str(rng.choice(ranges.materials))]
        thickness = float(rng.uniform(*ranges.thickness))
        particles = [
            _draw_particle(ranges, material, thickness, rng)
            for _ in range(rng.integers(ranges.count[0], ranges.count[1] + 1))
        ]
        outlines = np.array([_outline_radius(build_particle(p, material)) for p in particles])
        places = place_discs(outlines, ranges.cell, ranges.least_distance, rng)
        if places is not None:
            return SpecimenRecord(
                cell=ranges.cell,
                thickness=thickness,
                density=ranges.density,
                substrate_seed=substrate_seed,
                margin=ranges.margin,
                particles=tuple(
                    replace(p, x=float(x), y=float(y)) for p, (x, y) in zip(particles, places, strict=True)
                ),
                materials=(material,) if particles else (),
            )
    raise ParameterError(
        f"{ranges.count[0]} to {ranges.count[1]} particles of {ranges.diameters[0]:g} to "
        f"{ranges.diameters[1]:g} Å, {ranges.least_distance:g} Å apart, found no room in a cell of "
        f"{ranges.cell[0]:g} x {ranges.cell[1]:g} Å in {_REDRAWS} draws: draw fewer or smaller ones, or "
        "enlarge the cell"
    )


def _draw_particle(
    ranges: SpecimenRanges, material: Material, thickness: float, rng: np.random.Generator
) -> Particle:
    """A particle without a place."""
    shape = str(rng.choice([s for s in ranges.shapes if s in material.shapes]))
    diameter = float(rng.uniform(*ranges.diameters))
    zone = None
    if rng.random() < ranges.near_zone_share:
        zone = (0, 0, 1) if shape in MULTIPLE_TWINS else material.zones[rng.integers(len(material.zones))]
        axes = np.eye(3)[2:] if shape in MULTIPLE_TWINS else zone_directions(material, zone)
        rotation = near_zone_rotation(axes, ranges.near_zone_tilt, rng)
    else:
        rotation = uniform_rotation(rng)
    gap = float(rng.uniform(*ranges.gap))
    embedded = rng.random() < ranges.embedded_share
    depth = float(rng.uniform(0, min(diameter, thickness))) if embedded else -gap
    return Particle(
        material=material.name,
        shape=shape,
        diameter=diameter,
        x=0.0,
        y=0.0,
        depth=depth,
        rotation=rotation,
        offset=(float(rng.random()), float(rng.random()), float(rng.random())),
        faults=_draw_faults(ranges, material, shape, diameter, rng),
        zone=zone,
    )


def _draw_faults(
    ranges: SpecimenRanges, material: Material, shape: str, diameter: float, rng: np.random.Generator
) -> tuple[Fault, ...]:
    """Faults well inside the particle and apart from each other; fewer where it is too small for all."""
    kinds = [k for k in material.faults if ranges.faults is None or k in ranges.faults]
    wanted = int(rng.integers(ranges.fault_count[0], ranges.fault_count[1] + 1))
    if not kinds or shape in MULTIPLE_TWINS:
        return ()
    faults: list[Fault] = []
    for _ in range(20 * wanted):
        height = float(rng.uniform(-0.35, 0.35)) * diameter
        if all(abs(height - f.height) > _FAULT_SPACING * layer_distance(material) for f in faults):
            faults.append(Fault(kind=str(rng.choice(kinds)), height=height))
        if len(faults) == wanted:
            break
    return tuple(sorted(faults, key=lambda f: f.height))


def build_specimen(record: SpecimenRecord) -> Specimen:
    """The atoms of a specimen.

    The carbon lies at low z, where the beam enters. A particle that lies deeper than its clearance of
    2 Å above the carbon displaces the carbon atoms that are nearer than that to its convex hull. The
    cell's height is the content's with its margins, rounded up to a multiple of 2 Å.

    Parameters
    ----------
    record
        From `draw_specimen`, from `SpecimenRecord.from_json`, or written by hand.

    Returns
    -------
    Specimen
        The carbon's atoms first, then the particles' in order.

    Raises
    ------
    ParameterError
        If a particle cannot be made, is wider than the cell, or two particles overlap.

    Examples
    --------
    >>> specimen = build_specimen(draw_specimen(SpecimenRanges(), seed=3))
    >>> specimen.cell[:2], specimen.cell[2] % 2
    ((102.4, 102.4), 0.0)
    """
    period = np.array([*record.cell, 0.0])
    crystals = {m.name: m for m in record.materials}
    carbon = np.empty((0, 3))
    if record.thickness > 0:
        extent = (*record.cell, record.thickness)
        carbon = amorphous_carbon(extent, seed=record.substrate_seed, density=record.density)
    groups: list[Atoms] = []
    for i, particle in enumerate(record.particles, 1):
        made = build_particle(particle, crystals[particle.material])
        _refuse_too_wide(made, i, record.cell)
        lift = record.thickness - particle.depth - float(made.positions[:, 2].min())
        if particle.depth > -CLEARANCE:
            centre = np.array([particle.x, particle.y, lift])
            carbon = carbon[~_displaced(carbon - centre, made, period)]
        placed = made.positions + np.array([particle.x, particle.y, lift])
        groups.append(replace(made, positions=placed))
    _refuse_overlaps(groups, period)
    low = min([0.0, *(float(g.positions[:, 2].min()) for g in groups)])
    high = max([record.thickness, *(float(g.positions[:, 2].max()) for g in groups)])
    positions = np.concatenate([carbon, *(g.positions for g in groups)])
    positions[:, 2] += record.margin - low
    positions[:, :2] = np.mod(positions[:, :2], period[:2])
    positions[:, :2][positions[:, :2] >= period[:2]] = 0.0  # np.mod rounds -1e-17 up to the period
    middles = [float(g.positions[:, 2].min() + g.positions[:, 2].max()) / 2 for g in groups]
    middle = float(np.mean(middles)) if middles else record.thickness / 2
    height = 2.0 * math.ceil((high - low + 2 * record.margin) / 2)
    return Specimen(
        numbers=np.concatenate([np.full(len(carbon), 6), *(g.numbers for g in groups)]),
        positions=positions,
        particle=np.repeat(
            np.arange(len(groups) + 1, dtype=np.int32), [len(carbon), *(len(g.numbers) for g in groups)]
        ),
        thermal=np.concatenate(
            [np.full(len(carbon), CARBON_DEBYE_WALLER * B_TO_U), *(g.thermal for g in groups)]
        ),
        cell=(*record.cell, max(height, 2.0)),
        focus_plane=middle + record.margin - low,
    )


def _outline_radius(atoms: Atoms) -> float:
    """Of the circle about the centre that holds the particle as the beam sees it."""
    return float(np.hypot(atoms.positions[:, 0], atoms.positions[:, 1]).max())


def _displaced(
    carbon: Float64[np.ndarray, "n 3"], atoms: Atoms, period: Float64[np.ndarray, 3]
) -> np.ndarray:
    """Which carbon atoms, relative to a particle's centre, are too near to its convex hull."""
    flat = carbon[:, :2] - period[:2] * np.round(carbon[:, :2] / period[:2])
    relative = np.column_stack([flat, carbon[:, 2]])
    reach = float(np.linalg.norm(atoms.positions, axis=1).max()) + CLEARANCE
    near = np.flatnonzero((relative**2).sum(1) < reach**2)
    faces = ConvexHull(atoms.positions).equations
    outside = (relative[near] @ faces[:, :3].T + faces[:, 3] > CLEARANCE).any(1)
    displaced = np.zeros(len(carbon), bool)
    displaced[near[~outside]] = True
    return displaced


def _refuse_too_wide(atoms: Atoms, index: int, cell: tuple[float, float]) -> None:
    width = np.ptp(atoms.positions[:, :2], axis=0) + CLEARANCE
    if (width > np.array(cell)).any():
        raise ParameterError(
            f"particle {index} is {width[0]:.1f} x {width[1]:.1f} Å wide as it is turned, with {CLEARANCE} Å "
            f"to its own image; the cell of {cell[0]:g} x {cell[1]:g} Å is too small: enlarge it"
        )


def _refuse_overlaps(groups: list[Atoms], period: Float64[np.ndarray, 3]) -> None:
    """Refuse particles that share a place; what a hand-written record may ask for."""
    wrapped = []
    for g in groups:
        r = g.positions.copy()
        r[:, :2] = np.mod(r[:, :2], period[:2])
        r[:, :2][r[:, :2] >= period[:2]] = 0.0
        wrapped.append(r)
    for i, first in enumerate(wrapped):
        tree = cKDTree(first, boxsize=period)
        for j, second in enumerate(wrapped[:i]):
            distances, _ = tree.query(second, distance_upper_bound=CLEARANCE)
            nearest = float(np.min(distances))
            if nearest < CLEARANCE:
                raise ParameterError(
                    f"particles {j + 1} and {i + 1} overlap: two of their atoms are {nearest:.2f} Å apart, "
                    f"wanted {CLEARANCE} Å or more; move one of them"
                )
