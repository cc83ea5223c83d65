"""A whole folder from a few labelled images: draw them before anyone looks, then say what holds of all.

`draw_survey` judges every image, draws some at random and writes a task for whoever labels them.
`survey_result` takes the labels and says, with intervals, how good the detector is on the folder and what
the folder holds: its scores, its number of objects and their sizes, each corrected for what the detector
misses and makes up. Why this is valid: `passband.estimate.survey`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passband.detections.detections import Detections
from passband.errors import ParameterError, ReadError
from passband.estimate.sampling import draw, strata_by
from passband.judge.many import Plan, assess_files
from passband.judge.survey_task import Drawn, Member, Task, refuse_begun, write_task
from passband.judge.verdict import SCORES, Verdict
from passband.micrographs.many import Errors
from passband.store.sealed import file_sha256
from passband.types import Progress, Vector
from passband.words import counted


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn, and where to.

    Parameters
    ----------
    out
        Folder of the task; must not be there.
    count
        How many images.
    seed
        Of the draw.

    Raises
    ------
    ParameterError
        If there is nothing to draw, or the seed is negative.
    """

    out: Path
    count: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ParameterError(
                f"count must be at least 1 and seed at least 0, got {self.count} and {self.seed}"
            )


def draw_survey(
    paths: Sequence[str], plan: Plan, drawing: Drawing, *, progress: Progress | None = None
) -> tuple[Task, Errors]:
    """Draw images of a folder at random, to be labelled.

    All images that can be read are the population; equal files count once. From 20 images on the draw is
    within three strata of estimated F1. A killed run goes on where it was; the task is there whole or not
    at all.

    Parameters
    ----------
    paths
        Files, folders and wildcards.
    plan
        How images are read and judged.
    drawing
        How many, by which seed, and where to.
    progress
        Called before the first micrograph and after each.

    Returns
    -------
    task, errors
        What was drawn; and the images that are not of the population, with the reason.

    Raises
    ------
    DatasetError
        If the task's folder is there already.
    ReadError
        If not one image can be judged.
    DetectionsError
        If the file of detections cannot be used for any image.
    """
    out = drawing.out
    refuse_begun(out)
    work = out.parent / f".{out.name}.work"
    verdicts: dict[str, Verdict] = {}

    def take(verdict: Verdict) -> None:
        verdicts[verdict.path] = verdict

    outcome = assess_files(paths, plan, report=work, take=take, progress=progress)
    errors = outcome.errors
    members, found, twice = _population(verdicts)
    if not members:
        shutil.rmtree(work, ignore_errors=True)
        why = "".join(f"\n  {path}: {words}" for path, words in errors[:5])
        raise ReadError(f"not one image could be judged, so there is nothing to draw from{why}")
    notes = list(outcome.notes)
    notes += [f"{again} has the content of {first}: counted once" for again, first in twice]
    if not any(m.estimates for m in members):
        notes.append("no estimate could be made: the labels alone tell the scores")
    strata = strata_by(proxy_of(members, "f1"), drawing.count)
    places = draw(strata, drawing.count, np.random.default_rng(drawing.seed))
    if len(places) < drawing.count:
        notes.append(f"all {counted(len(places), 'image')} are drawn: there are no {drawing.count}")
    task = Task(
        folder=out,
        seed=drawing.seed,
        members=tuple(members),
        strata=strata,
        drawn=tuple(Drawn(place=int(i), name="", files={}, boxes_xyxy=found[i].boxes_xyxy) for i in places),
        thickness=next(iter(verdicts.values())).sizes.thickness,
        source=str(plan.detections.path if plan.detections else f"bundle {plan.judge.name}"),
        notes=tuple(notes),
    )
    task = write_task(task, [found[i] for i in places], plan.reading)
    shutil.rmtree(work, ignore_errors=True)
    return task, errors


def proxy_of(members: Sequence[Member], name: str) -> Vector:
    """The estimate of a score at each member, float64 (n,): the others' mean where there is none.

    Any number would do as a guess; with none at all every guess is the same, and the labels alone decide.
    """
    values = np.array([m.estimates.get(name, np.nan) for m in members], np.float64)
    known = np.isfinite(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.5)


def object_area(detections: Detections, diameters: Vector) -> float:
    """Area of all objects in pixels: of their masks, or of the ellipses that fill their boxes."""
    if detections.masks is not None:
        return float(sum(int(m.pixels.sum()) for m in detections.masks))
    return float(np.pi / 4 * (diameters**2).sum())


def _population(
    verdicts: Mapping[str, Verdict],
) -> tuple[list[Member], list[Detections], list[tuple[str, str]]]:
    """Members in the order of their paths, what was found in each, and which files are others again."""
    members, found, twice = [], [], []
    known: dict[str, str] = {}
    for path in sorted(verdicts, key=lambda p: Path(p).resolve()):  # the same draw however they are given
        verdict = verdicts[path]
        sha256 = file_sha256(Path(path))
        if sha256 in known:
            twice.append((path, known[sha256]))
            continue
        known[sha256] = path
        d = verdict.detections
        estimates = {n: verdict.estimates[n].value for n in SCORES} if verdict.estimates else {}
        diameters = verdict.sizes.diameters
        members.append(
            Member(
                path=path,
                sha256=sha256,
                image_shape=d.image_shape,
                pixel_size=verdict.sizes.pixel_size,
                estimates=estimates,
                diameters=diameters,
                object_area=object_area(d, diameters),
            )
        )
        found.append(d)
    return members, found, twice
