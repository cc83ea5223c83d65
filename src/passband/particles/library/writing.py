"""Writing a particle library: a micrograph at a time, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from passband.errors import DatasetError
from passband.particles.extraction.crop import Particles
from passband.particles.library import store as library_store
from passband.particles.library.store import (
    ARRAYS,
    LABELS,
    LIBRARY,
    Manifest,
    MicrographRecord,
    open_undescribed,
    particles_of,
)
from passband.store.arrays import Description, described, with_items, write_description
from passband.store.folders import write_file
from passband.store.sealed import content_sha256, file_sha256, sealed

_ID_DIGITS = 8


def new_arrays(size: int) -> dict[str, Description]:
    """What zarr says of the arrays of a new library."""
    from zarr.codecs import ZstdCodec

    return {
        name: described(
            shape=(0, size, size),
            chunks=(library_store.CHUNK, size, size),
            dtype=kind,
            compressors=ZstdCodec(level=3, checksum=True),
            fill_value=0,
            dimension_names=("particle", "y", "x"),
        )
        for name, kind in ARRAYS.items()
    }


def new_id(sha256: str, taken: Sequence[str]) -> str:
    """The first digits of a checksum, as many as tell it from the others."""
    digits = _ID_DIGITS
    while sha256[:digits] in taken:
        digits += 1
    return sha256[:digits]


def go_on(manifest: Manifest, records: Sequence[MicrographRecord]) -> Manifest:
    """Make a library ready to be added to: in the newest format, its descriptions as they must be."""
    folder = manifest.folder
    if manifest.arrays is None:
        for name in ARRAYS:
            open_undescribed(manifest, name, particles_of(records))
        newer = replace(manifest, arrays=new_arrays(manifest.settings.size))
        if not (folder / LABELS).exists():
            write_labels(folder, {})
        write_descriptions(newer, records)
        write_file(folder / LIBRARY.manifest, newer.text())
        return newer
    if not records and not (folder / LABELS).exists():
        write_labels(folder, {})
    write_descriptions(manifest, records)
    return manifest


def write_descriptions(manifest: Manifest, records: Sequence[MicrographRecord]) -> None:
    """Make ``zarr.json`` of both arrays what it must be with these micrographs."""
    for name in ARRAYS:
        description = manifest.description(name, particles_of(records), len(records))
        write_description(manifest.folder / name, description)


def append_particles(
    manifest: Manifest, records: Sequence[MicrographRecord], record: MicrographRecord, particles: Particles
) -> MicrographRecord:
    """Add a micrograph's particles after those that are there, its record, and the new descriptions.

    Files are replaced whole (by zarr's local store), so what was in them before stays.

    Returns
    -------
    MicrographRecord
        With the checksums of what was written.

    Raises
    ------
    DatasetError
        If a file cannot be written; what was finished before is kept.
    """
    import zarr

    total = particles_of(records)
    n = total + len(particles)
    contents: dict[str, str] = {}
    files: dict[str, dict[str, str]] = {}
    for name in ARRAYS:
        path, items = manifest.folder / name, getattr(particles, name)
        try:
            array = with_items(zarr.open_array(path, mode="r+"), n).with_config({"write_empty_chunks": True})
            if len(items):
                array[total:n] = items
            chunks = range(total // array.chunks[0], -(-n // array.chunks[0])) if len(items) else range(0)
            files[name] = {str(i): file_sha256(manifest.chunk_path(name, i)) for i in chunks}
        except OSError as e:
            raise DatasetError(
                f"{path} cannot be written: {e.strerror or e}; what was finished before is kept: make room, "
                "then run the same command again"
            ) from e
        contents[name] = content_sha256(items)
    record = replace(record, content_sha256=contents, files_sha256=files)
    write_file(manifest.record_path(len(records)), record.text())
    write_descriptions(manifest, [*records, record])
    return record


def clear_beyond(manifest: Manifest, records: Sequence[MicrographRecord]) -> None:
    """Remove files of particles that no record tells of, as a killed run leaves them."""
    assert manifest.arrays is not None
    for name in ARRAYS:
        chunk = manifest.arrays[name]["chunk_grid"]["configuration"]["chunk_shape"][0]
        beyond = -(-particles_of(records) // chunk)
        while (path := manifest.chunk_path(name, beyond)).exists():
            path.unlink()
            beyond += 1


def write_labels(folder: Path, labels: Mapping[str, str]) -> None:
    """Write the labels of a library whole, or raise a `DatasetError`."""
    write_file(folder / LABELS, sealed({"labels": labels}))
