"""Base units (Å, eV, rad, e/Å²), physical constants, and what follows from them alone.

A quantity in base units carries no suffix; any other unit is in the name. Conversions live here.
"""

from __future__ import annotations

import math

from passband.errors import ParameterError

NM = 10.0
"""Ångström in a nanometre."""
MM = 1e7
"""Ångström in a millimetre."""
UM = 1e4
"""Ångström in a micrometre."""
KEV = 1e3
"""Electronvolt in a kiloelectronvolt."""

# CODATA 2018, SI.
PLANCK = 6.62607015e-34
ELECTRON_MASS = 9.1093837015e-31
ELEMENTARY_CHARGE = 1.602176634e-19
LIGHT_SPEED = 299792458.0

POTENTIAL_PER_SCATTERING_FACTOR = PLANCK**2 / (2 * math.pi * ELECTRON_MASS * ELEMENTARY_CHARGE) * 1e20
"""h²/(2 pi m e), V Å²: the transform of an atom's potential over its electron scattering factor."""


def electron_wavelength(energy: float) -> float:
    """Relativistic de Broglie wavelength of an electron.

    Parameters
    ----------
    energy
        Kinetic energy in eV, more than zero.

    Returns
    -------
    float
        Wavelength in Å.

    Raises
    ------
    ParameterError
        If the energy is not a positive number.

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, eq. 2.5,
    doi:10.1007/978-1-4419-6533-2.

    Examples
    --------
    >>> round(electron_wavelength(200e3), 5)
    0.02508
    """
    if not (energy > 0 and math.isfinite(energy)):
        raise ParameterError(f"electron energy must be a positive number of eV, got {energy!r}")
    kinetic = energy * ELEMENTARY_CHARGE
    momentum = math.sqrt(kinetic * (2 * ELECTRON_MASS + kinetic / LIGHT_SPEED**2))
    return PLANCK / momentum * 1e10


def interaction_constant(energy: float) -> float:
    """Phase shift per volt and Ångström of projected electrostatic potential.

    Parameters
    ----------
    energy
        Kinetic energy in eV, more than zero.

    Returns
    -------
    float
        Interaction constant (C_E, also called sigma) in rad/(V Å).

    Raises
    ------
    ParameterError
        If the energy is not a positive number.

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, eq. 5.6,
    doi:10.1007/978-1-4419-6533-2.

    Examples
    --------
    >>> round(1e3 * interaction_constant(200e3), 4)
    0.7288
    """
    wavelength = electron_wavelength(energy)
    rest = ELECTRON_MASS * LIGHT_SPEED**2 / ELEMENTARY_CHARGE
    return 2 * math.pi * (rest + energy) / (wavelength * energy * (2 * rest + energy))
