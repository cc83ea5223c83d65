"""Laws of particles as a microscope shows them: touching, overlapping, of several materials, not smooth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, cKDTree
from scipy.stats import kstest

from passband.errors import ParameterError
from passband.hrtem.specimen.films import Hole
from passband.hrtem.specimen.labels import disc_labels, particle_masks
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import Particle, build_particle
from passband.hrtem.specimen.placing import press_together
from passband.hrtem.specimen.specimen import (
    Specimen,
    SpecimenRanges,
    SpecimenRecord,
    build_specimen,
    draw_specimen,
    isolate,
)
from passband.hrtem.specimen.surfaces import Surface

AU = MATERIALS["Au"]
CROWD = SpecimenRanges(
    materials=("Au", "CdSe", "Fe3O4"),
    shapes=("sphere", "wulff", "icosahedron"),
    diameters=(16.0, 26.0),
    count=(2, 4),
    cell=(80.0, 80.0),
    thickness=(6.0, 10.0),
    mixed_share=0.7,
    least_distance=(-8.0, 2.0),
    touching_share=0.8,
    grown_share=0.5,
    roughness=(0.0, 3.0),
    wedge=(0.0, 0.3),
    holes=(0, 2),
    rounding=(0.0, 1.0),
    surface_roughness=(0.0, 1.5),
    disorder=(0.0, 0.4),
    substrates=("carbon", "silicon nitride", "graphene", "MgO", "none"),
)


def two(meeting: str, apart: float = 20.0, **values: object) -> SpecimenRecord:
    balls = [
        Particle(material="Au", diameter=30.0, x=x, y=40.0, meeting=m)
        for x, m in ((30.0, ""), (30.0 + apart, meeting))
    ]
    return SpecimenRecord(cell=(90.0, 80.0), thickness=8.0, particles=tuple(balls), materials=(AU,), **values)


def between(specimen: Specimen, i: int, j: int) -> float:
    cell = (*specimen.cell[:2], 0)
    tree = cKDTree(specimen.positions[specimen.particle == i], boxsize=cell)
    return float(tree.query(specimen.positions[specimen.particle == j])[0].min())


@given(seed=st.integers(0, 2**60))
@settings(max_examples=12, deadline=None)
def test_whatever_meets_the_record_makes_it_again_and_no_two_atoms_share_a_place(seed):
    drawn = draw_specimen(CROWD, seed)
    assert SpecimenRecord.from_json(drawn.to_json()) == drawn
    specimen, again = build_specimen(drawn), build_specimen(SpecimenRecord.from_json(drawn.to_json()))
    assert np.array_equal(specimen.positions, again.positions)
    assert specimen.count == len(drawn.particles)
    cell = (*specimen.cell[:2], 0)
    assert len(cKDTree(specimen.positions, boxsize=cell).query_pairs(1.1)) == 0
    for i in range(specimen.count + 1):
        for j in range(max(i, 1), specimen.count + 1):
            if i != j and (specimen.particle == i).any():
                assert between(specimen, i, j) >= 2.0 - 1e-6


def test_a_particle_that_meets_another_rests_on_it_or_grows_into_it_or_is_refused():
    alone = build_specimen(two("", apart=38.0))
    rests, grown = build_specimen(two("rest")), build_specimen(two("grow"))
    whole = (alone.particle == 2).sum()
    assert (rests.particle == 2).sum() == whole
    heights = [rests.positions[rests.particle == i, 2].min() for i in (1, 2)]
    assert heights[1] > heights[0] + 5
    assert 0.5 * whole < (grown.particle == 2).sum() < whole
    assert (grown.particle == 1).sum() == (alone.particle == 1).sum()
    for specimen in (rests, grown):
        assert 2.0 <= between(specimen, 1, 2) < 3.5  # they touch
    with pytest.raises(ParameterError, match=r"particles 1 and 2 overlap.*meeting \"rest\" or \"grow\""):
        build_specimen(two(""))
    buried = build_specimen(two("grow", apart=0.5))  # nothing would be left of it
    assert (buried.particle == 2).sum() == whole
    assert build_specimen(two("rest", apart=38.0)).cell == alone.cell


def test_of_particles_that_overlap_the_later_wins_in_the_label_image_and_each_mask_is_whole():
    specimen = build_specimen(two("rest"))
    labels, masks = disc_labels(specimen, (160, 180)), list(particle_masks(specimen, (160, 180)))
    both = masks[0] & masks[1]
    assert both.sum() > 100 and (labels[both] == 2).all()
    assert np.array_equal(labels > 0, masks[0] | masks[1])
    for i, mask in enumerate(masks, 1):
        assert np.array_equal(mask, disc_labels(isolate(specimen, i), (160, 180)) > 0)


def test_particles_touch_as_often_as_asked_and_keep_the_distance_drawn():
    ranges = SpecimenRanges(count=(2, 2), diameters=(20, 20), least_distance=(-6.0, -2.0), touching_share=1.0)
    for seed in range(40):
        record = draw_specimen(ranges, seed)
        assert -6.0 <= record.least_distance <= -2.0
        a, b = record.particles
        away = np.array([a.x - b.x, a.y - b.y])
        away -= 102.4 * np.round(away / 102.4)
        rims = [np.hypot(*build_particle(p, MATERIALS["CdSe"]).positions[:, :2].T).max() for p in (a, b)]
        assert np.hypot(*away) - sum(rims) == pytest.approx(record.least_distance)
        assert b.meeting in ("rest", "grow")


@given(seed=st.integers(0, 2**32), gap=st.floats(-6, 10))
@settings(max_examples=25, deadline=None)
def test_pressing_discs_together_keeps_the_least_distance(seed, gap):
    rng = np.random.default_rng(seed)
    centres = np.array([[20.0, 20.0], [70.0, 20.0], [20.0, 70.0], [70.0, 70.0]])
    radii = rng.uniform(8, 14, 4)
    moved = press_together(centres, radii, (100.0, 100.0), gap, np.ones(4, bool), rng)
    apart = moved[:, None] - moved
    apart -= 100 * np.round(apart / 100)
    room = np.hypot(apart[..., 0], apart[..., 1]) - radii[:, None] - radii + 1e6 * np.eye(4)
    assert room.min() >= gap - 1e-6
    assert np.array_equal(moved[0], centres[0])
    assert room[1].min() == pytest.approx(gap, abs=1e-6)


def test_materials_of_one_scene_differ_where_asked():
    mixed = replace(CROWD, mixed_share=1.0, count=(4, 4), diameters=(12, 14), least_distance=4.0)
    found = [draw_specimen(mixed, seed) for seed in range(20)]
    assert any(len({p.material for p in r.particles}) == 3 for r in found)
    for r in found:
        assert {m.name for m in r.materials} == {p.material for p in r.particles}
    one = replace(mixed, mixed_share=0.0)
    assert all(len({p.material for p in draw_specimen(one, seed).particles}) == 1 for seed in range(20))


def test_sizes_are_log_normal_where_asked_and_stay_in_their_range():
    ranges = SpecimenRanges(count=(5, 5), diameters=(10.0, 40.0), size_spread=0.3, cell=(150.0, 150.0))
    sizes = np.array([p.diameter for s in range(60) for p in draw_specimen(ranges, s).particles])
    assert sizes.min() >= 10 and sizes.max() <= 40
    logs = np.log(sizes / 20.0) / 0.3
    ends = math.log(2) / 0.3

    def truncated(x):
        low, high = (0.5 * (1 + math.erf(e / math.sqrt(2))) for e in (-ends, ends))
        return (np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]) - low) / (high - low)

    assert kstest(logs, truncated).pvalue > 1e-3


@pytest.mark.parametrize("shape", ["octahedron", "wulff", "sphere"])
def test_a_rounded_particle_has_as_many_atoms_and_no_corners(shape):
    plain = Particle(material="Au", shape=shape, diameter=40.0, x=0.0, y=0.0, offset=(0.1, 0.2, 0.3))
    sharp = build_particle(plain, AU).positions
    for rounding in (0.5, 1.0):
        r = build_particle(replace(plain, surface=Surface(rounding=rounding)), AU).positions
        assert len(r) == pytest.approx(len(sharp), abs=1)
        reach = np.linalg.norm(r, axis=1).max()
        if shape == "sphere":
            assert np.array_equal(np.sort(r, axis=0), np.sort(sharp, axis=0))
        else:
            assert reach < np.linalg.norm(sharp, axis=1).max() - (1.0 if rounding == 0.5 else 2.0)
    assert reach < 21.0


def test_a_closed_shell_loses_its_corners():
    plain = Particle(material="Au", shape="icosahedron", diameter=36.0, x=0.0, y=0.0)
    whole = build_particle(plain, AU).positions
    r = build_particle(replace(plain, surface=Surface(rounding=1.0)), AU).positions
    assert len(r) == pytest.approx(0.85 * len(whole), abs=1)
    assert np.linalg.norm(r, axis=1).max() < np.linalg.norm(whole, axis=1).max() - 1.5
    assert cKDTree(whole).query(r)[0].max() < 1e-9


def test_a_rough_surface_is_as_rough_as_asked():
    plain = Particle(material="Au", diameter=60.0, x=0.0, y=0.0)
    deviations = []
    for seed in range(4):
        r = build_particle(replace(plain, surface=Surface(roughness=2.0, seed=seed)), AU).positions
        assert len(r) == pytest.approx(len(build_particle(plain, AU).positions), abs=1)
        way = r / np.maximum(np.linalg.norm(r, axis=1), 1e-9)[:, None]
        length = np.linalg.norm(r, axis=1)
        cones = np.random.default_rng(seed).standard_normal((300, 3))
        cones /= np.linalg.norm(cones, axis=1)[:, None]
        tops = [length[way @ c > math.cos(0.07)].max() for c in cones]
        deviations.append(np.std(tops))
    assert np.mean(deviations) == pytest.approx(2.0, rel=0.3)


def test_disorder_is_of_the_surface_and_keeps_atoms_apart():
    plain = Particle(material="Au", diameter=50.0, x=0.0, y=0.0)
    still = build_particle(plain, AU).positions
    moved = build_particle(replace(plain, surface=Surface(disorder=0.4, seed=2)), AU).positions
    way = moved - still
    depth = -(still @ (hull := ConvexHull(still).equations)[:, :3].T + hull[:, 3]).max(1)
    assert way[depth < 1.5].std() == pytest.approx(0.35, rel=0.12)
    assert way[depth > 16].std() < 0.02
    assert cKDTree(moved).query(moved, k=2)[0][:, 1].min() > 0.69 * 4.0786 / math.sqrt(2)


def test_no_particle_hangs_over_a_hole():
    ranges = replace(CROWD, holes=(3, 3), hole_diameters=(15.0, 25.0), substrates=("carbon",))
    for seed in range(10):
        record = draw_specimen(ranges, seed)
        for hole in record.holes:
            for p in record.particles:
                away = np.array([p.x - hole.x, p.y - hole.y])
                away -= 80 * np.round(away / 80)
                assert np.hypot(*away) > 0.6 * hole.diameter


def test_what_a_record_says_of_its_film_is_built():
    plain = build_specimen(two("", apart=38.0))
    holed = build_specimen(two("", apart=38.0, holes=(Hole(x=50.0, y=5.0, diameter=20.0),), roughness=2.0))
    assert (holed.particle == 0).sum() < (plain.particle == 0).sum()
    with pytest.raises(ParameterError, match=r"no substrate 'wood'.*roughness must be"):
        two("", substrate="wood", roughness=-1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"substrates": ("wood",)}, "no substrate 'wood'; wanted some of carbon"),
        ({"substrates": ()}, "name at least one of the substrates"),
        (
            {"rounding": (0.0, 2.0), "wedge": (0.5, 0.1)},
            "rounding must be .* 0 to 1, .*wedge|wedge.*rounding",
        ),
        ({"least_distance": (3.0, 1.0)}, "least_distance must be Å or"),
        ({"least_distance": -40.0}, "at most half the smallest diameter below 0, -15 Å, got -40"),
        ({"field": (200.0, 50.0)}, "field must be above 0 and at most the cell"),
        ({"density": 0.2}, "density of carbon must be 0.095 to 0.128"),
        ({"substrates": ("none",), "count": (0, 2)}, "leave no atom at all; let count begin at 1"),
        ({"size_spread": 3.0, "mixed_share": 2.0}, "mixed_share must be 0 to 1.*size_spread"),
        (
            {"crystals": (replace(AU, name="Pt"),)},
            "crystal 'Pt' is not among the materials CdSe; name it there",
        ),
    ],
)
def test_ranges_that_cannot_be_are_refused(values, words):
    with pytest.raises(ParameterError, match=words):
        SpecimenRanges(**values)


def test_a_surface_that_cannot_be_is_refused():
    wrong = Surface(rounding=2.0, roughness=9.0, disorder=-1.0, seed=-1)
    with pytest.raises(ParameterError, match=r"rounding must be.*roughness must be.*disorder must be.*seed"):
        build_particle(Particle(material="Au", diameter=30.0, x=0.0, y=0.0, surface=wrong), AU)
