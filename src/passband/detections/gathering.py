"""What a reader gathers from a detection file: its faults, what was mended, its objects image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from passband.detections.detections import Detections
from passband.detections.masks import Box, box_mask, centre_pixel, clipped_polygon, mask_from_polygons
from passband.detections.numbers import number, shown
from passband.errors import DetectionsError
from passband.types import InstanceMask

# A file for other images would otherwise print thousands of places for one and the same fault.
_PLACES_SHOWN = 50
_PLACES_TOLD = 3
MAX_OBJECTS = 1_000_000
"""The most objects of one file or folder; more is damage or an attack."""
MAX_MASK_PIXELS = 2**31
"""The most pixels that all outlines of one file or folder may take together."""
_ROUNDING = 1e-3  # a score of 1.0000001 is 1; half-precision networks are off by up to this


MIXED_SCORES = "some objects have a score and others none: all are taken as without scores"


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
        told = [what + _at(places, _PLACES_SHOWN) for what, places in self._places.items()]
        raise DetectionsError(f"{self.source} cannot be used: " + "; ".join(told))


class Notes:
    """What a reader mended, left out or passed over: each kind is told once, however often it came.

    Parameters
    ----------
    strict
        Whether what would be mended or left out is refused instead, see `raise_if_strict`.

    Examples
    --------
    >>> notes = Notes()
    >>> notes.objects = 1204
    >>> for i in range(3):
    ...     notes.mend("boxes lay outside and were clipped", f"entry {i}")
    >>> notes.lines()
    ['3 of 1,204 boxes lay outside and were clipped: entry 0, entry 1, entry 2']
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.objects = 0
        self.mask_pixels = 0
        self.refused: dict[str, str] = {}
        self.fileless: list[str] = []  # images that a folder has no file for, which say "nothing found"
        self._mended: dict[str, list[str]] = {}
        self._left_out: dict[str, list[str]] = {}
        self._totals: dict[str, int] = {}
        self._doubtful: dict[str, None] = {}
        self._unread = False
        self._said: dict[str, None] = {}

    def say(self, sentence: str) -> None:
        """Tell something that is no fault, once."""
        self._said[sentence] = None

    def doubt(self, sentence: str) -> None:
        """Tell of a choice that was made for the user, once; it is refused where all is strict."""
        self._doubtful[sentence] = None

    def mend(self, what: str, where: str) -> None:
        """Count one object that was mended; ``what`` begins with the plural of what it is."""
        self._mended.setdefault(what, []).append(where)

    def leave_out(self, what: str, where: str, *, of: int | None = None, read: bool = False) -> None:
        """Count one object that was left out, of so many or of all; ``what`` begins with its plural.

        ``read`` says that it could be read, and only has nothing in the image.
        """
        self._unread = self._unread or not read
        self._left_out.setdefault(what, []).append(where)
        if of is not None:
            self._totals[what] = of

    def refuse(self, image: str, words: str) -> None:
        """Tell why what a file holds of one image cannot be used; the other images go on."""
        self.refused.setdefault(image, words)

    def lines(self) -> list[str]:
        """Everything noted, a sentence each."""
        return [*self._sentences(_PLACES_TOLD), *self._doubtful, *self._said]

    def raise_if_strict(self, source: object) -> None:
        """Raise one error with all that was mended, left out or refused, where that was to be refused."""
        told = [*self._sentences(_PLACES_SHOWN), *self._doubtful]
        told += [f"{n!r}: {words}" for n, words in self.refused.items()]
        if self.strict and told:
            raise DetectionsError(f"{source} cannot be used strictly: " + "; ".join(told))

    def raise_if_nothing_left(self, source: object, found: Mapping[str, Detections]) -> None:
        """Raise one error where no image could be used, or no object of several, or of one, could be read.

        Reading that as "nothing was found" would be a wrong answer.
        """
        told = []
        several = sum(map(len, self._left_out.values())) > 1
        if (several or self._unread) and not any(len(d) for d in found.values()):
            told = self._sentences(_PLACES_SHOWN)
        if not found:
            told += [f"{name!r}: {words}" for name, words in list(self.refused.items())[:_PLACES_SHOWN]]
        if told:
            raise DetectionsError(f"{source} cannot be used: " + "; ".join(told))

    def _sentences(self, most: int) -> list[str]:
        told = []
        for what, places in (*self._mended.items(), *self._left_out.items()):
            words = what.replace(" were ", " was ") if len(places) == 1 else what
            total = max(self._totals.get(what, self.objects), len(places))
            told.append(f"{len(places):,} of {total:,} {words}" + _at([p for p in places if p], most))
        return told


