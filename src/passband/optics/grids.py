"""How large a grid may be: what is known before anything is calculated on it."""

from __future__ import annotations

import math

BYTES_A_POINT = 32
"""Of a wave, its potential, and a copy of each."""
MOST_POINTS = 16384 * 16384
"""Points of the largest grid that is calculated on."""


def grid_fault(extent: tuple[float, float], pixel_size: float) -> str | None:
    """What is wrong with a grid over a field, in words with the memory that it would take; None for nothing.

    Parameters
    ----------
    extent
        Of the field, Å.
    pixel_size
        Å.

    Examples
    --------
    >>> grid_fault((100.0, 100.0), 0.1)
    >>> "which need 32,000 GB" in grid_fault((1e5, 1e5), 0.1)
    True
    """
    points = math.prod(math.ceil(side / pixel_size - 1e-6) for side in extent)
    if points <= MOST_POINTS:
        return None
    least = math.sqrt(math.prod(extent) / MOST_POINTS) * 1.001
    return (
        f"a field of {extent[0]:g} x {extent[1]:g} Å has {points:.3g} pixels of {pixel_size:g} Å, which need "
        f"{BYTES_A_POINT * points / 1e9:,.0f} GB; at most {MOST_POINTS:.3g} are calculated: take pixels of "
        f"{least:.3g} Å or more, or a smaller field"
    )
