"""Evaluations as lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from passband.estimate.evaluation.metrics import Evaluation
from passband.estimate.regressor import TARGETS


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """Lay results out in columns, a line for each model, protocol and target.

    Parameters
    ----------
    evaluations
        Any number.

    Returns
    -------
    str
        Lines of equal layout; a dash stands for what was not measured.

    Examples
    --------
    >>> format_table([]).split()[:3]
    ['protocol', 'model', 'score']
    """
    columns = ("MAE", "RMSE", "R2", "bias", "AUROC", "cover", "worst", "width", "abstain")
    head = "".join(f"{name:>8}" for name in columns)
    lines = [f"{'protocol':<29}{'model':<25}{'score':<10}{'n':>5}{head}  worst domain"]
    for e in evaluations:
        protocol = f"{e.protocol} +{e.few_shot}" if e.few_shot else e.protocol
        for target in TARGETS:
            m, worst = e.overall[target], e.worst_domain(target)
            lowest = e.domains[target][worst].coverage
            numbers = [(m.mae, 3), (m.rmse, 3), (m.r2, 3), (m.bias, 3), (m.auroc, 3)]
            numbers += [(m.coverage, 2), (lowest, 2), (m.mean_width, 2), (e.abstained, 2)]
            cells = "".join(_cell(value, 8, digits) for value, digits in numbers)
            end = "" if math.isnan(lowest) else f"  {worst}"
            lines.append(f"{protocol:<29}{e.model:<25}{target:<10}{m.n:>5}{cells}{end}")
    return "\n".join(lines)


def _cell(value: float, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.{digits}f}"
