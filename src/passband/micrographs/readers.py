"""Image files to micrographs. Any bytes give a `Micrograph` or a `ReadError`, in bounded time and memory.

No byte of an image is interpreted in this process: all parsing is done by a child under limits
(`passband.micrographs.parser_process`). This module looks at the file from outside, and words the errors.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from passband.errors import ParameterError, PassbandError, ReadError
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.parser_process import Parsed, ParserError, parse
from passband.micrographs.picture import PERMISSIVE, Request
from passband.micrographs.sidecar import read_sidecar

__all__ = ["SUFFIXES", "count_frames", "read_labels", "read_micrograph", "read_sidecar"]

_KINDS = {
    ".tif": "tiff", ".tiff": "tiff", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".mrc": "mrc",
    ".dm3": "dm", ".dm4": "dm", ".emd": "emd", ".ser": "ser", ".npy": "npy", ".bmp": "bmp",
    ".mrcs": "mrc", ".map": "mrc", ".st": "mrc", ".rec": "mrc",
}  # fmt: skip
SUFFIXES = tuple(_KINDS)
"""Suffixes of the files that `read_micrograph` reads, in lower case."""
TIME_LIMIT_S = 10.0
"""Seconds that parsing a small file may take."""
SLOWEST_BYTES_PER_S = 20_000_000
"""A large file may take so much longer: a busy machine or a share on the network is slow."""
MEMORY_LIMIT = 2 * 1024**3
"""Bytes of memory that parsing one file may take."""
PIXEL_BUDGET = 2**28
"""The most pixels in one image: 16,384 x 16,384, a gigabyte as float32."""

_NAMES = {
    "tiff": "TIFF", "png": "PNG", "jpeg": "JPEG", "mrc": "MRC", "dm": "DigitalMicrograph",
    "emd": "EMD (HDF5)", "ser": "TIA series", "npy": "NumPy array", "bmp": "Windows bitmap",
}  # fmt: skip
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"),
    b"\x89HDF\r\n\x1a\n": "emd",
    b"\x93NUMPY": "npy",
    b"BM": "bmp",
    b"II\x97\x01": "ser",
    **dict.fromkeys((b"\0\0\0\x03", b"\0\0\0\x04"), "dm"),
}
_HEAD = 512
_MESSAGE = 600


def read_micrograph(
    path: str | os.PathLike[str],
    *,
    frame: int | None = None,
    pixel_size: float | None = None,
    permissive: bool = False,
) -> Micrograph:
    """Read one image of a file, with what the file says of how it was taken.

    Parameters
    ----------
    path
        A file with one of `SUFFIXES`.
    frame
        Which image of a stack, counted from zero; a stack is refused without it.
    pixel_size
        Å per pixel; overrides what the file says.
    permissive
        Accept what can be made sense of: pixels that are not finite become the median, a truncated image is
        filled in, a file whose suffix does not fit its bytes is read by its bytes. Each is noted.

    Returns
    -------
    Micrograph
        float32 pixels; calibration where known, its origin in ``sources``; colours as luminance.

    Raises
    ------
    ReadError
        If the file gives no micrograph; the message says why, and what to do.
    ParameterError
        If ``pixel_size`` or ``frame`` is no such thing.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "a.npy"
    ...     np.save(path, np.eye(4, dtype=np.uint16))
    ...     m = read_micrograph(path, pixel_size=3.8)
    >>> m.shape, m.pixel_size, m.sources["pixel_size"]
    ((4, 4), 3.8, 'given by the caller')
    """
    if pixel_size is not None and not (math.isfinite(pixel_size) and pixel_size > 0):
        raise ParameterError(f"pixel_size must be a positive number of Å, got {pixel_size!r}")
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int)):
        raise ParameterError(f"frame must be a whole number from 0 or None, got {frame!r}")
    name = os.fsdecode(path)
    shown = "".join(c if c.isprintable() else "?" for c in name)
    kind, notes = _kind_of(name, shown, permissive)
    request = Request(
        path=os.path.abspath(name),  # noqa: PTH100 (Path would need one for each of its faults)
        kind=kind,
        frame=frame,
        permissive=permissive,
        pixel_budget=PIXEL_BUDGET,
    )
    try:
        answer = parse(request, time_limit=_time_limit(request), memory_limit=MEMORY_LIMIT)
    except ParserError as e:
        raise ReadError(
            f"{shown}: reading it as {_NAMES[kind]} was given up: {e}. The file is damaged, or made to "
            "do harm; get a fresh copy from the microscope"
        ) from e
    if answer.pixels is None:
        error = ReadError(f"{shown} ({_NAMES[kind]}): {_clean(answer.error)}")
        error.frames = answer.frames
        raise error
    return _micrograph(name, shown, answer, notes, pixel_size)


def read_mean(
    path: str | os.PathLike[str], *, pixel_size: float | None = None, permissive: bool = False
) -> Micrograph:
    """The mean of all images of a file, as they lie in it: a drift between them is not undone.

    Parameters
    ----------
    path, pixel_size, permissive
        As in `read_micrograph`.

    Returns
    -------
    Micrograph
        With what the file says of the first; a file of one image is that image.

    Raises
    ------
    ReadError
        If the file gives no micrograph, or images of several shapes.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "film.npy"
    ...     np.save(path, np.arange(3)[:, None, None] * np.ones((3, 4, 4)))
    ...     m = read_mean(path)
    >>> float(m.pixels.mean()), m.notes
    (1.0, ('the mean of 3 frames, as they lie',))
    """
    try:
        return read_micrograph(path, pixel_size=pixel_size, permissive=permissive)
    except ReadError as e:
        if not e.frames:
            raise
        count = e.frames
    first = read_micrograph(path, frame=0, pixel_size=pixel_size, permissive=permissive)
    total = first.pixels.astype(np.float64)
    for frame in range(1, count):
        other = read_micrograph(path, frame=frame, permissive=permissive).pixels
        if other.shape != first.shape:
            raise ReadError(
                f"{first.name}: its images are of several shapes ({first.shape}, {other.shape}), which have "
                "no mean; give --frame with a number (in Python pass frame=)"
            )
        total += other
    notes = (*first.notes, f"the mean of {count} frames, as they lie")
    return replace(first, pixels=(total / count).astype(np.float32), notes=notes)


def read_labels(path: str | os.PathLike[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Read a label image, its numbers as they are: 0 is background, each other number an object.

    Parameters
    ----------
    path
        A TIFF, PNG or NumPy array file of one image: whole numbers of any type, true and false (which become
        255 and 0), or colours, each of which is one object.

    Returns
    -------
    tuple
        int32 (y, x), and notes on what was made of the pixels.

    Raises
    ------
    ReadError
        If the file gives no label image; the message says why.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "a.npy"
    ...     np.save(path, np.array([[[0.0, 7.0]]]))
    ...     read_labels(path)[0].tolist()
    [[0, 7]]
    """
    name = os.fsdecode(path)
    shown = "".join(c if c.isprintable() else "?" for c in name)
    kind, _ = _kind_of(name, shown, permissive=False)
    if kind not in ("tiff", "png", "npy"):
        raise ReadError(f"{shown}: labels are not read from {_NAMES[kind]}; save them as TIFF or PNG")
    request = Request(path=os.path.abspath(name), kind=kind, pixel_budget=PIXEL_BUDGET, labels=True)  # noqa: PTH100
    try:
        answer = parse(request, time_limit=_time_limit(request), memory_limit=MEMORY_LIMIT)
    except ParserError as e:
        raise ReadError(
            f"{shown}: reading it as {_NAMES[kind]} was given up: {e}. It is damaged, or made to do harm"
        ) from e
    if answer.frames:
        raise ReadError(f"{shown}: it holds {answer.frames} images; save each label image by itself")
    if answer.pixels is None:
        raise ReadError(f"{shown} ({_NAMES[kind]}): {_clean(answer.error)}")
    return answer.pixels.astype(np.int32, copy=False), tuple(_clean(note) for note in answer.notes)


