"""From one's own labelled micrographs to a detector: which to train on, what network, how good it became."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from passband.detections.detections import Detections
from passband.detections.labelled import Labelled, LabelledImages, read_labelled
from passband.detections.measured import best_threshold, f1_by_class, measured_scores
from passband.detections.scores import Scores
from passband.detectors.bundle import Bundle, read_bundle, write_bundle
from passband.detectors.config import SLIM, DetectorConfig
from passband.detectors.crops import LabelledImage
from passband.detectors.infer import detect
from passband.detectors.rescale import resized_labelled
from passband.detectors.suggest import LOWEST_SCORE, suggest
from passband.detectors.train import TrainConfig, train_detector
from passband.errors import BundleError, ParameterError
from passband.micrographs.many import Errors
from passband.types import Progress
from passband.words import counted

LOOKED_AT = 6
"""Images held out on which the network is measured on the way; all are at the end."""
_SIZES = (2.5, 97.5)  # percentiles of the objects' sizes that a network is made for
_FIT = (0.7, 1.4)  # an anchor suits objects of so many times its side
_MOST_ENLARGED = 3.0  # an image of so many times the side takes nine times as long


@dataclass(frozen=True, kw_only=True)
class OwnTraining:
    """How a detector is trained on one's own labels.

    Parameters
    ----------
    start
        File of the bundle whose weights it starts from, or None for fresh ones.
    steps
        Of training.
    validate
        Share of the images that are held out and measured, at least one of two or more; 0 for none.
    split
        Whether images are held out one by one, or whole folders.
    suggest
        So many of the images without labels are named that it would learn most from.
    seed
        Of the split, of crops and of first weights.
    device
        "cpu" or "cuda".
    """

    start: Path | None = None
    steps: int = 2000
    validate: float = 0.2
    split: Literal["image", "folder"] = "image"
    suggest: int = 0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.validate < 1:
            raise ParameterError(f"the share held out must lie in [0, 1), got {self.validate:g}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What became of a training.

    Parameters
    ----------
    bundle
        The detector, with the score threshold that is best on the images held out.
    trained, validated
        Paths of the images it was trained on, and of those held out.
    before, after
        Scores of each image held out: by the network that it started from, at its own threshold, and by the
        new one at the threshold that is best for the others held out. None where nothing is to be told.
    by_class
        Mean F1 of each of several classes by the new network, at its threshold; the scores above are whatever
        the class.
    unlabelled
        Images of which the annotations say nothing.
    label_next
        Those of them that were asked for, the first one first.
    wanted_next
        How many were asked for.
    unused
        Pairs of a path and why it could not be used.
    notes
        What was mended, left out and passed over, a sentence each.
    """

    bundle: Bundle
    trained: tuple[str, ...]
    validated: tuple[str, ...]
    before: tuple[Scores, ...] | None
    after: tuple[Scores, ...] | None
    by_class: Mapping[str, float]
    unlabelled: tuple[str, ...]
    label_next: tuple[str, ...]
    wanted_next: int
    unused: Errors
    notes: tuple[str, ...]


