"""Laws of the lens."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from passband.cavities import optics as cavity_optics
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import (
    Lens,
    aberration_phase,
    aberration_slope_squared,
    contrast_transfer,
    lens_of,
    temporal_envelope,
    transfer_function,
)

EVERYTHING = ImagingConditions(
    energy=300e3,
    C10=-320.0,
    C12=40.0,
    phi12=0.4,
    C21=900.0,
    phi21=1.1,
    C23=700.0,
    phi23=-0.6,
    C30=2e4,
    C50=5e6,
    focal_spread=20.0,
    angular_spread=3e-4,
    aperture=0.0123,
)


def grid(n: int = 24, pixel: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    k = torch.fft.fftfreq(n, pixel, dtype=torch.float64)
    return k[:, None], k[None, :]


def test_the_cavities_lens_is_this_one_where_it_is_round() -> None:
    c = ImagingConditions(energy=200e3, C10=-4000.0, C30=1.2e7, focal_spread=60.0, angular_spread=2e-4)
    k2 = cavity_optics.frequency_squared((24, 24), 2.0)
    old = cavity_optics.envelope(k2, c) * np.exp(-1j * cavity_optics.aberration_phase(k2, c))
    ky, kx = grid(24, 2.0)
    new = transfer_function(ky, kx, lens_of([c], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(new, old, atol=1e-5)


@pytest.mark.parametrize("name", ["C10", "C12", "C21", "C23", "C30", "C50"])
def test_each_aberration_has_its_own_symmetry(name: str) -> None:
    c = ImagingConditions(**{"C30": 0.0, name: 1e3})
    lens = lens_of([c], dtype=torch.float64)
    turn = {"C10": 0.7, "C12": math.pi, "C21": 2 * math.pi, "C23": 2 * math.pi / 3, "C30": 1.9, "C50": 0.3}[
        name
    ]
    p = torch.linspace(0, 6, 50, dtype=torch.float64)
    chi = aberration_phase(0.5 * torch.sin(p), 0.5 * torch.cos(p), lens)
    turned = aberration_phase(0.5 * torch.sin(p + turn), 0.5 * torch.cos(p + turn), lens)
    torch.testing.assert_close(turned, chi)
    if name not in ("C10", "C30", "C50"):  # half the period changes the sign
        half = aberration_phase(0.5 * torch.sin(p + turn / 2), 0.5 * torch.cos(p + turn / 2), lens)
        torch.testing.assert_close(half, -chi)


def test_the_slope_is_the_gradient_of_the_phase() -> None:
    lens = lens_of([EVERYTHING], dtype=torch.float64)
    ky = torch.tensor([[0.31, -0.7]], dtype=torch.float64, requires_grad=True)
    kx = torch.tensor([[-0.52, 0.11]], dtype=torch.float64, requires_grad=True)
    chi = aberration_phase(ky, kx, lens)
    dy, dx = torch.autograd.grad(chi.sum(), (ky, kx))
    expected = (dy**2 + dx**2) / lens.wavelength[0] ** 2  # over the angle, wavelength times k
    torch.testing.assert_close(aberration_slope_squared(ky, kx, lens)[0], expected)


def test_the_focal_spread_envelope_is_the_mean_over_a_gaussian_of_focus() -> None:
    spread, k = 40.0, torch.tensor([[0.0, 0.3, 0.6]], dtype=torch.float64)
    z = torch.linspace(-6, 6, 2001, dtype=torch.float64) * spread
    weight = torch.exp(-((z / spread) ** 2))
    focus = [replace(EVERYTHING, C12=0.0, C21=0.0, C23=0.0, C30=0.0, C50=0.0, C10=float(d)) for d in z]
    chi = aberration_phase(torch.zeros(1, 1, dtype=torch.float64), k, lens_of(focus, dtype=torch.float64))
    mean = (weight[:, None, None] * torch.exp(-1j * chi)).sum(0) / weight.sum()
    lens = lens_of([replace(EVERYTHING, focal_spread=spread)], dtype=torch.float64)
    torch.testing.assert_close(mean.real, temporal_envelope(k**2, lens)[0], atol=1e-9, rtol=1e-9)


def test_reversing_every_aberration_reverses_linear_contrast() -> None:
    ky, kx = grid()
    reverse = replace(
        EVERYTHING,
        **{n: -getattr(EVERYTHING, n) for n in ("C10", "C12", "C21", "C23", "C30", "C50")},
    )
    one, other = (contrast_transfer(ky, kx, lens_of([c], dtype=torch.float64)) for c in (EVERYTHING, reverse))
    torch.testing.assert_close(one, -other)
    assert one.abs().max() > 0.5


def test_a_batch_is_its_members() -> None:
    ky, kx = grid()
    other = ImagingConditions(energy=200e3, C10=-900.0)
    both = transfer_function(ky, kx, lens_of([EVERYTHING, other], dtype=torch.float64))
    for i, c in enumerate((EVERYTHING, other)):
        torch.testing.assert_close(both[i], transfer_function(ky, kx, lens_of([c], dtype=torch.float64))[0])


@pytest.mark.parametrize("name", [f.name for f in fields(Lens)])
def test_every_value_of_the_lens_has_the_right_gradient(name: str) -> None:
    ky, kx = grid(6, 0.45)
    lens = lens_of([EVERYTHING], dtype=torch.float64)
    value = getattr(lens, name).clone().requires_grad_(True)

    def of(v: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(transfer_function(ky, kx, replace(lens, **{name: v})))

    step = 1e-6 * float(getattr(lens, name).abs())
    (slope,) = torch.autograd.grad(of(value).sum(), value)
    numeric = (of(value + step).sum() - of(value - step).sum()) / (2 * step)
    assert slope.item() == pytest.approx(numeric.item(), rel=1e-4)
    assert slope.abs() > 0


def test_gradcheck_of_the_whole_transfer_function() -> None:
    # In units in which every parameter is of order one: gradcheck steps by a fixed amount.
    ky, kx = grid(4, 0.45)
    lens = lens_of([EVERYTHING], dtype=torch.float64)
    names = [f.name for f in fields(Lens)]
    scales = [float(getattr(lens, n)) for n in names]
    ones = tuple(torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True) for _ in names)

    def of(*values: torch.Tensor) -> torch.Tensor:
        given = {n: v * s for n, v, s in zip(names, values, scales, strict=True)}
        return torch.view_as_real(transfer_function(ky, kx, Lens(**given)))

    assert torch.autograd.gradcheck(of, ones, eps=1e-7, atol=1e-5, rtol=1e-4)
