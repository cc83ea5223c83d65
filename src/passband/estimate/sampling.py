"""Who of a population is drawn to be labelled: strata by a guess at each, and a seeded draw.

A sample drawn at random before anyone looks is what makes a survey valid: see `passband.estimate.survey`.

References
----------
W. G. Cochran, Sampling Techniques, 3rd ed., Wiley (1977), chapter 5: strata, proportional allocation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from passband.errors import ParameterError
from passband.types import Vector

Labels = Float64[np.ndarray, "k"]
Strata = Int64[np.ndarray, "n"]
Members = Int64[np.ndarray, "k"]

LEAST_STRATIFIED = 20
"""Labels from which strata pay: below, each would have too few degrees of freedom."""
STRATA = 3
LEAST_PER_STRATUM = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Which members of a population were drawn and labelled.

    Parameters
    ----------
    strata
        int64 (n,): the stratum of each member, from 0; all 0 where there are none.
    labelled
        int64 (k,): places of the labelled members, at least one, none twice.
    coverage
        How often an interval is meant to contain what holds.

    Raises
    ------
    ParameterError
        If nobody is labelled, a place is not of the population or comes twice, or a coverage is none.

    Examples
    --------
    >>> Design(strata=np.zeros(8, np.int64), labelled=np.array([2, 5])).weights
    array([4., 4.])
    """

    strata: Strata
    labelled: Members
    coverage: float = 0.9

    def __post_init__(self) -> None:
        n, places = len(self.strata), self.labelled
        if (
            not len(places)
            or places.min() < 0
            or places.max() >= n
            or len(set(places.tolist())) < len(places)
        ):
            raise ParameterError(
                f"labelled must be one or more different places from 0 to {n - 1}, got {places.tolist()}"
            )
        if not 0 < self.coverage < 1:
            raise ParameterError(f"coverage must lie between 0 and 1, got {self.coverage!r}")
        sizes, labels = self.counted()
        if (labels < np.minimum(sizes, LEAST_PER_STRATUM)).any():
            # A stratum with a single label says nothing of its spread; taken together, they do.
            object.__setattr__(self, "strata", np.zeros(n, np.int64))

    @property
    def n(self) -> int:
        """How many members there are."""
        return len(self.strata)

    @property
    def k(self) -> int:
        """How many are labelled."""
        return len(self.labelled)

    @property
    def weights(self) -> Labels:
        """How many members each labelled one stands for, float64 (k,)."""
        sizes, labels = self.counted()
        weights: Labels = (sizes / np.maximum(labels, 1))[self.strata[self.labelled]]
        return weights

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Members and labels of each stratum, both float64."""
        count = int(self.strata.max()) + 1
        sizes = np.bincount(self.strata, minlength=count).astype(np.float64)
        return sizes, np.bincount(self.strata[self.labelled], minlength=count).astype(np.float64)


def strata_by(proxy: Vector, count: int) -> Strata:
    """Strata of a population by a guess at each: three of nearly one size from `LEAST_STRATIFIED` labels on.

    Parameters
    ----------
    proxy
        float64 (n,), finite.
    count
        How many will be labelled.

    Returns
    -------
    int64 (n,)
        0, 1, 2 from the lowest to the highest; all 0 for fewer labels, or where all guesses are the same.

    Examples
    --------
    >>> strata_by(np.arange(24.0), 20)[[0, 8, 23]], strata_by(np.arange(24.0), 10)[[0, 23]]
    (array([0, 1, 2]), array([0, 0]))
    """
    n = len(proxy)
    strata = np.zeros(n, np.int64)
    if count >= LEAST_STRATIFIED and n >= LEAST_STRATIFIED and np.ptp(proxy) > 0:
        strata[np.argsort(proxy, kind="stable")] = np.arange(n) * STRATA // n
    return strata


def allocate(sizes: Sequence[int], count: int) -> list[int]:
    """Share labels out over strata, in proportion to their sizes, at least two in each.

    Parameters
    ----------
    sizes
        Of the strata.
    count
        How many labels there are; what exceeds the population is left out.

    Examples
    --------
    >>> allocate([40, 40, 20], 20), allocate([100, 4, 100], 20), allocate([3, 3], 10)
    ([8, 8, 4], [9, 2, 9], [3, 3])
    """
    count = min(count, sum(sizes))
    given = [min(size, LEAST_PER_STRATUM) for size in sizes]
    if sum(given) > count:
        raise ParameterError(f"{count} labels are too few for {len(sizes)} strata: wanted {sum(given)}")
    while sum(given) < count:
        # Each label goes where it is owed most.
        owed = [
            -math.inf if g == s else count * s / sum(sizes) - g for g, s in zip(given, sizes, strict=True)
        ]
        given[owed.index(max(owed))] += 1
    return given


def draw(strata: Strata, count: int, rng: np.random.Generator) -> Members:
    """Draw members to be labelled, at random within each stratum.

    The same generator puts the members in the same order, so that a larger draw without strata holds the
    smaller one.

    Parameters
    ----------
    strata
        int64 (n,), from 0.
    count
        How many; all where there are no more.
    rng
        Decides.

    Returns
    -------
    int64 (k,)
        Places, sorted.

    Examples
    --------
    >>> draw(np.zeros(5, np.int64), 2, np.random.default_rng(0))
    array([2, 4])
    """
    order = rng.permutation(len(strata))
    sizes = np.bincount(strata)
    chosen = [
        order[strata[order] == stratum][:labels]
        for stratum, labels in enumerate(allocate(sizes.tolist(), count))
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
