"""The parser process: it alone reads the bytes of image files.

A library that meets a hostile file may crash, hang, or ask for all memory. It does so here, in a
child under limits, which the parent (`passband.micrographs.parser_process`) replaces. Nothing imported here
may bring torch, which takes seconds and gigabytes of address space.

Protocol: a request is one line of JSON on stdin. The answer on stdout is a line ``{"ready": true}`` when
the libraries are loaded, a line of JSON with either "error" or "shape", and after a shape the pixels
as raw float32, or int32 of label images. No pickle: the parent trusts nothing but lengths and numbers.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from passband.micrographs.picture import PERMISSIVE, RawImage, RefusalError, Request

PARSERS = {
    "tiff": ("tiff", "read_tiff", "tifffile"),
    "png": ("pixmaps", "read_png", "PIL.PngImagePlugin"),
    "jpeg": ("pixmaps", "read_jpeg", "PIL.JpegImagePlugin"),
    "bmp": ("pixmaps", "read_bmp", "PIL.BmpImagePlugin"),
    "mrc": ("mrc", "read_mrc", "mrcfile"),
    "npy": ("npy", "read_npy", "numpy.lib.format"),
    "dm": ("dm", "read_dm", "rsciio.digitalmicrograph._api"),
    "emd": ("emd", "read_emd", "h5py"),
    "ser": ("ser", "read_ser", "numpy"),
}
"""Kind of file: module in passband.micrographs.formats, function, library to load before the clock starts."""
# Rec. 601, as Pillow and ImageJ weigh colours.
_LUMINANCE = (0.299, 0.587, 0.114)
_ORPHAN_SECONDS = 5.0


def serve() -> None:
    """Answer requests from stdin until it closes, which it does when the parent dies."""
    answers = os.fdopen(os.dup(1), "wb")
    # A library that prints must not write into the protocol or onto the user's terminal.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes stdin
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(BrokenPipeError):
        while line := sys.stdin.buffer.readline():
            _answer(json.loads(line), answers)


def _load(library: str) -> None:
    """Import what a parser needs; RosettaSciIO without Dask, which takes three times as long as the rest."""
    if library.startswith("rsciio"):
        lazy_reading = ModuleType("rsciio.utils._distributed")  # what Dask is for there, and never asked for
        lazy_reading.__dict__["memmap_distributed"] = None
        sys.modules.setdefault(lazy_reading.__name__, lazy_reading)
    importlib.import_module(library)


def _answer(job: dict[str, Any], answers: BinaryIO) -> None:
    """Parse one file and write what came of it."""
    request = Request(**job["request"])
    module, name, library = PARSERS[request.kind]
    _load(library)
    read = getattr(importlib.import_module(f"passband.micrographs.formats.{module}"), name)
    answers.write(b'{"ready": true}\n')
    answers.flush()
    pixels: NDArray[np.float32] | NDArray[np.int32] | None = None
    with _limits(job["memory_limit"], job["time_limit"]):
        header: dict[str, Any]
        try:
            picture = read(request)
            pixels, notes = finish_labels(picture) if request.labels else finish(picture, request)
            header = {
                "shape": pixels.shape,
                "quantities": dict(picture.quantities),
                "notes": notes,
                "instrument": picture.instrument,
                "acquired": picture.acquired,
            }
        except RefusalError as e:
            header = {"error": str(e), "frames": e.frames}
        except MemoryError:
            header = {"error": "reading it takes more memory than is allowed", "retire": True}
        except Exception as e:  # a library may raise anything at all on damaged bytes
            words = "it is damaged, or not what its name says; get a fresh copy from the microscope"
            header = {"error": f"{words} ({type(e).__name__}: {e})"[:2000]}
        answers.write(json.dumps(header).encode() + b"\n")
        if pixels is not None:
            answers.write(pixels.data.cast("B"))
        answers.flush()


@contextlib.contextmanager
def _limits(memory: int, seconds: float) -> Iterator[None]:
    """Bound address space over what is held already, files written (none), and time where we are orphaned."""
    if sys.platform == "win32":  # no such limits there; the parent's clock is the only guard
        yield
        return
    import resource

    signal.setitimer(signal.ITIMER_REAL, seconds + _ORPHAN_SECONDS)  # SIGALRM's default ends the process
    before = {}
    held = 0
    with contextlib.suppress(OSError):  # /proc is Linux
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, value in ((resource.RLIMIT_AS, held + memory), (resource.RLIMIT_FSIZE, 0)):
        soft, hard = resource.getrlimit(what)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
            resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
            before[what] = (soft, hard)
    try:
        yield
    finally:
        for what, limit in before.items():
            resource.setrlimit(what, limit)
        signal.setitimer(signal.ITIMER_REAL, 0)


def finish(picture: RawImage, request: Request) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Make finite float32 (y, x) pixels of whatever a file held.

    Returns
    -------
    tuple
        Pixels, and the notes on the picture with those on what was changed here.

    Raises
    ------
    RefusalError
        If the pixels are complex, or some are not finite and the request is not permissive.
    """
    raw, notes = picture.pixels, list(picture.notes)
    if raw.dtype.names and {"R", "G", "B"} <= set(raw.dtype.names):
        channels = [raw[name] for name in "RGB"]
    elif raw.ndim == 3 and raw.shape[2] >= 3:
        channels = [raw[..., i] for i in range(3)]
    elif raw.ndim == 3 and raw.shape[2] > 0:  # grey with alpha
        channels = [raw[..., 0]]
    else:
        channels = [raw]
    if channels[0].ndim != 2 or channels[0].dtype.kind not in "biuf":
        if raw.dtype.kind == "c":
            raise RefusalError(
                f"it holds a complex image of {' x '.join(map(str, raw.shape))} (an FFT), not an image"
            )
        raise RefusalError(f"it holds an array of {raw.dtype} of shape {raw.shape}, not an image")
    with np.errstate(all="ignore"):
        pixels = np.array(channels[0], np.float32, order="C")  # a copy: decoders hand out read-only arrays
        if len(channels) == 3:
            pixels = pixels * np.float32(_LUMINANCE[0])
            for channel, weight in zip(channels[1:], _LUMINANCE[1:], strict=True):
                pixels += np.float32(weight) * channel.astype(np.float32)
            notes.append("RGB converted to luminance")
    if pixels.size == 0:
        raise RefusalError(
            f"it holds an image of {pixels.shape[0]} x {pixels.shape[1]} pixels, which is none"
        )
    finite = np.isfinite(pixels)
    bad = pixels.size - int(np.count_nonzero(finite))
    if bad == pixels.size:
        raise RefusalError("none of its pixels is a finite number")
    if bad and not request.permissive:
        raise RefusalError(
            f"{bad} of its {pixels.size} pixels are NaN, infinite or too large for 32-bit floats; "
            f"mend them, or have them replaced by the median, {PERMISSIVE}"
        )
    if bad:
        pixels[~finite] = np.median(pixels[finite])
        notes.append(f"{bad} of {pixels.size} pixels were not finite and were replaced by the median")
    return pixels, tuple(notes)


