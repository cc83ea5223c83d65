"""Another's detections on many micrographs, or a person's annotations, given in a file."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.detections.gathering import Notes
from passband.errors import DetectionsError, PassbandError
from passband.micrographs.many import Reading
from passband.words import counted, meant


@dataclass(frozen=True, kw_only=True)
class DetectionsFile:
    """A file or folder of detections or annotations, and what of it is taken.

    Parameters
    ----------
    path
        Of any form that `passband.detections.files.read_detections` reads.
    image_list
        COCO file that says which image each number means, or None.
    score_threshold
        Detections below it are left out; None takes all.
    categories
        Names of the classes that are taken; empty takes all.
    strict
        Whether what would be mended or left out is an error instead.
    truth
        Whether it says what is there: then an image of which a folder of text has no file is not labelled.
        A detector writes none where it finds nothing.
    """

    path: Path
    image_list: Path | None = None
    score_threshold: float | None = None
    categories: tuple[str, ...] = ()
    strict: bool = False
    truth: bool = False


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a file holds of some micrographs.

    Parameters
    ----------
    source
        The file.
    found
        Detections by path.
    refused
        By path, why what the file holds of a micrograph cannot be used.
    notes
        What was mended, left out and passed over, a sentence each.
    """

    source: str
    found: Mapping[str, Detections]
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, path: str) -> Detections:
        """What was given for one micrograph, or a `DetectionsError` that says why nothing was."""
        if path in self.found:
            return self.found[path]
        if path in self.refused:
            raise DetectionsError(f"{self.source}: {self.refused[path]}")
        raise DetectionsError(f"{self.source} says nothing of this image; leave the image out")

    def only(self, path: str) -> Given:
        """The same of one micrograph alone, without notes."""
        return Given(
            source=self.source,
            found={path: self.found[path]} if path in self.found else {},
            refused={path: self.refused[path]} if path in self.refused else {},
        )


def given_detections(paths: Sequence[str], reading: Reading, file: DetectionsFile) -> Given:
    """What a file holds of those micrographs that can be read.

    Parameters
    ----------
    paths
        Of the micrographs. What is wrong with one that cannot be read is not told here.
    reading
        How they are read.
    file
        What is read, and what of it is taken.

    Raises
    ------
    DetectionsError
        If the file cannot be used, or speaks of none of the micrographs.
    """
    shapes = {}
    for path in paths:
        with contextlib.suppress(PassbandError):
            shapes[path] = reading.read(path).shape
    return read_given(shapes, file)


def read_given(shapes: Mapping[str, tuple[int, int]], file: DetectionsFile) -> Given:
    """What a file holds of images of known height and width, by their names; errors as `given_detections`."""
    notes = Notes(strict=file.strict)
    found = read_detections(file.path, images=shapes, image_list=file.image_list, notes=notes)
    if file.truth and notes.fileless:
        found = {name: d for name, d in found.items() if name not in notes.fileless}
        notes.say(
            f"{counted(len(notes.fileless), 'image')} without a file of labels: not labelled (an empty file "
            "says that there is no object)"
        )
    if shapes and not found:
        raise DetectionsError(f"{file.path} speaks of none of the {len(shapes)} micrographs")
    if file.categories:
        found = _of_classes(found, file.categories, file.path)
    if file.score_threshold is not None:
        before = sum(map(len, found.values()))
        found = {name: d.above(file.score_threshold) for name, d in found.items()}
        fewer = before - sum(map(len, found.values()))
        if fewer:
            notes.say(
                f"{fewer:,} of {before:,} objects scored below {file.score_threshold:g} and were left out"
            )
    return Given(source=str(file.path), found=found, refused=notes.refused, notes=tuple(notes.lines()))


def _of_classes(
    found: Mapping[str, Detections], wanted: Collection[str], path: Path
) -> dict[str, Detections]:
    """The objects of some classes; a class that no object is of is an error, which names those there are."""
    there = sorted({c for d in found.values() for c in d.categories or ()})
    if all(d.categories is None for d in found.values()):
        raise DetectionsError(f"{path} does not tell the classes of its objects; leave --category out")
    for name in wanted:
        if name not in there:
            known = meant(name, there) if there else "it holds no object"
            raise DetectionsError(f"{path} holds no object of the class {name!r} on these images; {known}")
    return {name: d.of(wanted) for name, d in found.items()}
