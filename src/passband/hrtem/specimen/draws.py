"""Drawing specimens: which film, which particles, where they lie and how they are turned."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import Atoms, Material, zone_directions
from passband.hrtem.specimen.films import LAYER, Hole
from passband.hrtem.specimen.nanoparticles import CLEARANCE, MULTIPLE_TWINS, Meeting, Particle, build_particle
from passband.hrtem.specimen.placing import near_zone_rotation, place_discs, press_together, uniform_rotation
from passband.hrtem.specimen.record import SpecimenRanges, SpecimenRecord
from passband.hrtem.specimen.stacking import Fault, layer_distance
from passband.hrtem.specimen.surfaces import Surface

_REDRAWS = 40
_FAULT_SPACING = 3.0  # layers between two faults, so that each stays what it is


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
    more = np.random.default_rng([seed, 0x6])  # of what the first version did not draw
    known = ranges.known
    substrate_seed = int(rng.integers(2**62))
    for _ in range(_REDRAWS):
        main = known[str(rng.choice(ranges.materials))]
        mixed = more.random() < ranges.mixed_share
        thickness = float(rng.uniform(*ranges.thickness))
        substrate = str(more.choice(ranges.substrates))
        if substrate == "graphene":
            thickness = LAYER * int(more.integers(ranges.layers[0], ranges.layers[1] + 1))
        elif substrate == "none":
            thickness = 0.0
        particles, outlines = [], []
        for _ in range(rng.integers(ranges.count[0], ranges.count[1] + 1)):
            material = known[str(more.choice(ranges.materials))] if mixed else main
            plain = _draw_particle(ranges, material, thickness, rng)
            particles.append(_draw_surface(plain, ranges, more))
            outlines.append(_outline_radius(build_particle(particles[-1], material)))
        apart = float(more.uniform(*ranges.distances))
        places = place_discs(np.array(outlines), ranges.cell, apart, rng)
        if places is None:
            continue
        if ranges.touching_share:
            pressed = more.random(len(places)) < ranges.touching_share
            places = press_together(places, np.array(outlines), ranges.cell, apart, pressed, more)
        particles = [
            replace(p, x=float(x), y=float(y), meeting=_meeting(ranges, apart, more))
            for p, (x, y) in zip(particles, places, strict=True)
        ]
        used = {p.material for p in particles}
        return SpecimenRecord(
            cell=ranges.cell,
            thickness=thickness,
            density=ranges.density,
            substrate_seed=substrate_seed,
            margin=ranges.margin,
            particles=tuple(particles),
            materials=tuple(m for name, m in known.items() if name in used),
            substrate=substrate,
            roughness=float(more.uniform(*ranges.roughness)),
            wedge=float(more.uniform(*ranges.wedge)),
            holes=_draw_holes(ranges, particles, more),
            least_distance=apart if apart < CLEARANCE or ranges.distances[0] < ranges.distances[1] else None,
        )
    raise ParameterError(
        f"{ranges.count[0]} to {ranges.count[1]} particles of {ranges.diameters[0]:g} to "
        f"{ranges.diameters[1]:g} Å, {ranges.distances[0]:g} Å apart or more, found no room in a cell of "
        f"{ranges.cell[0]:g} x {ranges.cell[1]:g} Å in {_REDRAWS} draws: draw fewer or smaller ones, or "
        "enlarge the cell"
    )


def _draw_particle(
    ranges: SpecimenRanges, material: Material, thickness: float, rng: np.random.Generator
) -> Particle:
    """A particle without a place."""
    shape = str(rng.choice([s for s in ranges.shapes if s in material.shapes]))
    diameter = _draw_diameter(ranges, rng)
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


def _draw_diameter(ranges: SpecimenRanges, rng: np.random.Generator) -> float:
    low, high = ranges.diameters
    if not ranges.size_spread or low == high:
        return float(rng.uniform(low, high))
    while True:
        diameter = math.sqrt(low * high) * math.exp(rng.normal(0, ranges.size_spread))
        if low <= diameter <= high:
            return float(diameter)


def _draw_surface(particle: Particle, ranges: SpecimenRanges, rng: np.random.Generator) -> Particle:
    """The particle with its surface."""
    drawn = [float(rng.uniform(*r)) for r in (ranges.rounding, ranges.surface_roughness, ranges.disorder)]
    if not any(drawn):
        return particle
    rounding, roughness, disorder = drawn
    surface = Surface(
        rounding=rounding,
        roughness=min(roughness, particle.diameter / 8),
        disorder=disorder,
        seed=int(rng.integers(2**53)),
    )
    return replace(particle, surface=surface)


def _meeting(ranges: SpecimenRanges, apart: float, rng: np.random.Generator) -> Meeting:
    """What a particle does where it meets another; nothing where none can."""
    grown = rng.random() < ranges.grown_share
    if apart >= CLEARANCE:
        return ""
    return "grow" if grown else "rest"


def _draw_holes(
    ranges: SpecimenRanges, particles: list[Particle], rng: np.random.Generator
) -> tuple[Hole, ...]:
    """Holes that no particle's middle lies over; fewer where there is no room."""
    holes = []
    period = np.array(ranges.cell)
    for _ in range(rng.integers(ranges.holes[0], ranges.holes[1] + 1)):
        for _ in range(50):
            diameter = float(rng.uniform(*ranges.hole_diameters))
            x, y = (float(v) for v in rng.random(2) * period)
            away = np.array([(p.x - x, p.y - y) for p in particles]).reshape(-1, 2)
            away -= period * np.round(away / period)
            if (np.hypot(away[:, 0], away[:, 1]) > 0.6 * diameter).all():
                holes.append(Hole(x=x, y=y, diameter=diameter))
                break
    return tuple(holes)


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


def _outline_radius(atoms: Atoms) -> float:
    """Of the circle about the centre that holds the particle as the beam sees it."""
    return float(np.hypot(atoms.positions[:, 0], atoms.positions[:, 1]).max())
