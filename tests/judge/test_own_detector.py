"""Somebody's own detector: calibrated on a few labelled images, judged, and known from others'."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from passband.cli import app
from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled
from passband.errors import CalibrationError, DetectionsError, ParameterError
from passband.estimate.left_out import told as told_of
from passband.estimate.left_out import told_anew
from passband.estimate.records import from_record
from passband.estimate.rows import CalibrationRow
from passband.judge.calibrate_own import calibrate_own
from passband.judge.own_detector import (
    about_own_detector,
    any_detector,
    assess_given,
    open_own_detector,
    own_detector_judge,
    write_own_detector,
)
from passband.kinds import assess, read_any
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph
from passband.store.tensors import read_sealed

SIDE, COUNT = 160, 14


def boxes_of(rng, n=12):
    """Boxes on a grid, so that none overlap."""
    places = rng.permutation(36)[:n]
    corner = np.stack([places % 6, places // 6], 1) * 26.0 + rng.uniform(0, 4, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(10, 20, (n, 1))], 1)


def yolo(boxes, scores=None):
    lines = []
    for i, (x0, y0, x1, y1) in enumerate(boxes / SIDE):
        score = "" if scores is None else f" {scores[i]:.4f}"
        lines.append(f"0 {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}{score}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """Images, truth, and what a detector found that keeps seven of ten, with scores and without."""
    place = tmp_path_factory.mktemp("user")
    for name in ("labelled", "others", "truth", "found", "bare"):
        (place / name).mkdir()
    for i in range(COUNT):
        rng = np.random.default_rng(i)
        pixels = rng.normal(120, 20, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        name = f"image{i:02}"
        Image.fromarray(pixels).save(place / ("labelled" if i < 10 else "others") / f"{name}.png")
        boxes = boxes_of(rng)
        kept = boxes[rng.random(len(boxes)) < 0.7]
        (place / "truth" / f"{name}.txt").write_text(yolo(boxes))
        (place / "found" / f"{name}.txt").write_text(yolo(kept, rng.beta(8, 2, len(kept))))
        (place / "bare" / f"{name}.txt").write_text(yolo(kept))
    return place


def labelled(user, found="found", **change):
    values = {
        "images": [str(user / "labelled")],
        "annotations": DetectionsFile(path=user / "truth"),
        "detections": DetectionsFile(path=user / found),
    }
    return Labelled(**{**values, **change})


@pytest.fixture(scope="module")
def done(user):
    return calibrate_own(labelled(user), name="mine")


def test_ten_labelled_images_tell_the_others(done):
    assert done.used == 10 and not done.unused and done.measured == pytest.approx(0.82, abs=0.1)
    before, after = done.change.before, done.change.after
    assert before.width > 0.8
    assert after.width < 0.5 and after.mae < 0.12 and after.coverage >= 0.8
    assert 0 <= done.change.narrower < 0.2


def test_a_calibration_comes_back_from_its_file(done, user, tmp_path):
    digest = write_own_detector(done.result, tmp_path / "mine.safetensors")
    again = open_own_detector(read_sealed(tmp_path / "mine.safetensors"))
    assert (again.name, again.scored, again.digest, again.adapted) == ("mine", True, digest, True)
    said = [tried(own, user) for own in (done.result, again)]
    assert said[0].estimates == said[1].estimates
    assert any("mine, with scores" in words for _, words in about_own_detector(again))


def tried(own, user, found=None):
    pixels = np.asarray(Image.open(user / "others" / "image12.png"), np.float32)
    boxes = boxes_of(np.random.default_rng(5))[:9]
    given = found or Detections(
        image_shape=pixels.shape, boxes_xyxy=boxes, scores=np.linspace(0.95, 0.6, len(boxes))
    )
    return assess_given(Micrograph(pixels=pixels, name="image12.png"), own, given)


def test_what_is_below_its_threshold_does_not_count(user):
    own = calibrate_own(
        labelled(user, detections=DetectionsFile(path=user / "found", score_threshold=0.7)), name="mine"
    ).result
    assert own.score_threshold == 0.7
    judged = tried(own, user)
    assert len(judged.detections) == 6 and judged.detections.scores.min() >= 0.7


def test_objects_without_scores_get_an_estimate_only_from_a_calibration_of_such(done, user):
    pixels = np.asarray(Image.open(user / "others" / "image12.png"), np.float32)
    image = Micrograph(pixels=pixels, name="a.png")
    bare = Detections(
        image_shape=pixels.shape,
        boxes_xyxy=boxes_of(np.random.default_rng(5)),
        scores=np.ones(12),
        scored=False,
    )
    for own in (any_detector(scored=True), any_detector(scored=False), done.result):
        judged = assess_given(image, own, bare)
        assert judged.verdict == "review" and not judged.estimates
        told = json.loads(judged.to_json())["micrographs"][0]["estimates"]["f1"]
        assert (told["value"], told["low"], told["high"]) == (None, 0, 1)
    assert "without scores" in assess_given(image, done.result, bare).reasons[0]
    outlines = calibrate_own(labelled(user, found="bare"), name="outlines")
    assert not outlines.result.scored and outlines.change.after.width < 0.6
    judged = assess_given(image, outlines.result, bare)
    assert 0 < judged.estimates["f1"].low < judged.estimates["f1"].high
    scored = replace(bare, scored=True)
    assert "another detector's" in assess_given(image, outlines.result, scored).reasons[0]


def test_a_detector_that_is_not_known_is_told_widely(user):
    """From what other detectors do: an interval that says little, and a word on how to narrow it."""
    judged = tried(any_detector(scored=True), user)
    e = judged.estimates["f1"]
    assert judged.verdict != "trust" and e.high - e.low > 0.7
    assert any("passband calibrate --detections" in reason for reason in judged.reasons)


def test_a_bundle_judges_given_detections_by_what_any_detector_does(user, bundle):
    pixels = np.asarray(Image.open(user / "others" / "image12.png"), np.float32)
    image = Micrograph(pixels=pixels, name="image12.png")
    given = Detections(
        image_shape=pixels.shape, boxes_xyxy=boxes_of(np.random.default_rng(5)), scores=np.full(12, 0.3)
    )
    judged = assess(image, bundle, detections=given)
    assert judged.estimates == assess_given(image, any_detector(scored=True), given).estimates
    assert len(judged.detections) == 12  # the bundle's threshold is not theirs


def test_without_detections_there_is_nothing_to_judge(done):
    with pytest.raises(ParameterError, match="--detections"):
        own_detector_judge(done.result)(Micrograph(pixels=np.eye(80, dtype=np.float32), name="a.png"))


def test_detections_of_another_size_are_refused(done, user):
    other = Detections(image_shape=(64, 64), boxes_xyxy=np.array([[1.0, 1, 9, 9]]), scores=np.ones(1))
    with pytest.raises(DetectionsError, match="64 x 64"):
        tried(done.result, user, other)


@pytest.mark.parametrize("few", [1, 3])
def test_few_images_are_answered_with_what_few_can_tell(user, few):
    files = [str(user / "labelled" / f"image{i:02}.png") for i in range(few)]
    some = calibrate_own(labelled(user, images=files), name="mine")
    assert some.used == few and (some.change.after is None) == (few == 1)
    e = tried(some.result, user).estimates["f1"]
    ten = calibrate_own(labelled(user), name="mine").result
    narrow = tried(ten, user).estimates["f1"]
    assert e.high - e.low > narrow.high - narrow.low


def test_images_that_cannot_be_used_are_told_and_the_rest_goes_on(user, tmp_path):
    folder = tmp_path / "labelled"
    folder.mkdir()
    for i in range(4):
        (folder / f"image{i:02}.png").write_bytes((user / "labelled" / f"image{i:02}.png").read_bytes())
    (folder / "twin.png").write_bytes((user / "labelled" / "image01.png").read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    some = calibrate_own(labelled(user, images=[str(folder)]), name="mine")
    why = {path.rsplit("/", 1)[-1]: words for path, words in some.unused}
    assert some.used == 4 and set(why) == {"twin.png", "broken.png"} and "same image" in why["twin.png"]


def test_truth_without_an_object_is_refused(user, tmp_path):
    for i in range(10):
        (tmp_path / f"image{i:02}.txt").write_text("")
    with pytest.raises(CalibrationError, match="no object"):
        calibrate_own(labelled(user, annotations=DetectionsFile(path=tmp_path)), name="mine")


def test_images_of_another_kind_are_noticed(done, user):
    """Large bright discs in a smooth image, where noise was labelled."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = (200 + 40 * np.sin(x / 30) + 30 * np.cos(y / 40)).astype(np.float32)
    given = Detections(
        image_shape=pixels.shape, boxes_xyxy=np.array([[5.0, 5, 150, 150]] * 6) + np.arange(6)[:, None],
        scores=np.full(6, 0.2),
    )  # fmt: skip
    strange = assess_given(Micrograph(pixels=pixels, name="b.png"), done.result, given)
    assert strange.novelty > 1 and strange.verdict != "trust"
    others = sorted((user / "others").iterdir())
    shapes = {path.name: (SIDE, SIDE) for path in others}
    found = read_detections(user / "found", images=shapes)
    like = [assess_given(read_micrograph(path), done.result, found[path.name]).novelty for path in others]
    assert np.median(like) < 1


