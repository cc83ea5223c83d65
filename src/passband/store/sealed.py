"""Sealed stores: JSON with a checksum of itself, arrays by their checksum, and one writer at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import DatasetError

LOCK = ".lock"


def sealed(content: Mapping[str, Any]) -> str:
    """JSON with a checksum of itself."""
    return json.dumps({**content, "sha256": digest(content)}, indent=1) + "\n"


def digest(content: Mapping[str, Any]) -> str:
    """Checksum of JSON values, but for the one that they carry."""
    rest = {k: v for k, v in content.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> dict[str, Any]:
    """What a JSON file holds, its checksum not yet compared.

    Raises
    ------
    DatasetError
        If it cannot be read, or holds no JSON table.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{path} was cut or edited: it is not JSON ({first_line(e)})") from e
    if not isinstance(content, dict):
        raise DatasetError(f"{path} was edited: it holds no table")
    return content


def unsealed(path: Path) -> dict[str, Any]:
    """What `sealed` made a file of.

    Raises
    ------
    DatasetError
        If it cannot be read, or is not to the byte what was written.
    """
    content = load(path)
    if path.read_text("utf-8") != sealed({k: v for k, v in content.items() if k != "sha256"}):
        raise DatasetError(f"{path} was cut or edited (its checksum differs); bring it back")
    del content["sha256"]
    return content


def content_sha256(content: np.ndarray) -> str:
    """Checksum of an array's shape, type and values."""
    digest = hashlib.sha256(f"{content.dtype.str}{content.shape}".encode())
    digest.update(np.ascontiguousarray(content).view(np.uint8).data)
    return digest.hexdigest()


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a store's folder against other runs.

    Raises
    ------
    DatasetError
        If another run is writing to it.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            import fcntl

            # Let go of by the system when this process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # a system without it: two runs would do the same work twice, no harm beyond
            pass
        except OSError as e:
            raise DatasetError(f"another run is writing to {folder}; wait for it to end, or stop it") from e
        yield


def listed_names(names: Sequence[str]) -> str:
    """Names as a message lists them."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def first_line(error: Exception) -> str:
    """What an error of a library says, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
