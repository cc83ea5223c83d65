"""How many electrons lose energy in a specimen: the mean free path between losses, plasmons above all."""

from __future__ import annotations

import math

from passband.errors import ParameterError
from passband.units import KEV

LARGEST_ANGLE = 20e-3
"""rad; few electrons are scattered inelastically beyond it."""


def inelastic_mean_free_path(*, density: float, energy: float, collection: float = math.inf) -> float:
    """Mean free path between energy losses, by the formula fitted to measurements on most elements.

    Parameters
    ----------
    density
        Of the specimen, g/cm³.
    energy
        Electron energy, eV.
    collection
        Largest angle, rad, of the electrons that reach the image: the objective aperture's. A smaller one
        makes the path longer, since what is scattered beyond it is not there to be counted as lost energy.

    Returns
    -------
    float
        Å.

    Raises
    ------
    ParameterError
        If a value is not a positive number.

    References
    ----------
    K. Iakoubovskii, K. Mitsuishi, Y. Nakayama and K. Furuya, Microsc. Res. Tech. 71 (2008) 626,
    doi:10.1002/jemt.20597; confirmed for Si by P. L. Potapov, Ultramicroscopy (2014),
    doi:10.1016/j.ultramic.2014.05.010.

    Examples
    --------
    Silicon, measured to be 1500 Å at 200 and 1790 Å at 300 keV (Potapov):

    >>> [round(inelastic_mean_free_path(density=2.33, energy=e), -1) for e in (200e3, 300e3)]
    [1490.0, 1790.0]
    """
    given = {"density": density, "energy": energy, "collection": collection}
    wrong = [f"{name} must be a positive number, got {v}" for name, v in given.items() if not v > 0]
    wrong += [f"{n} must be finite" for n in ("density", "energy") if math.isinf(given[n])]
    if wrong:
        raise ParameterError(f"inelastic mean free path: {'; '.join(wrong)}")
    kev = energy / KEV
    slowness = kev * (1 + kev / 1022) / (1 + kev / 511) ** 2
    crowding = math.pow(density, 0.3)
    characteristic = 5.5e-3 * crowding / slowness
    limit = min(collection, 1e3)  # rad; as good as all angles
    seen = limit**2 / (limit**2 + LARGEST_ANGLE**2)
    losses = math.log1p(seen * ((LARGEST_ANGLE / characteristic) ** 2 - 1))
    return 10 * 200 * slowness / (11 * crowding * losses)


def inelastic_share(thickness: float, mean_free_path: float) -> float:
    """Share of the electrons that lose energy on their way, 1 - exp(-thickness / mean free path).

    Parameters
    ----------
    thickness, mean_free_path
        In one unit.

    Returns
    -------
    float
        0 to 1: a value for ``inelastic_share`` of `ImagingConditions`.

    Raises
    ------
    ParameterError
        If the thickness is negative or the path not positive.

    Examples
    --------
    Five nanometres of carbon at 300 keV:

    >>> round(inelastic_share(50.0, inelastic_mean_free_path(density=2.0, energy=300e3)), 3)
    0.027
    """
    if not (thickness >= 0 and mean_free_path > 0):
        raise ParameterError(
            f"thickness must be 0 or more and the mean free path positive, got {thickness} and "
            f"{mean_free_path}"
        )
    return -math.expm1(-thickness / mean_free_path)
