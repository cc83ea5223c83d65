"""Nanoparticles cut from crystals: shapes, twins and stacking faults, orientations.

A particle is the part of a crystal inside a convex body: a sphere, an octahedron, a Wulff shape. Its
diameter is that of the sphere with the body's volume. Decahedra and icosahedra, which no single crystal
holds, come from ASE; of their closed shells the one of the nearest volume is taken.

The faces of a twin are the mirror images of its neighbour's in the plane between them: the body is
unfolded at each twin plane, and scaled back to its volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.spatial import ConvexHull, HalfspaceIntersection
from scipy.spatial.transform import Rotation

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import (
    B_TO_U,
    Atoms,
    Material,
    face_normals,
    lattice_vectors,
    unit_cell,
)
from passband.hrtem.specimen.stacking import (
    Axis,
    Fault,
    layer_distance,
    stack_layers,
    stacking_axis,
    twin_planes,
)
from passband.hrtem.specimen.surfaces import PLAIN, Surface, disordered, nearest, reshaped, surface_faults

Meeting = Literal["", "rest", "grow"]
FEWEST = 12
"""Atoms; with fewer, nothing of a crystal is left."""
MULTIPLE_TWINS = ("decahedron", "icosahedron")
"""Shapes that no single crystal holds."""
CLEARANCE = 2.0
"""Least distance between an atom of a particle and one of the film or of another particle, Å."""
_LOST = 0.15  # share of its atoms that a closed shell loses when it is rounded all the way


@dataclass(frozen=True, kw_only=True)
class Particle:
    """One particle and where it lies.

    Parameters
    ----------
    material
        Name of its crystal.
    shape
        One of the material's `shapes`.
    diameter
        Of the sphere of equal volume, Å.
    x, y
        Centre in the cell, Å.
    depth
        How deep its lowest atom lies in the substrate, Å; negative for a gap above it.
    rotation
        Unit quaternion (w, x, y, z) from the crystal's axes to the microscope's.
    offset
        Fractional coordinates of the crystal's point at the particle's centre.
    faults
        Twins and stacking faults; below the lowest, the crystal is oriented as `rotation` says. The faces
        of a twin are the mirror images of its neighbour's.
    zone
        The [uvw] that was drawn near to the beam, or None where the orientation was drawn uniformly. The
        [001] of a decahedron is its five-fold axis, that of an icosahedron a two-fold one.
    surface
        How its surface differs from the plain cut.
    meeting
        What it does where it would share a place with a particle before it: "rest" lifts it until it lies
        upon that one, "grow" leaves out its atoms there, as sintered particles have; "" is refused.
    """

    material: str
    shape: str = "sphere"
    diameter: float
    x: float
    y: float
    depth: float = -2.5
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    faults: tuple[Fault, ...] = ()
    zone: tuple[int, int, int] | None = None
    surface: Surface = PLAIN
    meeting: Meeting = ""


def build_particle(particle: Particle, material: Material) -> Atoms:
    """The atoms of a particle in its orientation, about its centre.

    Parameters
    ----------
    particle
        Its shape, size, faults and orientation; where it lies is left to the specimen.
    material
        The crystal named in it.

    Returns
    -------
    Atoms
        Positions relative to the particle's centre, Å; the beam travels towards +z.

    Raises
    ------
    ParameterError
        If the material has no such shape or fault, two faults fall on one layer, or fewer than
        twelve atoms are left.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> ball = Particle(material="Au", diameter=30.0, x=0.0, y=0.0, offset=(0.1, 0.2, 0.3))
    >>> len(build_particle(ball, MATERIALS["Au"]).numbers)
    826
    """
    _refuse_wrong(particle, material)
    if particle.shape in MULTIPLE_TWINS:
        atoms = _closed_shells(particle, material)
    else:
        atoms = _cut(particle, material)
    if len(atoms.numbers) < FEWEST:
        raise ParameterError(
            f"a {particle.shape} of {material.name} of {particle.diameter:g} Å holds "
            f"{len(atoms.numbers)} atoms; wanted {FEWEST} or more: make it larger"
        )
    atoms = disordered(atoms, particle.surface)
    w, x, y, z = particle.rotation
    turned = atoms.positions @ Rotation.from_quat([x, y, z, w]).as_matrix().T
    return Atoms(numbers=atoms.numbers, positions=turned, thermal=atoms.thermal)


def _refuse_wrong(particle: Particle, material: Material) -> None:
    """Refuse values that make no particle, naming every one."""
    wrong = []
    if not (math.isfinite(particle.diameter) and particle.diameter > 0):
        wrong.append(f"the diameter must be a positive number of Å, got {particle.diameter}")
    elif particle.diameter > 300:
        wrong.append(f"the diameter must be at most 300 Å, got {particle.diameter:g}")
    wrong += surface_faults(particle.surface, particle.diameter)
    numbers = (particle.x, particle.y, particle.depth, *particle.rotation, *particle.offset)
    if not all(math.isfinite(v) for v in (*numbers, *(f.height for f in particle.faults))):
        wrong.append("place, rotation, offset and faults must be finite numbers")
    elif abs(math.hypot(*particle.rotation) - 1) > 1e-6:
        wrong.append(f"the rotation must be a unit quaternion, got {particle.rotation}")
    elif any(abs(f.height) > particle.diameter for f in particle.faults):
        wrong.append(f"faults at {[f.height for f in particle.faults]} Å lie outside it")
    if particle.shape not in material.shapes:
        wrong.append(f"{material.name} has no shape {particle.shape!r}; wanted {', '.join(material.shapes)}")
    for kind in sorted({f.kind for f in particle.faults} - set(material.faults)):
        wrong.append(f"{material.name} has no {kind!r}; wanted {', '.join(material.faults) or 'no fault'}")
    if particle.faults and particle.shape in MULTIPLE_TWINS:
        wrong.append(f"a {particle.shape} takes no further faults: it is made of twins")
    if wrong:
        raise ParameterError(f"particle of {material.name}: {'; '.join(wrong)}")


def _refuse_faults_outside(particle: Particle, material: Material, atoms: Atoms) -> None:
    if particle.faults and len(atoms.positions):
        along, step = atoms.positions @ stacking_axis(material), layer_distance(material)
        low, high = float(along.min()) - step, float(along.max()) + step
        if outside := [round(f.height, 2) for f in particle.faults if not low < f.height < high]:
            raise ParameterError(
                f"particle of {material.name}: faults at {outside} Å lie outside it; "
                f"wanted heights from {low:.1f} to {high:.1f} Å"
            )


def _cut(particle: Particle, material: Material) -> Atoms:
    """The part of the crystal inside the shape, in the crystal's axes."""
    normals, distances, reach = _body(material, particle.shape)
    reach *= particle.diameter
    planes = [] if particle.shape == "sphere" else twin_planes(material, particle.offset, particle.faults)
    surface = particle.surface
    cover = reach + 2 * max([0.0, *map(abs, planes)]) + 4 * surface.roughness
    if material.stacking:
        atoms = stack_layers(material, particle.offset, particle.faults, cover)
    else:
        atoms = _cells(particle, material, cover)
    r = atoms.positions
    if particle.shape == "sphere":
        far = 2 * np.sqrt((r**2).sum(1))
        inside = far <= particle.diameter
    else:
        far = (r @ normals.T / distances).max(1)
        inside = far <= particle.diameter
        if planes:
            wanted = int(inside.sum())  # as many atoms as without twins, but whole faces
            far = (_unfolded(r, stacking_axis(material), planes) @ normals.T / distances).max(1)
            size = float(np.partition(far, wanted)[wanted])
            cuts = (far < size - 1e-6, far < size + 1e-6)
            inside = min(cuts, key=lambda cut: abs(int(cut.sum()) - wanted))
    if surface.rounding or surface.roughness:
        inside = nearest(reshaped(r, far, surface, particle.diameter), int(inside.sum()))
    atoms = Atoms(numbers=atoms.numbers[inside], positions=r[inside], thermal=atoms.thermal[inside])
    _refuse_faults_outside(particle, material, atoms)
    return atoms


