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
from passband.optics.periodogram import (
    fit_trend,
    ring_medians,
    take_periodogram,
    trend_basis,
)
from passband.optics.ring_doubts import (
    MOST_C30,
    MOST_DEFOCUS,
    Asked,
    checked,
    doubts_of,
    information_limit,
    rings_below,
    tilt_of,
)
from passband.optics.ring_model import (
    FOCUS,
    SPHERICAL,
    STEPS,
    Fitted,
    RingModel,
    RingProblem,
    Start,
    climb,
    fit_rings,
    refit_without_spots,
)
from passband.optics.ring_search import SAME, different, find_starts
from passband.types import Image, Vector
from passband.units import electron_wavelength

SMALLEST = 64
"""Pixels along the shorter side below which no ring is sought."""
SURE_SIGN = 0.99
"""Probability from which a sign is told."""
PULL = 50.0
"""Å, times the share of spots: how far crystals, which lie in another plane, pull the film's focus."""
LARGEST_C30 = 1e8
"""Å, of either sign."""
BEYOND = 1.1
"""Times the information limit: as far as the last fit looks."""
_TRIED = 4
_FIRST = 0.42  # 1/Å; how far out starts are compared before the best are followed to the end


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
    C30, C30_error
        Spherical aberration, Å: as given, with an error of 0, or fitted.
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
        Why, or what failed and what to try.
    """

    defocus: float
    defocus_error: float
    sign: int
    sign_confidence: float
    C12: float
    C12_error: float
    phi12: float
    phi12_error: float
    C30: float
    C30_error: float
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


def fit_thon_rings(
    pixels: Image,
    *,
    pixel_size: float,
    energy: float,
    C30: float | tuple[float, float] | None = None,
    most_defocus: float = MOST_DEFOCUS,
    most_astigmatism: float | None = None,
) -> ThonFit:
    """Defocus and astigmatism of a micrograph, from the Thon rings of its amorphous film.

    Focal spread, illumination, dose, drift and camera need not be known. An answer is believed only if its
    rings explain the spectrum: every zero where the lens puts it, no rings left over, and no better answer
    of either sign, of another spherical aberration, or in twice the range.

    Parameters
    ----------
    pixels
        float32 (y, x), at least 64 x 64, finite, in any unit.
    pixel_size
        Å. It can be checked by the rings only where C30 is large: the defocus goes with its square.
    energy
        eV.
    C30
        Third-order spherical aberration, Å; negative in an instrument that is corrected so. A pair is a
        range in which it is fitted; None is the range of uncorrected lenses, 0 to 3.5e7.
    most_defocus
        Largest size of C10 to be believed, Å.
    most_astigmatism
        Largest C12 to be believed, Å; by default half of the defocus.

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
    >>> fit_thon_rings(noise, pixel_size=0.2, energy=300e3, C30=0.0).believed
    False
    """
    spherical = (0.0, MOST_C30) if C30 is None else C30 if isinstance(C30, tuple) else (C30, C30)
    limits = {} if most_astigmatism is None else {"most_astigmatism": most_astigmatism}
    _check(
        pixels,
        {"pixel_size": pixel_size, "energy": energy, "most_defocus": most_defocus},
        limits,
        spherical,
    )
    if pixels.min() == pixels.max():
        return _nothing("the image is constant")
    seen = take_periodogram(pixels, pixel_size)
    if len(seen.power) < 500:
        return _nothing(f"only {len(seen.power)} frequencies are left beside the spots of crystals")
    problem = RingProblem(seen=seen, wavelength=electron_wavelength(energy))
    asked = Asked(
        pixel_size=pixel_size,
        energy=energy,
        C30=(min(spherical), max(spherical)),
        defocus=most_defocus,
        astigmatism=most_astigmatism,
    )
    models = _compete(problem, asked)
    if not models:
        return _nothing("no frequency of the image is low enough to look for rings")
    whole = refit_without_spots(problem, models[0].lens, free_C30=asked.free_C30)
    # Beyond the rings' end only noise would be followed, and closely, as rings are fine there.
    limit = information_limit(*whole)
    part = whole[0] if math.isnan(limit) else whole[0].below(BEYOND * limit)
    best = climb(part, whole[1].lens, free_C30=asked.free_C30, steps=2 * STEPS)
    if best.lens[SPHERICAL] < 0 <= asked.C30[0] < asked.C30[1]:  # a lens and its opposite have one spectrum
        best = replace(best, lens=best.lens * np.array([-1, -1, -1, -1, -1, 1, 1]))
    return _told(pixels, (part, best), whole, asked, models)


def _compete(problem: RingProblem, asked: Asked) -> list[RingModel]:
    """Fits from the most striking starts, the best first."""
    starts = find_starts(problem, asked.reach)
    if not starts:
        return []
    tried = different(starts)[: 2 * _TRIED if asked.free_C30 else _TRIED]
    if any(asked.C30):  # the best of the other sign, too
        tried += different([s for s in starts if s.lens[0] * tried[0].lens[0] < 0])[:1]
    # Where few rings are in view the trend can follow the slow ones, and twice the focus stands out.
    half = tried[0].lens * np.array([0.5, 0.5, 0.5, 1, 1, 1, 1])
    tried.append(replace(tried[0], lens=half))
    near = problem.below(_FIRST)
    first = [(fit_rings(near, s, free_C30=asked.free_C30), s) for s in tried]
    first.sort(key=lambda pair: -pair[0].gain)
    if near is problem:
        return [model for model, _ in first]
    # To the end go the best two, and what is seen only far out.
    best = [Start(lens=m.lens, cut=_FIRST, score=s.score) for m, s in first[:2]]
    far = different([s for s in starts if s.cut > _FIRST])[:2]
    chosen = different(best + far)
    return sorted((fit_rings(problem, s, free_C30=asked.free_C30) for s in chosen), key=lambda m: -m.gain)


def _told(pixels: Image, fit: Fitted, whole: Fitted, asked: Asked, others: list[RingModel]) -> ThonFit:
    """A fitted model in the user's terms."""
    problem, model = fit
    focus, a, b = model.lens[:3]
    free = model if asked.free_C30 else climb(problem, model.lens, model.trend, model.contrast, free_C30=True)
    rivals = [m for m in others[1:] if not _alike(m, others[0])]
    rival = max(rivals, key=lambda m: m.gain, default=None)
    margin = math.inf if rival is None else others[0].gain - rival.gain
    opposite = max((m.gain for m in others if m.lens[FOCUS] * others[0].lens[FOCUS] < 0), default=-math.inf)
    lead = others[0].gain - opposite
    doubts = doubts_of(fit, whole, free, asked, (margin, 0.0 if rival is None else float(rival.lens[FOCUS])))
    doubts = doubts or tilt_of(pixels, problem, model, asked)
    limit = information_limit(problem, model)
    deviation = math.sqrt(model.covariance[FOCUS, FOCUS])
    # Both the spectra of two signs and zero between them may leave the sign open.
    certainty = min(special.expit(lead), special.ndtr(abs(focus) / deviation)) if any(asked.C30) else 0.5
    if asked.free_C30:  # it is its C30's sign that tells, where one is ruled out
        known = float(model.lens[SPHERICAL]) / max(math.sqrt(model.covariance[SPHERICAL, SPHERICAL]), 1e-9)
        certainty = special.ndtr(known) if asked.C30[0] >= 0 else 0.5
    sign = (-1 if focus > 0 else 1) if not doubts and certainty >= SURE_SIGN else 0
    if sign == 0 and focus > 0:
        a, b = -a, -b
    size = math.hypot(a, b)
    angle = math.atan2(b, a)
    along, across = (np.array([math.cos(t), math.sin(t)]) for t in (angle, angle + math.pi / 2))
    plane = model.covariance[1:3, 1:3]
    return ThonFit(
        defocus=float(abs(focus)),
        defocus_error=math.hypot(deviation, PULL * problem.seen.spots),
        sign=sign,
        sign_confidence=float(max(certainty, 0.5)),
        C12=size,
        C12_error=math.sqrt(along @ plane @ along),
        phi12=0.5 * angle % math.pi,
        phi12_error=min(0.5 * math.sqrt(across @ plane @ across) / max(size, 1e-9), math.pi / math.sqrt(12)),
        C30=float(model.lens[SPHERICAL]),
        C30_error=math.sqrt(model.covariance[SPHERICAL, SPHERICAL]),
        information_limit=limit,
        rings=rings_below(problem, model, limit),
        gain=model.gain,
        margin=margin,
        spots=problem.seen.spots,
        believed=not doubts,
        reason="; ".join(doubts) or _why(model, free, asked, limit),
    )


