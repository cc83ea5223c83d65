"""A library is whole micrographs, each once, whatever stops it; what is not one is told."""

import csv
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import typer
import zarr
from PIL import Image
from typer.testing import CliRunner

from made_discs import disc_images, draw_discs, paths_of
from passband.cli import particles as commands
from passband.cli.shell import Commands
from passband.errors import DatasetError, DetectionsError
from passband.micrographs.many import Reading
from passband.micrographs.readers import read_micrograph
from passband.particles.extraction.crop import COLUMNS, cut_particles
from passband.particles.extraction.find import ExtractionSettings, find_particles
from passband.particles.library import library as library_module
from passband.particles.library import store as particle_store
from passband.particles.library.check import check_library
from passband.particles.library.labels import label_library
from passband.particles.library.library import extend_library, open_library
from passband.store.sealed import sealed
from stopping import stopped_at_each_rename

DEFAULT = ExtractionSettings()


@pytest.fixture
def images(tmp_path):
    return disc_images(tmp_path)


def content(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def test_a_library_holds_what_was_cut_from_each_micrograph(images, tmp_path):
    done = extend_library(tmp_path / "lib", paths_of(images))
    library = open_library(tmp_path / "lib")
    assert (done.particles, done.micrographs, done.total, len(library)) == (18, 3, 18, 18)
    cuts = []
    for path in paths_of(images):
        m = read_micrograph(path)
        cuts.append(cut_particles(m, find_particles(m)))
    np.testing.assert_array_equal(library.crops[:], np.concatenate([c.crops for c in cuts]))
    np.testing.assert_array_equal(library.masks[:], np.concatenate([c.masks for c in cuts]))
    for name in COLUMNS:
        np.testing.assert_array_equal(library.table[name], np.concatenate([c.table[name] for c in cuts]))
    assert library.table["source"].tolist() == [p for p in paths_of(images) for _ in range(6)]
    assert all(re.fullmatch(r"[0-9a-f]{8}-[1-6]", i) for i in library.table["particle"].tolist())
    assert len(set(library.table["particle"].tolist())) == 18
    assert library.labels.tolist() == [""] * 18
    assert library.settings == DEFAULT


def test_killed_at_any_rename_it_is_whole_and_run_again_it_is_the_library_of_one_run(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr(particle_store, "CHUNK", 8)  # files that micrographs of 6 particles share
    cut = {}  # particles of each micrograph, found once: what is found is not what a stop may change

    def once(micrograph, *rest):
        if micrograph.name not in cut:
            cut[micrograph.name] = particles(micrograph, *rest)
        return cut[micrograph.name]

    particles = library_module._particles
    monkeypatch.setattr(library_module, "_particles", once)
    extend_library(tmp_path / "once", paths_of(images))

    stops, opened = 0, 0

    def run(folder):
        extend_library(folder, paths_of(images))

    for folder in stopped_at_each_rename(run, tmp_path, monkeypatch):
        stops += 1
        if (folder / "masks" / "zarr.json").exists():
            seen = open_library(folder)
            assert len(seen) == seen.crops.shape[0] == seen.masks.shape[0] == 6 * len(seen.records)
            assert check_library(folder).passed
            opened += 1
        run(folder)
        assert content(folder) == content(tmp_path / "once")
        assert check_library(folder).notes == ()
    # manifest, labels, two descriptions, table; of each micrograph a record, two descriptions and its files
    assert stops == 5 + 3 * 3 + 2 * (1 + 2 + 2)
    assert opened == stops - 4


def test_run_again_it_adds_only_what_is_new(images, tmp_path):
    first = paths_of(images)[:2]
    extend_library(tmp_path / "lib", first)
    ids = open_library(tmp_path / "lib").table["particle"].tolist()
    done = extend_library(tmp_path / "lib", paths_of(images))
    assert (done.particles, done.micrographs, done.there, done.duplicates) == (6, 1, 2, ())
    assert open_library(tmp_path / "lib").table["particle"].tolist()[:12] == ids
    assert extend_library(tmp_path / "lib", paths_of(images)).particles == 0


def test_chunks_that_two_micrographs_share_keep_both(images, tmp_path, monkeypatch):
    monkeypatch.setattr(particle_store, "CHUNK", 4)
    extend_library(tmp_path / "small", paths_of(images))
    small = open_library(tmp_path / "small").crops[:]
    monkeypatch.undo()
    extend_library(tmp_path / "lib", paths_of(images))
    np.testing.assert_array_equal(open_library(tmp_path / "lib").crops[:], small)


def test_the_same_pixels_under_another_name_are_kept_once_and_told(images, tmp_path):
    copy = str(images / "copy.npy")
    np.save(copy, np.load(images / "a.npy"))
    done = extend_library(tmp_path / "lib", [*paths_of(images)[:2], copy])
    assert done.duplicates == ((copy, paths_of(images)[0]),)
    assert done.total == 12


def test_a_bad_file_does_not_stop_the_others_and_an_empty_micrograph_is_told(images, tmp_path):
    np.save(images / "empty.npy", np.zeros((40, 40), np.uint16))
    (images / "bad.npy").write_bytes(b"nothing")
    done = extend_library(tmp_path / "lib", paths_of(images))
    assert [p for p, _ in done.skipped] == [str(images / "bad.npy")]
    assert done.empty == (str(images / "empty.npy"),)
    assert done.total == 18


def test_16_bit_and_colour_give_the_particles_of_the_grey_image(images, tmp_path):
    grey = np.clip((draw_discs(0) + 0.3) / 1.6, 0, 1)
    Image.fromarray((grey * 65535).astype(np.uint16)).save(images / "deep.png")
    eight = (grey * 255).astype(np.uint8)
    Image.fromarray(np.stack([eight] * 3, -1)).save(images / "rgb.png")
    names = [str(images / n) for n in ("a.npy", "deep.png", "rgb.png")]
    extend_library(tmp_path / "lib", names)
    table, crops = open_library(tmp_path / "lib").table, open_library(tmp_path / "lib").crops[:]
    np.testing.assert_allclose(table["y"][:6], table["y"][6:12], atol=0.1)
    np.testing.assert_allclose(table["x"][:6], table["x"][12:], atol=0.1)
    assert np.abs(crops[:6] - crops[6:12]).mean() < 0.02
    assert np.abs(crops[:6] - crops[12:]).mean() < 0.02


def test_other_settings_are_refused_and_named(images, tmp_path):
    extend_library(tmp_path / "lib", paths_of(images))
    with pytest.raises(DatasetError, match=r"size: 48 there, 32 here; neck|neck.*size: 48 there, 32 here"):
        extend_library(tmp_path / "lib", paths_of(images), replace(DEFAULT, size=32, neck=0.3))


def test_with_pixel_sizes_every_crop_shows_the_same_width(images, tmp_path):
    names = paths_of(images)
    np.save(images / "d.npy", draw_discs(9, radius=14))
    sizes = {"a.npy": 5.0, "b.npy": 5.0, "c.npy": 5.0, "d.npy": 2.5}
    extend_library(tmp_path / "lib", paths_of(images), reading=Reading(sidecar=sizes))
    library = open_library(tmp_path / "lib")
    assert library.window_nm is not None
    np.testing.assert_allclose(
        library.table["scale"] * 48 * library.table["pixel_size"] / 10, library.window_nm
    )
    other = extend_library(tmp_path / "lib", names[:1], reading=Reading(sidecar=sizes))
    assert other.there == 1
    np.save(images / "e.npy", draw_discs(11))
    lacking = extend_library(tmp_path / "lib", [str(images / "e.npy")])
    assert "pixel size is not known" in lacking.skipped[0][1]


def test_label_images_are_the_outlines_where_given(images, tmp_path):
    outlines = tmp_path / "outlines"
    outlines.mkdir()
    labels = np.zeros((96, 144), np.uint16)
    labels[10:40, 10:30], labels[50:80, 60:100] = 7, 2
    Image.fromarray(labels).save(outlines / "a.png")
    done = extend_library(tmp_path / "lib", paths_of(images)[:2], detections=outlines)
    library = open_library(tmp_path / "lib")
    assert library.table["area_px"].tolist() == [1200, 600]  # in the order of their numbers
    assert "says nothing of this image" in done.skipped[0][1]
    with pytest.raises(DatasetError, match="outlines: detections there, threshold here"):
        extend_library(tmp_path / "lib", paths_of(images)[:2])
    Image.fromarray(labels[::-1].copy()).save(outlines / "a.png")
    again = extend_library(tmp_path / "lib", paths_of(images)[:1], detections=outlines)
    assert "other outlines" in again.skipped[0][1]
    with pytest.raises(DetectionsError):
        extend_library(tmp_path / "new", paths_of(images), detections=tmp_path / "none")


def test_what_is_no_library_is_told(images, tmp_path):
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "file", "is a file"),
        (images, r"no library.json \(there is a.npy"),
    ):
        with pytest.raises(DatasetError, match=words):
            open_library(path)
    with pytest.raises(DatasetError, match=r"not empty and holds no particle library \(there is a.npy"):
        extend_library(images, paths_of(images))