def _unfolded(
    positions: Float64[np.ndarray, "n 3"], axis: Axis, planes: list[float]
) -> Float64[np.ndarray, "n 3"]:
    """Where each atom lies after mirroring it, plane by plane, to the part at the centre.

    That part is a mirrored crystal if an odd number of planes lies below it.
    """
    z = positions @ axis
    seen = z.copy()
    for side in (1.0, -1.0):
        here = sorted((p for p in planes if (p >= 0) == (side > 0)), key=abs)
        slope, height, last = 1.0, 0.0, 0.0
        for plane in here:
            height += slope * (plane - last)  # of the plane itself, unfolded
            slope, last = -slope, plane
            beyond = side * z > side * plane
            seen[beyond] = height + slope * (z[beyond] - plane)
    if sum(p < 0 for p in planes) % 2:
        seen = -seen
    return positions + np.outer(seen - z, axis)


@lru_cache(maxsize=64)
def _body(material: Material, shape: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Face normals, their distances and the farthest corner's, of the body whose diameter is 1."""
    if shape == "sphere":
        return np.zeros((0, 3)), np.zeros(0), 0.5
    hexagon = math.sqrt(3) / 2  # of the regular truncated octahedron, when the square's distance is 1
    families = {
        "octahedron": (((1, 1, 1), 1.0),),
        "truncated octahedron": (((1, 1, 1), hexagon), ((1, 0, 0), 1.0)),
        "wulff": material.surfaces,
    }[shape]
    faces = [(face_normals(material, face), distance) for face, distance in families]
    normals = np.concatenate([n for n, _ in faces])
    distances = np.concatenate([np.full(len(n), float(d)) for n, d in faces])
    try:
        corners = HalfspaceIntersection(np.c_[normals, -distances], np.zeros(3)).intersections
    except Exception as e:  # qhull's error class moves between versions of scipy
        raise ParameterError(f"the faces of {material.name}'s {shape} enclose no body; add faces") from e
    if not np.isfinite(corners).all():
        raise ParameterError(f"the faces of {material.name}'s {shape} enclose no body; add faces")
    scale = (math.pi / 6 / ConvexHull(corners).volume) ** (1 / 3)
    return normals, distances * scale, float(np.linalg.norm(corners, axis=1).max() * scale)


def _cells(particle: Particle, material: Material, radius: float) -> Atoms:
    """Whole unit cells that cover a sphere about the centre."""
    lattice, cell = lattice_vectors(material), unit_cell(material)
    extent = radius * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    offset = np.array(particle.offset)
    first, last = np.floor(offset - extent).astype(int), np.floor(offset + extent).astype(int)
    steps = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
    corners = (np.stack(steps, -1).reshape(-1, 3) - offset) @ lattice
    return Atoms(
        numbers=np.tile(cell.numbers, len(corners)),
        positions=(corners[:, None] + cell.positions).reshape(-1, 3),
        thermal=np.tile(cell.thermal, len(corners)),
    )


def _closed_shells(particle: Particle, material: Material) -> Atoms:
    """The decahedron or icosahedron whose volume is nearest."""
    import ase.cluster

    cluster: Any = ase.cluster  # ASE is typed in parts

    (site,), a = material.sites, material.lengths[0]
    wanted = math.pi / 6 * particle.diameter**3 / (a**3 / 4)  # atoms
    if particle.shape == "icosahedron":
        # 10/3 n³ + ... atoms of n shells, the central atom the first
        sizes = {n: (10 * n**3 - 15 * n**2 + 11 * n - 3) // 3 for n in range(2, 100)}
        shells = min(sizes, key=lambda n: abs(sizes[n] - wanted))
        made = cluster.Icosahedron(site.element, shells, latticeconstant=a)
    else:
        sizes_of = _decahedra()
        p, q, r = min(sizes_of, key=lambda pqr: abs(sizes_of[pqr] - wanted))
        made = cluster.Decahedron(site.element, p, q, r, latticeconstant=a)
    positions: Float64[np.ndarray, "n 3"] = made.positions - made.positions.mean(0)
    kept = np.ones(len(made), bool)
    if particle.surface.rounding or particle.surface.roughness:
        hull = ConvexHull(positions).equations
        diameter = 2 * (3 * ConvexHull(positions).volume / (4 * math.pi)) ** (1 / 3)
        far = (positions @ hull[:, :3].T / -hull[:, 3]).max(1) * diameter
        share = 1 - _LOST * particle.surface.rounding - 3 * particle.surface.roughness / diameter
        kept = nearest(reshaped(positions, far, particle.surface, diameter), int(len(made) * max(share, 0.5)))
    return Atoms(
        numbers=made.numbers[kept].astype(np.int64),
        positions=positions[kept],
        thermal=np.full(int(kept.sum()), site.debye_waller * B_TO_U),
    )


@lru_cache(maxsize=1)
def _decahedra() -> dict[tuple[int, int, int], int]:
    """Number of atoms of every Marks decahedron about as high as it is wide, by ASE's (p, q, r)."""
    sizes = {}
    for p in range(1, 40):
        for r in range(0, 4):
            g = p + 2 * r
            n, i = np.meshgrid(np.arange(1, g), np.arange(g), indexing="ij")
            kept = (i < n) & (n - i < g - r) & (i < g - r)
            columns, at = np.unique(n[kept], return_counts=True)
            m = n[kept] - i[kept]
            wide = 2 * math.sqrt(3) / 2 * math.sqrt(max(_pentagon_square(m, i[kept]), default=0.0))
            for q in range(max(1, round(0.9 * wide) - g), round(1.1 * wide) - g + 3):
                h = p + q + 2 * r - 1
                if 0.85 * wide <= h - 1 <= 1.15 * wide:
                    sizes[p, q, r] = int(h + 5 * (at * np.maximum(h - columns, 0)).sum())
    return sizes


def _pentagon_square(i: np.ndarray, k: np.ndarray) -> list[float]:
    """Squared distance from the axis of i v1 + k v2, two unit vectors 72 degrees apart."""
    return [float(v) for v in i**2 + k**2 + 2 * i * k * math.cos(2 * math.pi / 5)]
