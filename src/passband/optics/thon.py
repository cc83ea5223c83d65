"""Thon rings: the ring spectrum of a micrograph, and the lens that its rings tell of.

An amorphous film scatters into all directions alike, so its power spectrum shows where the lens
transfers: rings at sin² chi. They give defocus and astigmatism without knowing the specimen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from passband.errors import ParameterError
from passband.optics.thon_fit import (
    Candidate,
    RingModel,
    RingProblem,
    RingSearch,
    find_candidates,
    fit_rings,
    fit_trend,
    log_likelihood,
    refit_without_spots,
    ring_medians,
    take_periodogram,
    trend_basis,
)
from passband.types import Image, Vector
from passband.units import electron_wavelength

SMALLEST = 64
"""Pixels along the shorter side below which no ring is sought."""
# The first three were chosen on the set "choose" of studies/thon_rings.py, and are judged there on another.
LEAST_GAIN = 25.0
"""Evidence, nats, of a fit to be believed: noise, searched all over, gives some too."""
LEAST_MARGIN = 4.0
"""Nats above the next best defocus of a fit to be believed."""
LEAST_RINGS = 1.0
"""Rings below the information limit of a fit to be believed: less could be the film's own spectrum."""
MOST_SPOTS = 0.5
"""Share of crystals' spots in the spectrum of a fit to be believed: above it, too little film is seen."""
SURE_SIGN = 0.99
"""Probability from which a sign is told."""
SAME = 20.0
"""Å; answers nearer than this are one."""
PULL = 50.0
"""Å, times the share of spots: how far crystals, which lie in another plane, pull the film's focus."""
_TRIED = 3
_STEP, _BAND = 0.02, 5  # 1/Å, and how many such steps make a band in which rings are looked for
_SEEN = 3.0  # nats: rings of a band that gain less cannot be told from noise


@dataclass(frozen=True, kw_only=True)
class RingProfile:
    """Power spectrum of a micrograph over rings, crystals' spots left out.

    Parameters
    ----------
    frequency
        Centre of each ring, 1/Å, ascending.
    power
        Mean power as told by the ring's median, over the median of all.
    background
        The smooth trend through rings and noise.
    signal
        ``power / background - 1``: rings about 0, between -1 and 1 where nothing but rings is seen.
    """

    frequency: Vector
    power: Vector
    background: Vector
    signal: Vector


@dataclass(frozen=True, kw_only=True)
class ThonFit:
    """Defocus and astigmatism told by a micrograph's Thon rings.

    Parameters
    ----------
    defocus
        Size of the mean defocus, Å, not negative. The plane in focus is that of the matter whose rings
        are seen, as a rule the middle of the amorphous film and not of what lies on it.
    defocus_error
        Standard error of `defocus`, Å.
    sign
        +1 underfocus, -1 overfocus, 0 where the fit is not believed or the spectrum does not tell: |sin chi|
        of the two differs by spherical aberration alone.
    sign_confidence
        Probability of the likelier sign, from 0.5 to 1.
    C12, C12_error
        Size of the twofold astigmatism and its standard error, Å.
    phi12, phi12_error
        Azimuth at which C10 + C12 cos 2(phi - phi12) is largest, from the x towards the y axis, in
        [0, pi), and its standard error, rad. With `sign` 0 it is that of underfocus; overfocus would
        add pi/2.
    information_limit
        Highest frequency up to which rings stand out of the noise, 1/Å.
    rings
        How many rings lie below the information limit.
    gain
        Log-likelihood of the rings above that of a spectrum without rings.
    margin
        Log-likelihood above that of the next best defocus that differs; infinite if none was found.
    spots
        Share of the frequencies left out as spots of crystals.
    believed
        Whether the defocus should be used.
    reason
        Why, or why not.
    """

    defocus: float
    defocus_error: float
    sign: int
    sign_confidence: float
    C12: float
    C12_error: float
    phi12: float
    phi12_error: float
    information_limit: float
    rings: float
    gain: float
    margin: float
    spots: float
    believed: bool
    reason: str

    @property
    def C10(self) -> float | None:  # noqa: N802
        """Defocus coefficient, Å, negative at underfocus; None where the sign is not told."""
        return -self.sign * self.defocus if self.sign else None


