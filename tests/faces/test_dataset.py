from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from made_dataset import made_dataset, tree, write_study
from passband.cli import app
from passband.detections.files import read_detections
from passband.hrtem.dataset.dataset import open_dataset
from passband.micrographs.readers import read_micrograph

Call = Callable[..., SimpleNamespace]


@pytest.fixture
def call() -> Call:
    def run(*words: object) -> SimpleNamespace:
        done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
        assert "Traceback" not in done.output
        return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(made_dataset(), tmp_path / "set"))


def test_simulate_says_what_it_made_and_resumes(call, tmp_path) -> None:
    study, out = write_study(tmp_path, scenes=4), tmp_path / "set"
    words = ("simulate", "hrtem", study, "--out", out, "--workers", 1)
    refused = call(*words, "--resume")
    assert (refused.status, refused.out) == (2, "")
    assert "no dataset to go on with" in refused.err
    assert not out.exists()
    first = call(*words)
    assert first.status == 0
    assert first.out.startswith(f"4 scenes, 2 micrographs of each, in {out}")
    assert (out / "study.toml").read_text() == study.read_text()
    again = call(*words, "--resume")
    assert again.out.startswith("4 scenes, 4 of them from an earlier run")
    assert tree(out) == tree(made_dataset(4))


def test_simulate_names_every_fault_and_writes_nothing(call, tmp_path) -> None:
    study = tmp_path / "study.toml"
    study.write_text("scenes = 0\nsed = 3\n[imaging]\ndose = -1")
    done = call("simulate", "hrtem", study, "--out", tmp_path / "set")
    assert (done.status, done.out) == (2, "")
    for words in (
        "3 faults",
        "scenes must be at least 1",
        "did you mean seed?",
        "dose must be more than zero",
    ):
        assert words in done.err
    assert not (tmp_path / "set").exists()
    for wrong in (tmp_path, tmp_path / "none.toml"):
        assert call("simulate", "hrtem", wrong, "--out", tmp_path / "set").status == 2


def test_check_says_that_all_is_well_or_what_is_wrong(call, folder) -> None:
    done = call("dataset", "check", folder)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{folder} is whole: 32 scenes, every checksum right\n"
    (folder / "waves/c/3/0/0").write_bytes(b"short")
    (folder / "records/shard_00007.json").unlink()
    done = call("dataset", "check", folder)
    assert done.status == 2
    assert f"scene 6: its waves in {folder}/waves/c/3/0/0 cannot be read" in done.out
    assert "2 of 32 scenes are not simulated yet" in done.out
    assert f"`passband simulate hrtem {folder}/study.toml --out {folder}` makes anew" in done.out
    done = call("dataset", "check", folder, "--json")
    found = json.loads(done.out)
    assert (done.status, found["passed"], found["whole"], found["unfinished"]) == (2, False, 28, [14, 15])
    assert len(found["faults"]) == 2


