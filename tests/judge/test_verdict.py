from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.detections.detections import Detections
from passband.errors import CalibrationError, DetectionsError, ParameterError
from passband.estimate.calibration import Estimate, Outlook
from passband.judge.policy import Evidence, Policy, unusable, weigh
from passband.judge.verdict import SCHEMA, measure_sizes, verdicts_to_json
from passband.kinds import assess
from passband.micrographs.micrograph import Micrograph

RANK = {"reject": 0, "review": 1, "trust": 2}
unit = st.floats(0, 1)


def confident(n: int = 20, score: float = 0.95) -> Detections:
    x = 4.0 * np.arange(n)
    boxes = np.stack([x, np.zeros(n), x + 3, np.full(n, 3.0)], axis=1)
    return Detections(image_shape=(64, 512), boxes_xyxy=boxes, scores=np.full(n, score), score_threshold=0.5)


def outlook(value: float, low: float, high: float, novelty: float = 0.5) -> Outlook:
    e = Estimate(value=value, low=low, high=high, coverage=0.9)
    return Outlook(estimates={"f1": e, "precision": e, "recall": e}, novelty=novelty, unusual=())


def good(**changes: object) -> Evidence:
    evidence = Evidence(
        detections=confident(),
        outlook=outlook(0.92, 0.8, 1.0),
        bundle_name="b",
        pixel_size=4.0,
        trained_pixel_size=(2.0, 6.0),
    )
    return replace(evidence, **changes)


def verdict(evidence: Evidence, policy: Policy | None = None) -> str:
    return weigh(evidence, policy or Policy())[0].answer


def said(evidence: Evidence) -> str:
    return " ".join(finding.reason for finding in weigh(evidence, Policy()))


def test_trust_needs_everything_and_says_why() -> None:
    findings = weigh(good(), Policy())
    assert [f.answer for f in findings] == ["trust"]
    assert "0.92" in findings[0].reason
    assert "20 detections" in findings[0].reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outlook": None}, "no calibration"),
        ({"foreign": True}, "another detector"),
        ({"outlook": outlook(0.92, 0.8, 1.0, novelty=1.3)}, "novelty 1.30"),
        ({"detections": confident(0)}, "Nothing was found at a score of 0.50"),
        ({"detections": confident(4)}, "Only 4 of 4 detections scored 0.90"),
        ({"detections": confident(20, score=0.7)}, "None of 20 detections"),
        ({"outlook": outlook(0.7, 0.6, 0.8)}, "short of the 0.80"),
        ({"outlook": outlook(0.85, 0.45, 0.9)}, "as low as 0.45"),
        ({"outlook": outlook(0.8, 0.5, 0.99)}, "wider than 0.45"),
        ({"pixel_size": None}, "pixel size is unknown"),
        ({"pixel_size": 9.0}, "0.9 nm, is outside that of the detector's training, 0.2 to 0.6 nm"),
        ({"trained_pixel_size": None}, "does not say with what pixel sizes"),
        ({"overfull": 1000.0}, "foil of 100 nm"),
    ],
)
def test_each_doubt_alone_turns_trust_into_review(change: dict[str, object], words: str) -> None:
    assert verdict(good(**change)) == "review"
    assert words in said(good(**change))


def test_low_f1_is_rejected_and_that_comes_first() -> None:
    findings = weigh(good(outlook=outlook(0.3, 0.1, 0.5, novelty=2.0), pixel_size=None), Policy())
    assert [f.answer for f in findings] == ["reject", "review", "review"]
    assert "0.30" in findings[0].reason


@given(unit, unit, unit, unit, st.floats(0, 2))
def test_a_worse_interval_never_gives_a_better_verdict(
    value: float, below: float, above: float, fall: float, novelty: float
) -> None:
    low, high = max(0.0, value - below), min(1.0, value + above)
    before = verdict(good(outlook=outlook(value, low, high, novelty)))
    fallen = outlook(max(0.0, value - fall), max(0.0, low - fall), max(0.0, high - fall), novelty)
    # The high end alone may fall without more doubt: the estimate only says more.
    assert RANK[verdict(good(outlook=fallen))] <= RANK[before] or high - fall < 0
    assert RANK[verdict(good(outlook=outlook(value, max(0.0, low - fall), high, novelty)))] <= RANK[before]


@given(unit, unit, unit, st.floats(1.0, 1e6, exclude_min=True), st.integers(0, 40))
def test_beyond_the_calibrated_range_is_never_trust(a: float, b: float, c: float, far: float, n: int) -> None:
    low, value, high = sorted((a, b, c))
    assert verdict(good(outlook=outlook(value, low, high, far), detections=confident(n))) != "trust"


