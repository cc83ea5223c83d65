"""Figures of an evaluation show its numbers: what is missing is left out, what was abstained on is apart."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from made_evaluations import abstaining, made, missing, with_intervals
from passband.errors import ParameterError
from passband.estimate.evaluation.figures import (
    domain_means,
    draw_coverage,
    draw_domain_means,
    draw_estimates,
    draw_rejection,
    draw_scores,
    held_rows,
    wilson,
)
from passband.estimate.evaluation.telling_figures import (
    draw_classification,
    draw_confusion,
    draw_precision_recall,
)
from score_figures import draw_domain_scores

ALL = (
    draw_estimates,
    draw_domain_means,
    draw_scores,
    draw_domain_scores,
    draw_confusion,
    draw_precision_recall,
    draw_classification,
    draw_rejection,
    draw_coverage,
)


def dots(axes) -> int:
    return sum(len(c.get_offsets()) for c in axes.collections)


@pytest.mark.parametrize("draw", ALL, ids=lambda d: d.__name__)
def test_every_figure_can_be_drawn_of_any_evaluation(draw):
    e = made(30)
    for some, target in (
        (e, "f1"),
        (with_intervals(e), "recall"),
        (abstaining(e, [0, 3]), "f1"),
        (missing(e, [1, 2]), "recall"),
        (missing(e, list(range(30))), "f1"),
    ):
        figure = draw(some, target)
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()


@pytest.mark.parametrize("draw", ALL, ids=lambda d: d.__name__)
def test_figures_can_share_a_sheet(draw):
    sheet = Figure()
    axes = sheet.subplots(1, 2)
    assert draw(made(30), axes=axes[1]) is sheet
    assert not axes[0].has_data() and axes[1].has_data() | bool(axes[1].texts)


def test_a_dot_for_each_row_with_an_estimate():
    e = missing(made(60), [4, 5, 6])
    assert dots(draw_estimates(e).axes[0]) == 57
    labels = [t.get_text() for t in draw_estimates(e).axes[0].get_legend().get_texts()]
    assert labels == ["A", "B <b>&", "C"]


def test_rows_that_were_abstained_on_are_apart():
    e = abstaining(made(60), [0, 1])
    axes = draw_estimates(e).axes[0]
    crosses = [c for c in axes.collections if c.get_label() == "abstained"]
    assert dots(axes) == 60 and len(crosses[0].get_offsets()) == 2
    first = e.repeats[0]
    assert len(held_rows(first).value) == 58
    np.testing.assert_array_equal(held_rows(first, abstained=True).value, first.value[:2, 0])
    cells = [int(t.get_text()) for t in draw_confusion(e).axes[0].texts]
    assert sum(cells) == 58


def test_means_of_domains_are_the_means():
    e = made(60)
    p = e.repeats[0]
    found = domain_means(e, "recall")
    mine = np.asarray(p.domains) == "C"
    np.testing.assert_allclose(found["C"][:2], [p.truth[mine, 2].mean(), p.value[mine, 2].mean()])
    np.testing.assert_allclose(found["C"][2:], [p.truth[mine, 2].std(), p.value[mine, 2].std()])
    truth, value = np.array(list(found.values()))[:, :2].T
    assert f"MAE {np.abs(truth - value).mean():.3f}" in draw_domain_means(e, "recall").axes[0].get_title()


def test_the_histogram_holds_every_row_in_its_group():
    e = made(60)
    bars = draw_scores(e, groups={"first": ["A"], "others": ["B <b>&", "C"]}).axes[0].patches
    assert sum(b.get_height() for b in bars) == 60
    assert sum(b.get_height() for b in bars[:10]) == 20


def test_the_confusion_counts_all_rows():
    e = made(90)
    for bins in (3, 5, 10):
        axes = draw_confusion(e, bins=bins).axes[0]
        counts = np.array([int(t.get_text()) for t in axes.texts]).reshape(bins, bins)
        assert counts.sum() == 90 and f"{100 * np.trace(counts) / 90:.0f} % in the same" in axes.get_title()
        measured = np.histogram(e.repeats[0].truth[:, 0], np.linspace(0, 1, bins + 1))[0]
        np.testing.assert_array_equal(counts.sum(axis=1), measured)


def test_the_star_lies_on_the_curve():
    axes = draw_precision_recall(made(80, repeats=1)).axes[0]
    curve, _, star = axes.lines
    x, y = star.get_data()
    assert np.min(np.hypot(curve.get_xdata() - x, curve.get_ydata() - y)) < 1e-9


def test_dropping_rows_starts_at_all_of_them():
    e = with_intervals(made(80))
    p = e.repeats[0]
    line = draw_rejection(e).axes[0].lines[0]
    assert line.get_ydata()[-1] == pytest.approx(np.abs(p.value - p.truth)[:, 0].mean())
    rising = draw_rejection(e, by="estimate").axes[0].lines[0]
    assert rising.get_ydata()[-1] == pytest.approx(p.truth[:, 0].mean())
    assert rising.get_ydata()[40] > rising.get_ydata()[-1] + 0.1  # the estimates are good ones
    with pytest.raises(ParameterError, match="'width' or 'estimate'"):
        draw_rejection(e, by="luck")


def test_coverage_is_that_of_each_domain():
    e = with_intervals(made(60))
    axes = draw_coverage(e).axes[0]
    shown = sorted(float(c.lines[0].get_xdata()[0]) for c in axes.containers)
    assert shown == sorted(m.coverage for m in e.domains["f1"].values())
    assert "not measured here" in draw_coverage(made(60)).axes[0].texts[0].get_text()


def test_wilsons_interval_inverts_the_normal_test():
    """At its ends the found share lies 1.96 standard errors off."""
    for share, n in ((0.9, 30), (0.5, 7), (1.0, 12), (0.0, 12)):
        for end in wilson(share, n):
            if 0 < end < 1:
                assert abs(share - end) / np.sqrt(end * (1 - end) / n) == pytest.approx(1.959964, rel=1e-6)


def test_an_unknown_score_is_refused():
    with pytest.raises(ParameterError, match="target must be one of"):
        draw_estimates(made(12), "f2")
