"""The results of a study in one small file, to carry them to another machine or keep them where a disk goes.

A study is days of work, and lies on a disk that may be wiped between them: a cluster's scratch, a rented
machine. Its scenes follow from the study again; what its networks reached does not. Packs hold that alone,
and each the networks that earlier ones do not, so that they can be kept in version control.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from passband.errors import DatasetError
from passband.generalise.folder import StudyFolder, open_study
from passband.generalise.performing import is_of, looked_through, record
from passband.generalise.study import RECIPE
from passband.store.files import write_whole
from passband.store.parts import read_part, write_part

FORMAT = "passband study results"
VERSION = 1
DIGITS = 5
"""Numbers are kept to so many significant digits."""
_LONGEST = 2**24
"""A line of a pack has no more characters: that of a network with 20,000 test conditions."""


def pack(folder: str | Path, out: str | Path, *, earlier: Sequence[str | Path] = ()) -> int:
    """Write what a study's networks reached into one file, those left out that earlier packs hold.

    Parameters
    ----------
    folder
        Of the study, finished or not.
    out
        File to write, whole or not at all; by custom its name ends in .xz.
    earlier
        Packs of the same study.

    Returns
    -------
    int
        How many networks it holds.

    Raises
    ------
    DatasetError
        If there is no study, no network that is not packed yet, or an earlier pack is of another study.
    PassbandError
        If the file cannot be written.
    """
    begun = open_study(folder)
    known = {name for path in earlier for name, _ in _read(path, begun)}
    columns: list[str] = []
    lines = []
    for run in begun.study.runs():
        result = read_part(begun.result(run.name))
        if run.name in known or not is_of(result, run.name, begun.digest):
            continue
        assert result is not None
        if result["error"]:
            continue
        columns = columns or list(result["rows"][0])
        values = [[_short(row.get(c)) for c in columns] for row in result["rows"]]
        lines.append(json.dumps([run.name, result["seconds"], values], separators=(",", ":")))
    if not lines:
        held = f"; {len(known)} are in the earlier packs" if known else ""
        raise DatasetError(f"{begun.path} has no network to pack that is done{held}")
    head = {"format": FORMAT, "version": VERSION, "recipe": RECIPE, "study": begun.digest, "columns": columns}
    text = "\n".join([json.dumps(head), *lines]) + "\n"
    write_whole(out, lzma.compress(text.encode()))
    return len(lines)


def unpack(folder: StudyFolder, packs: Sequence[str | Path]) -> int:
    """Put the results of packs into a study's folder; what is there already stays.

    Parameters
    ----------
    folder
        Of the same study, begun.
    packs
        Files that `pack` wrote.

    Returns
    -------
    int
        How many networks came to what was there.

    Raises
    ------
    DatasetError
        If a pack is of another study or recipe, or damaged; nothing is put into the folder then.
    """
    found = {name: outcome for path in packs for name, outcome in _read(path, folder)}
    folder.results.mkdir(exist_ok=True)
    count = 0
    for name, outcome in found.items():
        path = folder.result(name)
        if not is_of(read_part(path), name, folder.digest):
            write_part(path, record(name, folder.digest, 1, outcome))
            count += 1
    return count


def _read(path: str | Path, folder: StudyFolder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of networks and what they reached; each looked through."""
    tests = [p.columns("test") for p in folder.study.test_points()]
    names = {run.name for run in folder.study.runs()}
    with _opened(path) as file:
        head = json.loads(file.readline(_LONGEST) or "null")
        if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("version") != VERSION:
            raise ValueError("it does not begin as a pack does")
        if (head["study"], head["recipe"]) != (folder.digest, RECIPE):
            raise DatasetError(
                f"{path} holds results of another study than {folder.path}, or of networks that another "
                "version of Passband trained; give the packs of this one"
            )
        columns = [str(c) for c in head["columns"]]
        while line := file.readline(_LONGEST):
            name, seconds, values = json.loads(line)
            if name not in names:
                raise ValueError(f"the study has no network {str(name)[:40]!r}")
            rows = [dict(zip(columns, row, strict=True)) for row in values]
            seconds = None if seconds is None else float(seconds)
            kept = looked_through(rows, tests)
            yield name, {"rows": kept, "error": None, "traceback": None, "seconds": seconds}


@contextmanager
def _opened(path: str | Path) -> Iterator[TextIO]:
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            yield file
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}; give what `study pack` wrote") from e
    except (lzma.LZMAError, EOFError, ValueError, TypeError, KeyError, RecursionError) as e:
        raise DatasetError(
            f"{path} is no pack of a study's results, or damaged ({e}); give what `study pack` wrote"
        ) from e


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
