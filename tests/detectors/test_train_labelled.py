"""A detector of one's own labels: what is held out, what network it is, and that it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from passband.cavities.draws import draw_set
from passband.cavities.image import simulate_cavities
from passband.cli import app
from passband.detections.detections import Detections
from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled, LabelledImages, read_labelled
from passband.detections.measured import best_threshold, measured_scores
from passband.detectors import train_labelled
from passband.detectors.bundle import SHIPPED, default_bundle, read_bundle, write_bundle
from passband.detectors.config import SLIM
from passband.detectors.infer import detect
from passband.detectors.rescale import resized_labelled, resized_mask
from passband.detectors.train_labelled import OwnTraining, config_for, split, train_on_labelled
from passband.errors import CalibrationError, ParameterError
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

SIDE = 128


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def drawn(folder: Path, count: int, *, seed: int = 0, outlines: bool = True) -> None:
    """Images of bright and dark squares, and in text as YOLO has it the dark ones."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for n in range(count):
        pixels, lines = rng.normal(100, 10, (SIDE, SIDE)), []
        for i, place in enumerate(rng.permutation(9)[:7]):
            y, x = 8 + 40 * np.array(divmod(int(place), 3))
            side = int(rng.integers(14, 24))
            pixels[y : y + side, x : x + side] += -60 if i < 4 else 60
            if i >= 4:
                continue
            x0, y0, x1, y1 = x / SIDE, y / SIDE, (x + side) / SIDE, (y + side) / SIDE
            corners = (x0, y0, x1, y0, x1, y1, x0, y1)
            box = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
            lines.append(" ".join(["0", *(f"{v:.6f}" for v in (corners if outlines else box))]))
        tifffile.imwrite(folder / "images" / f"{n:02}.tif", pixels.clip(0, 255).astype(np.uint8))
        (folder / "labels" / f"{n:02}.txt").write_text("\n".join(lines))


def labelled_in(folder: Path) -> Labelled:
    return Labelled(
        images=[str(folder / "images")], annotations=DetectionsFile(path=folder / "labels"), reading=Reading()
    )


def truth_of_boxes(boxes, shape=(512, 512), **more) -> Detections:
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    return Detections(image_shape=shape, boxes_xyxy=boxes, scores=np.ones(len(boxes)), **more)


def folders_of(counts: dict[str, int]) -> LabelledImages:
    one = truth_of_boxes([[0, 0, 20, 20]])
    paths = [f"{folder}/{i}.tif" for folder, count in counts.items() for i in range(count)]
    return LabelledImages(reading=Reading(), truth=dict.fromkeys(paths, one), found={}, unused=(), notes=())


