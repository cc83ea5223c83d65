"""Studies: what a file may say, every fault in words, and what a run's name follows from."""

from __future__ import annotations

import itertools
import pickle
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.errors import ParameterError
from passband.generalise.conditions import Axes
from passband.generalise.study import Study, StudyFaultsError, study_from_values
from passband.generalise.study_file import read_study, study_from_tables
from passband.generalise.work import data_folder
from passband.hrtem.dataset.study import StudyError

EXAMPLE = """
[study]
name = "x"
network = "tiny"
seeds = 2
steps = 60
crop = 64
[structures]
materials = ["CdSe"]
scenes = 12
[train]
defocus_nm = [-10, 10]
[test]
defocus_nm = [-20, 0, 20]
[fixed]
energy_kev = 300
cs_mm = 0.0
focal_spread = 10
dose = 400
"""


def made(text: str) -> Study:
    return study_from_tables(tomllib.loads(text), source="study.toml")


def names(study: Study) -> list[str]:
    return [run.name for run in study.runs()]


def test_a_file_gives_its_study(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(EXAMPLE)
    study = read_study(path)
    counts = study.run_count, len(study.test_points())
    assert (study.name, study.networks, *counts) == ("x", ("tiny",), 4, 3)
    assert {run.train.dose for run in study.runs()} == {400.0}
    assert study_from_values(study.values()) == study


def test_evidence_is_asked_for_unless_the_file_says_no() -> None:
    assert made(EXAMPLE).evidence
    plain = made(EXAMPLE.replace("[study]", "[study]\nevidence = false"))
    assert not plain.evidence and names(plain) == names(made(EXAMPLE))
    with pytest.raises(ParameterError, match=r"study\.evidence must be true or false"):
        made(EXAMPLE.replace("[study]", "[study]\nevidence = 1"))


def test_an_empty_file_is_a_study_of_one_network() -> None:
    study = made("")
    assert (study.run_count, len(study.test_points()), study.structures.test_scenes) == (1, 1, 3)


def test_a_name_follows_from_what_decides_the_network_alone() -> None:
    wanted = set(names(made(EXAMPLE)))
    assert len(wanted) == 4
    turned = EXAMPLE.replace("[-10, 10]", "[10.0, -10.0]").replace("[-20, 0, 20]", "[5]")
    assert set(names(made(turned))) == wanted
    more = EXAMPLE.replace("[-10, 10]", "[-10, 3, 10]").replace("seeds = 2", "seeds = 3")
    assert set(names(made(more))) > wanted
    other_materials = EXAMPLE.replace('["CdSe"]\n', '["Au", "CdSe"]\n').replace(
        "[train]", '[train]\nmaterials = ["CdSe", "Au"]'
    )
    assert set(names(made(other_materials))) > wanted
    for one, other in (
        ("steps = 60", "steps = 61"),
        ("dose = 400", "dose = 401"),
        ("scenes = 12", "scenes = 13"),
        ("[train]", "[train]\njitter_nm = 1"),
        ('"tiny"', '"small"'),
    ):
        assert not set(names(made(EXAMPLE.replace(one, other)))) & wanted, other


def test_the_random_seed_follows_from_the_name() -> None:
    values = [run.values() for run in made(EXAMPLE).runs()]
    assert [v["seed"] for v in values] == [int(v["name"][:13], 16) for v in values]
    assert len({v["seed"] for v in values}) == 4
    assert max(v["seed"] for v in values) < 2**53


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 500), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
)
def test_runs_are_distinct_and_as_many_as_told(defocus: list[int], dose: list[int], seeds: int) -> None:
    axes = Axes(defocus_nm=tuple(map(float, defocus)), dose=tuple(map(float, dose)))
    study = Study(seeds=seeds, train=axes)
    assert len(set(names(study))) == study.run_count == len(defocus) * len(dose) * seeds
    points = {(p.defocus_nm, p.dose) for p in axes.points()}
    assert points == set(itertools.product(map(float, defocus), map(float, dose)))


def test_materials_are_mixed_or_an_axis() -> None:
    mixed = made('[structures]\nmaterials = ["CdSe", "Au"]')
    assert [p.materials for p in mixed.train.points()] == [("Au", "CdSe")]
    axis = made('[train]\nmaterials = ["CdSe", "Au"]\n[test]\nmaterials = "Ag"')
    assert [p.materials for p in axis.train.points()] == [("Au",), ("CdSe",)]
    assert [p.materials for p in axis.test.points()] == [("Ag",)]
    other = made('[structures]\nmaterials = ["CdSe"]\n[test]\nmaterials = ["Au"]')
    assert [p.materials for p in (*other.train.points(), *other.test.points())] == [("CdSe",), ("Au",)]


def test_diameters_are_one_range_or_an_axis() -> None:
    one = made("[structures]\ndiameter_nm = [2, 3]")
    assert one.train.diameter_nm == one.test.diameter_nm == ((2.0, 3.0),)
    axis = made("[train]\ndiameter_nm = [[4, 5], [2, 3]]\n[test]\ndiameter_nm = 4")
    assert axis.train.diameter_nm == ((2.0, 3.0), (4.0, 5.0)) and axis.test.diameter_nm == ((4.0, 4.0),)
    assert next(axis.train.points()).columns("train")["train_diameter_nm"] == "2-3"


