"""A simulated dataset's folder: what lies where, and how it is written so that no moment can tear it.

::

    manifest.json     format, all values of the study, splits, the study's file; written first
    study.toml        the file that the study was read from, for people; a copy of what the manifest holds
    waves, labels     Zarr v3 arrays, one chunk for each scene, several scenes in a shard (one file)
    records           one JSON file for each shard, written last: only with it are its scenes there

Every file is written beside its place and renamed. Manifest and records carry checksums of themselves. A
record carries those of its scenes' waves and labels, of the files that hold them, and what the ``zarr.json``
of both arrays must be: a file that was cut, edited or lost is found and can be made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from passband.errors import DatasetError
from passband.hrtem.dataset.study import ADDED, SPLITS, SimulationStudy
from passband.hrtem.dataset.study_file import study_from_values
from passband.hrtem.specimen.amorphous import DENSITY
from passband.hrtem.specimen.specimen import SpecimenRanges, SpecimenRecord
from passband.store.arrays import DESCRIPTION, Description, open_zarr, refuse_other_description
from passband.store.folders import StoreKind, lost_manifest
from passband.store.folders import read_manifest as read_any_manifest
from passband.store.sealed import content_sha256, file_sha256, first_line, unsealed

if TYPE_CHECKING:
    import zarr

DATASET = StoreKind(
    noun="dataset",
    format="passband simulated dataset",
    version=3,
    manifest="manifest.json",
    stems=r"manifest|study|shard_\d+",
    make="make one with `passband simulate hrtem STUDY.toml --out FOLDER`",
)
STUDY, RECORDS = "study.toml", "records"
ARRAYS = ("waves", "labels")
PACKED = tuple(ADDED["specimen"]["substrates"])
"""Substrates of datasets before the third format, and of those that tell of none."""
_OLD_SAMPLING = {"pixel_size": 0.2, "slice_thickness": 2.0}
_MEND = "`passband simulate hrtem` on the same folder mends it"


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
class ShardRecord:
    """What is stored of a shard beside its arrays.

    Parameters
    ----------
    scenes
        Of each of its scenes, in order.
    arrays
        What zarr says of each array, so what its ``zarr.json`` must be; None in format 1.
    files_sha256
        Checksum of the shard's file of each array; None in format 1.
    """

    scenes: tuple[SceneRecord, ...]
    arrays: Mapping[str, Description] | None = None
    files_sha256: Mapping[str, str] | None = None


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
    version
        Of the format; the first lacks checksums of ``zarr.json`` and ``study.toml``, and in both before the
        third carbon is packed at random.
    study_text
        What is in ``study.toml``; None where the study came from no file, or in format 1.
    """

    folder: Path
    study: SimulationStudy
    splits: Mapping[str, tuple[int, ...]]
    scenes_per_shard: int
    made_by: str
    version: int
    study_text: str | None

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

    Raises
    ------
    DatasetError
        If there is no dataset, its manifest is damaged, or its format is newer than this Passband.
    """
    folder = Path(folder)
    content = read_any_manifest(folder, DATASET)
    try:
        return DatasetStore(
            folder=folder,
            study=study_from_values(content["study"], source=str(folder / DATASET.manifest)),
            splits={name: tuple(content["splits"][name]) for name in SPLITS},
            scenes_per_shard=content["scenes_per_shard"],
            made_by=content["made_by"],
            version=content["version"],
            study_text=content["study_text"] if content["version"] > 1 else None,
        )
    except (KeyError, TypeError) as e:
        raise lost_manifest(folder, DATASET) from e


def as_of(store: DatasetStore, study: SimulationStudy) -> SimulationStudy:
    """What a study meant when a dataset was begun, where it leaves out what older formats chose otherwise.

    Before the third format carbon was packed at random, and waves had one sampling for all elements.
    """
    if store.version > 2:
        return study
    wave, specimen = study.wave, study.specimen
    chosen = replace(wave, pixel_size=None, slice_thickness=None)
    if replace(study, wave=chosen) == study and _OLD_SAMPLING.items() <= asdict(store.study.wave).items():
        study = replace(study, wave=replace(wave, **_OLD_SAMPLING))
    if specimen.substrates == SpecimenRanges().substrates:
        density = DENSITY if specimen.density is None else specimen.density
        study = replace(study, specimen=replace(specimen, substrates=PACKED, density=density))
    return study


def read_shard(store: DatasetStore, shard: int) -> ShardRecord | None:
    """Record of a shard.

    Returns
    -------
    ShardRecord or None
        None where the shard is not finished.

    Raises
    ------
    DatasetError
        If it is damaged or of other scenes.
    """
    path = store.record_path(shard)
    if not path.exists():
        return None
    content = unsealed(path)
    try:
        record = ShardRecord(scenes=tuple(_record(entry) for entry in content["scenes"]))
        if store.version > 1:
            arrays, files = ({n: content[part][n] for n in ARRAYS} for part in ("arrays", "files_sha256"))
            record = replace(record, arrays=arrays, files_sha256=files)
    except (KeyError, TypeError, ValueError) as e:
        raise DatasetError(f"{path} holds no records of scenes ({type(e).__name__}: {e})") from e
    if [r.scene for r in record.scenes] != list(store.scenes_of(shard)):
        wanted = store.scenes_of(shard)
        raise DatasetError(f"{path} is of other scenes, wanted {wanted[0]} to {wanted[-1]}")
    return record


def shard_faults(store: DatasetStore, shard: int) -> list[str] | None:
    """What is wrong with a shard, every checksum looked at.

    Returns
    -------
    list of str or None
        Empty where all is well; None where it is not finished.
    """
    try:
        record = read_shard(store, shard)
    except DatasetError as e:
        return [str(e)]
    if record is None:
        return None
    faults = []
    for r in record.scenes:
        if r.id != scene_id(r.specimen, store.study):
            faults.append(f"scene {r.scene}: its id does not follow from its specimen and wave settings")
    for name in ARRAYS:
        faults += _array_faults(store, shard, record, name)
    return faults


def _array_faults(store: DatasetStore, shard: int, record: ShardRecord, name: str) -> list[str]:
    """What is wrong with a shard of one array."""
    try:
        array = open_array(store, name, record)
    except DatasetError as e:
        return [str(e)]
    faults = []
    for r in record.scenes:
        try:
            read_item(store, array, name, r)
        except DatasetError as e:
            faults.append(str(e))
    if not faults and record.files_sha256 is not None:
        path = store.array_path(name, shard)
        if file_sha256(path) != record.files_sha256[name]:
            faults.append(f"{path} was edited, though not its scenes: the checksum of the file differs")
    return faults


def open_array(store: DatasetStore, name: str, record: ShardRecord) -> zarr.Array[Any]:
    """One of the dataset's arrays, to read.

    Raises
    ------
    DatasetError
        If its description is missing, or is not what the record of a shard says; in format 1, if it does
        not fit the study.
    """
    path = store.folder / name
    if record.arrays is not None:
        refuse_other_description(path, record.arrays[name], cure=_MEND)
    array = open_zarr(path, cure=_MEND)
    fits = array.ndim == 3 and array.shape[0] == store.study.scenes
    fits = fits and array.shards is not None and array.shards[0] == store.scenes_per_shard
    if not fits:
        raise DatasetError(f"{path / DESCRIPTION} was edited: it does not fit the manifest")
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


def _record(entry: Mapping[str, Any]) -> SceneRecord:
    specimen = SpecimenRecord.from_json(json.dumps(entry["specimen"]))
    return SceneRecord(**{**entry, "specimen": specimen})
