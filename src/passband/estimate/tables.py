"""Labelled rows as a table in a file: read in two forms, written in one.

Both are CSV with commas, UTF-8, one heading and one row for each image and detector.

**Ours** has the columns ``image``, ``domain``, ``f1``, ``precision``, ``recall``, perhaps
``swelling_error`` (percent), and the features, at least `PAPER_FEATURES`: every further column is a
feature and must hold numbers.

**The authors'** is that of Li et al., data_all_2.csv, with their column names. The counts in their bins
of scores become shares, double spaces in their labels become one, other columns are left out.

In both an empty score is 0/0, which means that nothing was matched: it becomes 0 and the row stays.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import CalibrationError
from passband.estimate.features import PAPER_FEATURES
from passband.estimate.regressor import TARGETS
from passband.estimate.rows import CalibrationRow, name_faults
from passband.store.columns import rows_csv
from passband.store.files import write_whole
from passband.types import Vector

SWELLING = "swelling_error"
_NAMES = ("image", "domain")
_OURS = (*_NAMES, *TARGETS, *PAPER_FEATURES)
_RENAMED = {
    "area_ratio": "area_ratio",
    "avg obj conf": "mean_score",
    "stdev obj conf": "std_score",
    "avg obj size": "mean_size",
    "stdev obj size": "std_size",
    "avg pred shape": "mean_circularity",
    "stdev pred shape": "std_circularity",
    "counts": "count",
    "image_confidence": "image_confidence",
}
_BINS = {f"num_0.{k}": f"share_0_{k}" for k in range(1, 10)}
_AUTHORS = ("names", "label", *TARGETS, *_RENAMED, *_BINS)
_MOST_FAULTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Labelled rows from a file.

    Parameters
    ----------
    rows
        In the order of the file, at least one.
    swelling_error
        How far the swelling measured on the detections lies from that on the annotations, percent of the
        latter, float64 (n,), NaN where it is unknown; None where the file has no such column.
    """

    rows: tuple[CalibrationRow, ...]
    swelling_error: Vector | None = None


def read_table(path: str | Path) -> Table:
    """Read labelled rows, in our form or in that of Li et al.

    Parameters
    ----------
    path
        A CSV file; this module says of which columns. It is ours if it has ``image`` and ``domain``, the
        authors' if it has ``names`` or ``label``.

    Returns
    -------
    Table
        Rows with all features that the file holds.

    Raises
    ------
    CalibrationError
        If the file cannot be read as a table, naming every missing or doubled column, or every line whose
        cells cannot be used (the first ten).

    References
    ----------
    N. Li et al., data_all_2.csv, doi:10.6084/m9.figshare.27281400.v1.

    Examples
    --------
    >>> import tempfile
    >>> from passband.estimate.features import PAPER_FEATURES
    >>> features = dict.fromkeys(PAPER_FEATURES, 0.5)
    >>> row = CalibrationRow(features=features, f1=0.8, precision=1, recall=2 / 3, domain="A", image="a")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_table(write_table(Path(folder) / "rows.csv", [row])).rows == (row,)
    True
    """
    path = Path(path)
    try:
        return _read(path)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        why = (
            "it is not text in UTF-8; save it as CSV (UTF-8)"
            if isinstance(e, UnicodeDecodeError)
            else getattr(e, "strerror", None) or str(e)
        )
        raise CalibrationError(f"{path}: cannot be read as a table: {why}") from e


