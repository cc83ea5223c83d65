"""How near images are to converged ones, by material, energy and sampling; and ways to get nearer.

    python studies/convergence.py          every material: studies/results/convergence.csv
    python studies/convergence.py ways     schemes of multislice: studies/results/convergence_ways.csv
    python studies/convergence.py films    films alone: studies/results/convergence_films.csv
    python studies/convergence.py table    what the first says, as docs/hrtem.md shows it

Error: root mean square of the difference to the converged image over that image's deviation, both on the
particle's pixels. The particle is a sphere of 50 Å, the largest of those drawn by default, in vacuum.
A film is one of 50 Å, and all pixels count.
Converged is 0.05 Å and slices of 1 Å. Images have pixels of 0.2 Å, a focal spread of 10 Å as a mean over
foci, no other aberration and no noise; the worst of three foci, 0 and 100 Å to both sides.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from passband.errors import CoarseSamplingWarning
from passband.hrtem.specimen.crystals import zone_directions
from passband.hrtem.specimen.labels import disc_labels
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import Particle
from passband.hrtem.specimen.placing import near_zone_rotation, uniform_rotation
from passband.hrtem.specimen.record import SpecimenRecord
from passband.hrtem.specimen.specimen import Specimen, build_specimen
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.imaging import image_intensity
from passband.hrtem.wave.potential import antialias_band, sampling_band, slice_count, slice_potential
from passband.hrtem.wave.sampling import Sampling, good_sampling
from passband.hrtem.wave.scattering import ExitWave, WaveSettings, exit_wave, multislice
from passband.optics.bands import band_within, crop
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import lens_of
from passband.store.files import write_whole
from passband.units import electron_wavelength

RESULTS = Path("studies/results")
TABLE, WAYS = RESULTS / "convergence.csv", RESULTS / "convergence_ways.csv"
OF_FILMS = RESULTS / "convergence_films.csv"
ENERGIES, PIXELS = (300e3, 200e3, 80e3), (0.2, 0.18, 0.16, 0.14, 0.12)
SLICES = (1.0, 3.0, 4.0)  # tried at the pixels chosen; 2 Å at all
SIDE, DIAMETER, SHAPE, FOCI = 64.0, 50.0, (320, 320), (0.0, -100.0, 100.0)
CONVERGED = WaveSettings(pixel_size=0.05, slice_thickness=1.0)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A zone axis and how many degrees it is from the beam; without one, an orientation at random."""

    zone: tuple[int, int, int] | None
    tilt: float = 0.0

    @property
    def words(self) -> str:
        """As the tables have it."""
        if self.zone is None:
            return "random"
        return f"[{' '.join(map(str, self.zone))}]" + (f" + {self.tilt:g}°" if self.tilt else "")


def poses(material: str) -> list[Pose]:
    zones = MATERIALS[material].zones
    return [*(Pose(zone=z) for z in zones), Pose(zone=zones[0], tilt=3.0), Pose(zone=None)]


def sphere(material: str, pose: Pose) -> Specimen:
    m, rng = MATERIALS[material], np.random.default_rng(0)
    if pose.zone is None:
        turned = uniform_rotation(rng)
    else:
        turned = near_zone_rotation(zone_directions(m, pose.zone), math.radians(pose.tilt), rng)
    middle = SIDE / 2
    ball = Particle(
        material=material, diameter=DIAMETER, x=middle, y=middle, rotation=turned, offset=(0.1, 0.2, 0.3)
    )
    return build_specimen(SpecimenRecord(cell=(SIDE, SIDE), thickness=0.0, particles=(ball,), materials=(m,)))


def images(wave: ExitWave) -> torch.Tensor:
    common = {"energy": wave.energy, "C30": 0.0, "focal_spread": 10.0, "angular_spread": 0.0}
    lenses = lens_of([ImagingConditions(C10=c, **common) for c in FOCI], dtype=torch.float64)
    return image_intensity(wave, lenses, foci=7, shape=SHAPE)


