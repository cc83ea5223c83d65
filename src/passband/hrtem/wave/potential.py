"""The projected electrostatic potential of a specimen, slice by slice, exact inside the band.

Atoms are spread on the grid with a short kernel whose transform is divided out again, and multiplied
by Lobato's scattering factors and Debye-Waller factors in Fourier space. Along the beam an atom is shared
by the two slices whose middles it lies between, the nearer taking more: so its height counts, not its
slice's alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from passband.errors import ParameterError
from passband.hrtem.specimen.specimen import Specimen
from passband.hrtem.wave.absorption import diffuse_factor
from passband.hrtem.wave.scattering_factors import scattering_factor
from passband.optics.bands import Band, band_within
from passband.optics.grids import grid_fault
from passband.units import POTENTIAL_PER_SCATTERING_FACTOR

CUTOFF = 0.87
"""Share of the Nyquist frequency that the potential has along each axis."""
ANTIALIAS = 2 / 3
"""Share of it that other programs limit transmission and propagation to (Kirkland)."""
KERNEL = 8
"""Grid points that an atom is spread over, along each axis: an error under 1e-4 inside the band."""


def sampling_band(specimen: Specimen, pixel_size: float) -> Band:
    """The grid of a multislice calculation, with all its frequencies.

    Parameters
    ----------
    specimen
        Gives the cell.
    pixel_size
        Wanted sampling, Å.

    Returns
    -------
    Band
        Of a grid as fine or just finer, whose numbers of points have no prime factor above five.

    Raises
    ------
    ParameterError
        If the cell is less than eight pixels wide, or has more than can be calculated.
    """
    extent = (specimen.cell[1], specimen.cell[0])
    if fault := grid_fault(extent, pixel_size):
        raise ParameterError(fault)
    least = (math.ceil(extent[0] / pixel_size - 1e-6), math.ceil(extent[1] / pixel_size - 1e-6))
    shape = (scipy.fft.next_fast_len(least[0], real=True), scipy.fft.next_fast_len(least[1], real=True))
    if min(least) < 8:
        raise ParameterError(
            f"a cell of {extent[1]:g} x {extent[0]:g} Å has {least[1]} x {least[0]} pixels of "
            f"{pixel_size:g} Å; at least 8 x 8 are needed: repeat the cell or take smaller pixels"
        )
    return band_within(shape, extent, math.inf)


def potential_band(grid: Band) -> Band:
    """The frequencies that the potential has on a grid."""
    cutoffs = [CUTOFF * n / (2 * length) for n, length in zip(grid.shape, grid.extent, strict=True)]
    kept = [band_within(grid.shape, grid.extent, c).kept[axis] for axis, c in enumerate(cutoffs)]
    return replace(grid, kept=(kept[0], kept[1]))


def antialias_band(grid: Band) -> Band:
    """The frequencies that are left of a grid's by the limit to two thirds of Nyquist."""
    return band_within(grid.shape, grid.extent, antialias_cutoff(grid.shape, grid.extent))


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
    """Projected potential of every slice, limited to `potential_band`.

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


def first_slice_of(position: np.ndarray, thickness: float, slices: int | np.ndarray) -> np.ndarray:
    """The first slice that has a share of each atom."""
    return np.asarray(np.floor(_height(position, thickness, slices)), np.int64)


def _height(position: np.ndarray, thickness: float, slices: int | np.ndarray) -> np.ndarray:
    """Of each atom above the middle of the first slice, in slices; never outside the outermost middles."""
    return np.asarray(np.clip(position[:, 2] / thickness - 0.5, 0, slices - 1))


def _shares(
    position: np.ndarray, thickness: float, slices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms, slices, and which share of the atom is that slice's; two entries for most atoms."""
    height = _height(position, thickness, slices)
    lower = np.floor(height).astype(np.int64)
    upper = height - lower
    atoms, layers = np.tile(np.arange(len(position)), 2), np.r_[lower, lower + 1]
    shares = np.r_[1 - upper, upper]
    kept = shares > 0
    return atoms[kept], layers[kept], shares[kept]


