"""A simulated dataset's folder: what lies where, and how it is written so that no moment can tear it.

::

    manifest.json     format, all values of the study, splits; written first
    study.toml        the file that the study was read from, for people
    waves, labels     Zarr v3 arrays, one chunk for each scene, several scenes in a shard (one file)
    records           one JSON file for each shard, written last: only with it are its scenes there

Every file is written beside its place and renamed. Scenes carry checksums of wave and labels in their
record, and records one of their own, so a file that was cut, edited or lost is found and can be made anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from passband.errors import DatasetError
from passband.hrtem.specimen import SpecimenRecord
from passband.hrtem.study import (
    SPLITS,
    SimulationStudy,
)
from passband.hrtem.study_file import study_from_values
from passband.store.sealed import LOCK, content_sha256, digest, first_line, listed_names, load

if TYPE_CHECKING:
    import zarr


FORMAT = "passband simulated dataset"
VERSION = 1
MANIFEST, STUDY, RECORDS = "manifest.json", "study.toml", "records"
ARRAYS = ("waves", "labels")
_TEMPORARY = re.compile(r"^\.(manifest|study|shard_).*|.*\.partial$")


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """What is stored of one scene beside its arrays.

    Parameters
    ----------
    scene
        Its number in the dataset.
    id
        Hash of its specimen and the settings of its wave: what the arrays follow from.
    specimen
        What it was built from.
    wave_sha256, labels_sha256
        Checksums of the arrays' content, whatever the compression.
    """

    scene: int
    id: str
    specimen: SpecimenRecord
    wave_sha256: str
    labels_sha256: str


@dataclass(frozen=True, kw_only=True)
class DatasetStore:
    """A dataset's folder and what its manifest says.

    Parameters
    ----------
    folder
        Of the dataset.
    study
        What it follows from.
    splits
        Scene numbers of "train", "validation" and "test".
    scenes_per_shard
        How many scenes share a file.
    made_by
        Version of Passband that began it.
    """

    folder: Path
    study: SimulationStudy
    splits: Mapping[str, tuple[int, ...]]
    scenes_per_shard: int
    made_by: str

    @property
    def shards(self) -> int:
        """How many shards there are when it is finished."""
        return -(-self.study.scenes // self.scenes_per_shard)

    def scenes_of(self, shard: int) -> range:
        """Numbers of the scenes in a shard."""
        first = shard * self.scenes_per_shard
        return range(first, min(first + self.scenes_per_shard, self.study.scenes))

    def record_path(self, shard: int) -> Path:
        """Where the records of a shard's scenes are, once they are."""
        return self.folder / RECORDS / f"shard_{shard:05d}.json"

    def array_path(self, name: str, shard: int) -> Path:
        """The file that holds a shard of an array."""
        return self.folder / name / "c" / str(shard) / "0" / "0"


