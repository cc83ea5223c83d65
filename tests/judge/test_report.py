from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.drawing.thumbnails import outlined, within_budget
from passband.errors import DatasetError, ParameterError
from passband.judge.parts import load_part, save_part
from passband.judge.report import Sheet, picture_of, report_folder, report_page, write_report
from passband.judge.verdict import verdicts_to_json
from passband.kinds import assess
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask
from read_page import read_page

NASTY = "run \"1\"/<img src=x onerror=alert(1)> & 'µ'.tif"


@pytest.fixture
def make_sheet(discs, bundle, fake_detector):
    def make(seed: int = 1003, **changes) -> Sheet:
        micrograph, _ = discs(seed, **changes)
        verdict = assess(micrograph, bundle, thickness=1000.0)
        return Sheet(verdict=verdict, picture=picture_of(micrograph, verdict.detections))

    return make


def test_the_page_is_whole_and_needs_nothing_else(make_sheet) -> None:
    sheets = [make_sheet(1003, noise=0.2), make_sheet(1004, noise=8.0), make_sheet(1, pixel_size=None)]
    page = report_page(sheets, errors=[("bad.dm4", "not a DM4 file")], subtitle="Bundle discs")
    assert page == report_page(sheets, errors=[("bad.dm4", "not a DM4 file")], subtitle="Bundle discs")
    seen = read_page(page)
    assert len(seen.all("img")) == 6  # each in its row and in its sheet
    assert {a["scope"] for a in seen.all("th")} == {"col", "row"}
    for word in ("trust", "review", "reject", "1 trusted", "1 rejected", "1 not assessed", "bad.dm4"):
        assert word in page


def test_the_table_begins_with_the_worst(make_sheet) -> None:
    sheets = [make_sheet(seed, noise=noise) for seed, noise in ((1003, 0.2), (1004, 8.0), (1005, 1.0))]
    order = [int(i) for i in re.findall(r'<td class="name"><a href="#m(\d+)"', report_page(sheets))]
    values = [sheets[i].verdict.estimates["f1"].value for i in order]
    assert values == sorted(values)
    assert len(values) == 3


def test_what_users_name_is_escaped(make_sheet) -> None:
    sheet = make_sheet(name=NASTY)
    page = report_page([sheet], errors=[(NASTY, "<b>wrong</b>")], subtitle="<i>")
    assert "<img src=x" not in page
    assert "<b>wrong" not in page
    assert "<i>\n" not in page
    assert (
        page.count("&lt;img src=x onerror=alert(1)&gt;") == 5
    )  # table twice, heading, alternative text, errors
    small, image = read_page(page).all("img")
    assert NASTY in image["alt"] and small["alt"].endswith(", small")


def test_rows_have_pictures_with_the_outlines_in_them(make_sheet) -> None:
    """People look before they read: the small picture is coloured where objects are."""
    sheet = make_sheet(1003, noise=0.2)
    bare = replace(sheet.picture, outlines=())
    colours = ["#ff0000"] * len(sheet.picture.outlines)
    drawn, plain = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
        for data in (outlined(sheet.picture, colours, 144), outlined(bare, [], 144))
    )
    assert drawn.shape == plain.shape and max(drawn.shape) <= 144
    red = (drawn[..., 0] - drawn[..., 1] > 80) & (plain[..., 0] - plain[..., 1] < 20)
    assert red.sum() > 5 * len(colours)
    scale = drawn.shape[1] / sheet.verdict.detections.image_shape[1]
    for x0, y0, x1, y1 in sheet.verdict.detections.boxes_xyxy * scale:
        assert red[int(y0) : int(y1) + 2, int(x0) : int(x1) + 2].any()


def test_the_page_tells_how_the_image_was_taken_what_novelty_means_and_how_wide_sizes_are(make_sheet) -> None:
    sheet = replace(make_sheet(1003, noise=0.2), conditions=(("energy", "200 keV, from DM tag Voltage"),))
    page = report_page([sheet])
    for words in ("200 keV, from DM tag Voltage", "Foil thickness", "100 nm, given", "whose edge is 1"):
        assert words in page
    told = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    for name in ("Diameter", "Number density", "Swelling"):
        assert re.search(r"[\d.]+ \([\d.,]+ to [\d.,]+\)", told[name]), told[name]


def test_one_run_at_a_time_and_an_old_page_never_stands_for_a_new_run(make_sheet, tmp_path) -> None:
    sheets = [make_sheet(1003, noise=0.2)]
    with report_folder(tmp_path):
        write_report(tmp_path, sheets)
    first = (tmp_path / "report.html").read_text("utf-8")
    with report_folder(tmp_path):
        unfinished = (tmp_path / "report.html").read_text("utf-8")
        assert "Not finished" in unfinished and sheets[0].verdict.path not in unfinished
        assert not (tmp_path / "results.csv").exists()
        held = f"process {os.getpid()} on "
        with pytest.raises(DatasetError, match=held), report_folder(tmp_path):
            pass
        write_report(tmp_path, sheets)
    assert (tmp_path / "report.html").read_text("utf-8") == first
    with contextlib.suppress(KeyboardInterrupt), report_folder(tmp_path):
        raise KeyboardInterrupt
    assert "Not finished" in (tmp_path / "report.html").read_text("utf-8")
    with report_folder(tmp_path):  # let go of
        pass
    with pytest.raises(ParameterError, match="is a file"), report_folder(tmp_path / "report.html"):
        pass


