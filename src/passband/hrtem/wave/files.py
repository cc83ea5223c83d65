"""Exit waves in files: numpy's, and abTEM's Zarr."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import ParameterError, ReadError
from passband.hrtem.wave.scattering import ExitWave, wave_from_array
from passband.micrographs.formats.npy import read_header
from passband.micrographs.picture import RefusalError
from passband.store.files import write_whole

_LARGEST = 16384 * 16384


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
        ``.npy``: complex (y, x), 1 in vacuum. A folder: the Zarr that abTEM writes, whose axes (x, y)
        are turned.
    pixel_size
        Å; needed for ``.npy``, and checked against what a Zarr says.
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
    if path.is_dir():
        array, found_size, found_energy = _read_zarr(path)
        pixel_size = _agreed("pixel size", pixel_size, found_size, "Å", path)
        energy = _agreed("energy", energy, found_energy, "eV", path)
    else:
        array = _read_npy(path)
    if pixel_size is None or energy is None:
        lacking = " and ".join(n for n, v in (("pixel size", pixel_size), ("energy", energy)) if v is None)
        raise ParameterError(f"{path}: says nothing of its {lacking}; give it")
    try:
        if np.iscomplexobj(array):
            array = array.astype(np.complex128)
        return wave_from_array(array, pixel_size=pixel_size, energy=energy)
    except ParameterError as e:
        raise ReadError(f"{path}: {e}") from e


def write_wave(path: str | Path, wave: ExitWave) -> Path:
    """Write an exit wave in real space, whole or not at all.

    Parameters
    ----------
    path
        Ending in ``.npy``.
    wave
        Any.

    Returns
    -------
    Path
        Of the file: complex (y, x), 1 in vacuum.

    Raises
    ------
    ParameterError
        If the path has another ending.
    PassbandError
        If the file cannot be written.
    """
    return write_array(path, wave.array.cpu().numpy())


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


def _read_zarr(path: Path) -> tuple[np.ndarray, float, float]:
    """The wave in abTEM's Zarr, (y, x), its pixel size in Å and its energy in eV."""
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
    if abs(sampling[0] / sampling[1] - 1) > 0.02:
        raise ReadError(
            f"{path}: its pixels of {sampling[0]:g} x {sampling[1]:g} Å are not square; resample it"
        )
    return array, math.sqrt(sampling[0] * sampling[1]), energy


def _agreed(name: str, given: float | None, found: float, unit: str, path: Path) -> float:
    if given is not None and abs(given / found - 1) > 0.01:
        raise ParameterError(
            f"{path}: says its {name} is {found:g} {unit}, and {given:g} was given; leave it out"
        )
    return found
