"""The two commands of a survey: the machine's contract, and a clear word on every bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from passband.cli import app
from passband.detections.detections import Detections
from passband.detections.files import write_coco

pytestmark = pytest.mark.usefixtures("fake_detector")
CONTRACT = ("f1_mean", "f1_pooled", "precision_mean", "recall_mean", "count_total", "diameter_mean_px")
Call = Callable[..., SimpleNamespace]


@pytest.fixture
def call(bundle_path: Path) -> Call:
    def run(*words: object) -> SimpleNamespace:
        bundle = ("--bundle", bundle_path) if words[0] == "draw" else ()
        done = CliRunner().invoke(app, ["survey", *map(str, (*words, *bundle))], catch_exceptions=False)
        assert "Traceback" not in done.output
        return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def folder(tmp_path: Path, discs) -> Path:
    """Eight images, and beside them what is there."""
    images, truth = tmp_path / "images", {}
    images.mkdir()
    for i in range(8):
        micrograph, truth[f"{i}.npy"] = discs(1000 + i, count=4 + i % 3, noise=0.2 + 0.15 * i)
        np.save(images / f"{i}.npy", micrograph.pixels)
    write_coco(tmp_path / "truth.json", truth)
    return images


def test_the_pair_of_commands_keeps_the_contract(call, folder, tmp_path) -> None:
    task = tmp_path / "task"
    done = call("draw", folder, "--count", 4, "--seed", 2, "--out", task, "--pixel-size-nm", 0.4, "--json")
    assert (done.status, done.err) == (0, "")
    told = json.loads(done.out)
    assert len(told["drawn"]) == 4 and told["n"] == 8 and all(Path(p).parent == folder for p in told["drawn"])
    assert all(Path(p).exists() for p in told["images"])
    again = call("draw", folder, "--count", 4, "--seed", 2, "--out", tmp_path / "b")
    assert again.out.splitlines()[:4] == told["drawn"]
    assert again.out.splitlines()[-1] == f"4 of 8 images drawn: {tmp_path / 'b'} says what to do"
    done = call("result", task, "--annotations", tmp_path / "truth.json", "--json")
    assert (done.status, done.err) == (0, "")
    said = json.loads(done.out)
    assert (said["n"], said["labelled"], said["valid"]) == (8, 4, True)
    for name in CONTRACT:
        q = said[name]
        assert q["coverage"] == 0.9 and q["low"] <= q["value"] <= q["high"]
        assert q["labels_only"]["low"] <= q["labels_only"]["value"] <= q["labels_only"]["high"]
    words = call("result", task, "--annotations", tmp_path / "truth.json")
    assert words.status == 0 and "F1, mean of images" in words.out and "4 more labels would" in words.out
    wide = json.loads(
        call("result", task, "--annotations", tmp_path / "truth.json", "--coverage", 0.99, "--json").out
    )
    width = {n: s["f1_mean"]["high"] - s["f1_mean"]["low"] for n, s in (("wide", wide), ("said", said))}
    assert width["wide"] >= width["said"] > 0


def test_a_bad_image_costs_a_word_and_the_rest_goes_on(call, folder, tmp_path) -> None:
    (folder / "3.npy").write_bytes(b"no image")
    (folder / "again.npy").write_bytes((folder / "5.npy").read_bytes())
    done = call("draw", folder, "--count", 3, "--out", tmp_path / "task", "--json")
    assert done.status == 2
    told = json.loads(done.out)
    assert told["n"] == 7 and len(told["drawn"]) == 3
    assert [Path(e["path"]).name for e in told["errors"]] == ["3.npy"]
    assert "again.npy has the content of" in done.err and "3.npy: " in done.err


def test_bad_input_is_told_in_a_line(call, folder, tmp_path, discs) -> None:
    task, truth = tmp_path / "task", tmp_path / "truth.json"
    assert call("draw", folder, "--count", 3, "--out", task).status == 0
    for words, told in (
        (("draw", folder, "--out", task), "holds a draw already"),
        (("draw", tmp_path / "none", "--out", tmp_path / "x"), "not one image could be judged"),
        (("draw", folder, "--out", tmp_path / "x", "--detections", tmp_path / "no.json"), "does not exist"),
        (("result", folder, "--annotations", truth), "wanted the folder of a survey"),
        (("result", tmp_path / "none", "--annotations", truth), "does not exist"),
        (("result", task, "--annotations", tmp_path / "no.json"), "does not exist"),
        (("result", task, "--annotations", truth, "--coverage", 2), "coverage must lie between 0 and 1"),
    ):
        done = call(*words)
        assert done.status == 2 and done.out == ""
        assert done.err.startswith("passband: ") and told in done.err
    assert not (tmp_path / "x").exists()
    others = tmp_path / "others.json"
    write_coco(others, {"elsewhere.tif": discs(1)[1]})
    done = call("result", task, "--annotations", others)
    assert done.status == 2 and "images that are not among those given" in done.err
    empty = Detections(image_shape=(96, 96), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    write_coco(tmp_path / "empty.json", {f"{i}.npy": empty for i in range(8)})
    done = call("result", task, "--annotations", tmp_path / "empty.json", "--json")
    assert done.status == 0 and json.loads(done.out)["valid"] is False
    assert "not valid: the annotations hold no object" in done.err
    record = task / "draw.json"
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    done = call("result", task, "--annotations", truth)
    assert done.status == 2 and "was cut or edited" in done.err
