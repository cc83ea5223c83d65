"""Laws of labels: the discs' geometry, periodicity, and instances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from passband.errors import ParameterError
from passband.hrtem.specimen.labels import disc_labels, exit_wave_labels, phase_labels
from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen, draw_specimen


def atoms_at(
    positions: np.ndarray, cell: tuple[float, float], particle: np.ndarray | None = None
) -> Specimen:
    n = len(positions)
    return Specimen(
        numbers=np.full(n, 14),
        positions=np.column_stack([positions, np.full(n, 5.0)]),
        particle=(np.ones(n) if particle is None else particle).astype(np.int32),
        thermal=np.zeros(n),
        cell=(*cell, 10.0),
        focus_plane=5.0,
    )


def slow_labels(specimen: Specimen, shape: tuple[int, int], radius: float, closing: float) -> np.ndarray:
    """By the definition: distances of all pixels to all atoms, and Euclidean distances on nine copies."""
    pixel = (specimen.cell[1] / shape[0], specimen.cell[0] / shape[1])
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, int)
    for i in range(1, specimen.count + 1):
        inside = np.zeros(shape, bool)
        for ax, ay, _ in specimen.positions[specimen.particle == i]:
            dy, dx = y * pixel[0] - ay, x * pixel[1] - ax
            dy -= specimen.cell[1] * np.round(dy / specimen.cell[1])
            dx -= specimen.cell[0] * np.round(dx / specimen.cell[0])
            inside |= dy**2 + dx**2 <= radius**2
        copies = np.tile(inside, (3, 3))
        if copies.any() and closing:
            copies = distance_transform_edt(~copies, sampling=pixel) <= closing + 1e-9
            if not copies.all():
                copies = distance_transform_edt(copies, sampling=pixel) > closing + 1e-9
        labels[copies[shape[0] : 2 * shape[0], shape[1] : 2 * shape[1]]] = i
    return labels


@given(
    seed=st.integers(0, 2**32),
    width=st.floats(12, 40),
    height=st.floats(12, 40),
    count=st.integers(1, 60),
    rows=st.integers(20, 90),
    columns=st.integers(20, 90),
    spread=st.booleans(),
    closing=st.sampled_from([0.0, 1.0, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_those_of_the_definition(seed, width, height, count, rows, columns, spread, closing):
    rng = np.random.default_rng(seed)
    r = rng.random((count, 2)) if spread else rng.normal(0, 0.1, (count, 2)) % 1
    specimen = atoms_at(r * [width, height], (width, height), rng.integers(1, 4, count))
    got = disc_labels(specimen, (rows, columns), closing_radius=closing)
    assert np.array_equal(got, slow_labels(specimen, (rows, columns), 1.4, closing))


def test_one_atom_is_a_disc_of_its_radius_about_its_place():
    labels = disc_labels(atoms_at(np.array([[11.3, 30.1]]), (40.0, 60.0)), (600, 400))
    y, x = np.nonzero(labels)
    assert len(y) * 0.01 == pytest.approx(math.pi * 1.4**2, rel=0.01)
    assert (x.mean() * 0.1, y.mean() * 0.1) == pytest.approx((11.3, 30.1), abs=0.01)


def test_a_ring_of_atoms_is_filled_when_no_closing_disc_fits_into_it():
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for radius, filled in ((4.2, True), (4.7, False)):  # free inside: the radius less 1.4 Å, against 3 Å
        ring = 20 + radius * np.column_stack([np.cos(angle), np.sin(angle)])
        labels = disc_labels(atoms_at(ring, (40.0, 40.0)), (400, 400))
        assert (labels[200, 200] == 1) == filled


def test_a_moved_specimen_moves_its_labels_through_the_border():
    specimen = build_specimen(draw_specimen(SpecimenRanges(count=(2, 3), thickness=(10.0, 10.0)), seed=4))
    moved = specimen.positions.copy()
    moved[:, 0] = (moved[:, 0] + 37 * 0.4) % 102.4
    moved[:, 1] = (moved[:, 1] + 200 * 0.4) % 102.4
    again = atoms_at(moved[:, :2], (102.4, 102.4), specimen.particle)
    plain, rolled = (disc_labels(s, (256, 256)) for s in (specimen, again))
    # rounding of the moved coordinates may turn a pixel on a disc's very rim
    assert (np.roll(plain, (200, 37), (0, 1)) != rolled).sum() <= 2


def test_each_particle_is_one_piece_as_large_as_its_projection():
    """A sphere's label is the disc of its radius and the rim of its outermost atoms."""
    ranges = SpecimenRanges(count=(3, 3), diameters=(30.0, 40.0), thickness=(10.0, 10.0))
    record = draw_specimen(ranges, seed=7)
    labels = disc_labels(build_specimen(record), (512, 512))
    for i, p in enumerate(record.particles, 1):
        area = (labels == i).sum() * 0.04
        assert math.pi / 4 * p.diameter**2 * 0.93 < area < math.pi / 4 * (p.diameter + 2.8) ** 2


