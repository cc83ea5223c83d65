"""Make the bundle that ships: train, choose the threshold, test, calibrate, report.

Each step prints its numbers and leaves small tables in ``studies/results``. Steps can be run one by
one; training goes on from its checkpoint and calibration from the rows it has.

    python studies/shipped_bundle.py train       about 45 minutes on one core
    python studies/shipped_bundle.py refine      about 25 minutes on one core
    python studies/shipped_bundle.py threshold   on 60 validation images
    python studies/shipped_bundle.py test        on 120 images that no choice was made on
    python studies/shipped_bundle.py rows        detect in the calibration images
    python studies/shipped_bundle.py fit         fit, write the bundle, print the protocols' table
    python studies/shipped_bundle.py curve       draw the losses

A detector for both sides of focus and every size, which does not ship yet, goes on from it:

    python studies/shipped_bundle.py widen            on a GPU for its large batches: three hours beside it
    python studies/shipped_bundle.py wide-threshold   on 120 validation images
    python studies/shipped_bundle.py sides            on 840 images that no choice was made on
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from passband.cavities.draws import draw_set
from passband.cavities.export import draw_export, export_image
from passband.cavities.files import truth_of
from passband.cavities.image import CavityRecord, simulate_cavities
from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, PAPER, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import SHIPPED, Bundle, read_bundle, write_bundle
from passband.detectors.infer import detect
from passband.detectors.train import TrainConfig, train_detector
from passband.drawing.saving import save_figure
from passband.estimate.evaluation.evaluate import OF_DETECTIONS, evaluate
from passband.estimate.evaluation.protocols import PROTOCOLS
from passband.estimate.in_domain import Taken
from passband.estimate.rows import CalibrationRow
from passband.estimate.tables import read_table, write_table
from passband.judge.calibrate import calibrate_bundle, calibration_row
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.write_tiff import SIMULATED
from passband.store.files import write_whole
from score_tables import format_table

OUT = Path("out/detector")
RESULTS = Path("studies/results")
TRAINED = OUT / "trained.safetensors"
FIRST = OUT / "first.safetensors"
WIDE = Path("studies/results/networks/cavities-wide.safetensors")
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
SEEDS = {"validation": 1001, "test": 1002, "calibration": 2003, "wide validation": 1003, "sides": 7001}
"""Training has seeds 0 to 5."""
TESTED = (
    *(f"{s}:{f}" for f in ("under", "over", "in") for s in ("A", "B", "C", "W")),
    *("A-cluttered:under", "A-cluttered:over", "B-starved:under", "C-smeared:under"),
    *("A-empty:under", "B-empty:under", "B-empty:over", "W-empty:under", "W-empty:over"),
)
"""Forty images each, every other as people send it."""
CALIBRATION = {
    **{f"{s}:{f}": 50 for s in "ABC" for f in ("under", "over")},
    **{f"{s}:in": 25 for s in "ABC"},
    **{
        f"{s}:under": 25 for s in ("A-starved", "B-starved", "A-cluttered", "C-smeared", "A-empty", "B-empty")
    },
}


def labelled(record: CavityRecord, name: str) -> tuple[Micrograph, Detections]:
    """A simulated image and its truth, as a reader and an annotator would give them."""
    image = simulate_cavities(record)
    micrograph = Micrograph(pixels=image.pixels, name=name, pixel_size=record.conditions.pixel_size)
    return micrograph, truth_of(image)


def exported(micrograph: Micrograph, seed: int) -> Micrograph:
    """The micrograph as people export it: stretched to eight bits, up to 4 % of the pixels clipped."""
    share = np.random.default_rng(seed).uniform(0, 2)
    low, high = np.percentile(micrograph.pixels, (share, 100 - share))
    stretched = np.clip((micrograph.pixels - low) / max(float(high - low), 1e-6), 0, 1)
    return replace(micrograph, pixels=np.round(255 * stretched).astype(np.float32))


def train() -> None:
    write_bundle(train_detector(CONFIG, OUT, progress=_progress), FIRST)
    write_whole(RESULTS / "training_log.csv", (OUT / "log.csv").read_text())


def refine() -> None:
    """Go on from the first training with a second, shorter schedule on other images."""
    write_bundle(train_detector(REFINED, OUT / "refined", progress=_progress), TRAINED)
    write_whole(RESULTS / "refining_log.csv", (OUT / "refined" / "log.csv").read_text())


def widen() -> None:
    """Go on with both sides of focus, every size, clutter, empty foils, and images as people send them."""
    start = TRAINED
    for name, config in WIDENING.items():
        gpu = config.batch > WIDENED.batch and torch.cuda.is_available()
        config = replace(config, start=str(start), device="cuda" if gpu else "cpu")
        start = OUT / f"{name}.safetensors"
        write_bundle(train_detector(config, OUT / name, progress=_progress), start)
        write_whole(RESULTS / f"{name}_log.csv", (OUT / name / "log.csv").read_text())
    write_bundle(read_bundle(start), WIDE)


def _progress(what: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"{what} {done}/{total}", flush=True)


def threshold() -> None:
    """Choose the score threshold of highest mean F1 on validation images."""
    low = replace(read_bundle(TRAINED), score_threshold=0.1)
    pairs = [
        labelled(r, str(i)) for i, r in enumerate(draw_set(CONFIG.domains, 60, seed=SEEDS["validation"]))
    ]
    found = [(detect(m, low), truth) for m, truth in pairs]
    rows = []
    for cut in np.arange(0.1, 0.95, 0.05).round(2):
        f1 = np.mean(
            [object_scores(match_boxes(t.boxes_xyxy, d.above(cut).boxes_xyxy, OPTIMAL)).f1 for d, t in found]
        )
        rows.append((float(cut), round(float(f1), 4)))
        print(f"threshold {cut:.2f}  mean F1 {f1:.4f}")
    best = max(rows, key=lambda r: r[1])[0]
    print(f"chosen: {best}")
    _table("threshold.csv", ("score_threshold", "validation_mean_f1"), rows)
    write_bundle(replace(low, score_threshold=best), TRAINED)


def test() -> None:
    """Score 120 held-out images of the training domain, by both matching rules."""
    bundle, rows = read_bundle(TRAINED), []
    counts = {rule.kind: np.zeros(3, int) for rule in (OPTIMAL, PAPER)}
    names = [CONFIG.domains[i % len(CONFIG.domains)] for i in range(120)]
    for i, record in enumerate(draw_set(CONFIG.domains, 120, seed=SEEDS["test"])):
        micrograph, truth = labelled(record, str(i))
        found, scores = detect(micrograph, bundle), []
        for rule in (OPTIMAL, PAPER):
            s = object_scores(match_boxes(truth.boxes_xyxy, found.boxes_xyxy, rule))
            counts[rule.kind] += (s.true_positives, s.false_positives, s.misses)
            scores.append(round(s.f1, 4))
        rows.append((names[i], len(truth), len(found), *scores))
    _table("test.csv", ("domain", "truth", "found", "f1_optimal_0.5", "f1_greedy_truth_0.1"), rows)
    for column, rule in ((3, OPTIMAL), (4, PAPER)):
        tp, fp, fn = counts[rule.kind]
        print(f"{rule}: mean of images {np.mean([r[column] for r in rows]):.3f}, ", end="")
        print(f"all objects together {2 * tp / (2 * tp + fp + fn):.3f}")
        for name in CONFIG.domains:
            print(f"    {name}: {np.mean([r[column] for r in rows if r[0] == name]):.3f}")


def pairs(names: Sequence[str], count: int, seed: int) -> list[tuple[str, int, CavityRecord]]:
    """Records of so many images of each of some domains."""
    return [
        (name, i, record)
        for k, name in enumerate(names)
        for i, record in enumerate(draw_set([name], count, seed=seed + 100 * k))
    ]


def seen(name: str, i: int, record: CavityRecord, seed: int) -> tuple[Micrograph, Detections]:
    """An image with its truth; every other one as people send it."""
    image = simulate_cavities(record)
    if i % 2:
        image = export_image(image, draw_export(np.random.default_rng([seed, i]), record.shape))
    micrograph = Micrograph(pixels=image.pixels, name=f"{name}/{i}", pixel_size=record.conditions.pixel_size)
    return micrograph, truth_of(image)


def _found(path: Path, job: tuple[str, int, CavityRecord]) -> tuple[str, Detections, Detections]:
    torch.set_num_threads(1)
    micrograph, truth = seen(*job, seed=SEEDS["sides"])
    return job[0], detect(micrograph, _bundle(path)), truth


def wide_threshold() -> None:
    """Choose the wide detector's threshold: highest mean F1 on both sides of focus alike."""
    write_bundle(replace(read_bundle(WIDE), score_threshold=0.1), WIDE)
    names = [f"{s}:{f}" for f in ("under", "over") for s in ("A", "B", "C", "W")]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(partial(_found, WIDE), pairs(names, 15, SEEDS["wide validation"]), chunksize=2))
    rows = []
    for cut in np.arange(0.1, 0.96, 0.05).round(2):
        f1 = np.mean(
            [
                object_scores(match_boxes(t.boxes_xyxy, d.above(cut).boxes_xyxy, OPTIMAL)).f1
                for _, d, t in found
            ]
        )
        rows.append((float(cut), round(float(f1), 4)))
        print(f"threshold {cut:.2f}  mean F1 {f1:.4f}")
    best = max(rows, key=lambda r: r[1])[0]
    print(f"chosen: {best}")
    _table("wide_threshold.csv", ("score_threshold", "validation_mean_f1"), rows)
    write_bundle(replace(read_bundle(WIDE), score_threshold=best), WIDE)


