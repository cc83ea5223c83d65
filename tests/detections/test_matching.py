"""Overlap and matching: laws that hold for any boxes, and the paper's rule by hand."""

from itertools import permutations
from time import process_time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from passband.detections import matching
from passband.detections.matching import (
    MATCHERS,
    OPTIMAL,
    PAPER,
    Matches,
    MatchingRule,
    box_iou,
    mask_iou,
    match_boxes,
)
from passband.detections.scores import object_scores
from passband.errors import ParameterError
from passband.types import InstanceMask

# Other work on the machine must not fail a law.
unhurried = settings(deadline=None)


@st.composite
def grid_boxes(draw, least=0, most=5, side=8):
    """A few boxes on a small grid, where overlaps and ties are common."""
    n = draw(st.integers(least, most))
    corner = st.tuples(*[st.integers(0, side - 1)] * 2, *[st.integers(1, side)] * 2)
    rows = [(x, y, x + w, y + h) for x, y, w, h in (draw(corner) for _ in range(n))]
    return np.array(rows, np.float64).reshape(-1, 4)


rules = st.builds(
    MatchingRule, kind=st.sampled_from(sorted(MATCHERS)), iou=st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0])
)


def best_by_trying(iou, threshold):
    """Most matches and then the largest summed IoU over every one-to-one choice."""
    if iou.shape[0] > iou.shape[1]:
        iou = iou.T
    best = (0, 0.0)
    for choice in permutations(range(iou.shape[1]), iou.shape[0]):
        picked = iou[np.arange(iou.shape[0]), list(choice)]
        picked = picked[picked >= threshold]
        best = max(best, (picked.size, float(picked.sum())))
    return best


@unhurried
@given(grid_boxes(), grid_boxes())
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    iou = box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_array_equal(iou, box_iou(b, a).T)


@unhurried
@given(arrays(np.float64, (4, 2), elements=st.floats(-1e3, 1e3)), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_iou_of_a_box_with_itself_is_exactly_1(corners, width, height):
    boxes = np.hstack([corners, corners + np.array([width, height])])
    iou = box_iou(boxes, boxes)
    assert (np.diag(iou) == 1).all()
    assert iou.max() <= 1


def test_iou_of_known_boxes():
    # Half of one box in another of the same size: 1/3. A quarter inside a whole: 1/4. Touching: nothing.
    a = np.array([[0.0, 0, 4, 4]])
    b = np.array([[2.0, 0, 6, 4], [0, 0, 2, 2], [4, 0, 8, 4]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 1 / 4, 0]])


@unhurried
@given(grid_boxes(least=1, most=3), grid_boxes(least=1, most=3))
def test_masks_that_fill_their_boxes_overlap_like_boxes(a, b):
    filled = [
        [
            InstanceMask(y=int(y0), x=int(x0), pixels=np.ones((int(y1 - y0), int(x1 - x0)), bool))
            for x0, y0, x1, y1 in s
        ]
        for s in (a, b)
    ]
    np.testing.assert_allclose(mask_iou(*filled), box_iou(a, b))


@unhurried
@given(arrays(bool, (2, 6, 7)))
def test_mask_iou_is_that_of_the_pixels(pixels):
    pixels[:, 0, 0] = True
    a, b = (InstanceMask(y=3, x=2, pixels=p) for p in pixels)
    expected = (pixels[0] & pixels[1]).sum() / (pixels[0] | pixels[1]).sum()
    assert mask_iou([a], [b])[0, 0] == pytest.approx(expected)
    assert mask_iou([a], [a])[0, 0] == 1


@unhurried
@given(grid_boxes(side=5), grid_boxes(side=5), st.sampled_from([0.1, 0.3, 0.5]))
def test_optimal_matching_is_never_beaten(truth, predicted, threshold):
    rule = MatchingRule(kind="optimal", iou=threshold)
    pairs = match_boxes(truth, predicted, rule).pairs
    iou = box_iou(truth, predicted)
    overlaps = iou[pairs[:, 0], pairs[:, 1]]
    assert (overlaps >= threshold).all()
    count, total = best_by_trying(iou, threshold)
    assert len(pairs) == count
    assert overlaps.sum() == pytest.approx(total)


