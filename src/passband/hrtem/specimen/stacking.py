"""Crystals as stacks of close-packed layers, with twins and stacking faults.

A close-packed layer lies on one of three positions, A, B or C. It is cubic (c) where the layers on its two
sides differ and hexagonal (h) where they are the same; fcc is all c, wurtzite all h. A twin in fcc is one
h, an intrinsic stacking fault two neighbouring h, and the stacking fault I1 of wurtzite one c. In zinc
blende, diamond and wurtzite each layer carries a second atom three quarters of a layer above the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import B_TO_U, Atoms, Material, atomic_number, lattice_vectors

Axis = Float64[np.ndarray, "3"]
Offset = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault on one close-packed plane, through the whole particle.

    Parameters
    ----------
    kind
        "twin" or "stacking fault".
    height
        Of the plane above the particle's centre along [111] of cubic crystals and [001] of hexagonal
        ones, Å; the nearest layer is taken, or the nearest two.
    """

    kind: str
    height: float


def layer_distance(material: Material) -> float:
    """Distance between close-packed layers, Å; 0 where the material has none.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> layer_distance(MATERIALS["CdSe"])
    3.505
    """
    a, _, c = material.lengths
    return {"cubic": a / math.sqrt(3), "hexagonal": c / 2, "": 0.0}[material.stacking]


def stacking_axis(material: Material) -> Axis:
    """Unit normal of the close-packed layers, in the crystal's axes.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> stacking_axis(MATERIALS["CdSe"]).tolist()
    [0.0, 0.0, 1.0]
    """
    return np.full(3, 1 / math.sqrt(3)) if material.stacking == "cubic" else np.array([0.0, 0.0, 1.0])


def stack_layers(material: Material, offset: Offset, faults: tuple[Fault, ...], radius: float) -> Atoms:
    """Layers that cover a sphere.

    Parameters
    ----------
    material
        With a `stacking`.
    offset
        Fractional coordinates of the crystal's point at the sphere's centre.
    faults
        Below the lowest, the crystal is as it is without them.
    radius
        Å.

    Returns
    -------
    Atoms
        Those within the radius and some farther out; positions from the sphere's centre.

    Raises
    ------
    ParameterError
        If two faults fall on one layer.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> r = stack_layers(MATERIALS["Au"], (0.0, 0.0, 0.0), (), 3.0).positions
    >>> int((np.linalg.norm(r, axis=1) < 3.0).sum())
    13
    """
    lattice = lattice_vectors(material)
    edges, normal = lattice[:2], stacking_axis(material)
    if material.stacking == "cubic":
        edges = lattice[0, 0] / 2 * np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    step = layer_distance(material)
    sites = np.array([s.position for s in material.sites]) @ lattice
    heights = (sites - sites[0]) @ normal
    centre = np.array(offset) @ lattice - sites[0]  # from an atom of layer 0
    height = float(centre @ normal)
    first = math.floor((height - radius - heights.max()) / step)
    count = math.ceil((height + radius) / step) - first + 1
    letters = _letters(material, _flipped(material, faults, height), first, count)
    # Rows of a hexagonal net that cover the disc, once for all layers.
    frame = np.stack([*edges, normal])
    u, v, _ = centre @ np.linalg.inv(frame)
    reach = math.ceil(radius * 2 / math.sqrt(3) / float(np.linalg.norm(edges[0]))) + 1
    i, k = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1), indexing="ij")
    net = np.stack([i.ravel() + round(u), k.ravel() + round(v)], -1).astype(np.float64)
    flat = net @ edges - (centre - height * normal)
    size = float(np.linalg.norm(edges[0]))
    flat = flat[(flat**2).sum(1) <= (radius + size) ** 2]
    shift = np.outer(letters, (edges[0] + 2 * edges[1]) / 3)
    shift -= np.outer(np.array([0, 0, 1])[letters], edges[1])  # the nearest of the equivalent shifts
    levels = (first + np.arange(count))[:, None] * step + heights - height
    positions = flat[None, :, None] + shift[:, None, None] + levels[:, None, :, None] * normal
    whole = positions.shape[:2]
    numbers = np.array([atomic_number(s.element) for s in material.sites])
    thermal = np.array([s.debye_waller * B_TO_U for s in material.sites])
    shape = (*whole, len(numbers))
    return Atoms(
        numbers=np.broadcast_to(numbers, shape).reshape(-1),
        positions=positions.reshape(-1, 3),
        thermal=np.broadcast_to(thermal, shape).reshape(-1),
    )


def twin_planes(material: Material, offset: Offset, faults: tuple[Fault, ...]) -> list[float]:
    """Heights of the twin planes above the centre, Å, from the lowest.

    Examples
    --------
    >>> from passband.hrtem.specimen.materials import MATERIALS
    >>> twin_planes(MATERIALS["Au"], (0.0, 0.0, 0.0), (Fault(kind="twin", height=2.0),))
    [2.354...]
    """
    origin, step = _height(material, offset), layer_distance(material)
    layers = (round((origin + f.height) / step) for f in faults if f.kind == "twin")
    return sorted(layer * step - origin for layer in layers)


def _height(material: Material, offset: Offset) -> float:
    """Of the centre above layer 0."""
    away = np.array(offset) - np.array(material.sites[0].position)
    return float(away @ lattice_vectors(material) @ stacking_axis(material))


def _flipped(material: Material, faults: tuple[Fault, ...], height: float) -> list[int]:
    """Layers that are hexagonal instead of cubic, or the reverse."""
    step = layer_distance(material)
    flipped: list[int] = []
    for fault in faults:
        at = (height + fault.height) / step
        between = material.stacking == "cubic" and fault.kind == "stacking fault"  # two layers
        flipped += [math.floor(at), math.floor(at) + 1] if between else [round(at)]
    if len(set(flipped)) < len(flipped):
        raise ParameterError(
            f"particle of {material.name}: two faults lie on one layer; set them {3 * step:.1f} Å apart"
        )
    return flipped


def _letters(material: Material, flipped: list[int], first: int, count: int) -> np.ndarray:
    """Stacking position 0, 1 or 2 (A, B, C) of each layer from number `first` on."""
    cubic = material.stacking == "cubic"
    is_cubic = np.full(count, cubic)
    is_cubic[[layer - first for layer in flipped if 0 < layer - first < count]] = not cubic
    start = first if cubic else first % 2
    up = 1 if cubic or first % 2 == 0 else -1  # the step from layer `first` to the next
    turns = np.where(is_cubic, 1, -1)
    turns[0] = up
    steps = np.cumprod(turns)
    return np.asarray(start + np.concatenate([[0], np.cumsum(steps[:-1])]), np.int64) % 3
