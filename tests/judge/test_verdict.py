from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.detections.detections import Detections
from passband.errors import DetectionsError, ParameterError
from passband.estimate.calibration import Estimate, Outlook
from passband.estimate.features import CANDIDATE_FEATURES, image_features
from passband.estimate.reasons import Moved
from passband.estimate.regressor import SEGMENTER_FEATURES
from passband.judge.policy import WORDS, Evidence, Policy, unusable, weigh
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
        ({"own": "any"}, "Nothing is known of this detector"),
        ({"own": "adapted", "detections": confident(4, score=0.3)}, "Only 4 objects"),
        ({"own": "adapted", "outlook": None}, "had none: they are another detector's"),
        ({"outlook": outlook(0.92, 0.8, 1.0, novelty=1.3)}, "novelty 1.30"),
        (
            {"outlook": replace(outlook(0.92, 0.8, 1.0, novelty=1.3), unlike=1.3)},
            "This does not look like what the detector was made for (novelty 1.30",
        ),
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


def test_few_objects_carry_the_estimate_of_an_image_that_is_like_known_ones() -> None:
    like = replace(outlook(0.92, 0.8, 1.0), in_domain=True)
    assert verdict(good(detections=confident(1))) == "review"
    assert verdict(good(detections=confident(1), outlook=like)) == "trust"
    assert "that of like images" in said(good(detections=confident(1), outlook=like))
    assert "like images" not in said(good())


@pytest.mark.parametrize(
    "worse",
    [
        {"detections": confident(0)},
        {"outlook": replace(outlook(0.92, 0.4, 1.0), in_domain=True)},
        {"outlook": replace(outlook(0.75, 0.6, 0.9), in_domain=True)},
        {"outlook": replace(outlook(0.92, 0.8, 1.0), in_domain=True, novelty=1.2)},
        {"pixel_size": None},
        {"pixel_size": 9.0},
    ],
)
def test_likeness_excuses_nothing_but_few_objects(worse: dict[str, object]) -> None:
    like = {"outlook": replace(outlook(0.92, 0.8, 1.0), in_domain=True)}
    assert verdict(good(**{**like, **worse})) == "review"


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
        assert list(document) == ["schema", "micrographs", "errors", "notes"]
        assert (document["schema"], document["errors"]) == (SCHEMA, [])
        (record,) = document["micrographs"]
        assert list(record) == [
            "path", "verdict", "estimates", "detections", "reasons",
            "novelty", "pixel_size_nm", "pixel_size_source", "extra_passes",
        ]  # fmt: skip
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
        assert record["novelty"] == pytest.approx(first.novelty, abs=1e-6)
        assert record["pixel_size_nm"] == pytest.approx(micrograph.pixel_size / 10)
        assert record["extra_passes"] == 0
        sized = micrograph.calibrated(3.8, "the sidecar table")
        known = json.loads(assess(sized, bundle).to_json())["micrographs"][0]
        assert (known["pixel_size_nm"], known["pixel_size_source"]) == (0.38, "the sidecar table")
        unknown = json.loads(assess(replace(micrograph, pixel_size=None, sources={}), bundle).to_json())
        assert unknown["micrographs"][0]["pixel_size_nm"] is None
        assert unknown["micrographs"][0]["pixel_size_source"] is None

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

    def test_anothers_detections_keep_their_threshold_and_those_of_another_image_are_refused(
        self, discs, bundle
    ) -> None:
        micrograph, truth = discs(1)
        truth = replace(truth, scored=True)
        low = replace(truth, scores=np.full(len(truth), 0.1))
        for found in (low, truth.above(0.6)):
            judged = assess(micrograph, bundle, detections=found)
            np.testing.assert_array_equal(judged.detections.boxes_xyxy, found.boxes_xyxy)
            assert judged.detections.score_threshold == found.score_threshold
            assert judged.verdict != "trust" and judged.estimates
        other, _ = discs(1, side=120)
        with pytest.raises(DetectionsError, match="96 x 96 pixels, but this one has 120 x 120"):
            assess(other, bundle, detections=truth.above(0.5))

    def test_another_detectors_answer_is_for_review(self, discs, bundle) -> None:
        micrograph, truth = discs(3, noise=0.2)
        judged = assess(micrograph, bundle, detections=replace(truth, scored=True))
        assert judged.verdict != "trust"
        assert "Nothing is known of this detector" in " ".join(judged.reasons)

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
        "notes": [],
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