def test_optimal_takes_more_matches_before_better_ones():
    # One pair of IoU 0.9 or two of 0.5 and 0.5: two objects found are worth more.
    truth = np.array([[0, 0, 100, 10], [0, 0, 50, 10]])
    predicted = np.array([[0, 0, 90, 10], [100 - 50, 0, 100, 10]])
    assert match_boxes(truth, predicted, OPTIMAL).pairs.tolist() == [[0, 1], [1, 0]]


@unhurried
@given(grid_boxes(), grid_boxes(), rules)
def test_every_rule_pairs_each_object_at_most_once_and_only_above_its_threshold(truth, predicted, rule):
    matches = match_boxes(truth, predicted, rule)
    overlaps = box_iou(truth, predicted)[matches.pairs[:, 0], matches.pairs[:, 1]]
    assert (overlaps >= rule.iou).all()
    assert len(matches.missed) + len(matches.pairs) == len(truth)
    assert len(matches.unclaimed) + len(matches.pairs) == len(predicted)
    assert matches.rule is rule


@unhurried
@given(grid_boxes(), grid_boxes(), st.randoms(use_true_random=False))
def test_f1_of_the_optimal_rule_does_not_depend_on_order(truth, predicted, random):
    shuffled = [truth[random.sample(range(len(truth)), len(truth))]]
    shuffled.append(predicted[random.sample(range(len(predicted)), len(predicted))])
    before, after = match_boxes(truth, predicted, OPTIMAL), match_boxes(*shuffled, OPTIMAL)
    assert object_scores(before) == object_scores(after)


@unhurried
@given(grid_boxes(), grid_boxes(), rules)
def test_f1_is_the_same_after_a_quarter_turn(truth, predicted, rule):
    # (x, y) -> (-y, x), about the origin.
    turned = [np.stack([-b[:, 3], b[:, 0], -b[:, 1], b[:, 2]], axis=1) for b in (truth, predicted)]
    before, after = match_boxes(truth, predicted, rule), match_boxes(*turned, rule)
    np.testing.assert_array_equal(before.pairs, after.pairs)
    assert object_scores(before) == object_scores(after)


@unhurried
@given(st.integers(0, 2**32 - 1))
def test_swapping_truth_and_prediction_transposes_the_optimal_pairs(seed):
    # Random corners leave no ties; with ties, either answer is optimal.
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 6, (2, 12, 2))
    a, b = np.concatenate([corner, corner + rng.uniform(1, 4, (2, 12, 2))], axis=2)
    rule = MatchingRule(kind="optimal", iou=0.1)
    there, back = match_boxes(a, b, rule).pairs, match_boxes(b, a, rule).pairs[:, ::-1]
    assert sorted(there.tolist()) == sorted(back.tolist())


def test_paper_rule_lets_each_true_box_take_the_best_that_is_left():
    truth = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [50, 50, 60, 60]])
    predicted = np.array([[0, 2, 10, 12], [0, 1, 10, 11], [58, 58, 68, 68]])
    # The first takes prediction 1 (IoU 9/11), which fits the second exactly; the second takes what is left.
    # The third overlaps by 4/196, below 0.1.
    assert match_boxes(truth, predicted, PAPER).pairs.tolist() == [[0, 1], [1, 0]]
    # In the other order the same boxes pair otherwise: the rule depends on the order of the truth.
    assert match_boxes(truth[[1, 0, 2]], predicted, PAPER).pairs.tolist() == [[0, 1], [1, 0]]


def test_paper_rule_can_find_fewer_than_the_optimal_one():
    truth = np.array([[0, 0, 10, 10], [0, 4, 10, 14]])
    predicted = np.array([[0, 1, 10, 11], [0, -4, 10, 6]])
    greedy, optimal = (
        match_boxes(truth, predicted, MatchingRule(kind=k, iou=0.4)) for k in ("greedy-truth", "optimal")
    )
    assert (len(greedy.pairs), len(optimal.pairs)) == (1, 2)


