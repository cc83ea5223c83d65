"""Conditions that networks are trained and tested under: single ones, and axes that make all combinations."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from passband.hrtem.specimen.materials import MATERIALS

UNITS = {
    "defocus_nm": "nm underfocus",
    "cs_mm": "mm",
    "focal_spread": "Å",
    "dose": "e/Å²",
    "diameter_nm": "nm",
    "astigmatism_nm": "nm",
    "jitter_nm": "nm",
    "cs_jitter_mm": "mm",
    "focal_spread_jitter": "Å",
}
"""Of the names of a condition that have one."""
RARE = ("astigmatism_nm", "jitter_nm", "cs_jitter_mm", "focal_spread_jitter", "dose_factor")
"""Names that a table leaves out where all conditions of a study have their defaults."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One condition that a network is trained or tested under.

    Parameters
    ----------
    defocus_nm
        Positive is underfocus.
    cs_mm
        Third-order spherical aberration.
    focal_spread
        1/e half-width, Å.
    dose
        Electrons on the specimen, e/Å².
    materials
        What the particles are made of; of several, one is drawn for each scene.
    diameter_nm
        Smallest and largest particle.
    dataset
        Name of the dataset whose scenes are taken in place of simulated ones; it says itself what its
        particles are, and materials and diameter are empty. "" for none.
    astigmatism_nm
        Twofold, of either direction at random.
    jitter_nm, cs_jitter_mm, focal_spread_jitter
        Each image has its own defocus, Cs and focal spread: the condition's, more or less by up to this.
    dose_factor
        And its own dose: up to so many times the condition's, or as many times less.

    Examples
    --------
    >>> Point(defocus_nm=20.0, materials=("Au", "Ag")).columns("test")["test_materials"]
    'Au+Ag'
    """

    defocus_nm: float
    cs_mm: float = 0.0
    focal_spread: float = 10.0
    dose: float = 400.0
    materials: tuple[str, ...] = ("CdSe",)
    diameter_nm: tuple[float, ...] = (3.0, 5.0)
    dataset: str = ""
    astigmatism_nm: float = 0.0
    jitter_nm: float = 1.5
    cs_jitter_mm: float = 0.0
    focal_spread_jitter: float = 0.0
    dose_factor: float = 1.0

    def columns(self, prefix: str, *, rare: tuple[str, ...] = RARE) -> dict[str, float | str]:
        """The condition as columns of a table: a number or a text under each name that says something.

        Parameters
        ----------
        prefix
            "train" or "test".
        rare
            Which names of `RARE` are wanted.
        """
        cells = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            f"{prefix}_{n}": shown(v) if isinstance(v, tuple) else v
            for n, v in cells.items()
            if v not in ((), "") and (n not in RARE or n in rare)
        }


def point_from_values(values: Mapping[str, Any]) -> Point:
    """The condition that JSON tells of, lists in the place of tuples.

    Examples
    --------
    >>> point_from_values({"defocus_nm": 5.0, "materials": ["Au"]}).materials
    ('Au',)
    """
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Point(**given)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Values of each name of `Point`, ascending; more than one make an axis.

    The order in which values were given is no part of it.

    Examples
    --------
    >>> axes = Axes(defocus_nm=(20.0, -10.0), dose=(100.0, 400.0))
    >>> [(p.defocus_nm, p.dose) for p in axes.points()]
    [(-10.0, 100.0), (-10.0, 400.0), (20.0, 100.0), (20.0, 400.0)]
    """

    defocus_nm: tuple[float, ...] = (10.0,)
    cs_mm: tuple[float, ...] = (0.0,)
    focal_spread: tuple[float, ...] = (10.0,)
    dose: tuple[float, ...] = (400.0,)
    materials: tuple[tuple[str, ...], ...] = (("CdSe",),)
    diameter_nm: tuple[tuple[float, ...], ...] = ((3.0, 5.0),)
    dataset: tuple[str, ...] = ("",)
    astigmatism_nm: tuple[float, ...] = (0.0,)
    jitter_nm: tuple[float, ...] = (1.5,)
    cs_jitter_mm: tuple[float, ...] = (0.0,)
    focal_spread_jitter: tuple[float, ...] = (0.0,)
    dose_factor: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        mixed = tuple(tuple(sorted(entry)) for entry in self.materials)
        object.__setattr__(self, "materials", mixed)
        for f in fields(self):
            object.__setattr__(self, f.name, tuple(sorted(getattr(self, f.name))))

    def __len__(self) -> int:
        return math.prod(len(getattr(self, f.name)) for f in fields(self))

    @property
    def rare(self) -> tuple[str, ...]:
        """Of `RARE` those that are not everywhere as they are by default."""
        usual = {f.name: (f.default,) for f in fields(Point)}
        return tuple(n for n in RARE if getattr(self, n) != usual[n])

    def points(self) -> Iterator[Point]:
        """Every combination, the last name turning fastest."""
        names = [f.name for f in fields(self)]
        for values in itertools.product(*(getattr(self, n) for n in names)):
            yield Point(**dict(zip(names, values, strict=True)))


