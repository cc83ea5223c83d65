"""How many particles touch: 1, 2, 3 or 4, from 15 labelled crops a class, on published micrographs.

    python studies/touching_particles.py FOLDER [--seeds 5]      FOLDER holds images and segmaps

After the nanoparticle experiment of doi:10.1039/d3dd00196b, whose images are not public: here clusters are
grouped from the outlines of EMPS (doi:10.1021/acs.jcim.0c01455), particles within 2 pixels of each other
counting as touching, and drawn in the paper's numbers: 304, 93, 49 and 31. They come from many instruments
and materials. Each crop shows its cluster 1.25 times, neighbours hidden; "outlines" rows see the cluster's
outline alone, 1 inside and 0 outside, as its grey values are of many materials. 15 of each class are labelled
at random, the rest is unlabelled and tested on, as in the paper. Means over the seeds of labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from cards_methods import METHODS, Method
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph
from passband.particles.extraction.crop import cut_particles, reaches
from passband.particles.extraction.find import ExtractionSettings
from passband.particles.extraction.outlines import clusters_of, kept_labels
from passband.particles.networks.fit_invariant import fit_classifier
from passband.particles.networks.harmonics import HarmonicSettings
from passband.particles.networks.invariant import ClassifierSettings, Nuisances, classify_crops
from passband.store.files import write_whole
from passband.types import LabelImage

COUNTS = {1: 304, 2: 93, 3: 49, 4: 31}
LABELLED = 15
SETTINGS = ExtractionSettings(
    split=False,
    hide_neighbours=True,
    least_diameter_px=12,
    greatest_diameter_px=256,
    least_share=0,
    least_solidity=0,
)
NUISANCES = Nuisances(shift=0.05, shear=5, scale=0.1, noise=((0.0, 0.1),), contamination=0.0, mirrored=True)


def micrographs(folder: Path) -> Iterator[tuple[Micrograph, LabelImage]]:
    """Each micrograph with its outlines."""
    for path in sorted((folder / "images").glob("*.png")):
        outlines = np.asarray(Picture.open(folder / "segmaps" / path.name)).astype(np.int32)
        micrograph = read_micrograph(path)
        if outlines.shape == micrograph.shape:
            yield micrograph, outlines


def cut(folder: Path, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Crops and outlines of clusters in the paper's numbers, and how many particles each has."""
    found: list[tuple[int, int, int]] = []
    images = list(micrographs(folder))
    grouped = []
    for place, (micrograph, outlines) in enumerate(images):
        clusters = clusters_of(outlines, gap=2)
        whole = kept_labels(micrograph, clusters.labels, SETTINGS)
        grouped.append(whole)
        for label in np.unique(whole[whole > 0]):
            inside = np.unique(outlines[(whole == label) & (outlines > 0)])
            if len(inside) in COUNTS:
                found.append((place, int(label), len(inside)))
    rng = np.random.default_rng(seed)
    crops, silhouettes, counts = [], [], []
    for members, wanted in COUNTS.items():
        mine = [f for f in found if f[2] == members]
        for i in rng.permutation(len(mine))[:wanted]:
            place, label, _ = mine[int(i)]
            whole = grouped[place]
            own = (whole == label).astype(np.int32)
            window = 1.25 * float(reaches(own)[0])
            others = np.where(whole == label, 1, np.where(images[place][1] > 0, 2, 0)).astype(np.int32)
            settings = replace(SETTINGS, window_px=window)
            particles = cut_particles(images[place][0], others, settings)
            crops.append(particles.crops[0])
            silhouettes.append(particles.masks[0].astype(np.float32))
            counts.append(members - 1)
    return {"": np.stack(crops), ", outlines": np.stack(silhouettes)}, np.array(counts)


def ours(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> object:
    """As shipped, with nuisances of micrographs."""
    settings = ClassifierSettings(harmonics=HarmonicSettings(size=48), nuisances=NUISANCES, seed=seed)
    model = fit_classifier(crops, labels, settings, classes=4, unlabelled=unlabelled).model
    return lambda x: classify_crops(model, x).probabilities


def main() -> None:
    """Print accuracies by class."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/touching_particles.txt")
    asked = parser.parse_args()
    seen, truth = cut(asked.folder, seed=0)
    chosen: dict[str, Method] = {"ours": ours}  # type: ignore[dict-item]
    wanted = ("polar Fourier + SVM", "CNN, turned", "random forest", "gradient boosting, moments")
    chosen |= {n: m for n, m in METHODS.items() if n.startswith(wanted)}
    lines = [
        f"{len(truth)} crops; {LABELLED} labelled a class; {asked.seeds} draws of labels",
        f"{'accuracy of each class':36}" + "".join(f"{k:>8}" for k in COUNTS) + "   least    mean",
    ]
    for (kind, crops), (name, method) in product(seen.items(), chosen.items()):
        each = []
        for seed in range(asked.seeds):
            rng = np.random.default_rng(100 + seed)
            known = np.concatenate(
                [rng.choice(np.flatnonzero(truth == k), LABELLED, replace=False) for k in range(4)]
            )
            rest = np.setdiff1d(np.arange(len(crops)), known)
            said = method(crops[known], truth[known], crops[rest], seed)(crops[rest]).argmax(1)  # type: ignore[operator]
            each.append([(said == truth[rest])[truth[rest] == k].mean() for k in range(4)])
        mean = np.mean(each, axis=0)
        lines.append(f"{name + kind:36}" + "".join(f"{v:8.3f}" for v in (*mean, mean.min(), mean.mean())))
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    write_whole(asked.out, text)
    print(text)


if __name__ == "__main__":
    main()
