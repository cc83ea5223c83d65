from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from made_dataset import in_pairs, made_dataset, made_pairs, tree, write_study
from passband.errors import DatasetError, ParameterError
from passband.hrtem.dataset import writing as dataset_writing
from passband.hrtem.dataset.check import check_dataset
from passband.hrtem.dataset.dataset import Dataset, open_dataset
from passband.hrtem.dataset.simulate import simulate_dataset, simulate_scene
from passband.hrtem.dataset.store import (
    DatasetStore,
    as_of,
    read_manifest,
    scene_id,
    shard_faults,
)
from passband.hrtem.dataset.study_file import read_study
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges, Uniform
from passband.store.sealed import sealed


@pytest.fixture
def whole() -> Dataset:
    return open_dataset(made_dataset())


@pytest.fixture
def pairs() -> Dataset:
    """Of few scenes."""
    return open_dataset(made_pairs())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(made_pairs(), tmp_path / "set"))


def rewrite_manifest(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    content = {k: v for k, v in (content | changes).items() if k != "sha256"}
    (folder / "manifest.json").write_text(sealed(content))


def test_what_is_read_is_what_was_simulated(whole) -> None:
    for number in (0, 13, 31):
        made, scene = simulate_scene(whole.study, number), whole.scene(number)
        assert torch.equal(scene.wave.spectrum, made.wave.spectrum)
        assert (scene.wave.band, scene.wave.energy) == (made.wave.band, made.wave.energy)
        np.testing.assert_array_equal(scene.labels, made.labels)
        assert scene.specimen == made.specimen
        assert scene.labels.shape == tuple(scene.images().shape[1:]) == (48, 64)


def test_images_are_those_of_wave_conditions_and_seed_and_the_same_at_every_call(whole) -> None:
    scene = whole.scene(5)
    images = scene.images()
    assert images.dtype == torch.float32
    assert torch.equal(images, open_dataset(made_dataset()).scene(5).images())
    assert torch.equal(images, simulate_micrographs(scene.wave, scene.conditions, seed=scene.noise_seed))
    np.testing.assert_array_equal(scene.image(1), images[1].numpy())
    assert not torch.equal(images[0], images[1])
    defocus = [c.defocus for i in range(32) for c in whole.scene(i).conditions]
    assert len(set(defocus)) == 64
    assert min(defocus) >= 20
    assert max(defocus) <= 100


def test_training_draws_other_images_from_the_same_wave(whole) -> None:
    scene = whole.scene(2)
    ranges = ConditionRanges(C10=Uniform(low=-500.0, high=-400.0), pixel_size=0.4)
    images, conditions = scene.draw_images(3, seed=1, ranges=ranges)
    again, _ = scene.draw_images(3, seed=1, ranges=ranges)
    other, _ = scene.draw_images(3, seed=2, ranges=ranges)
    assert images.shape == (3, 48, 64)
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    assert all(400 <= c.defocus <= 500 for c in conditions)
    own = scene.draw_images(20, seed=3)[1]
    assert all(20 <= c.defocus <= 100 and c.dose == 1000 for c in own)
    assert not {c.C10 for c in own} & {c.C10 for c in scene.conditions}


def test_a_scene_is_in_one_split_with_all_its_images(whole) -> None:
    parts = [whole.split(name) for name in ("train", "validation", "test")]
    assert [len(p) for p in parts] == [16, 8, 8]
    assert sorted(sum(parts, ())) == list(range(32))
    assert [whole.scene(i).split for i in parts[1]] == ["validation"] * 8
    with pytest.raises(ParameterError, match=r"no split 'dev'"):
        whole.split("dev")


def test_specimens_and_their_carbon_all_differ(whole) -> None:
    records = [whole.record(i) for i in range(32)]
    assert len({r.id for r in records}) == 32
    assert len({r.specimen.substrate_seed for r in records}) == 32
    assert len({r.wave_sha256 for r in records}) == 32


def test_an_id_follows_from_specimen_wave_and_pixels_and_from_nothing_else(whole) -> None:
    study, specimen = whole.study, whole.record(0).specimen
    same = replace(study, scenes=99, seed=3, images_per_scene=9, imaging=replace(study.imaging, dose=5.0))
    assert scene_id(specimen, study) == scene_id(specimen, same) == whole.record(0).id
    others = [
        replace(study, wave=replace(study.wave, slice_thickness=1.0)),
        replace(study, imaging=replace(study.imaging, pixel_size=0.2)),
    ]
    assert len({scene_id(specimen, s) for s in (study, *others)}) == 3


def test_scenes_without_a_particle_are_whole(tmp_path, whole) -> None:
    store = dataset_writing.begin_dataset(tmp_path / "set", whole.study)
    made = simulate_scene(whole.study, 0)
    bare = dataset_writing.SimulatedScene(
        specimen=made.specimen, wave=made.wave, labels=np.zeros_like(made.labels)
    )
    dataset_writing.write_shard(store, 0, [bare, bare])
    assert shard_faults(store, 0) == []
    assert not open_dataset(tmp_path / "set", unfinished=True).labels(1).any()


def test_any_zarr_reader_opens_the_arrays(whole) -> None:
    for name, dtype in (("waves", "complex64"), ("labels", "uint16")):
        array = zarr.open_array(made_dataset() / name, mode="r")
        assert (array.metadata.zarr_format, array.dtype, array.shape[0]) == (3, dtype, 32)
        assert (array.chunks[0], array.shards[0]) == (1, 2)
    assert len(list((made_dataset() / "waves").glob("c/*/0/0"))) == 16


def test_scenes_that_are_not_there(whole) -> None:
    for number in (-1, 32):
        with pytest.raises(ParameterError, match=r"wanted 0 to 31"):
            whole.scene(number)


def test_an_unfinished_dataset_opens_on_request_only(folder) -> None:
    (folder / "records" / "shard_00003.json").unlink()
    with pytest.raises(DatasetError, match=r"6 of 8 scenes.*goes on with it"):
        open_dataset(folder)
    dataset = open_dataset(folder, unfinished=True)
    assert len(dataset.finished()) == 6
    with pytest.raises(DatasetError, match=r"scene 6 is not simulated yet"):
        dataset.scene(6)
    assert dataset.scene(5).number == 5


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "wave cut": (lambda f: cut(f / "waves/c/2/0/0", 1000), "scene 4: its waves .* cut or edited"),
    "wave edited": (lambda f: flip(f / "waves/c/2/0/0", 77), "scene 4: its waves .* checksum differs"),
    "wave gone": (lambda f: (f / "waves/c/2/0/0").unlink(), "scene 4: its waves .* are missing"),
    "labels edited": (lambda f: flip(f / "labels/c/2/0/0", 30), "scene 4: its labels"),
    "labels cut": (lambda f: cut(f / "labels/c/2/0/0", 9), "scene 5: its labels"),
    "record edited": (
        lambda f: edit(f / "records/shard_00002.json", '"depth": -', '"depth": -1'),
        "cut or edited",
    ),
    "record cut": (lambda f: cut(f / "records/shard_00002.json", 500), "not JSON"),
    "record of others": (
        lambda f: shutil.copy(f / "records/shard_00003.json", f / "records/shard_00002.json"),
        "is of other scenes, wanted 4 to 5",
    ),
    "array description edited": (
        lambda f: edit(f / "waves/zarr.json", "8", "7"),
        "waves/zarr.json was cut or edited",
    ),
    "array description cut": (
        lambda f: cut(f / "labels/zarr.json", 100),
        "labels/zarr.json was cut or edited",
    ),
    "array description gone": (lambda f: (f / "labels/zarr.json").unlink(), "labels/zarr.json is missing"),
}


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_named_and_healed(folder, name: str) -> None:
    damage, words = DAMAGE[name]
    assert check_dataset(folder).passed
    damage(folder)
    found = check_dataset(folder)
    assert not found.passed
    with pytest.raises(AssertionError, match=words):
        raise AssertionError("\n".join(found.faults))
    with pytest.raises(DatasetError):
        for _ in open_dataset(folder).scenes(range(4, 6)):
            pass
    healed = simulate_dataset(read_manifest(folder).study, folder, workers=1)
    assert healed.kept + healed.made == 8
    assert healed.made == (0 if "description" in name else 2)  # the records hold what zarr.json must be
    assert tree(folder) == tree(made_pairs())


