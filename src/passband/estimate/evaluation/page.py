"""An evaluation of estimates as one self-contained page: tables, and figures as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from passband.drawing.html import LABELS, page
from passband.drawing.parts import embed
from passband.estimate.evaluation.figures import (
    draw_coverage,
    draw_domain_means,
    draw_estimates,
    draw_rejection,
    draw_scores,
    held_rows,
)
from passband.estimate.evaluation.metrics import Evaluation, Metrics
from passband.estimate.evaluation.protocols import PROTOCOLS
from passband.estimate.evaluation.score_figures import draw_reliability
from passband.estimate.evaluation.telling_figures import (
    draw_classification,
    draw_confusion,
    draw_precision_recall,
)
from passband.estimate.regressor import TARGETS
from passband.store.files import write_whole
from passband.words import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: dict[str, Callable[[Metrics], float]] = {
    "MAE": lambda m: m.mae,
    "RMSE": lambda m: m.rmse,
    "R²": lambda m: m.r2,
    "Bias": lambda m: m.bias,
    "AUROC": lambda m: m.auroc,
    "Coverage": lambda m: m.coverage,
    "Mean width": lambda m: m.mean_width,
}


def write_evaluation(folder: Path, evaluation: Evaluation, *, subtitle: str = "") -> Path:
    """Write evaluation.html.

    Parameters
    ----------
    folder
        Made where it is missing. The file appears whole or not at all.
    evaluation
        Of any model under any protocol.
    subtitle
        Words about the rows, say the name of their table.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    PassbandError
        If it cannot be written.
    """
    return write_whole(Path(folder) / "evaluation.html", evaluation_page(evaluation, subtitle=subtitle))


def evaluation_page(evaluation: Evaluation, *, subtitle: str = "") -> str:
    """The self-contained HTML page.

    Parameters
    ----------
    evaluation
        Of any model under any protocol.
    subtitle
        Words about the rows.

    Returns
    -------
    str
        The same for the same arguments.
    """
    e, f1 = evaluation, evaluation.overall["f1"]
    told = (
        f"F1 estimated without labels to {f1.mae:.3f}" if math.isfinite(f1.mae) else "Nothing was estimated"
    )
    return page(
        "estimate/evaluation/page.html",
        title=f"Passband: evaluation of {e.model}",
        headline=told + (f", {_percent(f1.coverage)} of the intervals hold" if _known(f1.coverage) else ""),
        subtitle=" · ".join(words for words in (subtitle, *_facts(e)) if words),
        overall=_overall(e),
        overall_caption=_overall_caption(e),
        domains=_domains(e),
        figures=[embed(draw(), *words) for draw, words in _figures(e)],
        footer=_footer(e),
    )


def _facts(e: Evaluation) -> list[str]:
    domains = len(set(e.repeats[0].domains))
    return [
        f"model {e.model}",
        f"{e.few_shot} labelled images of each held-out domain shown" if e.few_shot else "",
        PROTOCOLS[e.protocol].words if e.protocol in PROTOCOLS else e.protocol,
        f"{counted(len(e.repeats[0].domains), 'row')} of {counted(domains, 'domain')}",
        "" if len(e.repeats) == 1 else f"means over {len(e.repeats)} repeats",
    ]


def _overall_caption(e: Evaluation) -> str:
    words = [
        "MAE: mean absolute error. Bias: mean of estimated less measured. AUROC: how well a score below 0.5 "
        "is told from its estimate, 0.5 being chance."
    ]
    if e.nominal is not None:
        words.append(
            f"Coverage: share of the intervals that hold the measured score, meant {e.nominal:g}, and their "
            f"mean width, of the rows on which the model did not abstain. It abstained on "
            f"{_percent(e.abstained)} of the rows; its other numbers are of all."
        )
    if left := len(e.repeats[0].domains) - int(np.isfinite(e.repeats[0].value[:, 0]).sum()):
        words.append(f"{counted(left, 'row')} could not be estimated and are in no number.")
    return " ".join(words)


class _Table(NamedTuple):
    """Headings, and of each row its name and the other cells."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]


