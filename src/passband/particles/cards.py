"""The playing-card benchmark: four suits under drawn disorder, both protocols by name.

Introduced in arXiv:2104.10180 and used in doi:10.1039/d3dd00196b. The suits here are our own drawings;
the templates of the paper's notebooks can be given in their place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from passband.errors import ParameterError, ReadError
from passband.particles.crop_sets import CropSet
from passband.particles.networks.warping import Affine, deform
from passband.store.npz import NPZ_FAULTS, npz_fault

SIZE = 48
"""Side of a card in pixels."""
_TEMPLATE = 64
_FINE = 8  # sub-pixels along each side of a template's pixel
_CHUNK = 500

Outline = Callable[[np.ndarray, np.ndarray], Any]
"""Where a shape is, from coordinates x (right) and y (up) in pixels from the template's centre."""


def _clubs(x: np.ndarray, y: np.ndarray) -> Any:
    leaves = _disc(x, y, 0, 9, 6.6) | _disc(x, y, -8.4, -3.4, 6.6) | _disc(x, y, 8.4, -3.4, 6.6)
    return leaves | _disc(x, y, 0, 0, 3.2) | _stem(x, y, -15, 2.0)


def _spades(x: np.ndarray, y: np.ndarray) -> Any:
    return _heart(x * 1.1, -(y - 2.2) * 1.17) | _stem(x, y, -15.5, 1.9)


def _hearts(x: np.ndarray, y: np.ndarray) -> Any:
    return _heart(x, y)


def _diamonds(x: np.ndarray, y: np.ndarray) -> Any:
    return np.abs(x) / 11 + np.abs(y) / 15 < 1


def _disc(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, radius: float) -> Any:
    return np.hypot(x - at_x, y - at_y) < radius


def _stem(x: np.ndarray, y: np.ndarray, foot: float, width: float) -> Any:
    height = (y - foot) / -foot
    return (y > foot) & (y < 0) & (np.abs(x) < width * (0.6 + 1.4 * (1 - height) ** 3))


def _heart(x: np.ndarray, y: np.ndarray) -> Any:
    lobes = _disc(x, y, -6.6, 6.4, 7.2) | _disc(x, y, 6.6, 6.4, 7.2)
    point = (y < 6.4) & (np.abs(x) < 13.8 * ((y + 15) / 21.4).clip(0) ** 0.8)
    return lobes | point


def _star(x: np.ndarray, y: np.ndarray) -> Any:
    radius, angle = np.hypot(x, y), np.arctan2(x, y)
    return radius < 10.5 + 4.5 * np.cos(5 * angle)


def _ring(x: np.ndarray, y: np.ndarray) -> Any:
    return (np.hypot(x, y) < 13.5) & (np.hypot(x, y) > 7)


def _cross(x: np.ndarray, y: np.ndarray) -> Any:
    return ((np.abs(x) < 3.6) & (np.abs(y) < 14)) | ((np.abs(y) < 3.6) & (np.abs(x) < 14))


def _moon(x: np.ndarray, y: np.ndarray) -> Any:
    return _disc(x, y, 0, 0, 14) & ~_disc(x, y, 7, 0, 11)


SUITS: dict[str, Outline] = {"clubs": _clubs, "spades": _spades, "hearts": _hearts, "diamonds": _diamonds}
"""The four classes, in the order of the labels 0 to 3."""
STRANGERS: dict[str, Outline] = {"star": _star, "ring": _ring, "cross": _cross, "moon": _moon}
"""Shapes that belong to no class, to try rejection on."""
SYMMETRY = {"clubs": 1, "spades": 1, "hearts": 1, "diamonds": 2}
"""Turns of 360 degrees over this leave a suit as it was."""


def draw_template(shape: Outline, size: int = _TEMPLATE) -> Float32[np.ndarray, "size size"]:
    """Draw a shape: 1 inside, 0 outside, the covered share at its edge.

    Examples
    --------
    >>> template = draw_template(SUITS["diamonds"])
    >>> template.shape, float(template.max()), bool(np.allclose(template, template[::-1, ::-1]))
    ((64, 64), 1.0, True)
    """
    return _drawn(shape, size).copy()


@functools.lru_cache(maxsize=32)
def _drawn(shape: Outline, size: int) -> np.ndarray:
    """`draw_template`, which takes as long as many cards do, once for each shape."""
    at = (np.arange(size * _FINE) + 0.5) / _FINE - size / 2
    fine = shape(*np.meshgrid(at, -at))
    mean: np.ndarray = fine.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3), dtype=np.float32)
    return mean


def draw_templates() -> dict[str, np.ndarray]:
    """The four suits as drawn here, float32 (64, 64) each.

    Examples
    --------
    >>> list(draw_templates())
    ['clubs', 'spades', 'hearts', 'diamonds']
    """
    return {name: draw_template(shape) for name, shape in SUITS.items()}