class Judge:
    """Knows the converged images of a specimen and says how far others are from them."""

    def __init__(self, specimen: Specimen, converged: ExitWave) -> None:
        labels = disc_labels(specimen, SHAPE)
        self.inside = torch.as_tensor((labels > 0) | (labels.max() == 0))
        self.right = [image[self.inside] for image in images(converged)]

    def __call__(self, wave: ExitWave) -> float:
        """The error at the worst focus."""
        found = [image[self.inside] for image in images(wave)]
        return max(
            float((f - r).square().mean().sqrt() / r.std()) for f, r in zip(found, self.right, strict=True)
        )


def every_material() -> Iterator[list[object]]:
    yield ["material", "energy_kev", "pose", "pixel_size", "slice_thickness", "error_percent"]
    for material in MATERIALS:
        for pose in poses(material):
            specimen = sphere(material, pose)
            for energy in ENERGIES:
                off = Judge(specimen, exit_wave(specimen, replace(CONVERGED, energy=energy)))
                good = good_sampling(np.unique(specimen.numbers).tolist(), energy)
                tried = [Sampling(pixel_size=p, slice_thickness=2.0) for p in PIXELS]
                tried += [replace(good, slice_thickness=t) for t in SLICES]
                for at in tried:
                    wave = exit_wave(specimen, WaveSettings(energy=energy, **asdict(at)))
                    row = [material, f"{energy / 1e3:g}", pose.words, at.pixel_size, at.slice_thickness]
                    row += [f"{100 * off(wave):.2f}"]
                    print(*row, flush=True)
                    yield row


def every_film() -> Iterator[list[object]]:
    """Films without particles, by which nothing is chosen where there are some."""
    yield ["film", "energy_kev", "pixel_size", "slice_thickness", "error_percent"]
    for film, thickness in (
        ("carbon", 50.0),
        ("silicon nitride", 50.0),
        ("graphene", 3 * 3.35),
        ("MgO", 50.0),
    ):
        record = SpecimenRecord(cell=(SIDE, SIDE), thickness=thickness, substrate=film, substrate_seed=1)
        specimen = build_specimen(record)
        for energy in ENERGIES:
            off = Judge(specimen, exit_wave(specimen, replace(CONVERGED, energy=energy)))
            for pixel, thickness in [(p, 2.0) for p in PIXELS] + [(0.18, t) for t in SLICES]:
                wave = exit_wave(
                    specimen, WaveSettings(energy=energy, pixel_size=pixel, slice_thickness=thickness)
                )
                row = [film, f"{energy / 1e3:g}", pixel, thickness, f"{100 * off(wave):.2f}"]
                print(*row, flush=True)
                yield row


def in_bins(specimen: Specimen, thickness: float) -> Specimen:
    """Atoms in the middles of their slices, where a scheme that does not share them puts them."""
    thick = specimen.cell[2] / slice_count(specimen, thickness)
    middles = (np.floor(specimen.positions[:, 2] / thick) + 0.5) * thick
    return replace(specimen, positions=np.column_stack([specimen.positions[:, :2], middles]))


def limited_wave(specimen: Specimen, settings: WaveSettings) -> ExitWave:
    """The exit wave with transmission and propagation limited to two thirds of the Nyquist frequency."""
    grid, slices = (
        sampling_band(specimen, settings.pixel_size),
        slice_count(specimen, settings.slice_thickness),
    )
    thick = specimen.cell[2] / slices
    potential = slice_potential([specimen], grid, slices, thick, "cpu")
    limited = antialias_band(grid)
    spectrum = multislice(
        (potential(i) for i in range(slices)), limited, energy=settings.energy, slice_thickness=thick
    )[0]
    kept = band_within(grid.shape, grid.extent, min(settings.band, 2 / 3 / (2 * settings.pixel_size)))
    spectrum = crop(spectrum, kept)
    ky, kx = kept.frequencies()
    to_focus = specimen.cell[2] - specimen.focus_plane + thick / 2
    back = math.pi * electron_wavelength(settings.energy) * (ky * ky + kx * kx) * to_focus
    focused = spectrum * torch.polar(torch.ones_like(back), back).to(spectrum.dtype)
    return ExitWave(spectrum=focused, band=kept, energy=settings.energy)


