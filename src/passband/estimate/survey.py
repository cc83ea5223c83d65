"""What holds of a whole folder, from a few of its images labelled and a guess, the proxy, at all of them.

The labelled images are a random sample of the folder, so what is said is valid whatever the proxy: a good
one narrows the intervals, a poor one widens them. Every quantity is a ratio of totals over the folder, its
mean among them (the denominator of each image is then 1), and is told by the labels corrected for how far
the drawn images' proxy lies from that of all:

    ratio of the labelled + (proxy of all - proxy of the labelled)

With denominators of 1 it is the difference estimator with lambda = 1, of which prediction-powered inference
is the case of an endless folder. Lambda is not tuned: at ten labels that costs coverage. The interval is
Student's, of the residuals, with the correction of a finite population; strata are weighed by their sizes,
with Satterthwaite's degrees of freedom.

A few crowded images hold most of a folder's objects, and ten images seldom hold one of these: the spread of
their residuals says too little of what was not drawn. Where a size of each image is given, the residuals are
taken to be as large: the variance grows where the folder's images are larger than the drawn, and the degrees
of freedom (Satterthwaite's again) are those of the few large ones among the drawn.

References
----------
W. G. Cochran, Sampling Techniques, 3rd ed., Wiley (1977), chapters 5 to 7: strata, ratios, differences.
R. M. Royall, W. G. Cumberland, J. Am. Stat. Assoc. 76 (1981) 66, doi:10.1080/01621459.1981.10477604: that
the width of a ratio should follow from the sizes of the drawn.
C.-E. Särndal, B. Swensson, J. Wretman, Model Assisted Survey Sampling, Springer (1992).
A. N. Angelopoulos et al., Prediction-powered inference, Science 382 (2023) 669, doi:10.1126/science.adi6000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from passband.errors import ParameterError
from passband.estimate.sampling import Design, Labels
from passband.types import Vector

Sizes = Float64[np.ndarray, "_"]

MORE = 10
"""How many further labels a prediction is for."""
_TINY = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratio:
    """A ratio of totals over the population, known of the labelled and guessed of all.

    Parameters
    ----------
    numerator, denominator
        float64 (k,): of the labelled members, in the order of the design.
    proxy_numerator, proxy_denominator
        float64 (n,): the guess at each member of the population.
    lowest, highest
        Between which the ratio must lie.
    reach
        How far above the others' the ratio of one member may lie, or None where it can be 1 at most; below,
        it can be 0. Used only where the labelled do not tell, since all have the same residual.
    size
        float64 (n,), more than zero: how large the residual of each member is beside those of others, or
        None where no member is larger than another.
    """

    numerator: Labels
    denominator: Labels
    proxy_numerator: Vector
    proxy_denominator: Vector
    lowest: float = 0.0
    highest: float = 1.0
    reach: float | None = None
    size: Vector | None = None

    def without_proxy(self) -> Ratio:
        """The same, told by the labels alone."""
        same = np.ones(len(self.proxy_numerator))
        return replace(self, proxy_numerator=same, proxy_denominator=same)


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """What a population's labels tell of it.

    Parameters
    ----------
    value, low, high
        The estimate and the ends of its interval.
    width_with_more
        What the interval's width would be with `MORE` further labels, as far as these tell; NaN with one.
    """

    value: float
    low: float
    high: float
    width_with_more: float

    def scaled(self, factor: float) -> Surveyed:
        """All of it in another unit, or of a total in place of a mean."""
        return Surveyed(
            value=self.value * factor,
            low=self.low * factor,
            high=self.high * factor,
            width_with_more=self.width_with_more * factor,
        )


def mean_of(
    values: Labels,
    proxy: Vector,
    design: Design,
    *,
    reach: float | None = None,
    size: Vector | None = None,
) -> Ratio:
    """The mean of a quantity as a ratio; of a score unless a reach is given.

    Parameters
    ----------
    values
        float64 (k,): of the labelled members.
    proxy
        float64 (n,): the guess at each member.
    design
        Says how many there are.
    reach
        None for a score in [0, 1]; else how far a member may lie above the others, for a quantity that has
        no upper bound.
    size
        As in `Ratio`.

    Examples
    --------
    The labelled part of the population is known, whatever the others are:

    >>> four = Design(strata=np.zeros(4, np.int64), labelled=np.array([0, 3]))
    >>> score = mean_of(np.array([1.0, 0.5]), np.full(4, 0.5), four)
    >>> score.lowest, score.highest
    (0.375, 0.875)
    """
    known = float(values.sum()) / design.n
    unknown = 1 - design.k / design.n
    return Ratio(
        numerator=values,
        denominator=np.ones(design.k),
        proxy_numerator=proxy,
        proxy_denominator=np.ones(design.n),
        lowest=known,
        highest=known + unknown if reach is None else math.inf if unknown else known,
        reach=reach,
        size=size,
    )


def survey_ratio(ratio: Ratio, design: Design) -> Surveyed | None:
    """What the labels and the proxy tell of a ratio of totals.

    Where all labelled members have the same residual its spread is unknown, not zero. The interval is then
    as wide as the members may make it that are different and were missed by the draw: so many as would be
    missed in one draw of ten (at a coverage of .9), each as far off as it can be. With 10 labels of a large
    population these are 21 % of it: the rule of three, without its approximation.

    Parameters
    ----------
    ratio
        Of the labelled, and the guess at all.
    design
        Who is labelled.

    Returns
    -------
    Surveyed or None
        None where the denominators of all the labelled are zero: there is no ratio. One label of several
        members gives the whole range; with all labelled the interval has no width.

    Raises
    ------
    ParameterError
        If a length is not that of the design, or a value is not finite.

    References
    ----------
    J. A. Hanley, A. Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249 (1983) 1743,
    doi:10.1001/jama.1983.03330370053031.
    F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110, doi:10.2307/3002019.

    Examples
    --------
    A guess that is too high by the same amount everywhere is corrected:

    >>> ten = Design(strata=np.zeros(10, np.int64), labelled=np.array([1, 4, 7]))
    >>> proxy = np.linspace(0.4, 0.8, 10)
    >>> round(survey_ratio(mean_of(proxy[ten.labelled] - 0.1, proxy, ten), ten).value, 6)
    0.5
    """
    _check(ratio, design)
    weights, labelled = design.weights, design.labelled
    there = float(weights @ ratio.denominator)
    if there <= 0:
        return None
    guessed = float(weights @ ratio.proxy_denominator[labelled])
    if guessed <= 0:  # nothing is guessed to be in the drawn ones: no correction could be made
        ratio, guessed = ratio.without_proxy(), float(design.n)
    measured = float(weights @ ratio.numerator) / there
    drawn = float(weights @ ratio.proxy_numerator[labelled]) / guessed
    everywhere = float(ratio.proxy_numerator.sum() / ratio.proxy_denominator.sum())
    value = min(max(measured + everywhere - drawn, ratio.lowest), ratio.highest)
    residuals = (ratio.numerator - measured * ratio.denominator) / (there / design.n)
    residuals -= (ratio.proxy_numerator - drawn * ratio.proxy_denominator)[labelled] / (guessed / design.n)
    low, high = _ends(ratio, design, value, residuals, design.k)
    if design.k == 1:
        more = math.nan
    else:
        more = float(np.diff(_ends(ratio, design, value, residuals, min(design.k + MORE, design.n)))[0])
    return Surveyed(value=value, low=low, high=high, width_with_more=more)


def survey_median(truth: Sequence[Sizes], found: Sequence[Sizes], design: Design) -> Surveyed | None:
    """What the labels and what was found tell of the median over all objects of all members.

    The share of objects up to a size is a ratio like any other; where it reaches one half is the median,
    and where it reaches the ends of one half's interval are those of the median's (Woodruff).

    Parameters
    ----------
    truth
        Sizes of the objects of each labelled member, k of float64 (any number,).
    found
        Sizes of the objects that were found in each member, n of them.
    design
        Who is labelled.

    Returns
    -------
    Surveyed or None
        The least size that half of the objects do not exceed; None where the labelled hold no object.

    References
    ----------
    R. S. Woodruff, Confidence intervals for medians and other position measures, J. Am. Stat. Assoc. 47
    (1952) 635, doi:10.1080/01621459.1952.10483443.

    Examples
    --------
    >>> both = Design(strata=np.zeros(2, np.int64), labelled=np.array([0, 1]))
    >>> survey_median([np.array([1.0, 2.0]), np.array([9.0])], [np.zeros(0), np.zeros(0)], both).value
    2.0
    """
    weights = design.weights
    there = float(sum(w * len(t) for w, t in zip(weights, truth, strict=True)))
    if not there:
        return None
    parts = [(t, w / there) for w, t in zip(weights, truth, strict=True)]
    guessed = float(sum(w * len(found[i]) for w, i in zip(weights, design.labelled, strict=True)))
    if guessed:
        total = sum(map(len, found))
        parts += [(f, 1 / total) for f in found]
        parts += [(found[i], -w / guessed) for w, i in zip(weights, design.labelled, strict=True)]
    sizes = np.concatenate([part for part, _ in parts])
    steps = np.repeat([step for _, step in parts], [len(part) for part, _ in parts])
    order = np.argsort(sizes, kind="stable")
    sizes, reached = sizes[order], np.cumsum(steps[order])
    last = np.append(sizes[1:] > sizes[:-1], True)  # what objects of one size add comes at once
    sizes, reached = sizes[last], np.maximum.accumulate(reached[last])

    def at(share: float) -> float:
        """Size up to which a share of the objects lies."""
        place = int(np.searchsorted(reached, share - _TINY))
        return float(sizes[min(place, len(sizes) - 1)])

    median = at(0.5)
    up_to = Ratio(
        numerator=np.array([float((t <= median).sum()) for t in truth]),
        denominator=np.array([float(len(t)) for t in truth]),
        proxy_numerator=np.array([float((f <= median).sum()) for f in found]),
        proxy_denominator=np.array([float(len(f)) for f in found]),
        size=np.array([1.0 + len(f) for f in found]),
    )
    share = survey_ratio(up_to, design)
    assert share is not None
    low, high = at(0.5 - (share.value - share.low)), at(0.5 + (share.high - share.value))
    more = math.nan
    if not math.isnan(share.width_with_more):
        more = at(0.5 + share.width_with_more / 2) - at(0.5 - share.width_with_more / 2)
    return Surveyed(value=median, low=low, high=high, width_with_more=more)


def _check(ratio: Ratio, design: Design) -> None:
    """Refuse what does not fit the design, all at once."""
    faults = []
    for name, wanted in (
        ("numerator", design.k),
        ("denominator", design.k),
        ("proxy_numerator", design.n),
        ("proxy_denominator", design.n),
    ):
        values = getattr(ratio, name)
        if values.shape != (wanted,) or not np.isfinite(values).all():
            faults.append(f"{name} must be {wanted} finite numbers, got {values.shape}")
    if faults:
        raise ParameterError("a ratio cannot be surveyed: " + "; ".join(faults))


def _ends(ratio: Ratio, design: Design, value: float, residuals: Labels, k: int) -> tuple[float, float]:
    """Ends of the interval that ``k`` labels with such residuals give."""
    if k == design.n:
        return value, value
    down, up = value - ratio.lowest, ratio.highest - value
    if design.k > 1:
        size = max(abs(value), float(np.abs(residuals).max()), 1e-300)
        half = _half_width(design, residuals, k, ratio.size)
        if half > _TINY * size:
            down, up = min(down, half), min(up, half)
        else:
            share = _share_missed(ratio, design, k)
            reach = max(0.0, 1 - value) if ratio.reach is None else ratio.reach or math.inf
            down, up = min(down, share * value), min(up, share * reach)
    return value - down, value + up


def _half_width(design: Design, residuals: Labels, k: int, size: Vector | None) -> float:
    """Student's, of the weighted mean of residuals of which there were ``k``."""
    from scipy.special import stdtrit

    sizes, labels = design.counted()
    strata = design.strata[design.labelled]
    residuals = residuals.copy()
    variance, freedom = 0.0, 0.0
    for stratum, (members, n) in enumerate(zip(sizes, labels, strict=True)):
        planned = min(members, n * k / design.k)
        if n < 2 or planned >= members:  # a stratum that is labelled whole, be it of one member
            continue
        part = (members / design.n) ** 2 * (1 - planned / members) / planned
        residuals[strata == stratum] -= residuals[strata == stratum].mean()
        part *= float((residuals[strata == stratum] ** 2).sum()) / (n - 1)
        variance += part
        freedom += part**2 / max(planned - 1, 1)
    if freedom == 0:
        return 0.0
    freedom = variance**2 / freedom
    if size is not None:
        squares, n, spare = size**2, design.n, len(set(strata.tolist()))
        drawn = squares[design.labelled]
        spread = float((residuals**2).sum() / drawn.sum()) * design.k / (design.k - spare)
        # The error is what the drawn stand for too much, less what was not drawn.
        unseen = float(((design.weights - 1) ** 2 * drawn).sum() + squares.sum() - drawn.sum()) / n**2
        variance = max(variance, spread * unseen * (1 / k - 1 / n) / (1 / design.k - 1 / n))
        # A spread told by a few large members is known no better than by so few.
        few = float(drawn.sum() ** 2 / (drawn**2).sum()) * k / design.k - spare
        freedom = min(freedom, max(few, 1.0))
    return float(stdtrit(freedom, (1 + design.coverage) / 2)) * math.sqrt(variance)


def _share_missed(ratio: Ratio, design: Design, k: int) -> float:
    """Share of the population that may differ and yet be missed by a draw of ``k``."""
    from scipy.special import gammaln

    n = design.n
    many = np.arange(n - k + 1)
    # How likely a draw misses all of so many: hypergeometric.
    missed = gammaln(n - many + 1) + gammaln(n - k + 1) - gammaln(n - many - k + 1) - gammaln(n + 1)
    count = int(np.flatnonzero(missed >= math.log(1 - design.coverage) - _TINY).max(initial=0))
    count = max(count, 1)
    others = np.delete(ratio.proxy_denominator, design.labelled)
    heaviest = np.sort(others)[::-1][:count].sum()
    return float(min(1.0, max(heaviest / ratio.proxy_denominator.sum(), count / n)))
