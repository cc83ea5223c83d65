from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from passband.errors import ParameterError
from passband.hrtem.dataset.store import PACKED
from passband.hrtem.dataset.study import ADDED, SimulationStudy, Splits, study_differences
from passband.hrtem.dataset.study_file import read_study, study_from_values
from passband.hrtem.specimen.amorphous import DENSITY
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges, Grid, Normal, Uniform

STUDIES = sorted(Path(__file__).parents[3].glob("studies/hrtem_*.toml"))
DIGEST_OF_0_1 = "92dd217a8b55abcc1e6883b4c6ed9b25241134913a536ea35f4cb260495f5b91"
"""Of `SimulationStudy(scenes=8)`, as the version before absorption gave it."""


def study(text: str, folder: Path) -> SimulationStudy:
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(path)


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_the_studies_of_the_repository_can_be_read(path: Path) -> None:
    assert len(STUDIES) >= 4
    assert read_study(path).images_per_scene >= 4


def test_values_and_back_is_the_same_study(tmp_path) -> None:
    made = study(
        "scenes = 20\n[imaging]\nC30 = {values = [0, 1e7]}\ndose = {mean = 400, deviation = 10}\n"
        "aperture = inf\nintegrate_pixels = true\n[specimen]\nmaterials = ['Au', 'Si']",
        tmp_path,
    )
    assert Grid(values=(0.0, 1e7)) == made.imaging.C30
    assert made.imaging.dose == Normal(mean=400.0, deviation=10.0)
    again = study_from_values(made.values(), source="values")
    assert again == made
    assert again.digest() == made.digest()
    assert study_differences(made, again) == []


def test_defocus_is_minus_c10(tmp_path) -> None:
    ranges = {
        "50": -50.0,
        "{low = 50, high = 250}": Uniform(low=-250.0, high=-50.0),
        "{mean = 50, deviation = 5}": Normal(mean=-50.0, deviation=5.0),
        "{values = [-50, 50]}": Grid(values=(50.0, -50.0)),
    }
    for text, wanted in ranges.items():
        assert wanted == study(f"scenes = 10\n[imaging]\ndefocus = {text}", tmp_path).imaging.C10
    assert math.copysign(1, study("scenes = 10\n[imaging]\ndefocus = 0.0", tmp_path).imaging.C10) == 1
    with pytest.raises(ParameterError, match=r"C10 = -defocus"):
        study("scenes = 10\n[imaging]\ndefocus = 5\nC10 = -5", tmp_path)


def test_images_take_energy_and_pixel_size_of_the_wave(tmp_path) -> None:
    made = study("scenes = 10\n[wave]\nenergy = 200e3\npixel_size = 0.1", tmp_path)
    assert (made.imaging.energy, made.imaging.pixel_size) == (200e3, 0.1)
    with pytest.raises(ParameterError, match=r"energy must be that of the wave"):
        study("scenes = 10\n[imaging]\nenergy = 200e3", tmp_path)


def test_every_fault_is_named_at_once(tmp_path) -> None:
    with pytest.raises(ParameterError) as error:
        study(
            """
            scenes = -3
            seed = 1.5
            imgs = 4
            [splits]
            train = 0.5
            test = 0.9
            [specimen]
            materials = ["Unobtainium"]
            diametres = [3, 4]
            thickness = 30
            [wave]
            energy = "300 kV"
            band = -1
            [imaging]
            defocus = {low = 5, high = 3}
            C30 = {lo = 3, high = 5}
            dose = -5
            focal_spread = {mean = 10, deviation = 4}
            mtf_half = {values = []}
            aperture = "open"
            drift_x = {low = 0, high = 1, mean = 3}
            """,
            tmp_path,
        )
    wanted = [
        "scenes must be at least 1, got -3",
        "seed must be a whole number, got 1.5",
        "imgs is not known; known here: scenes",
        "splits: the shares must add up to 1, got 1.55",
        "no material 'Unobtainium'",
        "specimen.diametres is not known; did you mean diameters?",
        "specimen.thickness must be a list",
        'wave.energy must be a number, got "300 kV"',
        "band must be a positive number, got -1",
        "imaging.defocus: low must not exceed high",
        "imaging.C30.lo is not known; did you mean low?",
        "imaging: dose must be more than zero, got -5",
        "focal_spread must not be negative, got -10.0 (five deviations from the mean 10)",
        "imaging.mtf_half: a grid needs at least one value",
        "imaging.aperture must be a number, {low = , high = }, {mean = , deviation = } or {values = [...]}",
        "imaging.drift_x.mean is not known",
    ]
    said = str(error.value)
    assert [w for w in wanted if w not in said] == []
    assert said.count("\n") <= len(wanted) + 2  # and next to nothing besides


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenes = true", "scenes must be a whole number, got true"),
        ('scenes = "8"', 'scenes must be a whole number, got "8"'),
        ("scenes = [8]", "scenes must be a whole number"),
        ('scenes = 9\n[wave]\nenergy = "fast"', 'wave.energy must be a number, got "fast"'),
        ("scenes = 9\n[wave]\npixel_size = true", "wave.pixel_size must be a number, got true"),
        ("scenes = 9\n[wave]\nenergy = 1e12", "energy must be 1000 to 1e+07 eV, got 1e+12"),
        ("scenes = 9\n[wave]\nenergy = 0", "energy must be 1000 to 1e+07 eV, got 0"),
        ("scenes = 9\n[wave]\nslice_thickness = 1e-9", "slice_thickness must be 0.05 to 1000 Å, got 1e-09"),
        ("scenes = 9\n[wave]\npixel_size = 1e-4", "pixel_size must be 0.001 to 10 Å, got 0.0001"),
        ("scenes = 9\n[wave]\npixel_size = 2e-3", "wave pixel_size: a field of 102.4 x 102.4 Å has 2.62e+09"),
        ("scenes = 9\n[imaging]\npixel_size = 1e-4", "imaging pixel_size: a field of 102.4 x 102.4 Å"),
        ("scenes = 9\n[specimen]\ncell = [1e5, 1e5]", "2.5e+11 pixels of 0.2 Å, which need 8,000 GB"),
    ],
)
def test_a_fault_is_one_fault_and_names_its_limit(text: str, said: str, tmp_path) -> None:
    with pytest.raises(ParameterError) as error:
        study(text, tmp_path)
    assert said in str(error.value) and "1 fault in the study" in str(error.value)