def count_frames(path: str | os.PathLike[str]) -> int:
    """How many images a file holds, each of which `read_micrograph` reads as a frame.

    Raises
    ------
    ReadError
        If the file gives no micrograph.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "film.npy"
    ...     np.save(path, np.zeros((5, 4, 4), np.uint8))
    ...     count_frames(path)
    5
    """
    try:
        read_micrograph(path)
    except ReadError as e:
        if not e.frames:
            raise
        return e.frames
    return 1


def _time_limit(request: Request) -> float:
    """Seconds that a file may take."""
    try:
        return TIME_LIMIT_S + request.file_size // SLOWEST_BYTES_PER_S
    except OSError:
        return TIME_LIMIT_S  # parsing says what is wrong


def _micrograph(
    name: str, shown: str, answer: Parsed, notes: tuple[str, ...], pixel_size: float | None
) -> Micrograph:
    """Join what the child found with what the caller knows better."""
    values = {what: value for what, (value, _) in answer.quantities.items()}
    sources = {what: _clean(source) for what, (_, source) in answer.quantities.items()}
    if pixel_size is not None:
        there = values.get("pixel_size")
        sources["pixel_size"] = "given by the caller" + (f" (the file says {there:.6g} Å)" if there else "")
        values["pixel_size"] = float(pixel_size)
    assert answer.pixels is not None
    try:
        return Micrograph(
            pixels=answer.pixels.astype(np.float32, copy=False),
            name=name,
            pixel_size=values.get("pixel_size"),
            energy=values.get("energy"),
            defocus=values.get("defocus"),
            instrument=_clean(answer.instrument),
            acquired=_clean(answer.acquired),
            sources=sources,
            notes=(*notes, *(_clean(note) for note in answer.notes)),
        )
    except PassbandError as e:  # only if the child was made to lie
        raise ReadError(f"{shown}: {e}") from e


