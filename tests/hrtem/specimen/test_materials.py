"""Laws of crystals: the materials against tabulated crystallography."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_masses
from scipy.integrate import quad

from passband.errors import ParameterError
from passband.hrtem.specimen.crystals import (
    Material,
    Site,
    atomic_number,
    face_normals,
    lattice_symmetry,
    lattice_vectors,
    material_from_atoms,
    unit_cell,
    zone_directions,
)
from passband.hrtem.specimen.materials import MATERIALS

DALTON = 1.66053907  # g/cm³ of one dalton in one Å³
# Density in g/cm³ and nearest-neighbour distance in Å: CRC Handbook; oxides: tetrahedral metal to oxygen.
TABULATED = {
    "CdSe": (5.66, 2.63),
    "ZnS": (4.09, 2.342),
    "ZnS wurtzite": (4.09, 2.34),
    "Au": (19.3, 2.884),
    "Ag": (10.5, 2.889),
    "Cu": (8.96, 2.556),
    "Fe": (7.87, 2.482),
    "Si": (2.329, 2.352),
    "diamond": (3.515, 1.545),
    "Fe3O4": (5.17, 1.89),
    "Co3O4": (6.11, 1.92),
}
COMPOSITION = {"CdSe": {48: 2, 34: 2}, "ZnS": {30: 4, 16: 4}, "ZnS wurtzite": {30: 2, 16: 2}}
COMPOSITION |= {"Fe3O4": {26: 24, 8: 32}, "Co3O4": {27: 24, 8: 32}, "Si": {14: 8}, "diamond": {6: 8}}
COMPOSITION |= {"Au": {79: 4}, "Ag": {47: 4}, "Cu": {29: 4}, "Fe": {26: 2}}
DEBYE_TEMPERATURE = {"Au": 165, "Ag": 215, "Cu": 315, "Fe": 420, "Si": 543, "diamond": 1860}


def test_every_material_is_compared_with_tables():
    assert set(TABULATED) == set(COMPOSITION) == set(MATERIALS)


@pytest.mark.parametrize("name", TABULATED)
def test_density_is_the_tabulated(name):
    cell = unit_cell(MATERIALS[name])
    volume = np.linalg.det(lattice_vectors(MATERIALS[name]))
    density = atomic_masses[cell.numbers].sum() / volume * DALTON
    assert density == pytest.approx(TABULATED[name][0], rel=0.01)


def distances(positions: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Between all pairs, to the nearest image; of an atom and itself, to its next image."""
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 1, 1, 3) @ lattice
    apart = np.linalg.norm(positions[:, None] - positions + steps, axis=-1)
    return np.where(apart > 1e-6, apart, np.inf).min(0)


@pytest.mark.parametrize("name", TABULATED)
def test_nearest_neighbours_are_the_tabulated(name):
    nearest = distances(unit_cell(MATERIALS[name]).positions, lattice_vectors(MATERIALS[name])).min()
    assert nearest == pytest.approx(TABULATED[name][1], abs=0.006)


