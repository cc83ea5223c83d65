"""Calibrations: what they promise, what they refuse, and that they survive storage."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from passband.errors import CalibrationError, ParameterError
from passband.estimate.features import CANDIDATE_FEATURES
from passband.estimate.performance import (
    CalibrationRow,
    estimate_scores,
    fit_calibration,
)
from passband.estimate.records import from_record, to_record
from passband.estimate.regressor import DIFFICULTY_FLOOR, RECIPES, guess
from passband.learn.bundle import CalibrationRecord
from passband.measure.matching import OPTIMAL, PAPER


def rows(n=120, domains=3, seed=0, shift=0.1):
    """Rows whose F1 follows the mean score, off by an amount of the domain's own."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        d = i % domains
        f = dict.fromkeys(CANDIDATE_FEATURES, 0.1) | {
            "mean_score": rng.uniform(0.2, 1),
            "count": float(rng.integers(1, 200)),
            "area_ratio": rng.lognormal(-3, 1),
        }
        f1 = float(np.clip(f["mean_score"] + shift * (d - 1) + 0.05 * rng.normal(), 0, 1))
        made.append(
            CalibrationRow(features=f, f1=f1, precision=f1, recall=f1**2, domain=f"D{d}", image=f"i{i}")
        )
    return made


def fit(some, **settings):
    return fit_calibration(some, **{"score_threshold": 0.1, "matching": OPTIMAL, **settings})


@pytest.fixture(scope="module")
def calibration():
    return fit(rows())


def as_tuple(outlook):
    e = outlook.estimates
    return [e[t] for t in ("f1", "precision", "recall")], outlook.novelty, outlook.unusual


def test_a_calibration_says_what_it_rests_on(calibration):
    c = calibration
    assert (c.score_threshold, c.matching, c.coverage, c.model) == (0.1, OPTIMAL, 0.9, "passband")
    assert c.domains == {"D0": 40, "D1": 40, "D2": 40}
    assert c.features == CANDIDATE_FEATURES and c.valid_for == "new domains"
    for reach in c.reach.values():
        assert 0 < reach.mean_width < 1 and 0 <= reach.worst_coverage <= 1 and reach.worst_domain in c.domains
    assert "held-out domains (D0, D1, D2)" in c.statement


def test_estimates_follow_the_scores(calibration):
    inside = []
    for row in rows(seed=1):
        e = estimate_scores(calibration, row.features).estimates
        assert set(e) == {"f1", "precision", "recall"}
        for value in e.values():
            assert 0 <= value.low <= value.value <= value.high <= 1 and value.coverage == 0.9
        inside.append(e["f1"].low <= row.f1 <= e["f1"].high)
    assert np.mean(inside) > 0.9


def test_the_half_width_is_the_radius_times_the_expected_error(calibration):
    recipe = RECIPES["passband"]
    halves = set()
    for row in rows(seed=1):
        e = estimate_scores(calibration, row.features).estimates["f1"]
        x = np.array([[row.features[n] for n in recipe.inputs]])
        said = guess(calibration.regressor, x)
        z = np.concatenate([x, said.value, said.spread], axis=1)
        expected = guess(calibration.difficulty, z).value[0, 0] + DIFFICULTY_FLOOR
        half = calibration.reach["f1"].radius * expected
        assert (e.low, e.high) == pytest.approx((max(e.value - half, 0), min(e.value + half, 1)))
        halves.add(round(half, 3))
    assert len(halves) > 20


def test_intervals_are_wide_where_errors_are_large_and_narrow_where_they_are_small():
    """Half of the rows have scores that follow the features, half are a coin's toss."""
    rng = np.random.default_rng(3)
    made = []
    for i, row in enumerate(rows(240)):
        noisy = i % 2 == 1
        features = {**row.features, "count": 200.0 + i if noisy else 3.0}
        f1 = float(rng.integers(2)) if noisy else 0.9
        made.append(replace(row, features=features, f1=f1, precision=f1, recall=f1))
    c = fit(made)
    widths = [
        (e.high - e.low, i % 2)
        for i, row in enumerate(made)
        for e in [estimate_scores(c, row.features).estimates["f1"]]
    ]
    quiet, loud = (np.mean([w for w, noisy in widths if noisy == k]) for k in (0, 1))
    assert loud > 3 * quiet


