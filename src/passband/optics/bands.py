"""Fourier transforms of periodic fields that skip the frequencies outside a band.

A field limited to two thirds of its Nyquist frequency has 5/9 of its spectrum empty. Transforming
along x first, keeping the columns inside the band, and then along y on those columns alone, takes
less time than the full transform. Spectra here are transposed, (..., u, v) with v along y,
in FFT order with zero frequency first: the way back reads rows with a stride, and writes the field in order.

Neither way is normalised: there and back multiplies by the number of grid points. What scales is folded
into factors that are multiplied anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from passband.errors import ParameterError


@dataclass(frozen=True, kw_only=True)
class Band:
    """A periodic field's grid and the rectangle of frequencies around zero that is kept.

    Parameters
    ----------
    shape
        Grid points (y, x).
    extent
        Size of the field (y, x), Å.
    kept
        How many frequencies are kept, (y, x): an odd number, as many below zero as above, or all.
    """

    shape: tuple[int, int]
    extent: tuple[float, float]
    kept: tuple[int, int]

    @property
    def half(self) -> tuple[int, int]:
        """The index of the highest frequency kept, (y, x)."""
        return self.kept[0] // 2, self.kept[1] // 2

    def frequencies(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Frequencies kept, cycles/Å: ky of shape (1, v) and kx of shape (u, 1), in FFT order."""
        return _frequencies(self, dtype, torch.device(device))

    def on_grid(self, shape: tuple[int, int]) -> Band:
        """The same frequencies over another grid (y, x) of the same field.

        Raises
        ------
        ParameterError
            If the grid has fewer points than there are frequencies.
        """
        if any(n < kept for n, kept in zip(shape, self.kept, strict=True)):
            raise ParameterError(
                f"a grid of {shape[0]} x {shape[1]} points is too coarse for {self.kept[0]} x "
                f"{self.kept[1]} frequencies; take more points or crop the wave's band"
            )
        return replace(self, shape=shape)


