"""Laws of specimens: the same from a record, distances kept, orientations as they were asked for."""

import math
from dataclasses import asdict, replace

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, cKDTree
from scipy.spatial.transform import Rotation
from scipy.stats import binomtest, kstest

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import B_TO_U, zone_directions
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import Particle
from passband.hrtem.specimen.placing import near_zone_rotation, place_discs, uniform_rotation
from passband.hrtem.specimen.specimen import (
    Specimen,
    SpecimenRanges,
    SpecimenRecord,
    build_specimen,
    draw_specimen,
    isolate,
)
from passband.hrtem.specimen.stacking import Fault

THIN = {"thickness": (10.0, 12.0)}
EVERYTHING = SpecimenRanges(
    materials=tuple(MATERIALS),
    shapes=("sphere", "octahedron", "truncated octahedron", "wulff", "decahedron", "icosahedron"),
    diameters=(12.0, 30.0),
    count=(0, 4),
    embedded_share=0.5,
    cell=(80.0, 96.0),
    **THIN,
)


def gold(**values: object) -> Particle:
    return Particle(**{"material": "Au", "diameter": 20.0, "x": 20.0, "y": 20.0, **values})


def record(*particles: Particle, **values: object) -> SpecimenRecord:
    defaults: dict[str, object] = {"cell": (60.0, 60.0), "thickness": 10.0, "materials": (MATERIALS["Au"],)}
    return SpecimenRecord(**{**defaults, **values}, particles=particles)


@given(seed=st.integers(0, 2**60))
@settings(max_examples=20, deadline=None)
def test_of_every_specimen_the_record_makes_the_same_again_and_atoms_keep_their_distances(seed):
    drawn = draw_specimen(EVERYTHING, seed)
    specimen = build_specimen(SpecimenRecord.from_json(drawn.to_json()))
    again = build_specimen(draw_specimen(EVERYTHING, seed))
    for name in ("numbers", "positions", "particle", "thermal"):
        assert np.array_equal(getattr(specimen, name), getattr(again, name))
    assert (specimen.cell, specimen.focus_plane) == (again.cell, again.focus_plane)
    r, cell = specimen.positions, specimen.cell
    # nothing is nearer than a triple bond of carbon
    assert cKDTree(r, boxsize=(*cell[:2], 0)).query(r, k=2)[0][:, 1].min() >= 1.2
    assert cell[:2] == (80.0, 96.0) and cell[2] % 2 == 0
    z = r[:, 2]
    assert z.min() >= 4.0 - 1e-9 and 4.0 - 1e-9 <= cell[2] - z.max() < 6.5
    assert specimen.count == len(drawn.particles)
    for i in range(1, specimen.count + 1):
        here, there = (r[specimen.particle == i], r[(specimen.particle != i)])
        apart = cKDTree(there, boxsize=(*cell[:2], 0)).query(here)[0].min()
        assert apart >= 2.0 - 1e-9


