"""What predicts scores, chosen on the study of defocus alone: `python studies/map_choice.py FOLDER`.

FOLDER is that of study a (`studies/map_a.toml`). Of its first 48 networks, in the study's order, it prints
how metrics order F1, the mean error of F1 predicted with training and test condition left out, by learner and
by what is told, and how wide intervals are by what scales them. Decision 17 rests on this.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from passband.estimate.conformal import domain_quantile
from passband.generalise import predict
from passband.generalise.export import study_rows
from passband.generalise.folder import open_study
from passband.generalise.predict import Pairs, pairs_of

FIRST = 48


def process(length: float, noise: float = 0.01) -> Callable[[], Any]:
    kernel = RBF(length) + WhiteKernel(noise)
    return lambda: make_pipeline(
        StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None)
    )


def trees() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(150, random_state=0)


def groups(pairs: Pairs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that are asked about, and rows whose both conditions are others."""
    train, test = (predict._parts(side, 0) for side in (pairs.train, pairs.test))
    for i in np.unique(train):
        for j in np.unique(test):
            yield (train == i) & (test == j), (train != i) & (test != j)


def held_out(pairs: Pairs, x: np.ndarray, make: Callable[[], Any]) -> np.ndarray:
    found = np.empty(len(x))
    for asked, known in groups(pairs):
        if asked.any():
            found[asked] = make().fit(x[known], pairs.score[known]).predict(x[asked])
    return found


def width(pairs: Pairs, found: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
    """Mean width and coverage of 90 % intervals that are so many times a scale."""
    wrong, radius = np.abs(found - pairs.score), np.empty(len(found))
    for asked, others in groups(pairs):
        if asked.any():
            sides = (list(map(str, side[others])) for side in (pairs.train, pairs.test))
            radius[asked] = max(domain_quantile(wrong[others] / scale[others], s, 0.9) for s in sides)
    return 2 * float((radius * scale).mean()), float((wrong <= radius * scale).mean())


def main() -> None:
    warnings.simplefilter("ignore")
    first = [r.name for r in open_study(sys.argv[1]).study.runs()][:FIRST]
    rows = [r for r in study_rows(sys.argv[1]) if r["run"] in first]
    pairs = pairs_of(rows)
    print(f"{len({r['run'] for r in rows})} networks, {len(rows)} rows")
    for name in ("sigma", "sigma_power", "sigma_area", "sigma_signed", "defocus"):
        values = pairs.columns["metrics"][:, pairs.names["metrics"].index(name)]
        print(f"Spearman of {name} with F1: {spearmanr(values, pairs.score).statistic:.2f}")
    far = np.array([[r[n] for n in ("spectrum_distance", "feature_distance", "frechet")] for r in rows])
    own = pairs.inputs("images")
    names = pairs.names["evidence"]
    for left in (
        ("edge",),
        ("smooth_9", "smooth_21"),
        ("agree_turn",),
        ("agree_negative",),
        ("agree_noise",),
    ):
        kept = [i for i, n in enumerate(names) if n not in left]
        error = np.abs(held_out(pairs, own[:, kept], process(predict.LENGTH)) - pairs.score).mean()
        print(f"own answers without {' and '.join(left)}: mean error {error:.4f}", flush=True)
    for name, x in {
        "own answers": own,
        "and distances of spectra and features": np.c_[own, far],
        "and conditions and metrics": pairs.inputs("all"),
    }.items():
        told = {}
        for how, make in {
            **{f"process of length {n:g}": process(n) for n in (1.5, 3.0, 6.0, 12.0)},
            "extra trees": trees,
        }.items():
            told[how] = held_out(pairs, x, make)
            error = np.abs(told[how] - pairs.score).mean()
            print(f"{name}, {how}: mean error {error:.4f}", flush=True)
        mean = (told["process of length 6"] + told["extra trees"]) / 2
        print(
            f"{name}, the mean of process of length 6 and extra trees: mean error "
            f"{np.abs(mean - pairs.score).mean():.4f}",
            flush=True,
        )
    both = (held_out(pairs, own, make) for make in (process(predict.LENGTH), trees))
    found = np.clip(sum(both) / 2, 0, 1)
    noise = own[:, pairs.names["evidence"].index("agree_noise")]
    for name, scale in {
        "all alike": np.ones(len(found)),
        "by agreement under noise": 0.03 + 1 - noise,
        "by the predicted F1": predict.CERTAIN + 1 - found,
    }.items():
        wide, covered = width(pairs, found, scale)
        print(f"intervals {name}: width {wide:.3f}, {covered:.3f} hold")


if __name__ == "__main__":
    main()
