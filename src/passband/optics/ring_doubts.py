"""Why a fit of Thon rings should not be believed: whether its rings explain the spectrum, and no others do.

Each doubt is a sentence that says what failed and, where it can, what would fit better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from passband.optics.periodogram import log_likelihood, surplus, take_periodogram
from passband.optics.ring_model import (
    FOCUS,
    OFFSET,
    SPHERICAL,
    Fitted,
    Lens,
    RingModel,
    RingProblem,
    Start,
    by_phase,
    climb,
    fit_rings,
)
from passband.optics.ring_search import Reach, different, find_starts
from passband.types import Image
from passband.units import MM

# Chosen on the sets "choose ..." of studies/thon_cases.py, and judged on another.
LEAST_GAIN = 40.0
"""Evidence, nats, of a fit to be believed: noise, searched all over, gives some too."""
LEAST_MARGIN = 4.0
"""Nats above the next best defocus of a fit to be believed."""
LEAST_RINGS = 1.0
"""Rings below the information limit of a fit to be believed: less could be the film's own spectrum."""
MOST_SPOTS = 0.5
"""Share of crystals' spots in the spectrum of a fit to be believed: above it, too little film is seen."""
LEAST_SCORE, STRIKING = 7.5, 0.9
"""Standard deviations by which the rings of a fit to be believed stand out, and their share of the most."""
LEFT = ((10.0, 0.3), (8.0, 0.6))
"""Rings that a fit to be believed may leave: standard deviations, and as a share of the rings' own.

Noise, searched all over, gives 5 to 8.
"""
LEAST_EXPLAINED, NOISE = 0.9, 1.15
"""Share of the rings that a fit to be believed explains, unless no more than noise is left."""
MOST_OFF, MOST_EXCESS = 0.15, 2.5
"""rad, and times the noise: by how much 2 chi may lie off where the lens puts it, root mean square."""
MOST_OFFSET = 0.15
"""rad of amplitude contrast: twice the standard deviation of what carbon has."""
MOST_DEFOCUS = 20_000.0
"""Å."""
MOST_C30 = 3.5e7
"""Å; no objective lens in use has more."""
LEAST_BOUND = 300.0
"""Å of astigmatism that is within reach at any defocus."""
LEAST_HALF = 64
"""Pixels along each half of an image below which halves are not compared."""
LEAST_HALF_GAIN, LEAST_SHARE = 12.5, 0.15
"""Evidence, nats, of a half that is compared, and the share of the other half's that it must have."""
BETTER = 6.0
"""Nats by which another spherical aberration must fit better to be proposed."""
CLEAR = 300.0
"""Evidence, nats, below which every spherical aberration is tried before a fit is believed."""
MOST_ERROR = (20.0, 0.005)
"""Å, and as a share of the defocus: a fit to be believed errs less."""
MATTERS = (30.0, 0.02)
"""Å, and as a share of the defocus: by less than this a defocus may move with Cs or from half to half."""
_STEP, _BAND = 0.02, 5  # 1/Å, and how many such steps make a band in which rings are looked for
_SEEN = 3.0  # nats: rings of a band that gain less cannot be told from noise
_FEW = 8  # frequencies of a ring; of fewer the mean scatters
_BANDS = _SECTORS = 8
_SHARP = 9.0  # 1/rad²: cells whose phase is known less well do not say where zeros lie


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the fit was told, and asked to find.

    Parameters
    ----------
    pixel_size
        Å.
    energy
        eV.
    C30
        Å, least and most; the same where it is known.
    defocus, astigmatism
        Largest C10 and C12 to be believed, Å; no astigmatism means half of the defocus.
    """

    pixel_size: float
    energy: float
    C30: tuple[float, float]
    defocus: float
    astigmatism: float | None

    @property
    def free_C30(self) -> bool:  # noqa: N802
        """Whether the spherical aberration is to be found, too."""
        return self.C30[0] < self.C30[1]

    @property
    def reach(self) -> Reach:
        """Twice as far as anyone asks, whatever is to be believed, so that a better answer is seen."""
        # Where C30 is sought, too, the less plausible would only drown the right ones.
        share = 0.5 if self.free_C30 else 1.0
        return Reach(defocus=2 * max(MOST_DEFOCUS, self.defocus), astigmatism=share, C30=self.C30)


def doubts_of(
    fit: Fitted, whole: Fitted, free: RingModel, asked: Asked, rival: tuple[float, float]
) -> list[str]:
    """Everything that speaks against a fit, the plainest first; nothing if it should be believed.

    Parameters
    ----------
    fit
        The power as far out as rings are seen, and the best fit to it.
    whole
        The same of the whole band: rings may be there that the fit does not see.
    free
        The same with its spherical aberration fitted, too.
    asked
        Its terms.
    rival
        Log-likelihood above the next best defocus that differs, and that one, Å.
    """
    margin, other = rival
    problem, model = fit
    spots, rings = problem.seen.spots, rings_below(problem, model, information_limit(problem, model))
    if spots > MOST_SPOTS:
        return [f"spots of crystals hold {100 * spots:.0f} % of the spectrum: too little film is seen"]
    if model.gain < LEAST_GAIN:
        evidence = f"evidence {model.gain:.0f}, {LEAST_GAIN:.0f} wanted"
        doubts = [f"no rings stand out ({evidence}): in focus, too noisy or without amorphous film"]
    elif not rings >= LEAST_RINGS:  # NaN where no band shows any
        doubts = [f"only {rings:.1f} rings in view, {LEAST_RINGS:.0f} wanted: too near to focus"]
    else:
        doubts = _beyond(model, asked) + _unexplained(*whole, asked)
        if margin < LEAST_MARGIN:
            doubts.append(
                f"another defocus, {abs(other):.0f} Å, fits nearly as well "
                f"(lead {margin:.1f}, {LEAST_MARGIN:.0f} wanted)"
            )
        doubts += _too_uncertain(model, asked)
    if not asked.free_C30:
        better = _better(whole, model, asked, doubted=bool(doubts)) or _shifted(model, free, asked)
        doubts += [better] if better else []
    return doubts


def _too_uncertain(model: RingModel, asked: Asked) -> list[str]:
    error = math.sqrt(model.covariance[FOCUS, FOCUS])
    if error <= max(MOST_ERROR[0], MOST_ERROR[1] * abs(float(model.lens[FOCUS]))):
        return []
    if not asked.free_C30:
        return [f"the rings tell the defocus to ± {error:.0f} Å only"]
    low, high = (c / MM for c in asked.C30)
    return [
        f"the rings do not tell the spherical aberration, and between {low:g} and {high:g} mm of it the "
        f"defocus moves by ± {error:.0f} Å: give it"
    ]


def tolerance(lens: Lens) -> float:
    """Å by which the defocus of a fit to be believed may move."""
    return max(MATTERS[0], MATTERS[1] * abs(float(lens[FOCUS])))


def tilt_of(pixels: Image, problem: RingProblem, model: RingModel, asked: Asked) -> list[str]:
    """A doubt if opposite halves of the image are of different foci: a tilted film, or two heights."""
    height, width = pixels.shape
    if min(height, width) < 2 * LEAST_HALF:
        return []
    pairs = {
        "left and right": (pixels[:, : width // 2], pixels[:, width // 2 :]),
        "upper and lower": (pixels[: height // 2], pixels[height // 2 :]),
    }
    for name, halves in pairs.items():
        parts = [_half(half, problem, model, asked.pixel_size) for half in halves]
        if any(part is None for part in parts):
            continue
        (one, weak), (other, strong) = sorted(
            ((part, part.gain) for part in parts if part is not None), key=lambda pair: pair[1]
        )
        if strong > LEAST_HALF_GAIN and weak < LEAST_SHARE * strong:
            return [f"of its {name} halves one alone shows these rings: crop to it if the other has no film"]
        apart = abs(abs(float(one.lens[FOCUS])) - abs(float(other.lens[FOCUS])))
        error = math.hypot(*(math.sqrt(part.covariance[FOCUS, FOCUS]) for part in (one, other)))
        if weak > LEAST_HALF_GAIN and apart > max(4 * error, tolerance(model.lens)):
            foci = " and ".join(f"{abs(part.lens[FOCUS]):.0f}" for part in parts if part is not None)
            return [f"its {name} halves fit {foci} Å: a tilted film, or two heights"]
    return []


def _half(pixels: Image, problem: RingProblem, model: RingModel, pixel_size: float) -> RingModel | None:
    """The fit climbed on in a half of the image; None where it is constant or crystals fill it."""
    if pixels.min() == pixels.max():
        return None
    seen = take_periodogram(pixels, pixel_size)
    if len(seen.power) < 500:
        return None
    return climb(RingProblem(seen=seen, wavelength=problem.wavelength).below(problem.seen.high), model.lens)


def _beyond(model: RingModel, asked: Asked) -> list[str]:
    """The answer lies outside what was asked for."""
    lens = model.lens
    focus, size = abs(float(lens[FOCUS])), math.hypot(lens[1], lens[2])
    beyond = []
    if focus > asked.defocus:
        beyond.append(f"the rings fit a defocus of {focus:.0f} Å, beyond the {asked.defocus:.0f} Å asked for")
    most = max(0.5 * focus, LEAST_BOUND) if asked.astigmatism is None else asked.astigmatism
    if size > most + 10:
        which = "half of the defocus" if asked.astigmatism is None else f"the {most:.0f} Å asked for"
        beyond.append(f"the rings fit an astigmatism of {size:.0f} Å, beyond {which}")
    low, high = asked.C30
    slack = 3 * math.sqrt(model.covariance[SPHERICAL, SPHERICAL])
    if not low - slack <= lens[SPHERICAL] <= high + slack and asked.free_C30:
        low, high = low / MM, high / MM
        beyond.append(f"the rings fit a Cs of {lens[SPHERICAL] / MM:.2f} mm, outside {low:g} to {high:g} mm")
    return beyond


def _unexplained(problem: RingProblem, model: RingModel, asked: Asked) -> list[str]:
    """Zeros out of place, and rings left over."""
    found = []
    off, excess = _out_of_place(problem, model)
    if (off > MOST_OFF and excess > MOST_EXCESS) or abs(model.lens[OFFSET]) > MOST_OFFSET:
        off = max(off, 2 * abs(float(model.lens[OFFSET])))
        found.append(f"zeros do not lie where this lens puts them ({off:.1f} rad off)")
    share, noise = _explained(problem, model)
    if share < LEAST_EXPLAINED and noise > NOISE:
        found.append(f"its rings explain only {100 * max(share, 0):.0f} % of the spectrum's")
    here = replace(asked.reach, astigmatism=0.5, C30=(float(model.lens[SPHERICAL]),))
    starts = find_starts(problem, here)
    own = starts[0].score if starts else 0.0
    if own < LEAST_SCORE:
        found.append(
            f"no rings stand out of the noise ({own:.1f} standard deviations, {LEAST_SCORE:g} wanted)"
        )
    elif not any(_same(s, model, problem.wavelength) for s in starts if s.score > STRIKING * own):
        found.append(f"other rings, as of {abs(starts[0].lens[FOCUS]):.0f} Å, stand out more than its own")
    left = [s for s in find_starts(problem, here, model) if not _same(s, model, problem.wavelength)][:1]
    if left and any(left[0].score > max(seen, share * own) for seen, share in LEFT):
        found.append(
            f"rings are left that it does not explain, as of {abs(left[0].lens[FOCUS]):.0f} Å: two heights, "
            "or a wrong Cs, pixel size or energy"
        )
    return found


def _explained(problem: RingProblem, model: RingModel) -> tuple[float, float]:
    """Share of the rings about the trend that a fit explains, and what it leaves in units of the noise.

    Of the mean over azimuth along its own astigmatism, where rings are clearest.
    """
    seen, k2 = problem.seen, problem.k2
    focus, bend = float(model.lens[FOCUS]), 0.5 * float(model.lens[SPHERICAL]) * problem.wavelength**2
    # Squared frequency at which a lens without astigmatism has the same phase.
    phase = k2 * (problem.focus(model.lens) + bend * k2)
    round_k2, steep = k2.copy(), np.ones(len(k2), bool)
    for _ in range(5):
        slope = focus + 2 * bend * round_k2
        steep &= np.abs(slope) > 0.2 * abs(focus)
        round_k2 = round_k2 - np.where(steep, (focus + bend * round_k2) * round_k2 - phase, 0) / np.where(
            steep, slope, 1
        )
    steep &= (round_k2 > 0.2 * k2) & (round_k2 < 1.8 * k2)
    if steep.sum() < 500:
        return 1.0, 1.0
    ring = ((np.sqrt(round_k2[steep]) - math.sqrt(0.2) * seen.low) * max(seen.field)).astype(np.intp)
    held = np.bincount(ring)
    many = held > _FEW
    spread = float(surplus(seen, problem.mean(model.lens, model.trend, model.contrast).value).var())

    def excess(mean: np.ndarray) -> float:
        sums = np.bincount(ring, surplus(seen, mean)[steep])[many]
        return float((sums**2 / held[many]).mean()) * seen.looks / spread

    left = excess(problem.mean(model.lens, model.trend, model.contrast).value)
    before = excess(np.exp(problem.smooth @ problem.trend_basis))
    return 1 - (left - 1) / max(before - 1, 1e-9), left


def _same(start: Start, model: RingModel, wavelength: float) -> bool:
    """Whether rings are the fit's own: their contrast, not their place, is what it misses."""
    return float(np.abs(start.lens[:SPHERICAL] - model.lens[:SPHERICAL]).max()) < 0.5 / (
        wavelength * start.cut**2
    )


