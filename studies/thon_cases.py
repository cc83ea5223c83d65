"""Micrographs of amorphous films with known lenses, made by another program: abTEM, and a camera of numpy.

The waves and the lens are abTEM's, the camera is written here. Fair cases are what a microscopist may ask
for; in unfair ones what the fit is told is wrong, or the image has no lens to tell of.
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from passband.store.files import write_whole

SEEDS = {
    "choose": 7_000,
    "choose more": 61_000,
    "choose again": 905_000,
    "choose last": 1_777_000,
    "report": 3_141_000,
}
WAVES = {"choose": 20, "choose more": 40, "choose again": 40, "choose last": 40, "report": 40}
FAIR = UNFAIR = 5  # of each wave
ROOT = Path("out/thon_rings")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Field:
    """A kind of micrograph: electron energy in eV, lengths in Å, how far its foci reach."""

    energy: float
    cell: float
    sampling: float
    pixel: float
    defocus: tuple[float, float]


FIELDS = (
    Field(energy=300e3, cell=120.0, sampling=0.2, pixel=0.2, defocus=(300.0, 1500.0)),
    Field(energy=300e3, cell=240.0, sampling=0.25, pixel=0.25, defocus=(300.0, 4000.0)),
    Field(energy=200e3, cell=300.0, sampling=0.25, pixel=0.5, defocus=(300.0, 5000.0)),
    Field(energy=300e3, cell=640.0, sampling=0.5, pixel=1.0, defocus=(2000.0, 20000.0)),
    Field(energy=80e3, cell=240.0, sampling=0.3, pixel=0.3, defocus=(300.0, 3000.0)),
)
UNFAIR_KINDS = (
    "beyond the search",
    "astigmatism beyond the search",
    "strong drift",
    "energy given wrongly",
    "pixel size given wrongly",
    "Cs given wrongly",
    "Cs not given",
    "in focus",
    "too few electrons",
    "two heights",
    "no film",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image: its lens, its camera, and what the fit is told of them (lengths in Å, energy in eV)."""

    kind: str
    C10: float
    C12: float = 0.0
    phi12: float = 0.0
    C30: float = 0.0
    focal_spread: float = 20.0
    angular_spread: float = 0.0
    dose: float = 400.0
    mtf: float = 0.5
    drift: float = 0.0
    drift_angle: float = 0.0
    step: float = 0.0
    told: dict[str, float | None] = field(default_factory=dict)


def carbon(rng: np.random.Generator, cell: float, thickness: float, density: float) -> np.ndarray:
    """Atoms at random, none nearer than 1.35 Å to another: (n, 3), Å."""
    from scipy.spatial import cKDTree

    points = rng.random((int(1.6 * density * cell**2 * thickness), 3)) * (cell, cell, thickness)
    for _ in range(6):  # of each pair that is too near one atom goes
        pairs = cKDTree(points).query_pairs(1.35, output_type="ndarray")
        if not len(pairs):
            break
        points = np.delete(points, np.unique(pairs[:, 1]), axis=0)
    return points[rng.permutation(len(points))][: int(density * cell**2 * thickness)]


