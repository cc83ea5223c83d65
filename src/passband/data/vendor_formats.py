"""Parsers of vendors' formats: DigitalMicrograph (dm3, dm4), EMD (NCEM and Velox) and TIA (ser).

Each takes a `Request` and gives a `Picture` or raises; they run in the parser process only.
DM tags are read by RosettaSciIO. EMD and ser are laid out so plainly that one frame is taken straight from
the file: RosettaSciIO reads every image of such a file into memory before it hands out the first.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from passband.data.picture import (
    Picture,
    RefusalError,
    Request,
    check_image,
    choose_frame,
    in_angstrom,
    quantity,
    raw_image,
    refuse_units,
    square_pixel,
)

_METRE = 1e10


def read_dm(request: Request) -> Picture:
    """One image of a DigitalMicrograph file, its tags parsed by RosettaSciIO."""
    from rsciio.digitalmicrograph._api import ImageObject

    with Path(request.path).open("rb") as f:
        reader = _guarded_reader(f, request)
        reader.parse_file()
        images = [ImageObject(tags, f) for tags in reader.get_image_dictionaries() or ()]
        if len(images) > 1:
            shapes = ", ".join(" x ".join(str(n) for n in image.shape) for image in images[:8])
            image, frame = images[choose_frame(len(images), f"separate images ({shapes})", request)], 0
        elif images:
            image, frame = images[0], -1
        else:
            raise RefusalError("it holds no image besides its thumbnail")
        return _dm_image(image, frame, request)


def _guarded_reader(f: BinaryIO, request: Request) -> Any:
    """RosettaSciIO's tag reader, which believes every length it reads, made to look at the file's size."""
    from rsciio.digitalmicrograph._api import DigitalMicrographReader

    size = request.file_size
    # Longer lists than this in tags are gain references and the like, and take seconds to unpack.
    long_list = 4096

    class Guarded(DigitalMicrographReader):  # type: ignore[misc]
        def _fits(self, count: int, each: int = 1) -> None:
            if count < 0 or count * each > size - self.f.tell():
                raise RefusalError(
                    f"a tag at byte {self.f.tell()} declares {count} values, which the file cannot hold: "
                    "it is truncated or damaged; get a complete copy"
                )

        def read_string(self, length: int, skip: bool = False) -> Any:
            self._fits(length)
            if skip:
                return super().read_string(length, skip=True)
            data = self.f.read(length)
            try:
                return data.decode("utf8")
            except UnicodeDecodeError:
                return data.decode("latin-1")

        def parse_struct_definition(self) -> tuple[int, ...]:
            self.read_l_or_q(self.f, "big")
            fields = self.read_l_or_q(self.f, "big")
            if not 0 < fields <= 256:
                raise RefusalError(
                    f"a tag declares a record of {fields} fields: it is damaged; get a complete copy"
                )
            return tuple(
                (self.read_l_or_q(self.f, "big"), self.read_l_or_q(self.f, "big"))[1] for _ in range(fields)
            )

        def read_array(self, size: int, enc_eltype: int, extra: Any = None, skip: bool = False) -> Any:
            each = self.get_data_reader(enc_eltype)[1] or 1
            if not (skip and enc_eltype in self.simple_type):  # pixels may be missing; that is seen later
                self._fits(size, each)
            elif size < 0:
                raise RefusalError(
                    f"its image data declare {size} pixels: it is damaged; get a complete copy"
                )
            if not skip and enc_eltype in self.simple_type and enc_eltype != 4 and size > long_list:
                self.f.seek(size * each, 1)
                return []
            return super().read_array(size, enc_eltype, extra, skip)

    return Guarded(f)


def _dm_image(image: Any, frame: int, request: Request) -> Picture:
    """Pixels and calibration of one image; frame -1 means that the request's frame chooses in a stack."""
    shape = tuple(int(n) for n in image.shape)
    words = " x ".join(str(n) for n in shape)
    tags = image.imdict.get("ImageTags", {})
    form = str(tags.get("Meta Data.Format", ""))
    units = tuple(str(u) for u in image.units)
    if form in ("Spectrum", "Spectrum image") or "spim" in tags or len(shape) < 2:
        what = f"{image.signal_type} " if image.signal_type else ""
        raise RefusalError(
            f"it holds a stack of {what}spectra ({'1 x ' * (len(shape) < 2)}{words}), not an image"
        )
    kind = int(image.imdict.ImageData.DataType)
    dtype = np.dtype(image.dtype)
    if dtype.kind == "c" or kind in (5, 27, 28):
        raise RefusalError(f"it holds a complex image of {words} (an FFT), not an image")
    notes = refuse_units(units[-2:], request)
    if any(n < 1 for n in shape):
        raise RefusalError(f"its header declares an image of {words} pixels, which is none")
    check_image(shape[-2:], request)
    frames = math.prod(shape[:-2])
    if frame < 0:
        frame = choose_frame(frames, f"frames of {shape[-2]} x {shape[-1]}", request)
    data = image.imdict.ImageData.Data
    step = shape[-2] * shape[-1] * dtype.itemsize
    if data["endian"] == "big" and dtype.names is None:
        dtype = dtype.newbyteorder(">")
    picture = raw_image(
        request, int(data["offset"]) + frame * step, (shape[-2], shape[-1]), dtype,
        limit=int(data["size_bytes"]) - frame * step,
    )  # fmt: skip
    y, x = (in_angstrom(float(s), u) for s, u in zip(image.scales[-2:], units[-2:], strict=True))
    quantities, more = square_pixel(y, x, "DM tag Calibrations.Dimension")
    with contextlib.suppress(Exception):  # a damaged tag is no reason to lose the image
        quantities.update(quantity("energy", tags["Microscope Info"]["Voltage"], 1.0, "DM tag Voltage"))
    return Picture(pixels=picture.pixels, quantities=quantities, notes=(*notes, *picture.notes, *more))


