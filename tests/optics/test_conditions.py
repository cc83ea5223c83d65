"""Laws of imaging conditions and of drawing them."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

import numpy as np
import pytest

from passband.cavities.domains import DOMAINS
from passband.cavities.draws import draw_cavities
from passband.cavities.image import CavityRecord
from passband.errors import ParameterError
from passband.optics.conditions import (
    ConditionRanges,
    Grid,
    ImagingConditions,
    Uniform,
    draw_conditions,
)

LATER = (
    "vibration",
    "inelastic_share",
    "quantum_efficiency",
    "dqe_falloff",
    "gain",
    "offset",
    "readout",
    "gain_noise",
)
WITHIN = {
    "vibration": (0.1, 0.9),
    "inelastic_share": (0.0, 0.2),
    "quantum_efficiency": (0.4, 1.0),
    "dqe_falloff": (0.0, 1.0),
    "gain": (1.0, 20.0),
    "offset": (-5.0, 200.0),
    "readout": (0.0, 6.0),
    "gain_noise": (0.0, 0.03),
}


def test_every_condition_can_be_drawn_from_a_range() -> None:
    assert [f.name for f in fields(ConditionRanges)] == [f.name for f in fields(ImagingConditions)]
    ranges = ConditionRanges(**{n: Uniform(low=low, high=high) for n, (low, high) in WITHIN.items()})
    drawn = draw_conditions(ranges, 200, seed=3)
    for name, (low, high) in WITHIN.items():
        values = [getattr(c, name) for c in drawn]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high


def test_what_was_drawn_before_there_were_more_conditions_is_drawn_still() -> None:
    """The conditions that came later are drawn after the others."""
    old = {
        "C10": Uniform(low=-300, high=0),
        "dose": Grid(values=(20, 400)),
        "mtf_half": Uniform(low=0.2, high=0.5),
    }
    new = {n: Uniform(low=low, high=high) for n, (low, high) in WITHIN.items()}
    one = draw_conditions(ConditionRanges(**old), 6, seed=1)
    other = draw_conditions(ConditionRanges(**old, **new), 6, seed=1)
    for a, b in zip(one, other, strict=True):
        assert all(getattr(a, n) == getattr(b, n) for n in asdict(a) if n not in LATER)
        assert a.vibration == 0 < b.vibration
    # As the version before them drew them.
    known = -146.45351258992298, 0.47540057518314205
    assert (one[0].C10, one[5].mtf_half) == pytest.approx(known, rel=1e-12)


def test_a_record_of_an_older_version_is_read_with_what_changes_nothing() -> None:
    record = draw_cavities(DOMAINS["A"], np.random.default_rng(1))
    values = json.loads(record.to_json())
    for name in LATER:
        del values["conditions"][name]
    old = CavityRecord.from_json(json.dumps(values))
    assert old == record
    still = {"vibration": 0, "inelastic_share": 0, "quantum_efficiency": 1, "dqe_falloff": 0, "gain": 1}
    still |= {"offset": 0, "readout": 0, "gain_noise": 0}
    assert {n: getattr(old.conditions, n) for n in LATER} == still


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vibration", -0.1, "must not be negative"),
        ("readout", -1.0, "must not be negative"),
        ("gain_noise", -1.0, "must not be negative"),
        ("gain", 0.0, "must be more than zero"),
        ("inelastic_share", 1.1, "must be 0 to 1"),
        ("dqe_falloff", -0.1, "must be 0 to 1"),
        ("quantum_efficiency", 0.0, "must be above 0 and at most 1"),
        ("quantum_efficiency", 1.1, "must be above 0 and at most 1"),
        ("offset", float("inf"), "must be a finite number"),
        ("vibration", float("nan"), "must be a finite number"),
    ],
)
def test_what_no_instrument_does_is_refused_by_name(name: str, value: float, words: str) -> None:
    with pytest.raises(ParameterError, match=f"{name} {words}"):
        ImagingConditions(**{name: value})
