"""What a dataset holds, in numbers and words."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from passband.hrtem.dataset.dataset import Dataset
from passband.hrtem.dataset.study import SPLITS
from passband.units import KEV, MM, NM
from passband.words import counted


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """What a dataset holds.

    Parameters
    ----------
    folder
        Of the dataset.
    scenes, finished
        How many there are to be, and how many are there.
    images_per_scene
        Micrographs of each.
    splits
        Scenes of each split.
    particles
        Of all finished scenes.
    materials, shapes
        Particles of each.
    near_zone
        Particles whose orientation was drawn near a zone axis.
    with_faults
        Particles with a twin or a stacking fault.
    substrates
        Scenes on each film.
    overlapping
        Scenes whose particles' outlines may overlap.
    diameters
        Smallest and largest particle, Å; None without any.
    field, pixel_size
        Height and width of an image, and of a pixel, Å.
    imaging
        What conditions are drawn from: a number, or a range as in the study's file.
    seed
        Of the study.
    made_by
        Version of Passband.
    """

    folder: str
    scenes: int
    finished: int
    images_per_scene: int
    splits: dict[str, int]
    particles: int
    materials: dict[str, int]
    shapes: dict[str, int]
    near_zone: int
    with_faults: int
    substrates: dict[str, int]
    overlapping: int
    diameters: tuple[float, float] | None
    field: tuple[float, float]
    pixel_size: float
    imaging: dict[str, Any]
    seed: int
    made_by: str


def summarise_dataset(dataset: Dataset) -> DatasetSummary:
    """Count what a dataset holds, from its records.

    Raises
    ------
    DatasetError
        If a record is damaged.
    """
    study = dataset.study
    finished = dataset.finished()
    specimens = [dataset.record(i).specimen for i in finished]
    particles = [p for s in specimens for p in s.particles]
    of = study.specimen
    shown = of.cell if of.field is None else of.field
    sizes = [p.diameter for p in particles]
    return DatasetSummary(
        folder=str(dataset.store.folder),
        scenes=len(dataset),
        finished=len(finished),
        images_per_scene=study.images_per_scene,
        splits={name: len(dataset.split(name)) for name in SPLITS},
        particles=len(particles),
        materials=dict(Counter(p.material for p in particles).most_common()),
        shapes=dict(Counter(p.shape for p in particles).most_common()),
        near_zone=sum(p.zone is not None for p in particles),
        with_faults=sum(bool(p.faults) for p in particles),
        substrates=dict(Counter(s.substrate for s in specimens).most_common()),
        overlapping=sum((s.least_distance or 0) < 0 for s in specimens),
        diameters=(min(sizes), max(sizes)) if sizes else None,
        field=(shown[1], shown[0]),
        pixel_size=study.values()["imaging"]["pixel_size"],
        imaging=study.values()["imaging"],
        seed=study.seed,
        made_by=dataset.store.made_by,
    )


def summary_to_json(summary: DatasetSummary) -> str:
    """A summary as one JSON object."""
    return json.dumps(asdict(summary), indent=1) + "\n"


def summary_in_words(summary: DatasetSummary) -> str:
    """A summary as lines for a person."""
    return "\n".join(f"{name + ':':<14}{words}" for name, words in summary_lines(summary))


def summary_lines(summary: DatasetSummary) -> list[tuple[str, str]]:
    """A summary as pairs of a name and words."""
    s = summary
    missing = "" if s.finished == s.scenes else f", {s.finished} of them finished"
    height, width = (length / NM for length in s.field)
    lines = [
        ("dataset", s.folder),
        ("scenes", f"{s.scenes}{missing}; {s.images_per_scene} micrographs of each"),
        ("splits", ", ".join(f"{name} {n}" for name, n in s.splits.items()) + " scenes"),
        ("field", f"{height:g} x {width:g} nm, pixels of {s.pixel_size / NM:g} nm"),
        ("particles", _counts(s.particles, s.materials)),
        ("films", ", ".join(f"{name} {n}" for name, n in s.substrates.items()) or "none yet"),
    ]
    if s.diameters is not None:
        low, high = (d / NM for d in s.diameters)
        lines.append(("shapes", ", ".join(f"{name} {n}" for name, n in s.shapes.items())))
        lines.append(("diameters", f"{low:.2g} to {high:.2g} nm"))
        lines.append(("orientation", f"{s.near_zone} near a zone axis, {s.with_faults} with planar faults"))
    if s.overlapping:
        lines.append(("overlap", f"outlines may overlap in {counted(s.overlapping, 'scene')}"))
    return [
        *lines,
        ("imaging", "; ".join(imaging_words(s.imaging))),
        ("seed", f"{s.seed}, Passband {s.made_by}"),
    ]


def imaging_words(imaging: dict[str, Any]) -> list[str]:
    """The ranges of imaging conditions that say something, in the units people use."""
    said = []
    for name, value in imaging.items():
        if value in (0.0, False, "inf") or name == "pixel_size":
            continue
        shown, scale, unit = _UNITS.get(name, (name, 1.0, "Å"))
        said.append(f"{shown} {_range(value, scale)}{unit and ' ' + unit}")
    return said


_UNITS = {
    "energy": ("energy", 1 / KEV, "keV"),
    "C10": ("defocus", -1 / NM, "nm"),
    "C30": ("C30", 1 / MM, "mm"),
    "C50": ("C50", 1 / MM, "mm"),
    "C12": ("C12", 1 / NM, "nm"),
    "C21": ("C21", 1 / NM, "nm"),
    "C23": ("C23", 1 / NM, "nm"),
    "focal_spread": ("focal spread", 1 / NM, "nm"),
    "angular_spread": ("angular spread", 1e3, "mrad"),
    "aperture": ("aperture", 1e3, "mrad"),
    "dose": ("dose", 1.0, "e/Å²"),
    "mtf_half": ("MTF half at", 1.0, "cycles/pixel"),
    "drift_y": ("drift along y", 1.0, "Å"),
    "drift_x": ("drift along x", 1.0, "Å"),
    "inelastic_share": ("inelastic", 100.0, "%"),
    "quantum_efficiency": ("DQE(0)", 1.0, ""),
    "dqe_falloff": ("DQE as MTF to twice the power of", 1.0, ""),
    "gain": ("gain", 1.0, "counts/e"),
    "offset": ("offset", 1.0, "counts"),
    "readout": ("readout noise", 1.0, "counts"),
    "gain_noise": ("gain noise", 100.0, "%"),
    "phi12": ("phi12", 1.0, "rad"),
    "phi21": ("phi21", 1.0, "rad"),
    "phi23": ("phi23", 1.0, "rad"),
    "integrate_pixels": ("pixels integrate", 1.0, ""),
}


def _range(value: Any, scale: float) -> str:
    """A number or range, scaled."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, dict):
        return f"{float(value) * scale:g}"
    if "low" in value:
        low, high = sorted((value["low"] * scale, value["high"] * scale))
        return f"{low:g} to {high:g}"
    if "mean" in value:
        return f"{value['mean'] * scale:g} ± {value['deviation'] * abs(scale):g}"
    values = [v * scale for v in value["values"]]
    return ", ".join(f"{v:g}" for v in values)


def _counts(total: int, kinds: dict[str, int]) -> str:
    listed = ", ".join(f"{name} {n}" for name, n in kinds.items())
    return f"{total}: {listed}" if kinds else str(total)