def read_emd(request: Request) -> Picture:
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


def _velox(data: Any, request: Request) -> Picture:
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
    sizes = ", ".join(f"{v.shape[2]} of {v.shape[0]} x {v.shape[1]}" for v, _ in found[:8])
    frame = choose_frame(sum(counts), f"frames ({sizes}), counted through", request)
    which = int(np.searchsorted(np.cumsum(counts), frame, side="right"))
    values, home = found[which]
    frame -= sum(counts[:which])
    check_image(values.shape[:2], request)
    quantities: dict[str, tuple[float, str]] = {}
    notes: list[str] = []
    with contextlib.suppress(Exception):  # damaged metadata are no reason to lose the image
        words = _dataset(home.get("Metadata"), request)
        column = min(frame, words.shape[1] - 1)
        text = words[: 2**22, column].astype(np.uint8).tobytes().rstrip(b"\0")
        quantities, notes = _velox_metadata(json.loads(text))
    return Picture(pixels=values[:, :, frame], quantities=quantities, notes=tuple(notes))


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


def _ncem(f: Any, request: Request) -> Picture:
    """NCEM: groups marked emd_group_type hold `data` and one dataset per axis."""
    sets = [d for d in _ncem_data(f, request) if d.dtype.kind in "biufc"]
    if not sets:
        raise RefusalError("it is an HDF5 file without an image that the EMD formats of NCEM or Velox know")
    images = [d for d in sets if d.ndim > 1 and d.dtype.kind != "c"]
    if not images:
        d = sets[0]
        what = "a complex array" if d.dtype.kind == "c" else "a line of values"
        raise RefusalError(f"it holds {what} of shape {d.shape}, not an image")
    notes: tuple[str, ...] = ()
    if len(images) > 1:
        names = ", ".join(f"{d.name} {d.shape}" for d in images[:8])
        data, frame = images[choose_frame(len(images), f"datasets ({names})", request)], None
        if data.ndim > 2:
            raise RefusalError(
                f"its dataset {data.name} is a stack beside others; save it to a file of its own"
            )
    else:
        data = images[0]
        frame = -1
    home = data.parent
    # Axes are stored fastest first, but where they are counted from dim0 (as RosettaSciIO has it).
    forward = "dim0" in home
    shape = tuple(int(n) for n in (data.shape if forward else data.shape[::-1]))
    check_image(shape[-2:], request)
    if frame is not None:
        frame = choose_frame(math.prod(shape[:-2]), f"frames of {shape[-2]} x {shape[-1]}", request)
    place = tuple(int(i) for i in np.unravel_index(frame or 0, shape[:-2])) if len(shape) > 2 else ()
    pixels = data[place] if forward else data[(..., *place[::-1])].T
    axes = [home.get(f"dim{i}") for i in ((data.ndim - 2, data.ndim - 1) if forward else (2, 1))]
    lengths: list[float | None] = []
    for axis in axes:
        scale, unit = _ncem_axis(axis, request)
        notes += refuse_units((unit,), request)
        lengths.append(in_angstrom(abs(scale), unit))
    quantities, more = square_pixel(lengths[0], lengths[1], "EMD axes")
    microscope = f.get("microscope")
    if microscope is not None:
        for name in ("voltage", "accelerating_voltage", "beam_energy"):
            number = quantity("energy", _text(microscope.attrs.get(name)), 1.0, f"EMD microscope/{name}")
            if number:
                value, source = number["energy"]
                kilo = value < 3000  # nobody images with 3 keV in EMD; the unit is not in the format
                quantities["energy"] = (value * 1e3, f"{source}, taken as kV") if kilo else (value, source)
    return Picture(pixels=np.asarray(pixels), quantities=quantities, notes=(*notes, *more))


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


