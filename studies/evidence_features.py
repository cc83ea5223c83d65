"""What the pixels and the detector's weaker candidates say of an answer, beyond its boxes.

Few confident boxes look the same whether little was there or much was missed. Objects that almost
passed the threshold, and blobs that stand out of the image, tell the two apart in part. A cavity is bright
inside in underfocus and dark in overfocus, a precipitate is dark in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle
from passband.detectors.infer import detect
from passband.errors import ParameterError
from passband.estimate.features import SCORE_FLOOR
from passband.micrographs.micrograph import Micrograph
from passband.types import Image

EVIDENCE_FEATURES: tuple[str, ...] = (
    "agreement_far_below",
    "agreement_below",
    "agreement_above",
    "dark_blobs_8",
    "blob_sign_8",
    "blob_sign_16",
)
"""Names of what `evidence` measures, in its order."""

_AREA = 512 * 512  # pixels that blobs are counted per


def detect_with_evidence(
    micrograph: Micrograph, bundle: Bundle, *, memory_gb: float = 6.0
) -> tuple[Detections, dict[str, float]]:
    """A detector's answer and the evidence about its score, from one run of the detector.

    Parameters
    ----------
    micrograph, bundle, memory_gb
        As for `passband.detectors.infer.detect`.

    Returns
    -------
    tuple of Detections and dict
        The answer at the bundle's threshold, the same as `detect` gives, and what `evidence` says of it.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detectors.bundle import default_bundle
    >>> flat = Micrograph(pixels=np.zeros((64, 64), np.float32), name="empty")
    >>> answer, said = detect_with_evidence(flat, default_bundle())
    >>> len(answer), said["agreement_below"]
    (0, 1.0)
    """
    threshold = bundle.score_threshold
    weakest = min(SCORE_FLOOR, _cuts(threshold)[0])
    candidates = detect(micrograph, replace(bundle, score_threshold=weakest), memory_gb=memory_gb)
    # Best first, non-maximum suppression lets no candidate displace a better one: the answer is a part.
    return candidates.above(threshold), evidence(micrograph, candidates, threshold)


def evidence(micrograph: Micrograph, candidates: Detections, score_threshold: float) -> dict[str, float]:
    """Named numbers about how complete and how certain an answer is.

    Parameters
    ----------
    micrograph
        Any image; its gain and offset change nothing.
    candidates
        Objects that the detector found there, down to three eighths of the threshold or further.
    score_threshold
        The answer is the candidates at or above it, between 0 and 1.

    Returns
    -------
    dict of str to float
        Always the keys of `EVIDENCE_FEATURES`, always finite:
        ``agreement_far_below``, ``agreement_below`` and ``agreement_above``, the F1 in [0, 1] of the
        answer against that at 0.375 and 0.625 of the threshold and at 0.15 of the way from 1 down to
        it, 1 where both are empty; ``dark_blobs_8``, ln(1 + dark blobs for each 512 x 512 pixels) of a
        scale of 8 pixels; ``blob_sign_8`` and ``blob_sign_16``, the same of the bright ones less that
        of the dark ones, at 8 and 16 pixels.

    Raises
    ------
    ParameterError
        If the candidates are of another image size, end above what is wanted, or the threshold is not
        between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([0.99, 0.9, 0.6, 0.35])
    >>> boxes = np.array([[8.0 * k, 0, 8 * k + 8, 8] for k in range(4)])
    >>> found = Detections(image_shape=(64, 64), boxes_xyxy=boxes, scores=scores, score_threshold=0.1)
    >>> image = Micrograph(pixels=np.eye(64, dtype=np.float32), name="a.tif")
    >>> said = evidence(image, found, 0.8)
    >>> [round(said[name], 2) for name in EVIDENCE_FEATURES[:3]]
    [0.67, 0.8, 0.67]
    """
    faults = []
    if not 0 < score_threshold < 1:
        faults.append(f"the score threshold must be between 0 and 1, got {score_threshold!r}")
    elif candidates.score_threshold > _cuts(score_threshold)[0] + 1e-9:
        faults.append(
            f"candidates must reach down to a score of {_cuts(score_threshold)[0]:.3g}, "
            f"got those above {candidates.score_threshold:.3g}; run the detector at a lower threshold"
        )
    if candidates.image_shape != micrograph.shape:
        faults.append(f"the image is {micrograph.shape}, the candidates' is {candidates.image_shape}")
    if faults:
        raise ParameterError(f"{micrograph.name}: " + "; ".join(faults))
    answer = _count(candidates, score_threshold)
    values = [nested_f1(answer, _count(candidates, cut)) for cut in _cuts(score_threshold)]
    density = _AREA / micrograph.pixels.size
    eight, sixteen = (blob_counts(micrograph.pixels, halvings) for halvings in (2, 3))
    values.append(math.log1p(density * eight.dark))
    values += [math.log1p(density * b.bright) - math.log1p(density * b.dark) for b in (eight, sixteen)]
    return dict(zip(EVIDENCE_FEATURES, values, strict=True))


def _cuts(threshold: float) -> tuple[float, float, float]:
    """Far below, below and above a threshold: 0.3, 0.5 and 0.97 for 0.8."""
    return 0.375 * threshold, 0.625 * threshold, 1 - 0.15 * (1 - threshold)


def _count(candidates: Detections, cut: float) -> int:
    return int((candidates.scores >= cut - 1e-12).sum())  # 0.375 x 0.8 is a rounding above 0.3


def nested_f1(one: int, other: int) -> float:
    """F1 of two answers of which one holds the other."""
    return 2 * min(one, other) / (one + other) if one + other else 1.0


_FILTER_SIGMA = 2.0
_PEAK_SIDE = 5
_PEAK_HEIGHT = 6.0  # robust standard deviations of the response, which noise alone does not reach
_MAD_TO_SIGMA = 1.4826022  # of a Gaussian


@dataclass(frozen=True, kw_only=True)
class BlobCounts:
    """How many blobs of one scale stand out of an image.

    Parameters
    ----------
    bright, dark
        Peaks that are brighter and darker than what surrounds them.
    """

    bright: int
    dark: int


def blob_counts(pixels: Image, halvings: int) -> BlobCounts:
    """Peaks of the Laplacian of a Gaussian of 2 pixels, after binning by two some times.

    They do not change with the gain and offset of the image. The surroundings of a strong blob may
    count as a few blobs of the other sign.

    Parameters
    ----------
    pixels
        float32 (y, x).
    halvings
        How often the image is binned by two first: the Gaussian is 2 × 2^halvings of the image's pixels
        wide, and answers most to discs of a radius sqrt(2) times that.

    Returns
    -------
    BlobCounts
        Peaks of over six robust standard deviations of the response; none in an image that is constant
        or has no pixel left after the binning.

    References
    ----------
    T. Lindeberg, Int. J. Comput. Vis. 30 (1998) 79, doi:10.1023/A:1008045108935.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:256, :256]
    >>> image = np.random.default_rng(0).normal(size=(256, 256)) + 3 * (np.hypot(y - 90, x - 150) < 11)
    >>> blob_counts(image.astype(np.float32), 2).bright
    1
    """
    q = pixels.astype(np.float64)
    for _ in range(halvings):
        height, width = (side // 2 * 2 for side in q.shape)
        if not (height and width):
            return BlobCounts(bright=0, dark=0)
        q = q[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    # The response to a constant is rounding alone, which would be counted as blobs.
    if q.size == 0 or q.min() == q.max():
        return BlobCounts(bright=0, dark=0)
    response = -ndimage.gaussian_laplace(q - q.mean(), _FILTER_SIGMA)
    response -= np.median(response)
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(response))) or float(response.std())
    bright = (response == ndimage.maximum_filter(response, _PEAK_SIDE)) & (response > _PEAK_HEIGHT * sigma)
    dark = (response == ndimage.minimum_filter(response, _PEAK_SIDE)) & (response < -_PEAK_HEIGHT * sigma)
    return BlobCounts(bright=int(bright.sum()), dark=int(dark.sum()))