def sides() -> None:
    """Score what ships and the wide detector on both sides of focus and on empty foils."""
    rows, texts = [], []
    for detector, path in (("ships", SHIPPED), ("wide", WIDE)):
        told = {name: np.zeros((0, 5)) for name in TESTED}
        with ProcessPoolExecutor(2) as pool:
            found_in = pool.map(partial(_found, path), pairs(TESTED, 40, SEEDS["sides"]), chunksize=2)
            for n, (name, found, truth) in enumerate(found_in, 1):
                best, loose = (
                    object_scores(match_boxes(truth.boxes_xyxy, found.boxes_xyxy, rule))
                    for rule in (OPTIMAL, PAPER)
                )
                counts = (best.true_positives, best.false_positives, best.misses)
                told[name] = np.vstack([told[name], (best.f1, loose.f1, *counts)])
                rows.append((detector, name, *counts, round(best.f1, 4), round(loose.f1, 4)))
                if n % 100 == 0:
                    print(f"{detector} {n}/{40 * len(TESTED)}", flush=True)
        texts.append(f"{detector}\n{_by_domain(told)}")
    _table(
        "sides.csv",
        ("detector", "domain", "right", "false", "missed", "f1_optimal_0.5", "f1_greedy_0.1"),
        rows,
    )
    print("\n".join(texts))
    write_whole(RESULTS / "sides.txt", "\n".join(texts))


