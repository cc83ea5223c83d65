"""Laws of particles: what is inside them is the crystal, outside is the shape, and faults are faults."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, cKDTree

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import Atoms, face_normals, lattice_vectors, unit_cell
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import Particle, _decahedra, build_particle
from passband.hrtem.specimen.stacking import Fault, layer_distance

OFFSET = (0.13, 0.29, 0.41)
EVERY = [(m, s) for m in MATERIALS for s in MATERIALS[m].shapes]
STACKED = [m for m in MATERIALS if MATERIALS[m].stacking]
FAULTED = [(m, s, f) for m, s in EVERY for f in MATERIALS[m].faults if s not in ("decahedron", "icosahedron")]


def build(material: str, **values: object) -> Atoms:
    defaults: dict[str, object] = {"diameter": 40.0, "x": 0.0, "y": 0.0, "offset": OFFSET}
    return build_particle(Particle(material=material, **{**defaults, **values}), MATERIALS[material])


def nearest(positions: np.ndarray) -> np.ndarray:
    return cKDTree(positions).query(positions, k=2)[0][:, 1]


def bond(material: str) -> float:
    """Nearest-neighbour distance of the crystal, from its unit cell."""
    cell, lattice = unit_cell(MATERIALS[material]), lattice_vectors(MATERIALS[material])
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3) @ lattice
    return float(nearest((cell.positions + steps[:, None]).reshape(-1, 3)).min())


def atom_volume(material: str) -> float:
    return np.linalg.det(lattice_vectors(MATERIALS[material])) / len(unit_cell(MATERIALS[material]).numbers)


@pytest.mark.parametrize(("material", "shape"), EVERY)
def test_no_two_atoms_are_nearer_than_in_the_crystal_and_none_is_alone(material, shape):
    distances = nearest(build(material, shape=shape).positions)
    assert distances.min() == pytest.approx(bond(material), rel=1e-3)
    # in magnetite, an oxygen atom's longest bond is 2.06 Å, its shortest 1.89 Å
    assert distances.max() < 1.12 * bond(material)


@pytest.mark.parametrize(("material", "shape", "kind"), FAULTED)
def test_faults_bring_no_two_atoms_nearer(material, shape, kind):
    faults = (Fault(kind=kind, height=-6.0), Fault(kind=kind, height=9.0))
    faulted = build(material, shape=shape, faults=faults).positions
    assert nearest(faulted).min() == pytest.approx(bond(material), rel=1e-3)


@pytest.mark.parametrize(("material", "shape"), EVERY)
def test_the_diameter_is_that_of_the_sphere_of_equal_volume(material, shape):
    """Closed shells come in steps: the next icosahedron of gold is 4.8 Å larger."""
    tolerance = 0.06 if shape == "icosahedron" else 0.01
    got = [
        (
            6
            / math.pi
            * atom_volume(material)
            * len(build(material, shape=shape, diameter=60.0, offset=o).numbers)
        )
        ** (1 / 3)
        for o in ((0.1, 0.2, 0.3), (0.7, 0.4, 0.9))
    ]
    assert np.mean(got) == pytest.approx(60.0, rel=tolerance)


@pytest.mark.parametrize("material", MATERIALS)
def test_the_composition_is_that_of_the_crystal(material):
    cell, made = unit_cell(MATERIALS[material]), build(material, diameter=60.0)
    for number in np.unique(cell.numbers):
        share = (cell.numbers == number).mean()
        assert (made.numbers == number).mean() == pytest.approx(share, abs=0.01)
        assert set(made.thermal[made.numbers == number]) <= set(cell.thermal[cell.numbers == number])


@pytest.mark.parametrize("material", STACKED)
def test_layers_without_faults_are_the_crystal_of_the_space_group(material):
    """Two ways to the same atoms: stacking letters, and ASE's symmetry operations."""
    made, cell = build(material), unit_cell(MATERIALS[material])
    lattice = lattice_vectors(MATERIALS[material])
    fractional = (made.positions + np.array(OFFSET) @ lattice) @ np.linalg.inv(lattice)
    sites = cell.positions @ np.linalg.inv(lattice)
    apart = fractional[:, None] - sites
    apart = np.abs(apart - apart.round()).max(-1)
    assert apart.min(1).max() < 1e-9
    assert (cell.numbers[apart.argmin(1)] == made.numbers).all()


def letters(material: str, made: Atoms) -> list[int]:
    """Stacking letter of each layer from below, read off the atoms alone."""
    m = MATERIALS[material]
    if m.stacking == "cubic":
        edges = m.lengths[0] / 2 * np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
        axis = np.full(3, 1 / math.sqrt(3))
    else:
        edges, axis = lattice_vectors(m)[:2], np.array([0.0, 0.0, 1.0])
    first = made.positions[made.numbers == made.numbers.min()] if len(m.sites) > 1 else made.positions
    height = first @ axis
    layers = np.round((height - height.min()) / layer_distance(m)).astype(int)
    frame = np.linalg.inv(np.stack([*edges, axis]))
    start = (first[layers == 0] @ frame)[0, :2]
    out = []
    for k in range(layers.max() + 1):
        thirds = (((first[layers == k] @ frame)[:, :2] - start) * 3).round(6) % 3
        assert np.ptp(np.round(thirds) % 3, axis=0).max() == 0  # all atoms of a layer share a letter
        out.append(round(thirds[0, 0]) % 3)
    return out


