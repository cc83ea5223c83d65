"""Laws of studies with crystals from CIF files, fields within their cells, and particles that overlap."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest

from made_dataset import tree
from passband.errors import DatasetError, ParameterError
from passband.hrtem.dataset.check import check_dataset
from passband.hrtem.dataset.contact_sheet import write_contact_sheet
from passband.hrtem.dataset.dataset import open_dataset
from passband.hrtem.dataset.export import export_dataset, truth_of_labels, truth_of_scene
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study_file import read_study, study_from_values
from passband.hrtem.dataset.summary import summarise_dataset, summary_in_words
from passband.hrtem.wave.scattering import WaveSettings

STUDY = """
scenes = 6
images_per_scene = 2
seed = 3
[splits]
train = 0.5
validation = 0
test = 0.5
[specimen]
materials = ["Pt", "Au"]
crystals = {Pt = "cells/Pt.cif"}
mixed_share = 1.0
diameters = [12, 16]
count = [3, 4]
least_distance = [-6, 0]
touching_share = 1.0
grown_share = 0.0
cell = [48, 40]
field = [32, 24]
thickness = [4, 8]
substrates = ["carbon", "graphene", "none"]
rounding = [0, 1]
[wave]
pixel_size = 0.4
[imaging]
defocus = {low = 20, high = 100}
dose = 1000
"""


def written(folder: Path, text: str = STUDY, a: float = 3.92) -> Path:
    (folder / "cells").mkdir(exist_ok=True)
    ase.io.write(folder / "cells/Pt.cif", ase.build.bulk("Pt", a=a, cubic=True))
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a study, its CIF, and the dataset that follows from them; not to be changed."""
    folder = tmp_path_factory.mktemp("fields")
    path = written(folder)
    simulate_dataset(read_study(path), folder / "set", workers=1, study_text=path.read_text())
    return folder


def test_a_crystal_is_read_from_beside_the_study_and_kept_in_it(made):
    study = read_study(made / "mine.toml")
    (platinum,) = study.specimen.crystals
    assert platinum.name == "Pt" and platinum.lengths == pytest.approx((3.92,) * 3)
    assert study_from_values(json.loads(json.dumps(study.values())), source="values") == study
    dataset = open_dataset(made / "set")
    assert dataset.study == study
    used = {m.name: m for i in range(6) for m in dataset.record(i).specimen.materials}
    assert used["Pt"] == platinum
    assert {p.material for i in range(6) for p in dataset.record(i).specimen.particles} == {"Pt", "Au"}


def test_waves_are_sampled_as_finely_as_a_crystal_from_a_file_needs(made):
    study = read_study(made / "mine.toml")
    alone = replace(study.specimen, materials=("Pt",), cell=(48.0, 48.0), field=None)
    chosen = replace(study, specimen=alone, wave=WaveSettings())
    assert chosen.wave.pixel_size == 0.12 and chosen.sampling_fault is None
    assert "too coarse for Pt" in replace(study, specimen=alone).sampling_fault


