"""What an answer must satisfy to be trusted, and what speaks against it, in a microscopist's words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from passband.detections.detections import Detections
from passband.errors import ParameterError
from passband.estimate.calibration import Estimate, Outlook
from passband.estimate.reasons import Moved
from passband.judge.placing import Placed
from passband.micrographs.micrograph import Micrograph
from passband.units import NM
from passband.words import counted

Judgement = Literal["trust", "review", "reject"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What an answer must satisfy to be trusted; every threshold of the verdict is here.

    Parameters
    ----------
    trust_f1
        Least estimated F1 that is trusted.
    trust_low
        Least lower end of the F1 interval that is trusted: what F1 may be at worst.
    reject_f1
        An estimated F1 below this is rejected.
    max_width
        Widest F1 interval that still says enough to trust.
    confident_score
        A detection with at least this score counts as confident.
    few_objects
        Fewer confident detections than this do not carry an estimate.
    novelty
        How far out of the calibration's conditions an image may lie, where 1 is their edge; in (0, 1].
    pixel_size_slack
        Factor by which the pixel size may leave the range of training on either side.
    min_side
        A shorter side, in pixels, is rejected unseen.
    min_grey_levels
        An image with fewer grey levels is a mask or a drawing, and rejected unseen.
    strangers
        Share of particles unlike all that a classifier has seen, above which a person should look.

    Raises
    ------
    ParameterError
        Naming every threshold outside its range.

    Examples
    --------
    >>> Policy(trust_f1=0.9).trust_f1
    0.9
    >>> Policy(trust_f1=1.5, few_objects=-1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    passband.errors.ParameterError: policy: trust_f1 must be in [0, 1], got 1.5; few_objects must be ...
    """

    trust_f1: float = 0.80
    trust_low: float = 0.50
    reject_f1: float = 0.50
    max_width: float = 0.45
    confident_score: float = 0.90
    few_objects: int = 5
    novelty: float = 1.0
    pixel_size_slack: float = 1.1
    min_side: int = 64
    min_grey_levels: int = 4
    strangers: float = 0.3

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be in [0, 1], got {getattr(self, name)!r}"
            for name in ("trust_f1", "trust_low", "reject_f1", "max_width", "confident_score", "strangers")
            if not 0 <= getattr(self, name) <= 1
        ]
        faults += [
            f"{name} must be 0 or more, got {getattr(self, name)!r}"
            for name in ("few_objects", "min_side", "min_grey_levels")
            if not getattr(self, name) >= 0
        ]
        if self.trust_f1 < self.reject_f1:
            faults.append(f"trust_f1 {self.trust_f1!r} must not be below reject_f1 {self.reject_f1!r}")
        if not 0 < self.novelty <= 1:
            faults.append(f"novelty must be in (0, 1], got {self.novelty!r}: beyond 1 nothing is known")
        if not (math.isfinite(self.pixel_size_slack) and self.pixel_size_slack >= 1):
            faults.append(f"pixel_size_slack must be 1 or more, got {self.pixel_size_slack!r}")
        if faults:
            raise ParameterError("policy: " + "; ".join(faults))


DEFAULT_POLICY = Policy()