_BOUNDS = {
    "defocus_nm": (-10_000, 10_000, "-10,000 to 10,000 nm"),
    "cs_mm": (-10, 10, "-10 to 10 mm"),
    "focal_spread": (0, 1_000, "0 to 1,000 Å"),
    "dose": (1e-3, 1e9, "0.001 to 1e9 e/Å²"),
    "astigmatism_nm": (0, 10_000, "0 to 10,000 nm"),
    "jitter_nm": (0, 1_000, "0 to 1000 nm"),
    "cs_jitter_mm": (0, 10, "0 to 10 mm"),
    "focal_spread_jitter": (0, 1_000, "0 to 1,000 Å"),
    "dose_factor": (1, 1e6, "1 to 1e6"),
}


def axes_faults(side: str, axes: Axes, *, field_nm: float) -> list[str]:
    """What is wrong with the axes of a side, "train" or "test", of scenes so wide; empty for nothing."""
    faults = []
    for f in fields(axes):
        name, values = f"{side}.{f.name}", getattr(axes, f.name)
        if not values:
            faults.append(f"{name} is empty: give at least one value, or leave it out")
        twice = sorted({v for v in values if values.count(v) > 1})
        if twice:
            faults.append(f"{name} holds {', '.join(shown(v) for v in twice)} twice")
        if f.name in _BOUNDS:
            low, high, wanted = _BOUNDS[f.name]
            wrong = [v for v in dict.fromkeys(values) if not low <= v <= high]
            if wrong:
                faults.append(f"{name} must be {wanted}, got {', '.join(map(shown, wrong))}")
    if max(axes.focal_spread_jitter, default=0) > min(axes.focal_spread, default=math.inf):
        faults.append(
            f"{side}.focal_spread_jitter must be at most {side}.focal_spread, which cannot be negative; got "
            f"{shown(max(axes.focal_spread_jitter))} and {shown(min(axes.focal_spread))}"
        )
    return faults if any(axes.dataset) else faults + _particle_faults(side, axes, field_nm)


def _particle_faults(side: str, axes: Axes, field_nm: float) -> list[str]:
    faults = []
    named = [m for entry in axes.materials for m in entry]
    unknown = [m for m in dict.fromkeys(named) if m not in MATERIALS]
    if unknown:
        faults.append(f"{side}.materials: {no_material(unknown)}")
    for entry in axes.materials:
        if not entry:
            faults.append(f"{side}.materials must name at least one material")
        if len(set(entry)) < len(entry):
            faults.append(f"{side}.materials names one twice: {', '.join(entry)}")
    for pair in axes.diameter_nm:
        if len(pair) != 2 or not 0.5 <= pair[0] <= pair[1] <= field_nm:
            faults.append(
                f"{side}.diameter_nm must be [lowest, highest] of 0.5 or more and at most "
                f"structures.field_nm, {field_nm:g}, got {list(pair)}"
            )
    return faults


def no_material(names: Sequence[str]) -> str:
    """What is said of materials that are not known, with what may have been meant.

    Examples
    --------
    >>> no_material(["cdse"])
    "no material 'cdse'; did you mean CdSe?"
    """
    said = []
    for name in names:
        known = {m.lower(): m for m in MATERIALS}
        close = difflib.get_close_matches(name.lower(), known, 1, 0.5)
        meant = f"; did you mean {known[close[0]]}?" if close else f"; known are {', '.join(MATERIALS)}"
        said.append(f"no material {name!r}{meant}")
    return "; ".join(said)


def shown(value: Any) -> str:
    """A value in a few words, as a message or a table shows it.

    Examples
    --------
    >>> shown(("Au", "Ag")), shown((3.0, 5.0)), shown(0.5)
    ('Au+Ag', '3-5', '0.5')
    """
    if isinstance(value, tuple):
        texts = any(isinstance(v, str) for v in value)
        return ("+" if texts else "-").join(shown(v) for v in dict.fromkeys(value))
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
