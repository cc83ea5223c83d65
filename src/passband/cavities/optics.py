"""A round lens and a camera on numpy arrays, for images that are rebuilt bit for bit from records.

SciPy's transforms do not depend on how many threads run. The lens of `physics.transfer` knows every
aberration, batches and gradients, and agrees with this one to rounding (a law among the tests).
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Float32

from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions
from passband.types import Image, Wave
from passband.units import electron_wavelength


def frequency_squared(shape: tuple[int, int], pixel_size: float) -> Float32[np.ndarray, "y x"]:
    """Squared spatial frequency k² on an FFT grid.

    Parameters
    ----------
    shape
        Height and width of the grid.
    pixel_size
        Å; 1 gives cycles per pixel squared.

    Returns
    -------
    array
        (y, x), cycles²/Å², zero frequency at [0, 0].

    Examples
    --------
    >>> frequency_squared((4, 4), 1.0)[0].tolist()
    [0.0, 0.0625, 0.25, 0.0625]
    """
    ky = scipy.fft.fftfreq(shape[0], pixel_size)
    kx = scipy.fft.fftfreq(shape[1], pixel_size)
    return np.add.outer(ky**2, kx**2).astype(np.float32)


def aberration_phase(k2: Image, conditions: ImagingConditions) -> Image:
    """Aberration phase chi(k) of defocus and spherical aberration.

    Parameters
    ----------
    k2
        Squared spatial frequency, cycles²/Å².
    conditions
        Gives C10, C30 and energy.

    Returns
    -------
    array
        chi in rad; the wave is multiplied by exp(-i chi).

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, eq. 2.10,
    doi:10.1007/978-1-4419-6533-2.

    Examples
    --------
    >>> import numpy as np
    >>> c = ImagingConditions(C10=-1e4, C30=0.0)
    >>> chi = aberration_phase(np.array([[0.0, 1e-4]], np.float32), c)
    >>> round(float(chi[0, 1]), 4)
    -0.0788
    """
    wavelength = electron_wavelength(conditions.energy)
    chi = np.pi * wavelength * k2 * (conditions.C10 + 0.5 * conditions.C30 * wavelength**2 * k2)
    return chi.astype(np.float32)


def envelope(k2: Image, conditions: ImagingConditions) -> Image:
    """Quasi-coherent envelope of focal spread, angular spread and aperture.

    Parameters
    ----------
    k2
        Squared spatial frequency, cycles²/Å².
    conditions
        Gives focal_spread and angular_spread (1/e half-widths), C10, C30, aperture, energy.

    Returns
    -------
    array
        Factor in [0, 1] on the wave's transform.

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, section 3.2,
    doi:10.1007/978-1-4419-6533-2.

    Examples
    --------
    >>> import numpy as np
    >>> float(envelope(np.zeros((1, 1), np.float32), ImagingConditions())[0, 0])
    1.0
    """
    wavelength = electron_wavelength(conditions.energy)
    temporal = (0.5 * np.pi * wavelength * conditions.focal_spread * k2) ** 2
    slope = conditions.C10 + conditions.C30 * wavelength**2 * k2  # of chi, over 2 pi wavelength k
    spatial = (np.pi * conditions.angular_spread * slope) ** 2 * k2
    passed = k2 * wavelength**2 <= conditions.aperture**2
    return np.where(passed, np.exp(-temporal - spatial), 0).astype(np.float32)


def propagate_to_image(exit_wave: Wave, conditions: ImagingConditions) -> Wave:
    """Image wave of an exit wave, periodic at the borders.

    Parameters
    ----------
    exit_wave
        complex64 (y, x), sampled at ``conditions.pixel_size``.
    conditions
        The lens; dose and camera are not used.

    Returns
    -------
    array
        complex64 (y, x); its squared modulus is the image's intensity.

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.ones((8, 8), np.complex64)
    >>> bool(np.allclose(propagate_to_image(flat, ImagingConditions(C10=-1e4)), flat))
    True
    """
    shape = (exit_wave.shape[0], exit_wave.shape[1])
    k2 = frequency_squared(shape, conditions.pixel_size)
    transfer = envelope(k2, conditions) * np.exp(-1j * aberration_phase(k2, conditions))
    spectrum = scipy.fft.fft2(exit_wave.astype(np.complex64))
    image_wave = scipy.fft.ifft2(spectrum * transfer.astype(np.complex64))
    return np.asarray(image_wave, np.complex64)


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
