"""Atoms in files: what is written is read, others' files are read, and bad files say what is wrong."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passband.errors import PassbandError, ReadError
from passband.hrtem.specimen.crystals import B_TO_U, unit_cell
from passband.hrtem.specimen.files import read_material, read_specimen, write_specimen
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.nanoparticles import Particle, build_particle
from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen, draw_specimen, isolate

SMALL = SpecimenRanges(
    materials=("Fe3O4",), diameters=(12.0, 14.0), count=(2, 2), cell=(50.0, 60.0), thickness=(6.0, 6.0)
)


@pytest.fixture(scope="module")
def small() -> Specimen:
    return build_specimen(draw_specimen(SMALL, 3))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".xyz", 1e-7), (".extxyz", 1e-7), (".cif", 1e-9)])
def test_what_is_written_is_read(small, tmp_path, suffix, tolerance):
    read = read_specimen(write_specimen(tmp_path / f"a{suffix}", small))
    assert np.array_equal(read.numbers, small.numbers)
    assert np.array_equal(read.particle, small.particle)
    assert np.abs(read.positions - small.positions).max() < tolerance
    assert np.abs(read.thermal - small.thermal).max() < 1e-7
    assert read.cell == pytest.approx(small.cell, abs=1e-9)
    assert read.focus_plane == pytest.approx(small.focus_plane, abs=1e-7)


@pytest.mark.parametrize("suffix", [".xyz", ".cif"])
def test_ase_reads_what_is_written(small, tmp_path, suffix):
    one = isolate(small, 1)  # ASE takes half a minute for the symmetry of 2000 atoms that have none
    atoms = ase.io.read(write_specimen(tmp_path / f"a{suffix}", one))
    assert np.array_equal(atoms.numbers, one.numbers)
    assert np.abs(atoms.positions - one.positions).max() < 1e-6


@pytest.mark.parametrize("suffix", [".xyz", ".cif"])
def test_a_file_of_your_own_needs_elements_positions_and_a_cell_alone(tmp_path, suffix):
    atoms = bulk("Cu", cubic=True) * (4, 5, 6)
    ase.io.write(tmp_path / f"own{suffix}", atoms)
    read = read_specimen(tmp_path / f"own{suffix}", debye_waller=0.55)
    assert len(read.numbers) == 480 and read.count == 1
    assert set(read.thermal) == {0.55 * B_TO_U}
    assert read.focus_plane == pytest.approx((read.positions[:, 2].min() + read.positions[:, 2].max()) / 2)


def test_symmetry_and_thermal_motion_of_a_cif_are_applied(tmp_path):
    path = tmp_path / "salt.cif"
    path.write_text(CIF.format(occupancy="1.0", number=225, x="0.5"))
    read = read_specimen(path)
    assert len(read.numbers) == 8
    assert set(read.thermal[read.numbers == 11]) == {0.0213}
    assert set(read.thermal[read.numbers == 17]) == {0.0189}
    material = read_material(path)
    assert material.name == "salt" and material.cubic and len(material.sites) == 8
    assert {round(s.debye_waller * B_TO_U, 6) for s in material.sites} == {0.0213, 0.0189}


CIF = """data_salt
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_IT_number {number}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
_atom_site_occupancy
Na1 Na 0 0 0 0.0213 {occupancy}
Cl1 Cl {x} 0.5 0.5 0.0189 1.0
"""


@pytest.mark.parametrize("name", ["Fe3O4", "CdSe", "Au", "Co3O4"])
def test_a_crystal_read_from_a_cif_makes_the_particle_of_the_built_in_one(name, tmp_path):
    cell = unit_cell(MATERIALS[name])
    from passband.hrtem.specimen.crystals import lattice_vectors

    crystal = ase.Atoms(
        numbers=cell.numbers, positions=cell.positions, cell=lattice_vectors(MATERIALS[name]), pbc=True
    )
    ase.io.write(tmp_path / "x.cif", crystal)
    read = read_material(tmp_path / "x.cif", name="mine")
    ours, theirs = (
        build_particle(Particle(material=m.name, diameter=25.0, x=0.0, y=0.0, offset=(0.1, 0.2, 0.3)), m)
        for m in (MATERIALS[name], read)
    )
    order = [np.lexsort(a.positions.round(3).T) for a in (ours, theirs)]
    assert np.abs(ours.positions[order[0]] - theirs.positions[order[1]]).max() < 1e-3
    assert np.array_equal(ours.numbers[order[0]], theirs.numbers[order[1]])


def test_a_material_of_your_own_goes_through_a_whole_draw(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "pbte.cif", bulk("PbTe", "rocksalt", a=6.46, cubic=True))
    monkeypatch.setitem(MATERIALS, "PbTe", read_material(tmp_path / "pbte.cif", name="PbTe"))
    ranges = replace(SMALL, materials=("PbTe",), shapes=("octahedron",), diameters=(18.0, 20.0), count=(1, 1))
    s = build_specimen(draw_specimen(ranges, 0))
    assert set(s.numbers[s.particle == 1]) == {82, 52}


XYZ = '{n}\nLattice="10 0 0 0 10 0 0 0 10" Properties=species:S:1:pos:R:3\n{atoms}\n'
BAD = {
    "empty.xyz": ("", "is empty"),
    "blank.cif": ("  \n", "is empty"),
    "words.xyz": ("hello\nworld\n", "begins with the number of atoms"),
    "none.xyz": ('0\nLattice="10 0 0 0 10 0 0 0 10"\n', "holds no atoms"),
    "truncated.xyz": (
        XYZ.format(n=3, atoms="Au 1 1 1\nAu 4 4 4"),
        "is truncated: 3 atoms announced, 2 there",
    ),
    "cut.xyz": (XYZ.format(n=2, atoms="Au 1 1 1\nAu 4 4"), "is not an extended xyz"),
    "several.xyz": (XYZ.format(n=1, atoms="Au 1 1 1") * 2, "wanted one structure"),
    "nocell.xyz": ("1\n\nAu 1 1 1\n", "has no cell; give one in Å"),
    "flat.xyz": (XYZ.replace('0 0 10"', '0 0 0"').format(n=1, atoms="Au 1 1 1"), "has no cell"),
    "oblique.xyz": (
        XYZ.replace("10 0 0 0 10", "10 0 0 3.3 10").format(n=1, atoms="Au 1 1 1"),
        "not rectangular",
    ),
    "unknown.xyz": (XYZ.format(n=1, atoms="Qq 1 1 1"), "unknown element"),
    "dummy.xyz": (XYZ.format(n=1, atoms="X 1 1 1"), "the element of atom 0 is unknown"),
    "heavy.xyz": (XYZ.format(n=1, atoms="Og 1 1 1"), "atomic numbers must be 1 to 103"),
    "outside.xyz": (XYZ.format(n=2, atoms="Au 1 1 1\nAu 11 1 1"), "1 atoms lie outside the cell"),
    "nan.xyz": (XYZ.format(n=1, atoms="Au nan 1 1"), "atom 0 are not finite"),
    "inf.xyz": (XYZ.format(n=1, atoms="Au 1 1 inf"), "atom 0 are not finite"),
    "twice.xyz": (XYZ.format(n=2, atoms="Au 1 1 1\nAu 1 1 1.2"), "less than 0.6 Å apart"),
    "border.xyz": (XYZ.format(n=2, atoms="Au 0.1 1 1\nAu 9.9 1 1"), "less than 0.6 Å apart"),
    "half.xyz": (
        XYZ.replace("pos:R:3", "pos:R:3:particle:R:1").format(n=1, atoms="Au 1 1 1 0.5"),
        "`particle` must hold whole numbers",
    ),
    "minus.xyz": (
        XYZ.replace("pos:R:3", "pos:R:3:particle:I:1").format(n=1, atoms="Au 1 1 1 -1"),
        "particle indices must be 0",
    ),
    "names.xyz": (
        XYZ.replace("pos:R:3", "pos:R:3:particle:S:1").format(n=1, atoms="Au 1 1 1 one"),
        "names.xyz",
    ),
    "wide.xyz": (
        XYZ.replace("pos:R:3", "pos:R:3:thermal:R:2").format(n=1, atoms="Au 1 1 1 1 1"),
        "one number for each atom",
    ),
    "partial.cif": (CIF.format(occupancy="0.5", number=225, x="0.5"), "1 sites are partly occupied"),
    "words.cif": ("hello\nworld\n", "not a CIF"),
    "nothing.cif": ("data_x\n_cell_length_a 5\n", "holds 0 structures"),
    "many.cif": (CIF.format(occupancy="1", number=225, x="0.5") * 2, "holds 2 structures"),
    "unknown.cif": (CIF.format(occupancy="1", number=225, x="0.5").replace("Cl", "Qq"), "unknown element"),
    "question.cif": (CIF.format(occupancy="1", number=225, x="?"), "cannot be made"),
    "group.cif": (CIF.format(occupancy="1", number=999, x="0.5"), "cannot be made"),
    "origin.cif": (CIF.format(occupancy="1", number=227, x="0.5"), "has two origins"),
    "cut.cif": (CIF.format(occupancy="1", number=225, x="0.5")[:-20], "cut.cif"),
    "no.pdb": ("ATOM", "are read from .xyz, .extxyz and .cif"),
}


def neighbours(positions, cell, reach):
    """Distances between atoms of a crystal, sorted, of each atom."""
    steps = np.stack(np.meshgrid(*[range(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3) @ np.asarray(cell)
    away = np.linalg.norm(positions[None, :, None] + steps - positions[:, None, None], axis=-1)
    return [np.sort(d[(d > 1e-6) & (d < reach)]) for d in away.reshape(len(positions), -1)]


@pytest.mark.parametrize("suffix", ["xyz", "cif"])
@pytest.mark.parametrize("what", ["graphene", "wurtzite", "skewed", "sixty degrees"])
def test_a_cell_whose_lattice_has_a_rectangular_one_is_repeated_until_it_is(what, suffix, tmp_path):
    import ase
    import ase.build
    import ase.io

    atoms = {
        "graphene": lambda: ase.build.graphene(vacuum=5.0),
        "wurtzite": lambda: ase.build.bulk("ZnO", "wurtzite", a=3.25, c=5.2),
        "skewed": lambda: ase.Atoms("Au", [(1, 1, 1)], cell=[[4, 0, 0], [2, 5, 0], [0, 0, 6]], pbc=True),
        "sixty degrees": lambda: ase.build.bulk("Mg", a=3.2, c=5.2).repeat((2, 1, 1)),
    }[what]()
    if what == "sixty degrees":
        cell = atoms.cell.array
        atoms.set_cell([cell[0], cell[1] + cell[0], cell[2]])
    ase.io.write(tmp_path / f"a.{suffix}", atoms)
    specimen = read_specimen(tmp_path / f"a.{suffix}")
    volume = np.prod(specimen.cell) / abs(np.linalg.det(atoms.cell.array))
    assert len(specimen.numbers) == pytest.approx(len(atoms) * volume) and round(volume) in (2, 4)
    here = neighbours(specimen.positions, np.diag(specimen.cell), 4.0)
    there = neighbours(atoms.positions, atoms.cell.array, 4.0)
    for number, found in zip(specimen.numbers, here, strict=True):
        wanted = there[int(np.flatnonzero(atoms.numbers == number)[0])]
        np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_is_wrong(name, tmp_path):
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ReadError, match=message) as e:
        read_specimen(tmp_path / name)
    assert name in str(e.value)


@pytest.mark.parametrize("suffix", [".xyz", ".cif"])
def test_binary_missing_and_folder_are_refused(tmp_path, suffix):
    (tmp_path / f"binary{suffix}").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ReadError, match="binary file"):
        read_specimen(tmp_path / f"binary{suffix}")
    with pytest.raises(ReadError, match="cannot be read: No such file"):
        read_specimen(tmp_path / f"missing{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ReadError, match="cannot be read"):
        read_specimen(tmp_path / f"folder{suffix}")


def test_a_truncated_cif_of_ours_is_noticed(small, tmp_path):
    path = write_specimen(tmp_path / "a.cif", small)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-40]) + "\n")
    with pytest.raises(ReadError, match="is truncated"):
        read_specimen(path)


def test_crystals_that_are_none_are_refused(tmp_path):
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    with pytest.raises(ReadError, match="has no cell"):
        read_material(tmp_path / "water.xyz")
    (tmp_path / "disorder.cif").write_text(CIF.format(occupancy="0.5", number=225, x="0.5"))
    with pytest.raises(ReadError, match="partly occupied"):
        read_material(tmp_path / "disorder.cif")
    double = bulk("Cu", cubic=True)
    double.positions[1] = double.positions[0] + [0.0, 0.0, 0.3]
    ase.io.write(tmp_path / "double.cif", double)
    with pytest.raises(ReadError, match="pairs of atoms are less than"):
        read_material(tmp_path / "double.cif")


def test_another_ending_is_not_written(small, tmp_path):
    with pytest.raises(PassbandError, match=r"are written as .xyz, .extxyz or .cif, not '.pdb'"):
        write_specimen(tmp_path / "a.pdb", small)
    assert list(tmp_path.iterdir()) == []


@given(seed=st.integers(0, 2**32), suffix=st.sampled_from([".xyz", ".cif"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(seed, suffix, tmp_path):
    """Bytes changed, cut out or doubled: a specimen or a ReadError comes back."""
    rng = np.random.default_rng(seed)
    if suffix == ".xyz":
        content = XYZ.format(n=3, atoms="Au 1 1 1\nCd 4 4 4\nSe 7 7 7").encode()
    else:
        content = CIF.format(occupancy="1.0", number=225, x="0.5").encode()
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(damaged)))
        if rng.random() < 0.6:
            damaged[at] = rng.integers(256)
        elif rng.random() < 0.5:
            del damaged[at : at + int(rng.integers(1, 30))]
        else:
            damaged[at:at] = damaged[at : at + int(rng.integers(1, 60))]
    path = tmp_path / f"d{suffix}"
    path.write_bytes(damaged)
    try:
        assert len(read_specimen(path).numbers) > 0
    except ReadError as e:
        assert "d." in str(e)
