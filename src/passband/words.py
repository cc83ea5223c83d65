"""What is said to people: numbers, what a name may have meant, faults in a list."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def counted(n: int, noun: str) -> str:
    """Number and noun, in the plural where there is not one.

    Examples
    --------
    >>> counted(1, "micrograph"), counted(0, "micrograph")
    ('1 micrograph', '0 micrographs')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def number_text(value: float) -> str:
    """A number to three digits, without an exponent where that is readable.

    Examples
    --------
    >>> number_text(1614.2), number_text(0.04567)
    ('1610', '0.0457')
    """
    return f"{float(f'{value:.3g}'):g}"


def meant(name: str, known: Sequence[str]) -> str:
    """What a name that is not known may have meant, or what is known.

    Examples
    --------
    >>> meant("sead", ["seeds", "steps"]), meant("x", ["seeds", "steps"])
    ('did you mean seeds?', 'known here: seeds, steps')
    """
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def listed(source: str, faults: Sequence[str], where: str) -> str:
    """All faults of something, a line each.

    Examples
    --------
    >>> print(listed("a.toml", ["scenes is missing"], "the study"))
    a.toml: 1 fault in the study:
      - scenes is missing
    """
    return f"{source}: {counted(len(faults), 'fault')} in {where}:" + "".join(f"\n  - {f}" for f in faults)