def _kind_of(name: str, shown: str, permissive: bool) -> tuple[str, tuple[str, ...]]:
    """Which parser a file needs, by suffix and first bytes, and a note where the two differ."""
    suffix = Path(name).suffix.lower()
    head = _first_bytes(name, shown)
    by_name, by_bytes = _KINDS.get(suffix), _kind_by_bytes(head)
    readable = "can be read: " + " ".join(SUFFIXES)
    if suffix == ".emi":
        raise ReadError(
            f"{shown}: an .emi file only describes images; give the .ser file beside it ({_sers(name)})"
        )
    if by_name is None and by_bytes is None:
        raise ReadError(
            f"{shown}: files named {suffix or 'without a suffix'} are not images known here; {readable}"
        )
    text = all(32 <= b < 127 or b in b"\t\r\n" for b in head)
    old_mrc = by_name == "mrc" and by_bytes is None and not text  # they have no magic bytes
    if by_name is not None and (by_bytes == by_name or old_mrc):
        return by_name, ()
    if by_bytes is None:
        raise ReadError(
            f"{shown}: is named {suffix} but does not begin like {_NAMES[by_name or 'mrc']}: its first bytes "
            f"are {'text' if text else repr(head[:8])}. It is damaged or something else; get a fresh copy"
        )
    words = f"named {suffix or 'without a suffix'}, but its bytes are those of {_NAMES[by_bytes]}"
    if not permissive:
        right = next(s for s, kind in _KINDS.items() if kind == by_bytes)
        raise ReadError(f"{shown}: {words}; rename it to {right}, or read it all the same, {PERMISSIVE}")
    return by_bytes, (words,)


def _kind_by_bytes(head: bytes) -> str | None:
    """Which parser the first bytes of a file ask for, or None where they say nothing."""
    by_bytes = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if by_bytes == "bmp" and head[6:10] != b"\0\0\0\0":  # two letters are few
        by_bytes = None
    return "mrc" if by_bytes is None and head[208:212] == b"MAP " else by_bytes


def _first_bytes(name: str, shown: str) -> bytes:
    """The first bytes of a file that exists, is a file, and has any."""
    try:
        mode = Path(name).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ReadError(f"{shown}: is a folder; give the files in it")
        if not stat.S_ISREG(mode):
            raise ReadError(f"{shown}: is a device or a pipe; give a file")
        with Path(name).open("rb") as f:
            head = f.read(_HEAD)
    except FileNotFoundError as e:
        raise ReadError(f"{shown}: no such file; check the name") from e
    except PermissionError as e:
        raise ReadError(
            f"{shown}: you have no permission to read it; ask its owner or change its mode"
        ) from e
    except (OSError, ValueError) as e:  # a name with a null byte is a ValueError
        raise ReadError(
            f"{shown}: cannot be opened ({getattr(e, 'strerror', None) or e}); check the name"
        ) from e
    if not head:
        raise ReadError(f"{shown}: is empty (0 bytes); get a fresh copy from the microscope")
    return head


def _sers(name: str) -> str:
    """The series that belong to an .emi file, in words."""
    path = Path(name)
    found: list[str] = []
    with contextlib.suppress(OSError):
        found = sorted(
            p.name for p in path.parent.iterdir() if p.suffix == ".ser" and p.stem.startswith(path.stem)
        )
    return ", ".join(found[:8]) or f"{path.stem}_1.ser, which is not there"


def _clean(text: str) -> str:
    """Words from a file or a library, safe to print on a terminal."""
    one_line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _MESSAGE]).split())
    return one_line if len(one_line) <= _MESSAGE else one_line[: _MESSAGE - 1] + "…"
