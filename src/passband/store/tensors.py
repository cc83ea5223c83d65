"""A file of numbers that says of itself whether it is whole: what every bundle is stored in.

It is a safetensors file (numbers only: loading runs no code) whose header holds settings as JSON and the
SHA-256 of the whole file. A flipped byte anywhere is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from passband.errors import BundleError
from passband.store.files import write_whole

FORMAT = 1
"""Of the file; raised when an older Passband could misread a newer file."""
MAX_BYTES = 2_000_000_000
"""A larger file is no bundle of ours."""

_BLANK = "0" * 64
_DIGEST = re.compile(rb'\\"digest\\": \\"([0-9a-f]{64})\\"')


class Sealed(NamedTuple):
    """The settings, tensors and digest of a file, and where it lies."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str
    path: Path

    @property
    def kind(self) -> str:
        """What it is a bundle of: "detector" or "particles"."""
        return str(self.header.get("kind", "detector"))

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def write_sealed(header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | Path) -> str:
    """Write settings and tensors to one file, whole or not at all, and return its digest.

    Parameters
    ----------
    header
        JSON values.
    tensors
        Contiguous tensors of the processor's memory.
    path
        An existing file is replaced once the new one is complete.

    Raises
    ------
    PassbandError
        If the file cannot be written.
    """
    settings = json.dumps({"format": FORMAT, "digest": _BLANK, **header})
    content = save(dict(tensors), {"passband": settings})
    digest = hashlib.sha256(content).hexdigest()
    write_whole(path, content.replace(_BLANK.encode(), digest.encode(), 1))
    return digest


def read_sealed(path: str | Path) -> Sealed:
    """Read what `write_sealed` wrote; no code of the file is run.

    Raises
    ------
    BundleError
        If the file is missing, damaged, of a newer format, or another kind of file.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"{path}: {path.stat().st_size} bytes is larger than any bundle; wrong file?")
        content = path.read_bytes()
    except OSError as e:
        raise BundleError(f"{path}: cannot be read as a bundle: {e.strerror}") from e
    found = _DIGEST.search(content)
    if found is None:
        raise BundleError(f"{path}: not a Passband bundle (wanted a file written by Passband's training)")
    digest = found.group(1).decode()
    start, end = found.span(1)
    blanked = content[:start] + _BLANK.encode() + content[end:]
    if hashlib.sha256(blanked).hexdigest() != digest:
        raise BundleError(
            f"{path}: damaged: its content does not match the digest it carries; get a fresh copy"
        )
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["passband"])
        if header["format"] > FORMAT:
            raise BundleError(
                f"{path}: bundle of format {header['format']}, this Passband reads up to {FORMAT}; "
                "upgrade Passband"
            )
        return Sealed(header, load(content), digest, path)
    except (KeyError, TypeError, ValueError, SafetensorError) as e:
        raise BundleError(f"{path}: a bundle whose settings cannot be understood: {e!r}") from e
