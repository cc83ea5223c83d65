"""Transforms within a band are the whole transforms, cropped."""

from __future__ import annotations

import pytest
import torch

from passband.optics.bands import (
    Band,
    band_within,
    from_band,
    real_from_band,
    real_to_band,
    to_band,
)

SHAPES = [(8, 8), (9, 12), (16, 7), (31, 31)]
CUTOFFS = [0.0, 0.2, 0.37, 9.0]


def bands() -> list[Band]:
    return [band_within(shape, (float(shape[0]), float(shape[1])), c) for shape in SHAPES for c in CUTOFFS]


def whole(field: torch.Tensor, band: Band) -> torch.Tensor:
    """The full transform where the frequencies of the band are, transposed."""
    ky, kx = band.frequencies()
    rows = torch.round(ky.flatten() * band.extent[0]).long() % band.shape[0]
    columns = torch.round(kx.flatten() * band.extent[1]).long() % band.shape[1]
    return torch.fft.fft2(field)[..., rows, :][..., columns].transpose(-1, -2)


@pytest.mark.parametrize("band", bands(), ids=str)
def test_a_spectrum_in_a_band_is_the_whole_one_cropped(band: Band) -> None:
    torch.manual_seed(1)
    field = torch.randn(2, *band.shape, dtype=torch.complex128)
    spectrum = to_band(field, band)
    torch.testing.assert_close(spectrum, whole(field, band))
    real = field.real.contiguous()
    torch.testing.assert_close(real_to_band(real, band), whole(real, band)[..., : band.half[1] + 1, :])


@pytest.mark.parametrize("band", bands(), ids=str)
def test_a_field_limited_to_the_band_comes_back(band: Band) -> None:
    torch.manual_seed(2)
    field = torch.randn(*band.shape, dtype=torch.complex128)
    points = band.shape[0] * band.shape[1]
    limited = from_band(to_band(field, band), band) / points
    torch.testing.assert_close(from_band(to_band(limited, band), band) / points, limited)
    if band.kept == band.shape:
        torch.testing.assert_close(limited, field)
    real = real_from_band(real_to_band(field.real.contiguous(), band), band)
    torch.testing.assert_close(real, from_band(to_band(field.real + 0j, band), band).real)


def test_gradients_pass_through() -> None:
    band = band_within((6, 5), (6.0, 5.0), 0.35)
    field = torch.randn(6, 5, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: from_band(to_band(f, band), band), field)