def write_table(
    path: str | Path, rows: Sequence[CalibrationRow], *, swelling_error: Vector | None = None
) -> Path:
    """Write labelled rows in our form; `read_table` gives the same rows.

    Parameters
    ----------
    path
        Of the CSV file. It appears whole or not at all.
    rows
        At least one, all with the same features, `PAPER_FEATURES` among them.
    swelling_error
        Percent, float64 (n,), NaN where unknown.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    CalibrationError
        Naming every row that such a table cannot hold.
    PassbandError
        If the file cannot be written.
    """
    if not rows:
        raise CalibrationError(f"{path}: no rows came to be written, wanted at least one")
    names = tuple(rows[0].features)
    faults = _unwritable(rows, names, swelling_error)
    _refuse(path, faults)
    extra = () if swelling_error is None else (SWELLING,)
    table: list[list[Any]] = [[*_NAMES, *TARGETS, *extra, *names]]
    for i, r in enumerate(rows):
        numbers = [getattr(r, t) for t in TARGETS]
        numbers += [] if swelling_error is None else [swelling_error[i]]
        numbers += [r.features[n] for n in names]
        table.append([r.image, r.domain, *("" if math.isnan(v) else float(v) for v in numbers)])
    return write_whole(path, rows_csv(table, quoted=True))


def _unwritable(
    rows: Sequence[CalibrationRow], names: Sequence[str], swelling_error: Vector | None
) -> list[str]:
    """What such a table cannot hold, in words."""
    faults = []
    if missing := [n for n in PAPER_FEATURES if n not in names]:
        faults.append(f"the rows lack the features {missing}")
    if taken := [n for n in names if n in (*_NAMES, *TARGETS, SWELLING, "") or n != n.strip()]:
        faults.append(f"features cannot be named {taken}")
    if swelling_error is not None and swelling_error.shape != (len(rows),):
        faults.append(f"{len(rows)} rows came with swelling errors of shape {swelling_error.shape}")
    for i, r in enumerate(rows):
        where = f"row {i} (image {r.image!r}, domain {r.domain!r}): "
        faults += [where + fault for fault in _name_faults(r.image, r.domain)]
        if set(r.features) != set(names):
            faults.append(where + ", ".join(name_faults(set(r.features), set(names))))
    return faults


def _read(path: Path) -> Table:
    if path.is_dir():
        raise CalibrationError(f"{path}: cannot be read as a table: it is a folder, wanted a CSV file")
    with path.open(newline="", encoding="utf-8-sig") as f:
        reader = csv.reader(f, strict=True)
        header = [name.strip() for name in next(reader, [])]
        is_ours = _is_ours(path, header)
        lines, cells, faults = [], [], []
        for line in reader:
            if not any(line):
                continue
            if len(line) != len(header):
                faults.append(f"line {reader.line_num}: {len(line)} cells under a heading of {len(header)}")
                continue
            lines.append(reader.line_num)
            cells.append(line)
    _refuse(path, faults)
    if not cells:
        raise CalibrationError(f"{path}: the table has no rows; wanted one for each labelled image")
    columns = dict(zip(header, zip(*cells, strict=True), strict=True))
    swelling = SWELLING if is_ours else "swell_frac"
    texts = _NAMES if is_ours else ("names", "label")
    numeric = [n for n in (columns if is_ours else _AUTHORS) if n not in (*texts, swelling)]
    optional = (*TARGETS, swelling)
    if swelling in columns:
        numeric.append(swelling)
    wrong: dict[int, list[str]] = {}
    values = {n: _numbers(n, columns[n], wrong, may_be_empty=n in optional) for n in numeric}
    if is_ours:
        _refuse_text(path, columns, values)
    convert = _our_features if is_ours else _author_features
    features, names = convert(values), tuple(zip(columns[texts[0]], columns[texts[1]], strict=True))
    rows = _rows(features, values, names if is_ours else [(i, " ".join(d.split())) for i, d in names], wrong)
    _refuse(path, [f"line {lines[i]}: " + "; ".join(wrong[i]) for i in sorted(wrong)])
    return Table(rows=tuple(rows), swelling_error=np.array(values[swelling]) if swelling in values else None)


