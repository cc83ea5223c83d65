"""What a parser is asked and what it hands back, with the checks that all formats share.

Everything here runs in the parser process (see `passband.micrographs.parsing`), on files that may be hostile:
sizes are compared with the file and with a budget before anything is allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passband.units import MM, NM, UM

Pixels = NDArray[Any]
Quantities = Mapping[str, tuple[float, str]]
"""Values in base units and where each came from: {"pixel_size": (3.8, "MRC header")}."""

PERMISSIVE = "with --permissive (in Python pass permissive=True)"
"""How to ask for what is refused otherwise."""
# Of a truncated image at least this part must be there for the rest to be filled in.
_LEAST_PART = 0.5
INSTRUMENT = "Instrument"
"""Under which name the Info of ImageJ's TIFF tells a microscope, as written here."""
_LONGEST_NAME = 120
_PIXEL_SIZES = (1e-3, 1e7)
# Å. Outside a thousandth of an Ångström to a millimetre nothing is a micrograph's pixel size.
_LENGTHS = {
    "pm": 0.01, "å": 1.0, "ångström": 1.0, "angstrom": 1.0, "angstroms": 1.0, "a": 1.0,
    "nm": NM, "nanometer": NM, "nanometre": NM, "nanometers": NM,
    "µm": UM, "um": UM, "micron": UM, "microns": UM, "micrometer": UM, "micrometre": UM,
    "mm": MM, "cm": 10 * MM, "m": 1000 * MM, "meter": 1000 * MM, "metre": 1000 * MM, "meters": 1000 * MM,
}  # fmt: skip
_RECIPROCAL = re.compile(r"^1\s*/|\^?-1\)?$|^m?rad$")
_ENERGY = re.compile(r"^[km]?ev$")


