"""Keep freed memory at hand: getting it anew for every large temporary array takes time."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
_KEPT = 256 * 2**20
_LARGEST = 32 * 2**20  # the most that glibc takes


def keep_freed_memory() -> bool:
    """Have this process keep up to 256 MB of freed memory instead of returning it at once.

    Waves and images go through a dozen temporary arrays of some megabytes each. glibc gives such
    memory back to the system when it is freed and gets it anew, page by page, for the next array,
    which takes time from every transform (`benchmarks/bench_hrtem.py` times abTEM before and after).
    Processes that simulate call this when they start; a program of your own may.

    Returns
    -------
    bool
        Whether it was done; False where the C library is another.

    References
    ----------
    mallopt(3) of the Linux manual.

    Examples
    --------
    >>> isinstance(keep_freed_memory(), bool)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_TOP_PAD, _KEPT), (_TRIM_THRESHOLD, _KEPT), (_MMAP_THRESHOLD, _LARGEST))
    return all(mallopt(name, value) for name, value in settings)
