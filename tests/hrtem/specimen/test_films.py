"""Laws of films: order of amorphous ones, no trace of how they are put together, faces, crystals."""

from functools import cache

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import kstest

from passband.errors import ParameterError
from passband.hrtem.specimen.films import FILMS, LAYER, Film, Hole, _Seams, build_film, density_limits
from passband.hrtem.specimen.networks import network

CELLS = ((102.4, 102.4), (76.8, 76.8), (51.2, 64.0), (128.0, 40.0))


def carbon(seed: int = 0, **values: object) -> Film:
    return Film(**{"kind": "carbon", "cell": CELLS[seed % 4], "thickness": 40.0, "seed": seed, **values})


@cache
def built(film: Film) -> np.ndarray:
    """Where its atoms are; not to be changed."""
    positions = build_film(film).positions
    positions.flags.writeable = False
    return positions


def neighbours(r: np.ndarray, cell: tuple[float, float], of: slice | np.ndarray = slice(None)) -> np.ndarray:
    lifted = r - [0, 0, r[:, 2].min()]
    tree = cKDTree(lifted, boxsize=(*cell, 0))
    return tree.query_ball_point(lifted[of], 1.9, return_length=True) - 1


@cache
def spectrum(film: Film, pixel: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies across the beam and |sum exp(2 pi i q r)|² / n there, of atoms put on the nearest pixel."""
    r = built(film)
    shape = [round(side / pixel) for side in film.cell]
    at = [np.floor(r[:, i] / film.cell[i] * n).astype(int) % n for i, n in enumerate(shape)]
    counts = np.bincount(at[0] * shape[1] + at[1], minlength=shape[0] * shape[1]).reshape(shape)
    qx, qy = (np.fft.fftfreq(n, side / n) for n, side in zip(shape, film.cell, strict=True))
    power = (
        np.abs(np.fft.fft2(counts)) ** 2 / len(r) / np.outer(np.sinc(qx * pixel), np.sinc(qy * pixel)) ** 2
    )
    return np.hypot(qx[:, None], qy), power


def films_of_carbon(step: int = 1) -> list[tuple[Film, np.ndarray]]:
    """Twenty of four cells, or those of one cell with a step of four."""
    return [(carbon(seed), built(carbon(seed))) for seed in range(0, 20, step)]


def test_carbon_has_the_density_and_the_neighbours_of_carbon():
    densities = [len(r) / (np.prod(film.cell) * film.thickness) for film, r in films_of_carbon()]
    assert np.mean(densities) == pytest.approx(0.11, rel=0.005)
    assert densities == pytest.approx([0.11] * 20, rel=0.015)
    for film, r in films_of_carbon():
        found = neighbours(r, film.cell, slice(0, None, 4))
        assert 2.8 < found.mean() < 3.3
        inside = np.abs(r[::4, 2] - 20) < 14
        assert 2.9 < found[inside].mean() < 3.1
        assert np.isin(found[inside], (2, 3, 4)).mean() > 0.97
        wrapped = r - [0, 0, r[:, 2].min()]
        assert len(cKDTree(wrapped, boxsize=(*film.cell, 0)).query_pairs(1.2)) == 0


def test_carbon_scatters_as_carbon_does():
    """Maxima of the structure factor near 0.47 and 0.86 /Å, a minimum between them near 0.62."""
    edges = np.arange(0.25, 1.2, 0.02)
    rings = []
    for film, _ in films_of_carbon():
        q, power = spectrum(film)
        rings.append([power[(q >= a) & (q < a + 0.02)].mean() for a in edges])
    s, middles = np.mean(rings, 0), edges + 0.01
    low, high = (middles > 0.36) & (middles < 0.6), (middles > 0.7) & (middles < 1.0)
    assert middles[low][s[low].argmax()] == pytest.approx(0.47, abs=0.03)
    assert middles[high][s[high].argmax()] == pytest.approx(0.86, abs=0.03)
    assert s[low].max() > 0.95 and s[high].max() > 1.6
    assert s[(middles > 0.55) & (middles < 0.65)].min() < 0.65


def test_no_spot_stands_out_of_a_films_spectrum():
    """In a ring of n independent points the strongest is ln n times the mean, and hardly ever ln n + 9."""
    for film, _ in films_of_carbon():
        q, power = spectrum(film)
        for low in np.arange(0.1, 1.4, 0.05):
            ring = power[(q >= low) & (q < low + 0.05)]
            assert ring.max() < ring.mean() * (np.log(len(ring)) + 9)


def test_nothing_of_a_film_comes_again_in_it_nor_in_another():
    def projected(film, r):
        shape = [round(side / 0.4) for side in film.cell]
        counts, _, _ = np.histogram2d(r[:, 0], r[:, 1], shape, [[0, film.cell[0]], [0, film.cell[1]]])
        f = np.fft.rfft2(counts - counts.mean())
        f /= np.sqrt((np.abs(f) ** 2).mean())
        return f, shape

    same_cell = films_of_carbon(4)
    spectra = [projected(*pair) for pair in same_cell]
    for i, (f, shape) in enumerate(spectra):
        own = np.fft.irfft2(np.abs(f) ** 2, shape)
        own /= own[0, 0]
        near = np.hypot(
            *(
                np.minimum(np.arange(n), n - np.arange(n)).reshape(s)
                for n, s in zip(shape, ((-1, 1), (1, -1)), strict=True)
            )
        )
        assert own[near > 25].max() < 0.05  # beyond 10 Å
        for g, _ in spectra[:i]:
            both = np.fft.irfft2(f * np.conj(g), shape)
            assert np.abs(both).max() < 0.05


@pytest.mark.parametrize("kind", ["carbon", "silicon nitride"])
def test_where_bricks_meet_no_line_is_left(kind):
    """A straight seam across an image is power along one axis of its spectrum."""
    ratios = []
    for seed in range(0, 48, 4):
        film = carbon(seed, kind=kind)
        q, power = spectrum(film)
        for low in np.arange(0.1, 1.0, 0.1):
            ring = (q >= low) & (q < low + 0.1)
            lines = np.concatenate([power[ring[:, 0], 0], power[0, ring[0]]])
            ratios.append(lines.mean() / power[ring].mean())
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_where_bricks_meet_there_are_about_as_many_atoms_with_as_many_neighbours():
    rng, extent, counts = np.random.default_rng(0), np.array([102.4, 102.4, 40.0]), np.array([2, 2, 1])
    share, of_volume, ours, others = [], [], [], []
    for seed in range(12):
        film = carbon(4 * seed)
        r = built(film)
        seams = _Seams(extent, counts, _seeded(film))
        near = seams.near(r, 1.5)
        share.append(near.mean())
        of_volume.append(seams.near(rng.random((20_000, 3)) * extent, 1.5).mean())
        ours.append(neighbours(r, film.cell, np.flatnonzero(near)[::4]).mean())
        others.append(neighbours(r, film.cell, np.flatnonzero(~near)[::20]).mean())
    assert np.mean(share) == pytest.approx(np.mean(of_volume), rel=0.03)
    assert np.mean(ours) > 0.9 * np.mean(others)


def _seeded(film: Film) -> np.random.Generator:
    """The generator of a film where it comes to its seams: nothing is drawn before for one that is level."""
    return np.random.default_rng([film.seed, 0xF])


def test_each_seed_gives_another_film_and_the_same_one_again():
    for kind in ("carbon", "silicon nitride"):
        films = [build_film(carbon(kind=kind, seed=s, cell=(60.0, 50.0))).positions for s in (0, 1, 2**40, 0)]
        assert np.array_equal(films[0], films[3])
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert cKDTree(films[a]).query(films[b])[0].min() > 1e-6


def test_density_is_chosen_within_what_the_network_bears():
    low, high = density_limits("carbon")
    for density in (low, high):
        film = carbon(density=density)
        r = build_film(film).positions
        assert len(r) / (np.prod(film.cell) * 40) == pytest.approx(density, rel=0.015)
        assert 2.8 < neighbours(r, film.cell).mean() < 3.3
    with pytest.raises(ParameterError, match=r"0.095 to 0.128 atoms/Å³.*got 0.15.*packed carbon"):
        build_film(carbon(density=0.15))
    with pytest.raises(ParameterError, match="no film 'wood'; wanted one of carbon"):
        build_film(carbon(kind="wood"))


def test_silicon_nitride_has_four_nitrogen_atoms_about_silicon_and_three_silicon_atoms_about_nitrogen():
    """Diffraction: 1.73 Å, 3.7 to 3.8 and 2.8 neighbours (Misawa)."""
    film = carbon(kind="silicon nitride", cell=(80.0, 80.0))
    atoms = build_film(film)
    r, inside = atoms.positions, np.abs(atoms.positions[:, 2] - 20) < 14
    silicon = atoms.numbers == 14
    assert silicon.mean() == pytest.approx(3 / 7, abs=0.01)
    assert len(r) / (80 * 80 * 40) == pytest.approx(0.0902, rel=0.015)
    trees = {s: cKDTree(r[silicon == s] % (80, 80, 1e9), boxsize=(80, 80, 0)) for s in (True, False)}
    for s, wanted in ((True, 3.75), (False, 2.8)):
        here = r[inside & (silicon == s)] % (80, 80, 1e9)
        count = trees[not s].query_ball_point(here, 2.2, return_length=True)
        assert count.mean() == pytest.approx(wanted, abs=0.1)
        assert np.median(trees[not s].query(here)[0]) == pytest.approx(1.75, abs=0.03)
        assert trees[s].query(here, k=2)[0][:, 1].min() > 1.58  # 1.6 Å before the ripple


def test_a_rough_face_is_as_rough_as_asked_and_the_film_as_thick():
    film = carbon(cell=(102.4, 102.4), roughness=4.0)
    r = build_film(film).positions
    places = np.floor(r[:, :2] / 6.4).astype(int)
    tops = np.full((16, 16), -np.inf)
    np.maximum.at(tops, (places[:, 0], places[:, 1]), r[:, 2])
    assert tops.std() == pytest.approx(4.0, rel=0.3)
    assert len(r) / (102.4**2 * 40) == pytest.approx(0.11, rel=0.02)


def test_a_wedge_is_thick_at_one_end_and_thin_at_the_other():
    film = carbon(cell=(102.4, 102.4), wedge=0.5)
    r = build_film(film).positions
    columns = np.histogram2d(r[:, 0], r[:, 1], 8)[0] / (12.8**2 * 0.11)
    assert columns.max() == pytest.approx(60, abs=6) and columns.min() == pytest.approx(20, abs=6)
    assert r[:, 2].max() == pytest.approx(40, abs=1)  # particles rest on a level face


def test_holes_are_empty_and_nothing_else_is():
    plain, holed = (built(carbon(holes=h)) for h in ((), (Hole(x=2.0, y=50.0, diameter=40.0),)))
    away = plain[:, :2] - [2.0, 50.0]
    away -= 102.4 * np.round(away / 102.4)
    distance = np.hypot(away[:, 0], away[:, 1])
    kept = cKDTree(holed).query(plain)[0] < 1e-9
    assert not kept[distance < 12].any() and kept[distance > 28].all()
    assert (~kept).sum() == pytest.approx(np.pi * 20**2 * 40 * 0.11, rel=0.15)


@pytest.mark.parametrize("cell", [(102.4, 102.4), (76.8, 64.0), (128.0, 102.4)])
def test_crystalline_films_are_periodic_and_hardly_strained(cell):
    sheet = build_film(Film(kind="graphene", cell=cell, thickness=LAYER, seed=3)).positions
    tree = cKDTree(sheet, boxsize=(*cell, 0))
    nearest = tree.query(sheet, k=4)[0]
    assert nearest[:, 1:].min() > 1.42 * 0.98 and nearest[:, 1:].max() < 1.42 * 1.02
    assert len(sheet) / np.prod(cell) == pytest.approx(4 / (np.sqrt(3) * 2.461**2), rel=0.02)
    slab = build_film(Film(kind="MgO", cell=cell, thickness=40.0, seed=3))
    tree = cKDTree(slab.positions, boxsize=(*cell, 0))
    distance, other = tree.query(slab.positions, k=7)
    inside = np.abs(slab.positions[:, 2] - 20) < 15
    assert distance[inside, 1:].min() > 2.106 * 0.985 and distance[inside, 1:].max() < 2.106 * 1.015
    assert (slab.numbers[other[inside, 1:]] != slab.numbers[inside][:, None]).all()
    assert slab.positions[:, 2].max() == pytest.approx(40.0)


def test_sheets_of_graphene_are_turned_and_bent():
    film = Film(kind="graphene", cell=(102.4, 102.4), thickness=2 * LAYER, seed=1, roughness=1.0)
    r = build_film(film).positions
    low, high = r[r[:, 2] < 1.5 * LAYER], r[r[:, 2] >= 1.5 * LAYER]
    assert len(low) == pytest.approx(len(high), rel=0.05)
    assert high[:, 2].std() == pytest.approx(1.0, rel=0.3)
    several = [
        build_film(Film(kind="graphene", cell=(102.4, 102.4), thickness=LAYER, seed=s)).positions
        for s in range(6)
    ]
    angles = {
        round(float(np.arctan2(*(s - s[0])[np.argsort(((s - s[0]) ** 2).sum(1))[1], :2]) % (np.pi / 3)), 3)
        for s in several
    }
    assert len(angles) >= 4


def test_a_cell_that_no_crystal_fits_is_refused():
    with pytest.raises(ParameterError, match=r"MgO fits no cell of 7 x 7 Å.*larger cell"):
        build_film(Film(kind="MgO", cell=(7.0, 7.0), thickness=10.0))


@pytest.mark.parametrize("kind", FILMS)
def test_atoms_lie_in_the_cell_and_nothing_is_there_without_thickness(kind):
    atoms = build_film(Film(kind=kind, cell=(64.0, 51.2), thickness=20.0, seed=1))
    assert (atoms.positions[:, :2] >= 0).all() and (atoms.positions[:, :2] < [64.0, 51.2]).all()
    assert len(atoms.numbers) == len(atoms.thermal)
    assert (len(atoms.numbers) == 0) == (kind == "none")
    assert len(build_film(Film(kind=kind, cell=(64.0, 51.2), thickness=0.0)).numbers) == 0


def test_an_amorphous_film_has_no_preferred_place():
    r = np.concatenate([built(carbon(4 * s, thickness=20.0)) for s in range(3)])
    for axis, length in ((0, 102.4), (1, 102.4), (2, 20.0)):
        assert kstest(r[:, axis] / length, "uniform").pvalue > 1e-4


def test_the_networks_that_ship_are_whole():
    for name, number in (("carbon", {6}), ("nitride", {7, 14})):
        held = network(name)
        assert set(held.numbers.tolist()) == number
        assert (held.positions >= 0).all() and (held.positions < held.side).all()
