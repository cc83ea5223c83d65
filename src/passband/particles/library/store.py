"""The folder of a particle library: what lies where, and how it is written so that no moment can tear it.

::

    library.json      format, settings, the window, what zarr says of the arrays; written first
    labels.json       label of each labelled particle
    crops, masks      Zarr v3 arrays (n, size, size)
    micrographs       one JSON file for each micrograph: only with it are its particles there
    particles.csv     everything but the pixels, for people; made anew from the others, never read

Every file is written beside its place and renamed, and what is JSON carries a checksum of itself. The record
of a micrograph carries checksums of its crops and masks, and of the files that they were added to. After it
comes ``zarr.json`` of both arrays, which says how many micrographs and particles there are: a record that is
lost is missed. A run that was killed leaves whole micrographs; the next one goes on after the last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from passband.errors import DatasetError, ParameterError
from passband.particles.extraction.find import ExtractionSettings
from passband.store.arrays import (
    DESCRIPTION,
    Description,
    description_text,
    open_zarr,
    with_items,
)
from passband.store.folders import StoreKind
from passband.store.folders import read_manifest as read_any_manifest
from passband.store.sealed import (
    array_bytes,
    content_hash,
    first_line,
    sealed,
    unsealed,
)

if TYPE_CHECKING:
    import zarr

LIBRARY = StoreKind(
    noun="particle library",
    format="passband particle library",
    version=2,
    manifest="library.json",
    stems=r"library|labels|particles|classes|\d+",
    make="make one with `passband particles extract MICROGRAPHS --out FOLDER`",
)
MICROGRAPHS, LABELS, TABLE = "micrographs", "labels.json", "particles.csv"
ARRAYS = {"crops": np.float32, "masks": np.bool_}
"""Type of what is in each array."""
CHUNK = 64
"""Particles in a file of an array."""
_MEND = "`passband particles extract` on the same folder mends it"


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
    arrays
        What zarr says of each array while it is empty; None in format 1.
    made_by
        Version of Passband that began it.
    """

    folder: Path
    settings: ExtractionSettings
    outlines: str
    window_nm: float | None
    arrays: Mapping[str, Description] | None
    made_by: str

    def text(self) -> str:
        """Content of its file."""
        return sealed(
            {
                "format": LIBRARY.format,
                "version": LIBRARY.version,
                "made_by": self.made_by,
                "settings": self.settings.values(),
                "outlines": self.outlines,
                "window_nm": self.window_nm,
                "arrays": self.arrays,
            }
        )

    def record_path(self, number: int) -> Path:
        """Where the record of a micrograph is, once it is."""
        return self.folder / MICROGRAPHS / f"{number:06d}.json"

    def chunk_path(self, name: str, chunk: int) -> Path:
        """The file that holds some items of an array."""
        return self.folder / name / "c" / str(chunk) / "0" / "0"

    def description(self, name: str, particles: int, micrographs: int) -> Description:
        """What zarr says of an array of so many particles."""
        assert self.arrays is not None
        empty = self.arrays[name]
        said = {"micrographs": micrographs}
        return {**empty, "shape": [particles, *empty["shape"][1:]], "attributes": said}


@dataclass(frozen=True, kw_only=True)
class MicrographRecord:
    """What is stored of one micrograph.

    Parameters
    ----------
    id
        The first digits of ``pixels_sha256``, as many as tell it from the others.
    pixels_sha256, outlines_sha256
        Checksums of the micrograph, and of its outlines where they are given.
    source, place
        Its path as it was given, and the absolute one.
    count
        How many particles are of it.
    columns
        Of its particles, NaN as None.
    content_sha256
        Checksum of its part of each array; None where an earlier Passband added it.
    files_sha256
        Checksums of the files of each array that it was added to, by their numbers; None as before.
    """

    id: str
    pixels_sha256: str
    source: str
    place: str
    outlines_sha256: str | None
    count: int
    columns: dict[str, list[Any]]
    content_sha256: Mapping[str, str] | None = None
    files_sha256: Mapping[str, Mapping[str, str]] | None = None

    def text(self) -> str:
        """Content of its file."""
        return sealed({f.name: getattr(self, f.name) for f in fields(self)})


def read_manifest(folder: Path) -> Manifest:
    """What a library's manifest says; a `DatasetError` where there is none, or a damaged or newer one."""
    content = read_any_manifest(folder, LIBRARY)
    try:
        return Manifest(
            folder=folder,
            settings=ExtractionSettings(**content["settings"]),
            outlines=content["outlines"],
            window_nm=content["window_nm"],
            arrays={n: content["arrays"][n] for n in ARRAYS} if content["version"] > 1 else None,
            made_by=content["made_by"],
        )
    except (KeyError, TypeError, ParameterError) as e:
        path = folder / LIBRARY.manifest
        raise DatasetError(f"{path} holds no settings of a library ({e}); make the library anew") from e


