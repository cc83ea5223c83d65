"""What the studies of the generalisation map say: `python studies/map_tables.py FOLDER`, which holds a to e.

    passband study run studies/map_a.toml --out FOLDER/a      and so on; they go on where they were
    python studies/map_tables.py FOLDER

Writes into studies/results map_b.csv (each network under each condition, with its prediction),
map_scores.csv (mean F1 of each cell of every study), defocus_map.csv, and map.txt: what orders F1, and how
well it is predicted.
Every prediction is made with the training and the test condition of its pair left out, by what decision 17
chose on study a; networks of the other studies teach too. Spearman's intervals: 90 %, of 100 draws of whole
networks.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from passband.errors import DatasetError
from passband.generalise.export import study_rows
from passband.generalise.predict import GROUPS, Pairs, Predicted, learn, pairs_of, predict_held_out
from passband.store.columns import rows_csv
from passband.store.files import write_whole

RESULTS = Path("studies/results")
SCORE = "image_f1"
DRAWS = 100
NAMES = {
    "a": "defocus",
    "b": "defocus, Cs, focal spread, astigmatism",
    "c": "dose, defocus",
    "d": "material, size",
    "e": "width of training",
}
BETTER = (
    "sigma", "sigma_area", "sigma_depth", "sigma_power", "sigma_signed", "coverage", "epsilon_train",
    "epsilon_test", "bits_train", "bits_test", "confidence", "soft_dice", "agree_noise", "agree_negative",
    "agree_turn", "agree_scale", "smooth_9", "smooth_21",
)  # fmt: skip
WORSE = ("defocus", "scaled", "edge", "spectrum_distance", "feature_distance", "frechet")
"""Distances: their negative is compared with F1."""
lines: list[str] = []


def say(text: str = "") -> None:
    print(text, flush=True)
    lines.append(text)


def rank(values: np.ndarray, score: np.ndarray) -> float:
    if np.ptp(values) == 0 or np.ptp(score) == 0:
        return float("nan")
    return float(spearmanr(values, score).statistic)


def order(rows: Sequence[dict[str, Any]], pairs: Pairs) -> None:
    """What orders F1 over all pairs, and within the rows of each network."""
    runs = np.unique([r["run"] for r in rows], return_inverse=True)[1]
    of = [np.flatnonzero(runs == i) for i in range(runs.max() + 1)]
    rng = np.random.default_rng(0)
    say(f"\n{'Spearman with F1':<22}{'all pairs':>20}{'within a network':>20}")
    for name in (*BETTER, *WORSE):
        if name in pairs.names["metrics"]:
            values = pairs.columns["metrics"][:, pairs.names["metrics"].index(name)]
        else:
            values = np.array([r[name] for r in rows], float)
        values = -values if name in WORSE else values
        drawn = []
        for _ in range(DRAWS):
            few = np.concatenate([of[i] for i in rng.integers(len(of), size=len(of))])
            drawn.append(rank(values[few], pairs.score[few]))
        low, high = np.nanquantile(drawn, [0.05, 0.95]) if np.isfinite(drawn).any() else (np.nan, np.nan)
        each = [rank(values[i], pairs.score[i]) for i in of]
        mean = np.nanmean(each) if np.isfinite(each).any() else np.nan
        say(f"{name:<22}{rank(values, pairs.score):7.2f} [{low:5.2f},{high:5.2f}]{mean:16.2f}")


def judged(name: str, pairs: Pairs, found: Predicted) -> None:
    off = found.score - pairs.score
    spread = np.square(pairs.score - pairs.score.mean()).sum()
    inside = (found.low <= pairs.score) & (pairs.score <= found.high)
    worst = min(inside[side == i].mean() for side in (pairs.train, pairs.test) for i in np.unique(side))
    say(
        f"{name:<52}{np.abs(off).mean():8.4f}{1 - np.square(off).sum() / spread:8.3f}{inside.mean():9.3f}"
        f"{worst:8.3f}{(found.high - found.low).mean():8.3f}"
    )


def predictions(pairs: Pairs, one: Pairs, of: np.ndarray) -> Predicted:
    """Of one study's pairs among those of all, which teach too."""
    own, own_one = select(pairs, of), select(one, of)
    say(f"\n{'predicted':<52}{'MAE':>8}{'R2':>8}{'covered':>9}{'worst':>8}{'width':>8}")
    for group in GROUPS:
        for both in (True, False):
            held = "both left out" if both else "training left out"
            judged(f"set of 14, {group}, {held}", own, predict_held_out(pairs, group, of=of, both=both))
    judged("set of 14, images, both left out, alone", own, predict_held_out(own, "images"))
    mean = np.array([own.score[own.test != t].mean() for t in own.test])
    say(f"{'set of 14, the mean of other conditions':<52}{np.abs(mean - own.score).mean():8.4f}")
    for group in ("images", "all"):
        judged(f"single image, {group}, both left out", own_one, predict_held_out(one, group, of=of))
    return predict_held_out(pairs, "images", of=of)


def select(pairs: Pairs, of: np.ndarray) -> Pairs:
    columns = {part: values[of] for part, values in pairs.columns.items()}
    return replace(pairs, columns=columns, score=pairs.score[of], train=pairs.train[of], test=pairs.test[of])


