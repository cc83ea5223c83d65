"""ctf, image and multislice as a user calls them."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import passband
from passband.cli import app
from passband.hrtem.wave.files import read_wave
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.optics.about import about_focus, focus_to_json
from passband.optics.conditions import ImagingConditions
from passband.optics.thon import ThonFit

ATOMS = """4
Lattice="8.0 0 0 0 6.4 0 0 0 8.0" Properties=species:S:1:pos:R:3 pbc="T T T"
Au 1.0 1.0 1.0
Au 5.0 3.0 3.0
C 3.0 5.0 5.0
C 7.0 2.0 7.0
"""


def call(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    (tmp_path / "atoms.xyz").write_text(ATOMS)
    out = tmp_path / "wave.npy"
    call("multislice", tmp_path / "atoms.xyz", "--pixel-size", 0.2, "--energy-kev", 300,
         "--slice-thickness", 2, "--out", out)  # fmt: skip
    return out


def test_multislice_writes_a_wave_with_axes_y_x(wave: Path) -> None:
    array = np.load(wave)
    assert array.shape == (32, 40) and np.iscomplexobj(array)
    # The heavy atom's pixel, at y = 3, x = 5, advances the phase most.
    y, x = np.unravel_index(np.argmax(np.angle(array)), array.shape)
    assert (y, x) in ((15, 25), (5, 5))
    assert (np.abs(array) ** 2).mean() == pytest.approx(1, abs=0.01)


def test_multislice_chooses_a_sampling_and_says_in_a_line_what_is_too_coarse(tmp_path: Path) -> None:
    (tmp_path / "atoms.xyz").write_text(ATOMS)
    out = tmp_path / "wave.npz"
    common = ("multislice", tmp_path / "atoms.xyz", "--out", out)
    assert "too coarse" not in call(*common)
    assert max(read_wave(out).pixel_sizes) <= 0.12
    said = call(*common, "--pixel-size", 0.2)
    assert said.startswith("passband: pixels of 0.2 Å are too coarse for Au at 300 keV"), said
    assert said.count("\n") == 2 and "0.12 Å" in said  # the warning and what was written


def test_absorption_takes_electrons_from_the_wave(wave: Path, tmp_path: Path) -> None:
    atoms, out, kept = tmp_path / "atoms.xyz", tmp_path / "hot.npy", []
    for share in (0, 1):
        call("multislice", atoms, "--debye-waller", 0.6, "--absorption", share, "--out", out)
        kept.append((np.abs(np.load(out)) ** 2).mean())
    assert kept[1] < kept[0] - 1e-4
    assert "0 to 1" in call("multislice", atoms, "--absorption", 2, "--out", out, status=2)


def test_image_gives_intensity_for_an_incident_wave_of_one(wave: Path, tmp_path: Path) -> None:
    out = tmp_path / "image.npy"
    common = ("image", wave, "--pixel-size", 0.2, "--energy-kev", 300, "--cs-mm", 1.2, "--out", out)
    said = call(*common, "--defocus", 500, "--focal-spread", 30, "--angular-spread-mrad", 0)
    assert "coherent images for the focal spread" in said
    intensity = np.load(out)
    assert intensity.shape == (32, 40) and intensity.mean() == pytest.approx(1, abs=0.01)
    call(*common, "--defocus", 500, "--dose", 400)
    counts = np.load(out)
    assert counts.mean() == pytest.approx(16, abs=1) and (counts == counts.round()).all()
    about = json.loads(call(*common, "--focal-spread", 0.5, "--json"))
    assert about["terms"] == 1 and about["shape"] == [32, 40]
    told = about["conditions"]
    assert told["C10"] == 0 and told["C30"] == 1.2e7 and told["dose"] == "inf" and told["vibration"] == 0
    assert ImagingConditions(**{k: float(v) if v == "inf" else v for k, v in told.items()}).energy == 300e3


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("--coma", 900, "--coma-angle", 30), {"C21": 900.0, "phi21": math.radians(30)}),
        (("--threefold", 800, "--threefold-angle", 20), {"C23": 800.0, "phi23": math.radians(20)}),
        (("--astigmatism", 40, "--astigmatism-angle", 10), {"C12": 40.0, "phi12": math.radians(10)}),
        (("--mtf-half", 0.2), {"mtf_half": 0.2}),
        (("--drift-x", 1.5, "--drift-y", -0.5), {"drift_x": 1.5, "drift_y": -0.5}),
        (("--image-pixel-size", 0.4), {"pixel_size": 0.4}),
        (("--image-pixel-size", 0.4, "--integrate-pixels"), {"pixel_size": 0.4, "integrate_pixels": True}),
        (("--dose", 200, "--seed", 3), {"dose": 200.0}),
        (("--vibration", 0.6), {"vibration": 0.6}),
        (("--inelastic-share", 0.3), {"inelastic_share": 0.3}),
        (("--dose", 200, "--quantum-efficiency", 0.5), {"dose": 200.0, "quantum_efficiency": 0.5}),
        (
            ("--dose", 200, "--mtf-half", 0.2, "--dqe-falloff", 0.5),
            {"dose": 200.0, "mtf_half": 0.2, "dqe_falloff": 0.5},
        ),
        (
            ("--dose", 200, "--gain", 5, "--offset", 90, "--readout", 3, "--gain-noise", 0.01),
            {"dose": 200.0, "gain": 5.0, "offset": 90.0, "readout": 3.0, "gain_noise": 0.01},
        ),
    ],
)
def test_every_condition_of_python_is_one_of_the_command(
    wave: Path, tmp_path: Path, words: tuple[object, ...], values: dict[str, float]
) -> None:
    out = tmp_path / "image.npy"
    call("image", wave, "--pixel-size", 0.2, "--energy-kev", 300, "--defocus", 60, *words, "--out", out)
    lens: dict[str, Any] = {"energy": 300e3, "C10": -60.0, "C30": 0.0, "focal_spread": 0.0, "pixel_size": 0.2}
    conditions = ImagingConditions(**{**lens, "angular_spread": 0.0, **values})
    known = read_wave(wave, pixel_size=0.2, energy=300e3)
    seed = 3 if "--seed" in words else 0
    np.testing.assert_allclose(
        np.load(out), simulate_micrographs(known, [conditions], seed=seed)[0].numpy(), atol=1e-6
    )
    plain = ImagingConditions(**{**lens, "angular_spread": 0.0})
    other = simulate_micrographs(known, [plain], seed=seed)[0].numpy()
    assert other.shape != np.load(out).shape or np.abs(other - np.load(out)).max() > 1e-4


def test_positive_defocus_is_underfocus_where_atoms_are_dark(wave: Path, tmp_path: Path) -> None:
    seen = {}
    for defocus in (-60, 60):
        out = tmp_path / "image.npy"
        call("image", wave, "--pixel-size", 0.2, "--energy-kev", 300, "--defocus", defocus, "--out", out)
        seen[defocus] = np.load(out)[15, 25]
    assert seen[60] < 1 < seen[-60]


def test_ctf_says_draws_and_gives_numbers(tmp_path: Path) -> None:
    picture = tmp_path / "ctf.png"
    said = call("ctf", "--defocus", 583, "--cs-mm", 1.2, "--plot", picture)
    assert "Scherzer defocus:   583 Å" in said and "2.00 Å" in said
    assert picture.read_bytes()[:4] == b"\x89PNG"
    facts = json.loads(call("ctf", "--defocus", 583, "--cs-mm", 1.2, "--json"))
    assert len(facts["k"]) == len(facts["contrast_transfer"])
    assert facts["first_zero"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dose", 0), "dose must be more than zero"),
        (("--dose", -5), "dose must be more than zero"),
        (("--aperture-mrad", 90), "sample it at"),
        (("--focal-spread", -1), "focal_spread must not be negative"),
        (("--vibration", -1), "vibration must not be negative"),
        (("--inelastic-share", 1.5), "inelastic_share must be 0 to 1, got 1.5"),
        (("--quantum-efficiency", 0), "quantum_efficiency must be above 0 and at most 1"),
        (("--gain", 0), "gain must be more than zero"),
    ],
)
def test_impossible_conditions_are_named_and_nothing_is_written(
    wave: Path, tmp_path: Path, words: tuple[str, float], said: str
) -> None:
    out = tmp_path / "image.npy"
    shown = call("image", wave, "--pixel-size", 0.2, "--energy-kev", 300, "--out", out, *words, status=2)
    assert said in shown and not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Au 1.0 1.0", "Au 9.0 1.0"), "outside"),
        (("Au 1.0 1.0", "Xx 1.0 1.0"), "Xx"),
        (('Lattice="8.0 0 0 0 6.4 0 0 0 8.0" ', ""), "no cell"),
        (("4\n", "9\n"), "truncated"),
    ],
)
def test_atoms_that_cannot_be_calculated_are_refused(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    path, out = tmp_path / "atoms.xyz", tmp_path / "wave.npy"
    path.write_text(ATOMS.replace(*change))
    assert said in call("multislice", path, "--out", out, status=2)
    assert not out.exists()


def test_focus_finds_the_defocus_of_a_simulated_film(tmp_path: Path) -> None:
    specimen = passband.build_specimen(
        passband.draw_specimen(
            passband.SpecimenRanges(thickness=(60, 60), count=(1, 1), diameters=(15, 16)), 1
        )
    )
    film = replace(specimen, focus_plane=4 + 30)  # the middle of the carbon
    conditions = passband.ImagingConditions(
        energy=300e3, C10=-1200.0, C30=0.0, focal_spread=10.0, angular_spread=0.0, dose=2000.0, pixel_size=0.2
    )
    pixels = passband.simulate_micrographs(passband.exit_wave(film), [conditions], seed=0)[0].numpy()
    np.save(tmp_path / "film.npy", pixels)
    words = ("focus", tmp_path / "film.npy", "--pixel-size-nm", 0.02)
    assert "says nothing of its energy" in call(*words, status=2)
    fit = json.loads(call(*words, "--energy-kev", 300, "--cs-mm", 0, "--json"))
    assert fit["believed"] and fit["defocus"] == pytest.approx(1200, abs=30) and fit["sign"] == 0
    said = call(*words, "--energy-kev", 300, "--cs-mm", 0)
    assert "side not told" in said and "Cs:                 0 mm" in said
    assert fit["astigmatism"] == fit["C12"] and fit["C30_error"] == 0
    bounded = json.loads(call(*words, "--energy-kev", 300, "--cs-mm", 0, "--most-defocus", 500, "--json"))
    assert not bounded["believed"] and "beyond the 500 Å" in bounded["reason"]
    # Not given, Cs is what the rings tell, and not 0 in silence.
    free = json.loads(call(*words, "--energy-kev", 300, "--json"))
    assert free["C30_error"] > 0


def test_a_focus_that_is_not_believed_is_no_number(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 10, (128, 128)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    np.save(tmp_path / "flat.npy", np.ones((128, 128), np.float32))
    for name in ("noise.npy", "flat.npy"):
        words = ("focus", tmp_path / name, "--pixel-size-nm", 0.02, "--energy-kev", 300)
        said = call(*words)
        assert "believed:           no: " in said and "not told" in said and "±" not in said
        fit = json.loads(call(*words, "--json"))
        assert not fit["believed"] and fit["sign"] == 0
        if fit["rings"] is None or fit["rings"] < 1:
            assert fit["defocus"] is fit["defocus_error"] is fit["astigmatism"] is None


@pytest.mark.parametrize("sign", [1, -1])
def test_a_defocus_whose_side_is_told_is_negative_over_focus(sign: int) -> None:
    numbers = dict.fromkeys((f.name for f in fields(ThonFit)), 1.0)
    fit = ThonFit(**{**numbers, "defocus": 800.0, "sign": sign, "believed": True, "reason": "rings"})
    assert json.loads(focus_to_json(fit))["defocus"] == sign * 800.0
    assert ("underfocus" if sign > 0 else "overfocus") in dict(about_focus(fit))["defocus"]
