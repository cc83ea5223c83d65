"""Make the bundle that ships: train, choose the threshold, test, calibrate, report.

Each step prints its numbers and leaves small tables in ``studies/results``. Steps can be run one by
one; training goes on from its checkpoint and calibration from the rows it has.

    python studies/shipped_bundle.py train       underfocused cavities; 45 minutes on one core
    python studies/shipped_bundle.py refine      25 minutes on one core
    python studies/shipped_bundle.py widen       both sides of focus, every size, empty foils: three hours
                                                 on one core beside a GPU for the large batches
    python studies/shipped_bundle.py threshold   on 180 validation images
    python studies/shipped_bundle.py test        on 1,040 images that no choice was made on
    python studies/shipped_bundle.py rows        detect in 3,120 images of foils, each taken in three ways
    python studies/shipped_bundle.py look        what the network sees in them, so that strangers are told
    python studies/shipped_bundle.py fit         fit, and write the bundle
    python studies/shipped_bundle.py protocols   print how well it tells with domains left out
    python studies/shipped_bundle.py curve       draw the losses
"""

from __future__ import annotations

import csv
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import meta_set
from cavity_images import pairs, seen
from passband.cavities.image import CavityRecord
from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, PAPER, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import SHIPPED, read_bundle, write_bundle
from passband.detectors.config import DetectorConfig
from passband.detectors.infer import detect, detect_and_see
from passband.detectors.train import TrainConfig, train_detector
from passband.drawing.saving import save_figure
from passband.estimate.evaluation.evaluate import OF_DETECTIONS, evaluate
from passband.estimate.evaluation.protocols import PROTOCOLS
from passband.estimate.look import Seen, fit_look
from passband.judge.calibrate import calibrate_bundle
from passband.store.files import write_whole
from score_tables import format_table

OUT = Path("out/detector")
RESULTS = Path("studies/results")
TRAINED = OUT / "trained.safetensors"
FIRST = OUT / "first.safetensors"
UNDERFOCUSED = OUT / "underfocused.safetensors"
CONFIG = TrainConfig()
REFINED = replace(
    CONFIG, start=str(FIRST), steps=1300, learning_rate=1e-3, seed=1
)  # other images, other crops
WIDENED = replace(
    CONFIG,
    domains=(
        *(f"{s}:{f}" for s in ("A", "B", "C", "W") for f in ("under", "over", "under", "over", "in")),
        *("W:under", "W:over", "A-cluttered:under", "A-cluttered:over"),
        *("A-empty:under", "B-empty:over", "W-empty:under", "W-empty:over"),
    ),
    images=2800,
    exported=0.5,
    steps=3600,
    learning_rate=1e-3,
    seed=2,
)
FURTHER = replace(
    WIDENED,
    domains=(
        *WIDENED.domains,
        *("H:under", "H:over", "H:under", "H:over", "H:in"),
        *("A-empty:over", "B-empty:under", "H-empty:under", "H-empty:over"),
    ),
    images=4000,
    crop=384,
    batch=16,
    steps=574,
    learning_rate=1.5e-3,
    seed=3,
)
WIDENING = {
    "widened": WIDENED,
    "further": FURTHER,
    "on": replace(FURTHER, images=4500, steps=2205, seed=4),
    "tiny": replace(
        WIDENED,
        domains=(*FURTHER.domains, "T:under", "T:over", "T:under", "T:over", "T:in"),
        images=1700,
        steps=2400,
        learning_rate=6e-4,
        seed=5,
    ),
}
"""One after the other, each from the weights of the one before. The two of large batches were done on a GPU,
in nine minutes each, and their rate followed the clock, not the steps."""
LOOKED_AT: dict[str, Any] = {"objectness": 0.9, "proposals": 3000, "max_detections": 2000}
"""What of a tile the box stage looks at: all that may well be an object. Chosen among 0.5 to 0.95 on other
images; the best 600 of every tile, as in training, gave more false objects the smaller the tile."""
SEEDS = {"validation": 1003, "test": 7201}
"""Training has seeds 0 to 5, the meta-set others."""
TESTED = (
    *(f"{s}:{f}" for f in ("under", "over", "in") for s in ("A", "B", "C", "W")),
    *(f"{s}:{f}" for f in ("under", "over") for s in ("H", "T")),
    *("A-cluttered:under", "A-cluttered:over", "B-starved:under", "C-smeared:under"),
    *("A-empty:under", "B-empty:under", "B-empty:over", "W-empty:under", "W-empty:over", "H-empty:under"),
)
EACH = 40
"""Images of each, every other as people send it."""
CROPS, CROPPED = (64, 90, 128, 181, 256, 362), 10
"""Sides of the crops in which the network is asked what it sees, and in how many foils of each domain."""
FOILS, EVALUATED = 40, 14
"""Of each domain of the meta-set, each taken in three ways; the protocols' table is of the first ones."""


def train() -> None:
    write_bundle(train_detector(CONFIG, OUT, progress=_progress), FIRST)
    write_whole(RESULTS / "training_log.csv", (OUT / "log.csv").read_text())


