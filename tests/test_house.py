"""What holds of the whole package: its public names, its size, and that nothing is unpickled."""

import re
from importlib import resources
from pathlib import Path

import pytest

import passband

SOURCE = Path(passband.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))


def test_the_public_names_are_these():
    assert passband.__all__ == [
        "Bundle",
        "ConditionRanges",
        "Detections",
        "ExtractionSettings",
        "ImagingConditions",
        "Micrograph",
        "ParticleModel",
        "PassbandError",
        "Policy",
        "SpecimenRanges",
        "Verdict",
        "assess",
        "build_specimen",
        "calibrate",
        "classify_library",
        "classify_particles",
        "default_bundle",
        "detect",
        "draw_cavities",
        "draw_specimen",
        "evaluate",
        "exit_wave",
        "extend_library",
        "find_particles",
        "fit_library",
        "fit_thon_rings",
        "label_library",
        "open_dataset",
        "open_library",
        "read_bundle",
        "read_detections",
        "read_micrograph",
        "read_particle_model",
        "report_library",
        "simulate_cavities",
        "simulate_micrographs",
        "write_bundle",
        "write_particle_model",
    ]
    assert set(passband.__all__) <= set(dir(passband))


@pytest.mark.parametrize("name", passband.__all__)
def test_each_public_name_is_there_and_documented(name):
    thing = getattr(passband, name)
    assert thing.__doc__ and len(thing.__doc__.strip()) > 20


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = passband.nothing


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_module_is_longer_than_600_lines_or_unpickles(module):
    text = module.read_text("utf-8")
    assert text.count("\n") <= 600
    code = re.sub(r'"""[\s\S]*?"""|#.*', "", text)
    assert not re.search(r"import pickle|pickle\.loads?\(|joblib\.load|torch\.load\(|allow_pickle=True", code)


def test_the_shipped_weights_are_at_most_10_mb():
    shipped = resources.files("passband") / "bundles" / "cavities-slim.safetensors"
    assert len(shipped.read_bytes()) <= 10_000_000
