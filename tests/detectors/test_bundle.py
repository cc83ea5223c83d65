"""A bundle is written and read back whole, or refused in words."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.detectors.bundle import SHIPPED, Bundle, CalibrationRecord, read_bundle, write_bundle
from passband.detectors.config import PAPER, SLIM, DetectorConfig
from passband.errors import BundleError
from passband.estimate.look import Seen, fit_look, unlike
from passband.store.tensors import FORMAT, read_sealed, write_sealed

SEEN = [Seen(numbers=row, side=256.0) for row in np.random.default_rng(0).normal(size=(180, 128))]
"""What a network might see in images."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "a.safetensors"
    arrays = {"roots": np.arange(5, dtype=np.int32), "values": np.linspace(0, 1, 7)}
    bundle = Bundle(
        name='quoted "name"',
        detector=SLIM,
        weights={"w": torch.tensor([0.5, -2.0]), "count": torch.tensor(7)},
        score_threshold=0.35,
        training={"pixel_size": [2.0, 5.0], "domains": ["A:under"]},
        calibration=CalibrationRecord(settings={"coverage": 0.9}, arrays=arrays),
        look=fit_look(SEEN, ["a", "b", "c"] * 60),
    )
    digest = write_bundle(bundle, path)
    return path, bundle, digest


def test_write_then_read_is_identity(written):
    path, bundle, digest = written
    again = read_bundle(path)
    assert again.digest == digest
    assert (again.name, again.detector, again.score_threshold) == (bundle.name, SLIM, 0.35)
    assert again.training == bundle.training
    assert again.weights["w"].tolist() == [0.5, -2.0] and again.weights["w"].dtype == torch.float32
    assert again.weights["count"].item() == 7
    assert again.calibration.settings == bundle.calibration.settings
    for name, values in bundle.calibration.arrays.items():
        np.testing.assert_array_equal(again.calibration.arrays[name], values)
        assert again.calibration.arrays[name].dtype == values.dtype
    for seen in (replace(one, numbers=one.numbers + 1) for one in SEEN[:5]):
        assert unlike(again.look, seen) == pytest.approx(unlike(bundle.look, seen), rel=1e-3)


def rewritten(written, tmp_path, change):
    """The file with other tensors."""
    sealed = read_sealed(written[0])
    tensors = change(dict(sealed.tensors))
    write_sealed(
        {k: v for k, v in sealed.header.items() if k != "digest"}, tensors, tmp_path / "b.safetensors"
    )
    return tmp_path / "b.safetensors"


def test_a_bundle_from_before_looks_were_kept_has_none(written, tmp_path):
    file = rewritten(written, tmp_path, lambda t: {k: v for k, v in t.items() if not k.startswith("look.")})
    assert read_bundle(file).look is None


def test_a_look_that_does_not_fit_is_named_with_its_file(written, tmp_path):
    file = rewritten(written, tmp_path, lambda t: {**t, "look.edges": -t["look.edges"]})
    with pytest.raises(BundleError, match=r"b\.safetensors: what a network saw cannot be used: .* positive"):
        read_bundle(file)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_noticed(written, data, tmp_path_factory):
    content = bytearray(written[0].read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    broken = tmp_path_factory.mktemp("flip") / "b.safetensors"
    broken.write_bytes(content)
    with pytest.raises(BundleError, match=r"b\.safetensors"):
        read_bundle(broken)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_bundle_is_refused(written, tmp_path, keep):
    broken = tmp_path / "short.safetensors"
    broken.write_bytes(written[0].read_bytes()[:keep])
    with pytest.raises(BundleError, match=r"short\.safetensors"):
        read_bundle(broken)


def test_a_newer_format_says_to_upgrade(written, tmp_path, monkeypatch):
    monkeypatch.setattr("passband.store.tensors.FORMAT", FORMAT + 1)
    newer = tmp_path / "newer.safetensors"
    write_bundle(written[1], newer)
    monkeypatch.undo()
    with pytest.raises(BundleError, match=f"format {FORMAT + 1}.*upgrade"):
        read_bundle(newer)


def test_files_that_are_no_bundles_are_refused(tmp_path):
    header = json.dumps({"__metadata__": {"passband": "{}"}}).encode()
    for name, content in {
        "text.safetensors": b"hello",
        "foreign.safetensors": struct.pack("<Q", len(header)) + header,
        "empty.safetensors": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BundleError, match="not a Passband bundle"):
            read_bundle(tmp_path / name)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(BundleError, match="cannot be read"):
            read_bundle(missing)


def test_the_file_holds_numbers_and_no_pickle(written):
    content = written[0].read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    end = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
    assert len(content) == 8 + length + end


def test_configurations_round_trip_and_refuse_what_they_do_not_know():
    for config in (SLIM, PAPER):
        assert DetectorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(BundleError, match="detector configuration"):
        DetectorConfig.from_dict({**SLIM.to_dict(), "color": "red"})
    with pytest.raises(BundleError, match="backbone"):
        DetectorConfig.from_dict({**SLIM.to_dict(), "backbone": "vgg"})


def test_the_shipped_bundle_is_whole_and_calibrated():
    bundle = read_bundle(SHIPPED)
    assert bundle.detector.backbone == SLIM.backbone and len(bundle.digest) == 64 and bundle.weights
    assert all(torch.isfinite(w).all() for w in bundle.weights.values())
    assert bundle.calibration.settings["score_threshold"] == bundle.score_threshold


def test_a_threshold_outside_0_to_1_is_refused():
    with pytest.raises(BundleError, match=r"1\.5"):
        Bundle(name="b", detector=SLIM, weights={}, score_threshold=1.5)
