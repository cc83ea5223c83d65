"""Crystals: cell, sites, symmetry, and what can be cut from them.

A material is a crystal's space group, lattice constants and sites, with a Debye-Waller factor for each
site. Where its atoms lie on close-packed layers (fcc, diamond, zinc blende, wurtzite) it also says how
those are stacked, which is what twins and stacking faults change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from passband.errors import ParameterError
from passband.types import Vector

if TYPE_CHECKING:
    import ase

Miller = tuple[int, int, int]
Stacking = Literal["", "cubic", "hexagonal"]
B_TO_U = 1 / (8 * math.pi**2)
"""Mean square displacement along one axis for a Debye-Waller factor B: B = 8 pi² <u²>."""
DEFAULT_DEBYE_WALLER = 0.6
"""B in Å² where nothing is known: an ordinary value at room temperature."""
HEAVIEST = 103
"""The last element with tabulated electron scattering factors."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site of a crystal's asymmetric unit.

    Parameters
    ----------
    element
        Chemical symbol.
    position
        Fractional coordinates.
    debye_waller
        Isotropic B at room temperature, Å²; B = 8 pi² <u²> with u along one axis.
    """

    element: str
    position: tuple[float, float, float]
    debye_waller: float = DEFAULT_DEBYE_WALLER


def _site_faults(site: Site) -> list[str]:
    faults = []
    if not all(math.isfinite(v) for v in site.position):
        faults.append(f"the position of {site.element} is not finite: {site.position}")
    if not (math.isfinite(site.debye_waller) and site.debye_waller >= 0):
        faults.append(f"B of {site.element} must be 0 Å² or more, got {site.debye_waller}")
    return faults


@dataclass(frozen=True, kw_only=True)
class Material:
    """A crystal, and what can be cut from it.

    Parameters
    ----------
    name
        Key in `MATERIALS`.
    space_group
        Number in the International Tables.
    lengths, angles_degrees
        Of the conventional cell; the first axis lies along x, the second in the plane of x and y.
    sites
        The asymmetric unit. Where `stacking` is given, the first site is the origin of a close-packed
        layer, and the others lie above it on the stacking axis.
    setting
        1, or 2 for the second choice of origin.
    stacking
        "cubic" for layers ABC along [111], "hexagonal" for AB along [001], "" where atoms do not lie on
        such layers; twins and stacking faults need one.
    surfaces
        (hkl) of a family of faces and its surface energy, for Wulff shapes; any unit, only the ratios count.
    zones
        [uvw] of low-index zone axes, for particles near a zone.

    Raises
    ------
    ParameterError
        Naming every fault of the values.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> gold = MATERIALS["Au"]
    >>> gold.shapes
    ('sphere', 'octahedron', 'truncated octahedron', 'wulff', 'decahedron', 'icosahedron')
    >>> gold.faults
    ('twin', 'stacking fault')
    """

    name: str
    space_group: int
    lengths: tuple[float, float, float]
    angles_degrees: tuple[float, float, float] = (90.0, 90.0, 90.0)
    sites: tuple[Site, ...]
    setting: int = 1
    stacking: Stacking = ""
    surfaces: tuple[tuple[Miller, float], ...] = ()
    zones: tuple[Miller, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))

    def __post_init__(self) -> None:
        faults = []
        if not all(math.isfinite(v) and v > 0 for v in self.lengths):
            faults.append(f"lengths must be positive, got {self.lengths}")
        if not all(math.isfinite(v) and 0 < v < 180 for v in self.angles_degrees):
            faults.append(f"angles must lie between 0 and 180 degrees, got {self.angles_degrees}")
        if not self.sites:
            faults.append("there are no sites")
        faults += [fault for site in self.sites for fault in _site_faults(site)]
        if not 1 <= self.space_group <= 230:
            faults.append(f"space group must be 1 to 230, got {self.space_group}")
        if self.stacking not in ("", "cubic", "hexagonal"):
            faults.append(f"stacking must be '', 'cubic' or 'hexagonal', got {self.stacking!r}")
        if any(not energy > 0 for _, energy in self.surfaces):
            faults.append("surface energies must be positive")
        if any(not any(m) for m in (*self.zones, *(f for f, _ in self.surfaces))):
            faults.append("(0, 0, 0) is neither a face nor a zone")
        if faults:
            raise ParameterError(f"material {self.name!r}: {'; '.join(faults)}")

    @property
    def cubic(self) -> bool:
        """Whether the cell is a cube."""
        return len(set(self.lengths)) == 1 and set(self.angles_degrees) == {90.0}

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes that particles of it can have."""
        fcc_metal = self.stacking == "cubic" and len(self.sites) == 1
        return (
            "sphere",
            *(("octahedron", "truncated octahedron") if self.cubic else ()),
            *(("wulff",) if self.surfaces else ()),
            *(("decahedron", "icosahedron") if fcc_metal else ()),
        )

    @property
    def faults(self) -> tuple[str, ...]:
        """The planar faults that particles of it can have."""
        known: dict[str, tuple[str, ...]] = {
            "cubic": ("twin", "stacking fault"),
            "hexagonal": ("stacking fault",),
        }
        return known.get(self.stacking, ())


