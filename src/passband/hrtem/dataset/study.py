"""A study of simulated micrographs: what specimens, waves and images to draw."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import atomic_number
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.sampling import sampling_fault
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges, Grid, ImagingConditions, Normal, Range, Uniform
from passband.optics.grids import grid_fault
from passband.units import electron_wavelength

SPLITS = ("train", "validation", "test")
MOST = 1_000_000
"""Scenes, and images of a scene."""


ADDED: Mapping[str, Mapping[str, Any]] = {
    "specimen": {
        "crystals": [],
        "mixed_share": 0.0,
        "size_spread": 0.0,
        "field": None,
        "substrates": ["packed carbon"],
        "layers": [1, 3],
        "roughness": [0.0, 0.0],
        "wedge": [0.0, 0.0],
        "holes": [0, 0],
        "hole_diameters": [20.0, 60.0],
        "touching_share": 0.0,
        "grown_share": 0.5,
        "rounding": [0.0, 0.0],
        "surface_roughness": [0.0, 0.0],
        "disorder": [0.0, 0.0],
    },
    "wave": {"absorption": 0.0},
    "imaging": {
        "vibration": 0.0,
        "inelastic_share": 0.0,
        "quantum_efficiency": 1.0,
        "dqe_falloff": 0.0,
        "gain": 1.0,
        "offset": 0.0,
        "readout": 0.0,
        "gain_noise": 0.0,
    },
}
"""Names that came after the first format, by table, each with the value that leaves everything as it was.

