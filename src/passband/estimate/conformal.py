"""Intervals with stated coverage, from the residuals of rows that were not trained on.

Two kinds of radius. `conformal_quantile` is split-conformal: it holds exactly, in finite samples, for
a new row exchangeable with the calibration rows. A row of a new domain is not. For that,
`domain_quantile` takes residuals of whole held-out domains and lets every domain weigh the same, so
that the one with most images does not decide alone; it never goes below the split-conformal radius
of the same residuals. The stricter choices of the literature, the largest or the 90 %
quantile of the domains' own quantiles, promise more and cost too much: with about ten domains they
are the radius of the worst domain, and the intervals of F1 then span most of [0, 1]. So what is
promised is the mean over new domains, and what a single one may get is measured, on domains left out
of the radius, and reported (`leave_one_out_coverage`).

References
----------
J. Lei et al., J. Am. Stat. Assoc. 113 (2018) 1094, doi:10.1080/01621459.2017.1307116 (split-conformal);
R. Dunn, L. Wasserman, A. Ramdas, J. Am. Stat. Assoc. 118 (2023) 2491,
doi:10.1080/01621459.2022.2060112 (groups drawn from a population of groups).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from passband.errors import ParameterError
from passband.types import Vector

_ROUNDING = 1e-9


class Interval(NamedTuple):
    """Lower and upper ends of some intervals, float64 (n, k) each."""

    low: Float64[np.ndarray, "n k"]
    high: Float64[np.ndarray, "n k"]


def conformal_quantile(residuals: Vector, coverage: float) -> float:
    """Split-conformal radius: the ceil((n + 1) coverage)-th smallest residual.

    Parameters
    ----------
    residuals
        Non-negative nonconformity scores of calibration rows, shape (n,).
    coverage
        Wanted probability, inside (0, 1).

    Returns
    -------
    float
        A new exchangeable row's residual is at most this with at least the wanted probability;
        infinite where n is too small to say.

    Raises
    ------
    ParameterError
        If the coverage is not inside (0, 1) or a residual is negative or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9), conformal_quantile(np.arange(1.0, 9.0), 0.9)
    (9.0, inf)
    """
    _check(residuals, coverage)
    n = len(residuals)
    k = math.ceil((n + 1) * coverage - _ROUNDING)
    return float(np.partition(residuals, k - 1)[k - 1]) if k <= n else math.inf


def balanced_quantile(residuals: Vector, domains: Sequence[str], coverage: float) -> float:
    """Smallest radius that covers the wanted share of the rows, each domain weighing the same.

    Parameters
    ----------
    residuals
        Non-negative nonconformity scores, shape (n,), at least one.
    domains
        The domain of each row, n of them.
    coverage
        Wanted share, inside (0, 1).

    Returns
    -------
    float
        One of the residuals.

    Raises
    ------
    ParameterError
        If there is no row, the lengths differ, the coverage is not inside (0, 1) or a residual is
        negative or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> balanced_quantile(np.array([1.0, 1, 1, 1, 1, 1, 1, 9]), ["big"] * 7 + ["small"], 0.9)
    9.0
    """
    _check(residuals, coverage)
    if len(residuals) == 0 or len(residuals) != len(domains):
        raise ParameterError(
            f"wanted one domain for each of some rows, got {len(residuals)} and {len(domains)}"
        )
    _, which, count = np.unique(np.asarray(domains), return_inverse=True, return_counts=True)
    weight = 1 / (len(count) * count[which])
    order = np.argsort(residuals, kind="stable")
    covered = np.cumsum(weight[order])
    k = int(np.searchsorted(covered, coverage - _ROUNDING))
    return float(residuals[order[min(k, len(order) - 1)]])


def domain_quantile(residuals: Vector, domains: Sequence[str], coverage: float) -> float:
    """Radius for a row of a new domain: the larger of the pooled and the balanced one.

    Parameters
    ----------
    residuals
        Residuals of rows whose whole domain was left out of the fit that predicted them, shape (n,).
    domains
        The domain of each row.
    coverage
        Wanted probability, inside (0, 1).

    Returns
    -------
    float
        Infinite where there are too few rows for the pooled radius.

    Raises
    ------
    ParameterError
        As `balanced_quantile`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> residuals = np.concatenate([rng.random(90), 3 * rng.random(10)])
    >>> domains = ["easy"] * 90 + ["hard"] * 10
    >>> conformal_quantile(residuals, 0.9) < domain_quantile(residuals, domains, 0.9)
    True
    """
    return max(conformal_quantile(residuals, coverage), balanced_quantile(residuals, domains, coverage))


def leave_one_out_coverage(
    residuals: Vector, domains: Sequence[str], coverage: float, *, least: float = 0.0
) -> dict[str, float]:
    """Share of each domain's rows covered by the radius that the other domains give.

    Parameters
    ----------
    residuals, domains, coverage
        As in `domain_quantile`; at least two domains.
    least
        The radius never falls below this.

    Returns
    -------
    dict of str to float
        Covered share by domain, in alphabetical order.

    Raises
    ------
    ParameterError
        If there are fewer than two domains, or as `domain_quantile`.

    Examples
    --------
    >>> import numpy as np
    >>> leave_one_out_coverage(np.array([1.0] * 10 + [5.0] * 10), ["a"] * 10 + ["b"] * 10, 0.9)
    {'a': 1.0, 'b': 0.0}
    """
    names = np.asarray(domains)
    kinds = np.unique(names)
    if len(kinds) < 2:
        raise ParameterError(f"leaving a domain out wants at least two, got {len(kinds)}")
    shares = {}
    for name in kinds:
        inside = names == name
        radius = max(least, domain_quantile(residuals[~inside], names[~inside].tolist(), coverage))
        shares[str(name)] = float((residuals[inside] <= radius).mean())
    return shares


def _check(residuals: Vector, coverage: float) -> None:
    if not 0 < coverage < 1:
        raise ParameterError(f"coverage must lie inside (0, 1), got {coverage!r}")
    if not (residuals >= 0).all():
        raise ParameterError("residuals must be numbers of at least zero; some are negative or NaN")
