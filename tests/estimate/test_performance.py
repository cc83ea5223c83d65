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

from passband.detections.matching import OPTIMAL, PAPER
from passband.detectors.bundle import Bundle, CalibrationRecord, default_bundle, read_bundle, write_bundle
from passband.detectors.config import SLIM
from passband.errors import CalibrationError, ParameterError
from passband.estimate.blend import standardise, to_logit
from passband.estimate.calibration import HeldOutScores
from passband.estimate.effects import expected_spread
from passband.estimate.features import CANDIDATE_FEATURES, PAPER_FEATURES
from passband.estimate.intervals import WIDEST
from passband.estimate.performance import MOST_LABELLED, adapt, estimate_scores, fit_calibration, forecast
from passband.estimate.records import FORMAT, from_record, to_record
from passband.estimate.regressor import guess
from passband.estimate.rows import CalibrationRow

pytestmark = pytest.mark.training


def rows(n=120, domains=3, seed=0, shift=0.1):
    """Rows whose scores follow the mean score, off by an amount of the domain's own."""
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
            CalibrationRow(features=f, f1=f1, precision=f1, recall=f1**1.2, domain=f"D{d}", image=f"i{i}")
        )
    return made


def fit(some, **settings):
    return fit_calibration(some, **{"score_threshold": 0.1, "matching": OPTIMAL, **settings})


def shifted(n, seed=3, by=-0.25):
    """Rows of a domain whose scores are lower than the known ones by more than these differ."""
    return [
        replace(
            r,
            f1=max(r.f1 + by, 0),
            precision=max(r.precision + by, 0),
            recall=max(r.recall + by, 0),
            domain="new",
            image=f"n{i}",
        )
        for i, r in enumerate(rows(n, domains=1, seed=seed))
    ]


def many(calibration, some):
    return forecast(calibration, np.array([[r.features[n] for n in calibration.features] for r in some]))


def silent(row, score):
    """The row with nothing found."""
    features = dict.fromkeys(row.features, 0.0) | {"mean_circularity": 1.0}
    return replace(row, features=features, f1=score, precision=score, recall=score)


@pytest.fixture(scope="module")
def calibration():
    return fit(rows())


@pytest.fixture(scope="module")
def adapted(calibration):
    return adapt(calibration, shifted(12), domain="new")


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


def test_the_half_width_is_the_radius_times_the_expected_error_in_logits(calibration):
    widths = set()
    for row in rows(40, seed=1):
        e = estimate_scores(calibration, row.features).estimates["f1"]
        x = np.array([[row.features[n] for n in PAPER_FEATURES]])
        value = guess(calibration.regressor, x)
        count = np.array([row.features["count"]])
        spread = expected_spread(calibration.effect, standardise(calibration.regressor, x), count)[0, 0]
        half = calibration.reach["f1"].radius * spread
        for end, sign in ((e.low, -1), (e.high, 1)):
            if 0 < end < 1:
                assert to_logit(np.array(end)) == pytest.approx(to_logit(value)[0, 0] + sign * half)
        widths.add(round(half, 3))
    assert len(widths) > 20


def test_intervals_are_wide_where_few_objects_were_found(calibration):
    """Half of the rows have few objects and scores that these tell badly."""
    rng = np.random.default_rng(3)
    made = []
    for i, row in enumerate(rows(240, shift=0)):
        few = i % 2 == 1
        f1 = float(np.clip(row.f1 + 0.3 * rng.normal(), 0, 1)) if few else row.f1
        features = {**row.features, "count": float(rng.integers(1, 4) if few else 150)}
        made.append(replace(row, features=features, f1=f1, precision=f1, recall=f1))
    said = many(fit(made), made)
    width = (said.high - said.low)[:, 0]
    assert width[1::2].mean() > 1.5 * width[::2].mean()


def test_the_same_seed_gives_the_same_calibration(calibration):
    features = rows(seed=2)[0].features
    assert as_tuple(estimate_scores(fit(rows()), features)) == as_tuple(
        estimate_scores(calibration, features)
    )


def test_intervals_widen_with_the_shift_between_domains():
    calm, far = (fit(rows(shift=s)).reach["f1"] for s in (0.0, 0.2))
    assert far.mean_width > 1.3 * calm.mean_width


