"""Shape-typed aliases of arrays, and the one small value shared by every layer.

Axes are (..., y, x). The shapes are checked by beartype in the tests only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Float64, Integer

Image = Float32[np.ndarray, "y x"]
Wave = Complex64[np.ndarray, "y x"]
Mask = Bool[np.ndarray, "y x"]
LabelImage = Integer[np.ndarray, "y x"]
Boxes = Float64[np.ndarray, "n 4"]
Vector = Float64[np.ndarray, "n"]

Progress = Callable[[str, int, int], None]
"""Called with what is begun, how many are done, and how many there are."""


class Region(NamedTuple):
    """Rows and columns of a part of an image, upper ends exclusive."""

    top: int
    left: int
    bottom: int
    right: int


Lines = list[tuple[str, str]]
"""What is said of a thing: the name of each line, and its words."""


@dataclass(frozen=True, kw_only=True)
class InstanceMask:
    """One object's pixels, cropped to where they lie in the image.

    Parameters
    ----------
    y, x
        Row and column of the crop's first pixel in the image; may not be negative.
    pixels
        Boolean (y, x); True on the object.

    Examples
    --------
    >>> import numpy as np
    >>> mask = InstanceMask(y=2, x=3, pixels=np.ones((4, 5), bool))
    >>> mask.box_xyxy
    (3.0, 2.0, 8.0, 6.0)
    """

    y: int
    x: int
    pixels: Mask

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """The crop's box in pixels: x0, y0, x1, y1, upper ends exclusive."""
        height, width = self.pixels.shape
        return float(self.x), float(self.y), float(self.x + width), float(self.y + height)
