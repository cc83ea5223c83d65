"""The camera: counting noise, exact or in its Gaussian limit, its transfer functions and its readings."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions

Noise = Literal["auto", "poisson", "gaussian"]
GAUSSIAN_FROM = 20.0
"""Mean electrons per pixel from which ``auto`` takes the Gaussian limit of counting noise."""


def expose(
    expected: Tensor, conditions: ImagingConditions, *, seed: tuple[int, int], noise: Noise = "auto"
) -> Tensor:
    """What the camera reads where so many electrons are expected.

    With w for ``dqe_falloff``: the electrons are blurred by MTF^w, counted with the noise of
    ``quantum_efficiency`` times as many, signal and noise blurred by MTF^(1 - w), and read. So the signal is
    passed by MTF, the noise's spectrum is MTF^(2 - 2 w), and DQE(q) = quantum_efficiency MTF^(2 w).

    Parameters
    ----------
    expected
        Mean electrons on each pixel, float32 (y, x), finite and not negative.
    conditions
        Gives mtf_half, quantum_efficiency, dqe_falloff, gain, gain_noise, offset, readout.
    seed
        Of a series of images and the place in it, from 0: each image has its own noise, while the pattern of
        the pixels' gains is that of the series.
    noise
        As in `count_electrons`.

    Returns
    -------
    Tensor
        float32 (y, x), counts: electrons where gain is 1 and offset 0.

    Raises
    ------
    ParameterError
        As `count_electrons`.

    References
    ----------
    R. R. Meyer and A. I. Kirkland, Microsc. Res. Tech. 49 (2000) 269; M. Vulović et al., J. Struct. Biol. 183
    (2013) 19, doi:10.1016/j.jsb.2013.05.008, on blurring ahead of and behind the counting.

    Examples
    --------
    >>> c = ImagingConditions(dose=100.0, gain=10.0, offset=100.0, quantum_efficiency=0.5)
    >>> counts = expose(torch.full((128, 128), 25.0), c, seed=(1, 0))
    >>> abs(counts.mean().item() - 350) < 2, abs(counts.var().item() - 5000) < 200
    (True, True)
    """
    c, ahead = conditions, conditions.dqe_falloff
    if ahead and math.isfinite(c.mtf_half):
        expected = blur(expected, c.mtf_half, power=ahead).clamp_min(0)
    if c.quantum_efficiency == 1:
        counts = count_electrons(expected, seed=seed, noise=noise)
    else:
        counts = count_electrons(expected * c.quantum_efficiency, seed=seed, noise=noise)
        counts = counts / c.quantum_efficiency
    if ahead < 1 and math.isfinite(c.mtf_half):
        counts = blur(counts, c.mtf_half, power=1 - ahead)
    if c.gain_noise:
        counts = counts * (1 + c.gain_noise * _normal(counts, (seed[0], 0, _PATTERN)))
    if c.gain != 1:
        counts = counts * c.gain
    if c.readout:
        counts = counts + c.readout * _normal(counts, (*seed, _READING))
    return counts + c.offset if c.offset else counts


_READING, _PATTERN = 1, 2  # last words of seeds that no counting noise has


def count_electrons(expected: Tensor, *, seed: tuple[int, ...], noise: Noise = "auto") -> Tensor:
    """Electrons counted in each pixel.

    Parameters
    ----------
    expected
        Mean electrons per pixel, float32 (y, x), finite and not negative.
    seed
        Whole numbers, not negative; the same give the same counts on the same kind of device.
    noise
        "poisson" is exact to 2^-32 in probability; "gaussian" is expected + sqrt(expected) z, for many
        electrons, and may come out a fraction below zero; "auto" takes the latter where the image's
        mean is 20 or more.

    Returns
    -------
    Tensor
        float32 (y, x).

    Raises
    ------
    ParameterError
        If an expected value is negative or not finite.

    References
    ----------
    A. J. Walker, ACM Trans. Math. Softw. 3 (1977) 253, doi:10.1145/355744.355749: the alias method.

    Examples
    --------
    >>> counts = count_electrons(torch.full((64, 64), 4.0), seed=(1, 2))
    >>> abs(counts.mean().item() - 4) < 0.1, abs(counts.var().item() - 4) < 0.4
    (True, True)
    """
    low, high = (v.item() for v in torch.aminmax(expected))
    if not 0 <= low <= high < float("inf"):
        raise ParameterError(
            f"expected electrons must be finite and not negative everywhere, got {low} to {high}"
        )
    if noise == "gaussian" or (noise == "auto" and expected.mean().item() >= GAUSSIAN_FROM):
        return _normal(expected, seed).mul_(expected.sqrt()).add_(expected)
    if expected.device.type != "cpu":
        return torch.poisson(expected, generator=_generator(seed, expected.device))
    counts = _poisson(expected.numpy().ravel(), np.random.SFC64(np.random.SeedSequence(seed)))
    return torch.from_numpy(counts).view(expected.shape)


def blur(image: Tensor, mtf_half: float, *, power: float = 1.0) -> Tensor:
    """An image seen through the modulation transfer function 1 / (1 + (q / mtf_half)²), or a power of it.

    Parameters
    ----------
    image
        Real (y, x).
    mtf_half
        Frequency q, in cycles per pixel, where the function is one half.
    power
        Of the function, not negative.

    Returns
    -------
    Tensor
        Of the same shape; its sum is kept.

    Examples
    --------
    >>> point = torch.zeros(8, 8)
    >>> point[0, 0] = 1
    >>> round(blur(point, 0.25).sum().item(), 6)
    1.0
    """
    qy = torch.fft.fftfreq(image.shape[-2], device=image.device)
    qx = torch.fft.rfftfreq(image.shape[-1], device=image.device)
    mtf = 1 / (1 + (qy[:, None] ** 2 + qx[None, :] ** 2) / mtf_half**2)
    if power != 1:
        mtf = mtf**power
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * mtf, s=image.shape[-2:])
    return blurred


def _normal(like: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Normal numbers, float32, of an image's shape."""
    return torch.randn(like.shape, generator=_generator(seed, like.device), device=like.device)


