"""What a specimen is drawn from, and the record of the draw: plain numbers and seeds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import Material, Site
from passband.hrtem.specimen.films import FILMS, Film, Hole, density_limits
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import CLEARANCE, Particle
from passband.hrtem.specimen.stacking import Fault
from passband.hrtem.specimen.surfaces import Surface

FORMAT = 2
MOST_ATOMS = 5_000_000


_LIMITS = {
    "diameters": (5.0, math.inf),
    "count": (0, math.inf),
    "thickness": (0.0, math.inf),
    "fault_count": (0, math.inf),
    "gap": (0.0, math.inf),
    "layers": (1, 20),
    "roughness": (0.0, 20.0),
    "wedge": (0.0, 0.9),
    "holes": (0, 100),
    "hole_diameters": (5.0, math.inf),
    "rounding": (0.0, 1.0),
    "surface_roughness": (0.0, 5.0),
    "disorder": (0.0, 1.0),
}
"""Of the ends of each pair."""


@dataclass(frozen=True, kw_only=True)
class SpecimenRanges:
    """What specimens are drawn from; a pair is (lowest, highest), drawn uniformly.

    Parameters
    ----------
    materials
        Names in `MATERIALS` or of `crystals`; one is drawn for each specimen.
    crystals
        Further materials. In a study's TOML file a table of names and CIF files, as in
        ``crystals = {Pt = "Pt.cif"}``; a path is relative to the TOML file.
    mixed_share
        Probability that the particles of a specimen are each of a material of their own.
    shapes
        One is drawn for each particle, of those that its material has.
    diameters
        Of the spheres of equal volume, Å.
    size_spread
        0 for diameters drawn uniformly. Above, they are log-normal with this standard deviation of the
        logarithm about the geometric mean of the pair, and those outside it are drawn again.
    count
        Particles in a specimen.
    cell
        Its extent in x and y, Å; both are periods.
    field
        What images and labels show of it, in its middle, Å; None for the whole cell, where what leaves an
        image on one side enters it on the other.
    substrates
        Films, of which one is drawn for each specimen: "carbon", "silicon nitride", "graphene", "MgO",
        "none", or "packed carbon", the random packing of the first version.
    thickness
        Of the film, Å; 0 for none. Graphene has `layers` instead.
    layers
        Sheets of graphene.
    density
        Of an amorphous film, atoms/Å³; None for its usual one: 0.11 for carbon, 0.090 for silicon nitride.
        A network can be stretched or pressed by a seventh: 0.095 to 0.128 for carbon.
    roughness
        Root mean square height of the film's faces, Å; by as much graphene is bent.
    wedge
        How much thinner and thicker than its mean the film is at its ends, as a share; it rises and falls
        once across the cell.
    holes
        How many there are in the film; none is where a particle would lose its hold.
    hole_diameters
        Å.
    least_distance
        Between the outlines of two particles as the beam sees them, Å: one number, or a pair that is drawn
        from for each specimen. At 0 outlines may touch, below 0 they may overlap by as much.
    touching_share
        Probability that a particle is put against an earlier one, at just the least distance.
    grown_share
        Probability that a particle that would share a place with an earlier one is grown together with it;
        otherwise it is lifted until it lies upon that one.
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
        Between the film's face and the lowest atom of a particle that rests on it, Å.
    embedded_share
        Probability that a particle lies in the film instead, by up to its diameter.
    rounding, surface_roughness, disorder
        Of the particles' surfaces: 0 for sharp to 1 for a sphere, Å, Å; see `surfaces.Surface`.
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
    density: float | None = None
    least_distance: float | tuple[float, float] = 10.0
    near_zone_share: float = 0.3
    near_zone_tilt: float = math.radians(5)
    faults: tuple[str, ...] | None = None
    fault_count: tuple[int, int] = (0, 2)
    gap: tuple[float, float] = (2.0, 3.0)
    embedded_share: float = 0.0
    margin: float = 4.0
    crystals: tuple[Material, ...] = ()
    mixed_share: float = 0.0
    size_spread: float = 0.0
    field: tuple[float, float] | None = None
    substrates: tuple[str, ...] = ("carbon",)
    layers: tuple[int, int] = (1, 3)
    roughness: tuple[float, float] = (0.0, 0.0)
    wedge: tuple[float, float] = (0.0, 0.0)
    holes: tuple[int, int] = (0, 0)
    hole_diameters: tuple[float, float] = (20.0, 60.0)
    touching_share: float = 0.0
    grown_share: float = 0.5
    rounding: tuple[float, float] = (0.0, 0.0)
    surface_roughness: tuple[float, float] = (0.0, 0.0)
    disorder: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        wrong = []
        for name, (least, most) in _LIMITS.items():
            low, high = getattr(self, name)
            if not (math.isfinite(high) and least <= low <= high <= most):
                upto = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
                wrong.append(f"{name} must be (lowest, highest) of {upto}, got {(low, high)}")
        for name in ("near_zone_share", "embedded_share", "mixed_share", "touching_share", "grown_share"):
            if not 0 <= getattr(self, name) <= 1:
                wrong.append(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.near_zone_tilt <= math.pi / 2:
            wrong.append(f"near_zone_tilt must be 0 to pi/2 rad, got {self.near_zone_tilt}")
        if not 0 <= self.size_spread <= 2:
            wrong.append(f"size_spread must be 0 to 2, got {self.size_spread}")
        if not all(math.isfinite(v) and v >= CLEARANCE for v in self.cell):
            wrong.append(f"cell must be {CLEARANCE} Å or more, got {self.cell}")
        low, high = self.distances
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            wrong.append(f"least_distance must be Å or (lowest, highest), got {self.least_distance}")
        elif low < -self.diameters[0] / 2:
            wrong.append(
                "least_distance must be at most half the smallest diameter below 0, "
                f"-{self.diameters[0] / 2:g} Å, got {low:g}"
            )
        if self.field is not None and not all(0 < f <= c for f, c in zip(self.field, self.cell, strict=True)):
            wrong.append(f"field must be above 0 and at most the cell {self.cell} Å, got {self.field}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            wrong.append(f"margin must be 0 Å or more, got {self.margin}")
        wrong += self._film_faults()
        wrong += self._unmatched()
        if wrong:
            raise ParameterError(f"specimen ranges: {'; '.join(wrong)}")

    @property
    def distances(self) -> tuple[float, float]:
        """Lowest and highest of the least distance between outlines, Å."""
        d = self.least_distance
        return d if isinstance(d, tuple) else (d, d)

    @property
    def known(self) -> dict[str, Material]:
        """Every material that can be named: those of `MATERIALS`, and `crystals` over them."""
        return MATERIALS | {m.name: m for m in self.crystals}

    @property
    def overlapping(self) -> bool:
        """Whether outlines of particles may overlap."""
        return self.distances[0] < 0

    def _film_faults(self) -> list[str]:
        """What is wrong with the films."""
        if not self.substrates:
            return [f"name at least one of the substrates {', '.join(FILMS)}"]
        unknown = [s for s in self.substrates if s not in FILMS]
        if unknown:
            return [f"no substrate {', '.join(map(repr, unknown))}; wanted some of {', '.join(FILMS)}"]
        wrong = []
        if self.count[0] == 0 and ("none" in self.substrates or self.thickness[1] == 0):
            where = '"none" among substrates' if self.thickness[1] else "a thickness of 0"
            wrong.append(f"{where} and count from 0 leave no atom at all; let count begin at 1")
        if self.density is not None:
            for kind in self.substrates:
                limits = density_limits(kind)
                if limits and not limits[0] < self.density <= limits[1]:
                    least, most = limits
                    wrong.append(
                        f"density of {kind} must be {least:.3f} to {most:.3f} atoms/Å³, got {self.density}; "
                        'leave it out for the usual one, or take "packed carbon"'
                    )
        return wrong

    def _unmatched(self) -> list[str]:
        """Materials, shapes and faults that do not go together."""
        if not self.materials or not self.shapes:
            return ["name at least one material and one shape"]
        known = self.known
        unknown = [m for m in self.materials if m not in known]
        if unknown:
            return [f"no material {', '.join(map(repr, unknown))}; wanted some of {', '.join(known)}"]
        wrong = []
        for name in sorted({m.name for m in self.crystals} - set(self.materials)):
            wrong.append(
                f"crystal {name!r} is not among the materials {', '.join(self.materials)}; name it there"
            )
        chosen = [known[m] for m in self.materials]
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
        Of the film: Å, atoms/Å³ (None for the usual), and the seed of its atoms.
    margin
        Vacuum above and below, Å.
    particles
        What lies on it.
    materials
        The crystals that the particles name, in full: a record does not change when `MATERIALS` does.
    substrate
        What the film is, a key of `films.FILMS`.
    roughness, wedge, holes
        Of the film, as in `films.Film`.
    least_distance
        That outlines of its particles were to keep, Å, where it was drawn or lets them touch; else None.

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
    density: float | None = None
    substrate_seed: int = 0
    margin: float = 4.0
    particles: tuple[Particle, ...] = ()
    materials: tuple[Material, ...] = ()
    substrate: str = "carbon"
    roughness: float = 0.0
    wedge: float = 0.0
    holes: tuple[Hole, ...] = ()
    least_distance: float | None = None

    def __post_init__(self) -> None:
        wrong = []
        if self.substrate not in FILMS:
            wrong.append(f"no substrate {self.substrate!r}; wanted one of {', '.join(FILMS)}")
        if not (self.roughness >= 0 and 0 <= self.wedge <= 0.9):
            wrong.append(
                f"roughness must be 0 Å or more and wedge 0 to 0.9, got {self.roughness} and {self.wedge}"
            )
        if not all(math.isfinite(v) and v > 0 for v in self.cell):
            wrong.append(f"the cell must be positive lengths in Å, got {self.cell}")
        if not (math.isfinite(self.thickness) and self.thickness >= 0):
            wrong.append(f"the thickness must be 0 Å or more, got {self.thickness}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            wrong.append(f"the margin must be 0 Å or more, got {self.margin}")
        if not self.particles and (not self.thickness or self.substrate == "none"):
            wrong.append("it holds neither particles nor a film")
        if self.substrate_seed < 0:
            wrong.append(f"the seed must be 0 or more, got {self.substrate_seed}")
        missing = {p.material for p in self.particles} - {m.name for m in self.materials}
        if missing:
            wrong.append(f"materials holds no {', '.join(sorted(missing))}")
        if wrong:
            raise ParameterError(f"specimen record: {'; '.join(wrong)}")
        if math.prod(self.cell) * self.thickness * (self.density or 0.11) > MOST_ATOMS:
            raise ParameterError(
                f"specimen record: a film of {self.cell} x {self.thickness} Å holds more than "
                f"{MOST_ATOMS:,} atoms; make the cell smaller or the film thinner"
            )

    @property
    def film(self) -> Film:
        """What the particles lie on."""
        return Film(
            kind=self.substrate,
            cell=self.cell,
            thickness=self.thickness,
            density=self.density,
            seed=self.substrate_seed,
            roughness=self.roughness,
            wedge=self.wedge,
            holes=self.holes,
        )

    def to_json(self) -> str:
        """The record as one line of JSON; floats keep every bit.

        What the first format can say is written in it, so that its hash stays.
        """
        tree = asdict(self)
        first = {k: v for k, v in tree.items() if k not in _SECOND}
        first["particles"] = tuple(
            {k: v for k, v in p.items() if k not in _SECOND_OF_A_PARTICLE} for p in first["particles"]
        )
        if self.density is not None and _from_tree({"format": 1, **first}) == self:
            return json.dumps({"format": 1, **first})
        return json.dumps({"format": FORMAT, **tree})

    @classmethod
    def from_json(cls, text: str) -> SpecimenRecord:
        """The record that `to_json` wrote.

        Raises
        ------
        ParameterError
            If the text is not such a record.
        """
        try:
            return _from_tree(_tuples(json.loads(text)))
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as e:
            raise ParameterError(f"not a specimen record as SpecimenRecord.to_json writes it: {e!r}") from e


_SECOND = ("substrate", "roughness", "wedge", "holes", "least_distance")
_SECOND_OF_A_PARTICLE = ("surface", "meeting")
"""What the first format does not know."""


def _from_tree(tree: dict[str, Any]) -> SpecimenRecord:
    """A record from JSON's values; the carbon of the first format is packed."""
    d = dict(tree)
    version = d.pop("format")
    if version not in (1, FORMAT):
        raise ParameterError(f"specimen record of another format; this version reads 1 and {FORMAT}")
    if version == 1:
        d["substrate"] = "packed carbon"
    d["holes"] = tuple(Hole(**h) for h in d.get("holes", ()))
    d["particles"] = tuple(_particle(p) for p in d["particles"])
    d["materials"] = tuple(
        Material(**{**m, "sites": tuple(Site(**s) for s in m["sites"])}) for m in d["materials"]
    )
    return SpecimenRecord(**d)


def _particle(p: dict[str, Any]) -> Particle:
    surface = {"surface": Surface(**p["surface"])} if "surface" in p else {}
    return Particle(**{**p, "faults": tuple(Fault(**f) for f in p["faults"]), **surface})


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, all the way down."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value
