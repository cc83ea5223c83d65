"""The value `Detections`: what it refuses, and what a threshold does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from passband.detections.detections import Detections
from passband.errors import DetectionsError
from passband.types import InstanceMask


def some(given, **changes):
    """Detections with given scores, in a row."""
    n = len(given)
    left = np.arange(n, dtype=np.float64) * 3
    values = {
        "image_shape": (10, 3 * n + 2),
        "boxes_xyxy": np.stack([left, left * 0 + 1, left + 2, left * 0 + 5], axis=1).reshape(-1, 4),
        "scores": np.array(given, np.float64),
        "masks": tuple(InstanceMask(y=1, x=3 * i, pixels=np.ones((4, 2), bool)) for i in range(n)),
    }
    return Detections(**{**values, **changes})


def test_areas_are_those_of_the_boxes():
    np.testing.assert_array_equal(some([0.5, 1.0]).areas, [8, 8])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_threshold_keeps_what_reaches_it_and_is_remembered(scores, first, second):
    d = some(scores)
    kept = d.above(first)
    assert kept.scores.tolist() == [s for s in scores if s >= first]
    assert kept.score_threshold == first
    assert len(kept) == len(kept.masks) == len(kept.boxes_xyxy)
    assert [m.x for m in kept.masks] == kept.boxes_xyxy[:, 0].tolist()
    # One threshold after another is the higher of the two.
    twice, once = kept.above(second), d.above(max(first, second))
    assert twice.scores.tolist() == once.scores.tolist()
    assert twice.score_threshold == once.score_threshold


def test_without_detections_there_is_a_value_all_the_same():
    empty = Detections(image_shape=(4, 4), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    assert len(empty) == len(empty.above(0.5)) == empty.areas.size == 0


def test_all_faults_are_told_at_once():
    with pytest.raises(DetectionsError) as caught:
        Detections(
            image_shape=(10, 20),
            boxes_xyxy=np.array([[5.0, 1, 5, 4], [1, 1, 2, 2], [1, 1, 99, 2], [-7, 1, 2, 2]]),
            scores=np.array([0.5, np.nan, 1.5, 0.5]),
            masks=(),
        )
    for words in (
        "0 masks for 4 boxes",
        "boxes [0] have no extent",
        "boxes [2, 3] lie outside the image of 10 x 20",
        "scores [1, 2] are not in [0, 1]",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes_xyxy": np.array([[0, 0, 1, 1], [0, np.nan, 1, 1]])}, r"boxes \[1\] hold NaN"),
        ({"image_shape": (0, 5)}, "no pixels"),
    ],
)
def test_what_cannot_be_used_is_named(changes, words):
    with pytest.raises(DetectionsError, match=words):
        some([0.5, 0.6], **changes)


@pytest.mark.parametrize("changes", [{"boxes_xyxy": np.zeros((2, 3))}, {"scores": np.zeros(3)}])
def test_arrays_of_the_wrong_shape_are_refused(changes):
    # By the value itself, or before it by the shape checks that are on in the tests.
    with pytest.raises((DetectionsError, TypeCheckError), match="n"):
        some([0.5, 0.6], **changes)


def test_boxes_may_round_one_pixel_over_the_edge():
    edge = Detections(image_shape=(8, 8), boxes_xyxy=np.array([[-1.0, -0.5, 9, 8.5]]), scores=np.array([1.0]))
    assert len(edge) == 1
