"""What a lens passes: its focus for best contrast, its first zero, its information limit."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import contrast_transfer, lens_of, transfer_function
from passband.units import electron_wavelength


def scherzer_defocus(*, energy: float, C30: float) -> float:
    """Defocus that balances spherical aberration over the widest band, 1.2 sqrt(C30 wavelength).

    Parameters
    ----------
    energy
        eV.
    C30
        Third-order spherical aberration, Å; negative gives an overfocus.

    Returns
    -------
    float
        Defocus in Å, positive is underfocus.

    References
    ----------
    O. Scherzer, J. Appl. Phys. 20 (1949) 20, doi:10.1063/1.1698233.

    Examples
    --------
    >>> round(scherzer_defocus(energy=300e3, C30=1.2e7))
    583
    """
    return math.copysign(1.2 * math.sqrt(abs(C30) * electron_wavelength(energy)), C30)


def transfer_profile(conditions: ImagingConditions, k: torch.Tensor, *, azimuth: float = 0.0) -> torch.Tensor:
    """Contrast transfer 2 sin(chi) along a line from zero frequency, with its envelopes.

    Parameters
    ----------
    conditions
        The lens.
    k
        Frequencies, cycles/Å, (n,) from zero upwards.
    azimuth
        Of the line, rad from the x axis.

    Returns
    -------
    Tensor
        float64 (n,), in [-2, 2].

    Examples
    --------
    >>> profile = transfer_profile(ImagingConditions(C10=-500.0), torch.linspace(0, 0.1, 3))
    >>> abs(profile[0].item()), bool(profile[1] < 0)
    (0.0, True)
    """
    # Straight across the aperture's softened edge: without a grid its edge is sharp.
    bare = replace(conditions, aperture=math.inf)
    lens = lens_of([bare], dtype=torch.float64)
    k = k.double()
    ky, kx = (k * math.sin(azimuth))[None, :], (k * math.cos(azimuth))[None, :]
    inside = k * electron_wavelength(conditions.energy) <= conditions.aperture
    return contrast_transfer(ky, kx, lens)[0, 0] * inside


def information_limit(conditions: ImagingConditions) -> float:
    """Frequency where the lens's envelopes and aperture leave exp(-2) of the contrast.

    Parameters
    ----------
    conditions
        The lens; astigmatism, coma and threefold astigmatism are left out.

    Returns
    -------
    float
        cycles/Å, at most 5.

    References
    ----------
    M. A. O'Keefe, Ultramicroscopy 47 (1992) 282, doi:10.1016/0304-3991(92)90203-V.

    Examples
    --------
    >>> c = ImagingConditions(energy=300e3, focal_spread=30.0, angular_spread=0.0)
    >>> round(information_limit(c), 2)
    1.24
    """
    still = replace(conditions, C12=0.0, C21=0.0, C23=0.0, aperture=math.inf)
    k = torch.linspace(0, 5, 5001)
    lens = lens_of([still], dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    envelope = transfer_function(zero, k.double()[None, :], lens)[0, 0].abs()
    below = torch.nonzero(envelope < math.exp(-2))
    limit = float(k[below[0, 0]]) if len(below) else 5.0
    return min(limit, conditions.aperture / electron_wavelength(conditions.energy))


def first_zero(conditions: ImagingConditions, *, azimuth: float = 0.0) -> float | None:
    """The lowest frequency above zero at which contrast vanishes between two signs.

    Parameters
    ----------
    conditions
        The lens.
    azimuth
        Direction, rad from the x axis.

    Returns
    -------
    float or None
        cycles/Å; None where the contrast keeps its sign up to the information limit.

    Examples
    --------
    >>> c = ImagingConditions(energy=300e3, C10=-583.0, C30=1.2e7, focal_spread=0.0, angular_spread=0.0)
    >>> round(1 / first_zero(c), 2)  # the point resolution at Scherzer's focus, Å
    2.0
    """
    k = torch.linspace(0, information_limit(conditions), 20001)[1:]
    sign = torch.sign(transfer_profile(conditions, k, azimuth=azimuth))
    turn = torch.nonzero(sign[1:] * sign[:-1] < 0)
    return float(k[turn[0, 0]]) if len(turn) else None
