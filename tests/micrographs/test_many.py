from __future__ import annotations

from pathlib import Path

import pytest

from passband.micrographs.many import find_micrographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run" / "under").mkdir(parents=True)
    (tmp_path / "run" / "under" / "a.tif").write_bytes(b"")
    (tmp_path / "void").mkdir()
    return tmp_path


def test_a_folder_of_folders_says_how_to_give_what_is_within(folder: Path) -> None:
    files, ((path, words),) = find_micrographs([str(folder / "run")])
    assert (files, path) == ((), str(folder / "run"))
    pattern = f"{folder}/run/**/*"
    assert f"folders within it are not looked into: give them, or '{pattern}' in quotes" in words
    assert find_micrographs([pattern]) == ((str(folder / "run" / "under" / "a.tif"),), ())


def test_an_empty_folder_is_told_of_without_a_word_on_folders(folder: Path) -> None:
    _, ((_, words),) = find_micrographs([str(folder / "void")])
    assert words.startswith("the folder holds no micrograph; can be read: .tif")


def test_masks_beside_images_are_no_micrographs(tmp_path):
    names = ("a.tif", "b.ome.tif", "c_mask.tif", "d_2.tif")
    masks = ("a_cp_masks.png", "a_seg.npy", "b-labels.tif", "mask_a.png")
    for name in (*names, *masks):
        (tmp_path / name).write_bytes(b"")
    notes: list[str] = []
    files, errors = find_micrographs([str(tmp_path)], notes)
    assert [Path(f).name for f in files] == sorted(names)  # c_mask.tif has no image, and is one
    assert errors == () and notes[0].startswith("4 masks beside images are no micrograph")
    files, ((path, words),) = find_micrographs([str(tmp_path / "a_seg.npy"), str(tmp_path / "c_mask.tif")])
    assert (len(files), path) == (1, str(tmp_path / "a_seg.npy"))
    assert "is a mask of a.tif beside it" in words


def test_masks_in_a_folder_beside_that_of_the_images_are_no_micrographs(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"")
    (tmp_path / "masks" / "z.png").write_bytes(b"")
    files, errors = find_micrographs([str(tmp_path / "**" / "*.png")])
    assert sorted(Path(f).name for f in files) == ["a.png", "z.png"]
    assert Path(files[0]).parent.name == "images" and errors == ()
