"""What a detector said of one image, or what a person or a simulation knows to be there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer

from passband.errors import DetectionsError
from passband.types import Boxes, InstanceMask, Region, Vector


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Objects found in one image; ground truth is the same with every score 1.

    Parameters
    ----------
    image_shape
        Height and width of the image in pixels.
    boxes_xyxy
        float64 (n, 4): x0, y0, x1, y1 in pixels, upper ends exclusive, x0 < x1 and y0 < y1.
    scores
        float64 (n,), each in [0, 1].
    masks
        One `InstanceMask` per box, or None where the detector gives boxes only.
    score_threshold
        The detector kept objects at or above this score.
    scored
        Whether the scores are a detector's; where its file gave none every score is 1.
    categories
        Name of each object's class, or None where nothing tells it.
    crowds
        Regions where objects are not told apart, as in COCO: they are left out of scores.

    Raises
    ------
    DetectionsError
        Naming every fault: wrong lengths, boxes without extent or outside the image, NaN scores.

    Examples
    --------
    >>> import numpy as np
    >>> d = Detections(image_shape=(64, 64), boxes_xyxy=np.array([[3.0, 4, 13, 16]]), scores=np.array([0.9]))
    >>> len(d), d.areas.tolist()
    (1, [120.0])
    """

    image_shape: tuple[int, int]
    boxes_xyxy: Boxes
    scores: Vector
    masks: tuple[InstanceMask, ...] | None = None
    score_threshold: float = 0.0
    scored: bool = True
    categories: tuple[str, ...] | None = None
    crowds: tuple[InstanceMask, ...] = ()

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise DetectionsError("detections cannot be used: " + "; ".join(faults))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def areas(self) -> Vector:
        """Box areas in pixels, shape (n,)."""
        b = self.boxes_xyxy
        areas: Vector = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
        return areas

    def above(self, score_threshold: float) -> Detections:
        """Those with a score at or above a threshold, which becomes the new one."""
        some = self._at(np.flatnonzero(self.scores >= score_threshold))
        return replace(some, score_threshold=max(score_threshold, self.score_threshold))

    def outside(self, regions: Sequence[Region]) -> Detections:
        """Those of which less than half lies in any of some regions of the image.

        Examples
        --------
        >>> import numpy as np
        >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
        >>> d = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2))
        >>> d.outside([Region(0, 0, 12, 64)]).boxes_xyxy.tolist()
        [[20.0, 20.0, 30.0, 30.0]]
        """
        if not regions or not len(self):
            return self
        x0, y0, x1, y1 = self.boxes_xyxy.T
        inside = np.zeros(len(self))
        for r in regions:
            width = np.minimum(x1, r.right) - np.maximum(x0, r.left)
            height = np.minimum(y1, r.bottom) - np.maximum(y0, r.top)
            inside = np.maximum(inside, width.clip(0) * height.clip(0))
        return self._at(np.flatnonzero(2 * inside < (x1 - x0) * (y1 - y0)))

    def of(self, categories: Collection[str]) -> Detections:
        """Those of some classes; none where the classes are not told.

        Examples
        --------
        >>> import numpy as np
        >>> boxes = np.array([[3.0, 4, 13, 16], [20, 20, 30, 30]])
        >>> d = Detections(
        ...     image_shape=(64, 64), boxes_xyxy=boxes, scores=np.ones(2), categories=("void", "loop")
        ... )
        >>> d.of(["loop"]).boxes_xyxy.tolist()
        [[20.0, 20.0, 30.0, 30.0]]
        """
        names = self.categories or ()
        return self._at(np.array([i for i, name in enumerate(names) if name in categories], np.int64))

    def _at(self, places: Integer[np.ndarray, " k"]) -> Detections:
        """The objects at some places."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[places],
            scores=self.scores[places],
            masks=None if self.masks is None else tuple(self.masks[i] for i in places),
            categories=None if self.categories is None else tuple(self.categories[i] for i in places),
        )


def _faults(d: Detections) -> list[str]:
    """Every fault of the arrays of some detections, in words."""
    b, s = d.boxes_xyxy, d.scores
    if b.ndim != 2 or b.shape[1] != 4 or s.ndim != 1 or len(b) != len(s):
        return [f"boxes must be (n, 4) and scores (n,), got {b.shape} and {s.shape}"]
    faults = []
    if d.masks is not None and len(d.masks) != len(s):
        faults.append(f"{len(d.masks)} masks for {len(s)} boxes")
    if d.categories is not None and len(d.categories) != len(s):
        faults.append(f"{len(d.categories)} categories for {len(s)} boxes")
    height, width = d.image_shape
    if height < 1 or width < 1:
        faults.append(f"image shape {d.image_shape} has no pixels")
    if not np.isfinite(b).all():
        faults.append(f"boxes {np.flatnonzero(~np.isfinite(b).all(axis=1)).tolist()} hold NaN or infinity")
        return faults
    flat = np.flatnonzero((b[:, 2] <= b[:, 0]) | (b[:, 3] <= b[:, 1]))
    if flat.size:
        faults.append(f"boxes {flat.tolist()} have no extent (wanted x0 < x1 and y0 < y1)")
    slack = 1.0  # detectors round to the pixel
    out = np.flatnonzero((b < -slack).any(axis=1) | (b[:, 2] > width + slack) | (b[:, 3] > height + slack))
    if out.size:
        faults.append(f"boxes {out.tolist()} lie outside the image of {height} x {width} (height x width)")
    bad = np.flatnonzero(~((s >= 0) & (s <= 1)))
    if bad.size:
        faults.append(f"scores {bad.tolist()} are not in [0, 1]: {s[bad].tolist()}")
    return faults