def _is_ours(path: Path, header: Sequence[str]) -> bool:
    """Which form a heading has, or why it has none."""
    if not any(header):
        raise CalibrationError(f"{path}: cannot be read as a table: the file is empty")
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise CalibrationError(f"{path}: its columns are separated by {name}; save it with commas")
    is_ours = set(_NAMES) <= set(header) or not {"names", "label"} & set(header)
    faults = []
    if missing := [n for n in (_OURS if is_ours else _AUTHORS) if n not in header]:
        faults.append(f"columns missing: {missing}")
    if doubled := [n for n, times in Counter(header).items() if times > 1]:
        faults.append(f"columns of the same name: {doubled}")
    if is_ours and "" in header:
        faults.append(f"column {header.index('') + 1} has no name")
    _refuse(path, faults)
    return is_ours


def _numbers(
    name: str, cells: Sequence[str], wrong: dict[int, list[str]], *, may_be_empty: bool
) -> list[float]:
    """A column as numbers, with a fault for each cell that is none."""
    values = []
    for i, cell in enumerate(cells):
        try:
            # Python reads 1_000 as a number, a table does not.
            value = float("text" if "_" in cell else cell or "nan")
        except ValueError:
            value = math.inf
            wrong.setdefault(i, []).append(f"{name} is {cell!r}, wanted a number")
        else:
            if math.isinf(value) or (math.isnan(value) and not may_be_empty):
                value = math.inf
                wrong.setdefault(i, []).append(f"{name} is {cell!r}, wanted a finite number")
        values.append(value)
    return values


def _refuse_text(path: Path, columns: dict[str, tuple[str, ...]], values: dict[str, list[float]]) -> None:
    """Stop at columns of text, which cannot be features."""
    own = (*_OURS, SWELLING)
    texts = [n for n, column in values.items() if n not in own and not any(map(math.isfinite, column))]
    if texts := [n for n in texts if any(columns[n])]:
        raise CalibrationError(
            f"{path}: columns of text: {texts} (such as {columns[texts[0]][0]!r}); every column but "
            f"{', '.join(_NAMES)} is a number, so leave these out"
        )


def _our_features(values: dict[str, list[float]]) -> dict[str, list[float]]:
    return {n: column for n, column in values.items() if n not in (*TARGETS, SWELLING)}


def _author_features(values: dict[str, list[float]]) -> dict[str, list[float]]:
    counts = values["counts"]
    shares = {
        # No image without detections is in their table; one would have 0 in every bin.
        ours: [v / c if c else v for v, c in zip(values[theirs], counts, strict=True)]
        for theirs, ours in _BINS.items()
    }
    return shares | {ours: values[theirs] for theirs, ours in _RENAMED.items()}


def _rows(
    features: dict[str, list[float]],
    values: dict[str, list[float]],
    names: Sequence[tuple[str, str]],
    wrong: dict[int, list[str]],
) -> list[CalibrationRow]:
    """Rows of the lines that are right so far, with a fault for each that is none."""
    rows = []
    own = tuple(features)
    scores = zip(*(values[t] for t in TARGETS), strict=True)
    each = zip(*features.values(), strict=True)
    for i, ((image, domain), said, numbers) in enumerate(zip(names, scores, each, strict=True)):
        if faults := _name_faults(image, domain):
            wrong.setdefault(i, []).extend(faults)
        if i in wrong:
            continue
        try:
            measured = dict(zip(TARGETS, said, strict=True))
            mine = dict(zip(own, numbers, strict=True))
            rows.append(CalibrationRow(features=mine, domain=domain, image=image, **measured))
        except CalibrationError as e:
            wrong[i] = [str(e)]
    return rows


def _name_faults(image: str, domain: str) -> list[str]:
    return [f"its {what} is empty" for what, name in (("image", image), ("domain", domain)) if not name]


def _refuse(path: str | Path, faults: Sequence[str]) -> None:
    """Stop if there are faults, saying the first of them."""
    if faults:
        more = len(faults) - _MOST_FAULTS
        shown = [*faults[:_MOST_FAULTS], f"and {more} more"] if more > 0 else faults
        raise CalibrationError(f"{path}: " + "; ".join(shown))
