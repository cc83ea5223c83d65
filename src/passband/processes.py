"""One single-threaded process a core: how many cores there are, and what keeps a process to one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of a process that is to have one thread in every library."""


def core_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_fault(device: str) -> str | None:
    """Why networks cannot be trained on a device of this machine, in words; None if they can.

    Parameters
    ----------
    device
        "cpu" or "cuda".

    Examples
    --------
    >>> device_fault("tpu")
    "device must be cpu or cuda, got 'tpu'"
    >>> device_fault("cpu")
    """
    if device == "cpu":
        return None
    if device != "cuda":
        return f"device must be cpu or cuda, got {device!r}"
    import torch

    seen = torch.cuda.is_available()
    return None if seen else "device cuda: torch sees no CUDA device on this machine; take cpu"


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep this process to one thread, as a worker has: last bits depend on how many share a sum.

    torch is kept to it where it is loaded when this begins.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(threads)
