"""Pictures that are no micrographs of cavities, given to the detector that ships and its calibration.

    python studies/strangers.py [--data FOLDER]      default $PASSBAND_DATA; five minutes on two cores

There is nothing to find in 64 crops of photographs, which scikit-image and scikit-learn carry inside their
packages, nor in what is made here: 64 drawings, 32 diffraction patterns, 32 spectra; and, drawn when all was
chosen, 32 maps of grains and 32 lattices of particles in HRTEM. Whatever is found is
false. Real micrographs of other things are no strangers to a microscopist but are to the detector: sixty of
particles (B. Yildirim and J. M. Cole, J. Chem. Inf. Model. 61 (2021) 1136), of which F1 is measured against
the annotated ones, dislocation loops, and nanoparticles on carbon. Beside them 48 published micrographs of
cavities, which ought to be known. What data are absent are left out.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from passband.detections.masks import masks_from_labels
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import default_bundle
from passband.drawing.saving import save_figure
from passband.estimate.records import from_record
from passband.judge.figures import draw_verdicts
from passband.kinds import assess
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph, read_sidecar
from passband.store.files import write_whole
from passband.types import Image
from stranger_pictures import FREE, SEED, drawings, grains, lattices, patterns, photographs, spectra

PARTICLES = 60
MADE = ("photographs", "drawings", "diffraction patterns", "spectra", "grains", "lattices")
"""Of these nothing is to be found in any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What was said of a picture; where it was rejected unseen, an F1 of 0 and no novelty."""

    micrograph: Micrograph
    verdict: str
    boxes: np.ndarray
    f1: float = 0.0
    low: float = 0.0
    high: float = 0.0
    novelty: float = 0.0
    abstained: bool = False


def judge_all(micrographs: Sequence[Micrograph]) -> list[Judged]:
    """Each in one of two processes, to which a micrograph passes as its parts."""
    parts = [(m.name, m.pixels, m.pixel_size, m.written) for m in micrographs]
    done: list[Judged] = []
    with ProcessPoolExecutor(2) as pool:
        for m, said in zip(micrographs, pool.map(_judge, parts, chunksize=2), strict=True):
            done.append(Judged(micrograph=m, **said))
            if len(done) % 40 == 0:
                print(f"{len(done)} of {len(micrographs)}, the last {m.name}", flush=True)
    return done


def _judge(parts: tuple[Any, ...]) -> dict[str, Any]:
    torch.set_num_threads(1)
    name, pixels, pixel_size, written = parts
    micrograph = Micrograph(pixels=pixels, name=name, pixel_size=pixel_size, written=written)
    bundle = default_bundle()
    verdict = assess(micrograph, bundle)
    said = {"verdict": verdict.verdict, "boxes": np.asarray(verdict.detections.boxes_xyxy)}
    if not verdict.estimates:
        return said
    assert bundle.calibration is not None and verdict.novelty is not None
    e, widest = verdict.estimates["f1"], from_record(bundle.calibration).widest
    silent = verdict.novelty > 1 or not len(said["boxes"]) or e.high - e.low > widest + 1e-9
    numbers = {"f1": e.value, "low": e.low, "high": e.high, "novelty": verdict.novelty}
    return {**said, **numbers, "abstained": silent}


# What was said


def line(name: str, judged: Sequence[Judged]) -> str:
    """One group's shares as a line of the table."""
    n, high = len(judged), [j for j in judged if j.f1 > 0.5]
    silent, novel = sum(j.abstained for j in high), sum(j.novelty > 1 for j in high)
    good = len(high) - silent
    found = sum(len(j.boxes) > 0 for j in judged)
    answers = Counter(j.verdict for j in judged)
    counts = "".join(f"{answers[a]:>8}" for a in ("trust", "review", "reject"))
    return (
        f"{name:<22}{n:>7}{found / n:>8.1%}{len(high) / n:>11.1%}"
        f"{f'{silent} of {len(high)}':>12}{f'{novel} of {len(high)}':>12}{good / n:>11.1%}{counts}"
    )


HEAD = (
    f"{'':<22}{'images':>7}{'found':>8}{'F1 > 0.5':>11}{'abstained':>12}{'novel':>12}{'said good':>11}"
    f"{'trust':>8}{'review':>8}{'reject':>8}"
)
NOTES = """
found      something was found at the score threshold
F1 > 0.5   estimated above one half
abstained  of these, the estimate calls itself none: too wide an interval, or a novel image
novel      of these, the image lies outside what the calibration knows
said good  estimated above one half and not abstained
Every picture but those of cavities is declared to have pixels of {size:.2f} Å, amid the detector's training,
so that an unknown or odd pixel size speaks against none of them."""


