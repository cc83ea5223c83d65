"""Segmenters judged by their pixels: calibrated, estimated, placed in what they were trained on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from passband.cli import app
from passband.detections.detections import Detections
from passband.detectors import segment as segmentation
from passband.detectors.bundle import Bundle, read_bundle, write_bundle
from passband.detectors.segment import object_mask, segment, segment_objects, segment_with_evidence
from passband.detectors.unet import UNet, UNetConfig
from passband.errors import BundleError, CalibrationError
from passband.estimate.records import from_record
from passband.estimate.regressor import SEGMENTER_FEATURES
from passband.judge.about import about_bundle
from passband.judge.calibrate import calibrate, calibrate_bundle, pixel_row
from passband.judge.placing import GIVEN, Placed, place
from passband.judge.policy import DEFAULT_POLICY, Evidence, Policy, weigh
from passband.judge.trust_map import draw_trust_map, trust_map
from passband.kinds import assess
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

TRAINED = {"conditions": {"defocus_nm": [-20, 100], "cs_mm": [0, 1]}, "energies": [300e3]}


@pytest.fixture(scope="module")
def bright() -> Bundle:
    """Finds what is brighter than the mean of its window."""
    model = UNet(UNetConfig(widths=(4, 8), residual=False))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.zero_()
            if "norm.weight" in name:
                p.fill_(1.0)
        model.down[0].first.weight[0, 0] = 1 / 9
        model.down[0].second.weight[0, 0, 1, 1] = 1.0
        model.up[0].first.weight[0, 0, 1, 1] = 1.0  # the fine level comes first
        model.up[0].second.weight[0, 0, 1, 1] = 1.0
        model.head.weight[0, 0], model.head.bias[0] = 8.0, -4.0
    return Bundle(
        name="bright",
        detector=model.config,
        weights=model.state_dict(),
        score_threshold=0.5,
        training={"pixel_size": [0.1, 1.0], **TRAINED},
    )


def draw(seed: int, contrast: float) -> tuple[Micrograph, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    mask = np.zeros((96, 96), bool)
    for _ in range(3):
        a, b = rng.uniform(16, 80, 2)
        mask |= (y - a) ** 2 + (x - b) ** 2 < rng.uniform(8, 16) ** 2
    pixels = (contrast * mask + rng.standard_normal(mask.shape)).astype(np.float32)
    return Micrograph(pixels=pixels, name=f"{seed}", pixel_size=0.5), mask


def rows(bundle: Bundle, count: int = 120) -> list:
    made = []
    for i in range(count):
        image, mask = draw(i, (6.0, 3.0, 1.5, 0.7, 0.3)[i % 5])
        made.append(pixel_row(image, *segment_with_evidence(image, bundle), mask, domain="ABCDEF"[i % 6]))
    return made


@pytest.fixture(scope="module")
def judged(bright: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bright") / "bright.safetensors"
    write_bundle(calibrate_bundle(bright, rows(bright)), path)
    return read_bundle(path)


def test_evidence_comes_with_the_same_answer(bright: Bundle) -> None:
    image, mask = draw(3, 6.0)
    found, told = segment_with_evidence(image, bright)
    plain = segment_objects(image, bright)
    np.testing.assert_array_equal(object_mask(found), object_mask(plain))
    np.testing.assert_array_equal(found.scores, plain.scores)
    assert tuple(sorted(told)) == tuple(sorted(SEGMENTER_FEATURES))
    assert told["share"] == pytest.approx(object_mask(found).mean(), abs=0.01)
    assert told["agree_turn"] > 0.99 and told["agree_negative"] < 0.3
    assert (object_mask(found) == mask).mean() > 0.9


def test_evidence_does_not_depend_on_the_tiles(bright: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = draw(3, 3.0)
    whole = segment_with_evidence(image, bright)[1]
    monkeypatch.setattr("passband.detectors.segment.TILES", (32,))
    tiled = segment_with_evidence(image, bright)[1]
    assert tiled == pytest.approx(whole, abs=1e-4)


def test_a_flat_image_tells_nothing_and_breaks_nothing(bright: Bundle) -> None:
    flat = Micrograph(pixels=np.full((40, 50), 7, np.float32), name="flat", pixel_size=3.0)
    found, told = segment_with_evidence(flat, bright)
    assert len(found) == 0 and told["share"] == 0 and np.isfinite(list(told.values())).all()
    assert not segment(flat, bright).any()


def test_estimated_scores_are_of_pixels_and_right(judged: Bundle) -> None:
    measured, estimated, covered = [], [], []
    for seed in range(1000, 1030):
        image, mask = draw(seed, (5.0, 2.0, 1.0, 0.5, 0.3)[seed % 5])
        v = assess(replace(image, pixel_size=None), judged)  # so no rings are looked for
        found = object_mask(v.detections)
        truth = 2 * (found & mask).sum() / (found.sum() + mask.sum())
        e = v.estimates["f1"]
        measured.append(truth), estimated.append(e.value), covered.append(e.low <= truth <= e.high)
    off = np.abs(np.array(measured) - estimated).mean()
    constant = np.abs(np.array(measured) - np.mean(measured)).mean()
    assert off < 0.5 * constant and np.mean(covered) >= 0.8
    assert from_record(judged.calibration).model == "segmenter"


def test_one_large_object_can_be_trusted_and_the_unit_of_the_scores_is_said(judged: Bundle) -> None:
    image, _ = draw(5, 8.0)
    v = assess(image, judged)
    assert 0 < len(v.detections) < 5 and v.verdict == "trust"
    assert any("of pixels, not of objects" in r for r in v.reasons)


def test_without_a_calibration_the_network_is_asked_once(bright: Bundle, monkeypatch) -> None:
    asked = []
    plain = segmentation.tiled_logits

    def counted(*given, **how):
        asked.append(1)
        return plain(*given, **how)

    monkeypatch.setattr(segmentation, "tiled_logits", counted)
    assert assess(draw(5, 8.0)[0], bright).verdict == "review" and len(asked) == 1


def test_a_few_labelled_images_adapt_it_and_boxes_do_not_do(judged: Bundle, tmp_path) -> None:
    for i in range(6):
        image, mask = draw(50 + i, 1.0)
        tifffile.imwrite(tmp_path / f"im{i}.tif", image.pixels)
        (tmp_path / "labels").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "labels" / f"im{i}.tif", mask.astype(np.uint16))
    words = [str(tmp_path / f"im{i}.tif") for i in range(6)]
    adapted = calibrate(words, tmp_path / "labels", judged)
    assert from_record(adapted.calibration).labelled is not None
    boxes = {
        "images": [{"id": i, "file_name": f"im{i}.tif", "width": 96, "height": 96} for i in range(6)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(6)],
        "categories": [{"id": 1, "name": "particle"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    with pytest.raises(CalibrationError, match="a segmenter is scored by pixels"):
        calibrate(words, tmp_path / "boxes.json", judged)


def test_rows_of_nothing_found_and_nothing_there_have_f1_of_one() -> None:
    image, mask = draw(1, 3.0)
    nothing = Detections(image_shape=image.shape, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), masks=())
    told = dict.fromkeys(SEGMENTER_FEATURES, 0.0)
    empty = pixel_row(image, nothing, told, np.zeros_like(mask), domain="A")
    missed = pixel_row(image, nothing, told, mask, domain="A")
    assert (empty.f1, empty.precision, empty.recall) == (1, 1, 1)
    assert (missed.f1, missed.precision, missed.recall) == (0, 0, 0)
    whole = replace(
        nothing,
        boxes_xyxy=np.array([[0.0, 0, 96, 96]]),
        scores=np.ones(1),
        masks=(InstanceMask(y=0, x=0, pixels=np.ones_like(mask)),),
    )
    all_of_it = pixel_row(image, whole, told, mask, domain="A")
    assert (all_of_it.precision, all_of_it.recall) == (pytest.approx(mask.mean()), 1)
    assert all_of_it.f1 == pytest.approx(2 * mask.mean() / (1 + mask.mean()))
    with pytest.raises(CalibrationError, match="different sizes"):
        pixel_row(image, nothing, told, mask[:50], domain="A")


def focused(defocus_nm: float) -> Micrograph:
    image = draw(5, 8.0)[0]
    return replace(image, defocus=10 * defocus_nm, sources={"defocus": GIVEN})


@pytest.mark.parametrize(("at", "beyond"), [(-20, 0), (40, 0), (100, 0), (140, 40), (-50, 30)])
def test_a_focus_is_placed_beside_those_of_the_training(at: float, beyond: float) -> None:
    placed = place(focused(at), TRAINED)
    assert placed.beyond == pytest.approx(10 * beyond) and placed.told_by.startswith("as it was given")
    assert 0 < placed.shared <= 1


def test_all_is_shared_with_a_training_at_the_same_focus_and_less_with_another() -> None:
    one = {"conditions": {"defocus_nm": [50, 50]}, "energies": [300e3]}
    assert place(focused(50), one).shared == pytest.approx(1)
    assert place(focused(120), one).shared < 0.9


def test_the_map_is_read_at_the_focus_and_nowhere_else() -> None:
    known = {"defocus_nm": [-20, 0, 100], "dose": [50, 400], "f1": [[0.2, 0.0, 0.6], [0.6, 0.4, 0.8]]}
    training = {**TRAINED, "map": known}
    assert place(focused(0), training).known_f1 == pytest.approx((0.0, 0.4))
    assert place(focused(50), training).known_f1 == pytest.approx((0.3, 0.6))
    assert place(focused(101), training).known_f1 is None
    assert place(focused(50), TRAINED).known_f1 is None


@pytest.mark.parametrize(
    "training", [{}, {"conditions": {"dose": [30, 100]}}, {"conditions": {}, "energies": [300e3]}]
)
def test_a_training_that_names_no_focus_places_nothing(training: dict) -> None:
    assert place(focused(10), training) is None


def test_without_pixel_size_or_rings_nothing_is_placed() -> None:
    assert place(replace(focused(10), pixel_size=None), TRAINED) is None
    assert place(draw(5, 8.0)[0], TRAINED) is None  # 96 pixels of white noise
    # What a file says of its defocus is nominal: rings tell, or a person.
    assert place(replace(focused(10), sources={"defocus": "Velox Defocus"}), TRAINED) is None


def said(placed: Placed | None) -> list[tuple[str, str]]:
    evidence = Evidence(
        detections=segmented(), outlook=None, bundle_name="b", pixel_size=0.5, pixels=True, placed=placed
    )
    return [tuple(f) for f in weigh(evidence, Policy())]


def segmented() -> Detections:
    return Detections(image_shape=(9, 9), boxes_xyxy=np.array([[0.0, 0, 3, 3]]), scores=np.array([0.95]))


def test_a_focus_beyond_the_training_asks_for_a_look_and_says_what_is_shared() -> None:
    beyond = Placed(defocus=1400.0, told_by="by its Thon rings", trained=(-200.0, 1000.0), shared=0.61)
    assert (
        "review",
        "It was taken 140 nm under focus, by its Thon rings, 40 nm beyond the training (-20 to 100 nm); "
        "61% of what it transfers was in the training images too.",
    ) in said(beyond)
    inside = replace(beyond, defocus=-150.0, known_f1=(0.43, 0.83))
    assert said(inside)[-1] == (
        "trust",
        "It was taken 15 nm over focus, by its Thon rings, as training images were; on simulated images at "
        "this focus the mean F1 was 0.43 to 0.83, by dose.",
    )
    assert not any("focus" in words for _, words in said(None))


def test_the_bundle_tells_and_draws_where_it_can_be_trusted(judged: Bundle, tmp_path) -> None:
    known = {"defocus_nm": [-20, 0, 100], "dose": [50, 400], "f1": [[0.2, 0.0, 0.6], [0.6, 0.4, 0.8]]}
    mapped = replace(judged, training={**judged.training, "map": {**known, "pixel_size": 0.4}})
    lines = dict(about_bundle(mapped))
    assert "simulated at 0.04 nm a pixel" in lines["map"]
    assert lines["400 e/Å²"].split() == ["0.60", "0.40-", "0.80+"]
    assert lines["underfocus, nm"].split() == ["-20", "0", "100"]
    figure = draw_trust_map(trust_map(mapped.training), DEFAULT_POLICY)
    assert [t.get_text() for t in figure.axes[0].texts] == ["0.20", "0.00", "0.60", "0.60", "0.40", "0.80"]
    place_, out = tmp_path / "mapped.safetensors", tmp_path / "map.png"
    write_bundle(mapped, place_)
    done = CliRunner().invoke(app, ["info", str(place_), "--plot", str(out)])
    assert done.exit_code == 0 and out.stat().st_size > 5000
    done = CliRunner().invoke(app, ["info", "cavities", "--plot", str(out)])
    assert done.exit_code == 2 and "holds no map" in done.stderr


@pytest.mark.parametrize(
    "known",
    [
        {"defocus_nm": [1, 0], "dose": [1], "f1": [[0.5, 0.5]]},
        {"defocus_nm": [0, 1], "dose": [1], "f1": [[0.5]]},
        {"defocus_nm": [0, 1], "dose": [1], "f1": [[0.5, 1.5]]},
        {"defocus_nm": [], "dose": [], "f1": []},
        {"defocus_nm": [0, 1], "dose": [1]},
        {"defocus_nm": ["a"], "dose": [1], "f1": [[1]]},
        [1, 2],
    ],
)
def test_a_map_that_is_none_is_refused(known) -> None:
    with pytest.raises(BundleError, match="map"):
        trust_map({"map": known})