@dataclass(frozen=True, kw_only=True, eq=False)
class Atoms:
    """Atoms, without a cell.

    Parameters
    ----------
    numbers
        Atomic numbers, (n,).
    positions
        (n, 3), columns x, y, z in Å.
    thermal
        Mean square displacement along one axis, (n,), Å².
    """

    numbers: Int[np.ndarray, n]
    positions: Float64[np.ndarray, "n 3"]
    thermal: Float64[np.ndarray, n]


def lattice_vectors(material: Material) -> Float64[np.ndarray, "3 3"]:
    """The cell's edges as rows, in Å: the first along x, the second in the plane of x and y.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> lattice_vectors(MATERIALS["CdSe"]).round(3).tolist()
    [[4.299, 0.0, 0.0], [-2.149, 3.723, 0.0], [0.0, 0.0, 7.01]]
    """
    a, b, c = material.lengths
    alpha, beta, gamma = (
        0.0 if v == 90 else math.cos(math.radians(v)) for v in material.angles_degrees
    )  # exact zeros keep right angles right
    sin_gamma = math.sqrt(1 - gamma**2)
    cy = (alpha - beta * gamma) / sin_gamma
    height = 1 - beta**2 - cy**2
    if height <= 0:
        raise ParameterError(f"material {material.name!r}: no cell has angles {material.angles_degrees}")
    return np.array(
        [[a, 0.0, 0.0], [b * gamma, b * sin_gamma, 0.0], [c * beta, c * cy, c * math.sqrt(height)]]
    )


@lru_cache(maxsize=64)
def unit_cell(material: Material) -> Atoms:
    """All atoms of the conventional cell.

    Parameters
    ----------
    material
        Its sites are repeated by the space group.

    Returns
    -------
    Atoms
        Positions in Å within the cell of `lattice_vectors`.

    Raises
    ------
    ParameterError
        If an element is unknown, or two sites fall on one place.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> len(unit_cell(MATERIALS["Fe3O4"]).numbers)
    56
    """
    from ase.spacegroup import crystal
    from ase.spacegroup.spacegroup import SpacegroupError

    for site in material.sites:
        atomic_number(site.element)
    try:
        atoms: Any = crystal(
            [s.element for s in material.sites],
            [s.position for s in material.sites],
            spacegroup=material.space_group,
            setting=material.setting,
            cell=lattice_vectors(material),
            onduplicates="error",
        )
    except (SpacegroupError, ValueError) as e:
        raise ParameterError(f"material {material.name!r} makes no crystal: {e}") from e
    b = np.array([s.debye_waller for s in material.sites])
    return Atoms(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.get_scaled_positions() @ lattice_vectors(material),
        thermal=b[atoms.arrays["spacegroup_kinds"]] * B_TO_U,
    )


def atomic_number(element: str) -> int:
    """Number of an element from its symbol.

    Raises
    ------
    ParameterError
        If there is no such element, or no scattering factors for it.

    Examples
    --------
    >>> atomic_number("Cd")
    48
    """
    from ase.data import atomic_numbers

    number = atomic_numbers.get(element, 0)
    if not 1 <= number <= HEAVIEST:
        raise ParameterError(f"unknown element {element!r}; wanted a chemical symbol from H to Lr")
    return int(number)