def test_the_same_seed_gives_the_same_calibration(calibration):
    features = rows(seed=2)[0].features
    assert as_tuple(estimate_scores(fit(rows()), features)) == as_tuple(
        estimate_scores(calibration, features)
    )


def test_intervals_widen_with_the_shift_between_domains():
    calm, shifted = (fit(rows(shift=s)).reach["f1"] for s in (0.0, 0.2))
    assert shifted.mean_width > 1.5 * calm.mean_width


def test_higher_coverage_is_wider(calibration):
    assert fit(rows(), coverage=0.95).reach["f1"].radius > calibration.reach["f1"].radius


def test_one_domain_falls_back_and_says_so():
    c = fit(rows(40, domains=1))
    assert c.valid_for == "new images" and "in-domain only" in c.statement
    assert math.isnan(c.reach["f1"].worst_coverage)


def test_few_rows_fall_back_and_say_so():
    assert fit(rows(24)).valid_for == "new images"


def test_domains_that_share_all_images_cannot_be_left_out():
    twice = [replace(r, image=f"i{i // 2}") for i, r in enumerate(rows(60, domains=2))]
    assert fit(twice).valid_for == "new images"


@pytest.mark.parametrize("n,words", [(0, "0 rows of 0 images"), (1, "1 rows"), (19, "19 rows.*at least 20")])
def test_too_few_rows_are_counted(n, words):
    with pytest.raises(CalibrationError, match=words):
        fit(rows(n))


def test_coverage_asks_for_rows():
    with pytest.raises(CalibrationError, match=r"coverage 0.99 wants at least 99 rows"):
        fit(rows(60), coverage=0.99)


def test_rows_of_few_images_are_counted():
    with pytest.raises(CalibrationError, match="60 rows of 1 images"):
        fit([replace(r, image="one") for r in rows(60)])


def test_unknown_model_and_coverage_are_refused():
    with pytest.raises(ParameterError, match=r"\['paper-rf', 'passband'\], got 'best'"):
        fit(rows(), model="best")
    with pytest.raises(ParameterError, match="inside"):
        fit(rows(), coverage=1)


def test_nan_scores_become_zero_and_stay():
    some = rows(40, domains=1)
    bad = [replace(r, f1=math.nan, precision=0, recall=math.nan) for r in some[:10]]
    assert all((r.f1, r.recall) == (0, 0) for r in bad)
    assert sum(fit(bad + some[10:]).domains.values()) == 40


def test_rows_name_all_their_faults():
    with pytest.raises(CalibrationError, match=r"'a\.tif'.*f1.*1\.5.*recall.*-1.*'count': nan"):
        CalibrationRow(
            features={"count": math.nan}, f1=1.5, precision=1, recall=-1, domain="A", image="a.tif"
        )


def test_rows_of_different_features_are_named():
    some = rows(60)
    few = {k: v for k, v in some[3].features.items() if k != "count"}
    some[3] = replace(some[3], features=few | {"slope": 1.0})
    with pytest.raises(CalibrationError, match=r"'i3'.*\['count'\].*\['slope'\]"):
        fit(some)


def test_features_the_model_needs_are_named():
    bare = [replace(r, features={"count": 1.0}) for r in rows(60)]
    with pytest.raises(CalibrationError, match=r"'share_0_9'.*'std_size'"):
        fit(bare)


def test_an_estimate_names_missing_extra_and_bad_features(calibration):
    features = dict(rows()[0].features) | {"slope": 1.0, "gain": 2.0, "mean_size": math.inf}
    del features["count"]
    with pytest.raises(CalibrationError, match=r"\['count'\].*\['gain', 'slope'\].*'mean_size': inf"):
        estimate_scores(calibration, features)


def test_novelty_is_small_inside_and_large_outside(calibration):
    known = [estimate_scores(calibration, r.features) for r in rows()]
    assert all(o.novelty <= 1 and o.unusual == () for o in known[:20])
    odd = estimate_scores(calibration, dict(rows()[0].features) | {"count": 1e5, "std_size": 5.0})
    assert odd.novelty > 1 and set(odd.unusual) == {"count", "std_size"}


