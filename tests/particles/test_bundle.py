"""A particle model is written and read whole; what is damaged or something else is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from made_cards import CONFIG, NAMES, card_crops, quick, small
from passband.detectors.bundle import Bundle, CalibrationRecord, read_bundle, write_bundle
from passband.detectors.config import SLIM
from passband.errors import BundleError
from passband.particles.bundle import read_particle_model, write_particle_model
from passband.particles.fit import fit_particle_model
from passband.particles.model import classify_particles, describe_particles, reconstruct


def answers_equal(one, other):
    return one.probabilities.tobytes() == other.probabilities.tobytes() and (
        one.distance.tobytes() == other.distance.tobytes()
    )


@pytest.fixture(scope="module")
def brief():
    """Ours, hardly trained."""
    return fit_particle_model(card_crops(), replace(CONFIG, steps=3, pool=60))


@pytest.mark.parametrize("which", ["brief", "reference"])
def test_a_bundle_read_back_gives_the_same_answers_bit_for_bit(which, unseen, request, tmp_path):
    model, crops = request.getfixturevalue(which), unseen[0][:12]
    path = tmp_path / "cards.safetensors"
    digest = write_particle_model(model, path)
    again = read_particle_model(path)
    assert (again.name, again.classes, again.digest, again.size) == ("cards", NAMES, digest, 48)
    assert again.training == json.loads(json.dumps(model.training))
    assert answers_equal(classify_particles(model, crops), classify_particles(again, crops))
    one, other = describe_particles(model, crops), describe_particles(again, crops)
    for name in ("angle", "angle_spread", "shift", "scale", "latent", "latent_spread", "misfit"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert reconstruct(model, one).tobytes() == reconstruct(again, other).tobytes()


def test_a_calibration_travels_with_the_model(tmp_path):
    record = CalibrationRecord(settings={"coverage": 0.9}, arrays={"edges": np.arange(3.0)})
    write_particle_model(replace(quick(small()), calibration=record), tmp_path / "a.safetensors")
    again = read_particle_model(tmp_path / "a.safetensors").calibration
    assert again.settings == {"coverage": 0.9} and again.arrays["edges"].tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "small.safetensors"
    write_particle_model(quick(small()), path)
    return path


def test_a_flipped_byte_is_noticed_wherever_it_is(written, tmp_path):
    content = written.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 8, 40, len(content) - 1, *rng.integers(0, len(content), 25)]:
        broken = bytearray(content)
        broken[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "broken.safetensors").write_bytes(broken)
        with pytest.raises(BundleError, match=r"broken\.safetensors"):
            read_particle_model(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, -1])
def test_a_truncated_bundle_is_refused(written, tmp_path, keep):
    content = written.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(BundleError, match=r"short\.safetensors"):
        read_particle_model(tmp_path / "short.safetensors")


def test_other_files_are_refused_as_particle_bundles_and_particle_bundles_as_detectors(written, tmp_path):
    detector = Bundle(name="discs", detector=SLIM, weights={}, score_threshold=0.5, training={})
    write_bundle(detector, tmp_path / "detector.safetensors")
    with pytest.raises(BundleError, match=r"detector\.safetensors: a detector's bundle"):
        read_particle_model(tmp_path / "detector.safetensors")
    with pytest.raises(BundleError, match=r"small\.safetensors: a bundle that classifies particles"):
        read_bundle(written)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.safetensors: not a Passband bundle"):
        read_particle_model(tmp_path / "text.safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        read_particle_model(tmp_path / "none.safetensors")