@given(seed=st.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_outlines_of_particles_keep_their_least_distance_across_borders(seed):
    ranges = replace(EVERYTHING, count=(2, 4), least_distance=8.0)
    s = build_specimen(draw_specimen(ranges, seed))
    flat, period = s.positions[:, :2], np.array(s.cell[:2])
    for i in range(2, s.count + 1):
        others = flat[(s.particle < i) & (s.particle > 0)]
        tree = cKDTree(others, boxsize=period)
        assert tree.query(flat[s.particle == i])[0].min() >= 8.0 - 1e-9
    for i in range(1, s.count + 1):  # and of each from its own image
        own = np.mod(flat[s.particle == i] - flat[s.particle == i][0] + period / 2, period)
        assert (np.ptp(own, axis=0) <= period - 8.0).all()


def test_a_particle_rests_on_the_carbon_with_its_gap_and_the_film_does_not_feel_it():
    plain = build_specimen(record())
    with_one = build_specimen(record(gold(depth=-2.5)))
    film = with_one.positions[with_one.particle == 0]
    assert np.array_equal(film, plain.positions)
    assert with_one.positions[with_one.particle == 1, 2].min() == pytest.approx(4.0 + 10.0 + 2.5)
    assert film[:, 2].max() < 14.0


def test_a_particle_in_the_carbon_displaces_it_and_the_rest_stays():
    plain = build_specimen(record())
    inside = build_specimen(record(gold(depth=8.0)))
    film, ball = (inside.positions[inside.particle == i] for i in (0, 1))
    shift = inside.positions[0] - plain.positions[0]
    assert ball[:, 2].min() - (10.0 + 4.0 + shift[2]) == pytest.approx(-8.0)
    assert cKDTree(plain.positions + shift).query(film)[0].max() < 1e-9
    hull = ConvexHull(ball).equations
    assert (film @ hull[:, :3].T + hull[:, 3]).max(1).min() > 0.0
    assert cKDTree(ball).query(film)[0].min() >= 2.0
    gone = cKDTree(film).query(plain.positions + shift)[0] > 1e-6
    lost = (plain.positions + shift)[gone]
    assert (lost @ hull[:, :3].T + hull[:, 3]).max() <= 2.0 + 1e-9


def test_each_seed_has_another_film_though_the_particles_be_the_same():
    """A generator that always returns the same carbon lets a network learn the carbon."""
    still = SpecimenRanges(count=(0, 0), thickness=(10.0, 10.0), cell=(40.0, 40.0))
    films = [build_specimen(draw_specimen(still, seed)).positions for seed in range(12)]
    for i, film in enumerate(films):
        for other in films[:i]:
            assert cKDTree(film).query(other)[0].min() > 1e-6
    assert len({draw_specimen(still, seed).substrate_seed for seed in range(200)}) == 200


def test_focus_is_at_the_particles_mid_plane():
    r = record(gold(), gold(x=45.0, y=45.0, diameter=14.0))
    s = build_specimen(r)
    middles = [np.mean([z.min(), z.max()]) for z in (s.positions[s.particle == i, 2] for i in (1, 2))]
    assert s.focus_plane == pytest.approx(np.mean(middles))
    assert build_specimen(record()).focus_plane == pytest.approx(4.0 + 5.0)


def test_free_particles_need_no_carbon():
    s = build_specimen(record(gold(), thickness=0.0))
    assert (s.particle == 1).all() and s.count == 1


def test_thermal_motion_is_each_sites():
    s = build_specimen(record(gold()))
    assert set(s.thermal[s.numbers == 79]) == {0.63 * B_TO_U}
    assert set(s.thermal[s.numbers == 6]) == {0.6 * B_TO_U}


def test_a_part_stands_alone_in_the_same_cell():
    whole = build_specimen(record(gold(), gold(x=45.0, y=45.0)))
    parts = [isolate(whole, i) for i in (0, 1, 2)]
    assert np.array_equal(np.concatenate([p.positions for p in parts]), whole.positions)
    assert {(p.cell, p.focus_plane) for p in parts} == {(whole.cell, whole.focus_plane)}
    with pytest.raises(ParameterError, match="no part 3; wanted 0 for the substrate or 1 to 2"):
        isolate(whole, 3)


def test_uniform_rotations_are_uniform():
    """Of a uniform rotation each column is uniform on the sphere and the angle has density (1 - cos) / pi."""
    rng = np.random.default_rng(1)
    turns = np.array([rotation_matrix(uniform_rotation(rng)) for _ in range(4000)])
    for column in range(3):
        for row in range(3):  # a component of a uniform unit vector is uniform on [-1, 1]
            assert kstest(turns[:, row, column], "uniform", args=(-1, 2)).pvalue > 1e-3
    angle = np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert kstest(angle, lambda a: (a - np.sin(a)) / np.pi).pvalue > 1e-3


def test_near_zone_axes_are_uniform_over_their_cone_and_all_equivalents_occur():
    rng, axes = np.random.default_rng(2), zone_directions(MATERIALS["Au"], (1, 1, 0))
    tilt = math.radians(5)
    turns = np.array([rotation_matrix(near_zone_rotation(axes, tilt, rng)) for _ in range(3000)])
    beam = turns[:, 2]  # the beam in the crystal's axes
    nearest = (beam @ axes.T).argmax(1)
    cosine = (beam * axes[nearest]).sum(1)
    assert cosine.min() >= math.cos(tilt) - 1e-12
    assert kstest((1 - cosine) / (1 - math.cos(tilt)), "uniform").pvalue > 1e-3
    assert np.bincount(nearest, minlength=12).min() > 3000 / 12 * 0.7
    axis_seen = np.einsum("nij,nj->ni", turns, axes[nearest])
    azimuth = np.arctan2(axis_seen[:, 1], axis_seen[:, 0]) / (2 * np.pi) % 1
    assert kstest(azimuth, "uniform").pvalue > 1e-3
    spin = np.arctan2(turns[:, 1, 2], turns[:, 0, 2]) / (2 * np.pi) % 1  # of [001] about the beam
    assert kstest(spin, "uniform").pvalue > 1e-3


def test_the_share_near_a_zone_is_what_was_asked_for_and_recorded():
    ranges = SpecimenRanges(count=(3, 3), diameters=(15.0, 20.0), materials=("CdSe", "Au"), **THIN)
    drawn = [p for seed in range(150) for p in draw_specimen(ranges, seed).particles]
    flagged = [p for p in drawn if p.zone is not None]
    assert binomtest(len(flagged), len(drawn), 0.3).pvalue > 1e-3
    for p in flagged:
        beam = rotation_matrix(p.rotation)[2]
        cosine = (zone_directions(MATERIALS[p.material], p.zone) @ beam).max()
        assert cosine >= math.cos(ranges.near_zone_tilt) - 1e-9
    assert {p.zone for p in flagged} >= set(MATERIALS["CdSe"].zones) | set(MATERIALS["Au"].zones)
    # the others are uniform: the beam's component along c is
    along = [rotation_matrix(p.rotation)[2, 2] for p in drawn if p.zone is None]
    assert kstest(along, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_a_decahedron_near_its_zone_shows_its_five_fold_axis():
    ranges = SpecimenRanges(
        materials=("Au",),
        shapes=("decahedron",),
        near_zone_share=1.0,
        near_zone_tilt=0.0,
        count=(1, 1),
        **THIN,
    )
    (p,) = draw_specimen(ranges, 1).particles
    assert abs(rotation_matrix(p.rotation)[2, 2]) == pytest.approx(1)
    assert p.zone == (0, 0, 1)


def test_draws_stay_within_their_ranges_and_reach_all_of_them():
    drawn = [draw_specimen(EVERYTHING, seed) for seed in range(250)]
    particles = [p for r in drawn for p in r.particles]
    assert {len(r.particles) for r in drawn} == {0, 1, 2, 3, 4}
    assert {p.material for p in particles} == set(MATERIALS)
    assert {p.shape for p in particles} == set(EVERYTHING.shapes)
    assert {f.kind for p in particles for f in p.faults} == {"twin", "stacking fault"}
    assert {len(p.faults) for p in particles} == {0, 1, 2}
    assert all(12 <= p.diameter <= 30 for p in particles)
    assert all(10 <= r.thickness <= 12 for r in drawn)
    deep = [p.depth for p in particles if p.depth > 0]
    assert all(-3 <= p.depth <= -2 or 0 <= p.depth <= p.diameter for p in particles)
    assert binomtest(len(deep), len(particles), 0.5).pvalue > 1e-3


def test_four_discs_find_the_room_that_random_trial_hardly_finds():
    """Four of 43 Å and a gap of 8 Å have their centres at a fourth of the cell, almost exactly."""
    found = [place_discs(np.full(4, 21.5), (102.4, 102.4), 8.0, np.random.default_rng(s)) for s in range(20)]
    assert sum(f is not None for f in found) >= 18
    for centres in found:
        if centres is not None:
            apart = centres[:, None] - centres
            apart -= 102.4 * np.round(apart / 102.4)
            distance = np.linalg.norm(apart, axis=-1) + 1e3 * np.eye(4)
            assert distance.min() >= 51.0 - 1e-9


def test_one_disc_lies_anywhere():
    rng = np.random.default_rng(0)
    at = np.array([place_discs(np.array([20.0]), (80.0, 50.0), 5.0, rng)[0] for _ in range(500)])
    assert kstest(at[:, 0] / 80, "uniform").pvalue > 1e-3
    assert kstest(at[:, 1] / 50, "uniform").pvalue > 1e-3


def test_ranges_and_records_are_plain_tables():
    """A TOML table of ranges is read by pydantic, which knows no key but the fields."""
    adapter = pydantic.TypeAdapter(SpecimenRanges)
    table = {"materials": ["Au"], "shapes": ["decahedron"], "count": [1, 2], "diameters": [20, 30.5]}
    read = adapter.validate_python(table)
    assert read == SpecimenRanges(
        materials=("Au",), shapes=("decahedron",), count=(1, 2), diameters=(20.0, 30.5)
    )
    with pytest.raises(pydantic.ValidationError, match="diametres"):
        adapter.validate_python({"diametres": [20, 30]})
    drawn = draw_specimen(EVERYTHING, 5)
    assert SpecimenRecord.from_json(drawn.to_json()) == drawn


def test_a_record_holds_its_materials_when_the_dictionary_changes(monkeypatch):
    drawn = draw_specimen(SpecimenRanges(materials=("Au",), count=(1, 1), **THIN), 1)
    before = build_specimen(drawn)
    monkeypatch.delitem(MATERIALS, "Au")
    assert np.array_equal(build_specimen(drawn).positions, before.positions)


def rotation_matrix(quaternion):
    """Of a unit quaternion (w, x, y, z), for column vectors."""
    return Rotation.from_quat(quaternion, scalar_first=True).as_matrix()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "3", "{}", '{"format": 1}', "[" * 50_000, '{"format": 1, "particles": 4}']
)
def test_what_is_no_record_is_refused(text):
    with pytest.raises(ParameterError, match=r"not a specimen record"):
        SpecimenRecord.from_json(text)


