"""What is said of long work where nobody looks at a bar."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from passband.cli import shell


@pytest.fixture
def clock(monkeypatch):
    at = SimpleNamespace(now=0.0)
    monkeypatch.setattr(shell.time, "monotonic", lambda: at.now)
    return at


def said(clock, capsys, steps):
    with shell.progress_or_log("study") as progress:
        for seconds, now, done, total in steps:
            clock.now = seconds
            progress(now, done, total)
    return capsys.readouterr().err.splitlines()


def test_a_line_a_minute_says_what_is_done_and_what_is_left(clock, capsys):
    steps = [(10 * i, "", i, 30) for i in range(20)]
    lines = said(clock, capsys, steps)
    assert lines == ["study: 6 of 30, about 4 min left", "study: 12 of 30, about 3 min left",
                     "study: 18 of 30, about 2 min left"]  # fmt: skip


def test_one_large_thing_tells_how_far_it_is(clock, capsys):
    """Nothing is done yet, so nothing can be said of what is left."""
    lines = said(clock, capsys, [(20 * i, f"a.tif, tile {i + 1} of 9", 0, 2) for i in range(9)])
    assert lines == ["study, a.tif, tile 4 of 9: 0 of 2", "study, a.tif, tile 7 of 9: 0 of 2"]


def test_what_comes_next_is_counted_anew(clock, capsys):
    """Scenes first, at a second each, then networks, at a minute each."""
    scenes = [(i, f"scene {i}", i, 70) for i in range(70)]
    networks = [(70 + 60 * i, "1 failed" if i > 1 else "", i, 40) for i in range(4)]
    lines = said(clock, capsys, scenes + networks)
    assert lines[0] == "study, scene 60: 60 of 70, about 0 min left"
    assert lines[1] == "study: 1 of 40, about 39 min left"
    assert lines[2] == "study, 1 failed: 2 of 40, about 38 min left"