def test_threshold_is_inclusive():
    half = np.array([[0, 0, 4, 4]]), np.array([[0, 0, 4, 2]])
    assert len(match_boxes(*half, OPTIMAL).pairs) == 1
    tenth = np.array([[0, 0, 10, 1]]), np.array([[0, 0, 1, 1]])
    assert len(match_boxes(*tenth, PAPER).pairs) == 1


@pytest.mark.parametrize("rule", [OPTIMAL, PAPER])
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match_matches_nothing(rule, n, m):
    boxes = np.tile([0.0, 0, 1, 1], (3, 1))
    matches = match_boxes(boxes[:n], boxes[:m], rule)
    assert matches.pairs.shape == (0, 2)
    assert (matches.n_truth, matches.n_predicted) == (n, m)


@pytest.mark.parametrize("crowding", [1500, 1], ids=["spread out", "all on one another"])
@pytest.mark.parametrize("rule", [OPTIMAL, PAPER], ids=str)
def test_a_thousand_by_a_thousand_takes_well_under_a_second(rule, crowding):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, crowding, (1000, 2))
    truth = np.hstack([corner, corner + rng.uniform(20, 40, (1000, 2))])
    match_boxes(truth[:2], truth[:2], rule)  # imports scipy
    start = process_time()
    match_boxes(truth, truth + rng.normal(0, 2, (1000, 1)), rule)
    assert process_time() - start < 1  # 0.02 to 0.15 s on one core


def test_a_rule_says_everything_that_is_wrong_with_it():
    with pytest.raises(ParameterError, match=r"kind must be .*'optimal'.*'nearest'; iou must be .*1\.5"):
        MatchingRule(kind="nearest", iou=1.5)


@pytest.mark.parametrize("iou", [0.0, -0.1, float("nan"), True])
def test_a_rule_needs_a_threshold_above_0_and_at_most_1(iou):
    with pytest.raises(ParameterError, match="iou must be"):
        MatchingRule(kind="optimal", iou=iou)


def test_rules_print_what_they_are():
    assert str(OPTIMAL) == "optimal one-to-one, box IoU >= 0.5"
    assert str(PAPER) == "greedy in truth order, box IoU >= 0.1"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((2, 3)), r"\(n, 4\), got \(2, 3\)"),
        (np.array([[0, 0, np.nan, 1]]), r"boxes \[0\] are not finite"),
        (np.array([[0, 0, np.inf, 1]]), r"boxes \[0\] are not finite"),
        (np.array([[0, 0, 1, 1], [5, 5, 4, 4]]), r"boxes \[1\] are not finite with x0 < x1"),
        (np.array([[0, 0, 0, 1]]), r"x0 < x1"),
        (np.array([["a", "b", "c", "d"]]), "must be numbers"),
    ],
)
def test_boxes_that_are_none_are_refused_on_either_side(bad, words):
    good = np.array([[0.0, 0, 1, 1]])
    with pytest.raises(ParameterError, match="first.*" + words):
        match_boxes(bad, good, OPTIMAL)
    with pytest.raises(ParameterError, match="first.*; the second.*" + words):
        box_iou(bad, bad)


def test_matches_refuse_indices_out_of_range_or_used_twice():
    pairs = np.array([[0, 0], [0, 5]])
    with pytest.raises(
        ParameterError, match=r"truth indices must not repeat.*predicted indices must lie in 0 to 2"
    ):
        Matches(pairs=pairs, n_truth=1, n_predicted=3, rule=OPTIMAL)


def test_a_mask_without_pixels_has_no_overlap_to_speak_of():
    empty = InstanceMask(y=0, x=0, pixels=np.zeros((2, 2), bool))
    with pytest.raises(ParameterError, match=r"empty: \[0\] and \[\]"):
        mask_iou([empty], [])