def words(j: Judged) -> str:
    return (
        f"    {j.micrograph.name:<24}{j.f1:.2f} ({j.low:.2f} to {j.high:.2f})  {j.verdict:<8}"
        f"novelty {j.novelty:5.2f}  {len(j.boxes):>3} found{'  abstained' if j.abstained else ''}"
    )


def particles(folder: Path) -> Iterator[tuple[Micrograph, np.ndarray]]:
    """Micrographs of particles with their annotated boxes."""
    from PIL import Image as Picture

    names = sorted(p.name for p in (folder / "images").glob("*.png"))
    for i in np.sort(np.random.default_rng(SEED).choice(len(names), PARTICLES, replace=False)):
        masks = masks_from_labels(np.array(Picture.open(folder / "segmaps" / names[i])))
        boxes = np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4)
        yield replace(read_micrograph(folder / "images" / names[i]), name=names[i]), boxes


def cavities(data: Path) -> Iterator[Micrograph]:
    """The published ones, of the pixel sizes that their authors give."""
    sizes = data / "cavities" / "image_nm_pixel_conversions.csv"
    if sizes.exists():
        reading = Reading(sidecar=read_sidecar(sizes))
        yield from (reading.read(str(path)) for path in sorted((data / "cavities" / "images").iterdir()))


def main(data: Path) -> None:
    size = float(np.sqrt(np.prod(default_bundle().training["pixel_size"])))

    def pictures(made: Iterable[tuple[str, Image]]) -> list[Micrograph]:
        return [Micrograph(pixels=np.ascontiguousarray(p), name=n, pixel_size=size) for n, p in made]

    def others(paths: Iterable[Path]) -> list[Micrograph]:
        found = (replace(read_micrograph(path), name=path.name) for path in sorted(paths))
        return [micrograph.calibrated(size, "the study") for micrograph in found]

    annotated = list(particles(data / "emps")) if (data / "emps").is_dir() else []
    groups = {
        "photographs": pictures(photographs()),
        "drawings": pictures(drawings()),
        "diffraction patterns": pictures(patterns()),
        "spectra": pictures(spectra()),
        "particles": [micrograph.calibrated(size, "the study") for micrograph, _ in annotated],
        "loops": others((data / "loops" / "images").glob("*")),
        "nanoparticles": others((data / "nanoparticles" / "images").glob("*")),
        "grains": pictures(grains()),
        "lattices": pictures(lattices()),
        "cavities": list(cavities(data)),
    }
    every = [m for images in groups.values() for m in images]
    done = judge_all(every)
    left = iter(done)
    judged = {name: [next(left) for _ in images] for name, images in groups.items()}
    strange = [j for name, some in judged.items() for j in some if name != "cavities"]
    text = [
        HEAD,
        *(line(name, some) for name, some in judged.items() if some),
        line("all but cavities", strange),
    ]
    extra: list[str] = []
    if annotated:
        pairs = zip(judged["particles"], (boxes for _, boxes in annotated), strict=True)
        measured = [object_scores(match_boxes(boxes, j.boxes, OPTIMAL)).f1 for j, boxes in pairs]
        sure = [m for j, m in zip(judged["particles"], measured, strict=True) if j.f1 > 0.5]
        extra += [
            "",
            f"Particles: measured F1 {np.mean(measured):.2f} in the mean, above one half in "
            f"{sum(m > 0.5 for m in measured)} of {len(measured)} images,",
            f"and in {sum(m > 0.5 for m in sure)} of those {len(sure)} estimated above one half.",
        ]
    if there := judged["cavities"]:
        novel = sum(j.novelty > 1 for j in there)
        extra += [
            "",
            f"Of {len(there)} micrographs of cavities {novel} are told to lie outside what is known.",
        ]
    made = [j for name in MADE for j in judged[name]]
    best = sorted(made, key=lambda j: -j.f1)
    text += [NOTES.format(size=size), *extra, "", "Highest estimated F1 where there is nothing to find:"]
    text += [words(j) for j in best[:12]]
    content = "\n".join(text) + "\n"
    print(content)
    write_whole(Path("studies/results/strangers.txt"), content)
    taken = {m.name for m in groups["photographs"]}
    free = [j for j in best if j.micrograph.name not in taken or j.micrograph.name.split()[0] in FREE]
    shown = [replace(j.micrograph, pixel_size=None) for j in free[:8]]
    told = [assess(j.micrograph, default_bundle()) for j in free[:8]]
    figure = draw_verdicts(list(zip(shown, told, strict=True)))
    print(save_figure(figure, Path("docs/gallery/strangers.png"), dpi=56))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PASSBAND_DATA", "")))
    main(parser.parse_args().data)