def test_the_substrate_has_no_label_and_a_later_particle_lies_over_an_earlier():
    r = np.array([[10.0, 10.0], [11.0, 10.0], [30.0, 30.0]])
    labels = disc_labels(atoms_at(r, (40.0, 40.0), np.array([1, 2, 0])), (80, 80))
    assert labels[20, 22] == 2
    assert labels[20, 18] == 1
    assert labels[60, 60] == 0


def test_the_phase_label_is_where_the_phase_passes_its_threshold():
    y, x = np.mgrid[:64, :64]
    phase = 0.3 * np.exp(-((x - 30) ** 2 + (y - 60) ** 2) / 200)
    phase += 0.3 * np.exp(-((x - 30) ** 2 + (y + 4) ** 2) / 200)  # wraps round the border
    got = phase_labels([np.exp(1j * phase)], pixel_size=0.4, closing_radius=0.0)
    assert np.array_equal(got == 1, phase > math.pi / 16)


def test_strong_phases_stay_inside_and_the_closing_wraps():
    phase = np.zeros((64, 64))
    phase[:6, 20:40] = 0.5
    phase[-6:, 20:40] = 3.5  # beyond pi
    phase[0, 30] = phase[63, 25] = 0.0  # pinholes at the border
    wave = np.exp(1j * phase)
    got = phase_labels([wave, np.ones((64, 64), complex)], pixel_size=0.5, closing_radius=1.5)
    wanted = np.zeros((64, 64), bool)
    wanted[:6, 20:40] = wanted[-6:, 20:40] = True
    assert np.array_equal(got == 1, wanted)
    assert not (got == 2).any()


def test_bad_input_is_refused():
    specimen = atoms_at(np.array([[10.0, 10.0]]), (20.0, 20.0))
    for shape in ((0, 10), (10, -1)):
        with pytest.raises(ParameterError, match="two positive numbers"):
            disc_labels(specimen, shape)
    for radii in ({"atom_radius": 0.0}, {"closing_radius": -1.0}, {"closing_radius": 9.0}):
        with pytest.raises(ParameterError, match="radii of atom and closing"):
            disc_labels(specimen, (20, 20), **radii)
    wave = np.ones((8, 8), complex)
    with pytest.raises(ParameterError, match="at least one particle"):
        phase_labels([], pixel_size=0.2)
    with pytest.raises(ParameterError, match="agree in shape"):
        phase_labels([wave, wave[:4]], pixel_size=0.2)
    with pytest.raises(ParameterError, match="pixel size"):
        phase_labels([wave], pixel_size=0.0)
    with pytest.raises(ParameterError, match="finite"):
        phase_labels([wave * np.nan], pixel_size=0.2)


def test_exit_wave_labels_lie_where_the_discs_do() -> None:
    ranges = SpecimenRanges(cell=(51.2, 51.2), diameters=(15, 20), count=(2, 2), least_distance=5.0)
    specimen = build_specimen(draw_specimen(ranges, 3))
    by_phase, by_disc = exit_wave_labels(specimen, (128, 128)), disc_labels(specimen, (128, 128))
    for i in (1, 2):
        one, other = by_phase == i, by_disc == i
        assert (one & other).sum() / (one | other).sum() > 0.6
        assert (one & ~other).sum() < 0.1 * one.sum()  # the discs' rim makes theirs the larger


def test_without_a_particle_all_is_background():
    bare = build_specimen(draw_specimen(SpecimenRanges(cell=(20.48, 20.48), count=(0, 0)), 1))
    for labels in (exit_wave_labels(bare, (64, 32)), disc_labels(bare, (64, 32))):
        assert labels.shape == (64, 32)
        assert not labels.any()