def test_what_is_held_out_is_about_the_share_and_stays_as_labels_are_added():
    """Else an image that a first detector was trained on would measure the one that goes on from it."""
    shares = []
    for seed in range(20):
        training = OwnTraining(validate=0.2, seed=seed)
        trained: set[str] = set()
        for count in (5, 10, 20, 60):
            usable = folders_of({"a": count, "b": count // 2})
            kept, held = split(usable, training)
            assert sorted((*kept, *held)) == sorted(usable.truth) and held
            assert not trained & set(held)
            trained |= set(kept)
        shares.append(len(held) / len(usable.truth))
    assert 0.17 < np.mean(shares) < 0.23
    seeds = [split(usable, OwnTraining(seed=seed))[1] for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_whole_folders_are_held_out_where_that_is_asked_for():
    counts = {"a": 4, "b": 9, "c": 2, "d": 1}
    usable = folders_of(counts)
    for seed in range(9):
        kept, held = split(usable, OwnTraining(validate=0.9, split="folder", seed=seed))
        out = {Path(p).parent.name for p in held}
        assert 1 <= len(out) <= 3 and kept and len(held) == sum(counts[f] for f in out)
    with pytest.raises(ParameterError, match="all labelled images are in one"):
        split(folders_of({"a": 9}), OwnTraining(split="folder"))


@pytest.mark.parametrize(("count", "validate", "held"), [(1, 0.2, 0), (2, 0.2, 1), (2, 0.9, 1), (10, 0.0, 0)])
def test_of_two_images_one_is_held_out_and_of_one_none(count, validate, held):
    assert len(split(folders_of({"a": count}), OwnTraining(validate=validate))[1]) == held


def test_an_object_must_be_left_to_train_on():
    usable = folders_of({"a": 2})
    only = {path: d if i else d.of([]) for i, (path, d) in enumerate(usable.truth.items())}
    seeds = [s for s in range(9) if split(usable, OwnTraining(seed=s))[1] == tuple(usable.truth)[1:]]
    with pytest.raises(ParameterError, match="no labelled object is left to train on: 1 image of 2"):
        split(replace(usable, truth=only), OwnTraining(seed=seeds[0]))
    for wrong in (-0.1, 1.0):
        with pytest.raises(ParameterError, match="share held out"):
            OwnTraining(validate=wrong)


@pytest.mark.parametrize("sides", [(3, 6), (4, 150), (10, 60), (20, 200), (150, 600), (600, 1500), (30, 30)])
def test_the_network_suits_the_sizes_of_the_labelled_objects(sides):
    """Each object has an anchor of about its size, and a crop holds it."""
    lengths = np.geomspace(*sides, 50)
    boxes = np.stack([0 * lengths, 0 * lengths, lengths, lengths], axis=1)
    config, scale = config_for([truth_of_boxes(boxes, (4096, 4096))], "a", OwnTraining())
    anchors = np.array(config.detector.anchor_sizes).ravel()
    assert len(config.detector.anchor_sizes) == 4 and (np.diff(anchors) > 0).all()
    for length in lengths[2:-2] * scale:
        assert np.exp(abs(np.log(anchors / length)).min()) < 1.75
    assert lengths[-3] * scale < 0.75 * config.crop * (2.5 if config.crop == 256 else 1)
    assert (scale < 1) == (sides[1] > 240) and (scale > 1) == (sides[0] < 5)


def test_crowded_images_leave_room_for_all_they_hold():
    boxes = np.array([[x, y, x + 8, y + 8] for x in range(0, 1000, 10) for y in range(0, 1000, 10)], float)
    config, _ = config_for([truth_of_boxes(boxes, (1024, 1024))], "a", OwnTraining())
    assert config.detector.max_detections >= 10_000 and config.detector.proposals >= 10_000
    few, _ = config_for([truth_of_boxes(boxes[:9], (1024, 1024))], "a", OwnTraining())
    assert few.detector.max_detections == SLIM.max_detections


def test_the_best_threshold_is_chosen_on_all_and_each_image_scored_by_that_of_the_others():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    truth = truth_of_boxes(boxes[:2])
    low = Detections(
        image_shape=(512, 512), boxes_xyxy=np.array(boxes, float), scores=np.array([0.4, 0.4, 0.2])
    )
    high = replace(low, scores=np.array([0.9, 0.9, 0.8]))
    threshold, (one,) = best_threshold([(truth, low)])
    assert threshold == 0.4 and one.f1 == 1
    threshold, scores = best_threshold([(truth, low), (truth, high)])
    # By the other's threshold the first loses its objects, and the second keeps one too many.
    assert [s.f1 for s in scores] == [0, pytest.approx(0.8)]
    assert threshold in (0.4, 0.9)
    best = max(
        np.mean([measured_scores(truth, d.above(t)).f1 for d in (low, high)]) for t in (0.2, 0.4, 0.85, 0.9)
    )
    assert np.mean([measured_scores(truth, d.above(threshold)).f1 for d in (low, high)]) == best


@pytest.fixture
def quick(monkeypatch):
    """Small crops, so that a training takes seconds."""
    real = config_for

    def small(*args):
        config, scale = real(*args)
        return replace(config, crop=96, batch=3), scale

    monkeypatch.setattr(train_labelled, "config_for", small)


@pytest.mark.training
def test_a_detector_learns_what_is_labelled_and_says_how_good_it_became(tmp_path, quick, monkeypatch):
    """It starts from cavities, which are bright, and is to find dark squares among bright ones."""
    monkeypatch.setattr("passband.detectors.train.LOOKS", 2)
    drawn(tmp_path, 8)
    training = OwnTraining(start=SHIPPED, steps=40, validate=0.25)
    trained = train_on_labelled(labelled_in(tmp_path), tmp_path / "out", training)
    assert len(trained.trained) + len(trained.validated) == 8 and trained.validated
    before, after = (np.mean([s.f1 for s in scores]) for scores in (trained.before, trained.after))
    assert before < 0.3 < 0.6 < after
    bundle = read_bundle(tmp_path / "out" / "bundle.safetensors")
    assert bundle.training["held_out"]["f1"] == pytest.approx(after) and bundle.calibration is None
    for path in trained.validated:  # at its threshold the file does what was told
        truth = read_labelled(labelled_in(tmp_path)).truth[path]
        assert measured_scores(truth, detect(Reading().read(path), bundle)).f1 > 0.4
    looks = (tmp_path / "out" / "looks.csv").read_text().splitlines()
    assert looks[0] == "step,threshold,f1,precision,recall" and looks[-1].startswith("40,")


def test_boxes_do_and_images_without_labels_are_told_but_not_trained_on(tmp_path, quick):
    drawn(tmp_path, 3, outlines=False)
    (tmp_path / "labels" / "01.txt").unlink()
    training = OwnTraining(steps=1, validate=0, suggest=3)
    trained = train_on_labelled(labelled_in(tmp_path), tmp_path / "out", training)
    assert trained.label_next == trained.unlabelled
    assert not trained.bundle.detector.masks and trained.after is None and trained.before is None
    assert [Path(p).name for p in trained.trained] == ["00.tif", "02.tif"]
    assert [Path(p).name for p in trained.unlabelled] == ["01.tif"] and not trained.unused
    assert trained.bundle.score_threshold == 0.5


def test_truth_without_an_object_and_images_without_truth_are_errors(tmp_path):
    drawn(tmp_path, 2)
    for name in ("00", "01"):
        (tmp_path / "labels" / f"{name}.txt").write_text("")
    with pytest.raises(CalibrationError, match="holds no object"):
        train_on_labelled(labelled_in(tmp_path), tmp_path / "out", OwnTraining(steps=1))
    assert not (tmp_path / "out").exists()


def test_several_classes_are_told_one_by_one_and_one_that_is_not_trained_on_is_named(tmp_path, quick):
    drawn(tmp_path, 4)
    _, held = split(read_labelled(labelled_in(tmp_path)), OwnTraining())
    for file in (tmp_path / "labels").iterdir():
        lines = file.read_text().splitlines()
        rare = "2" if file.stem == Path(held[0]).stem else "1"
        file.write_text("\n".join([lines[0], *(rare + line[1:] for line in lines[1:])]))
    trained = train_on_labelled(labelled_in(tmp_path), tmp_path / "out", OwnTraining(steps=1))
    assert trained.bundle.detector.classes == ("0", "1", "2")
    assert {"0", "2"} <= set(trained.by_class)
    assert any("no object of 2 is in an image that is trained on" in note for note in trained.notes)


def test_going_on_keeps_a_calibration_of_the_same_network(tmp_path, quick):
    drawn(tmp_path, 3)
    once = train_on_labelled(labelled_in(tmp_path), tmp_path / "out", OwnTraining(steps=1)).bundle
    file = tmp_path / "out" / "bundle.safetensors"
    shipped = default_bundle()
    write_bundle(replace(once, calibration=shipped.calibration, look=shipped.look), file)
    again = train_on_labelled(labelled_in(tmp_path), tmp_path / "out", OwnTraining(steps=1)).bundle
    assert again.calibration is not None and again.look is not None


@pytest.mark.parametrize("scale", [0.37, 0.5, 0.77, 1.43, 2.3])
def test_outlines_are_resized_without_a_shift_and_stay_in_the_image(scale):
    rng = np.random.default_rng(0)
    for _ in range(50):
        y, x, h, w = (*rng.integers(0, 60, 2), *rng.integers(12, 40, 2))
        mask = resized_mask(InstanceMask(y=int(y), x=int(x), pixels=np.ones((h, w), bool)), scale)
        rows, columns = np.flatnonzero(mask.pixels.any(1)), np.flatnonzero(mask.pixels.any(0))
        edges = [mask.y + rows[0], mask.y + rows[-1] + 1, mask.x + columns[0], mask.x + columns[-1] + 1]
        assert np.abs(np.array(edges) - scale * np.array([y, y + h, x, x + w])).max() <= 0.63
    sliver = InstanceMask(y=100, x=20, pixels=np.ones((1, 9), bool))
    truth = truth_of_boxes([[20, 100, 29, 101]], (101, 101), masks=(sliver,), crowds=(sliver,))
    image = Micrograph(pixels=np.eye(101, dtype=np.float32), name="a")
    small, there = resized_labelled(image, truth, scale)
    for m in (*(there.masks or ()), *there.crowds):
        assert m.y + m.pixels.shape[0] <= small.shape[0] and m.x + m.pixels.shape[1] <= small.shape[1]
    assert len(there.masks or ()) == len(there)


def run(*words):
    return CliRunner().invoke(app, ["train", "detector", *map(str, words)])


def test_the_command_prints_one_object_and_goes_on_where_it_was(tmp_path, quick):
    drawn(tmp_path, 4)
    (tmp_path / "images" / "broken.tif").write_bytes(b"II*\0")
    words = [
        "--images",
        tmp_path / "images",
        "--annotations",
        tmp_path / "labels",
        "--out",
        tmp_path / "mine",
    ]
    first = run(*words, "--steps", 2, "--json")
    told = json.loads(first.stdout)
    assert (told["images"], told["used"]) == (5, 4) and len(told["trained"]) == 3
    assert set(told["after"]) == set(told["before"]) == {"f1", "precision", "recall"}
    assert [Path(u["path"]).name for u in told["unused"]] == ["broken.tif"]
    assert Path(told["bundle"]).exists()
    written = (tmp_path / "mine" / "log.csv").read_text()
    again = run(*words, "--steps", 2)  # nothing is left to do
    assert (tmp_path / "mine" / "log.csv").read_text() == written
    assert "now: F1" in again.stdout and "not used:" in again.stdout
    assert "another configuration" in run(*words, "--steps", 3).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "1000"], "give it with --annotations"),
        (["--annotations", "truth.json"], "give these with --images"),
        (["--images", "a", "--annotations", "b", "--backbone", "resnet50"], "--backbone: of training on sim"),
        (["--active", "3"], "--active: of training on your own"),
        (["--images", "no_such_folder", "--annotations", "truth.json"], "no_such_folder"),
    ],
)
def test_half_of_what_is_wanted_says_what_else(tmp_path, words, said):
    result = run(*words, "--out", tmp_path / "out")
    assert result.exit_code == 2 and said in result.stderr and not (tmp_path / "out").exists()


def test_images_of_huge_objects_are_shrunk_and_answers_come_in_their_own_pixels(tmp_path, quick):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    pixels = np.random.default_rng(0).normal(100, 5, (900, 1000))
    pixels[200:700, 300:800] += 80
    tifffile.imwrite(tmp_path / "images" / "a.tif", pixels.astype(np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("0 0.55 0.5 0.5 0.5555556")
    trained = train_on_labelled(labelled_in(tmp_path), tmp_path / "out", OwnTraining(steps=1, validate=0))
    assert trained.bundle.training["image_scale"] == pytest.approx(0.34)
    (record,) = draw_set(["B:under"], 1, seed=3)
    small = simulate_cavities(record).pixels
    large = Micrograph(pixels=np.kron(small, np.ones((3, 3), np.float32)), name="a")
    bundle = replace(default_bundle(), training={"image_scale": 1 / 3})
    there = detect(Micrograph(pixels=small, name="a"), default_bundle())
    found = detect(large, bundle)
    assert found.image_shape == large.shape and len(there) > 3
    assert (
        measured_scores(replace(there, boxes_xyxy=3 * there.boxes_xyxy, image_shape=large.shape), found).f1
        > 0.9
    )
