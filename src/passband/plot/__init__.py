"""Results as figures: outlined detections, sizes, estimated against measured scores, evaluations.

Each ``draw_`` function gives a `Figure` of matplotlib without touching its global state; `save_figure`
writes it.
"""

from passband.drawing.saving import ACCENT, save_figure
from passband.estimate.evaluation.figures import (
    draw_coverage,
    draw_domain_means,
    draw_domain_scores,
    draw_estimates,
    draw_rejection,
    draw_scores,
)
from passband.estimate.evaluation.score_figures import (
    ScorePair,
    draw_explanations,
    draw_parity,
    draw_reliability,
)
from passband.estimate.evaluation.telling_figures import (
    draw_classification,
    draw_confusion,
    draw_precision_recall,
)
from passband.hrtem.wave_figures import (
    conditions_in_words,
    draw_conditions,
    draw_contrast_transfer,
    draw_exit_wave,
)
from passband.judge.figures import COLOURS, draw_detections, draw_sizes, draw_verdicts

__all__ = [
    "ACCENT",
    "COLOURS",
    "ScorePair",
    "conditions_in_words",
    "draw_classification",
    "draw_conditions",
    "draw_confusion",
    "draw_contrast_transfer",
    "draw_coverage",
    "draw_detections",
    "draw_domain_means",
    "draw_domain_scores",
    "draw_estimates",
    "draw_exit_wave",
    "draw_explanations",
    "draw_parity",
    "draw_precision_recall",
    "draw_rejection",
    "draw_reliability",
    "draw_scores",
    "draw_sizes",
    "draw_verdicts",
    "save_figure",
]
