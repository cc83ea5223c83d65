"""Amorphous networks that ship: periodic cubes of carbon and of silicon nitride, made once.

`studies/amorphous_networks.py` makes ``networks.npz``; films are cut from these cubes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float64, Int

NETWORKS = ("carbon", "nitride")
_STEPS = 65536  # of a side, that positions are stored in


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A cube of an amorphous solid, periodic along x, y and z.

    Parameters
    ----------
    side
        Å.
    numbers
        Atomic numbers, (n,).
    positions
        (n, 3), columns x, y, z in Å, inside [0, side).
    """

    side: float
    numbers: Int[np.ndarray, n]
    positions: Float64[np.ndarray, "n 3"]

    @property
    def density(self) -> float:
        """Atoms per Å³."""
        return len(self.numbers) / self.side**3


@cache
def network(name: str) -> Network:
    """One of the networks that ship.

    Parameters
    ----------
    name
        One of `NETWORKS`.

    Examples
    --------
    >>> round(network("carbon").density, 3)
    0.11
    """
    with (files(__package__) / "networks.npz").open("rb") as file, np.load(file) as held:
        side = float(held[f"{name}_side"])
        return Network(
            side=side,
            numbers=held[f"{name}_numbers"].astype(np.int64),
            positions=held[f"{name}_positions"] * (side / _STEPS),
        )
