"""NumPy array files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from passband.micrographs.picture import RawImage, RefusalError, Request, check_image, choose_frame, raw_image


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of a NumPy array file, which is left at its data; never of objects.

    Raises
    ------
    RefusalError
        If the version is unknown or the array holds Python objects.
    ValueError
        If it is no such file.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise RefusalError(f"its .npy format is version {version}; 1.0, 2.0 and 3.0 are read")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise RefusalError(
            "it holds Python objects, which could run code and are never unpickled; save a numeric array"
        )
    return shape, fortran, dtype


def read_npy(request: Request) -> RawImage:
    """One image of a NumPy array file; never an object array."""
    with Path(request.path).open("rb") as f:
        shape, fortran, dtype = read_header(f)
        start = f.tell()
    if dtype.kind == "c":
        raise RefusalError(f"it holds a complex array of shape {shape} (an FFT), not an image")
    if dtype.kind not in "biuf":
        raise RefusalError(f"it holds an array of {dtype}, not an image; save a numeric array")
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise RefusalError(f"it holds an array of shape {shape}; an image has two axes (y, x)")
    if request.labels and len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 2 and shape[-1] in (3, 4) and dtype.kind == "u" and min(shape[-3:-1]) > 4:
        colours = int(shape[-1])
        shape = shape[:-1]
    else:
        colours = 1
    frames = math.prod(shape[:-2])
    size = (int(shape[-2]), int(shape[-1]))
    check_image((*size, colours) if colours > 1 else size, request)
    index = choose_frame(frames, f"frames of {size[0]} x {size[1]}", request)
    if fortran:
        if math.prod(shape) * colours * dtype.itemsize + start > request.file_size:
            raise RefusalError(
                "it declares more pixels than it holds: it is truncated or damaged; get a complete copy"
            )
        whole = shape if colours == 1 else (*shape, colours)
        array = np.memmap(request.path, dtype, "r", start, whole, order="F")
        place = np.unravel_index(index, shape[:-2]) if len(shape) > 2 else ()
        return RawImage(pixels=np.array(array[tuple(int(i) for i in place)]))
    if colours > 1:
        wide = raw_image(
            request,
            start + index * math.prod(size) * colours * dtype.itemsize,
            (size[0], size[1] * colours),
            dtype,
        )
        return RawImage(pixels=wide.pixels.reshape(*size, colours), notes=wide.notes)
    return raw_image(request, start + index * math.prod(size) * dtype.itemsize, size, dtype)
