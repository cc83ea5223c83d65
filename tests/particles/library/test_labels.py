"""Labels of a table are taken, kept and changed; a faulty table is told whole and changes nothing."""

import pytest

from made_discs import disc_images, paths_of
from passband.errors import DatasetError
from passband.particles.library.labels import label_library
from passband.particles.library.library import extend_library, open_library


@pytest.fixture
def images(tmp_path):
    return disc_images(tmp_path)


@pytest.mark.parametrize(("comma", "mark"), [(",", ""), (";", "\ufeff"), ("\t", "")])
def test_labels_are_taken_kept_and_changed(images, tmp_path, comma, mark):
    lib, table = tmp_path / "lib", tmp_path / "labels.csv"
    extend_library(lib, paths_of(images)[:2])
    ids = open_library(lib).table["particle"].tolist()
    lines = [("note", "label", "particle"), ("", "rod", ids[3]), ("x", " cube ", ids[0]), ("", "", ids[1])]
    table.write_text(mark + "\n".join(comma.join(line) for line in lines), encoding="utf-8")
    done = label_library(lib, table)
    assert (done.given, done.unlabelled, done.counts) == (2, 1, {"cube": 1, "rod": 1})
    table.write_text(f"particle,label\n{ids[3]},sphere\n{ids[3]},sphere\n")
    label_library(lib, table)
    extend_library(lib, paths_of(images))
    assert open_library(lib).labels.tolist()[:12] == ["cube", "", "", "sphere", *[""] * 8]
    # the library's own table, filled in, is such a table
    assert label_library(lib, lib / "particles.csv").given == 2


def test_every_fault_of_a_table_of_labels_is_told_and_nothing_taken(images, tmp_path):
    lib, table = tmp_path / "lib", tmp_path / "labels.csv"
    extend_library(lib, paths_of(images)[:1])
    one = open_library(lib).table["particle"][0]
    table.write_text(f"particle,label\n{one},rod\nffffffff-1,rod\n,rod\n{one},cube\n")
    with pytest.raises(
        DatasetError, match=r"3 faults: row 3.*'ffffffff-1'; row 4 names no.*; row 5.*'cube'.*'rod'"
    ):
        label_library(lib, table)
    assert open_library(lib).labels.tolist() == [""] * 6
    for text, words in (
        ("", "headings are: nothing"),
        ("id,label\n", "named particle"),
        (f"particle,label\n{one},\n", "no row"),
    ):
        table.write_text(text)
        with pytest.raises(DatasetError, match=words):
            label_library(lib, table)