@pytest.mark.parametrize("name", COMPOSITION)
def test_composition_is_the_formula(name):
    numbers, counts = np.unique(unit_cell(MATERIALS[name]).numbers, return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == COMPOSITION[name]


@pytest.mark.parametrize("name", DEBYE_TEMPERATURE)
def test_thermal_motion_of_the_elements_is_that_of_debyes_model(name):
    """B = 6 h² / (M k Theta) (phi(x) / x + 1/4), x = Theta / T, with phi Debye's integral over x."""
    planck, boltzmann, dalton = 6.62607015e-34, 1.380649e-23, 1.66053907e-27
    theta, cell = DEBYE_TEMPERATURE[name], unit_cell(MATERIALS[name])
    x = theta / 295
    phi = quad(lambda t: t / math.expm1(t), 0, x)[0] / x
    mass = atomic_masses[cell.numbers[0]] * dalton
    b = 6e20 * planck**2 / (mass * boltzmann * theta) * (phi / x + 0.25)
    assert 8 * math.pi**2 * cell.thermal[0] == pytest.approx(b, rel=0.1)


@pytest.mark.parametrize("name", MATERIALS)
def test_symmetry_leaves_the_lattice_as_it_is(name):
    lattice = lattice_vectors(MATERIALS[name])
    for r in lattice_symmetry(MATERIALS[name]):
        steps = lattice @ r @ np.linalg.inv(lattice)
        assert np.abs(steps - steps.round()).max() < 1e-9
        assert np.abs(r @ r.T - np.eye(3)).max() < 1e-9


def test_faces_and_zones_have_their_multiplicity():
    gold, cdse = MATERIALS["Au"], MATERIALS["CdSe"]
    faces = [((1, 1, 1), 8), ((1, 0, 0), 6), ((1, 1, 0), 12), ((2, 1, 1), 24)]
    assert [len(face_normals(gold, f)) for f, _ in faces] == [n for _, n in faces]
    assert len(face_normals(cdse, (0, 0, 1))) == 2
    assert len(zone_directions(cdse, (1, 0, 0))) == 6
    # [120] of a hexagonal lattice is the normal of (010), as the tables say
    normals, directions = face_normals(cdse, (0, 1, 0)), zone_directions(cdse, (1, 2, 0))
    assert np.abs(normals[:, None] - directions).max(-1).min(1).max() < 1e-6


@pytest.mark.parametrize(
    "made", [bulk("Pt", "fcc", a=3.92), bulk("Ti", "hcp", a=2.95, c=4.68), bulk("NaCl", "rocksalt", a=5.64)]
)
def test_any_crystal_of_ase_becomes_a_material_of_its_density(made):
    material = material_from_atoms(made, name="x")
    cell = unit_cell(material)
    assert sorted(cell.numbers) == sorted(made.numbers)
    assert np.linalg.det(lattice_vectors(material)) == pytest.approx(abs(made.get_volume()))
    shortest = made.get_all_distances(mic=True)[0, 1:]
    assert distances(cell.positions, lattice_vectors(material))[0, 1:] == pytest.approx(shortest, abs=1e-6)


def test_bad_materials_name_their_faults():
    with pytest.raises(ParameterError, match=r"lengths must be positive.*B of Au.*space group"):
        replace(
            MATERIALS["Au"],
            lengths=(0.0, 1.0, 1.0),
            space_group=0,
            sites=(Site(element="Au", position=(0.0, 0.0, 0.0), debye_waller=-1.0),),
        )
    with pytest.raises(ParameterError, match="there are no sites"):
        Material(name="x", space_group=1, lengths=(1.0, 1.0, 1.0), sites=())
    with pytest.raises(ParameterError, match="no cell has angles"):
        lattice_vectors(replace(MATERIALS["Au"], angles_degrees=(60.0, 60.0, 150.0)))
    with pytest.raises(ParameterError, match="unknown element 'Qq'"):
        unit_cell(replace(MATERIALS["Au"], sites=(Site(element="Qq", position=(0.0, 0.0, 0.0)),)))
    with pytest.raises(ParameterError, match="unknown element 'X'"):
        atomic_number("X")
    two = (Site(element="Au", position=(0.0, 0.0, 0.0)), Site(element="Ag", position=(0.0, 0.0, 0.0)))
    with pytest.raises(ParameterError, match="makes no crystal"):
        unit_cell(replace(MATERIALS["Au"], sites=two))
    empty = bulk("Pt")[:0]
    with pytest.raises(ParameterError, match="holds no atoms"):
        material_from_atoms(empty, name="x")
    with pytest.raises(ParameterError, match="three cell vectors"):
        flat = bulk("Pt")
        flat.cell[2] = 0
        material_from_atoms(flat, name="x")