def refine() -> None:
    """Go on from the first training with a second, shorter schedule on other images."""
    write_bundle(train_detector(REFINED, OUT / "refined", progress=_progress), UNDERFOCUSED)
    write_whole(RESULTS / "refining_log.csv", (OUT / "refined" / "log.csv").read_text())


def widen() -> None:
    """Go on with both sides of focus, every size, clutter, empty foils, and images as people send them."""
    start = UNDERFOCUSED
    for name, config in WIDENING.items():
        gpu = config.batch > WIDENED.batch and torch.cuda.is_available()
        config = replace(config, start=str(start), device="cuda" if gpu else "cpu")
        start = OUT / f"{name}.safetensors"
        write_bundle(train_detector(config, OUT / name, progress=_progress), start)
        write_whole(RESULTS / f"{name}_log.csv", (OUT / name / "log.csv").read_text())
    write_bundle(read_bundle(start), TRAINED)


def _progress(what: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"{what} {done}/{total}", flush=True)


def _found(path: Path, seed: int, job: tuple[str, int, CavityRecord]) -> tuple[str, Detections, Detections]:
    torch.set_num_threads(1)
    micrograph, truth = seen(*job, seed=seed)
    return job[0], detect(micrograph, meta_set.bundle_at(path)), truth


def threshold() -> None:
    """Choose the score threshold of the highest sum of images' mean F1 and that of all objects."""
    trained = read_bundle(TRAINED)
    assert isinstance(trained.detector, DetectorConfig)
    low = replace(trained, score_threshold=0.1, detector=replace(trained.detector, **LOOKED_AT))
    write_bundle(low, TRAINED)
    names = [f"{s}:{f}" for f in ("under", "over") for s in ("A", "B", "C", "W", "H", "T")]
    with ProcessPoolExecutor(2) as pool:
        find = partial(_found, TRAINED, SEEDS["validation"])
        found = list(pool.map(find, pairs(names, 15, SEEDS["validation"]), chunksize=2))
    rows = []
    for cut in np.arange(0.1, 0.96, 0.05).round(2):
        scores = [
            object_scores(match_boxes(t.boxes_xyxy, d.above(cut).boxes_xyxy, OPTIMAL)) for _, d, t in found
        ]
        mean = np.mean([s.f1 for s in scores])
        right, false, missed = np.sum([(s.true_positives, s.false_positives, s.misses) for s in scores], 0)
        together = 2 * right / max(1, 2 * right + false + missed)
        rows.append((float(cut), round(float(mean), 4), round(float(together), 4)))
        print(f"threshold {cut:.2f}  mean F1 {mean:.4f}  all objects {together:.4f}")
    best = max(rows, key=lambda r: r[1] + r[2])[0]
    print(f"chosen: {best}")
    _table("threshold.csv", ("score_threshold", "mean_f1", "f1_of_all_objects"), rows)
    write_bundle(replace(low, score_threshold=best), TRAINED)


def test() -> None:
    """Score it on both sides of focus and on empty foils, on images that no choice was made on."""
    rows: list[tuple[object, ...]] = []
    told: dict[str, list[tuple[float, ...]]] = {name: [] for name in TESTED}
    find = partial(_found, TRAINED if TRAINED.exists() else SHIPPED, SEEDS["test"])
    with ProcessPoolExecutor(2) as pool:
        answers = pool.map(find, pairs(TESTED, EACH, SEEDS["test"]), chunksize=2)
        for n, (name, found, truth) in enumerate(answers, 1):
            best, loose = (
                object_scores(match_boxes(truth.boxes_xyxy, found.boxes_xyxy, rule))
                for rule in (OPTIMAL, PAPER)
            )
            counts = (best.true_positives, best.false_positives, best.misses)
            told[name].append((best.f1, loose.f1, *counts))
            rows.append((name, *counts, round(best.f1, 4), round(loose.f1, 4)))
            if n % 100 == 0:
                print(f"images {n}/{EACH * len(TESTED)}", flush=True)
    _table("test.csv", ("domain", "right", "false", "missed", "f1_optimal_0.5", "f1_greedy_0.1"), rows)
    text = _by_domain(told)
    print(text)
    write_whole(RESULTS / "test.txt", text)


def _by_domain(told: dict[str, list[tuple[float, ...]]]) -> str:
    groups = {name: (name,) for name in TESTED}
    for focus in ("under", "over", "in"):
        groups[f"A, B, C {focus}"] = tuple(f"{s}:{focus}" for s in "ABC")
    groups["A, B, C both sides"] = (*groups["A, B, C under"], *groups["A, B, C over"])
    groups["empty foils"] = tuple(name for name in TESTED if "empty" in name)
    lines = [f"{'domain':<20}{'mean F1':>9}{'at IoU .1':>11}{'all objects':>13}{'false an image':>16}"]
    for group, names in groups.items():
        every = np.array([line for name in names for line in told[name]])
        right, false, missed = every[:, 2:].sum(0)
        together = 2 * right / max(1, 2 * right + false + missed)
        lines.append(
            f"{group:<20}{every[:, 0].mean():>9.3f}{every[:, 1].mean():>11.3f}{together:>13.3f}"
            f"{false / len(every):>16.2f}"
        )
    return "\n".join(lines) + "\n"