@given(unit, unit, unit, st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_policy_never_trusts_more(a: float, b: float, c: float, one: float, two: float) -> None:
    low, value, high = sorted((a, b, c))
    lax, strict = sorted((one, two))
    evidence = good(outlook=outlook(value, low, high))
    trusting = Policy(trust_f1=lax, trust_low=lax, reject_f1=0.0)
    severe = Policy(trust_f1=strict, trust_low=strict, reject_f1=0.0)
    assert RANK[verdict(evidence, severe)] <= RANK[verdict(evidence, trusting)]


def test_a_value_just_beyond_a_limit_is_not_rounded_onto_it() -> None:
    assert "F1 is 0.499 (" in said(good(outlook=outlook(0.499, 0.3, 0.6)))
    assert "novelty 1.0002, limit 1.00" in said(good(outlook=outlook(0.9, 0.8, 1.0, novelty=1.00021)))


def test_policy_names_every_fault() -> None:
    with pytest.raises(ParameterError) as e:
        Policy(trust_f1=1.5, few_objects=-1, novelty=2.0, pixel_size_slack=0.5, max_width=float("nan"))
    for name in ("trust_f1", "few_objects", "novelty", "pixel_size_slack", "max_width"):
        assert name in str(e.value)


def test_an_image_without_contrast_is_no_image() -> None:
    for shape in ((1, 1), (80, 80)):
        with pytest.raises(ParameterError, match="holds no image"):
            unusable(Micrograph(pixels=np.full(shape, 7, np.float32), name="a"), Policy())


@pytest.mark.usefixtures("fake_detector")
class TestAssess:
    def test_is_deterministic_and_keeps_the_machine_contract(self, discs, bundle) -> None:
        micrograph, _ = discs(1)
        first, second = assess(micrograph, bundle), assess(micrograph, bundle)
        assert first.to_json() == second.to_json()
        document = json.loads(first.to_json())
        assert list(document) == ["schema", "micrographs", "errors"]
        assert (document["schema"], document["errors"]) == (SCHEMA, [])
        (record,) = document["micrographs"]
        assert list(record) == ["path", "verdict", "estimates", "detections", "reasons"]
        assert record["path"] == micrograph.name
        assert record["verdict"] in RANK
        assert list(record["estimates"]) == ["f1", "precision", "recall"]
        for e in record["estimates"].values():
            assert list(e) == ["value", "low", "high", "coverage"]
            assert 0 <= e["low"] <= e["value"] <= e["high"] <= 1
        found = record["detections"]
        assert list(found) == ["count", "score_threshold", "boxes_xyxy", "scores"]
        assert found["count"] == len(found["boxes_xyxy"]) == len(found["scores"]) == len(first.detections)
        assert all(len(box) == 4 for box in found["boxes_xyxy"])
        assert record["reasons"] == list(first.reasons)

    def test_trusts_what_it_knows_and_not_what_it_does_not(self, discs, bundle) -> None:
        assert assess(discs(1003, noise=0.2)[0], bundle).verdict == "trust"
        assert assess(discs(1003, noise=0.2, pixel_size=None)[0], bundle).verdict == "review"
        hopeless = assess(discs(1003, noise=8.0)[0], bundle)
        assert hopeless.verdict == "reject"
        assert "Estimated F1" in hopeless.reasons[0]

    def test_nothing_found_is_an_answer(self, discs, bundle) -> None:
        micrograph, _ = discs(1)
        nothing = Detections(
            image_shape=micrograph.shape, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), score_threshold=0.5
        )
        judged = assess(micrograph, bundle, detections=nothing)
        assert judged.verdict == "review"
        assert any(reason.startswith("Nothing was found") for reason in judged.reasons)
        assert set(judged.estimates) == {"f1", "precision", "recall"}
        assert judged.sizes.density == 0

    def test_without_calibration_estimates_are_withheld(self, discs, uncalibrated) -> None:
        judged = assess(discs(1)[0], uncalibrated)
        assert judged.verdict == "review"
        assert "no calibration" in judged.reasons[0]
        empty = {"value": None, "low": None, "high": None, "coverage": None}
        estimates = json.loads(judged.to_json())["micrographs"][0]["estimates"]
        assert estimates == {"f1": empty, "precision": empty, "recall": empty}

    def test_detections_at_another_threshold_or_of_another_image_are_refused(self, discs, bundle) -> None:
        micrograph, truth = discs(1)
        with pytest.raises(CalibrationError, match=r"calibration is for 0\.5.*above\(0\.5\)"):
            assess(micrograph, bundle, detections=truth)
        with pytest.raises(CalibrationError):
            assess(micrograph, bundle, detections=truth.above(0.6))
        other, _ = discs(1, side=120)
        with pytest.raises(DetectionsError, match="96 x 96 pixels, but this one has 120 x 120"):
            assess(other, bundle, detections=truth.above(0.5))

    def test_another_detectors_answer_is_for_review(self, discs, bundle) -> None:
        micrograph, truth = discs(3, noise=0.2)
        judged = assess(micrograph, bundle, detections=truth.above(0.5))
        assert judged.verdict == "review"
        assert "another detector" in " ".join(judged.reasons)

    def test_thumbnails_and_masks_are_rejected_unseen(self, discs, bundle) -> None:
        small = discs(1, side=48, count=2)[0]
        assert assess(small, bundle).verdict == "reject"
        assert "48 x 48 pixels" in assess(small, bundle).reasons[0]
        mask = np.zeros((96, 96), np.float32)
        mask[20:40, 20:40] = 255
        judged = assess(Micrograph(pixels=mask, name="mask.png"), bundle)
        assert (judged.verdict, dict(judged.estimates)) == ("reject", {})
        assert "2 grey levels" in judged.reasons[0]

    def test_thickness_gives_swelling(self, discs, bundle) -> None:
        micrograph, _ = discs(1)
        judged = assess(micrograph, bundle, thickness=1000.0)
        d = judged.sizes.diameters * 4.0
        volume, foil = np.pi / 6 * (d**3).sum(), 96 * 96 * 16.0 * 1000.0
        assert judged.sizes.swelling_percent == pytest.approx(100 * volume / (foil - volume))
        thin = assess(micrograph, bundle, thickness=5.0)
        assert "foil of 0.5 nm" in " ".join(thin.reasons)
        for wrong in (0.0, -1.0, float("nan")):
            with pytest.raises(ParameterError, match="thickness"):
                assess(micrograph, bundle, thickness=wrong)


