"""What a new domain adds to every estimate of its images: how much to expect, and how to learn it.

Errors of estimates are alike within a domain: a material, an instrument or an annotator shifts them all.
In logits the error of an image is taken as the sum of a shift of its domain, a slope of its domain along
each input, a smooth change of its domain over the inputs, noise, and noise that falls with the number
of detections, since four objects say less than forty. The variances of the five are fitted to
estimates of domains that were left out. For a domain without labels they say how wide an interval must
be; with a few labelled images of it the same model says how far to move, and how much narrower it got.

Domains differ in how noisy they are as well: all five variances share a factor that is drawn for each
domain, inverse gamma with `ALIKE` degrees of freedom. So errors follow Student's law, and labelled images
that scatter more than was expected widen the intervals of their domain.

References
----------
A. Shah, A. Wilson, Z. Ghahramani, Student-t processes as alternatives to Gaussian processes, AISTATS 2014.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from passband.errors import CalibrationError
from passband.estimate.blend import squared_distances
from passband.types import Vector

SMOOTH = 1.5
"""Length scale of a domain's smooth change, in standard deviations of the inputs."""
MOST_ROWS = 150
"""Rows of a domain that the variances are fitted to."""
ALIKE = 6.0
"""How alike domains are in their noise: the fewer degrees of freedom, the less."""
COMPONENTS = ("shift", "slopes", "smooth", "noise", "few objects")
SHIFT_ALONE = np.array([1.0, 0, 0, 0, 0])
"""Adds to the variance of the shift only."""
_START = np.array([0.2, 0.1, 0.2, 0.3, 1.0])
_PRIOR = 0.15


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainEffect:
    """Variances of the parts of an error, in logits squared.

    Parameters
    ----------
    variances
        float64 (k, 5), a row for each score, columns as `COMPONENTS`, positive.

    Raises
    ------
    CalibrationError
        If they are not.
    """

    variances: np.ndarray

    def __post_init__(self) -> None:
        v = self.variances
        if v.dtype != np.float64 or v.ndim != 2 or v.shape[1:] != (len(COMPONENTS),):
            raise CalibrationError(
                f"variances must be float64 (k, {len(COMPONENTS)}), got {v.dtype} {v.shape}"
            )
        if not (np.isfinite(v).all() and (v > 0).all()):
            raise CalibrationError("variances must be positive and finite")


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledRows:
    """A few labelled images of the domain at hand.

    Parameters
    ----------
    domain
        Its name.
    inputs
        Standardised, float64 (m, p).
    counts
        Detections in each image, float64 (m,), at least 1.
    errors
        Measured less estimated score, in logits, float64 (m, k).
    scores
        Measured, in logits, likewise; none where they are not needed, float64 (0, 0).

    Raises
    ------
    CalibrationError
        Naming what does not fit.
    """

    domain: str
    inputs: np.ndarray
    counts: np.ndarray
    errors: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        m = len(self.counts)
        arrays = {"inputs": self.inputs, "counts": self.counts, "errors": self.errors}
        faults = [
            f"{name} must be finite float64 with {m} rows, got {a.dtype} {a.shape}"
            for name, a in arrays.items()
            if a.dtype != np.float64
            or len(a) != m
            or a.ndim != (1 if name == "counts" else 2)
            or not np.isfinite(a).all()
        ]
        if self.scores.size and (
            self.scores.shape != self.errors.shape or not np.isfinite(self.scores).all()
        ):
            faults.append(f"scores must be finite and as many as errors, got {self.scores.shape}")
        if not faults and (m == 0 or (self.counts < 1).any()):
            faults.append("wanted at least one image, with at least one detection each")
        if faults:
            raise CalibrationError("labelled images cannot be used: " + "; ".join(faults))


