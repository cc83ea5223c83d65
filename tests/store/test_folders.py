"""One run at a time writes to a folder, whatever the system locks files with."""

import os
import sys

import pytest

from passband.errors import DatasetError
from passband.store.folders import LOCK, sole_writer


class Windows:
    """What its C library does: one byte is locked by one file, and nobody else may read it."""

    LK_NBLCK = 2

    def __init__(self):
        self.held = {}

    def locking(self, file, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        place = os.lseek(file, 0, os.SEEK_CUR)
        if self.held.get(place, file) != file:
            raise PermissionError(13, "Permission denied")
        self.held[place] = file


@pytest.mark.parametrize("system", ["posix", "windows"])
def test_a_second_run_is_told_which_process_holds_the_folder(tmp_path, monkeypatch, system):
    if system == "windows":
        library = Windows()
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", library)
    told = f"another run is writing to {tmp_path} .process {os.getpid()} on .*; wait for it to end"
    with sole_writer(tmp_path):
        with pytest.raises(DatasetError, match=told), sole_writer(tmp_path):
            pytest.fail("two wrote")
        if system == "windows":
            assert min(library.held) > (tmp_path / LOCK).stat().st_size  # what it says stays readable
            library.held.clear()  # as closing the file does
    with sole_writer(tmp_path):
        pass
