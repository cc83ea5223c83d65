"""Waves in files: what is written is read again, and nothing else is taken for a wave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from passband.errors import ParameterError, ReadError
from passband.hrtem.wave.files import read_wave, write_array, write_wave
from passband.hrtem.wave.scattering import wave_from_array


def some_wave() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (1 + 0.1 * rng.standard_normal((12, 9)) + 0.1j * rng.standard_normal((12, 9))).astype(np.complex64)


def test_write_then_read_is_identity(tmp_path: Path) -> None:
    wave = wave_from_array(some_wave(), pixel_size=0.3, energy=200e3)
    path = write_wave(tmp_path / "w.npy", wave)
    again = read_wave(path, pixel_size=0.3, energy=200e3)
    np.testing.assert_allclose(again.array.numpy(), some_wave(), atol=1e-6)
    assert again.band == wave.band and again.energy == 200e3


def test_a_file_of_ours_keeps_what_the_wave_is(tmp_path: Path) -> None:
    wave = wave_from_array(some_wave(), pixel_size=(0.3, 0.2), energy=200e3)
    path = write_wave(tmp_path / "w.npz", wave)
    again = read_wave(path)
    np.testing.assert_allclose(again.array.numpy(), some_wave(), atol=1e-6)
    assert again.pixel_sizes == pytest.approx((0.3, 0.2)) and again.energy == 200e3
    for given, said in (({"energy": 300e3}, "says its energy is 200000 eV"), ({"pixel_size": 0.3}, "is 0.2")):
        with pytest.raises(ParameterError, match=said):
            read_wave(path, **given)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no .npz archive"),
        (b"no archive at all", "no .npz archive"),
        ({"wave": np.ones((8, 8), complex)}, "pixel_size is not a file in the archive"),
        ({"wave": np.ones((8, 8)), "pixel_size": 0.2, "energy": 3e5}, "complex array"),
        ({"wave": np.ones((8, 8), complex), "pixel_size": [1, 2, 3], "energy": 3e5}, "is no exit wave"),
        ({"wave": np.ones((8, 8), complex), "pixel_size": -1.0, "energy": 3e5}, "must be a positive number"),
        ({"wave": np.ones((8, 8), complex), "pixel_size": 0.2, "energy": -3.0}, "energy"),
        ({"wave": np.array([{}], object), "pixel_size": 0.2, "energy": 3e5}, "is no exit wave"),
    ],
)
def test_an_archive_that_holds_no_wave_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "w.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content)
    with pytest.raises((ReadError, ParameterError), match=said) as e:
        read_wave(path)
    assert str(path) in str(e.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_wave(tmp_path / "w.npz", wave_from_array(some_wave(), pixel_size=0.3, energy=200e3))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ReadError, match="is no exit wave"):
        read_wave(path)


def abtem_folder(path: Path, *, kind: str = "Waves", shape: tuple[int, ...] = (9, 12)) -> Path:
    """A folder as abTEM 1.0.11 writes it."""
    import zarr

    group = zarr.open_group(str(path), mode="w")
    sampling = {"_type": "tuple", "_value": [0.3, 0.3]}
    settings = {"energy": 200e3, "sampling": sampling, "reciprocal_space": False}
    group.attrs["metadata0"] = {"type": kind, "kwargs": settings}
    array = group.create_array("array0", shape=shape, dtype="complex64")
    if shape == (9, 12):
        array[:] = some_wave().T
    return path


def test_abtems_axes_are_turned_and_its_numbers_taken(tmp_path: Path) -> None:
    wave = read_wave(abtem_folder(tmp_path / "w.zarr"))
    np.testing.assert_allclose(wave.array.numpy(), some_wave(), atol=1e-6)
    assert wave.band.extent == pytest.approx((12 * 0.3, 9 * 0.3))
    assert wave.energy == 200e3


def test_a_pixel_size_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"says its pixel size is 0\.3"):
        read_wave(abtem_folder(tmp_path / "w.zarr"), pixel_size=0.2)


def test_a_bare_array_needs_its_pixel_size_and_energy(tmp_path: Path) -> None:
    path = write_array(tmp_path / "w.npy", some_wave())
    with pytest.raises(ParameterError, match="pixel size and energy"):
        read_wave(path)


def test_what_is_no_wave_is_refused_with_its_reason(tmp_path: Path) -> None:
    cases = {
        "missing.npy": "no such file",
        "words.npy": "is not an array of numpy",
        "short.npy": "truncated",
        "objects.npy": "never unpickled",
        "real.npy": "lost its phase",
        "empty.zarr": "is not a wave that abTEM wrote",
        "image.zarr": "wanted Waves",
        "many.zarr": "write one of them by itself",
    }
    (tmp_path / "words.npy").write_text("not an array")
    write_array(tmp_path / "real.npy", np.ones((4, 4), np.float32))
    whole = write_array(tmp_path / "w.npy", some_wave()).read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-10])
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "empty.zarr").mkdir()
    abtem_folder(tmp_path / "image.zarr", kind="Images")
    abtem_folder(tmp_path / "many.zarr", shape=(2, 9, 12))
    for name, words in cases.items():
        with pytest.raises(ReadError, match=words):
            read_wave(tmp_path / name, pixel_size=0.3, energy=200e3)


def test_a_huge_announced_size_is_refused_without_allocating(tmp_path: Path) -> None:
    import io

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<c8", "fortran_order": False, "shape": (2**30, 2**20)}
    )
    (tmp_path / "w.npy").write_bytes(header.getvalue() + b"12345678")
    with pytest.raises(ReadError, match="truncated or damaged"):
        read_wave(tmp_path / "w.npy", pixel_size=0.2, energy=300e3)


def test_arrays_are_written_as_npy_alone(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"written as \.npy"):
        write_array(tmp_path / "w.tif", some_wave())
    assert not list(tmp_path.iterdir())
