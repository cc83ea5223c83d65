"""Films that particles lie on: amorphous carbon and silicon nitride, graphene, MgO.

An amorphous film is put together of bricks that are cut from a network that ships, each anywhere, turned and
mirrored at random; where two meet, atoms that came too near are left out. A last ripple bends all bonds a
little. A crystalline film is strained until the cell is one of its periods.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.ndimage
from jaxtyping import Float64
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from passband.errors import ParameterError
from passband.hrtem.specimen.amorphous import DENSITY, amorphous_carbon
from passband.hrtem.specimen.crystals import B_TO_U, Atoms
from passband.hrtem.specimen.networks import network

LAYER = 3.35
"""Between two sheets of graphene, Å."""
MOST_STRAIN = 0.02
"""Of a crystalline film that is made periodic."""
_ENOUGH_STRAIN = 0.01  # below it, one of all turns is drawn
_GRAPHENE, _MGO = 2.461, 4.2127  # lattice constants at room temperature, Å; Wyckoff, Crystal Structures 1
_ROUGHNESS_LENGTH = 12.0  # Å, over which a rough face rises and falls
_RIPPLE = 0.01  # greatest strain of the ripple
_STRETCH = 0.05  # by which a network may be stretched or pressed, in length


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A round hole through a film: its centre and diameter, Å."""

    x: float
    y: float
    diameter: float


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film, its mean upper face at z = `thickness` and its lower one at 0.

    Parameters
    ----------
    kind
        A key of `FILMS`.
    cell
        Periods in x and y, Å.
    thickness
        Å; of graphene, 3.35 Å for each sheet. 0 for none.
    density
        Atoms/Å³ of an amorphous film; None for its usual one.
    seed
        Of everything that is random in it.
    roughness
        Root mean square of the height of either face, Å; graphene is not cut by it but bent.
    wedge
        How much thinner and thicker than the mean it is at its ends, as a share. The cell being periodic, it
        falls and rises again, once across the cell.
    holes
        Where nothing of it is left.
    """

    kind: str
    cell: tuple[float, float]
    thickness: float
    density: float | None = None
    seed: int = 0
    roughness: float = 0.0
    wedge: float = 0.0
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Amorphous:
    """What a network is to a film: its usual density, and what atoms of two bricks keep apart."""

    network: str
    density: float
    debye_waller: float  # Å²; an ordinary value at room temperature, none is agreed on
    least_unlike: float  # Å
    least_like: float  # Å
    overlap: float  # Å by which bricks overlap before atoms too near are left out, so that density is kept


_AMORPHOUS = {
    "carbon": _Amorphous(
        network="carbon", density=0.11, debye_waller=0.6, least_unlike=1.3, least_like=1.3, overlap=0.8
    ),
    "silicon nitride": _Amorphous(
        network="nitride", density=0.0902, debye_waller=0.4, least_unlike=1.35, least_like=1.6, overlap=1.2
    ),
}
FILMS = ("carbon", "silicon nitride", "graphene", "MgO", "none", "packed carbon")
"""What a film may be. "packed carbon" is that of the first version, atoms packed at random."""


def density_limits(kind: str) -> tuple[float, float] | None:
    """Least and greatest density of a film, atoms/Å³; None where it has none to choose.

    Examples
    --------
    >>> [round(v, 3) for v in density_limits("carbon")]
    [0.095, 0.128]
    """
    if kind == "packed carbon":
        return 0.0, 0.2
    if kind not in _AMORPHOUS:
        return None
    usual = _AMORPHOUS[kind].density
    return usual / (1 + _STRETCH) ** 3, usual / (1 - _STRETCH) ** 3


def build_film(film: Film) -> Atoms:
    """The atoms of a film.

    Parameters
    ----------
    film
        What it is.

    Returns
    -------
    Atoms
        x and y inside the cell, z about 0 to the thickness; none for a film of no thickness.

    Raises
    ------
    ParameterError
        If there is no such film, its density is beyond the limits, or no turn of its crystal fits the cell.

    Examples
    --------
    >>> carbon = build_film(Film(kind="carbon", cell=(40.0, 40.0), thickness=20.0, seed=1))
    >>> bool(abs(len(carbon.numbers) / (40 * 40 * 20) / 0.11 - 1) < 0.02)
    True
    """
    if film.kind not in FILMS:
        raise ParameterError(f"no film {film.kind!r}; wanted one of {', '.join(FILMS)}")
    if film.kind == "none" or film.thickness == 0:
        return _atoms(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0))
    if film.kind == "packed carbon":
        positions = amorphous_carbon(
            (*film.cell, film.thickness), seed=film.seed, density=film.density or DENSITY
        )
        return _atoms(np.full(len(positions), 6), positions, np.full(len(positions), 0.6 * B_TO_U))
    rng = np.random.default_rng([film.seed, 0xF])
    lower, upper = _Face(film, rng), _Face(film, rng)
    bend = film.thickness * film.wedge
    if film.kind == "graphene":
        atoms = _graphene(film, rng)
        lift = upper.at(atoms.positions)
        return _without_holes(film, _moved(atoms, lift), rng)
    depth = 4 * film.roughness + bend
    made = _bricks if film.kind in _AMORPHOUS else _mgo
    atoms = made(film, -depth, film.thickness + 4 * film.roughness, rng)
    direction = ((1, 0), (0, 1), (1, 1), (1, -1))[rng.integers(4)]
    shift = rng.uniform(0, 2 * math.pi)
    z = atoms.positions[:, 2]
    turns = atoms.positions[:, :2] / np.array(film.cell) @ np.array(direction)
    low = lower.at(atoms.positions) + bend * np.cos(2 * math.pi * turns + shift)
    kept = (z >= low) & (z <= film.thickness + upper.at(atoms.positions))
    return _without_holes(film, _some(atoms, kept), rng)


def _atoms(numbers: np.ndarray, positions: np.ndarray, thermal: np.ndarray) -> Atoms:
    return Atoms(numbers=numbers, positions=positions, thermal=thermal)


def _some(atoms: Atoms, kept: np.ndarray) -> Atoms:
    return _atoms(atoms.numbers[kept], atoms.positions[kept], atoms.thermal[kept])


def _moved(atoms: Atoms, lift: np.ndarray) -> Atoms:
    return _atoms(atoms.numbers, atoms.positions + np.c_[0 * lift, 0 * lift, lift], atoms.thermal)


class _Face:
    """The height of a rough face about its mean: a periodic random field of one length."""

    def __init__(self, film: Film, rng: np.random.Generator) -> None:
        self.period = np.array(film.cell)
        self.heights = None
        if film.roughness:
            shape = tuple(max(4, round(side / 2)) for side in film.cell)
            noise = np.fft.rfft2(rng.standard_normal(shape))
            kx = np.fft.fftfreq(shape[0], self.period[0] / shape[0])[:, None]
            ky = np.fft.rfftfreq(shape[1], self.period[1] / shape[1])
            noise *= np.exp(-((2 * _ROUGHNESS_LENGTH) ** 2) * (kx**2 + ky**2))
            noise[0, 0] = 0
            heights = np.fft.irfft2(noise, shape)
            heights *= film.roughness / heights.std()
            self.heights = np.clip(heights, -4 * film.roughness, 4 * film.roughness)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Height at the places of atoms, Å."""
        if self.heights is None:
            return np.zeros(len(positions))
        where = (positions[:, :2] / self.period * self.heights.shape).T
        return np.asarray(scipy.ndimage.map_coordinates(self.heights, where, order=1, mode="grid-wrap"))