def test_a_dataset_needs_no_cif_to_be_checked_or_gone_on_with(made, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(made / "set", folder)
    assert check_dataset(folder).passed
    wanted = tree(folder)
    (folder / "records/shard_00004.json").unlink()
    done = simulate_dataset(
        read_study(folder / "study.toml"), folder, workers=1, study_text=(folder / "study.toml").read_text()
    )
    assert (done.made, done.kept) == (1, 5)
    assert tree(folder) == wanted


def test_a_changed_cif_is_noticed(made, tmp_path):
    shutil.copytree(made / "set", tmp_path / "set")
    path = written(tmp_path, a=3.95)
    with pytest.raises(DatasetError, match=r"another study(.|\n)*specimen.crystals.Pt.lengths: \[3.92"):
        simulate_dataset(read_study(path), tmp_path / "set", workers=1)


@pytest.mark.parametrize(
    ("crystals", "words"),
    [
        ('{Pt = "cells/Pd.cif"}', r"specimen.crystals.Pt: .*cells/Pd.cif: cannot be read"),
        ('{Pt = "mine.toml"}', r"specimen.crystals.Pt: .*atoms are read from .xyz, .extxyz and .cif"),
        ("{Pt = 3}", r"specimen.crystals must be a table of names and CIF files.*no material 'Pt'"),
        (
            '{Pt = "cells/Pt.cif", W = "cells/Pt.cif"}',
            r"crystal 'W' is not among the materials Pt, Au; name it",
        ),
    ],
)
def test_what_is_wrong_with_a_cif_is_told_with_all_else(crystals, words, tmp_path):
    text = STUDY.replace('{Pt = "cells/Pt.cif"}', crystals).replace("dose = 1000", "dose = -1")
    with pytest.raises(ParameterError, match=rf"(?s){words}") as told:
        read_study(written(tmp_path, text))
    assert "dose" in str(told.value)


def test_a_field_is_the_middle_of_its_cell_for_images_labels_and_truth(made):
    dataset = open_dataset(made / "set")
    for number in range(6):
        scene = dataset.scene(number)
        assert scene.labels.shape == (60, 80) and scene.images().shape == (2, 60, 80)
        assert np.array_equal(scene.image(1), scene.images()[1].numpy())
        assert scene.draw_images(1, seed=1)[0].shape == (1, 60, 80)
        whole = dataset._read("labels", number)
        assert whole.shape == (100, 120)
        assert np.array_equal(scene.labels, whole[20:80, 20:100])
    seen = [sorted(set(np.unique(dataset.labels(i))) - {0}) for i in range(6)]
    assert any(len(s) < len(dataset.record(i).specimen.particles) for i, s in enumerate(seen))


def test_a_particle_that_leaves_a_field_does_not_come_back_on_the_other_side(made):
    """In a field smaller than its cell by more than a particle, no particle touches opposite borders."""
    dataset = open_dataset(made / "set")
    cut = 0
    for number in range(6):
        labels = dataset.labels(number)
        for i in np.unique(labels[labels > 0]):
            rows, columns = np.nonzero(labels == i)
            assert not (rows.min() == 0 and rows.max() == 59)
            assert not (columns.min() == 0 and columns.max() == 79)
            cut += rows.min() == 0 or rows.max() == 59 or columns.min() == 0 or columns.max() == 79
    assert cut > 3


def test_coco_keeps_each_of_particles_that_overlap(made, tmp_path):
    dataset = open_dataset(made / "set")
    export_dataset(dataset, tmp_path / "out")
    hidden = 0
    for split in ("train", "test"):
        path = tmp_path / "out" / split / "truth.coco.json"
        content = json.loads(path.read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        for number in dataset.split(split):
            scene = dataset.scene(number)
            truth, particles = truth_of_scene(scene)
            file = f"scene_{number:04d}_00.tif"
            found = [a for a in content["annotations"] if names[a["image_id"]] == file]
            assert [a["area"] for a in found] == [int(m.pixels.sum()) for m in truth.masks]
            kinds = {c["id"]: c["material"] for c in content["categories"]}
            assert [kinds[a["category_id"]] for a in found] == [
                scene.specimen.particles[i - 1].material for i in particles
            ]
            shown = truth_of_labels(scene.labels)
            hidden += sum(int(m.pixels.sum()) for m in truth.masks) - sum(
                int(m.pixels.sum()) for m in shown.masks
            )
    assert hidden > 100


def test_what_there_is_is_told(made, tmp_path):
    dataset = open_dataset(made / "set")
    summary = summarise_dataset(dataset)
    assert summary.field == (24.0, 32.0)
    assert sum(summary.substrates.values()) == 6 and summary.overlapping == 6
    words = summary_in_words(summary)
    assert "films:" in words and "outlines may overlap in 6 scenes" in words
    assert write_contact_sheet(dataset, tmp_path).exists()


def test_a_field_that_pixels_do_not_divide_is_refused(tmp_path):
    with pytest.raises(ParameterError, match=r"specimen.field must be a whole number.*take \[32, 24\]"):
        read_study(written(tmp_path, STUDY.replace("field = [32, 24]", "field = [32.1, 24]")))
