"""Verdicts as tables for a spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from passband.judge.verdict import SCORES, Verdict
from passband.store.columns import rows_csv
from passband.units import NM, UM


def results_csv(verdicts: Sequence[Verdict]) -> str:
    """One line per micrograph; what is unknown or withheld is left empty.

    Parameters
    ----------
    verdicts
        In the order of the lines.

    Returns
    -------
    str
        CSV with a header line.

    Examples
    --------
    >>> results_csv([])[:30]
    'path,verdict,f1,f1_low,f1_high'
    """
    estimates = [f"{n}{part}" for n in SCORES for part in ("", "_low", "_high")]
    header = ["path", "verdict", *estimates, "coverage", "novelty", "count", "score_threshold"]
    header += ["pixel_size_nm", "mean_diameter_nm", "median_diameter_nm", "std_diameter_nm"]
    rows: list[list[Any]] = [[*header, "number_density_per_um2", "swelling_percent", "reasons"]]
    for v in verdicts:
        row: list[Any] = [v.path, v.verdict]
        for name in SCORES:
            e = v.estimates.get(name)
            row += ["", "", ""] if e is None else [f"{x:.4f}" for x in (e.value, e.low, e.high)]
        s, nm = v.sizes, v.sizes.diameters_nm
        row.append(f"{v.estimates['f1'].coverage:g}" if v.estimates else "")
        row += [_cell(v.novelty), len(v.detections), _cell(v.detections.score_threshold)]
        row.append(_cell(None if s.pixel_size is None else s.pixel_size / NM))
        some = nm is not None and len(nm) > 0
        row += [_cell(float(f(nm))) if some else "" for f in (np.mean, np.median, np.std)]  # type: ignore[arg-type]
        row.append(_cell(None if s.density is None else s.density * UM**2))
        row += [_cell(s.swelling_percent), " ".join(v.reasons)]
        rows.append(row)
    return rows_csv(rows)


def objects_csv(verdicts: Sequence[Verdict]) -> str:
    """One line per detected object: where it is, how large, and its score.

    Parameters
    ----------
    verdicts
        In the order of the lines.

    Returns
    -------
    str
        CSV with a header line.

    Examples
    --------
    >>> objects_csv([])[:24]
    'path,object,score,x_px,y'
    """
    rows: list[list[Any]] = [
        ["path", "object", "score", "x_px", "y_px", "width_px", "height_px", "diameter_px", "diameter_nm"]
    ]
    for v in verdicts:
        b, nm = v.detections.boxes_xyxy, v.sizes.diameters_nm
        for i, score in enumerate(v.detections.scores):
            x0, y0, x1, y1 = (float(c) for c in b[i])
            place = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, float(v.sizes.diameters[i])]
            row = [v.path, i, f"{score:.4f}", *(f"{p:.2f}" for p in place)]
            rows.append([*row, "" if nm is None else f"{nm[i]:.4g}"])
    return rows_csv(rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