def _by_domain(told: dict[str, np.ndarray]) -> str:
    groups = {name: (name,) for name in TESTED}
    for focus in ("under", "over", "in"):
        groups[f"A, B, C {focus}"] = tuple(f"{s}:{focus}" for s in "ABC")
    groups["A, B, C both sides"] = (*groups["A, B, C under"], *groups["A, B, C over"])
    groups["empty foils"] = tuple(name for name in TESTED if "empty" in name)
    lines = [f"{'domain':<20}{'mean F1':>9}{'at IoU .1':>11}{'all objects':>13}{'false an image':>16}"]
    for group, names in groups.items():
        all_ = np.vstack([told[name] for name in names])
        right, false, missed = all_[:, 2:].sum(0)
        together = 2 * right / max(1, 2 * right + false + missed)
        lines.append(
            f"{group:<20}{all_[:, 0].mean():>9.3f}{all_[:, 1].mean():>11.3f}{together:>13.3f}"
            f"{false / len(all_):>16.2f}"
        )
    return "\n".join(lines) + "\n"


def _row(job: tuple[str, int, CavityRecord]) -> dict[str, object]:
    """One calibration row as plain values, which pass between processes."""
    torch.set_num_threads(1)
    domain, i, record = job
    micrograph, truth = labelled(record, f"{domain}/{i}")
    if i % 2:  # the rest are counts, as a camera gives them
        micrograph = exported(micrograph, i)
    row = calibration_row(micrograph, detect(micrograph, _bundle()), truth, domain=domain)
    return {**{f.name: getattr(row, f.name) for f in fields(row)}, "features": dict(row.features)}


