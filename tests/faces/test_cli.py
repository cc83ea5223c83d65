from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from passband.cavities.image import CavityRecord
from passband.cli import app
from passband.detections.files import write_coco
from passband.detectors.bundle import read_bundle
from passband.estimate.evaluation import page
from passband.estimate.features import CANDIDATE_FEATURES
from passband.estimate.rows import CalibrationRow
from passband.estimate.tables import write_table
from passband.kinds import assess
from passband.micrographs.readers import read_micrograph

pytestmark = pytest.mark.usefixtures("fake_detector")
Call = Callable[..., SimpleNamespace]


@pytest.fixture
def call(bundle_path: Path) -> Call:
    """Run a command; `assess` with the tests' bundle unless another is given."""

    def run(*words: object) -> SimpleNamespace:
        words = [str(w) for w in words]
        if words[0] in ("assess", "calibrate") and "--bundle" not in words:
            words += ["--bundle", str(bundle_path)]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert "Traceback" not in done.output
        return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)

    return run


def write_image(path: Path, pixels: np.ndarray, pixel_size_nm: float | None = 0.4) -> Path:
    if pixel_size_nm is None:
        tifffile.imwrite(path, pixels)
    else:
        per_nm = 1 / pixel_size_nm
        tifffile.imwrite(path, pixels, imagej=True, resolution=(per_nm, per_nm), metadata={"unit": "nm"})
    return path


@pytest.fixture
def folder(tmp_path: Path, discs) -> Path:
    """One image to trust, one to reject, one without a pixel size."""
    images = tmp_path / "images"
    images.mkdir()
    write_image(images / "b_good.tif", discs(1003, noise=0.2)[0].pixels)
    write_image(images / "a_bad.tif", discs(1003, noise=8.0)[0].pixels)
    write_image(images / "c_unknown.tif", discs(1003, noise=0.2)[0].pixels, None)
    (images / "notes.txt").write_text("not an image")
    (images / ".hidden.tif").write_bytes(b"")
    return images


def test_json_is_the_same_bytes_as_the_verdicts(call, folder, bundle) -> None:
    path = str(folder / "b_good.tif")
    done = call("assess", path, "--json")
    assert done.status == 0
    assert done.err == ""
    assert done.out == assess(read_micrograph(path), bundle).to_json()


def test_a_folder_is_its_images_sorted_and_each_once(call, folder) -> None:
    done = call("assess", folder / "b_good.tif", folder, folder / "*.tif", folder / ".." / "images", "--json")
    names = [Path(m["path"]).name for m in json.loads(done.out)["micrographs"]]
    assert names == ["b_good.tif", "a_bad.tif", "c_unknown.tif"]
    assert done.status == 0


def test_the_table_names_file_verdict_estimate_and_reason(call, folder) -> None:
    done = call("assess", folder)
    assert done.status == 0
    lines = {line.split()[0].rsplit("/")[-1]: line for line in done.out.splitlines() if ".tif" in line}
    assert "trust" in lines["b_good.tif"]
    assert "reject" in lines["a_bad.tif"]
    assert "review" in lines["c_unknown.tif"]
    assert "1 trust, 1 review, 1 reject" in done.out


@pytest.mark.parametrize(
    ("fail_on", "file", "status"),
    [
        ("review", "b_good.tif", 0),
        ("review", "c_unknown.tif", 3),
        ("review", "a_bad.tif", 3),
        ("reject", "c_unknown.tif", 0),
        ("reject", "a_bad.tif", 3),
    ],
)
def test_fail_on_sets_the_status(call, folder, fail_on: str, file: str, status: int) -> None:
    assert call("assess", folder / file, "--fail-on", fail_on, "--json").status == status


def test_pixel_size_from_option_and_from_sidecar(call, folder, tmp_path) -> None:
    path = folder / "c_unknown.tif"
    table = tmp_path / "sizes.csv"
    table.write_text("image,pixel_size_nm\nc_unknown.tif,0.4\n")
    for words in (("--pixel-size-nm", 0.4), ("--sidecar", table)):
        (record,) = json.loads(call("assess", path, *words, "--json").out)["micrographs"]
        assert record["verdict"] == "trust"
    for wrong in ("0", "-1", "nan"):
        done = call("assess", path, "--pixel-size-nm", wrong)
        assert done.status == 2
        assert "positive" in done.err