def _generator(seed: tuple[int, ...], device: torch.device) -> torch.Generator:
    generator = torch.Generator(device)
    generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) >> 1)
    return generator


# Exact Poisson numbers from tables. A Poisson number of mean m is the sum of two, of the multiple of
# _STEP below m and of the rest. The first comes from Walker's alias table of that multiple; the
# second, mostly zero, by inversion of its distribution. Each takes 32 random bits.
_STEP = 1 / 16
_LARGEST = 48.0
_COLUMN_BITS = 7
_COLUMNS = 2**_COLUMN_BITS  # counts up to 127; more has a probability under 1e-19 at the largest mean


def _poisson(mean: np.ndarray, bits: np.random.SFC64) -> np.ndarray:
    """Poisson numbers, float32, of means (n,), float32."""
    words = bits.random_raw(mean.size).view(np.uint32)
    first, second = words[::2], words[1::2]
    many = np.flatnonzero(mean > _LARGEST)
    level = ((np.minimum(mean, _LARGEST) if many.size else mean) * (1 / _STEP)).astype(np.int32)
    column = (first & (_COLUMNS - 1)).astype(np.int32)
    entry = _alias_tables().take(level * _COLUMNS + column)
    keep = (first >> _COLUMN_BITS) < (entry >> _COLUMN_BITS)
    counts = np.where(keep, column, (entry & (_COLUMNS - 1)).view(np.int32)).astype(np.float32)
    # The chance that the rest gives one or more is below its mean, and that below the step: of all
    # pixels only these need a closer look.
    near = np.flatnonzero(second < int(_STEP * 2**32))
    rest = (mean[near] - level[near] * np.float32(_STEP)).astype(np.float64)
    u = second[near] * 2.0**-32
    term = np.exp(-rest)
    beyond = -np.expm1(-rest)
    for n in range(1, 9):
        hit = u < beyond
        if not hit.any():
            break
        counts[near] += hit
        term *= rest / n
        beyond -= term
    if many.size:
        counts[many] = np.random.Generator(bits).poisson(mean[many])
    return np.asarray(counts, np.float32)


@lru_cache(maxsize=1)
def _alias_tables() -> np.ndarray:
    """Alias tables of Poisson distributions at every multiple of the step.

    An entry holds the share of its column that is kept, in 25 bits, and below it the alias. A column
    that is kept whole is its own alias.
    """
    from scipy.stats import poisson

    means = np.arange(int(_LARGEST / _STEP) + 1) * _STEP
    left = np.asarray(poisson.pmf(np.arange(_COLUMNS), means[:, None])) * _COLUMNS
    rows = np.arange(len(means))
    share = np.ones_like(left)
    alias = np.tile(np.arange(_COLUMNS), (len(means), 1))
    done = np.zeros(left.shape, bool)
    for _ in range(_COLUMNS - 1):
        poor = np.where(done, np.inf, left).argmin(1)
        rich = np.where(done, -np.inf, left).argmax(1)
        share[rows, poor] = left[rows, poor]
        alias[rows, poor] = rich
        left[rows, rich] -= 1 - left[rows, poor]
        done[rows, poor] = True
    top = 2 ** (32 - _COLUMN_BITS)
    kept = np.clip(np.round(share * top), 0, top)
    alias = np.where(kept == top, np.arange(_COLUMNS), alias)
    entries = (np.minimum(kept, top - 1).astype(np.uint32) << _COLUMN_BITS) | alias.astype(np.uint32)
    return np.asarray(entries.ravel(), np.uint32)