Of the films that is no longer the default: a study that tells of none in its file has ordered carbon.
"""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Shares of the specimens that are trained on, chosen with, and tested on.

    Parameters
    ----------
    train, validation, test
        Shares, not negative; together 1.

    Raises
    ------
    ParameterError
        Naming every fault.

    Examples
    --------
    >>> [len(part) for part in Splits(train=0.5, validation=0.25, test=0.25).assign(12, seed=0)]
    [6, 3, 3]
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        shares = asdict(self)
        faults = [
            f"{name} must be a share of 0 to 1, got {s}" for name, s in shares.items() if not 0 <= s <= 1
        ]
        if not faults and not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            faults.append(f"the shares must add up to 1, got {sum(shares.values()):g}")
        if faults:
            raise ParameterError("splits: " + "; ".join(faults))

    def assign(self, scenes: int, *, seed: int) -> tuple[tuple[int, ...], ...]:
        """Deal scenes out at random; one scene, with all its images, goes to one split.

        Returns
        -------
        tuple
            Scene numbers of train, validation and test, each ascending.

        Raises
        ------
        ParameterError
            If the scenes are too few for a split to get any of them.
        """
        ends = np.round(np.cumsum([self.train, self.validation, self.test]) * scenes).astype(int)
        order = np.random.default_rng((seed, 0x5B1175)).permutation(scenes)
        parts = tuple(tuple(sorted(part.tolist())) for part in np.split(order, ends[:-1]))
        bare = [
            name for name, part in zip(SPLITS, parts, strict=True) if getattr(self, name) > 0 and not part
        ]
        if bare:
            raise ParameterError(
                f"splits: {scenes} scenes leave none for {' and '.join(bare)}; "
                "ask for more scenes, or give that split a share of 0"
            )
        return parts


@dataclass(frozen=True, kw_only=True)
class SimulationStudy:
    """Everything that a simulated dataset follows from.

    Parameters
    ----------
    scenes
        How many specimens.
    images_per_scene
        How many micrographs of each, under conditions drawn anew.
    seed
        Scene i, and image j of it, follow from the seed, i and j alone.
    splits
        Shares of training, validation and test, by specimen.
    labels
        "disc": the closed union of discs about a particle's atoms; "phase": where the phase of its own
        exit wave exceeds pi/16, which costs one more wave for each particle.
    specimen, wave, imaging
        What specimens are drawn from, how their waves are computed, what images are drawn from. A sampling
        of the waves that is left out is chosen for the materials, and stands here as chosen.

    Raises
    ------
    ParameterError
        Naming every fault.
    """

    scenes: int
    images_per_scene: int = 1
    seed: int = 0
    splits: Splits = field(default_factory=Splits)
    labels: Literal["disc", "phase"] = "disc"
    specimen: SpecimenRanges = field(default_factory=SpecimenRanges)
    wave: WaveSettings = field(default_factory=WaveSettings)
    imaging: ConditionRanges = field(default_factory=ConditionRanges)

    def __post_init__(self) -> None:
        sampling = self.wave.sampling(self._elements)
        object.__setattr__(self, "wave", replace(self.wave, **asdict(sampling)))
        faults = []
        for name, least, most in (("scenes", 1, MOST), ("images_per_scene", 1, MOST), ("seed", 0, math.inf)):
            value = getattr(self, name)
            if value < least:
                faults.append(f"{name} must be at least {least}, got {value}")
            elif value > most:
                faults.append(f"{name} must be at most {most:,}, got {value:,}")
        if 1 <= self.scenes <= MOST and self.seed >= 0:
            try:
                self.splits.assign(self.scenes, seed=self.seed)
            except ParameterError as e:
                faults.append(str(e))
        faults += _range_faults(self.imaging)
        if self.imaging.energy != self.wave.energy:
            faults.append(
                f"imaging energy must be that of the wave, {self.wave.energy:g}, got "
                f"{shown_value(self.imaging.energy)}; give it in [wave] alone"
            )
        if not isinstance(self.imaging.pixel_size, (int, float)):
            faults.append("imaging pixel_size must be one number: all images of a dataset have one shape")
        else:
            grids = {self.imaging.pixel_size: "imaging", sampling.pixel_size: "wave"}
            for pixel, name in grids.items():
                if fault := grid_fault(self.specimen.cell, pixel):
                    faults.append(f"{name} pixel_size: {fault}")
                    break  # one field is told of once
            faults += self._field_faults(self.imaging.pixel_size)
            carried = electron_wavelength(self.wave.energy) / (2 * sampling.pixel_size)
            widest = max((a for a in _ends(self.imaging.aperture) if math.isfinite(a)), default=0.0)
            if widest > carried:
                faults.append(
                    f"imaging aperture must be at most {carried:.3g} rad, which the wave's pixels of "
                    f"{sampling.pixel_size:g} Å carry, got {widest:g}; take smaller ones in [wave]"
                )
        if faults:
            raise StudyError(faults)

    @property
    def _elements(self) -> list[int]:
        """Atomic numbers of all particles that may be drawn."""
        sites = [site for name in self.specimen.materials for site in self.specimen.known[name].sites]
        return sorted({atomic_number(site.element) for site in sites})

    @property
    def sampling_fault(self) -> str | None:
        """What is too coarse in the waves' sampling for some material, in words; None for nothing."""
        sampling = self.wave.sampling(self._elements)
        found = []
        for name in self.specimen.materials:
            numbers = [atomic_number(site.element) for site in self.specimen.known[name].sites]
            if fault := sampling_fault(numbers, self.wave.energy, sampling, name=name):
                found.append(fault)
        return "; ".join(found) or None

    def _field_faults(self, pixel: float) -> list[str]:
        """A field that is no whole number of image pixels."""
        if self.specimen.field is None or not pixel > 0:
            return []
        pixels = [max(1, round(side / pixel)) for side in self.specimen.field]
        if all(abs(side / pixel - n) < 1e-3 for side, n in zip(self.specimen.field, pixels, strict=True)):
            return []
        whole = ", ".join(f"{n * pixel:.6g}" for n in pixels)
        return [
            f"specimen.field must be a whole number of image pixels of {pixel:g} Å, got "
            f"{list(self.specimen.field)}; take [{whole}]"
        ]

    def window(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Which rows and columns of an image of the whole cell the field shows.

        Parameters
        ----------
        shape
            Of that image, pixels in y and x.

        Examples
        --------
        >>> specimen = SpecimenRanges(cell=(128.0, 128.0), field=(102.4, 102.4))
        >>> SimulationStudy(scenes=10, specimen=specimen).window((640, 640))
        (slice(64, 576, None), slice(64, 576, None))
        """
        field, cell = self.specimen.field, self.specimen.cell
        if field is None:
            return slice(0, shape[0]), slice(0, shape[1])
        sizes = [round(n * f / c) for n, f, c in zip(shape, field[::-1], cell[::-1], strict=True)]
        first = [(n - size) // 2 for n, size in zip(shape, sizes, strict=True)]
        return slice(first[0], first[0] + sizes[0]), slice(first[1], first[1] + sizes[1])

    def scene_seed(self, scene: int, purpose: str) -> int:
        """Seed of one scene for one purpose, below 2**53 so that any JSON reader keeps it.

        Parameters
        ----------
        scene
            Its number, from 0.
        purpose
            "specimen", "conditions" or "noise".

        Returns
        -------
        int
            Follows from the study's seed, the scene and the purpose alone.

        Examples
        --------
        >>> study = SimulationStudy(scenes=10)
        >>> study.scene_seed(3, "specimen") == SimulationStudy(scenes=20).scene_seed(3, "specimen")
        True
        """
        digest = hashlib.sha256(f"{self.seed}/{scene}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 11

    def values(self) -> dict[str, Any]:
        """All values, as JSON has them; infinity is the text "inf".

        Defaults are there too, but for those of names that older datasets do not know: what a study follows
        from does not change when there is more that it might say.
        """
        tree: dict[str, Any] = json.loads(json.dumps(_finite(asdict(self))))
        for table, names in ADDED.items():
            for name, default in names.items():
                if tree[table][name] == default:
                    del tree[table][name]
        return tree

    def digest(self) -> str:
        """Hash of all values: two studies with the same one give the same dataset."""
        return hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode()).hexdigest()


class StudyError(ParameterError):
    """A study cannot be simulated; ``faults`` names every one of them."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[type[StudyError], tuple[list[str]]]:
        """As another process is told it."""
        return type(self), (self.faults,)


def study_differences(one: SimulationStudy, other: SimulationStudy) -> list[str]:
    """Say where two studies differ.

    Returns
    -------
    list of str
        "name: value of the one, value of the other", empty for the same study.

    Examples
    --------
    >>> study_differences(SimulationStudy(scenes=8), SimulationStudy(scenes=9, seed=1))
    ['scenes: 8, 9', 'seed: 0, 1']
    """
    a, b = dict(_leaves(one.values())), dict(_leaves(other.values()))
    missing = "not given"
    return [
        f"{name}: {shown_value(a.get(name, missing))}, {shown_value(b.get(name, missing))}"
        for name in dict.fromkeys([*a, *b])
        if a.get(name, missing) != b.get(name, missing)
    ]


def _finite(tree: Any) -> Any:
    """Infinities as text, which strict JSON has no number for."""
    if isinstance(tree, Mapping):
        return {k: _finite(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(v) for v in tree]
    return str(tree) if isinstance(tree, float) and math.isinf(tree) else tree


def _range_faults(ranges: ConditionRanges) -> list[str]:
    """What would fail when conditions are drawn, said before anything is."""
    faults: dict[str, None] = {}
    for f in fields(ranges):
        value = getattr(ranges, f.name)
        for end in _ends(value):
            changed: dict[str, Any] = {f.name: end}
            try:
                replace(ImagingConditions(), **changed)
            except ParameterError as e:
                words = str(e).removeprefix("imaging conditions: ")
                if isinstance(value, Normal) and value.deviation:
                    words += f" (five deviations from the mean {value.mean:g}): take a uniform range"
                faults[f"imaging: {words}"] = None
    return list(faults)


def _ends(value: Range) -> tuple[float, ...]:
    """The outermost values of a range; of a normal one those five deviations away."""
    if isinstance(value, Uniform):
        return value.low, value.high
    if isinstance(value, Normal):
        return value.mean - 5 * value.deviation, value.mean + 5 * value.deviation
    return value.values if isinstance(value, Grid) else (value,)


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, list) and tree and all(isinstance(v, Mapping) and "name" in v for v in tree):
        tree = {v["name"]: v for v in tree}
    if isinstance(tree, Mapping) and set(tree) - {"low", "high", "mean", "deviation", "values"}:
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}" if name else key)
    else:
        yield name, tree


def shown_value(value: Any) -> str:
    """A value in a few words, as a message shows it."""
    if isinstance(value, (Uniform, Normal, Grid)):
        value = asdict(value)
    text = json.dumps(value, default=str) if not isinstance(value, float) else f"{value:g}"
    return text if len(text) <= 60 else text[:57] + "..."
