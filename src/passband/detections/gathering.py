"""What a reader gathers from a detection file: its faults, and its objects image by image."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field

import numpy as np

from passband.detections.detections import Detections
from passband.errors import DetectionsError
from passband.types import InstanceMask

# A file for other images would otherwise print thousands of places for one and the same fault.
_PLACES_SHOWN = 50


class Faults:
    """Faults of one source, gathered so that a single error names them all.

    Parameters
    ----------
    source
        What is being read, usually a path.

    Examples
    --------
    >>> faults = Faults("results.json")
    >>> faults.add("the score must be a number in [0, 1]", "entry 3 (nan)")
    >>> faults.add("the score must be a number in [0, 1]", "entry 8 ('high')")
    >>> faults.raise_if_any()
    Traceback (most recent call last):
    passband.errors.DetectionsError: results.json cannot be used: the score must be a number in [0, 1]: \
entry 3 (nan), entry 8 ('high')
    """

    def __init__(self, source: object) -> None:
        self.source = str(source)
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, where: str = "") -> None:
        """Note one fault; the same fault in several places is told once, with all its places."""
        places = self._places.setdefault(what, [])
        if where and where not in places[-1:]:
            places.append(where)

    def __bool__(self) -> bool:
        return bool(self._places)

    def raise_if_any(self) -> None:
        """Raise one `DetectionsError` with every fault noted so far, if there is one."""
        if not self:
            return
        told = []
        for what, places in self._places.items():
            shown = ", ".join(places[:_PLACES_SHOWN])
            more = len(places) - _PLACES_SHOWN
            told.append(what + (f": {shown}" if shown else "") + (f" and {more} more" if more > 0 else ""))
        raise DetectionsError(f"{self.source} cannot be used: " + "; ".join(told))


@dataclass(kw_only=True)
class Gathered:
    """Objects of one image while its file is being read; becomes `Detections` at the end."""

    shape: tuple[int, int]
    score_threshold: float = 0.0
    has_masks: bool = False
    scored: bool | None = None
    has_categories: bool = False
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    masks: list[InstanceMask | None] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)

    def add(
        self,
        box: tuple[float, float, float, float],
        score: float,
        mask: InstanceMask | None = None,
        category: str = "",
    ) -> None:
        """Add one object."""
        self.boxes.append(box)
        self.scores.append(score)
        self.masks.append(mask)
        self.categories.append(category)

    def detections(self, name: str, faults: Faults) -> Detections | None:
        """Give the gathered objects, or None with the faults noted."""
        masks = tuple(m for m in self.masks if m is not None)
        if masks and len(masks) < len(self.masks):
            without = len(self.masks) - len(masks)
            faults.add(
                f"image {name!r} mixes {without} objects without an outline and {len(masks)} with one; "
                "give all of them outlines or none"
            )
            masks = ()
        try:
            return Detections(
                image_shape=self.shape,
                boxes_xyxy=np.array(self.boxes, np.float64).reshape(-1, 4),
                scores=np.array(self.scores, np.float64),
                masks=masks if masks or self.has_masks else None,
                score_threshold=self.score_threshold,
                scored=self.scored is not False,
                categories=tuple(self.categories) if self.has_categories else None,
            )
        except DetectionsError as error:
            faults.add(f"image {name!r}: {str(error).partition(': ')[2]}")
            return None


def inside(box: tuple[float, float, float, float], shape: tuple[int, int]) -> bool:
    """Whether a box lies in its image, give or take the pixel that detectors round by."""
    return box[0] >= -1 and box[1] >= -1 and box[2] <= shape[1] + 1 and box[3] <= shape[0] + 1


def shown(value: object) -> str:
    """Write a value for an error message, shortened where it is long."""
    return reprlib.repr(value)


def number(value: object) -> float | None:
    """Give a finite number, or None for anything else, text and true or false included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def whole_number(value: object) -> int | None:
    """Give a whole number of pixels (1 or more), or None for anything else."""
    n = number(value)
    return int(n) if n is not None and n >= 1 and n == int(n) else None