@lru_cache(maxsize=16)
def _frequencies(band: Band, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    ky, kx = (
        torch.fft.fftfreq(n, 1 / n, dtype=dtype, device=device) / length
        for n, length in zip(band.kept, band.extent, strict=True)
    )
    return ky[None, :], kx[:, None]


def band_within(shape: tuple[int, int], extent: tuple[float, float], cutoff: float) -> Band:
    """The band that holds all frequencies up to a cutoff.

    Parameters
    ----------
    shape, extent
        Of the field: grid points and Å, (y, x).
    cutoff
        cycles/Å; the whole grid's band where it is more.

    Returns
    -------
    Band
        Of an odd number of frequencies along each axis, or of all.

    Examples
    --------
    >>> band_within((8, 8), (16.0, 16.0), 0.15).kept
    (5, 5)
    >>> band_within((8, 8), (16.0, 16.0), 9.0).kept
    (8, 8)
    """
    y, x = (
        n if cutoff * length * (1 + 1e-9) >= n // 2 else 2 * int(cutoff * length * (1 + 1e-9)) + 1
        for n, length in zip(shape, extent, strict=True)
    )
    return Band(shape=shape, extent=extent, kept=(y, x))


def to_band(field: Tensor, band: Band) -> Tensor:
    """Spectrum of a complex field within a band.

    Parameters
    ----------
    field
        Complex (..., y, x).
    band
        Of that shape.

    Returns
    -------
    Tensor
        Complex (..., u, v), transposed: zero frequency is the sum of the field.

    Examples
    --------
    >>> band = band_within((4, 6), (4.0, 6.0), 0.3)
    >>> field = torch.ones(4, 6, dtype=torch.complex64)
    >>> to_band(field, band).shape, to_band(field, band)[0, 0].real.item()
    (torch.Size([3, 3]), 24.0)
    """
    return _along_y(_crop(torch.fft.fft(field), band.kept[1]), band)


def from_band(spectrum: Tensor, band: Band) -> Tensor:
    """Complex field of a spectrum that is zero outside a band.

    Parameters
    ----------
    spectrum
        Complex (..., u, v), as `to_band` gives it.
    band
        Gives the field's shape.

    Returns
    -------
    Tensor
        Complex (..., y, x).

    Examples
    --------
    >>> band = band_within((8, 8), (8.0, 8.0), 0.3)
    >>> field = torch.ones(8, 8, dtype=torch.complex64)
    >>> torch.allclose(from_band(to_band(field, band), band) / 64, field)
    True
    """
    rows = torch.fft.ifft(_pad(spectrum, band.shape[0]), norm="forward")
    field: Tensor = torch.fft.ifft(_pad_rows(rows, band.shape[1]), dim=-2, norm="forward")
    return field.transpose(-1, -2)


def real_to_band(field: Tensor, band: Band) -> Tensor:
    """Spectrum of a real field within a band, the half of it that tells the other.

    Parameters
    ----------
    field
        Real (..., y, x).
    band
        Of that shape.

    Returns
    -------
    Tensor
        Complex (..., half_x + 1, v).

    Examples
    --------
    >>> real_to_band(torch.ones(4, 6), band_within((4, 6), (4.0, 6.0), 0.3)).shape
    torch.Size([2, 3])
    """
    return _along_y(torch.fft.rfft(field)[..., : band.half[1] + 1], band)


def real_from_band(spectrum: Tensor, band: Band) -> Tensor:
    """Real field of half a spectrum.

    Parameters
    ----------
    spectrum
        Complex (..., half_x + 1, v), as `real_to_band` gives it.
    band
        Gives the field's shape.

    Returns
    -------
    Tensor
        Real (..., y, x).

    Examples
    --------
    >>> band = band_within((8, 8), (8.0, 8.0), 0.3)
    >>> field = real_from_band(real_to_band(torch.ones(8, 8), band), band) / 64
    >>> bool(torch.allclose(field, torch.ones(8, 8)))
    True
    """
    rows = torch.fft.ifft(_pad(spectrum, band.shape[0]), norm="forward")
    field: Tensor = torch.fft.irfft(rows, n=band.shape[1], dim=-2, norm="forward")
    return field.transpose(-1, -2)


def crop(spectrum: Tensor, band: Band) -> Tensor:
    """The part of a spectrum inside a smaller band of the same field.

    Parameters
    ----------
    spectrum
        Complex (..., u, v), as `to_band` gives it.
    band
        Of no more frequencies than the spectrum has.

    Returns
    -------
    Tensor
        Complex (..., u, v).

    Examples
    --------
    >>> crop(torch.ones(7, 5), band_within((8, 8), (8.0, 8.0), 0.13)).shape
    torch.Size([3, 3])
    """
    rows = _crop(spectrum, band.kept[0]).transpose(-1, -2)
    return _crop(rows, band.kept[1]).transpose(-1, -2).contiguous()


def _along_y(columns: Tensor, band: Band) -> Tensor:
    """Columns (..., y, u) transformed along y, cropped and transposed."""
    return _crop(torch.fft.fft(columns, dim=-2).transpose(-1, -2), band.kept[0])


def _crop(spectrum: Tensor, kept: int) -> Tensor:
    """The lowest frequencies of the last axis, zero first."""
    if kept == spectrum.shape[-1]:
        return spectrum
    below = kept // 2
    return torch.cat([spectrum[..., : kept - below], spectrum[..., spectrum.shape[-1] - below :]], dim=-1)


def _pad(spectrum: Tensor, n: int) -> Tensor:
    """The last axis with zeros between its positive and negative frequencies, n in all."""
    kept = spectrum.shape[-1]
    if kept == n:
        return spectrum
    below = kept // 2
    whole = spectrum.new_empty((*spectrum.shape[:-1], n))
    whole[..., : kept - below] = spectrum[..., : kept - below]
    whole[..., kept - below : n - below] = 0
    whole[..., n - below :] = spectrum[..., kept - below :]
    return whole


def _pad_rows(spectrum: Tensor, n: int) -> Tensor:
    """The last axis but one with zeros between its positive and negative frequencies, n in all.

    A few points are left out between rows: those of a power of two would fall on one another in the cache.
    """
    kept, columns = spectrum.shape[-2:]
    below = kept // 2
    whole = spectrum.new_empty((*spectrum.shape[:-2], n, columns + 8))[..., :columns]
    whole[..., : kept - below, :] = spectrum[..., : kept - below, :]
    whole[..., kept - below : n - below, :] = 0
    whole[..., n - below :, :] = spectrum[..., kept - below :, :]
    return whole
