"""Parity and explanations as figures."""

from __future__ import annotations

import numpy as np
import pytest

from passband.errors import ParameterError
from passband.estimate.calibration import Estimate
from score_figures import ScorePair, draw_explanations, draw_parity


def pair(measured: float, value: float, group: str = "") -> ScorePair:
    e = Estimate(value=value, low=max(0.0, value - 0.1), high=min(1.0, value + 0.1), coverage=0.9)
    return ScorePair(estimate=e, measured=measured, group=group)


def test_parity_says_the_error_and_how_many_intervals_hold() -> None:
    figure = draw_parity([pair(0.5, 0.55, "A"), pair(0.9, 0.6, "B"), pair(1.0, 1.0, "A")])
    title = figure.axes[0].get_title()
    assert "0.117" in title  # (0.05 + 0.30 + 0) / 3
    assert "2 of 3 intervals" in title
    assert "90 %" in title
    with pytest.raises(ParameterError, match="no pair"):
        draw_parity([])


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