def test_more_features_than_the_model_needs_serve_the_novelty():
    some = [replace(r, features={**r.features, "noise_level": 0.5}) for r in rows(60)]
    c = fit(some)
    assert "noise_level" in c.features
    noisy = estimate_scores(c, {**some[0].features, "noise_level": 1.0})
    assert noisy.novelty > 1 and noisy.unusual == ("noise_level",)


def test_an_estimate_takes_less_than_ten_milliseconds(calibration):
    features = rows()[0].features
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        estimate_scores(calibration, features)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01  # the least: other work on the machine only adds


def test_estimating_imports_neither_scikit_learn_nor_torch():
    code = "import sys, passband.estimate.performance; print({'sklearn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("model,domains", [("passband", 1), ("passband", 3), ("paper-rf", 3)])
def test_storing_changes_nothing(model, domains):
    c = fit(rows(45, domains=domains), model=model, matching=PAPER)
    record = to_record(c)
    stored = CalibrationRecord(settings=json.loads(json.dumps(record.settings)), arrays=dict(record.arrays))
    again = from_record(stored)
    second = to_record(again)
    assert second.settings == record.settings and set(second.arrays) == set(record.arrays)
    for name, array in record.arrays.items():
        assert np.array_equal(second.arrays[name], array) and second.arrays[name].dtype == array.dtype
    assert again.matching == PAPER and again.statement == c.statement
    features = rows(seed=5)[0].features
    assert as_tuple(estimate_scores(again, features)) == as_tuple(estimate_scores(c, features))


def test_the_default_is_small_however_many_rows_came():
    """Three targets in less than 1.5 MB: the bundle that carries it has 10."""
    record = to_record(fit(rows(2500, domains=2)))
    assert sum(a.nbytes for a in record.arrays.values()) < 1.5e6


SETTINGS = {
    "format": 99, "model": "best", "features": ["count"], "score_threshold": math.nan, "coverage": 1.5,
    "valid_for": "ever", "reach": {}, "edge": -1.0, "forests": 0, "matching": {"kind": "any", "iou": 2},
    "domains": 3, "difficulty": "yes",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_hostile_settings_are_refused(calibration, name):
    record = to_record(calibration)
    for settings in (
        {**record.settings, name: SETTINGS[name]},
        {**record.settings, name: None},
        {k: v for k, v in record.settings.items() if k != name},
    ):
        with pytest.raises(CalibrationError):
            from_record(CalibrationRecord(settings=settings, arrays=record.arrays))


def test_a_newer_format_says_upgrade(calibration):
    record = to_record(calibration)
    newer = CalibrationRecord(settings={**record.settings, "format": 2}, arrays=record.arrays)
    with pytest.raises(CalibrationError, match=r"format 2.*upgrade"):
        from_record(newer)


def test_hostile_arrays_are_refused(calibration):
    record = to_record(calibration)
    for name, array in record.arrays.items():
        shorter, nan = array[:-1], np.full(array.shape, np.nan)
        for hostile in (shorter, nan, array[None], array.astype("U5"), np.array(0.0), None):
            arrays = {k: v for k, v in record.arrays.items() if k != name}
            if hostile is not None:
                arrays[name] = hostile
            # One known row or one leaf fewer may still be a whole; everything else is not.
            if hostile is shorter and name.endswith(("reference.rows", ".roots")):
                continue
            with pytest.raises(CalibrationError):
                from_record(CalibrationRecord(settings=record.settings, arrays=arrays))


def test_where_nothing_was_found_the_interval_says_that_it_may_be_anything():
    made = rows(120)
    silent = [
        replace(
            r,
            features={**r.features, "count": 0.0},
            f1=float(i % 2),
            precision=i % 2,
            recall=i % 2,
            image=f"s{i}",
        )
        for i, r in enumerate(made[:40])
    ]
    c, plain = fit(made + silent), fit(made)
    for e in estimate_scores(c, silent[0].features).estimates.values():
        assert (e.low, e.high) == (0, 1)
    # and such rows do not widen the intervals of the others
    assert c.reach["f1"].mean_width < 1.3 * plain.reach["f1"].mean_width
