"""Which images to label next: the doubtful ones first."""

from dataclasses import replace

import numpy as np
import pytest

from passband.cavities.draws import draw_set
from passband.cavities.image import simulate_cavities
from passband.detections.detections import Detections
from passband.detections.labelled import LabelledImages
from passband.detectors.bundle import default_bundle
from passband.detectors.infer import detect
from passband.detectors.suggest import doubt, suggest
from passband.micrographs.many import Reading


def scored(*scores):
    boxes = np.array([[20.0 * i, 0, 20 * i + 9, 9] for i in range(len(scores))]).reshape(-1, 4)
    return Detections(image_shape=(64, 640), boxes_xyxy=boxes, scores=np.array(scores, np.float64))


def test_doubt_counts_what_may_be_there_or_not():
    assert doubt(scored()) == doubt(scored(1.0, 1.0)) == 0
    assert doubt(scored(0.5, 0.5, 1.0)) == pytest.approx(2)
    assert doubt(scored(0.2)) == pytest.approx(doubt(scored(0.8)))


@pytest.fixture
def images(tmp_path):
    """Two like the labelled one, and one of another kind."""
    paths = {}
    for name, domain, seed in (
        ("a", "B:under", 0),
        ("b", "B:under", 1),
        ("c", "B:under", 2),
        ("d", "C:over", 3),
    ):
        (record,) = draw_set([domain], 1, seed=seed, shape=(256, 256))
        paths[name] = str(tmp_path / f"{name}.npy")
        np.save(paths[name], simulate_cavities(record).pixels)
    return paths


def test_the_most_doubtful_images_are_suggested_first(images, monkeypatch):
    nothing = Detections(image_shape=(256, 256), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    usable = LabelledImages(
        reading=Reading(), truth={images["a"]: nothing}, found={}, unused=(), notes=(),
        unlabelled=(images["b"], images["c"], images["d"]),
    )  # fmt: skip
    low = replace(default_bundle(), score_threshold=0.05)
    worth = {p: doubt(detect(Reading().read(p), low)) for p in usable.unlabelled}
    order = sorted(worth, key=worth.get, reverse=True)
    assert suggest(usable, default_bundle(), 2) == tuple(order[:2])
    assert suggest(usable, default_bundle(), 9) == tuple(order)
    assert suggest(replace(usable, unlabelled=()), default_bundle(), 2) == ()
    monkeypatch.setattr("passband.detectors.suggest.POOL", 2)
    drawn = suggest(usable, default_bundle(), 9, seed=1)
    assert len(drawn) == 2 and drawn == suggest(usable, default_bundle(), 9, seed=1)
