"""Electrons through a specimen: multislice, from atoms to exit waves.

The wave alternates between transmission, exp(i sigma V), and free propagation,
exp(-i pi wavelength dz k²), with every frequency of its grid: no electron is lost. At equal sampling that is
several times nearer to the converged wave than the usual limit to two thirds of the Nyquist frequency
(`studies/convergence.py`), which `multislice` also takes, to be compared with other programs.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from passband.errors import CoarseSamplingWarning, ParameterError
from passband.hrtem.specimen.specimen import Specimen
from passband.hrtem.wave.potential import (
    antialias_cutoff,
    first_slice_of,
    sampling_band,
    slice_count,
    slice_potential,
)
from passband.hrtem.wave.sampling import Sampling, good_sampling, sampling_fault
from passband.optics.bands import Band, band_within, crop, from_band, to_band
from passband.units import electron_wavelength, interaction_constant

_LIMITS = {
    "energy": (1e3, 1e7, "eV"),
    "pixel_size": (1e-3, 10.0, "Å"),
    "slice_thickness": (0.05, 1e3, "Å"),
}
TAPER = 0.01
"""Width of the soft edge of that limit, where it is taken, in cycles per pixel; abTEM's."""


@dataclass(frozen=True, kw_only=True)
class WaveSettings:
    """How an exit wave is calculated.

    Parameters
    ----------
    energy
        Electron energy, eV.
    pixel_size
        Wanted sampling, Å; the grid's is one just below it that divides the cell into a number of points
        that is transformed fast. None for `good_sampling` of the specimen's particles.
    slice_thickness
        Wanted thickness of a slice, Å; the slices' is the nearest below it that divides the cell. None as
        above.
    band
        The highest frequency kept in the stored wave, 1/Å; infinity keeps what the sampling carries.
        An aperture wider than this is accepted, but nothing is there for it to pass.
    absorption
        Share, 0 to 1, of the electrons scattered diffusely by thermal motion that is lost to the image
        (`hrtem.wave.absorption`); 0 loses none, as if all came back in their old places.

    Raises
    ------
    ParameterError
        Naming every value beyond its limits.

    Examples
    --------
    >>> WaveSettings(pixel_size=0.1).energy
    300000.0
    """

    energy: float = 300e3
    pixel_size: float | None = None
    slice_thickness: float | None = None
    band: float = 1.25
    absorption: float = 0.0

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be {low:g} to {high:g} {unit}, got {getattr(self, name):g}"
            for name, (low, high, unit) in _LIMITS.items()
            if getattr(self, name) is not None and not low <= getattr(self, name) <= high
        ]
        if not self.band > 0:
            faults.append(f"band must be a positive number, got {self.band}")
        if not 0 <= self.absorption <= 1:
            faults.append(f"absorption must be a share of 0 to 1, got {self.absorption}")
        if faults:
            raise ParameterError("wave settings: " + "; ".join(faults))

    def sampling(self, numbers: Iterable[int]) -> Sampling:
        """Pixels and slices for particles of some elements, chosen where the settings leave it."""
        good = good_sampling(numbers, self.energy)
        return Sampling(
            pixel_size=self.pixel_size or good.pixel_size,
            slice_thickness=self.slice_thickness or good.slice_thickness,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ExitWave:
    """The wave behind a specimen, as the part of its spectrum inside a band.

    Parameters
    ----------
    spectrum
        Complex (u, v) in the order of `physics.bands`, with v along y; the vacuum wave is 1 at zero
        frequency and 0 elsewhere.
    band
        Grid, extent and frequencies.
    energy
        Electron energy, eV.

    Examples
    --------
    >>> wave = wave_from_array(np.ones((8, 8), np.complex64), pixel_size=0.2, energy=300e3)
    >>> wave.band.extent
    (1.6, 1.6)
    """

    spectrum: Tensor
    band: Band
    energy: float

    @property
    def array(self) -> Tensor:
        """The wave in real space, complex (y, x); its modulus is 1 in vacuum."""
        return self.on_grid(self.band.shape)

    @property
    def pixel_sizes(self) -> tuple[float, float]:
        """Of `array`, Å, along y and along x."""
        (height, width), (rows, columns) = self.band.extent, self.band.shape
        return height / rows, width / columns

    def on_grid(self, shape: tuple[int, int]) -> Tensor:
        """The wave in real space at the points of another grid, at least as many as its frequencies."""
        return from_band(self.spectrum, self.band.on_grid(shape))


def wave_from_array(
    array: np.ndarray, *, pixel_size: float | tuple[float, float], energy: float, band: float = math.inf
) -> ExitWave:
    """An exit wave from its values in real space.

    Parameters
    ----------
    array
        Complex (y, x), finite; 1 in vacuum.
    pixel_size
        Å, positive; (along y, along x) where the two differ.
    energy
        eV.
    band
        Highest frequency kept, 1/Å.

    Returns
    -------
    ExitWave
        With all its frequencies up to the band.

    Raises
    ------
    ParameterError
        If the array is not complex, two-dimensional and finite, or a number not positive.

    Examples
    --------
    >>> wave = wave_from_array(np.full((8, 8), 1j, np.complex64), pixel_size=0.2, energy=300e3)
    >>> bool(torch.allclose(wave.array, torch.tensor(1j, dtype=torch.complex64)))
    True
    """
    array = np.asarray(array)
    if array.ndim != 2 or array.size == 0 or not np.iscomplexobj(array):
        raise ParameterError(
            f"an exit wave is a complex array (y, x), got {array.dtype} of shape {array.shape}; "
            "an intensity has lost its phase and cannot be focused"
        )
    if not np.isfinite(array).all():
        raise ParameterError(
            f"an exit wave must be finite; {(~np.isfinite(array)).sum()} of its values are not"
        )
    sizes = pixel_size if isinstance(pixel_size, tuple) else (pixel_size, pixel_size)
    if not all(size > 0 and math.isfinite(size) for size in sizes):
        raise ParameterError(f"pixel_size must be a positive number of Å, got {pixel_size}")
    electron_wavelength(energy)  # refuses an energy that is none
    shape = (array.shape[0], array.shape[1])
    grid = band_within(shape, (shape[0] * sizes[0], shape[1] * sizes[1]), band)
    field = torch.as_tensor(array, dtype=torch.complex128 if array.dtype == complex else torch.complex64)
    return ExitWave(spectrum=to_band(field, grid) / array.size, band=grid, energy=energy)


def multislice(
    potential: Iterable[Tensor | None],
    band: Band,
    *,
    energy: float,
    slice_thickness: float,
    incident: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Spectrum of the wave that leaves a stack of slices.

    Parameters
    ----------
    potential
        Projected potential of each slice, real (..., y, x) in V Å, in the order the beam meets them;
        None is vacuum. float64 is calculated in double precision. An imaginary part absorbs.
    band
        Of the grid, from `sampling_band`; from `antialias_band`, transmission and propagation are limited
        to two thirds of the Nyquist frequency.
    energy
        eV.
    slice_thickness
        Å; negative goes back through free space (the potential is not undone).
    incident
        Spectrum of the wave that comes in, as this function returns it; the plane wave if not given.
    device
        Of the potential.

    Returns
    -------
    Tensor
        Complex (..., u, v), as `ExitWave` keeps it, at the exit face of the last slice.

    References
    ----------
    J. M. Cowley and A. F. Moodie, Acta Cryst. 10 (1957) 609, doi:10.1107/S0365110X57002194.

    Examples
    --------
    >>> band = band_within((16, 16), (3.2, 3.2), 5 / 3)
    >>> wave = multislice([None, None], band, energy=300e3, slice_thickness=2.0)
    >>> wave[0, 0].item(), wave.abs().sum().item()
    ((1+0j), 1.0)
    """
    whole = band.kept == band.shape
    step = _whole_step if whole else _limited_step
    # The plain transform's order is (y, x), that of a band is transposed.
    spectrum = incident.mT.contiguous() if whole and incident is not None else incident
    for v in potential:
        if spectrum is None:
            double = v is not None and v.dtype in (torch.float64, torch.complex128)
            spectrum = _plane_wave(band, torch.complex128 if double else torch.complex64, device)
        through = _propagator(band, energy, slice_thickness, spectrum.dtype, spectrum.device)
        if v is None:
            spectrum = spectrum * through.free
            continue
        transmission = _transmission(interaction_constant(energy) * v)
        spectrum = step(spectrum, transmission, band, through)
    if spectrum is None:
        raise ParameterError("multislice needs at least one slice")
    return spectrum.mT.contiguous() if whole else spectrum


def _whole_step(spectrum: Tensor, transmission: Tensor, band: Band, through: _Propagator) -> Tensor:
    """One slice and the way to the next, with all frequencies of the grid; spectra are (y, x)."""
    wave = _times(transmission, torch.fft.ifft2(spectrum, norm="forward"))
    return _times(torch.fft.fft2(wave), through.step)


def _times(own: Tensor, other: Tensor) -> Tensor:
    """Their product, in the place of the first where that is as large and no gradient is asked for."""
    fits = list(own.shape) == list(np.broadcast_shapes(own.shape, other.shape))
    return own.mul_(other) if fits and not (own.requires_grad or other.requires_grad) else own * other


def _limited_step(spectrum: Tensor, transmission: Tensor, band: Band, through: _Propagator) -> Tensor:
    """The same, with transmission and wave limited to the band; spectra are (u, v)."""
    limited = from_band(to_band(transmission, band) * through.limit, band)
    return to_band(from_band(spectrum, band) * limited, band) * through.step


def exit_wave(
    specimen: Specimen,
    settings: WaveSettings | None = None,
    *,
    at_exit_face: bool = False,
    device: torch.device | str = "cpu",
) -> ExitWave:
    """The wave behind a specimen, focused on its focus plane and cropped to the band.

    The wave behind the slices upstream of all particles is kept and used again for further specimens
    that have the same atoms there, such as other particles on the same substrate.

    Parameters
    ----------
    specimen
        Atoms in their cell.
    settings
        Energy, sampling and band; the defaults if not given.
    at_exit_face
        Leave the wave at the cell's exit face instead.
    device
        Where to calculate.

    Returns
    -------
    ExitWave
        complex64. A lens without defocus shows the focus plane.

    Raises
    ------
    ParameterError
        If an element has no scattering factor or the cell is too small.

    Examples
    --------
    >>> atom = Specimen(
    ...     numbers=np.array([79]), positions=np.array([[4.0, 4.0, 1.0]]), particle=np.array([1], np.int32),
    ...     thermal=np.array([0.006]), cell=(8.0, 8.0, 2.0), focus_plane=1.0,
    ... )
    >>> exit_wave(atom).array.shape  # 0.12 Å
    torch.Size([72, 72])
    """
    return exit_waves([specimen], settings, at_exit_face=at_exit_face, device=device)[0]


def exit_waves(
    specimens: Sequence[Specimen],
    settings: WaveSettings | None = None,
    *,
    at_exit_face: bool = False,
    device: torch.device | str = "cpu",
) -> list[ExitWave]:
    """Exit waves of several specimens in cells of one width, calculated as one batch.

    Parameters
    ----------
    specimens
        Their cells must agree in x and y and in the thickness of a slice; depths may differ.
    settings, at_exit_face, device
        As in `exit_wave`. On a CPU a batch has no use; on a GPU it fills the device.

    Returns
    -------
    list of ExitWave
        One for each specimen.

    Raises
    ------
    ParameterError
        As `exit_wave`, and if the cells do not agree.

    Examples
    --------
    >>> atom = Specimen(
    ...     numbers=np.array([79]), positions=np.array([[4.0, 4.0, 1.0]]), particle=np.array([1], np.int32),
    ...     thermal=np.array([0.006]), cell=(8.0, 8.0, 2.0), focus_plane=1.0,
    ... )
    >>> len(exit_waves([atom, atom]))
    2
    """
    settings = settings or WaveSettings()
    numbers = np.unique(np.concatenate([_matter(s) for s in specimens])).tolist()
    sampling = settings.sampling(numbers)
    if fault := sampling_fault(numbers, settings.energy, sampling):
        warnings.warn(
            f"{fault}; leave the sampling out, and it is chosen", CoarseSamplingWarning, stacklevel=2
        )
    counts = [slice_count(s, sampling.slice_thickness) for s in specimens]
    thicknesses = [s.cell[2] / n for s, n in zip(specimens, counts, strict=True)]
    first, thickness = specimens[0], thicknesses[0]
    if any(s.cell[:2] != first.cell[:2] for s in specimens) or np.ptp(thicknesses) > 1e-9 * thickness:
        cells = sorted({s.cell for s in specimens})
        raise ParameterError(
            f"a batch needs cells of one width and slices of one thickness, got cells {cells[:3]}; "
            "calculate them one by one"
        )
    band = sampling_band(first, sampling.pixel_size)
    begin, incident = 0, None
    if len(specimens) == 1:
        begin, slab = _upstream(first, counts[0])
        if slab is not None:
            incident = _behind(slab, band, settings, thickness, torch.device(device))
    absorbing = settings.absorption * interaction_constant(settings.energy) / 2
    potential = slice_potential(specimens, band, max(counts), thickness, device, absorbing=absorbing)
    spectrum = multislice(
        (potential(i) for i in range(begin, max(counts))),
        band,
        energy=settings.energy,
        slice_thickness=thickness,
        incident=incident,
        device=device,
    )
    if spectrum.ndim == 2:  # nothing but vacuum
        spectrum = spectrum.expand(len(specimens), *spectrum.shape)
    kept = band_within(band.shape, band.extent, settings.band)
    spectrum = crop(spectrum, kept)
    ky, kx = kept.frequencies(device=spectrum.device)
    per_length = math.pi * electron_wavelength(settings.energy) * (ky * ky + kx * kx)
    waves = []
    for s, values in zip(specimens, spectrum, strict=True):
        # A slice acts at its entrance, half a slice before its atoms' mean height.
        to_focus = max(counts) * thickness - s.focus_plane + thickness / 2
        back = per_length * (max(counts) * thickness - s.cell[2] if at_exit_face else to_focus)
        focused = values * torch.polar(torch.ones_like(back), back).to(values.dtype)
        waves.append(ExitWave(spectrum=focused, band=kept, energy=settings.energy))
    return waves


def _matter(specimen: Specimen) -> np.ndarray:
    """Atomic numbers of the particles; of all where there is none."""
    inside = specimen.particle > 0
    return specimen.numbers[inside] if inside.any() else specimen.numbers


@dataclass(frozen=True, kw_only=True)
class _Slab:
    """Slices that the beam meets before any particle; equal where their atoms are."""

    digest: bytes
    count: int
    specimen: Specimen = field(compare=False)


def _upstream(specimen: Specimen, slices: int) -> tuple[int, _Slab | None]:
    """How many slices come before the first particle, and what is in them; None if that is little."""
    layer = first_slice_of(specimen.positions, specimen.cell[2] / slices, slices)
    begin = int(layer[specimen.particle > 0].min(initial=slices))
    ahead = layer < begin
    if begin in (0, slices) or not ahead.any():
        return 0, None
    columns = (specimen.numbers[ahead], specimen.thermal[ahead], specimen.positions[ahead])
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(c).tobytes() for c in columns)).digest()
    return begin, _Slab(digest=digest, count=begin, specimen=specimen)


@lru_cache(maxsize=4)
def _behind(
    slab: _Slab, band: Band, settings: WaveSettings, thickness: float, device: torch.device
) -> Tensor:
    """The wave behind a slab: calculated once for all specimens on one and the same substrate."""
    slices = slice_count(slab.specimen, thickness)
    absorbing = settings.absorption * interaction_constant(settings.energy) / 2
    potential = slice_potential([slab.specimen], band, slices, thickness, device, absorbing=absorbing)
    return multislice(
        (potential(i) for i in range(slab.count)),
        band,
        energy=settings.energy,
        slice_thickness=thickness,
        device=device,
    )


def _transmission(phase: Tensor) -> Tensor:
    """exp(i phase) of a slice; the imaginary part of a complex phase damps."""
    if not phase.is_complex():
        return torch.complex(torch.cos(phase), torch.sin(phase))
    return torch.polar(torch.exp(-phase.imag), phase.real)


def _plane_wave(band: Band, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    whole = band.kept == band.shape
    spectrum = torch.zeros(band.kept if whole else band.kept[::-1], dtype=dtype, device=device)
    spectrum[0, 0] = 1
    return spectrum


@dataclass(frozen=True, kw_only=True, eq=False)
class _Propagator:
    """What spectra are multiplied by: the antialiasing limit, free space, and what follows a slice.

    The first and the last are over the number of points: there and back multiplies by as much. They are
    (y, x) with all frequencies of the grid, else (u, v).
    """

    limit: Tensor
    free: Tensor
    step: Tensor


@lru_cache(maxsize=8)
def _propagator(
    band: Band, energy: float, thickness: float, dtype: torch.dtype, device: torch.device
) -> _Propagator:
    ky, kx = band.frequencies(device=device)
    k2 = ky * ky + kx * kx
    limit = torch.ones_like(k2)
    if band.kept != band.shape:
        cutoff = antialias_cutoff(band.shape, band.extent)
        taper = TAPER / max(length / n for n, length in zip(band.shape, band.extent, strict=True))
        k = torch.sqrt(k2)
        edge = 0.5 * (1 + torch.cos(math.pi * (k - cutoff + taper) / taper))
        limit = torch.where(k > cutoff, 0.0, torch.where(k > cutoff - taper, edge, 1.0))
    phase = -math.pi * electron_wavelength(energy) * thickness * k2
    limit = limit / (band.shape[0] * band.shape[1])
    free = torch.polar(torch.ones_like(phase), phase)
    if band.kept == band.shape:
        limit, free = limit.mT.contiguous(), free.mT.contiguous()
    return _Propagator(limit=limit.to(dtype), free=free.to(dtype), step=(limit * free).to(dtype))