BAD = {
    "truncated.tif": lambda good: good[: len(good) // 3],
    "text.dm4": lambda good: b"hello, this is a text file",
    "empty.png": lambda good: b"",
    "one.npy": lambda good: npy(np.full((1, 1), 5.0)),
    "constant.npy": lambda good: npy(np.full((90, 90), 5.0)),
    "nan.npy": lambda good: npy(np.where(np.eye(90) > 0, np.nan, np.arange(90.0))),
    "huge.npy": lambda good: npy_header((30_000, 30_000)),
    "stack.npy": lambda good: npy(np.random.default_rng(0).normal(size=(3, 90, 90))),
    "bundle.safetensors": lambda good: good,
}


def npy(array: np.ndarray) -> bytes:
    import io

    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npy_header(shape: tuple[int, int]) -> bytes:
    import io

    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return content.getvalue() + bytes(100)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_the_others_are_done(call, folder, tmp_path, name: str) -> None:
    good = folder / "b_good.tif"
    bad = tmp_path / name
    bad.write_bytes(BAD[name](good.read_bytes()))
    done = call("assess", bad, good, "--json", "--report", tmp_path / "report")
    assert done.status == 2
    document = json.loads(done.out)
    assert [m["path"] for m in document["micrographs"]] == [str(good)]
    assert [e["path"] for e in document["errors"]] == [str(bad)]
    assert len(document["errors"][0]["error"]) > 20
    assert str(bad) in done.err
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == document


def test_folders_and_patterns_without_images_and_missing_files(call, folder, tmp_path) -> None:
    (tmp_path / "void").mkdir()
    done = call("assess", tmp_path / "void", tmp_path / "no*.tif", tmp_path / "missing.tif", folder, "--json")
    assert done.status == 2
    document = json.loads(done.out)
    assert len(document["micrographs"]) == 3
    errors = {Path(e["path"]).name: e["error"] for e in document["errors"]}
    assert "holds no micrograph" in errors["void"]
    assert "matches no micrograph" in errors["no*.tif"]
    assert "no such file" in errors["missing.tif"]
    assert call("assess", tmp_path / "void").status == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(call, folder) -> None:
    (folder / "a_bad.tif").chmod(0)
    done = call("assess", folder, "--json")
    assert done.status == 2
    assert "permission" in json.loads(done.out)["errors"][0]["error"]


def test_a_bundle_that_is_damaged_or_missing(call, folder, bundle_path, tmp_path) -> None:
    flipped = bytearray(bundle_path.read_bytes())
    flipped[-20] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(flipped)
    for name, words in (("flipped.safetensors", "damaged"), ("none.safetensors", "cannot be read")):
        done = call("assess", folder, "--bundle", tmp_path / name, "--json")
        document = json.loads(done.out)
        assert (done.status, document["micrographs"], document["notes"]) == (2, [], [])
        assert words in document["errors"][0]["error"]
        assert words in done.err
        assert done.err.count("\n") == 1


def test_another_detectors_file(call, folder, discs, tmp_path) -> None:
    good = folder / "b_good.tif"
    truth = discs(1003)[1]
    write_coco(tmp_path / "mine.json", {"b_good.tif": truth})
    done = call("assess", good, "--detections", tmp_path / "mine.json", "--json")
    (record,) = json.loads(done.out)["micrographs"]
    assert (done.status, record["verdict"]) == (0, "review")
    assert record["detections"]["count"] == len(truth)
    assert "Nothing is known of this detector" in record["reasons"][0]
    some = call("assess", folder, "--detections", tmp_path / "mine.json", "--json")
    assert some.status == 2
    assert len(json.loads(some.out)["micrographs"]) == 1
    write_coco(tmp_path / "other.json", {"z.tif": truth})
    other = call("assess", good, "--detections", tmp_path / "other.json", "--json")
    assert other.status == 2
    assert "z.tif" in json.loads(other.out)["errors"][0]["error"]
    assert "z.tif" in other.err
    write_coco(tmp_path / "higher.json", {"b_good.tif": truth.above(0.7)})
    higher = call("assess", good, "--detections", tmp_path / "higher.json", "--json")
    assert higher.status == 0
    assert json.loads(higher.out)["micrographs"][0]["detections"]["score_threshold"] == 0.7


def test_a_stopped_report_goes_on_with_the_same_bytes(call, folder, tmp_path, monkeypatch) -> None:
    from passband.judge import verdict

    whole = call("assess", folder, "--json", "--report", tmp_path / "whole")
    seen: list[str] = []
    real = verdict.assess_detector

    def until_stopped(micrograph, bundle, **others):
        seen.append(micrograph.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(micrograph, bundle, **others)

    monkeypatch.setattr(verdict, "assess_detector", until_stopped)
    stopped = call("assess", folder, "--json", "--report", tmp_path / "r")
    assert (stopped.status, stopped.out) == (130, "")
    assert "again" in stopped.err
    assert not (tmp_path / "r" / "report.html").exists()
    again = call("assess", folder, "--json", "--report", tmp_path / "r")
    assert len(seen) == 4  # the first of the three was not done again
    assert again.out == whole.out
    for name in ("report.html", "results.csv", "objects.csv", "results.json", "detections.coco.json"):
        assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    third = call("assess", folder, "--report", tmp_path / "r")
    assert len(seen) == 4
    assert "3 of them from an earlier run" in third.out
    call("assess", folder, "--report", tmp_path / "r", "--trust-f1", 0.9)
    assert len(seen) == 7  # another question


def test_a_renamed_copy_is_not_assessed_anew(call, folder, tmp_path) -> None:
    call("assess", folder / "b_good.tif", "--report", tmp_path / "r")
    copy = shutil.copy(folder / "b_good.tif", tmp_path / "copy.tif")
    done = call("assess", copy, "--report", tmp_path / "r")
    assert "1 of them from an earlier run" in done.out
    assert "copy.tif" in (tmp_path / "r" / "results.json").read_text()


def test_a_report_that_cannot_be_written_is_told_before_the_work(call, folder, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = call("assess", folder, "--report", tmp_path / "file")
    assert done.status == 2
    assert "give a folder" in done.err


def test_a_fault_of_our_own_is_one_line(call, folder, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("passband.judge.many.picture_of", broken)
    done = call("assess", folder / "b_good.tif", "--report", folder / "r")
    assert done.status == 2
    assert "unexpected ZeroDivisionError: oops; this is a fault in Passband" in done.err
    monkeypatch.setattr("passband.judge.many.find_micrographs", broken)
    assert call("assess", folder).status == 1


def test_simulate_writes_images_that_can_be_rebuilt_and_resumes(call, tmp_path) -> None:
    out = tmp_path / "sim"
    words = ("simulate", "cavities", "--out", out, "--domain", "B", "--size", 64, "--seed", 3)
    assert call(*words, "--count", 1).status == 0
    first = (out / "B_under_0000.tif").stat().st_mtime_ns
    assert call(*words, "--count", 2).status == 0
    assert (out / "B_under_0000.tif").stat().st_mtime_ns == first
    record = CavityRecord.from_json((out / "records" / "B_under_0001.json").read_text())
    micrograph = read_micrograph(out / "B_under_0001.tif")
    assert micrograph.pixel_size == pytest.approx(record.conditions.pixel_size, rel=1e-5)
    truth = json.loads((out / "truth.coco.json").read_text())
    assert [i["file_name"] for i in truth["images"]] == ["B_under_0000.tif", "B_under_0001.tif"]
    wrong = call("simulate", "cavities", "--out", out, "--domain", "Z")
    assert wrong.status == 2
    assert "no simulated domain 'Z:under'" in wrong.err


def test_images_of_an_instrument_that_was_calibrated_are_told_as_like_images(call, discs, tmp_path) -> None:
    truth = {}
    for i in range(36):
        folder = tmp_path / "mine" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        micrograph, truth[f"{i}.tif"] = discs(i, noise=(0.2, 0.4)[i % 2])
        write_image(folder / f"{i}.tif", micrograph.pixels)
    write_coco(tmp_path / "truth.json", truth)
    out, images = tmp_path / "mine.safetensors", tmp_path / "mine" / "*" / "*.tif"
    given = ("--pixel-size-nm", "0.4", "--instrument", "Talos F200X")
    words = ("calibrate", "--images", images, "--annotations", tmp_path / "truth.json", "--anew")
    assert call(*words, *given, "--out", out).status == 0
    assert "Talos F200X, 0.4 to 0.4 nm a pixel" in call("info", out).out
    judge = ("assess", tmp_path / "mine" / "a", "--bundle", out, "--json")
    like = json.loads(call(*judge, *given).out)["micrographs"]
    others = [
        json.loads(call(*judge, *other).out)["micrographs"]
        for other in (
            (),
            given[:2],
            (*given[:2], "--instrument", "Jeol"),
            ("--pixel-size-nm", "0.5", *given[2:]),
        )
    ]
    assert all("like images" in " ".join(m["reasons"]) for m in like if m["detections"]["count"])
    for other in others:
        assert not any("like images" in " ".join(m["reasons"]) for m in other)
    widths = [
        [m["estimates"]["f1"]["high"] - m["estimates"]["f1"]["low"] for m in some]
        for some in (like, others[0])
    ]
    assert sum(widths[0]) < sum(widths[1])
    resumed = [call(*judge, *who, "--report", tmp_path / "page").out for who in (given, given[:2], given)]
    assert resumed[0] == resumed[2] != resumed[1]  # what is finished is of who took it
    assert call(*words, "--out", tmp_path / "plain.safetensors").status == 0
    assert "narrower for" not in call("info", tmp_path / "plain.safetensors").out


def test_calibrate_fits_a_users_own_images(call, discs, tmp_path) -> None:
    images, truth = tmp_path / "mine", {}
    images.mkdir()
    for i in range(40):
        micrograph, truth[f"{i}.tif"] = discs(i, noise=(0.2, 2.5)[i % 2])
        write_image(images / f"{i}.tif", micrograph.pixels)
    write_coco(tmp_path / "truth.json", truth)
    words = ("calibrate", "--images", images, "--annotations", tmp_path / "truth.json")
    out = tmp_path / "mine.safetensors"
    assert call(*words, "--out", out).status == 0
    assert read_bundle(out).calibration is not None
    said = call("info", out)
    assert "40 labelled images of 1 domains" in said.out
    assert "90% intervals, in-domain only" in said.out
    write_coco(tmp_path / "truth.json", dict(list(truth.items())[:38]))
    some = call(*words, "--out", tmp_path / "some.safetensors")
    assert some.status == 0
    assert some.out.count("not used: ") == 2
    assert "38 labelled images" in call("info", tmp_path / "some.safetensors").out
    few = call(*words, "--out", tmp_path / "none.safetensors", "--strict")
    assert few.status == 2
    assert "2 images cannot be used" in few.err
    assert not (tmp_path / "none.safetensors").exists()


def test_a_few_labelled_images_adapt_what_is_known_of_domains(call, discs, tmp_path) -> None:
    truth = {}
    for folder, noise, count in (("quiet", 0.2, 20), ("loud", 1.5, 20), ("new", 2.5, 5)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            name = f"{folder}{i}.tif"
            micrograph, truth[name] = discs(i, noise=noise)
            write_image(tmp_path / folder / name, micrograph.pixels)
    write_coco(tmp_path / "truth.json", truth)
    known, adapted = tmp_path / "known.safetensors", tmp_path / "adapted.safetensors"
    words = ("calibrate", "--annotations", tmp_path / "truth.json")
    both = ("--images", tmp_path / "quiet", "--images", tmp_path / "loud")
    done = call(*words, *both, "--out", known)
    assert done.status == 0, done.err
    assert "calibrated on held-out domains (loud, quiet)" in done.out
    few = call(*words, "--images", tmp_path / "new", "--out", adapted, "--bundle", known)
    assert few.status == 0, few.err
    assert "like those of 'new': the estimates were adapted to 5 labelled ones" in few.out
    said = {}
    for bundle in (known, adapted):
        (said[bundle],) = json.loads(
            call("assess", tmp_path / "new" / "new0.tif", "--json", "--bundle", bundle).out
        )["micrographs"]
    assert said[known]["estimates"] != said[adapted]["estimates"]
    assert said[known]["detections"] == said[adapted]["detections"]
    assert (
        call(*words, "--images", tmp_path / "new", "--anew", "--out", adapted, "--bundle", known).status == 2
    )


def rows_of(n: int, domains: str = "AB", constant: bool = False) -> list[CalibrationRow]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        f = {name: float(rng.random()) for name in CANDIDATE_FEATURES} | {"count": float(1 + i % 30)}
        f1 = 0.5 if constant else f["mean_score"]
        domain = domains[i % len(domains)]
        rows.append(CalibrationRow(features=f, f1=f1, precision=f1, recall=f1, domain=domain, image=f"{i}"))
    return rows


@pytest.mark.parametrize("model", ["passband", "paper-rf"])
def test_evaluate_keeps_its_machine_contract(call, tmp_path, model, monkeypatch) -> None:
    monkeypatch.setattr("passband.estimate.regressor._N_TREES", 3)  # of paper-rf; the contract is the same
    table = write_table(tmp_path / "rows.csv", rows_of(60, "ABC"))
    words = ("evaluate", table, "--target", "f1", "--protocol", "leave-one-domain-out", "--model", model)
    done = call(*words, "--json")
    assert done.status == 0 and done.err == ""
    said = json.loads(done.out)
    wanted = {"n", "mae", "rmse", "r2", "nrmse", "nmae", "bias", "auroc_below_0_5", "coverage", "abstained"}
    assert wanted | {"domains"} <= set(said)
    assert said["n"] == 60 and 0 < said["mae"] <= said["rmse"] < 0.3
    assert set(said["coverage"]) == {"nominal", "overall", "worst_domain"}
    assert said["coverage"]["worst_domain"] == min(d["coverage"] for d in said["domains"].values())
    assert set(said["domains"]) == {"A", "B", "C"}
    assert all(set(d) == {"n", "mae", "r2", "coverage"} for d in said["domains"].values())
    few = json.loads(call(*words, "--few-shot", 5, "--seeds", 2, "--json").out)
    assert (few["n"], few["few_shot"]) == (45, 5)


def test_evaluate_writes_a_page_and_says_the_same_in_words(call, tmp_path, monkeypatch) -> None:
    figures = page._figures
    monkeypatch.setattr(page, "_figures", lambda e: figures(e)[:2])
    table = write_table(tmp_path / "rows.csv", rows_of(60))
    done = call("evaluate", table, "--report", tmp_path / "page")
    assert done.status == 0
    assert "f1 estimated by passband, leave-one-domain-out: 60 rows" in done.out
    assert (tmp_path / "page" / "evaluation.html").stat().st_size > 10_000


def test_evaluate_says_what_is_wrong_with_a_table(call, tmp_path) -> None:
    path = tmp_path / "rows.csv"
    write_table(path, rows_of(60))
    text = path.read_text()

    def error(content: str | None, *words: str) -> str:
        if content is not None:
            path.write_text(content)
        done = call("evaluate", path, *words)
        assert done.status == 2 and done.out == ""
        return done.err

    assert "leaving it out leaves nothing to train on" in error(text.replace('"B"', '"A"'))
    assert "'f1', 'precision'" in error(text.replace('"f1","precision",', '"g1","h",'))
    lines = text.splitlines()
    assert "line 2" in error("\n".join([lines[0], lines[1].replace('"A",0.', '"A",many', 1), *lines[2:]]))
    assert "must be in [0, 1]" in error(
        "\n".join([lines[0], lines[1].replace('"A",0.', '"A",7.', 1), *lines[2:]])
    )
    assert "left to train on" in error("\n".join(lines[:2]), "--protocol", "grouped")
    assert "no rows" in error(lines[0])
    assert "No such file" in call("evaluate", tmp_path / "none.csv").err
    assert "swelling_error" in error(text, "--target", "swelling_error", "--model", "paper-rf")
    assert "model must be one of" in error(None, "--model", "mine")
    assert "few_shot" in error(None, "--few-shot", "3", "--protocol", "random")


def test_a_constant_score_is_estimated_and_has_no_r2(call, tmp_path) -> None:
    table = write_table(tmp_path / "rows.csv", rows_of(60, constant=True))
    said = json.loads(call("evaluate", table, "--json").out)
    assert said["mae"] < 0.01 and said["r2"] is None and said["auroc_below_0_5"] is None


def test_info(call, folder, bundle_path, bundle) -> None:
    said = call("info")
    assert said.status == 0
    assert ".dm4" in said.out
    image = call("info", folder / "b_good.tif").out
    assert "96 x 96" in image
    assert "0.4 nm, from" in image
    about = call("info", bundle_path).out
    assert bundle.digest in about
    assert "0.2 to 0.6 nm" in about
    assert call("info", folder / "none.tif").status == 2


def test_what_a_refusal_advises_can_be_done(call, tmp_path, discs) -> None:
    """A stack, and a file whose name lies: each way out that the message names is one."""
    films = np.stack([discs(i, noise=0.3)[0].pixels for i in range(3)])
    film = tmp_path / "film.npy"
    np.save(film, films)
    refused = call("assess", film, "--json")
    assert (
        refused.status == 2
        and "give --frame 0 to 2 or mean; assess, segment and particles extract take --frame all"
        in refused.out
    )
    one, each, mean = (call("assess", film, "--json", "--frame", f) for f in (1, "all", "mean"))
    names = [m["path"] for m in json.loads(each.out)["micrographs"]]
    assert names == [f"{film}#{i}" for i in range(3)]
    assert json.loads(one.out)["micrographs"][0]["path"] == str(film)
    np.save(tmp_path / "mean.npy", films.mean(0, dtype=np.float64).astype(np.float32))
    by_hand = call("assess", tmp_path / "mean.npy", "--json")
    estimates = [json.loads(done.out)["micrographs"][0]["estimates"] for done in (mean, by_hand)]
    assert estimates[0] == estimates[1]
    wrong = call("assess", film, "--frame", "last")
    assert wrong.status == 2 and "frame is a number from 0, mean or all, got 'last'" in wrong.err
    assert (
        "goes" in (err := call("assess", film, "--frame", "1", "--frames", "all").err) or "go neither" in err
    )

    lying = tmp_path / "a.png"
    shutil.copy(film, lying)
    np.save(lying.with_suffix(".npy"), films[0])
    lying.write_bytes(lying.with_suffix(".npy").read_bytes())
    for command in ("assess", "info"):
        refused = call(command, lying)
        assert refused.status == 2 and "with --permissive" in refused.err + refused.out
        assert call(command, lying, "--permissive").status == 0


def test_every_command_that_reads_micrographs_has_the_ways_out_that_refusals_name() -> None:
    commands = ("assess", "info", "segment", "calibrate", "score", "focus", "survey draw", "train detector",
                "particles extract")  # fmt: skip
    for command in commands:
        said = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).stdout
        assert "--permissive" in said and "--frame" in said, command


def test_info_takes_a_frame_of_a_stack(call, tmp_path) -> None:
    np.save(tmp_path / "stack.npy", np.arange(3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9))
    assert call("info", tmp_path / "stack.npy").status == 2
    said = call("info", tmp_path / "stack.npy", "--frame", 2)
    assert said.status == 0 and "9 x 8 pixels" in said.out and "144 to 215" in said.out


def test_a_micrograph_is_read_without_torch_and_its_like(folder) -> None:
    """What takes seconds to import is not for looking at a file, nor for reading one from Python."""
    heavy = {"torch", "scipy", "sklearn", "matplotlib", "zarr", "dask"}
    program = (
        "import sys, passband; from passband.cli import app;"
        "passband.read_micrograph(sys.argv[1]); app(['info', sys.argv[1]], standalone_mode=False);"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder / "b_good.tif")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.endswith("[]\n") and "0.4 nm, from" in ran.stdout


def test_images_that_the_sidecar_lacks_are_told_with_the_nearest_name(call, discs, tmp_path) -> None:
    (tmp_path / "some").mkdir()
    for i in range(2):
        write_image(tmp_path / "some" / f"run_{i}.tif", discs(i)[0].pixels)
    (tmp_path / "sizes.csv").write_text(
        "# mine\nimage;Pixel size [nm]\nrun_0.tif;0,5\nrun-1.tif;0,5\n", "utf-16"
    )
    said = call("assess", tmp_path / "some", "--sidecar", tmp_path / "sizes.csv", "--json")
    assert json.loads(said.out)["notes"] == [
        "the sidecar has no pixel size for 1 of 2 images: run_1.tif (did you mean 'run-1.tif' there?)"
    ]
    whole = call(
        "assess", tmp_path / "some", "--sidecar", tmp_path / "sizes.csv", "--pixel-size-nm", "1", "--json"
    )
    assert json.loads(whole.out)["notes"] == []
