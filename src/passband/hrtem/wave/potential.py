"""The projected electrostatic potential of a specimen, slice by slice, exact inside the band.

Atoms are spread on the grid with a short kernel whose transform is divided out again, and multiplied
by Lobato's scattering factors and Debye-Waller factors in Fourier space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from passband.errors import ParameterError
from passband.hrtem.specimen.specimen import Specimen
from passband.hrtem.wave.absorption import diffuse_factor
from passband.hrtem.wave.scattering_factors import scattering_factor
from passband.optics.bands import Band, band_within, grid_fault, real_from_band, real_to_band
from passband.units import POTENTIAL_PER_SCATTERING_FACTOR

CUTOFF = 2 / 3
"""Share of the Nyquist frequency that transmission and propagation are limited to (Kirkland)."""
KERNEL = 6
"""Grid points that an atom is spread over, along each axis: an error under 1e-4 inside the band."""


def sampling_band(specimen: Specimen, pixel_size: float) -> Band:
    """The grid of a multislice calculation and the band that its antialiasing limit leaves.

    Parameters
    ----------
    specimen
        Gives the cell.
    pixel_size
        Wanted sampling, Å.

    Returns
    -------
    Band
        Of the grid.

    Raises
    ------
    ParameterError
        If the cell is less than eight pixels wide, or has more than can be calculated.
    """
    extent = (specimen.cell[1], specimen.cell[0])
    if fault := grid_fault(extent, pixel_size):
        raise ParameterError(fault)
    shape = (math.ceil(extent[0] / pixel_size - 1e-6), math.ceil(extent[1] / pixel_size - 1e-6))
    if min(shape) < 8:
        raise ParameterError(
            f"a cell of {extent[1]:g} x {extent[0]:g} Å has {shape[1]} x {shape[0]} pixels of "
            f"{pixel_size:g} Å; at least 8 x 8 are needed: repeat the cell or take smaller pixels"
        )
    return band_within(shape, extent, antialias_cutoff(shape, extent))


def slice_count(specimen: Specimen, slice_thickness: float) -> int:
    """How many slices, of at most a thickness in Å, divide a specimen's cell along the beam."""
    return max(1, math.ceil(specimen.cell[2] / slice_thickness - 1e-6))