def _why(model: RingModel, free: RingModel, asked: Asked, limit: float) -> str:
    """What a believed fit rests on, and what it takes as given."""
    rings = f"the rings explain the spectrum to {limit:.2f} /Å (evidence {model.gain:.0f})"
    if asked.free_C30:
        return f"{rings}, with the Cs that they tell if pixel size and energy are right"
    given = "pixel size and energy are taken as given"
    if checked(free):
        return f"{rings}, and tell the Cs given"
    return f"{rings}; {given}: without much Cs rings cannot check them"


def _alike(one: RingModel, other: RingModel) -> bool:
    """Whether two fits are one answer, within their errors; the sign left aside."""
    error = 3 * math.sqrt(max(one.covariance[FOCUS, FOCUS], other.covariance[FOCUS, FOCUS]))
    return abs(abs(float(one.lens[FOCUS])) - abs(float(other.lens[FOCUS]))) <= max(SAME, error)


def _nothing(reason: str) -> ThonFit:
    """The answer for an image in which nothing can be fitted."""
    unknown = ("defocus", "defocus_error", "C12", "C12_error", "phi12", "phi12_error", "C30", "C30_error")
    nan = dict.fromkeys((*unknown, "information_limit"), math.nan)
    zero = dict.fromkeys(("rings", "gain", "margin", "spots"), 0.0)
    return ThonFit(**nan, **zero, sign=0, sign_confidence=0.5, believed=False, reason=reason)


def _check(
    pixels: Image,
    positive: dict[str, float],
    others: dict[str, float] | None = None,
    C30: tuple[float, ...] = (),
) -> None:
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
    if not all(abs(v) <= LARGEST_C30 for v in C30) or len(C30) > 2:
        given = C30[0] if len(set(C30)) == 1 else C30
        faults.append(
            f"C30 must be a number of Å of at most {LARGEST_C30:g} (10 mm), or a pair of them, got {given!r}"
        )
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
