"""Accuracy on batches of 200 cards, told without labels, with each kind of disorder held out in turn.

    python studies/cards_stress.py

The model is that of `cards_poses.py`: 800 labelled and 12,000 unlabelled cards at +-180; the batches are
of fresh cards, made worse in one way at rising strength (`passband.estimate.stress.DISORDERS`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from cards_poses import EPOCHS, learnt
from cards_table import drawn, templates

from passband.data.files import write_whole
from passband.estimate.evaluate import evaluate
from passband.estimate.metrics import format_table
from passband.estimate.stress import stress_rows

RESULTS = Path(__file__).parent / "results"
NAMED = ("angle", "shear", "noise", "contamination")


def main() -> None:
    """Print and keep the table."""
    torch.set_num_threads(1)
    images = list(templates().values())
    fresh, truth = drawn(images, 500, 8000, angle=180)
    rows = list(stress_rows(learnt(0, EPOCHS), fresh, truth, seed=1))
    done = [evaluate(rows, model="particles")]
    errors = {name: m.mae for name, m in done[0].domains["f1"].items()}
    plain = {
        name: float(np.mean([abs(r.features["mean_probability"] - r.f1) for r in rows if r.domain == name]))
        for name in errors
    }
    lines = [format_table(done), "", f"{'held out':16}{'MAE':>8}{'mean probability as it is':>28}"]
    lines += [f"{name:16}{errors[name]:8.3f}{plain[name]:28.3f}" for name in errors]
    lines.append(f"{'all':16}{np.mean(list(errors.values())):8.3f}{np.mean(list(plain.values())):28.3f}")
    four = [np.mean([e[n] for n in NAMED]) for e in (errors, plain)]
    lines.append(f"{', '.join(NAMED)}: {four[0]:.3f} and {four[1]:.3f}")
    text = "\n".join(lines) + "\n"
    write_whole(RESULTS / "cards_stress.txt", text)
    print(text)


if __name__ == "__main__":
    main()
