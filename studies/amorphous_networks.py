"""The amorphous networks that ship, from nothing: a cube of carbon and one of silicon nitride.

    python studies/amorphous_networks.py carbon | nitride [--side SIDE] [--out FILE.npz]
    python studies/amorphous_networks.py ship CARBON.npz NITRIDE.npz

Carbon begins as flakes of seven rings, turned at random, that hold 0.55 of the atoms, and random atoms
between them. These are molten and quenched with the flakes held under Tersoff's potential; then all is
annealed and relaxed. Quenched from the melt alone, the potential gives three neighbours too, but the first
maximum of the structure factor at 0.40 /Å, where diffraction sees it near 0.47: rings are what it lacks
(Robertson: clusters of rings in a disordered network).

Silicon nitride is quenched under a potential of our own, no more than a way to a network that has the known
bonds: unlike atoms attract each other at 1.73 Å, like ones keep the distances that four nitrogen atoms about
silicon and three silicon atoms about nitrogen have.

Both are periodic along x, y and z; positions are stored as 16-bit fractions of the side, an error under
0.001 Å. Needs numba (the extra `oracle` brings it); one core, half an hour for both at the sides that ship.

References
----------
J. Tersoff, Phys. Rev. B 39 (1989) 5566, doi:10.1103/PhysRevB.39.5566: the potential of carbon.
J. Robertson, Mater. Sci. Eng. R 37 (2002) 129, doi:10.1016/S0927-796X(02)00005-0.
M. Misawa et al., J. Non-Cryst. Solids 34 (1979) 313, doi:10.1016/0022-3093(79)90018-7: bonds and
neighbours of amorphous silicon nitride.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

SHIPPED = Path(__file__).parent.parent / "src/passband/hrtem/specimen/networks.npz"
CARBON_DENSITY, CARBON_SIDE = 0.11, 66.0
"""Atoms/Å³, 2.2 g/cm³; Å."""
FLAKES, FLAKE_RADIUS, FLAKES_APART = 0.55, 3.9, 2.0
"""Share of the atoms; Å: seven rings, 24 atoms; between atoms of two flakes, Å."""
NITRIDE_DENSITY, NITRIDE_SIDE = 0.0902, 54.0
"""Atoms/Å³, 3.0 g/cm³: films grown from the vapour; Å."""

# Tersoff's carbon: eV, 1/Å, Å.
_A, _B, _LAMBDA, _MU = 1393.6, 346.74, 3.4879, 2.2119
_BETA, _N, _C, _D, _H = 1.5724e-7, 0.72751, 38049.0, 4.3484, -0.57058
_R, _S = 1.8, 2.1
# Silicon and nitrogen: bond and reach, Å, steepness, 1/Å, depth, eV; what like atoms keep, Å, eV/Å².
_BOND, _REACH, _STEEP, _DEPTH = 1.73, 2.4, 3.0, 3.0
_SI_SI, _N_N, _STIFF = 3.1, 2.85, 24.0
_DALTON = 103.642697  # eV fs²/Å²
_KB = 8.617333e-5
_SKIN = 0.4  # Å beyond the potentials' reach that neighbours are listed to
_STEP, _FRICTION = 0.5, 0.02  # fs, 1/fs


@numba.njit(cache=True)
def _neighbours(r, side, reach, most):
    """Neighbours nearer than a distance in a periodic cube: (n, most) and how many each has."""
    n = len(r)
    bins = max(3, int(side / reach))
    head = np.full(bins**3, -1, np.int64)
    following = np.empty(n, np.int64)
    place = np.empty((n, 3), np.int64)
    for i in range(n):
        for a in range(3):
            r[i, a] -= side * math.floor(r[i, a] / side)
            place[i, a] = min(bins - 1, int(r[i, a] / side * bins))
        b = (place[i, 0] * bins + place[i, 1]) * bins + place[i, 2]
        following[i] = head[b]
        head[b] = i
    found = np.empty((n, most), np.int64)
    count = np.zeros(n, np.int64)
    for i in range(n):
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                for dz in range(-1, 2):
                    x = (place[i, 0] + dx) % bins
                    y = (place[i, 1] + dy) % bins
                    z = (place[i, 2] + dz) % bins
                    j = head[(x * bins + y) * bins + z]
                    while j >= 0:
                        if j != i:
                            square = 0.0
                            for a in range(3):
                                d = r[j, a] - r[i, a]
                                d -= side * round(d / side)
                                square += d * d
                            if square < reach * reach and count[i] < most:
                                found[i, count[i]] = j
                                count[i] += 1
                        j = following[j]
    return found, count


@numba.njit(cache=True, fastmath=True)
def _tersoff(r, side, near, count, force):
    """Potential energy of carbon, eV, its forces written into an array."""
    n = len(r)
    energy = 0.0
    force[:] = 0.0
    d = np.empty((64, 3))
    length = np.empty(64)
    cut = np.empty(64)
    slope = np.empty(64)
    who = np.empty(64, np.int64)
    for i in range(n):
        m = 0
        for q in range(count[i]):
            j = near[i, q]
            square = 0.0
            for a in range(3):
                v = r[j, a] - r[i, a]
                v -= side * round(v / side)
                d[m, a] = v
                square += v * v
            if square >= _S * _S:
                continue
            s = math.sqrt(square)
            length[m] = s
            who[m] = j
            for a in range(3):
                d[m, a] /= s
            if s < _R:
                cut[m], slope[m] = 1.0, 0.0
            else:
                t = math.pi * (s - _R) / (_S - _R)
                cut[m] = 0.5 + 0.5 * math.cos(t)
                slope[m] = -0.5 * math.sin(t) * math.pi / (_S - _R)
            m += 1
        for p in range(m):
            j = who[p]
            zeta = 0.0
            for q in range(m):
                if q != p:
                    c = d[p, 0] * d[q, 0] + d[p, 1] * d[q, 1] + d[p, 2] * d[q, 2]
                    zeta += cut[q] * (1 + _C**2 / _D**2 - _C**2 / (_D**2 + (_H - c) ** 2))
            bz = (_BETA * zeta) ** _N if zeta > 0 else 0.0
            order = (1 + bz) ** (-0.5 / _N)
            repel = _A * math.exp(-_LAMBDA * length[p])
            attract = _B * math.exp(-_MU * length[p])
            energy += 0.5 * cut[p] * (repel - order * attract)
            along = 0.5 * (
                slope[p] * (repel - order * attract) + cut[p] * (-_LAMBDA * repel + _MU * order * attract)
            )
            for a in range(3):
                force[i, a] += along * d[p, a]
                force[j, a] -= along * d[p, a]
            if zeta <= 0:
                continue
            by_zeta = 0.25 * cut[p] * attract * order / (1 + bz) * bz / zeta
            for q in range(m):
                if q == p:
                    continue
                k = who[q]
                c = d[p, 0] * d[q, 0] + d[p, 1] * d[q, 1] + d[p, 2] * d[q, 2]
                under = _D**2 + (_H - c) ** 2
                g = 1 + _C**2 / _D**2 - _C**2 / under
                turn = -2 * _C**2 * (_H - c) / under**2
                for a in range(3):
                    fj = by_zeta * cut[q] * turn * (d[q, a] - c * d[p, a]) / length[p]
                    fk = by_zeta * (
                        cut[q] * turn * (d[p, a] - c * d[q, a]) / length[q] + slope[q] * g * d[q, a]
                    )
                    force[j, a] -= fj
                    force[k, a] -= fk
                    force[i, a] += fj + fk
    return energy


@numba.njit(cache=True)
def _spread(r, side, least, rounds):
    """Push points apart that are nearer than a distance, until none is."""
    for _ in range(rounds):
        near, count = _neighbours(r, side, least, 24)
        close = 0
        for i in range(len(r)):
            for q in range(count[i]):
                j = near[i, q]
                if j < i:
                    continue
                square = 0.0
                d = np.empty(3)
                for a in range(3):
                    d[a] = r[j, a] - r[i, a]
                    d[a] -= side * round(d[a] / side)
                    square += d[a] * d[a]
                s = math.sqrt(square) + 1e-9
                if s < least:
                    close += 1
                    for a in range(3):
                        step = 0.3 * (least - s) * d[a] / s
                        r[j, a] += step
                        r[i, a] -= step
        if close == 0:
            break


@numba.njit(cache=True)
def _moved(r, old, side):
    """The greatest distance that an atom went."""
    most = 0.0
    for i in range(len(r)):
        square = 0.0
        for a in range(3):
            d = r[i, a] - old[i, a]
            d -= side * round(d / side)
            square += d * d
        most = max(most, square)
    return math.sqrt(most)


Forces = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]
"""(positions, neighbours, their counts, forces to be written) -> energy."""


@numba.njit(cache=True, fastmath=True)
def _ionic(r, silicon, side, near, count, force):
    """Energy of silicon and nitrogen, eV, the forces written into an array."""
    energy = 0.0
    force[:] = 0.0
    d = np.empty(3)
    edge = _DEPTH * ((1 - math.exp(-_STEEP * (_REACH - _BOND))) ** 2 - 1)
    for i in range(len(r)):
        for q in range(count[i]):
            j = near[i, q]
            if j < i:
                continue
            square = 0.0
            for a in range(3):
                d[a] = r[j, a] - r[i, a]
                d[a] -= side * round(d[a] / side)
                square += d[a] * d[a]
            s = math.sqrt(square)
            slope = 0.0
            if silicon[i] != silicon[j]:
                if s < _REACH:
                    e = math.exp(-_STEEP * (s - _BOND))
                    energy += _DEPTH * ((1 - e) ** 2 - 1) - edge
                    slope = 2 * _DEPTH * (1 - e) * e * _STEEP
            else:
                least = _SI_SI if silicon[i] else _N_N
                if s < least:
                    energy += 0.5 * _STIFF * (least - s) ** 2
                    slope = -_STIFF * (least - s)
            for a in range(3):
                force[i, a] += slope * d[a] / s
                force[j, a] -= slope * d[a] / s
    return energy


class _Atoms:
    """Atoms in a periodic cube, with forces on them."""

    def __init__(self, r: np.ndarray, side: float, mass: float, reach: float, forces: Forces) -> None:
        self.r, self.side, self.mass, self.reach, self.forces = r, side, mass * _DALTON, reach, forces
        self.v, self.force = np.zeros_like(r), np.zeros_like(r)
        self._list()
        self.energy = forces(r, self.near, self.count, self.force)

    def _list(self) -> None:
        self.near, self.count = _neighbours(self.r, self.side, self.reach + _SKIN, 60)
        self.old = self.r.copy()

    def feel(self) -> None:
        """Forces where the atoms now are."""
        if _moved(self.r, self.old, self.side) > _SKIN / 2:
            self._list()
        self.energy = self.forces(self.r, self.near, self.count, self.force)

    def cool(self, kelvins: np.ndarray, rng: np.random.Generator, held: int = 0) -> None:
        """Move at a temperature for each step; the first atoms may be held. Langevin, BAOAB."""
        keep, start = math.exp(-_FRICTION * _STEP), time.perf_counter()
        for i, kelvin in enumerate(kelvins):
            self.v += 0.5 * _STEP * self.force / self.mass
            np.clip(self.v, -0.3, 0.3, out=self.v)
            self.v[:held] = 0
            self.r += 0.5 * _STEP * self.v
            width = math.sqrt((1 - keep**2) * _KB * kelvin / self.mass)
            self.v = keep * self.v + width * rng.standard_normal(self.v.shape)
            self.v[:held] = 0
            self.r += 0.5 * _STEP * self.v
            self.feel()
            self.v += 0.5 * _STEP * self.force / self.mass
            if i % 2000 == 0:
                at = f"{self.energy / len(self.r):.3f} eV an atom"
                print(
                    f"{i} of {len(kelvins)}: {kelvin:.0f} K, {at}, {time.perf_counter() - start:.0f} s",
                    flush=True,
                )

    def relax(self, steps: int = 1500, least: float = 0.05) -> None:
        """Down to the nearest minimum of the energy, by FIRE."""
        v, step, mixing, since = np.zeros_like(self.r), _STEP, 0.1, 0
        for _ in range(steps):
            self.feel()
            if (self.force * v).sum() > 0:
                along = self.force * np.linalg.norm(v) / np.linalg.norm(self.force)
                v, since = (1 - mixing) * v + mixing * along, since + 1
                if since > 5:
                    step, mixing = min(step * 1.1, 2.0), mixing * 0.99
            else:
                v[:], step, mixing, since = 0.0, step * 0.5, 0.1, 0
            v += step * self.force / self.mass
            self.r += np.clip(step * v, -0.1, 0.1)
            if np.abs(self.force).max() < least:
                break
        print(
            f"relaxed: {self.energy / len(self.r):.3f} eV an atom, "
            f"greatest force {np.abs(self.force).max():.3f} eV/Å"
        )
        self.r %= self.side


def _geometric(first: float, last: float, steps: int) -> np.ndarray:
    return np.asarray(first * (last / first) ** (np.arange(steps) / steps))


def carbon(side: float, *, seed: int = 1, quench: int = 6000, anneal: int = 12_000) -> np.ndarray:
    """Positions of a periodic cube of carbon, (n, 3) in Å."""
    rng = np.random.default_rng(seed)
    n = round(CARBON_DENSITY * side**3)
    r = _flakes(side, round(FLAKES * n), rng)
    held = len(r)
    while len(r) < n:
        points = rng.random((20_000, 3)) * side
        far = np.isinf(cKDTree(r, boxsize=side).query(points, distance_upper_bound=1.4)[0])
        r = np.concatenate([r, points[far][: max(1, (n - len(r)) // 40)]])
    _spread(r[held:], side, 1.0, 50)
    atoms = _Atoms(r, side, 12.011, _S, lambda r, near, count, force: _tersoff(r, side, near, count, force))
    atoms.cool(_geometric(5000, 3500, quench), rng, held)
    atoms.cool(_geometric(3500, 300, anneal), rng)
    atoms.relax()
    return atoms.r


def _flakes(side: float, most: int, rng: np.random.Generator) -> np.ndarray:
    """Pieces of graphene, turned at random, as many as there is room for, of so many atoms at most."""
    i, j = (v.ravel() for v in np.meshgrid(np.arange(-8, 9), np.arange(-8, 9)))
    x, y = 2.46 * (i + j / 2), 2.46 * math.sqrt(3) / 2 * j
    sheet = np.concatenate([np.c_[x, y + 1.42, 0 * x], np.c_[x, y - 1.42, 0 * x]])
    flake = sheet[np.hypot(sheet[:, 0], sheet[:, 1]) < FLAKE_RADIUS]
    kept, tree = np.empty((0, 3)), None
    while len(kept) + len(flake) <= most:
        turns = Rotation.random(64, random_state=rng)
        for turn, place in zip(turns, rng.random((64, 3)) * side, strict=True):
            points = (turn.apply(flake) + place) % side
            if tree is None or np.isinf(tree.query(points, distance_upper_bound=FLAKES_APART)[0]).all():
                kept = np.concatenate([kept, points])
                tree = cKDTree(kept, boxsize=side)
                if len(kept) + len(flake) > most:
                    break
    return kept


def nitride(
    side: float, *, seed: int = 1, melt: int = 4000, quench: int = 24_000
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of a periodic cube of Si3N4, (n, 3) in Å, and which atoms are silicon."""
    rng = np.random.default_rng(seed)
    units = round(NITRIDE_DENSITY * side**3 / 7)
    silicon = np.arange(7 * units) < 3 * units
    r = rng.random((7 * units, 3)) * side
    _spread(r, side, 1.5, 400)
    forces: Forces = lambda r, near, count, force: _ionic(r, silicon, side, near, count, force)  # noqa: E731
    atoms = _Atoms(r, side, 20.0, _SI_SI, forces)
    atoms.cool(np.r_[np.full(melt, 8000.0), _geometric(8000, 100, quench)], rng)
    atoms.relax()
    return atoms.r, silicon


