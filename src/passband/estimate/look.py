"""How far what a network sees in an image lies from what it saw in the images that its bundle knows.

What it sees: mean and deviation of each channel of its features over the image. Known images differ along few
directions, and what a picture has beside them tells a photograph from a micrograph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.novelty import NEIGHBOURS
from passband.types import Vector
from passband.words import counted

DIRECTIONS = 32
"""In which known images differ most."""
WITHIN = 0.95
"""So many images of domains that are not known lie nearer than the edge."""
FEWEST = 100
"""Images of a size that tell an edge."""
_MOST_ROWS = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a network saw in an image.

    Parameters
    ----------
    numbers
        Finite, float64 (p,).
    side
        Of a square of as many pixels as it saw: of a small image less is sure.
    """

    numbers: Vector
    side: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What a network sees in the images that are known.

    Parameters
    ----------
    center, scale
        Median and robust deviation of each number seen, float64 (p,); it becomes asinh((v - center) / scale).
    middle
        Mean of those, float64 (p,).
    axes
        Directions in which they differ most, each of length one over their deviation, float64 (q, p).
    beside
        Length of what known images have beside these directions, as a median, float64 (1,).
    rows
        Known images, float64 (n, q + 1), n >= `NEIGHBOURS`: along the directions, and beside them.
    sides, edges
        Distance from the nearest ones where novelty is 1, for images of such sides in pixels, float64 (k,);
        between them as the logarithm of the side says, beyond them as at the end.

    Raises
    ------
    CalibrationError
        Naming every part that does not fit.
    """

    # Plain arrays: checked below always, not by annotation in the tests only.
    center: np.ndarray
    scale: np.ndarray
    middle: np.ndarray
    axes: np.ndarray
    beside: np.ndarray
    rows: np.ndarray
    sides: np.ndarray
    edges: np.ndarray

    def __post_init__(self) -> None:
        p, q, n, k = (
            len(self.center),
            len(self.axes),
            max(NEIGHBOURS, len(self.rows)),
            max(1, len(self.sides)),
        )
        shapes = {
            **{"center": (p,), "scale": (p,), "middle": (p,), "axes": (q, p), "beside": (1,)},
            **{"rows": (n, q + 1), "sides": (k,), "edges": (k,)},
        }
        faults = []
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
                faults.append(f"{name} must be finite float64 {shape}, got {array.dtype} {array.shape}")
        if not faults:
            if not all((getattr(self, name) > 0).all() for name in ("scale", "beside", "sides", "edges")):
                faults.append("scale, beside, sides and edges must be positive")
            if not self.axes.any(1).all() or not (np.diff(self.sides) > 0).all():
                faults.append("no direction may be zero, and sides must rise")
        if faults:
            raise CalibrationError("what a network saw cannot be used: " + "; ".join(faults))


def fit_look(
    seen: Sequence[Seen],
    domains: Sequence[str],
    *,
    crops: Sequence[Seen] = (),
    crop_domains: Sequence[str] = (),
    seed: int = 0,
) -> Look:
    """Remember what a network saw in images of several domains.

    Parameters
    ----------
    seen, domains
        Of each image. Novelty is 1 where `WITHIN` of the images lie of which the whole domain was left out.
    crops, crop_domains
        Of smaller parts of such images: where it is 1 is told for each half of an octave of sides.
    seed
        Of the draw by which very many are thinned.

    Raises
    ------
    CalibrationError
        If there are fewer than two domains, or hardly more images than directions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> seen = [Seen(numbers=row, side=512) for row in rng.normal(size=(300, 120))]
    >>> look = fit_look(seen, ["a", "b", "c"] * 100)
    >>> unlike(look, seen[0]) < 1 < unlike(look, Seen(numbers=seen[0].numbers + 9, side=512))
    True
    """
    numbers, names, least = np.array([s.numbers for s in seen]), np.asarray(domains), 3 * DIRECTIONS
    kinds, counts = np.unique(names, return_counts=True)
    if len(kinds) < 2 or len(seen) - max(counts) < least or numbers.shape[1] < least:
        raise CalibrationError(
            f"{len(seen)} images of {counted(len(kinds), 'domain')} came, of which a network saw "
            f"{numbers.shape[1]} numbers; wanted two domains or more, {least} images beside each, and as "
            "many numbers"
        )
    every, of = [*seen, *crops], np.array([*domains, *crop_domains])
    far = np.empty(len(every))
    for name in kinds:
        known = _fit(numbers[names != name], seed)
        for i in np.flatnonzero(of == name):
            far[i] = _distance(known, every[i].numbers)
    octaves = np.round(2 * np.log2([s.side for s in every])) / 2
    found, counts = np.unique(octaves, return_counts=True)
    found = found[counts >= min(FEWEST, max(counts))]
    edges = np.array([np.quantile(far[octaves == octave], WITHIN) for octave in found])
    edges = np.maximum.accumulate(edges[::-1])[::-1]  # of a smaller image no more is sure
    return replace(_fit(numbers, seed), sides=2.0**found, edges=edges)


def extend_look(look: Look, seen: Sequence[Seen]) -> Look:
    """Know some more images: what looks like them is no longer strange.

    Parameters
    ----------
    look
        What is known.
    seen
        In at least one image. Fewer than `NEIGHBOURS` count several times, so that each is near to itself.

    Raises
    ------
    CalibrationError
        If they are of another length: another network saw them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> seen = [Seen(numbers=row, side=512) for row in rng.normal(size=(300, 120))]
    >>> look, far = fit_look(seen, ["a", "b", "c"] * 100), Seen(numbers=seen[0].numbers + 9, side=512)
    >>> unlike(look, far) > 1, unlike(extend_look(look, [far]), far)
    (True, 0.0)
    """
    more = _places(look, np.array([s.numbers for s in seen]))
    more = np.repeat(more, max(1, NEIGHBOURS + 1 - len(seen)), axis=0)
    return replace(look, rows=np.concatenate([look.rows, more]))


def unlike(look: Look, seen: Seen) -> float:
    """How far an image lies from the known ones.

    Returns
    -------
    float
        Mean distance to the nearest ones, in units of the edge of what is known: at least 0; above 1 it lies
        outside.

    Raises
    ------
    CalibrationError
        If it is of another length: another network saw it.
    """
    return _distance(look, seen.numbers) / float(np.interp(np.log(seen.side), np.log(look.sides), look.edges))


def look_parts(look: Look | None) -> dict[str, np.ndarray]:
    """The arrays, float32, by which a bundle holds it."""
    names = [] if look is None else _arrays()
    return {name: np.ascontiguousarray(getattr(look, name), np.float32) for name in names}


def open_look(arrays: Mapping[str, np.ndarray]) -> Look | None:
    """The parts put together again; None where a bundle has none.

    Raises
    ------
    CalibrationError
        If they do not fit together.
    """
    if not arrays:
        return None
    try:
        return Look(**{name: np.asarray(arrays[name], np.float64) for name in _arrays()})
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise CalibrationError(f"what a network saw cannot be understood: {e!r}; calibrate anew") from e


def _arrays() -> list[str]:
    return [f.name for f in fields(Look) if f.type == "np.ndarray"]


def _fit(seen: np.ndarray, seed: int) -> Look:
    """Without an edge yet."""
    from sklearn.decomposition import PCA

    center = np.median(seen, axis=0)
    scale = 1.4826 * np.median(np.abs(seen - center), axis=0) + 1e-6
    even = np.arcsinh((seen - center) / scale)
    found = PCA(DIRECTIONS, svd_solver="full").fit(even)
    axes = found.components_ / (np.sqrt(found.explained_variance_)[:, None] + 1e-6)
    off = np.linalg.norm(even - found.inverse_transform(found.transform(even)), axis=1)
    look = Look(
        center=center,
        scale=scale,
        middle=np.asarray(found.mean_, np.float64),
        axes=np.asarray(axes, np.float64),
        beside=np.array([np.median(off) + 1e-6]),
        rows=np.zeros((NEIGHBOURS, DIRECTIONS + 1)),
        sides=np.ones(1),
        edges=np.ones(1),
    )
    few = np.sort(np.random.default_rng(seed).permutation(len(seen))[:_MOST_ROWS])
    return replace(look, rows=_places(look, seen[few]))


def _distance(look: Look, numbers: Vector) -> float:
    d = np.linalg.norm(look.rows - _places(look, numbers[None]), axis=1)
    return float(np.partition(d, NEIGHBOURS - 1)[:NEIGHBOURS].mean())


def _places(look: Look, seen: np.ndarray) -> Float64[np.ndarray, "n q"]:
    """Along the directions in deviations, and beside them so that a usual image counts as much as there."""
    if seen.shape[1] != len(look.center):
        raise CalibrationError(
            f"{seen.shape[1]} numbers of what a network sees came, wanted {len(look.center)}: of this one"
        )
    even = np.arcsinh((seen - look.center) / look.scale) - look.middle
    along = even @ look.axes.T
    square = np.square(even).sum(1) - np.square(along / np.linalg.norm(look.axes, axis=1)).sum(1)
    off = np.sqrt(np.maximum(square, 0)) / look.beside
    return np.concatenate([along, np.sqrt(len(look.axes)) * off[:, None]], axis=1)