class RefusalError(Exception):
    """A file gives no micrograph; the message says why, in words for the person who gave it.

    Of a stack where no frame was asked for, ``frames`` is how many it holds.
    """

    frames = 0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One file to parse.

    Parameters
    ----------
    path
        Absolute path of a file that exists.
    kind
        Which parser: "tiff", "png", "jpeg", "bmp", "mrc", "npy", "dm", "emd" or "ser".
    frame
        Which image of a stack, counted from zero, or None.
    permissive
        Accept what can be made sense of.
    pixel_budget
        The most pixels that one image may have.
    labels
        Numbers that tell objects apart are wanted, not brightness: palettes are not looked up.
    """

    path: str
    kind: str
    frame: int | None = None
    permissive: bool = False
    pixel_budget: int = 2**28
    labels: bool = False

    @property
    def file_size(self) -> int:
        """Bytes in the file."""
        return Path(self.path).stat().st_size


@dataclass(frozen=True, kw_only=True)
class RawImage:
    """One image as it lies in the file.

    Parameters
    ----------
    pixels
        Any real type, (y, x), or (y, x, 3 or more) for colour.
    quantities
        What the metadata say of "pixel_size" (Å), "energy" (eV), "defocus" (Å, positive is underfocus).
    notes
        What was guessed, left out or changed, in words.
    instrument
        The microscope's name, empty where it is not told.
    acquired
        When it was taken, as the file writes it; empty where it is not told.
    """

    pixels: Pixels
    quantities: Quantities = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    instrument: str = ""
    acquired: str = ""


def check_image(shape: tuple[int, ...], request: Request, *, least_bytes: float = 0) -> None:
    """Refuse an image that cannot be, before memory is spent on it.

    Parameters
    ----------
    shape
        Height and width that the header declares, and samples per pixel where there are any.
    request
        Holds the pixel budget and the file.
    least_bytes
        The fewest bytes that such an image takes in a file; more than the file has is refused.
    """
    height, width = shape[:2]
    if height < 1 or width < 1:
        raise RefusalError(f"its header declares an image of {height} x {width} pixels, which is none")
    pixels = math.prod(shape)
    if pixels > request.pixel_budget:
        side = math.isqrt(request.pixel_budget)
        raise RefusalError(
            f"its header declares {' x '.join(map(str, shape))} pixels, more than the {request.pixel_budget} "
            f"(about {side} x {side}) that are read at once; crop or bin it, or check that it is undamaged"
        )
    if least_bytes * (_LEAST_PART if request.permissive else 1) > request.file_size:
        raise RefusalError(
            f"its header declares {height} x {width} pixels, which its {request.file_size} bytes cannot "
            "hold: it is truncated or damaged; get a complete copy"
        )


def choose_frame(count: int, what: str, request: Request) -> int:
    """The index of the image to read among ``count``; a stack is refused unless a frame was asked for."""
    if count < 1:
        raise RefusalError("it holds no image")
    frame = request.frame
    if frame is None and count > 1:
        refusal = RefusalError(
            f"it holds {count} {what}; give --frame 0 to {count - 1} or mean; assess, segment and particles "
            f"extract take --frame all (in Python pass frame=0 to frame={count - 1} to read one of them)"
        )
        refusal.frames = count
        raise refusal
    if frame is not None and not 0 <= frame < count:
        wanted = "frame=0 or none" if count == 1 else f"frame=0 to frame={count - 1}"
        option = wanted.replace("frame=0", "--frame 0").replace("frame=", "")
        raise RefusalError(
            f"it has no frame {frame}: it holds {count} {what}; give {option} (in Python pass {wanted})"
        )
    return frame or 0


def raw_image(
    request: Request, offset: int, shape: tuple[int, int], dtype: np.dtype[Any], *, limit: int | None = None
) -> RawImage:
    """Read uncompressed pixels that lie in one piece.

    Parameters
    ----------
    request
        Names the file; permissive completes a truncated image with the median of what is there.
    offset
        Byte of the first pixel.
    shape
        Height and width.
    dtype
        Of one pixel, byte order included; may be structured.
    limit
        Bytes that may be read from ``offset`` where that is less than the file's rest.
    """
    check_image(shape, request)
    count = shape[0] * shape[1]
    rest = request.file_size - offset if offset >= 0 else 0
    here = max(0, min(rest, rest if limit is None else limit)) // max(dtype.itemsize, 1)
    enough = here >= max(1, _LEAST_PART * count)
    if here < count and not (enough and request.permissive):
        raise RefusalError(
            f"it declares {shape[0]} x {shape[1]} pixels of {dtype.itemsize} bytes at byte {offset} but "
            f"holds only {here} of them: it is truncated or damaged; get a complete copy"
            + (f"; or have the rest filled in, {PERMISSIVE}" if enough else "")
        )
    pixels = np.fromfile(request.path, dtype, min(here, count), offset=offset)
    notes: tuple[str, ...] = ()
    if len(pixels) < count:
        filled = np.zeros(count, dtype)
        if dtype.names is None and dtype.kind in "iuf":
            with np.errstate(all="ignore"):
                filled[:] = np.median(pixels)
        filled[: len(pixels)] = pixels
        notes = (f"truncated file: {count - len(pixels)} of {count} pixels filled in",)
        pixels = filled
    return RawImage(pixels=pixels.reshape(shape), notes=notes)


def in_angstrom(value: float, unit: str) -> float | None:
    """A length in Å, or None where the unit is none or the value is no length."""
    name = unescaped(unit).strip().replace("μ", "µ").replace("\u212b", "å").lower()
    factor = _LENGTHS.get(name)
    return value * factor if factor and math.isfinite(value) and value > 0 else None


def unescaped(text: str) -> str:
    r"""A text in which ImageJ wrote letters beyond ASCII by their numbers.

    Examples
    --------
    >>> unescaped(r"\u00B5m"), unescaped("nm")
    ('µm', 'nm')
    """
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)


def is_energy(unit: str) -> bool:
    """Whether an axis of this unit is that of a spectrum.

    Examples
    --------
    >>> is_energy("keV"), is_energy("nm")
    (True, False)
    """
    return bool(_ENERGY.search(unit.strip().lower()))


def refuse_units(units: tuple[str, ...], request: Request) -> tuple[str, ...]:
    """Refuse spectra and, unless permissive, diffraction patterns; returns notes."""
    words = [u.strip().lower() for u in units]
    if any(is_energy(w) for w in words):
        raise RefusalError("it holds spectra (an axis is in electronvolts), not an image")
    reciprocal = [u.strip() for u, w in zip(units, words, strict=True) if _RECIPROCAL.search(w)]
    if not reciprocal:
        return ()
    if not request.permissive:
        raise RefusalError(
            f"it holds a diffraction pattern (its axes are in {reciprocal[0]}), not an image of the "
            f"specimen; it can be read all the same, without a pixel size, {PERMISSIVE}"
        )
    return (f"a diffraction pattern: its axes are in {reciprocal[0]}",)


def square_pixel(
    y: float | None, x: float | None, source: str
) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """The pixel size (Å) that two axes agree on, as quantities, and notes where they do not."""
    sizes = [s for s in (y, x) if s is not None and math.isfinite(s)]
    if len(sizes) < 2:
        return {}, []
    low, high = _PIXEL_SIZES
    if not all(low < s < high for s in sizes):
        return {}, [f"pixel size of {sizes[1]:.6g} Å in the {source} is no pixel size and was left out"]
    if abs(sizes[0] - sizes[1]) > 0.01 * sizes[1]:
        return {}, [
            f"pixels are not square ({sizes[0]:.6g} x {sizes[1]:.6g} Å), so the pixel size is left open"
        ]
    return {"pixel_size": (sizes[1], source)}, []


def named(*parts: object) -> str:
    """An instrument's name of what metadata fields hold, which may be anything.

    Examples
    --------
    >>> named("Titan", None, b"3492", 5)
    'Titan 3492'
    """
    texts = [p.decode("utf8", "replace") if isinstance(p, bytes) else p for p in parts]
    words = " ".join(t for t in texts if isinstance(t, str)).replace("\0", " ").split()
    return " ".join(words)[:_LONGEST_NAME]


def moment(seconds: object) -> str:
    """A time in words, of seconds since 1970 that a metadata field holds; empty where it holds none of use.

    Examples
    --------
    >>> moment("1456581911"), moment(0), moment("soon")
    ('2016-02-27 14:05:11 UTC', '', '')
    """
    try:
        number = float(seconds)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return ""
    if not 0 < number < _LAST_MOMENT:
        return ""
    return datetime.fromtimestamp(number, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_LAST_MOMENT = 4e9
"""Seconds since 1970: the year 2096."""


def quantity(name: str, value: object, factor: float, source: str) -> dict[str, tuple[float, str]]:
    """One quantity from a metadata field that may hold anything; empty where it holds nothing of use.

    A voltage that is not positive and a defocus of exactly zero are what microscopes write for "not known".
    """
    try:
        number = float(value) * factor  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return {}
    if not math.isfinite(number) or number == 0 or (name == "energy" and not 1 <= number <= 1e7):
        return {}
    return {name: (number, source)}