def projected_potential(
    specimen: Specimen,
    *,
    pixel_size: float,
    slice_thickness: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Projected potential of every slice, limited to the band that multislice uses.

    Parameters
    ----------
    specimen
        Atoms, their thermal displacements and cell.
    pixel_size, slice_thickness
        Wanted, Å; the grid's divide the cell.
    dtype
        float32 or float64.

    Returns
    -------
    Tensor
        Real (slices, y, x), V Å: the integral along z of the electrostatic potential.

    Raises
    ------
    ParameterError
        If an element has no scattering factor or the cell is too small.

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, chapter 5,
    doi:10.1007/978-1-4419-6533-2. A. H. Barnett, J. Magland and L. af Klinteberg, SIAM J. Sci. Comput.
    41 (2019) C479, doi:10.1137/18M120885X: the spreading kernel.

    Examples
    --------
    >>> atom = Specimen(
    ...     numbers=np.array([79]), positions=np.array([[4.0, 4.0, 1.0]]), particle=np.array([1], np.int32),
    ...     thermal=np.array([0.006]), cell=(8.0, 8.0, 2.0), focus_plane=1.0,
    ... )
    >>> v = projected_potential(atom, pixel_size=0.2, slice_thickness=2.0)
    >>> v.shape, bool(v[0].argmax() == 20 * 40 + 20)
    (torch.Size([1, 40, 40]), True)
    """
    band = sampling_band(specimen, pixel_size)
    count = slice_count(specimen, slice_thickness)
    potential = slice_potential([specimen], band, count, specimen.cell[2] / count, "cpu", dtype)
    slices = [potential(i) for i in range(count)]
    return torch.cat([torch.zeros(1, *band.shape, dtype=dtype) if v is None else v for v in slices])


def slice_of(position: np.ndarray, thickness: float, slices: int) -> np.ndarray:
    """The slice of each atom."""
    return np.clip((position[:, 2] / thickness + 1e-9).astype(np.int64), 0, slices - 1)


def antialias_cutoff(shape: tuple[int, int], extent: tuple[float, float]) -> float:
    """The antialiasing limit, cycles/Å: of the coarser axis."""
    return CUTOFF / (2 * max(length / n for n, length in zip(shape, extent, strict=True)))


Potential = Callable[[int], Tensor | None]


def slice_potential(
    specimens: Sequence[Specimen],
    band: Band,
    slices: int,
    thickness: float,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    *,
    absorbing: float = 0.0,
) -> Potential:
    """The potential of slice i of a batch of specimens, (b, y, x), or None where all are empty.

    Where ``absorbing`` is not 0 it is complex: its imaginary part is that many times `diffuse_factor`'s.
    """
    of = np.repeat(np.arange(len(specimens)), [len(s.numbers) for s in specimens])
    numbers = np.concatenate([s.numbers for s in specimens])
    thermal = np.concatenate([s.thermal for s in specimens])
    position = np.concatenate([s.positions for s in specimens])
    layer = slice_of(position, thickness, slices)
    # One complex number for each kind of atom: sorted faster than rows are.
    _, first, kind = np.unique(numbers + 1j * thermal, return_index=True, return_inverse=True)
    order = np.lexsort((kind, layer))
    of, layer, kind, position = of[order], layer[order], kind[order], position[order]
    start = np.searchsorted(layer, np.arange(slices + 1))
    pixels, weights = _spread(position, band, device, dtype)
    factors = torch.stack(
        [_atom_factor(band, int(numbers[i]), float(thermal[i]), dtype).to(device) for i in first]
    )
    losses = (
        torch.stack([_loss_factor(band, int(numbers[i]), float(thermal[i]), dtype).to(device) for i in first])
        if absorbing
        else None
    )
    height, width = band.shape

    def potential(i: int) -> Tensor | None:
        here = slice(int(start[i]), int(start[i + 1]))
        if here.start == here.stop:
            return None
        present, plane = np.unique(kind[here], return_inverse=True)
        planes = torch.as_tensor(plane * len(specimens) + of[here], device=device)[:, None]
        grid = torch.zeros(len(present) * len(specimens) * height * width, dtype=dtype, device=device)
        grid.index_add_(0, (pixels[here] + planes * (height * width)).flatten(), weights[here].flatten())
        spectra = real_to_band(grid.view(len(present), len(specimens), height, width), band)
        kinds = torch.as_tensor(present, device=device)
        real = real_from_band((spectra * factors[kinds][:, None]).sum(0), band)
        if losses is None:
            return real
        lost = real_from_band((spectra * losses[kinds][:, None]).sum(0), band)
        return torch.complex(real, absorbing * lost)

    return potential


def _spread(
    position: np.ndarray, band: Band, device: torch.device | str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """For each atom the grid points near it, (n, KERNEL²), and its share on each."""
    points, shares = [], []
    for axis, (n, length) in enumerate(zip(band.shape, band.extent, strict=True)):
        at = position[:, 1 - axis] * (n / length)
        first = np.ceil(at - KERNEL / 2)
        near = first[:, None] + np.arange(KERNEL)
        points.append(torch.as_tensor(near.astype(np.int64) % n, device=device))
        shares.append(
            torch.as_tensor(_kernel((near - at[:, None]) / (KERNEL / 2)), device=device, dtype=dtype)
        )
    pixels = points[0][:, :, None] * band.shape[1] + points[1][:, None, :]
    weights = shares[0][:, :, None] * shares[1][:, None, :]
    return pixels.flatten(1), weights.flatten(1)


# The exponential of a semicircle, and its width for a band of two thirds of the grid's.
_STEEPNESS = 0.976 * math.pi * KERNEL * (1 - CUTOFF / 2)


def _kernel(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(_STEEPNESS * (np.sqrt(np.maximum(0, 1 - z * z)) - 1)))


def _kernel_transform(half: int, n: int) -> np.ndarray:
    """Of the spreading kernel, at the frequencies -half to half in FFT order."""
    z, w = np.polynomial.legendre.leggauss(100)
    m = np.concatenate([np.arange(half + 1), np.arange(-half, 0)])
    wave = np.cos(np.pi * KERNEL * m[:, None] * z / n)
    return np.asarray(KERNEL / 2 * (wave * (w * _kernel(z))).sum(1))


@lru_cache(maxsize=32)
def _atom_factor(band: Band, number: int, thermal: float, dtype: torch.dtype) -> Tensor:
    """What turns the spectrum of spread atoms of one kind into that of their potential; (u, v), u >= 0."""
    k2, spread = _of_spread_atoms(band)
    potential = POTENTIAL_PER_SCATTERING_FACTOR * scattering_factor(number, k2)
    return torch.as_tensor(potential * np.exp(-2 * np.pi**2 * thermal * k2) / spread, dtype=dtype)


@lru_cache(maxsize=32)
def _loss_factor(band: Band, number: int, thermal: float, dtype: torch.dtype) -> Tensor:
    """The same for the variance of their potential as they move."""
    k2, spread = _of_spread_atoms(band)
    return torch.as_tensor(diffuse_factor(number, thermal, k2) / spread, dtype=dtype)


def _of_spread_atoms(band: Band) -> tuple[np.ndarray, np.ndarray]:
    """Squared frequencies, and what the spectrum of one spread atom is there times the cell's area."""
    ky, kx = (k.numpy() for k in band.frequencies())
    k2 = ky**2 + kx[: band.half[1] + 1] ** 2
    spread_y = _kernel_transform(band.half[0], band.shape[0])
    spread_x = _kernel_transform(band.half[1], band.shape[1])[: band.half[1] + 1, None]
    return k2, spread_y * spread_x * (band.extent[0] * band.extent[1])
