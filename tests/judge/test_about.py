"""What is said of a bundle holds what its owner asks for."""

from __future__ import annotations

from dataclasses import replace

from passband.detectors.bundle import default_bundle
from passband.judge.about import about_bundle


def test_a_detector_of_ones_own_tells_its_classes_and_what_it_reached_on_images_held_out() -> None:
    shipped = default_bundle()
    assert {"classes", "images held out"}.isdisjoint(dict(about_bundle(shipped)))
    own = replace(
        shipped,
        detector=replace(shipped.detector, classes=("loop", "void")),
        training={**shipped.training, "held_out": {"f1": 0.534, "precision": 0.6, "recall": 0.5}},
    )
    said = dict(about_bundle(own))
    assert said["classes"] == "loop, void"
    assert said["images held out"] == "f1 0.53, precision 0.60, recall 0.50 in the mean"
    strange = replace(own, training={"held_out": "all", "pixel_size": [1.0, 2.0]})
    assert dict(about_bundle(strange))["held out"] == "all"


def test_a_domain_that_training_had_several_times_is_named_once() -> None:
    shipped = default_bundle()
    named = dict(about_bundle(shipped))["trained on"].split(", ")
    assert len(named) == len(set(named)) < len(shipped.training["domains"])
    assert set(named) == set(shipped.training["domains"])
