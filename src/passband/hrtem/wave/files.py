"""Exit waves in files: our own, which know what they are; numpy's bare arrays; abTEM's Zarr."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import ParameterError, ReadError
from passband.hrtem.wave.scattering import ExitWave, wave_from_array
from passband.micrographs.formats.npy import read_header
from passband.micrographs.picture import RefusalError
from passband.store.files import write_whole
from passband.store.npz import NPZ_FAULTS, npz_fault

_LARGEST = 16384 * 16384
FOCUS_PLANE, EXIT_FACE = "focus plane of the specimen", "exit face of the cell"
"""Where a wave may be: a lens without defocus shows that plane."""


def read_wave(
    path: str | Path,
    *,
    pixel_size: float | None = None,
    energy: float | None = None,
) -> ExitWave:
    """Read an exit wave.

    Parameters
    ----------
    path
        ``.npz`` of `write_wave`. ``.npy``: complex (y, x), 1 in vacuum. A folder: the Zarr that abTEM writes,
        whose axes (x, y) are turned.
    pixel_size
        Å; needed for ``.npy``, and compared with what other files say.
    energy
        eV; likewise.

    Returns
    -------
    ExitWave
        With every frequency the file has, in double precision.

    Raises
    ------
    ReadError
        If the file is missing, damaged or holds something else.
    ParameterError
        If pixel size or energy is missing, not positive, or not what the file says.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "wave.npy", np.ones((8, 8), np.complex64))
    ...     read_wave(Path(folder) / "wave.npy", pixel_size=0.2, energy=300e3).band.shape
    (8, 8)
    """
    path = Path(path)
    if not path.exists():
        raise ReadError(f"{path}: no such file; wanted an exit wave, .npy or a folder written by abTEM")
    sizes: float | tuple[float, float] | None = pixel_size
    if path.is_dir() or path.suffix.lower() == ".npz":
        array, found, found_energy = _read_zarr(path) if path.is_dir() else _read_npz(path)
        for size in found:
            _agree("pixel size", pixel_size, size, "Å", path)
        _agree("energy", energy, found_energy, "eV", path)
        sizes, energy = found, found_energy
    else:
        array = _read_npy(path)
    if sizes is None or energy is None:
        lacking = " and ".join(n for n, v in (("pixel size", sizes), ("energy", energy)) if v is None)
        raise ParameterError(f"{path}: says nothing of its {lacking}; give it")
    try:
        if np.iscomplexobj(array):
            array = array.astype(np.complex128)
        return wave_from_array(array, pixel_size=sizes, energy=energy)
    except ParameterError as e:
        raise ReadError(f"{path}: {e}") from e


def write_wave(path: str | Path, wave: ExitWave, *, plane: str = FOCUS_PLANE) -> Path:
    """Write an exit wave in real space, whole or not at all.

    Parameters
    ----------
    path
        Ending in ``.npz``, which keeps all that `read_wave` asks for, or in ``.npy``, which keeps the array.
    wave
        Any.
    plane
        Where it is, in words.
    plane
        Where it is, in words.

    Returns
    -------
    Path
        Of the file. An ``.npz`` holds ``wave``, complex (y, x), 1 in vacuum; ``pixel_size``, Å, along y and
        along x; ``energy``, eV; and ``plane``, in words: where defocus 0 is.

    Raises
    ------
    ParameterError
        If the path has another ending.
    PassbandError
        If the file cannot be written.
    """
    array, path = wave.array.cpu().numpy(), Path(path)
    if path.suffix.lower() != ".npz":
        return write_array(path, array)
    content = io.BytesIO()
    np.savez(
        content,
        wave=array,
        pixel_size=np.array(wave.pixel_sizes),
        energy=np.array(wave.energy),
        plane=np.array(plane),
    )
    return write_whole(path, content.getvalue())


def write_array(path: str | Path, array: np.ndarray) -> Path:
    """Write an array as ``.npy``, whole or not at all.

    Parameters
    ----------
    path
        Ending in ``.npy``.
    array
        Any but of objects.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ParameterError
        If the path has another ending.
    PassbandError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npy":
        raise ParameterError(f"{path}: arrays are written as .npy, not {path.suffix or 'without an ending'}")
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return write_whole(path, content.getvalue())


