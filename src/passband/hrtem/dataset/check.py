"""Whether a dataset is whole: every checksum, and what the parts say of each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from passband.errors import ParameterError
from passband.hrtem.dataset.store import (
    DATASET,
    STUDY,
    DatasetStore,
    as_of,
    read_manifest,
    read_shard,
    shard_faults,
)
from passband.hrtem.dataset.study import SPLITS, study_differences
from passband.hrtem.dataset.study_file import read_study
from passband.store.files import file_bytes
from passband.store.folders import half_written
from passband.types import Progress
from passband.words import counted


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """What a check found.

    Parameters
    ----------
    folder
        Of the dataset.
    scenes, whole
        How many scenes there are to be, and how many are there with every checksum right.
    unfinished
        Numbers of the scenes that were never finished.
    faults
        What is wrong, in words; an unfinished scene is none.
    notes
        What is harmless.
    """

    folder: str
    scenes: int
    whole: int
    unfinished: tuple[int, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all scenes are there and nothing is wrong."""
        return not self.faults and not self.unfinished

    @property
    def cure(self) -> str:
        """What to do, or nothing."""
        if self.passed:
            return ""
        return (
            f"`passband simulate hrtem {Path(self.folder) / STUDY} --out {self.folder}` makes anew what lacks"
        )


def check_dataset(folder: str | Path, *, progress: Progress | None = None) -> DatasetCheck:
    """Read everything of a dataset and compare every checksum.

    Parameters
    ----------
    folder
        Of the dataset.
    progress
        Called with what is looked at, how many scenes are done, and how many there are.

    Raises
    ------
    DatasetError
        If there is no dataset, or its manifest cannot be used: then nothing can be checked.
    """
    store = read_manifest(folder)
    faults = _study_faults(store) + _split_faults(store)
    seen: dict[str, int] = {}
    unfinished: list[int] = []
    whole = 0
    for shard in range(store.shards):
        span = store.scenes_of(shard)
        if progress:
            progress(f"scene {span.start}", span.start, store.study.scenes)
        found = shard_faults(store, shard)
        if found is None:
            unfinished += span
            continue
        faults += found
        whole += 0 if found else len(span)
        if not found:
            record = read_shard(store, shard)
            for r in record.scenes if record else ():
                if r.id in seen:
                    faults.append(f"scenes {seen[r.id]} and {r.scene} are of one specimen")
                seen[r.id] = r.scene
    return DatasetCheck(
        folder=str(folder),
        scenes=store.study.scenes,
        whole=whole,
        unfinished=tuple(unfinished),
        faults=tuple(dict.fromkeys(faults)),
        notes=_notes(store),
    )


def _notes(store: DatasetStore) -> tuple[str, ...]:
    notes, left = [], half_written(store.folder, DATASET)
    if left:
        notes.append(f"{len(left)} half-written files of a stopped run; the next run removes them")
    if not (store.folder / STUDY).exists():
        notes.append(f"{STUDY} is gone; the manifest holds all its values")
    if store.version == 1:
        notes.append(
            f"an earlier Passband ({store.made_by}) made it: zarr.json of waves and labels, and comments in "
            f"{STUDY}, stand under no checksum"
        )
    return tuple(notes)


def _study_faults(store: DatasetStore) -> list[str]:
    path = store.folder / STUDY
    if not path.exists():
        return []
    if store.study_text is not None and path.read_bytes() == file_bytes(store.study_text):
        return []
    try:
        differences = study_differences(store.study, as_of(store, read_study(path)))
    except ParameterError as e:
        return [f"{path} was edited: {e}"]
    if differences:
        return [
            f"{path} was edited; the dataset was made with the first values: {'; '.join(differences[:5])}"
        ]
    if store.study_text is not None:
        return [f"{path} was edited, though not its values; the next run writes it as it was"]
    return []


def _split_faults(store: DatasetStore) -> list[str]:
    """Scenes that are in no split or in two."""
    dealt = [i for name in SPLITS for i in store.splits[name]]
    if sorted(dealt) != list(range(store.study.scenes)):
        return ["splits: not every scene is in exactly one of them"]
    return []


def check_to_json(found: DatasetCheck) -> str:
    """A check as one JSON object, with "passed" and "cure"."""
    return json.dumps({"passed": found.passed, **asdict(found), "cure": found.cure}, indent=1) + "\n"


def check_in_words(found: DatasetCheck) -> str:
    """A check as lines for a person, what is wrong first."""
    lines = [f"{fault}" for fault in found.faults]
    if found.unfinished:
        lines.append(f"{len(found.unfinished)} of {found.scenes} scenes are not simulated yet")
    lines += found.notes
    if found.passed:
        lines.append(f"{found.folder} is whole: {counted(found.scenes, 'scene')}, every checksum right")
    else:
        lines.append(f"{found.whole} of {found.scenes} scenes are whole; {found.cure}")
    return "\n".join(lines)