def read_templates(path: str | Path) -> dict[str, np.ndarray]:
    """Read templates from an ``.npz`` file: square arrays of one size in [0, 1], one a class, in order.

    Raises
    ------
    ReadError
        Naming everything that is wrong with the file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            templates = {name: np.asarray(file[name], np.float32) for name in file.files}
    except NPZ_FAULTS as e:
        raise ReadError(
            f"{path}: not templates (wanted an .npz of square arrays in [0, 1]): {npz_fault(path, e)}"
        ) from e
    faults = [] if len(templates) > 1 else [f"{len(templates)} arrays, at least 2 classes are wanted"]
    for name, values in templates.items():
        if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] < SIZE:
            faults.append(f"{name} has shape {values.shape}, wanted a square of {SIZE} pixels or more")
        elif not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            faults.append(f"{name} holds values outside [0, 1]")
    if len({v.shape for v in templates.values()}) > 1:
        faults.append("arrays of different sizes")
    if faults:
        raise ReadError(f"{path}: " + "; ".join(faults))
    return templates


@dataclass(frozen=True, kw_only=True)
class Disorder:
    """Ranges that the disorder of cards is drawn from, uniformly.

    Parameters
    ----------
    angle
        Rotation in plus or minus this, degrees.
    shear
        Least and greatest shear along each axis, degrees.
    scale
        Least and greatest magnification.
    shift_x, shift_y
        Least and greatest shift, as a share of the card's side.
    noise
        Standard deviation of Gaussian noise on every pixel; the shape has intensity 1.
    contamination
        Share of the pixels that get `contamination_intensity` on top.
    contamination_intensity
        What is added to a contaminated pixel.

    Raises
    ------
    ParameterError
        Naming every fault.

    Examples
    --------
    >>> Disorder(angle=60).scale
    (1.0, 1.3)
    """

    angle: float
    shear: tuple[float, float] = (-15.0, 15.0)
    scale: tuple[float, float] = (1.0, 1.3)
    shift_x: tuple[float, float] = (0.0, 0.0)
    shift_y: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    contamination: float = 0.0
    contamination_intensity: float = 1.0

    def __post_init__(self) -> None:
        faults = []
        if not 0 <= self.angle <= 180:
            faults.append(f"angle must lie in 0 to 180 degrees, got {self.angle}")
        if not -60 <= self.shear[0] <= self.shear[1] <= 60:
            faults.append(f"shear must be two rising values within 60 degrees, got {self.shear}")
        if not 0.2 <= self.scale[0] <= self.scale[1] <= 3:
            faults.append(f"scale must be two rising values from 0.2 to 3, got {self.scale}")
        for name in ("shift_x", "shift_y"):
            low, high = getattr(self, name)
            if not -0.5 <= low <= high <= 0.5:
                faults.append(f"{name} must be two rising values within half a card, got {(low, high)}")
        if not (0 <= self.noise <= 100 and np.isfinite(self.contamination_intensity)):
            faults.append(f"noise must lie in 0 to 100, contamination be finite, got {self.noise}")
        if not 0 <= self.contamination <= 1:
            faults.append(f"contamination must be a share of the pixels, got {self.contamination}")
        if faults:
            raise ParameterError("disorder of cards: " + "; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class CardProtocol:
    """How labelled and other cards are drawn.

    Parameters
    ----------
    labelled
        Disorder of the labelled cards.
    unlabelled
        Disorder of the unlabelled and the test cards; its angle is set at the draw.
    counts
        Labelled, unlabelled and test cards of each suit.
    """

    labelled: Disorder
    unlabelled: Disorder
    counts: tuple[int, int, int] = (200, 3000, 1000)


PROTOCOLS: dict[str, CardProtocol] = {
    "paper-notebook": CardProtocol(
        labelled=Disorder(angle=4), unlabelled=Disorder(angle=60, shift_y=(-0.1, 0.1))
    ),
    "paper-text": CardProtocol(
        labelled=Disorder(angle=4, shear=(0, 15)),
        unlabelled=Disorder(angle=60, shear=(0, 15), shift_x=(0, 0.1), shift_y=(0, 0.1)),
    ),
}
"""``paper-notebook`` made the paper's figures: shear of both signs, shifts along one axis only.
``paper-text`` is what its text says; its shear of "23 %" is a mislabelled axis and is 15 degrees."""


@dataclass(frozen=True, kw_only=True)
class CardRecord:
    """What n cards are made from.

    Parameters
    ----------
    suit
        Number of the template, shape (n,).
    affine
        How each is deformed.
    noise, contamination, contamination_intensity
        As in `Disorder`, for all.
    seed
        Of noise and contaminated pixels.
    """

    suit: np.ndarray
    affine: Affine
    noise: float
    contamination: float
    contamination_intensity: float
    seed: int

    def __len__(self) -> int:
        return len(self.suit)


def draw_cards(disorder: Disorder, count: int, *, seed: int, suits: int = 4) -> CardRecord:
    """Draw the disorder of ``count`` cards of each suit, shuffled.

    Examples
    --------
    >>> record = draw_cards(Disorder(angle=30), 2, seed=1)
    >>> len(record), bool(np.abs(record.affine.angle).max() <= 30)
    (8, True)
    """
    if count < 1 or suits < 1:
        raise ParameterError(f"at least one card of one suit is wanted, got {count} of {suits}")
    rng = np.random.default_rng(seed)
    n = count * suits
    affine = Affine(
        angle=rng.uniform(-disorder.angle, disorder.angle, n),
        shear_x=rng.uniform(*disorder.shear, n),
        shear_y=rng.uniform(*disorder.shear, n),
        scale=rng.uniform(*disorder.scale, n),
        shift_x=rng.uniform(*disorder.shift_x, n) * SIZE,
        shift_y=rng.uniform(*disorder.shift_y, n) * SIZE,
    )
    return CardRecord(
        suit=rng.permutation(np.repeat(np.arange(suits), count)),
        affine=affine,
        noise=disorder.noise,
        contamination=disorder.contamination,
        contamination_intensity=disorder.contamination_intensity,
        seed=int(rng.integers(2**31)),
    )


def make_cards(
    record: CardRecord, templates: Sequence[np.ndarray] | None = None
) -> Float32[np.ndarray, "n 48 48"]:
    """Make the cards of a record; the same record gives the same cards.

    Parameters
    ----------
    record
        From `draw_cards`.
    templates
        Square float arrays, the suit's number being the place; the suits drawn here if not given.

    Examples
    --------
    >>> cards = make_cards(draw_cards(Disorder(angle=4), 1, seed=0))
    >>> cards.shape, str(cards.dtype), bool(cards.min() >= 0 and cards.max() <= 1)
    ((4, 48, 48), 'float32', True)
    """
    if templates is None:
        templates = list(draw_templates().values())
    shapes = torch.from_numpy(np.stack(templates).astype(np.float32))
    suit = torch.from_numpy(record.suit)
    chunks = [slice(i, i + _CHUNK) for i in range(0, len(record), _CHUNK)]
    cards = torch.cat([deform(shapes[suit[of]], record.affine[of], SIZE) for of in chunks]).numpy()
    rng = np.random.default_rng(record.seed)
    if record.contamination > 0:
        cards += np.float32(record.contamination_intensity) * (rng.random(cards.shape) < record.contamination)
    if record.noise > 0:
        cards += np.float32(record.noise) * rng.standard_normal(cards.shape, np.float32)
    return cards


def card_set(
    protocol: str = "paper-notebook",
    *,
    angle: float = 60,
    seed: int = 0,
    templates: Mapping[str, np.ndarray] | None = None,
    labels: int | None = None,
    test: Mapping[str, Any] | None = None,
) -> CropSet:
    """Labelled, unlabelled and test cards of a protocol.

    Parameters
    ----------
    protocol
        A key of `PROTOCOLS`.
    angle
        Unlabelled and test cards are turned by plus or minus this many degrees.
    seed
        Of all draws; the three parts have different ones.
    templates
        Arrays by class name; the suits drawn here if not given.
    labels
        Labelled cards a class, if not the protocol's number.
    test
        Fields of `Disorder` in which the test cards differ from the unlabelled ones.

    Raises
    ------
    ParameterError
        If there is no such protocol, naming those there are.

    Examples
    --------
    >>> cards = card_set(angle=60, seed=1, labels=3)
    >>> cards.labelled.shape, cards.unlabelled.shape, cards.classes
    ((12, 48, 48), (12000, 48, 48), ('clubs', 'spades', 'hearts', 'diamonds'))
    """
    if protocol not in PROTOCOLS:
        raise ParameterError(f"no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    chosen, shapes = PROTOCOLS[protocol], templates or draw_templates()
    disorders = (
        chosen.labelled,
        replace(chosen.unlabelled, angle=angle),
        replace(chosen.unlabelled, **{"angle": angle, **(test or {})}),
    )
    counts = (labels or chosen.counts[0], *chosen.counts[1:])
    seeds = np.random.SeedSequence(seed).generate_state(3)
    records = [
        draw_cards(d, n, seed=int(s), suits=len(shapes))
        for d, n, s in zip(disorders, counts, seeds, strict=True)
    ]
    images = [make_cards(record, list(shapes.values())) for record in records]
    return CropSet(
        classes=tuple(shapes),
        labelled=images[0],
        labels=records[0].suit,
        unlabelled=images[1],
        unlabelled_truth=records[1].suit,
        test=images[2],
        test_truth=records[2].suit,
        about={"protocol": protocol, "seed": seed, "test": asdict(disorders[2])},
    )


def angle_error(
    estimated: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], symmetry: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Absolute difference of angles in degrees, modulo turns that change nothing.

    Examples
    --------
    >>> angle_error(np.array([179.0, 90.0]), np.array([-179.0, -80.0]), np.array([1, 2])).tolist()
    [2.0, 10.0]
    """
    period = 360 / np.asarray(symmetry, float)
    difference = (estimated - true) % period
    smallest: np.ndarray = np.minimum(difference, period - difference)
    return smallest