@dataclass(kw_only=True)
class Gathered:
    """Objects of one image while its file is being read; becomes `Detections` at the end.

    What is a little wrong is mended as it comes, what is beyond that left out, and both are noted.
    """

    shape: tuple[int, int]
    notes: Notes = field(default_factory=Notes)
    score_threshold: float = 0.0
    has_masks: bool = False
    scored: bool | None = None
    has_categories: bool = False
    boxes: list[Box] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    masks: list[InstanceMask | None] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    crowds: list[InstanceMask] = field(default_factory=list)

    def add(
        self,
        box: Box,
        score: object,
        mask: InstanceMask | None = None,
        *,
        where: str = "",
        category: str = "",
    ) -> None:
        """Add one object, clipped to the image; one without extent or a score in [0, 1] is left out."""
        notes = self.notes
        notes.objects += 1
        if notes.objects > MAX_OBJECTS:
            raise DetectionsError(f"it holds more than {MAX_OBJECTS:,} objects, which no set of images has")
        value = mended_score(score)
        if value is None:
            notes.leave_out(
                "objects had no score in [0, 1] and were left out", f"{where} ({shown(score)})".strip()
            )
            return
        place = self.placed(box, where)
        if place is None:
            return
        if value != score:
            notes.mend("scores were a rounding outside [0, 1] and were mended", where)
        self.boxes.append(place)
        self.scores.append(value)
        self.masks.append(mask)
        self.categories.append(category)
        notes.mask_pixels += 0 if mask is None else mask.pixels.size
        if notes.mask_pixels > MAX_MASK_PIXELS:
            raise DetectionsError(
                f"its outlines take more than {MAX_MASK_PIXELS} pixels together: it is damaged, or made to "
                "do harm; give fewer images at once"
            )

    def placed(self, box: Box, where: str) -> Box | None:
        """The part of a box that lies in the image; None, and counted, where there is none."""
        if not all(math.isfinite(v) for v in box):
            self.notes.leave_out("boxes held NaN or infinity and were left out", where)
            return None
        x0, y0, x1, y1 = box
        if x1 <= x0 or y1 <= y0:
            self.notes.leave_out("boxes had no extent and were left out", where, read=True)
            return None
        if inside(box, self.shape):
            return box
        height, width = self.shape
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if box[2] <= box[0] or box[3] <= box[1]:
            self.notes.leave_out("boxes lay wholly outside and were left out", where, read=True)
            return None
        self.notes.mend("boxes lay outside and were clipped", where)
        return box

    def outline(self, polygons: Sequence[object], where: str) -> InstanceMask | None:
        """Fill polygons, clipped to the image, which together make one object; None without a pixel.

        Each is a flat list x0, y0, x1, y1, ... in pixels. One of fewer than three points is no outline and
        is passed over where there are others.

        Raises
        ------
        DetectionsError
            If none is a list of three or more points, or one holds anything but finite numbers.
        """
        kept = [p for p in polygons if not (isinstance(p, list) and len(p) < 6)] or polygons
        clipped: list[object] = []
        for polygon in kept:
            values = [number(v) for v in polygon] if isinstance(polygon, list) else [None]
            if None in values or len(values) < 6 or len(values) % 2:
                clipped.append(polygon)  # filling it says what is wrong
                continue
            points = np.array(values, np.float64).reshape(-1, 2)
            inner = clipped_polygon(points, self.shape)
            if inner is not points and len(inner):
                self.notes.mend("outlines reached outside and were clipped", where)
            if len(inner):
                clipped.append(inner.ravel().tolist())
        return mask_from_polygons(clipped, self.shape) if clipped else None

    def add_outline(
        self, polygons: Sequence[object], score: object, *, where: str = "", category: str = ""
    ) -> None:
        """Add the object that polygons outline; one that lies wholly outside is left out."""
        try:
            mask = self.outline(polygons, where)
        except DetectionsError as error:
            self.notes.objects += 1
            self.notes.leave_out("outlines could not be used and were left out", f"{where} ({error})")
            return
        points = np.array(
            [v for p in polygons if isinstance(p, list) for v in p[: len(p) // 2 * 2]], np.float64
        )
        x, y = points[0::2], points[1::2]
        box = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
        if mask is None and box[0] < box[2] and box[1] < box[3]:  # finer than a pixel
            mask = centre_pixel(box, self.shape)
        self.add(box, score, mask, where=where, category=category)

    def detections(self, name: str, faults: Faults) -> Detections | None:
        """Give the gathered objects, or None with the faults noted."""
        masks: list[InstanceMask] = []
        if self.has_masks or any(m is not None for m in self.masks):
            for box, mask in zip(self.boxes, self.masks, strict=True):
                if mask is None:
                    self.notes.mend("objects had no outline, and boxes stand in for it", repr(name))
                masks.append(mask or box_mask(box, self.shape))
        try:
            return Detections(
                image_shape=self.shape,
                boxes_xyxy=np.array(self.boxes, np.float64).reshape(-1, 4),
                scores=np.array(self.scores, np.float64),
                masks=tuple(masks) if masks or self.has_masks else None,
                score_threshold=self.score_threshold,
                scored=self.scored is not False,
                categories=tuple(self.categories) if self.has_categories else None,
                crowds=tuple(self.crowds),
            )
        except DetectionsError as error:
            faults.add(f"image {name!r}: {str(error).partition(': ')[2]}")
            return None


def gathered_detections(gathered: dict[str, Gathered], faults: Faults) -> dict[str, Detections]:
    """Every image's detections, or one error with every fault."""
    result = {name: g.detections(name, faults) for name, g in gathered.items()}
    faults.raise_if_any()
    return {name: d for name, d in result.items() if d is not None}


def mended_score(score: object) -> float | None:
    """A score in [0, 1], rounding mended, or None where it is none."""
    value = number(score)
    if value is None or not -_ROUNDING <= value <= 1 + _ROUNDING:
        return None
    return min(max(value, 0.0), 1.0)


def inside(box: Box, shape: tuple[int, int]) -> bool:
    """Whether a box lies in its image, give or take the pixel that detectors round by."""
    return box[0] >= -1 and box[1] >= -1 and box[2] <= shape[1] + 1 and box[3] <= shape[0] + 1


def _at(places: list[str], most: int) -> str:
    """Where something is, with the first few of many places."""
    some = list(dict.fromkeys(places))
    more = f" and {len(some) - most:,} more" if len(some) > most else ""
    return f": {', '.join(some[:most])}{more}" if some else ""