def ring_profile(pixels: Image, pixel_size: float) -> RingProfile:
    """Power over rings of equal frequency, with the smooth background under them.

    Parameters
    ----------
    pixels
        float32 (y, x), at least 64 x 64, finite.
    pixel_size
        Å.

    Returns
    -------
    RingProfile
        Rings one frequency step of the shorter side wide; empty for a constant image.

    Raises
    ------
    ParameterError
        If the image or the pixel size cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    >>> bool(np.abs(ring_profile(noise, 0.2).signal).mean() < 0.2)
    True
    """
    _check(pixels, {"pixel_size": pixel_size})
    if pixels.min() == pixels.max():
        none = np.zeros(0)
        return RingProfile(frequency=none, power=none, background=none, signal=none)
    seen = take_periodogram(pixels, pixel_size)
    frequency, power = ring_medians(seen, 1 / (min(pixels.shape) * pixel_size))
    trend = fit_trend(seen, trend_basis(seen, seen.frequency))
    background = np.exp(trend_basis(seen, frequency) @ trend)
    return RingProfile(frequency=frequency, power=power, background=background, signal=power / background - 1)


def fit_thon_rings(
    pixels: Image,
    *,
    pixel_size: float,
    energy: float,
    C30: float = 0.0,
    most_defocus: float = 3500.0,
    most_astigmatism: float = 120.0,
) -> ThonFit:
    """Defocus and astigmatism of a micrograph, from the Thon rings of its amorphous film.

    Focal spread, illumination, dose and camera need not be known.

    Parameters
    ----------
    pixels
        float32 (y, x), at least 64 x 64, finite, in any unit.
    pixel_size
        Å.
    energy
        eV.
    C30
        Third-order spherical aberration, Å. A negative one, which a corrected instrument may have, is
        refused.
    most_defocus
        Largest size of C10 sought, Å.
    most_astigmatism
        Largest C12 sought, Å.

    Returns
    -------
    ThonFit
        Always; `believed` says whether to use it.

    Raises
    ------
    ParameterError
        Naming every argument that cannot be used.

    References
    ----------
    A. Rohou, N. Grigorieff, J. Struct. Biol. 192 (2015) 216, doi:10.1016/j.jsb.2015.08.008, for the
    search; P. Whittle, J. R. Stat. Soc. B 15 (1953) 125, for the likelihood.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    >>> fit_thon_rings(noise, pixel_size=0.2, energy=300e3).believed
    False
    """
    _check(
        pixels,
        {"pixel_size": pixel_size, "energy": energy, "most_defocus": most_defocus},
        {"C30": C30, "most_astigmatism": most_astigmatism},
    )
    if pixels.min() == pixels.max():
        return _nothing("the image is constant")
    seen = take_periodogram(pixels, pixel_size)
    if len(seen.power) < 500:
        return _nothing(f"only {len(seen.power)} frequencies are left beside the spots of crystals")
    search = RingSearch(
        wavelength=electron_wavelength(energy),
        C30=C30,
        most_defocus=most_defocus,
        most_astigmatism=most_astigmatism,
    )
    problem = RingProblem(seen, search)
    found = find_candidates(problem)
    tried = _different(found)[:_TRIED]
    # Where few rings are in view the trend can follow the slow ones, and twice the focus stands out.
    tried.append(replace(tried[0], lens=tried[0].lens / 2))
    if C30:  # the best of the other sign, too
        tried += _different([c for c in found if c.lens[0] * tried[0].lens[0] <= 0])[:1]
    models = sorted((fit_rings(problem, c) for c in tried), key=lambda m: -m.gain)
    best = models[0]
    size = abs(best.lens[0])
    margin = best.gain - max((m.gain for m in models if abs(abs(m.lens[0]) - size) > SAME), default=-math.inf)
    lead = best.gain - max((m.gain for m in models if m.lens[0] * best.lens[0] < 0), default=-math.inf)
    problem, best = refit_without_spots(problem, best)
    return _told(problem, best, margin, lead)


def _told(problem: RingProblem, model: RingModel, margin: float, lead: float) -> ThonFit:
    """A fitted model in the user's terms."""
    focus, a, b = model.lens
    deviation = math.sqrt(model.covariance[0, 0])
    # Both the spectra of two signs and zero between them may leave the sign open.
    certainty = min(special.expit(lead), special.ndtr(abs(focus) / deviation)) if problem.search.C30 else 0.5
    limit = _information_limit(problem, model)
    k2 = np.linspace(problem.seen.low**2, max(limit, problem.seen.low) ** 2, 2000)
    rings = float(np.abs(np.diff(problem.search.cycles(k2, focus))).sum())
    believed, reason = _judge(model.gain, margin, problem.seen.spots, rings)
    sign = (-1 if focus > 0 else 1) if believed and certainty >= SURE_SIGN else 0
    if sign == 0 and focus > 0:
        a, b = -a, -b
    size = math.hypot(a, b)
    angle = math.atan2(b, a)
    along, across = (np.array([math.cos(t), math.sin(t)]) for t in (angle, angle + math.pi / 2))
    plane = model.covariance[1:, 1:]
    return ThonFit(
        defocus=float(abs(focus)),
        defocus_error=math.hypot(deviation, PULL * problem.seen.spots),
        sign=sign,
        sign_confidence=float(max(certainty, 0.5)),
        C12=size,
        C12_error=math.sqrt(along @ plane @ along),
        phi12=0.5 * angle % math.pi,
        phi12_error=min(0.5 * math.sqrt(across @ plane @ across) / max(size, 1e-9), math.pi / math.sqrt(12)),
        information_limit=limit,
        rings=rings,
        gain=model.gain,
        margin=margin,
        spots=problem.seen.spots,
        believed=believed,
        reason=reason,
    )


