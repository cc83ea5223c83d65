"""What a calibration knows, in words."""

from __future__ import annotations

from passband.estimate.records import CalibrationRecord, from_record
from passband.types import Lines
from passband.units import NM


def about_calibration(record: CalibrationRecord | None, *, particles: bool = False) -> Lines:
    """What a calibration was made from, and what its intervals hold."""
    of, command = ("batches of crops", "particles fit") if particles else ("labelled images", "calibrate")
    if record is None:
        return [("calibration", f"none: scores cannot be estimated; see `passband {command} --help`")]
    calibration = from_record(record)
    rows = sum(calibration.domains.values())
    widths = ", ".join(f"{name} {reach.mean_width:.2f}" for name, reach in calibration.reach.items())
    boxes = calibration.model not in ("particles", "segmenter")  # a class or a pixel is right or wrong
    matching = [("matching", str(calibration.matching))] if boxes else []
    return [
        ("calibration", f"{rows} {of} of {len(calibration.domains)} domains"),
        *matching,
        ("coverage", calibration.statement),
        ("interval width", f"{widths} on average"),
        *(
            ("narrower for", f"{s.instrument}, {s.low / NM:.3g} to {s.high / NM:.3g} nm a pixel")
            for s in (() if calibration.in_domain is None else calibration.in_domain.settings)
        ),
    ]
