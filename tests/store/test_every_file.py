"""Every file of a store stands under its checksum: whatever is done to one, a check tells."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from made_dataset import made_dataset, tree
from made_library import make_library
from passband.errors import DatasetError
from passband.hrtem.dataset.check import check_dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.store import read_manifest
from passband.particles.library import store as library_store
from passband.particles.library.check import check_library


def told_of_dataset(folder: Path) -> str:
    """All that a check says of a dataset, or nothing."""
    try:
        found = check_dataset(folder)
    except DatasetError as e:
        return str(e)
    return "; ".join((*found.faults, *found.notes, *map(str, found.unfinished)))


def told_of_library(folder: Path) -> str:
    """All that a check says of a library, or nothing."""
    try:
        found = check_library(folder)
    except DatasetError as e:
        return str(e)
    return "; ".join((*found.faults, *found.notes))


def files_of(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def flipped(place: float) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return flip


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{f"byte at {place} flipped": flipped(place) for place in (0, 0.37, 0.82, 1)},
    "cut": lambda content: content[: len(content) // 2],
    "last byte lost": lambda content: content[:-1],
    "byte added": lambda content: content + b"\n",
    "byte set before": lambda content: b" " + content,
    # What a decoder passes over: between chunk and index of a shard, and a bit that zstd does not use.
    "byte set in where none is read": lambda content: content[:-20] + b" " + content[-20:],
    "unused bit flipped": lambda content: content[:4] + bytes([content[4] ^ 16]) + content[5:],
    "emptied": lambda content: b"",
}


def edits_of_json(content: bytes) -> Iterator[bytes]:
    """The same JSON with another value, once for each of some fifty values, and with other white space."""
    values = json.loads(content)

    def walk(node: Any) -> Iterator[None]:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            old = node[key]
            if isinstance(old, (dict, list)) and old:
                yield from walk(old)
                continue
            other = old + 1 if isinstance(old, int) else old * 1.5 if isinstance(old, float) else f"{old}x"
            node[key] = other
            yield
            node[key] = old
        if isinstance(node, dict):
            node["added"] = 1
            yield
            del node["added"]

    stride = max(1, sum(1 for _ in walk(values)) // 50)
    for i, _ in enumerate(walk(values)):
        if i % stride == 0:
            yield json.dumps(values, indent=1).encode()
    yield json.dumps(values).encode()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that is damaged and mended by turns."""
    folder = tmp_path_factory.mktemp("every")
    return Path(shutil.copytree(made_dataset(2), folder / "set"))


DATASET_FILES = [
    "manifest.json",
    "study.toml",
    *(f"records/shard_{i:05d}.json" for i in range(2)),
    *(
        f"{name}/{file}"
        for name in ("waves", "labels")
        for file in ("zarr.json", *(f"c/{i}/0/0" for i in range(2)))
    ),
]


def test_these_are_all_files_of_a_dataset(dataset) -> None:
    assert files_of(dataset) == sorted(DATASET_FILES)
    assert told_of_dataset(dataset) == ""


@pytest.mark.parametrize("name", DATASET_FILES)
def test_no_damage_to_a_file_of_a_dataset_passes(dataset, name: str) -> None:
    path = dataset / name
    whole = path.read_bytes()
    for how, damage in DAMAGES.items():
        path.write_bytes(damage(whole))
        assert told_of_dataset(dataset), how
    path.unlink()
    assert told_of_dataset(dataset)
    path.write_bytes(whole)
    assert told_of_dataset(dataset) == ""


@pytest.mark.parametrize(
    "name", ["manifest.json", "records/shard_00001.json", "waves/zarr.json", "labels/zarr.json"]
)
def test_no_edit_of_json_in_a_dataset_passes(dataset, name: str) -> None:
    path = dataset / name
    whole = path.read_bytes()
    for edited in edits_of_json(whole):
        path.write_bytes(edited)
        assert told_of_dataset(dataset), edited
    path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["records/shard_0000{}.json", "waves/c/{}/0/0", "labels/c/{}/0/0"])
def test_no_two_shards_of_a_dataset_change_places_unseen(dataset, kind: str) -> None:
    for pair in combinations(range(2), 2):
        one, other = (dataset / kind.format(i) for i in pair)
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1]), other.write_bytes(contents[0])
        assert told_of_dataset(dataset), pair
        one.write_bytes(contents[0]), other.write_bytes(contents[1])


@pytest.mark.parametrize("name", DATASET_FILES[1:])
def test_a_damaged_dataset_is_mended_to_the_byte(dataset, name: str) -> None:
    path = dataset / name
    path.write_bytes(b"# " + path.read_bytes())
    outcome = simulate_dataset(read_manifest(dataset).study, dataset, workers=1)
    assert outcome.made == (0 if name.endswith(("zarr.json", "toml")) else 1)
    assert tree(dataset) == tree(made_dataset(2))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two micrographs of 16 particles in files of 10, labelled; damaged and mended by turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_store, "CHUNK", 10)
        return make_library(tmp_path_factory.mktemp("every"))


LIBRARY_FILES = [
    "library.json",
    "labels.json",
    "particles.csv",
    *(f"micrographs/00000{i}.json" for i in range(2)),
    *(
        f"{name}/{file}"
        for name in ("crops", "masks")
        for file in ("zarr.json", *(f"c/{i}/0/0" for i in range(4)))
    ),
]


def test_these_are_all_files_of_a_library(library) -> None:
    assert files_of(library) == sorted(LIBRARY_FILES)
    assert told_of_library(library) == ""


@pytest.mark.parametrize("name", LIBRARY_FILES)
def test_no_damage_to_a_file_of_a_library_passes(library, name: str) -> None:
    path = library / name
    whole = path.read_bytes()
    for how, damage in DAMAGES.items():
        path.write_bytes(damage(whole))
        assert told_of_library(library), how
    path.unlink()
    assert told_of_library(library)
    path.write_bytes(whole)
    assert told_of_library(library) == ""


@pytest.mark.parametrize(
    "name",
    ["library.json", "labels.json", "micrographs/000001.json", "crops/zarr.json", "masks/zarr.json"],
)
def test_no_edit_of_json_in_a_library_passes(library, name: str) -> None:
    path = library / name
    whole = path.read_bytes()
    for edited in edits_of_json(whole):
        path.write_bytes(edited)
        assert told_of_library(library), edited
    path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["micrographs/00000{}.json", "crops/c/{}/0/0", "masks/c/{}/0/0"])
def test_no_two_files_of_a_library_change_places_unseen(library, kind: str) -> None:
    numbers = range(len(list(library.glob(kind.format("*")))))
    assert len(numbers) >= 2
    for pair in combinations(numbers, 2):
        one, other = (library / kind.format(i) for i in pair)
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1]), other.write_bytes(contents[0])
        assert told_of_library(library), pair
        one.write_bytes(contents[0]), other.write_bytes(contents[1])


def test_json_that_no_parser_finishes_is_told(library) -> None:
    path = library / "labels.json"
    whole = path.read_bytes()
    for depth in (400, 100_000):
        path.write_bytes(b'{"labels":' * depth + b"1" + b"}" * depth)
        assert re.search(r"labels\.json was cut or edited", told_of_library(library))
    path.write_bytes(whole)