@pytest.mark.parametrize("words", [("check",), ("show",), ("show", "--report"), ("export", "--out", "x")])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "tiff"])
def test_what_is_no_dataset_is_told_in_a_line(call, tmp_path, words: tuple[str, ...], kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "tiff":
        path.mkdir()
        (path / "image.tif").write_bytes(b"II*\0")
    done = call("dataset", words[0], path, *words[1:])
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert str(path) in done.err
    assert "passband simulate hrtem" in done.err


def test_show_in_words_and_as_json(call, folder) -> None:
    done = call("dataset", "show", folder)
    assert done.status == 0
    lines = dict(line.split(":", 1) for line in done.out.splitlines())
    assert lines["scenes"].strip() == "32; 2 micrographs of each"
    assert lines["splits"].strip() == "train 16, validation 8, test 8 scenes"
    assert lines["field"].strip() == "1.92 x 2.56 nm, pixels of 0.04 nm"
    assert lines["particles"].strip() == "32: Au 32"
    assert "defocus 2 to 10 nm" in lines["imaging"]
    assert "dose 1000 e/Å²" in lines["imaging"]
    summary = json.loads(call("dataset", "show", folder, "--json").out)
    assert (summary["scenes"], summary["materials"]) == (32, {"Au": 32})
    (folder / "records/shard_00007.json").unlink()
    assert "30 of them finished" in call("dataset", "show", folder).out


def test_show_makes_a_contact_sheet(call, folder, tmp_path) -> None:
    done = call("dataset", "show", folder, "--report", "--out", tmp_path / "sheet", "--count", 3)
    assert done.status == 0
    page = (tmp_path / "sheet" / "contact_sheet.html").read_text()
    assert page.count("<figure") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    with Image.open(tmp_path / "sheet" / "contact_sheet.png") as picture:
        assert picture.width > 400
    assert tree(folder) == tree(made_dataset())
    assert call("dataset", "show", folder, "--report", "--count", 1).status == 0
    assert (folder / "report" / "contact_sheet.html").exists()
    assert call("dataset", "check", folder).status == 0


def test_export_to_tiff_and_coco(call, folder, tmp_path) -> None:
    out = tmp_path / "tiff"
    done = call("dataset", "export", folder, "--out", out)
    assert (done.status, done.out) == (0, f"64 micrographs in {out}\n")
    dataset = open_dataset(folder)
    seen = 0
    for split in ("train", "validation", "test"):
        truth = read_detections(out / split / "truth.coco.json")
        assert sorted(truth) == sorted(p.name for p in (out / split).glob("*.tif"))
        for number in dataset.split(split):
            scene = dataset.scene(number)
            for place, image in enumerate(scene.images().numpy()):
                micrograph = read_micrograph(out / split / f"scene_{number:04d}_{place:02d}.tif")
                np.testing.assert_array_equal(micrograph.pixels, image)
                assert micrograph.pixel_size == pytest.approx(0.4)
                covered = np.zeros(scene.labels.shape, bool)
                for mask in truth[f"scene_{number:04d}_{place:02d}.tif"].masks:
                    h, w = mask.pixels.shape
                    covered[mask.y : mask.y + h, mask.x : mask.x + w] |= mask.pixels
                assert not (covered & (scene.labels == 0)).any()
                assert (covered != (scene.labels > 0)).sum() < 3 * 64 + 3 * 48  # slivers at the border
                seen += 1
        document = json.loads((out / split / "truth.coco.json").read_text())
        (kind,) = document["categories"]
        assert (kind["name"], kind["material"], kind["shape"]) == ("Au sphere", "Au", "sphere")
        assert {a["category_id"] for a in document["annotations"]} == {kind["id"]}
    assert seen == 64
    rows = list(csv.DictReader((out / "conditions.csv").read_text().splitlines()))
    scene = dataset.scene(int(rows[5]["scene"]))
    assert float(rows[5]["C10"]) == scene.conditions[int(rows[5]["place"])].C10
    assert {row["terms"] for row in rows} <= {"1", "2"}  # a focal spread of 10 Å
    assert all((out / row["image"]).exists() for row in rows)


def test_export_to_npz_of_one_split_resumes_and_refuses_other_folders(call, folder, tmp_path) -> None:
    out = tmp_path / "npz"
    words = ("dataset", "export", folder, "--out", out, "--format", "npz", "--split", "test")
    assert call(*words).out == f"16 micrographs in {out}\n"
    dataset = open_dataset(folder)
    assert sorted(p.name for p in out.iterdir()) == ["conditions.csv", "export.json", "test"]
    for number in dataset.split("test"):
        scene = dataset.scene(number)
        with np.load(out / "test" / f"scene_{number:04d}.npz") as content:
            np.testing.assert_array_equal(content["images"], scene.images().numpy())
            np.testing.assert_array_equal(content["labels"], scene.labels)
            assert content["C10"].tolist() == [c.C10 for c in scene.conditions]
    first = out / "test" / f"scene_{dataset.split('test')[0]:04d}.npz"
    when = first.stat().st_mtime_ns
    before = tree(out)
    assert call(*words).status == 0
    assert first.stat().st_mtime_ns == when
    assert tree(out) == before
    refused = call("dataset", "export", folder, "--out", out)
    assert (refused.status, refused.out) == (2, "")
    assert "holds no export of this dataset" in refused.err


def test_export_of_an_unfinished_or_damaged_dataset_is_refused(call, folder, tmp_path) -> None:
    (folder / "waves/c/3/0/0").write_bytes(b"short")
    done = call("dataset", "export", folder, "--out", tmp_path / "a")
    assert done.status == 2
    assert "scene 6: its waves" in done.err or "scene 7: its waves" in done.err
    (folder / "records/shard_00003.json").unlink()
    done = call("dataset", "export", folder, "--out", tmp_path / "b")
    assert done.status == 2
    assert "not finished: 30 of 32" in done.err
    assert not (tmp_path / "b").exists()
