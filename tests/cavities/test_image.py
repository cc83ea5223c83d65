"""Laws of Fresnel contrast, and of records that rebuild images."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.cavities.domains import DOMAINS, PAIRS, parse_domain
from passband.cavities.draws import draw_cavities, draw_set
from passband.cavities.image import Body, CavityRecord, Foil, simulate_cavities
from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions
from passband.units import electron_wavelength

SIDE, PIXEL = 128, 2.0


def hole(radius: float, shape: str = "ellipsoid") -> Body:
    centre = SIDE * PIXEL / 2
    return Body(shape=shape, x=centre, y=centre, semi_axes=(radius,) * 3)


def record(defocus: float, radius: float = 30.0, **foil: float) -> CavityRecord:
    conditions = ImagingConditions(C10=-defocus, pixel_size=PIXEL, C30=0.0, aperture=0.01)
    foil_values = {"thickness": 600.0, "attenuation_length": 2000.0, **foil}
    return CavityRecord(
        shape=(SIDE, SIDE), conditions=conditions, foil=Foil(**foil_values), cavities=(hole(radius),)
    )


def profile(image: np.ndarray) -> np.ndarray:
    """Rotational mean about the centre, one value per pixel of radius."""
    y, x = np.indices(image.shape) + 0.5 - SIDE / 2
    r = np.hypot(y, x).astype(int)
    return np.bincount(r.ravel(), image.ravel()) / np.bincount(r.ravel())


@pytest.mark.parametrize("defocus", [4e3, 8e3])
@pytest.mark.parametrize("radius", [10.0, 30.0])
def test_underfocus_gives_a_dark_ring_outside_a_bright_interior_and_overfocus_the_reverse(defocus, radius):
    """One Fresnel width, sqrt(wavelength x defocus), on either side of the edge."""
    edge, width = int(radius / PIXEL), int(np.sqrt(electron_wavelength(200e3) * defocus) / PIXEL)
    inside, outside = slice(max(0, edge - width), edge - 1), slice(edge + 1, edge + width)
    pure = {"attenuation_length": 1e9}  # no mass contrast, which would brighten the inside either way
    under = profile(simulate_cavities(record(defocus, radius, **pure)).pixels)
    over = profile(simulate_cavities(record(-defocus, radius, **pure)).pixels)
    assert under[outside].mean() < 0.97 and under[inside].mean() > 1.05
    assert over[outside].mean() > 1.03 and over[inside].mean() < 0.95


def test_in_focus_leaves_only_mass_contrast():
    sharp = record(0.0)
    sharp = replace(
        sharp, conditions=replace(sharp.conditions, focal_spread=0.0, angular_spread=0.0, aperture=math.inf)
    )
    image = simulate_cavities(sharp).pixels
    missing = 2 * np.sqrt(30.0**2 - (0.5 * PIXEL) ** 2 * 2)  # the pixel beside the centre
    assert image[SIDE // 2, SIDE // 2] == pytest.approx(np.exp(missing / 2000.0), rel=1e-4)
    transparent = replace(sharp, foil=replace(sharp.foil, attenuation_length=1e9))
    assert np.ptp(simulate_cavities(transparent).pixels) < 1e-4


def test_contrast_reverses_with_the_sign_of_defocus_at_first_order():
    weak = {"mean_inner_potential": 0.2, "attenuation_length": 1e9}
    under = simulate_cavities(record(3e3, **weak)).pixels - 1
    over = simulate_cavities(record(-3e3, **weak)).pixels - 1
    assert np.abs(under + over).max() < 0.05 * np.abs(under).max()


@given(radius=st.floats(16, 60))
@settings(max_examples=15, deadline=None)
def test_label_area_equals_the_projected_area_of_a_sphere(radius):
    (mask,) = simulate_cavities(record(5e3, radius)).instances
    # a lattice-point count differs from the area by at most about the perimeter
    perimeter = 2 * math.pi * radius / PIXEL
    assert abs(mask.pixels.sum() - math.pi * (radius / PIXEL) ** 2) < perimeter


def test_label_area_of_a_cube_seen_along_an_axis_is_its_face():
    r = record(5e3)
    cube = Body(shape="truncated octahedron", x=128.0, y=128.0, semi_axes=(30.0,) * 3, truncation=1.5)
    (mask,) = simulate_cavities(replace(r, cavities=(cube,))).instances
    assert mask.pixels.shape == (30, 30)
    assert mask.pixels.all()


def test_the_volume_of_a_truncated_octahedron_does_not_depend_on_its_orientation():
    from passband.cavities.image import exit_wave

    r, volumes = record(0.0), []
    for rotation in [(1.0, 0, 0, 0), (0.3, 0.5, -0.7, 0.2), (0.0, 0.9, 0.1, 0.4)]:
        body = replace(hole(40.0, "truncated octahedron"), rotation=rotation, truncation=0.75)
        volumes.append(exit_wave(replace(r, cavities=(body,)))[1][0][2].sum() * PIXEL**2)
    # square faces at distance h: edge a = h / sqrt 2, volume 8 sqrt 2 a^3 = 4 h^3
    assert volumes == pytest.approx([4 * 40.0**3] * 3, rel=0.01)


@pytest.mark.parametrize("domain", sorted(DOMAINS))
@pytest.mark.parametrize("focus", ["under", "over", "in"])
def test_a_record_rebuilds_its_image_bit_for_bit(domain, focus):
    drawn = draw_cavities(DOMAINS[domain], np.random.default_rng(3), focus=focus, shape=(96, 80))
    again = CavityRecord.from_json(drawn.to_json())
    assert again == drawn
    first, second = simulate_cavities(drawn), simulate_cavities(again)
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.pixels.dtype == np.float32 and first.pixels.shape == (96, 80)
    assert np.isfinite(first.pixels).all()


def test_the_three_sets_differ_and_every_pair_of_table_1_exists():
    a, b, c = (DOMAINS[k] for k in "ABC")
    for x, y in ((a, b), (b, c), (a, c)):
        differing = [
            f
            for f in ("mean_inner_potential", "thickness", "pixel_size", "radius", "coverage", "counts")
            if getattr(x, f) != getattr(y, f)
        ]
        assert len(differing) == 6
    assert len(PAIRS) == 10
    for trained, tested in PAIRS.values():
        for name in trained + tested:
            parse_domain(name)


def test_a_longer_set_begins_with_the_shorter_one():
    short = list(draw_set(["A:under", "B:over"], 3, seed=5))
    assert list(draw_set(["A:under", "B:over"], 6, seed=5))[:3] == short
    assert next(iter(draw_set(["A:under"], 1, seed=6))) != short[0]


def test_instances_lie_in_the_image_and_agree_with_the_labels():
    image = simulate_cavities(next(iter(draw_set(["B:under"], 1, seed=2))))
    assert len(image.instances) > 5
    for i, m in enumerate(image.instances):
        x0, y0, x1, y1 = m.box_xyxy
        assert 0 <= x0 < x1 <= 512 and 0 <= y0 < y1 <= 512
        assert m.pixels.any(axis=0)[[0, -1]].all() and m.pixels.any(axis=1)[[0, -1]].all()
        assert (image.labels == i + 1).sum() <= m.pixels.sum()
    assert image.labels.max() == len(image.instances)


def test_an_empty_domain_has_no_cavity():
    assert simulate_cavities(next(iter(draw_set(["A-empty:under"], 1, seed=0)))).instances == ()


def test_bad_requests_say_what_is_wanted():
    with pytest.raises(ParameterError, match="SET:FOCUS"):
        list(draw_set(["D:under"], 1, seed=0))
    with pytest.raises(ParameterError, match="to_json"):
        CavityRecord.from_json("{}")
    with pytest.raises(ParameterError, match="32 x 32"):
        draw_cavities(DOMAINS["A"], np.random.default_rng(0), shape=(8, 8))


@given(
    seed=st.integers(0, 10**6), side=st.sampled_from([32, 64, 200]), domain=st.sampled_from(sorted(DOMAINS))
)
@settings(max_examples=60, deadline=None)
def test_any_seed_and_size_can_be_drawn_and_simulated(seed, side, domain):
    drawn = draw_cavities(DOMAINS[domain], np.random.default_rng(seed), shape=(side, side))
    assert np.isfinite(simulate_cavities(drawn).pixels).all()
