"""What a specimen is drawn from, and the record of the draw: plain numbers and seeds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from passband.errors import ParameterError
from passband.hrtem.specimen.amorphous import DENSITY
from passband.hrtem.specimen.crystals import Material, Site
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import CLEARANCE, Particle
from passband.hrtem.specimen.stacking import Fault

FORMAT = 1
MOST_ATOMS = 5_000_000


@dataclass(frozen=True, kw_only=True)
class SpecimenRanges:
    """What specimens are drawn from; a pair is (lowest, highest), drawn uniformly.

    Parameters
    ----------
    materials
        Names in `MATERIALS`; one is drawn for each specimen.
    shapes
        One is drawn for each particle, of those that its material has.
    diameters
        Of the spheres of equal volume, Å.
    count
        Particles in a specimen.
    cell
        Its extent in x and y, Å.
    thickness
        Of the carbon, Å; 0 for none.
    density
        Of the carbon, atoms/Å³.
    least_distance
        Between the outlines of two particles as the beam sees them, Å.
    near_zone_share
        Probability that a particle's orientation is drawn near a low-index zone axis; the others are
        uniform on SO(3), where fewer than 3 in 100 come near one.
    near_zone_tilt
        Greatest angle between the beam and that axis, rad.
    faults
        Kinds of planar faults, of which a particle takes those that its material has; None for all.
    fault_count
        Planar faults in a particle, all on parallel planes.
    gap
        Between the carbon's face and the lowest atom of a particle that rests on it, Å.
    embedded_share
        Probability that a particle lies in the carbon instead, by up to its diameter.
    margin
        Vacuum above and below, Å.

    Raises
    ------
    ParameterError
        Naming every fault of the values.

    Examples
    --------
    >>> SpecimenRanges(materials=("Au", "Ag"), shapes=("decahedron",), count=(1, 3)).faults is None
    True
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}  # a misspelt key is an error

    materials: tuple[str, ...] = ("CdSe",)
    shapes: tuple[str, ...] = ("sphere",)
    diameters: tuple[float, float] = (30.0, 50.0)
    count: tuple[int, int] = (1, 5)
    cell: tuple[float, float] = (102.4, 102.4)
    thickness: tuple[float, float] = (20.0, 80.0)
    density: float = DENSITY
    least_distance: float = 10.0
    near_zone_share: float = 0.3
    near_zone_tilt: float = math.radians(5)
    faults: tuple[str, ...] | None = None
    fault_count: tuple[int, int] = (0, 2)
    gap: tuple[float, float] = (2.0, 3.0)
    embedded_share: float = 0.0
    margin: float = 4.0

    def __post_init__(self) -> None:
        wrong = []
        lowest = {"diameters": 5.0, "count": 0, "thickness": 0.0, "fault_count": 0, "gap": 0.0}
        for name, least in lowest.items():
            low, high = getattr(self, name)
            if not (math.isfinite(high) and least <= low <= high):
                wrong.append(f"{name} must be (lowest, highest) of {least:g} or more, got {(low, high)}")
        for name in ("near_zone_share", "embedded_share"):
            if not 0 <= getattr(self, name) <= 1:
                wrong.append(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.near_zone_tilt <= math.pi / 2:
            wrong.append(f"near_zone_tilt must be 0 to pi/2 rad, got {self.near_zone_tilt}")
        if not all(math.isfinite(v) and v >= CLEARANCE for v in (*self.cell, self.least_distance)):
            wrong.append(
                f"cell and least_distance must be {CLEARANCE} Å or more, got {self.cell} and "
                f"{self.least_distance}"
            )
        if not (math.isfinite(self.margin) and self.margin >= 0):
            wrong.append(f"margin must be 0 Å or more, got {self.margin}")
        if not (math.isfinite(self.density) and self.density > 0):
            wrong.append(f"density must be above 0 atoms/Å³, got {self.density}")
        wrong += self._unmatched()
        if wrong:
            raise ParameterError(f"specimen ranges: {'; '.join(wrong)}")

    def _unmatched(self) -> list[str]:
        """Materials, shapes and faults that do not go together."""
        if not self.materials or not self.shapes:
            return ["name at least one material and one shape"]
        unknown = [m for m in self.materials if m not in MATERIALS]
        if unknown:
            return [f"no material {', '.join(map(repr, unknown))}; wanted some of {', '.join(MATERIALS)}"]
        wrong = []
        chosen = [MATERIALS[m] for m in self.materials]
        for m in chosen:
            if not set(m.shapes) & set(self.shapes):
                wrong.append(f"{m.name} has none of the shapes {self.shapes}; it has {', '.join(m.shapes)}")
        for shape in sorted(set(self.shapes) - {s for m in chosen for s in m.shapes}):
            wrong.append(f"shape {shape!r} goes with none of {', '.join(self.materials)}")
        for fault in sorted(set(self.faults or ()) - {f for m in chosen for f in m.faults}):
            wrong.append(f"fault {fault!r} goes with none of {', '.join(self.materials)}")
        return wrong


@dataclass(frozen=True, kw_only=True)
class SpecimenRecord:
    """Everything that a specimen follows from.

    Parameters
    ----------
    cell
        Extent in x and y, Å; z follows from the content.
    thickness, density, substrate_seed
        Of the amorphous carbon: Å, atoms/Å³, and the seed of its atoms.
    margin
        Vacuum above and below, Å.
    particles
        What lies on it.
    materials
        The crystals that the particles name, in full: a record does not change when `MATERIALS` does.

    Raises
    ------
    ParameterError
        Naming every fault of the values.

    Examples
    --------
    >>> ball = Particle(material="Au", diameter=30.0, x=32.0, y=32.0)
    >>> record = SpecimenRecord(
    ...     cell=(64.0, 64.0), thickness=20.0, particles=(ball,), materials=(MATERIALS["Au"],)
    ... )
    >>> SpecimenRecord.from_json(record.to_json()) == record
    True
    """

    cell: tuple[float, float]
    thickness: float
    density: float = DENSITY
    substrate_seed: int = 0
    margin: float = 4.0
    particles: tuple[Particle, ...] = ()
    materials: tuple[Material, ...] = ()

    def __post_init__(self) -> None:
        wrong = []
        if not all(math.isfinite(v) and v > 0 for v in self.cell):
            wrong.append(f"the cell must be positive lengths in Å, got {self.cell}")
        if not (math.isfinite(self.thickness) and self.thickness >= 0):
            wrong.append(f"the thickness must be 0 Å or more, got {self.thickness}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            wrong.append(f"the margin must be 0 Å or more, got {self.margin}")
        if not self.particles and not self.thickness:
            wrong.append("it holds neither particles nor carbon")
        if self.substrate_seed < 0:
            wrong.append(f"the seed must be 0 or more, got {self.substrate_seed}")
        missing = {p.material for p in self.particles} - {m.name for m in self.materials}
        if missing:
            wrong.append(f"materials holds no {', '.join(sorted(missing))}")
        if wrong:
            raise ParameterError(f"specimen record: {'; '.join(wrong)}")
        if math.prod(self.cell) * self.thickness * self.density > MOST_ATOMS:
            raise ParameterError(
                f"specimen record: a carbon film of {self.cell} x {self.thickness} Å holds more than "
                f"{MOST_ATOMS:,} atoms; make the cell smaller or the film thinner"
            )

    def to_json(self) -> str:
        """The record as one line of JSON; floats keep every bit."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> SpecimenRecord:
        """The record that `to_json` wrote.

        Raises
        ------
        ParameterError
            If the text is not such a record.
        """
        try:
            d: dict[str, Any] = _tuples(json.loads(text))
            if d.pop("format") != FORMAT:
                raise ParameterError(f"specimen record of another format; this version reads {FORMAT}")
            d["particles"] = tuple(
                Particle(**{**p, "faults": tuple(Fault(**f) for f in p["faults"])}) for p in d["particles"]
            )
            d["materials"] = tuple(
                Material(**{**m, "sites": tuple(Site(**s) for s in m["sites"])}) for m in d["materials"]
            )
            return cls(**d)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as e:
            raise ParameterError(f"not a specimen record as SpecimenRecord.to_json writes it: {e!r}") from e


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, all the way down."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value