def _without_holes(film: Film, atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Without what lies in holes, whose rims are uneven."""
    period = np.array(film.cell)
    for hole in film.holes:
        away = atoms.positions[:, :2] - (hole.x, hole.y)
        away -= period * np.round(away / period)
        angle = np.arctan2(away[:, 1], away[:, 0])
        uneven = sum(
            rng.normal(0, 0.05) * np.cos(n * angle + rng.uniform(0, 2 * math.pi)) for n in range(2, 7)
        )
        atoms = _some(atoms, np.hypot(away[:, 0], away[:, 1]) > hole.diameter / 2 * (1 + uneven))
    return atoms


def _bricks(film: Film, low: float, high: float, rng: np.random.Generator) -> Atoms:
    """A slab of an amorphous network, from one height to another, periodic in x and y."""
    kind = _AMORPHOUS[film.kind]
    limits = density_limits(film.kind)
    density = kind.density if film.density is None else film.density
    assert limits is not None
    if not limits[0] <= density <= limits[1]:
        raise ParameterError(
            f"a film of {film.kind} has {limits[0]:.3f} to {limits[1]:.3f} atoms/Å³, to which its network "
            f'can be stretched or pressed; got {density:g}; the film "packed carbon" takes up to 0.2'
        )
    scale = (network(kind.network).density / density) ** (1 / 3)
    extent = np.array([*film.cell, high - low])
    counts = np.ceil(extent / (network(kind.network).side * scale - 2 * kind.overlap)).astype(int)
    size = extent / counts
    seams = _Seams(extent, counts, rng)
    numbers, places = [], []
    for corner in itertools.product(*map(range, counts)):
        number, r = _brick(kind.network, scale, size + kind.overlap + 2 * seams.most, rng)
        r += np.array(corner) * size - kind.overlap / 2 - seams.most
        beside = seams.straight(r) - np.array(corner) * size
        inside = ((beside >= -kind.overlap / 2) & (beside < size + kind.overlap / 2)).all(1)
        places.append(r[inside])
        numbers.append(number[inside])
    number, r = np.concatenate(numbers), np.concatenate(places)
    r[:, :2] = np.mod(r[:, :2], film.cell)
    inside = (r[:, 2] >= 0) & (r[:, 2] <= extent[2])
    number, r = number[inside], r[inside]
    kept = ~_crowded(r, number, seams, kind)
    number, r = number[kept], _rippled(r[kept], np.array(film.cell), rng)
    r[:, 2] += low
    return _atoms(number, _wrapped(r, film.cell), np.full(len(number), kind.debye_waller * B_TO_U))


_UNEVEN = 7.0  # Å by which faces between bricks rise and fall
_BLOCKS = 6  # along the side of a network, by which it is searched


@cache
def _blocks(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms of a network sorted by small cubes: numbers, positions, and where each cube's begin."""
    whole = network(name)
    at = np.minimum((whole.positions * (_BLOCKS / whole.side)).astype(int), _BLOCKS - 1)
    block = (at[:, 0] * _BLOCKS + at[:, 1]) * _BLOCKS + at[:, 2]
    order = np.argsort(block, kind="stable")
    begin = np.searchsorted(block[order], np.arange(_BLOCKS**3 + 1))
    return whole.numbers[order], whole.positions[order], begin


def _brick(
    name: str, scale: float, size: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and positions, in [0, size), of a brick cut anywhere from a network, turned and mirrored."""
    side = network(name).side
    numbers, positions, begin = _blocks(name)
    turn = Rotation.random(random_state=rng).as_matrix() * rng.choice([-1.0, 1.0])
    middle = rng.uniform(0, side, 3)
    steps = np.arange(-_BLOCKS, 2 * _BLOCKS)
    cubes = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    about = ((cubes + 0.5) * (side / _BLOCKS) - middle) @ turn * scale
    corner = math.sqrt(3) / 2 * side / _BLOCKS * scale
    cubes = cubes[(np.abs(about) < size / 2 + corner).all(1)]
    image, block = np.divmod(cubes, _BLOCKS)
    block = (block[:, 0] * _BLOCKS + block[:, 1]) * _BLOCKS + block[:, 2]
    many = begin[block + 1] - begin[block]
    which = np.arange(many.sum()) + np.repeat(begin[block] - np.r_[0, np.cumsum(many)[:-1]], many)
    r = (positions[which] + np.repeat(image * side - middle, many, axis=0)) @ turn * scale + size / 2
    inside = ((r >= 0) & (r < size)).all(1)
    return numbers[which[inside]], r[inside]


class _Seams:
    """Where bricks meet: slanting, uneven faces; a flat one seen edge-on would be a line in an image."""

    def __init__(self, extent: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> None:
        self.extent, self.counts, self.size = extent, counts, extent / counts
        self.most = np.minimum(_UNEVEN, extent / 8)
        self.most[2] = 0.0 if counts[2] == 1 else self.most[2]
        waves = np.ones((3, 2, 3)) / rng.uniform(18.0, 36.0, (3, 2, 3))
        waves[:, :, :2] = np.maximum(1, np.round(waves[:, :, :2] * extent[:2])) / extent[:2]
        self.waves = waves * rng.choice([-1, 1], waves.shape)
        self.waves[np.arange(3), :, np.arange(3)] = 0.0  # a face along x does not depend on x
        self.phases = rng.uniform(0, 2 * math.pi, (3, 2))

    def straight(self, r: np.ndarray) -> np.ndarray:
        """Positions moved so that all faces between bricks are flat."""
        moves = [
            self.most[axis] / 2 * np.sin(2 * math.pi * r @ self.waves[axis].T + self.phases[axis]).sum(1)
            if self.most[axis]
            else np.zeros(len(r))
            for axis in range(3)
        ]
        return np.asarray(r + np.stack(moves, 1))

    def near(self, r: np.ndarray, reach: float) -> np.ndarray:
        """Which positions are nearer to a face than a distance along an axis."""
        straight = self.straight(r)
        off = np.abs(straight - self.size * np.round(straight / self.size)) < reach
        if self.counts[2] == 1:
            off[:, 2] = False
        return np.asarray(off.any(1))


def _crowded(r: np.ndarray, number: np.ndarray, seams: _Seams, kind: _Amorphous) -> np.ndarray:
    """Which atoms are left out where bricks meet: of two that are too near, the later one."""
    cell = seams.extent[:2]
    reach = max(kind.least_like, kind.least_unlike)
    near = np.flatnonzero(seams.near(r, kind.overlap + 3 * reach))
    at = r[near]
    at[:, :2][at[:, :2] >= cell] = 0.0
    pairs = cKDTree(at, boxsize=np.array([*cell, 0.0])).query_pairs(reach, output_type="ndarray")
    apart = at[pairs[:, 0]] - at[pairs[:, 1]]
    apart[:, :2] -= cell * np.round(apart[:, :2] / cell)
    like = number[near][pairs[:, 0]] == number[near][pairs[:, 1]]
    least = np.where(like, kind.least_like, kind.least_unlike)
    pairs = np.sort(pairs[(apart**2).sum(1) < least**2], axis=1)
    out = np.zeros(len(r), bool)
    dropped = np.zeros(len(near), bool)
    for first, second in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
        if not dropped[first]:
            dropped[second] = True
    out[near[dropped]] = True
    return out


def _rippled(r: np.ndarray, cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Atoms moved by long waves that strain their bonds a little, another way each time."""
    waves = rng.integers(1, 4, (3, 2)) * rng.choice([-1, 1], (3, 2))
    phases = rng.uniform(0, 2 * math.pi, 3)
    ways = rng.standard_normal((3, 3))
    steep = 2 * math.pi * np.linalg.norm(waves / cell, axis=1)
    ways *= (_RIPPLE / 3 / steep / np.linalg.norm(ways, axis=1))[:, None]
    return np.asarray(r + np.sin(2 * math.pi * (r[:, :2] / cell) @ waves.T + phases) @ ways)


def _wrapped(r: np.ndarray, cell: tuple[float, float]) -> np.ndarray:
    """Wrapped into the cell along x and y; np.mod rounds -1e-17 up to the period."""
    r[:, :2] = np.mod(r[:, :2], cell)
    r[:, :2][r[:, :2] >= cell] = 0.0
    return r


def _graphene(film: Film, rng: np.random.Generator) -> Atoms:
    """Sheets, each turned at random, the highest at the film's upper face."""
    hexagonal = _GRAPHENE * np.array([[1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    basis = np.array([[0.0, 0.0], [1 / 3, 1 / 3]])
    sheets = []
    for i in range(1, max(1, round(film.thickness / LAYER)) + 1):
        flat = _periodic(hexagonal, basis, film, rng)
        sheets.append(np.c_[flat, np.full(len(flat), i * LAYER)])
    r = np.concatenate(sheets)
    return _atoms(np.full(len(r), 6), _wrapped(r, film.cell), np.full(len(r), 0.4 * B_TO_U))


def _mgo(film: Film, low: float, high: float, rng: np.random.Generator) -> Atoms:
    """A crystal with (001) across the beam, one of its planes at the mean upper face."""
    square = _MGO / math.sqrt(2) * np.eye(2)  # of like atoms in a plane; unlike ones in its middle
    first = math.ceil((low - film.thickness) / (_MGO / 2))
    last = math.floor((high - film.thickness) / (_MGO / 2))
    flat = _periodic(square, np.array([[0.0, 0.0], [0.5, 0.5]]), film, rng)
    oxygen = np.arange(len(flat)) % 2
    planes, numbers = [], []
    for i in range(first, last + 1):
        planes.append(np.c_[flat, np.full(len(flat), film.thickness + i * _MGO / 2)])
        numbers.append(np.where((oxygen + i) % 2 == 0, 12, 8))
    r, number = np.concatenate(planes), np.concatenate(numbers)
    return _atoms(number, _wrapped(r, film.cell), np.where(number == 12, 0.31, 0.34) * B_TO_U)


def _periodic(
    lattice: Float64[np.ndarray, "2 2"], basis: np.ndarray, film: Film, rng: np.random.Generator
) -> Float64[np.ndarray, "n 2"]:
    """The points of a flat crystal, turned and strained so that the cell is one of its periods."""
    first, second = _cell_edges(lattice, film, rng)
    whole = np.array([first, second])
    lowest, highest = np.minimum(0, whole).sum(0), np.maximum(0, whole).sum(0)
    steps = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(lowest, highest, strict=True)), indexing="ij"), -1
    )
    fractional = (steps.reshape(-1, 1, 2) + basis) @ np.linalg.inv(whole)
    # A thousandth of a step aside, so that no point lies on the edge.
    inside = ((fractional[:, 0] > -1e-9) & (fractional[:, 0] < 1 - 1e-9)).all(1)
    points = fractional[inside].reshape(-1, 2) + rng.random(2)
    return np.asarray(np.mod(points, 1) * np.array(film.cell))


def _cell_edges(
    lattice: Float64[np.ndarray, "2 2"], film: Film, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two steps of a lattice that, turned, are the cell's edges but for a small strain."""
    cell = np.array(film.cell)
    reach = math.ceil(cell.max() * (1 + MOST_STRAIN) / np.linalg.norm(lattice, axis=1).min() * 1.2) + 1
    span = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(span, span, indexing="ij"), -1).reshape(-1, 2)
    points = steps @ lattice
    length = np.hypot(points[:, 0], points[:, 1])
    tree = cKDTree(points)
    found = []
    for i in np.flatnonzero(np.abs(length / cell[0] - 1) <= MOST_STRAIN):
        across = np.array([-points[i, 1], points[i, 0]]) * (cell[1] / length[i])
        for j in tree.query_ball_point(across, MOST_STRAIN * cell[1]):
            strained = np.linalg.solve(points[[i, j]], np.diag(cell))
            strain = float(np.abs(np.linalg.svd(strained, compute_uv=False) - 1).max())
            if strain <= MOST_STRAIN:
                found.append((strain, i, j))
    if not found:
        raise ParameterError(
            f"{film.kind} fits no cell of {cell[0]:g} x {cell[1]:g} Å with a strain of at most "
            f"{MOST_STRAIN:g}; take a larger cell, or one of another width"
        )
    found.sort()
    few = [f for f in found if f[0] <= _ENOUGH_STRAIN] or found[:1]
    _, i, j = few[rng.integers(len(few))]
    return steps[i], steps[j]