def _judge(gain: float, margin: float, spots: float, rings: float) -> tuple[bool, str]:
    """Whether a fit should be used, and a sentence on it."""
    evidence = f"evidence {gain:.0f}, where {LEAST_GAIN:.0f} is enough"
    if spots > MOST_SPOTS:
        return False, f"spots of crystals hold {100 * spots:.0f} % of the spectrum: too little film is seen"
    if gain < LEAST_GAIN:
        return False, f"no rings stand out ({evidence}): in focus, too noisy or without amorphous film"
    if margin < LEAST_MARGIN:
        return False, f"another defocus fits nearly as well (lead {margin:.1f}, {LEAST_MARGIN:.0f} wanted)"
    if not rings >= LEAST_RINGS:  # NaN where no band shows any
        return False, f"only {rings:.1f} rings in view, {LEAST_RINGS:.0f} wanted: too near to focus"
    return True, f"rings stand out with {evidence}"


def _information_limit(problem: RingProblem, model: RingModel) -> float:
    """Upper end of the bands, around the clearest, in which rings explain the power better than the trend."""
    seen = problem.seen
    trend, rings = problem.parts(model.lens, model.trend, model.contrast)
    gained = seen.looks * (log_likelihood(seen, trend * rings) - log_likelihood(seen, trend))
    by_step = np.bincount(((seen.frequency - seen.low) / _STEP).astype(np.intp), gained)
    below = np.concatenate([[0.0], np.cumsum(by_step)])
    wide = min(_BAND, len(by_step))
    bands = below[wide:] - below[:-wide]
    clearest = int(bands.argmax())
    if bands[clearest] < _SEEN:
        return math.nan
    faint = bands[clearest:] < _SEEN
    last = clearest + (int(faint.argmax()) if faint.any() else len(faint)) - 1
    # Half of a band that shows rings only just lies beyond them.
    return seen.low + _STEP * (last + wide / 2 if faint.any() else len(by_step))


def _different(found: list[Candidate]) -> list[Candidate]:
    """Candidates of different defocus, the most striking of each."""
    kept: list[Candidate] = []
    for c in found:
        if all(abs(c.lens[0] - k.lens[0]) > SAME for k in kept):
            kept.append(c)
    return kept


def _nothing(reason: str) -> ThonFit:
    """The answer for an image in which nothing can be fitted."""
    unknown = dict.fromkeys(
        ("defocus", "defocus_error", "C12", "C12_error", "phi12", "phi12_error", "information_limit"),
        math.nan,
    )
    zero = dict.fromkeys(("rings", "gain", "margin", "spots"), 0.0)
    return ThonFit(**unknown, **zero, sign=0, sign_confidence=0.5, believed=False, reason=reason)


def _check(pixels: Image, positive: dict[str, float], others: dict[str, float] | None = None) -> None:
    """Every fault of the arguments at once."""
    faults = [
        f"{name} must be a positive number, got {v!r}"
        for name, v in positive.items()
        if not (math.isfinite(v) and v > 0)
    ]
    faults += [
        f"{name} must be a finite number, not negative, got {v!r}"
        for name, v in (others or {}).items()
        if not (math.isfinite(v) and v >= 0)
    ]
    if pixels.ndim != 2 or min(pixels.shape) < SMALLEST:
        wanted = f"rings are sought in a (y, x) image of at least {SMALLEST} x {SMALLEST} pixels"
        faults.append(f"{wanted}, got shape {pixels.shape}")
    elif not np.isfinite(pixels).all():
        bad = int(pixels.size - np.isfinite(pixels).sum())
        faults.append(
            f"{bad} of {pixels.size} pixels are not finite: replace them, by their neighbours' median say"
        )
    if faults:
        raise ParameterError("; ".join(faults))
