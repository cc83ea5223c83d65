"""Tables as CSV: the one writer of all that are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy.typing as npt


def rows_csv(rows: Iterable[Iterable[Any]], *, quoted: bool = False) -> str:
    """Rows as CSV.

    Parameters
    ----------
    rows
        The first of them are the headings.
    quoted
        Whether every text is quoted, so that it may hold a line's end.

    Returns
    -------
    str
        A line for each row, ended by a line feed.

    Examples
    --------
    >>> rows_csv([["a", "b"], ["x,y", 1]]).splitlines()
    ['a,b', '"x,y",1']
    """
    out = io.StringIO(newline="")
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if quoted else csv.QUOTE_MINIMAL
    csv.writer(out, lineterminator="\n", quoting=quoting).writerows(rows)
    return out.getvalue()


def columns_csv(columns: Mapping[str, npt.NDArray[Any]], *, digits: int = 6) -> str:
    """Columns as CSV; what is not known is an empty cell.

    Parameters
    ----------
    columns
        Arrays of one length by their headings.
    digits
        Of a number, from its first one.

    Returns
    -------
    str
        A header and a line for each item.

    Examples
    --------
    >>> import numpy as np
    >>> columns_csv({"a": np.array([1.5, np.nan]), "b": np.array(["x", "y,z"])}).splitlines()
    ['a,b', '1.5,x', ',"y,z"']
    """
    rows = zip(*(c.tolist() for c in columns.values()), strict=True)

    def cell(value: Any) -> Any:
        if value != value:
            return ""
        return f"{value:.{digits}g}" if isinstance(value, float) else value

    return rows_csv([columns, *(map(cell, row) for row in rows)])
