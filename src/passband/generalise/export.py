"""A study as one table: a row for each pair of a trained network and a test condition."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from passband.errors import DatasetError, PassbandError
from passband.generalise.conditions import point_from_values
from passband.generalise.folder import StudyFolder, open_study
from passband.generalise.ledger import Ledger
from passband.generalise.run import ledger_of
from passband.store.columns import rows_csv
from passband.store.files import refuse_unwritable

_BLOCK = 5_000


def export_csv(folder: str | Path, out: str | Path) -> int:
    """Write all rows that there are as CSV.

    Parameters
    ----------
    folder
        Of the study, finished or not.
    out
        File to write, whole or not at all. Its columns are ``run`` (name of the network), ``train_*``,
        ``test_*``, ``seed`` (number of the network among those of its kind and condition), ``f1``,
        ``loss`` and what else the task tells.

    Returns
    -------
    int
        How many rows.

    Raises
    ------
    DatasetError
        If there is no study, or no row.
    PassbandError
        If the file cannot be written.
    """
    with _rows(folder) as (columns, rows), _beside(out) as path:
        count = 0
        with path.open("w", encoding="utf-8", newline="") as f:
            f.write(rows_csv([columns]))
            for block in iter(lambda: list(itertools.islice(rows, _BLOCK)), []):
                f.write(rows_csv([row.get(c, "") for c in columns] for row in block))
                count += len(block)
    return count


def export_parquet(folder: str | Path, out: str | Path) -> int:
    """Write the same rows as `export_csv` as Parquet.

    Raises
    ------
    DatasetError
        If there is no study, or no row.
    PassbandError
        If pyarrow is missing or the file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise PassbandError(
            "Parquet needs pyarrow, which is missing: pip install 'passband[parquet]'; or take --csv"
        ) from e
    with _rows(folder) as (columns, rows), _beside(out) as path:
        count, writer = 0, None
        try:
            for block in iter(lambda: list(itertools.islice(rows, _BLOCK)), []):
                table = pa.table({c: [row.get(c) for row in block] for c in columns})
                writer = writer or pq.ParquetWriter(path, table.schema)
                writer.write_table(table.cast(writer.schema))
                count += len(block)
        except pa.ArrowInvalid as e:
            raise PassbandError(f"a column holds now numbers, now texts ({e}); take --csv") from e
        finally:
            if writer is not None:
                writer.close()
    return count


def study_rows(folder: str | Path) -> list[dict[str, Any]]:
    """All rows that there are, as `export_csv` writes them.

    Raises
    ------
    DatasetError
        If there is no study, or no row.
    """
    with _rows(folder) as (_, rows):
        return list(rows)


@contextlib.contextmanager
def _rows(folder: str | Path) -> Iterator[tuple[list[str], Iterator[dict[str, Any]]]]:
    """The columns, and every row by them."""
    begun = open_study(folder)
    with ledger_of(begun) as ledger:
        if not ledger.row_count():
            raise DatasetError(f"{folder} has no row yet; `passband study run` makes them")
        tests = [p.columns("test", rare=begun.study.test.rare) for p in begun.study.test_points()]
        columns = [
            "run",
            "train_network",
            *_train_columns(begun),
            *tests[0],
            "seed",
            "f1",
            "loss",
            *ledger.more_columns(),
        ]
        yield columns, _flat(ledger, tests, begun.study.train.rare)


def _flat(ledger: Ledger, tests: list[dict[str, Any]], rare: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for run, point, scores in ledger.rows():
        yield {
            "run": run["name"],
            "train_network": run["network"],
            **point_from_values(run["train"]).columns("train", rare=rare),
            **tests[point],
            "seed": run["replicate"],
            **scores,
        }


def _train_columns(folder: StudyFolder) -> list[str]:
    axes = folder.study.train
    return list(next(axes.points()).columns("train", rare=axes.rare))


@contextlib.contextmanager
def _beside(out: str | Path) -> Iterator[Path]:
    """A file to write, which takes its place when it is whole: a table may be too large for memory."""
    out = Path(out)
    refuse_unwritable(out)
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name[:40]}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(out)
    except OSError as e:
        raise PassbandError(
            f"{out} cannot be written: {e.strerror or e}; choose a folder that you may write to, with room"
        ) from e
    finally:
        temporary.unlink(missing_ok=True)
