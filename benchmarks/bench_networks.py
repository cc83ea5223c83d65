"""Networks an hour: what training and testing of the tiny and of the small recipe take, on one core.

Both recipes see the same scenes and conditions: trained at three foci, two networks each, tested under 24
conditions (eight foci, three focal spreads), images of scenes that none was trained on. Printed are processor
seconds of each part, the networks an hour that two cores make of it, F1 at home, and how alike the maps, each
the mean of two networks, order conditions.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from passband.detectors.train_segmenter import SegmenterConfig, Stock, train_segmenter
from passband.detectors.unet import NETWORKS
from passband.generalise import work
from passband.generalise.study import Axes, Structures, Study, Training
from passband.processes import one_thread

STUDY = Study(
    name="networks an hour",
    seeds=2,
    train=Axes(defocus_nm=(-10.0, 5.0, 10.0)),
    test=Axes(defocus_nm=(-25.0, -20.0, -10.0, -5.0, 5.0, 10.0, 20.0, 25.0), focal_spread=(5.0, 10.0, 14.0)),
    structures=Structures(scenes=70, test_share=0.2, seed=1),
    evidence=False,
)
RECIPES = {
    "tiny": Training(steps=90, crop=64),
    "small": Training(steps=250, crop=128),
}
FIVE_MINUTES = 2200
"""Steps of the small network that take about so long."""


class Clock:
    """Processor seconds that calls of functions take together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its calls timed."""

        @functools.wraps(function)
        def timed(*given: Any) -> Any:
            began = time.process_time()
            try:
                return function(*given)
            finally:
                self.seconds += time.process_time() - began

        return timed


def step_seconds(name: str, precision: str) -> float:
    """Processor seconds of a training step of a recipe, on noise."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((128, 128)).astype(np.float32), rng.integers(0, 2, (128, 128), np.int32)
    config = SegmenterConfig(
        network=NETWORKS[name],
        crop=RECIPES[name].crop,
        batch=max(12, work.BATCH_PIXELS // RECIPES[name].crop ** 2),
        steps=8,
        stock=1,
        fresh=0,
        precision=precision,
    )
    with one_thread():
        train_segmenter(replace(config, steps=2), lambda rng: image)
        began = time.process_time()
        train_segmenter(config, lambda rng: image)
        return (time.process_time() - began) / config.steps


def tell_five_minutes(folder: str) -> None:
    """Train the small network at -10 nm on 128 specimens for five minutes, test it on 32 others."""
    study = replace(
        STUDY,
        training=replace(RECIPES["small"], steps=FIVE_MINUTES),
        train=Axes(defocus_nm=(-10.0,)),
        test=Axes(defocus_nm=(-10.0,)),
        structures=Structures(scenes=160, test_share=0.2, seed=1),
    )
    work.prepare(study.values(), folder)
    for run in study.runs():
        began = time.process_time()
        (row,) = work.train_and_test(study.values(), run.values(), folder)
        print(
            f"small, {FIVE_MINUTES} steps at -10 nm, 128 specimens: F1 {row['f1']:.3f} on 32 others, "
            f"{time.process_time() - began:.0f} s",
            flush=True,
        )


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_networks"))
    parser.add_argument(
        "--five-minutes", action="store_true", help="only the small network, trained for five minutes"
    )
    parser.add_argument(
        "--evidence", action="store_true", help="only the tiny network, whose own answers are told too"
    )
    args = parser.parse_args()
    testing, drawing = Clock(), Clock()
    work.score_network = testing.of(work.score_network)
    for name in ("__init__", "batch", "turn_over"):
        setattr(Stock, name, drawing.of(getattr(Stock, name)))
    maps = {}
    if args.five_minutes:
        tell_five_minutes(str(args.out / "five-minutes"))
        return
    work.prepare(STUDY.values(), str(args.out))
    for name in RECIPES:
        mixed, single = (step_seconds(name, precision) for precision in ("auto", "float32"))
        print(
            f"{name}: a step takes {1e3 * mixed:.0f} ms in the precision chosen for this processor, "
            f"{single / mixed:.1f} times as long in float32"
        )
    for name, recipe in RECIPES.items():
        study = replace(STUDY, networks=(name,), training=recipe, evidence=args.evidence)
        rows, seconds = [], []
        testing.seconds = drawing.seconds = 0.0
        for run in study.runs():
            began = time.process_time()
            rows.append(
                [row["f1"] for row in work.train_and_test(study.values(), run.values(), str(args.out))]
            )
            seconds.append(time.process_time() - began)
        maps[name] = np.array(rows).reshape(STUDY.seeds, -1, len(rows[0])).mean(0)
        first, later = seconds[0], np.mean(seconds[1:])
        tests = study.test_points()
        home = [
            maps[name][i, j]
            for i, p in enumerate(study.train.points())
            for j, q in enumerate(tests)
            if p.defocus_nm == q.defocus_nm and q.focal_spread == 10
        ]
        print(
            f"{name}: {later:.1f} s a network ({testing.seconds / len(rows):.1f} of them its 24 tests, "
            f"{drawing.seconds / len(rows):.1f} drawing and cutting its images, the rest convolutions), "
            f"{first:.1f} s the first, which draws the test images; "
            f"{7200 / later:.0f} networks an hour on two cores; F1 at home "
            + ", ".join(f"{v:.3f}" for v in home)
        )
        if args.evidence:
            return
    order = spearmanr(maps["tiny"].ravel(), maps["small"].ravel()).statistic
    by_row = [spearmanr(a, b).statistic for a, b in zip(maps["tiny"], maps["small"], strict=True)]
    print(
        f"order of the {maps['tiny'].size} cells, tiny beside small: rank correlation {order:.2f}; "
        "by training condition " + ", ".join(f"{v:.2f}" for v in by_row)
    )


if __name__ == "__main__":
    main()
