"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from passband.errors import PassbandError


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write a file beside its place, then move it there; a reader never sees half of it.

    Parameters
    ----------
    path
        Its folder is made where it is missing; an existing file is replaced.
    content
        Text is written as UTF-8, and characters that have none (as in some file names) escaped.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    PassbandError
        If the folder or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "new" / "a.txt", "Å").read_text("utf-8")
    'Å'
    """
    path, content = Path(path), file_bytes(content)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as f:
            f.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as e:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise PassbandError(
            f"{path} cannot be written: {e.strerror or e}; choose a folder that you may write to, with room"
        ) from e
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise
    return path


def file_bytes(content: str | bytes) -> bytes:
    """What `write_whole` writes of a content.

    Examples
    --------
    >>> file_bytes("a")
    b'a'
    """
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def refuse_unwritable(path: str | Path) -> None:
    """Make the folder of a file that long work will write, or say at once that it cannot be written.

    Raises
    ------
    PassbandError
        If the folder cannot be made or written to, or the path is a folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     refuse_unwritable(Path(folder) / "new" / "a.txt")
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}."):
            pass
    except OSError as e:
        raise PassbandError(
            f"{path} cannot be written: {e.strerror or e}; choose a folder that you may write to, with room"
        ) from e
