"""What is known of detectors in general, for calibrations of one that is not known: `make any-detector`.

Rows of images on which detectors were measured: five networks on ten pairs of domains, the shipped network
on six sets and on what its calibration is of, a detector of blobs on the ten pairs, all simulated, and a
network and the detector of blobs on real micrographs of particles (`make pairs`, `make bundle`). Two
calibrations are fitted, of objects with scores and of outlines alone, each domain of each detector being a
domain of its own, and written for the package. Then each detector is held out, and so is the published table
where it is at hand; k images of each of its domains are labelled, the others estimated, beside what the
labels alone say (Student's interval of their F1).

    python studies/any_detector.py [--ship]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.stats

from passband.detections.matching import OPTIMAL
from passband.estimate.calibration import Calibration
from passband.estimate.performance import adapt, fit_calibration, forecast
from passband.estimate.records import to_record
from passband.estimate.rows import CalibrationRow
from passband.estimate.tables import read_table
from passband.judge.own_detector import ANY, OwnDetector, without_scores, write_own_detector
from passband.store.files import write_whole

RESULTS = Path("studies/results")
SOURCES = (
    "calibration",
    "pairs_network",
    "pairs_shipped",
    "pairs_blobs",
    "particles_network",
    "particles_blobs",
)
LABELLED = (0, 3, 5, 10, 20)
DRAWS = 20
Rows = list[CalibrationRow]


def known() -> dict[str, Rows]:
    """Rows by detector, with domains of its own; images that several saw keep one name."""
    found = {}
    for source in SOURCES:
        kind = "particles " if source.startswith("particles") else "cavities "
        kind = "calibration " if source == "calibration" else kind
        found[source] = [
            replace(row, domain=f"{source.replace('_', ' ')}, {row.domain}", image=kind + row.image)
            for row in read_table(RESULTS / f"{source}_rows.csv").rows
        ]
    return found


def fitted(rows: Rows, model: str) -> Calibration:
    """A calibration on rows of many detectors."""
    return fit_calibration(rows, score_threshold=0.0, matching=OPTIMAL, model=model)


def outlines(sources: dict[str, Rows]) -> dict[str, Rows]:
    """The same without what scores tell."""
    return {
        name: [replace(r, features=without_scores(r.features)) for r in rows]
        for name, rows in sources.items()
    }


def tried(calibration: Calibration, rows: Sequence[CalibrationRow], count: int) -> np.ndarray:
    """Coverage, width and error of F1 on a domain of which some images are labelled; by labels alone too."""
    shown = [r for r in rows if r.features["count"] > 0]
    few = min(count, len(shown) // 2)
    found = []
    for draw in range(DRAWS if few else 1):
        order = np.random.default_rng(draw).permutation(len(shown))
        labelled, rest = [shown[i] for i in order[:few]], [shown[i] for i in order[few:]]
        known = adapt(calibration, labelled, domain="held out") if few else calibration
        said = forecast(known, np.array([[r.features[n] for n in known.features] for r in rest]))
        truth = np.array([r.f1 for r in rest])
        found.append([*measured(said.value[:, 0], said.low[:, 0], said.high[:, 0], truth), *[np.nan] * 3])
        if few > 1:
            scores = np.array([r.f1 for r in labelled])
            half = scipy.stats.t.ppf(0.95, few - 1) * scores.std(ddof=1) * np.sqrt(1 + 1 / few)
            ends = np.clip([scores.mean() - half, scores.mean() + half], 0, 1)
            found[-1][3:] = measured(scores.mean(), ends[0], ends[1], truth)
    return np.mean(found, axis=0)


def measured(
    value: np.ndarray | float, low: np.ndarray | float, high: np.ndarray | float, truth: np.ndarray
) -> tuple[float, float, float]:
    """Share of intervals that hold, mean width, mean error."""
    inside = (low <= truth) & (truth <= high)
    return float(inside.mean()), float(np.mean(np.asarray(high) - low)), float(np.abs(value - truth).mean())


def table(sources: dict[str, Rows], others: dict[str, Rows], model: str) -> str:
    """Every detector held out, and those never known, in lines of text."""
    lines = [
        f"{model}: F1, mean over domains (worst domain); by labels alone",
        f"{'held out':<20}{'labelled':>9}{'intervals hold':>18}{'width':>8}{'error':>8}"
        f"{'hold':>14}{'width':>8}{'error':>8}",
    ]
    for name, rows in (*sources.items(), *others.items()):
        rest = [r for other, some in sources.items() if other != name for r in some]
        wanted = set(rows[0].features)
        rest = [replace(r, features={n: v for n, v in r.features.items() if n in wanted}) for r in rest]
        calibration = fitted(rest, model)
        domains = sorted({r.domain for r in rows})
        for count in LABELLED:
            each = [[r for r in rows if r.domain == d] for d in domains]
            each = [e for e in each if sum(r.features["count"] > 0 for r in e) >= 8]
            of = np.array([tried(calibration, e, count) for e in each])
            mean, worst = of.mean(axis=0), of.min(axis=0)
            alone = f"{mean[3]:8.2f} ({worst[3]:.2f}){mean[4]:7.2f}{mean[5]:8.3f}" if count else ""
            line = f"{mean[0]:11.2f} ({worst[0]:.2f}){mean[1]:8.2f}{mean[2]:8.3f}{alone}"
            lines.append(f"{name:<20}{count:>9}{line}")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit, hold out, and ship."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ship", action="store_true", help="write the two calibrations into the package")
    args = parser.parse_args()
    sources = {"any detector": known(), "any outlines": outlines(known())}
    for model, path in ANY.items():
        calibration = fitted([row for rows in sources[model].values() for row in rows], model)
        print(f"{model}: {calibration.statement}")
        if args.ship:
            scored = model == "any detector"
            value = OwnDetector(name=model, scored=scored, calibration=to_record(calibration))
            print(f"{path.name} {write_own_detector(value, path)[:12]}, {path.stat().st_size / 1e6:.2f} MB")
    others = {}
    published = Path(os.environ.get("PASSBAND_DATA", "../shared/data")) / "li2025" / "data_all_2.csv"
    if published.exists():
        others["published table"] = list(read_table(published).rows)
    text = "\n".join(
        table(some, others if model == "any detector" else {}, model) for model, some in sources.items()
    )
    write_whole(RESULTS / "any_detector.txt", text)


if __name__ == "__main__":
    main()