def _out_of_place(problem: RingProblem, model: RingModel) -> tuple[float, float]:
    """How far 2 chi is off over the bands and sectors that tell it.

    Its root mean square with the noise taken off, rad, and its mean square in units of the noise's.
    """
    seen = problem.seen
    mean = problem.mean(model.lens, model.trend, model.contrast)
    slope, rest = by_phase(mean), surplus(seen, mean.value)
    band = (seen.frequency - seen.low) / (seen.high - seen.low) * _BANDS
    sector = (seen.azimuth % math.pi) / math.pi * _SECTORS
    cell = np.minimum(band.astype(np.intp), _BANDS - 1) * _SECTORS + sector.astype(np.intp) % _SECTORS
    pull, known = (
        seen.looks * np.bincount(cell, v, minlength=_BANDS * _SECTORS) for v in (rest * slope, slope**2)
    )
    sharp = known > _SHARP
    if not sharp.any():
        return 0.0, 0.0
    square, noise = (pull[sharp] / known[sharp]) ** 2, 1 / known[sharp]
    return math.sqrt(max(0.0, float((square - noise).mean()))), float((square / noise).mean())


def _better(whole: Fitted, model: RingModel, asked: Asked, *, doubted: bool) -> str:
    """The spherical aberration or pixel size that fits better, wherever it is; of a fit that may be wrong."""
    problem, seen = whole
    if not doubted and model.gain > CLEAR:
        return ""
    everywhere = replace(asked.reach, astigmatism=0.5, C30=(0.0, max(MOST_C30, *asked.C30)))
    starts = different(find_starts(problem, everywhere))[:4]
    free = max((fit_rings(problem, s, free_C30=True) for s in starts), key=lambda m: m.gain, default=seen)
    if free.gain < max(seen.gain + BETTER, LEAST_GAIN):
        return ""
    said, moved = _proposal(model, free, asked)
    return said if doubted or moved > tolerance(model.lens) else ""


