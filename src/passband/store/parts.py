"""One result of many: what it depends on, and a file of it that is whole or not there.

Beside `runs`, it needs no tensors: a process that only keeps results starts at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from passband.errors import DatasetError
from passband.store.files import write_whole
from passband.store.sealed import digest, sealed, unsealed


def key(depends: Mapping[str, Any]) -> str:
    """Name for what follows from these JSON values and nothing else.

    Examples
    --------
    >>> key({"a": 1, "b": [2]}) == key({"b": [2], "a": 1})
    True
    """
    return digest(depends)[:32]


def write_part(path: Path, values: Mapping[str, Any]) -> None:
    """Write one result of a run, whole or not at all, with a checksum of itself.

    Raises
    ------
    PassbandError
        If it cannot be written.
    """
    write_whole(path, sealed(values))


def read_part(path: Path) -> dict[str, Any] | None:
    """What `write_part` wrote, or None where there is none that is whole: then it is to be made anew."""
    try:
        return unsealed(path)
    except DatasetError:
        return None


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Which JSON values differ, in words.

    Examples
    --------
    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2, "d": None})
    ['a.b: 1, 3', 'd: nothing, null']
    """
    if isinstance(there, dict) and isinstance(here, dict):
        names = [*there, *(n for n in here if n not in there)]
        inner = [differences(there.get(n, ...), here.get(n, ...), f"{name}.{n}".lstrip(".")) for n in names]
        return [words for some in inner for words in some]
    if there == here and type(there) is type(here):
        return []
    return [f"{name}: {_word(there)}, {_word(here)}"]


def _word(value: Any) -> str:
    text = "nothing" if value is ... else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
