"""Labelled images as rows: features by name, measured scores, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.in_domain import UNKNOWN, Taken
from passband.estimate.look import Seen
from passband.estimate.regressor import TARGETS, Inputs, Recipe, ScoreTable


@dataclass(frozen=True, kw_only=True)
class CalibrationRow:
    """One image on which the detector's scores were measured.

    Parameters
    ----------
    features
        Finite numbers by name.
    f1, precision, recall
        Measured scores in [0, 1]. NaN, which is 0/0 and means that nothing was matched, becomes 0: such
        rows are the worst failures and are never dropped.
    domain
        Where the image comes from: material, instrument, focus, or trained_tested.
    image
        The image's name, equal for two rows of one image.
    taken
        With what it was taken, as far as that is known.
    seen
        What the detector's network saw in it, or None.

    Raises
    ------
    CalibrationError
        Naming every score outside [0, 1] and every feature that is no finite number.

    Examples
    --------
    >>> nan = float("nan")
    >>> CalibrationRow(features={"count": 3}, f1=nan, precision=0, recall=0, domain="A", image="a").f1
    0.0
    """

    features: Mapping[str, float]
    f1: float
    precision: float
    recall: float
    domain: str
    image: str
    taken: Taken = UNKNOWN
    seen: Seen | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        faults = []
        for name in TARGETS:
            value = getattr(self, name)
            if math.isnan(value):
                object.__setattr__(self, name, 0.0)
            elif not 0 <= value <= 1:
                faults.append(f"{name} must be in [0, 1], got {value!r}")
        faults += number_faults(self.features)
        if faults:
            raise CalibrationError(
                f"row of image {self.image!r}, domain {self.domain!r}: " + "; ".join(faults)
            )
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))


@dataclass(frozen=True, kw_only=True, eq=False)
class RowTable:
    """Some rows as arrays.

    Parameters
    ----------
    names
        Of all features.
    features
        All of them, float64 (n, p), columns in the order of ``names``.
    inputs
        Those that a recipe's regressor sees, float64 (n, q).
    scores
        Measured, float64 (n, 3), columns in the order of `TARGETS`.
    domains, images, taken
        Of each row.
    """

    names: tuple[str, ...]
    features: Float64[np.ndarray, "n p"]
    inputs: Inputs
    scores: ScoreTable
    domains: tuple[str, ...]
    images: tuple[str, ...]
    taken: tuple[Taken, ...]

    def select(self, rows: np.ndarray) -> RowTable:
        """Some of the rows, by a boolean of each or by their numbers."""
        chosen = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            features=self.features[chosen],
            inputs=self.inputs[chosen],
            scores=self.scores[chosen],
            domains=tuple(self.domains[int(i)] for i in chosen),
            images=tuple(self.images[int(i)] for i in chosen),
            taken=tuple(self.taken[int(i)] for i in chosen),
        )


def tabulate(rows: Sequence[CalibrationRow], recipe: Recipe) -> RowTable:
    """Put rows into arrays, or say why they do not fit together.

    Parameters
    ----------
    rows
        At least one.
    recipe
        Whose inputs the rows must hold.

    Returns
    -------
    RowTable
        The features in the order of the first row.

    Raises
    ------
    CalibrationError
        If there is no row, or naming every row whose features differ from the first, and every input
        that is missing.
    """
    if not rows:
        raise CalibrationError("no rows came; wanted labelled images")
    names = tuple(rows[0].features)
    faults = []
    for r in rows:
        wrong = name_faults(set(r.features), set(names))
        if wrong:
            faults.append(
                f"row of image {r.image!r}, domain {r.domain!r}, unlike the first: " + ", ".join(wrong)
            )
    if missing := [n for n in recipe.inputs if n not in names]:
        faults.append(f"the model wants the features {missing} too")
    if faults:
        shown = faults if len(faults) <= 10 else [*faults[:10], f"and {len(faults) - 10} more"]
        raise CalibrationError("rows cannot be used: " + "; ".join(shown))
    return RowTable(
        names=names,
        features=np.array([[r.features[n] for n in names] for r in rows], np.float64),
        inputs=np.array([[r.features[n] for n in recipe.inputs] for r in rows], np.float64),
        scores=np.array([[getattr(r, t) for t in TARGETS] for r in rows], np.float64),
        domains=tuple(r.domain for r in rows),
        images=tuple(r.image for r in rows),
        taken=tuple(r.taken for r in rows),
    )


def name_faults(came: set[str], wanted: set[str]) -> list[str]:
    """In words, which names are missing and which are unknown."""
    faults = []
    if wanted - came:
        faults.append(f"missing features {sorted(wanted - came)}")
    if came - wanted:
        faults.append(f"unknown features {sorted(came - wanted)}")
    return faults


def number_faults(features: Mapping[str, float]) -> list[str]:
    """In words, which features are no finite number."""
    bad = {n: v for n, v in features.items() if not (isinstance(v, (int, float)) and math.isfinite(v))}
    return [f"features that are no finite number: {bad}"] if bad else []