def scenes_per_shard(scenes: int) -> int:
    """How many scenes share a file: at most 16, and fewer where that would leave a few workers idle."""
    return min(16, max(1, scenes // 16))


def read_manifest(folder: str | Path) -> DatasetStore:
    """What a dataset's manifest says.

    Parameters
    ----------
    folder
        Of the dataset.

    Returns
    -------
    DatasetStore

    Raises
    ------
    DatasetError
        If there is no dataset, its manifest is damaged, or its format is newer than this Passband.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    make = "make one with `passband simulate hrtem STUDY.toml --out FOLDER`"
    if not folder.exists():
        raise DatasetError(f"{folder} does not exist; wanted the folder of a dataset: {make}")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file; wanted the folder of a dataset: {make}")
    if not path.exists():
        inside = sorted(p.name for p in folder.iterdir() if not is_ours(p))
        near = [p.parent for p in [folder.parent / MANIFEST, *folder.glob(f"*/{MANIFEST}")] if p.exists()]
        held = f"holds no {MANIFEST} (there is {listed_names(inside)})" if inside else "is empty"
        cure = f"did you mean {near[0]}?" if near else f"wanted the folder of a dataset: {make}"
        raise DatasetError(f"{folder} {held}; {cure}")
    content = load(path)
    if content.get("format") != FORMAT:
        raise DatasetError(f"{path} is not that of a dataset; {make}")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise DatasetError(
            f"{folder} is of format {content.get('version')}, made by Passband {content.get('made_by')}; "
            f"this one reads formats up to {VERSION}: update Passband"
        )
    lost = f"{path} was cut or edited (its checksum differs); bring it back, or begin the dataset anew"
    if content.get("sha256") != digest(content):
        raise DatasetError(lost)
    try:
        return DatasetStore(
            folder=folder,
            study=study_from_values(content["study"], source=str(path)),
            splits={name: tuple(content["splits"][name]) for name in SPLITS},
            scenes_per_shard=content["scenes_per_shard"],
            made_by=content["made_by"],
        )
    except (KeyError, TypeError) as e:
        raise DatasetError(lost) from e


def read_records(store: DatasetStore, shard: int) -> list[SceneRecord] | None:
    """Records of a shard's scenes.

    Parameters
    ----------
    store
        The dataset.
    shard
        Its number.

    Returns
    -------
    list of SceneRecord or None
        None where the shard is not finished.

    Raises
    ------
    DatasetError
        If they are damaged or of other scenes.
    """
    path = store.record_path(shard)
    if not path.exists():
        return None
    content = load(path)
    if content.get("sha256") != digest(content):
        raise DatasetError(f"{path} was cut or edited (its checksum differs)")
    try:
        records = [_record(entry) for entry in content["scenes"]]
    except (KeyError, TypeError, ValueError) as e:
        raise DatasetError(f"{path} holds no records of scenes ({type(e).__name__}: {e})") from e
    if [r.scene for r in records] != list(store.scenes_of(shard)):
        wanted = store.scenes_of(shard)
        raise DatasetError(f"{path} is of other scenes, wanted {wanted[0]} to {wanted[-1]}")
    return records


def shard_faults(store: DatasetStore, shard: int) -> list[str] | None:
    """What is wrong with a shard, every checksum looked at.

    Parameters
    ----------
    store
        The dataset.
    shard
        Its number.

    Returns
    -------
    list of str or None
        Empty where all is well; None where it is not finished.
    """
    try:
        records = read_records(store, shard)
    except DatasetError as e:
        return [str(e)]
    if records is None:
        return None
    faults = []
    for r in records:
        if r.id != scene_id(r.specimen, store.study):
            faults.append(f"scene {r.scene}: its id does not follow from its specimen and wave settings")
    for name in ARRAYS:
        try:
            array = open_array(store, name)
        except DatasetError as e:
            faults.append(str(e))
            continue
        for r in records:
            try:
                read_item(store, array, name, r)
            except DatasetError as e:
                faults.append(str(e))
    return faults


def open_array(store: DatasetStore, name: str) -> zarr.Array[Any]:
    """One of the dataset's arrays, to read.

    Raises
    ------
    DatasetError
        If its description is missing or damaged, or does not fit the study.
    """
    import zarr

    path = store.folder / name
    try:
        array = zarr.open_array(path, mode="r")
        fits = array.ndim == 3 and array.shape[0] == store.study.scenes
        fits = fits and array.shards is not None and array.shards[0] == store.scenes_per_shard
    except Exception as e:  # zarr raises whatever a damaged description leads to
        raise DatasetError(f"{path / 'zarr.json'} is missing or damaged ({first_line(e)})") from e
    if not fits:
        raise DatasetError(f"{path / 'zarr.json'} was edited: it does not fit the manifest")
    return array


def read_item(store: DatasetStore, array: zarr.Array[Any], name: str, record: SceneRecord) -> np.ndarray:
    """One scene of an array, its checksum compared.

    Raises
    ------
    DatasetError
        If the file is missing or damaged.
    """
    path = store.array_path(name, record.scene // store.scenes_per_shard)
    where = f"scene {record.scene}: its {name} in {path}"
    if not path.exists():
        raise DatasetError(f"{where} are missing")
    try:
        content = np.asarray(array[record.scene])
    except Exception as e:  # zarr and its codecs raise whatever damaged bytes lead to
        raise DatasetError(f"{where} cannot be read: the file was cut or edited ({first_line(e)})") from e
    wanted = record.wave_sha256 if name == "waves" else record.labels_sha256
    if content_sha256(content) != wanted:
        raise DatasetError(f"{where} are not those that were written: the checksum differs")
    return content


def scene_id(specimen: SpecimenRecord, study: SimulationStudy) -> str:
    """Hash of what wave and labels follow from: the specimen's record, the wave's settings, the pixels."""
    values = study.values()
    parts = [json.loads(specimen.to_json()), values["wave"], values["imaging"]["pixel_size"]]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def temporaries(store: DatasetStore) -> list[Path]:
    """Files that a killed run left half-written; nothing reads them."""
    return sorted(p for p in store.folder.rglob("*") if p.is_file() and _TEMPORARY.match(p.name))


def _record(entry: Mapping[str, Any]) -> SceneRecord:
    specimen = SpecimenRecord.from_json(json.dumps(entry["specimen"]))
    return SceneRecord(**{**entry, "specimen": specimen})


def is_ours(path: Path) -> bool:
    """Whether a file is the lock, or left half-written by a run of ours."""
    return path.name == LOCK or bool(_TEMPORARY.match(path.name))