def test_a_record_of_another_format_or_with_changed_values_is_refused():
    text = draw_specimen(SpecimenRanges(count=(1, 1), **THIN), 0).to_json()
    with pytest.raises(ParameterError, match="another format"):
        SpecimenRecord.from_json(text.replace('"format": 2', '"format": 3'))
    for old, new in (('"thickness": 1', '"thickness": "1'), ('"diameter"', '"size"'), ('"cell"', '"cel"')):
        with pytest.raises(ParameterError):
            SpecimenRecord.from_json(text.replace(old, new, 1))


def test_ranges_that_do_not_go_together_name_every_fault():
    with pytest.raises(ParameterError, match=r"diameters.*count.*near_zone_share.*margin"):
        SpecimenRanges(diameters=(50.0, 30.0), count=(-1, 2), near_zone_share=1.5, margin=-1.0)
    with pytest.raises(
        ParameterError, match=r"fault_count must be.*density of carbon must be 0.095 to 0.128"
    ):
        SpecimenRanges(fault_count=(-1, 2), density=0.0)
    with pytest.raises(ParameterError, match=r"no material 'Unobtainium'; wanted some of CdSe"):
        SpecimenRanges(materials=("Au", "Unobtainium"))
    with pytest.raises(ParameterError, match=r"Si has none of the shapes \('decahedron',\)"):
        SpecimenRanges(materials=("Au", "Si"), shapes=("decahedron",))
    with pytest.raises(ParameterError, match="shape 'cube' goes with none of Au"):
        SpecimenRanges(materials=("Au",), shapes=("sphere", "cube"))
    with pytest.raises(ParameterError, match="fault 'twin' goes with none of CdSe"):
        SpecimenRanges(materials=("CdSe",), faults=("twin",))
    with pytest.raises(ParameterError, match="at least one material"):
        SpecimenRanges(materials=())


