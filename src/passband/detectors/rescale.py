"""Enlarge or shrink a micrograph so that its pixels suit a network."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Float32
from torch.nn.functional import interpolate

from passband.detectors.bundle import Bundle
from passband.micrographs.micrograph import Micrograph
from passband.types import Image


def rescaling(micrograph: Micrograph, bundle: Bundle) -> float:
    """Factor by which a micrograph is enlarged so that its pixels suit the detector.

    Parameters
    ----------
    micrograph
        Its pixel size may be unknown.
    bundle
        Its training conditions give the range of pixel sizes.

    Returns
    -------
    float
        1 inside the range or where a pixel size is unknown; never over 4 or under 1/4.

    Examples
    --------
    >>> import numpy as np
    >>> from passband.detectors.config import SLIM
    >>> b = Bundle(name="b", detector=SLIM, weights={}, score_threshold=0.5, training={"pixel_size": [2, 5]})
    >>> rescaling(Micrograph(pixels=np.zeros((4, 4), np.float32), name="a", pixel_size=1.0), b)
    0.5
    """
    trained = bundle.training.get("pixel_size")
    if micrograph.pixel_size is None or trained is None:
        return 1.0
    nearest = min(max(micrograph.pixel_size, trained[0]), trained[1])
    return float(min(max(micrograph.pixel_size / nearest, 0.25), 4.0))


def resized(pixels: Image, scale: float) -> Float32[np.ndarray, "rows columns"]:
    """An image enlarged by a factor, bilinearly; where it is shrunk, averaged first.

    Examples
    --------
    >>> resized(np.ones((40, 60), np.float32), 0.5).shape
    (20, 30)
    """
    if scale == 1.0:
        return pixels
    if scale < 1:  # averaging, not sampling: noise must not alias
        pixels = scipy.ndimage.gaussian_filter(pixels, 0.4 / scale)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))[None, None]
    size = [max(16, round(side * scale)) for side in pixels.shape]
    out: np.ndarray = interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return out
