"""Domains of cavity images: ranges to draw records from, and the train/test pairs of shift.

The three sets A, B and C follow what Table 1 of the paper compares: other materials, foils,
magnifications, cavities, instruments and noise. Each exists under- and overfocused.
The paper is N. Li et al., Predicting performance of object detection models in electron
microscopy using random forests, 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from passband.cavities.image import Body, CavityRecord, Foil, Line, Shape, Texture
from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions

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


def draw_cavities(
    domain: CavityDomain,
    rng: np.random.Generator,
    *,
    focus: Focus = "under",
    shape: tuple[int, int] = (512, 512),
) -> CavityRecord:
    """Draw the record of one image of a domain.

    Parameters
    ----------
    domain
        One of `DOMAINS`, or your own.
    rng
        Source of all randomness; the record holds what was drawn.
    focus
        "under", "over", or "in" (within 20 nm of focus).
    shape
        Height and width in pixels.

    Returns
    -------
    CavityRecord
        To be given to `simulate_cavities`.

    Raises
    ------
    ParameterError
        If the focus is none of the three or the shape is under 32 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> record = draw_cavities(DOMAINS["B"], np.random.default_rng(1), focus="over")
    >>> record.focus, record.conditions.defocus < 0
    ('over', True)
    """
    if focus not in ("under", "over", "in"):
        raise ParameterError(f"focus must be 'under', 'over' or 'in', got {focus!r}")
    if min(shape) < 32:
        raise ParameterError(f"an image of cavities needs at least 32 x 32 pixels, got {shape}")
    pixel_size = _log(rng, domain.pixel_size)
    size = (shape[0] * pixel_size, shape[1] * pixel_size)
    if domain.radius_pixels is None:
        radius = max(_log(rng, domain.radius), 3.5 * pixel_size)
    else:
        radius = _log(rng, domain.radius_pixels) * pixel_size
    thickness = max(_uniform(rng, domain.thickness), 2.5 * radius)
    defocus = {"under": 1.0, "over": -1.0, "in": 0.0}[focus] * _log(rng, domain.defocus)
    if focus == "in":
        defocus = rng.uniform(-200.0, 200.0)
    conditions = ImagingConditions(
        energy=domain.energy,
        C10=-defocus,
        C30=1.2e7,
        focal_spread=float(rng.uniform(40, 120)),
        angular_spread=_log(rng, (5e-5, 3e-4)),
        aperture=_log(rng, (4e-3, 2e-2)),
        dose=_log(rng, domain.counts) / pixel_size**2,
        pixel_size=pixel_size,
        mtf_half=_uniform(rng, domain.mtf_half),
    )
    foil = Foil(
        thickness=thickness,
        wedge=(float(rng.normal(0, 0.1)), float(rng.normal(0, 0.1))),
        mean_inner_potential=domain.mean_inner_potential,
        attenuation_length=_log(rng, (200.0, 2000.0)),
        inelastic=_uniform(rng, (0.0, 0.6)),
    )
    texture = Texture(
        seed=int(rng.integers(2**31)),
        bend_depth=_uniform(rng, domain.bend_depth) * float(rng.random() < 0.6),
        bend_width=_uniform(rng, (0.05, 0.6)),
        bend_length=_log(rng, (0.15, 0.8)) * min(size),
        mottle_depth=_log(rng, domain.mottle_depth),
        mottle_length=_log(rng, domain.mottle_length) * radius,
        speckle_phase=_uniform(rng, domain.speckle_phase),
        speckle_length=_log(rng, domain.speckle_length),
    )
    return CavityRecord(
        shape=shape,
        conditions=conditions,
        foil=foil,
        texture=texture,
        cavities=_draw_bodies(domain, rng, radius, size),
        precipitates=_draw_precipitates(domain, rng, radius, size),
        precipitate_potential=_uniform(rng, (-4.0, 6.0)),
        precipitate_depth=_uniform(rng, (0.2, 1.2)),
        dislocations=_draw_lines(domain, rng, radius, size),
        line_width=max(_log(rng, (15.0, 90.0)), 1.5 * pixel_size),
        noise_seed=int(rng.integers(2**31)),
        domain=domain.name,
        focus=focus,
    )


def draw_set(
    names: Sequence[str], count: int, *, seed: int, shape: tuple[int, int] = (512, 512)
) -> Iterator[CavityRecord]:
    """Draw records of several domains in turn; record i depends on the seed and i alone.

    Parameters
    ----------
    names
        "SET:FOCUS", as in `PAIRS`.
    count
        Of records.
    seed
        Sets with different seeds share no record.
    shape
        Height and width in pixels.

    Raises
    ------
    ParameterError
        If a name is not a set of `DOMAINS` with a focus.

    Examples
    --------
    >>> [r.domain + ":" + r.focus for r in draw_set(["A:under", "C:over"], 3, seed=0)]
    ['A:under', 'C:over', 'A:under']
    """
    chosen = [parse_domain(name) for name in names]
    for i in range(count):
        domain, focus = chosen[i % len(chosen)]
        yield draw_cavities(domain, np.random.default_rng([seed, i]), focus=focus, shape=shape)


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


def _uniform(rng: np.random.Generator, bounds: Range) -> float:
    return float(rng.uniform(*bounds))


def _log(rng: np.random.Generator, bounds: Range) -> float:
    return float(math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1]))))


def _quaternion(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Uniform over rotations: a normalised Gaussian four-vector."""
    w, x, y, z = (v := rng.standard_normal(4)) / np.linalg.norm(v)
    return float(w), float(x), float(y), float(z)


