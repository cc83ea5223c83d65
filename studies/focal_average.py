"""The mean over the focal spread: what each way costs, and how far its images are off on the particle.

    python studies/focal_average.py

Error: root mean square of the difference over the image's deviation, both on the particles' pixels, against a
Gauss-Hermite mean over 101 foci; the worst of two default scenes of each material, near a zone axis, without
noise or other aberrations, by defocus. Cost: processor time of an image of 512 x 512 points from a wave
stored to 1.25/Å, over the envelope's, both in one run; the median of ratios. The chosen nodes are those of
`focal_nodes`, which leave out at most 0.003 of what is scattered.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from passband.hrtem.specimen.labels import disc_labels
from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen, draw_specimen
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.focal_average import focal_nodes
from passband.hrtem.wave.imaging import image_intensity
from passband.hrtem.wave.scattering import ExitWave, WaveSettings, exit_wave
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import Lens, lens_of
from passband.store.files import write_whole

RESULT = Path("studies/results/focal_average.csv")
MATERIALS, SPREADS, FOCI = ("Au", "CdSe", "Si"), (5.0, 10.0, 14.0, 30.0, 60.0), (0.0, -100.0, -300.0)
ENERGIES, SHAPE, RULES = (300e3, 80e3), (512, 512), (3, 5, 9)
COLUMNS = (
    "material",
    "energy_kev",
    "focal_spread",
    "way",
    "images",
    *(f"off_at_{-c:g}" for c in FOCI),
    "cost",
)


def condition(energy: float, spread: float, c10: float) -> ImagingConditions:
    return ImagingConditions(energy=energy, C10=c10, C30=0.0, focal_spread=spread, angular_spread=0.0)


def ways(wave: ExitWave, energy: float, spread: float) -> dict[str, tuple[int, Callable[[Lens], Tensor]]]:
    """Of each its number of coherent images, and how an image is made."""
    chosen = torch.tensor(focal_nodes(condition(energy, spread, 0.0), wave), dtype=torch.float64)
    found = {"envelope": (1, lambda lens: image_intensity(wave, lens, shape=SHAPE))}
    found["chosen nodes"] = len(chosen), lambda lens: image_intensity(wave, lens, nodes=chosen, shape=SHAPE)
    for n in RULES:
        found[f"{n} foci"] = n, lambda lens, n=n: image_intensity(wave, lens, foci=n, shape=SHAPE)
    return found


def scenes(material: str) -> list[Specimen]:
    ranges = SpecimenRanges(materials=(material,), near_zone_share=1.0)
    return [build_specimen(draw_specimen(ranges, seed)) for seed in (3, 4)]


def seconds(work: Callable[[Lens], object], lens: Lens) -> float:
    start = time.process_time()
    work(lens)
    return time.process_time() - start


def measured(material: str, energy: float) -> list[list[object]]:
    off: dict[tuple[float, str], list[float]] = {}
    images: dict[tuple[float, str], int] = {}
    costs: dict[tuple[float, str], list[float]] = {}
    for specimen in scenes(material):
        wave = exit_wave(specimen, WaveSettings(energy=energy))
        inside = torch.as_tensor(disc_labels(specimen, SHAPE) > 0)
        for spread in SPREADS:
            for place, c10 in enumerate(FOCI):
                lens = lens_of([condition(energy, spread, c10)], dtype=torch.float64)
                exact = image_intensity(wave, lens, foci=101, shape=SHAPE)[0][inside]
                for name, (count, make) in ways(wave, energy, spread).items():
                    error = (make(lens)[0][inside] - exact).square().mean().sqrt() / exact.std()
                    row = off.setdefault((spread, name), [0.0] * len(FOCI))
                    row[place] = max(row[place], 100 * float(error))
                    images[spread, name] = max(count, images.get((spread, name), 0))
            made = ways(wave, energy, spread)
            for _ in range(5):
                base = seconds(made["envelope"][1], lens)
                for name, (_, make) in made.items():
                    costs.setdefault((spread, name), []).append(seconds(make, lens) / base)
    return [
        [material, f"{energy / 1e3:g}", f"{spread:g}", name, images[spread, name]]
        + [f"{e:.2f}" for e in row]
        + [f"{np.median(costs[spread, name]):.1f}"]
        for (spread, name), row in off.items()
    ]


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    print(*COLUMNS)
    for material in MATERIALS:
        for energy in ENERGIES:
            for row in measured(material, energy):
                print(*row, flush=True)
                table.writerow(row)
    write_whole(RESULT, text.getvalue())


if __name__ == "__main__":
    main()
