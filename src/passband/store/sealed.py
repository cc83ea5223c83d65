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


def sealed_text(content: Mapping[str, Any]) -> str:
    """`sealed` of what a file holds, whatever checksum it carries: what the file must be, to the byte."""
    return sealed({k: v for k, v in content.items() if k != "sha256"})


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
    if path.read_bytes() != sealed_text(content).encode():
        raise DatasetError(f"{path} was cut or edited (its checksum differs); bring it back")
    del content["sha256"]
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
