"""Pixel sizes that a table beside the images supplies, for formats that cannot hold them."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from passband.errors import ReadError
from passband.units import NM, UM
from passband.words import counted

_NAME_COLUMNS = (
    "image", "image_clean_name", "image_name", "image_file", "name", "file", "filename", "file_name",
    "micrograph", "micrograph_name", "path", "file_path",
)  # fmt: skip
_UNITS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), NM),
    **dict.fromkeys(("a", "å", "ang", "angstrom", "angstroms", "ångström", "ångstrom"), 1.0),
    **dict.fromkeys(("pm", "picometer", "picometers", "picometre", "picometres"), 0.01),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), UM),
}
_SIZE_WORDS = (
    "pixel", "pixels", "pixelsize", "px", "pix", "pxsize", "apix", "scale", "conversion", "sampling",
)  # fmt: skip
_FILLERS = ("size", "per", "of", "factor", "calibrated", "in")
_UNKNOWN = ("", "-", "--", "?", "??", "???", "n/a", "na", "nan", "none", "unknown", "null", "#n/a")
_COMMENT = "#"
_SIZE_LIMIT = 50 * 2**20  # bytes; a table of a million images
_FAULTS_SHOWN = 20


def read_sidecar(csv_path: str | os.PathLike[str]) -> dict[str, float]:
    r"""Read a table of pixel sizes.

    One column names the image files (``image``, ``name``, ``file`` ...; there may be several names for one
    image), one gives the size in a unit that its heading, its cells or a column ``unit`` name
    (``pixel_size_nm``, ``Pixel size [nm]``, ``nm/px``, ``Conversion (nm/pixel)``, ``0.38 nm``). A cell that
    says nothing leaves the size to the file. Where names hold folders, an image is looked up with its own.

    Parameters
    ----------
    csv_path
        Separated by commas, semicolons or tabs, headings in the first row; after lines that begin with #, and
        Excel's ``sep=``. UTF-8, UTF-16 or Latin-1.

    Returns
    -------
    dict
        File name to Å per pixel, without folders where all images of that name have one size. Look up with
        `sidecar_pixel_size`.

    Raises
    ------
    ReadError
        Naming every fault: missing columns, rows without a name or with a size that is none, two sizes
        for one name.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "sizes.csv"
    ...     _ = path.write_text("image,pixel_size_nm\na 1.png,0.38\n")
    ...     table = read_sidecar(path)
    >>> table, sidecar_pixel_size(table, "folder/a_1.PNG")
    ({'a 1.png': 3.8}, 3.8)
    """
    shown = os.fspath(csv_path)
    rows = _rows_of(shown, _text_of(Path(csv_path)))
    heads = rows[0][1] if rows else []
    plain = [_plain(head) for head in heads]
    names = [i for i, head in enumerate(plain) if head in _NAME_COLUMNS]
    sizes = {i: unit for i, head in enumerate(plain) if (unit := _size_unit(head)) is not None}
    told = [i for i, unit in sizes.items() if unit]
    chosen = told or list(sizes)
    faults = []
    if not names:
        faults.append(f"no column names the images (wanted one of {', '.join(_NAME_COLUMNS)})")
    if len(chosen) != 1:
        faults.append(
            f"{len(chosen)} columns give the pixel size with its unit (wanted one, such as pixel_size_nm, "
            "nm_per_pixel, Pixel size (Å) or pixel_size_um)"
        )
    if faults:
        got = ", ".join(heads) if heads else "nothing"
        raise ReadError(f"{shown}: " + "; ".join(faults) + f". Its headings are: {got[:300]}")
    table: dict[str, float] = {}
    column, units = chosen[0], [i for i, head in enumerate(plain) if head in ("unit", "units")]
    empty = 0
    for line, row in rows[1:]:
        cells = [row[i] for i in names if i < len(row)]
        said = row[column].strip() if column < len(row) else ""
        unit = sizes[column] or (_plain(row[units[0]]) if units and units[0] < len(row) else "")
        size = _size(said, unit)
        if said.casefold() in _UNKNOWN:
            empty += 1
        elif isinstance(size, str):
            faults.append(f"row {line} has {said[:40]!r} for a pixel size ({size})")
        faults += _add_row(table, cells, None if isinstance(size, str) else size, line)
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise ReadError(
            f"{shown}: {counted(len(faults), 'fault')}: " + "; ".join(faults[:_FAULTS_SHOWN]) + more
        )
    if not table:
        rest = f"{counted(empty, 'row')} without a pixel size" if empty else "no rows"
        raise ReadError(f"{shown}: has headings and {rest}; give a row with its pixel size for each image")
    sizes_of: dict[str, set[float]] = {}
    for key, size in table.items():
        sizes_of.setdefault(_parts(key)[-1], set()).add(size)
    one = {name: len(sizes) == 1 for name, sizes in sizes_of.items()}
    return {(_parts(key)[-1] if one[_parts(key)[-1]] else key): size for key, size in table.items()}


def sidecar_pixel_size(table: Mapping[str, float], image: str | os.PathLike[str]) -> float | None:
    """The pixel size (Å) that a table of `read_sidecar` has for an image, or None.

    The file name is looked up as it is, then without regard to case, and to blanks and underscores. A name
    with folders holds for images in such folders; where none does, the name alone decides.

    Raises
    ------
    ReadError
        If names that differ only so have different sizes.

    Examples
    --------
    >>> sidecar_pixel_size({"10 78K.png": 2.86}, "images/10_78k.png"), sidecar_pixel_size({}, "a.png")
    (2.86, None)
    >>> sidecar_pixel_size({"a/1.tif": 2.0, "b/1.tif": 3.0}, "run7/b/1.tif")
    3.0
    """
    parts = _parts(os.fspath(image))
    if parts[-1] in table and not any("/" in key for key in table):
        return table[parts[-1]]
    name = _loose(parts[-1])
    alike = {key: size for key, size in table.items() if _loose(_parts(key)[-1]) == name}
    exact = {key: size for key, size in alike.items() if _parts(key)[-1] == parts[-1]}
    for some in (exact, alike):
        depths = {key: len(_parts(key)) for key in some if _ends(parts, _parts(key))}
        nearest = max(depths.values(), default=0)
        within = {key: some[key] for key, depth in depths.items() if depth == nearest}
        for found in (within, some):
            sizes = set(found.values())
            if len(sizes) > 1:
                raise ReadError(
                    f"{parts[-1]}: the sidecar has {len(sizes)} pixel sizes for names like it; add it as it "
                    "is, or with its folder"
                )
            if sizes:
                return sizes.pop()
    return None


def not_listed(table: Mapping[str, float], images: Sequence[str], most: int = 3) -> str:
    """In words, which images a table has no size for, with the nearest name that it has; empty if none.

    Examples
    --------
    >>> not_listed({"a_01.tif": 2.0}, ["run/a-01.tif"])
    "the sidecar has no pixel size for 1 of 1 image: a-01.tif (did you mean 'a_01.tif' there?)"
    """
    import difflib

    known = {_loose(_parts(key)[-1]) for key in table}
    names = [_parts(image)[-1] for image in images]
    lacking = [name for name in names if _loose(name) not in known]
    if not table or not lacking:
        return ""
    given = {_loose(name) for name in names}
    others = [key for key in table if _loose(_parts(key)[-1]) not in given]
    some = []
    for name in lacking[:most]:
        near = difflib.get_close_matches(name, others, 1)
        some.append(f"{name} (did you mean {near[0]!r} there?)" if near else name)
    more = f" and {len(lacking) - most} more" if len(lacking) > most else ""
    images_given = counted(len(images), "image")
    return f"the sidecar has no pixel size for {len(lacking)} of {images_given}: {', '.join(some)}{more}"


def _add_row(table: dict[str, float], names: list[str], size: float | None, line: int) -> list[str]:
    """Enter one row, or say what is wrong with it."""
    keys = dict.fromkeys("/".join(_parts(name)) for name in names if name.strip(" ?-\t\r\n"))
    if not keys:
        return [f"row {line} names no image"]
    if size is None:
        return []
    return [
        f"row {line} gives {key!r} another pixel size than a row before it"
        for key in keys
        if not math.isclose(table.setdefault(key, size), size)
    ]


def _rows_of(shown: str, text: str) -> list[tuple[int, list[str]]]:
    """Rows that say anything, with the numbers of their lines; the first are the headings."""
    lines = text.splitlines(keepends=True)
    skipped = 0
    delimiter = ""
    while skipped < len(lines):
        line = lines[skipped].strip()
        told = re.fullmatch(r'"?sep=(.)"?', line, re.IGNORECASE)
        if told:
            delimiter = told[1]
        elif line and not line.startswith(_COMMENT):
            break
        skipped += 1
    first = re.sub(r'"[^"]*"', "", lines[skipped]) if skipped < len(lines) else ""
    delimiter = delimiter or max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO("".join(lines[skipped:]), newline=""), delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith(_COMMENT):
                rows.append((skipped + reader.line_num, row))
    except csv.Error as e:
        raise ReadError(f"{shown}: is not a table of comma-separated values ({e}); save it as CSV") from e
    return rows


def _size_unit(head: str) -> str | None:
    """The unit that a heading of pixel sizes names, empty where it names none; None for another heading."""
    words = head.split("_")
    units = [w for w in words if w in _UNITS]
    known = [w for w in words if w in _SIZE_WORDS]
    if (
        not known
        or len(units) > 1
        or any(w not in (*_UNITS, *_SIZE_WORDS, *_FILLERS, "x", "y") for w in words)
    ):
        return None
    return units[0] if units else ""


def _size(said: str, unit: str) -> float | str:
    """A pixel size in Å, or what is wanted instead."""
    found = re.fullmatch(r"([+-]?[\d.,]+(?:[eE][+-]?\d+)?)\s*([^\d\s].*)?", said)
    if not found:
        return "wanted a positive number"
    number = found[1]
    if number.count(",") == 1 and "." not in number:
        number = number.replace(",", ".")
    own = _plain(found[2] or "")
    own = own.split("_")[0] if own else unit
    try:
        value = float(number)
    except ValueError:
        return "wanted a positive number"
    if not (math.isfinite(value) and value > 0):
        return "wanted a positive number"
    if own not in _UNITS:
        return f"no unit is named; write it in the heading, as pixel_size_nm{f', not {own!r}' if own else ''}"
    size = value * _UNITS[own]
    return size if math.isfinite(size) and size > 0 else "wanted a positive number"


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise ReadError(f"{path}: is larger than {_SIZE_LIMIT // 2**20} MB; a sidecar is a small table")
        data = path.read_bytes()
    except (OSError, ValueError) as e:
        raise ReadError(
            f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); check the name"
        ) from e
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if marked or 0 in (data[:1] or b"x") + (data[1:2] or b"x"):
        order = "utf-16" if marked else ("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode(order)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _plain(head: str) -> str:
    """A heading as lower-case words: "Conversion (nm/pixel)" is conversion_nm_pixel."""
    return re.sub(r"[\W_]+", "_", head.strip().lower()).strip("_")


@lru_cache(maxsize=2**16)
def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file that a path names, whatever system wrote it."""
    parts = [p for p in re.split(r"[\\/]+", name.strip()) if p not in ("", ".", "..")]
    return tuple(parts) or ("",)


def _ends(path: tuple[str, ...], end: tuple[str, ...]) -> bool:
    """Whether a path ends with some folders and a file, the file being alike already."""
    within = path[-len(end) : -1] if len(path) >= len(end) else None
    return within is not None and [p.casefold() for p in within] == [p.casefold() for p in end[:-1]]


@lru_cache(maxsize=2**16)
def _loose(name: str) -> str:
    return re.sub(r"[\s_]+", "_", name).casefold()
