"""A detector of another kind: round blobs found by their curvature at many scales, without a network.

It is what people used before networks, needs a handful of labelled images, and fails in other ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.ndimage
from jaxtyping import Float64

from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.types import Boxes, Image, InstanceMask

Polarity = Literal["bright", "dark", "either"]
POLARITIES: tuple[Polarity, ...] = ("bright", "dark", "either")
LabelledImage = tuple[Micrograph, Detections]
"""A micrograph and what is known to be there."""

STEP = 1.25
"""Ratio of one scale's sigma to that before; a disc between two scales keeps 98 % of its response."""
MOST = 500
"""Blobs kept before overlapping ones are dropped, the clearest first."""
SOFTNESS = 8.0
"""A blob of so many times the noise scores 1 - 1/e = 0.63; maxima of pure noise reach 4 to 5 times."""
LOWEST_SCORE = 0.3
"""Blobs that score less, under 2.9 times the noise, are never reported."""


@dataclass(frozen=True, kw_only=True)
class BlobConfig:
    """What the blob detector looks for.

    Parameters
    ----------
    sigma
        Smallest and largest scale in pixels; a disc of radius r answers most at r / sqrt(2).
    polarity
        "bright" or "dark" against the surroundings, or "either".
    growth
        Radius of the disc that is reported, over that of the disc that fits the scale.
    background
        Side in pixels of the window in which mean and spread are evened out; odd, so that it has a middle.
    overlap
        Of two blobs, the fainter is dropped where they share more than this part of the smaller box.
    score_threshold
        Blobs that score less are not reported.

    Raises
    ------
    ParameterError
        Naming every setting out of range.

    Examples
    --------
    >>> BlobConfig(polarity="dark").sigma
    (3.0, 24.0)
    """

    sigma: tuple[float, float] = (3.0, 24.0)
    polarity: Polarity = "either"
    growth: float = 1.0
    background: int = 161
    overlap: float = 0.4
    score_threshold: float = 0.6

    def __post_init__(self) -> None:
        faults = []
        if not 0.8 <= self.sigma[0] <= self.sigma[1] < math.inf:
            faults.append(f"sigma must be two numbers of pixels, 0.8 <= low <= high, got {self.sigma}")
        if self.polarity not in POLARITIES:
            faults.append(f"polarity must be one of {', '.join(POLARITIES)}, got {self.polarity!r}")
        if not 0.25 <= self.growth <= 4:
            faults.append(f"growth must be 0.25 to 4, got {self.growth}")
        if self.background < 3 or self.background % 2 == 0:
            faults.append(f"background must be an odd number of pixels from 3, got {self.background}")
        faults += [
            f"{name} must be in [0, 1], got {value}"
            for name in ("overlap", "score_threshold")
            if not 0 <= (value := getattr(self, name)) <= 1
        ]
        if faults:
            raise ParameterError("blobs: " + "; ".join(faults))


def detect_blobs(micrograph: Micrograph, config: BlobConfig) -> Detections:
    """Round blobs of a micrograph.

    The image is evened out and smoothed at every scale. A blob is a maximum, over place and scale, of
    2 sigma² sqrt(det H) with H the matrix of second derivatives: at the centre of a disc that is the
    scale-normalised Laplacian, on a line or an edge it is nothing. Its contrast-to-noise ratio z is that
    response over the robust spread of the responses of all scales in the whole image (1.4826 times the
    median absolute Laplacian, root mean square over scales), and its score is 1 - exp(-z / 8): higher the
    higher its contrast over the noise, whatever the image's gain and offset. A score is not a probability
    of being right.

    Parameters
    ----------
    micrograph
        Any; its pixel size is not used.
    config
        From `fit_blobs`, or your own.

    Returns
    -------
    Detections
        Discs, best score first; boxes around them cut at the image's border.

    References
    ----------
    T. Lindeberg, Feature detection with automatic scale selection, Int. J. Comput. Vis. 30 (1998) 79,
    doi:10.1023/A:1008045108935.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:64, :64]
    >>> disc = (np.hypot(y - 30, x - 40) <= 8).astype(np.float32)
    >>> found = detect_blobs(Micrograph(pixels=disc, name="disc"), BlobConfig(polarity="bright"))
    >>> found.boxes_xyxy.round().astype(int).tolist()[0]
    [32, 22, 49, 39]
    """
    blobs = _blobs(_maxima(micrograph.pixels, config), config, micrograph.shape)
    boxes = _boxes(blobs, config.growth, micrograph.shape)
    return Detections(
        image_shape=micrograph.shape,
        boxes_xyxy=boxes,
        scores=blobs[:, 3].clip(0, 1),
        masks=tuple(
            _disc(row, column, config.growth * radius, box)
            for (row, column, radius), box in zip(blobs[:, :3], boxes, strict=True)
        ),
        score_threshold=config.score_threshold,
    )


