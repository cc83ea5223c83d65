"""Scores predicted from conditions, metrics and evidence: what must hold whatever the networks were."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from passband.detectors.evidence import EVIDENCE
from passband.errors import ParameterError
from passband.generalise import predict
from passband.generalise.conditions import Point
from passband.generalise.predict import EVIDENCE_USED, GROUPS, distances, pairs_of, point_of, predict_held_out


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(predict, "FOLDS", 4)


def rows_of(tell, *, seeds: int = 2, spread: float = 0.0) -> list[dict]:
    """Networks whose score follows from what is told of a pair, and whose evidence is noise but for one."""
    rng = np.random.default_rng(0)
    rows = []
    axes = [(d, c) for d in (-20.0, 10.0, 30.0, 60.0) for c in (0.0, 1.2)]
    for (train, test), seed in itertools.product(itertools.product(axes, axes), range(seeds)):
        row = {"train_defocus_nm": train[0], "train_cs_mm": train[1], "seed": seed}
        row |= {"test_defocus_nm": test[0], "test_cs_mm": test[1]}
        row |= {name: float(rng.random()) for name in (*EVIDENCE, "frechet")}
        row["image_f1"] = float(np.clip(tell(row) + spread * rng.normal(), 0, 1))
        row |= {f"one_{n}": row[n] for n in EVIDENCE} | {"one_f1": row["image_f1"]}
        rows.append(row)
    return rows


def error(rows: list[dict], group: str, **how) -> float:
    pairs = pairs_of(rows)
    return float(np.abs(predict_held_out(pairs, group, **how).score - pairs.score).mean())


def test_what_the_evidence_tells_is_predicted_under_conditions_never_seen():
    rows = rows_of(lambda row: 0.3 + 0.6 * row["agree_noise"])
    assert error(rows, "images") < 0.04
    assert error(rows, "conditions") > 0.12


def test_what_the_metrics_tell_is_predicted_better_with_them():
    by_pair = {}

    def told(row):
        points = point_of(row, "train"), point_of(row, "test")
        if points not in by_pair:
            by_pair[points] = predict._told(*points, predict.Training())["metrics"]["sigma"]
        return by_pair[points]

    rows = rows_of(told)
    assert error(rows, "conditions and metrics") < 0.6 * error(rows, "conditions")


def test_intervals_hold_what_they_promise_on_conditions_never_seen():
    pairs = pairs_of(rows_of(lambda row: 0.3 + 0.5 * row["agree_noise"], spread=0.05, seeds=4))
    found = predict_held_out(pairs, "images", coverage=0.9)
    held = (found.low <= pairs.score) & (pairs.score <= found.high)
    assert held.mean() > 0.85 and (found.high - found.low).mean() < 0.35


def test_an_interval_reaches_over_nearly_every_condition_not_over_most_rows():
    conditions = np.repeat(np.arange(20), 10)
    wrong = (1 + conditions) / 20
    reach = predict._reach(wrong, conditions, 0.9)
    assert 0.95 <= reach < 1.0
    many = np.repeat(np.arange(20), 10 + 200 * (np.arange(20) == 0))  # one condition has most of the rows
    assert predict._reach((1 + many) / 20, many, 0.9) == reach


@pytest.mark.parametrize("both", [True, False])
def test_no_score_of_a_condition_that_is_left_out_is_learned_from(monkeypatch, both):
    pairs = pairs_of(rows_of(lambda row: 0.5))
    learned = []

    def watched(x, score, *, seed=0):
        learned.append(x)
        return lambda asked: check(asked)

    def check(asked):
        known = learned[-1]
        sides = (slice(0, 2), slice(2, 4)) if both else (slice(0, 2),)
        for side in sides:
            assert not {tuple(r) for r in known[:, side]} & {tuple(r) for r in asked[:, side]}
        return np.zeros(len(asked))

    monkeypatch.setattr(predict, "learn", watched)
    marks = np.array(
        [
            [r["train_defocus_nm"], r["train_cs_mm"], r["test_defocus_nm"], r["test_cs_mm"]]
            for r in rows_of(lambda row: 0.5)
        ]
    )
    monkeypatch.setattr(predict.Pairs, "inputs", lambda self, group: marks)
    found = predict_held_out(pairs, "all", both=both)
    assert (found.score == 0).all() and len(learned) > 3


def of_another_study(rows: list[dict]) -> list[dict]:
    """The same networks in conditions of which every other one is none of theirs."""
    moved = {-20.0: -20.0, 10.0: 10.0, 30.0: 35.0, 60.0: 65.0}
    sides = ("train_defocus_nm", "test_defocus_nm")
    return [{**row, **{side: moved[row[side]] for side in sides}} for row in rows]


def test_networks_of_another_study_teach_what_those_of_the_own_do_not_show():
    """Where the own study has low scores under one test defocus alone, which is left out."""

    def told(row):
        return 0.2 + 0.7 * row["agree_noise"]

    own = rows_of(lambda row: 0.5)
    for row in own:
        low = row["test_defocus_nm"] == -20
        row["agree_noise"] = 0.3 * row["agree_noise"] + (0 if low else 0.7)
        row["image_f1"] = told(row)
    pairs = pairs_of([*own, *of_another_study(rows_of(told))])
    asked = np.arange(len(pairs.score)) < len(own)
    low = np.array([row["test_defocus_nm"] == -20 for row in own])
    alone = predict_held_out(pairs_of(own), "images").score
    found = predict_held_out(pairs, "images", of=asked)
    assert found.score.shape == found.low.shape == (len(own),)
    off = [np.abs(score - pairs.score[asked])[low].mean() for score in (alone, found.score)]
    assert off[1] < 0.7 * off[0]


def test_nothing_that_another_study_says_of_a_condition_left_out_is_learned_from(monkeypatch):
    rows = [*rows_of(lambda row: 0.5), *of_another_study(rows_of(lambda row: 0.5))]
    marks = np.array(
        [[r[f"{s}_{n}"] for s in ("train", "test") for n in ("defocus_nm", "cs_mm")] for r in rows]
    )
    pairs, own = pairs_of(rows), np.arange(len(rows)) < len(rows) // 2
    monkeypatch.setattr(predict.Pairs, "inputs", lambda self, group: marks)
    shared = []

    def watched(x, score, *, seed=0):
        def check(asked):
            for side in (slice(0, 2), slice(2, 4)):
                assert not {tuple(r) for r in x[:, side]} & {tuple(r) for r in asked[:, side]}
            shared.append(np.isin(x[:, 0], (35.0, 65.0)).mean())
            return np.zeros(len(asked))

        return check

    monkeypatch.setattr(predict, "learn", watched)
    predict_held_out(pairs, "all", of=own)
    assert min(shared) > 0.2


@pytest.mark.parametrize(
    ("own", "others", "kept"),
    [
        (50, 0, (50, 0)),
        (50, 30, (50, 30)),
        (500, 500, (60, 30)),
        (70, 500, (60, 30)),
        (20, 500, (20, 70)),
        (500, 10, (80, 10)),
    ],
)
def test_of_many_rows_a_third_are_of_other_studies_while_the_own_suffice(monkeypatch, own, others, kept):
    monkeypatch.setattr(predict, "MOST_ROWS", 90)
    few = predict._thinned(np.arange(own), own + np.arange(others), 0)
    assert ((few < own).sum(), (few >= own).sum()) == kept and len(set(few.tolist())) == len(few)


def test_no_error_of_a_pairs_own_conditions_sets_its_interval(monkeypatch):
    monkeypatch.setattr(predict, "learn", lambda x, score, *, seed=0: lambda asked: np.full(len(asked), 0.5))
    pairs = pairs_of(rows_of(lambda row: 0.3 + 0.5 * row["agree_noise"], spread=0.05))
    own = (predict._parts(pairs.train, 0) == 1) | (predict._parts(pairs.test, 0) == 2)
    asked = (predict._parts(pairs.train, 0) == 1) & (predict._parts(pairs.test, 0) == 2)
    moved = replace(pairs, score=np.where(own, 1.0, pairs.score))
    first, second = (predict_held_out(p, "images") for p in (pairs, moved))
    for name in ("score", "low", "high"):
        np.testing.assert_array_equal(getattr(first, name)[asked], getattr(second, name)[asked])


def test_one_image_has_evidence_and_score_of_its_own():
    rows = rows_of(lambda row: 0.5)
    for row in rows:
        row["one_f1"] = 0.25
    assert (pairs_of(rows, one=True).score == 0.25).all()
    assert pairs_of(rows, one=True).names["evidence"] == tuple(f"one_{n}" for n in EVIDENCE_USED)


def test_the_share_found_is_no_evidence():
    names = pairs_of(rows_of(lambda row: 0.5)).names["evidence"]
    assert "share" not in names and "agree_noise" in names


def test_a_row_tells_its_conditions_back():
    point = Point(
        defocus_nm=-5.0, materials=("Ag", "Au"), diameter_nm=(2.0, 3.0), dose=50.0, astigmatism_nm=4.0
    )
    assert point_of(point.columns("test"), "test") == point


def test_plain_distances_are_those_of_the_conditions():
    one, other = Point(defocus_nm=-10.0, dose=100.0), Point(defocus_nm=15.0, dose=100.0)
    assert distances(one, other) == {"defocus": 25.0, "scaled": 2.5}
    assert distances(one, one)["scaled"] == 0


def test_rows_that_tell_too_little_are_refused():
    with pytest.raises(ParameterError, match="0 rows came"):
        pairs_of([])
    with pytest.raises(ParameterError, match="agree_noise"):
        pairs_of([{"train_defocus_nm": 1.0, "test_defocus_nm": 1.0, "image_f1": 0.5}])
    few = [r for r in rows_of(lambda row: 0.5) if r["train_defocus_nm"] == 10.0 and not r["train_cs_mm"]]
    with pytest.raises(ParameterError, match="three or more"):
        predict_held_out(pairs_of(few))
    assert set(GROUPS) == {"conditions", "conditions and metrics", "images", "all"}