@pytest.mark.parametrize("block", [1, 7, 40])
def test_blocks_that_bound_the_memory_change_no_pair(monkeypatch, block):
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 30, (2, 20, 2))
    truth, predicted = np.concatenate([corner, corner + rng.uniform(3, 9, (2, 20, 2))], axis=2)
    for rule in (MatchingRule(kind="optimal", iou=0.1), MatchingRule(kind="greedy-truth", iou=0.1)):
        whole = match_boxes(truth, predicted, rule).pairs
        assert len(whole) > 5
        with monkeypatch.context() as patched:
            patched.setattr(matching, "_BLOCK", block)
            np.testing.assert_array_equal(match_boxes(truth, predicted, rule).pairs, whole)


@unhurried
@given(arrays(bool, (2, 5, 4)), st.tuples(*[st.integers(0, 4)] * 4))
def test_masks_anywhere_overlap_as_they_do_on_one_canvas(pixels, corners):
    pixels[:, 0, 0] = True
    (ay, ax, by, bx), canvas = corners, np.zeros((2, 9, 8), bool)
    canvas[0, ay : ay + 5, ax : ax + 4] = pixels[0]
    canvas[1, by : by + 5, bx : bx + 4] = pixels[1]
    masks = [InstanceMask(y=y, x=x, pixels=p) for y, x, p in ((ay, ax, pixels[0]), (by, bx, pixels[1]))]
    expected = (canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum()
    assert mask_iou(masks[:1], masks[1:])[0, 0] == pytest.approx(expected)


def test_of_no_masks_there_is_no_overlap():
    whole = InstanceMask(y=0, x=0, pixels=np.ones((2, 2), bool))
    assert mask_iou([], [whole]).shape == (0, 1) and mask_iou([whole], []).shape == (1, 0)


def test_a_pairing_is_of_what_there_is():
    """Indices from 0 to one less than the count, two to a row."""
    Matches(pairs=np.array([[0, 2], [1, 0]]), n_truth=2, n_predicted=3, rule=OPTIMAL)
    for pair, words in (
        ([-1, 0], "truth indices must lie in 0 to 1"),
        ([2, 0], "truth indices must lie in 0 to 1"),
        ([0, -1], "predicted indices must lie in 0 to 2"),
        ([0, 3], "predicted indices must lie in 0 to 2"),
    ):
        for pairs in ([pair], [[1, 1], pair]):
            with pytest.raises(ParameterError, match=words):
                Matches(pairs=np.array(pairs), n_truth=2, n_predicted=3, rule=OPTIMAL)


def test_shapes_and_types_are_refused_also_where_no_checker_of_types_runs():
    """Outside the tests there is none."""
    for pairs in (np.zeros((1, 3), int), np.zeros((1, 2, 2), int)):
        with pytest.raises(ParameterError, match=r"pairs must be \(k, 2\)"):
            Matches.__post_init__(SimpleNamespace(pairs=pairs))
    for iou in ("0.5", None, True):
        with pytest.raises(ParameterError, match="iou must be a number"):
            MatchingRule.__post_init__(SimpleNamespace(kind="optimal", iou=iou))


def test_a_threshold_may_be_1_and_a_whole_number():
    boxes = np.array([[0, 0, 4, 4], [9, 9, 12, 14]])
    strict = MatchingRule(kind="optimal", iou=1)
    assert match_boxes(boxes, boxes, strict).pairs.tolist() == [[0, 0], [1, 1]]
    with pytest.raises(ParameterError, match="at most 1"):
        MatchingRule(kind="optimal", iou=1.0000001)


def test_a_rule_of_another_kind_still_prints_what_it_is(monkeypatch):
    monkeypatch.setitem(MATCHERS, "nearest", MATCHERS["optimal"])
    assert str(MatchingRule(kind="nearest", iou=0.25)) == "nearest, box IoU >= 0.25"


def test_paper_rule_takes_the_first_of_predictions_that_overlap_alike():
    """As the released table was made: an order of scores would choose another."""
    box = np.array([[0, 0, 10, 10]])
    assert match_boxes(box, np.repeat(box, 3, axis=0), PAPER).pairs.tolist() == [[0, 0]]
    left_and_right = np.array([[-2, 0, 8, 10], [2, 0, 12, 10]])
    assert match_boxes(box, left_and_right, PAPER).pairs.tolist() == [[0, 0]]