def test_networks_are_an_axis() -> None:
    study = made(EXAMPLE.replace('"tiny"', '["tiny", "small"]'))
    assert study.run_count == 8 and {run.network for run in study.runs()} == {"tiny", "small"}
    assert set(names(study)) > set(names(made(EXAMPLE)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[study]\nseads = 2", "study.seads is not known; did you mean seeds?"),
        ("seeds = 2", "seeds is not known; it belongs in [study]"),
        ("[study]\nseed = 2", "study.seed is not known; did you mean seeds? Or it belongs in [structures]"),
        ("[train]\ndose = [true]\n[fixed]\ndose = 5", "train.dose must be a number, or a list"),
        ("[train]\ndiameter_nm = [1, 2, 3]\n[structures]\ndiameter_nm = [1, 2]", "train.diameter_nm must be"),
        (
            '[structures]\nfield_nm = 2.0\ndiameter_nm = "x"\n[study]\ncrop = 32',
            "structures.diameter_nm must",
        ),
        ("[train]\ndataset = 3", "train.dataset must be the folder of a dataset, or a list of folders"),
        ("[train]\ndataset = []", "train.dataset is empty"),
        (
            "[structures]\nfield_nm = 100\n[fixed]\npixel_size = 0.05",
            "structures.field_nm and fixed.pixel_size: a field of 1000 x 1000 Å",
        ),
        ("[train]\nscenes = 9", "train.scenes is not known; it belongs in [structures]"),
        ("[trian]\ndose = 9", "trian is not known; did you mean train?"),
        ("train = 3", "train must be a table, [train], got 3"),
        ("[study]\nseeds = true", "study.seeds must be a whole number, got True"),
        ("[study]\nseeds = 0", "study.seeds must be 1 to 1,000,000, got 0"),
        (
            '[study]\nnetwork = "huge"',
            "study.network must be tiny, small or published, or a list of them, got 'huge'",
        ),
        ("[study]\ncrop = 50", "study.crop must be a multiple of 16 pixels, at least 32, got 50"),
        ("[study]\ncrop = 512", "study.crop of 512 pixels, 10.24 nm, is larger than structures.field_nm"),
        ("[train]\ndefocus_nm = []", "train.defocus_nm is empty"),
        ("[train]\ndefocus_nm = [1, 1.0]", "train.defocus_nm holds 1 twice"),
        ("[train]\ndefocus_nm = [0.0, -0.0]", "train.defocus_nm holds 0 twice"),
        ("[train]\ndefocus_nm = [inf]", "train.defocus_nm must be a number, or a list of numbers"),
        ("[test]\ndose = [-5, 5]", "test.dose must be 0.001 to 1e9 e/Å², got -5"),
        ("[fixed]\ndose = [5, 6]", "fixed.dose must be one number: an axis, a list, belongs in [train]"),
        (
            "[structures]\nscenes = 3",
            "structures.scenes must be 4 to 100,000, to train and to test on, got 3",
        ),
        ('[structures]\nmaterials = ["CdS"]', "no material 'CdS'; did you mean CdSe?"),
        ('[test]\nmaterials = ["cdse"]', "no material 'cdse'; did you mean CdSe?"),
        ("[structures]\nmaterials = []", "structures.materials must name at least one material"),
        ('[test]\nmaterials = ["Au", "Au"]', "test.materials holds Au twice"),
        ('[study]\nnetwork = ["tiny", "tiny"]', "study.network names one twice"),
        ("[study]\nnetwork = []", "study.network must be tiny, small or published, or a list of them"),
        ("[test]\ndiameter_nm = [[3, 5], [1]]", "test.diameter_nm must be [lowest, highest], or a list"),
        ("[test]\ndiameter_nm = [3, 50]", "test.diameter_nm must be [lowest, highest] of 0.5 or more"),
        ('[test]\ndataset = "nowhere"', "test.dataset: "),
        ("[structures]\ndiameter_nm = [5, 3]", "structures.diameter_nm must be [lowest, highest]"),
        ("[fixed]\ndose = -5", "fixed.dose must be 0.001 to 1e9 e/Å², got -5"),
        ("[train]\ndiameter_nm = [5, 3]", "train.diameter_nm must be [lowest, highest]"),
        ("[structures]\ndiameter_nm = [5, 3, 1]", "structures.diameter_nm must be [lowest, highest], two"),
        (
            "[train]\ndose = 1\n[test]\ndose = 2\n[fixed]\ndose = 3",
            "fixed.dose is said in [train] and in [test] too; leave it out of [fixed]",
        ),
        (
            f"[study]\nseeds = 10_000\n[train]\ndefocus_nm = {list(range(101))}",
            "1,010,000 runs are too many, at most 1,000,000",
        ),
    ],
)
def test_a_fault_is_told_in_words(text: str, said: str) -> None:
    with pytest.raises(ParameterError) as raised:
        made(text)
    assert said in str(raised.value)
    assert str(raised.value).startswith("study.toml: 1 fault in the study:")


def test_faults_keep_their_words_on_the_way_to_another_process() -> None:
    for error in (StudyFaultsError(["abc", "de"]), StudyError(["abc", "de"])):
        other = pickle.loads(pickle.dumps(error))
        assert (str(other), other.faults) == ("abc; de", ["abc", "de"])


def test_ranges_that_differ_by_little_are_told_apart() -> None:
    axes = made("[train]\ndiameter_nm = [[1.00000001, 1.4], [1.00000002, 1.4]]").train
    folders = {data_folder("a", point) for point in axes.points()}
    assert len(folders) == 2 == len({p.columns("train")["train_diameter_nm"] for p in axes.points()})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ParameterError, match="4 faults") as raised:
        made('[study]\nseads = 2\nsteps = "many"\n[train]\ndefocus_nm = []\n[test]\ndose = -1')
    assert all(word in str(raised.value) for word in ("seads", "steps", "train.defocus_nm", "test.dose"))


def test_what_is_no_study_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x = = 1")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    for name, said in (("a.toml", "is not TOML"), ("b.toml", "is no text"), ("c.toml", "cannot be read")):
        with pytest.raises(ParameterError, match=said):
            read_study(tmp_path / name)
