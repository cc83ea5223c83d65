"""Which images to label next: the doubtful, the unlike, and none twice."""

from dataclasses import replace

import numpy as np
import pytest

from passband.cavities.domains import draw_set
from passband.cavities.image import simulate_cavities
from passband.detections.detections import Detections
from passband.detections.labelled import LabelledImages
from passband.detectors.bundle import default_bundle
from passband.detectors.suggest import choose, doubt, likeness, suggest
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph


def scored(*scores):
    boxes = np.array([[20.0 * i, 0, 20 * i + 9, 9] for i in range(len(scores))]).reshape(-1, 4)
    return Detections(image_shape=(64, 640), boxes_xyxy=boxes, scores=np.array(scores, np.float64))


def test_doubt_is_one_less_the_best_f1_that_the_scores_promise():
    """Scores as chances: of n kept, their sum is right; of all, their sum is there."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.uniform(0.05, 1, rng.integers(1, 30))
        best = max(2 * scores[scores >= t].sum() / ((scores >= t).sum() + scores.sum()) for t in scores)
        assert doubt(scored(*scores)) == pytest.approx(1 - best)
    assert doubt(scored()) == 1 and doubt(scored(1.0, 1.0)) == 0


def test_an_image_that_was_chosen_makes_its_twin_worth_little():
    rng = np.random.default_rng(0)
    groups = {f"{g}{i}": 10 * np.eye(3)[g] + 0.01 * rng.normal(size=3) for g in range(3) for i in range(5)}
    likenesses = {"labelled": np.zeros(3), **groups}
    doubts = {name: 0.9 if name[0] == "1" else 0.6 for name in groups}
    chosen = choose(doubts, likenesses, 3)
    assert sorted(name[0] for name in chosen) == ["0", "1", "2"] and chosen[0][0] == "1"
    assert len(set(choose(doubts, likenesses, 15))) == 15
    assert set(choose(doubts, likenesses, 99)) == set(groups) and choose({}, likenesses, 3) == ()


def test_of_images_that_are_alike_the_more_doubtful_comes_first():
    likenesses = {name: np.array([1.0 * i, 0.0]) for i, name in enumerate(("labelled", "x", "y"))}
    likenesses["y"] = np.array([-1.0, 0.0])
    assert choose({"x": 0.2, "y": 0.3}, likenesses, 1) == ("y",)
    assert choose({"x": 0.4, "y": 0.3}, likenesses, 1) == ("x",)
    assert choose({"x": 0.2, "y": 0.3}, {n: likenesses[n] for n in ("x", "y")}, 1) == (
        "y",
    )  # nothing labelled


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


def test_the_image_unlike_the_labelled_one_is_suggested_first(images):
    nothing = Detections(image_shape=(256, 256), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    usable = LabelledImages(
        reading=Reading(), truth={images["a"]: nothing}, found={}, unused=(), notes=(),
        unlabelled=(images["b"], images["c"], images["d"]),
    )  # fmt: skip
    chosen = suggest(usable, default_bundle(), 2)
    assert chosen[0] == images["d"] and len(set(chosen)) == 2
    assert suggest(replace(usable, unlabelled=()), default_bundle(), 2) == ()


def test_likeness_is_free_of_gain_and_offset(images):
    pixels = np.load(images["a"])
    one, other = (
        likeness(Micrograph(pixels=p, name="a"), default_bundle()) for p in (pixels, 3 * pixels + 100)
    )
    np.testing.assert_allclose(one, other, atol=1e-2)
    assert (
        np.abs(one - likeness(Micrograph(pixels=np.load(images["d"]), name="d"), default_bundle())).max()
        > 0.2
    )
