"""A calibrated image: pixels, what is known of how they were taken, and where that came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from passband.errors import ParameterError
from passband.types import Image, Region

GIVEN = "given"
"""The source of what a person says of a micrograph."""


@dataclass(frozen=True, kw_only=True)
class Micrograph:
    """One calibrated electron micrograph.

    Parameters
    ----------
    pixels
        float32 (y, x), at least 1 x 1, finite everywhere.
    name
        What people call it, usually the file name.
    pixel_size
        Å per pixel at the specimen, or None where unknown.
    energy
        Electron energy in eV, or None where unknown.
    defocus
        Å, positive is underfocus, or None where unknown.
    instrument
        The microscope's name, empty where unknown.
    acquired
        When it was taken, as the file writes it, empty where unknown.
    sources
        For each known quantity ("pixel_size", "energy", "defocus"), where it came from.
    notes
        What reading changed or could not do, in words ("RGB converted to luminance").
    written
        Where a scale bar and its lettering hide the specimen: nothing there is an object of it.

    Raises
    ------
    ParameterError
        If pixels are not a finite two-dimensional float32 array or a calibration is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> m = Micrograph(pixels=np.zeros((4, 6), np.float32), name="a.tif", pixel_size=3.8)
    >>> m.shape, m.area
    ((4, 6), 346.56)
    """

    pixels: Image
    name: str
    pixel_size: float | None = None
    energy: float | None = None
    defocus: float | None = None
    instrument: str = ""
    acquired: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    written: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        p = self.pixels
        if p.ndim != 2 or p.size == 0 or p.dtype != np.float32:
            raise ParameterError(
                f"micrograph {self.name!r}: pixels must be a non-empty float32 (y, x) array, "
                f"got {p.dtype} of shape {p.shape}"
            )
        if not np.isfinite(p).all():
            bad = int(p.size - np.isfinite(p).sum())
            raise ParameterError(
                f"micrograph {self.name!r}: {bad} of {p.size} pixels are NaN or infinite; "
                "mend them, or read the file with --permissive (in Python permissive=True)"
            )
        for what, value in (("pixel_size", self.pixel_size), ("energy", self.energy)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ParameterError(f"micrograph {self.name!r}: {what} must be positive, got {value!r}")
        if self.defocus is not None and not math.isfinite(self.defocus):
            raise ParameterError(f"micrograph {self.name!r}: defocus must be finite, got {self.defocus!r}")
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def area(self) -> float | None:
        """Imaged area in Å², or None where the pixel size is unknown."""
        return None if self.pixel_size is None else self.pixels.size * self.pixel_size**2

    def calibrated(self, pixel_size: float, source: str) -> Micrograph:
        """The same micrograph with its pixel size (Å) given by ``source``."""
        return replace(self, pixel_size=pixel_size, sources={**self.sources, "pixel_size": source})
