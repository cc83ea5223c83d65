"""TIA series (ser).

The layout is so plain that one frame is taken straight from the file: RosettaSciIO reads the whole series
into memory, at the sizes its header declares, before it hands out the first.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from passband.micrographs.picture import (
    RawImage,
    RefusalError,
    Request,
    choose_frame,
    named,
    quantity,
    raw_image,
    refuse_units,
    square_pixel,
)

_METRE = 1e10  # Å


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


def read_ser(request: Request) -> RawImage:
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
    more, mode, instrument, acquired = _emi(request)
    if "Diffraction" in mode and "STEM" not in mode:  # a STEM image is projected so, and is one
        refuse_units(("1/m",), request)
        quantities = {}
    # TIA stores rows from the bottom up.
    return RawImage(
        pixels=picture.pixels[::-1],
        quantities={**quantities, **more},
        notes=(*picture.notes, *notes),
        instrument=instrument,
        acquired=acquired,
    )


def _emi(request: Request) -> tuple[dict[str, tuple[float, str]], str, str, str]:
    """Energy, defocus, mode, microscope and date from NAME.emi beside NAME_1.ser, searched, not parsed."""
    ser = Path(request.path)
    path = ser.with_name(re.sub(r"_\d+$", "", ser.stem) + ".emi")
    if not path.is_file():
        return {}, "", "", ""
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
    microscope = re.search(r"<Label>Microscope</Label><Value>([^<]{0,200})</Value>", text)
    date = re.search(r"<AcquireDate>([^<]{0,80})</AcquireDate>", text)
    name, acquired = (named(found[1] if found else None) for found in (microscope, date))
    return quantities, words["Mode"][0], name, acquired
