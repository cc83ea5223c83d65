"""A library of particles on disk: crops of many micrographs, where each came from, and people's labels."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from passband.detections.given import DetectionsFile, Given, given_detections
from passband.errors import DatasetError, DetectionsError, ParameterError, PassbandError
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.particles.extraction.crop import COLUMNS, WINDOW, Particles, cut_particles, reaches
from passband.particles.extraction.find import ExtractionSettings, find_particles
from passband.particles.extraction.outlines import kept_labels, labels_of_detections
from passband.particles.library.store import (
    LIBRARY,
    TABLE,
    Manifest,
    MicrographRecord,
    open_array,
    particles_of,
    read_blocks,
    read_descriptions,
    read_labels,
    read_manifest,
    read_records,
)
from passband.particles.library.writing import append_particles, clear_beyond, go_on, new_arrays, new_id
from passband.store.columns import columns_csv
from passband.store.folders import begin, is_begun, write_file, writer
from passband.store.sealed import content_sha256
from passband.types import LabelImage, Progress
from passband.units import NM

if TYPE_CHECKING:
    import zarr

_SAMPLE = 16
"""Micrographs, spread over those given, that an automatic window in nm follows from."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What came of a run.

    Parameters
    ----------
    folder
        Of the library.
    particles, micrographs
        How many were added.
    there
        How many of the micrographs given were in the library before.
    empty
        Micrographs without a particle.
    duplicates
        Pairs of a micrograph and of the one in the library whose pixels are the same; it is left out.
    skipped
        Pairs of a micrograph and of why it could not be used.
    total
        How many particles the library holds now.
    notes
        What was made of the detections given, a sentence each.
    """

    folder: Path
    particles: int
    micrographs: int
    there: int
    empty: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    total: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ParticleLibrary:
    """Particles of many micrographs.

    Parameters
    ----------
    folder
        Where it is.
    settings
        How particles were found and cut.
    window_nm
        What every crop shows across, where it is the same for all; else None.
    outlines
        "threshold", or "detections" where outlines were given.
    crops
        Zarr array float32 (n, size, size) in [0, 1]; read what is wanted of it.
    masks
        Zarr array bool (n, size, size).
    table
        Arrays of length n: "particle" (its id: the first digits of the micrograph's checksum, and its number
        there), "source" (the micrograph's path as it was given) and `COLUMNS`.
    labels
        str (n,); empty where unlabelled.
    records
        Of the micrographs, in the order of their particles.
    """

    folder: Path
    settings: ExtractionSettings
    window_nm: float | None
    outlines: str
    crops: zarr.Array[Any]
    masks: zarr.Array[Any]
    table: Mapping[str, npt.NDArray[Any]]
    labels: npt.NDArray[Any]
    records: tuple[MicrographRecord, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self, size: int) -> Iterator[Float32[np.ndarray, "n y x"]]:
        """The crops, some at a time, their checksums compared.

        Parameters
        ----------
        size
            How many at a time.

        Yields
        ------
        float32 array

        Raises
        ------
        DatasetError
            If some are damaged; at the latest once the micrograph that they are of is read.
        """
        for crops in read_blocks(self.crops, self.records, "crops", size):
            yield np.asarray(crops, np.float32)


def extend_library(
    folder: str | Path,
    paths: Sequence[str],
    settings: ExtractionSettings | None = None,
    *,
    reading: Reading | None = None,
    detections: str | Path | DetectionsFile | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """Add the particles of micrographs to a library, or begin it.

    One micrograph after the other is added, whole or not at all; run again after a stop, it goes on. A
    micrograph that cannot be used does not stop the others. One whose pixels are already there, under
    whatever name, is left out. Without a window in the settings, a new library asks 16 of the micrographs
    (spread over the list): where all their pixel sizes are known, every crop of the library shows the same
    width in nm, 1.25 times the 90th percentile of their particles' reach; otherwise each micrograph has
    its own (`passband.particles.extraction.crop.window_of`).

    Parameters
    ----------
    folder
        New, empty, or a library made with the same settings.
    paths
        Micrograph files.
    settings
        How particles are found and cut; those of the library, or the defaults, where not given.
    reading
        Pixel sizes, frame of a stack.
    detections
        Outlines from elsewhere, instead of thresholding: a file or folder of any form that
        `passband.read_detections` reads.
        Limits of size and border hold for them too.
    progress
        Called with the path begun, how many are done, and how many there are.

    Raises
    ------
    DatasetError
        If the folder is something else, damaged, of other settings, in use by another run, or cannot be
        written.
    DetectionsError
        If the detections cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> y, x = np.mgrid[:64, :64]
    >>> pixels = (np.hypot(y - 20, x - 20) < 9) | (np.hypot(y - 40, x - 44) < 7)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     image = f"{place}/two.npy"
    ...     np.save(image, pixels.astype(np.float32))
    ...     done = extend_library(f"{place}/library", [image])
    ...     library = open_library(f"{place}/library")
    ...     crops = library.crops[:]
    >>> done.particles, crops.shape, library.table["x"].round().tolist()
    (2, (2, 48, 48), [20.0, 44.0])
    """
    from passband import __version__

    folder, reading = Path(folder), reading or Reading()
    paths = reading.images([os.fspath(p) for p in paths])
    outlines = "threshold" if detections is None else "detections"
    known = None
    if is_begun(folder, LIBRARY):
        known = read_manifest(folder)
        _must_agree(known, settings, outlines)
    file = DetectionsFile(path=Path(detections)) if isinstance(detections, str | Path) else detections
    given = None if file is None else given_detections(paths, reading, file)
    if known is None:
        settings = settings or ExtractionSettings()
        known = Manifest(
            folder=folder,
            settings=settings,
            outlines=outlines,
            window_nm=_window_nm(paths, reading, settings, given),
            arrays=new_arrays(settings.size),
            made_by=__version__,
        )
        begin(folder, LIBRARY, known.text())
    with writer(folder, LIBRARY):
        return _extend(known, paths, reading, given, progress)


def open_library(folder: str | Path) -> ParticleLibrary:
    """Open a library of particles; its crops are read only where asked for.

    Returns
    -------
    ParticleLibrary
        Of the micrographs that are whole: also while a run is adding to it.

    Raises
    ------
    DatasetError
        If it is no library, damaged, or of a newer format.
    """
    return library_of(read_manifest(Path(folder)))


def library_of(manifest: Manifest, labels: Mapping[str, str] | None = None) -> ParticleLibrary:
    """`open_library` of a manifest; with labels, those in the folder are not read."""
    stated = read_descriptions(manifest)
    records = read_records(manifest)
    ids = [f"{r.id}-{number}" for r in records for number in r.columns["number"]]
    table: dict[str, npt.NDArray[Any]] = {
        "particle": np.array(ids, np.str_),
        "source": np.array([r.source for r in records for _ in range(r.count)], np.str_),
    }
    for name, kind in COLUMNS.items():
        values = [math.nan if v is None else v for r in records for v in r.columns[name]]
        table[name] = np.array(values, kind)
    if labels is None:
        labels = read_labels(manifest, records)
    crops, masks = (open_array(manifest, name, records, stated[name]) for name in ("crops", "masks"))
    return ParticleLibrary(
        folder=manifest.folder,
        settings=manifest.settings,
        window_nm=manifest.window_nm,
        outlines=manifest.outlines,
        crops=crops,
        masks=masks,
        table=table,
        labels=np.array([labels.get(i, "") for i in ids], np.str_),
        records=tuple(records),
    )


def write_table(library: ParticleLibrary) -> None:
    """particles.csv, which every spreadsheet opens; unknown numbers are empty cells."""
    write_file(library.folder / TABLE, table_text(library))


def table_text(library: ParticleLibrary) -> str:
    """Content of particles.csv."""
    columns = {"particle": library.table["particle"], "label": library.labels, **library.table}
    return columns_csv(columns, digits=7)


def _extend(
    manifest: Manifest,
    paths: Sequence[str],
    reading: Reading,
    given: Given | None,
    progress: Progress | None,
) -> Extraction:
    """Add micrographs one by one to a library that is ours alone."""
    records = read_records(manifest)
    manifest = go_on(manifest, records)
    read_labels(manifest, records)  # told now that they are lost, not after hours
    by_content = {r.pixels_sha256: r for r in records}
    before = particles_of(records)
    there, empty, duplicates, skipped = 0, [], [], []
    known = len(records)
    for done, path in enumerate(paths):
        if progress:
            progress(path, done, len(paths))
        try:
            micrograph = reading.read(path)
            sha256 = content_sha256(micrograph.pixels)
            same = by_content.get(sha256)
            outlines = None if given is None else labels_of_detections(given.of(path))
            outlines_sha256 = None if outlines is None else content_sha256(outlines)
            if same is not None:
                if same.outlines_sha256 != outlines_sha256:
                    raise DetectionsError(
                        f"its particles are in the library with other outlines (as {same.source}); "
                        "make a new library"
                    )
                if same.place == str(Path(path).resolve()):
                    there += 1
                else:
                    duplicates.append((path, same.source))
                continue
            particles = _particles(micrograph, manifest, outlines)
        except PassbandError as e:
            skipped.append((path, str(e).removeprefix(path).removeprefix(":").lstrip()))
            continue
        except Exception as e:
            # A fault of Passband's own must not cost a night's work on the other files.
            skipped.append((path, f"unexpected {type(e).__name__}: {e}; this is a fault in Passband"))
            continue
        columns = {n: [None if v != v else v for v in particles.table[n].tolist()] for n in COLUMNS}
        record = MicrographRecord(
            id=new_id(sha256, [r.id for r in records]),
            pixels_sha256=sha256,
            source=path,
            place=str(Path(path).resolve()),
            outlines_sha256=outlines_sha256,
            count=len(particles),
            columns=columns,
        )
        record = append_particles(manifest, records, record, particles)
        records.append(record)
        by_content[sha256] = record
        if not record.count:
            empty.append(path)
    clear_beyond(manifest, records)
    if progress:
        progress("", len(paths), len(paths))
    write_table(library_of(manifest))
    total = particles_of(records)
    return Extraction(
        folder=manifest.folder,
        particles=total - before,
        micrographs=len(records) - known,
        there=there,
        empty=tuple(empty),
        duplicates=tuple(duplicates),
        skipped=tuple(skipped),
        total=total,
        notes=() if given is None else given.notes,
    )


def _particles(micrograph: Micrograph, manifest: Manifest, outlines: LabelImage | None) -> Particles:
    """Find and cut the particles of one micrograph."""
    settings = manifest.settings
    if outlines is None:
        labels = find_particles(micrograph, settings)
    else:
        labels = kept_labels(micrograph, outlines, settings)
    if manifest.window_nm is not None:
        if micrograph.pixel_size is None:
            raise ParameterError(
                f"its pixel size is not known, and crops of this library all show {manifest.window_nm:.4g} "
                "nm; give its pixel size, or make a library with a window in pixels"
            )
        settings = replace(settings, window_nm=manifest.window_nm)
    return cut_particles(micrograph, labels, settings)


def _window_nm(
    paths: Sequence[str],
    reading: Reading,
    settings: ExtractionSettings,
    given: Given | None,
) -> float | None:
    """An automatic window for all crops of a new library, or None where each micrograph has its own."""
    if settings.window_nm is not None or settings.window_px is not None or not paths:
        return None
    sides: list[npt.NDArray[np.float64]] = []
    for i in sorted(set(np.linspace(0, len(paths) - 1, _SAMPLE).round().astype(int).tolist())):
        try:
            micrograph = reading.read(paths[i])
            if micrograph.pixel_size is None:
                return None
            if given is None:
                labels = find_particles(micrograph, settings)
            else:
                labels = kept_labels(micrograph, labels_of_detections(given.of(paths[i])), settings)
        except PassbandError:
            continue  # told in its turn
        sides.append(reaches(labels) * micrograph.pixel_size / NM)
    every = np.concatenate(sides) if sides else np.empty(0)
    # Three digits: the last bits of a percentile are nobody's width.
    return float(f"{WINDOW * float(np.percentile(every, 90)):.3g}") if every.size else None


def _must_agree(known: Manifest, settings: ExtractionSettings | None, outlines: str) -> None:
    """Refuse to mix particles that were found or cut in different ways."""
    differ = []
    if settings is not None and settings != known.settings:
        before, now = known.settings.values(), settings.values()
        differ = [f"{n}: {before[n]!r} there, {now[n]!r} here" for n in before if before[n] != now[n]]
    if outlines != known.outlines:
        differ.append(f"outlines: {known.outlines} there, {outlines} here")
    if differ:
        raise DatasetError(
            f"{known.folder} holds a library made with other settings; choose another folder, or its "
            "settings. What differs: " + "; ".join(differ)
        )