def test_particles_without_room_are_refused():
    with pytest.raises(ParameterError, match=r"found no room in a cell of 60 x 60 Å.*enlarge the cell"):
        draw_specimen(SpecimenRanges(cell=(60.0, 60.0), count=(5, 5), diameters=(30.0, 30.0), **THIN), 0)
    with pytest.raises(ParameterError, match="seed must be 0 or more"):
        draw_specimen(SpecimenRanges(), -1)
    with pytest.raises(ParameterError, match="particles 1 and 2 overlap"):
        build_specimen(record(gold(), gold(x=35.0)))
    with pytest.raises(ParameterError, match="particles 1 and 2 overlap"):
        build_specimen(record(gold(x=8.6), gold(x=51.0)))  # across the border alone
    with pytest.raises(ParameterError, match="too small: enlarge it"):
        build_specimen(record(gold(), cell=(60.0, 18.0)))


def test_records_that_cannot_be_are_refused():
    with pytest.raises(ParameterError, match="materials holds no Au"):
        record(gold(), materials=())
    with pytest.raises(ParameterError, match="neither particles nor a film"):
        record(thickness=0.0)
    with pytest.raises(ParameterError, match="more than 5,000,000 atoms"):
        record(cell=(1e4, 1e4))
    with pytest.raises(ParameterError, match=r"cell must be.*thickness must be"):
        record(cell=(math.nan, 1.0), thickness=-1.0)
    with pytest.raises(ParameterError, match="has no shape 'cube'"):
        build_specimen(record(gold(shape="cube")))
    with pytest.raises(ParameterError, match="has no 'slip'"):
        build_specimen(record(gold(faults=(Fault(kind="slip", height=0.0),))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.array([[1.0, 1.0, np.nan]])}, "coordinates must be finite; atom 0"),
        ({"positions": np.array([[1.0, 11.0, 1.0]])}, r"1 atoms lie outside the cell .*wrap x and y"),
        ({"positions": np.array([[1.0, 1.0, -0.1]])}, "outside the cell"),
        ({"numbers": np.array([0])}, "atomic numbers must be 1 to 103, got 0 to 0"),
        ({"numbers": np.array([104])}, "atomic numbers"),
        ({"particle": np.array([-1], np.int32)}, "particle indices"),
        ({"thermal": np.array([-0.1])}, "thermal displacements"),
        ({"thermal": np.array([np.nan])}, "thermal displacements"),
        ({"cell": (10.0, 0.0, 10.0)}, "three positive lengths"),
        ({"focus_plane": math.inf}, "focus plane"),
        ({"particle": np.array([1, 1], np.int32)}, "1 numbers, but 1 positions, 2 particle indices"),
    ],
)
def test_a_specimen_refuses_what_no_specimen_is(change, message):
    whole = {
        "numbers": np.array([79]),
        "positions": np.array([[1.0, 1.0, 1.0]]),
        "particle": np.array([1], np.int32),
        "thermal": np.array([0.01]),
        "cell": (10.0, 10.0, 10.0),
        "focus_plane": 5.0,
    }
    assert Specimen(**whole).count == 1
    with pytest.raises(ParameterError, match=message):
        Specimen(**{**whole, **change})


def test_a_specimen_without_atoms_is_refused():
    with pytest.raises(ParameterError, match="it holds no atoms"):
        Specimen(
            numbers=np.zeros(0, np.int64),
            positions=np.zeros((0, 3)),
            particle=np.zeros(0, np.int32),
            thermal=np.zeros(0),
            cell=(10.0, 10.0, 10.0),
            focus_plane=5.0,
        )


def test_every_field_of_the_ranges_is_documented():
    for name in asdict(SpecimenRanges()):
        assert name in SpecimenRanges.__doc__
