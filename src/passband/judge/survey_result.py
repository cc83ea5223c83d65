"""What the labels of a survey say of its whole folder: scores, number of objects, sizes, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from passband.detections.detections import Detections
from passband.detections.given import DetectionsFile, read_given
from passband.detections.measured import measured_scores
from passband.detections.scores import Scores
from passband.errors import ParameterError
from passband.estimate.sampling import Design, Labels
from passband.estimate.survey import Ratio, Surveyed, mean_of, survey_median, survey_ratio
from passband.judge.survey import object_area, proxy_of
from passband.judge.survey_task import Drawn, Member, Task, changes_of, is_as_drawn, read_task
from passband.judge.verdict import SCORES, measure_sizes
from passband.types import Vector
from passband.units import NM, UM
from passband.words import counted

NAMES = {
    "f1_mean": "F1, mean of images",
    "f1_pooled": "F1, all objects together",
    "precision_mean": "precision, mean of images",
    "precision_pooled": "precision, all objects together",
    "recall_mean": "recall, mean of images",
    "recall_pooled": "recall, all objects together",
    "count_total": "objects in the folder",
    "density_per_um2": "objects per µm²",
    "diameter_mean_px": "mean diameter, pixels",
    "diameter_median_px": "median diameter, pixels",
    "diameter_mean_nm": "mean diameter, nm",
    "diameter_median_nm": "median diameter, nm",
    "area_fraction": "area fraction",
    "swelling_percent": "swelling, %",
}
"""Every quantity that is told, in order."""

_VERY_MANY = 10_000
"""Objects that hardly anyone labels in one image."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One quantity of the folder.

    Parameters
    ----------
    corrected
        By the labels and what was found in all images; None where the labels hold no object to measure.
    labels_only
        By the labels alone.
    """

    corrected: Surveyed | None
    labels_only: Surveyed | None


@dataclass(frozen=True, kw_only=True)
class SurveyResult:
    """What a survey says of its folder.

    Parameters
    ----------
    n, drawn, labelled
        Images of the folder, those drawn, and those of them that have labels.
    coverage
        How often an interval is meant to contain what holds.
    invalid
        Why the intervals may not be called valid, in words; empty where they are.
    notes
        What else is to be known, in words.
    quantities
        By the names of `NAMES`; those in nm where all pixel sizes are known, swelling with a thickness.
    """

    n: int
    drawn: int
    labelled: int
    coverage: float
    invalid: tuple[str, ...]
    notes: tuple[str, ...]
    quantities: Mapping[str, Told]

    @property
    def valid(self) -> bool:
        """Whether the intervals hold as often as they say."""
        return not self.invalid


@dataclass(frozen=True, kw_only=True, eq=False)
class _Labelled:
    """What the labels of one drawn image say."""

    scores: Scores
    diameters: Vector
    area: float


def survey_result(folder: Path, annotations: Path | DetectionsFile, *, coverage: float = 0.9) -> SurveyResult:
    """Say what the labels of the drawn images tell of the whole folder.

    Parameters
    ----------
    folder
        Of the task.
    annotations
        COCO file, YOLO files, label images and what else `read_detections` reads, named like the task's
        images; what it says of other images is passed over.
    coverage
        How often an interval is meant to contain what holds.

    Returns
    -------
    SurveyResult
        Scores by the matching rule `OPTIMAL`, number of objects, number density, diameters, area fraction,
        swelling.

    Raises
    ------
    DatasetError
        If there is no task, or its record was edited.
    DetectionsError
        If the annotations cannot be used for a single image.
    ParameterError
        If the coverage is none.
    """
    if not 0 < coverage < 1:
        raise ParameterError(f"coverage must lie between 0 and 1, got {coverage!r}")
    task = read_task(folder)
    shapes = {d.name: task.members[d.place].image_shape for d in task.drawn}
    file = annotations if isinstance(annotations, DetectionsFile) else DetectionsFile(path=annotations)
    given = read_given(shapes, replace(file, truth=True))
    truth = given.found
    used = [d for d in task.drawn if d.name in truth]
    labelled = [_labelled(task.members[d.place], d, truth[d.name]) for d in used]
    strata, places = task.strata, np.array([d.place for d in used], np.int64)
    design = Design(strata=strata, labelled=places, coverage=coverage)
    return SurveyResult(
        n=design.n,
        drawn=len(task.drawn),
        labelled=design.k,
        coverage=coverage,
        invalid=tuple(_invalid(task, file.path, labelled, used, given.refused)),
        notes=(*(f"{file.path.name}: {note}" for note in given.notes), *_notes(task, design, truth)),
        quantities=dict(_quantities(task, labelled, design)),
    )


def _labelled(member: Member, drawn: Drawn, truth: Detections) -> _Labelled:
    diameters = measure_sizes(truth, member.pixel_size, None).diameters
    boxes = drawn.boxes_xyxy
    found = Detections(image_shape=member.image_shape, boxes_xyxy=boxes, scores=np.ones(len(boxes)))
    return _Labelled(
        scores=measured_scores(truth, found),
        diameters=diameters,
        area=object_area(truth, diameters),
    )


def _invalid(
    task: Task,
    annotations: Path,
    labelled: Sequence[_Labelled],
    used: Sequence[Drawn],
    faults: Mapping[str, str],
) -> list[str]:
    """Why the intervals may not be called valid."""
    told = []
    names = {d.name for d in used}
    lacking = [d.name for d in task.drawn if d.name not in names]
    if lacking:
        told.append(
            f"{len(lacking)} of {counted(len(task.drawn), 'drawn image')} have no labels "
            f"({', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}): those left out may be the "
            "hard ones; label them too"
        )
        told += [f"{name}: {words}" for name, words in faults.items() if name in lacking][:5]
    objects = sum(len(one.diameters) for one in labelled)
    if not objects and any(len(d.boxes_xyxy) for d in used):
        told.append(
            "the annotations hold no object in any drawn image, where the detector found some: were they "
            "labelled and exported?"
        )
    if is_as_drawn(task, annotations):
        told.append(
            f"{annotations} is the file of detections that the draw filled in: correct it in an annotation "
            "tool and give what that exports"
        )
    return told + changes_of(task)


def _notes(task: Task, design: Design, truth: Mapping[str, Detections]) -> list[str]:
    told = list(task.notes)
    classes = Counter(name for d in truth.values() for name in d.categories or ())
    if len(classes) > 1:
        listing = ", ".join(f"{name} ({n})" for name, n in classes.most_common(5))
        told.append(
            f"the annotations are of {len(classes)} classes, {listing}: all count as objects; --category "
            "takes those that are meant"
        )
    elif classes and next(iter(classes)) != "object":
        told.append(f"all annotations are of the class {next(iter(classes))!r}")
    if any(t.masks is None and len(t) for t in truth.values()):
        told.append("sizes are those of annotated boxes: the ellipses that fill them")
    for name, t in truth.items():
        if len(t) > _VERY_MANY:
            told.append(f"{name} has {len(t)} labelled objects: were they meant?")
    if any(m.pixel_size is None for m in task.members):
        lacking = sum(m.pixel_size is None for m in task.members)
        told.append(
            f"{counted(lacking, 'image')} have no pixel size, so nothing is told in nm; draw with "
            "--pixel-size-nm or --sidecar"
        )
    if design.strata.max() < task.strata.max():
        told.append("a stratum has fewer than two labels, so the strata are taken together")
    if design.k == design.n:
        told.append("every image is labelled, so the values are exact")
    return told


def _quantities(task: Task, labelled: Sequence[_Labelled], design: Design) -> list[tuple[str, Told]]:
    """Every quantity that the sizes known allow, by name."""
    members = task.members
    told: dict[str, Told] = {}
    found = np.array([float(len(m.diameters)) for m in members])
    truth = np.array([float(len(one.diameters)) for one in labelled])
    hits = np.array([float(one.scores.true_positives) for one in labelled])
    claimed = found[design.labelled]
    pooled = {
        "f1": (2 * hits, claimed + truth),
        "precision": (hits, claimed),
        "recall": (hits, truth),
    }
    for name in SCORES:
        proxy = proxy_of(members, name)
        values = np.array([float(getattr(one.scores, name)) for one in labelled])
        told[f"{name}_mean"] = _told(mean_of(values, proxy, design), design)
        numerator, denominator = pooled[name]
        if denominator.any():
            # The found objects of an image are what its score weighs by, in all of them.
            weights = found if found[design.labelled].any() else np.ones(design.n)
            told[f"{name}_pooled"] = _told(
                Ratio(
                    numerator=numerator,
                    denominator=denominator,
                    proxy_numerator=proxy * weights,
                    proxy_denominator=weights,
                    size=found + 1,
                ),
                design,
            )
        else:  # nothing there, nothing found: as `object_scores` has it, and nothing known of the others
            whole = Surveyed(
                value=float(not (truth.any() or claimed.any())), low=0.0, high=1.0, width_with_more=1.0
            )
            told[f"{name}_pooled"] = Told(corrected=whole, labels_only=whole)
    told["count_total"] = _total(truth, found, found + 1, design)
    told |= _sizes(members, labelled, design, unit="px")
    scale = np.array([m.pixel_size or np.nan for m in members])
    sides = np.array([math.prod(m.image_shape) for m in members], np.float64)
    known = bool(np.isfinite(scale).all())
    if known:
        area = float((sides * scale**2).sum())
        told["density_per_um2"] = _scaled(told["count_total"], UM**2 / area)
        told |= _sizes(members, labelled, design, unit="nm")
    squares = scale**2 if known else np.ones(design.n)
    shares = _total(
        np.array([one.area for one in labelled]) * squares[design.labelled],
        np.array([m.object_area for m in members]) * squares,
        found + 1,
        design,
    )
    told["area_fraction"] = _scaled(shares, 1 / float((sides * squares).sum()))
    if known and task.thickness is not None:
        volumes = _total(
            _volumes([one.diameters for one in labelled], scale[design.labelled]),
            _volumes([m.diameters for m in members], scale),
            found + 1,
            design,
        )
        told["swelling_percent"] = _changed(volumes, _swelling(float(area * task.thickness)))
    return [(name, told[name]) for name in NAMES if name in told]


def _told(ratio: Ratio, design: Design) -> Told:
    return Told(
        corrected=survey_ratio(ratio, design), labels_only=survey_ratio(ratio.without_proxy(), design)
    )


def _total(truth: Labels, found: Vector, size: Vector, design: Design) -> Told:
    """The sum over the folder of what its objects add up to."""
    # Where the labels do not tell how far an image may be off: by as much as one holds on average, or by
    # one object.
    one = float(found.sum() / max(1.0, (size - 1).sum()))
    reach = max(one, float(truth.mean()), float(found.mean()))
    return _scaled(_told(mean_of(truth, found, design, reach=reach, size=size), design), design.n)


def _sizes(
    members: Sequence[Member], labelled: Sequence[_Labelled], design: Design, *, unit: str
) -> dict[str, Told]:
    """Mean and median diameter over all objects of the folder."""
    scale = np.array([1.0 if unit == "px" else (m.pixel_size or np.nan) / NM for m in members])
    truth = [one.diameters * scale[i] for one, i in zip(labelled, design.labelled, strict=True)]
    found = [m.diameters * s for m, s in zip(members, scale, strict=True)]
    sums = np.array([float(t.sum()) for t in truth]), np.array([float(f.sum()) for f in found])
    counts = np.array([float(len(t)) for t in truth]), np.array([float(len(f)) for f in found])
    mean = Ratio(
        numerator=sums[0],
        denominator=counts[0],
        proxy_numerator=sums[1],
        proxy_denominator=counts[1],
        highest=math.inf,
        reach=float(sums[0].sum() / max(1.0, counts[0].sum())),
        size=counts[1] + 1,
    )
    none: list[np.ndarray] = [np.zeros(0)] * design.n
    median = Told(
        corrected=survey_median(truth, found, design), labels_only=survey_median(truth, none, design)
    )
    return {f"diameter_mean_{unit}": _told(mean, design), f"diameter_median_{unit}": median}


def _volumes(diameters: Sequence[np.ndarray], scale: Vector) -> Vector:
    """Volume of all objects of each image taken as spheres, Å³."""
    return np.array([np.pi / 6 * float(((d * s) ** 3).sum()) for d, s in zip(diameters, scale, strict=True)])


def _swelling(foil: float) -> Callable[[float], float]:
    """Swelling in per cent by the objects' volume, in a foil of a volume that may not hold them."""
    return lambda volume: 100 * volume / (foil - volume) if volume < foil else math.inf


def _scaled(told: Told, factor: float) -> Told:
    return Told(
        corrected=told.corrected and told.corrected.scaled(factor),
        labels_only=told.labels_only and told.labels_only.scaled(factor),
    )


def _changed(told: Told, function: Callable[[float], float]) -> Told:
    """What follows from a quantity by a rising function."""

    def of(s: Surveyed | None) -> Surveyed | None:
        if s is None:
            return None
        half = s.width_with_more / 2
        low, high = function(max(0.0, s.value - half)), function(s.value + half)
        return Surveyed(
            value=function(s.value),
            low=function(s.low),
            high=function(s.high),
            width_with_more=high - low if math.isfinite(high) else math.inf,
        )

    return Told(corrected=of(told.corrected), labels_only=of(told.labels_only))
