"""Amorphous carbon by random packing."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from passband.errors import ParameterError

LEAST_DISTANCE = 1.4
"""Between two carbon atoms, Å: a bond of graphite is 1.42, of diamond 1.54."""
DENSITY = 0.11
"""Atoms per Å³: 2.2 g/cm³, evaporated carbon."""
_DENSEST = 0.2  # atoms/Å³; random packing jams at 0.38 of the volume, which is 0.27


def amorphous_carbon(
    extent: tuple[float, float, float], *, seed: int, density: float = DENSITY
) -> Float64[np.ndarray, "n 3"]:
    """Positions of carbon atoms packed at random, no two closer than 1.4 Å.

    Points are drawn uniformly and kept where they are far enough from all points kept before, until the
    density is reached exactly. The slab is periodic in x and y; its two faces are flat.

    Parameters
    ----------
    extent
        Of the slab in x, y and z, Å.
    seed
        Each seed gives another slab, the same each time.
    density
        Atoms per Å³, up to 0.2.

    Returns
    -------
    array
        (n, 3), columns x, y, z in Å, inside [0, extent).

    Raises
    ------
    ParameterError
        If the slab has no thickness, is not wider than two distances, or the density cannot be packed.

    Examples
    --------
    >>> carbon = amorphous_carbon((40.0, 40.0, 20.0), seed=1)
    >>> len(carbon) == round(0.11 * 40 * 40 * 20)
    True
    """
    wrong = []
    if not all(math.isfinite(v) for v in extent):
        wrong.append(f"its extent must be finite, got {extent}")
    elif min(extent[:2]) <= 2 * LEAST_DISTANCE or extent[2] <= 0:
        wrong.append(
            f"it must extend over more than {2 * LEAST_DISTANCE} Å in x and y and 0 in z, got {extent}"
        )
    if not 0 < density <= _DENSEST:
        wrong.append(f"its density must be above 0 and at most {_DENSEST} atoms/Å³, got {density}")
    if wrong:
        raise ParameterError(f"amorphous carbon: {'; '.join(wrong)}")
    box = np.array(extent, np.float64)
    wanted = round(density * float(box.prod()))
    rng = np.random.default_rng([seed, 0xC])
    period = np.array([box[0], box[1], 0.0])  # 0: not periodic
    kept = np.empty((0, 3))
    for _ in range(100):
        missing = wanted - len(kept)
        # What a further point's chance to find room is, guessed from below: excluded volumes overlap.
        room = max(0.15, 1 - 4 / 3 * math.pi * LEAST_DISTANCE**3 * len(kept) / float(box.prod()))
        points = rng.random((min(int(missing / room) + 16, 4 * wanted + 16), 3)) * box
        points = np.minimum(points, np.nextafter(box, 0))
        if len(kept):
            points = points[_far_from(points, kept, period)]
        kept = np.concatenate([kept, points[_far_from_earlier(points, period)]])
        if len(kept) >= wanted:
            return kept[:wanted]
    raise ParameterError(
        f"amorphous carbon: {len(kept)} of {wanted} atoms found room in {extent} Å; lower the density"
    )


def _far_from(
    points: Float64[np.ndarray, "n 3"], kept: Float64[np.ndarray, "m 3"], period: Float64[np.ndarray, 3]
) -> np.ndarray:
    distance, _ = cKDTree(kept, boxsize=period, balanced_tree=False, compact_nodes=False).query(
        points, distance_upper_bound=LEAST_DISTANCE
    )
    return np.isinf(distance)


def _far_from_earlier(points: Float64[np.ndarray, "n 3"], period: Float64[np.ndarray, 3]) -> np.ndarray:
    """Which points are kept when each in turn is refused if too close to one kept before."""
    pairs = cKDTree(points, boxsize=period, balanced_tree=False, compact_nodes=False).query_pairs(
        LEAST_DISTANCE, output_type="ndarray"
    )
    pairs.sort(axis=1)
    earlier, later = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].T
    kept = np.ones(len(points), bool)
    for i, j in zip(earlier.tolist(), later.tolist(), strict=True):
        if kept[i]:
            kept[j] = False
    return kept
