"""A library's page is whole, escaped, small, says what it leaves out, and its files hold every particle."""

import base64
import csv
import io
import json
import re
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from made_library import made_bundle, made_library, make_library
from passband.errors import DatasetError
from passband.particles.library import crop_pictures
from passband.particles.library import page as library
from passband.particles.library.crop_pictures import sprite_sheets, thumbnails
from passband.particles.library.fit import classify_library
from passband.particles.library.page import library_page, model_lines, write_library_report
from passband.particles.model import classify_particles
from read_page import read_page

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("library")
    return classify_library(shutil.copytree(made_library(), place / "a <b>& lib"), made_bundle())


@pytest.fixture(scope="module")
def page(found):
    return library_page(found)


def data_of(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    return json.loads(text)


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("L")) / 255


def read(page):
    return read_page(page, beside=frozenset({"particles.csv", "crops.zip"}))


def test_the_page_is_well_formed_and_needs_nothing_else(page):
    links = {a["href"] for a in read(page).all("a") if not a["href"].startswith("#")}
    assert links == {"particles.csv", "crops.zip"}
    assert "a <b>&" not in page
    assert "{{" not in page and "{%" not in page


def test_every_particle_is_in_the_page_with_its_own_crop_and_numbers(found, page):
    data = data_of(page)
    assert data["id"] == found.library.table["particle"].tolist()
    assert data["class"] == found.answer.label.tolist()
    np.testing.assert_allclose(data["probabilities"], found.answer.probabilities, atol=1e-3)
    np.testing.assert_allclose(data["axes"]["factor 1"], found.description.latent[:, 0], rtol=1e-3)
    np.testing.assert_allclose(data["axes"]["diameter (nm)"], found.library.table["diameter_nm"], rtol=1e-3)
    assert data["label"] == found.library.labels.tolist()
    sheets = re.findall(r"\.sheet\d+ \{ background-image: url\((data:[^)]*)\)", page)
    grid = pixels(sheets[0])
    for e in (0, 5, 31):
        row, column = divmod(e, data["across"])
        crop = grid[48 * row : 48 * row + 48, 48 * column : 48 * column + 48]
        assert np.abs(crop - found.library.crops[e]).mean() < 0.05


def test_boxes_lie_on_their_particles_in_the_thumbnails(page, found):
    data = data_of(page)
    assert len(data["micrographs"]) == 2
    for e, m in enumerate(data["micrograph"]):
        about = data["micrographs"][m]
        x0, y0, x1, y1 = (round(v * about["scale"]) for v in data["box"][e])
        image = pixels(about["image"])
        assert image[y0:y1, x0:x1].mean() > 1.5 * image.mean()


def test_typical_members_come_before_doubtful_ones(found):
    for k in range(2):
        typical, doubtful = library._examples(found, k)
        assert not set(typical) & set(doubtful)
        assert found.doubt[typical].max() <= found.doubt[doubtful].min()
        assert (found.answer.label[np.concatenate([typical, doubtful])] == k).all()
        assert found.doubt[doubtful[0]] == found.doubt[found.answer.label == k].max()


def test_a_page_with_a_limit_says_what_it_leaves_out(found, monkeypatch):
    monkeypatch.setattr(library, "EMBEDDED", 20)
    monkeypatch.setattr(library, "EXAMPLES", 2)
    page = library_page(found)
    assert "20 of 32 particles are shown" in page
    data = data_of(page)
    assert len(data["id"]) == len(set(data["id"])) == len(data["axes"]["factor 1"]) == 20
    shown = {int(e) for e in re.findall(r'<button type="button" data-e="(-?\d+)"', page)}
    assert shown and min(shown) >= 0 and max(shown) < 20
    ids = np.array(data["id"])[library._embedded(found).at[library._examples(found, 0)[0]]]
    assert ids.tolist() == found.library.table["particle"][library._examples(found, 0)[0]].tolist()


def test_files_beside_the_page_hold_every_particle(found, tmp_path):
    seen = []
    page = write_library_report(found, tmp_path / "out", progress=lambda w, done, total: seen.append(done))
    assert page.name == "report.html" and seen == [0, 1]
    with (tmp_path / "out" / "particles.csv").open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["particle"] for r in rows] == found.library.table["particle"].tolist()
    assert {"label", "source", "diameter_nm", "class", "probability_bar", "factor_1"} <= set(rows[0])
    with zipfile.ZipFile(tmp_path / "out" / "crops.zip") as z:
        names = z.namelist()
        assert len(names) == 32
        for i in (0, 17):
            folder = "rejected" if found.answer.rejected[i] else rows[i]["class"]
            crop = np.asarray(Image.open(z.open(f"crops/{folder}/{rows[i]['particle']}.png"))) / 255
            np.testing.assert_allclose(crop, found.library.crops[i], atol=0.003)
    again = write_library_report(found, tmp_path / "again")
    for name in ("report.html", "particles.csv", "crops.zip"):
        assert (again.parent / name).read_bytes() == (page.parent / name).read_bytes()