def fit_blobs(labelled: Sequence[LabelledImage], start: BlobConfig | None = None) -> BlobConfig:
    """Choose scales, polarity, growth and threshold of highest mean F1 on labelled images.

    A grid of three ranges of scale, three polarities, six growths and fourteen thresholds; F1 by optimal
    matching at box IoU 0.5. The lowest scale is that of the fifth percentile of the true sizes, the
    highest that of the 75th, 90th or 99th, each a step wider.

    Parameters
    ----------
    labelled
        Micrographs with their truth, at least one object among them.
    start
        Gives background and overlap, which are not fitted.

    Returns
    -------
    BlobConfig
        The first of the best in the order of the grid.

    Raises
    ------
    ParameterError
        If no image has an object.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:96, :96]
    >>> dark = np.random.default_rng(0).normal(0, 0.2, (96, 96)) - (np.hypot(y - 30, x - 40) <= 8)
    >>> truth = Detections(
    ...     image_shape=(96, 96), boxes_xyxy=np.array([[32.0, 22, 49, 39]]), scores=np.ones(1)
    ... )
    >>> fit_blobs([(Micrograph(pixels=dark.astype(np.float32), name="dark"), truth)]).polarity
    'dark'
    """
    start = start or BlobConfig()
    sides = np.concatenate([np.zeros(0), *(np.sqrt(truth.areas) for _, truth in labelled)])
    if not len(sides):
        raise ParameterError(
            f"{len(labelled)} images without any object came; blobs are fitted to labelled objects"
        )
    low, *highs = np.percentile(sides, [5, 75, 90, 99]) / (2 * math.sqrt(2))  # a disc's side is 2 r
    low = max(float(low) / STEP, 0.8)
    grid = [
        replace(start, sigma=(low, max(low, STEP * float(high))), polarity=p, score_threshold=LOWEST_SCORE)
        for high in highs
        for p in POLARITIES
    ]
    growths, thresholds = (0.85, 1.0, 1.2, 1.4, 1.7, 2.0), np.arange(0.3, 0.96, 0.05).round(2)
    f1 = np.zeros((len(grid), len(growths), len(thresholds)))
    for micrograph, truth in labelled:
        space = _maxima(micrograph.pixels, grid[-1])
        for i, config in enumerate(grid):
            blobs = _blobs(space, config, micrograph.shape)
            for j, growth in enumerate(growths):
                boxes = _boxes(blobs, growth, micrograph.shape)
                for k, cut in enumerate(thresholds):
                    said = boxes[blobs[:, 3] >= cut]
                    f1[i, j, k] += object_scores(match_boxes(truth.boxes_xyxy, said, OPTIMAL)).f1
    best = np.unravel_index(int(f1.argmax()), f1.shape)
    config, growth, cut = grid[int(best[0])], growths[int(best[1])], float(thresholds[int(best[2])])
    return replace(config, growth=growth, score_threshold=cut)


Blobs = Float64[np.ndarray, "n 4"]
"""Row, column, radius and score of each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scale:
    """One scale's responses, positive where it is bright, with their extremes in 3 x 3 pixels."""

    sigma: float
    response: Image
    highest: Image
    lowest: Image
    noise: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Maxima:
    """Row, column, sigma and signed response of each extreme, and each scale's sigma and noise."""

    extremes: Float64[np.ndarray, "n 4"]
    noise: Float64[np.ndarray, "scales 2"]


def _maxima(pixels: Image, config: BlobConfig) -> _Maxima:
    """Extremes over place and scale of both signs in the range of scales, overlapping or not."""
    scales: list[_Scale] = []  # three at a time, so that memory does not grow with the range
    found, noise = [np.zeros((0, 4))], []
    for scale in _scales(_evened(pixels, config.background), *config.sigma):
        scales = [*scales[-2:], scale]
        if len(scales) == 3:
            found += [_peaks(scales, 1.0), _peaks(scales, -1.0)]
            noise.append((scales[1].sigma, scales[1].noise))
    return _Maxima(extremes=np.concatenate(found), noise=np.array(noise))


