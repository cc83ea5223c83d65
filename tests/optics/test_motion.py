"""Laws of a specimen that moves, and of electrons that lose energy in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from passband.errors import ParameterError
from passband.optics.inelastic import inelastic_mean_free_path, inelastic_share
from passband.optics.transfer import motion_envelope

K = torch.linspace(-0.8, 0.8, 9, dtype=torch.float64)


def waves(places: np.ndarray) -> torch.Tensor:
    """The mean over places (n, 2), y and x, of a plane wave of each frequency."""
    ky, kx = K[:, None, None], K[None, :, None]
    y, x = torch.as_tensor(places.T)
    return torch.cos(2 * math.pi * (ky * y + kx * x)).mean(-1)


def test_drift_is_the_mean_over_an_even_path() -> None:
    path = np.linspace(-0.5, 0.5, 4001)[:, None] * np.array([1.3, -0.7])
    envelope = motion_envelope(K[:, None], K[None, :], drift_y=1.3, drift_x=-0.7)
    torch.testing.assert_close(envelope, waves(path), atol=1e-3, rtol=0)


def test_vibration_is_the_mean_over_a_gaussian_of_places() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    mean = sum(w * torch.cos(2 * math.pi * K * 0.4 * n) for n, w in zip(nodes, weights, strict=True))
    along = mean / weights.sum()
    envelope = motion_envelope(K[:, None], K[None, :], vibration=0.4)
    torch.testing.assert_close(envelope, along[:, None] * along[None, :], atol=1e-9, rtol=0)


def test_both_motions_multiply_and_nothing_is_lost() -> None:
    ky, kx = K[:, None], K[None, :]
    both = motion_envelope(ky, kx, vibration=0.3, drift_x=0.9)
    apart = motion_envelope(ky, kx, vibration=0.3) * motion_envelope(ky, kx, drift_x=0.9)
    torch.testing.assert_close(both, apart)
    assert both[4, 4] == 1


@pytest.mark.parametrize("density", [2.0, 19.3])
def test_a_smaller_aperture_lengthens_the_path_and_slower_electrons_shorten_it(density: float) -> None:
    """Of what is lost energy beyond the aperture nothing is counted; denser matter takes more."""
    wide = inelastic_mean_free_path(density=density, energy=300e3)
    assert wide < inelastic_mean_free_path(density=density, energy=300e3, collection=5e-3)
    assert wide > inelastic_mean_free_path(density=density, energy=80e3)
    assert wide > inelastic_mean_free_path(density=density + 1, energy=300e3)


def test_the_path_has_no_jump_where_all_angles_are_seen() -> None:
    nearly, all_of_them = (
        inelastic_mean_free_path(density=2.0, energy=300e3, collection=c) for c in (10.0, math.inf)
    )
    assert nearly == pytest.approx(all_of_them, rel=1e-4)


def test_layers_lose_electrons_one_after_the_other() -> None:
    """What passes two layers is the product of what passes each."""
    parts = [1 - inelastic_share(t, 1000.0) for t in (30.0, 70.0)]
    assert 1 - inelastic_share(100.0, 1000.0) == pytest.approx(parts[0] * parts[1])
    assert inelastic_share(0.0, 1000.0) == 0 and inelastic_share(1e9, 1000.0) == 1


@pytest.mark.parametrize("change", [{"density": 0.0}, {"energy": -1.0}, {"collection": math.nan}])
def test_what_has_no_mean_free_path_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(change))} must be a positive number"):
        inelastic_mean_free_path(**{"density": 2.0, "energy": 3e5, **change})


def test_a_share_of_nothing_known_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"mean free path positive, got 10\.0 and 0\.0"):
        inelastic_share(10.0, 0.0)
