"""A study of generalisation: what networks are trained under what conditions, and what they are tested on.

Axes make points: every combination of the values of the training axes is one training condition, every
combination of those of the test axes one test condition. A run is one network: a training condition and a
replicate, tested under all test conditions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from passband.errors import ParameterError
from passband.hrtem.specimen.materials import MATERIALS
from passband.store.parts import key

RECIPE = 1
"""Of how a network is trained and tested; raised when the same run would give other results."""
MOST_RUNS = 1_000_000
MOST_TESTS = 10_000
"""Test conditions of one network."""

NETWORKS = ("tiny", "small", "published")


class StudyFaultsError(ParameterError):
    """A study cannot be run; ``faults`` names every one of them."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


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

    def columns(self, prefix: str) -> dict[str, float | str]:
        """The condition as columns of a table: a number or a text under each name."""
        cells = {f.name: getattr(self, f.name) for f in fields(self)}
        return {f"{prefix}_{n}": "+".join(v) if isinstance(v, tuple) else v for n, v in cells.items()}


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

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, tuple(sorted(getattr(self, f.name))))

    def __len__(self) -> int:
        return math.prod(len(getattr(self, f.name)) for f in fields(self))

    def points(self) -> Iterator[Point]:
        """Every combination, the last name turning fastest."""
        names = [f.name for f in fields(self)]
        for values in itertools.product(*(getattr(self, n) for n in names)):
            yield Point(**dict(zip(names, values, strict=True)))

    @property
    def turning(self) -> tuple[str, ...]:
        """Names that have more than one value."""
        return tuple(f.name for f in fields(self) if len(getattr(self, f.name)) > 1)


@dataclass(frozen=True, kw_only=True)
class Structures:
    """The scenes that all networks of a study are trained and tested on.

    Parameters
    ----------
    materials
        Names in `MATERIALS`.
    scenes
        How many, of each set of materials that a condition names.
    test_share
        Share of the scenes that is tested on and never trained on; at least one scene.
    diameter_nm
        Smallest and largest particle.
    particles
        Fewest and most particles of a scene.
    field_nm
        Side of a scene.
    thickness_nm
        Thinnest and thickest carbon.
    seed
        The scenes follow from it.
    """

    materials: tuple[str, ...] = ("CdSe",)
    scenes: int = 12
    test_share: float = 0.25
    diameter_nm: tuple[float, float] = (3.0, 5.0)
    particles: tuple[int, int] = (1, 5)
    field_nm: float = 7.68
    thickness_nm: tuple[float, float] = (2.0, 8.0)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "materials", tuple(sorted(self.materials)))

    @property
    def test_scenes(self) -> int:
        """How many of the scenes are tested on."""
        return min(self.scenes - 1, max(1, round(self.scenes * self.test_share)))


