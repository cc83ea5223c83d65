"""A store's folder: begun once by its manifest, written by one run at a time, judged before it is used."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passband.errors import DatasetError, PassbandError
from passband.store.files import write_whole
from passband.store.sealed import load

LOCK = ".lock"
_FAR = 2**30
"""Place of the byte that is locked where a locked one cannot be read: beyond what a lock says."""
# What `write_whole` and zarr's local store call a file until it is whole.
_HALF_WRITTEN = r"\.(?:{stems}|zarr)\.(?:json|toml|csv)\.[a-z0-9_]{{8}}|\w+\.[0-9a-f]{{32}}\.partial"


@dataclass(frozen=True, kw_only=True)
class StoreKind:
    """What tells one kind of store from others, and what is said of it.

    Parameters
    ----------
    noun
        What people call it.
    format, version
        As its manifest says; an older Passband refuses a newer version.
    manifest
        Name of the file that is written first.
    stems
        Regular expression of the names, without their suffix, of the files that are written whole in it.
    make
        How one is made, for messages.
    """

    noun: str
    format: str
    version: int
    manifest: str
    stems: str
    make: str

    def is_ours(self, path: Path) -> bool:
        """Whether a file is the lock, or left half-written by a run of ours."""
        return path.name == LOCK or bool(re.fullmatch(_HALF_WRITTEN.format(stems=self.stems), path.name))


def is_begun(folder: Path, kind: StoreKind) -> bool:
    """Whether a folder holds a store of this kind.

    Raises
    ------
    DatasetError
        If it is a file, or holds something else; what a killed run left half-written is nothing.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; choose a new folder for the {kind.noun}")
    if (folder / kind.manifest).exists():
        return True
    others = sorted(p.name for p in folder.iterdir() if not kind.is_ours(p)) if folder.exists() else []
    if others:
        raise DatasetError(
            f"{folder} is not empty and holds no {kind.noun} (there is {listed_names(others)}); "
            "choose a new folder"
        )
    return False


def begin(folder: Path, kind: StoreKind, manifest: str) -> None:
    """Write the manifest of a new store.

    Raises
    ------
    DatasetError
        If it cannot be written, or another run has begun one meanwhile.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DatasetError(f"{folder} cannot be written: {e.strerror or e}; choose another folder") from e
    with sole_writer(folder):
        if (folder / kind.manifest).exists():
            raise DatasetError(f"another run has begun a {kind.noun} in {folder} meanwhile; run again")
        write_file(folder / kind.manifest, manifest)


def read_manifest(folder: Path, kind: StoreKind) -> dict[str, Any]:
    """What a store's manifest says.

    Parameters
    ----------
    folder
        Of the store.
    kind
        What it is to be.

    Returns
    -------
    dict
        JSON values, without the checksum.

    Raises
    ------
    DatasetError
        If there is no such store, its manifest is damaged, or its format is newer than this Passband.
    """
    path, wanted = folder / kind.manifest, f"wanted the folder of a {kind.noun}: {kind.make}"
    if not folder.exists():
        raise DatasetError(f"{folder} does not exist; {wanted}")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file; {wanted}")
    if not path.exists():
        inside = sorted(p.name for p in folder.iterdir() if not kind.is_ours(p))
        places = [folder.parent / kind.manifest, *folder.glob(f"*/{kind.manifest}")]
        near = [p.parent for p in places if p.exists()]
        held = f"holds no {kind.manifest} (there is {listed_names(inside)})" if inside else "is empty"
        raise DatasetError(f"{folder} {held}; " + (f"did you mean {near[0]}?" if near else wanted))
    content, whole = load(path)
    if content.get("format") != kind.format:
        raise DatasetError(f"{path} is not that of a {kind.noun}; {kind.make}")
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= kind.version:
        raise DatasetError(
            f"{folder} is of format {version}, made by Passband {content.get('made_by')}; "
            f"this one reads formats up to {kind.version}: update Passband"
        )
    if not whole:
        raise lost_manifest(folder, kind)
    return content


def lost_manifest(folder: Path, kind: StoreKind) -> DatasetError:
    """What is said of a manifest that does not hold what was written."""
    return DatasetError(
        f"{folder / kind.manifest} was cut or edited (its checksum differs); "
        f"bring it back, or begin the {kind.noun} anew"
    )


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder against other runs; its lock says which process holds it.

    Raises
    ------
    DatasetError
        If another run is writing to it.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as lock:
        try:
            _hold(lock.fileno())
        except OSError as e:
            lock.seek(0)
            who = " ".join(lock.read(200).split())
            holder = f" ({who})" if who else ""
            raise DatasetError(
                f"another run is writing to {folder}{holder}; wait for it to end, or stop it"
            ) from e
        with contextlib.suppress(OSError):  # a full disk: then it does not say who holds it
            lock.truncate(0)
            os.write(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def _hold(file: int) -> None:
    """Lock a file, or raise an OSError; the system lets go of it when this process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows, where nobody else may read a byte that is locked: one far beyond the end
        import msvcrt

        os.lseek(file, _FAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        os.lseek(file, 0, os.SEEK_SET)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def writer(folder: Path, kind: StoreKind) -> Iterator[None]:
    """`sole_writer`, with what a killed run left half-written cleared away."""
    with sole_writer(folder):
        for path in half_written(folder, kind):
            path.unlink(missing_ok=True)
        yield


def half_written(folder: Path, kind: StoreKind) -> list[Path]:
    """Files that a killed run left half-written; nothing reads them."""
    found = (p for p in folder.rglob("*") if kind.is_ours(p) and p.name != LOCK)
    return sorted(p for p in found if p.is_file())


def write_file(path: Path, content: str) -> None:
    """Write one of a store's files whole, or raise a `DatasetError`."""
    try:
        write_whole(path, content)
    except PassbandError as e:
        raise DatasetError(str(e)) from e


def listed_names(names: Sequence[str]) -> str:
    """Names as a message lists them.

    Examples
    --------
    >>> listed_names(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
