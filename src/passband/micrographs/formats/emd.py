"""EMD, which is HDF5: NCEM's kind and Velox's.

Both are laid out so plainly that one frame is taken straight from the file: RosettaSciIO reads every image
of such a file into memory before it hands out the first, and refuses Velox files with spectra beside images.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from passband.micrographs.picture import (
    RawImage,
    RefusalError,
    Request,
    check_image,
    choose_frame,
    in_angstrom,
    is_energy,
    moment,
    named,
    quantity,
    refuse_units,
    square_pixel,
)

_METRE = 1e10  # Å


def read_emd(request: Request) -> RawImage:
    """One image of an EMD file, NCEM's or Velox's, after a look that it stays within itself."""
    import h5py

    with h5py.File(request.path, "r", locking=False) as f:
        _refuse_foreign_links(f)
        if isinstance(f.get("Data"), h5py.Group) and isinstance(f.get("Version"), h5py.Dataset):
            return _velox(f["Data"], request)
        return _ncem(f, request)


def _refuse_foreign_links(f: Any) -> None:
    """HDF5 can show other files as parts of this one; a micrograph has no need to read your disk."""
    import h5py

    links: list[str] = []

    def look(name: bytes, info: Any) -> None:
        if info.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            links.append(name.decode("utf8", "replace"))

    f.id.links.visit(look, info=True)
    if links:
        raise RefusalError(
            f"its item {links[0]!r} is a link to another file, and such links are not followed"
        )


def _dataset(item: Any, request: Request) -> Any:
    """The item where it is a dataset whose values lie in this file and take room there."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        return None
    if item.is_virtual or item.id.get_create_plist().get_external_count():
        raise RefusalError(f"its dataset {item.name} lies in another file, and such links are not followed")
    if item.id.get_storage_size() > request.file_size:
        raise RefusalError(
            f"its dataset {item.name} is larger than the file: it is damaged; get a complete copy"
        )
    if item.size and item.id.get_storage_size() == 0:
        raise RefusalError(f"its dataset {item.name} was declared but never written")
    return item


def _velox(data: Any, request: Request) -> RawImage:
    """Velox: /Data/Image/<id>/Data is (y, x, frame), beside JSON metadata for each frame."""
    found, complex_ones = [], 0
    group = data.get("Image", {})
    for key in group:
        values = _dataset(group[key].get("Data"), request)
        if values is not None and values.ndim == 3 and values.dtype.kind in "iuf":
            found.append((values, group[key]))
        elif values is not None and values.dtype.names:
            complex_ones += 1
    if not found and complex_ones:
        raise RefusalError(
            f"it holds {complex_ones} complex images (FFT or differential phase contrast), no other"
        )
    if not found:
        raise RefusalError("it is a Velox file that holds spectra and no image")
    counts = [int(values.shape[2]) for values, _ in found]
    firsts = np.cumsum([0, *counts])
    listed = ", ".join(
        f"{first}{f' to {first + count - 1}' if count > 1 else ''}: {_velox_detector(home, request)}"
        f"{values.shape[0]} x {values.shape[1]}"
        for first, count, (values, home) in zip(firsts.tolist(), counts, found[:8], strict=False)
    )
    frame = choose_frame(sum(counts), f"frames ({listed})", request)
    which = int(np.searchsorted(np.cumsum(counts), frame, side="right"))
    values, home = found[which]
    frame -= sum(counts[:which])
    check_image(values.shape[:2], request)
    metadata: dict[str, Any] = {}
    quantities: dict[str, tuple[float, str]] = {}
    instrument = acquired = ""
    try:
        metadata = _velox_words(home, frame, request)
        quantities, notes = _velox_metadata(metadata)
    except Exception:  # damaged metadata are no reason to lose the image
        notes = ["its Velox metadata are missing or could not be understood, and were left out"]
    with contextlib.suppress(Exception):  # nor is a damaged name or date one to lose the calibration
        told = metadata.get("Instrument", {})
        instrument = named(told.get("InstrumentModel"), told.get("InstrumentId"))
        begun = metadata.get("Acquisition", {}).get("AcquisitionStartDatetime", {})
        acquired = moment(begun.get("DateTime"))
    return RawImage(
        pixels=values[:, :, frame],
        quantities=quantities,
        notes=tuple(notes),
        instrument=instrument,
        acquired=acquired,
    )


def _velox_detector(home: Any, request: Request) -> str:
    """Name of the detector that gave an image, and a space; empty where it is not told."""
    with contextlib.suppress(Exception):
        if name := named(_velox_words(home, 0, request)["BinaryResult"]["Detector"]):
            return f"{name} "
    return ""


def _velox_words(home: Any, frame: int, request: Request) -> dict[str, Any]:
    """The metadata of one frame."""
    words = _dataset(home.get("Metadata"), request)
    column = min(frame, words.shape[1] - 1)
    found = json.loads(words[: 2**22, column].astype(np.uint8).tobytes().rstrip(b"\0"))
    return dict(found)


