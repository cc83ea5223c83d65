"""Detectors of particles in published micrographs, and rows of them on articles they never saw.

The images are those of the EMPS data set (B. Yildirim and J. M. Cole, J. Chem. Inf. Model. 61 (2021)
1136, doi:10.1021/acs.jcim.0c01455), looked for in the folder ``emps`` of ``$PASSBAND_DATA``. Articles,
not images, are divided: half to train on, a sixth of that half to choose the score threshold on,
half for the rows. Every step goes on where it stopped.

    python studies/particles.py train    a network of 600 steps, about 12 minutes on one core
    python studies/particles.py fit      score threshold and blob settings
    python studies/particles.py rows     features beside measured scores; `ten_pairs.py table` reads them
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from blobs import detect_blobs, fit_blobs
from passband.detections.detections import Detections
from passband.detections.masks import masks_from_labels
from passband.detectors.bundle import read_bundle, write_bundle
from passband.detectors.infer import detect
from passband.detectors.train import TrainConfig, train_detector
from passband.judge.calibrate import calibration_row
from passband.micrographs.readers import read_micrograph
from passband.store.files import write_whole
from ten_pairs import LabelledImage, best_threshold, blobs_of, f1_of, kept, progress, save

OUT = Path("out/particles")
TRAINED, CHOSEN, BLOBS = OUT / "trained.safetensors", OUT / "chosen.safetensors", OUT / "blobs.json"
CONFIG = TrainConfig(name="particles-slim", domains=(), steps=600, seed=301)
SEED = 9001
"""Of the order in which articles are dealt."""
OWN = 6
"""A journal with so many images among the rows is a domain; articles of the others are put together."""
POOL = 20
"""Images, about, in a domain of articles put together."""


def sources() -> dict[str, list[str]]:
    """Image names of each article, articles in the order in which they are dealt."""
    articles: dict[str, list[str]] = {}
    with (folder() / "sources.csv").open(newline="") as f:
        for line in csv.DictReader(f):
            articles.setdefault(line["doi"], []).append(line["filename"])
    names = sorted(articles)
    return {names[i]: articles[names[i]] for i in np.random.default_rng(SEED).permutation(len(names))}


def folder() -> Path:
    path = Path(os.environ.get("PASSBAND_DATA", "")) / "emps"
    if not (path / "sources.csv").exists():
        sys.exit(f"{path} holds no sources.csv; set PASSBAND_DATA to the folder that holds emps")
    return path


def parts() -> dict[str, list[str]]:
    """Articles to train on, to choose on, and to make rows of."""
    names = list(sources())
    half = len(names) // 2
    few = half // 6
    return {"train": names[few:half], "choose": names[:few], "rows": names[half:]}


def domains() -> dict[str, str]:
    """Domain of each article of the rows: its journal, or a pool of articles from small ones."""
    held, articles = sources(), parts()["rows"]
    journal = {a: ".".join(a.split(".")[2:4]) for a in articles}
    count = Counter(journal[a] for a in articles for _ in held[a])
    pools = max(1, sum(n for n in count.values() if n < OWN) // POOL)
    found, dealt = {}, 0
    for a in articles:
        if count[journal[a]] >= OWN:
            found[a] = journal[a]
        else:
            found[a] = f"pool {min(dealt // POOL, pools - 1) + 1}"
            dealt += len(held[a])
    return found


def images(articles: Iterable[str]) -> Iterator[LabelledImage]:
    """Micrographs of articles with what their annotators marked."""
    from PIL import Image

    held = sources()
    for name in (n for a in articles for n in held[a]):
        micrograph = read_micrograph(folder() / "images" / name)
        masks = masks_from_labels(np.array(Image.open(folder() / "segmaps" / name)))
        boxes = np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4)
        truth = Detections(
            image_shape=micrograph.shape, boxes_xyxy=boxes, scores=np.ones(len(boxes)), masks=masks
        )
        yield replace(micrograph, name=name, pixel_size=None), truth


def train() -> None:
    if not TRAINED.exists():
        given = list(images(parts()["train"]))
        write_bundle(train_detector(CONFIG, OUT, samples=given, progress=progress), TRAINED)


def fit() -> None:
    """Choose the network's threshold on articles held out of its training; fit the blobs on training ones."""
    if not BLOBS.exists():
        shown = list(images(parts()["train"]))[:40]
        config = fit_blobs(shown)
        f1 = np.mean([f1_of(detect_blobs(m, config), t) for m, t in shown])
        print(f"{config}, mean F1 {f1:.3f} of {len(shown)} training images", flush=True)
        OUT.mkdir(parents=True, exist_ok=True)
        write_whole(BLOBS, json.dumps(asdict(config)))
    if TRAINED.exists() and not CHOSEN.exists():
        low = replace(read_bundle(TRAINED), score_threshold=0.1)
        found = [(detect(m, low), t) for m, t in images(parts()["choose"])]
        cut, mean = best_threshold(found)
        print(f"score threshold {cut}, mean F1 {mean:.3f} of {len(found)} images", flush=True)
        write_bundle(replace(low, score_threshold=cut), CHOSEN)


def rows() -> None:
    """Detect in the articles of the rows with each detector that is ready."""
    finders = {}
    if BLOBS.exists():
        config = blobs_of(BLOBS)
        finders["blobs"] = lambda micrograph: detect_blobs(micrograph, config)
    if CHOSEN.exists():
        bundle = read_bundle(CHOSEN)
        finders["network"] = lambda micrograph: detect(micrograph, bundle)
    tables = {d: kept(f"particles_{d}") for d in finders}
    groups, n = domains(), 0
    for article, group in groups.items():
        for micrograph, truth in images([article]):
            for d, find in finders.items():
                if (group, micrograph.name) not in tables[d]:
                    row = calibration_row(micrograph, find(micrograph), truth, domain=group)
                    tables[d][group, row.image] = row
            n += 1
            if n % 20 == 0:
                print(f"rows of {n} images", flush=True)
                for d, table in tables.items():
                    save(f"particles_{d}", table)
    for d, table in tables.items():
        save(f"particles_{d}", table)


STEPS = {"train": train, "fit": fit, "rows": rows}

if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        sys.exit(f"no step {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    for name in chosen:
        STEPS[name]()