def _shifted(model: RingModel, free: RingModel, asked: Asked) -> str:
    """Another spherical aberration or pixel size that fits better nearby, where it matters."""
    if free.gain < model.gain + BETTER:
        return ""
    said, moved = _proposal(model, free, asked)
    return said if moved > tolerance(model.lens) else ""


def _proposal(model: RingModel, free: RingModel, asked: Asked) -> tuple[str, float]:
    """What would fit better, and by how much the defocus would move, Å."""
    told, fitted = asked.C30[0], float(free.lens[SPHERICAL])
    was, other = (abs(float(m.lens[FOCUS])) for m in (model, free))
    proposals, moved = [f"a Cs of {fitted / MM:.2f} mm"], abs(other - was)
    if told > 0 and fitted > 0:  # frequencies that are scaled change the k⁴ of Cs more than the k² of focus
        scale = (told / fitted) ** 0.25
        proposals.append(f"pixels of {asked.pixel_size * scale:.3g} Å")
        moved = max(moved, abs(other * scale**2 - was))
    return f"the rings fit {' or '.join(proposals)} better, with a defocus of {other:.0f} Å", moved


def checked(free: RingModel) -> bool:
    """Whether the rings tell the spherical aberration, and by it the pixel size, to a tenth."""
    return 10 * math.sqrt(free.covariance[SPHERICAL, SPHERICAL]) < abs(float(free.lens[SPHERICAL]))


def rings_below(problem: RingProblem, model: RingModel, limit: float) -> float:
    """How many rings lie between the band's lower end and a limit, on average over azimuth."""
    low = problem.seen.low
    k2 = np.linspace(low**2, max(limit, low) ** 2, 2000)
    lens, wavelength = model.lens, problem.wavelength
    cycles = wavelength * k2 * (lens[FOCUS] + 0.5 * lens[SPHERICAL] * wavelength**2 * k2)
    return float(np.abs(np.diff(cycles)).sum())


def information_limit(problem: RingProblem, model: RingModel) -> float:
    """Upper end of the bands, around the clearest, in which rings explain the power better than the trend."""
    seen = problem.seen
    mean = problem.mean(model.lens, model.trend, model.contrast)
    gained = seen.looks * (log_likelihood(seen, mean.value) - log_likelihood(seen, mean.value / mean.rings))
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