def _read_npy(path: Path) -> np.ndarray:
    """An array whose declared size is what the file holds."""
    try:
        with path.open("rb") as f:
            shape, _, dtype = read_header(f)
            there = path.stat().st_size - f.tell()
        announced = math.prod(shape) * dtype.itemsize
        if announced != there:
            raise ReadError(
                f"{path}: announces {announced} bytes of data and holds {there}; it is truncated or damaged"
            )
        if math.prod(shape) > _LARGEST:
            raise ReadError(f"{path}: holds {math.prod(shape)} values; at most {_LARGEST} are read")
        return np.asarray(np.load(path, allow_pickle=False))
    except OSError as e:
        raise ReadError(f"{path}: cannot be read: {e.strerror or e}") from e
    except RefusalError as e:
        raise ReadError(f"{path}: {e}") from e
    except ValueError as e:
        raise ReadError(f"{path}: is not an array of numpy (.npy): {e}") from e


def _read_npz(path: Path) -> tuple[np.ndarray, tuple[float, float], float]:
    """The wave of `write_wave`, its pixel sizes in Å and its energy in eV."""
    try:
        with zipfile.ZipFile(path) as archive:
            announced = sum(item.file_size for item in archive.infolist())
        if announced > 16 * _LARGEST + 100_000:
            raise ReadError(f"{path}: holds {announced / 1e9:.1f} GB; waves of {_LARGEST} values are read")
        with np.load(path, allow_pickle=False) as kept:
            array, sizes, energy = (np.asarray(kept[name]) for name in ("wave", "pixel_size", "energy"))
        y, x = (float(v) for v in np.broadcast_to(sizes, (2,)))
        return array, (y, x), float(energy)
    except ReadError:
        raise
    except NPZ_FAULTS as e:
        raise ReadError(
            f"{path}: is no exit wave ({npz_fault(path, e)}); wanted an .npz with wave (y, x), pixel_size "
            "and energy, as `passband multislice` writes it"
        ) from e


def _read_zarr(path: Path) -> tuple[np.ndarray, tuple[float, float], float]:
    """The wave in abTEM's Zarr, (y, x), its pixel sizes in Å and its energy in eV."""
    import zarr

    what = f"{path}: is not a wave that abTEM wrote"
    try:
        group = zarr.open_group(str(path), mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        about = attributes["metadata0"]
        kind, settings = about["type"], about["kwargs"]
        stored: Any = group["array0"]
        if kind != "Waves":
            raise ReadError(f"{path}: holds {kind} of abTEM's; wanted Waves")
        if len(stored.shape) != 2:
            raise ReadError(f"{path}: holds waves of shape {stored.shape}; write one of them by itself")
        if math.prod(stored.shape) > _LARGEST:
            raise ReadError(f"{path}: holds {math.prod(stored.shape)} values; at most {_LARGEST} are read")
        if settings.get("reciprocal_space"):
            raise ReadError(f"{path}: holds a wave in reciprocal space; wanted it in real space")
        sampling = [float(v) for v in settings["sampling"]["_value"]]
        energy = float(settings["energy"])
        array = np.ascontiguousarray(np.asarray(stored[:]).T)
    except ReadError:
        raise
    except Exception as e:  # whatever zarr raises on a folder that is something else
        raise ReadError(f"{what}: {' '.join(str(e).split())[:120] or type(e).__name__}") from e
    return array, (sampling[1], sampling[0]), energy


def _agree(name: str, given: float | None, found: float, unit: str, path: Path) -> None:
    if given is not None and abs(given / found - 1) > 0.01:
        raise ParameterError(
            f"{path}: says its {name} is {found:g} {unit}, and {given:g} was given; leave it out"
        )
