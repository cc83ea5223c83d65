"""How far what a network sees in an image lies from what it saw in the images that its bundle knows.

What it sees: mean and deviation of each channel of its features over the image. Known images differ along few
directions, and what a picture has beside them tells a photograph from a micrograph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.novelty import NEIGHBOURS
from passband.types import Vector

DIRECTIONS = 32
"""In which known images differ most."""
WITHIN = 0.95
"""So many images of domains that are not known lie nearer than the edge."""
_MOST_ROWS = 2000


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
    edge
        Distance from the nearest ones where novelty is 1.

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
    edge: float

    def __post_init__(self) -> None:
        p, q, n = len(self.center), len(self.axes), max(NEIGHBOURS, len(self.rows))
        shapes = {"center": (p,), "scale": (p,), "middle": (p,), "axes": (q, p), "beside": (1,)}
        faults = []
        for name, shape in {**shapes, "rows": (n, q + 1)}.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
                faults.append(f"{name} must be finite float64 {shape}, got {array.dtype} {array.shape}")
        if not faults and not ((self.scale > 0).all() and self.beside[0] > 0 and self.axes.any(1).all()):
            faults.append("scale and beside must be positive, and no direction zero")
        if not (np.isfinite(self.edge) and self.edge > 0):
            faults.append(f"edge must be positive, got {self.edge!r}")
        if faults:
            raise CalibrationError("what a network saw cannot be used: " + "; ".join(faults))


def fit_look(seen: Float64[np.ndarray, "n p"], domains: Sequence[str], *, seed: int = 0) -> Look:
    """Remember what a network saw in images of several domains.

    Parameters
    ----------
    seen
        Finite, float64 (n, p).
    domains
        Of each image. Novelty is 1 where `WITHIN` of the images lie of which the whole domain was left out.
    seed
        Of the draw by which very many are thinned.

    Raises
    ------
    CalibrationError
        If there are fewer than two domains, or hardly more images than directions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> look = fit_look(rng.normal(size=(300, 120)), ["a", "b", "c"] * 100)
    >>> unlike(look, rng.normal(size=120)) < 1 < unlike(look, rng.normal(size=120) + 9)
    True
    """
    names, least = np.asarray(domains), 3 * DIRECTIONS
    left_out = [(seen[names != name], seen[names == name]) for name in np.unique(names)]
    if len(left_out) < 2 or min(len(others) for others, _ in left_out) < least or seen.shape[1] < least:
        raise CalibrationError(
            f"{len(seen)} images of {len(left_out)} domains came, of which a network saw {seen.shape[1]} "
            f"numbers; wanted two domains or more, {least} images beside each, and as many numbers"
        )
    far = [unlike(known, row) for others, own in left_out for known in (_fit(others, seed),) for row in own]
    return replace(_fit(seen, seed), edge=float(np.quantile(far, WITHIN)))


def extend_look(look: Look, seen: Float64[np.ndarray, "n p"]) -> Look:
    """Know some more images: what looks like them is no longer strange.

    Parameters
    ----------
    look
        What is known.
    seen
        Finite, float64 (n, p). Fewer than `NEIGHBOURS` count several times, so that each is near to itself.

    Raises
    ------
    CalibrationError
        If rows have another length: another network saw them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> look = fit_look(rng.normal(size=(300, 120)), ["a", "b", "c"] * 100)
    >>> far = rng.normal(size=120) + 9
    >>> unlike(look, far) > 1, unlike(extend_look(look, far[None]), far)
    (True, 0.0)
    """
    more = np.repeat(_places(look, seen), max(1, NEIGHBOURS + 1 - len(seen)), axis=0)
    return replace(look, rows=np.concatenate([look.rows, more]))


def unlike(look: Look, seen: Vector) -> float:
    """How far an image lies from the known ones.

    Parameters
    ----------
    look
        What is known.
    seen
        Finite, shape (p,).

    Returns
    -------
    float
        Mean distance to the nearest ones, in units of the edge of what is known: at least 0; above 1 it lies
        outside.

    Raises
    ------
    CalibrationError
        If it has another length: another network saw it.
    """
    d = np.linalg.norm(look.rows - _places(look, seen[None]), axis=1)
    return float(np.partition(d, NEIGHBOURS - 1)[:NEIGHBOURS].mean()) / look.edge


def look_parts(look: Look | None) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    """What a bundle's header and its arrays, float32, hold of it."""
    if look is None:
        return None, {}
    return {"edge": look.edge}, {name: getattr(look, name).astype(np.float32) for name in _arrays()}


def open_look(settings: Any, arrays: Mapping[str, np.ndarray]) -> Look | None:
    """The parts put together again; None where a bundle has none.

    Raises
    ------
    CalibrationError
        If they do not fit together.
    """
    if settings is None:
        return None
    try:
        parts = {name: np.asarray(arrays[name], np.float64) for name in _arrays()}
        return Look(**parts, edge=float(settings["edge"]))
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise CalibrationError(f"what a network saw cannot be understood: {e!r}; calibrate anew") from e


def _arrays() -> list[str]:
    return [f.name for f in fields(Look) if f.type == "np.ndarray"]


def _fit(seen: np.ndarray, seed: int) -> Look:
    """Of one edge: distances are in units of the space."""
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
        edge=1.0,
    )
    few = np.sort(np.random.default_rng(seed).permutation(len(seen))[:_MOST_ROWS])
    return replace(look, rows=_places(look, seen[few]))


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
