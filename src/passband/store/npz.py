"""What NumPy says of an ``.npz`` that it does not read, in words of our own."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

NPZ_FAULTS = (
    OSError, ValueError, TypeError, AttributeError, EOFError, KeyError, NotImplementedError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises where an ``.npz`` is damaged, or something else."""


def npz_fault(path: str | Path, error: Exception) -> str:
    """What is wrong with a file that NumPy did not read: what is no archive, it takes for a pickle."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if zipfile.is_zipfile(path) else "it is no .npz archive, or a damaged one"