def _evened(pixels: Image, background: int) -> Image:
    """The image with mean 0 and spread about 1 in a broad window; all 0 where it is flat."""
    centred = pixels - np.median(pixels)
    spread = float(centred.std())
    if spread <= 1e-6 * max(1.0, float(np.abs(pixels).max())):
        return np.zeros_like(pixels)
    whole = (centred / np.float32(spread)).astype(np.float64)  # running sums want the digits
    flat = whole - scipy.ndimage.uniform_filter(whole, background)
    variance = np.maximum(scipy.ndimage.uniform_filter(flat * flat, background), 0)
    evened: Image = (flat / np.sqrt(variance + 0.01)).astype(np.float32)
    return evened


def _scales(flat: Image, low: float, high: float) -> Iterator[_Scale]:
    """Responses from a step below the lowest scale to a step above the highest."""
    smooth, reached = flat, 0.0
    for i in range(-1, math.ceil(math.log(high / low) / math.log(STEP) - 1e-9) + 2):
        sigma = low * STEP**i
        smooth = scipy.ndimage.gaussian_filter(smooth, math.sqrt(sigma**2 - reached**2), truncate=3.0)
        reached = sigma
        across, along = (scipy.ndimage.convolve1d(smooth, [1.0, -2.0, 1.0], axis) for axis in (0, 1))
        twist = scipy.ndimage.convolve1d(
            scipy.ndimage.convolve1d(smooth, [0.5, 0.0, -0.5], 0), [0.5, 0.0, -0.5], 1
        )
        laplacian = np.float32(-(sigma**2)) * (across + along)
        determinant = np.maximum(across * along - twist * twist, 0)
        response = np.sign(laplacian) * np.float32(2 * sigma**2) * np.sqrt(determinant)
        yield _Scale(
            sigma=sigma,
            response=response,
            highest=scipy.ndimage.maximum_filter(response, 3),
            lowest=scipy.ndimage.minimum_filter(response, 3),
            # Of an image without noise the median may be 0: its spread of 1 then stands for the noise.
            noise=max(1.4826 * float(np.median(np.abs(laplacian))), 1e-3),
        )


def _peaks(scales: Sequence[_Scale], sign: float) -> Float64[np.ndarray, "n 4"]:
    """Where the middle one of three scales is highest among its neighbours in place and scale."""
    middle = scales[1]
    around = np.max([s.highest if sign > 0 else -s.lowest for s in scales], axis=0)
    signed = np.float32(sign) * middle.response
    rows, columns = np.nonzero((signed >= around) & (signed > 0))
    response = middle.response[rows, columns].astype(np.float64)
    return np.stack([rows, columns, np.full(len(rows), middle.sigma), response], axis=1)


def _blobs(space: _Maxima, config: BlobConfig, shape: tuple[int, int]) -> Blobs:
    """Extremes of a configuration's polarity, scales and scores that share little, best first."""
    highest = 1.001 * config.sigma[1]
    noise = math.sqrt(float((space.noise[space.noise[:, 0] <= highest, 1] ** 2).mean()))
    row, column, sigma, response = space.extremes.T
    score = 1 - np.exp(-np.abs(response) / (noise * SOFTNESS))
    wanted = {"bright": response > 0, "dark": response < 0, "either": response != 0}[config.polarity]
    wanted &= (score >= config.score_threshold) & (sigma <= highest)
    blobs = np.stack([row, column, sigma * math.sqrt(2), score], axis=1)[wanted]
    blobs = blobs[np.argsort(-blobs[:, 3], kind="stable")][:MOST]
    boxes = _boxes(blobs, 1.0, shape)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = np.ones(len(blobs), bool)
    for i in range(len(blobs)):
        if keep[i]:
            low = np.maximum(boxes[i, :2], boxes[i + 1 :, :2])
            high = np.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
            shared = np.clip(high - low, 0, None).prod(axis=1)
            keep[i + 1 :] &= shared <= config.overlap * np.minimum(area[i], area[i + 1 :])
    kept: Blobs = blobs[keep]
    return kept


def _boxes(blobs: Blobs, growth: float, shape: tuple[int, int]) -> Boxes:
    """Boxes around discs, cut at the image's border; a pixel's centre lies half a pixel inside it."""
    y, x, radius = blobs[:, 0] + 0.5, blobs[:, 1] + 0.5, growth * blobs[:, 2]
    boxes = np.stack([x - radius, y - radius, x + radius, y + radius], axis=1)
    inside: Boxes = np.clip(boxes, 0, np.array([shape[1], shape[0]] * 2))
    return inside


def _disc(row: float, column: float, radius: float, box: np.ndarray) -> InstanceMask:
    """Pixels of a box whose centres lie in a disc."""
    left, top, right, bottom = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    y, x = np.mgrid[top:bottom, left:right]
    return InstanceMask(y=top, x=left, pixels=np.hypot(y - row, x - column) <= radius)
