"""A study of generalisation: what networks are trained under what conditions, and what they are tested on.

Axes make points: every combination of the values of the training axes is one training condition, every
combination of those of the test axes one test condition. A run is one network: a training condition and a
replicate, tested under all test conditions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from passband.errors import ParameterError
from passband.generalise.conditions import Axes, Point, axes_faults
from passband.optics.grids import grid_fault
from passband.store.parts import key
from passband.units import NM

RECIPE = 5
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

    def __reduce__(self) -> tuple[type[StudyFaultsError], tuple[list[str]]]:
        """As another process is told it."""
        return type(self), (self.faults,)


@dataclass(frozen=True, kw_only=True)
class Structures:
    """The scenes that networks are trained and tested on, but for what a condition says of them.

    Parameters
    ----------
    scenes
        How many, of each set of materials and range of diameters that a condition names.
    test_share
        Share of the scenes that is tested on and never trained on; at least one scene.
    particles
        Fewest and most particles of a scene.
    field_nm
        Side of a scene.
    thickness_nm
        Thinnest and thickest carbon.
    seed
        The scenes follow from it.
    test_images
        If not 0, each test condition has so many of the scenes to test on, drawn at random and with noise of
        its own: then no share of objects, the same in every condition, gives a score away.
    test_side
        Side of the window of a test image that is tested on, pixels; all of a smaller image. Larger ones
        hold more objects, and scores are told better and cost more.
    """

    scenes: int = 12
    test_share: float = 0.25
    test_images: int = 0
    test_side: int = 208
    particles: tuple[int, int] = (1, 5)
    field_nm: float = 7.68
    thickness_nm: tuple[float, float] = (2.0, 8.0)
    seed: int = 0

    @property
    def test_scenes(self) -> int:
        """How many of the scenes are tested on."""
        return min(self.scenes - 1, max(1, round(self.scenes * self.test_share)))


@dataclass(frozen=True, kw_only=True)
class Training:
    """How each network is trained; with a network, a condition and a replicate it decides a run.

    Parameters
    ----------
    steps
        Of the optimiser.
    crop
        Side of what the network is trained on, pixels.
    energy_kev
        Electron energy.
    pixel_size
        At the specimen, Å.
    """

    steps: int = 90
    crop: int = 64
    energy_kev: float = 300.0
    pixel_size: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Run:
    """One network: trained under one condition, tested under all test conditions of its study.

    Parameters
    ----------
    network
        "tiny", "small" or "published".
    train
        Training condition.
    replicate
        Its number among those of the same network and condition, from 0.
    training, structures
        What else decides it.
    """

    network: str
    train: Point
    replicate: int
    training: Training
    structures: Structures

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the trained network, as JSON has it."""
        tree: dict[str, Any] = _json(
            {
                "recipe": RECIPE,
                "network": self.network,
                "train": asdict(self.train),
                "replicate": self.replicate,
                **asdict(self.training),
                "structures": asdict(self.structures),
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
    networks
        An axis of training: "tiny", "small" or "published".
    seeds
        Networks of each kind and training condition, which differ in their random seed alone.
    train, test
        Conditions of training and of testing.
    training
        How each network is trained.
    structures
        On what scenes.
    datasets
        For each dataset that a condition names, its name and its folder.
    evidence
        Whether rows tell what the networks' own answers say without labels, for which each network is asked
        five times about each test image; without it no score is predicted.

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
    networks: tuple[str, ...] = ("small",)
    seeds: int = 1
    train: Axes = field(default_factory=Axes)
    test: Axes = field(default_factory=Axes)
    training: Training = field(default_factory=Training)
    structures: Structures = field(default_factory=Structures)
    datasets: tuple[tuple[str, str], ...] = ()
    evidence: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(sorted(self.networks)))
        faults = _training_faults(self)
        if not all(axes.dataset and all(axes.dataset) for axes in (self.train, self.test)):
            faults += _structure_faults(self.structures, self.training)
        for side in ("train", "test"):
            faults += axes_faults(side, getattr(self, side), field_nm=self.structures.field_nm)
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
        return len(self.networks) * len(self.train) * max(self.seeds, 0)

    def runs(self) -> Iterator[Run]:
        """Every run, one after another, the first of every condition first; a million need no room."""
        for replicate in range(self.seeds):
            for network, point in itertools.product(self.networks, self.train.points()):
                yield Run(
                    network=network,
                    train=point,
                    replicate=replicate,
                    training=self.training,
                    structures=self.structures,
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
        given = {k: parts[k](**_tuples(v)) if k in parts else _tuples(v) for k, v in values.items()}
        return Study(**given)
    except (TypeError, AttributeError) as e:
        raise ParameterError(f"not the values of a study: {e}") from e


def _training_faults(study: Study) -> list[str]:
    of, faults = study.training, []
    if not study.name.strip() or len(study.name) > 100:
        faults.append(f"study.name must be a text of 1 to 100 letters, got {study.name!r}")
    wrong = [n for n in study.networks if n not in NETWORKS]
    if wrong or not study.networks:
        got = ", ".join(map(repr, wrong)) or "none"
        faults.append(f"study.network must be tiny, small or published, or a list of them, got {got}")
    elif len(set(study.networks)) < len(study.networks):
        faults.append(f"study.network names one twice: {', '.join(study.networks)}")
    for name, value, most in (("seeds", study.seeds, MOST_RUNS), ("steps", of.steps, 10_000_000)):
        if not 1 <= value <= most:
            faults.append(f"study.{name} must be 1 to {most:,}, got {value:,}")
    if of.crop < 32 or of.crop % 16:
        faults.append(f"study.crop must be a multiple of 16 pixels, at least 32, got {of.crop}")
    if not 20 <= of.energy_kev <= 1500:
        faults.append(f"fixed.energy_kev must be 20 to 1500 keV, got {of.energy_kev:g}")
    if not 0.05 <= of.pixel_size <= 2:
        faults.append(f"fixed.pixel_size must be 0.05 to 2 Å, got {of.pixel_size:g}")
    return faults


def _structure_faults(of: Structures, training: Training) -> list[str]:
    faults = []
    if not 4 <= of.scenes <= 100_000:
        faults.append(f"structures.scenes must be 4 to 100,000, to train and to test on, got {of.scenes:,}")
    if not 0 < of.test_share < 1:
        faults.append(f"structures.test_share must be a share between 0 and 1, got {of.test_share:g}")
    for name, least in (("particles", 1), ("thickness_nm", 0)):
        low, high = getattr(of, name)
        if not least <= low <= high < math.inf:
            faults.append(
                f"structures.{name} must be [lowest, highest] of {least} or more, got {[low, high]}"
            )
    if not 0.5 <= of.field_nm <= 100:
        faults.append(f"structures.field_nm must be 0.5 to 100, got {of.field_nm:g}")
    elif training.pixel_size > 0 and training.crop * training.pixel_size > of.field_nm * 10:
        faults.append(
            f"study.crop of {training.crop} pixels, {training.crop * training.pixel_size / 10:g} nm, is "
            f"larger than structures.field_nm, {of.field_nm:g} nm"
        )
    elif fault := grid_fault((of.field_nm * NM, of.field_nm * NM), max(training.pixel_size, 1e-3)):
        faults.append(f"structures.field_nm and fixed.pixel_size: {fault}")
    if not 0 <= of.test_images <= of.test_scenes:
        faults.append(
            f"structures.test_images must be 0 to the {of.test_scenes} scenes that are tested on, got "
            f"{of.test_images}"
        )
    if of.test_side < 32 or of.test_side % 16:
        faults.append(
            f"structures.test_side must be a multiple of 16 pixels, at least 32, got {of.test_side}"
        )
    if of.seed < 0:
        faults.append(f"structures.seed must not be negative, got {of.seed}")
    return faults


def _json(tree: Any) -> Any:
    """Lists in the place of tuples, as JSON has them."""
    if isinstance(tree, Mapping):
        return {k: _json(v) for k, v in tree.items()}
    return [_json(v) for v in tree] if isinstance(tree, (list, tuple)) else tree


def _tuples(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {k: _tuples(v) for k, v in tree.items()}
    return tuple(_tuples(v) for v in tree) if isinstance(tree, (list, tuple)) else tree