def test_an_aperture_that_the_wave_does_not_carry_is_refused_before_anything_is_simulated(tmp_path) -> None:
    text = "scenes = 10\n[wave]\npixel_size = 0.2\n[imaging]\naperture = {low = 0.01, high = %g}"
    assert study(text % 0.049, tmp_path).scenes == 10  # wavelength / (2 x 0.2 Å) is 0.0492 rad
    with pytest.raises(ParameterError, match=r"aperture must be at most 0.0492 rad"):
        study(text % 0.05, tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "scenes is missing"),
        (b"# Passband\n\nsome text", "is not TOML"),
        (b"\x00\xff\xfe", "is no text"),
        (b"scenes = 10\n[wave\n", "is not TOML"),
        (b"wave = 3\nscenes = 10", "wave must be a table"),
        (b"scenes = 10000000000000", "scenes must be at most 1,000,000, got 10,000,000,000,000"),
        (b"scenes = 10\n[imaging]\ndose = nan", "dose must be a finite number"),
        (b"scenes = 2026-11-21", "scenes must be a whole number"),
        (b"scenes = 2", "leave none for validation and test|leave none for test|leave none for validation"),
    ],
)
def test_a_file_that_is_no_study(tmp_path, content: bytes | None, words: str) -> None:
    path = tmp_path / "study.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParameterError, match=words) as error:
        read_study(path)
    assert str(path) in str(error.value)
    with pytest.raises(ParameterError):
        read_study(tmp_path)


def test_a_split_is_a_partition_that_the_seed_decides() -> None:
    splits = Splits(train=0.7, validation=0.2, test=0.1)
    parts = splits.assign(100, seed=3)
    assert [len(p) for p in parts] == [70, 20, 10]
    assert sorted(sum(parts, ())) == list(range(100))
    assert parts == splits.assign(100, seed=3) != splits.assign(100, seed=4)
    assert Splits(train=1, validation=0, test=0).assign(3, seed=0) == ((0, 1, 2), (), ())


def test_seeds_of_scenes_differ_and_do_not_depend_on_how_many_there_are() -> None:
    few, many, other = (SimulationStudy(scenes=n, seed=s) for n, s in ((10, 0), (99, 0), (10, 1)))
    purposes = ("specimen", "conditions", "noise")
    seeds = [few.scene_seed(i, p) for i in range(10) for p in purposes]
    assert len(set(seeds)) == 30
    assert seeds == [many.scene_seed(i, p) for i in range(10) for p in purposes]
    assert not set(seeds) & {other.scene_seed(i, p) for i in range(10) for p in purposes}
    assert max(seeds) < 2**53


def test_differences_name_what_differs() -> None:
    one = SimulationStudy(scenes=10, imaging=ConditionRanges(C10=-30.0))
    other = SimulationStudy(scenes=10, imaging=ConditionRanges(C10=Uniform(low=-30.0, high=0.0)))
    assert study_differences(one, other) == ['imaging.C10: -30, {"low": -30.0, "high": 0.0}']


def test_a_study_of_an_older_version_is_the_same_study() -> None:
    """Names that came later are not told where they change nothing: digests, ids and manifests stay."""
    older = SimulationStudy(
        scenes=8,
        wave=WaveSettings(pixel_size=0.2, slice_thickness=2.0),
        specimen=SpecimenRanges(substrates=PACKED, density=DENSITY),
    )
    assert older.digest() == DIGEST_OF_0_1
    for table, names in ADDED.items():
        assert not set(names) & set(older.values()[table])
        for name in names:
            assert hasattr(getattr(older, table), name)
    told = replace(older, wave=replace(older.wave, absorption=0.5))
    assert told.values()["wave"]["absorption"] == 0.5 and told.digest() != DIGEST_OF_0_1
    assert study_from_values(told.values(), source="here") == told


def test_conditions_that_came_later_are_ranges_of_a_study_too(tmp_path) -> None:
    text = "scenes = 10\n[wave]\nabsorption = 0.9\n[imaging]\nvibration = {low = 0.2, high = 0.7}\ngain = 4"
    made = study(text, tmp_path)
    assert made.imaging.vibration == Uniform(low=0.2, high=0.7) and made.imaging.gain == 4
    assert made.values()["imaging"]["vibration"] == {"low": 0.2, "high": 0.7}
    with pytest.raises(ParameterError) as fault:
        study(text + "\ndqe_falloff = {low = 0, high = 2}\nreadout = -1\nvibratoin = 1", tmp_path)
    for words in ("dqe_falloff must be 0 to 1, got 2", "readout must not be negative, got -1", "vibration?"):
        assert words in str(fault.value)
