"""A table of labelled rows to an evaluation: read, held out, said in words, as JSON or as a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from passband.errors import CalibrationError, ParameterError
from passband.estimate.evaluation.evaluate import evaluate, evaluate_column
from passband.estimate.evaluation.metrics import Evaluation, Metrics, bootstrap
from passband.estimate.regressor import TARGETS
from passband.estimate.tables import SWELLING, read_table
from passband.types import Progress
from passband.words import counted

COLUMNS: tuple[str, ...] = (*TARGETS, SWELLING)
"""What a table can be evaluated for."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a table.

    Parameters
    ----------
    target
        One of `COLUMNS`.
    protocol, model, repeats, few_shot, coverage
        As in `passband.estimate.evaluation.evaluate.evaluate`.
    """

    target: str = "f1"
    protocol: str = "leave-one-domain-out"
    model: str = "passband"
    repeats: int = 10
    few_shot: int = 0
    coverage: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it.

    Parameters
    ----------
    question
        What was asked.
    overall
        Metrics of the target.
    domains
        The same of each domain.
    evaluation
        All of it, or None for the swelling error.
    ends
        95 % bootstrap intervals over images, by the name of the metric.
    """

    question: Question
    overall: Metrics
    domains: Mapping[str, Metrics]
    evaluation: Evaluation | None
    ends: Mapping[str, tuple[float, float]]


def evaluate_file(path: Path, question: Question, *, progress: Progress | None = None) -> Answer:
    """Evaluate label-free estimates on a table of labelled rows.

    Parameters
    ----------
    path
        CSV, in our form or that of Li et al. (`passband.estimate.tables`).
    question
        What to estimate, by what, held out how.
    progress
        Called before each fold and at the end.

    Returns
    -------
    Answer
        For `answer_to_json` or `answer_in_words`.

    Raises
    ------
    CalibrationError
        If the table cannot be read, used, or has no such column.
    ParameterError
        If the question makes no sense.

    Examples
    --------
    >>> import tempfile
    >>> from passband.estimate.features import PAPER_FEATURES
    >>> from passband.estimate.rows import CalibrationRow
    >>> from passband.estimate.tables import write_table
    >>> rows = [
    ...     CalibrationRow(
    ...         features=dict.fromkeys(PAPER_FEATURES, i / 40), f1=i / 40, precision=1, recall=1,
    ...         domain="AB"[i % 2], image=f"{i}.tif",
    ...     )
    ...     for i in range(40)
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = write_table(Path(folder) / "rows.csv", rows)
    ...     evaluate_file(table, Question(model="mean-confidence")).overall.mae
    0.0
    """
    q = question
    if q.target not in COLUMNS:
        raise ParameterError(f"target must be one of {list(COLUMNS)}, got {q.target!r}")
    table = read_table(path)
    if q.target != SWELLING:
        e = evaluate(
            table.rows,
            model=q.model,
            protocol=q.protocol,
            coverage=q.coverage,
            repeats=q.repeats,
            few_shot=q.few_shot,
            progress=progress,
        )
        return Answer(
            question=q,
            overall=e.overall[q.target],
            domains=e.domains[q.target],
            evaluation=e,
            ends=bootstrap(e, q.target),
        )
    if q.model != "paper-rf" or q.few_shot:
        raise ParameterError(
            "the swelling error is no score in [0, 1]: it is estimated by the published forest only; give "
            "--model paper-rf and no --few-shot"
        )
    if table.swelling_error is None:
        raise CalibrationError(f"{path}: column missing: {SWELLING}")
    overall, domains = evaluate_column(
        table.rows, table.swelling_error, protocol=q.protocol, repeats=q.repeats
    )
    return Answer(question=q, overall=overall, domains=domains, evaluation=None, ends={})


def answer_to_json(answer: Answer) -> str:
    """The machine-readable document of an evaluation.

    Returns
    -------
    str
        One line of ASCII JSON and a line feed; null stands for what was not measured. Coverages are
        those of the rows on which the model did not abstain.
    """
    q, m, e = answer.question, answer.overall, answer.evaluation
    shares = [d.coverage for d in answer.domains.values() if not math.isnan(d.coverage)]
    document = {
        "target": q.target,
        "protocol": q.protocol,
        "model": q.model,
        "few_shot": q.few_shot,
        "n": m.n,
        **{name: _number(getattr(m, name)) for name in ("mae", "rmse", "r2", "nrmse", "nmae", "bias")},
        "auroc_below_0_5": _number(m.auroc) if e else None,
        "coverage": {
            "nominal": None if e is None else e.nominal,
            "overall": _number(m.coverage),
            "worst_domain": _number(min(shares, default=math.nan)),
        },
        "mean_width": _number(m.mean_width),
        "abstained": 0.0 if e is None else _number(e.abstained),
        "domains": {
            name: {"n": d.n, **{k: _number(getattr(d, k)) for k in ("mae", "r2", "coverage")}}
            for name, d in answer.domains.items()
        },
        "bootstrap_95": {name: [_number(a), _number(b)] for name, (a, b) in answer.ends.items()},
    }
    return json.dumps(document, allow_nan=False) + "\n"


def answer_in_words(answer: Answer) -> str:
    """The same for a person: a line for each metric, a line for each domain.

    Returns
    -------
    str
        Without a line feed at the end.
    """
    q, m, e = answer.question, answer.overall, answer.evaluation
    few = f", {q.few_shot} labelled images of each held-out domain shown" if q.few_shot else ""
    lines = [f"{q.target} estimated by {q.model}, {q.protocol}{few}: {counted(m.n, 'row')}"]
    words = {
        "mae": "mean absolute error",
        "rmse": "root mean square error",
        "r2": "R2",
        "nrmse": "RMSE / s.d. of measured",
        "nmae": "MAE / mean measured",
        "bias": "bias, estimated less measured",
        "auroc": "alarm below 0.5, AUROC",
        "coverage": "coverage of intervals",
        "mean_width": "their mean width",
    }
    for name, meaning in words.items():
        value = getattr(m, name)
        if math.isnan(value) or (e is None and name == "auroc"):
            continue
        low, high = answer.ends.get(name, (math.nan, math.nan))
        ends = "" if math.isnan(low) else f"   95 %: {low:.3f} to {high:.3f}"
        meant = f"   meant {e.nominal:g}" if e and e.nominal and name == "coverage" else ""
        lines.append(f"  {meaning:<32}{value:>8.3f}{ends}{meant}")
    if e is not None and e.abstained:
        lines.append(f"  {'abstained from':<32}{e.abstained:>8.3f}   coverage and width are of the others")
    lines.append(f"\n{'domain':<24}{'rows':>6}{'MAE':>8}{'R2':>8}{'bias':>8}{'cover':>8}{'width':>8}")
    for name, d in answer.domains.items():
        cells = "".join(
            f"{'-':>8}" if math.isnan(v) else f"{v:>8.3f}"
            for v in (d.mae, d.r2, d.bias, d.coverage, d.mean_width)
        )
        lines.append(f"{name:<24}{d.n:>6}{cells}")
    return "\n".join(lines)


def _number(value: float) -> float | None:
    return None if math.isnan(value) or math.isinf(value) else round(float(value), 6)
