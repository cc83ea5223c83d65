"""What a model says of a library's particles: as one value, as a table, and how doubtful each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from passband.particles.library.library import ParticleLibrary
from passband.particles.model import Description, ParticleModel
from passband.particles.networks.invariant import Classification


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifiedLibrary:
    """A library, and what a model says of each of its particles.

    Parameters
    ----------
    library
        Of n particles, at least one.
    model
        Whose crops are of the library's size.
    answer
        Class probabilities and distances.
    description
        Poses and factors; None of a model that gives classes alone.
    """

    library: ParticleLibrary
    model: ParticleModel
    answer: Classification
    description: Description | None

    def __len__(self) -> int:
        return len(self.library)

    @property
    def probability(self) -> Float32[np.ndarray, " n"]:
        """Of the most probable class."""
        most: np.ndarray = self.answer.probabilities.max(1)
        return most

    @property
    def doubt(self) -> Float32[np.ndarray, " n"]:
        """1 - probability, plus the distance: least for the typical members of a class."""
        doubt: np.ndarray = 1 - self.probability + self.answer.distance
        return doubt


def join_descriptions(parts: Sequence[Description], answer: Classification) -> Description:
    """Descriptions of consecutive particles as one.

    Parameters
    ----------
    parts
        At least one.
    answer
        Of all the particles.
    """
    names = [f.name for f in fields(Description) if f.name != "answer"]
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Description(answer=answer, **whole)


def class_columns(found: ClassifiedLibrary) -> dict[str, npt.NDArray[Any]]:
    """The columns of classes.csv, each of length n.

    Returns
    -------
    dict of str to array
        The particle's id, its class, the probability of each class, distance and whether it is rejected;
        from a model with an autoencoder also angle (degrees anticlockwise from the class's labelled
        orientation) with its standard deviation, shift to the right and up (crop pixels), scale, factors
        and misfit.
    """
    a, d, classes = found.answer, found.description, found.model.classes
    columns: dict[str, npt.NDArray[Any]] = {
        "particle": found.library.table["particle"],
        "class": np.array(classes, np.str_)[a.label],
    }
    columns |= {f"probability_{name}": a.probabilities[:, k] for k, name in enumerate(classes)}
    columns |= {"distance": a.distance, "rejected": a.rejected}
    if d is not None:
        columns |= {"angle_degrees": d.angle, "angle_spread_degrees": d.angle_spread}
        columns |= {"shift_right_px": d.shift[:, 0], "shift_up_px": d.shift[:, 1], "relative_scale": d.scale}
        columns |= {f"factor_{j + 1}": d.latent[:, j] for j in range(d.latent.shape[1])}
        columns |= {"misfit": d.misfit}
    return columns
