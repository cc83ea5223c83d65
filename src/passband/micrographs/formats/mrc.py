"""MRC images and stacks, their headers read by mrcfile."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from passband.micrographs.picture import (
    PERMISSIVE,
    RawImage,
    RefusalError,
    Request,
    check_image,
    choose_frame,
    in_angstrom,
    moment,
    named,
    quantity,
    raw_image,
    square_pixel,
)

_METRE = 1e10  # Å


def read_mrc(request: Request) -> RawImage:
    """One section of an MRC file; header and extended header by mrcfile."""
    import mrcfile.mrcfile
    import mrcfile.utils

    with Path(request.path).open("rb") as f:
        head = f.read(1024)
    if len(head) < 1024:
        raise RefusalError(
            f"an MRC header has 1024 bytes, and it has {len(head)}: it is truncated; get a complete copy"
        )
    # mrcfile makes room for the extended header before it looks whether the file has one.
    little = head[212:213] == b"D" or (head[212:214] != b"\x11\x11" and head[13:16] == b"\0\0\0")
    extended = struct.unpack_from("<i" if little else ">i", head, 92)[0]
    if extended < 0 or 1024 + extended > request.file_size:
        raise RefusalError(f"its extended header of {extended} bytes ends beyond the file: it is damaged")
    try:
        mrc = mrcfile.mrcfile.MrcFile(request.path, "r", permissive=request.permissive, header_only=True)
    except ValueError as e:
        raise RefusalError(
            f"its MRC header is not valid ({e}); it can be tried all the same, {PERMISSIVE}"
        ) from e
    with mrc:
        header = mrc.header
        columns, rows, sections, mode = (int(header[k]) for k in ("nx", "ny", "nz", "mode"))
        if mode in (3, 4):
            raise RefusalError(
                f"it holds a complex image of {rows} x {columns} (an FFT; MRC mode {mode}), not an image"
            )
        dtype = mrcfile.utils.data_dtype_from_header(header)
        check_image((rows, columns), request)
        index = choose_frame(sections, f"frames of {rows} x {columns}", request)
        size = mrc.voxel_size
        quantities, notes = square_pixel(
            in_angstrom(float(size.y), "Å"),
            in_angstrom(float(size.x), "Å"),
            "MRC header (cell over sampling)",
        )
        more, instrument, acquired = _mrc_microscope(mrc, index)
        quantities.update(more)
        start = 1024 + max(int(header.nsymbt), 0)
    packed = mode == 101  # two 4-bit pixels a byte
    shape = (rows, (columns + 1) // 2 if packed else columns)
    image = raw_image(request, start + index * shape[0] * shape[1] * dtype.itemsize, shape, dtype)
    pixels = image.pixels
    if packed:
        low = image.pixels.view(np.uint8)
        pixels = np.stack((low & 15, low >> 4), axis=-1).reshape(rows, -1)[:, :columns]
    return RawImage(
        pixels=pixels,
        quantities=quantities,
        notes=(*image.notes, *notes),
        instrument=instrument,
        acquired=acquired,
    )


def _mrc_microscope(mrc: Any, index: int) -> tuple[dict[str, tuple[float, str]], str, str]:
    """Energy, defocus, microscope and date from an extended header of Thermo Fisher's kind."""
    found: dict[str, tuple[float, str]] = {}
    instrument = acquired = ""
    with contextlib.suppress(Exception):  # many programs leave rubbish there
        if not mrc.header.exttyp.item().startswith(b"FEI"):
            return found, instrument, acquired
        entry = mrc.indexed_extended_header[index]
        found.update(quantity("energy", entry["HT"], 1.0, "MRC extended header (HT)"))
        if int(entry["Instrument mode"]) == 1:  # TEM; 2 is STEM. Their negative is underfocus.
            found.update(quantity("defocus", entry["Defocus"], -_METRE, "MRC extended header (Defocus)"))
        instrument = named(*(_told(entry[field]) for field in ("Microscope type", "D-Number")))
        # Days since the end of 1899, in the microscope's own time.
        acquired = moment((float(entry["Timestamp"]) - 25569) * 86400).removesuffix(" UTC")
    return found, instrument, acquired


def _told(value: Any) -> object:
    """A text of a numpy record."""
    return value.item() if hasattr(value, "item") else value
