"""A calibration as plain settings and arrays, and back, believing nothing of what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from passband.errors import CalibrationError, ParameterError
from passband.estimate import forest
from passband.estimate.intervals import Reach
from passband.estimate.novelty import Reference
from passband.estimate.performance import Calibration
from passband.estimate.regressor import Regressor
from passband.measure.matching import MatchingRule

if TYPE_CHECKING:
    from passband.learn.bundle import CalibrationRecord

FORMAT = 1
_REFERENCE = ("center", "scale", "low", "high", "rows")
_MOST_FORESTS = 3


def to_record(calibration: Calibration) -> CalibrationRecord:
    """Take a calibration apart into JSON values and arrays.

    Parameters
    ----------
    calibration
        Any.

    Returns
    -------
    CalibrationRecord
        For a bundle.
    """
    from passband.learn.bundle import CalibrationRecord

    c = calibration
    settings = {
        "format": FORMAT,
        "model": c.model,
        "features": list(c.features),
        "score_threshold": c.score_threshold,
        "matching": asdict(c.matching),
        "coverage": c.coverage,
        "valid_for": c.valid_for,
        "domains": dict(c.domains),
        # NaN is no JSON: a coverage that was not measured is null.
        "reach": {
            target: {k: None if v != v else v for k, v in asdict(reach).items()}
            for target, reach in c.reach.items()
        },
        "edge": c.reference.edge,
        "forests": len(c.regressor.forests),
        "difficulty": c.difficulty is not None,
    }
    arrays = {f"reference.{name}": getattr(c.reference, name) for name in _REFERENCE}
    arrays |= _regressor_arrays("regressor", c.regressor)
    if c.difficulty is not None:
        arrays |= _regressor_arrays("difficulty", c.difficulty)
    return CalibrationRecord(settings=settings, arrays=arrays)


def from_record(record: CalibrationRecord) -> Calibration:
    """Put a calibration together again.

    Parameters
    ----------
    record
        What `to_record` gave, perhaps damaged or hostile.

    Returns
    -------
    Calibration
        Whole and checked.

    Raises
    ------
    CalibrationError
        Saying what is wrong with the settings or the arrays, or that the format is newer.
    """
    s = record.settings
    try:
        if s["format"] > FORMAT:
            raise CalibrationError(
                f"calibration of format {s['format']}, this Passband reads up to {FORMAT}; upgrade Passband"
            )
        count = int(s["forests"])
        if not 1 <= count <= _MOST_FORESTS:
            raise CalibrationError(f"a calibration holds 1 to {_MOST_FORESTS} forests, got {count}")
        arrays = {name: np.asarray(array) for name, array in record.arrays.items()}
        regressor = _regressor(arrays, "regressor", count)
        # The expected errors of all scores are always one forest.
        difficulty = _regressor(arrays, "difficulty", 1) if s["difficulty"] is True else None
        return Calibration(
            model=str(s["model"]),
            features=tuple(str(n) for n in s["features"]),
            score_threshold=float(s["score_threshold"]),
            matching=MatchingRule(kind=str(s["matching"]["kind"]), iou=float(s["matching"]["iou"])),
            coverage=float(s["coverage"]),
            valid_for=str(s["valid_for"]),
            domains={str(name): int(n) for name, n in s["domains"].items()},
            reach={str(target): _reach(reach) for target, reach in s["reach"].items()},
            regressor=regressor,
            difficulty=difficulty,
            reference=Reference(edge=float(s["edge"]), **_part(arrays, "reference", _REFERENCE)),
        )
    except (
        KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ParameterError
    ) as e:  # fmt: skip
        raise CalibrationError(f"a stored calibration cannot be understood: {e!r}; calibrate anew") from e


def _regressor_arrays(prefix: str, regressor: Regressor) -> dict[str, np.ndarray]:
    arrays = {f"{prefix}.center": regressor.center, f"{prefix}.scale": regressor.scale}
    for i, trees in enumerate(regressor.forests):
        arrays |= {f"{prefix}.forest{i}.{name}": array for name, array in forest.to_arrays(trees).items()}
    return arrays


def _regressor(arrays: Mapping[str, np.ndarray], prefix: str, count: int) -> Regressor:
    scaling = _part(arrays, prefix, ("center", "scale"))
    names = tuple(f.name for f in fields(forest.Forest) if f.name != "n_features")
    forests = tuple(
        forest.from_arrays(_part(arrays, f"{prefix}.forest{i}", names), scaling["center"].size)
        for i in range(count)
    )
    return Regressor(forests=forests, **scaling)


def _reach(stored: Mapping[str, Any]) -> Reach:
    share = stored["worst_coverage"]
    return Reach(
        radius=float(stored["radius"]),
        mean_width=float(stored["mean_width"]),
        worst_domain=str(stored["worst_domain"]),
        worst_coverage=float("nan") if share is None else float(share),
    )


def _part(arrays: Mapping[str, np.ndarray], prefix: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    missing = [f"{prefix}.{n}" for n in names if f"{prefix}.{n}" not in arrays]
    if missing:
        raise CalibrationError(f"a stored calibration lacks the arrays {missing}; calibrate anew")
    return {n: arrays[f"{prefix}.{n}"] for n in names}