def short_range_order(r: np.ndarray, side: float, reach: float = 1.9) -> dict[str, np.ndarray]:
    """Neighbours, pair distribution and structure factor of a periodic cube of atoms."""
    tree, n = cKDTree(r % side, boxsize=side), len(r)
    number = tree.query_ball_point(r % side, reach, return_length=True) - 1
    edges = np.arange(0.0, min(16.0, side / 2) + 1e-9, 0.05)
    at = (edges[1:] + edges[:-1]) / 2
    pairs = np.diff(tree.count_neighbors(tree, edges)) / n
    g = pairs / (4 / 3 * math.pi * np.diff(edges**3) * n / side**3)
    k = np.arange(0.2, 1.5, 0.02)
    weight = 4 * math.pi * at**2 * 0.05 * (g - 1) * np.sinc(at / at[-1]) * n / side**3
    return {"neighbours": number, "r": at, "g": g, "k": k, "S": 1 + np.sinc(2 * k[:, None] * at) @ weight}


def tell(r: np.ndarray, side: float) -> None:
    """Print the short-range order."""
    found = short_range_order(r, side)
    share = np.bincount(found["neighbours"]) / len(r)
    print(
        f"{len(r)} atoms in {side:g} Å; {found['neighbours'].mean():.2f} neighbours within 1.9 Å, "
        f"shares {share.round(3)}"
    )
    for k, s in zip(found["k"], found["S"], strict=True):
        print(f"  S({k:.2f} /Å) = {s:.2f}")


def ship(carbon_file: Path, nitride_file: Path) -> None:
    """Put both into the one file that the package reads."""
    arrays = {}
    for name, path in (("carbon", carbon_file), ("nitride", nitride_file)):
        held = np.load(path)
        side, fractions = float(held["side"]), held["positions"] / held["side"]
        steps = np.round(fractions * 65536).astype(np.int64) % 65536
        arrays |= {f"{name}_positions": steps.astype(np.uint16), f"{name}_side": np.float64(side)}
        arrays[f"{name}_numbers"] = held["numbers"].astype(np.uint8)
    np.savez_compressed(SHIPPED, **arrays)
    print(SHIPPED, SHIPPED.stat().st_size, "bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("carbon", "nitride", "ship"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--side", type=float)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.what == "ship":
        ship(*asked.files)
        return
    if asked.what == "carbon":
        side = asked.side or CARBON_SIDE
        r = carbon(side)
        numbers = np.full(len(r), 6)
    else:
        side = asked.side or NITRIDE_SIDE
        r, silicon = nitride(side)
        numbers = np.where(silicon, 14, 7)
    if asked.out:
        np.savez(asked.out, positions=r, side=side, numbers=numbers)
    tell(r, side)


if __name__ == "__main__":
    main()