def fit_effect(
    inputs: Float64[np.ndarray, "n p"],
    counts: Vector,
    errors: Float64[np.ndarray, "n k"],
    domains: Sequence[str],
) -> DomainEffect:
    """Variances of greatest likelihood, with a weak prior that shares the error out among the parts.

    Parameters
    ----------
    inputs
        Standardised inputs of rows whose domain was left out of the fit that estimated them.
    counts
        Detections in each image, at least 1.
    errors
        Measured less estimated scores, in logits.
    domains
        Of each row.

    Returns
    -------
    DomainEffect
        For `expected_spread` and `learn`.

    References
    ----------
    S. Searle, G. Casella, C. McCulloch, Variance Components (1992), chapter 6.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shift = np.repeat(rng.normal(0, 2, 12), 20)[:, None]
    >>> effect = fit_effect(
    ...     rng.normal(size=(240, 2)), np.full(240, 30.0), shift + 0.1 * rng.normal(size=(240, 1)),
    ...     [str(i) for i in range(12) for _ in range(20)],
    ... )
    >>> bool(effect.variances[0, 0] > 10 * effect.variances[0, 3])
    True
    """
    names = np.asarray(domains)
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    members = [m if len(m) <= MOST_ROWS else rng.choice(m, MOST_ROWS, replace=False) for m in members]
    parts = [_parts(inputs[m], counts[m]) for m in members]
    return DomainEffect(
        variances=np.array([_fit([errors[m, j] for m in members], parts) for j in range(errors.shape[1])])
    )


def expected_spread(
    effect: DomainEffect, inputs: Float64[np.ndarray, "n p"], counts: Vector
) -> Float64[np.ndarray, "n k"]:
    """Standard deviation of the error of images of a domain without labels, in logits.

    Parameters
    ----------
    effect
        Fitted.
    inputs
        Standardised, float64 (n, p).
    counts
        Detections in each image; 0 counts as 1.

    Returns
    -------
    ndarray
        float64 (n, k).

    Examples
    --------
    >>> effect = DomainEffect(variances=np.array([[1.0, 0.5, 1, 1, 6]]))
    >>> expected_spread(effect, np.zeros((2, 8)), np.array([1.0, 6])).tolist()
    [[3.0], [2.0]]
    """
    shift, slopes, smooth, noise, few = effect.variances.T
    steep = (inputs**2).mean(axis=1)[:, None]
    variance = shift + slopes * steep + smooth + noise + few / np.maximum(counts, 1)[:, None]
    return np.asarray(np.sqrt(variance))