@dataclass(frozen=True, kw_only=True)
class Training:
    """How each network is trained; with a condition and a replicate it decides a run.

    Parameters
    ----------
    network
        "tiny", "small" or "published".
    steps
        Of the optimiser.
    crop
        Side of what the network is trained on, pixels.
    jitter_nm
        The defocus of a training image is that of the condition, more or less by up to this, evenly.
    energy_kev
        Electron energy.
    pixel_size
        At the specimen, Å.
    """

    network: str = "small"
    steps: int = 130
    crop: int = 64
    jitter_nm: float = 1.5
    energy_kev: float = 300.0
    pixel_size: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Run:
    """One network: trained under one condition, tested under all test conditions of its study.

    Parameters
    ----------
    train
        Training condition.
    replicate
        Its number among those of the same condition, from 0.
    training, structures
        What else decides it.
    """

    train: Point
    replicate: int
    training: Training
    structures: Structures

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the trained network, as JSON has it.

        Of the materials these are the ones that it is trained on, whatever else the study holds.
        """
        scenes = {k: v for k, v in asdict(self.structures).items() if k != "materials"}
        tree: dict[str, Any] = _json(
            {
                "recipe": RECIPE,
                "train": asdict(self.train),
                "replicate": self.replicate,
                **asdict(self.training),
                "structures": scenes,
            }
        )
        return tree

    @property
    def name(self) -> str:
        """Follows from the parameters alone, not from the study or its other runs."""
        return key(self.parameters())

    def values(self) -> dict[str, Any]:
        """The parameters with the run's name and random seed, which follows from the name."""
        parameters = self.parameters()
        name = key(parameters)
        return {"name": name, "seed": int(name[:13], 16), **parameters}


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that the results of a study follow from.

    Parameters
    ----------
    name
        For people.
    seeds
        Networks of each training condition, which differ in their random seed alone.
    train, test
        Conditions of training and of testing.
    training
        How each network is trained.
    structures
        On what scenes.

    Raises
    ------
    StudyFaultsError
        Naming every fault.

    Examples
    --------
    >>> study = Study(name="focus", seeds=2, train=Axes(defocus_nm=(-10.0, 10.0)))
    >>> study.run_count, len(study.test), next(study.runs()).train.defocus_nm
    (4, 1, -10.0)
    """

    name: str = "study"
    seeds: int = 1
    train: Axes = field(default_factory=Axes)
    test: Axes = field(default_factory=Axes)
    training: Training = field(default_factory=Training)
    structures: Structures = field(default_factory=Structures)

    def __post_init__(self) -> None:
        faults = _training_faults(self) + _structure_faults(self.structures, self.training)
        for side in ("train", "test"):
            faults += _axes_faults(side, getattr(self, side), self.structures)
        if self.run_count > MOST_RUNS:
            faults.append(
                f"{self.run_count:,} runs are too many, at most {MOST_RUNS:,}; take fewer values on the "
                "axes of [train], or fewer seeds"
            )
        if len(self.test) > MOST_TESTS:
            faults.append(
                f"{len(self.test):,} test conditions are too many, at most {MOST_TESTS:,}; take fewer "
                "values on the axes of [test]"
            )
        if faults:
            raise StudyFaultsError(faults)

    @property
    def run_count(self) -> int:
        """How many networks."""
        return len(self.train) * max(self.seeds, 0)

    def runs(self) -> Iterator[Run]:
        """Every run, one after another; a million of them need no room."""
        for point in self.train.points():
            for replicate in range(self.seeds):
                yield Run(
                    train=point, replicate=replicate, training=self.training, structures=self.structures
                )

    def test_points(self) -> tuple[Point, ...]:
        """What every network is tested under, in the order of its rows."""
        return tuple(self.test.points())

    def values(self) -> dict[str, Any]:
        """All values, the defaults too, as JSON has them."""
        tree: dict[str, Any] = _json(asdict(self))
        return tree


def study_from_values(values: Mapping[str, Any]) -> Study:
    """The study that `Study.values` tells of.

    Raises
    ------
    ParameterError
        If it is none.
    """
    try:
        parts = {"train": Axes, "test": Axes, "training": Training, "structures": Structures}
        given = {k: parts[k](**_tuples(v)) if k in parts else v for k, v in values.items()}
        return Study(**given)
    except (TypeError, AttributeError) as e:
        raise ParameterError(f"not the values of a study: {e}") from e


def _training_faults(study: Study) -> list[str]:
    of, faults = study.training, []
    if not study.name.strip() or len(study.name) > 100:
        faults.append(f"study.name must be a text of 1 to 100 letters, got {study.name!r}")
    if of.network not in NETWORKS:
        faults.append(f"study.network must be tiny, small or published, got {of.network!r}")
    for name, value, most in (("seeds", study.seeds, MOST_RUNS), ("steps", of.steps, 10_000_000)):
        if not 1 <= value <= most:
            faults.append(f"study.{name} must be 1 to {most:,}, got {value:,}")
    if of.crop < 32 or of.crop % 16:
        faults.append(f"study.crop must be a multiple of 16 pixels, at least 32, got {of.crop}")
    if not 0 <= of.jitter_nm <= 1000:
        faults.append(f"train.jitter_nm must be 0 to 1000 nm, got {of.jitter_nm:g}")
    if not 20 <= of.energy_kev <= 1500:
        faults.append(f"fixed.energy_kev must be 20 to 1500 keV, got {of.energy_kev:g}")
    if not 0.05 <= of.pixel_size <= 2:
        faults.append(f"fixed.pixel_size must be 0.05 to 2 Å, got {of.pixel_size:g}")
    return faults


def _structure_faults(of: Structures, training: Training) -> list[str]:
    faults = []
    if not of.materials:
        faults.append("structures.materials must name at least one material")
    unknown = [m for m in of.materials if m not in MATERIALS]
    if unknown:
        faults.append(f"structures.materials: {no_material(unknown)}")
    elif len(set(of.materials)) < len(of.materials):
        faults.append(f"structures.materials names one twice: {', '.join(of.materials)}")
    if not 4 <= of.scenes <= 100_000:
        faults.append(f"structures.scenes must be 4 to 100,000, to train and to test on, got {of.scenes:,}")
    if not 0 < of.test_share < 1:
        faults.append(f"structures.test_share must be a share between 0 and 1, got {of.test_share:g}")
    for name, least in (("diameter_nm", 0.5), ("particles", 1), ("thickness_nm", 0)):
        low, high = getattr(of, name)
        if not least <= low <= high < math.inf:
            faults.append(
                f"structures.{name} must be [lowest, highest] of {least} or more, got {[low, high]}"
            )
    if not of.diameter_nm[1] <= of.field_nm <= 100:
        faults.append(
            "structures.field_nm must be at most 100 and hold the largest particle, "
            f"{of.diameter_nm[1]:g} nm, got {of.field_nm:g}"
        )
    elif training.pixel_size > 0 and training.crop * training.pixel_size > of.field_nm * 10:
        faults.append(
            f"study.crop of {training.crop} pixels, {training.crop * training.pixel_size / 10:g} nm, is "
            f"larger than structures.field_nm, {of.field_nm:g} nm"
        )
    if of.seed < 0:
        faults.append(f"structures.seed must not be negative, got {of.seed}")
    return faults


_BOUNDS = {
    "defocus_nm": (-10_000, 10_000, "-10,000 to 10,000 nm"),
    "cs_mm": (-10, 10, "-10 to 10 mm"),
    "focal_spread": (0, 1_000, "0 to 1,000 Å"),
    "dose": (1e-3, 1e9, "0.001 to 1e9 e/Å²"),
}


def _axes_faults(side: str, axes: Axes, structures: Structures) -> list[str]:
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
    if axes.materials == (structures.materials,):
        return faults  # told of the structures already
    named = dict.fromkeys(m for entry in axes.materials for m in entry)
    unknown = [m for m in named if m not in MATERIALS]
    if unknown:
        faults.append(f"{side}.materials: {no_material(unknown)}")
    others = [m for m in named if m in MATERIALS and m not in structures.materials]
    if others:
        faults.append(f"{side}.materials: {', '.join(others)} must stand in structures.materials too")
    return faults


def no_material(names: list[str]) -> str:
    """What is said of materials that are not known, with what may have been meant."""
    import difflib

    said = []
    for name in names:
        known = {m.lower(): m for m in MATERIALS}
        close = difflib.get_close_matches(name.lower(), known, 1, 0.5)
        meant = f"; did you mean {known[close[0]]}?" if close else f"; known are {', '.join(MATERIALS)}"
        said.append(f"no material {name!r}{meant}")
    return "; ".join(said)


def shown(value: Any) -> str:
    """A value in a few words, as a message shows it."""
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _json(tree: Any) -> Any:
    """Lists in the place of tuples, as JSON has them."""
    if isinstance(tree, Mapping):
        return {k: _json(v) for k, v in tree.items()}
    return [_json(v) for v in tree] if isinstance(tree, (list, tuple)) else tree


def _tuples(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {k: _tuples(v) for k, v in tree.items()}
    return tuple(_tuples(v) for v in tree) if isinstance(tree, (list, tuple)) else tree
