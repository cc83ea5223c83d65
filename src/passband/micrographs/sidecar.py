"""Pixel sizes that a table beside the images supplies, for formats that cannot hold them."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from passband.errors import ReadError
from passband.units import NM, UM
from passband.words import counted

_NAME_COLUMNS = (
    "image", "image_clean_name", "image_name", "name", "file", "filename", "file_name", "micrograph", "path",
)  # fmt: skip
_SIZE_COLUMNS = {
    **dict.fromkeys(("conversion_nm_pixel", "pixel_size_nm", "nm_per_pixel", "nm_pixel", "nm_px"), NM),
    **dict.fromkeys(("pixel_size_angstrom", "pixel_size_a", "pixel_size_å", "angstrom_per_pixel"), 1.0),
    **dict.fromkeys(("pixel_size_pm", "pm_per_pixel"), 0.01),
    **dict.fromkeys(("pixel_size_um", "pixel_size_µm", "um_per_pixel"), UM),
}
_SIZE_LIMIT = 50 * 2**20  # bytes; a table of a million images
_FAULTS_SHOWN = 20


def read_sidecar(csv_path: str | os.PathLike[str]) -> dict[str, float]:
    r"""Read a table of pixel sizes.

    One column names the image files (``image``, ``name``, ``file`` ...; there may be several names for one
    image), one gives the size in a unit that its heading names (``pixel_size_nm``, ``nm_per_pixel``,
    ``Conversion (nm/pixel)``, ``pixel_size_angstrom`` ...).

    Parameters
    ----------
    csv_path
        Separated by commas, semicolons or tabs, headings in the first row.

    Returns
    -------
    dict
        File name (without folders) to Å per pixel. Look up with `sidecar_pixel_size`.

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
    text = _text_of(Path(csv_path))
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as e:
        raise ReadError(f"{shown}: is not a table of comma-separated values ({e}); save it as CSV") from e
    heads = [_plain(head) for head in rows[0]] if rows else []
    names = [i for i, head in enumerate(heads) if head in _NAME_COLUMNS]
    sizes = [i for i, head in enumerate(heads) if head in _SIZE_COLUMNS]
    faults = []
    if not names:
        faults.append(f"no column names the images (wanted one of {', '.join(_NAME_COLUMNS)})")
    if len(sizes) != 1:
        faults.append(
            f"{len(sizes)} columns give the pixel size with its unit "
            f"(wanted one of {', '.join(_SIZE_COLUMNS)})"
        )
    if faults:
        got = ", ".join(rows[0]) if rows else "nothing"
        raise ReadError(f"{shown}: " + "; ".join(faults) + f". Its headings are: {got[:300]}")
    table: dict[str, float] = {}
    factor = _SIZE_COLUMNS[heads[sizes[0]]]
    for line, row in enumerate(rows[1:], 2):
        if any(cell.strip() for cell in row):
            faults += _add_row(
                table, [row[i] for i in names if i < len(row)], row[sizes[0] : sizes[0] + 1], factor, line
            )
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise ReadError(
            f"{shown}: {counted(len(faults), 'fault')}: " + "; ".join(faults[:_FAULTS_SHOWN]) + more
        )
    if not table:
        raise ReadError(f"{shown}: has headings and no rows; give a row for each image")
    return table


def sidecar_pixel_size(table: Mapping[str, float], image: str | os.PathLike[str]) -> float | None:
    """The pixel size (Å) that a table of `read_sidecar` has for an image, or None.

    The file name is looked up as it is, then without regard to case, and to blanks and underscores.

    Raises
    ------
    ReadError
        If names that differ only so have different sizes.

    Examples
    --------
    >>> sidecar_pixel_size({"10 78K.png": 2.86}, "images/10_78k.png"), sidecar_pixel_size({}, "a.png")
    (2.86, None)
    """
    name = _file_name(os.fspath(image))
    if name in table:
        return table[name]
    alike = {size for key, size in table.items() if _loose(key) == _loose(name)}
    if len(alike) > 1:
        raise ReadError(
            f"{name}: the sidecar has {len(alike)} pixel sizes for names like it; add it as it is"
        )
    return alike.pop() if alike else None


def _add_row(
    table: dict[str, float], names: list[str], cells: list[str], factor: float, line: int
) -> list[str]:
    """Enter one row, or say what is wrong with it."""
    keys = dict.fromkeys(_file_name(name) for name in names if name.strip(" ?-\t\r\n"))
    try:
        size = float(cells[0].strip().replace(",", ".")) if cells else math.nan
    except ValueError:
        size = math.nan
    faults = []
    if not keys:
        faults.append(f"row {line} names no image")
    if not (math.isfinite(size) and size > 0):
        got = repr(cells[0][:40]) if cells else "nothing"
        return [*faults, f"row {line} has {got} for a pixel size (wanted a positive number)"]
    for key in keys:
        if not math.isclose(table.setdefault(key, size * factor), size * factor):
            faults.append(f"row {line} gives {key!r} another pixel size than a row before it")
    return faults


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise ReadError(f"{path}: is larger than {_SIZE_LIMIT // 2**20} MB; a sidecar is a small table")
        data = path.read_bytes()
    except (OSError, ValueError) as e:
        raise ReadError(
            f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); check the name"
        ) from e
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _plain(head: str) -> str:
    """A heading as lower-case words: "Conversion (nm/pixel)" is conversion_nm_pixel."""
    return re.sub(r"[\W_]+", "_", head.strip().lower()).strip("_")


def _file_name(name: str) -> str:
    return re.split(r"[\\/]", name.strip())[-1]


def _loose(name: str) -> str:
    return re.sub(r"[\s_]+", "_", _file_name(name)).casefold()