def learn(
    effect: DomainEffect,
    labelled: LabelledRows,
    inputs: Float64[np.ndarray, "n p"],
    counts: Vector,
    *,
    alike: float = ALIKE,
) -> tuple[Float64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """What a few labelled images say of the others of their domain.

    Parameters
    ----------
    effect
        Fitted on other domains.
    labelled
        Images of the domain.
    inputs, counts
        Of the images to be estimated.
    alike
        Degrees of freedom of the domains' common factor.

    Returns
    -------
    shift, spread
        To be added to the estimates in logits, and the scale of Student's law of what is left, with as many
        degrees of freedom more than `ALIKE` as there are labelled images (`radius`), float64 (n, k).

    Examples
    --------
    >>> effect = DomainEffect(variances=np.array([[1.0, 1e-9, 1e-9, 0.01, 1e-9]]))
    >>> errors = np.full((4, 1), 0.5)
    >>> some = LabelledRows(domain="new", inputs=np.zeros((4, 2)), counts=np.ones(4), errors=errors)
    >>> shift, spread = learn(effect, some, np.zeros((1, 2)), np.ones(1))
    >>> round(float(shift[0, 0]), 2), bool(spread[0, 0] < 0.2)
    (0.5, True)
    """
    m = len(labelled.counts)
    shift, spread = (np.empty((len(inputs), len(effect.variances))) for _ in range(2))
    across = squared_distances(labelled.inputs, inputs)
    prior = expected_spread(effect, inputs, counts)
    parts = _parts(labelled.inputs, labelled.counts)
    for j, variances in enumerate(effect.variances):
        level, slopes, smooth, noise, _ = variances
        known = _whole(variances, parts)
        shared = level + slopes * labelled.inputs @ inputs.T / inputs.shape[1]
        shared = shared + smooth * np.exp(-across / (2 * SMOOTH**2))
        errors = labelled.errors[:, j]
        solved = np.linalg.solve(known, np.column_stack([shared, errors]))
        weight = solved[:, :-1]
        shift[:, j] = weight.T @ errors
        scatter = float(errors @ solved[:, -1])  # m where it is as was expected
        left = np.maximum(prior[:, j] ** 2 - (shared * weight).sum(axis=0), noise)
        spread[:, j] = np.sqrt((alike + scatter) / (alike + m) * left)
    return shift, spread


def likelihood(
    effect: DomainEffect, labelled: LabelledRows, *, alike: float = ALIKE
) -> Float64[np.ndarray, " k"]:
    """Natural logarithm of the density of labelled images' errors, for each score.

    Parameters
    ----------
    effect
        By which they are distributed.
    labelled
        Images of one domain.
    alike
        Degrees of freedom of the domains' common factor.

    Examples
    --------
    >>> effect = DomainEffect(variances=np.array([[1e-9, 1e-9, 1e-9, 1.0, 1e-9]]))
    >>> one = LabelledRows(
    ...     domain="new", inputs=np.zeros((1, 2)), counts=np.ones(1), errors=np.zeros((1, 1))
    ... )
    >>> likelihood(effect, one, alike=1).round(3)  # Cauchy's density at 0 is 1 / pi
    array([-1.145])
    """
    m = len(labelled.counts)
    parts = _parts(labelled.inputs, labelled.counts)
    found = []
    for variances, errors in zip(effect.variances, labelled.errors.T, strict=True):
        factor = np.linalg.cholesky(_whole(variances, parts))
        scatter = float((np.linalg.solve(factor, errors) ** 2).sum())
        found.append(
            math.lgamma((alike + m) / 2)
            - math.lgamma(alike / 2)
            - m / 2 * math.log(alike * math.pi)
            - float(np.log(np.diag(factor)).sum())
            - (alike + m) / 2 * math.log1p(scatter / alike)
        )
    return np.array(found)


def radius(coverage: float, labelled: int = 0) -> float:
    """Half width, in scales, of an interval of Student's law.

    Parameters
    ----------
    coverage
        Inside (0, 1).
    labelled
        How many labelled images of the domain told its noise.

    Examples
    --------
    >>> round(radius(0.9), 2), round(radius(0.9, labelled=1000), 2)
    (1.94, 1.65)
    """
    from scipy.special import stdtrit

    return float(stdtrit(ALIKE + labelled, 0.5 + coverage / 2))


def _parts(z: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Covariances that the five variances multiply."""
    n, p = z.shape
    smooth = np.exp(-squared_distances(z, z) / (2 * SMOOTH**2))
    return [np.ones((n, n)), z @ z.T / p, smooth, np.eye(n), np.diag(1 / np.maximum(counts, 1))]


def _whole(variances: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """The covariance that variances and parts amount to."""
    return np.asarray(sum(v * c for v, c in zip(variances, parts, strict=True)))


def _fit(errors: list[np.ndarray], parts: list[list[np.ndarray]]) -> np.ndarray:
    """Minimise the negative log likelihood over the logarithms of the variances."""
    from scipy.optimize import minimize

    total = max(float(np.mean(np.concatenate(errors) ** 2)), 1e-6)
    start = np.log(total * _START)

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray]:
        variances = np.exp(logs)
        value = _PRIOR / 2 * float(((logs - start) ** 2).sum())
        slope = _PRIOR * (logs - start)
        for e, covariances in zip(errors, parts, strict=True):
            whole = _whole(variances, covariances)
            factor = np.linalg.inv(np.linalg.cholesky(whole))
            inverse = factor.T @ factor
            a = inverse @ e
            value += 0.5 * float(e @ a) - float(np.log(np.diag(factor)).sum())
            rest = inverse - np.outer(a, a)
            slope = slope + np.array(
                [0.5 * v * (rest * c).sum() for v, c in zip(variances, covariances, strict=True)]
            )
        return value, slope

    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(s - 6, s + 3) for s in start],
        options={"maxiter": 40},
    )
    return np.asarray(np.exp(found.x), np.float64)
