"""Accuracy on batches of 200 cards, told without labels, with each kind of disorder held out in turn.

    python studies/cards_stress.py

The model is that of `cards_poses.py`: 800 labelled and 12,000 unlabelled cards at +-180; the batches are
of fresh cards, made worse in one way at rising strength (`particles.stress.DISORDERS`). What is asked
of a batch was chosen on the suits drawn here, not on the recovered templates that the table is of; rows below
the first ask less.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cards_poses import EPOCHS, learnt
from passband.estimate.evaluation.evaluate import evaluate
from passband.estimate.regressor import BATCH_FEATURES, RECIPES
from passband.particles.stress import stress_rows
from passband.store.files import write_whole
from recovered_cards import drawn, templates
from score_tables import format_table

RESULTS = Path(__file__).parent / "results"
NAMED = ("angle", "shear", "noise", "contamination")


def main() -> None:
    """Print and keep the table."""
    torch.set_num_threads(1)
    images = list(templates().values())
    fresh, truth = drawn(images, 500, 8000, angle=180)
    rows = list(stress_rows(learnt(0, EPOCHS), fresh, truth, seed=1))
    tried = {"all three": BATCH_FEATURES, **{f"{name} alone": (name,) for name in BATCH_FEATURES}}
    tried["mean_probability, learnt"] = ("mean_probability",)
    errors: dict[str, dict[str, float]] = {}
    for name, inputs in tried.items():
        RECIPES["particles"] = replace(RECIPES["particles"], inputs=inputs)
        found = evaluate(rows, model="particles")
        errors[name] = {domain: m.mae for domain, m in found.domains["f1"].items()}
    domains = list(errors["all three"])
    errors["mean_probability as it is"] = {
        d: float(np.mean([abs(r.features["mean_probability"] - r.f1) for r in rows if r.domain == d]))
        for d in domains
    }
    RECIPES["particles"] = replace(RECIPES["particles"], inputs=BATCH_FEATURES)
    lines = [format_table([evaluate(rows, model="particles")]), ""]
    lines.append(f"{'MAE, held out':28}" + "".join(f"{d:>14}" for d in domains) + f"{'all':>8}{'four':>8}")
    for name, of in errors.items():
        means = [np.mean([of[d] for d in some]) for some in (domains, NAMED)]
        values = "".join(f"{of[d]:14.3f}" for d in domains)
        lines.append(f"{name:28}{values}" + "".join(f"{m:8.3f}" for m in means))
    lines.append(f"four: {', '.join(NAMED)}")
    text = "\n".join(lines) + "\n"
    write_whole(RESULTS / "cards_stress.txt", text)
    print(text)


if __name__ == "__main__":
    main()
