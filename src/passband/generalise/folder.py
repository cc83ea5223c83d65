"""A study's folder: what it holds, begun once, refused for another study.

study.json     what the study is: all its values, sealed
data/          what the runs share, as the simulated scenes
results/       one sealed file for each run that is done or has failed, named by the run
ledger.sqlite  the same as a table, made by the one driver; made anew from the results where it is damaged
shards/        which run each worker of a job array is at
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from passband.errors import DatasetError, ParameterError
from passband.generalise.study import RECIPE, Study, study_from_values
from passband.store.folders import StoreKind, begin, is_begun, read_manifest
from passband.store.parts import differences, key
from passband.store.sealed import sealed

STUDY = StoreKind(
    noun="study",
    format="passband-study",
    version=1,
    manifest="study.json",
    stems="[0-9a-z-]+",
    make="`passband study run FILE --out DIR` makes one",
)
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done for a study, as "module:function" that a worker can import.

    Parameters
    ----------
    task
        Called with the study's values, a run's values and the folder; gives one row for each test
        condition, in their order, with at least "f1" and "loss".
    prepare
        Called once before there are runs to do, with the study's values, the folder, who does the runs
        and what shows progress; None for nothing. What it made before it keeps.
    """

    task: str = "passband.generalise.work:train_and_test"
    prepare: str | None = "passband.generalise.work:prepare"


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """Where a study lies, what it is, and what is done for it."""

    path: Path
    study: Study
    work: Work
    made_by: str

    @cached_property
    def digest(self) -> str:
        """Name of the study by its content: a result says which study it is of."""
        return key(self.study.values())

    @property
    def results(self) -> Path:
        """Folder of the result files."""
        return self.path / "results"

    def result(self, run: str) -> Path:
        """Where the result of a run is, or will be."""
        return self.results / f"{run}.json"


def begin_study(path: str | Path, study: Study, work: Work) -> StudyFolder:
    """Make a study's folder, or find that it was begun for the same study.

    Raises
    ------
    DatasetError
        If the folder holds another study or something else, or cannot be written.
    """
    path = Path(path)
    if not is_begun(path, STUDY):
        from passband import __version__

        manifest = {
            "format": STUDY.format,
            "version": STUDY.version,
            "made_by": __version__,
            "recipe": RECIPE,
            "task": work.task,
            "prepare": work.prepare,
            "study": study.values(),
        }
        begin(path, STUDY, sealed(manifest))
    folder = open_study(path)
    if folder.study != study:
        differ = differences(folder.study.values(), study.values())
        listed = "".join(f"\n  - {d}" for d in differ[:_SHOWN])
        raise DatasetError(
            f"{path} holds another study, or this one was edited after it was started; "
            f"choose a new folder for it. What differs, there and here:{listed}"
        )
    if folder.work != work:
        raise DatasetError(
            f"{path} holds a study of the task {folder.work.task}, and this is {work.task}; "
            "choose a new folder"
        )
    return folder


def open_study(path: str | Path) -> StudyFolder:
    """A study's folder that was begun.

    Raises
    ------
    DatasetError
        If there is none, it is damaged, or another version of Passband trains otherwise.
    """
    path = Path(path)
    content = read_manifest(path, STUDY)
    if content.get("recipe") != RECIPE:
        raise DatasetError(
            f"{path} was begun by Passband {content.get('made_by')}, whose networks are trained by recipe "
            f"{content.get('recipe')}, and this one trains by {RECIPE}: go on with that version, or choose "
            "a new folder"
        )
    try:
        return StudyFolder(
            path=path,
            study=study_from_values(content["study"]),
            work=Work(task=content["task"], prepare=content["prepare"]),
            made_by=content["made_by"],
        )
    except (KeyError, ParameterError) as e:
        raise DatasetError(f"{path / STUDY.manifest} tells of no study: {e}; begin it anew") from e
