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