def _text(value: Any) -> Any:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else value


def _ncem_axis(axis: Any, request: Request) -> tuple[float, str]:
    """Step and unit of an axis; NaN and none where it says nothing."""
    values = _dataset(axis, request)
    if values is None or values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        return math.nan, ""
    unit = str(_text(axis.attrs.get("units", "")))
    return float(values[1]) - float(values[0]), unit.replace("[", "").replace("]", "").replace("_", "")


_SER_TYPES = {
    1: "<u1",
    2: "<u2",
    3: "<u4",
    4: "<i1",
    5: "<i2",
    6: "<i4",
    7: "<f4",
    8: "<f8",
    9: "<c8",
    10: "<c16",
}


def read_ser(request: Request) -> Picture:
    """One image of a TIA series, with what an .emi file of the same name says of the microscope."""
    size = request.file_size
    with Path(request.path).open("rb") as f:

        def at(offset: int, form: str) -> tuple[Any, ...]:
            if not 0 <= offset <= size - struct.calcsize(form):
                raise RefusalError(
                    f"it ends before byte {offset}, where its header points: it is truncated or damaged"
                )
            f.seek(offset)
            return struct.unpack(form, f.read(struct.calcsize(form)))

        version, kind, _, _, valid = at(4, "<HIIII")
        wide = version > 0x0210
        (table,) = at(22, "<Q" if wide else "<I")
        count = f"{valid} {'spectrum' if valid == 1 else 'spectra'}"
        if valid == 0:
            raise RefusalError("it holds no image that was finished (its data may be in the .emi file)")
        entry = 8 if wide else 4
        at(table + (valid - 1) * entry, "<Q" if wide else "<I")  # the whole table must be there
        (first,) = at(table, "<Q" if wide else "<I")
        if kind == 0x4120:
            (channels,) = at(first + 22, "<I")
            raise RefusalError(f"it holds {count} of {channels} channels, not an image")
        columns, rows = at(first + 42, "<II")
        frame = choose_frame(valid, f"frames of {rows} x {columns}", request)
        (offset,) = at(table + frame * entry, "<Q" if wide else "<I")
        (step_x,) = at(offset + 8, "<d")
        (step_y,) = at(offset + 28, "<d")
        code, columns, rows = at(offset + 40, "<HII")
    if code not in _SER_TYPES:
        raise RefusalError(f"its pixels are of type {code}, and types 1 to 10 are known: it is damaged")
    dtype = np.dtype(_SER_TYPES[code])
    if dtype.kind == "c":
        raise RefusalError(f"it holds a complex image of {rows} x {columns} (an FFT), not an image")
    picture = raw_image(request, offset + 50, (rows, columns), dtype)
    quantities, notes = square_pixel(abs(step_y) * _METRE, abs(step_x) * _METRE, "ser header")
    more, mode = _emi(request)
    if "Diffraction" in mode:
        refuse_units(("1/m",), request)
        quantities = {}
    # TIA stores rows from the bottom up.
    return Picture(
        pixels=picture.pixels[::-1], quantities={**quantities, **more}, notes=(*picture.notes, *notes)
    )


def _emi(request: Request) -> tuple[dict[str, tuple[float, str]], str]:
    """Energy, defocus and mode from NAME.emi beside NAME_1.ser; it is searched, not parsed."""
    ser = Path(request.path)
    path = ser.with_name(re.sub(r"_\d+$", "", ser.stem) + ".emi")
    if not path.is_file():
        return {}, ""
    with path.open("rb") as f:
        text = f.read(2**24).decode("latin-1")
    words: dict[str, tuple[str, str]] = {}
    for label in ("High tension", "Defocus", "Mode"):
        found = re.search(
            rf"<Label>{label}</Label><Value>([^<]{{0,80}})</Value><Unit>([^<]{{0,8}})</Unit>", text
        )
        words[label] = (found[1], found[2]) if found else ("", "")
    voltage, defocus = words["High tension"], words["Defocus"]
    quantities = quantity(
        "energy", voltage[0], 1e3 if voltage[1] == "kV" else 1.0, f"{path.name} (High tension)"
    )
    if "STEM" not in words["Mode"][0] and defocus[1] == "um":  # negative is underfocus there
        quantities.update(quantity("defocus", defocus[0], -1e4, f"{path.name} (Defocus)"))
    return quantities, words["Mode"][0]