@lru_cache(maxsize=64)
def lattice_symmetry(material: Material) -> Float64[np.ndarray, "k 3 3"]:
    """Rotations and reflections that leave the lattice (not always the crystal) as it is.

    Returns
    -------
    array
        Matrices R for row vectors: v @ R is equivalent to v.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> len(lattice_symmetry(MATERIALS["Au"])), len(lattice_symmetry(MATERIALS["CdSe"]))
    (48, 24)
    """
    lattice = lattice_vectors(material)
    metric = lattice @ lattice.T
    small = np.stack(np.meshgrid(*[[-1, 0, 1]] * 9, indexing="ij"), -1).reshape(-1, 3, 3)
    kept = np.abs(small @ metric @ small.transpose(0, 2, 1) - metric).max((1, 2)) < 1e-4 * metric.max()
    return np.asarray(np.linalg.inv(lattice) @ small[kept] @ lattice)


def face_normals(material: Material, face: Miller) -> Float64[np.ndarray, "k 3"]:
    """Unit normals of all faces equivalent to (hkl) in the lattice.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> len(face_normals(MATERIALS["Au"], (1, 1, 1))), len(face_normals(MATERIALS["CdSe"], (1, 0, 0)))
    (8, 6)
    """
    normal = np.linalg.inv(lattice_vectors(material)) @ np.array(face, np.float64)
    normal /= np.linalg.norm(normal)
    return np.unique((normal @ lattice_symmetry(material)).round(9) + 0.0, axis=0)


def zone_directions(material: Material, zone: Miller) -> Float64[np.ndarray, "k 3"]:
    """Unit vectors along all zone axes equivalent to [uvw] in the lattice.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> len(zone_directions(MATERIALS["Au"], (1, 1, 0)))
    12
    """
    direction = np.array(zone, np.float64) @ lattice_vectors(material)
    direction /= np.linalg.norm(direction)
    return np.unique((direction @ lattice_symmetry(material)).round(9) + 0.0, axis=0)


def material_from_atoms(
    atoms: ase.Atoms,
    *,
    name: str,
    debye_waller: float | Vector = DEFAULT_DEBYE_WALLER,
    surfaces: tuple[tuple[Miller, float], ...] = (),
) -> Material:
    """A material from any crystal that ASE holds, its cell repeated in three directions.

    Parameters
    ----------
    atoms
        One cell of the crystal; its orientation in space is not kept.
    name
        Key for `MATERIALS`.
    debye_waller
        B of every atom, or one for each, Å².
    surfaces
        Faces and energies of its Wulff shape, if it shall have one.

    Raises
    ------
    ParameterError
        If the cell has no volume, is empty, or two of its atoms fall on one place.

    Examples
    --------
    >>> from ase.build import bulk
    >>> lead = material_from_atoms(bulk("Pb", "fcc", a=4.95, cubic=True), name="Pb")
    >>> lead.cubic, len(lead.sites)
    (True, 4)
    """
    if len(atoms) == 0:
        raise ParameterError(f"material {name!r}: the crystal holds no atoms")
    if atoms.cell.rank != 3:
        raise ParameterError(
            f"material {name!r}: the crystal needs three cell vectors, got {atoms.cell.tolist()}"
        )
    a, b, c, *angles = (float(v) for v in atoms.cell.cellpar())
    alpha, beta, gamma = (90.0 if abs(v - 90) < 1e-6 else v for v in angles)
    crystal: Any = atoms  # ASE is typed in parts
    fractional = crystal.get_scaled_positions()
    if not np.isfinite(fractional).all():
        raise ParameterError(f"material {name!r}: some coordinates are not finite")
    made = Material(
        name=name,
        space_group=1,
        lengths=(a, b, c),
        angles_degrees=(alpha, beta, gamma),
        sites=tuple(
            Site(element=e, position=(float(x), float(y), float(z)), debye_waller=float(b))
            for e, (x, y, z), b in zip(
                crystal.get_chemical_symbols(),
                fractional,
                np.broadcast_to(debye_waller, len(atoms)),
                strict=True,
            )
        ),
        surfaces=surfaces,
    )
    unit_cell(made)
    return made