def _overall(e: Evaluation) -> _Table:
    """Every score, without the columns that nothing was measured for."""
    lines = [(LABELS[t], e.overall[t]) for t in TARGETS]
    shown = {n: get for n, get in _COLUMNS.items() if any(_known(get(m)) for _, m in lines)}
    rows = [(name, [str(m.n), *(_cell(get(m)) for get in shown.values())]) for name, m in lines]
    return _Table(["Score", "Rows", *shown], rows)


def _domains(e: Evaluation) -> _Table:
    """The estimates of F1 domain by domain, the largest error first."""
    f1 = e.domains["f1"]
    has = e.nominal is not None
    columns = ["Domain", "Rows", "F1 measured", "F1 estimated", "MAE", "R²", "Bias"]
    columns += [*(["Coverage", "Mean width"] * has), "Precision MAE", "Recall MAE"]
    p = e.repeats[0]
    names = np.asarray(p.domains)
    rows = []
    for name in sorted(f1, key=lambda n: (-f1[n].mae if _known(f1[n].mae) else math.inf, n)):
        m = f1[name]
        measured = float(p.truth[names == name, 0].mean())
        numbers = [measured, measured + m.bias, m.mae, m.r2, m.bias, *([m.coverage, m.mean_width] * has)]
        numbers += [e.domains[t][name].mae for t in ("precision", "recall")]
        rows.append((name, [str(m.n), *map(_cell, numbers)]))
    return _Table(columns, rows)


def _figures(e: Evaluation) -> list[tuple[Callable[[], Figure], tuple[str, str]]]:
    """What draws each figure, and its heading and words."""
    h = held_rows(e.repeats[0])
    drawn: list[tuple[Callable[[], Figure], tuple[str, str]]] = [
        (
            lambda: draw_estimates(e),
            ("Estimated against measured F1", "On the diagonal an estimate is right. A dot is a row."),
        ),
        (
            lambda: draw_domain_means(e),
            ("Means of the domains", "Bars are standard deviations over the rows of a domain."),
        ),
    ]
    if len(h.value):
        drawn.append(
            (
                lambda: draw_reliability(h.value, h.truth),
                (
                    "Reliability",
                    "What was measured where some F1 was estimated. Below the diagonal estimates promise "
                    "too much. Bars are 95 % bootstrap intervals; grey columns count rows.",
                ),
            )
        )
    if e.nominal is not None:
        drawn += [
            (
                lambda: draw_coverage(e),
                (
                    "Coverage of the intervals",
                    "The dashed line is what is meant. Bars are 95 % binomial intervals.",
                ),
            ),
            (
                lambda: draw_rejection(e, by="width"),
                (
                    "Error when rows of wide intervals are dropped",
                    "A falling line: the width of an interval tells how far off its estimate may be.",
                ),
            ),
        ]
    drawn += [
        (
            lambda: draw_rejection(e, by="estimate"),
            (
                "Measured F1 when rows of low estimates are dropped",
                "A rising line means that the images that are kept are the better ones.",
            ),
        ),
        (
            lambda: draw_precision_recall(e),
            ("Telling good answers from bad", "Good is a measured F1 of at least 0.5."),
        ),
        (
            lambda: draw_classification(e),
            ("The same for other thresholds", "Dashed: what guessing at random reaches."),
        ),
        (
            lambda: draw_confusion(e),
            ("Ranges of F1", "Numbers of rows; the shade is the share of those measured in that range."),
        ),
        (lambda: draw_scores(e), ("Measured F1", "How the detector did on these rows.")),
        (
            lambda: draw_estimates(e, "precision"),
            ("Estimated against measured precision", "On the diagonal an estimate is right."),
        ),
        (
            lambda: draw_estimates(e, "recall"),
            (
                "Estimated against measured recall",
                "What a detector missed leaves no trace in its detections.",
            ),
        ),
    ]
    return drawn


def _footer(e: Evaluation) -> str:
    once = "" if len(e.repeats) == 1 else " Dots, ranges and reliability are those of the first repeat."
    return f"Every estimate was made by a model that did not see its row.{once}"


def _cell(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}") if _known(value) else "\N{EN DASH}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _known(value: float) -> bool:
    return math.isfinite(value)