def every_way() -> Iterator[list[object]]:
    """Schemes beside each other, against thin slices that share no atom, and against those of the table."""
    yield [
        "material",
        "energy_kev",
        "pose",
        "frequencies",
        "atoms",
        "pixel_size",
        "slice_thickness",
        "percent_off_converged",
        "percent_off_quarter_slices",
    ]
    cases = [
        ("Au", 300e3, Pose(zone=(0, 1, 1))),
        ("Au", 80e3, Pose(zone=(0, 1, 1))),
        ("CdSe", 300e3, Pose(zone=(0, 0, 1))),
    ]
    ways = [
        (p, 2.0, limited, binned) for limited, binned in ((1, 1), (1, 0), (0, 1), (0, 0)) for p in PIXELS[::2]
    ]
    ways += [(0.06, t, False, binned) for binned in (True, False) for t in (1.0, 2.0, 3.0)]
    for material, energy, pose in cases:
        specimen = sphere(material, pose)
        off = Judge(specimen, exit_wave(specimen, replace(CONVERGED, energy=energy)))
        thin = WaveSettings(energy=energy, pixel_size=0.06, slice_thickness=0.25)
        off_thin = Judge(specimen, exit_wave(in_bins(specimen, 0.25), thin))
        for pixel, thickness, limited, binned in ways:
            settings = WaveSettings(energy=energy, pixel_size=pixel, slice_thickness=thickness)
            atoms = in_bins(specimen, thickness) if binned else specimen
            wave = limited_wave(atoms, settings) if limited else exit_wave(atoms, settings)
            row = [
                material,
                f"{energy / 1e3:g}",
                pose.words,
                "two thirds" if limited else "all",
                "of one slice" if binned else "shared",
                pixel,
                thickness,
                f"{100 * off(wave):.2f}",
                f"{100 * off_thin(wave):.2f}",
            ]
            print(*row, flush=True)
            yield row


def write(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())


def shown() -> str:
    """The worst pose of each material, as a table in Markdown: by pixels, by slices, and what is chosen."""
    with TABLE.open(encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    pixels, slices = list(PIXELS), sorted({2.0, *SLICES})
    heads = [f"{p:g} Å" for p in pixels] + [f"{t:g} Å" for t in slices]
    lines = [
        f"| | keV | {' | '.join(heads)} | chosen: pixels, slices | error |",
        "|---|---|" + "---|" * (len(heads) + 2),
    ]
    worst: dict[tuple[str, str, float, float], float] = {}
    for r in rows:
        at = (r["material"], r["energy_kev"], float(r["pixel_size"]), float(r["slice_thickness"]))
        worst[at] = max(worst.get(at, 0.0), float(r["error_percent"]))
    for material, energy in dict.fromkeys((m, e) for m, e, *_ in worst):
        numbers = np.unique(sphere(material, Pose(zone=None)).numbers).tolist()
        good = good_sampling(numbers, 1e3 * float(energy))
        errors = [worst[material, energy, p, 2.0] for p in pixels]
        errors += [worst[material, energy, good.pixel_size, t] for t in slices]
        best = worst[material, energy, good.pixel_size, good.slice_thickness]
        shown = " | ".join(f"{e:.1f}" for e in errors)
        chosen = f"{good.pixel_size:g} Å, {good.slice_thickness:g} Å"
        lines.append(f"| {material} | {energy} | {shown} | {chosen} | {best:.1f} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore", CoarseSamplingWarning)
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "ways":
        write(WAYS, list(every_way()))
    elif what == "films":
        write(OF_FILMS, list(every_film()))
    elif not what:
        write(TABLE, list(every_material()))
    print(shown())


if __name__ == "__main__":
    main()
