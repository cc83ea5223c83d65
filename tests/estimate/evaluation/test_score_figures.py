"""Reliability and explanations as figures."""

from __future__ import annotations

import numpy as np
import pytest

from passband.errors import ParameterError
from passband.estimate.evaluation.score_figures import draw_explanations, draw_reliability


def test_reliability_shows_the_means_and_counts():
    estimate = np.array([0.05, 0.07, 0.55, 0.95, 1.0])
    measured = np.array([0.2, 0.4, 0.5, 0.9, 1.0])
    axes, counts = draw_reliability(estimate, measured).axes
    line = axes.containers[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.06, 0.55, 0.975])
    np.testing.assert_allclose(line.get_ydata(), [0.3, 0.5, 0.95])
    assert [b.get_height() for b in counts.patches] == [2, 1, 2]
    assert "n = 5" in axes.get_title()
    with pytest.raises(ParameterError, match="two finite arrays"):
        draw_reliability(estimate[:0], measured[:0])


def test_the_strongest_feature_is_on_top():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3)) * [0.1, 1.0, 0.01]
    figure = draw_explanations(values, rng.random((50, 3)), ["a", "mean_score", "c"])
    axes = figure.axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert [n.rsplit(maxsplit=1)[0] for n in labels] == ["c", "a", "mean score"]
    top = axes.collections[-1].get_offsets()
    np.testing.assert_allclose(np.sort(top[:, 0]), np.sort(values[:, 1]))
    assert (np.abs(top[:, 1] - 2) <= 0.4).all()


def test_high_values_of_a_feature_are_red():
    values, features = np.array([[-0.5], [0.0], [0.5]]), np.array([[1.0], [2], [1000]])
    figure = draw_explanations(values, features, ["count"])
    figure.draw_without_rendering()
    colours = figure.axes[0].collections[0].get_facecolors()
    assert colours[2][0] > colours[2][2] and colours[0][0] < colours[0][2]
    with pytest.raises(ParameterError, match=r"wanted values and features of \(rows, 2\)"):
        draw_explanations(values, features, ["a", "b"])
    with pytest.raises(ParameterError, match="at least one row"):
        draw_explanations(values[:0], features[:0], ["a"])
