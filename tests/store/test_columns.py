"""Columns become a table that says no more than is known."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

import passband
from passband.store.columns import columns_csv, rows_csv


def test_a_table_leaves_cells_empty_where_nothing_is_known():
    assert columns_csv({"a": np.array([np.nan, 2.0])}) == 'a\n""\n2\n'
    assert columns_csv({"a": np.array([1]), "b": np.array([np.nan])}) == "a,b\n1,\n"


def test_numbers_have_the_digits_asked_for():
    values = {"a": np.array([1234.5678, 1e-9 / 3], np.float64)}
    assert columns_csv(values) == "a\n1234.57\n3.33333e-10\n"
    assert columns_csv(values, digits=7) == "a\n1234.568\n3.333333e-10\n"


@pytest.mark.parametrize("quoted", [False, True])
def test_rows_come_back_whatever_their_texts_hold(quoted):
    rows = [["a", "b"], ['x,"y"', "two\nlines"], ["", "café"]]
    text = rows_csv(rows, quoted=quoted)
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
    assert "\r" not in text
    assert text.startswith('"a","b"\n' if quoted else "a,b\n")
    assert rows_csv([["a", 1]], quoted=quoted) == ('"a",1\n' if quoted else "a,1\n")


def test_no_other_module_writes_csv():
    modules = Path(passband.__file__).parent.rglob("*.py")
    writing = [m.name for m in modules if "csv.writer(" in (t := m.read_text("utf-8")) or "DictWriter(" in t]
    assert writing == ["columns.py"]