def test_higher_coverage_is_wider(calibration):
    some = rows(30, seed=1)
    narrow, wide = many(calibration, some), many(fit(rows(), coverage=0.95), some)
    np.testing.assert_allclose(wide.value, narrow.value)
    assert ((wide.high - wide.low) >= (narrow.high - narrow.low)).all()


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
    with pytest.raises(ParameterError, match=r"'particles', 'passband', 'segmenter'\], got 'best'"):
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
        start = time.process_time()
        estimate_scores(calibration, features)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.01  # the least: other work on the machine only adds


def test_estimating_imports_neither_scikit_learn_nor_torch():
    code = "import sys, passband.estimate.performance; print({'sklearn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "model,domains,few", [("passband", 1, 0), ("passband", 3, 0), ("passband", 3, 5), ("paper-rf", 3, 0)]
)
def test_storing_changes_nothing(model, domains, few, monkeypatch):
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 5)
    c = fit(rows(45, domains=domains), model=model, matching=PAPER)
    if few:
        c = adapt(c, shifted(few), domain="new")
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


def test_an_adapted_calibration_comes_back_from_a_bundle_file(adapted, tmp_path):
    bundle = Bundle(name="b", detector=SLIM, weights={}, score_threshold=0.1, calibration=to_record(adapted))
    write_bundle(bundle, tmp_path / "b.safetensors")
    again = from_record(read_bundle(tmp_path / "b.safetensors").calibration)
    assert again.statement == adapted.statement and again.labelled.domain == "new"
    some = shifted(20, seed=8)
    for name in ("value", "low", "high", "novelty", "abstained"):
        np.testing.assert_array_equal(getattr(many(again, some), name), getattr(many(adapted, some), name))


def test_the_shipped_calibration_is_of_this_format():
    c = from_record(default_bundle().calibration)
    assert c.model == "passband" and c.labelled is None and "domains" in c.statement
    # The weights of the network have 10 MB: what it says of itself is small beside them.
    assert sum(a.nbytes for a in default_bundle().calibration.arrays.values()) < 1.5e6
    for reach in c.reach.values():
        assert 0 < reach.mean_width < 1


def test_the_default_is_no_larger_than_the_most_rows(monkeypatch):
    monkeypatch.setattr("passband.estimate.blend.MOST_ROWS", 500)
    monkeypatch.setattr("passband.estimate.novelty._MOST_ROWS", 500)
    few, many = (
        sum(
            a.nbytes
            for name, a in to_record(fit(rows(n, domains=2))).arrays.items()
            if "held_out" not in name
        )
        for n in (500, 700)
    )
    assert few == many


SETTINGS = {
    "format": 99, "model": "best", "features": ["count"], "score_threshold": math.nan, "coverage": 1.5,
    "valid_for": "ever", "reach": {}, "edge": -1.0, "widest": 1.5, "matching": {"kind": "any", "iou": 2},
    "domains": 3, "adapted_to": "a domain without arrays",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_hostile_settings_are_refused(calibration, name):
    record = to_record(calibration)
    hostile = [
        {**record.settings, name: SETTINGS[name]},
        {k: v for k, v in record.settings.items() if k != name},
    ]
    if name != "adapted_to":  # which is nothing unless labels came
        hostile.append({**record.settings, name: None})
    for settings in hostile:
        with pytest.raises(CalibrationError):
            from_record(CalibrationRecord(settings=settings, arrays=record.arrays))


@pytest.mark.parametrize("format,words", [(FORMAT + 1, "upgrade"), (1, "calibrate anew")])
def test_another_format_says_what_to_do(calibration, format, words):
    record = to_record(calibration)
    other = CalibrationRecord(settings={**record.settings, "format": format}, arrays=record.arrays)
    with pytest.raises(CalibrationError, match=f"format {format}.*{words}"):
        from_record(other)


@pytest.mark.parametrize("model", ["passband", "paper-rf"])
def test_hostile_arrays_are_refused(adapted, model, monkeypatch):
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 2)
    record = to_record(adapted if model == "passband" else fit(rows(45), model=model))
    for name, array in record.arrays.items():
        shorter, nan = array[:-1], np.full(array.shape, np.nan)
        for hostile in (shorter, nan, array[None], array.astype("U5"), np.array(0.0), None):
            arrays = {k: v for k, v in record.arrays.items() if k != name}
            if hostile is not None:
                arrays[name] = hostile
            # One known row or one tree fewer may still be a whole, and a cover that is missing is old;
            # everything else is not.
            if hostile is shorter and name.endswith(("reference.rows", ".roots")):
                continue
            if hostile is None and name.endswith(".cover"):
                continue
            with pytest.raises(CalibrationError):
                from_record(CalibrationRecord(settings=record.settings, arrays=arrays))