@lru_cache
def _bundle(path: Path = TRAINED) -> Bundle:
    return read_bundle(path)


def _calibration_records() -> list[tuple[str, int, CavityRecord]]:
    return [
        (name, i, record)
        for k, (name, count) in enumerate(CALIBRATION.items())
        for i, record in enumerate(draw_set([name], count, seed=SEEDS["calibration"] + 1000 * k))
    ]


def rows() -> None:
    """Detect in the calibration images, two processes at a time; goes on where it stopped."""
    path = RESULTS / "calibration_rows.csv"
    done = {r.image: r for r in read_table(path).rows} if path.exists() else {}
    jobs = [job for job in _calibration_records() if f"{job[0]}/{job[1]}" not in done]
    with ProcessPoolExecutor(2) as pool:
        for n, values in enumerate(pool.map(_row, jobs, chunksize=2), 1):
            row = CalibrationRow(**values)
            done[row.image] = row
            if n % 25 == 0 or n == len(jobs):
                write_table(path, list(done.values()))
                print(f"rows {n}/{len(jobs)}", flush=True)


def fit() -> None:
    """Fit the calibration on all rows, write the bundle, and print what the protocols say."""
    drawn = {f"{name}/{i}": record for name, i, record in _calibration_records()}
    table = [
        replace(
            row,
            taken=Taken(instrument=SIMULATED, pixel_size=drawn[row.image].conditions.pixel_size),
        )
        for row in read_table(RESULTS / "calibration_rows.csv").rows
    ]
    trained = read_bundle(TRAINED if TRAINED.exists() else SHIPPED)  # the same network, if not trained here
    digest = write_bundle(calibrate_bundle(trained, table), SHIPPED)
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size / 1e6:.2f} MB, sha256 {digest}")
    results = [
        evaluate(table, model=model, protocol=protocol, repeats=1)
        for protocol in PROTOCOLS
        for model in OF_DETECTIONS
    ]
    text = format_table(results)
    print(text)
    write_whole(RESULTS / "protocols.txt", text + "\n")
    held_out = next(e for e in results if (e.model, e.protocol) == ("passband", "leave-one-domain-out"))
    lines = [
        (d, m.n, *(round(v, 3) for v in (m.mae, m.bias, m.coverage, m.mean_width)))
        for d, m in held_out.domains["f1"].items()
    ]
    _table("held_out_f1.csv", ("domain", "n", "mae", "bias", "coverage", "mean_width"), lines)
    print(json.dumps(lines))


def curve() -> None:
    """Draw both trainings' losses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(CONFIG.steps, REFINED.steps))
    for ax, name in zip(axes, ("training", "refining"), strict=True):
        with (RESULTS / f"{name}_log.csv").open(newline="") as f:
            lines = list(csv.DictReader(f))
        steps = [int(line["step"]) for line in lines]
        for loss in [key for key in lines[0] if key.startswith("loss")]:
            words = loss.removeprefix("loss_").replace("_", " ")
            ax.plot(steps, [float(line[loss]) for line in lines], linewidth=1, label=words)
        ax.set(xlabel="step", yscale="log", title=name)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss, mean of 20 steps")
    axes[0].legend(frameon=False, fontsize=8, ncols=2)
    print(save_figure(figure, Path("docs/gallery/training.png"), dpi=110))


def _table(name: str, head: tuple[str, ...], lines: list[tuple[object, ...]]) -> None:
    text = "\n".join(",".join(str(v) for v in line) for line in [head, *lines])
    write_whole(RESULTS / name, text + "\n")


STEPS = {
    "train": train,
    "refine": refine,
    "threshold": threshold,
    "test": test,
    "rows": rows,
    "fit": fit,
    "curve": curve,
}
WIDE_STEPS = {"widen": widen, "wide-threshold": wide_threshold, "sides": sides}

if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(STEPS)
    steps = STEPS | WIDE_STEPS
    if unknown := [name for name in chosen if name not in steps]:
        sys.exit(f"no step {', '.join(unknown)}; the steps are {', '.join(steps)}")
    for name in chosen:
        steps[name]()