@pytest.mark.parametrize(
    "name", ["library.json", "micrographs/000001.json", "crops/zarr.json", "labels.json"]
)
@pytest.mark.parametrize("how", ["cut", "edited"])
def test_a_damaged_file_is_told_by_its_name(images, tmp_path, name, how):
    lib = tmp_path / "lib"
    extend_library(lib, paths_of(images))
    table = tmp_path / "t.csv"
    table.write_text(f"particle,label\n{open_library(lib).table['particle'][0]},rod\n")
    label_library(lib, table)
    text = (lib / name).read_text()
    (lib / name).write_text(
        text[: len(text) // 2]
        if how == "cut"
        else text.replace("48", "47").replace("rod", "cube").replace("b.npy", "x.npy")
    )
    with pytest.raises(DatasetError, match=re.escape(name)):
        open_library(lib)


def test_lost_files_are_told_and_damaged_pixels_do_not_read(images, tmp_path):
    lib = tmp_path / "lib"
    extend_library(lib, paths_of(images))
    chunk = lib / "crops" / "c" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-40] + bytes(40))
    with pytest.raises(DatasetError, match=r"crops of the library cannot be read: a file was cut or edited"):
        list(open_library(lib).blocks(5))
    chunk.unlink()
    with pytest.raises(DatasetError, match="1 files of crops are missing"):
        open_library(lib)
    (lib / "micrographs" / "000000.json").unlink()
    with pytest.raises(DatasetError, match=r"000000.json is missing"):
        open_library(lib)