def hexagonal(letters: list[int]) -> list[int]:
    """Layers whose two neighbours are the same."""
    return [k for k in range(1, len(letters) - 1) if letters[k - 1] == letters[k + 1]]


@pytest.mark.parametrize("material", [m for m in STACKED if m not in ("Si", "diamond")])
def test_each_fault_is_its_sequence_of_layers(material):
    """In fcc a twin is one hexagonal layer and a stacking fault two; I1 of wurtzite is one cubic layer."""
    cubic = MATERIALS[material].stacking == "cubic"
    perfect = letters(material, build(material))
    inner = len(perfect) - 2
    assert len(hexagonal(perfect)) == (0 if cubic else inner)
    for kind in MATERIALS[material].faults:
        found = hexagonal(letters(material, build(material, faults=(Fault(kind=kind, height=2.0),))))
        if cubic:
            assert len(found) == {"twin": 1, "stacking fault": 2}[kind]
            assert np.ptp(found) == len(found) - 1
        else:
            assert len(found) == inner - 1


def test_a_fault_lies_at_its_height():
    made = build("CdSe", faults=(Fault(kind="stacking fault", height=7.0),))
    sequence = letters("CdSe", made)
    (cubic,) = set(range(1, len(sequence) - 1)) - set(hexagonal(sequence))
    selenium = made.positions[made.numbers == 34, 2]
    assert selenium.min() + cubic * 3.505 - 0.3767 * 7.01 == pytest.approx(7.0, abs=3.505 / 2)


def test_below_a_fault_the_crystal_is_as_without_it():
    plain, faulted = (build("Au", faults=f).positions for f in ((), (Fault(kind="twin", height=3.0),)))
    axis = np.full(3, 1 / math.sqrt(3))
    below = [r[r @ axis < 1.5] for r in (plain, faulted)]
    assert np.array_equal(*below)
    assert len(cKDTree(plain).query_pairs(0.01)) == 0
    above = faulted[faulted @ axis > 5.0]
    assert np.median(cKDTree(plain).query(above)[0]) > 0.5


@pytest.mark.parametrize("material", ["Au", "Si", "ZnS", "CdSe"])
def test_every_atom_inside_a_faulted_particle_keeps_its_bonds(material):
    coordination = 12 if material == "Au" else 4
    kind = MATERIALS[material].faults[0]
    r = build(material, faults=(Fault(kind=kind, height=0.0),)).positions
    inside = np.linalg.norm(r, axis=1) < 15.0
    bonds = cKDTree(r).query_ball_point(r[inside], 1.1 * bond(material), return_length=True) - 1
    assert set(bonds.tolist()) == {coordination}


@pytest.mark.parametrize(
    ("material", "shape", "faces"),
    [
        ("Au", "octahedron", [(1, 1, 1)]),
        ("Au", "truncated octahedron", [(1, 1, 1), (1, 0, 0)]),
        ("Fe3O4", "octahedron", [(1, 1, 1)]),
        ("ZnS", "wulff", [(1, 1, 0)]),
        ("CdSe", "wulff", [(0, 0, 1), (1, 0, 0)]),
        ("Cu", "wulff", [(1, 1, 1), (1, 0, 0), (1, 1, 0)]),
    ],
)
def test_a_faceted_particle_shows_its_faces(material, shape, faces):
    made = build(material, shape=shape, diameter=80.0)
    hull = ConvexHull(made.positions)
    corners = made.positions[hull.simplices]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    normals = np.concatenate([face_normals(MATERIALS[material], f) for f in faces])
    facing = (hull.equations[:, :3] @ normals.T).max(1) > math.cos(math.radians(3))
    assert areas[facing].sum() > 0.85 * areas.sum()  # the rest are the edges, a row of atoms wide


@pytest.mark.parametrize(
    ("shape", "ratio"), [("wulff", 2.166 / 1.952), ("truncated octahedron", 2 / math.sqrt(3))]
)
def test_faces_lie_at_distances_in_the_ratio_of_their_energies_or_of_the_regular_body(shape, ratio):
    r = build("Cu", shape=shape, diameter=100.0).positions
    across = [np.mean((r @ face_normals(MATERIALS["Cu"], f).T).max(0)) for f in ((1, 1, 1), (1, 0, 0))]
    assert across[1] / across[0] == pytest.approx(ratio, rel=0.02)


