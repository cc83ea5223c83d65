"""The ledger of a study: which runs there are, how far they are, and their rows, in SQLite.

Its one writer is the driver. All that it holds follows from the study and the result files, so a damaged
ledger, or one that a killed driver left behind, is made good from them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from passband.errors import DatasetError
from passband.generalise.folder import StudyFolder
from passband.generalise.performing import is_of, record
from passband.store.parts import read_part, write_part

LEDGER = "ledger.sqlite"
STATES = ("pending", "running", "done", "failed")
_TABLES = """
CREATE TABLE study (digest TEXT);
CREATE TABLE runs (place INTEGER PRIMARY KEY, name TEXT UNIQUE, parameters TEXT, state TEXT DEFAULT 'pending',
    error TEXT, seconds REAL, attempts INTEGER DEFAULT 0);
CREATE INDEX by_state ON runs (state, place);
CREATE TABLE results (place INTEGER, point INTEGER, f1 REAL, loss REAL, more TEXT,
    PRIMARY KEY (place, point)) WITHOUT ROWID;
"""
_PAGE = 500
_COMMITTED_EACH = 256
"""So many runs that are begun are told at once, the later ones twice a second with what is done."""
_STALE = 3600.0
"""Seconds after which what was left half-written is taken for that of a killed worker."""


class Ledger:
    """An open ledger; a context that leaves it closed and told to the disk."""

    def __init__(self, folder: StudyFolder, connection: sqlite3.Connection) -> None:
        self._folder, self._db = folder, connection
        self._told, self._begun = 0.0, 0

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.closing(self._db), _in_words(self._folder):
            self._db.commit()

    def counts(self) -> dict[str, int]:
        """How many runs are in each state."""
        found = dict(self._db.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def row_count(self) -> int:
        """How many rows there are."""
        return int(self._db.execute("SELECT count(*) FROM results").fetchone()[0])

    def seconds(self) -> float:
        """What the runs that are done took together."""
        total = self._db.execute("SELECT total(seconds) FROM runs WHERE state = 'done'").fetchone()[0]
        return float(total)

    def errors(self, most: int) -> list[tuple[str, str]]:
        """Runs that failed, and why."""
        found = self._db.execute(
            "SELECT name, error FROM runs WHERE state = 'failed' ORDER BY place LIMIT ?", (most,)
        )
        return [(str(name), str(error)) for name, error in found]

    def begin_pending(self) -> Iterator[dict[str, Any]]:
        """The runs to do, one after another, each marked as running when it is given."""
        last = -1
        while True:
            page = self._db.execute(
                "SELECT place, parameters, attempts FROM runs WHERE state = 'pending' AND place > ? "
                "ORDER BY place LIMIT ?",
                (last, _PAGE),
            ).fetchall()
            for place, parameters, attempts in page:
                self._db.execute("UPDATE runs SET state = 'running' WHERE place = ?", (place,))
                self._begun += 1
                self.tell(at_once=self._begun <= _COMMITTED_EACH)
                last = place
                yield {**json.loads(parameters), "attempts": attempts + 1}
            if not page:
                return

    def take(self, result: Mapping[str, Any]) -> None:
        """Take a result in; one that is there already, or a failure after a success, adds nothing."""
        found = self._db.execute("SELECT place, state FROM runs WHERE name = ?", (result["run"],)).fetchone()
        if found is None or found[1] == "done":
            return
        place, error = found[0], result["error"]
        self._db.execute(
            "UPDATE runs SET state = ?, error = ?, seconds = ?, attempts = ? WHERE place = ?",
            ("failed" if error else "done", error, result["seconds"], result["attempts"], place),
        )
        scores = ("f1", "loss")
        rows = []
        for point, row in enumerate(result["rows"]):
            more = {k: v for k, v in row.items() if k not in scores}
            rows.append((place, point, row["f1"], row["loss"], json.dumps(more) if more else None))
        self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)
        self.tell()

    def take_file(self, name: str) -> str | None:
        """Take in what a run's file holds: "done", "failed", or None where it is no result of this run."""
        result = read_part(self._folder.result(name))
        if result is None or not is_of(result, name, self._folder.digest):
            return None
        self.take(result)
        return "failed" if result["error"] else "done"

    def fail(self, run: Mapping[str, Any], words: str) -> None:
        """Keep the failure of a run whose worker could not tell of it."""
        name = str(run["name"])
        outcome: dict[str, Any] = {"rows": [], "error": words, "traceback": None, "seconds": None}
        failed = record(name, self._folder.digest, int(run["attempts"]), outcome)
        write_part(self._folder.result(name), failed)
        self.take(failed)

    def reconcile(self) -> None:
        """Take in every file that is not told of yet; what was running when its driver ended is pending."""
        self._db.execute("UPDATE runs SET state = 'pending' WHERE state = 'running'")
        done = "SELECT 1 FROM runs WHERE name = ? AND state = 'done'"
        self._folder.results.mkdir(exist_ok=True)
        with os.scandir(self._folder.results) as files:
            for file in files:
                if file.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):  # a worker may finish it just now
                        if time.time() - file.stat().st_mtime > _STALE:
                            Path(file.path).unlink()
                    continue
                name = file.name.removesuffix(".json")
                if self._db.execute(done, (name,)).fetchone() is None:
                    self.take_file(name)
        self._db.commit()

    def forget_failures(self) -> int:
        """Make failed runs pending again, their files gone; how many they were."""
        failed = self._db.execute("SELECT name FROM runs WHERE state = 'failed'").fetchall()
        for (name,) in failed:
            self._folder.result(name).unlink(missing_ok=True)
        self._db.execute("UPDATE runs SET state = 'pending', error = NULL WHERE state = 'failed'")
        self._db.commit()
        return len(failed)

    def rows(self) -> Iterator[tuple[dict[str, Any], int, dict[str, Any]]]:
        """Parameters of the run, number of the test condition, and the scores of every row, in order."""
        found = self._db.execute(
            "SELECT parameters, point, f1, loss, more FROM results JOIN runs USING (place) "
            "ORDER BY place, point"
        )
        for parameters, point, f1, loss, more in found:
            scores = {"f1": f1, "loss": loss, **(json.loads(more) if more else {})}
            yield json.loads(parameters), point, scores

    def more_columns(self) -> list[str]:
        """Names of what rows hold beside F1 and loss."""
        found = self._db.execute("SELECT DISTINCT j.key FROM results, json_each(results.more) j ORDER BY 1")
        return [str(name) for (name,) in found]

    def tell(self, *, at_once: bool = False) -> None:
        """Let readers see what was written, twice a second or at once."""
        now = time.monotonic()
        if at_once or now - self._told > 0.5:
            self._db.commit()
            self._told = now


