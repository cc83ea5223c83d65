"""Ways to hold rows out: each protocol is a value that deals rows into folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from passband.errors import CalibrationError
from passband.estimate.regressor import image_folds, training_rows
from passband.estimate.rows import RowTable

_FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """Rows to train on and rows held out; a row may be neither.

    Parameters
    ----------
    name
        Of the domain, the set or the fold that is held out.
    train, out
        bool (n,), over all rows.
    """

    name: str
    train: Bool[np.ndarray, n]
    out: Bool[np.ndarray, n]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to hold rows out.

    Parameters
    ----------
    words
        What it asks, for a reader.
    folds
        From the rows and a seed to the folds.
    drawn
        Whether another seed deals other folds; whole domains can be left out in one way only.
    new_domains
        Whether all of a domain is held out, so that a few of its images can be shown.
    """

    words: str
    folds: Callable[[RowTable, int], tuple[Fold, ...]]
    drawn: bool
    new_domains: bool = False


def _random(table: RowTable, seed: int) -> tuple[Fold, ...]:
    # Every row counts as an image of its own: this is what makes the protocol optimistic.
    images = tuple(str(i) for i in range(len(table.images)))
    return _dealt(image_folds(images, _FOLDS, seed), images)


def _grouped(table: RowTable, seed: int) -> tuple[Fold, ...]:
    return _dealt(image_folds(table.images, _FOLDS, seed), table.images)


def _domains(table: RowTable, seed: int) -> tuple[Fold, ...]:
    _refuse_one(sorted(set(table.domains)), "domain")
    return _dealt(table.domains, table.images)


def _sets(table: RowTable, seed: int) -> tuple[Fold, ...]:
    tested = [sets_of(d) for d in table.domains]
    sets = sorted(set().union(*tested))
    _refuse_one(sets, "set")
    folds = []
    for name in sets:
        touched = np.array([name in t for t in tested])
        train = training_rows("1", [str(int(t)) for t in touched], table.images)
        # A row tested on several sets is trained on for none of them and held out for none.
        out = np.array([t == {name} for t in tested])
        if out.any():
            folds.append(Fold(name=name, train=train, out=out))
    if not folds:
        raise CalibrationError(f"every row was tested on several sets of {sets}: none can be left out")
    return tuple(folds)


PROTOCOLS: dict[str, Protocol] = {
    "random": Protocol(
        words="rows held out in five random folds: new images like those known", folds=_random, drawn=True
    ),
    "grouped": Protocol(
        words="images held out in five random folds: new images of known domains", folds=_grouped, drawn=True
    ),
    "leave-one-domain-out": Protocol(
        words="one domain held out at a time: images of a new domain",
        folds=_domains,
        drawn=False,
        new_domains=True,
    ),
    "leave-one-set-out": Protocol(words="one set of images left out at a time", folds=_sets, drawn=False),
}


def sets_of(domain: str) -> frozenset[str]:
    """Sets of images that a domain was tested on, by its label.

    Parameters
    ----------
    domain
        "TRAINED_TESTED", "SET: FOCUS" or "SET:FOCUS", where SET may join several by "&" and may carry a
        variant after "-".

    Returns
    -------
    frozenset of str
        One name or more.

    Examples
    --------
    >>> [sorted(sets_of(d)) for d in ("A&B_C", "A: over_under", "A&B_A&B", "B-starved:under")]
    [['C'], ['A'], ['A', 'B'], ['B']]
    """
    tested = domain.split(":")[0] if ":" in domain else domain.rsplit("_", 1)[-1]
    return frozenset(part.split("-")[0].strip() for part in tested.split("&"))


def _dealt(labels: Sequence[str], images: Sequence[str]) -> tuple[Fold, ...]:
    """One fold a label; its images are removed from the training rows wherever they occur."""
    names = np.asarray(labels)
    return tuple(
        Fold(name=name, train=training_rows(name, labels, images), out=names == name)
        for name in sorted(set(labels))
    )


def _refuse_one(names: Sequence[str], what: str) -> None:
    if len(names) < 2:
        raise CalibrationError(
            f"all rows are of one {what}, {names[0]!r}: leaving it out leaves nothing to train on; evaluate "
            "with the protocol 'grouped'"
        )
