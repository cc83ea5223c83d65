"""How an image was, or will be, taken: lens, illumination, dose and camera, and ranges of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from passband.errors import ParameterError

_POSITIVE = ("energy", "aperture", "dose", "pixel_size", "mtf_half", "gain")
_NOT_NEGATIVE = ("focal_spread", "angular_spread", "vibration", "readout", "gain_noise")
_SHARES = ("inelastic_share", "dqe_falloff")
_UNBOUNDED = ("aperture", "dose", "mtf_half")


@dataclass(frozen=True, kw_only=True)
class ImagingConditions:
    """Imaging conditions of one bright-field transmission electron micrograph.

    Aberrations are those of the wave aberration function
    chi = (2 pi / wavelength) (a² (C10 + C12 cos 2(p - phi12)) / 2 + a³ (C21 cos(p - phi21)
    + C23 cos 3(p - phi23)) / 3 + a⁴ C30 / 4 + a⁶ C50 / 6), with a the scattering angle and p its
    azimuth, from the x axis towards y.

    Parameters
    ----------
    energy
        Electron energy in eV.
    C10
        Defocus coefficient in Å; negative is underfocus.
    C12, phi12
        Twofold astigmatism in Å and its azimuth in rad.
    C21, phi21
        Axial coma in Å and its azimuth in rad.
    C23, phi23
        Threefold astigmatism in Å and its azimuth in rad.
    C30, C50
        Third- and fifth-order spherical aberration in Å.
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
    drift_y, drift_x
        How far the specimen moves, evenly, during the exposure, Å.
    integrate_pixels
        Whether a pixel collects the intensity over its whole area, or that at its centre. Where pixels
        are too coarse for the wave's band, or the specimen drifts, the latter is not the value at the
        point but that of the intensity limited to the frequencies that the pixels carry.
    vibration
        Standard deviation, along each axis, of where the specimen is during the exposure, Å.
    inelastic_share
        Share of the electrons that lost energy in the specimen: out of focus, they are an even background
        (`optics.inelastic` says how many they are).
    quantum_efficiency
        The camera's detective quantum efficiency for what varies slowly, above 0 and up to 1: of the noise
        as if only this share of the electrons were counted. The counts stay.
    dqe_falloff
        How the efficiency falls with frequency: DQE(q) = quantum_efficiency MTF(q)^(2 dqe_falloff). 0: not at
        all, noise is blurred like signal; 1: noise is white, as if the MTF were ahead of the counting.
    gain
        Counts that the camera gives for an electron.
    offset
        Counts without electrons (dark level), of either sign.
    readout
        Standard deviation of the noise of each pixel's reading, counts.
    gain_noise
        Standard deviation of the pixels' gains about their mean, over it: what flat-fielding leaves.
        Efficiency, gain, offset, readout and gain noise need a dose and do nothing where it is infinite.

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
    C12: float = 0.0
    phi12: float = 0.0
    C21: float = 0.0
    phi21: float = 0.0
    C23: float = 0.0
    phi23: float = 0.0
    C30: float = 1.2e7
    C50: float = 0.0
    focal_spread: float = 60.0
    angular_spread: float = 1e-4
    aperture: float = math.inf
    dose: float = math.inf
    pixel_size: float = 1.0
    mtf_half: float = math.inf
    drift_y: float = 0.0
    drift_x: float = 0.0
    integrate_pixels: bool = False
    vibration: float = 0.0
    inelastic_share: float = 0.0
    quantum_efficiency: float = 1.0
    dqe_falloff: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    readout: float = 0.0
    gain_noise: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        for f in fields(self):
            value = getattr(self, f.name)
            if math.isnan(value) or (math.isinf(value) and f.name not in _UNBOUNDED):
                faults.append(f"{f.name} must be a finite number, got {value}")
            elif f.name in _POSITIVE and value <= 0:
                faults.append(f"{f.name} must be more than zero, got {value}")
            elif f.name == "energy" and not 1e3 <= value <= 1e7:
                faults.append(f"energy must be 1000 to 1e+07 eV, got {value:g}")
            elif f.name in _NOT_NEGATIVE and value < 0:
                faults.append(f"{f.name} must not be negative, got {value}")
            elif f.name in _SHARES and not 0 <= value <= 1:
                faults.append(f"{f.name} must be 0 to 1, got {value}")
            elif f.name == "quantum_efficiency" and not 0 < value <= 1:
                faults.append(f"quantum_efficiency must be above 0 and at most 1, got {value}")
        if faults:
            raise ParameterError("imaging conditions: " + "; ".join(faults))

    @property
    def defocus(self) -> float:
        """Defocus in Å, positive is underfocus: -C10."""
        return -self.C10


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Evenly between two ends.

    Parameters
    ----------
    low, high
        The ends; ``low`` may not exceed ``high``.

    Raises
    ------
    ParameterError
        If an end is not finite or they are the wrong way round.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ParameterError(
                f"a range needs finite ends with low <= high, got low={self.low}, high={self.high}"
            )


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Normally distributed.

    Parameters
    ----------
    mean, deviation
        Mean and standard deviation, the latter not negative.

    Raises
    ------
    ParameterError
        If one is not finite or the deviation is negative.
    """

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation >= 0):
            raise ParameterError(
                "a normal range needs a finite mean and a deviation of zero or more, "
                f"got mean={self.mean}, deviation={self.deviation}"
            )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Given values, taken in turn; several grids are combined, the last one named turning fastest.

    Raises
    ------
    ParameterError
        If there is no value.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ParameterError("a grid needs at least one value")


Range = float | Uniform | Normal | Grid


@dataclass(frozen=True, kw_only=True)
class ConditionRanges:
    """What imaging conditions are drawn from: each a number, or a range of them.

    The names, units and defaults are those of `ImagingConditions`, except that the defaults here are
    of a corrected instrument: 300 keV, C30 zero, a focal spread of 10 Å, 400 e/Å², 0.2 Å pixels.

    Examples
    --------
    >>> ranges = ConditionRanges(C10=Uniform(low=-300.0, high=-100.0), dose=Grid(values=(100, 400)))
    >>> [(round(c.defocus), c.dose) for c in draw_conditions(ranges, 3, seed=1)]
    [(198, 100), (234, 400), (210, 100)]
    """

    energy: Range = 300e3
    C10: Range = 0.0
    C12: Range = 0.0
    phi12: Range = 0.0
    C21: Range = 0.0
    phi21: Range = 0.0
    C23: Range = 0.0
    phi23: Range = 0.0
    C30: Range = 0.0
    C50: Range = 0.0
    focal_spread: Range = 10.0
    angular_spread: Range = 0.0
    aperture: Range = math.inf
    dose: Range = 400.0
    pixel_size: Range = 0.2
    mtf_half: Range = math.inf
    drift_y: Range = 0.0
    drift_x: Range = 0.0
    integrate_pixels: bool = False
    vibration: Range = 0.0
    inelastic_share: Range = 0.0
    quantum_efficiency: Range = 1.0
    dqe_falloff: Range = 0.0
    gain: Range = 1.0
    offset: Range = 0.0
    readout: Range = 0.0
    gain_noise: Range = 0.0


def draw_conditions(ranges: ConditionRanges, count: int, *, seed: int) -> list[ImagingConditions]:
    """Draw imaging conditions; the i-th follows from the ranges, the seed and i alone.

    Parameters
    ----------
    ranges
        What to draw from. Grids are gone through in order, the rest is random.
    count
        How many.
    seed
        Not negative.

    Returns
    -------
    list of ImagingConditions
        Of length ``count``.

    Raises
    ------
    ParameterError
        If a value drawn is outside what `ImagingConditions` allows, or the count or seed is negative.

    Examples
    --------
    >>> draw_conditions(ConditionRanges(C10=-50.0), 1, seed=0)[0].defocus
    50.0
    """
    if count < 0 or seed < 0:
        raise ParameterError(f"count and seed must not be negative, got {count} and {seed}")
    values: dict[str, Any] = {f.name: getattr(ranges, f.name) for f in fields(ranges)}
    grids = {name: v.values for name, v in values.items() if isinstance(v, Grid)}
    points = list(itertools.product(*grids.values()))
    drawn = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        point = dict(zip(grids, points[i % len(points)], strict=True))
        drawn.append(ImagingConditions(**{k: point.get(k, _draw(v, rng)) for k, v in values.items()}))
    return drawn


def _draw(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, Uniform):
        return float(rng.uniform(value.low, value.high))
    if isinstance(value, Normal):
        return float(rng.normal(value.mean, value.deviation))
    return value
