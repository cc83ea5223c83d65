"""Options, and what all processes of a run share; fixtures for all tests are in shared_fixtures.py."""

from __future__ import annotations

import gc
import importlib

import pytest

import made_once


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--draws", type=int, default=0, help="other random draws than usual: 1, 2, ...")


def pytest_configure(config: pytest.Config) -> None:
    """Only a process that tests something loads what tests need."""
    tests = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
    if not hasattr(config, "workerinput"):
        made_once.begin()
    if tests:
        gc.disable()  # until all is imported, which stays
        # A test process is one of several, one a core: what it tests starts others only where it is told to.
        importlib.import_module("passband.processes").core_count = lambda: 1  # type: ignore[attr-defined]
        fixtures = importlib.import_module("shared_fixtures")
        config.pluginmanager.register(fixtures)
        if draws := config.getoption("draws"):
            fixtures.draw_others(draws)


def pytest_collection_finish() -> None:
    """What was imported is never garbage: looking through it again and again took a tenth of the time."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        made_once.end()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Examples of what is trained or fitted are as its tests are, with the draws that they quote alone."""
    if config.getoption("draws"):
        items[:] = [item for item in items if not isinstance(item, pytest.DoctestItem)]
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name.startswith(
            ("passband.detectors.", "passband.particles.", "passband.estimate.")
        ):
            item.add_marker(pytest.mark.training)