@pytest.mark.parametrize(
    "name", ["trust_f1", "trust_low", "reject_f1", "max_width", "confident_score", "strangers"]
)
def test_a_share_may_be_0_or_1_and_nothing_beyond(name: str) -> None:
    others = {"reject_f1": 0.0} if name == "trust_f1" else {"trust_f1": 1.0}
    for end in (0.0, 1.0):
        assert getattr(Policy(**{**others, name: end}), name) == end
    for wrong in (below(0.0), above(1.0), math.nan):
        with pytest.raises(ParameterError, match=rf"^policy: {name} must be in \[0, 1\]"):
            Policy(**{**others, name: wrong})


def test_the_other_thresholds_may_take_the_ends_of_their_ranges() -> None:
    for name in ("few_objects", "min_side", "min_grey_levels"):
        assert getattr(Policy(**{name: 0}), name) == 0
        with pytest.raises(ParameterError, match=f"{name} must be 0 or more, got -1"):
            Policy(**{name: -1})
    Policy(novelty=1.0, pixel_size_slack=1.0, trust_f1=0.6, reject_f1=0.6)
    Policy(novelty=above(0.0))
    for wrong in (
        {"novelty": 0.0},
        {"novelty": above(1.0)},
        {"pixel_size_slack": below(1.0)},
        {"pixel_size_slack": math.inf},
        {"trust_f1": below(0.5)},  # what is rejected would be trusted
    ):
        with pytest.raises(ParameterError):
            Policy(**wrong)


def test_an_image_needs_64_pixels_each_way_and_4_grey_levels_wherever_they_are() -> None:
    rng = np.random.default_rng(0)
    for shape, count in (((64, 64), 0), ((63, 64), 1), ((64, 63), 1)):
        noise = Micrograph(pixels=rng.normal(size=shape).astype(np.float32), name="a")
        assert len(unusable(noise, Policy())) == count
    drawing = np.zeros((100, 100), np.float32)
    drawing[90, :3] = 1, 2, 3  # far behind the first thousand pixels
    assert unusable(Micrograph(pixels=drawing, name="a"), Policy()) == []
    drawing[90, 2] = 2
    (finding,) = unusable(Micrograph(pixels=drawing, name="a"), Policy())
    assert finding.answer == "reject" and "only 3 grey levels" in finding.reason
    small = unusable(Micrograph(pixels=drawing[60:], name="a"), Policy())
    assert [f.reason[:24] for f in small] == ["The image is only 100 x ", "The image has only 3 gre"]


def test_an_image_of_one_value_is_named_by_its_size_and_value() -> None:
    with pytest.raises(ParameterError, match=r"all 70 x 80 pixels are 7;"):
        unusable(Micrograph(pixels=np.full((80, 70), 7, np.float32), name="a"), Policy())
    with pytest.raises(ParameterError, match=r"its only pixel is 3;"):
        unusable(Micrograph(pixels=np.full((1, 1), 3, np.float32), name="a"), Policy())


def test_trust_says_the_interval_and_how_many_are_confident() -> None:
    d = confident(20)
    mixed = replace(d, scores=np.r_[np.full(6, 0.95), np.full(14, 0.7)])
    assert said(good(detections=mixed)) == (
        "Estimated F1 is 0.92 (90 % interval 0.80 to 1.00) on 20 detections, 6 of them confident; "
        "nothing lies outside the calibrated range (novelty 0.50)."
    )


def test_what_an_f1_of_particles_means_is_said_and_speaks_against_nothing() -> None:
    findings = weigh(good(strangers=0), Policy())
    assert [f.answer for f in findings] == ["trust", "trust"]
    assert "share of particles that get their right class" in findings[1].reason


def test_of_what_moved_an_estimate_three_are_named_and_nothing_that_is_hardly_seen() -> None:
    def moved(*effects: float) -> str:
        names = ("count", "mean_score", "noise_level", "skewness")
        parts = [
            Moved(feature=n, effect=e, value=12.5, usual=3.0) for n, e in zip(names, effects, strict=False)
        ]
        return weigh(good(moved=tuple(parts)), Policy())[-1].reason

    assert moved(-0.2, 0.1, 0.05, 0.04) == (
        "What moved the estimated F1 most: number of objects 12.5 where 3 is usual (-0.20); "
        "mean score 12.5 where 3 is usual (+0.10); noise 12.5 where 3 is usual (+0.05)."
    )
    # Less would be shown as 0.00.
    assert moved(-0.005, below(0.005)) == (
        "What moved the estimated F1 most: number of objects 12.5 where 3 is usual (-0.01)."
    )
    assert moved(below(0.005)) == "Every feature of the answer is as usual."


