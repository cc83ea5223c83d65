"""How an image was, or will be, taken: lens, illumination, dose and camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from passband.errors import ParameterError


@dataclass(frozen=True, kw_only=True)
class ImagingConditions:
    """Imaging conditions of one bright-field transmission electron micrograph.

    Parameters
    ----------
    energy
        Electron energy in eV.
    C10
        Defocus coefficient in Å; negative is underfocus.
    C30
        Third-order spherical aberration in Å.
    focal_spread
        1/e half-width of the distribution of focus, Å.
    angular_spread
        1/e half-width of the illumination angle, rad.
    aperture
        Semi-angle of the objective aperture, rad; infinity for none.
    dose
        Electrons on the specimen over the exposure, e/Å²; infinity for no counting noise.
    pixel_size
        Å at the specimen.
    mtf_half
        Frequency, in cycles per pixel, where the camera's MTF is one half; infinity for a
        perfect camera.

    Raises
    ------
    ParameterError
        Naming every value outside its range.

    Examples
    --------
    >>> c = ImagingConditions(energy=200e3, C10=-1e4, dose=20, pixel_size=3.8)
    >>> c.defocus
    10000.0
    """

    energy: float = 200e3
    C10: float = 0.0
    C30: float = 1.2e7
    focal_spread: float = 60.0
    angular_spread: float = 1e-4
    aperture: float = math.inf
    dose: float = math.inf
    pixel_size: float = 1.0
    mtf_half: float = math.inf

    def __post_init__(self) -> None:
        faults = []
        for f in fields(self):
            value = getattr(self, f.name)
            positive = f.name in ("energy", "aperture", "dose", "pixel_size", "mtf_half")
            unbounded = f.name in ("aperture", "dose", "mtf_half")
            if math.isnan(value) or (math.isinf(value) and not unbounded):
                faults.append(f"{f.name} must be a finite number, got {value}")
            elif positive and value <= 0:
                faults.append(f"{f.name} must be more than zero, got {value}")
            elif f.name.endswith("_spread") and value < 0:
                faults.append(f"{f.name} must not be negative, got {value}")
        if faults:
            raise ParameterError("imaging conditions: " + "; ".join(faults))

    @property
    def defocus(self) -> float:
        """Defocus in Å, positive is underfocus: -C10."""
        return -self.C10