def rows() -> None:
    """Detect in images of a meta-set, on which it is calibrated; goes on where it stopped."""
    meta_set.rows(FOILS, TRAINED, looks=False)


def look() -> None:
    """Remember what the network sees in the images that it is calibrated on."""
    jobs, saw = meta_set.jobs(FOILS), []
    with ProcessPoolExecutor(2) as pool:
        for n, seen in enumerate(pool.map(partial(_seen, TRAINED), jobs, chunksize=4), 1):
            saw.append(seen)
            if n % 100 == 0 or n == len(jobs):
                print(f"seen {n}/{len(jobs)}", flush=True)
    domains = [name for name, _, _ in jobs]
    known = fit_look(
        [seen[0] for seen in saw],
        domains,
        crops=[crop for seen in saw for crop in seen[1:]],
        crop_domains=[d for d, seen in zip(domains, saw, strict=True) for _ in seen[1:]],
    )
    for side, edge in zip(known.sides, known.edges, strict=True):
        print(f"side {side:.0f}: edge {edge:.3f}")
    write_bundle(replace(read_bundle(TRAINED), look=known), TRAINED)


def _seen(path: Path, job: tuple[str, int, str]) -> list[Seen]:
    """What is seen in an image, and in crops of the first foils."""
    torch.set_num_threads(1)
    bundle = meta_set.bundle_at(path)
    _, micrograph, _ = meta_set.taken_again(*job, meta_set.CALIBRATION_SEED)
    images = [micrograph]
    rng = np.random.default_rng([meta_set.CALIBRATION_SEED, 3, job[1]])
    for side in CROPS if job[1] < CROPPED else ():
        y, x = (int(rng.integers(0, max(1, n - side + 1))) for n in micrograph.shape)
        part = np.ascontiguousarray(micrograph.pixels[y : y + side, x : x + side])
        images.append(replace(micrograph, pixels=part, written=()))
    every = (detect_and_see(image, bundle)[1] for image in images)
    return [seen for seen in every if seen is not None]


def fit() -> None:
    """Fit the calibration on these rows, and write the bundle."""
    table = meta_set.calibration_rows()
    trained = read_bundle(TRAINED if TRAINED.exists() else SHIPPED)  # the same network, if not trained here
    digest = write_bundle(calibrate_bundle(trained, table), SHIPPED)
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size / 1e6:.2f} MB, sha256 {digest}")


def protocols() -> None:
    """Print what is told of images whose domain, or which themselves, were left out."""
    table = meta_set.calibration_rows()
    held_out = evaluate(table, model="passband", protocol="leave-one-domain-out", repeats=1)
    some = [row for row in table if int(row.image.rsplit("/", 1)[1]) < EVALUATED]
    results = [
        evaluate(some, model=model, protocol=protocol, repeats=1)
        for protocol in PROTOCOLS
        for model in OF_DETECTIONS
    ]
    whole = f"All {len(table)} images:\n{format_table([held_out])}"
    text = f"{whole}\n\nOf the first {EVALUATED} foils of each domain:\n{format_table(results)}\n"
    print(text)
    write_whole(RESULTS / "protocols.txt", text)
    lines = [
        (d, m.n, *(round(v, 3) for v in (m.mae, m.bias, m.coverage, m.mean_width)))
        for d, m in held_out.domains["f1"].items()
    ]
    _table("held_out_f1.csv", ("domain", "n", "mae", "bias", "coverage", "mean_width"), lines)
    print(json.dumps(lines))


def curve() -> None:
    """Draw the losses of all trainings, one after the other."""
    from matplotlib.figure import Figure

    names = ("training", "refining", *WIDENING)
    logs = {}
    for name in names:
        with (RESULTS / f"{name}_log.csv").open(newline="") as f:
            logs[name] = list(csv.DictReader(f))
    lengths = [int(lines[-1]["step"]) for lines in logs.values()]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, width_ratios=[max(n, 1200) for n in lengths])
    for ax, (name, lines) in zip(axes, logs.items(), strict=True):
        steps = [int(line["step"]) for line in lines]
        for loss in [key for key in lines[0] if key.startswith("loss")]:
            words = loss.removeprefix("loss_").replace("_", " ")
            ax.plot(steps, [float(line[loss]) for line in lines], linewidth=1, label=words)
        ax.set(xlabel="step", yscale="log", title=name)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss, mean of 20 steps")
    axes[2].legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
    print(save_figure(figure, Path("docs/gallery/training.png"), dpi=110))


def _table(name: str, head: tuple[str, ...], lines: list[tuple[object, ...]]) -> None:
    text = "\n".join(",".join(str(v) for v in line) for line in [head, *lines])
    write_whole(RESULTS / name, text + "\n")


STEPS = {f.__name__: f for f in (train, refine, widen, threshold, test, rows, look, fit, protocols, curve)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        sys.exit(f"no step {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    for name in chosen:
        STEPS[name]()
