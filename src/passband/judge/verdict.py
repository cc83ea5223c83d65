"""One judgement on one micrograph: whether the detector's answer on it can be trusted.

`assess_detector` detects, estimates F1, precision and recall without labels, and weighs the estimate, its
interval, how far the image lies from what the calibration knows, and the pixel size against a
`Policy`. The answer is trust, review or reject, with its reasons in words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from passband.detections.detections import Detections
from passband.detections.masks import hold_pixels
from passband.detections.scores import box_diameters, equivalent_diameters, number_density, swelling_percent
from passband.detectors.bundle import Bundle
from passband.detectors.infer import detect, detect_and_see
from passband.detectors.segment import segment_with_evidence
from passband.detectors.unet import UNetConfig
from passband.errors import CalibrationError, DetectionsError, ParameterError
from passband.estimate.calibration import Estimate, Outlook
from passband.estimate.features import detection_features, image_features
from passband.estimate.in_domain import Taken
from passband.estimate.look import Seen, unlike
from passband.estimate.performance import estimate_scores
from passband.estimate.reasons import Moved, what_moved
from passband.estimate.records import CalibrationRecord, from_record
from passband.judge.placing import place
from passband.judge.policy import DEFAULT_POLICY, Evidence, Finding, Judgement, Policy, unusable, weigh
from passband.micrographs.micrograph import Micrograph
from passband.types import Progress, Vector
from passband.units import NM

SCHEMA = 1
"""Number of the JSON document's form; it rises when a key changes its meaning."""

