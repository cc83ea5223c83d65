"""Reliability as a figure."""

from __future__ import annotations

import numpy as np
import pytest

from passband.errors import ParameterError
from passband.estimate.evaluation.score_figures import draw_reliability


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
