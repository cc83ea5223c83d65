"""The camera: expected intensity to counted electrons."""

from __future__ import annotations

import numpy as np
import scipy.fft

from passband.errors import ParameterError
from passband.physics.conditions import ImagingConditions
from passband.physics.transfer import frequency_squared
from passband.types import Image


def count_electrons(intensity: Image, conditions: ImagingConditions, seed: int) -> Image:
    """Counts of a camera with Poisson noise and a modulation transfer function.

    The noise is drawn per pixel and then blurred with the signal, as a scintillator does.
    The MTF is 1 / (1 + (q / mtf_half)²), q in cycles per pixel.

    Parameters
    ----------
    intensity
        (y, x), not negative; 1 is the intensity without a specimen.
    conditions
        Gives dose (e/Å²), pixel_size (Å) and mtf_half (cycles per pixel).
    seed
        Of the counting noise.

    Returns
    -------
    array
        float32 (y, x): electrons per pixel, or the blurred intensity where the dose is infinite.

    Raises
    ------
    ParameterError
        If an intensity is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> c = ImagingConditions(dose=100.0, pixel_size=2.0)
    >>> counts = count_electrons(np.ones((64, 64), np.float32), c, seed=0)
    >>> abs(float(counts.mean()) - 400) < 2
    True
    """
    if not np.isfinite(intensity).all() or intensity.min() < 0:
        raise ParameterError("intensity must be finite and not negative everywhere")
    image = intensity.astype(np.float32)
    if np.isfinite(conditions.dose):
        expected = image.astype(np.float64) * (conditions.dose * conditions.pixel_size**2)
        image = np.random.default_rng(seed).poisson(expected).astype(np.float32)
    if np.isfinite(conditions.mtf_half):
        q2 = frequency_squared((image.shape[0], image.shape[1]), 1.0)[:, : image.shape[1] // 2 + 1]
        mtf = 1 / (1 + q2 / conditions.mtf_half**2)
        blurred = scipy.fft.irfft2(scipy.fft.rfft2(image) * mtf, s=image.shape)
        image = np.asarray(blurred, np.float32)
    return image
