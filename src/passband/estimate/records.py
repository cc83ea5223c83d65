"""A calibration as plain settings and arrays, and back, believing nothing of what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from passband.detections.matching import MatchingRule
from passband.errors import CalibrationError, ParameterError
from passband.estimate import forest
from passband.estimate.blend import Blend
from passband.estimate.calibration import Calibration, HeldOutScores
from passband.estimate.effects import DomainEffect, LabelledRows
from passband.estimate.in_domain import InDomain, Setting
from passband.estimate.intervals import Reach
from passband.estimate.novelty import Reference
from passband.estimate.regressor import TARGETS, Forests, Regressor
from passband.store.tensors import Sealed

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """A fitted estimator as plain settings and arrays, so that a bundle can carry it.

    Parameters
    ----------
    settings
        JSON values.
    arrays
        Numeric arrays by name.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def to_record(calibration: Calibration) -> CalibrationRecord:
    """Take a calibration apart into JSON values and arrays.

    Returns
    -------
    CalibrationRecord
        For a bundle.
    """
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
        "widest": c.widest,
        "adapted_to": None if c.labelled is None else c.labelled.domain,
        "settings": [] if c.in_domain is None else [asdict(s) for s in c.in_domain.settings],
    }
    parts: dict[str, object] = {"reference": c.reference, "held_out": c.held_out}
    if isinstance(c.regressor, Blend):
        parts["blend"] = c.regressor
    else:
        parts["forests"] = c.regressor
        for i, trees in enumerate(c.regressor.forests):
            parts[f"forest{i}"] = trees
    parts |= {name: part for name, part in (("effect", c.effect), ("labelled", c.labelled)) if part}
    if c.in_domain is not None:
        parts |= {"in_domain": c.in_domain, "in_domain_forest": c.in_domain.forest}
    arrays = {
        f"{prefix}.{name}": value
        for prefix, part in parts.items()
        for name, value in vars(part).items()
        if isinstance(value, np.ndarray) and value.size
    }
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
        if s["format"] != FORMAT:
            remedy = "upgrade Passband" if s["format"] > FORMAT else "calibrate anew"
            raise CalibrationError(
                f"calibration of format {s['format']}, this Passband reads format {FORMAT}; {remedy}"
            )
        arrays = {name: np.asarray(array) for name, array in record.arrays.items()}
        adapted_to = s["adapted_to"]
        labelled = None
        if adapted_to is not None:
            labelled = LabelledRows(
                domain=str(adapted_to),
                scores=arrays.pop("labelled.scores", np.zeros((0, 0))),
                **_part(arrays, "labelled", LabelledRows),
            )
        effect = None
        if "effect.variances" in arrays:
            effect = DomainEffect(**_part(arrays, "effect", DomainEffect))
        return Calibration(
            model=str(s["model"]),
            features=tuple(str(n) for n in s["features"]),
            score_threshold=float(s["score_threshold"]),
            matching=MatchingRule(kind=str(s["matching"]["kind"]), iou=float(s["matching"]["iou"])),
            coverage=float(s["coverage"]),
            valid_for=str(s["valid_for"]),
            domains={str(name): int(n) for name, n in s["domains"].items()},
            reach={str(target): _reach(reach, float(s["coverage"])) for target, reach in s["reach"].items()},
            regressor=_regressor(arrays),
            effect=effect,
            reference=Reference(
                edge=float(s["edge"]),
                within=arrays.pop("reference.within", np.zeros(0)),
                **_part(arrays, "reference", Reference),
            ),
            widest=float(s["widest"]),
            held_out=HeldOutScores(**_part(arrays, "held_out", HeldOutScores)),
            labelled=labelled,
            in_domain=_in_domain(s.get("settings"), arrays),  # not told before 0.2
        )
    except (
        KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ParameterError
    ) as e:  # fmt: skip
        raise CalibrationError(f"a stored calibration cannot be understood: {e!r}; calibrate anew") from e


def calibration_parts(record: CalibrationRecord | None) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """What a bundle's header and its tensors hold of a calibration."""
    if record is None:
        return None, {}
    arrays = {n: torch.from_numpy(np.ascontiguousarray(v).copy()) for n, v in record.arrays.items()}
    return dict(record.settings), {f"calibration.{n}": v for n, v in arrays.items()}


def open_calibration(sealed: Sealed) -> CalibrationRecord | None:
    """The calibration of a bundle's file, or None."""
    if (settings := sealed.header["calibration"]) is None:
        return None
    arrays = {name: v.numpy() for name, v in sealed.under("calibration.").items()}
    return CalibrationRecord(settings=settings, arrays=arrays)


def _regressor(arrays: Mapping[str, np.ndarray]) -> Regressor:
    if "blend.rows" in arrays:
        return Blend(**_part(arrays, "blend", Blend))
    scaling = _part(arrays, "forests", Forests)
    forests = []
    for i in range(len(TARGETS)):
        own = f"forest{i}."
        stored = {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}
        forests.append(forest.from_arrays(stored, scaling["center"].size))
    return Forests(forests=tuple(forests), **scaling)


def _in_domain(settings: Any, arrays: Mapping[str, np.ndarray]) -> InDomain | None:
    if not settings:
        return None
    own = "in_domain_forest."
    stored = {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}
    known = tuple(
        Setting(instrument=str(s["instrument"]), low=float(s["low"]), high=float(s["high"])) for s in settings
    )
    columns = np.asarray(arrays["reference.center"]).size
    return InDomain(
        forest=forest.from_arrays(stored, columns), settings=known, **_part(arrays, "in_domain", InDomain)
    )


def _reach(stored: Mapping[str, Any], coverage: float) -> Reach:
    share = stored["worst_coverage"]
    return Reach(
        radius=float(stored["radius"]),
        mean_width=float(stored["mean_width"]),
        worst_domain=str(stored["worst_domain"]),
        worst_coverage=float("nan") if share is None else float(share),
        r2=float(stored["r2"]),
        level=coverage if stored.get("level") is None else float(stored["level"]),  # not told before 0.2
    )


def _part(arrays: Mapping[str, np.ndarray], prefix: str, kind: Any) -> dict[str, np.ndarray]:
    """The stored arrays of one part, by the names of its fields."""
    names = [f.name for f in fields(kind) if f.type == "np.ndarray" and f.default_factory is MISSING]
    missing = [f"{prefix}.{n}" for n in names if f"{prefix}.{n}" not in arrays]
    if missing:
        raise CalibrationError(f"a stored calibration lacks the arrays {missing}; calibrate anew")
    return {n: arrays[f"{prefix}.{n}"] for n in names}
