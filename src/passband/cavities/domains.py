"""Domains of cavity images: ranges to draw records from, and the train/test pairs of shift.

The three sets A, B and C follow what Table 1 of the paper compares: other materials, foils,
magnifications, cavities, instruments and noise. Each exists under- and overfocused.
The paper is N. Li et al., Predicting performance of object detection models in electron
microscopy using random forests, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from passband.errors import ParameterError

Range = tuple[float, float]
Focus = Literal["under", "over", "in"]
FOCI: dict[str, Focus] = {"under": "under", "over": "over", "in": "in"}


@dataclass(frozen=True, kw_only=True)
class CavityDomain:
    """Ranges, (low, high), that records of one set of images are drawn from.

    Lengths are in Å. A range is drawn from uniformly, or log-uniformly where it spans sizes,
    defocus, dose or density.

    Parameters
    ----------
    name
        Of the set.
    about
        What it stands for.
    energy
        eV.
    mean_inner_potential
        Volts.
    thickness, pixel_size
        Å.
    radius
        Of the image's median cavity; clipped to 3.5 pixels from below.
    radius_pixels
        The same in pixels, whatever their size; in place of ``radius`` where it is given.
    radius_spread
        Standard deviation of log radius within an image.
    coverage
        Share of the image covered by cavities; (0, 0) for none.
    faceted
        Share of cavities that are truncated octahedra.
    defocus
        Absolute defocus.
    counts
        Electrons per pixel.
    mtf_half
        Cycles per pixel.
    speckle_phase, speckle_length, bend_depth, mottle_depth, mottle_length
        See `Texture`; the mottle's length is in radii of the median cavity.
    lines, dots
        Dislocations and precipitates per image.
    """

    name: str
    about: str
    energy: float = 200e3
    mean_inner_potential: float = 22.0
    thickness: Range = (600.0, 1600.0)
    pixel_size: Range = (2.0, 6.0)
    radius: Range = (15.0, 150.0)
    radius_pixels: Range | None = None
    radius_spread: Range = (0.1, 0.4)
    coverage: Range = (0.01, 0.12)
    faceted: Range = (0.0, 0.6)
    defocus: Range = (4e3, 2e4)
    counts: Range = (200.0, 4000.0)
    mtf_half: Range = (0.25, 0.8)
    speckle_phase: Range = (0.0, 0.1)
    speckle_length: Range = (2.0, 6.0)
    bend_depth: Range = (0.0, 1.0)
    mottle_depth: Range = (0.01, 0.3)
    mottle_length: Range = (0.3, 4.0)
    lines: Range = (0.0, 15.0)
    dots: Range = (0.0, 8.0)


DOMAINS: dict[str, CavityDomain] = {
    "A": CavityDomain(
        name="A",
        about="neutron- and ion-irradiated steels, several magnifications, dislocations and precipitates",
        mean_inner_potential=22.0,
        thickness=(700.0, 1800.0),
        pixel_size=(1.2, 6.8),
        radius=(12.0, 160.0),
        coverage=(0.004, 0.08),
        faceted=(0.0, 0.5),
        defocus=(4e3, 1.5e4),
        counts=(250.0, 4000.0),
        speckle_phase=(0.0, 0.06),
        bend_depth=(0.0, 1.2),
        mottle_depth=(0.02, 0.3),
        lines=(0.0, 30.0),
        dots=(0.0, 12.0),
    ),
    "B": CavityDomain(
        name="B",
        about="helium bubbles in a nickel alloy: small, dense, thin foil with strong speckle, low counts",
        mean_inner_potential=24.0,
        thickness=(300.0, 800.0),
        pixel_size=(3.2, 4.6),
        radius=(14.0, 75.0),
        radius_spread=(0.25, 0.5),
        coverage=(0.03, 0.15),
        faceted=(0.0, 0.1),
        defocus=(4e3, 2.0e4),
        counts=(30.0, 400.0),
        mtf_half=(0.2, 0.45),
        speckle_phase=(0.05, 0.28),
        speckle_length=(3.0, 9.0),
        bend_depth=(0.0, 0.3),
        mottle_depth=(0.01, 0.15),
        lines=(0.0, 3.0),
        dots=(0.0, 3.0),
    ),
    "C": CavityDomain(
        name="C",
        about="voids in iron and iron-chromium irradiated in situ: few, large, faceted, bend contours",
        energy=300e3,
        mean_inner_potential=20.0,
        thickness=(500.0, 1500.0),
        pixel_size=(1.8, 4.5),
        radius=(15.0, 190.0),
        radius_spread=(0.1, 0.5),
        coverage=(0.003, 0.10),
        faceted=(0.4, 1.0),
        defocus=(3e3, 1.2e4),
        counts=(60.0, 1200.0),
        mtf_half=(0.15, 0.4),
        speckle_phase=(0.02, 0.2),
        bend_depth=(0.2, 1.8),
        mottle_depth=(0.03, 0.5),
        lines=(0.0, 12.0),
        dots=(0.0, 4.0),
    ),
    "W": CavityDomain(
        name="W",
        about="wide: cavities of every size, single to crowded, in foils and on cameras of every kind",
        mean_inner_potential=22.0,
        thickness=(200.0, 2500.0),
        pixel_size=(1.0, 7.0),
        radius_pixels=(2.2, 80.0),
        radius_spread=(0.1, 0.8),
        coverage=(0.003, 0.3),
        faceted=(0.0, 1.0),
        defocus=(2e3, 6e4),
        counts=(10.0, 4000.0),
        mtf_half=(0.05, 0.8),
        speckle_phase=(0.0, 0.3),
        speckle_length=(2.0, 12.0),
        bend_depth=(0.0, 2.0),
        mottle_depth=(0.01, 0.8),
        mottle_length=(0.2, 6.0),
        lines=(0.0, 50.0),
        dots=(0.0, 30.0),
    ),
    "H": CavityDomain(
        name="H",
        about="magnified helium bubbles: wide Fresnel rings, speckle as large as small ones, blurred noise",
        mean_inner_potential=24.0,
        thickness=(150.0, 800.0),
        pixel_size=(1.5, 4.5),
        radius_pixels=(3.5, 16.0),
        radius_spread=(0.2, 0.8),
        coverage=(0.01, 0.25),
        faceted=(0.0, 0.2),
        defocus=(3e3, 4e4),
        counts=(20.0, 800.0),
        mtf_half=(0.05, 0.3),
        speckle_phase=(0.02, 0.16),
        speckle_length=(4.0, 20.0),
        bend_depth=(0.0, 1.2),
        mottle_depth=(0.01, 0.3),
        lines=(0.0, 4.0),
        dots=(0.0, 3.0),
    ),
    "T": CavityDomain(
        name="T",
        about="tiny voids by the hundred, of a few pixels each, in heavily irradiated steels",
        thickness=(400.0, 1800.0),
        pixel_size=(1.5, 6.8),
        radius_pixels=(2.0, 5.0),
        coverage=(0.005, 0.06),
        faceted=(0.0, 0.5),
        defocus=(2e3, 2e4),
        counts=(100.0, 4000.0),
        mtf_half=(0.15, 0.8),
        speckle_phase=(0.0, 0.08),
        bend_depth=(0.0, 1.2),
        mottle_depth=(0.02, 0.4),
        lines=(0.0, 30.0),
        dots=(0.0, 12.0),
    ),
}
"""The simulated sets, an open dictionary: add your own."""

DOMAINS |= {
    d.name: d
    for d in (
        replace(
            DOMAINS["A"], name="A-starved", about="set A at a hundredth of its counts", counts=(2.0, 30.0)
        ),
        replace(
            DOMAINS["B"], name="B-starved", about="set B at a twentieth of its counts", counts=(1.0, 15.0)
        ),
        replace(
            DOMAINS["A"],
            name="A-cluttered",
            about="set A among many precipitates, loops and strain fields",
            coverage=(0.001, 0.02),
            mottle_depth=(0.3, 1.0),
            lines=(20.0, 80.0),
            dots=(20.0, 60.0),
        ),
        replace(
            DOMAINS["C"],
            name="C-smeared",
            about="set C on a camera with a poor transfer function",
            mtf_half=(0.02, 0.06),
            counts=(20.0, 200.0),
        ),
        replace(DOMAINS["A"], name="A-empty", about="set A without a cavity", coverage=(0.0, 0.0)),
        replace(
            DOMAINS["B"],
            name="B-empty",
            about="set B without a cavity",
            coverage=(0.0, 0.0),
            lines=(0.0, 20.0),
        ),
        replace(DOMAINS["W"], name="W-empty", about="the wide set without a cavity", coverage=(0.0, 0.0)),
        replace(DOMAINS["H"], name="H-empty", about="set H without a bubble", coverage=(0.0, 0.0)),
    )
}

_BOTH = {s: (f"{s}:under", f"{s}:over") for s in "ABC"}
PAIRS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "A&B_C": (_BOTH["A"] + _BOTH["B"], _BOTH["C"]),
    "A: over_under": (("A:over",), ("A:under",)),
    "A: under_over": (("A:under",), ("A:over",)),
    "B_A": (_BOTH["B"], _BOTH["A"]),
    "A_B": (_BOTH["A"], _BOTH["B"]),
    "A&B_A&B": (_BOTH["A"] + _BOTH["B"], _BOTH["A"] + _BOTH["B"]),
    "A_A": (_BOTH["A"], _BOTH["A"]),
    "B_B": (_BOTH["B"], _BOTH["B"]),
    "A: under_under": (("A:under",), ("A:under",)),
    "A: over_over": (("A:over",), ("A:over",)),
}
"""The ten train/test pairs of the paper's Table 1: what is trained on, what is tested on."""


def parse_domain(name: str) -> tuple[CavityDomain, Focus]:
    """The domain and focus of "SET:FOCUS".

    Raises
    ------
    ParameterError
        If there is no such set or focus.

    Examples
    --------
    >>> parse_domain("B:over")[1]
    'over'
    """
    key, _, focus = name.partition(":")
    if key not in DOMAINS or focus not in FOCI:
        raise ParameterError(
            f"no simulated domain {name!r}; wanted SET:FOCUS with SET of {', '.join(DOMAINS)} "
            f"and FOCUS of {', '.join(FOCI)}"
        )
    return DOMAINS[key], FOCI[focus]