def train_on_labelled(
    labelled: Labelled, out: str | Path, training: OwnTraining, *, progress: Progress | None = None
) -> Trained:
    """Train a detector on labelled micrographs.

    The network, its anchors and crops follow from the sizes of the labelled objects, its classes from their
    names; without outlines it learns boxes alone.

    Parameters
    ----------
    labelled
        Micrographs and what is there. One that cannot be used is left out and told.
    out
        Folder for ``bundle.safetensors``, the logs and the checkpoint; a run that was stopped goes on from
        there.
    training
        How.
    progress
        Called as work goes on.

    Raises
    ------
    CalibrationError
        If no image can be used, naming why, or the annotations hold no object at all.
    DetectionsError
        If the annotations cannot be used.
    ParameterError
        If nothing is left to train on, the folder holds another training, or the bundle to start from another
        network.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ParameterError(f"{out} is a file; wanted a folder for the detector, new or of this training")
    usable = read_labelled(labelled, some=True)
    kept, held = split(usable, training)
    truths = [usable.truth[path] for path in kept]
    of_kept = _classes(truths)
    classes = sorted({*of_kept, *_classes([usable.truth[path] for path in held])})
    config, scale = config_for(truths, out.resolve().name, training, classes)
    lacking = [name for name in classes if name not in of_kept]
    notes = list(usable.notes)
    if lacking:
        notes.append(f"no object of {', '.join(lacking)} is in an image that is trained on: label more")
    about = {"image_scale": scale, "own_labels": True}

    def measure(bundle: Bundle) -> dict[str, float]:
        own = replace(bundle, training={**bundle.training, **about}, score_threshold=LOWEST_SCORE)
        threshold, scores = best_threshold(_answers(usable, held[:LOOKED_AT], own))
        return {"threshold": threshold, **{name: round(v, 4) for name, v in mean_scores(scores).items()}}

    bundle = train_detector(
        config,
        out,
        samples=_samples(usable, kept, scale),
        look=measure if held else None,
        progress=progress,
    )
    bundle = replace(
        bundle, training={**bundle.training, **about, "images_held_out": len(held)}, score_threshold=0.5
    )
    before = after = None
    by_class: dict[str, float] = {}
    if held:
        low = replace(bundle, score_threshold=LOWEST_SCORE)
        answers = _answers(usable, held, low, progress)
        threshold, after = best_threshold(answers)
        if len(classes) > 1:
            by_class = f1_by_class((there, found.above(threshold)) for there, found in answers)
        bundle = replace(
            bundle,
            score_threshold=threshold,
            training={**bundle.training, "held_out": _rounded(mean_scores(after))},
        )
        if training.start is not None:
            first = read_bundle(training.start)
            before = tuple(measured_scores(t, found) for t, found in _answers(usable, held, first, progress))
    file = out / "bundle.safetensors"
    write_bundle(_calibrated_before(bundle, file), file)
    bundle = read_bundle(file)
    label_next: tuple[str, ...] = ()
    if training.suggest:
        label_next = suggest(usable, bundle, training.suggest, seed=training.seed, progress=progress)
    return Trained(
        bundle=bundle,
        trained=kept,
        validated=held,
        before=before,
        after=after,
        by_class=by_class,
        unlabelled=usable.unlabelled,
        label_next=label_next,
        wanted_next=training.suggest,
        unused=tuple((path, words) for path, words in usable.unused if path not in usable.unlabelled),
        notes=tuple(notes),
    )


def _classes(truths: Sequence[Detections]) -> set[str]:
    return {name for t in truths for name in t.categories or ()}


def _calibrated_before(bundle: Bundle, file: Path) -> Bundle:
    """The bundle with the calibration that its file was given meanwhile, if it is the same network."""
    try:
        old = read_bundle(file)
    except BundleError:
        return bundle
    same = old.detector == bundle.detector and old.score_threshold == bundle.score_threshold
    same = same and all(torch.equal(v.half(), bundle.weights[k].half()) for k, v in old.weights.items())
    return replace(bundle, calibration=old.calibration, look=old.look) if same else bundle


def split(usable: LabelledImages, training: OwnTraining) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images to train on and images held out.

    Raises
    ------
    ParameterError
        If no object is left to train on, or whole folders are to be held out of one folder.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for path in usable.truth:
        folders[str(Path(path).resolve().parent)].append(path)
    if training.split == "folder":
        if training.validate and len(folders) < 2:
            raise ParameterError(
                "whole folders are to be held out, but all labelled images are in one; "
                "hold out images one by one"
            )
        names = _held_out({name: Path(name).name for name in folders}, training)
        out = {path for name in names for path in folders[name]}
    else:
        out = _held_out(
            {p: f"{Path(p).resolve().parent.name}/{Path(p).name}" for p in usable.truth}, training
        )
    kept = tuple(path for path in usable.truth if path not in out)
    if not any(len(usable.truth[path]) for path in kept):
        raise ParameterError(
            f"no labelled object is left to train on: {counted(len(out), 'image')} of {len(usable.truth)} "
            "are held out; label more images, or hold fewer out"
        )
    return kept, tuple(path for path in usable.truth if path in out)


def _held_out(names: Mapping[str, str], training: OwnTraining) -> set[str]:
    """Those whose name and the seed give a number below the share, so that it stays as labels are added.

    At least one of several, and never all.
    """
    share, total = training.validate, len(names)
    if not share or total < 2:
        return set()
    marks = {p: hashlib.sha256(f"{training.seed} {name}".encode()).digest() for p, name in names.items()}
    drawn = {path: int.from_bytes(mark[:7], "big") / 2**56 for path, mark in marks.items()}
    lowest = sorted(drawn, key=lambda path: drawn[path])
    below = sum(value < share for value in drawn.values())
    return set(lowest[: max(1, min(below, total - 1))])


def config_for(
    truths: Sequence[Detections], name: str, training: OwnTraining, classes: Sequence[str] = ()
) -> tuple[TrainConfig, float]:
    """What network suits the labelled objects, and by what factor their images are to be enlarged first.

    Parameters
    ----------
    truths
        What is there, in the images that are trained on.
    name
        Of the bundle.
    training
        Where to start, and for how long.
    classes
        Names of the classes that are told apart.

    Examples
    --------
    >>> sides = np.geomspace(400, 1000, 8)
    >>> boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    >>> huge = Detections(image_shape=(4096, 4096), boxes_xyxy=boxes, scores=np.ones(8))
    >>> config, scale = config_for([huge], "huge", OwnTraining())
    >>> scale, config.detector.masks, config.crop
    (0.17, False, 384)
    """
    sides = np.concatenate([np.sqrt(t.areas) for t in truths])
    low, high = np.percentile(sides, _SIZES).tolist()
    scale = round(_scale(low, high), 2)
    low, high = low * scale, high * scale
    crop = 384 if high > 96 else 256
    most = 2 * _most_in_a_tile(truths, scale)
    detector = replace(
        SLIM,
        anchor_sizes=_anchors(low, high),
        classes=tuple(classes),
        masks=all(t.masks is not None for t in truths if len(t)),
        max_detections=max(SLIM.max_detections, most),
        proposals=max(SLIM.proposals, 3 * most // 2),
    )
    return (
        TrainConfig(
            detector=detector,
            name=name,
            crop=crop,
            batch=6 if crop == 256 else 3,
            steps=training.steps,
            on_objects=0.5,
            zoom=(0.8, 1.25),
            seed=training.seed,
            start=None if training.start is None else str(training.start),
            device=training.device,
        ),
        scale,
    )


def _scale(low: float, high: float) -> float:
    """By what factor images are enlarged so that sizes from low to high suit the network.

    Of larger objects it would see a part, of smaller ones a single value of its coarsest features.
    """
    small, large = SLIM.anchor_sizes[0][0], SLIM.anchor_sizes[-1][-1]
    if high > large * _FIT[1]:
        return max(large / high, min(1.0, small / low))
    if low < small * _FIT[0]:
        return min(small / low, max(1.0, large / high), _MOST_ENLARGED)
    return 1.0


def _anchors(low: float, high: float) -> tuple[tuple[int, ...], ...]:
    """Two sides at each level: those of the shipped detector where they suit, else from low to high."""
    shipped = [side for level in SLIM.anchor_sizes for side in level]
    if low >= shipped[0] * _FIT[0] and high <= shipped[-1] * _FIT[1]:
        return SLIM.anchor_sizes
    sides = np.geomspace(max(4.0, low), max(high, 2 * low, 8.0), len(shipped)).round().astype(int).tolist()
    return tuple((a, b) for a, b in zip(sides[::2], sides[1::2], strict=True))


def _most_in_a_tile(truths: Sequence[Detections], scale: float, tile: int = 1024) -> int:
    """The most objects that an image's tile holds if they lie evenly in it."""
    shares = [min(1.0, tile**2 / (scale**2 * math.prod(t.image_shape))) * len(t) for t in truths]
    return math.ceil(max(shares, default=0))


