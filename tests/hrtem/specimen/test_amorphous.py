"""Laws of amorphous carbon: density, least distance, disorder, and one film for each seed."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import kstest

from passband.errors import ParameterError
from passband.hrtem.specimen.amorphous import amorphous_carbon

FILM = (60.0, 50.0, 30.0)
PERIOD = (60.0, 50.0, 0.0)


@pytest.mark.parametrize("density", [0.02, 0.11, 0.15])
def test_the_density_is_reached_exactly_and_no_two_atoms_are_nearer_than_a_bond(density):
    r = amorphous_carbon(FILM, seed=3, density=density)
    assert len(r) == round(density * np.prod(FILM))
    assert (r >= 0).all() and (r < FILM).all()
    assert cKDTree(r, boxsize=PERIOD).query(r, k=2)[0][:, 1].min() >= 1.4


def test_each_seed_gives_another_film_and_the_same_one_again():
    films = [amorphous_carbon(FILM, seed=s) for s in (0, 1, 2**40, 0)]
    assert np.array_equal(films[0], films[3])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        distance = cKDTree(films[a]).query(films[b])[0]
        assert distance.min() > 1e-6  # not one atom in common
        assert 0.5 < np.median(distance) < 1.5  # as far as atoms of two unrelated films are


def test_there_is_no_order_at_long_range():
    """The pair distribution is 0 below a bond, peaks after it, and is 1 to the noise beyond 5 Å."""
    r = amorphous_carbon((60.0, 60.0, 60.0), seed=1)
    tree = cKDTree(r, boxsize=(60.0, 60.0, 0.0))
    inner = cKDTree(r[np.abs(r[:, 2] - 30) < 18], boxsize=(60.0, 60.0, 0.0))
    edges = np.arange(0.0, 12.1, 0.4)
    pairs = np.diff(inner.count_neighbors(tree, edges)) / inner.n
    g = pairs / (4 / 3 * np.pi * np.diff(edges**3) * 0.11)
    assert (g[1:3] == 0).all()
    assert g[4] > 1.1
    assert np.abs(g[edges[:-1] > 5] - 1).max() < 0.02


def test_the_projected_film_has_no_preferred_direction_or_place():
    r = amorphous_carbon(FILM, seed=5)
    for axis in (0, 1, 2):
        assert kstest(r[:, axis] / FILM[axis], "uniform").pvalue > 1e-3


def test_packing_does_not_stop_at_the_periodic_border():
    r = amorphous_carbon((20.0, 20.0, 200.0), seed=2)
    near = (r[:, 0] < 1.4).sum() + (r[:, 0] > 18.6).sum()
    expected = len(r) * 2.8 / 20
    assert abs(near - expected) < 4 * np.sqrt(expected)


def test_films_that_cannot_be_are_refused():
    with pytest.raises(ParameterError, match=r"more than 2.8 Å in x and y.*density must be"):
        amorphous_carbon((2.0, 40.0, 10.0), seed=0, density=0.5)
    with pytest.raises(ParameterError, match="0 in z"):
        amorphous_carbon((40.0, 40.0, 0.0), seed=0)
    with pytest.raises(ParameterError, match="finite"):
        amorphous_carbon((40.0, float("nan"), 10.0), seed=0)