def prediction_rows(rows: Sequence[dict[str, Any]], found: Predicted) -> list[list[Any]]:
    given = [n for n in rows[0] if n.startswith(("train_", "test_"))]
    table: list[list[Any]] = [[*given, "seed", "f1", "predicted_f1", "low", "high"]]
    for row, *told in zip(rows, found.score, found.low, found.high, strict=True):
        table.append([*(row[n] for n in given), row["seed"], row[SCORE], *(f"{v:.4f}" for v in told)])
    return table


def cells(study: str, rows: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Mean and deviation of F1 of each pair of conditions."""
    sides = []
    for side in ("train_", "test_"):
        names = [n for n in rows[0] if n.startswith(side)]
        sides.append([n for n in names if len({r[n] for r in rows}) > 1] or names[:1])
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        key = tuple("; ".join(f"{n.split('_', 1)[1]} {row[n]}" for n in names) for names in sides)
        found.setdefault(key, []).append(row[SCORE])  # type: ignore[arg-type]
    return [
        [study, *key, len(v), f"{np.mean(v):.4f}", f"{np.std(v, ddof=1):.4f}" if len(v) > 1 else ""]
        for key, v in found.items()
    ]


def smoothness(rows: Sequence[dict[str, Any]]) -> None:
    """Of study a: the largest step between neighbours, beside the scatter of seeds; and asymmetries."""
    at = sorted({r["test_defocus_nm"] for r in rows})
    cell = {
        (i, j): [r[SCORE] for r in rows if (r["train_defocus_nm"], r["test_defocus_nm"]) == (i, j)]
        for i, j in itertools.product(at, at)
    }
    mean = np.array([[np.mean(cell[i, j]) for j in at] for i in at])
    scatter = np.array([np.std(v, ddof=1) for v in cell.values() if len(v) > 1])
    for side, axis in (("test", 1), ("training", 0)):
        steps = np.abs(np.diff(mean, axis=axis))
        say(
            f"steps between neighbouring {side} conditions: median {np.median(steps):.3f}, "
            f"largest {steps.max():.3f}"
        )
    say(f"deviation of seeds: median {np.median(scatter):.3f}, largest {scatter.max():.3f}")
    under, over = np.array(at) > 0, np.array(at) < 0
    say(
        f"trained over focus, tested under {mean[np.ix_(over, under)].mean():.3f}; the other way "
        f"{mean[np.ix_(under, over)].mean():.3f}; at home {np.diag(mean).mean():.3f}"
    )


def joined(studies: dict[str, list[dict[str, Any]]]) -> None:
    """Studies b, c and d together: materials and doses left out, on either side of a pair."""
    rows = [r for s in "bcd" for r in studies.get(s, [])]
    pairs = pairs_of(rows)
    x = pairs.inputs("images")
    say(f"\nstudies b, c and d together, {len(rows)} rows: what is left out, mean error, rows")
    for name in ("materials", "dose"):
        sides = [np.array([str(r[f"{s}_{name}"]) for r in rows]) for s in ("train", "test")]
        off = []
        for value in np.unique(np.concatenate(sides)):
            here = (sides[0] == value) | (sides[1] == value)
            if (~here).sum() > 50:
                off.append(np.abs(learn(x[~here], pairs.score[~here])(x[here]) - pairs.score[here]))
        every = np.concatenate(off)
        say(f"{name:<12}{every.mean():.4f}   {len(every)}")
    gold = np.array([r["train_materials"] == r["test_materials"] == "CdSe" for r in rows])
    others = np.array([r["test_materials"] != "CdSe" for r in rows])
    off = learn(x[gold], pairs.score[gold])(x[others]) - pairs.score[others]
    spread = np.square(pairs.score[others] - pairs.score[others].mean()).sum()
    say(
        f"learned on CdSe alone, told of other materials: {np.abs(off).mean():.4f}, "
        f"R2 {1 - np.square(off).sum() / spread:.3f}"
    )


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    studies = {}
    for name in NAMES:
        with contextlib.suppress(DatasetError):  # not begun
            studies[name] = study_rows(folder / name)
    table: list[list[Any]] = [["study", "train", "test", "networks", "f1", "deviation"]]
    total = 0
    every = [row for rows in studies.values() for row in rows]
    which = np.repeat(list(studies), [len(rows) for rows in studies.values()])
    pairs, one = pairs_of(every), pairs_of(every, one=True)
    for name, rows in studies.items():
        networks = len({r["run"] for r in rows})
        total += networks
        say(
            f"\n=== study {name}: {NAMES[name]}; {networks} networks, {len(rows)} rows, mean F1 "
            f"{np.mean([r[SCORE] for r in rows]):.3f}"
        )
        if name == "a":
            smoothness(rows)
            kept = [
                [r["train_defocus_nm"], r["test_defocus_nm"], r["seed"], f"{r['f1']:.5g}", f"{r['loss']:.5g}"]
                for r in rows
            ]
            kept.sort(key=lambda r: r[:3])
            heads = ["train_defocus_nm", "test_defocus_nm", "seed", "f1", "loss"]
            write_whole(RESULTS / "defocus_map.csv", rows_csv([heads, *kept]))
        order(rows, select(pairs, which == name))
        found = predictions(pairs, one, which == name)
        if name == "b":
            write_whole(RESULTS / "map_b.csv", rows_csv(prediction_rows(rows, found)))
        table += cells(name, rows)
    if {"b", "c", "d"} <= set(studies):
        joined(studies)
    say(f"\n{total} networks in all")
    write_whole(RESULTS / "map_scores.csv", rows_csv(table))
    write_whole(RESULTS / "map.txt", "\n".join(lines).strip() + "\n")


if __name__ == "__main__":
    main()