SCORES = ("f1", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the detections measure, whether or not they can be trusted.

    Parameters
    ----------
    diameters
        float64 (n,): diameter of each object in pixels, from its mask, or from its box without one.
    pixel_size
        Å per pixel, or None where unknown.
    density
        Objects per Å² of image, or None without a pixel size.
    thickness
        Of the foil in Å, or None where unknown.
    swelling_percent
        Volume of the objects over that of the matrix; None without pixel size and thickness, and where
        the foil could not hold the objects.
    """

    diameters: Vector
    pixel_size: float | None
    thickness: float | None
    density: float | None
    swelling_percent: float | None

    @property
    def diameters_nm(self) -> Vector | None:
        """Diameters in nm, shape (n,), or None without a pixel size."""
        return None if self.pixel_size is None else self.diameters * (self.pixel_size / NM)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a detector's answer on one micrograph can be trusted, and why.

    Parameters
    ----------
    path
        The micrograph's name, a path where it came from a file.
    verdict
        "trust", "review" (a person should look) or "reject".
    reasons
        Why, in words, the most serious first; at least one.
    detections
        What the judgement is about.
    estimates
        "f1", "precision" and "recall" without labels; empty where they are withheld.
    novelty
        1 is the edge of what the calibration knows; None where nothing was estimated.
    sizes
        Diameters, number density and swelling.
    pixel_size_source
        Where the pixel size came from, in words; empty where it is unknown.
    extra_passes
        How often the network was asked beyond its answer, for what that tells of itself.
    """

    path: str
    verdict: Judgement
    reasons: tuple[str, ...]
    detections: Detections
    estimates: Mapping[str, Estimate]
    novelty: float | None
    sizes: Sizes
    pixel_size_source: str = ""
    extra_passes: int = 0

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ParameterError(f"verdict on {self.path!r} gives no reason")
        if self.estimates and set(self.estimates) != set(SCORES):
            raise ParameterError(f"verdict needs estimates of {SCORES}, got {sorted(self.estimates)}")
        object.__setattr__(self, "estimates", MappingProxyType(dict(self.estimates)))

    def to_json(self) -> str:
        """The document that ``passband assess FILE --json`` prints, byte for byte."""
        return verdicts_to_json([self])


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What gives a verdict on a micrograph, whatever kind of bundle it rests on; called as a function.

    Parameters
    ----------
    function
        From a micrograph, detections given for it or None, and what is called before each tile of a large
        one or None, to the verdict.
    name, digest
        Of the bundle; a digest is empty where it is in no file.
    settings
        JSON values: all that a verdict depends on beside bundle, micrograph and given detections.
    calibration
        What the estimates come from, or None.
    score_threshold
        Given detections below it are left out.
    wants_detections
        Whether it has no network, so that it judges given detections alone.
    source
        Makes the same judge in another process; None where none could.
    """

    function: Callable[[Micrograph, Detections | None, Progress | None], Verdict]
    name: str
    digest: str
    settings: Mapping[str, Any]
    calibration: CalibrationRecord | None
    score_threshold: float = 0.0
    wants_detections: bool = False
    source: Callable[[], Judge] | None = None

    def __call__(
        self,
        micrograph: Micrograph,
        given: Detections | None = None,
        *,
        progress: Progress | None = None,
    ) -> Verdict:
        """The verdict on one micrograph."""
        return self.function(micrograph, given, progress)


def without_detections(name: str) -> ParameterError:
    """What is wrong where a judge that has no network is given no detections."""
    return ParameterError(
        f"{name!r} is a calibration without a network, so it finds nothing by itself: give the detections, "
        "--detections FILE"
    )


def detector_judge(
    bundle: Bundle, *, policy: Policy = DEFAULT_POLICY, thickness: float | None = None
) -> Judge:
    """The judge of a network's own answers; as `assess_detector`."""

    def judge(micrograph: Micrograph, given: Detections | None, progress: Progress | None) -> Verdict:
        if given is not None:
            raise ParameterError(f"detections were given to {bundle.name!r}, which judges its own answers")
        return assess_detector(micrograph, bundle, policy=policy, thickness=thickness, progress=progress)

    return Judge(
        function=judge,
        name=bundle.name,
        digest=bundle.digest,
        settings={"policy": asdict(policy), "thickness": thickness},
        calibration=bundle.calibration,
    )


def assess_detector(
    micrograph: Micrograph,
    bundle: Bundle,
    *,
    policy: Policy = DEFAULT_POLICY,
    thickness: float | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Judge a network's own answer on one micrograph; arguments and errors are those of `passband.assess`."""
    findings = unusable(micrograph, policy)
    outlook = None
    answer = Answer(detections=_nothing(micrograph, bundle))
    if not findings and bundle.calibration is None:
        answer = Answer(detections=detect(micrograph, bundle, progress=progress))
    elif not findings:
        answer = answer_of(micrograph, bundle, progress)
    detections = answer.detections
    sizes = measure_sizes(detections, micrograph.pixel_size, thickness)
    if not findings:
        outlook, moved = _outlook(micrograph, answer, bundle)
        evidence = Evidence(
            detections=detections,
            outlook=outlook,
            bundle_name=bundle.name,
            pixel_size=micrograph.pixel_size,
            trained_pixel_size=pair_of(bundle.training.get("pixel_size")),
            overfull=overfull(sizes),
            moved=moved,
            pixels=by_pixels(bundle),
            placed=place(micrograph, bundle.training) if by_pixels(bundle) else None,
        )
        findings = weigh(evidence, policy)
    passes = sum(name.startswith("agree_") for name in answer.told)  # one for each change of the image
    return verdict_of(micrograph, findings, detections, outlook, sizes, passes)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a network says of an image.

    Parameters
    ----------
    detections
        What it finds.
    told
        What a segmenter's answers tell of themselves besides.
    seen
        What a detector's network saw, as `detect_and_see` gives it; None of a segmenter, or of a flat image.
    """

    detections: Detections
    told: Mapping[str, float] = field(default_factory=dict)
    seen: Seen | None = None


def answer_of(micrograph: Micrograph, bundle: Bundle, progress: Progress | None = None) -> Answer:
    """What a bundle's network says of an image."""
    if by_pixels(bundle):
        detections, told = segment_with_evidence(micrograph, bundle)
        return Answer(detections=detections, told=told)
    detections, seen = detect_and_see(micrograph, bundle, progress=progress)
    return Answer(detections=detections, seen=seen)


def by_pixels(bundle: Bundle) -> bool:
    """Whether a bundle's answers are scored by pixels, as those of a segmenter are."""
    return isinstance(bundle.detector, UNetConfig)


def verdict_of(
    micrograph: Micrograph,
    findings: list[Finding],
    detections: Detections,
    outlook: Outlook | None,
    sizes: Sizes,
    extra_passes: int = 0,
) -> Verdict:
    """The verdict that findings amount to, the most serious of them first."""
    return Verdict(
        path=micrograph.name,
        verdict=findings[0].answer,
        reasons=tuple(finding.reason for finding in findings),
        detections=detections,
        estimates={} if outlook is None else outlook.estimates,
        novelty=None if outlook is None else outlook.novelty,
        sizes=sizes,
        pixel_size_source=micrograph.sources.get("pixel_size", ""),
        extra_passes=extra_passes,
    )


def measure_sizes(detections: Detections, pixel_size: float | None, thickness: float | None) -> Sizes:
    """Diameters, number density and swelling that some detections amount to.

    Parameters
    ----------
    detections
        Objects of one image.
    pixel_size
        Å, or None.
    thickness
        Of the foil in Å, or None.

    Returns
    -------
    Sizes
        With None for what the unknowns leave open.

    Examples
    --------
    >>> found = Detections(image_shape=(50, 40), boxes_xyxy=np.array([[0.0, 0, 10, 10]]), scores=np.ones(1))
    >>> measure_sizes(found, 5.0, None).diameters_nm
    array([5.])
    """
    diameters = box_diameters(detections.boxes_xyxy)
    if detections.masks is not None:
        seen = np.flatnonzero(hold_pixels(detections.masks))
        diameters[seen] = equivalent_diameters([detections.masks[i] for i in seen])
    density, swelling = None, None
    if pixel_size is not None:
        area = math.prod(detections.image_shape) * pixel_size**2
        density = number_density(len(detections), area)
        volume = np.pi / 6 * float(((diameters * pixel_size) ** 3).sum())
        if thickness is not None and volume < area * thickness:
            swelling = swelling_percent(diameters * pixel_size, area, thickness)
    return Sizes(
        diameters=diameters,
        pixel_size=pixel_size,
        thickness=thickness,
        density=density,
        swelling_percent=swelling,
    )


def verdicts_to_json(
    verdicts: Iterable[Verdict], errors: Sequence[tuple[str, str]] = (), notes: Sequence[str] = ()
) -> str:
    """The machine-readable document of many verdicts.

    Parameters
    ----------
    verdicts
        In the order in which they shall stand.
    errors
        Pairs of a path and what was wrong with it.
    notes
        What was made of the files given, a sentence each.

    Returns
    -------
    str
        One line of ASCII JSON and a line feed. Withheld estimates are null; boxes are rounded to
        1/1000 pixel, scores and estimates to six decimals.

    Examples
    --------
    >>> print(verdicts_to_json([], [("a.tif", "no such file")]), end="")
    {"schema": 1, "micrographs": [], "errors": [{"path": "a.tif", "error": "no such file"}], "notes": []}
    """
    return "".join(json_pieces(map(verdict_json, verdicts), errors, notes))


def json_pieces(
    entries: Iterable[str], errors: Sequence[tuple[str, str]] = (), notes: Sequence[str] = ()
) -> Iterator[str]:
    """The document of `verdicts_to_json` piece by piece, from what `verdict_json` made of each."""
    yield f'{{"schema": {SCHEMA}, "micrographs": ['
    for i, entry in enumerate(entries):
        yield f"{', ' if i else ''}{entry}"
    told = [{"path": path, "error": error} for path, error in errors]
    yield f'], "errors": {json.dumps(told)}, "notes": {json.dumps(list(notes))}}}\n'


def verdict_json(v: Verdict) -> str:
    """One verdict as the machine contract has it, without a line feed."""
    d = v.detections
    values = {
        "path": v.path,
        "verdict": v.verdict,
        "estimates": {name: _estimate_as_json(v.estimates.get(name), d) for name in SCORES},
        "detections": {
            "count": len(d),
            "score_threshold": round(float(d.score_threshold), 6),
            "boxes_xyxy": np.round(d.boxes_xyxy, 3).tolist(),
            "scores": np.round(d.scores, 6).tolist(),
            **({} if d.categories is None else {"categories": list(d.categories)}),
        },
        "reasons": list(v.reasons),
        "novelty": None if v.novelty is None else round(v.novelty, 6),
        "pixel_size_nm": None if v.sizes.pixel_size is None else float(f"{v.sizes.pixel_size / NM:.6g}"),
        "pixel_size_source": v.pixel_size_source or None,
        "extra_passes": v.extra_passes,
    }
    return json.dumps(values, allow_nan=False)


def _estimate_as_json(e: Estimate | None, of: Detections) -> dict[str, float | None]:
    """An estimate, or null; of objects without scores a score may be anything, which is said."""
    if e is None and not of.scored:
        return {"value": None, "low": 0.0, "high": 1.0, "coverage": 1.0}
    names = [f.name for f in fields(Estimate)]
    return {name: None if e is None else round(float(getattr(e, name)), 6) for name in names}


def _outlook(
    micrograph: Micrograph, answer: Answer, bundle: Bundle
) -> tuple[Outlook | None, tuple[Moved, ...]]:
    """The estimate for some detections and what moved it; none without a calibration; misfits are refused."""
    if bundle.calibration is None:
        return None, ()
    calibration, d = from_record(bundle.calibration), answer.detections
    threshold = calibration.score_threshold
    if not math.isclose(d.score_threshold, threshold, abs_tol=1e-9):
        raise CalibrationError(
            f"the detections for {micrograph.name!r} were kept at scores of {d.score_threshold:g} or more, "
            f"but the calibration is for {threshold:g}, and another threshold shifts every estimate: "
            "calibrate anew"
        )
    known = {**detection_features(d), **answer.told, **image_features(micrograph)}
    wanted = {n: known[n] for n in calibration.features if n in known}
    strange = 0.0 if bundle.look is None or answer.seen is None else unlike(bundle.look, answer.seen)
    outlook = estimate_scores(calibration, wanted, taken(micrograph), unlike=strange)
    if not len(d):
        return outlook, ()
    return outlook, what_moved(calibration, np.array(list(wanted.values())))


def taken(micrograph: Micrograph) -> Taken:
    """With what a micrograph was taken, as far as that is known."""
    return Taken(instrument=micrograph.instrument, pixel_size=micrograph.pixel_size)


def refuse_other_shape(micrograph: Micrograph, d: Detections) -> None:
    """Raise a `DetectionsError` where detections were made on an image of another shape."""
    if d.image_shape != micrograph.shape:
        (height, width), (wanted_height, wanted_width) = d.image_shape, micrograph.shape
        raise DetectionsError(
            f"the detections for {micrograph.name!r} were made on an image of {width} x {height} pixels, "
            f"but this one has {wanted_width} x {wanted_height} (width x height)"
        )


def overfull(sizes: Sizes) -> float | None:
    """Thickness in Å of a foil that cannot hold the objects, or None."""
    if sizes.thickness is None or sizes.pixel_size is None or len(sizes.diameters) == 0:
        return None
    largest = float(sizes.diameters.max()) * sizes.pixel_size
    return sizes.thickness if sizes.swelling_percent is None or largest > sizes.thickness else None


def pair_of(bounds: Any) -> tuple[float, float] | None:
    """Two bounds as a bundle's settings have them, or None."""
    return None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _nothing(micrograph: Micrograph, bundle: Bundle) -> Detections:
    """No detections, for an image that was not looked at."""
    return Detections(
        image_shape=micrograph.shape,
        boxes_xyxy=np.zeros((0, 4)),
        scores=np.zeros(0),
        masks=(),
        score_threshold=bundle.score_threshold,
    )
