"""Shares of an estimate: they add up, and what does not differ has none."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from passband.detections.matching import OPTIMAL
from passband.errors import ParameterError
from passband.estimate.features import PAPER_FEATURES
from passband.estimate.performance import fit_calibration
from passband.estimate.reasons import what_moved
from passband.estimate.regressor import guess
from passband.estimate.rows import CalibrationRow

pytestmark = pytest.mark.training


@pytest.fixture(scope="module", params=["passband", "paper-rf"])
def calibration(request):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(80):
        f = {name: float(rng.random()) for name in PAPER_FEATURES}
        f1 = float(np.clip(f["mean_score"] * (1 - 0.5 * f["std_score"]), 0, 1))
        rows.append(
            CalibrationRow(features=f, f1=f1, precision=f1, recall=f1, domain="AB"[i % 2], image=f"{i}")
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passband.estimate.regressor._N_TREES", 10)
        return fit_calibration(rows, score_threshold=0.1, matching=OPTIMAL, model=request.param)


def test_the_shares_add_up_to_the_difference_from_a_usual_image(calibration):
    here = np.random.default_rng(1).random(len(PAPER_FEATURES))
    both = np.stack([here, calibration.reference.center])
    a, b = guess(calibration.regressor, both)[:, 0]
    moved = what_moved(calibration, here)
    assert sum(m.effect for m in moved) == pytest.approx(a - b, abs=1e-12) and abs(a - b) > 0.01
    assert [abs(m.effect) for m in moved] == sorted((abs(m.effect) for m in moved), reverse=True)
    assert {m.feature: m.value for m in moved} == dict(zip(PAPER_FEATURES, here.tolist(), strict=True))


def test_a_share_is_the_mean_over_all_orders(calibration):
    """Of three features that differ, by hand: six orders."""
    here = calibration.reference.center.copy()
    changed = [0, 4, 6]
    here[changed] = [0.9, 0.1, 0.95]
    sums = np.zeros(3)
    for order in permutations(range(3)):
        row = calibration.reference.center.copy()
        before = guess(calibration.regressor, row[None])[0, 0]
        for k in order:
            row[changed[k]] = here[changed[k]]
            after = guess(calibration.regressor, row[None])[0, 0]
            sums[k] += (after - before) / 6
            before = after
    effects = {m.feature: m.effect for m in what_moved(calibration, here)}
    assert [effects[PAPER_FEATURES[j]] for j in changed] == pytest.approx(sums.tolist(), abs=1e-12)
    assert all(effects[n] == 0 for j, n in enumerate(PAPER_FEATURES) if j not in changed)


def test_an_unknown_score_is_refused(calibration):
    with pytest.raises(ParameterError, match="swelling"):
        what_moved(calibration, calibration.reference.center, "swelling")