def wave(kind: str, i: int) -> tuple[np.ndarray, Row]:
    """Exit wave (y, x) of a film, some with gold on it, and what is known of it."""
    import abtem
    import ase
    from ase.cluster import Octahedron

    of = FIELDS[i % len(FIELDS)]
    rng = np.random.default_rng([SEEDS[kind], i])
    thickness = float(rng.uniform(20, 80))
    film = carbon(rng, of.cell, thickness, 0.1)
    middle = thickness / 2  # above the exit face
    atoms = ase.Atoms(f"C{len(film)}", positions=film)
    gold = i % 3 == 1
    if gold:
        for _ in range(int(rng.integers(1, 4))):
            particle = Octahedron("Au", int(rng.integers(5, 9)), cutoff=1)
            particle.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
            particle.positions -= particle.positions.min(axis=0)
            room = np.array([of.cell, of.cell]) - particle.positions.max(axis=0)[:2]
            particle.positions += [*(rng.random(2) * room), thickness + 1.0]
            atoms += particle
    height = float(np.ceil(atoms.positions[:, 2].max() + 1))
    atoms.set_cell([of.cell, of.cell, height])
    atoms.positions[:, 2] = height - atoms.positions[:, 2]  # gold first, film at the exit face
    atoms.set_pbc(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        abtem.config.set({"scheduler": "single-threaded", "fftw.threads": 1})
        potential = abtem.Potential(atoms, sampling=of.sampling, slice_thickness=2.0, projection="infinite")
        exit_wave = abtem.PlaneWave(energy=of.energy).multislice(potential).compute(progress_bar=False)
    facts = {"thickness": thickness, "middle": middle, "gold": gold, "energy": of.energy, "pixel": of.pixel}
    return np.ascontiguousarray(exit_wave.array.T), facts


def image(wave: np.ndarray, of: Field, case: Case, seed: list[int]) -> np.ndarray:
    """Counts of a camera, cut so that nothing is periodic: float32 (y, x)."""
    rng = np.random.default_rng(seed)
    if case.kind == "no film":
        side = round(0.86 * of.cell / of.pixel)
        return rng.poisson(case.dose * of.pixel**2, (side, side)).astype(np.float32)
    pixels = seen(wave, of, case, rng, case.C10)
    if case.step:
        half = pixels.shape[1] // 2
        pixels[:, half:] = seen(wave, of, case, rng, case.C10 + case.step)[:, half:]
    return pixels


def seen(wave: np.ndarray, of: Field, case: Case, rng: np.random.Generator, C10: float) -> np.ndarray:
    import abtem

    waves = abtem.Waves(wave.T, energy=of.energy, extent=of.cell)
    lens = abtem.CTF(
        energy=of.energy,
        aberration_coefficients={"C10": C10, "C12": case.C12, "phi12": case.phi12, "C30": case.C30},
        focal_spread=case.focal_spread,
        angular_spread=case.angular_spread,
    )
    intensity = np.abs(waves.apply_ctf(lens).compute(progress_bar=False).array.T).astype(np.float64) ** 2
    n, size = round(of.cell / of.pixel), len(intensity)
    spectrum = np.fft.fftshift(np.fft.fft2(intensity)) * (n / size) ** 2
    low = (size - n) // 2
    spectrum = np.fft.ifftshift(spectrum[low : low + n, low : low + n])
    k = np.fft.fftfreq(n, of.pixel)
    ky, kx = k[:, None], k[None]
    along = kx * math.cos(case.drift_angle) + ky * math.sin(case.drift_angle)
    spectrum *= np.sinc(case.drift * along) * np.sinc(kx * of.pixel) * np.sinc(ky * of.pixel)
    electrons = rng.poisson(np.maximum(np.fft.ifft2(spectrum).real, 0) * case.dose * of.pixel**2)
    # A scintillator that passes `mtf` at Nyquist, gain that varies by 1 %, dark current, readout noise.
    q = np.hypot(ky, kx) * 2 * of.pixel
    counts = np.fft.ifft2(np.fft.fft2(electrons) * case.mtf**q).real
    counts = counts * rng.normal(1, 0.01, counts.shape) + 20 + rng.normal(0, 0.5, counts.shape)
    side, at = round(0.86 * n), int(0.07 * n)
    return np.ascontiguousarray(counts[at : at + side, at : at + side], np.float32)


def cases(kind: str, i: int) -> list[Case]:
    """The images of a wave: first the fair ones."""
    of = FIELDS[i % len(FIELDS)]
    drawn = []
    for j in range(FAIR + UNFAIR):
        rng = np.random.default_rng([SEEDS[kind], i, j])
        what = "fair" if j < FAIR else UNFAIR_KINDS[(i * UNFAIR + j - FAIR) % len(UNFAIR_KINDS)]
        drawn.append(draw(rng, of, what))
    return drawn


def draw(rng: np.random.Generator, of: Field, what: str) -> Case:
    low, high = of.defocus
    focus = float(np.exp(rng.uniform(math.log(low), math.log(high))))
    sign = float(rng.choice([-1, 1]))
    values: Row = {
        "C10": sign * focus,
        "C12": float(rng.uniform(0, 0.2 * focus)),
        "phi12": float(rng.uniform(0, math.pi)),
        "C30": float(rng.choice([0.0, *rng.uniform(0, 2.7e7, 3)])),
        "focal_spread": float(rng.uniform(10, 50)),
        "angular_spread": float(rng.uniform(0, 0.15e-3)),
        "dose": float(np.exp(rng.uniform(math.log(30), math.log(2000)))),
        "mtf": float(rng.uniform(0.2, 0.8)),
        "drift": float(rng.uniform(0, 0.5)),
        "drift_angle": float(rng.uniform(0, math.pi)),
    }
    told: dict[str, float | None] = {"C30": values["C30"]}
    if what == "beyond the search":
        told["most_defocus"] = float(focus * rng.uniform(0.3, 0.8))
    elif what == "astigmatism beyond the search":
        values["C12"] = float(focus * rng.uniform(0.2, 0.8))
        told["most_astigmatism"] = float(values["C12"] * rng.uniform(0.2, 0.6))
    elif what == "strong drift":
        values["drift"] = float(of.pixel * rng.uniform(4, 12))
    elif what == "energy given wrongly":
        values["C30"] = told["C30"] = float(rng.uniform(0.5e7, 2.7e7))
        told["energy"] = float(rng.choice([e for e in (80e3, 120e3, 200e3, 300e3) if e != of.energy]))
    elif what == "pixel size given wrongly":
        values["C30"] = told["C30"] = float(rng.uniform(0.5e7, 2.7e7))
        told["pixel_size"] = float(of.pixel * rng.choice([0.5, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 2.0]))
    elif what == "Cs given wrongly":
        shift = float(rng.uniform(0.4e7, 2e7) * rng.choice([-1, 1]))
        told["C30"] = values["C30"] + shift if values["C30"] + shift >= 0 else values["C30"] - shift
    elif what == "Cs not given":
        told["C30"] = None
    elif what == "in focus":
        values |= {"C10": sign * float(rng.uniform(0, 60)), "C12": float(rng.uniform(0, 20)), "C30": 0.0}
        told["C30"] = 0.0
    elif what == "too few electrons":
        values["dose"] = float(10 ** rng.uniform(-0.5, 0.7))
    elif what == "two heights":
        values["step"] = float(focus * rng.uniform(0.15, 0.5))
    return Case(kind=what, **values, told=told)


def prepare(kind: str, i: int) -> list[Row]:
    """Images of a wave on disk, and a row for each with its truth; made once."""
    folder = ROOT / kind / f"{i:02d}"
    table = folder / "cases.json"
    if table.exists():
        rows: list[Row] = json.loads(table.read_text())
        return rows
    folder.mkdir(parents=True, exist_ok=True)
    of = FIELDS[i % len(FIELDS)]
    exit_wave, facts = wave(kind, i)
    rows = []
    for j, case in enumerate(cases(kind, i)):
        np.save(folder / f"{j}.npy", image(exit_wave, of, case, [SEEDS[kind], i, j, 1]))
        truth = case.C10 + facts["middle"]
        known = {"energy": of.energy, "pixel_size": of.pixel} | case.told
        rows.append({"wave": i, "case": j, "truth": truth, "known": known} | facts | asdict(case))
    write_whole(table, json.dumps(rows))
    return rows


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:] or list(SEEDS):
        for i in range(WAVES[name]):
            prepare(name, i)
            print(name, i + 1, "of", WAVES[name], flush=True)
