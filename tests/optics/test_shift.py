"""How alike two conditions transfer: what must hold of the metrics whatever the conditions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions
from passband.optics.shift import (
    METRICS,
    View,
    coverage,
    epsilon,
    information,
    look,
    metrics,
    sigma,
    transfer,
    transfer_of,
)
from passband.optics.transfer import lens_of


def compared(train, test, *, view):
    return metrics(look(train, view=view), look(test, view=view))


CONDITIONS = st.builds(
    ImagingConditions,
    energy=st.sampled_from([80e3, 200e3, 300e3]),
    C10=st.floats(-1500, 1500),
    C12=st.sampled_from([0.0, 60.0]),
    C30=st.sampled_from([0.0, 1.2e7]),
    focal_spread=st.floats(0, 60),
    pixel_size=st.just(0.3),
    mtf_half=st.sampled_from([0.3, math.inf]),
)
VIEW = View(rings=64)


@settings(max_examples=30)
@given(CONDITIONS, CONDITIONS)
def test_a_set_is_like_itself_and_likeness_has_no_direction(one, other):
    assert all(value == pytest.approx(1) for value in compared([one], [one], view=VIEW).values())
    there, back = (compared(*pair, view=VIEW) for pair in (([one], [other]), ([other], [one])))
    assert tuple(there) == METRICS
    for name in METRICS:
        low = -1 if name == "sigma_signed" else 0
        assert low - 1e-9 <= there[name] <= 1 + 1e-9
        if name != "coverage":
            assert there[name] == pytest.approx(back[name])


@settings(max_examples=20)
@given(CONDITIONS, st.floats(0.1, 3.0))
def test_what_a_network_does_not_see_changes_nothing(one, angle):
    turned = replace(one, phi12=angle)
    fine = View(rings=64, directions=64)
    assert compared([one], [turned], view=fine)["sigma"] == pytest.approx(1, abs=1e-3)
    louder = replace(one, dose=10.0, gain=7.0)
    assert compared([one], [louder], view=VIEW)["sigma"] == 1


@settings(max_examples=20)
@given(st.floats(-800, 800).filter(lambda c: abs(c) > 20), st.floats(0, 40), st.floats(5, 40))
def test_a_wider_focal_spread_transfers_less(defocus, spread, more):
    sharp, blurred = (
        transfer([ImagingConditions(C10=defocus, focal_spread=s, pixel_size=0.3)], VIEW)
        for s in (spread, spread + more)
    )
    assert epsilon(sharp, VIEW) > epsilon(blurred, VIEW)
    assert coverage(sharp, blurred, VIEW) == pytest.approx(1)
    assert coverage(blurred, sharp, VIEW) < 1
    assert information(sharp, VIEW, dose=100.0) > information(blurred, VIEW, dose=100.0)


def test_magnitudes_do_not_see_a_reversal_of_contrast_and_signs_do():
    sets = [[ImagingConditions(C10=c, C30=0.0, pixel_size=0.3)] for c in (-200.0, 200.0)]
    found = compared(*sets, view=VIEW)
    assert found["sigma"] == pytest.approx(1) and found["sigma_signed"] == pytest.approx(-1)
    assert found["coverage"] == pytest.approx(1)


def test_epsilon_is_the_mean_of_the_transfer_that_is_drawn():
    lens = ImagingConditions(energy=300e3, C10=-300.0, C30=1.2e7, focal_spread=30.0, pixel_size=0.2)
    k = torch.linspace(0.05, 0.8, 200_001, dtype=torch.float64)
    wavelength = 0.0196875
    chi = math.pi * wavelength * k**2 * (-300.0) + math.pi / 2 * wavelength**3 * 1.2e7 * k**4
    envelope = torch.exp(-((math.pi * wavelength * 30.0 * k**2 / 2) ** 2))
    illumination = torch.exp(-((0.5e-4 * 2 * math.pi * (-300.0 * k + wavelength**2 * 1.2e7 * k**3)) ** 2))
    wanted = (torch.sin(chi).abs() * envelope * illumination).mean()
    found = epsilon(transfer([lens], View(rings=4000)), View(rings=4000))
    assert found.item() == pytest.approx(wanted.item(), rel=2e-3)


def test_nothing_is_told_beyond_half_a_cycle_per_pixel():
    coarse = transfer([ImagingConditions(C10=-300.0, pixel_size=1.0)], VIEW)
    beyond = VIEW.frequencies > 0.5
    assert (coarse.magnitude[beyond] == 0).all() and (coarse.magnitude[~beyond] > 0).any()


def test_a_range_transfers_as_its_members_do_together():
    members = [ImagingConditions(C10=c, pixel_size=0.3) for c in (-100.0, -300.0, -500.0)]
    together = transfer(members, VIEW).magnitude
    each = torch.stack([transfer([m], VIEW).magnitude for m in members])
    assert torch.allclose(together, each.mean(0))


def test_a_thick_particle_is_seen_at_the_foci_of_its_layers():
    deep = replace(VIEW, depth=40.0, layers=2)
    found = transfer([ImagingConditions(C10=-300.0, pixel_size=0.3)], deep)
    each = [transfer([ImagingConditions(C10=c, pixel_size=0.3)], VIEW) for c in (-310.0, -290.0)]
    assert torch.allclose(found.magnitude, (each[0].magnitude + each[1].magnitude) / 2)


def test_a_few_electrons_tell_as_much_each_and_many_tell_less():
    of = transfer([ImagingConditions(C10=-300.0, pixel_size=0.3)], VIEW)
    k, step = VIEW.frequencies, 0.75 / VIEW.rings
    signal = 0.03 * torch.exp(-((k / 0.5) ** 2))
    an_electron = (4 * of.power * signal * math.pi * k * step).sum().item() / math.log(2)
    assert information(of, VIEW, dose=1e-6).item() == pytest.approx(1e-6 * an_electron, rel=1e-4)
    assert information(of, VIEW, dose=1e4).item() < 0.5e4 * an_electron


def test_the_gradient_of_sigma_is_its_slope():
    aim = transfer([ImagingConditions(C10=-400.0, pixel_size=0.3)], VIEW)

    def likeness(defocus: torch.Tensor) -> torch.Tensor:
        lens = lens_of([ImagingConditions(C10=-300.0, pixel_size=0.3)], dtype=torch.float64)
        return sigma(transfer_of(replace(lens, C10=defocus), VIEW), aim, VIEW)

    at = torch.full((1, 1, 1), -300.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(likeness, (at,), eps=1e-3, atol=1e-6)


def test_two_that_transfer_nothing_are_alike_and_one_is_like_no_other():
    blind = transfer([ImagingConditions(C10=0.0, C30=0.0, pixel_size=0.3)], VIEW)
    seeing = transfer([ImagingConditions(C10=-300.0, pixel_size=0.3)], VIEW)
    assert sigma(blind, blind, VIEW) == 1 and sigma(blind, seeing, VIEW) == 0
    assert coverage(seeing, blind, VIEW) == 1 and coverage(blind, seeing, VIEW) == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"band": (0.5, 0.1)}, "band must be"),
        ({"depth": -1.0}, "depth must be"),
        ({"rings": 0}, "1 or more"),
    ],
)
def test_a_view_that_is_none_is_refused(values, said):
    with pytest.raises(ParameterError, match=said):
        View(**values)
    with pytest.raises(ParameterError, match="at least one"):
        transfer([])
