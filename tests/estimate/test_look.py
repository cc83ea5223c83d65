"""What a network saw: what is like known images is near, all else far, whatever is stored and read again."""

import numpy as np
import pytest

from passband.errors import CalibrationError
from passband.estimate import look as module
from passband.estimate.look import Seen, extend_look, fit_look, look_parts, open_look, unlike

DOMAINS = ["a", "b", "c", "d"]


def seen_in(n, seed, shift=0.0, p=120):
    """Numbers that vary along a few directions, of domains that differ along some of them."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(0).normal(size=(12, p))
    places = rng.normal(size=(n, 12))
    places[:, 0] += 0.5 * np.arange(n) % len(DOMAINS)
    return places @ axes + 0.3 * rng.normal(size=(n, p)) + shift


def of(rows, side=512.0):
    return [Seen(numbers=row, side=side) for row in rows]


@pytest.fixture(scope="module")
def look():
    return fit_look(of(seen_in(400, 1)), DOMAINS * 100)


def test_images_like_the_known_ones_are_within_and_others_beyond(look):
    like = [unlike(look, one) for one in of(seen_in(100, 2))]
    assert np.mean(np.array(like) > 1) < 0.15
    # Along a direction in which no known image differs, as a photograph does.
    odd = seen_in(100, 3) + 4 * np.random.default_rng(9).normal(size=120)
    assert min(unlike(look, one) for one in of(odd)) > 1.5


@pytest.mark.parametrize("times", [1e-3, 1e3])
def test_the_unit_of_a_number_does_not_matter(look, times):
    scaled = fit_look(of(seen_in(400, 1) * times), DOMAINS * 100)
    for row in seen_in(5, 4, shift=1.0):
        (one,), (other,) = of([row]), of([row * times])
        assert unlike(scaled, other) == pytest.approx(unlike(look, one), rel=0.02)


def test_a_domain_left_out_sets_the_edge(look):
    """Where domains differ more, what is new must be farther to be strange."""
    apart = seen_in(400, 1)
    apart += 3 * np.random.default_rng(5).normal(size=(4, 120))[np.arange(400) % 4]
    assert fit_look(of(apart), DOMAINS * 100).edges[0] > 1.2 * look.edges[0]


@pytest.mark.parametrize("n", [1, 3, 40])
def test_what_is_added_is_known_and_what_was_known_stays(look, n):
    strange = of(seen_in(n, 6) + 5 * np.random.default_rng(8).normal(size=120))
    more = extend_look(look, strange)
    assert all(unlike(look, row) > 1 for row in strange)
    if n < 5:  # few count several times
        assert all(unlike(more, row) < 1 for row in strange)
    for row in strange:
        assert unlike(more, row) < 0.7 * unlike(look, row)
    for row in of(seen_in(20, 7)):
        assert unlike(more, row) <= unlike(look, row) + 1e-12


def test_it_is_the_same_when_stored_and_read_again(look):
    again = open_look(look_parts(look))
    for row in of(seen_in(10, 11, shift=0.5)):
        assert unlike(again, row) == pytest.approx(unlike(look, row), rel=1e-3)
    assert look_parts(None) == {} and open_look({}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", np.zeros((2, 33), np.float32)),
        ("axes", np.zeros((32, 120), np.float32)),
        ("axes", np.full((32, 120), np.nan, np.float32)),
        ("scale", np.zeros(120, np.float32)),
        ("middle", np.zeros(7, np.float32)),
        ("beside", np.zeros(0, np.float32)),
        ("rows", None),
        ("edges", np.array([-1], np.float32)),
        ("edges", np.array([np.nan], np.float32)),
        ("edges", np.zeros(0, np.float32)),
        ("edges", np.ones(2, np.float32)),
        ("sides", np.array([0], np.float32)),
        ("sides", np.ones((1, 1), np.float32)),
    ],
)
def test_parts_that_do_not_fit_are_refused(look, name, value):
    arrays = {k: v for k, v in {**look_parts(look), name: value}.items() if v is not None}
    with pytest.raises(CalibrationError, match="what a network saw cannot be"):
        open_look(arrays)


def test_sides_that_do_not_rise_are_refused(look):
    arrays = {**look_parts(look), "sides": np.array([64, 64.0]), "edges": np.ones(2)}
    with pytest.raises(CalibrationError, match="sides must rise"):
        open_look(arrays)


def test_of_small_images_less_is_sure(look):
    """Their numbers scatter more; crops of known images tell how much, and no larger image suffers."""
    rng = np.random.default_rng(3)
    crops = [(side, seen_in(400, side) + 60 / side * rng.normal(size=(400, 120))) for side in (64, 256)]
    known = fit_look(
        of(seen_in(400, 1)),
        DOMAINS * 100,
        crops=[one for side, rows in crops for one in of(rows, side)],
        crop_domains=2 * DOMAINS * 100,
    )
    np.testing.assert_allclose(known.sides, [64, 256, 512])
    assert known.edges[0] > known.edges[1] >= known.edges[2] == pytest.approx(look.edges[0])
    small = seen_in(200, 8) + 60 / 64 * np.random.default_rng(9).normal(size=(200, 120))
    assert np.mean([unlike(known, one) > 1 for one in of(small, 64)]) < 0.15
    assert np.mean([unlike(look, one) > 1 for one in of(small, 64)]) > 0.5
    (one,) = of(small[:1], 64)
    between = [unlike(known, Seen(numbers=one.numbers, side=side)) for side in (30, 64, 120, 256, 2000)]
    assert between[0] == between[1] < between[2] < between[3] <= between[4]


def test_a_size_of_which_hardly_an_image_is_known_tells_no_edge():
    crops = of(seen_in(module.FEWEST - 1, 5), 90)
    known = fit_look(
        of(seen_in(400, 1)), DOMAINS * 100, crops=crops, crop_domains=(DOMAINS * 100)[: len(crops)]
    )
    assert known.sides.tolist() == [512]


def test_numbers_of_another_network_are_refused(look):
    with pytest.raises(CalibrationError, match="7 numbers of what a network sees came, wanted 120"):
        unlike(look, Seen(numbers=np.zeros(7), side=512))
    with pytest.raises(CalibrationError, match="wanted 120"):
        extend_look(look, of(np.zeros((2, 7))))


@pytest.mark.parametrize(("n", "p", "domains"), [(400, 120, 1), (20, 120, 4), (400, 20, 4)])
def test_too_little_to_know_from_is_refused(n, p, domains):
    with pytest.raises(CalibrationError, match="wanted two domains or more"):
        fit_look(of(seen_in(n, 1, p=p)), [DOMAINS[i % domains] for i in range(n)])
