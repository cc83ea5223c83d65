"""Atoms in files: specimens and crystals as extended xyz or CIF, read and written through ASE.

Beside elements, positions and cell, an extended xyz holds two columns, `particle` (0 substrate, i on
particle i) and `thermal` (mean square displacement along one axis, Å²), and `focus_plane` (Å); a CIF
`_atom_site_passband_particle`, `_atom_site_U_iso_or_equiv` and `_passband_focus_plane`. All of them may be
missing in a file of your own: then every atom belongs to particle 1, moves as an ordinary atom at room
temperature does, and focus is counted from the particles' mid-plane.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from passband.errors import ParameterError, PassbandError, ReadError
from passband.hrtem.specimen.crystals import B_TO_U, DEFAULT_DEBYE_WALLER, Material, material_from_atoms
from passband.hrtem.specimen.specimen import Specimen
from passband.store.files import write_whole

LEAST_DISTANCE = 0.6
"""Å: no two nuclei are nearer; the bond of hydrogen is 0.74."""
_SIZE_LIMIT = 512 * 2**20  # bytes; five million atoms
_SKEW = 1e-3  # Å by which a side of a rectangular cell may lie aside
_MOST_TIMES = 6  # vectors of a cell that are added up to make it rectangular
_ROUNDING = 1e-3  # Å by which a written coordinate may leave the cell


def read_specimen(path: str | os.PathLike[str], *, debye_waller: float = DEFAULT_DEBYE_WALLER) -> Specimen:
    """Read the atoms of a specimen.

    Parameters
    ----------
    path
        Extended xyz (``.xyz``, ``.extxyz``) or CIF (``.cif``); the beam travels towards +z. A cell that is
        not rectangular along x, y and z is repeated until it is, where its lattice allows that: hexagonal
        ones with c along z do.
    debye_waller
        B of atoms whose file says nothing about their thermal motion, Å².

    Returns
    -------
    Specimen
        Its x and y wrapped into the cell where rounding put them outside.

    Raises
    ------
    ReadError
        Naming the fault and the cure: not such a file, truncated, binary, no cell or not a rectangular
        one, no atoms or several structures, unknown elements, coordinates that are not finite or outside
        the cell, two atoms on one place, sites that are partly occupied.

    Examples
    --------
    >>> import tempfile
    >>> from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
    >>> made = build_specimen(draw_specimen(SpecimenRanges(count=(1, 1), thickness=(10, 10)), seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read = read_specimen(write_specimen(Path(folder) / "one.xyz", made))
    >>> len(read.numbers) == len(made.numbers), bool(abs(read.positions - made.positions).max() < 1e-6)
    (True, True)
    """
    shown = os.fspath(path)
    atoms = _read_atoms(Path(path))
    if not np.isfinite(atoms.positions).all():
        i = int(np.flatnonzero(~np.isfinite(atoms.positions).all(1))[0])
        raise ReadError(f"{shown}: the coordinates of atom {i} are not finite: {atoms.positions[i].tolist()}")
    atoms, lengths = _rectangular(atoms, shown)
    positions = np.array(atoms.positions, np.float64)
    near = (positions > -_ROUNDING) & (positions < lengths + _ROUNDING)
    positions = np.where(near, np.clip(positions, 0, lengths), positions)
    positions[:, :2] = np.where(positions[:, :2] == lengths[:2], 0.0, positions[:, :2])
    particle = np.array(atoms.arrays.get("particle", np.ones(len(atoms))))
    thermal = np.array(atoms.arrays.get("thermal", np.full(len(atoms), debye_waller * B_TO_U)))
    if particle.shape != (len(atoms),) or thermal.shape != (len(atoms),):
        raise ReadError(f"{shown}: `particle` and `thermal` must be one number for each atom")
    try:
        if not (particle == np.round(particle.astype(np.float64))).all():
            raise ReadError(f"{shown}: `particle` must hold whole numbers, 0 for the substrate")
        z = positions[particle > 0, 2] if (particle > 0).any() else positions[:, 2]
        middle = float(z.min() + z.max()) / 2
        specimen = Specimen(
            numbers=atoms.numbers.astype(np.int64),
            positions=positions,
            particle=particle.astype(np.int32),
            thermal=thermal.astype(np.float64),
            cell=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
            focus_plane=float(atoms.info.get("focus_plane", middle)),
        )
    except (ParameterError, TypeError, ValueError) as e:
        raise ReadError(f"{shown}: {e}") from e
    _refuse_close(positions, np.array([lengths[0], lengths[1], 0.0]), shown)
    return specimen


def write_specimen(path: str | os.PathLike[str], specimen: Specimen) -> Path:
    """Write a specimen so that other programs and `read_specimen` can read it.

    Parameters
    ----------
    path
        Ending in ``.xyz`` or ``.extxyz`` for extended xyz (coordinates to 1e-8 Å) or ``.cif``.
    specimen
        Any.

    Returns
    -------
    Path
        Of the file, written whole or not at all.

    Raises
    ------
    PassbandError
        If the ending is another or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
    >>> made = build_specimen(draw_specimen(SpecimenRanges(count=(1, 1), thickness=(0, 0)), seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = write_specimen(Path(folder) / "one.xyz", made).read_text()
    >>> int(text.split()[0]) == len(made.numbers)
    True
    """
    import ase
    from ase.io.cif import write_cif

    atoms = ase.Atoms(
        numbers=specimen.numbers, positions=specimen.positions, cell=specimen.cell, pbc=(True, True, False)
    )
    suffix = Path(path).suffix.lower()
    if suffix in (".xyz", ".extxyz"):
        import ase.io

        atoms.arrays["particle"] = specimen.particle
        atoms.arrays["thermal"] = specimen.thermal
        atoms.info["focus_plane"] = specimen.focus_plane
        text = io.StringIO()
        ase.io.write(text, atoms, format="extxyz")
        return write_whole(Path(path), text.getvalue())
    if suffix == ".cif":
        content = io.BytesIO()
        columns = {
            "atom_site_U_iso_or_equiv": [[f"{u:.8g}" for u in specimen.thermal]],
            "atom_site_passband_particle": [[str(i) for i in specimen.particle]],
        }
        write_cif(content, atoms, wrap=False, loop_keys=columns)
        return write_whole(
            Path(path), content.getvalue() + f"\n_passband_focus_plane {specimen.focus_plane!r}\n".encode()
        )
    raise PassbandError(f"{os.fspath(path)}: atoms are written as .xyz, .extxyz or .cif, not {suffix!r}")


def read_material(
    path: str | os.PathLike[str], *, name: str = "", debye_waller: float = DEFAULT_DEBYE_WALLER
) -> Material:
    """Read a crystal to cut particles from.

    Parameters
    ----------
    path
        A CIF, or an extended xyz of one cell.
    name
        For `MATERIALS`; the file's name without its ending if empty.
    debye_waller
        B of sites whose file gives none, Å².

    Returns
    -------
    Material
        Of which spheres can be cut, and octahedra if it is cubic; `dataclasses.replace` adds surfaces.

    Raises
    ------
    ReadError
        Naming the fault and the cure, as `read_specimen` does.

    Examples
    --------
    >>> import ase.build, ase.io, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ase.io.write(Path(folder) / "Pt.cif", ase.build.bulk("Pt", cubic=True))
    ...     platinum = read_material(Path(folder) / "Pt.cif")
    >>> platinum.name, platinum.shapes
    ('Pt', ('sphere', 'octahedron', 'truncated octahedron'))
    """
    shown = os.fspath(path)
    atoms = _read_atoms(Path(path))
    if atoms.cell.rank != 3:
        raise ReadError(f'{shown}: has no cell; give one, in an xyz as Lattice="..." on its second line')
    thermal = atoms.arrays.get("thermal")
    b = debye_waller if thermal is None else np.asarray(thermal, np.float64) / B_TO_U
    try:
        material = material_from_atoms(atoms, name=name or Path(path).stem, debye_waller=b)
    except ParameterError as e:
        raise ReadError(f"{shown}: {e}") from e
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) @ atoms.cell.array
    around = (atoms.get_scaled_positions() @ atoms.cell.array + images[:, None]).reshape(-1, 3)
    _refuse_close(around, None, shown)
    return material


def _read_atoms(path: Path) -> Any:
    """The one structure of a file."""
    text = _text_of(path)
    suffix = path.suffix.lower()
    if suffix not in (".xyz", ".extxyz", ".cif"):
        raise ReadError(f"{path}: atoms are read from .xyz, .extxyz and .cif, not {suffix or 'no ending'!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ASE's readers; what matters is checked below
        atoms = _parse_cif(text, path) if suffix == ".cif" else _parse_xyz(text, path)
    if not len(atoms):
        raise ReadError(f"{path}: holds no atoms")
    if (atoms.numbers == 0).any():
        i = int(np.flatnonzero(atoms.numbers == 0)[0])
        raise ReadError(f"{path}: the element of atom {i} is unknown; wanted chemical symbols")
    return atoms


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise ReadError(f"{path}: is larger than {_SIZE_LIMIT // 2**20} MB; wanted the atoms of one cell")
        content = path.read_bytes()
    except OSError as e:
        raise ReadError(f"{path}: cannot be read: {e.strerror or e}") from e
    if not content.strip():
        raise ReadError(f"{path}: is empty")
    if b"\0" in content:
        raise ReadError(f"{path}: is a binary file; wanted atoms as text, extended xyz or CIF")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _parse_xyz(text: str, path: Path) -> Any:
    import ase.io

    lines = text.splitlines()
    try:
        count = int(lines[0])
    except ValueError:
        raise ReadError(f"{path}: an xyz begins with the number of atoms, got {lines[0][:40]!r}") from None
    there = len(lines) - 2
    if count < 1:
        raise ReadError(f"{path}: holds no atoms")
    if there < count:
        raise ReadError(f"{path}: is truncated: {count} atoms announced, {max(there, 0)} there; copy it anew")
    if any(line.strip() for line in lines[count + 2 :]):
        raise ReadError(f"{path}: more than {count} atoms follow; wanted one structure in the file")
    try:
        return ase.io.read(io.StringIO("\n".join(lines[: count + 2]) + "\n"), format="extxyz", index=0)
    except KeyError as e:
        raise ReadError(f"{path}: unknown element or column {e}; wanted chemical symbols") from e
    except Exception as e:  # ASE's readers raise whatever comes
        raise ReadError(f"{path}: is not an extended xyz: {_short(e)}") from e


def _parse_cif(text: str, path: Path) -> Any:
    """The atoms of a CIF's one structure, its symmetry applied."""
    block = _cif_block(text, path)
    try:
        atoms = _cif_atoms(block, path)
    except ReadError:
        raise
    except KeyError as e:
        raise ReadError(f"{path}: unknown element {e}; wanted chemical symbols") from e
    except Exception as e:  # ASE's readers raise whatever comes
        raise ReadError(f"{path}: its structure cannot be made: {_short(e)}") from e
    if np.isnan(atoms.arrays["thermal"]).any():
        del atoms.arrays["thermal"]
    return atoms


def _cif_block(text: str, path: Path) -> Any:
    """The one structure of a CIF, whole and ordered."""
    from ase.io.cif import parse_cif

    try:
        found: list[Any] = list(parse_cif(io.StringIO(text)))
        blocks = [b for b in found if b.has_structure()]
    except Exception as e:  # ASE's readers raise whatever comes
        raise ReadError(f"{path}: is not a CIF, or a damaged one: {_short(e)}") from e
    if len(blocks) != 1:
        raise ReadError(f"{path}: holds {len(blocks)} structures; wanted one in the file")
    block = blocks[0]
    partly = [v for v in _column(block, "_atom_site_occupancy") if isinstance(v, (int, float)) and v != 1]
    if partly:
        raise ReadError(
            f"{path}: {len(partly)} sites are partly occupied (the first by {partly[0]}); a specimen's "
            "atoms are there or not: choose an ordered structure, or fill sites at random and write "
            "occupancy 1"
        )
    if _is_ours(block) and "_passband_focus_plane" not in block:
        raise ReadError(
            f"{path}: is truncated: its last line, _passband_focus_plane, is missing; copy it anew"
        )
    return block


def _is_ours(block: Any) -> bool:
    """Whether a specimen was written to the CIF, with its particles and focus."""
    return "_atom_site_passband_particle" in block


def _cif_atoms(block: Any, path: Path) -> Any:
    symmetry = _column(block, "_space_group_symop_operation_xyz") or _column(
        block, "_symmetry_equiv_pos_as_xyz"
    )
    sites = block.get_unsymmetrized_structure()
    sites.arrays["thermal"] = _thermal(block, len(sites))
    group = 1 if symmetry else int(block.get_spacegroup(True).no)
    if _two_origins(group) and "_symmetry_space_group_setting" not in block:
        raise ReadError(
            f"{path}: space group {group} has two origins and the file does not say which; "
            "list its symmetry operations (_space_group_symop_operation_xyz)"
        )
    if len(symmetry) == 1 or not (symmetry or group > 1):
        atoms = sites  # no symmetry to apply, which ASE would do slowly
    else:
        atoms = block.get_atoms(fractional_occupancies=False)
        atoms.arrays["thermal"] = sites.arrays["thermal"][atoms.arrays["spacegroup_kinds"]]
    if _is_ours(block):
        atoms.arrays["particle"] = np.array(_column(block, "_atom_site_passband_particle"), np.float64)
        atoms.info["focus_plane"] = float(block["_passband_focus_plane"])
    return atoms


def _two_origins(group: int) -> bool:
    """Whether the tables give a space group in two settings, which its number does not tell apart."""
    from ase.spacegroup import Spacegroup
    from ase.spacegroup.spacegroup import SpacegroupNotFoundError

    try:
        Spacegroup(group, 2)
    except SpacegroupNotFoundError:
        return False
    return True


def _column(block: Any, tag: str) -> list[Any]:
    """A CIF's column as a list; a single value is not in a loop."""
    value = block.get(tag)
    return [] if value is None else value if isinstance(value, list) else [value]


def _thermal(block: Any, count: int) -> np.ndarray:
    """Mean square displacement of each site, NaN where the file gives none."""
    for tag, scale in (("_atom_site_u_iso_or_equiv", 1.0), ("_atom_site_b_iso_or_equiv", B_TO_U)):
        values = _column(block, tag)
        if len(values) == count and all(isinstance(v, (int, float)) and v >= 0 for v in values):
            return np.array(values, np.float64) * scale
    return np.full(count, np.nan)


def _rectangular(atoms: Any, shown: str) -> tuple[Any, np.ndarray]:
    """The atoms in a rectangular cell, and its lengths."""
    cell = np.asarray(atoms.cell.array, np.float64)
    if atoms.cell.rank != 3 or not np.isfinite(cell).all():
        raise ReadError(
            f'{shown}: has no cell; give one in Å, in an xyz as Lattice="X 0 0 0 Y 0 0 0 Z" on its '
            "second line"
        )
    lengths = np.diag(cell)
    if np.abs(cell - np.diag(lengths)).max() <= _SKEW and (lengths > 0).all():
        return atoms, lengths
    times = _upright(cell)
    if times is None:
        raise ReadError(
            f"{shown}: the cell {cell.round(3).tolist()} is not rectangular along x, y and z, nor is any "
            "small multiple of it; turn it, or cut one that is, for example with ase.build.make_supercell"
        )
    from ase.build import make_supercell

    repeated = make_supercell(atoms, times)  # type: ignore[no-untyped-call]
    repeated.info = dict(atoms.info)
    lengths = np.diag(times @ cell)
    repeated.set_cell(lengths)
    repeated.pbc = True
    repeated.wrap(eps=_ROUNDING / lengths.max())
    return repeated, lengths


def _upright(cell: np.ndarray) -> np.ndarray | None:
    """Whole multiples of a cell's vectors that lie along x, y and z, the shortest; None if there are none."""
    steps = np.arange(-_MOST_TIMES, _MOST_TIMES + 1)
    whole = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    vectors = whole @ cell
    found = []
    for axis in range(3):
        aside = np.abs(np.delete(vectors, axis, 1)).max(1)
        along = np.flatnonzero((aside <= _SKEW) & (vectors[:, axis] > _SKEW))
        if not len(along):
            return None
        found.append(whole[along[vectors[along, axis].argmin()]])
    return np.array(found)


def _refuse_close(positions: np.ndarray, period: np.ndarray | None, shown: str) -> None:
    """Refuse two atoms on one place."""
    pairs = cKDTree(positions, boxsize=period).query_pairs(LEAST_DISTANCE, output_type="ndarray")
    if len(pairs):
        raise ReadError(
            f"{shown}: {len(pairs)} pairs of atoms are less than {LEAST_DISTANCE} Å apart, such as those at "
            f"{positions[pairs[0, 0]].round(3).tolist()} and {positions[pairs[0, 1]].round(3).tolist()}; "
            "keep one atom on each place"
        )


def _short(error: BaseException) -> str:
    """One line of an error's text."""
    return " ".join(str(error).split())[:120] or type(error).__name__
