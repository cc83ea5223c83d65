"""What a micrograph's file says, in words."""

from __future__ import annotations

from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.types import Lines
from passband.units import KEV, NM


def about_micrograph(path: str, reading: Reading | None = None) -> Lines:
    """A micrograph file's size and calibration, and where each number came from.

    Parameters
    ----------
    path
        The file.
    reading
        How it is read.

    Raises
    ------
    ReadError
        If it gives no micrograph.
    """
    m = (reading or Reading()).read(path)
    height, width = m.shape
    lines = [("micrograph", m.name), ("size", f"{width} x {height} pixels (width x height)")]
    lines += about_conditions(m)
    if m.pixel_size is not None:
        field = f"{width * m.pixel_size / NM:.4g} x {height * m.pixel_size / NM:.4g} nm"
        lines.append(("field of view", field))
    lines.append(("grey levels", f"{m.pixels.min():g} to {m.pixels.max():g}, mean {m.pixels.mean():g}"))
    return lines + [("note", note) for note in m.notes]


def about_conditions(m: Micrograph) -> Lines:
    """How a micrograph was taken, and where each number came from.

    Examples
    --------
    >>> import numpy as np
    >>> about_conditions(Micrograph(pixels=np.eye(4, dtype=np.float32), name="a", energy=2e5))[1]
    ('energy', '200 keV')
    """
    shown = {
        "pixel_size": None if m.pixel_size is None else f"{m.pixel_size / NM:.6g} nm",
        "energy": None if m.energy is None else f"{m.energy / KEV:.6g} keV",
        "defocus": None if m.defocus is None else f"{m.defocus / NM:.6g} nm (positive is underfocus)",
    }
    lines = []
    for name, words in shown.items():
        source = m.sources.get(name)
        said = "unknown" if words is None else words + (f", from {source}" if source else "")
        lines.append((name.replace("_", " "), said))
    return [*lines, ("instrument", m.instrument or "unknown"), ("acquired", m.acquired or "unknown")]
