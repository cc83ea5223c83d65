"""Stopping a run at each of its renames: what every store promises to outlive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class StoppedError(Exception):
    """No KeyboardInterrupt: it would end zarr's own thread, for which others then wait."""


def stopped_at_each_rename(
    run: Callable[[Path], object], place: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Folders in which a run was stopped just before its first rename, its second, and so on to its last.

    Parameters
    ----------
    run
        Writes into a folder.
    place
        Where the folders are made.
    monkeypatch
        Undone when a folder is given.

    Yields
    ------
    Path
    """
    rename, step = Path.replace, 0
    while True:
        step += 1
        folder, count = place / f"stopped-{step}", 0

        def replace(self: Path, target: Path, step: int = step) -> Path:
            nonlocal count
            count += 1
            if count == step:
                raise StoppedError
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            try:
                run(folder)
                return
            except StoppedError:
                pass
        yield folder
