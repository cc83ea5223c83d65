"""JSON that carries a checksum of itself, and checksums of what else stands beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import DatasetError


def sealed(content: Mapping[str, Any]) -> str:
    """JSON with a checksum of itself."""
    return json.dumps({**content, "sha256": digest(content)}, indent=1) + "\n"


def digest(content: Mapping[str, Any]) -> str:
    """Checksum of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> tuple[dict[str, Any], bool]:
    """What a JSON file holds, without its checksum, and whether it is to the byte what `sealed` wrote.

    Raises
    ------
    DatasetError
        If it cannot be read, or holds no JSON table.
    """
    try:
        raw = path.read_bytes()
        content = json.loads(raw.decode())
        if not isinstance(content, dict):
            raise DatasetError(f"{path} was edited: it holds no table")
        content.pop("sha256", None)
        return content, raw == sealed(content).encode()
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{path} was cut or edited: it is not JSON ({first_line(e)})") from e


def unsealed(path: Path) -> dict[str, Any]:
    """What `sealed` made a file of.

    Raises
    ------
    DatasetError
        If it cannot be read, or is not to the byte what was written.
    """
    content, whole = load(path)
    if not whole:
        raise DatasetError(f"{path} was cut or edited (its checksum differs); bring it back")
    return content


def content_sha256(content: np.ndarray) -> str:
    """Checksum of an array's shape, type and values."""
    digest = content_hash(content.dtype, content.shape)
    digest.update(array_bytes(content))
    return str(digest.hexdigest())


def content_hash(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """The checksum of an array that comes in parts: to be updated with `array_bytes` of each, in order."""
    return hashlib.sha256(f"{dtype.str}{shape}".encode())


def array_bytes(content: np.ndarray) -> memoryview:
    """The values of an array, for a checksum."""
    return np.ascontiguousarray(content).reshape(-1).view(np.uint8).data


def file_sha256(path: Path) -> str:
    """Checksum of a file, every byte of it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as f:
        digest: str = hashlib.file_digest(f, "sha256").hexdigest()
        return digest


def first_line(error: Exception) -> str:
    """What an error of a library says, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
