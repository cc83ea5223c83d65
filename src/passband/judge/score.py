"""A detector measured on labelled micrographs: a row an image, together and class by class."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passband.detections.detections import Detections
from passband.detections.labelled import Labelled, read_labelled
from passband.detections.measured import f1_by_class, found_by_class
from passband.detectors.bundle import Bundle
from passband.detectors.infer import detect
from passband.errors import ParameterError
from passband.estimate.rows import CalibrationRow
from passband.estimate.tables import write_table
from passband.judge.calibrate import labelled_row
from passband.judge.verdict import by_pixels
from passband.micrographs.many import Errors
from passband.types import Progress
from passband.words import counted


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was measured.

    Parameters
    ----------
    rows
        One for each image.
    by_class
        Mean F1 of each class over the images that hold or claim it; empty where files tell of no classes.
    unused
        Pairs of a path and why it could not be used.
    notes
        What was mended, left out and passed over, a sentence each.
    """

    rows: tuple[CalibrationRow, ...]
    by_class: Mapping[str, float]
    unused: Errors
    notes: tuple[str, ...]

    def mean(self, score: str) -> float:
        """Mean over images of "f1", "precision" or "recall"."""
        return float(np.mean([getattr(r, score) for r in self.rows]))


def score_labelled(
    labelled: Labelled, bundle: Bundle | None, out: str | Path, *, progress: Progress | None = None
) -> Scored:
    """Measure a detector on labelled micrographs, and write the table that `passband evaluate` reads.

    Parameters
    ----------
    labelled
        Micrographs, what is there, and what was found, or a bundle whose network is asked.
    bundle
        Where no detections are given.
    out
        The CSV file; it appears whole or not at all.
    progress
        Called before each micrograph and at the end.

    Raises
    ------
    CalibrationError
        If no image can be used.
    DetectionsError
        If annotations or detections cannot be used.
    """
    if (bundle is None) == (labelled.detections is None):
        raise ParameterError("wanted detections or a bundle, one of the two")
    usable = read_labelled(labelled)
    rows: list[CalibrationRow] = []
    of_classes: list[tuple[Detections, Detections]] = []
    hits, there = Counter[str](), Counter[str]()
    for path, micrograph in usable.each(progress):
        truth, found = usable.truth[path], usable.found.get(path)
        if bundle is not None and not by_pixels(bundle):
            found = detect(micrograph, bundle)
        rows.append(
            labelled_row(micrograph, found if found is not None else bundle, truth, usable.domain(path))
        )
        if found is not None and truth.categories is not None and found.categories is not None:
            of_classes.append((truth, found))
        elif found is not None:
            for name, (hit, all_there) in found_by_class(truth, found).items():
                hits[name] += hit
                there[name] += all_there
    write_table(out, rows)
    notes = list(usable.notes)
    if len(there) > 1:
        each = ", ".join(f"{name} {hits[name]} of {there[name]}" for name in sorted(there))
        notes.append(f"found of each class: {each}; the scores are of all together")
    means = f1_by_class(of_classes)
    return Scored(
        rows=tuple(rows),
        by_class=means if len(means) > 1 else {},
        unused=usable.unused,
        notes=tuple(notes),
    )


def scored_in_words(scored: Scored) -> str:
    """What to read of a measurement, in lines.

    Examples
    --------
    >>> row = CalibrationRow(features={"count": 3}, f1=0.8, precision=0.7, recall=1, domain="A", image="a")
    >>> print(scored_in_words(Scored(rows=(row,), by_class={"loop": 0.9, "void": 0.6}, unused=(), notes=())))
    F1 0.800, precision 0.700, recall 1.000 in the mean of 1 image
    F1 of loop 0.900, void 0.600
    """
    means = ", ".join(
        f"{words} {scored.mean(name):.3f}"
        for name, words in (("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
    )
    lines = [f"{means} in the mean of {counted(len(scored.rows), 'image')}"]
    if scored.by_class:
        lines.append("F1 of " + ", ".join(f"{name} {value:.3f}" for name, value in scored.by_class.items()))
    lines += [f"not used: {path}: {words}" for path, words in scored.unused]
    return "\n".join(lines)


def scored_to_json(scored: Scored) -> str:
    """The machine-readable document of a measurement, one line."""
    values = {
        "images": len(scored.rows) + len(scored.unused),
        "used": len(scored.rows),
        **{name: round(scored.mean(name), 6) for name in ("f1", "precision", "recall")},
        "by_class": {name: round(value, 6) for name, value in scored.by_class.items()},
        "unused": [{"path": path, "why": words} for path, words in scored.unused],
        "notes": list(scored.notes),
    }
    return json.dumps(values, allow_nan=False) + "\n"
