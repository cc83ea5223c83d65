"""The study commands: what they print, their statuses, errors in one line."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import passband.generalise.run
from passband.cli import app

STUDY = """
[study]
name = "focus"
seeds = 2
[train]
defocus_nm = [0, 10]
[test]
defocus_nm = [-20, 0, 20]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study file, and a task that costs nothing in the place of the training."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "generalise")
    work = passband.generalise.run.Work
    fake = partial(work, task="fake_tasks:sometimes", prepare="fake_tasks:prepare")
    monkeypatch.setattr("passband.generalise.run.Work", fake)
    monkeypatch.chdir(tmp_path)
    Path("focus.toml").write_text(STUDY)
    yield tmp_path
    sys.modules.pop("fake_tasks", None)


def call(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done.stdout if not status else done.output


def test_a_study_from_its_file_to_its_table(place: Path) -> None:
    said = call("study", "run", "focus.toml", "--out", "focus", "--engine", "inline")
    assert said.startswith("focus: 4 of 4 networks done\n12 of 12 rows\n")
    found = json.loads(call("study", "status", "focus", "--json"))
    assert {k: found[k] for k in ("runs", "done", "failed", "running", "pending", "rows", "errors")} == {
        "runs": 4, "done": 4, "failed": 0, "running": 0, "pending": 0, "rows": 12, "errors": [],
    }  # fmt: skip
    assert "focus: 4 networks, each tested under 3 conditions" in call("study", "show", "focus")
    assert json.loads(call("study", "show", "focus", "--json"))["train"]["defocus_nm"] == [0.0, 10.0]
    said = call("study", "export", "focus", "--csv", "a.csv", "--parquet", "a.parquet")
    assert said == "12 rows in a.csv\n12 rows in a.parquet\n"
    assert len(Path("a.csv").read_text().splitlines()) == 13


def test_failures_end_with_another_status_and_are_tried_again_when_asked(place: Path) -> None:
    Path("focus.toml").write_text(STUDY.replace("[0, 10]", "[1, 10]"))
    words = ("study", "run", "focus.toml", "--out", "focus", "--engine", "inline")
    said = call(*words, status=2)
    assert "focus: 2 of 4 networks done, 2 failed" in said
    assert "ValueError: no such focus" in said and "--retry-failed" in said
    Path("focus/cured").touch()
    assert json.loads(call(*words, "--retry-failed", "--json"))["done"] == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_there_is_said_in_a_line(place: Path) -> None:
    call("study", "run", "focus.toml", "--out", "focus", "--begin-only")
    for words in (("run", "focus.toml", "--out", "other"), ("worker", "focus", "--shard", "1/1")):
        said = call("study", *words, "--device", "cuda", status=2)
        assert "torch sees no CUDA device on this machine; take cpu" in said
    assert not Path("other").exists()


def test_a_share_is_worked_after_the_folder_is_begun(place: Path) -> None:
    said = call("study", "run", "focus.toml", "--out", "focus", "--begin-only")
    assert said.startswith("focus: 0 of 4 networks done, 4 pending")
    said = call("study", "worker", "focus", "--shard", "1/3", "--until-seconds", "60")
    assert said == "all done: 2 networks of this share done, 0 left\n"
    assert "focus: 2 of 4 networks done, 2 pending" in call("study", "status", "focus")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "no.toml", "--out", "a"), "no.toml cannot be read"),
        (("run", "bad.toml", "--out", "a"), "study.seads is not known; did you mean seeds?"),
        (
            ("run", "focus.toml", "--out", "a", "--engine", "inline", "--scheduler", "tcp://a:1"),
            "a scheduler is Dask's",
        ),
        (("run", "focus.toml", "--out", "a", "--scheduler", "slurm:memory=4GB"), "how many jobs is not said"),
        (("status", "nowhere"), "nowhere does not exist; wanted the folder of a study"),
        (("show", "."), "holds no study.json"),
        (("worker", "nowhere", "--shard", "0/3"), "a shard is i/N with i from 1 to N"),
        (("export", "nowhere"), "nothing to write: give --csv OUT"),
    ],
)
def test_a_mistake_is_told_in_words(place: Path, words: tuple[str, ...], said: str) -> None:
    Path("bad.toml").write_text("[study]\nseads = 2")
    told = call("study", *words, status=2)
    assert told.startswith("passband: ") and said in told


def test_an_edited_study_is_refused(place: Path) -> None:
    call("study", "run", "focus.toml", "--out", "focus", "--engine", "inline")
    Path("focus.toml").write_text(STUDY.replace("20]", "20, 40]"))
    told = call("study", "run", "focus.toml", "--out", "focus", status=2)
    assert "choose a new folder" in told and "test.defocus_nm: [-20.0, 0.0, 20.0], [-20.0, 0.0, 20.0" in told
