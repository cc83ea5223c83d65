"""Whether evidence from pixels and weaker candidates improves estimates beyond the boxes alone.

The images are those of the calibration, and a second draw of the same domains that no choice was made
on. Estimates of a domain's images come from a fit to the other domains of the calibration's images.

    python studies/evidence.py rows     detect in both sets of images, about 15 minutes on two cores
    python studies/evidence.py table    fit, and print with and without the evidence
"""

from __future__ import annotations

import csv
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evidence_features import EVIDENCE_FEATURES, detect_with_evidence
from passband.cavities.draws import draw_set
from passband.cavities.image import CavityRecord
from passband.detectors.bundle import default_bundle
from passband.estimate.blend import fit_blend, guess_blend
from passband.estimate.evaluation.metrics import auroc
from passband.estimate.features import PAPER_FEATURES
from passband.estimate.regressor import TARGETS
from passband.judge.calibrate import calibration_row
from passband.store.files import write_whole
from shipped_bundle import CALIBRATION, SEEDS, exported, labelled

RESULTS = Path("studies/results")
ROWS = RESULTS / "evidence_rows.csv"
FRESH = 20  # images of each domain in the second draw
FRESH_SEED = 2104
COLUMNS = ("set", "domain", "image", *TARGETS, *PAPER_FEATURES, *EVIDENCE_FEATURES)
INPUTS = {
    "boxes": PAPER_FEATURES,
    "boxes + thresholds": (*PAPER_FEATURES, *EVIDENCE_FEATURES[:3]),
    "boxes + blobs": (*PAPER_FEATURES, *EVIDENCE_FEATURES[3:]),
    "boxes + both": (*PAPER_FEATURES, *EVIDENCE_FEATURES),
}
RESAMPLES = 2000
Job = tuple[str, str, int, CavityRecord]


def jobs() -> list[Job]:
    """Both sets of images, each its own draw."""
    listed = []
    for kind, seed in (("calibration", SEEDS["calibration"]), ("fresh", FRESH_SEED)):
        for k, (name, count) in enumerate(CALIBRATION.items()):
            n = count if kind == "calibration" else FRESH
            drawn = draw_set([name], n, seed=seed + 1000 * k)
            listed += [(kind, name, i, record) for i, record in enumerate(drawn)]
    return listed


def line(job: Job) -> dict[str, str]:
    """One image's scores, box statistics and evidence, as text."""
    torch.set_num_threads(1)
    kind, domain, i, record = job
    micrograph, truth = labelled(record, f"{domain}/{i}")
    if i % 2:  # as in the calibration
        micrograph = exported(micrograph, i)
    answer, said = detect_with_evidence(micrograph, default_bundle())
    row = calibration_row(micrograph, replace(answer, masks=None), truth, domain=domain)
    numbers = {t: getattr(row, t) for t in TARGETS} | {n: row.features[n] for n in PAPER_FEATURES} | said
    head = {"set": kind, "domain": domain, "image": row.image}
    return head | {n: f"{v:.7g}" for n, v in numbers.items()}


def rows() -> None:
    """Detect in all images, two processes at a time; goes on where it stopped."""
    done = list(csv.DictReader(ROWS.open(newline=""))) if ROWS.exists() else []
    held = {(r["set"], r["image"]) for r in done}
    wanted = [j for j in jobs() if (j[0], f"{j[1]}/{j[2]}") not in held]
    with ProcessPoolExecutor(2) as pool:
        for n, values in enumerate(pool.map(line, wanted, chunksize=2), 1):
            done.append(values)
            if n % 25 == 0 or n == len(wanted):
                write_rows(done)
                print(f"rows {n}/{len(wanted)}", flush=True)


def write_rows(lines: list[dict[str, str]]) -> None:
    text = "\n".join(",".join(v) for v in [COLUMNS, *([r[c] for c in COLUMNS] for r in lines)])
    write_whole(ROWS, text + "\n")


def table() -> None:
    """Errors of the estimates of held-out domains, and their difference to the boxes alone."""
    lines = list(csv.DictReader(ROWS.open(newline="")))
    domains = np.array([r["domain"] for r in lines])
    fitted = np.array([r["set"] == "calibration" for r in lines])
    scores = np.array([[float(r[t]) for t in TARGETS] for r in lines])
    nothing = np.array([float(r["count"]) == 0 for r in lines])
    said = {name: _held_out(lines, names, domains, fitted, scores) for name, names in INPUTS.items()}
    text = []
    for kind, inside in (("calibration", fitted), ("fresh", ~fitted)):
        text.append(f"{kind}: {inside.sum()} images, {(inside & nothing).sum()} with nothing found")
        text.append(
            f"  {'inputs':<20}{'F1 MAE':>8}{'precision':>11}{'recall':>8}{'R2':>7}{'AUROC':>7}"
            f"{'bias':>8}{'found 0':>9}{'found':>7}  F1 MAE less that of boxes, 95 %"
        )
        base = np.abs(said["boxes"] - scores)[:, 0]
        for name, value in said.items():
            error = value - scores
            mae, f1 = np.abs(error)[inside].mean(axis=0), np.abs(error)[:, 0]
            r2 = (
                1
                - (error[inside, 0] ** 2).sum() / ((scores[inside, 0] - scores[inside, 0].mean()) ** 2).sum()
            )
            change = (f1 - base)[inside]
            drawn = np.random.default_rng(0).integers(0, len(change), (RESAMPLES, len(change)))
            low, high = np.percentile(change[drawn].mean(axis=1), (2.5, 97.5))
            text.append(
                f"  {name:<20}{mae[0]:8.4f}{mae[1]:11.4f}{mae[2]:8.4f}{r2:7.3f}"
                f"{auroc(scores[inside, 0] < 0.5, -value[inside, 0]):7.3f}{error[inside, 0].mean():+8.3f}"
                f"{f1[inside & nothing].mean():9.3f}{f1[inside & ~nothing].mean():7.3f}"
                f"  {change.mean():+.4f} ({low:+.4f} to {high:+.4f})"
            )
        text.append(
            f"  {'F1 of domain':<20}{'n':>4}{'found 0':>9}{'mean':>7}{'boxes MAE':>11}{'both':>7}  bias"
        )
        for name in np.unique(domains):
            one = inside & (domains == name)
            both = said["boxes + both"][one, 0] - scores[one, 0]
            text.append(
                f"  {name:<20}{one.sum():>4}{(one & nothing).sum():>9}{scores[one, 0].mean():7.3f}"
                f"{base[one].mean():11.3f}{np.abs(both).mean():7.3f}  {both.mean():+.3f}"
            )
    print("\n".join(text))
    write_whole(RESULTS / "evidence_table.txt", "\n".join(text) + "\n")


def _held_out(
    lines: list[dict[str, str]],
    names: tuple[str, ...],
    domains: np.ndarray,
    fitted: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Estimates of every image by fits to the calibration's images of other domains."""
    x = np.array([[float(r[n]) for n in names] for r in lines])
    images = np.array([r["image"] for r in lines])
    value = np.zeros_like(scores)
    for name in np.unique(domains):
        train, out = fitted & (domains != name), domains == name
        known = (domains[train].tolist(), images[train].tolist())
        blend, _ = fit_blend(x[train], scores[train], *known, names=names)
        value[out] = guess_blend(blend, x[out])
    return value


STEPS = {"rows": rows, "table": table}

if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        sys.exit(f"no step {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    for name in chosen:
        STEPS[name]()