def test_a_model_of_classes_alone_and_sizes_in_pixels(tmp_path):
    folder = make_library(tmp_path, pixel_size=None, labels=0)
    found = classify_library(folder, made_bundle(generative=False))
    page = library_page(found)
    read(page)
    assert "No pixel size is known" in page and " px" in page
    assert "As one factor changes" not in page
    data = data_of(page)
    assert list(data["axes"]) == ["diameter (px)", "eccentricity", "solidity", "distance", "probability"]
    assert data["facts"]["width_nm"] == [None] * 32
    assert dict(model_lines(found))["autoencoder"].startswith("none")
    assert "labels of this library" not in dict(model_lines(found))


def test_micrographs_that_are_gone_or_changed_are_told(tmp_path):
    folder = make_library(tmp_path, labels=0)
    (tmp_path / "images" / "a.npy").unlink()
    changed = np.load(tmp_path / "images" / "b.npy") + 1
    np.save(tmp_path / "images" / "b.npy", changed)
    found = classify_library(folder, made_bundle(generative=False))
    gone, other = thumbnails(found.library, np.arange(32))
    assert gone.picture is None and "no longer where it was" in gone.missing
    assert other.picture is None and "has changed" in other.missing
    (tmp_path / "images" / "a.npy").write_bytes(b"nothing")
    assert "cannot be read" in thumbnails(found.library, np.arange(32))[0].missing
    assert "has changed" in library_page(found)


def test_with_too_many_micrographs_those_with_most_particles_are_shown(found, monkeypatch):
    monkeypatch.setattr(crop_pictures, "THUMBNAILS", 1)
    some = thumbnails(found.library, np.arange(10, 32))  # 6 of the first, 16 of the second
    assert [t.picture is None for t in some] == [True, False]
    assert "left out" in some[0].missing
    assert "no particle of it" in thumbnails(found.library, np.arange(10))[1].missing


def test_rejected_particles_have_a_part_of_their_own(found):
    far = replace(found.answer, distance=np.where(np.arange(32) < 3, 2.5, 0.5).astype(np.float32))
    page = library_page(replace(found, answer=far))
    assert '<section id="strangers">' in page
    assert "3 of 32 (9.4 %)" in page
    near = replace(found.answer, distance=np.full(32, 0.5, np.float32))
    assert '<section id="strangers">' not in library_page(replace(found, answer=near))


def test_a_class_that_nothing_is_called_says_so(found):
    all_first = np.tile(np.array([[0.9, 0.1]], np.float32), (32, 1))
    page = library_page(replace(found, answer=replace(found.answer, probabilities=all_first)))
    read(page)
    assert "No particle is called disc" in page


def test_names_of_classes_are_escaped_everywhere(found, tmp_path):
    names = ("</script><b>", "../../$x & y")
    odd = replace(found, model=replace(found.model, classes=names))
    page = library_page(odd)
    read(page)
    assert "<b>" not in page.split("<script>")[0].split("</style>")[1]
    assert data_of(page)["classes"] == list(names)
    write_library_report(odd, tmp_path)
    with zipfile.ZipFile(tmp_path / "crops.zip") as z:
        assert all(re.fullmatch(r"crops/[\w-]+/[0-9a-f]+-\d+\.png", n) for n in z.namelist())


def test_sheets_of_more_crops_than_one_holds():
    crops = np.linspace(0, 1, 1030)[:, None, None] * np.ones((1030, 8, 8))
    first, second = (pixels(s) for s in sprite_sheets(crops))
    assert first.shape == (256, 256) and second.shape == (8, 256)
    assert abs(first[-4, -4] - 1023 / 1029) < 0.02 and abs(second[4, 44] - 1) < 0.02
    big = pixels(sprite_sheets(np.ones((1, 100, 100)))[0])
    assert big.shape == (64, 64 * 32)


def test_an_empty_library_has_no_page(found, tmp_path):
    nothing = classify_particles(found.model, np.zeros((0, 48, 48), np.float32))
    empty = replace(found, library=replace(found.library, labels=np.array([], np.str_)), answer=nothing)
    with pytest.raises(DatasetError, match="no particle to report on"):
        write_library_report(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()
