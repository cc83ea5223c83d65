"""The objective lens: aberration phase, envelopes, contrast transfer; batched and differentiable.

Every function takes a `Lens`, whose values are tensors of one shape, and frequencies in cycles/Å
that broadcast against it: give the lens the shape (b, 1, 1) for a batch of images. Any value may
require a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from passband.optics.conditions import ImagingConditions
from passband.units import electron_wavelength


@dataclass(frozen=True, kw_only=True)
class Lens:
    """The lens and illumination of one or many images, as tensors of one shape.

    Parameters
    ----------
    wavelength
        Å.
    C10, C12, phi12, C21, phi21, C23, phi23, C30, C50, focal_spread, angular_spread, aperture
        As in `ImagingConditions`.
    """

    wavelength: Tensor
    C10: Tensor
    C12: Tensor
    phi12: Tensor
    C21: Tensor
    phi21: Tensor
    C23: Tensor
    phi23: Tensor
    C30: Tensor
    C50: Tensor
    focal_spread: Tensor
    angular_spread: Tensor
    aperture: Tensor


def lens_of(
    conditions: Sequence[ImagingConditions],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Lens:
    """The lenses of a batch of imaging conditions.

    Parameters
    ----------
    conditions
        One for each image.
    dtype, device
        Of the tensors.

    Returns
    -------
    Lens
        Of tensors (b, 1, 1), to broadcast against frequencies (y, x).

    Examples
    --------
    >>> lens_of([ImagingConditions(C10=-500.0), ImagingConditions()]).C10.flatten().tolist()
    [-500.0, 0.0]
    """
    names = [f.name for f in fields(Lens) if f.name != "wavelength"]
    values = [[getattr(c, name) for c in conditions] for name in names]
    values.append([electron_wavelength(c.energy) for c in conditions])
    columns = torch.tensor(values, dtype=dtype, device=device)[:, :, None, None].unbind()
    return Lens(**dict(zip([*names, "wavelength"], columns, strict=True)))


def aberration_phase(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """Aberration phase chi(k); the wave's transform is multiplied by exp(-i chi).

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å, such as (y, 1) and (1, x).
    lens
        Its values broadcast against the frequencies.

    Returns
    -------
    Tensor
        chi in rad.

    References
    ----------
    O. L. Krivanek, N. Dellby and A. R. Lupini, Ultramicroscopy 78 (1999) 1,
    doi:10.1016/S0304-3991(99)00013-3.

    Examples
    --------
    >>> lens = lens_of([ImagingConditions(C10=-1e4, C30=0.0)])
    >>> k = torch.tensor([[0.0, 0.01]])
    >>> round(aberration_phase(torch.zeros(1, 1), k, lens)[0, 0, 1].item(), 4)
    -0.0788
    """
    wy, wx = lens.wavelength * ky, lens.wavelength * kx
    a2 = wy * wy + wx * wx
    chi = a2 * (lens.C10 / 2 + a2 * (lens.C30 / 4 + a2 * (lens.C50 / 6)))
    if _any(lens.C12):
        twofold = torch.cos(2 * lens.phi12) * (wx * wx - wy * wy) + torch.sin(2 * lens.phi12) * (2 * wx * wy)
        chi = chi + lens.C12 / 2 * twofold
    if _any(lens.C21):
        chi = chi + lens.C21 / 3 * a2 * (torch.cos(lens.phi21) * wx + torch.sin(lens.phi21) * wy)
    if _any(lens.C23):
        cos3, sin3 = wx * (wx * wx - 3 * wy * wy), wy * (3 * wx * wx - wy * wy)
        chi = chi + lens.C23 / 3 * (torch.cos(3 * lens.phi23) * cos3 + torch.sin(3 * lens.phi23) * sin3)
    return 2 * math.pi / lens.wavelength * chi


def aberration_slope_squared(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """Squared gradient of the aberration phase over the scattering angle.

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å.
    lens
        Its values broadcast against the frequencies.

    Returns
    -------
    Tensor
        |d chi / d angle|², dimensionless (rad per rad, squared).

    Examples
    --------
    >>> lens = lens_of([ImagingConditions(C10=-1e4, C30=0.0)])
    >>> k = torch.tensor([[0.01]])
    >>> round(aberration_slope_squared(torch.zeros(1, 1), k, lens).sqrt().item())
    628
    """
    wy, wx = lens.wavelength * ky, lens.wavelength * kx
    a2 = wy * wy + wx * wx
    slope = lens.C10 + a2 * (lens.C30 + a2 * lens.C50)
    if is_round(lens):
        return (2 * math.pi / lens.wavelength * slope) ** 2 * a2
    c2, s2 = lens.C12 * torch.cos(2 * lens.phi12), lens.C12 * torch.sin(2 * lens.phi12)
    c1, s1 = lens.C21 / 3 * torch.cos(lens.phi21), lens.C21 / 3 * torch.sin(lens.phi21)
    c3, s3 = lens.C23 * torch.cos(3 * lens.phi23), lens.C23 * torch.sin(3 * lens.phi23)
    dx = slope * wx + c2 * wx + s2 * wy
    dy = slope * wy - c2 * wy + s2 * wx
    dx = dx + c1 * (3 * wx * wx + wy * wy) + 2 * s1 * wx * wy + c3 * (wx * wx - wy * wy) + 2 * s3 * wx * wy
    dy = dy + s1 * (wx * wx + 3 * wy * wy) + 2 * c1 * wx * wy - 2 * c3 * wx * wy + s3 * (wx * wx - wy * wy)
    return (2 * math.pi / lens.wavelength) ** 2 * (dx * dx + dy * dy)


def temporal_envelope(k2: Tensor, lens: Lens) -> Tensor:
    """Quasi-coherent envelope of the focal spread, exp(-(pi wavelength D k² / 2)²).

    Parameters
    ----------
    k2
        Squared frequency, cycles²/Å².
    lens
        Gives wavelength and focal_spread D.

    Returns
    -------
    Tensor
        In [0, 1]. Right for linear contrast only; see `physics.imaging` for the focal ensemble.

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, section 3.2,
    doi:10.1007/978-1-4419-6533-2.

    Examples
    --------
    >>> lens = lens_of([ImagingConditions(energy=300e3, focal_spread=30.0)])
    >>> round(temporal_envelope(torch.tensor([[1.0]]), lens).item(), 3)
    0.423
    """
    return torch.exp(-((0.5 * math.pi * lens.wavelength * lens.focal_spread * k2) ** 2))


def spatial_envelope(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """Quasi-coherent envelope of the illumination's convergence, exp(-(theta/2)² |grad chi|²).

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å.
    lens
        Gives angular_spread theta and the aberrations.

    Returns
    -------
    Tensor
        In [0, 1].

    References
    ----------
    E. J. Kirkland, Advanced Computing in Electron Microscopy, section 3.2,
    doi:10.1007/978-1-4419-6533-2.

    Examples
    --------
    >>> lens = lens_of([ImagingConditions(C10=0.0, C30=0.0)])
    >>> spatial_envelope(torch.ones(1, 1), torch.ones(1, 1), lens).item()
    1.0
    """
    return torch.exp(-((lens.angular_spread / 2) ** 2) * aberration_slope_squared(ky, kx, lens))


def motion_envelope(
    ky: Tensor, kx: Tensor, *, vibration: float = 0.0, drift_y: float = 0.0, drift_x: float = 0.0
) -> Tensor:
    """What a specimen that moves during the exposure leaves of the intensity's transform.

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å, such as (y, 1) and (1, x).
    vibration
        Standard deviation of its place along each axis, Å: exp(-2 pi² vibration² k²).
    drift_y, drift_x
        How far it moves, evenly, Å: sin(pi k d) / (pi k d) along the drift.

    Returns
    -------
    Tensor
        Real (y, x), 1 at zero frequency: what is moved is not lost.

    References
    ----------
    J. Frank, Optik 30 (1969) 171.

    Examples
    --------
    >>> k = torch.tensor([[0.0, 0.5]])
    >>> still = torch.zeros(1, 1)
    >>> [round(v, 3) for v in motion_envelope(still, k, vibration=0.5)[0].tolist()]
    [1.0, 0.291]
    >>> [round(v, 3) for v in motion_envelope(still, k, drift_x=1.0)[0].tolist()]
    [1.0, 0.637]
    """
    drifted = torch.sinc(ky * drift_y + kx * drift_x)
    if not vibration:
        return drifted
    return drifted * torch.exp(-2 * math.pi**2 * vibration**2 * (ky * ky + kx * kx))


def aperture_transmission(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """The objective aperture, its edge softened over one step of the frequency grid.

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å, (y, 1) and (1, x) in FFT order, at least two each.
    lens
        Gives aperture (rad) and wavelength.

    Returns
    -------
    Tensor
        In [0, 1]; one at zero frequency.

    Examples
    --------
    >>> k = torch.fft.fftfreq(64, 1.0)
    >>> lens = lens_of([ImagingConditions(aperture=0.005)])
    >>> t = aperture_transmission(k[:, None], k[None, :], lens)
    >>> t[0, 0, 0].item(), t[0, 0, 32].item()
    (1.0, 0.0)
    """
    k2 = ky * ky + kx * kx
    k = torch.sqrt(torch.where(k2 > 0, k2, 1.0))
    step_y = (ky.flatten()[1] - ky.flatten()[0]).abs()
    step_x = (kx.flatten()[1] - kx.flatten()[0]).abs()
    step = torch.sqrt((kx * step_x) ** 2 + (ky * step_y) ** 2) / k
    inside = lens.aperture / lens.wavelength - k
    return torch.where(k2 > 0, (inside / torch.where(step > 0, step, 1.0) + 0.5).clamp(0, 1), 1.0)


def transfer_function(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """The lens on the wave: exp(-i chi) times envelopes and aperture, quasi-coherently.

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å, (y, 1) and (1, x) in FFT order.
    lens
        Of tensors (b, 1, 1), or of no dimension.

    Returns
    -------
    Tensor
        Complex; (b, y, x).

    Examples
    --------
    >>> k = torch.fft.fftfreq(4, 1.0)
    >>> t = transfer_function(k[:, None], k[None, :], lens_of([ImagingConditions()]))
    >>> t.shape, t[0, 0, 0].abs().item()
    (torch.Size([1, 4, 4]), 1.0)
    """
    chi, envelope = aberration_phase(ky, kx, lens), _envelopes(ky, kx, lens)
    return torch.complex(envelope * torch.cos(chi), -envelope * torch.sin(chi))


def contrast_transfer(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """The lens on a weak phase: 2 sin(chi) times envelopes and aperture.

    The contrast of a weak phase grating exp(i phi) is phi times this: negative in underfocus without
    other aberrations, where atoms are dark.

    Parameters
    ----------
    ky, kx
        Spatial frequencies, cycles/Å, (y, 1) and (1, x) in FFT order.
    lens
        Of tensors (b, 1, 1), or of no dimension. Coma and threefold astigmatism, odd in k, shift
        and deform the linear image without changing its contrast, and are left out.

    Returns
    -------
    Tensor
        Real, (b, y, x).

    Examples
    --------
    >>> k = torch.tensor([0.0, 0.1])
    >>> lens = lens_of([ImagingConditions(C10=-1000.0, C30=0.0, angular_spread=0.0)])
    >>> bool(contrast_transfer(torch.zeros(1, 1), k[None, :], lens)[0, 0, 1] < 0)
    True
    """
    zero = torch.zeros_like(lens.C21)
    even = replace(lens, C21=zero, C23=zero)
    return 2 * torch.sin(aberration_phase(ky, kx, even)) * _envelopes(ky, kx, even)


def _envelopes(ky: Tensor, kx: Tensor, lens: Lens) -> Tensor:
    """Product of both envelopes and the aperture, of the full shape."""
    envelope = temporal_envelope(ky * ky + kx * kx, lens)
    if _any(lens.angular_spread):
        envelope = envelope * spatial_envelope(ky, kx, lens)
    if lens.aperture.requires_grad or not torch.isinf(lens.aperture).all():
        envelope = envelope * aperture_transmission(ky, kx, lens)
    return envelope


def is_round(lens: Lens) -> bool:
    """Whether astigmatism, coma and threefold astigmatism are zero, and no gradient of them is asked for.

    Returns
    -------
    bool
        Of all images of the batch together.

    Examples
    --------
    >>> is_round(lens_of([ImagingConditions(C10=-500.0)]))
    True
    """
    return not (_any(lens.C12) or _any(lens.C21) or _any(lens.C23))


def _any(value: Tensor) -> bool:
    """Whether a term may be left out: it is zero throughout and nobody asks for its gradient."""
    return value.requires_grad or bool(value.any())
