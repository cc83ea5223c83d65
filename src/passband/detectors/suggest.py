"""Which images to label next: those of which a detector is in doubt, and unlike those labelled already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64

from passband.detections.detections import Detections
from passband.detections.labelled import LabelledImages
from passband.detectors.bundle import Bundle
from passband.detectors.config import DetectorConfig
from passband.detectors.infer import TILES, detect, network_of
from passband.detectors.rescale import rescaling, resized
from passband.micrographs.micrograph import Micrograph
from passband.types import Progress, Vector

POOL = 300
"""Of more images without labels so many are drawn and looked at."""
LOWEST_SCORE = 0.05
"""Objects found with less do not count."""


def suggest(
    usable: LabelledImages,
    bundle: Bundle,
    count: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Images without labels that a detector would learn most from, the first one first.

    Parameters
    ----------
    usable
        Labelled images, and those without.
    bundle
        The detector, trained on the former.
    count
        How many; fewer where there are not so many.
    seed
        Of the draw where there are more than `POOL`.
    progress
        Called before each image and at the end.
    """
    pool = list(usable.unlabelled)
    if len(pool) > POOL:
        pool = [pool[i] for i in np.sort(np.random.default_rng(seed).choice(len(pool), POOL, replace=False))]
    low = replace(bundle, score_threshold=LOWEST_SCORE)
    doubts, likenesses = {}, {}
    for path, micrograph in usable.some([*usable.truth, *pool], progress):
        likenesses[path] = likeness(micrograph, low)
        if path not in usable.truth:
            doubts[path] = doubt(detect(micrograph, low))
    return choose(doubts, likenesses, count)


def doubt(found: Detections) -> float:
    """How little a detector's answer on an image is worth by its own scores, from 0 to 1.

    Parameters
    ----------
    found
        With every score, also those far below the threshold that `found` are kept at; each score is taken
        for the chance that the object is there, so that all of them together tell how many are missed.

    Returns
    -------
    float
        1 less the F1 that the scores promise, at the threshold that promises most; 1 where nothing is found.

    Examples
    --------
    >>> boxes = np.array([[0.0, 0, 9, 9], [20, 0, 29, 9]])
    >>> sure = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.array([0.98, 0.96]))
    >>> unsure = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=np.array([0.9, 0.4]))
    >>> round(doubt(sure), 2), round(doubt(unsure), 2)
    (0.02, 0.21)
    """
    if not len(found):
        return 1.0
    scores = np.sort(found.scores)[::-1]
    promised = 2 * np.cumsum(scores) / (np.arange(1, len(scores) + 1) + scores.sum())
    return float(1 - promised.max())


def likeness(micrograph: Micrograph, bundle: Bundle) -> Vector:
    """What a detector's network sees in an image, as one vector: mean size of each feature, its logarithm.

    Of a large image the upper left corner of 1024 pixels is taken.
    """
    from passband.detectors.mask_rcnn import detector_input, input_channels

    config = bundle.detector
    assert isinstance(config, DetectorConfig)
    pixels = resized(micrograph.pixels[: TILES[0], : TILES[0]], rescaling(micrograph, bundle))
    inputs = detector_input(pixels, input_channels(config))
    height, width = inputs.shape[1:]
    padded = torch.nn.functional.pad(inputs, (0, -width % 32, 0, -height % 32))[None]
    with torch.inference_mode():
        levels = network_of(bundle).backbone(padded)
    means = torch.cat([level[0].abs().mean((1, 2)) for level in levels.values()])
    return np.log(means.numpy().astype(np.float64) + 1e-3)


def choose(
    doubts: Mapping[str, float], likenesses: Mapping[str, Float64[np.ndarray, " f"]], count: int
) -> tuple[str, ...]:
    """The images to label next, the first one first.

    One after the other, that of the highest doubt times its distance to the nearest image that is labelled or
    chosen already: doubt alone would choose the same odd image ten times.

    Parameters
    ----------
    doubts
        Of each image without labels.
    likenesses
        Of these and of those with labels.
    count
        How many are chosen.

    Examples
    --------
    >>> at = {"labelled": 0.0, "twin": 0.1, "odd": 5.0, "odd too": 5.1, "other": -4.0}
    >>> likenesses = {name: np.array([place]) for name, place in at.items()}
    >>> choose({"twin": 0.9, "odd": 0.8, "odd too": 0.8, "other": 0.5}, likenesses, 2)
    ('odd too', 'other')
    """
    if not doubts:
        return ()
    names = list(likenesses)
    values = np.stack([likenesses[name] for name in names])
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    place = {name: i for i, name in enumerate(names)}
    left = list(doubts)
    known = [place[name] for name in names if name not in doubts]
    of_left = values[[place[name] for name in left]]
    nearest = np.full(len(left), np.inf if known else 1.0)
    for i in known:
        nearest = np.minimum(nearest, np.linalg.norm(of_left - values[i], axis=1))
    gain = np.array([doubts[name] for name in left])
    chosen: list[int] = []
    for _ in range(min(count, len(left))):
        best = int(np.argmax(np.where(np.isin(np.arange(len(left)), chosen), -1.0, gain * nearest)))
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(of_left - of_left[best], axis=1))
    return tuple(left[i] for i in chosen)
