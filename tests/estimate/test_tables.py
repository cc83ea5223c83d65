"""Tables of rows: two forms are read, ours is written, and whatever is wrong is said."""

from __future__ import annotations

import csv
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.errors import CalibrationError, PassbandError
from passband.estimate.features import CANDIDATE_FEATURES, PAPER_FEATURES
from passband.estimate.rows import CalibrationRow
from passband.estimate.tables import read_table, write_table

TABLE = (
    Path(os.environ.get("PASSBAND_DATA") or Path(__file__).parents[3] / "shared" / "data")
    / "li2025"
    / "data_all_2.csv"
)
AUTHORS = (
    "names,label,f1,precision,recall,area_ratio,avg obj conf,stdev obj conf,avg obj size,stdev obj size,"
    "avg pred shape,stdev pred shape,counts,image_confidence," + ",".join(f"num_0.{k}" for k in range(1, 10))
)
THEIRS = "a,A:  B,,0,0,.1,.5,0,.1,0,1,0,4,.5,0,0,0,0,1,0,0,0,3"
OURS = "image,domain,f1,precision,recall," + ",".join(PAPER_FEATURES)
MINE = "a.tif,steel,0.8,1,0.5,0.9,12,0.1,0.8,0.7,0.01,0.2,0.003"


def row(**changes) -> CalibrationRow:
    values = {"f1": 0.5, "precision": 1 / 3, "recall": 1.0, "domain": "A", "image": "a"}
    return CalibrationRow(**{"features": dict.fromkeys(PAPER_FEATURES, 0.1), **values, **changes})


def read(tmp_path, text, mode="utf-8"):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(mode))
    return read_table(path)


def test_our_form(tmp_path):
    table = read(tmp_path, f"{OURS},sharpness\n{MINE},7\n")
    assert table.swelling_error is None
    (only,) = table.rows
    assert (only.image, only.domain, only.f1, only.precision, only.recall) == ("a.tif", "steel", 0.8, 1, 0.5)
    assert dict(only.features)["sharpness"] == 7 and set(only.features) == {*PAPER_FEATURES, "sharpness"}
    assert only.features["count"] == 12 and only.features["std_size"] == 0.003


def test_the_authors_form(tmp_path):
    table = read(tmp_path, f"{AUTHORS},swell_frac,range pred shape\n{THEIRS},-12.5,text\n")
    (only,) = table.rows
    assert (only.f1, only.domain, only.image) == (0, "A: B", "a")
    assert only.features["share_0_5"] == 0.25 and only.features["share_0_9"] == 0.75
    assert set(only.features) == set(CANDIDATE_FEATURES)
    assert table.swelling_error.tolist() == [-12.5]


def test_an_empty_score_is_nothing_matched_and_stays(tmp_path):
    for empty in ("", "nan", "NaN"):
        (only,) = read(tmp_path, f"{OURS}\n{MINE.replace('0.8,1,0.5', f'{empty},0,0', 1)}\n").rows
        assert only.f1 == 0


def test_a_swelling_error_may_be_unknown_but_not_infinite(tmp_path):
    lines = f"{OURS},swelling_error\n{MINE},\n{MINE},3.5\n"
    swelling = read(tmp_path, lines).swelling_error
    assert math.isnan(swelling[0]) and swelling[1] == 3.5
    with pytest.raises(CalibrationError, match=r"line 3: swelling_error is 'inf'"):
        read(tmp_path, lines.replace("3.5", "inf"))


