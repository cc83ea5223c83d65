"""Columns become a table that says no more than is known."""

import numpy as np

from passband.store.columns import columns_csv


def test_a_table_leaves_cells_empty_where_nothing_is_known():
    assert columns_csv({"a": np.array([np.nan, 2.0])}) == 'a\n""\n2\n'
    assert columns_csv({"a": np.array([1]), "b": np.array([np.nan])}) == "a,b\n1,\n"


def test_numbers_have_the_digits_asked_for():
    values = {"a": np.array([1234.5678, 1e-9 / 3], np.float64)}
    assert columns_csv(values) == "a\n1234.57\n3.33333e-10\n"
    assert columns_csv(values, digits=7) == "a\n1234.568\n3.333333e-10\n"