def finish_labels(picture: RawImage) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Make int32 (y, x) labels of whatever a file held, without merging two numbers.

    Returns
    -------
    tuple
        0 is background; true or false becomes 255 or 0, a colour red + 256 green + 65536 blue, and numbers
        that do not fit are numbered anew, in their order. Notes say so.

    Raises
    ------
    RefusalError
        If the pixels are no whole numbers from 0.
    """
    raw, notes = picture.pixels, []
    if raw.ndim == 3 and raw.shape[2] in (3, 4) and raw.dtype.kind == "u":
        colours = raw[..., :3].astype(np.int64)
        same = bool((colours == colours[..., :1]).all())
        raw = colours[..., 0] if same else colours @ np.array([1, 2**8, 2**16])
        notes = [] if same else ["colours were taken for objects, black for background"]
    elif raw.ndim == 3 and raw.shape[2] in (1, 2):  # grey, and grey with alpha
        raw = raw[..., 0]
    if raw.ndim != 2 or not raw.size or raw.dtype.kind not in "biuf":
        raise RefusalError(f"labels are a (y, x) array of whole numbers, not {raw.dtype} of {raw.shape}")
    if raw.dtype.kind == "b":
        raw = raw.astype(np.uint8) * np.uint8(255)
    if raw.dtype.kind == "f":
        with np.errstate(all="ignore"):
            whole = np.isfinite(raw).all() and bool((raw == np.rint(raw)).all())
        if not whole:
            raise RefusalError(
                "its pixels are no whole numbers, as of an image or of probabilities; a label image has "
                "0 for background and a whole number for each object"
            )
    if raw.min() < 0:
        raise RefusalError(f"a label image must not hold negative numbers, got {raw.min():g}")
    if raw.max() >= 2**31:
        values = np.union1d(raw, np.zeros(1, raw.dtype))
        raw = np.searchsorted(values, raw)
    return np.array(raw, np.int32, order="C"), tuple(notes)
