"""The table published with the random-forest predictor of F1, as rows under our names."""

from __future__ import annotations

import csv
from pathlib import Path

from passband.errors import CalibrationError
from passband.estimate.regressor import TARGETS
from passband.estimate.rows import CalibrationRow

_COLUMNS = {
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


def read_published_table(path: Path) -> list[CalibrationRow]:
    """Rows of the table published with the random-forest predictor, in our names.

    The counts in its bins of scores become shares, double spaces in its labels become one, and an F1
    of 0/0 becomes 0.

    Parameters
    ----------
    path
        A CSV file with the authors' column names.

    Returns
    -------
    list of CalibrationRow
        With the 18 candidate features; the domain is the label trained_tested.

    Raises
    ------
    CalibrationError
        If the file cannot be read, naming every missing column or every cell that is no number.

    References
    ----------
    N. Li et al., data_all_2.csv, doi:10.6084/m9.figshare.27281400.v1.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            lines, header = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise CalibrationError(f"{path}: cannot be read as a table: {e}") from e
    bins = [f"num_0.{k}" for k in range(1, 10)]
    missing = [c for c in ("names", "label", *TARGETS, *_COLUMNS, *bins) if c not in header]
    if missing:
        raise CalibrationError(f"{path}: columns missing: {missing}")
    faults: list[str] = []
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            values = {c: float(line[c] or "nan") for c in (*TARGETS, *_COLUMNS, *bins)}
            features = {f"share_0_{k}": values[b] / values["counts"] for k, b in enumerate(bins, start=1)}
            features |= {ours: values[theirs] for theirs, ours in _COLUMNS.items()}
            scores = {t: values[t] for t in TARGETS}
            domain = " ".join(line["label"].split())
            rows.append(CalibrationRow(features=features, domain=domain, image=line["names"], **scores))
        except (ValueError, TypeError, AttributeError, ZeroDivisionError, CalibrationError) as e:
            faults.append(f"line {number}: {e}")
    if faults or not rows:
        shown = [*faults[:10], f"and {len(faults) - 10} more"] if len(faults) > 10 else faults
        raise CalibrationError(f"{path}: " + ("; ".join(shown) or "the table has no rows"))
    return rows