@contextlib.contextmanager
def open_ledger(folder: StudyFolder) -> Iterator[Ledger]:
    """The ledger, to write, reconciled with the result files; made anew where it is damaged.

    To be called by who holds the folder with `sole_writer`.

    Raises
    ------
    DatasetError
        If it cannot be written, as on a full disk.
    """
    with _in_words(folder):
        try:
            connection = _opened(folder)
        except (sqlite3.DatabaseError, _UnusableError) as e:
            if isinstance(e, sqlite3.OperationalError) and "no such" not in str(e):
                raise  # it may be whole, and cannot be used now
            for suffix in ("", "-wal", "-shm"):
                (folder.path / f"{LEDGER}{suffix}").unlink(missing_ok=True)
            connection = _opened(folder)
        with Ledger(folder, connection) as ledger:
            ledger.reconcile()
            yield ledger


@contextlib.contextmanager
def read_ledger(folder: StudyFolder) -> Iterator[Ledger]:
    """The ledger as its writer last told it, to read beside the writer.

    Raises
    ------
    DatasetError
        If there is none yet.
    """
    with _in_words(folder):
        where = f"{(folder.path / LEDGER).absolute().as_uri()}?mode=ro"
        with Ledger(folder, sqlite3.connect(where, uri=True, timeout=20)) as ledger:
            yield ledger


class _UnusableError(Exception):
    """The ledger is of another study, or not whole."""


def _opened(folder: StudyFolder) -> sqlite3.Connection:
    db = sqlite3.connect(folder.path / LEDGER, timeout=20)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            if db.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise _UnusableError
            db.executescript(_TABLES)
            db.execute("INSERT INTO study VALUES (?)", (folder.digest,))
            listed = (
                (place, values["name"], json.dumps(values))
                for place, values in enumerate(run.values() for run in folder.study.runs())
            )
            db.executemany("INSERT INTO runs (place, name, parameters) VALUES (?, ?, ?)", listed)
            db.execute("PRAGMA user_version = 1")
            db.commit()
        whole = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        if not whole or db.execute("SELECT digest FROM study").fetchone() != (folder.digest,):
            raise _UnusableError
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def _in_words(folder: StudyFolder) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        raise DatasetError(
            f"{folder.path / LEDGER} cannot be used ({e}); what is finished is kept in "
            f"{folder.results}: see that there is room, then run the same command again"
        ) from e
