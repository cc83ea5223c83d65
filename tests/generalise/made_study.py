"""A study whose task costs nothing, and its table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from passband.engines.settings import EngineSettings
from passband.generalise.export import export_csv
from passband.generalise.run import RunOptions, StudyStatus, Work, run_study
from passband.generalise.study import Axes, Study

TESTS = (-20.0, 0.0, 20.0)


def made_study(defocus: Iterable[float] = range(10, 16), *, seeds: int = 2) -> Study:
    return Study(seeds=seeds, train=Axes(defocus_nm=tuple(map(float, defocus))), test=Axes(defocus_nm=TESTS))


def options(
    task: str = "trivial", *, engine: str | None = "inline", retry_failed: bool = False
) -> RunOptions:
    return RunOptions(
        engine=EngineSettings(engine=engine, workers=2) if engine else None,
        work=Work(task=f"fake_tasks:{task}", prepare="fake_tasks:prepare"),
        retry_failed=retry_failed,
    )


def run(study: Study, folder: Path, task: str = "trivial", *, engine: str = "inline") -> StudyStatus:
    return run_study(study, folder, options(task, engine=engine))


def table(folder: Path) -> bytes:
    """All rows as CSV, to the byte."""
    out = folder.parent / f"{folder.name}.csv"
    export_csv(folder, out)
    return out.read_bytes()
