"""Simulate micrographs in three conditions, assess them without labels, then compare with the truth.

    python studies/demo.py [FOLDER]      default out/demo

The same foils on both sides of focus, which the detector knows, and others with too few electrons to see by.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from passband.cavities.draws import draw_set
from passband.cavities.files import TRUTH, write_simulated
from passband.detections.files import read_detections
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import default_bundle
from passband.drawing.saving import save_figure
from passband.judge.figures import draw_verdicts
from passband.judge.many import Plan, assess_files
from passband.kinds import judge_of
from passband.micrographs.readers import read_micrograph
from score_figures import ScorePair, draw_parity

CONDITIONS = {
    "under": (("A:under", "B:under", "C:under"), 6),
    "over": (("A:over", "B:over", "C:over"), 6),
    "starved": (("A-starved:over", "B-starved:in"), 4),
}
SEED = 1999  # no image of training, choice of threshold, test or calibration is drawn by it


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name, (domains, count) in CONDITIONS.items():
        write_simulated(folder / name, list(draw_set(domains, count, seed=SEED)))
        print(f"simulated {count} micrographs: {name} ({', '.join(domains)})", flush=True)
    outcome = assess_files(
        [str(folder / name) for name in CONDITIONS],
        Plan(judge=judge_of(default_bundle())),
        report=folder / "report",
    )
    print(
        f"\n{'micrograph':<29}{'verdict':<9}{'estimated F1':<22}{'measured F1':>11}{'found':>7}{'truth':>7}"
    )
    pairs = []
    for v in outcome.verdicts:
        path = Path(v.path)
        truth = read_detections(path.parent / TRUTH)[path.name]
        measured = object_scores(match_boxes(truth.boxes_xyxy, v.detections.boxes_xyxy, OPTIMAL)).f1
        e = v.estimates["f1"]
        pairs.append(ScorePair(estimate=e, measured=measured, group=path.parent.name))
        print(
            f"{path.parent.name + '/' + path.stem:<29}{v.verdict:<9}"
            f"{f'{e.value:.2f} ({e.low:.2f} to {e.high:.2f})':<22}{measured:>8.2f}"
            f"{'' if e.low <= measured <= e.high else ' !':<3}{len(v.detections):>7}{len(truth):>7}"
        )
    error = np.mean([abs(p.measured - p.estimate.value) for p in pairs])
    held = sum(p.estimate.low <= p.measured <= p.estimate.high for p in pairs)
    print(f"\nmean absolute error of the estimate {error:.3f}; {held} of {len(pairs)} intervals hold")
    first = {Path(v.path).parent.name: v for v in reversed(outcome.verdicts)}
    judged = [(read_micrograph(v.path), v) for v in (first[name] for name in CONDITIONS)]
    print(f"pictures: {save_figure(draw_verdicts(judged), folder / 'verdicts.png', dpi=110)}, ", end="")
    print(save_figure(draw_parity(pairs), folder / "estimated_and_measured.png", dpi=110))
    print(f"the report, to open in a browser: {outcome.page}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo"))