def antialias_cutoff(shape: tuple[int, int], extent: tuple[float, float]) -> float:
    """The antialiasing limit, cycles/Å: of the coarser axis."""
    return ANTIALIAS / (2 * max(length / n for n, length in zip(shape, extent, strict=True)))


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
    # One complex number for each kind of atom: sorted faster than rows are.
    _, first, kind = np.unique(numbers + 1j * thermal, return_index=True, return_inverse=True)
    depths = np.array([slice_count(s, thickness) for s in specimens])
    atom, layer, share = _shares(position, thickness, depths[of])
    order = np.lexsort((kind[atom], layer))
    atom, layer, share = atom[order], layer[order], share[order]
    start = np.searchsorted(layer, np.arange(slices + 1))
    of, kind = of[atom], kind[atom]
    (rows, shares_y), (columns, shares_x) = _spread(position, band, device, dtype)
    those = torch.as_tensor(atom, device=device)
    rows, columns = rows[those] * band.shape[1], columns[those]
    shares_y = shares_y[those] * torch.as_tensor(share, device=device, dtype=dtype)[:, None]
    shares_x = shares_x[those]
    complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
    kinds = [(band, int(numbers[i]), float(thermal[i])) for i in first]
    factors = [_atom_factor(*k).to(device, complex_type) for k in kinds]
    losses = [(absorbing * _loss_factor(*k)).to(device, complex_type) for k in kinds if absorbing]
    height, width = band.shape

    def potential(i: int) -> Tensor | None:
        here = slice(int(start[i]), int(start[i + 1]))
        if here.start == here.stop:
            return None
        present, plane = np.unique(kind[here], return_inverse=True)
        planes = torch.as_tensor((plane * len(specimens) + of[here]) * (height * width), device=device)
        if len(present) * len(specimens) * height * width < 2**31:
            planes = planes.int()  # half the memory to go through
        places = (rows[here] + planes[:, None])[:, :, None] + columns[here][:, None, :]
        parts = shares_y[here][:, :, None] * shares_x[here][:, None, :]
        grid = torch.zeros(len(present) * len(specimens) * height * width, dtype=dtype, device=device)
        grid.index_add_(0, places.flatten(), parts.flatten())
        spectra = torch.fft.rfft2(grid.view(len(present), len(specimens), height, width))
        lost = [spectrum * losses[k] for spectrum, k in zip(spectra, present, strict=True) if absorbing]
        summed = spectra[0].mul_(factors[present[0]])
        for spectrum, k in zip(spectra[1:], present[1:], strict=True):
            summed += spectrum.mul_(factors[k])
        v: Tensor = torch.fft.irfft2(summed, s=(height, width), norm="forward")
        if not absorbing:
            return v
        return torch.complex(v, torch.fft.irfft2(sum(lost), s=(height, width), norm="forward"))

    return potential


def _spread(
    position: np.ndarray, band: Band, device: torch.device | str, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Along y and along x: the grid points near each atom, (n, KERNEL), and its share on each."""
    spread = []
    for axis, (n, length) in enumerate(zip(band.shape, band.extent, strict=True)):
        at = position[:, 1 - axis] * (n / length)
        near = np.ceil(at - KERNEL / 2)[:, None] + np.arange(KERNEL)
        points = torch.as_tensor(near.astype(np.int32) % n, device=device)
        shares = _kernel((near - at[:, None]) / (KERNEL / 2))
        spread.append((points, torch.as_tensor(shares, device=device, dtype=dtype)))
    return tuple(spread)


# The exponential of a semicircle, and its width for a band of that share of the grid's.
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
def _atom_factor(grid: Band, number: int, thermal: float) -> Tensor:
    """What turns the spectrum of spread atoms of one kind into that of their potential; (y, x), x >= 0."""
    k2 = _squared_frequencies(potential_band(grid))
    potential = POTENTIAL_PER_SCATTERING_FACTOR * scattering_factor(number, k2)
    return _of_spread_atoms(potential * np.exp(-2 * np.pi**2 * thermal * k2), grid)


@lru_cache(maxsize=32)
def _loss_factor(grid: Band, number: int, thermal: float) -> Tensor:
    """The same for the variance of their potential as they move."""
    return _of_spread_atoms(diffuse_factor(number, thermal, _squared_frequencies(potential_band(grid))), grid)


def _squared_frequencies(band: Band) -> np.ndarray:
    """(u, v), u >= 0."""
    ky, kx = (k.numpy() for k in band.frequencies())
    return np.asarray(ky**2 + kx[: band.half[1] + 1] ** 2)


def _of_spread_atoms(atom: np.ndarray, grid: Band) -> Tensor:
    """The spectrum of an atom, (u, v), over that of a spread one and the cell's area; (y, x), x >= 0."""
    band = potential_band(grid)
    spread_y = _kernel_transform(band.half[0], band.shape[0])
    spread_x = _kernel_transform(band.half[1], band.shape[1])[: band.half[1] + 1, None]
    area = band.extent[0] * band.extent[1]
    factor = np.zeros((grid.shape[0], grid.shape[1] // 2 + 1))
    rows = np.r_[: band.half[0] + 1, grid.shape[0] - band.half[0] : grid.shape[0]]
    factor[rows, : band.half[1] + 1] = (atom / (spread_y * spread_x * area)).T
    return torch.as_tensor(factor)