def test_only_the_classes_that_it_was_calibrated_for_count(done, user):
    boxes = boxes_of(np.random.default_rng(5))
    both = Detections(
        image_shape=(SIDE, SIDE), boxes_xyxy=boxes, scores=np.linspace(0.95, 0.6, 12),
        categories=("void", "loop") * 6,
    )  # fmt: skip
    voids = replace(done.result, training={**done.result.training, "categories": ["void"]})
    assert set(tried(voids, user, both).detections.categories) == {"void"}
    assert len(tried(done.result, user, both).detections) == 12
    assert ("classes", "void") in about_own_detector(voids)


def test_labels_go_by_the_command_line_from_calibrate_to_assess(user, tmp_path):
    run = CliRunner()
    out = tmp_path / "mine.safetensors"
    words = ["--images", user / "labelled", "--annotations", user / "truth", "--detections", user / "found"]
    made = run.invoke(
        app, ["calibrate", *map(str, words), "--out", str(out), "--name", "yolo on Ti", "--json"]
    )
    told = json.loads(made.stdout)
    assert made.exit_code == 0 and (told["images"], told["used"]) == (10, 10)
    assert set(told["before"]) == set(told["after"]) == {"mae", "coverage", "width"}
    assert read_any(out).name == "yolo on Ti"
    judged = run.invoke(
        app,
        ["assess", str(user / "others"), "--detections", str(user / "found"), "--bundle", str(out), "--json"],
    )
    found = json.loads(judged.stdout)["micrographs"]
    assert len(found) == COUNT - 10
    assert all(m["estimates"]["f1"]["low"] <= m["estimates"]["f1"]["value"] for m in found)
    table = tmp_path / "rows.csv"
    scored = run.invoke(app, ["score", *map(str, words), "--out", str(table), "--json"])
    assert json.loads(scored.stdout)["f1"] == pytest.approx(told["measured_f1"], abs=1e-6)
    assert table.read_text().count("\n") == 11
    lost = run.invoke(app, ["assess", str(user / "others"), "--bundle", str(out)])
    assert lost.exit_code != 0 and lost.output.count("--detections") == 1  # once, not for every image
    other = run.invoke(
        app, ["segment", str(user / "others"), "--bundle", str(out), "--out", str(tmp_path / "o")]
    )
    assert other.exit_code != 0 and "without a network" in other.output
    gone = run.invoke(app, ["calibrate", "--images", "nowhere", *map(str, words[2:]), "--out", str(out)])
    assert gone.exit_code != 0 and "nowhere: " in gone.output and "no such file" in gone.output.lower()
    wrong = run.invoke(app, ["calibrate", *map(str, words), "--bundle", "cavities", "--out", str(out)])
    assert wrong.exit_code != 0 and "--bundle" in wrong.output


def test_what_ships_is_what_many_detectors_did():
    for scored in (True, False):
        known = from_record(any_detector(scored=scored).calibration)
        assert len(known.domains) == 65 and known.adaptable and len(known.reference.within) > 0


def test_a_new_calibration_is_told_of_parts_that_it_did_not_see():
    """Each of two domains is told by a fit to the other, and passed over where there is none."""
    known = from_record(any_detector(scored=True).calibration)
    row = {n: 0.0 for n in known.features}
    rows = [
        CalibrationRow(features=row, f1=f1, precision=f1, recall=f1, domain=d, image=f"{d}{i}")
        for d, f1 in (("a", 0.0), ("b", 1.0))
        for i in range(4)
    ]
    seen = []

    def fit(some):
        seen.append({r.domain for r in some})
        if len(seen) == 1:
            return known
        raise CalibrationError("too few")

    told = told_anew(fit, rows)
    assert seen == [{"b"}, {"a"}] and told.coverage == 1  # nothing found: 0 to 1
    assert told == told_of(known, rows[:4])
