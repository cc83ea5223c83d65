"""People's labels of the particles of a library, taken from a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from passband.errors import DatasetError
from passband.particles.library.library import library_of, write_table
from passband.particles.library.store import LABELS, LIBRARY, read_labels, read_manifest
from passband.particles.library.writing import write_labels
from passband.store.folders import writer
from passband.words import counted

_FAULTS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What came of giving labels.

    Parameters
    ----------
    given
        Particles that the table labelled.
    unlabelled
        Rows of the table without a label, passed over.
    counts
        How many particles of the library have each label now.
    """

    given: int
    unlabelled: int
    counts: Mapping[str, int]


def label_library(folder: str | Path, csv_path: str | Path) -> Labelling:
    """Take people's labels of particles from a table; those it does not name keep theirs.

    Parameters
    ----------
    folder
        Of the library.
    csv_path
        Separated by commas, semicolons or tabs, with columns ``particle`` (its id) and ``label``; others
        are passed over, as are rows without a label, so the library's own particles.csv can be filled in.

    Raises
    ------
    DatasetError
        If the library cannot be used; or the table, naming every fault: missing columns, particles that
        are not there, two labels for one, no label at all.
    """
    manifest = read_manifest(Path(folder))
    library = library_of(manifest, labels={})
    new, unlabelled = _labels_of(Path(csv_path), set(library.table["particle"].tolist()))
    with writer(manifest.folder, LIBRARY):
        # Where they are lost, these are all there are.
        known = read_labels(manifest, library.records) if (manifest.folder / LABELS).exists() else {}
        labels = {**known, **new}
        write_labels(manifest.folder, labels)
        write_table(library_of(manifest))
    names = sorted(set(labels.values()))
    counts = {name: sum(v == name for v in labels.values()) for name in names}
    return Labelling(given=len(new), unlabelled=unlabelled, counts=counts)


def _labels_of(path: Path, known: set[str]) -> tuple[dict[str, str], int]:
    """Label of each particle that a table names, and how many rows have none."""
    labels: dict[str, str] = {}
    unlabelled, faults = 0, []
    for line, particle, label in _rows_of(path):
        if not particle:
            faults.append(f"row {line} names no particle")
        elif particle not in known:
            faults.append(f"row {line}: the library has no particle {particle[:40]!r}")
        elif not label:
            unlabelled += 1
        elif labels.setdefault(particle, label) != label:
            faults.append(f"row {line} labels {particle} {label!r}, a row before it {labels[particle]!r}")
    if not labels and not faults:
        faults.append("no row has a label")
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise DatasetError(
            f"{path}: {counted(len(faults), 'fault')}: " + "; ".join(faults[:_FAULTS_SHOWN]) + more
        )
    return labels, unlabelled


def _rows_of(path: Path) -> list[tuple[int, str, str]]:
    """Number, particle and label of each row of a table that has either."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}; check the name") from e
    except UnicodeDecodeError as e:
        raise DatasetError(f"{path} is not UTF-8 text; save the table as CSV (UTF-8)") from e
    first = text.split("\n", 1)[0]
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count)))
    except csv.Error as e:
        raise DatasetError(f"{path} is not a table of comma-separated values ({e}); save it as CSV") from e
    heads = [h.strip().lower() for h in rows[0]] if rows else []
    lacking = [name for name in ("particle", "label") if heads.count(name) != 1]
    if lacking:
        got = ", ".join(heads)[:200] or "nothing"
        raise DatasetError(
            f"{path}: wanted one column named {' and one named '.join(lacking)}; its headings are: {got}"
        )
    at, label_at = heads.index("particle"), heads.index("label")
    padded = [[cell.strip() for cell in row] + [""] * len(heads) for row in rows[1:]]
    found = [(line, cells[at], cells[label_at]) for line, cells in enumerate(padded, 2)]
    return [row for row in found if row[1] or row[2]]