def test_every_file_beside_the_page_says_the_same(make_sheet, tmp_path) -> None:
    sheets = [make_sheet(name=NASTY), make_sheet(2, pixel_size=None, name="b\udce4.tif")]
    verdicts = [s.verdict for s in sheets]
    page = write_report(tmp_path / "new" / "report", sheets, errors=[("c.tif", "no such file")])
    assert page.name == "report.html"
    folder = page.parent
    assert (folder / "results.json").read_text() == verdicts_to_json(verdicts, [("c.tif", "no such file")])
    with (folder / "results.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["verdict"] for r in rows] == [v.verdict for v in verdicts]
    assert rows[0]["path"] == NASTY
    assert float(rows[0]["pixel_size_nm"]) == 0.4
    assert float(rows[0]["swelling_percent"]) == pytest.approx(verdicts[0].sizes.swelling_percent, rel=1e-4)
    assert rows[1]["number_density_per_um2"] == rows[1]["median_diameter_nm"] == ""
    with (folder / "objects.csv").open(newline="") as f:
        objects = list(csv.DictReader(f))
    assert len(objects) == sum(len(v.detections) for v in verdicts)
    back = read_detections(folder / "detections.coco.json")
    assert sorted(len(d) for d in back.values()) == sorted(len(v.detections) for v in verdicts)
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_a_page_of_very_many_stays_small(make_sheet) -> None:
    sheet = make_sheet()
    crowd = Detections(
        image_shape=(96, 96),
        boxes_xyxy=np.tile([[1.0, 2, 9, 11]], (1000, 1)),
        scores=np.linspace(0.5, 1, 1000),
        score_threshold=0.5,
    )
    image = Micrograph(pixels=np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32), name="a")
    sizes = replace(sheet.verdict.sizes, diameters=np.ones(1000))
    crowded = Sheet(
        verdict=replace(sheet.verdict, detections=crowd, sizes=sizes), picture=picture_of(image, crowd)
    )
    few, many = report_page([crowded] * 2), report_page([crowded] * 25)
    assert "score 0.50, " in few
    assert "score 0.50, " not in many
    assert many.count("<path") <= 25 * 10
    assert len(many) < 25 * 60_000
    assert "<details class=" in many
    assert " open>" not in many


def test_pictures_share_a_budget(make_sheet) -> None:
    rng = np.random.default_rng(0)
    noise = Micrograph(pixels=rng.normal(size=(300, 400)).astype(np.float32), name="a")
    none = Detections(image_shape=(300, 400), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    picture = picture_of(noise, none)
    assert (picture.width, picture.height, picture.scale) == (400, 300, 1.0)
    shrunk = within_budget([picture] * 4, len(picture.data))
    assert sum(len(p.data) for p in shrunk) < 1.3 * len(picture.data)
    assert {(p.width, p.height) for p in shrunk} == {(400, 300)}
    assert within_budget([picture], len(picture.data)) == [picture]


def test_an_outline_lies_around_its_mask() -> None:
    image = Micrograph(pixels=np.eye(100, dtype=np.float32), name="a")
    mask = InstanceMask(y=20, x=30, pixels=np.ones((10, 16), bool))
    found = Detections(
        image_shape=(100, 100), boxes_xyxy=np.array([mask.box_xyxy]), scores=np.ones(1), masks=(mask,)
    )
    for side, scale in ((1000, 1.0), (50, 0.5)):
        (outline,) = picture_of(image, found, side=side).outlines
        points = np.array([float(n) for n in re.findall(r"[\d.]+", outline)]).reshape(-1, 2) / scale
        # Half a pixel of slack: a contour runs through the middle between inside and outside.
        np.testing.assert_allclose(points.min(0), (30, 20), atol=0.5)
        np.testing.assert_allclose(points.max(0), (46, 30), atol=0.5)


def test_a_part_comes_back_to_the_last_bit(make_sheet, tmp_path) -> None:
    sheets = [make_sheet(), make_sheet(2, pixel_size=None), make_sheet(3, side=48, count=2)]
    v = sheets[0].verdict
    moved = replace(
        v.detections, boxes_xyxy=v.detections.boxes_xyxy - 1 / 3, scores=v.detections.scores / 1.7
    )
    sheets.append(replace(sheets[0], verdict=replace(v, detections=moved)))
    for i, sheet in enumerate(sheets):
        save_part(tmp_path / f"{i}.json", sheet)
        back = load_part(tmp_path / f"{i}.json", sheet.verdict.path)
        assert back.verdict.to_json() == sheet.verdict.to_json()
        np.testing.assert_array_equal(back.verdict.detections.boxes_xyxy, sheet.verdict.detections.boxes_xyxy)
        np.testing.assert_array_equal(back.verdict.detections.scores, sheet.verdict.detections.scores)
        assert report_page([back]) == report_page([sheet])
        assert load_part(tmp_path / f"{i}.json", "other.tif").verdict.path == "other.tif"


def test_a_damaged_part_is_no_part(make_sheet, tmp_path) -> None:
    path = tmp_path / "part.json"
    assert load_part(path, "a") is None
    save_part(path, make_sheet())
    whole = path.read_text()
    record = json.loads(whole)
    for broken in (whole[:-9], "[]", "{}", "null", json.dumps({**record, "format": 99}), "\0",
                   json.dumps({**record, "boxes_xyxy": [[1, 2]]}), json.dumps({**record, "masks": [7]}),
                   json.dumps({**record, "estimates": {"f1": [1, 1, 1, 1]}})):  # fmt: skip
        path.write_text(broken)
        assert load_part(path, "a") is None
