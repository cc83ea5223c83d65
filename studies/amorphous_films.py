"""Films measured: neighbours, structure factor, cost; the network that ships beside random packing.

    python studies/amorphous_films.py [studies/results/amorphous_films.txt]

Twenty draws of each kind in a cell of 102.4 Å, 40 Å thick; structure factor from |sum exp(2 pi i q r)|² / n
for q across the beam, averaged over rings. Processor time, medians, of a film of 50 Å. One core, a minute.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from passband.hrtem.specimen.films import Film, build_film

CELL, DRAWS, PIXEL = 102.4, 20, 0.2
EDGES = np.arange(0.2, 1.4, 0.02)


def film(kind: str, seed: int, thickness: float = 40.0) -> Film:
    return Film(kind=kind, cell=(CELL, CELL), thickness=thickness, seed=seed)


def neighbours(r: np.ndarray) -> np.ndarray:
    """How many atoms are within 1.9 Å of each atom that lies 6 Å and more from the faces."""
    lifted = r - [0, 0, r[:, 2].min()]
    inside = lifted[np.abs(lifted[:, 2] - 20) < 14][::5]
    return cKDTree(lifted, boxsize=(CELL, CELL, 0)).query_ball_point(inside, 1.9, return_length=True) - 1


def rings(r: np.ndarray) -> np.ndarray:
    """The structure factor in each ring."""
    n = round(CELL / PIXEL)
    at = np.floor(r[:, :2] / PIXEL).astype(int) % n
    counts = np.bincount(at[:, 0] * n + at[:, 1], minlength=n * n).reshape(n, n)
    q = np.fft.fftfreq(n, PIXEL)
    shape = np.sinc(q * PIXEL)
    power = np.abs(np.fft.fft2(counts)) ** 2 / len(r) / np.outer(shape, shape) ** 2
    length = np.hypot(q[:, None], q)
    return np.array([power[(length >= a) & (length < a + 0.02)].mean() for a in EDGES])


def seconds(kind: str) -> float:
    taken = []
    for seed in range(9):
        start = time.process_time()
        build_film(film(kind, seed, 50.0))
        taken.append(time.process_time() - start)
    return float(np.median(taken[1:]))


def main(lines: list[str]) -> None:
    for kind in ("packed carbon", "carbon", "silicon nitride"):
        films = [build_film(film(kind, seed)) for seed in range(DRAWS)]
        density = np.mean([len(f.numbers) for f in films]) / (CELL**2 * 40)
        s = np.mean([rings(f.positions) for f in films], 0)
        middle = EDGES + 0.01
        peaks = [i for i in range(2, len(s) - 2) if s[i] == s[i - 2 : i + 3].max()]
        shown = ", ".join(f"{s[i]:.2f} at {middle[i]:.2f}" for i in peaks)
        lines.append(f"{kind}: {density:.4f} atoms/Å³, {1e3 * seconds(kind):.0f} ms for a film of 50 Å")
        if kind != "silicon nitride":
            found = np.concatenate([neighbours(f.positions) for f in films])
            lines.append(f"  neighbours within 1.9 Å {found.mean():.2f}, shares of 0 to 5:")
            lines.append(
                "  " + " ".join(f"{v:.3f}" for v in np.bincount(found, minlength=6)[:6] / len(found))
            )
        lines.append(
            f"  S of all atoms alike: maxima {shown} /Å; {np.interp(0.45, middle, s):.2f} at 0.45 /Å"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    told: list[str] = []
    main(told)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join(told) + "\n", "utf-8")