def _samples(usable: LabelledImages, paths: Sequence[str], scale: float) -> Iterator[LabelledImage]:
    for path, micrograph in usable.some(paths):
        yield resized_labelled(micrograph, usable.truth[path], scale)


def _answers(
    usable: LabelledImages, paths: Sequence[str], bundle: Bundle, progress: Progress | None = None
) -> list[tuple[Detections, Detections]]:
    """What is there and what a bundle's network finds, image by image."""
    return [(usable.truth[path], detect(m, bundle)) for path, m in usable.some(paths, progress)]


def mean_scores(scores: Sequence[Scores]) -> dict[str, float]:
    """Means over images.

    Examples
    --------
    >>> from passband.detections.matching import OPTIMAL, match_boxes
    >>> from passband.detections.scores import object_scores
    >>> none = np.zeros((0, 4))
    >>> mean_scores([object_scores(match_boxes(none, none, OPTIMAL))])
    {'f1': 1.0, 'precision': 1.0, 'recall': 1.0}
    """
    return {
        name: float(np.mean([getattr(s, name) for s in scores])) for name in ("f1", "precision", "recall")
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def trained_in_words(trained: Trained) -> str:
    """What to read of a training, in lines."""
    bundle, detector = trained.bundle, _of(trained.bundle)
    kinds = f", classes {', '.join(detector.classes)}" if detector.classes else ""
    lines = [
        f"{detector.in_words}{kinds}: trained on {counted(len(trained.trained), 'image')}, measured on "
        f"{counted(len(trained.validated), 'other')}"
    ]
    for words, scores in (("before", trained.before), ("now", trained.after)):
        if scores:
            told = ", ".join(f"{n.replace('f1', 'F1')} {v:.3f}" for n, v in mean_scores(scores).items())
            lines.append(f"{words}: {told} ({scores[0].rule})")
    if trained.by_class:
        told = ", ".join(f"{name} {value:.3f}" for name, value in trained.by_class.items())
        lines.append(f"that is whatever the class; F1 of each: {told}")
    if trained.after and len(trained.after) > 1:
        lines.append(
            f"score threshold {bundle.score_threshold:g}; each image above by the one that suits the others"
        )
    elif trained.after:
        lines.append(f"score threshold {bundle.score_threshold:g}, chosen on that same image")
    else:
        lines.append(f"score threshold {bundle.score_threshold:g}; none was held out to choose it on")
    if trained.unlabelled:
        lines.append(f"{counted(len(trained.unlabelled), 'image')} without labels: not trained on")
    if 0 < len(trained.label_next) < trained.wanted_next or (trained.wanted_next and not trained.unlabelled):
        lines.append(f"to be labelled next there are {len(trained.label_next)} of {trained.wanted_next}")
    if trained.label_next:
        lines += ["to be labelled next, the first of them first:", *trained.label_next]
    lines += [f"not used: {path}: {words}" for path, words in trained.unused]
    return "\n".join(lines)


def trained_to_json(trained: Trained, **more: Any) -> str:
    """The machine-readable document of a training, one line."""
    values = {
        "images": len(trained.trained) + len(trained.validated) + len(trained.unused),
        "used": len(trained.trained) + len(trained.validated),
        "trained": list(trained.trained),
        "validated": list(trained.validated),
        "before": None if trained.before is None else _rounded(mean_scores(trained.before)),
        "after": None if trained.after is None else _rounded(mean_scores(trained.after)),
        "by_class": _rounded(trained.by_class),
        "score_threshold": trained.bundle.score_threshold,
        "classes": list(_of(trained.bundle).classes),
        "outlines": _of(trained.bundle).masks,
        "unlabelled": len(trained.unlabelled),
        "label_next": list(trained.label_next),
        "unused": [{"path": path, "why": words} for path, words in trained.unused],
        "notes": list(trained.notes),
        **more,
    }
    return json.dumps(values, allow_nan=False) + "\n"


def _of(bundle: Bundle) -> DetectorConfig:
    assert isinstance(bundle.detector, DetectorConfig)
    return bundle.detector
