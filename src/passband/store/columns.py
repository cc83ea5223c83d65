"""Columns as CSV: what every table of particles is written as."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt


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
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*(c.tolist() for c in columns.values()), strict=True):
        writer.writerow("" if v != v else f"{v:.{digits}g}" if isinstance(v, float) else v for v in row)
    return out.getvalue()