def _velox_metadata(metadata: dict[str, Any]) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """Calibration from the JSON of one frame."""
    result, optics = metadata.get("BinaryResult", {}), metadata.get("Optics", {})
    size = result.get("PixelSize", {})
    y, x = (
        in_angstrom(float(size.get(k, "nan")), str(result.get(f"PixelUnit{a}", "")))
        for k, a in (("height", "Y"), ("width", "X"))
    )
    quantities, notes = square_pixel(y, x, "Velox PixelSize")
    quantities.update(quantity("energy", optics.get("AccelerationVoltage"), 1.0, "Velox AccelerationVoltage"))
    if str(optics.get("OperatingMode")) == "1":  # TEM; 2 is STEM. Their negative is underfocus.
        quantities.update(quantity("defocus", optics.get("Defocus"), -_METRE, "Velox Defocus"))
    return quantities, notes


def _ncem(f: Any, request: Request) -> RawImage:
    """NCEM: groups marked emd_group_type hold `data` and one dataset per axis."""
    data, frame = _ncem_image(f, request)
    # Axes are stored fastest first, but where they are counted from dim0 (as RosettaSciIO has it).
    forward = "dim0" in data.parent
    shape = tuple(int(n) for n in (data.shape if forward else data.shape[::-1]))
    check_image(shape[-2:], request)
    if frame is not None:
        frame = choose_frame(math.prod(shape[:-2]), f"frames of {shape[-2]} x {shape[-1]}", request)
    place = tuple(int(i) for i in np.unravel_index(frame or 0, shape[:-2])) if len(shape) > 2 else ()
    pixels = data[place] if forward else data[(..., *place[::-1])].T
    axes = [data.parent.get(f"dim{i}") for i in ((data.ndim - 2, data.ndim - 1) if forward else (2, 1))]
    lengths: list[float | None] = []
    notes: tuple[str, ...] = ()
    for axis in axes:
        scale, unit = _ncem_axis(axis, request)
        notes += refuse_units((unit,), request)
        lengths.append(in_angstrom(abs(scale), unit))
    quantities, more = square_pixel(lengths[0], lengths[1], "EMD axes")
    quantities = {**quantities, **_ncem_energy(f.get("microscope"))}
    instrument = named(_text(f["microscope"].attrs.get("name"))) if "microscope" in f else ""
    return RawImage(
        pixels=np.asarray(pixels), quantities=quantities, notes=(*notes, *more), instrument=instrument
    )


def _ncem_image(f: Any, request: Request) -> tuple[Any, int | None]:
    """The dataset of the image, and -1 for one whose frames are to be chosen from, or None."""
    sets = [d for d in _ncem_data(f, request) if d.dtype.kind in "biufc"]
    if not sets:
        raise RefusalError("it is an HDF5 file without an image that the EMD formats of NCEM or Velox know")
    images = [d for d in sets if d.ndim > 1 and d.dtype.kind != "c"]
    pictures = [d for d in images if not _has_energy_axis(d, request)]
    images = pictures if len(pictures) == 1 and request.frame is None else images
    if not images:
        d = sets[0]
        what = "a complex array" if d.dtype.kind == "c" else "a line of values"
        raise RefusalError(f"it holds {what} of shape {d.shape}, not an image")
    if len(images) == 1:
        return images[0], -1
    names = ", ".join(f"{d.name} {d.shape}" for d in images[:8])
    data = images[choose_frame(len(images), f"datasets ({names})", request)]
    if data.ndim > 2:
        raise RefusalError(f"its dataset {data.name} is a stack beside others; save it to a file of its own")
    return data, None


def _ncem_energy(microscope: Any) -> dict[str, tuple[float, str]]:
    """Beam energy in eV, from whichever of its names the file uses."""
    if microscope is None:
        return {}
    energy: dict[str, tuple[float, str]] = {}
    for name in ("voltage", "accelerating_voltage", "beam_energy"):
        number = quantity("energy", _text(microscope.attrs.get(name)), 1.0, f"EMD microscope/{name}")
        if number:
            value, source = number["energy"]
            kilo = value < 3000  # nobody images with 3 keV in EMD; the unit is not in the format
            energy["energy"] = (value * 1e3, f"{source}, taken as kV") if kilo else (value, source)
    return energy


def _ncem_data(f: Any, request: Request) -> Iterator[Any]:
    """Datasets that are the data of an EMD group."""
    import h5py

    names: list[str] = []

    def look(name: str, item: Any) -> None:
        kinds = ("data", "datacube", "counted_datacube", "realslice", "diffractionslice")
        if isinstance(item, h5py.Dataset) and name.rsplit("/", 1)[-1] in kinds:
            names.append(name)

    f.visititems(look)
    for name in names:
        if f[name].parent.attrs.get("emd_group_type", 0):
            data = _dataset(f[name], request)
            if data.size:
                yield data


def _has_energy_axis(data: Any, request: Request) -> bool:
    """Whether a dataset is of spectra."""
    axes = (data.parent.get(f"dim{i}") for i in range(data.ndim + 1))
    return any(is_energy(_ncem_axis(axis, request)[1]) for axis in axes if axis is not None)


def _text(value: Any) -> Any:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else value


def _ncem_axis(axis: Any, request: Request) -> tuple[float, str]:
    """Step and unit of an axis; NaN and none where it says nothing."""
    values = _dataset(axis, request)
    if values is None or values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        return math.nan, ""
    unit = str(_text(axis.attrs.get("units", "")))
    return float(values[1]) - float(values[0]), unit.replace("[", "").replace("]", "").replace("_", "")