class Finding(NamedTuple):
    """The best answer that is still possible, and the reason in words."""

    answer: Judgement
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a judgement rests on.

    Parameters
    ----------
    detections
        What was found.
    outlook
        The estimate, or None where there is no calibration.
    bundle_name
        Whose detector and calibration these are.
    own
        Where the detections were given: "adapted" if labelled images of their detector are known, "any" if
        those of others only; empty where a bundle's own network answered.
    pixel_size
        Of the micrograph in Å, or None where unknown.
    trained_pixel_size
        Lowest and highest of the detector's training in Å, or None where the bundle does not say.
    overfull
        Thickness in Å of a foil that could not hold the objects found, or None.
    moved
        What each feature did to the estimated F1, the largest effect first; empty without an estimate.
    strangers
        Particles unlike all that a classifier of particles has seen; None where a detector answered.
    pixels
        Whether scores are of pixels, as a segmenter's are, for which a single large object is enough.
    placed
        Where the focus lies in what the network was trained on; None where that is not told.
    """

    detections: Detections
    outlook: Outlook | None
    bundle_name: str
    own: Literal["", "adapted", "any"] = ""
    pixel_size: float | None = None
    trained_pixel_size: tuple[float, float] | None = None
    overfull: float | None = None
    moved: tuple[Moved, ...] = ()
    strangers: int | None = None
    pixels: bool = False
    placed: Placed | None = None


def unusable(micrograph: Micrograph, policy: Policy) -> list[Finding]:
    """Why an image need not be looked at: it is a thumbnail, a mask or a drawing.

    Parameters
    ----------
    micrograph
        The image.
    policy
        Says how small or how flat is too much.

    Returns
    -------
    list of Finding
        Rejections; empty for a micrograph.

    Raises
    ------
    ParameterError
        If every pixel has the same value: that is no image, and there is nothing to judge.

    Examples
    --------
    >>> ramp = np.arange(6000, dtype=np.float32).reshape(60, 100)
    >>> unusable(Micrograph(pixels=ramp, name="a.png"), DEFAULT_POLICY)[0].reason
    'The image is only 100 x 60 pixels; at least 64 a side are needed.'
    """
    pixels, (height, width) = micrograph.pixels, micrograph.shape
    if pixels.min() == pixels.max():
        many = "its only pixel is" if pixels.size == 1 else f"all {width} x {height} pixels are"
        raise ParameterError(
            f"{micrograph.name!r} holds no image: {many} {pixels[0, 0]:g}; check the file and the frame"
        )
    found = []
    if min(height, width) < policy.min_side:
        small = f"The image is only {width} x {height} pixels; at least {policy.min_side} a side are needed."
        found.append(Finding("reject", small))
    # A few thousand pixels settle it for any true micrograph; only a suspect is counted in full.
    if len(np.unique(pixels.ravel()[:4096])) < policy.min_grey_levels:
        levels = len(np.unique(pixels))
        if levels < policy.min_grey_levels:
            flat = f"The image has only {levels} grey levels: a mask or a drawing, not a micrograph."
            found.append(Finding("reject", flat))
    return found


def weigh(evidence: Evidence, policy: Policy) -> list[Finding]:
    """Everything that speaks against trusting an answer, or else the one reason for it.

    Returns
    -------
    list of Finding
        At least one, the most serious first; the first one's answer is the verdict.

    Examples
    --------
    >>> boxes, scores = np.array([[0.0, 0, 9, 9]]), np.array([0.7])
    >>> one = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=scores, score_threshold=0.5)
    >>> evidence = Evidence(detections=one, outlook=None, bundle_name="mine", pixel_size=4.0)
    >>> for answer, reason in weigh(evidence, DEFAULT_POLICY)[:2]:  # doctest: +ELLIPSIS
    ...     print(f"{answer}: {reason}")
    review: The bundle 'mine' holds no calibration, so no score can be estimated. Make one from ...
    review: None of 1 detection scored 0.90 or more; an estimate needs 5 confident ones.
    """
    against = [
        *_about_calibration(evidence),
        *_about_novelty(evidence.outlook, policy),
        *_about_count(evidence, policy),
        # Of nothing found, an estimate can only say that it does not know: F1 is 1 or 0.
        *(_about_estimate(evidence.outlook, policy) if len(evidence.detections) else ()),
        *_about_pixel_size(evidence, policy),
    ]
    if evidence.overfull is not None:
        words = f"As spheres, the objects do not fit in a foil of {evidence.overfull / NM:.3g} nm"
        against.append(_review(f"{words}: the detections, the pixel size or the thickness are wrong."))
    against += _about_strangers(evidence, policy)
    against += _about_focus(evidence.placed)
    explained = [Finding("trust", _what_moved(evidence.moved))] if evidence.moved else []
    if evidence.placed is not None and not evidence.placed.beyond:
        explained.append(Finding("trust", _within(evidence.placed)))
    if evidence.strangers is not None:
        explained.append(Finding("trust", "F1 is here the share of particles that get their right class."))
    if evidence.outlook is not None and evidence.outlook.in_domain:
        words = "It was taken with an instrument and pixel size of the calibration, so the interval is that"
        explained.append(Finding("trust", f"{words} of like images, as wide as they need."))
    if evidence.pixels and evidence.outlook is not None:
        explained.append(Finding("trust", "F1, precision and recall are here of pixels, not of objects."))
    if against or evidence.outlook is None:
        return sorted(against, key=lambda finding: finding.answer != "reject") + explained  # stable
    return [Finding("trust", _why_trusted(evidence.outlook, evidence.detections, policy)), *explained]


def _review(reason: str) -> Finding:
    return Finding("review", reason)


def _about_calibration(evidence: Evidence) -> list[Finding]:
    """Whether there is an estimate, and whether it is for the detector that was used."""
    labels = "label ten images and run `passband calibrate --detections`"
    if evidence.own and evidence.outlook is None:
        if evidence.detections.scored:
            words = f"The detections have scores, and those that {evidence.bundle_name!r} was calibrated on"
            return [_review(f"{words} had none: they are another detector's. Calibrate it: {labels}.")]
        words = "The objects come without scores, so nothing tells right from wrong: F1 may be 0 to 1"
        return [_review(f"{words}. To know it, {labels}.")]
    if evidence.own == "any":
        words = "Nothing is known of this detector, so the estimate rests on what others do"
        return [_review(f"{words}. To narrow it, {labels}.")]
    if evidence.outlook is None:
        words = f"The bundle {evidence.bundle_name!r} holds no calibration, so no score can be estimated"
        return [_review(f"{words}. Make one from labelled images with `passband calibrate`.")]
    return []


def _about_novelty(outlook: Outlook | None, policy: Policy) -> list[Finding]:
    """Whether the image lies outside what the calibration knows, and in what."""
    if outlook is None or outlook.novelty <= policy.novelty:
        return []
    far = f"novelty {_beside(outlook.novelty, policy.novelty)}, limit {policy.novelty:.2f}"
    if outlook.unlike > policy.novelty:
        words = f"This does not look like what the detector was made for ({far}): its network saw nothing"
        return [
            _review(f"{words} like it in the images that are known, so the estimate is an extrapolation.")
        ]
    words = f"The image or its detections lie outside the calibrated range ({far})"
    words += ", so the estimate is an extrapolation."
    named = [WORDS.get(name, name.replace("_", " ")) for name in outlook.unusual[:4]]
    if named:
        more = len(outlook.unusual) - len(named)
        words += f" Unusual: {', '.join(named)}{f' and {more} more' if more else ''}."
    return [_review(words)]


def _about_count(evidence: Evidence, policy: Policy) -> list[Finding]:
    """Whether there is enough to go by."""
    d = evidence.detections
    if len(d) == 0:
        words = f"Nothing was found at a score of {d.score_threshold:.2f} or more: either nothing is there"
        return [_review(f"{words}, or the detector misses it. Look at the image.")]
    if evidence.outlook is not None and evidence.outlook.in_domain:
        return []  # its interval is that of images with as few
    confident = _confident(d, policy)
    if evidence.own:  # what is confident is not known of another's scores
        words = f"Only {len(d)} object{'s' * (len(d) > 1)}; an estimate needs {policy.few_objects}."
        return [_review(words)] if len(d) < policy.few_objects else []
    if evidence.pixels or confident >= policy.few_objects:
        return []
    have = f"{'None' if confident == 0 else f'Only {confident}'} of {len(d)} detection{'s' * (len(d) > 1)}"
    words = f"{have} scored {policy.confident_score:.2f} or more"
    return [_review(f"{words}; an estimate needs {policy.few_objects} confident ones.")]


def _about_estimate(outlook: Outlook | None, policy: Policy) -> list[Finding]:
    """Whether the estimated F1 is high enough, also at worst, and says enough."""
    if outlook is None:
        return []
    e = outlook.estimates["f1"]
    if outlook.abstained and outlook.novelty <= 1 and e.high >= policy.trust_f1:
        words = f"Estimated F1 is {e.value:.2f}, but it may be {e.low:.2f} to {e.high:.2f}"
        return [_review(f"{words}: of such images the calibration knows too little to accept or reject.")]
    if e.value < policy.reject_f1:
        said = f"Estimated F1 is {_beside(e.value, policy.reject_f1)} ({_interval(e)})"
        words = f"{said}, under the {policy.reject_f1:.2f} below which an answer is rejected"
        return [Finding("reject", f"{words}: {_weaker_side(outlook)}.")]
    found = []
    if e.value < policy.trust_f1:
        said = f"Estimated F1 is {_beside(e.value, policy.trust_f1)} ({_interval(e)})"
        words = f"{said}, short of the {policy.trust_f1:.2f} that trust needs"
        found.append(_review(f"{words}: {_weaker_side(outlook)}."))
    if e.low < policy.trust_low:
        words = f"F1 may be as low as {_beside(e.low, policy.trust_low)} ({_interval(e)})"
        found.append(_review(f"{words}; trust needs {policy.trust_low:.2f} or more even then."))
    elif e.high - e.low > policy.max_width:
        words = f"The F1 interval, {e.low:.2f} to {e.high:.2f}, is wider than {policy.max_width:.2f}"
        found.append(_review(f"{words}: the estimate says too little."))
    return found


def _about_strangers(evidence: Evidence, policy: Policy) -> list[Finding]:
    """Whether particles are of kinds that the classifier does not know."""
    found, total = evidence.strangers or 0, len(evidence.detections)
    if found <= policy.strangers * total:
        return []
    words = f"{found} of {total} particles are unlike all that {evidence.bundle_name!r} has seen"
    return [_review(f"{words}: other kinds, debris, or particles not cut out well. Look at them.")]


def _about_pixel_size(evidence: Evidence, policy: Policy) -> list[Finding]:
    """Whether the detector saw this scale in training."""
    size, trained = evidence.pixel_size, evidence.trained_pixel_size
    if evidence.own and trained is None:
        return []
    if size is None:
        words = "The pixel size is unknown, so the scale cannot be matched to the detector's"
        return [_review(f"{words} and sizes stay in pixels. Give --pixel-size-nm or --sidecar.")]
    if trained is None:
        return [_review("The bundle does not say with what pixel sizes its detector was trained.")]
    low, high = trained
    if low / policy.pixel_size_slack <= size <= high * policy.pixel_size_slack:
        return []
    words = f"The pixel size, {size / NM:.3g} nm, is outside that of the detector's training"
    return [_review(f"{words}, {low / NM:.3g} to {high / NM:.3g} nm.")]


def _about_focus(placed: Placed | None) -> list[Finding]:
    """Whether the network was trained at such a focus."""
    if placed is None or not placed.beyond:
        return []
    low, high = (f"{v / NM:.3g}" for v in placed.trained)
    return [
        _review(
            f"It was taken {_focus(placed)}, {placed.beyond / NM:.3g} nm beyond the training ({low} to "
            f"{high} nm); {placed.shared:.0%} of what it transfers was in the training images too."
        )
    ]


def _within(placed: Placed) -> str:
    words = f"It was taken {_focus(placed)}, as training images were"
    if placed.known_f1 is None:
        return f"{words}."
    low, high = placed.known_f1
    return f"{words}; on simulated images at this focus the mean F1 was {low:.2f} to {high:.2f}, by dose."


def _focus(placed: Placed) -> str:
    """Size, side and source of a focus."""
    side = "under" if placed.defocus >= 0 else "over"
    return f"{abs(placed.defocus) / NM:.3g} nm {side} focus, {placed.told_by}"


def _why_trusted(outlook: Outlook, d: Detections, policy: Policy) -> str:
    e = outlook.estimates["f1"]
    return (
        f"Estimated F1 is {e.value:.2f} ({_interval(e)}) on {counted(len(d), 'detection')}, "
        f"{_confident(d, policy)} of them confident; nothing lies outside the calibrated range (novelty "
        f"{outlook.novelty:.2f})."
    )


def _what_moved(moved: Sequence[Moved]) -> str:
    """The three features that moved the estimate most, in words."""
    told = [
        f"{WORDS[m.feature]} {m.value:.3g} where {m.usual:.3g} is usual ({m.effect:+.2f})"
        for m in moved[:3]
        if abs(m.effect) >= 0.005
    ]
    if not told:
        return "Every feature of the answer is as usual."
    return f"What moved the estimated F1 most: {'; '.join(told)}."


def _confident(d: Detections, policy: Policy) -> int:
    return int((d.scores >= policy.confident_score).sum())


def _interval(e: Estimate) -> str:
    return f"{100 * e.coverage:.0f} % interval {e.low:.2f} to {e.high:.2f}"


def _beside(value: float, limit: float) -> str:
    """A value with as many digits, two at least, as tell it from a limit that is shown with two."""
    digits = next((n for n in range(2, 9) if f"{value:.{n}f}" != f"{limit:.{n}f}"), 9)
    return f"{value:.{digits}f}"


def _weaker_side(outlook: Outlook) -> str:
    """Whether false alarms or misses are the likelier trouble."""
    precision, recall = outlook.estimates["precision"].value, outlook.estimates["recall"].value
    if precision < recall:
        return f"false detections are likely (estimated precision {precision:.2f})"
    return f"missed objects are likely (estimated recall {recall:.2f})"


WORDS: Mapping[str, str] = {
    **{f"share_0_{k}": f"share of scores from 0.{k} to {(k + 1) / 10:g}" for k in range(1, 10)},
    "area_ratio": "share of the image covered",
    "mean_score": "mean score",
    "std_score": "spread of the scores",
    "mean_size": "mean box area",
    "std_size": "spread of the box areas",
    "mean_circularity": "how round the objects are",
    "std_circularity": "how differently round the objects are",
    "count": "number of objects",
    "share": "share of the image found",
    "confidence": "how sure the network is",
    "soft_dice": "Dice expected of its own chances",
    "agree_noise": "agreement with itself under noise",
    "agree_negative": "agreement with itself on the negative",
    "agree_turn": "agreement with itself when turned",
    "agree_scale": "agreement with itself made smaller",
    "smooth_9": "evenness of outlines",
    "smooth_21": "compactness of what is found",
    "edge": "length of the outlines",
    "image_confidence": "score weighted by area",
    **{f"power_1_{k}": f"image power at {k / 2:g} to {k} pixels" for k in (4, 8, 16, 32, 64, 128)},
    "spectral_slope": "slope of the power spectrum",
    "noise_level": "noise",
    "skewness": "skewness of the grey levels",
    "kurtosis": "tails of the grey levels",
    "saturation": "saturated pixels",
    "anisotropy": "streaks or drift",
    "unevenness": "uneven brightness",
}
"""What the features are called in a reason."""
