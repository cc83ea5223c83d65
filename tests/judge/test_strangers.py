"""What the shipped detector's network has never seen the like of is told so, until somebody labels it."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from passband.detections.detections import Detections
from passband.detections.files import write_coco
from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled
from passband.detectors.bundle import default_bundle
from passband.estimate.look import unlike
from passband.judge.calibrate import adapt_bundle, calibrate_bundle, calibrate_on, labelled_row
from passband.kinds import assess
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph

pytestmark = pytest.mark.training


def bright_discs(seed: int) -> tuple[Micrograph, Detections]:
    """Discs of one grey on an even ground, as a drawing has them, in which the detector finds most."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256]
    pixels, boxes = 40 + 2 * rng.normal(size=(256, 256)), []
    for row in range(4):
        for column in range(4):
            cy, cx, r = 64 * row + 32, 64 * column + 32, rng.uniform(10, 18)
            pixels[np.hypot(y - cy, x - cx) < r] = 200
            boxes.append([cx - r, cy - r, cx + r, cy + r])
    truth = Detections(image_shape=(256, 256), boxes_xyxy=np.array(boxes), scores=np.ones(16))
    return Micrograph(pixels=pixels.astype(np.float32), name=f"{seed}.tif", pixel_size=3.0), truth


@pytest.fixture(scope="module")
def rows():
    bundle = default_bundle()
    return [
        labelled_row(micrograph, bundle, truth, "discs") for micrograph, truth in map(bright_discs, range(8))
    ]


def test_a_drawing_is_told_to_be_unlike_all_that_is_known_and_its_estimate_is_none(rows):
    verdict = assess(bright_discs(90)[0], default_bundle())
    assert verdict.verdict != "trust" and verdict.novelty > 1
    assert any("does not look like what the detector was made for" in reason for reason in verdict.reasons)
    assert all(unlike(default_bundle().look, row.seen) > 1 for row in rows)


def test_images_that_were_labelled_are_known_and_so_are_those_like_them(rows):
    adapted = adapt_bundle(default_bundle(), rows)
    assert all(unlike(adapted.look, row.seen) < 1 for row in rows)
    verdict = assess(bright_discs(91)[0], adapted)
    assert not any("does not look like" in reason for reason in verdict.reasons)


def test_a_new_calibration_keeps_what_was_known_and_adds_what_was_labelled(rows):
    many = [replace(row, domain=f"discs {i % 2}", image=f"{i}.tif") for i, row in enumerate(5 * rows)]
    anew = calibrate_bundle(default_bundle(), many)
    known = default_bundle().look
    assert len(anew.look.rows) > len(known.rows) and anew.look.edges is known.edges
    assert all(unlike(anew.look, row.seen) < 1 for row in rows)


def test_whoever_labels_strange_images_is_asked_whether_they_are_what_the_detector_is_for(tmp_path):
    truth = {}
    for seed in range(4):
        micrograph, truth[micrograph.name] = bright_discs(seed)
        tifffile.imwrite(tmp_path / micrograph.name, micrograph.pixels, metadata=None)
    write_coco(tmp_path / "truth.json", truth)
    labelled = Labelled(
        images=[str(tmp_path / name) for name in truth],
        annotations=DetectionsFile(path=tmp_path / "truth.json"),
        reading=Reading(sidecar={name: 3.0 for name in truth}),
    )
    done = calibrate_on(labelled, default_bundle())
    assert any("4 of 4 labelled images lie outside what the calibration knows" in note for note in done.notes)


def test_rows_that_no_network_of_ours_saw_leave_the_look_as_it_is(rows):
    adapted = adapt_bundle(default_bundle(), [replace(row, seen=None) for row in rows])
    assert adapted.look is default_bundle().look
