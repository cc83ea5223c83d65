"""A dataset that takes a second to make, for the tests of what is done with one."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest

from made_once import made_once
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study_file import read_study

STUDY = """
scenes = {scenes}
images_per_scene = 2
seed = 7
[splits]
train = 0.5
validation = {validation}
test = {test}
[specimen]
materials = ["Au"]
diameters = [8, 10]
count = [1, 1]
fault_count = [0, 0]
cell = [25.6, 19.2]
thickness = [4, 8]
[wave]
pixel_size = 0.4
[imaging]
defocus = {{low = 20, high = 100}}
dose = 1000
"""


def write_study(folder: Path, *, scenes: int) -> Path:
    """The study's file in a folder."""
    path = folder / f"tiny{scenes}.toml"
    validation, test = (0.25, 0.25) if scenes >= 4 else (0, 0.5)
    path.write_text(STUDY.format(scenes=scenes, validation=validation, test=test))
    return path


@cache
def made_dataset(scenes: int = 32) -> Path:
    """A finished dataset of tiny scenes, two in a shard where there are 32; not to be changed."""
    return made_once(f"set{scenes}", lambda folder: _simulate(folder, scenes))


@cache
def made_pairs() -> Path:
    """One of eight scenes, two in a shard as where there are 32; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        in_pairs(patch)
        return made_once("pairs8", lambda folder: _simulate(folder, 8))


def in_pairs(patch: pytest.MonkeyPatch) -> None:
    """Let datasets that are begun now have two scenes in a shard."""
    patch.setattr("passband.hrtem.dataset.writing.scenes_per_shard", lambda scenes: 2)


def _simulate(folder: Path, scenes: int) -> None:
    study = write_study(folder.parent, scenes=scenes)
    simulate_dataset(read_study(study), folder, workers=1, study_text=study.read_text())


def tree(folder: Path) -> dict[str, str]:
    """Checksum of every file of a dataset, by its place in the folder."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