def test_what_a_killed_run_leaves_is_no_damage_and_is_cleared_away(folder) -> None:
    partial = "waves/c/1/0/0.0123456789abcdef0123456789abcdef.partial"
    for name in (partial, ".manifest.json.x1_abcde", "records/.shard_00001.json.yz012345"):
        (folder / name).write_bytes(b"half")
    found = check_dataset(folder)
    assert found.passed
    assert "3 half-written files" in found.notes[0]
    simulate_dataset(read_manifest(folder).study, folder, workers=1)
    assert tree(folder) == tree(made_pairs())


def test_an_edited_manifest_or_study_is_found(folder) -> None:
    edit(folder / "study.toml", "dose = 1000", "dose = 2000")
    assert "imaging.dose: 1000, 2000" in "".join(check_dataset(folder).faults)
    (folder / "study.toml").unlink()
    assert check_dataset(folder).passed
    rewrite_manifest(folder, splits={"train": list(range(8)), "validation": [3], "test": []})
    assert "not every scene is in exactly one" in "".join(check_dataset(folder).faults)
    edit(folder / "manifest.json", '"scenes": 8', '"scenes": 7')
    with pytest.raises(DatasetError, match=r"cut or edited"):
        open_dataset(folder)


def test_one_specimen_twice_is_found(folder) -> None:
    store = read_manifest(folder)
    scene = simulate_scene(store.study, 0)
    dataset_writing.write_shard(store, 3, [scene, scene])
    assert any("are of one specimen" in f for f in check_dataset(folder).faults)


