"""Every method on the cards: accuracy under turns, noise, contamination and few labels.

    python studies/cards_table.py [--seeds 3] [--method ours]

800 labelled cards at +-4 degrees, protocol paper-notebook, 12,000 unlabelled ones at +-180; test cards have
seeds of their own, 4,000 a condition. The recovered templates are used where PASSBAND_DATA has them, else
the suits drawn here. Rows already in the table are not made again. Rows of ss-VAE and ss-rVAE are of the
models of `cards_curve.py`, seed 0, whose unlabelled cards are turned by +-60, as in the paper; "published" is
what doi:10.1039/d3dd00196b shows.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

from cards_curve import reference_model
from cards_methods import METHODS, Scores
from passband.estimate.evaluation.metrics import auroc
from passband.particles.cards import (
    STRANGERS,
    draw_template,
)
from passband.particles.model import classify_particles
from passband.particles.networks.invariant import Classification
from passband.store.files import write_whole
from recovered_cards import drawn, labelled, templates

RESULTS = Path(__file__).parent / "results"
CONDITIONS = {
    "60": {"angle": 60},
    "120": {"angle": 120},
    "180": {"angle": 180},
    "noise 0.4": {"angle": 60, "noise": 0.4},
    "noise 1.0": {"angle": 60, "noise": 1.0},
    "contamination 0.2": {"angle": 60, "contamination": 0.2},
}
FEW = (1, 3, 10)
REFERENCES = ("ss-VAE", "ss-rVAE")
PUBLISHED = {"60": 0.873, "120": 0.717, "180": 0.666, "noise 0.4": 0.855, "noise 1.0": 0.70}
COLUMNS = ("method", "seed", "seconds", *CONDITIONS, *(f"{n} a class" for n in FEW), "stranger")


def measure(name: str, seed: int, shapes: list[np.ndarray]) -> dict[str, object]:
    """One row of the table."""
    method, unlabelled = METHODS[name], drawn(shapes, 3000, 1000 + seed, angle=180)[0]
    began = time.process_time()
    scores = method(*labelled(shapes, 200, seed), unlabelled, seed)
    row: dict[str, object] = {"method": name, "seed": seed, "seconds": round(time.process_time() - began, 1)}
    row |= accuracies(scores, seed, shapes)
    known = drawn(shapes, 1000, 2002 + 10 * seed, angle=180)[0]
    strange = drawn([draw_template(s) for s in STRANGERS.values()], 1000, 3000 + seed, angle=180)[0]
    row["stranger"] = round(stranger_auroc(name, scores, known, strange), 4)
    images, truth = drawn(shapes, 1000, 4000 + seed, angle=180)
    for n in FEW:
        few = method(*labelled(shapes, n, 5000 + seed), unlabelled, seed)
        row[f"{n} a class"] = round(float((few(images).argmax(1) == truth).mean()), 4)
    return row


def accuracies(scores: Scores, seed: int, shapes: list[np.ndarray]) -> dict[str, float]:
    """Under each condition."""
    found = {}
    for i, (condition, changes) in enumerate(CONDITIONS.items()):
        images, truth = drawn(shapes, 1000, 2000 + 10 * seed + i, **changes)
        found[condition] = round(float((scores(images).argmax(1) == truth).mean()), 4)
    return found


def measure_reference(name: str, shapes: list[np.ndarray]) -> dict[str, object]:
    """The row of the paper's method, by the setting reference."""
    model = reference_model(name, 0, 30)
    scores = accuracies(lambda x: classify_particles(model, x).probabilities, 0, shapes)
    return {**dict.fromkeys(COLUMNS, ""), "method": name, "seed": 0, **scores}


def stranger_auroc(name: str, scores: object, known: np.ndarray, strange: np.ndarray) -> float:
    """How well a method tells strangers: by its distance if it has one, else by its greatest probability."""
    doubts = []
    for images in (known, strange):
        said = scores.answer(images) if hasattr(scores, "answer") else scores(images)  # type: ignore[operator]
        doubts.append(said.distance if isinstance(said, Classification) else -said.max(1))
    positive = np.r_[np.zeros(len(known), bool), np.ones(len(strange), bool)]
    return float(auroc(positive, np.concatenate(doubts).astype(float)))


def main() -> None:
    """Fill the table and print its means."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="", help="one of them; all if not given")
    parser.add_argument("--out", type=Path, default=RESULTS / "cards_table.csv")
    asked = parser.parse_args()
    shapes = list(templates().values())
    rows: list[dict[str, object]] = []
    if asked.out.exists():
        with asked.out.open() as f:
            rows = list(csv.DictReader(f))
    done = {(r["method"], int(str(r["seed"]))) for r in rows}
    names = [n for n in (*METHODS, *REFERENCES) if asked.method in ("", n)]
    if ("ss-rVAE, published", 0) not in done:
        rows.append({**dict.fromkeys(COLUMNS, ""), "method": "ss-rVAE, published", "seed": 0, **PUBLISHED})
    for seed in range(asked.seeds):
        for name in names:
            if (name, seed) in done or (name in REFERENCES and seed):
                continue
            rows.append(
                measure_reference(name, shapes) if name in REFERENCES else measure(name, seed, shapes)
            )
            lines = [",".join(COLUMNS)]
            lines += [",".join(f'"{r[c]}"' if "," in str(r[c]) else str(r[c]) for c in COLUMNS) for r in rows]
            write_whole(asked.out, "\n".join(lines) + "\n")
            print(rows[-1], flush=True)
    print(f"{'method':30}" + "".join(f"{c:>18}" for c in COLUMNS[2:]))
    for name in (*METHODS, *REFERENCES, "ss-rVAE, published"):
        mine = [r for r in rows if r["method"] == name]
        if mine:
            means = [np.mean([float(str(r[c] or "nan")) for r in mine]) for c in COLUMNS[2:]]
            print(f"{name:30}" + "".join(f"{m:18.4f}" for m in means))


if __name__ == "__main__":
    main()
