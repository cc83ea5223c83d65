"""Another detector's detections on many micrographs, given in a file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.errors import DetectionsError, PassbandError
from passband.micrographs.many import Reading


def given_detections(
    paths: Sequence[str], reading: Reading, detections: Path, *, threshold: float = 0.0
) -> dict[str, Detections]:
    """Detections by path, of those micrographs that can be read and that the file speaks of.

    Parameters
    ----------
    paths
        Of the micrographs. What is wrong with one that cannot be read is not told here.
    reading
        How they are read.
    detections
        COCO file, YOLO files or label images.
    threshold
        Detections below this score are left out.

    Raises
    ------
    DetectionsError
        If the file cannot be used, or speaks of none of the micrographs.
    """
    shapes = {}
    for path in paths:
        with contextlib.suppress(PassbandError):
            shapes[path] = reading.read(path).shape
    found = read_detections(detections, images=shapes, skip_others=True)
    if shapes and not found:
        read_detections(detections, images=shapes)  # says which images it speaks of instead
        raise DetectionsError(f"{detections} speaks of none of the {len(shapes)} micrographs")
    return {n: d.above(threshold) if d.score_threshold < threshold else d for n, d in found.items()}


def detections_of(
    path: str, given: Mapping[str, Detections], source: str = "the detections file"
) -> Detections:
    """What was given for one micrograph, or a `DetectionsError` where nothing was."""
    if path not in given:
        raise DetectionsError(f"{source} says nothing of this image; leave the image out")
    return given[path]
