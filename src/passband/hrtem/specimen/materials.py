"""The materials that particles are made of: an open dictionary.

Add your own with `MATERIALS["name"] = Material(...)`, `crystals.material_from_atoms` for any ASE
crystal, or `passband.hrtem.specimen.files.read_material` for a CIF.
"""

from __future__ import annotations

import math

from passband.hrtem.specimen.crystals import Material, Miller, Site

_CUBE = ((0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 2))
_PRISM = ((0, 0, 1), (1, 0, 0), (1, 2, 0))  # along c, an a axis, and between two of them


def _fcc(element: str, a: float, b: float, energies: tuple[float, float, float]) -> Material:
    """An fcc metal; surface energies of {111}, {100}, {110}."""
    faces: tuple[Miller, ...] = ((1, 1, 1), (1, 0, 0), (1, 1, 0))
    return Material(
        name=element,
        space_group=225,
        lengths=(a, a, a),
        sites=(Site(element=element, position=(0.0, 0.0, 0.0), debye_waller=b),),
        stacking="cubic",
        surfaces=tuple(zip(faces, energies, strict=True)),
        zones=_CUBE,
    )


def _zinc_blende(
    name: str, a: float, sites: tuple[tuple[str, float], ...], surfaces: tuple[tuple[Miller, float], ...]
) -> Material:
    """Two fcc lattices a quarter diagonal apart; with one element, diamond written in a subgroup."""
    (first, b1), (second, b2) = sites
    return Material(
        name=name,
        space_group=216,
        lengths=(a, a, a),
        sites=(
            Site(element=first, position=(0.0, 0.0, 0.0), debye_waller=b1),
            Site(element=second, position=(0.25, 0.25, 0.25), debye_waller=b2),
        ),
        stacking="cubic",
        surfaces=surfaces,
        zones=_CUBE,
    )


def _wurtzite(name: str, a: float, c: float, u: float, sites: tuple[tuple[str, float], ...]) -> Material:
    # Dangling bonds per area: 2 / (sqrt(3) a²) on (001), 2 / (a c) on (100).
    prism = math.sqrt(3) * a / c
    (first, b1), (second, b2) = sites
    return Material(
        name=name,
        space_group=186,
        lengths=(a, a, c),
        angles_degrees=(90.0, 90.0, 120.0),
        sites=(
            Site(element=first, position=(1 / 3, 2 / 3, 0.0), debye_waller=b1),
            Site(element=second, position=(1 / 3, 2 / 3, u), debye_waller=b2),
        ),
        stacking="hexagonal",
        surfaces=(((0, 0, 1), 1.0), ((1, 0, 0), prism)),
        zones=_PRISM,
    )


def _spinel(
    name: str, metal: str, a: float, u: float, b: tuple[float, float, float], energies: tuple[float, ...]
) -> Material:
    """A spinel; B of the tetrahedral metal, the octahedral, oxygen; energies of {100}, {111}, {110}."""
    eighth, faces = (0.125,) * 3, ((1, 0, 0), (1, 1, 1), (1, 1, 0))
    return Material(
        name=name,
        space_group=227,
        setting=2,
        lengths=(a, a, a),
        sites=(
            Site(element=metal, position=eighth, debye_waller=b[0]),
            Site(element=metal, position=(0.5, 0.5, 0.5), debye_waller=b[1]),
            Site(element="O", position=(u, u, u), debye_waller=b[2]),
        ),
        surfaces=tuple(zip(faces, energies, strict=True)),
        zones=_CUBE,
    )


# Lattice constants at room temperature: R. W. G. Wyckoff, Crystal Structures 1 (1963), unless said.
# B of the elements agree with Debye's model to 10 % (tested); B of the compounds are rounded, and
# uncertain by a third. Surface energies, J/m², are rounded values of the literature; their ratios shape
# Wulff particles and nothing else. Sphalerite shows {110} alone; wurtzites by counting dangling bonds.
MATERIALS: dict[str, Material] = {
    m.name: m
    for m in (
        _wurtzite("CdSe", 4.299, 7.010, 0.3767, (("Cd", 1.2), ("Se", 1.0))),
        _zinc_blende("ZnS", 5.4093, (("Zn", 0.9), ("S", 0.75)), (((1, 1, 0), 1.0),)),
        _wurtzite("ZnS wurtzite", 3.8227, 6.2607, 0.3748, (("Zn", 0.9), ("S", 0.75))),
        _fcc("Au", 4.0786, 0.63, (1.283, 1.627, 1.700)),
        _fcc("Ag", 4.0862, 0.72, (1.172, 1.200, 1.238)),
        _fcc("Cu", 3.6147, 0.55, (1.952, 2.166, 2.237)),
        Material(
            name="Fe",
            space_group=229,
            lengths=(2.8664,) * 3,
            sites=(Site(element="Fe", position=(0.0, 0.0, 0.0), debye_waller=0.35),),
            surfaces=(((1, 0, 0), 2.222), ((1, 1, 0), 2.430), ((2, 1, 1), 2.589), ((3, 1, 0), 2.393)),
            zones=_CUBE,
        ),
        _zinc_blende("Si", 5.4310, (("Si", 0.46),) * 2, (((1, 1, 1), 1.23), ((1, 0, 0), 1.36))),
        _zinc_blende("diamond", 3.5668, (("C", 0.14),) * 2, (((1, 1, 1), 5.65), ((1, 0, 0), 9.82))),
        _spinel("Fe3O4", "Fe", 8.396, 0.2549, (0.40, 0.50, 0.55), (0.96, 1.10, 1.37)),
        _spinel("Co3O4", "Co", 8.084, 0.2631, (0.30, 0.30, 0.50), (1.39, 1.48, 1.65)),
    )
}
"""The materials that come with Passband, an open dictionary: add your own."""
