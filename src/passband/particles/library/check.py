"""Whether a particle library is whole: every checksum, and what the parts say of each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from passband.errors import DatasetError
from passband.particles.library.library import ParticleLibrary, library_of, table_text
from passband.particles.library.store import (
    ARRAYS,
    LIBRARY,
    TABLE,
    Manifest,
    read_blocks,
    read_descriptions,
    read_manifest,
)
from passband.store.arrays import DESCRIPTION, description_text
from passband.store.files import file_bytes
from passband.store.folders import half_written
from passband.store.sealed import file_sha256

_BLOCK = 1024  # particles read at a time


@dataclass(frozen=True, kw_only=True)
class LibraryCheck:
    """What a check found.

    Parameters
    ----------
    folder
        Of the library.
    micrographs, particles
        How many are there.
    faults
        What is wrong, in words.
    notes
        What is harmless: what a stopped run left, and what nothing is read from.
    """

    folder: str
    micrographs: int
    particles: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check_library(folder: str | Path) -> LibraryCheck:
    """Read everything of a library and compare every checksum.

    Parameters
    ----------
    folder
        Of the library; no run may be adding to it.

    Raises
    ------
    DatasetError
        If there is no library, or its manifest, labels, a record or a description of its arrays is lost or
        damaged: then it cannot be opened.
    """
    manifest = read_manifest(Path(folder))
    library = library_of(manifest)
    faults: list[str] = []
    notes = _notes(manifest, library)
    for name in ARRAYS:
        try:
            for _ in read_blocks(getattr(library, name), library.records, name, _BLOCK):
                pass
        except DatasetError as e:
            faults.append(str(e))
        else:
            full, last = _edited_files(manifest, library, name)
            faults += [f"{path} was edited, though not its {name}: its checksum differs" for path in full]
            # What a stopped run began to add here is passed over when it is read.
            notes += [f"{path} was edited, or a stopped run began to add to it" for path in last]
    return LibraryCheck(
        folder=str(folder),
        micrographs=len(library.records),
        particles=len(library),
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _edited_files(manifest: Manifest, library: ParticleLibrary, name: str) -> tuple[list[Path], list[Path]]:
    """Files of an array that are not those that were written: full ones, and the last that is not full."""
    wanted: dict[str, str] = {}
    for record in library.records:
        wanted |= (record.files_sha256 or {}).get(name, {})
    full = len(library) // getattr(library, name).chunks[0]
    edited = [n for n, sha256 in wanted.items() if file_sha256(manifest.chunk_path(name, int(n))) != sha256]
    parts = ([n for n in edited if int(n) < full], [n for n in edited if int(n) >= full])
    first, last = ([manifest.chunk_path(name, int(n)) for n in part] for part in parts)
    return first, last


def _notes(manifest: Manifest, library: ParticleLibrary) -> list[str]:
    notes, left = [], half_written(manifest.folder, LIBRARY)
    if left:
        notes.append(f"{len(left)} half-written files of a stopped run; the next run removes them")
    unsealed = sum(r.content_sha256 is None for r in library.records)
    if unsealed:
        notes.append(f"an earlier Passband added {unsealed} micrographs, whose crops stand under no checksum")
    if manifest.arrays is not None:
        stated = read_descriptions(manifest)
        for name in ARRAYS:
            right = manifest.description(name, len(library), len(library.records))
            if stated[name] != description_text(right).encode():
                path = manifest.folder / name / DESCRIPTION
                notes.append(f"{path} is of fewer micrographs: a run was stopped; the next one mends it")
    table = manifest.folder / TABLE
    if not table.exists() or table.read_bytes() != file_bytes(table_text(library)):
        notes.append(
            f"{table} is not what the library holds; nothing reads it, and the next run makes it anew"
        )
    return notes
