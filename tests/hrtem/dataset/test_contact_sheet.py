from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from made_dataset import made_dataset
from passband.errors import DatasetError
from passband.hrtem.dataset.contact_sheet import chosen_scenes, write_contact_sheet
from passband.hrtem.dataset.dataset import open_dataset
from read_page import read_page


def test_scenes_are_spread_over_all_splits() -> None:
    dataset = open_dataset(made_dataset())
    assert sorted(chosen_scenes(dataset, 99)) == list(range(32))
    for count in (1, 2, 3, 8, 31):
        chosen = chosen_scenes(dataset, count)
        assert len(chosen) == len(set(chosen)) == count
    splits = [dataset.scene(i).split for i in chosen_scenes(dataset, 8)]
    assert splits == ["train"] * 4 + ["validation"] * 2 + ["test"] * 2


def test_the_page_is_well_formed_and_shows_each_scene_with_its_outlines(tmp_path) -> None:
    source = Path(shutil.copytree(made_dataset(), tmp_path / "<b>&set"))
    seen: list[int] = []
    page = write_contact_sheet(
        open_dataset(source), tmp_path / "out", count=5, progress=lambda w, done, total: seen.append(done)
    )
    assert seen == [0, 1, 2, 3, 4]
    text = page.read_text()
    assert "<b>&set" not in text
    seen = read_page(text)
    assert len(seen.all("img")) == len(seen.all("svg")) == 5
    assert len(seen.all("path")) >= 5
    assert (tmp_path / "out" / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_dataset_gives_the_same_sheet(tmp_path) -> None:
    dataset = open_dataset(made_dataset())
    one, two = (write_contact_sheet(dataset, tmp_path / name, count=2) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    assert one.with_suffix(".png").read_bytes() == two.with_suffix(".png").read_bytes()


def test_a_dataset_without_a_finished_scene(tmp_path) -> None:
    folder = Path(shutil.copytree(made_dataset(), tmp_path / "set"))
    shutil.rmtree(folder / "records")
    with pytest.raises(DatasetError, match="no finished scene"):
        write_contact_sheet(open_dataset(folder, unfinished=True), tmp_path / "out")
