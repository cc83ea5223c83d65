"""What a few labelled images of an unknown detector say: like others, or alike on all images.

Two accounts of a detector are weighed by how likely they make the scores of its labelled images. By the
first it does as others do that answer so, give or take a domain's effect: what `Blend` says, moved. By the
second its scores scatter about a level of its own, whatever its answers look like. A detector whose labelled
images all score alike is told narrowly by the second, and one that fails where others fail by the first.

References
----------
J. Hoeting, D. Madigan, A. Raftery, C. Volinsky, Bayesian model averaging, Statist. Sci. 14 (1999) 382.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from passband.estimate.effects import ALIKE, DomainEffect, LabelledRows, learn, likelihood
from passband.types import Vector

PLAIN = np.array([4.0, 1e-9, 1e-9, 0.3, 1.0])
"""Variances, as `passband.estimate.effects.COMPONENTS`, about `LEVEL` where answers tell nothing."""
LEVEL = 0.3
"""Logit of an F1 of 0.57, about which PLAIN's level is wide."""
PLAIN_ALIKE = 3.0
"""How alike detectors are in their scatter about their level: less than domains of one are (`ALIKE`)."""
_FAR = 40.0
_HALVINGS = 50


class Mixture(NamedTuple):
    """Two Student's laws for each of n images and k scores, in logits: arrays (2, n, k), freedom (2,).

    The weight is of the first, (k,).
    """

    weight: Float64[np.ndarray, " k"]
    center: Float64[np.ndarray, "2 n k"]
    spread: Float64[np.ndarray, "2 n k"]
    freedom: Float64[np.ndarray, 2]


def weigh_accounts(
    effect: DomainEffect,
    labelled: LabelledRows,
    said: Float64[np.ndarray, "n k"],
    inputs: Float64[np.ndarray, "n p"],
    counts: Vector,
) -> Mixture:
    """Both accounts of some images, and how likely the labelled ones make each.

    Parameters
    ----------
    effect
        Of domains and detectors.
    labelled
        Images of the detector, with their measured scores.
    said
        What the regressor says of the images asked about, in logits.
    inputs, counts
        Of these, standardised, and their objects.

    Examples
    --------
    >>> effect = DomainEffect(variances=np.array([[1.0, 0.1, 0.5, 0.5, 1]]))
    >>> scores = np.array([[2.1], [1.9], [2.0], [2.1]])
    >>> some = LabelledRows(
    ...     domain="mine", inputs=np.zeros((4, 2)), counts=np.full(4, 50.0),
    ...     errors=scores - np.array([[1.0], [-2], [3], [0]]), scores=scores,
    ... )
    >>> both = weigh_accounts(effect, some, np.array([[3.0]]), np.zeros((1, 2)), np.full(1, 50.0))
    >>> bool(both.weight[0] < 0.1), quantile(both, 0.5).round(1).tolist()
    (True, [[2.0]])
    """
    k = len(effect.variances)
    plain = DomainEffect(variances=np.tile(PLAIN, (k, 1)))
    about = LabelledRows(
        domain=labelled.domain,
        inputs=labelled.inputs,
        counts=labelled.counts,
        errors=labelled.scores - LEVEL,
    )
    shift, spread = learn(effect, labelled, inputs, counts)
    level, scatter = learn(plain, about, inputs, counts, alike=PLAIN_ALIKE)
    odds = likelihood(plain, about, alike=PLAIN_ALIKE) - likelihood(effect, labelled)
    m = len(labelled.counts)
    return Mixture(
        weight=1 / (1 + np.exp(np.clip(odds, -700, 700))),
        center=np.stack([said + shift, LEVEL + level]),
        spread=np.stack([spread, scatter]),
        freedom=np.array([ALIKE, PLAIN_ALIKE]) + m,
    )


def quantile(mixture: Mixture, share: Float64[np.ndarray, " k"] | float) -> Float64[np.ndarray, "n k"]:
    """The logits below which a share of the mixture lies, by halving.

    Parameters
    ----------
    mixture
        Of n images and k scores.
    share
        Inside (0, 1); one for all, or one for each score.
    """
    from scipy.special import stdtr, stdtrit

    freedom = mixture.freedom[:, None, None]
    weights = np.stack([mixture.weight, 1 - mixture.weight])[:, None]
    # Beyond the quantiles of both laws there is no quantile of their mixture.
    ends = mixture.center + mixture.spread * np.clip(stdtrit(freedom, share), -_FAR, _FAR)
    low, high = ends.min(axis=0), ends.max(axis=0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = (weights * stdtr(freedom, (middle - mixture.center) / mixture.spread)).sum(axis=0)
        low, high = np.where(below < share, middle, low), np.where(below < share, high, middle)
    return np.asarray((low + high) / 2)