def labelled(lib, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(f"particle,label\n{open_library(lib).table['particle'][0]},rod\n")
    label_library(lib, table)


def test_a_lost_last_record_is_missed_and_an_edited_description_mended(images, tmp_path):
    lib = tmp_path / "lib"
    extend_library(lib, paths_of(images))
    whole = content(lib)
    (lib / "micrographs" / "000002.json").unlink()
    with pytest.raises(DatasetError, match=r"000002\.json is missing, .*zarr\.json says 3 micrographs"):
        open_library(lib)
    (lib / "micrographs" / "000002.json").write_bytes(whole["micrographs/000002.json"])
    for damage in (b"", whole["masks/zarr.json"].replace(b"18,", b"17,"), b"{}"):
        (lib / "masks" / "zarr.json").write_bytes(damage)
        with pytest.raises(DatasetError, match=r"masks/zarr\.json was cut or edited.*mends it"):
            open_library(lib)
        assert extend_library(lib, paths_of(images)).particles == 0
        assert content(lib) == whole


def test_lost_labels_are_missed_and_taken_from_the_table(images, tmp_path):
    lib = tmp_path / "lib"
    extend_library(lib, paths_of(images))
    labelled(lib, tmp_path)
    whole = content(lib)
    (lib / "labels.json").unlink()
    for use in (open_library, lambda lib: extend_library(lib, paths_of(images))):
        with pytest.raises(DatasetError, match=r"labels\.json is missing; .* label .*particles\.csv"):
            use(lib)
    label_library(lib, lib / "particles.csv")
    assert content(lib) == whole


def test_a_crop_that_is_not_the_one_that_was_cut_is_told_where_it_is_read(images, tmp_path):
    lib = tmp_path / "lib"
    extend_library(lib, paths_of(images))
    library = open_library(lib)
    np.testing.assert_array_equal(np.concatenate(list(library.blocks(4))), library.crops[:])
    array = zarr.open_array(lib / "crops", mode="r+")
    array[7, 3, 3] = 0.123
    blocks = library.blocks(4)
    assert len(next(blocks)) == 4
    with pytest.raises(DatasetError, match=r"not those that were written, of .*b\.npy: the checksum differs"):
        list(blocks)


def test_a_library_of_format_1_opens_and_becomes_one_of_format_2_when_added_to(images, tmp_path):
    lib = tmp_path / "lib"
    extend_library(lib, paths_of(images)[:2])
    for name in ("crops", "masks"):
        description = json.loads((lib / name / "zarr.json").read_text()) | {"attributes": {}}
        (lib / name / "zarr.json").write_text(json.dumps(description, indent=2))
    for path in ("library.json", "micrographs/000000.json", "micrographs/000001.json"):
        values = json.loads((lib / path).read_text())
        if "version" in values:
            values["version"] = 1
        for later in ("arrays", "content_sha256", "files_sha256", "sha256"):
            values.pop(later, None)
        (lib / path).write_text(sealed(values))
    (lib / "labels.json").unlink()  # there was none until a particle had a label
    assert "2 micrographs, whose crops stand under no checksum" in check_library(lib).notes[0]
    crops = np.concatenate(list(open_library(lib).blocks(5)))
    labelled(lib, tmp_path)
    assert json.loads((lib / "library.json").read_text())["version"] == 1
    assert extend_library(lib, paths_of(images)).total == 18
    assert json.loads((lib / "library.json").read_text())["version"] == 2
    found = open_library(lib)
    np.testing.assert_array_equal(found.crops[:12], crops)
    assert (found.labels[0], [r.content_sha256 is None for r in found.records]) == (
        "rod",
        [True, True, False],
    )
    (lib / "masks" / "zarr.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"masks/zarr\.json was cut or edited"):
        open_library(lib)


def test_the_table_for_people_says_what_the_library_holds(images, tmp_path):
    extend_library(tmp_path / "lib", paths_of(images))
    library = open_library(tmp_path / "lib")
    with (tmp_path / "lib" / "particles.csv").open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == ["particle", "label", "source", *COLUMNS]
    assert [r["particle"] for r in rows] == library.table["particle"].tolist()
    np.testing.assert_allclose([float(r["y"]) for r in rows], library.table["y"], rtol=1e-6)
    assert {r["diameter_nm"] for r in rows} == {""}


@pytest.fixture
def call():
    app = typer.Typer(cls=Commands)
    app.command()(commands.extract)
    app.command()(commands.label)

    def run(*words):
        done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
        return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)

    return run


def test_the_commands_extract_and_label(images, tmp_path, call):
    lib = tmp_path / "lib"
    done = call("extract", images, "--out", lib)
    assert done.status == 0
    assert "18 particles from 3 micrographs" in done.out
    (images / "bad.npy").write_bytes(b"nothing")
    again = call("extract", images, "--out", lib, "--json")
    assert again.status == 2
    assert (json.loads(again.out)["there"], json.loads(again.out)["total"]) == (3, 18)
    assert "skipped (1)" in again.err
    other = call("extract", images, "--out", lib, "--no-split")
    assert other.status == 2
    assert "split: True there, False here" in other.err
    table = tmp_path / "labels.csv"
    table.write_text(f"particle,label\n{open_library(lib).table['particle'][0]},rod\n")
    assert "The library has: 1 rod" in call("label", lib, table).out
