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

from passband.errors import DatasetError, PassbandError
from passband.hrtem.dataset_store import (
    ARRAYS,
    FORMAT,
    MANIFEST,
    RECORDS,
    STUDY,
    VERSION,
    DatasetStore,
    SceneRecord,
    is_ours,
    open_array,
    read_manifest,
    scene_id,
    scenes_per_shard,
    temporaries,
)
from passband.hrtem.specimen import SpecimenRecord
from passband.hrtem.study import SPLITS, SimulationStudy, study_differences
from passband.store.files import write_whole
from passband.store.sealed import content_sha256, listed_names, sealed, sole_writer

if TYPE_CHECKING:
    import zarr

    from passband.hrtem.scattering import ExitWave


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

    Returns
    -------
    DatasetStore

    Raises
    ------
    DatasetError
        If the folder holds a dataset of another study, something else, or one that another version of
        Passband began and did not finish.
    PassbandError
        If it cannot be written.
    """
    from passband import __version__

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; choose a new folder for the dataset")
    if (folder / MANIFEST).exists():
        store = read_manifest(folder)
        differences = study_differences(store.study, study)
        if differences and any((folder / RECORDS).glob("shard_*.json")):
            listed = "".join(f"\n  - {d}" for d in differences[:12])
            raise DatasetError(
                f"{folder} holds a dataset of another study; choose another folder, or use its own "
                f"{folder / STUDY}. What differs, there and here:{listed}"
            )
        if differences:  # a study that never came to a scene, as one with a mistake: nothing is lost
            with dataset_writer(store):
                for name in ARRAYS:
                    shutil.rmtree(folder / name, ignore_errors=True)
                (folder / STUDY).unlink(missing_ok=True)
                write_whole(folder / MANIFEST, _manifest(study))
            store = read_manifest(folder)
        unfinished = not all(store.record_path(s).exists() for s in range(store.shards))
        if store.made_by != __version__ and unfinished:
            raise DatasetError(
                f"{folder} was begun by Passband {store.made_by}, and this is {__version__}, whose waves may "
                "differ: go on with that version, or choose another folder"
            )
    else:
        others = [p.name for p in folder.iterdir() if not is_ours(p)] if folder.exists() else []
        if others:
            raise DatasetError(
                f"{folder} is not empty and holds no dataset (there is {listed_names(sorted(others))}); "
                "choose a new folder"
            )
        write_whole(folder / MANIFEST, _manifest(study))
    if study_text is not None and not (folder / STUDY).exists():
        write_whole(folder / STUDY, study_text)
    return read_manifest(folder)


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
    try:
        # What was there was not whole: nothing of it may meet what is written now.
        for path in (store.record_path(shard), *(store.array_path(name, shard) for name in ARRAYS)):
            path.unlink(missing_ok=True)
        for name, content in zip(ARRAYS, (waves, labels), strict=True):
            attributes = _grid(scenes[0].wave) if name == "waves" else {}
            array = _array(store, name, content, attributes)
            array[span.start : span.stop] = content
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
    try:
        write_whole(store.record_path(shard), sealed(listed))
    except PassbandError as e:
        raise DatasetError(unwritten.format(e)) from e


@contextlib.contextmanager
def dataset_writer(store: DatasetStore) -> Iterator[None]:
    """Hold a dataset's folder against other runs, and clear away what cannot be used.

    Parameters
    ----------
    store
        The dataset.

    Raises
    ------
    DatasetError
        If another run is writing to it.
    """
    with sole_writer(store.folder):
        for path in temporaries(store):
            path.unlink(missing_ok=True)
        for name in ARRAYS:
            try:
                open_array(store, name)
            except DatasetError:  # none yet, or damaged: the first shard makes it anew
                (store.folder / name / "zarr.json").unlink(missing_ok=True)
        yield


def _array(
    store: DatasetStore, name: str, content: np.ndarray, attributes: Mapping[str, Any]
) -> zarr.Array[Any]:
    """One of the arrays, to write; begun where it is not there yet."""
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.errors import ContainsArrayError

    shape = content.shape[1:]
    path = store.folder / name
    found = open_array(store, name) if (path / "zarr.json").exists() else None
    if found is not None and (found.shape[1:] != shape or dict(found.attrs) != attributes):
        raise DatasetError(
            f"{path} holds scenes of shape {found.shape[1:]}, {dict(found.attrs)}; got {shape}, "
            f"{dict(attributes)}: all scenes of a dataset must be alike"
        )
    if found is None:
        with contextlib.suppress(ContainsArrayError):  # another worker was faster
            zarr.create_array(
                path,
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
    return zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})


def _spectrum(wave: ExitWave) -> np.ndarray:
    return np.ascontiguousarray(wave.spectrum.detach().cpu().numpy(), dtype=np.complex64)


def _grid(wave: ExitWave) -> dict[str, Any]:
    """Everything of a wave but its spectrum, whose shape says which frequencies are kept."""
    return {"shape": list(wave.band.shape), "extent": list(wave.band.extent), "energy": wave.energy}


def _manifest(study: SimulationStudy) -> str:
    from passband import __version__

    parts = study.splits.assign(study.scenes, seed=study.seed)
    return sealed(
        {
            "format": FORMAT,
            "version": VERSION,
            "made_by": __version__,
            "study": study.values(),
            "scenes_per_shard": scenes_per_shard(study.scenes),
            "splits": dict(zip(SPLITS, (list(p) for p in parts), strict=True)),
        }
    )


def _entry(record: SceneRecord) -> dict[str, Any]:
    rest = {f.name: getattr(record, f.name) for f in fields(record)}
    return {**rest, "specimen": json.loads(record.specimen.to_json())}
