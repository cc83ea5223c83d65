"""Studies on datasets that were simulated before: what is asked of them, what none may be tested on."""

from __future__ import annotations

from pathlib import Path

import pytest

from passband.engines.settings import EngineSettings
from passband.errors import ParameterError
from passband.generalise.run import RunOptions, run_study
from passband.generalise.study_file import read_study
from passband.generalise.telling import study_in_words
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import SimulationStudy, Splits
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges

pytestmark = pytest.mark.training

TEXT = """
[study]
network = "tiny"
steps = 2
crop = 32
[train]
dataset = {train}
[test]
dataset = {test}
defocus_nm = [-10, 10]
"""


def simulated(folder: Path, *, seed: int, scenes: int = 4, energy: float = 300e3, test: float = 0.25) -> Path:
    ranges = SpecimenRanges(
        materials=("Au",), diameters=(10, 14), count=(1, 1), cell=(32, 32), thickness=(0, 0)
    )
    study = SimulationStudy(
        scenes=scenes,
        seed=seed,
        splits=Splits(train=1 - test, validation=0.0, test=test),
        specimen=ranges,
        wave=WaveSettings(energy=energy, pixel_size=0.4),
        imaging=ConditionRanges(energy=energy, pixel_size=0.4),
    )
    simulate_dataset(study, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    place = tmp_path_factory.mktemp("datasets")
    simulated(place / "one", seed=1)
    simulated(place / "two", seed=2)
    simulated(place / "longer", seed=1, scenes=8, test=0.75)
    simulated(place / "untested", seed=3, test=0.0)
    simulated(place / "slower", seed=4, energy=80e3)
    return place


def written(place: Path, train: str, test: str, more: str = "") -> Path:
    path = place / "study.toml"
    path.write_text(TEXT.format(train=train, test=test) + more)
    return path


def run(study, folder):
    return run_study(study, folder, RunOptions(engine=EngineSettings(engine="inline", workers=1)))


def test_networks_learn_and_are_tested_on_datasets_named_beside_the_study(datasets, tmp_path):
    study = read_study(written(datasets, '["one", "two"]', '"one"'))
    assert (study.run_count, study.training.pixel_size, study.training.energy_kev) == (2, 0.4, 300)
    status = run(study, tmp_path / "study")
    assert (status.done, status.failed, status.rows) == (2, 0, 4)
    assert not (tmp_path / "study" / "data").exists()
    names = {p.columns("train")["train_dataset"].split("@")[0] for p in study.train.points()}
    assert names == {"one", "two"}
    assert "train_materials" not in next(study.train.points()).columns("train")


def test_a_network_that_knows_the_test_specimens_fails_and_the_others_go_on(datasets, tmp_path):
    status = run(read_study(written(datasets, '["one", "two"]', '"longer"')), tmp_path / "study")
    assert (status.done, status.failed, status.rows) == (1, 1, 2)
    ((_, error),) = status.errors
    assert "to test on, of longer@" in error and "would be trained on, in one@" in error


@pytest.mark.parametrize(
    ("train", "test", "more", "said"),
    [
        ('"none"', '"one"', "", "train.dataset: "),
        ('"one"', '"untested"', "", "test.dataset: untested has no scenes to test on"),
        ('["one", "slower"]', '"one"', "", "has energy_kev 80, and the study 300"),
        ('"one"', '"one"', "[fixed]\nenergy_kev = 200", "has energy_kev 300, and the study 200"),
        ('"one"', '"one"', "[fixed]\npixel_size = 0.2", "has pixel_size 0.4, and the study 0.2"),
        ('"one"', '"one"\nmaterials = "Au"', "", "test.materials is what the dataset says itself"),
        ('"one"', '["one", "one"]', "", "test.dataset holds one@"),
        ('"one"', "[]", "", "test.dataset is empty"),
        ('"one"\njitter_nm = -1', '"one"', "", "train.jitter_nm must be 0 to 1000 nm"),
    ],
)
def test_what_a_dataset_lacks_is_told(datasets, train, test, more, said):
    with pytest.raises(ParameterError) as raised:
        read_study(written(datasets, train, test, more))
    assert said in str(raised.value), raised.value


def test_a_crop_is_compared_with_the_scenes_that_are_cut(datasets):
    path = written(datasets, '"one"', '"one"')
    path.write_text(path.read_text().replace("crop = 32", "crop = 96"))
    with pytest.raises(ParameterError, match="crop of 96 pixels is larger than the scenes of dataset one@"):
        read_study(path)
    path.write_text(path.read_text().replace("crop = 96", "crop = 64") + "[structures]\nfield_nm = 0.6\n")
    assert "scenes of" not in study_in_words(read_study(path))  # no scene is simulated


def test_another_dataset_in_the_same_place_fails_what_it_would_have_trained(datasets, tmp_path):
    place = tmp_path / "place"
    simulated(place / "one", seed=1)
    study = read_study(written(place, '"one"', '"one"'))
    (place / "one").rename(place / "old")
    simulated(place / "one", seed=5)
    status = run(study, tmp_path / "study")
    assert status.failed == 1 and "another dataset than when the study was made" in status.errors[0][1]
