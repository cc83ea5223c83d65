"""The folder of a particle library: what lies where, and how it is written so that no moment can tear it.

::

    library.json      format, settings, the window; written first
    crops, masks      Zarr v3 arrays (n, size, size)
    micrographs       one JSON file for each micrograph, written last: only with it are its particles there
    labels.json       label of each labelled particle
    particles.csv     everything but the pixels, for people; made anew from the others, never read

Every file is written beside its place and renamed, and what is JSON carries a checksum of itself. A run
that was killed leaves whole micrographs; the next one goes on after the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from passband.errors import DatasetError, ParameterError, PassbandError
from passband.particles.crop import Particles
from passband.particles.find import ExtractionSettings
from passband.store.files import write_whole
from passband.store.folders import LOCK, listed_names
from passband.store.sealed import first_line, sealed, unsealed

if TYPE_CHECKING:
    import zarr

FORMAT, VERSION = "passband particle library", 1
MANIFEST, MICROGRAPHS, LABELS, TABLE = (
    "library.json", "micrographs", "labels.json", "particles.csv",
)  # fmt: skip
CHUNK = 64
"""Particles in a file of an array."""
_ID_DIGITS = 8
_MAKE = "make one with `passband particles extract MICROGRAPHS --out FOLDER`"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A library's folder, and what holds of all its particles.

    Parameters
    ----------
    folder
        Of the library.
    settings
        How particles are found and cut.
    outlines
        "threshold", or "detections" where outlines are given.
    window_nm
        What every crop shows across, where it is the same for all and not in the settings; else None.
    """

    folder: Path
    settings: ExtractionSettings
    outlines: str
    window_nm: float | None

    def text(self) -> str:
        """Content of its file."""
        from passband import __version__

        return sealed(
            {
                "format": FORMAT,
                "version": VERSION,
                "made_by": __version__,
                "settings": self.settings.values(),
                "outlines": self.outlines,
                "window_nm": self.window_nm,
            }
        )


@dataclass(frozen=True, kw_only=True)
class MicrographRecord:
    """What is stored of one micrograph: columns of its particles, NaN as None."""

    id: str
    pixels_sha256: str
    source: str
    place: str
    outlines_sha256: str | None
    count: int
    columns: dict[str, list[Any]]


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a library; anything else but an empty or new one is an error."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; choose a new folder for the library")
    if (folder / MANIFEST).exists():
        return True
    # Left half-written by `write_whole` when a first run was killed.
    temporary = f".{MANIFEST}."
    inside = [p.name for p in folder.iterdir()] if folder.exists() else []
    others = sorted(n for n in inside if n != LOCK and not n.startswith(temporary))
    if others:
        raise DatasetError(
            f"{folder} is not empty and holds no library (there is {listed_names(others)}); "
            "choose a new folder"
        )
    return False


def read_manifest(folder: Path) -> Manifest:
    """What a library's manifest says; a `DatasetError` where there is none, or a damaged or newer one."""
    path = folder / MANIFEST
    if not folder.exists():
        raise DatasetError(f"{folder} does not exist; wanted the folder of a particle library: {_MAKE}")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file; wanted the folder of a particle library: {_MAKE}")
    if not path.exists():
        raise DatasetError(f"{folder} holds no {MANIFEST}; wanted the folder of a particle library: {_MAKE}")
    content = unsealed(path)
    if content.get("format") != FORMAT:
        raise DatasetError(f"{path} is not that of a particle library; {_MAKE}")
    if content.get("version") != VERSION:
        raise DatasetError(
            f"{folder} is of format {content.get('version')}, made by Passband {content.get('made_by')}; "
            f"this one reads format {VERSION}: update Passband"
        )
    try:
        settings = ExtractionSettings(**content["settings"])
        return Manifest(
            folder=folder,
            settings=settings,
            outlines=content["outlines"],
            window_nm=content["window_nm"],
        )
    except (KeyError, TypeError, ParameterError) as e:
        raise DatasetError(f"{path} holds no settings of a library ({e}); make the library anew") from e


def read_records(folder: Path) -> list[MicrographRecord]:
    """Records of all micrographs that are whole, in the order of their particles."""
    records, total = [], 0
    for i, path in enumerate(sorted((folder / MICROGRAPHS).glob("[0-9]*.json"))):
        if path.name != f"{i:06d}.json":
            raise DatasetError(f"{folder / MICROGRAPHS / f'{i:06d}.json'} is missing; bring it back")
        try:
            record = MicrographRecord(**unsealed(path))
        except TypeError as e:
            raise DatasetError(f"{path} holds no record of a micrograph ({e})") from e
        records.append(record)
        total += record.count
    return records


def read_labels(folder: Path) -> dict[str, str]:
    """Label of each labelled particle, by its id."""
    path = folder / LABELS
    if not path.exists():
        return {}
    labels: dict[str, str] = unsealed(path)["labels"]
    return labels


def open_array(manifest: Manifest, name: str, n: int) -> zarr.Array[Any]:
    """The first n items of an array: what is beyond belongs to a micrograph that is not whole."""
    import zarr

    path, size = manifest.folder / name, manifest.settings.size
    try:
        array = zarr.open_array(path, mode="r")
        shape, chunks = array.shape, array.chunks
        first = zarr.AsyncArray(
            metadata=array.metadata.update_shape((n, *shape[1:])), store_path=array.store_path
        )
    except Exception as e:  # zarr raises whatever a damaged description leads to
        raise DatasetError(
            f"{path / 'zarr.json'} is missing or damaged ({first_line(e)}); make the library anew"
        ) from e
    if shape[1:] != (size, size) or chunks != (CHUNK, size, size) or shape[0] < n:
        raise DatasetError(f"{path / 'zarr.json'} was edited: it does not fit the library; make it anew")
    files = [path / "c" / str(i) / "0" / "0" for i in range(-(-n // CHUNK))]
    lost = [f for f in files if not f.exists()]
    if lost:
        raise DatasetError(f"{len(lost)} files of {name} are missing, as {lost[0]}; make the library anew")
    return zarr.Array(first)


def append_particles(manifest: Manifest, particles: Particles | None, total: int) -> None:
    """Write a micrograph's particles after the first ``total``; with none, the arrays end there.

    Files are replaced whole (by zarr's local store), so what was in them before stays.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    size = manifest.settings.size
    for name, kind in (("crops", np.float32), ("masks", np.bool_)):
        path = manifest.folder / name
        try:
            if not (path / "zarr.json").exists():
                zarr.create_array(
                    path,
                    shape=(0, size, size),
                    chunks=(CHUNK, size, size),
                    dtype=kind,
                    compressors=ZstdCodec(level=3, checksum=True),
                    fill_value=0,
                    dimension_names=("particle", "y", "x"),
                )
            array = zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})
            n = total + (0 if particles is None else len(particles))
            if array.shape[0] != n:
                array.resize((n, size, size))
            if particles is not None and len(particles):
                array[total:n] = getattr(particles, name)
        except OSError as e:
            raise DatasetError(
                f"{path} cannot be written: {e.strerror or e}; what was finished before is kept: make room, "
                "then run the same command again"
            ) from e


def write_file(path: Path, content: str) -> None:
    """Write one of the library's files whole, or raise a `DatasetError`."""
    try:
        write_whole(path, content)
    except PassbandError as e:
        raise DatasetError(str(e)) from e


def new_id(sha256: str, taken: Sequence[str]) -> str:
    """The first digits of a checksum, as many as tell it from the others."""
    digits = _ID_DIGITS
    while sha256[:digits] in taken:
        digits += 1
    return sha256[:digits]
