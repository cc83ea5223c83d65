"""Ask whether an estimator fitted on one detector and domain serves another, and whether it knows.

The ten train/test pairs of the simulated sets, with three detectors: a slim Mask R-CNN trained on each
pair's training set, a blob detector fitted to it, and the one that ships, trained elsewhere. Every step
goes on where it stopped.

    python studies/ten_pairs.py train    five networks of 450 steps, about 45 minutes on one core
    python studies/ten_pairs.py fit      score thresholds and blob settings, on validation images
    python studies/ten_pairs.py rows     40 test images a pair, features beside measured scores
    python studies/ten_pairs.py table    what estimators make of the rows, under 3 minutes
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from blobs import BlobConfig, detect_blobs, fit_blobs
from cavity_images import labelled
from passband.cavities.domains import PAIRS
from passband.cavities.draws import draw_set
from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import Bundle, default_bundle, read_bundle, write_bundle
from passband.detectors.infer import detect
from passband.detectors.train import TrainConfig, train_detector
from passband.estimate.evaluation.evaluate import evaluate
from passband.estimate.evaluation.metrics import ALARM, Evaluation, auroc
from passband.estimate.features import SCORE_FLOOR
from passband.estimate.performance import estimate_scores, fit_calibration
from passband.estimate.rows import CalibrationRow
from passband.estimate.tables import read_table, write_table
from passband.judge.calibrate import calibration_row
from passband.micrographs.micrograph import Micrograph
from passband.store.files import write_whole
from score_tables import format_table

OUT = Path("out/pairs")
RESULTS = Path("studies/results")
IMAGES = 40
Domains = tuple[str, ...]
TRAINED_ON: dict[str, Domains] = {
    "A-under": ("A:under",),
    "A-over": ("A:over",),
    "A": PAIRS["A_A"][0],
    "B": PAIRS["B_B"][0],
    "A&B": PAIRS["A&B_C"][0],
}
TESTED_ON: dict[str, Domains] = {
    "A-under": ("A:under",),
    "A-over": ("A:over",),
    "A": PAIRS["A_A"][1],
    "B": PAIRS["B_B"][1],
    "C": PAIRS["A&B_C"][1],
    "A&B": PAIRS["A&B_A&B"][1],
}
SEEDS = {"training": 101, "validation": 8001, "test": 7001}
"""Of the first set of each kind; the next has the next. What ships was trained and tested on others."""
DETECTORS = ("network", "blobs", "shipped")
LabelledImage = tuple[Micrograph, Detections]


def exported(micrograph: Micrograph, seed: int) -> Micrograph:
    """The micrograph as people export it: stretched to eight bits, up to 4 % of the pixels clipped."""
    share = np.random.default_rng(seed).uniform(0, 2)
    low, high = np.percentile(micrograph.pixels, (share, 100 - share))
    stretched = np.clip((micrograph.pixels - low) / max(float(high - low), 1e-6), 0, 1)
    return replace(micrograph, pixels=np.round(255 * stretched).astype(np.float32))


def name_of(domains: Domains, sets: Mapping[str, Domains]) -> str:
    return next(name for name, held in sets.items() if held == domains)


def images_of(sets: Mapping[str, Domains], name: str, count: int, seed: int) -> Iterator[LabelledImage]:
    """Images of a set with their truth, every other one as people export it."""
    for i, record in enumerate(draw_set(sets[name], count, seed=seed + list(sets).index(name))):
        micrograph, truth = labelled(record, f"{name}/{i}")
        yield (exported(micrograph, i) if i % 2 else micrograph), truth


def train() -> None:
    for k, (name, domains) in enumerate(TRAINED_ON.items()):
        config = TrainConfig(
            name=f"pairs-{name}", domains=domains, images=300, steps=450, seed=SEEDS["training"] + k
        )
        if not (path := OUT / name / "trained.safetensors").exists():
            write_bundle(train_detector(config, OUT / name, progress=progress), path)


def progress(what: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"{what} {done}/{total}", flush=True)


def best_threshold(found: Sequence[tuple[Detections, Detections]]) -> tuple[float, float]:
    """The score threshold of highest mean F1 on pairs of detections and truth, and that F1."""
    cuts = np.arange(0.1, 0.96, 0.05).round(2)
    means = [
        np.mean(
            [object_scores(match_boxes(t.boxes_xyxy, d.above(c).boxes_xyxy, OPTIMAL)).f1 for d, t in found]
        )
        for c in cuts.tolist()
    ]
    return float(cuts[int(np.argmax(means))]), float(np.max(means))


def fit() -> None:
    """Choose the network's threshold and the blobs' settings on 20 images of the training domains."""
    for name in TRAINED_ON:
        trained, chosen = OUT / name / "trained.safetensors", OUT / name / "chosen.safetensors"
        blobs = OUT / name / "blobs.json"
        if blobs.exists() and (chosen.exists() or not trained.exists()):
            continue
        images = list(images_of(TRAINED_ON, name, 20, SEEDS["validation"]))
        if not blobs.exists():
            config = fit_blobs(images)
            f1 = np.mean([f1_of(detect_blobs(m, config), t) for m, t in images])
            print(f"{name}: {config}, mean F1 {f1:.3f}", flush=True)
            blobs.parent.mkdir(parents=True, exist_ok=True)
            write_whole(blobs, json.dumps(asdict(config)))
        if trained.exists() and not chosen.exists():
            low = replace(read_bundle(trained), score_threshold=0.1)
            cut, f1 = best_threshold([(detect(m, low), t) for m, t in images])
            print(f"{name}: score threshold {cut}, mean F1 {f1:.3f}", flush=True)
            write_bundle(replace(low, score_threshold=cut), chosen)


def blobs_of(path: Path) -> BlobConfig:
    held = json.loads(path.read_text())
    return BlobConfig(**{**held, "sigma": tuple(held["sigma"])})


def f1_of(found: Detections, truth: Detections) -> float:
    return object_scores(match_boxes(truth.boxes_xyxy, found.boxes_xyxy, OPTIMAL)).f1


Find = Callable[[Micrograph], Detections]


@cache
def _finder(detector: str, name: str) -> Find | None:
    """A detector that was fitted on a training set, None where it is not ready."""
    if detector == "shipped":
        bundle = default_bundle()
        return lambda micrograph: detect(micrograph, bundle)
    path = OUT / name / ("blobs.json" if detector == "blobs" else "chosen.safetensors")
    if not path.exists():
        return None
    if detector == "blobs":
        config = blobs_of(path)
        return lambda micrograph: detect_blobs(micrograph, config)
    network: Bundle = read_bundle(path)
    return lambda micrograph: detect(micrograph, network)


def rows() -> None:
    """Detect in the test images with every detector that is ready, and keep what is measured."""
    tables = {d: kept(f"pairs_{d}") for d in DETECTORS}
    for tested, domains in TESTED_ON.items():
        wanted = [("shipped", "", tested)] + [
            (d, name_of(PAIRS[pair][0], TRAINED_ON), pair)
            for d in ("network", "blobs")
            for pair in PAIRS
            if PAIRS[pair][1] == domains
        ]
        missing = {
            f"{tested}/{i}": [
                (d, find, domain)
                for d, name, domain in wanted
                if (domain, f"{tested}/{i}") not in tables[d] and (find := _finder(d, name))
            ]
            for i in range(IMAGES)
        }
        if not any(missing.values()):
            continue
        for n, (micrograph, truth) in enumerate(images_of(TESTED_ON, tested, IMAGES, SEEDS["test"]), 1):
            for d, find, domain in missing[micrograph.name]:
                row = calibration_row(micrograph, find(micrograph), truth, domain=domain)
                tables[d][domain, row.image] = row
            if n % 10 == 0:
                for d, table in tables.items():
                    save(f"pairs_{d}", table)
                print(f"{tested}: {n}/{IMAGES}", flush=True)


def kept(name: str) -> dict[tuple[str, str], CalibrationRow]:
    """The rows that an earlier run wrote, by domain and image."""
    path = RESULTS / f"{name}_rows.csv"
    return {(r.domain, r.image): r for r in read_table(path).rows} if path.exists() else {}


def save(name: str, table: Mapping[tuple[str, str], CalibrationRow]) -> None:
    if table:
        write_table(RESULTS / f"{name}_rows.csv", [_rounded(row) for row in table.values()])


def _rounded(row: CalibrationRow) -> CalibrationRow:
    """Features to seven digits: more would only make the file larger."""
    return replace(row, features={name: float(f"{value:.7g}") for name, value in row.features.items()})


TABLES = ("pairs_network", "pairs_blobs", "pairs_shipped", "particles_network", "particles_blobs")
MODELS = ("predict-the-mean", "mean-confidence", "paper-rf", "passband")
PROTOCOLS = ("random", "grouped", "leave-one-domain-out")


def table() -> None:
    """Measured F1 of the detectors, the protocols on each file of rows, and the transfer between files."""
    found = {name: list(kept(name).values()) for name in TABLES}
    found = {name: table for name, table in found.items() if table}
    _write("pairs_f1.txt", _measured(found))
    with ProcessPoolExecutor(2) as pool:
        jobs = [(name, model, protocol) for name in found for model in MODELS for protocol in PROTOCOLS]
        results = list(pool.map(_evaluated, jobs))
        couples = [(a, b) for a in found for b in found if a != b]
        said = dict(zip(couples, pool.map(_carried, couples), strict=True))
    size, parts = len(MODELS) * len(PROTOCOLS), []
    for i, (name, table) in enumerate(found.items()):
        own = results[i * size : (i + 1) * size]
        held_out = own[-1].repeats[0]
        ends = held_out.low[:, 0], held_out.high[:, 0]
        said[name, name] = np.stack([held_out.value[:, 0], *ends, held_out.novelty, held_out.abstained])
        domains = len({r.domain for r in table})
        parts += [f"{name}: {len(table)} rows of {domains} domains", format_table(own), ""]
    _write("pairs_protocols.txt", "\n".join(parts))
    _write("pairs_transfer.txt", _transfer(found, said))


def _evaluated(job: tuple[str, str, str]) -> Evaluation:
    name, model, protocol = job
    rows = list(kept(name).values())
    # The intervals of the paper's forest would take most of the time, and the paper has none.
    return evaluate(
        rows, model=model, protocol=protocol, repeats=1, coverage=0.9 if model == "passband" else None
    )


def _measured(found: Mapping[str, Sequence[CalibrationRow]]) -> str:
    head = ("mean", "median", "<0.5", "found", "none", "|F1 - conf|")
    lines = [f"{'measured F1':<18}{'domain':<16}{'n':>5}" + "".join(f"{h:>12}" for h in head)]
    for name, table in found.items():
        for domain in dict.fromkeys(r.domain for r in table):
            own = [r for r in table if r.domain == domain]
            f1, count, said = (
                np.array(v)
                for v in zip(
                    *((r.f1, r.features["count"], r.features["mean_score"]) for r in own), strict=True
                )
            )
            cells = (
                f1.mean(),
                np.median(f1),
                (f1 < ALARM).mean(),
                count.mean(),
                (count == 0).mean(),
                np.abs(f1 - said).mean(),
            )
            lines.append(f"{name:<18}{domain:<16}{len(own):>5}" + "".join(f"{v:>12.3f}" for v in cells))
    lines.append("none: share of the images in which nothing was found; conf: mean score of what was found")
    return "\n".join(lines) + "\n"


def _carried(couple: tuple[str, str]) -> np.ndarray:
    """F1, its interval's ends, novelty and abstention, (5, n), of a file's rows by a fit on another's.

    No fit sees an image that it is applied to, with whatever detector: where two files share images, a
    test set at a time is left out of the fit.
    """
    rows, others = (list(kept(name).values()) for name in couple)
    shared = {r.image for r in rows} & {r.image for r in others}
    sets = np.array([r.image.split("/")[0] if shared else "" for r in others])
    said = np.empty((5, len(others)))
    for name in sorted(set(sets)):
        applied = {others[i].image for i in np.flatnonzero(sets == name)}
        fitted = fit_calibration(
            [r for r in rows if r.image not in applied], score_threshold=SCORE_FLOOR, matching=OPTIMAL
        )
        for i in np.flatnonzero(sets == name).tolist():
            outlook = estimate_scores(fitted, others[i].features)
            f1 = outlook.estimates["f1"]
            said[:, i] = f1.value, f1.low, f1.high, outlook.novelty, outlook.abstained
    return said


def _transfer(
    found: Mapping[str, Sequence[CalibrationRow]], said: Mapping[tuple[str, str], np.ndarray]
) -> str:
    """Estimates of F1 by what was fitted on one file of rows, on the rows of every file.

    Where the two are the same file, the estimates are those of the left-out domains.
    """
    head = (
        "F1",
        "MAE",
        "mean",
        "cover",
        "|",
        "some",
        "MAE",
        "bias",
        "AUROC",
        "cover",
        "width",
        "novel",
        "tells",
    )
    head = (*head, "|", "kept", "MAE", "cover")
    lines = [f"{'fitted on':<18}{'applied to':<17}{'n':>5}" + "".join(f"{h:>{_WIDTHS[h]}}" for h in head)]
    for source, rows in found.items():
        average = float(np.mean([r.f1 for r in rows]))
        for target, others in found.items():
            truth = np.array([r.f1 for r in others])
            value, low, high, novelty, abstained = said[source, target]
            off, inside = np.abs(value - truth), (low - 1e-9 <= truth) & (truth <= high + 1e-9)
            some = np.array([r.features["count"] > 0 for r in others])
            kept_ = some & (abstained == 0)
            cells: list[float | str] = [
                truth.mean(),
                off.mean(),
                np.abs(average - truth).mean(),
                inside.mean(),
            ]
            cells += ["|", f"{some.sum()}", off[some].mean(), (value - truth)[some].mean()]
            cells += [
                auroc(truth[some] < ALARM, -value[some]),
                inside[some].mean(),
                (high - low)[some].mean(),
            ]
            cells += [(novelty[some] > 1).mean(), auroc(~inside[some], novelty[some]), "|", f"{kept_.sum()}"]
            cells += [off[kept_].mean(), inside[kept_].mean()] if kept_.any() else ["-", "-"]
            lines.append(
                f"{source:<18}{'itself, held out' if source == target else target:<17}{len(others):>5}"
                + "".join(
                    f"{c if isinstance(c, str) else format(c, '.3f'):>{_WIDTHS[h]}}"
                    for h, c in zip(head, cells, strict=True)
                )
            )
    notes = (
        "mean: MAE of saying the mean F1 of the rows fitted on. some: rows in which something was found;",
        "where nothing was, F1 is 0 (no image is empty), which every fit learns, and the interval is all of",
        "0 to 1. AUROC: of the alarm F1 < 0.5. novel: share with a novelty above 1, which a verdict names.",
        "tells: AUROC of novelty for an interval that misses; 0.5 knows nothing. kept: no abstention.",
    )
    return "\n".join([*lines, *notes]) + "\n"


_WIDTHS = dict.fromkeys(("F1", "MAE", "mean", "cover", "bias", "AUROC", "width", "novel", "tells"), 7) | {
    "|": 3,
    "some": 5,
    "kept": 6,
}


def _write(name: str, text: str) -> None:
    print(text)
    write_whole(RESULTS / name, text)


STEPS = {"train": train, "fit": fit, "rows": rows, "table": table}

if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        sys.exit(f"no step {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    for name in chosen:
        STEPS[name]()
