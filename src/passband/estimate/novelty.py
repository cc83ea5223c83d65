"""How far a row of features lies from the rows that a calibration knows, and in which features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32, Float64

from passband.errors import CalibrationError
from passband.types import Vector

NEIGHBOURS = 5
EDGE = 0.99
"""This share of the known rows has a novelty below 1."""
MARGIN = 0.1
"""A feature is unusual beyond the known range by more than this share of it."""
FEW_KNOWN = (3, 5, 10, 20)
"""So many rows of a domain may be all that is known."""
WITHIN = 0.95
"""This share of a domain's other rows has a novelty below 1 where so few are known, by the mean domain."""
_MOST_ROWS = 2000
_DRAWS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The known rows, in a space where every feature has about the same scale.

    A feature v becomes asinh((v - center) / scale), which is linear around the centre and a logarithm
    far out, so that counts, areas and kurtosis with their long tails do not decide alone.

    Parameters
    ----------
    center, scale
        Median and robust standard deviation of each feature, float64 (p,); scale is positive.
    low, high
        Ends of each feature's known range in that space, float64 (p,).
    rows
        Known rows in that space, float32 (n, p), n > `NEIGHBOURS`.
    edge
        Distance of a row whose novelty is 1, positive.
    within
        Distances of rows whose novelty is 1 where but a few rows of their own domain are known, float64, one
        for each of `FEW_KNOWN`, or none.

    Raises
    ------
    CalibrationError
        Naming every fault.
    """

    # Plain arrays: types and shapes are checked below always, not by annotation in the tests only.
    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray
    edge: float
    within: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        p = len(self.center)
        faults = []
        for name in ("center", "scale", "low", "high"):
            array = getattr(self, name)
            if array.shape != (p,) or array.dtype != np.float64 or not np.isfinite(array).all():
                faults.append(f"{name} must be finite float64 ({p},), got {array.dtype} {array.shape}")
        if not faults and not ((self.scale > 0).all() and (self.low <= self.high).all()):
            faults.append("scale must be positive and low at most high")
        r = self.rows
        if r.ndim != 2 or r.dtype != np.float32 or r.shape[1:] != (p,) or len(r) <= NEIGHBOURS:
            faults.append(f"rows must be float32 (more than {NEIGHBOURS}, {p}), got {r.dtype} {r.shape}")
        elif not np.isfinite(r).all():
            faults.append("rows hold NaN or infinity")
        if not (np.isfinite(self.edge) and self.edge > 0):
            faults.append(f"edge must be positive, got {self.edge!r}")
        if len(self.within) and (self.within.shape != (len(FEW_KNOWN),) or not (self.within > 0).all()):
            faults.append(f"within must be none or {len(FEW_KNOWN)} positive distances, got {self.within!r}")
        if faults:
            raise CalibrationError("a reference of known rows cannot be used: " + "; ".join(faults))


def fit_reference(table: Float64[np.ndarray, "n p"], images: Sequence[str], seed: int) -> Reference:
    """Remember what some rows look like.

    Parameters
    ----------
    table
        Finite features, float64 (n, p), n > `NEIGHBOURS`.
    images
        The image of each row: a row's own image does not count among its neighbours, or several
        detectors' rows of one image would make the known space look denser than it is.
    seed
        Seed of the draw by which more than 2000 rows are thinned.

    Returns
    -------
    Reference
        With novelty 1 at the 99th percentile of the known rows' own distances.

    Raises
    ------
    CalibrationError
        If there are too few rows.
    """
    center = np.median(table, axis=0)
    quartiles = np.percentile(table, [25, 75], axis=0)
    # Half the values may be alike (counts of rare scores): then the plain deviation, shrunk, and for
    # a constant feature a thousandth of its size, so that any real departure is far.
    scale = np.maximum.reduce(
        [
            (quartiles[1] - quartiles[0]) / 1.349,
            0.1 * table.std(axis=0),
            1e-3 * np.abs(center),
            np.full(table.shape[1], 1e-6),
        ]
    )
    known = np.arcsinh((table - center) / scale)
    low, high = known.min(axis=0), known.max(axis=0)
    names = np.asarray(images)
    if len(known) > _MOST_ROWS:
        kept = np.sort(np.random.default_rng(seed).choice(len(known), _MOST_ROWS, replace=False))
        known, names = known[kept], names[kept]
    rows = known.astype(np.float32)
    own = np.array([_distance(rows[names != n], r) for n, r in zip(names, rows, strict=True)])
    own = own[np.isfinite(own)]
    edge = float(np.quantile(own, EDGE)) if own.size else 0.0
    return Reference(center=center, scale=scale, low=low, high=high, rows=rows, edge=max(edge, 1e-6))


def extend_reference(reference: Reference, table: Float64[np.ndarray, "n p"]) -> Reference:
    """Know some more rows: they and what lies near them are no longer novel.

    Parameters
    ----------
    reference
        What is known.
    table
        Finite features, float64 (n, p).

    Returns
    -------
    Reference
        With the same edge: how near is near does not change. Fewer than `NEIGHBOURS` rows count several
        times, so that each is near to itself.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> known = fit_reference(rows, [str(i) for i in range(200)], seed=0)
    >>> far = np.array([0.0, 50])
    >>> novelty(known, far) > 1, novelty(extend_reference(known, far[None]), far)
    (True, 0.0)
    """
    more = scaled(reference, table)
    repeated = np.repeat(more, NEIGHBOURS, axis=0) if len(more) < NEIGHBOURS else more
    return replace(
        reference,
        rows=np.concatenate([reference.rows, repeated.astype(np.float32)]),
        low=np.minimum(reference.low, more.min(axis=0)),
        high=np.maximum(reference.high, more.max(axis=0)),
    )


def scaled(reference: Reference, table: Float64[np.ndarray, "n p"]) -> Float64[np.ndarray, "n p"]:
    """Features in the space of the known rows, where each has about the same scale."""
    return np.asarray(np.arcsinh((table - reference.center) / reference.scale), np.float64)


def know_domains(
    reference: Reference, table: Float64[np.ndarray, "n p"], domains: Sequence[str]
) -> Reference:
    """Learn how far rows of one domain lie from a few others of it, for `only`.

    Parameters
    ----------
    reference
        Of the rows.
    table
        Finite features, float64 (n, p).
    domains
        Of each row; those with few rows teach nothing.
    """
    known = scaled(reference, table).astype(np.float32)
    names = np.asarray(domains)
    within = []
    for few in FEW_KNOWN:
        far = []
        for number, name in enumerate(np.unique(names)):
            members = np.flatnonzero(names == name)
            if len(members) < 2 * few:
                continue
            for draw in range(_DRAWS):
                order = np.random.default_rng([few, number, draw]).permutation(members)
                shown = _enough(known[order[:few]])
                far.append(np.array([_distance(shown, known[i]) for i in order[few:]]))
        within.append(np.mean([np.quantile(f, WITHIN) for f in far]) if far else reference.edge)
    return replace(reference, within=np.maximum(np.array(within, np.float64), 1e-6))


def only(reference: Reference, table: Float64[np.ndarray, "n p"]) -> Reference:
    """Know these few rows and no others; as near as they are to each other is near.

    Parameters
    ----------
    reference
        Of many domains, that `know_domains` made.
    table
        Finite features, float64 (n, p), at least one row.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> level = np.repeat([0.0, 30], 50)[:, None]
    >>> rows = level + rng.normal(size=(100, 2))
    >>> known = fit_reference(rows, [str(i) for i in range(100)], seed=0)
    >>> known = know_domains(known, rows, ["a"] * 50 + ["b"] * 50)
    >>> few = only(known, rows[:10])
    >>> novelty(few, rows[20]) < 1 < novelty(few, rows[70]), novelty(known, rows[70]) < 1
    (True, True)
    """
    rows = scaled(reference, table)
    edge = reference.edge
    if len(reference.within):
        edge = float(np.interp(np.log(len(rows)), np.log(FEW_KNOWN), reference.within))
    few = rows.astype(np.float32)
    if len(few) >= FEW_KNOWN[0]:  # they may differ more from each other than is usual
        own = [_distance(_enough(np.delete(few, i, axis=0)), row) for i, row in enumerate(few)]
        edge = max(edge, max(own))
    return replace(
        reference,
        rows=_enough(few),
        low=rows.min(axis=0),
        high=rows.max(axis=0),
        edge=edge,
    )


def novelty(reference: Reference, row: Vector) -> float:
    """Mean distance to the nearest known rows, in units of the edge of what is known.

    Parameters
    ----------
    reference
        What is known.
    row
        Finite features, shape (p,).

    Returns
    -------
    float
        At least 0; above 1 the row lies outside.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> known = fit_reference(rows, [str(i) for i in range(200)], seed=0)
    >>> novelty(known, np.zeros(2)) < 1 < novelty(known, np.array([0.0, 50]))
    True
    >>> unusual(known, np.array([0.0, 50]), ["size", "count"])
    ('count',)
    """
    z = np.arcsinh((row - reference.center) / reference.scale).astype(np.float32)
    return _distance(reference.rows, z) / reference.edge


def unusual(reference: Reference, row: Vector, names: Sequence[str]) -> tuple[str, ...]:
    """Features clearly outside the range of the known rows, the farthest out first.

    Parameters
    ----------
    reference
        What is known.
    row
        Finite features, shape (p,).
    names
        Their names, p of them.

    Returns
    -------
    tuple of str
        Those beyond the range by more than `MARGIN` of it.
    """
    z = np.arcsinh((row - reference.center) / reference.scale)
    beyond = np.maximum(reference.low - z, z - reference.high)
    excess = beyond - MARGIN * (reference.high - reference.low) - 1e-3
    return tuple(names[i] for i in np.argsort(-excess, kind="stable") if excess[i] > 0)


def _enough(rows: Float32[np.ndarray, "n p"]) -> Float32[np.ndarray, "m p"]:
    """More rows than are neighbours, by repeating few."""
    return np.repeat(rows, NEIGHBOURS // len(rows) + 1, axis=0)


def _distance(rows: Float32[np.ndarray, "n p"], row: Float32[np.ndarray, " p"]) -> float:
    """Mean distance to the nearest rows; infinite where there are none."""
    if len(rows) == 0:
        return float("inf")
    d = rows - row
    square = np.einsum("np,np->n", d, d)
    k = min(NEIGHBOURS, len(square))
    return float(np.sqrt(np.partition(square, k - 1)[:k]).mean())