def test_what_is_no_dataset(folder, tmp_path) -> None:
    (tmp_path / "void").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.tif").write_text("x")
    cases = {
        tmp_path / "nowhere": "does not exist",
        tmp_path / "void": "is empty",
        tmp_path / "text.txt": "is a file",
        tmp_path / "other": r"holds no manifest.json \(there is a.tif\)",
        folder / "waves": "did you mean .*set",
        tmp_path: "did you mean .*set",
    }
    for path, words in cases.items():
        with pytest.raises(DatasetError, match=words):
            open_dataset(path)
    (tmp_path / "other" / "manifest.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"is not that of a dataset"):
        open_dataset(tmp_path / "other")
    (tmp_path / "other" / "manifest.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"holds no table"):
        open_dataset(tmp_path / "other")


def test_a_newer_format_says_to_update(folder) -> None:
    rewrite_manifest(folder, version=4, made_by="9.9")
    with pytest.raises(DatasetError, match=r"format 4, made by Passband 9.9.*update Passband"):
        open_dataset(folder)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """A dataset on the carbon of the first version, two scenes in a shard, and its study beside it."""
    folder = tmp_path_factory.mktemp("packed")
    path = write_study(folder, scenes=8)
    text = path.read_text().replace(
        "[specimen]", '[specimen]\nsubstrates = ["packed carbon"]\ndensity = 0.11'
    )
    (folder / "packed.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        in_pairs(patch)
        simulate_dataset(read_study(folder / "packed.toml"), folder / "set", workers=1)
    return folder


def as_before(folder: Path, version: int, text: str) -> None:
    """Take from a dataset what an earlier format had not."""
    content = json.loads((folder / "manifest.json").read_text())
    names = [f.name for f in fields(SpecimenRanges)]
    known = names[: names.index("margin") + 1]
    content["study"]["specimen"] = {name: content["study"]["specimen"][name] for name in known}
    lacking = ("study_text", "sha256") if version == 1 else ("sha256",)
    first = {k: v for k, v in content.items() if k not in lacking}
    if version > 1:
        first["study_text"] = text
    (folder / "manifest.json").write_text(sealed({**first, "version": version}))
    (folder / "study.toml").write_text(text)
    for path in (folder / "records").iterdir() if version == 1 else ():
        path.write_text(sealed({"scenes": json.loads(path.read_text())["scenes"]}))


@pytest.mark.parametrize("version", [1, 2])
def test_a_dataset_of_an_earlier_format_opens_and_is_finished_in_it(packed, version, tmp_path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(packed / "set", folder)
    whole = open_dataset(packed / "set")
    as_before(folder, version, (packed / "tiny8.toml").read_text())
    wanted = tree(folder)
    found = check_dataset(folder)
    assert found.passed
    lacks = "zarr.json of waves and labels, and comments in study.toml, stand under no checksum"
    assert any(lacks in note for note in found.notes) == (version == 1)
    assert open_dataset(folder).record(5).specimen.substrate == "packed carbon"
    assert torch.equal(open_dataset(folder).wave(5).spectrum, whole.wave(5).spectrum)
    flip(folder / "waves/c/2/0/0", 77)
    assert "scene 4: its waves" in check_dataset(folder).faults[0]
    for path in ("records/shard_00003.json", "labels/zarr.json"):
        (folder / path).unlink()
    made = simulate_dataset(read_study(packed / "tiny8.toml"), folder, workers=1).made
    assert made == (6 if version == 1 else 4)
    assert tree(folder) == wanted


def test_what_a_study_leaves_out_is_as_the_format_of_its_dataset_chose_it(packed) -> None:
    begun = read_manifest(packed / "set")
    one_for_all = WaveSettings(pixel_size=0.2, slice_thickness=2.0)
    before = replace(begun, version=2, study=replace(begun.study, wave=one_for_all))
    carbon = replace(begun.study.specimen, substrates=SpecimenRanges().substrates, density=None)
    plain = replace(begun.study, wave=WaveSettings(), specimen=carbon)
    assert plain.wave.pixel_size < 0.2
    assert as_of(before, plain) == before.study
    assert as_of(replace(before, version=3), plain) == plain
    finer = WaveSettings(pixel_size=0.1, slice_thickness=1.0)
    assert as_of(before, replace(plain, wave=finer)).wave == finer


def test_versions_are_not_mixed_in_one_dataset(folder) -> None:
    rewrite_manifest(folder, made_by="0.0.9")
    study = read_manifest(folder).study
    assert simulate_dataset(study, folder, workers=1).kept == 8
    (folder / "records" / "shard_00003.json").unlink()
    with pytest.raises(DatasetError, match=r"begun by Passband 0.0.9, .* go on with that version"):
        simulate_dataset(study, folder, workers=1)
    assert open_dataset(folder, unfinished=True).scene(0).number == 0


def test_another_study_or_a_folder_in_use_is_refused_and_nothing_changes(folder, tmp_path) -> None:
    before = tree(folder)
    other = read_study(write_study(tmp_path, scenes=30))
    with pytest.raises(DatasetError, match=r"another study(.|\n)*scenes: 8, 30"):
        simulate_dataset(other, folder, workers=1)
    with (
        dataset_writing.dataset_writer(read_manifest(folder)),
        pytest.raises(DatasetError, match=r"another run is writing"),
    ):
        simulate_dataset(read_manifest(folder).study, folder, workers=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("")
    with pytest.raises(DatasetError, match=r"not empty .*thesis.doc"):
        simulate_dataset(other, tmp_path / "mine", workers=1)
    with pytest.raises(DatasetError, match=r"is a file"):
        simulate_dataset(other, tmp_path / "mine" / "thesis.doc", workers=1)
    assert tree(folder) == before
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.doc"]


def test_scenes_of_unlike_shape_are_refused(tmp_path, whole) -> None:
    store: DatasetStore = dataset_writing.begin_dataset(tmp_path / "set", whole.study)
    one = simulate_scene(whole.study, 0)
    smaller = dataset_writing.SimulatedScene(
        specimen=one.specimen, wave=one.wave, labels=one.labels[:-1].copy()
    )
    with pytest.raises(DatasetError, match=r"must all be of one shape"):
        dataset_writing.write_shard(store, 0, [one, smaller])
    dataset_writing.write_shard(store, 0, [one, one])
    with pytest.raises(DatasetError, match=r"must be alike"):
        dataset_writing.write_shard(store, 1, [smaller, smaller])