def read_records(manifest: Manifest) -> list[MicrographRecord]:
    """Records of all micrographs that are whole, in the order of their particles."""
    records = []
    for i, path in enumerate(sorted((manifest.folder / MICROGRAPHS).glob("[0-9]*.json"))):
        if path != manifest.record_path(i):
            raise DatasetError(f"{manifest.record_path(i)} is missing; bring it back")
        try:
            records.append(MicrographRecord(**unsealed(path)))
        except TypeError as e:
            raise DatasetError(f"{path} holds no record of a micrograph ({e})") from e
    return records


def particles_of(records: Sequence[MicrographRecord]) -> int:
    """How many particles there are."""
    return sum(r.count for r in records)


def read_labels(manifest: Manifest, records: Sequence[MicrographRecord]) -> dict[str, str]:
    """Label of each labelled particle, by its id."""
    path = manifest.folder / LABELS
    if path.exists():
        labels: dict[str, str] = unsealed(path)["labels"]
        return labels
    if manifest.arrays is None or not records:
        return {}
    folder = manifest.folder
    raise DatasetError(
        f"{path} is missing; bring it back, or give the labels again: `passband particles label {folder} "
        f"{folder / TABLE}` takes those that its table still has"
    )


def read_descriptions(manifest: Manifest) -> dict[str, bytes]:
    """What ``zarr.json`` of each array holds; to be read before the records, which may grow meanwhile."""
    found = {}
    for name in ARRAYS:
        path = manifest.folder / name / DESCRIPTION
        try:
            found[name] = path.read_bytes()
        except OSError as e:
            raise DatasetError(f"{path} is missing or damaged ({e.strerror or e}); {_MEND}") from e
    return found


def open_array(
    manifest: Manifest, name: str, records: Sequence[MicrographRecord], description: bytes
) -> zarr.Array[Any]:
    """The items of an array that records tell of: what is beyond is of a micrograph that is not whole."""
    path, n = manifest.folder / name, particles_of(records)
    if manifest.arrays is None:
        array = open_undescribed(manifest, name, n)
    else:
        _refuse_wrong_description(manifest, name, records, description)
        array = open_zarr(path, cure=_MEND)
    files = [manifest.chunk_path(name, i) for i in range(-(-n // array.chunks[0]))]
    lost = [f for f in files if not f.exists()]
    if lost:
        raise DatasetError(f"{len(lost)} files of {name} are missing, as {lost[0]}; make the library anew")
    return with_items(array, n)


def open_undescribed(manifest: Manifest, name: str, n: int) -> zarr.Array[Any]:
    """An array of a library of format 1, whose description is nowhere else."""
    path, size = manifest.folder / name, manifest.settings.size
    array = open_zarr(path, cure="make the library anew")
    fits = array.shape[1:] == (size, size) and array.chunks == (CHUNK, size, size) and array.shape[0] >= n
    if not fits:
        raise DatasetError(f"{path / DESCRIPTION} was edited: it does not fit the library; make it anew")
    return array


def _refuse_wrong_description(
    manifest: Manifest, name: str, records: Sequence[MicrographRecord], content: bytes
) -> None:
    """Raise where ``zarr.json`` is not what it was after one of the micrographs."""
    path = manifest.folder / name / DESCRIPTION
    edited = DatasetError(f"{path} was cut or edited: it is not what was written; {_MEND}")
    try:
        said = json.loads(content)["attributes"]["micrographs"]
        micrographs, particles = int(said), int(json.loads(content)["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as e:
        raise edited from e
    if content != description_text(manifest.description(name, particles, micrographs)).encode():
        raise edited
    if micrographs > len(records):
        first = manifest.record_path(len(records))
        raise DatasetError(f"{first} is missing, {path} says {micrographs} micrographs; bring it back")
    if micrographs < 0 or particles != particles_of(records[:micrographs]):
        raise edited


def read_blocks(
    array: zarr.Array[Any], records: Sequence[MicrographRecord], name: str, block: int
) -> Iterator[np.ndarray]:
    """All items of an array, some at a time, the checksum of every micrograph's compared once it is read.

    Raises
    ------
    DatasetError
        If some are damaged.
    """
    where = f"{name} of the library"
    waiting = iter([r for r in records if r.count])
    record, digest, seen = next(waiting, None), None, 0
    for first in range(0, array.shape[0], block):
        try:
            items = np.asarray(array[first : first + block])
        except Exception as e:  # zarr and its codecs raise whatever damaged bytes lead to
            raise DatasetError(
                f"{where} cannot be read: a file was cut or edited ({first_line(e)}); make the library anew"
            ) from e
        at = 0
        while record is not None and at < len(items):
            part = items[at : at + record.count - seen]
            if digest is None:
                digest = content_hash(items.dtype, (record.count, *items.shape[1:]))
            digest.update(array_bytes(part))
            at, seen = at + len(part), seen + len(part)
            if seen == record.count:
                wanted = record.content_sha256
                if wanted is not None and digest.hexdigest() != wanted[name]:
                    raise DatasetError(
                        f"{where} are not those that were written, of {record.source}: the checksum differs; "
                        "make the library anew"
                    )
                record, digest, seen = next(waiting, None), None, 0
        yield items
