"""Evaluations that cost nothing, for the tests of what is drawn and written of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passband.estimate.evaluation.evaluate import evaluate
from passband.estimate.evaluation.metrics import Evaluation
from passband.estimate.features import CANDIDATE_FEATURES
from passband.estimate.rows import CalibrationRow

TARGETS = ("f1", "precision", "recall")


def made(n: int = 60, *, seed: int = 0, repeats: int = 2, odd: str = "B <b>&") -> Evaluation:
    """Mean confidence as the estimate of rows in three domains, one of them named to break a page."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        score = rng.random()
        features = dict.fromkeys(CANDIDATE_FEATURES, 0.5) | {"mean_score": score}
        f1, precision, recall = np.clip(score + 0.1 * rng.normal(size=3), 0, 1).tolist()
        domain = ("A", odd, "C")[i % 3]
        rows.append(
            CalibrationRow(
                features=features, f1=f1, precision=precision, recall=recall, domain=domain, image=f"{i}"
            )
        )
    return evaluate(rows, model="mean-confidence", protocol="random", coverage=None, repeats=repeats)


def with_intervals(e: Evaluation, half_width: float = 0.15) -> Evaluation:
    """The same with intervals, all as wide, but for half as wide ones below 0.5."""
    repeats = []
    for p in e.repeats:
        half = np.where(p.value < 0.5, half_width / 2, half_width)
        novelty = np.full(len(p.domains), 0.5)
        repeats.append(replace(p, low=p.value - half, high=p.value + half, novelty=novelty))
    p = repeats[0]
    inside = (p.low <= p.truth) & (p.truth <= p.high)
    domains = {
        t: {
            name: replace(m, coverage=float(inside[np.asarray(p.domains) == name, j].mean()), mean_width=0.3)
            for name, m in e.domains[t].items()
        }
        for j, t in enumerate(TARGETS)
    }
    overall = {
        t: replace(e.overall[t], coverage=float(inside[:, j].mean()), mean_width=0.3)
        for j, t in enumerate(TARGETS)
    }
    return replace(
        e,
        nominal=0.9,
        repeats=tuple(repeats),
        domains=domains,
        overall=overall,
        abstained=0.0,
        novel_share=0.0,
    )


def abstaining(e: Evaluation, rows: list[int]) -> Evaluation:
    """The same with a model that abstained on some rows."""
    repeats = []
    for p in e.repeats:
        flags = np.zeros(len(p.domains), bool)
        flags[rows] = True
        repeats.append(replace(p, abstained=flags))
    return replace(e, repeats=tuple(repeats), abstained=float(flags.mean()))


def missing(e: Evaluation, rows: list[int]) -> Evaluation:
    """The same without an estimate of some rows."""
    repeats = []
    for p in e.repeats:
        value = p.value.copy()
        value[rows] = np.nan
        repeats.append(replace(p, value=value))
    return replace(e, repeats=tuple(repeats))
