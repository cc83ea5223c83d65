"""Numbers in words, as people read them."""

from __future__ import annotations


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