@pytest.mark.parametrize(
    "text,words",
    [
        ("names,f1,precision,label\na,1,1,A\n", r"columns missing: \['recall', .*'counts'.*'num_0.9'\]"),
        ("image,f1\na,1\n", r"columns missing: \['domain', 'precision', 'recall', 'share_0_9', .*'std_size'"),
        (f"{OURS},count,recall\n{MINE},1,1\n", r"columns of the same name: \['recall', 'count'\]"),
        (f"{OURS},\n{MINE},1\n", "column 14 has no name"),
        (f"{OURS}\n{MINE}\n{MINE},1\n{MINE[:-6]}\n",
         "line 3: 14 cells under a heading of 13; line 4: 12 cells"),
        (OURS.replace(",", ";") + "\n" + MINE.replace(",", ";"), "semicolons; save it with commas"),
        (OURS.replace(",", "\t"), "tabs; save it with commas"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        (OURS + "\n", "has no rows"),
        (OURS + "\n\n\n", "has no rows"),
        (f"{OURS}\n{MINE.replace('12', 'many')}\n", r"line 2: count is 'many', wanted a number"),
        (f"{OURS}\n{MINE.replace('12', '1_2')}\n", r"line 2: count is '1_2', wanted a number"),
        (f"{OURS}\n{MINE.replace('12', '')}\n", r"line 2: count is '', wanted a finite number"),
        (f"{OURS}\n{MINE.replace('12', 'inf')}\n", r"line 2: count is 'inf', wanted a finite number"),
        (f"{OURS}\n{MINE.replace('0.8', 'inf', 1)}\n", r"line 2: f1 is 'inf'"),
        (f"{OURS}\n{MINE}\n{MINE.replace('0.8', '1.2', 1)}\n", r"line 3: .*f1 must be in \[0, 1\], got 1\.2"),
        (f"{OURS}\n{MINE.replace('0.8', '-.1', 1)}\n", r"line 2: .*f1 must be in \[0, 1\], got -0\.1"),
        (f"{OURS}\n{MINE.replace('a.tif', '')}\n", "line 2: its image is empty"),
        (f"{OURS}\n{MINE.replace('steel', '')}\n", "line 2: its domain is empty"),
        (f"{OURS},notes\n{MINE},good\n{MINE},\n", r"columns of text: \['notes'\] \(such as 'good'\)"),
        (f"{AUTHORS}\n{THEIRS}\n{THEIRS.replace('.1', 'many')}\n{THEIRS.replace(',,', ',1.2,')}\n",
         r"line 3: area_ratio is 'many'.*avg obj size is 'many'.*line 4: .*1\.2"),
        (f'{OURS}\n"{MINE}\n', "cannot be read as a table"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xd8", "not text in UTF-8"),
        (bytes(200), "cannot be read as a table|columns missing"),
        ((OURS + "\n" + MINE).encode("utf-16"), "not text in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, text, words):
    with pytest.raises(CalibrationError, match=words) as e:
        read(tmp_path, text)
    assert "table.csv" in str(e.value)


def test_many_faults_are_counted_and_ten_shown(tmp_path):
    bad = MINE.replace("12", "many")
    with pytest.raises(CalibrationError, match=r"line 11: .*and 15 more$") as e:
        read(tmp_path, "\n".join([OURS, *[bad] * 25]))
    assert "line 12" not in str(e.value)


def test_absent_files_and_folders_are_said(tmp_path):
    with pytest.raises(CalibrationError, match=r"none\.csv: cannot be read as a table: .*No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(CalibrationError, match="is a folder"):
        read_table(tmp_path)


def test_what_spreadsheets_add_does_no_harm(tmp_path):
    """A byte order mark, CRLF, quotes, empty lines, spaces about names."""
    plain = read(tmp_path, f"{OURS}\n{MINE}\n{MINE}\n").rows
    quoted = ", ".join(f'"{n}"' for n in OURS.split(",")).replace(', "', ',"')
    for text in (f"\ufeff{OURS}\r\n{MINE}\r\n\r\n{MINE}\r\n", f"{quoted}\n{MINE}\n,,,,,,,,,,,,\n{MINE}\n"):
        assert read(tmp_path, text).rows == plain
    assert read(tmp_path, f"{OURS.replace(',', ' , ')}\n{MINE}\n{MINE}\n").rows == plain


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(names, names, st.lists(numbers, min_size=9, max_size=9), st.floats(0, 1)),
        min_size=1,
        max_size=3,
    ),
    st.data(),
)
def test_what_is_written_is_read(tmp_path_factory, drawn, data):
    rows = [
        row(image=i, domain=d, f1=f, features=dict(zip((*PAPER_FEATURES, "größe, nm"), v, strict=True)))
        for i, d, v, f in drawn
    ]
    swelling = data.draw(
        st.none() | st.lists(numbers | st.just(math.nan), min_size=len(rows), max_size=len(rows))
    )
    given_swelling = None if swelling is None else np.array(swelling)
    path = tmp_path_factory.getbasetemp() / "round.csv"
    table = read_table(write_table(path, rows, swelling_error=given_swelling))
    assert table.rows == tuple(rows)
    if swelling is None:
        assert table.swelling_error is None
    else:
        np.testing.assert_array_equal(table.swelling_error, given_swelling)


def test_names_may_hold_what_a_table_is_made_of(tmp_path):
    rows = [row(image=name, domain=name) for name in ("a\r", "\n", 'a,"b"', " a ", "1", "nan", "\ufeff")]
    assert read_table(write_table(tmp_path / "t.csv", rows)).rows == tuple(rows)


def test_rows_that_no_table_holds_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    many = {**row().features, "f1": 1.0}
    cases = [
        ([], "no rows"),
        ([row(features={"count": 1})], "lack the features"),
        ([row(features=many)], r"cannot be named \['f1'\]"),
        ([row(), row(features={**row().features, "x": 1.0})], r"row 1 .*unknown features \['x'\]"),
        ([row(image="")], "its image is empty"),
    ]
    for rows, words in cases:
        with pytest.raises(CalibrationError, match=words):
            write_table(path, rows)
    with pytest.raises(CalibrationError, match=r"1 rows came with swelling errors of shape \(2,\)"):
        write_table(path, [row()], swelling_error=np.zeros(2))
    assert not path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(PassbandError, match="cannot be written"):
        write_table(tmp_path / "file" / "t.csv", [row()])


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(tmp_path_factory, data, with_heading):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes((OURS.encode() + b"\n" if with_heading else b"") + data)
    try:
        assert read_table(path).rows
    except CalibrationError as e:
        assert len(str(e)) < 5000


def test_very_many_rows(tmp_path):
    n = 20_000
    path = tmp_path / "large.csv"
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(
            [OURS.split(","), *([f"{i}.tif", "A", i / n, 1, 0, *[i] * 8] for i in range(n))]
        )
    start = time.process_time()
    rows = read_table(path).rows
    assert time.process_time() - start < 20  # about half a second; a square in n would be minutes
    assert len(rows) == n and rows[7_777].f1 == 0.38885 and rows[-1].features["std_size"] == n - 1


@pytest.mark.skipif(
    not TABLE.is_file(), reason=f"no published table: {TABLE} is not there; set PASSBAND_DATA"
)
def test_the_published_table_is_read_whole(tmp_path):
    table = read_table(TABLE)
    assert len(table.rows) == 832 and len({r.image for r in table.rows}) == 621
    assert len({r.domain for r in table.rows}) == 10
    assert sum(r.f1 == 0 for r in table.rows) == 30  # F1 of 0/0, the worst failures
    assert np.isfinite(table.swelling_error).all()
    again = read_table(write_table(tmp_path / "ours.csv", table.rows, swelling_error=table.swelling_error))
    assert again.rows == table.rows and np.array_equal(again.swelling_error, table.swelling_error)
