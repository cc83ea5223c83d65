"""Where a micrograph's focus lies in what a network was trained on, and what it reached there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from passband.errors import ParameterError
from passband.judge.trust_map import trust_map
from passband.micrographs.micrograph import GIVEN, Micrograph
from passband.optics.conditions import ConditionRanges, ImagingConditions, Uniform, draw_conditions
from passband.units import MM, NM

SAMPLE = 48
"""Conditions that a network's training is taken as."""
FOCAL_SPREAD = 10.0
"""Å, of the lens on both sides, which neither bundle nor micrograph tells."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A micrograph's focus beside those that a network was trained at.

    Parameters
    ----------
    defocus
        Å, positive is underfocus.
    told_by
        What tells it, in words.
    trained
        Lowest and highest defocus of the training, Å.
    shared
        How much of what the micrograph transfers the training images transferred too, 0 to 1.
    known_f1
        What the network reached on simulated images at this focus, with the fewest and with the most
        electrons that its map has; None where that was not measured.
    """

    defocus: float
    told_by: str
    trained: tuple[float, float]
    shared: float
    known_f1: tuple[float, float] | None = None

    @property
    def beyond(self) -> float:
        """How far it lies outside the training, Å; 0 inside."""
        low, high = self.trained
        return max(low - self.defocus, self.defocus - high, 0.0)


def place(micrograph: Micrograph, training: Mapping[str, Any]) -> Placed | None:
    """Find a micrograph's focus in what a network was trained on.

    Parameters
    ----------
    micrograph
        Its defocus is what a person gave, or else what its Thon rings tell.
    training
        Of a bundle: "conditions" with ``defocus_nm`` and ``cs_mm``, "energies" in eV, "map".

    Returns
    -------
    Placed or None
        None where the training names no focus, or that of the micrograph cannot be told.

    Examples
    --------
    >>> training = {"conditions": {"defocus_nm": [0, 100]}, "energies": [300e3]}
    >>> image = Micrograph(
    ...     pixels=np.eye(64, dtype=np.float32), name="a", pixel_size=0.5, defocus=1200.0,
    ...     sources={"defocus": GIVEN},
    ... )
    >>> placed = place(image, training)
    >>> placed.beyond, 0 < placed.shared < 1
    (200.0, True)
    """
    ends = (training.get("conditions") or {}).get("defocus_nm")
    if not ends or micrograph.pixel_size is None:
        return None
    energies = training.get("energies") or [ConditionRanges.energy]
    energy = micrograph.energy or float(max(energies))
    seen = _focus(micrograph, energy)
    if seen is None:
        return None
    taken, told_by = seen
    if micrograph.energy is None:
        told_by += f" at {energy / 1e3:g} keV, which is assumed"
    trained = float(min(ends)) * NM, float(max(ends)) * NM
    known = trust_map(training)
    return Placed(
        defocus=taken.defocus,
        told_by=told_by,
        trained=trained,
        shared=_shared(taken, trained, training["conditions"].get("cs_mm", [0.0])),
        known_f1=None if known is None else known.at(taken.defocus / NM),
    )


def _focus(micrograph: Micrograph, energy: float) -> tuple[ImagingConditions, str] | None:
    """The lens as it is given, or as Thon rings tell it."""
    from passband.optics.about import focus_of  # here: its fit takes a tenth of a second to load

    assert micrograph.pixel_size is not None
    lens = ImagingConditions(
        energy=energy, pixel_size=micrograph.pixel_size, focal_spread=FOCAL_SPREAD, C30=0.0
    )
    if micrograph.defocus is not None and micrograph.sources.get("defocus") == GIVEN:
        return replace(lens, C10=-micrograph.defocus), "as it was given"
    try:
        fit = focus_of(micrograph, energy=energy)
    except ParameterError:  # too small an image, or pixels and energy that no rings are looked for at
        return None
    if not fit.believed:
        return None
    side = "" if fit.sign else ", which do not tell the side"
    C10 = -fit.defocus * (fit.sign or 1)
    taken = replace(lens, C10=C10, C12=fit.C12, phi12=fit.phi12, C30=fit.C30)
    return taken, f"by its Thon rings{side}"


def _shared(taken: ImagingConditions, trained: tuple[float, float], cs_mm: Any) -> float:
    """Coverage of one lens by those of a training."""
    from passband.optics.shift import View, coverage, transfer  # here: it loads torch

    spherical = np.atleast_1d(np.asarray(cs_mm, float)) * MM
    ranges = ConditionRanges(
        energy=taken.energy,
        pixel_size=taken.pixel_size,
        focal_spread=FOCAL_SPREAD,
        C10=Uniform(low=-trained[1], high=-trained[0]),
        C30=Uniform(low=float(spherical.min()), high=float(spherical.max())),
    )
    view = View()
    known, asked = transfer(draw_conditions(ranges, SAMPLE, seed=0), view), transfer([taken], view)
    return float(coverage(known, asked, view))
