"""Numbers of files, which may be anything, and how they are shown in a message."""

from __future__ import annotations

import math
import reprlib

import numpy as np


def shown(value: object) -> str:
    """Write a value for an error message, shortened where it is long."""
    return reprlib.repr(value)


def number(value: object) -> float | None:
    """Give a finite number, or None for anything else, text and true or false included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def whole_number(value: object) -> int | None:
    """Give a whole number of pixels (1 or more), or None for anything else."""
    n = number(value)
    return int(n) if n is not None and n >= 1 and n == int(n) else None
