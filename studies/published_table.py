"""Every model under every protocol on the table published with the random-forest predictor.

    python studies/published_table.py PATH/data_all_2.csv

832 rows of real micrographs, ten domains. A domain, or a set of images, is held out with every row of its
images; a measured F1 of 0/0 is 0. Intervals are meant to hold in 90 % of cases; coverage and width are of
the rows on which a model did not abstain. Ranges are 95 % bootstrap intervals over images. About ten
minutes on one core; leaves studies/results/published_table.txt.
"""

import sys
from pathlib import Path

import numpy as np

from passband.estimate.evaluation.diagnostics import kept_means
from passband.estimate.evaluation.evaluate import OF_DETECTIONS, evaluate
from passband.estimate.evaluation.metrics import Evaluation, bootstrap
from passband.estimate.evaluation.protocols import PROTOCOLS
from passband.estimate.regressor import TARGETS
from passband.estimate.tables import read_table
from passband.store.files import write_whole
from score_tables import format_table

SHARES = (1.0, 0.9, 0.75, 0.5)


def ranges(e: Evaluation, target: str) -> str:
    """The metrics that matter most, each with its range."""
    ends, m = bootstrap(e, target), e.overall[target]
    cells = [
        f"{getattr(m, name):7.3f} ({ends[name][0]:.3f} to {ends[name][1]:.3f})"
        for name in ("mae", "r2", "auroc", "coverage", "mean_width")
    ]
    return f"{e.protocol:<21}{e.model:<25}{target:<10}" + "".join(f"{c:<27}" for c in cells)


def risk(e: Evaluation) -> str:
    """Error of F1 among the rows kept when those of wide intervals are dropped, and F1 when low ones are."""
    p = e.repeats[0]
    error = np.abs(p.value[:, 0] - p.truth[:, 0])
    by_width = kept_means(p.high[:, 0] - p.low[:, 0], error)
    by_value = kept_means(-p.value[:, 0], p.truth[:, 0])
    cells = []
    for curve in (by_width, by_value):
        order = np.argsort(curve.x)
        cells += [f"{np.interp(s, curve.x[order], curve.y[order]):7.3f}" for s in SHARES]
    return f"{e.model:<25}" + "".join(cells[:4]) + "   " + "".join(cells[4:])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = read_table(Path(sys.argv[1])).rows
    text: list[str] = []

    def say(words: str) -> None:
        print(words, flush=True)
        text.append(words)

    done: dict[tuple[str, str], Evaluation] = {}
    say("Every model under every protocol, one repeat of random folds")
    for protocol in PROTOCOLS:
        for model in OF_DETECTIONS:
            done[protocol, model] = evaluate(rows, model=model, protocol=protocol, repeats=1)
            lines = format_table([done[protocol, model]]).splitlines()
            say("\n".join(lines if len(done) == 1 else lines[1:]))
    say("\nRandom folds, ten repeats, without intervals")
    for model in ("paper-rf", "gradient-boosting", "passband"):
        e = evaluate(rows, model=model, protocol="random", coverage=None)
        say("\n".join(format_table([e]).splitlines()[1:]))
    say("\nA few labelled images of the held-out domain, but at most half of it; mean of ten draws")
    for few in (5, 10, 20):
        for model in ("paper-rf", "passband"):
            e = evaluate(rows, model=model, few_shot=few, repeats=10 if model == "passband" else 3)
            say("\n".join(format_table([e]).splitlines()[1:]))
    say("\nWith 95 % ranges: MAE, R2, AUROC of the alarm below 0.5, coverage, mean width")
    for protocol in PROTOCOLS:
        for model in ("paper-rf", "gradient-boosting", "quantile-forest", "passband"):
            for target in TARGETS:
                say(ranges(done[protocol, model], target))
    say("\nF1, one domain held out: coverage and mean width of each domain")
    held_out = "leave-one-domain-out"
    for model in ("paper-rf", "gradient-boosting", "quantile-forest", "passband"):
        for name, m in done[held_out, model].domains["f1"].items():
            say(f"{model:<25}{name:<18}{m.n:>4}  MAE {m.mae:.3f}  {m.coverage:5.2f}  {m.mean_width:.2f}")
    say(f"\nF1, one domain held out. Keeping {SHARES} of the rows: MAE by width; measured F1 by estimate")
    for model in OF_DETECTIONS:
        say(risk(done[held_out, model]))
    write_whole(Path("studies/results/published_table.txt"), "\n".join(text) + "\n")