def test_of_unusual_features_four_are_named_and_the_rest_counted() -> None:
    def unusual(*names: str) -> str:
        far = Outlook(estimates=outlook(0.92, 0.8, 1.0).estimates, novelty=1.5, unusual=names)
        return said(good(outlook=far))

    five = ("count", "noise_level", "kurtosis", "own_feature", "skewness", "saturation")
    assert "Unusual: number of objects, noise, tails of the grey levels, own feature and 2 more." in unusual(
        *five
    )
    assert "Unusual: number of objects, noise, tails of the grey levels, own feature." in unusual(*five[:4])
    assert "Unusual" not in unusual()


def test_where_the_calibration_knows_too_little_an_answer_is_neither_trusted_nor_rejected() -> None:
    """It abstains on an interval wider than nearly all of its own, if what it says may still be trust."""

    def answer(value: float, low: float, high: float, novelty: float = 0.5) -> tuple[str, bool]:
        wide = replace(outlook(value, low, high, novelty), abstained=True)
        findings = weigh(good(outlook=wide), Policy())
        return findings[0].answer, "knows too little" in " ".join(f.reason for f in findings)

    assert answer(0.3, 0.0, 0.8) == answer(0.9, 0.8, 1.0) == ("review", True)
    assert answer(0.3, 0.0, below(0.8)) == ("reject", False)  # even at best it is not to be trusted
    assert answer(0.3, 0.0, 0.8, novelty=1.0) == ("review", True)
    assert answer(0.3, 0.0, 0.8, novelty=above(1.0)) == ("reject", False)


def test_the_likelier_trouble_is_the_lower_of_precision_and_recall() -> None:
    def trouble(precision: float, recall: float) -> str:
        f1 = outlook(0.4, 0.2, 0.6).estimates["f1"]
        estimates = {"f1": f1, "precision": replace(f1, value=precision), "recall": replace(f1, value=recall)}
        return said(good(outlook=Outlook(estimates=estimates, novelty=0.5, unusual=())))

    assert "false detections are likely (estimated precision 0.30)" in trouble(0.3, 0.6)
    assert "missed objects are likely (estimated recall 0.30)" in trouble(0.6, 0.3)
    assert "missed objects are likely" in trouble(0.4, 0.4)


@pytest.mark.parametrize("digits", [2, 3, 8, 9, 12])
def test_a_value_is_shown_with_as_many_digits_as_tell_it_from_its_limit_and_nine_at_most(digits: int) -> None:
    text = said(good(outlook=outlook(0.5 - 0.7 * 10.0**-digits, 0.3, 0.6)))
    expected = (
        f"{0.5 - 10.0**-digits:.{digits}f}"
        if digits <= 8
        else "0.499999999"
        if digits == 9
        else "0.500000000"
    )
    assert f"Estimated F1 is {expected} (" in text


def test_one_detection_is_not_several() -> None:
    assert "None of 1 detection scored" in said(good(detections=confident(1, 0.7)))
    assert "Only 1 of 2 detections scored" in said(
        good(detections=replace(confident(2), scores=np.array([0.95, 0.7])))
    )


def test_every_feature_has_its_words() -> None:
    noise = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    measured = image_features(Micrograph(pixels=noise, name="a", pixel_size=4.0))
    assert {*CANDIDATE_FEATURES, *SEGMENTER_FEATURES, *measured} == set(WORDS)
    assert WORDS["share_0_1"] == "share of scores from 0.1 to 0.2"
    assert WORDS["share_0_9"] == "share of scores from 0.9 to 1"
    assert WORDS["power_1_4"] == "image power at 2 to 4 pixels"
    assert WORDS["power_1_128"] == "image power at 64 to 128 pixels"


def test_three_particles_in_ten_may_be_strangers_and_a_detector_knows_none() -> None:
    many = good(detections=confident(100))
    assert verdict(replace(many, strangers=30)) == "trust"
    assert verdict(replace(many, strangers=31)) == "review"
    for none in (None, 0):
        assert "unlike" not in said(good(detections=confident(3), strangers=none))


def test_an_interval_as_wide_as_may_be_still_says_enough() -> None:
    wide = good(outlook=outlook(0.8, 0.5, 1.0))
    assert verdict(wide, Policy(max_width=0.5)) == "trust"
    assert verdict(wide, Policy(max_width=below(0.5))) == "review"
