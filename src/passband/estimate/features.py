"""Named numbers that say how an image and its detections look, without any label.

The detection features are those of Li et al.; the image features are only used to notice that an
image is unlike those a calibration knows. Each function gives a dictionary, always with the same keys.
"""

from __future__ import annotations

import math

import numpy as np

from passband.detections.detections import Detections
from passband.detections.masks import hold_pixels
from passband.micrographs.micrograph import Micrograph
from passband.optics import spectra
from passband.types import Vector

SCORE_FLOOR = 0.1
"""Objects that score below this are no part of any feature: the published ones were made so."""

_BIN_EDGES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
_SHARES = tuple(f"share_0_{k}" for k in range(1, 10))

CANDIDATE_FEATURES: tuple[str, ...] = (
    *_SHARES,
    "area_ratio",
    "mean_score",
    "std_score",
    "mean_size",
    "std_size",
    "mean_circularity",
    "std_circularity",
    "count",
    "image_confidence",
)
"""The 18 candidates in the order of the paper's section 2.3."""

PAPER_FEATURES: tuple[str, ...] = (
    "share_0_9",
    "count",
    "area_ratio",
    "image_confidence",
    "mean_score",
    "mean_size",
    "std_score",
    "std_size",
)
"""The final eight, in the paper's order."""


def detection_features(detections: Detections) -> dict[str, float]:
    """Candidate features of one image's detections, 18 in all.

    Areas are box areas in units of the image's area, so overlaps count twice; standard deviations
    divide by n. Circularity is that of each mask's convex hull; a box without a mask, or with an
    empty one, takes the circularity of the ellipse that fills it.

    Parameters
    ----------
    detections
        What a detector found. Objects that score below `SCORE_FLOOR` are left out.

    Returns
    -------
    dict of str to float
        One finite number for each of `CANDIDATE_FEATURES`, in that order. No detection: everything
        is 0 but the mean circularity, which is 1, a circle's. One detection: its standard
        deviations are 0.

    References
    ----------
    N. Li et al., Predicting performance of object detection models in electron microscopy using random
    forests, section 2.3; data at doi:10.6084/m9.figshare.27281400.v1.

    Examples
    --------
    >>> import numpy as np
    >>> found = Detections(
    ...     image_shape=(10, 20),
    ...     boxes_xyxy=np.array([[0.0, 0, 4, 5], [5, 5, 7, 10]]),
    ...     scores=np.array([0.95, 0.35]),
    ... )
    >>> f = detection_features(found)
    >>> f["count"], f["share_0_9"], round(f["area_ratio"], 3), round(f["image_confidence"], 3)
    (2.0, 0.5, 0.15, 0.75)
    """
    kept = np.flatnonzero(detections.scores >= SCORE_FLOOR)
    n = len(kept)
    if n == 0:
        return dict.fromkeys(CANDIDATE_FEATURES, 0.0) | {"mean_circularity": 1.0}
    scores = np.asarray(detections.scores[kept], np.float64)
    sizes = detections.areas[kept] / math.prod(detections.image_shape)
    circularity = _circularities(detections, kept)
    bins = np.searchsorted(_BIN_EDGES, scores, side="right") - 1
    shares = np.bincount(bins, minlength=len(_BIN_EDGES)) / n
    values = dict(zip(_SHARES, shares.tolist(), strict=True))
    values |= {
        "area_ratio": float(sizes.sum()),
        "mean_score": float(scores.mean()),
        "std_score": float(scores.std()),
        "mean_size": float(sizes.mean()),
        "std_size": float(sizes.std()),
        "mean_circularity": float(circularity.mean()),
        "std_circularity": float(circularity.std()),
        "count": float(n),
        "image_confidence": float((sizes * scores).sum() / sizes.sum()),
    }
    return values


def image_features(micrograph: Micrograph) -> dict[str, float]:
    """Label-free statistics of an image that do not change with its gain and offset.

    They are read from at most nine tiles of 256 x 256 pixels spread over the image, so that a large
    image costs no more than a small one. None needs the pixel size.

    Parameters
    ----------
    micrograph
        Any micrograph, constant and one-pixel images included.

    Returns
    -------
    dict of str to float
        Always the same keys, always finite:
        ``power_1_128`` ... ``power_1_4``, the share of the ring spectrum's power in the octave that
        starts at 1/128 ... 1/4 cycles/pixel; ``spectral_slope``, d ln(power density) / d ln(frequency);
        ``noise_level``, white-noise standard deviation over that of the image; ``skewness`` and
        ``kurtosis`` (0 for a Gaussian); ``saturation``, the share of pixels at either extreme;
        ``anisotropy`` of the gradient, 0 to 1; ``unevenness``, the share of the variance that lies
        between blocks of 64 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(100, 5, (256, 256)).astype(np.float32)
    >>> f = image_features(Micrograph(pixels=noise, name="noise"))
    >>> round(f["noise_level"], 1), round(f["power_1_4"], 1)
    (1.0, 0.8)
    """
    tiles = spectra.sample_tiles(micrograph.pixels)
    standard = spectra.standardise(tiles)
    ring = spectra.ring_spectrum(standard)
    shares = spectra.octave_shares(ring)
    skewness, kurtosis = spectra.shape_moments(standard)
    values = {f"power_1_{step}": share for step, share in zip(spectra.OCTAVES, shares, strict=True)}
    return values | {
        "spectral_slope": spectra.spectral_slope(ring),
        "noise_level": spectra.noise_level(standard),
        "skewness": skewness,
        "kurtosis": kurtosis,
        "saturation": spectra.saturation(tiles),
        "anisotropy": spectra.gradient_anisotropy(standard),
        "unevenness": spectra.unevenness(standard),
    }


def ellipse_circularity(widths: Vector, heights: Vector) -> Vector:
    """Heywood circularity of the ellipses that fill some boxes.

    Parameters
    ----------
    widths, heights
        The boxes' sides in pixels, shape (n,), positive.

    Returns
    -------
    Vector
        Perimeter over that of the circle of equal area, shape (n,), 1 for a square box; Ramanujan's
        second formula, exact to 1e-4 for sides up to 1 to 10.

    References
    ----------
    S. Ramanujan, Q. J. Math. 45 (1914) 350, for the perimeter.

    Examples
    --------
    >>> import numpy as np
    >>> ellipse_circularity(np.array([8.0, 4.0]), np.array([8.0, 8.0])).round(4).tolist()
    [1.0, 1.0903]
    """
    a, b = widths / 2, heights / 2
    h = ((a - b) / (a + b)) ** 2
    perimeter = math.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    return np.asarray(perimeter / (2 * math.pi * np.sqrt(a * b)), np.float64)


def _circularities(detections: Detections, kept: np.ndarray) -> Vector:
    """Circularity of each kept object, from its mask where there is one."""
    b = detections.boxes_xyxy[kept]
    values = ellipse_circularity(b[:, 2] - b[:, 0], b[:, 3] - b[:, 1])
    if detections.masks is not None:
        from passband.detections.scores import heywood_circularities

        masks = [detections.masks[k] for k in kept]
        seen = np.flatnonzero(hold_pixels(masks))
        values[seen] = heywood_circularities([masks[i] for i in seen])
    return values
