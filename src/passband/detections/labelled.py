"""Labelled micrographs: which of those given can be used, and what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.given import DetectionsFile, Given, read_given
from passband.errors import CalibrationError, DetectionsError, PassbandError
from passband.micrographs.many import Errors, Reading, find_micrographs, without_name
from passband.micrographs.micrograph import Micrograph
from passband.store.runs import arrays_sha256
from passband.types import Progress
from passband.words import counted


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Labelled micrographs, by where they lie.

    Parameters
    ----------
    images
        Files, folders and wildcards; the images of one folder count as one domain.
    annotations
        COCO file, YOLO files, label images and what else `read_detections` reads, that say what is there.
    detections
        What a detector found in them, likewise, or None where its network is asked.
    reading
        Pixel sizes.
    """

    images: Sequence[str]
    annotations: DetectionsFile
    detections: DetectionsFile | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """Those that can be used.

    Parameters
    ----------
    reading
        How each is read.
    truth
        What is there, by path.
    found
        What was found, by path; empty where a network is asked.
    unused
        Pairs of a path and why it cannot be used.
    unlabelled
        Those of them of which the annotations merely say nothing.
    notes
        What was mended, left out and passed over, a sentence each.
    """

    reading: Reading
    truth: Mapping[str, Detections]
    found: Mapping[str, Detections]
    unused: Errors
    notes: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()

    def each(self, progress: Progress | None = None) -> Iterator[tuple[str, Micrograph]]:
        """Every usable micrograph with its path, read anew, so that only one takes room."""
        return self.some(list(self.truth), progress)

    def some(
        self, paths: Sequence[str], progress: Progress | None = None
    ) -> Iterator[tuple[str, Micrograph]]:
        """Some of the micrographs, likewise."""
        for done, path in enumerate(paths):
            if progress:
                progress(path, done, len(paths))
            yield path, self.reading.read(path)
        if progress:
            progress("", len(paths), len(paths))

    @staticmethod
    def domain(path: str) -> str:
        """Where an image comes from: its folder's name."""
        return Path(path).resolve().parent.name


def read_labelled(labelled: Labelled, *, some: bool = False) -> LabelledImages:
    """Which of the labelled micrographs can be used.

    One that cannot be read, of which the annotations or the detections say nothing, or that has the pixels of
    another, is left out and told, or an error where the files are read strictly.

    Parameters
    ----------
    labelled
        Where they lie.
    some
        Whether it is no fault that images have no labels.

    Raises
    ------
    CalibrationError
        If none can be used, naming why, or the annotations hold no object at all.
    DetectionsError
        If annotations or detections cannot be used.
    """
    notes: list[str] = []
    files, missing = find_micrographs(labelled.images, notes)
    notes += labelled.reading.notes_on(files)
    unused = list(missing)
    shapes: dict[str, tuple[int, int]] = {}
    by_content: dict[str, str] = {}
    for path in files:
        try:
            micrograph = labelled.reading.read(path)
        except PassbandError as e:
            unused.append((path, without_name(str(e), path)))
            continue
        same = by_content.setdefault(arrays_sha256(micrograph.pixels), path)
        if same == path:
            shapes[path] = micrograph.shape
        else:
            unused.append((path, f"is the same image as {same}, which counts once"))
    if not shapes:
        raise _none_of(unused)
    sources = [
        replace(labelled.annotations, truth=True),
        *([labelled.detections] if labelled.detections else []),
    ]
    given: list[Given] = []
    for file in sources:
        given.append(read_given(shapes, file))
        notes += [f"{file.path}: {note}" for note in given[-1].notes]
    usable: dict[str, list[Detections]] = {}
    for path in shapes:
        try:
            usable[path] = [g.of(path) for g in given]
        except DetectionsError as e:
            unused.append((path, str(e)))
    unlabelled = tuple(p for p in shapes if p not in given[0].found and p not in given[0].refused)
    faulty = [pair for pair in unused if not (some and pair[0] in unlabelled)]
    if (faulty and any(f.strict for f in sources)) or not usable:
        raise _none_of(faulty or unused)
    if not any(len(held[0]) for held in usable.values()):
        raise CalibrationError(
            f"{labelled.annotations.path} holds no object on any of the {counted(len(usable), 'image')}: "
            "such truth tells nothing of what a detector misses; check that it is the right file"
        )
    return LabelledImages(
        reading=labelled.reading,
        truth={path: held[0] for path, held in usable.items()},
        found={path: held[1] for path, held in usable.items()} if labelled.detections else {},
        unused=tuple(unused),
        unlabelled=unlabelled,
        notes=tuple(notes),
    )


def _none_of(unused: Sequence[tuple[str, str]]) -> CalibrationError:
    told = "; ".join(f"{path}: {words}" for path, words in unused)
    return CalibrationError(f"{counted(len(unused), 'image')} cannot be used: {told}")