def _draw_bodies(
    domain: CavityDomain, rng: np.random.Generator, radius: float, size: Range
) -> tuple[Body, ...]:
    """Cavities until the image's share is covered; neighbours overlap in projection now and then."""
    if domain.coverage[1] == 0:
        return ()
    faceted, spread = _uniform(rng, domain.faceted), _uniform(rng, domain.radius_spread)
    wanted = _log(rng, domain.coverage) * size[0] * size[1]
    grain = _quaternion(rng)  # facets of one grain share an orientation
    truncation, eccentricity = _uniform(rng, (0.75, 1.35)), _uniform(rng, (0.0, 0.2))
    overlap = 0.6 if rng.random() < 0.3 else 1.05
    bodies: list[Body] = []
    placed = np.empty((0, 3))
    covered, tries = 0.0, 0
    while covered < wanted and len(bodies) < 300 and tries < 2000:
        tries += 1
        r = float(np.clip(radius * math.exp(rng.normal(0, spread)), 0.6 * radius, 2.5 * radius))
        y, x = rng.uniform(-0.3 * r, size[0] + 0.3 * r), rng.uniform(-0.3 * r, size[1] + 0.3 * r)
        if (np.hypot(placed[:, 0] - y, placed[:, 1] - x) < overlap * (placed[:, 2] + r)).any():
            continue
        shape: Shape = "truncated octahedron" if rng.random() < faceted else "ellipsoid"
        axes = r * np.exp(rng.normal(0, eccentricity if shape == "ellipsoid" else 0.05, 3))
        if shape == "truncated octahedron":
            axes *= 0.85  # so that its mean projected extent is that of the sphere
        bodies.append(
            Body(
                shape=shape,
                x=float(x),
                y=float(y),
                semi_axes=(float(axes[0]), float(axes[1]), float(axes[2])),
                rotation=grain if shape == "truncated octahedron" else _quaternion(rng),
                truncation=truncation,
            )
        )
        placed = np.vstack([placed, [y, x, r]])
        covered += math.pi * r * r
    return tuple(bodies)


def _draw_precipitates(
    domain: CavityDomain, rng: np.random.Generator, radius: float, size: Range
) -> tuple[Body, ...]:
    count = int(_uniform(rng, domain.dots) * (rng.random() < 0.6))
    bodies = []
    for _ in range(count):
        a, b, c = (radius * _log(rng, (0.3, 2.5)) for _ in range(3))
        y, x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        bodies.append(
            Body(shape="ellipsoid", x=float(x), y=float(y), semi_axes=(a, b, c), rotation=_quaternion(rng))
        )
    return tuple(bodies)


def _draw_lines(
    domain: CavityDomain, rng: np.random.Generator, radius: float, size: Range
) -> tuple[Line, ...]:
    count = int(_uniform(rng, domain.lines) * (rng.random() < 0.7))
    depth, wavelength = _uniform(rng, (0.1, 0.9)), _log(rng, (60.0, 300.0)) * float(rng.random() < 0.4)
    loops = rng.random() < 0.3  # small closed loops rather than long lines
    lines = []
    for _ in range(count):
        length = (
            _log(rng, (4 * radius, max(1.5 * size[0], 4 * radius)))
            if not loops
            else _log(rng, (1.5, 5.0)) * radius
        )
        curvature = float(rng.normal(0, 1.0)) / length if not loops else 2 * math.pi / length
        lines.append(
            Line(
                x=float(rng.uniform(0, size[1])),
                y=float(rng.uniform(0, size[0])),
                angle=float(rng.uniform(0, 2 * math.pi)),
                curvature=curvature,
                length=length,
                depth=depth,
                wavelength=wavelength,
            )
        )
    return tuple(lines)
