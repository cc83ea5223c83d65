"""Records of cavity images, drawn from the ranges of a domain: all randomness is in the record then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from passband.cavities.domains import CavityDomain, Focus, Range, parse_domain
from passband.cavities.image import Body, CavityRecord, Foil, Line, Shape, Texture
from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions


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
    >>> from passband.cavities.domains import DOMAINS
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