def test_held_out_scores_are_scores():
    good = np.full((4, 3), 0.5)
    for bad in (good + 1, good[:3], good.astype(np.float32), np.full((4, 3), np.nan)):
        with pytest.raises(CalibrationError, match="estimated"):
            HeldOutScores(estimated=bad, measured=good)


def test_where_nothing_was_found_the_interval_says_that_it_may_be_anything():
    made = rows(120)
    quiet = [silent(replace(r, image=f"s{i}"), float(i % 2)) for i, r in enumerate(made[:40])]
    c, plain = fit(made + quiet), fit(made)
    said = many(c, quiet)
    assert (said.low == 0).all() and (said.high == 1).all() and said.abstained.all()
    # and such rows do not widen the intervals of the others
    assert c.reach["f1"].mean_width < 1.3 * plain.reach["f1"].mean_width


def test_too_few_rows_with_a_detection_are_counted():
    made = rows(40, domains=1)
    with pytest.raises(CalibrationError, match=r"40 rows came.*of 0 with a detection.*wants 9"):
        fit([silent(r, 0.0) if i >= 10 else r for i, r in enumerate(made)])


def test_novel_rows_are_abstained_on_and_known_ones_are_not(calibration):
    known = many(calibration, rows(seed=1))
    assert known.abstained.mean() < 0.3
    strange = [replace(r, features={**r.features, "mean_circularity": 40.0}) for r in rows(10, seed=1)]
    said = many(calibration, strange)
    assert (said.novelty > 1).all() and said.abstained.all()


def test_the_published_recipe_abstains_where_nothing_was_found_alone(monkeypatch):
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 5)
    strange = [replace(r, features={**r.features, "mean_circularity": 40.0}) for r in rows(10, seed=1)]
    said = many(fit(rows(), model="paper-rf"), [*strange, silent(strange[0], 0.0)])
    assert (said.novelty[:10] > 1).all() and said.abstained.tolist() == [False] * 10 + [True]


def test_wide_intervals_are_abstained_on(calibration):
    said = many(calibration, rows(300, seed=1))
    wide = (said.high - said.low)[:, 0] > calibration.widest + 1e-9
    np.testing.assert_array_equal(said.abstained, wide | (said.novelty > 1))
    assert 0 < wide.mean() < 2 * (1 - WIDEST)
    assert many(replace(calibration, widest=0.0), rows(5)).abstained.all()
    assert not many(replace(calibration, widest=1.0), rows(60)).abstained.all()


def test_a_score_that_cannot_be_told_has_the_whole_interval(calibration):
    """Recall is a little noise: held-out estimates know less than a constant, and a new domain gets [0, 1],
    though the errors are small."""
    rng = np.random.default_rng(0)
    noisy = [replace(r, recall=float(rng.uniform(0.55, 0.65))) for r in rows()]
    c = fit(noisy)
    assert c.reach["recall"].r2 <= 0 < c.reach["f1"].r2
    said = many(c, rows(20, seed=1))
    assert (said.low[:, 2] == 0).all() and (said.high[:, 2] == 1).all()
    assert (said.high - said.low)[:, 0].max() < 1
    # With labelled images of the domain, or for new images of the known ones, the errors say it.
    for other in (adapt(c, noisy[:9], domain="D0"), fit([replace(r, domain="D") for r in noisy])):
        narrow = many(other, rows(20, seed=1))
        assert (narrow.high - narrow.low)[:, 2].max() < 0.7