@given(
    shape=st.sampled_from(["octahedron", "truncated octahedron", "wulff"]),
    low=st.floats(-14, -1),
    high=st.floats(7, 14),
    two=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_twins_keep_the_volume_and_show_the_faces_of_both_orientations(shape, low, high, two):
    heights = (low, high) if two else (low,)
    faults = tuple(Fault(kind="twin", height=h) for h in heights)
    plain, twinned = (build("Au", shape=shape, faults=f) for f in ((), faults))
    # the nearest whole layer of a face holds up to one in twelve of the atoms
    assert len(twinned.numbers) == pytest.approx(len(plain.numbers), rel=0.05)
    assert nearest(twinned.positions).max() < 1.01 * bond("Au")


def test_a_twinned_octahedron_is_the_mirror_image_of_itself():
    axis, offset = np.full(3, 1 / math.sqrt(3)), (0.0, 0.0, 0.0)
    made = build(
        "Au", shape="octahedron", offset=offset, diameter=41.0, faults=(Fault(kind="twin", height=0.0),)
    )
    mirrored = made.positions - 2 * np.outer(made.positions @ axis, axis)
    assert cKDTree(made.positions).query(mirrored)[0].max() < 1e-6


def test_a_decahedron_has_a_five_fold_axis_and_an_icosahedron_a_centre_and_two_fold_axes():
    deca, ico = (build("Au", shape=s).positions for s in ("decahedron", "icosahedron"))
    c, s = math.cos(2 * math.pi / 5), math.sin(2 * math.pi / 5)
    turned = deca @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    assert cKDTree(deca).query(turned)[0].max() < 1e-6
    assert cKDTree(ico).query(-ico)[0].max() < 1e-6
    assert cKDTree(ico).query(ico * [-1, -1, 1])[0].max() < 1e-6


def test_the_table_of_decahedra_counts_their_atoms():
    from ase.cluster import Decahedron

    table = _decahedra()
    for pqr in list(table)[5:400:40]:
        assert table[pqr] == len(Decahedron("Au", *pqr))
    assert table[2, 2, 1] == 75  # the smallest Marks decahedron that is often found


@given(diameter=st.floats(12, 30), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_a_sphere_lies_within_its_diameter_and_turning_keeps_all_distances(diameter, seed):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal(4)
    q /= np.linalg.norm(q)
    offset = tuple(rng.random(3))
    plain = build("CdSe", diameter=diameter, offset=offset).positions
    turned = build("CdSe", diameter=diameter, offset=offset, rotation=tuple(q)).positions
    assert np.linalg.norm(plain, axis=1).max() <= diameter / 2
    assert np.abs(plain @ plain.T - turned @ turned.T).max() < 1e-8


def test_the_rotation_takes_the_crystals_axes_to_the_microscopes():
    """A quarter turn about z takes x to y."""
    q = (math.cos(math.pi / 4), 0.0, 0.0, math.sin(math.pi / 4))
    plain, turned = (build("CdSe", rotation=r).positions for r in ((1.0, 0.0, 0.0, 0.0), q))
    assert turned == pytest.approx(np.column_stack([-plain[:, 1], plain[:, 0], plain[:, 2]]))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ParameterError, match=r"CdSe has no shape 'icosahedron'; wanted sphere, wulff"):
        build("CdSe", shape="icosahedron")
    with pytest.raises(ParameterError, match=r"Fe has no 'twin'; wanted no fault"):
        build("Fe", faults=(Fault(kind="twin", height=0.0),))
    with pytest.raises(ParameterError, match=r"no 'twin'; wanted stacking fault"):
        build("CdSe", faults=(Fault(kind="twin", height=0.0),))
    with pytest.raises(ParameterError, match="takes no further faults"):
        build("Au", shape="decahedron", faults=(Fault(kind="twin", height=0.0),))
    with pytest.raises(ParameterError, match="two faults lie on one layer"):
        build("Au", faults=(Fault(kind="twin", height=0.0), Fault(kind="stacking fault", height=-1.5)))
    for height in (25.0, -25.0, 1e9):
        with pytest.raises(ParameterError, match="lie outside it"):
            build("Au", faults=(Fault(kind="twin", height=height),))
    with pytest.raises(ParameterError, match=r"holds \d atoms; wanted 12 or more"):
        build("CdSe", diameter=5.0)
    for diameter in (0.0, -3.0, math.nan, math.inf, 1000.0):
        with pytest.raises(ParameterError, match="the diameter must be"):
            build("CdSe", diameter=diameter)
    with pytest.raises(ParameterError, match=r"finite numbers.*no shape"):
        build("CdSe", offset=(0.0, math.nan, 0.0), shape="cube")
    with pytest.raises(ParameterError, match="unit quaternion"):
        build("CdSe", rotation=(1.0, 1.0, 0.0, 0.0))
    prism = replace(MATERIALS["CdSe"], surfaces=(((1, 0, 0), 1.0),))
    with pytest.raises(ParameterError, match="enclose no body"):
        build_particle(Particle(material="CdSe", shape="wulff", diameter=40.0, x=0.0, y=0.0), prism)
