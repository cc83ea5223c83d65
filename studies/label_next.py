"""Whether images named by a detector teach it more than random ones: `make label-next`.

Of the EMPS data set (B. Yildirim and J. M. Cole, doi:10.1021/acs.jcim.0c01455) half of the articles are the
pool and 50 micrographs of the others the test. Eight images of the pool, drawn at random, train a detector
from the shipped weights, as `passband train detector` does but for fewer steps; then it is trained anew with
eight more, random ones or those that `passband.detectors.suggest` names. Each test image is scored at the
threshold that suits the other test images.

    python studies/label_next.py FOLDER    holds images, segmaps, sources.csv; half an hour on two cores;
                                           goes on where it was; leaves studies/results/label_next.csv
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled, LabelledImages, read_labelled
from passband.detections.measured import best_threshold
from passband.detectors.bundle import SHIPPED, Bundle, read_bundle
from passband.detectors.infer import detect
from passband.detectors.suggest import LOWEST_SCORE, suggest
from passband.detectors.train_labelled import OwnTraining, train_on_labelled
from passband.store.columns import rows_csv
from passband.store.files import write_whole

OUT, RESULTS = Path("out/label_next"), Path("studies/results/label_next.csv")
SEEDS, FIRST, MORE, TESTED, STEPS = 4, 8, 8, 50, 250
HEAD = ("seed", "labelled", "chosen", "objects", "f1_mean", "f1_pooled")


def parts(folder: Path) -> tuple[list[str], list[str]]:
    """The pool, and what is tested on: of other articles."""
    articles: dict[str, list[str]] = {}
    with (folder / "sources.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            articles.setdefault(line["doi"], []).append(str(folder / "images" / line["filename"]))
    order = np.random.default_rng(77).permutation(len(articles))
    names = [sorted(articles)[i] for i in order]
    half = len(names) // 2
    pool, rest = ([f for a in some for f in articles[a]] for some in (names[:half], names[half:]))
    return pool, [rest[i] for i in np.random.default_rng(5).permutation(len(rest))[:TESTED]]


def given(folder: Path, images: Sequence[str]) -> Labelled:
    return Labelled(images=images, annotations=DetectionsFile(path=folder / "segmaps"))


def trained(folder: Path, images: Sequence[str], seed: int, name: str) -> Bundle:
    """The detector of some labelled images, trained once."""
    out = OUT / f"{seed}_{name}"
    if not (out / "bundle.safetensors").exists():
        training = OwnTraining(start=SHIPPED, steps=STEPS, validate=0, seed=seed)
        train_on_labelled(given(folder, images), out, training)
    return read_bundle(out / "bundle.safetensors")


def scored(bundle: Bundle, tested: LabelledImages) -> tuple[float, float]:
    """Mean F1, and F1 of all objects together."""
    low = replace(bundle, score_threshold=LOWEST_SCORE)
    _, scores = best_threshold([(tested.truth[path], detect(m, low)) for path, m in tested.each()])
    hits, wrong, misses = (
        sum(getattr(s, name) for s in scores) for name in ("true_positives", "false_positives", "misses")
    )
    return float(np.mean([s.f1 for s in scores])), 2 * hits / (2 * hits + wrong + misses)


def one(task: tuple[Path, int]) -> list[list[str]]:
    """All rows of one seed."""
    folder, seed = task
    torch.set_num_threads(1)
    pool, test = parts(folder)
    tested, all_of_pool = read_labelled(given(folder, test)), read_labelled(given(folder, pool))
    rng = np.random.default_rng(100 + seed)
    order = [pool[i] for i in rng.permutation(len(pool)) if pool[i] in all_of_pool.truth]
    first, left = order[:FIRST], order[FIRST:]
    begun = trained(folder, first, seed, "first")
    known = replace(
        all_of_pool, truth={path: all_of_pool.truth[path] for path in first}, unlabelled=tuple(left)
    )
    named = suggest(known, begun, MORE, seed=seed)
    ways = {"first": first, "random": first + left[:MORE], "named": first + list(named)}
    rows = []
    for way, images in ways.items():
        bundle = begun if way == "first" else trained(folder, images, seed, way)
        objects = sum(len(all_of_pool.truth[path]) for path in images)
        mean, pooled = scored(bundle, tested)
        rows.append([str(seed), str(len(images)), way, str(objects), f"{mean:.4f}", f"{pooled:.4f}"])
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    """Train, name, train again, score."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with ProcessPoolExecutor(2) as pool:
        rows = [row for rows in pool.map(one, [(Path(sys.argv[1]), s) for s in range(SEEDS)]) for row in rows]
    for way in ("first", "random", "named"):
        some = np.array([[float(v) for v in row[3:]] for row in rows if row[2] == way])
        objects, mean, pooled = some.mean(axis=0)
        rows.append(["mean", "", way, f"{objects:.0f}", f"{mean:.4f}", f"{pooled:.4f}"])
        print(*rows[-1], flush=True)
    write_whole(RESULTS, rows_csv([HEAD, *rows]))


if __name__ == "__main__":
    main()