def test_sizes_without_masks_are_those_of_the_boxes() -> None:
    sizes = measure_sizes(confident(3), 2.0, None)
    np.testing.assert_allclose(sizes.diameters, 3.0)
    np.testing.assert_allclose(sizes.diameters_nm, 0.6)
    assert sizes.density == pytest.approx(3 / (64 * 512 * 4))


def test_errors_are_part_of_the_document() -> None:
    document = json.loads(verdicts_to_json([], [("a\udce4.tif", "no such file")]))
    assert document == {
        "schema": SCHEMA,
        "micrographs": [],
        "errors": [{"path": "a\udce4.tif", "error": "no such file"}],
    }


def below(limit: float) -> float:
    return math.nextafter(limit, -math.inf)


def above(limit: float) -> float:
    return math.nextafter(limit, math.inf)


# What is just let through, what is just not, and the doubt that parts them. Limits are meant as they are
# worded: "below 0.50", "5 confident ones", "0.90 or more" include or leave out the limit itself.
EDGES = {
    "reject_f1": (outlook(0.5, 0.5, 0.7), outlook(below(0.5), 0.5, 0.7), "under the 0.50 below which"),
    "trust_f1": (outlook(0.8, 0.7, 0.9), outlook(below(0.8), 0.7, 0.9), "short of the 0.80"),
    "trust_low": (outlook(0.8, 0.5, 0.9), outlook(0.8, below(0.5), 0.9), "trust needs 0.50 or more"),
    "max_width": (outlook(0.8, 0.55, 1.0), outlook(0.8, below(0.55), 1.0), "wider than 0.45"),
    "novelty": (outlook(0.9, 0.8, 1.0, 1.0), outlook(0.9, 0.8, 1.0, above(1.0)), "so the estimate is an ex"),
    "few_objects": (confident(5), confident(4), "Only 4 of 4 detections scored 0.90 or more"),
    "confident_score": (confident(5, 0.9), confident(5, below(0.9)), "None of 5 detections scored 0.90"),
    "strangers": (6, 7, "7 of 20 particles are unlike all that 'b' has seen"),
    "finest": (2.0 / 1.1, below(2.0 / 1.1), "outside that of the detector's training, 0.2 to 0.6 nm"),
    "coarsest": (6.0 * 1.1, above(6.0 * 1.1), "outside that of the detector's training, 0.2 to 0.6 nm"),
}


@pytest.mark.parametrize("limit", EDGES)
def test_a_limit_lets_through_what_lies_on_it_and_nothing_beyond(limit: str) -> None:
    on, beyond, words = EDGES[limit]
    field = {Outlook: "outlook", Detections: "detections", int: "strangers", float: "pixel_size"}[type(on)]
    let_through, stopped = ("review", "reject") if limit == "reject_f1" else ("trust", "review")
    assert verdict(good(**{field: on})) == let_through
    findings = weigh(good(**{field: beyond}), Policy())
    assert findings[0].answer == stopped and words in findings[0].reason


def test_what_just_touches_every_limit_at_once_is_trusted() -> None:
    touching = good(
        detections=confident(5, 0.9), outlook=outlook(0.8, 0.55, 1.0, novelty=1.0), pixel_size=6.0 * 1.1
    )
    assert verdict(touching) == "trust"
