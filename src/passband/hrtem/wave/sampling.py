"""How finely a wave must be sampled for its image on a particle to be right, by element and energy.

Measured on spheres of 50 Å of every material that comes with Passband, on and off their zone axes, at 300,
200 and 80 keV (`studies/convergence.py`): with these samplings the image on the particle differs by at most
2 % of its deviation from that of 0.05 Å pixels and 1 Å slices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passband.errors import ParameterError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Pixels and slices of a wave.

    Parameters
    ----------
    pixel_size, slice_thickness
        Å.
    """

    pixel_size: float
    slice_thickness: float


_SMALL, _MIDDLE, _LARGE, _LARGEST = 0.12, 0.14, 0.16, 0.18
_SMEARED = frozenset({16, 30, 34, 48})
"""The elements of ZnS and CdSe, which thermal motion smears most; silicon comes near them."""
_SILICON = 14
_BY_NUMBER = ((20, _LARGE), (60, _MIDDLE), (103, _SMALL))
"""Of the others up to an atomic number; measured on carbon; on iron, cobalt, copper, silver; and on gold."""
_SLOW = 200e3
"""Energy, eV, below which slices must be thinner."""


def good_sampling(numbers: Iterable[int], energy: float) -> Sampling:
    """The coarsest sampling that serves every element of a particle.

    Parameters
    ----------
    numbers
        Atomic numbers, each at least once. An element that was not measured takes the sampling of one that
        was and needs a finer one.
    energy
        Of the electrons, eV.

    Returns
    -------
    Sampling
        Pixels and slices.

    Raises
    ------
    ParameterError
        If there is no element.

    Examples
    --------
    >>> good_sampling([79], 300e3)
    Sampling(pixel_size=0.12, slice_thickness=2.0)
    >>> good_sampling([34, 48], 300e3)
    Sampling(pixel_size=0.18, slice_thickness=4.0)
    """
    kinds = set(numbers)
    if not kinds:
        raise ParameterError("no atoms were given to choose a sampling for; name at least one element")
    slices = [_slice_thickness(z, slow=energy < _SLOW) for z in kinds]
    return Sampling(pixel_size=min(map(_pixel_size, kinds)), slice_thickness=min(slices))


def sampling_fault(
    numbers: Iterable[int], energy: float, taken: Sampling, *, name: str | None = None
) -> str | None:
    """What is too coarse in a sampling, in words; None for nothing.

    Parameters
    ----------
    numbers
        Atomic numbers of a particle, each at least once.
    energy
        Of the electrons, eV.
    taken
        Pixels and slices.
    name
        Of the material; its most demanding element if not given.

    Examples
    --------
    >>> sampling_fault([79], 300e3, Sampling(pixel_size=0.1, slice_thickness=2.0))
    >>> print(sampling_fault([79], 300e3, Sampling(pixel_size=0.2, slice_thickness=2.0)))
    pixels of 0.2 Å are too coarse for Au at 300 keV, whose images need 0.12 Å for an error under 2 %
    """
    kinds = set(numbers)
    good = good_sampling(kinds, energy)
    demanding = min(kinds, key=lambda z: (_pixel_size(z), _slice_thickness(z, slow=energy < _SLOW)))
    pairs = {
        "pixels": (taken.pixel_size, good.pixel_size),
        "slices": (taken.slice_thickness, good.slice_thickness),
    }
    wrong = {name: (got, most) for name, (got, most) in pairs.items() if got > most * (1 + 1e-6)}
    if not wrong:
        return None
    got = " and ".join(f"{name} of {v:g} Å" for name, (v, _) in wrong.items())
    most = " and ".join(f"{v:g} Å" for _, v in wrong.values())
    return (
        f"{got} are too coarse for {name or _symbol(demanding)} at {energy / 1e3:g} keV, whose images need "
        f"{most} for an error under 2 %"
    )


def _pixel_size(number: int) -> float:
    if number in _SMEARED or number == _SILICON:
        return _LARGEST
    return next((pixel for most, pixel in _BY_NUMBER if number <= most), _SMALL)


def _slice_thickness(number: int, *, slow: bool) -> float:
    if number in _SMEARED:
        return 3.0 if slow else 4.0
    return 1.0 if slow and _pixel_size(number) < _LARGE else 2.0


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
