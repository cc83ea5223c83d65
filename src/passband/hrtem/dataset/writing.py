"""Writing a simulated dataset: begun once, a shard at a time, and never half there."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from passband.errors import DatasetError
from passband.hrtem.dataset.store import (
    ARRAYS,
    DATASET,
    RECORDS,
    STUDY,
    DatasetStore,
    SceneRecord,
    ShardRecord,
    as_of,
    open_array,
    read_manifest,
    read_shard,
    scene_id,
    scenes_per_shard,
)
from passband.hrtem.dataset.study import SPLITS, SimulationStudy, study_differences
from passband.hrtem.specimen.specimen import SpecimenRecord
from passband.store.arrays import DESCRIPTION, Description, described, write_description
from passband.store.files import file_bytes
from passband.store.folders import begin, is_begun, write_file, writer
from passband.store.sealed import content_sha256, file_sha256, load, sealed

if TYPE_CHECKING:
    import zarr

    from passband.hrtem.wave.scattering import ExitWave


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedScene:
    """What is computed of one specimen, once for all its images.

    Parameters
    ----------
    specimen
        The record that the specimen is built from.
    wave
        Its exit wave.
    labels
        (y, x): 0 background, i on particle i.
    """

    specimen: SpecimenRecord
    wave: ExitWave
    labels: Integer[np.ndarray, "y x"]


def begin_dataset(
    folder: str | Path, study: SimulationStudy, *, study_text: str | None = None
) -> DatasetStore:
    """Make a dataset's folder, or find that it was begun for the same study.

    Parameters
    ----------
    folder
        New, empty, or begun earlier.
    study
        What the dataset is to follow from.
    study_text
        The file it was read from, kept as it is.

    Raises
    ------
    DatasetError
        If the folder holds a dataset of another study, something else, or one that another version of
        Passband began and did not finish.
    PassbandError
        If it cannot be written.
    """
    folder = Path(folder)
    if is_begun(folder, DATASET):
        store = _begun(folder, study, study_text)
    else:
        begin(folder, DATASET, _manifest(study, study_text))
        store = read_manifest(folder)
    path, text = folder / STUDY, store.study_text
    if text is None and not path.exists():
        text = study_text
    if text is not None and not (path.exists() and path.read_bytes() == file_bytes(text)):
        write_file(path, text)
    return store


def _begun(folder: Path, study: SimulationStudy, study_text: str | None) -> DatasetStore:
    """What was begun in a folder, if it can be gone on with; another study that made nothing is replaced."""
    from passband import __version__

    store = read_manifest(folder)
    study = as_of(store, study)
    differences = study_differences(store.study, study)
    if differences and any((folder / RECORDS).glob("shard_*.json")):
        listed = "".join(f"\n  - {d}" for d in differences[:12])
        raise DatasetError(
            f"{folder} holds a dataset of another study; choose another folder, or use its own "
            f"{folder / STUDY}. What differs, there and here:{listed}"
        )
    if differences:  # a study that never came to a scene, as one with a mistake: nothing is lost
        with writer(folder, DATASET):
            for name in ARRAYS:
                shutil.rmtree(folder / name, ignore_errors=True)
            (folder / STUDY).unlink(missing_ok=True)
            write_file(folder / DATASET.manifest, _manifest(study, study_text))
        store = read_manifest(folder)
    unfinished = not all(store.record_path(s).exists() for s in range(store.shards))
    if store.made_by != __version__ and unfinished:
        raise DatasetError(
            f"{folder} was begun by Passband {store.made_by}, and this is {__version__}, whose waves may "
            "differ: go on with that version, or choose another folder"
        )
    return store


def write_shard(store: DatasetStore, shard: int, scenes: Sequence[SimulatedScene]) -> None:
    """Write a shard's scenes; they are there once its record file is, which comes last.

    Parameters
    ----------
    store
        The dataset.
    shard
        Its number.
    scenes
        Those of `DatasetStore.scenes_of`, in order.

    Raises
    ------
    DatasetError
        If the scenes are not all of one shape, or a file cannot be written, as on a full disk.
    """
    spectra = [_spectrum(s.wave) for s in scenes]
    faults = {
        f"wave {a.shape}, labels {s.labels.shape}, {_grid(s.wave)}"
        for a, s in zip(spectra, scenes, strict=True)
    }
    if len(faults) > 1:
        raise DatasetError(
            f"scenes of a dataset must all be of one shape, got {' and '.join(sorted(faults))}"
        )
    waves, labels = np.stack(spectra), np.stack([s.labels.astype(np.uint16) for s in scenes])
    span = store.scenes_of(shard)
    which = f"scene {span[0]}" if len(span) == 1 else f"scenes {span[0]} to {span[-1]}"
    unwritten = (
        f"{store.folder}: {which} cannot be written: {{}}; "
        "what was finished before is kept: make room, then run the same command again"
    )
    arrays: dict[str, Description] = {}
    try:
        # What was there was not whole: nothing of it may meet what is written now.
        for path in (store.record_path(shard), *(store.array_path(name, shard) for name in ARRAYS)):
            path.unlink(missing_ok=True)
        for name, content in zip(ARRAYS, (waves, labels), strict=True):
            attributes = _grid(scenes[0].wave) if name == "waves" else {}
            array = _array(store, name, content, attributes)
            array[span.start : span.stop] = content
            arrays[name], _ = load(store.folder / name / DESCRIPTION)
        files = {name: file_sha256(store.array_path(name, shard)) for name in ARRAYS}
    except OSError as e:
        raise DatasetError(unwritten.format(e.strerror or e)) from e
    records = [
        SceneRecord(
            scene=i,
            id=scene_id(scene.specimen, store.study),
            specimen=scene.specimen,
            wave_sha256=content_sha256(waves[k]),
            labels_sha256=content_sha256(labels[k]),
        )
        for k, (i, scene) in enumerate(zip(span, scenes, strict=True))
    ]
    listed: dict[str, Any] = {"scenes": [_entry(r) for r in records]}
    if store.version > 1:  # one begun in the first format is finished in it
        listed |= {"arrays": arrays, "files_sha256": files}
    try:
        write_file(store.record_path(shard), sealed(listed))
    except DatasetError as e:
        raise DatasetError(unwritten.format(e)) from e


@contextlib.contextmanager
def dataset_writer(store: DatasetStore) -> Iterator[None]:
    """Hold a dataset's folder against other runs, clear away what cannot be used, and mend descriptions.

    Raises
    ------
    DatasetError
        If another run is writing to it.
    """
    with writer(store.folder, DATASET):
        known = _first_record(store)
        for name in ARRAYS:
            if known is None:  # nothing is there yet that it describes
                (store.folder / name / DESCRIPTION).unlink(missing_ok=True)
            elif known.arrays is not None:
                write_description(store.folder / name, known.arrays[name])
            else:
                try:
                    open_array(store, name, known)
                except DatasetError:  # the first shard makes it anew
                    (store.folder / name / DESCRIPTION).unlink(missing_ok=True)
        yield


def _first_record(store: DatasetStore) -> ShardRecord | None:
    """The first record that is one of this dataset; all of them describe the same arrays."""
    for shard in range(store.shards):
        with contextlib.suppress(DatasetError):
            record = read_shard(store, shard)
            if record is not None and all(r.id == scene_id(r.specimen, store.study) for r in record.scenes):
                return record
    return None


def _array(
    store: DatasetStore, name: str, content: np.ndarray, attributes: Mapping[str, Any]
) -> zarr.Array[Any]:
    """One of the arrays, to write; begun where it is not there yet."""
    import zarr
    from zarr.codecs import ZstdCodec

    shape, path = content.shape[1:], store.folder / name
    if (path / DESCRIPTION).exists():
        found = open_array(store, name, ShardRecord(scenes=()))
        if found.shape[1:] != shape or dict(found.attrs) != attributes:
            raise DatasetError(
                f"{path} holds scenes of shape {found.shape[1:]}, {dict(found.attrs)}; got {shape}, "
                f"{dict(attributes)}: all scenes of a dataset must be alike"
            )
    else:  # two workers at once write the same
        description = described(
            shape=(store.study.scenes, *shape),
            chunks=(1, *shape),
            shards=(store.scenes_per_shard, *shape),
            dtype=content.dtype,
            # The digits of a wave do not compress; labels do, two hundredfold.
            compressors=ZstdCodec(level=5) if name == "labels" else None,
            fill_value=0,
            attributes=dict(attributes),
            dimension_names=("scene", "y", "x") if name == "labels" else ("scene", "u", "v"),
        )
        write_description(path, description)
    return zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})


def _spectrum(wave: ExitWave) -> np.ndarray:
    return np.ascontiguousarray(wave.spectrum.detach().cpu().numpy(), dtype=np.complex64)


def _grid(wave: ExitWave) -> dict[str, Any]:
    """Everything of a wave but its spectrum, whose shape says which frequencies are kept."""
    return {"shape": list(wave.band.shape), "extent": list(wave.band.extent), "energy": wave.energy}


def _manifest(study: SimulationStudy, study_text: str | None) -> str:
    from passband import __version__

    parts = study.splits.assign(study.scenes, seed=study.seed)
    return sealed(
        {
            "format": DATASET.format,
            "version": DATASET.version,
            "made_by": __version__,
            "study": study.values(),
            "scenes_per_shard": scenes_per_shard(study.scenes),
            "splits": dict(zip(SPLITS, (list(p) for p in parts), strict=True)),
            "study_text": study_text,
        }
    )


def _entry(record: SceneRecord) -> dict[str, Any]:
    rest = {f.name: getattr(record, f.name) for f in fields(record)}
    return {**rest, "specimen": json.loads(record.specimen.to_json())}