def test_a_forecast_is_the_estimates_of_its_rows(calibration):
    some = rows(5, seed=4)
    said = many(calibration, some)
    for i, row in enumerate(some):
        one = estimate_scores(calibration, row.features)
        for j, e in enumerate(one.estimates.values()):
            np.testing.assert_allclose(
                (said.value[i, j], said.low[i, j], said.high[i, j]), (e.value, e.low, e.high), atol=1e-12
            )
        assert one.novelty == said.novelty[i] and one.abstained == said.abstained[i]


def test_a_forecast_of_no_rows_is_empty(calibration):
    said = forecast(calibration, np.zeros((0, len(calibration.features))))
    assert said.value.shape == said.low.shape == (0, 3) and said.novelty.shape == said.abstained.shape == (0,)


def test_a_forecast_of_other_features_is_refused(calibration):
    p = len(calibration.features)
    for bad in (np.zeros((2, p - 1)), np.zeros((2, p + 1)), np.full((2, p), np.nan)):
        with pytest.raises(CalibrationError, match=f"finite rows of {p} features"):
            forecast(calibration, bad)


def test_a_few_labels_improve_the_estimates_of_a_domain_that_differs(calibration, adapted):
    asked = shifted(60, seed=8)
    truth = np.array([r.f1 for r in asked])
    before, after = many(calibration, asked), many(adapted, asked)
    assert np.abs(after.value[:, 0] - truth).mean() < 0.5 * np.abs(before.value[:, 0] - truth).mean()
    assert (after.high - after.low)[:, 0].mean() < (before.high - before.low)[:, 0].mean()
    assert ((after.low <= after.value) & (after.value <= after.high)).all()
    inside = (after.low[:, 0] <= truth) & (truth <= after.high[:, 0])
    assert inside.mean() >= 0.8
    assert "the estimates were adapted to 12 labelled ones" in adapted.statement


def test_labels_that_agree_leave_the_estimates(calibration):
    """The domain is as the regressor says: labels narrow the intervals and move nothing."""
    some = rows(12, seed=3)
    said = many(calibration, some).value
    right = [
        replace(r, f1=float(v[0]), precision=float(v[1]), recall=float(v[2]))
        for r, v in zip(some, said, strict=True)
    ]
    asked = rows(20, seed=8)
    before, after = many(calibration, asked), many(adapt(calibration, right, domain="D"), asked)
    np.testing.assert_allclose(after.value, before.value, atol=1e-9)
    assert (after.high - after.low)[:, 0].mean() < (before.high - before.low)[:, 0].mean()


def test_adapting_replaces_an_earlier_adaptation(calibration, adapted):
    other = rows(8, seed=5)
    once, twice = (adapt(c, other, domain="D1") for c in (calibration, adapted))
    np.testing.assert_array_equal(many(once, other).value, many(twice, other).value)


def test_labelled_images_are_no_longer_novel(calibration):
    strange = [replace(r, features={**r.features, "mean_circularity": 40.0}) for r in shifted(3)]
    assert (many(calibration, strange).novelty > 1).all()
    assert (many(adapt(calibration, strange, domain="new"), strange).novelty <= 1).all()


@pytest.mark.parametrize("n,words", [(0, "0 labelled images"), (MOST_LABELLED + 1, "201 .* anew on so many")])
def test_none_or_too_many_labels_are_refused(calibration, n, words):
    some = [silent(r, 0.0) for r in shifted(3)] + shifted(n)
    with pytest.raises(CalibrationError, match=words):
        adapt(calibration, some, domain="new")
    assert len(adapt(calibration, shifted(MOST_LABELLED), domain="new").labelled.counts) == MOST_LABELLED


def test_labels_of_other_features_are_refused(calibration):
    some = [replace(r, features={**r.features, "slope": 1.0}) for r in shifted(3)]
    with pytest.raises(CalibrationError, match=r"do not fit.*'slope'"):
        adapt(calibration, some, domain="new")
    with pytest.raises(CalibrationError, match="no rows came"):
        adapt(calibration, [], domain="new")


@pytest.mark.parametrize("settings", [{"model": "paper-rf"}, {"domains": 1}], ids=["forest", "one domain"])
def test_what_does_not_know_how_domains_differ_cannot_adapt(settings, monkeypatch):
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 2)
    c = fit(rows(40, domains=settings.pop("domains", 3)), **settings)
    with pytest.raises(CalibrationError, match="does not know how domains differ"):
        adapt(c, shifted(3), domain="new")
