"""What other tools and people wrote, as a user gives it: `assess`, `calibrate`, `particles extract`."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from made_detections import WRITERS
from passband.cli import app
from passband.detections.files import write_coco
from passband.detectors.segment import object_mask
from passband.kinds import assess
from passband.micrographs.readers import read_micrograph
from passband.types import InstanceMask

pytestmark = pytest.mark.usefixtures("fake_detector")
SIDE = 96


@pytest.fixture
def call(bundle_path):
    def run(*words):
        words = [str(w) for w in words]
        if words[0] in ("assess", "calibrate"):
            words += ["--bundle", str(bundle_path)]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert "Traceback" not in done.output
        return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def images(tmp_path, discs):
    """A folder with a.tif and b.tif, and the truth of each."""
    folder, truth = tmp_path / "images", {}
    folder.mkdir()
    for i, name in enumerate(("a.tif", "b.tif")):
        micrograph, truth[name] = discs(1003 + i, noise=0.2)
        tifffile.imwrite(
            folder / name, micrograph.pixels, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "nm"}
        )
    return folder, truth


def boxes_of(d):
    return [tuple(map(int, box)) for box in d.boxes_xyxy.tolist()]


def told(done):
    """Count of detections by name, and the notes, of what `assess --json` printed."""
    document = json.loads(done.out)
    for note in document["notes"]:
        assert done.err.count(note) == 1
    counts = {m["path"].rpartition("/")[2]: m["detections"]["count"] for m in document["micrographs"]}
    return counts, document["notes"]


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_is_judged(call, images, tmp_path, form):
    folder, truth = images
    given = tmp_path / "given"
    given.mkdir()
    for name in ("a", "b"):
        path = WRITERS[form](given, name, boxes_of(truth[f"{name}.tif"]), (SIDE, SIDE))
    done = call("assess", folder, "--detections", path if form == "label_studio" else given, "--json")
    counts, _ = told(done)
    if form == "label_studio":
        assert (done.status, counts) == (2, {"b.tif": 9})
    else:
        assert (done.status, counts) == (0, {"a.tif": 9, "b.tif": 9})


def test_masks_beside_images_are_masks_and_images_are_no_labels(call, images):
    folder, truth = images
    for name in ("a", "b"):
        labels = np.zeros((SIDE, SIDE), np.uint16)
        for i, m in enumerate(truth[f"{name}.tif"].masks, 1):
            h, w = m.pixels.shape
            labels[m.y : m.y + h, m.x : m.x + w][m.pixels] = i
        Image.fromarray(labels).save(folder / f"{name}_cp_masks.png")
    counts, notes = told(call("assess", folder, "--detections", folder, "--json"))
    assert counts == {"a.tif": 9, "b.tif": 9}
    assert notes == ["2 masks beside images are no micrograph: a_cp_masks.png, b_cp_masks.png"]
    alone = call("assess", folder / "a_cp_masks.png")
    assert alone.status == 2 and "is a mask of a.tif beside it" in alone.err
    listed = call("assess", *sorted(folder.iterdir()), "--detections", folder, "--json")
    assert told(listed)[0] == counts


def test_a_binary_mask_becomes_its_objects_and_says_so(call, images, tmp_path):
    folder, truth = images
    Image.fromarray((object_mask(truth["a.tif"]) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    counts, notes = told(call("assess", folder / "a.tif", "--detections", tmp_path / "a.png", "--json"))
    assert counts == {"a.tif": 9}
    assert notes == ["a binary mask was split into connected objects, corners included: 9 in all"]


def test_detectron2_names_images_by_number(call, images, tmp_path):
    folder, truth = images
    rows = [
        {"image_id": 40 + i, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.5 + k / 20}
        for i, name in enumerate(truth)
        for k, (x0, y0, x1, y1) in enumerate(boxes_of(truth[name]))
    ]
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "coco_instances_results.json").write_text(json.dumps(rows))
    words = ("assess", folder, "--detections", tmp_path / "inference", "--json")
    without = call(*words)
    assert without.status == 2
    assert "--image-list" in json.loads(without.out)["errors"][0]["error"]
    listed = [
        {"id": 40 + i, "file_name": name, "height": SIDE, "width": SIDE} for i, name in enumerate(truth)
    ]
    listed += [{"id": 99, "file_name": "z.tif", "height": 5, "width": 5}]
    (tmp_path / "truth.json").write_text(json.dumps({"images": listed, "annotations": []}))
    counts, notes = told(call(*words, "--image-list", tmp_path / "truth.json"))
    assert counts == {"a.tif": 9, "b.tif": 9}
    assert any("1 more image" in note for note in notes)


def test_the_threshold_is_the_users_not_the_bundles_and_what_falls_is_said(call, images, tmp_path):
    folder, truth = images
    rows = [
        {"image_id": "a", "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.1 + k / 10}
        for k, (x0, y0, x1, y1) in enumerate(boxes_of(truth["a.tif"]))
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    words = ("assess", folder / "a.tif", "--detections", tmp_path / "r.json", "--json")
    every, notes = told(call(*words))
    assert every == {"a.tif": 9} and not notes
    some, notes = told(call(*words, "--score-threshold", 0.5))
    assert some == {"a.tif": 5}
    assert notes == ["4 of 9 objects scored below 0.5 and were left out"]


def test_one_bad_box_is_told_and_strict_refuses_it(call, images, tmp_path):
    folder, truth = images
    rows = [
        {"image_id": n[0], "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.9}
        for n in truth
        for x0, y0, x1, y1 in boxes_of(truth[n])
    ]
    rows += [
        {"image_id": "a", "bbox": [5, 5, 9, 0], "score": 0.9},
        {"image_id": "a", "bbox": [90, 5, 9, 9], "score": 1.0000001},
        {"image_id": "b", "bbox": [-5, 5, 20, 9], "score": 0.9},
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    words = ("assess", folder, "--detections", tmp_path / "r.json", "--json")
    counts, notes = told(call(*words))
    assert counts == {"a.tif": 10, "b.tif": 10}
    assert [note.partition(":")[0] for note in notes[:3]] == [
        "2 of 21 boxes lay outside and were clipped",
        "1 of 21 scores was a rounding outside [0, 1] and was mended",
        "1 of 21 boxes had no extent and was left out",
    ]
    strict = call(*words, "--strict")
    assert strict.status == 2
    assert "cannot be used strictly" in json.loads(strict.out)["errors"][0]["error"]


def test_classes_are_picked_by_name(call, images, tmp_path):
    folder, truth = images
    kinds = ["void"] * 4 + ["loop"] * 5
    write_coco(
        tmp_path / "x.json", truth, categories=[{"name": "void"}, {"name": "loop"}],
        kinds={n: [["void", "loop"].index(k) for k in kinds] for n in truth},
    )  # fmt: skip
    words = ("assess", folder, "--detections", tmp_path / "x.json", "--json", "--category")
    assert told(call(*words, "void"))[0] == {"a.tif": 4, "b.tif": 4}
    assert told(call(*words, "void", "--category", "loop"))[0] == {"a.tif": 9, "b.tif": 9}
    wrong = call(*words, "voids")
    assert wrong.status == 2
    assert "did you mean void?" in json.loads(wrong.out)["errors"][0]["error"]
    alone = call("assess", folder, "--category", "void", "--json")
    assert alone.status == 2 and "give --detections too" in json.loads(alone.out)["errors"][0]["error"]


def test_detections_of_another_size_are_refused_for_that_image_alone(call, images, discs, tmp_path):
    folder, truth = images
    write_coco(tmp_path / "x.json", {**truth, "b.tif": discs(5, side=120)[1]})
    done = call("assess", folder, "--detections", tmp_path / "x.json", "--json")
    assert done.status == 2
    assert told(done)[0] == {"a.tif": 9}
    (error,) = json.loads(done.out)["errors"]
    assert error["path"].endswith("b.tif")
    assert "'b.tif'" not in error["error"] and "96 x 96, the file says 120 x 120" in error["error"]


def test_the_same_image_under_two_names_of_one_stem_is_told(call, images, tmp_path):
    folder, truth = images
    shutil.copy(folder / "a.tif", folder / "a.tiff")
    for name in ("a", "b"):
        WRITERS["yolo_boxes"](tmp_path, name, boxes_of(truth[f"{name}.tif"]), (SIDE, SIDE))
    done = call("assess", folder, "--detections", tmp_path, "--json")
    assert told(done)[0] == {"b.tif": 9}
    errors = json.loads(done.out)["errors"]
    assert len(errors) == 2 and all("'a' may be any of" in e["error"] for e in errors)


def test_a_report_goes_on_with_anothers_detections(call, images, tmp_path):
    folder, truth = images
    crowd = InstanceMask(y=3, x=5, pixels=np.ones((9, 7), bool))
    truth["a.tif"] = replace(truth["a.tif"], crowds=(crowd,))
    write_coco(tmp_path / "x.json", {**truth, "c.tif": truth["a.tif"]})
    words = ("assess", folder, "--detections", tmp_path / "x.json", "--report", tmp_path / "report")
    assert call(*words).status == 0
    written = (tmp_path / "report" / "detections.coco.json").read_text()
    assert written.count('"iscrowd": 1') == 1
    notes = json.loads((tmp_path / "report" / "results.json").read_text())["notes"]
    assert notes and notes[0] in html.unescape((tmp_path / "report" / "report.html").read_text())
    assert "2 of them from an earlier run" in call(*words).out
    assert (tmp_path / "report" / "detections.coco.json").read_text() == written
    assert read_micrograph(folder / "a.tif").shape == (SIDE, SIDE)


# ---- calibrate -------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path, discs):
    """Forty images of one folder and their truth."""
    folder, truth = tmp_path / "mine", {}
    folder.mkdir()
    for i in range(40):
        micrograph, truth[f"{i}.tif"] = discs(i, noise=(0.2, 2.5)[i % 2])
        tifffile.imwrite(folder / f"{i}.tif", micrograph.pixels, metadata=None)
    return folder, truth


def test_calibrate_goes_on_without_what_cannot_be_used(call, labelled, discs, tmp_path):
    folder, truth = labelled
    shutil.copy(folder / "1.tif", folder / "copy.tif")
    given = {
        **truth,
        "2.tif": discs(2, side=120)[1],
        "copy.tif": truth["1.tif"],
        "elsewhere.tif": truth["3.tif"],
    }
    del given["4.tif"]
    write_coco(tmp_path / "t.json", given)
    words = ("calibrate", "--images", folder, "--annotations", tmp_path / "t.json")
    done = call(*words, "--out", tmp_path / "mine.safetensors")
    assert done.status == 0, done.err
    assert "38 labelled images" in call("info", tmp_path / "mine.safetensors").out
    assert done.out.count("not used: ") == 3
    for part in ("copy.tif: is the same image as", "the file says 120 x 120", "says nothing of this image"):
        assert part in done.out
    assert "2 more images than are given" in done.err  # the copy among them
    strict = call(*words, "--out", tmp_path / "none.safetensors", "--strict")
    assert strict.status == 2 and not (tmp_path / "none.safetensors").exists()


def test_calibrate_wonders_at_images_where_hardly_anything_found_is_right(call, tmp_path, discs):
    """Of a bundle that knows how domains differ: labelled images are adapted to, and told to be odd."""
    truth = {}
    for folder, noise, count in (("quiet", 0.2, 20), ("loud", 1.5, 20), ("odd", 0.2, 6)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            micrograph, d = discs(i, noise=noise)
            tifffile.imwrite(tmp_path / folder / f"{folder}{i}.tif", micrograph.pixels, metadata=None)
            if folder == "odd":  # what is there is small and elsewhere
                boxes = np.array([[1.0, 1, 4, 4], [90, 90, 93, 93]])
                d = replace(d, boxes_xyxy=boxes, scores=np.ones(2), masks=None)
            truth[f"{folder}{i}.tif"] = d
    write_coco(tmp_path / "t.json", truth)
    known = tmp_path / "known.safetensors"
    words = ["calibrate", "--annotations", tmp_path / "t.json", "--json", "--images"]
    both = call(*words, tmp_path / "quiet", "--images", tmp_path / "loud", "--out", known)
    anew = json.loads(both.out)
    assert 0 < anew["after"]["mae"] < 0.3
    assert not any("lie outside" in note for note in anew["notes"])
    done = CliRunner().invoke(
        app,
        [
            *map(str, words),
            str(tmp_path / "odd"),
            "--bundle",
            str(known),
            "--out",
            str(tmp_path / "o.safetensors"),
        ],
    )
    odd = json.loads(done.stdout)
    assert odd["measured_f1"] < 0.1 and any("are they of what" in note for note in odd["notes"])


def test_calibrate_refuses_truth_without_an_object_and_truth_of_other_images(call, labelled, tmp_path):
    folder, truth = labelled
    write_coco(tmp_path / "empty.json", {n: d.above(2) for n, d in truth.items()})
    words = ("calibrate", "--images", folder, "--out", tmp_path / "none.safetensors", "--annotations")
    empty = call(*words, tmp_path / "empty.json")
    assert empty.status == 2 and "holds no object on any of the 40 images" in empty.err
    write_coco(tmp_path / "others.json", {f"run2_{n}": d for n, d in truth.items()})
    others = call(*words, tmp_path / "others.json")
    assert others.status == 2
    assert "not among those given: 'run2_0.tif'" in others.err and "nearest" in others.err
    write_coco(tmp_path / "t.json", truth)
    other = call(*words, tmp_path / "t.json", "--category", "loop")
    assert other.status == 2 and "does not tell the classes of its objects" in other.err
    assert not (tmp_path / "none.safetensors").exists()


def _every_other(d):
    return {"boxes_xyxy": d.boxes_xyxy[::2], "scores": d.scores[::2], "masks": d.masks and d.masks[::2]}


def test_score_tells_classes_apart_and_leaves_crowds_out(call, labelled, tmp_path):
    folder, truth = labelled
    kinds = [{"name": "void"}, {"name": "loop"}]
    places = {n: [i % 2 for i in range(len(d))] for n, d in truth.items()}
    write_coco(tmp_path / "t.json", truth, categories=kinds, kinds=places)
    voids = {n: replace(d, **_every_other(d)) for n, d in truth.items()}
    write_coco(tmp_path / "f.json", voids, categories=kinds[:1])
    words = ("score", "--images", folder, "--annotations", tmp_path / "t.json", "--json", "--detections")
    bare = json.loads(call(*words, tmp_path / "f.json", "--out", tmp_path / "rows.csv").out)
    assert "found of each class: loop 0 of 160, void 200 of 200" in " ".join(bare["notes"])
    write_coco(tmp_path / "g.json", truth, categories=kinds, kinds=places)
    both = json.loads(call(*words, tmp_path / "g.json", "--out", tmp_path / "rows.csv").out)
    assert both["by_class"] == {"loop": 1.0, "void": 1.0} and both["f1"] == 1
    # With two of three objects crowds, what is found there is neither right nor wrong.
    document = json.loads((tmp_path / "t.json").read_text())
    for i, row in enumerate(document["annotations"]):
        row["iscrowd"] = int(i % 3 > 0)
    (tmp_path / "t.json").write_text(json.dumps(document))
    crowds = json.loads(call(*words, tmp_path / "g.json", "--out", tmp_path / "rows.csv").out)
    assert crowds["precision"] == crowds["recall"] == 1


# ---- particles -------------------------------------------------------------------------------------------


def test_particles_are_cut_by_outlines_of_any_form(call, images, tmp_path):
    folder, truth = images
    for name in ("a", "b"):
        WRITERS["qupath"](tmp_path, name, boxes_of(truth[f"{name}.tif"]), (SIDE, SIDE))
    path = tmp_path / "b.geojson"
    document = json.loads(path.read_text())
    document["features"].append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}})
    path.write_text(json.dumps(document))
    words = ("particles", "extract", folder, "--detections", tmp_path, "--least-diameter-px", 1, "--json")
    done = call(*words, "--out", tmp_path / "lib")
    document = json.loads(done.out)
    assert (done.status, document["particles"]) == (0, 18), done.err
    assert document["notes"] == [
        "1 of 19 features was no polygons and was left out: b.geojson feature 9 ('Point')"
    ]
    strict = call(*words, "--out", tmp_path / "other", "--strict")
    assert strict.status == 2
    assert "strictly" in json.loads(strict.out)["errors"][0]["error"]


# ---- one JSON object, always -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("assess", "gone.tif", "--json"),
        ("assess", "gone/", "--json", "--detections", "gone.json"),
        ("assess", "--json"),
        ("assess", "a.tif", "--json", "--trust-f1", "high"),
        ("assess", "a.tif", "--json", "--trust-f1", "7"),
        ("evaluate", "gone.csv", "--json"),
        ("particles", "extract", "gone.tif", "--out", "gone", "--json"),
        ("particles", "classify", "gone", "gone.bundle", "--json"),
    ],
)
def test_json_is_one_object_also_where_everything_failed(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    assert document.get("errors") or document.get("skipped")


def test_the_document_of_python_and_of_the_command_are_the_same(call, images, bundle):
    folder, _ = images
    path = str(folder / "a.tif")
    done = call("assess", path, "--json")
    assert done.out == assess(read_micrograph(path), bundle).to_json()
