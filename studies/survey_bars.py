"""How often the intervals of a survey hold, and how wide they are, on folders whose every image is labelled.

    python studies/survey_bars.py DATA    holds li2025/data_all_2.csv and emps; ten minutes on one core

Scores: each of the ten domains of Li et al.'s table in turn is the folder; the estimates are those of a
calibration on the other nine. Some of its images are drawn 2,000 times, and what is then said of the mean F1
of all is compared with it: by the labels alone, by Passband, by Passband with its three strata from 20 labels
on, and by ppi-python where it is installed (passband[peers]) with its tuned lambda and with lambda 1: normal
intervals, and no finite population.

Numbers and sizes: the 366 micrographs of EMPS are the folder, and particles are found without a network (a
threshold, cut at necks). How crowded images widen the intervals was chosen, among some ways, on the counts,
precisions and recalls of Li et al.'s table; a first choice, made there too, was given up when its intervals
proved six times too wide here. "Student's alone" is without it. Labels only are told by the same rule. No
estimate of F1 is made here, so the labels alone tell it.

The estimates of the domains and what was found are kept in out/survey. Leaves studies/results/survey.csv.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from passband.detections.files import from_label_image
from passband.detections.matching import OPTIMAL, match_boxes
from passband.estimate.evaluation.evaluate import evaluate
from passband.estimate.sampling import Design, draw, strata_by
from passband.estimate.survey import Ratio, mean_of, survey_ratio
from passband.estimate.tables import read_table
from passband.judge.verdict import measure_sizes
from passband.micrographs.readers import read_micrograph
from passband.particles.extraction.find import ExtractionSettings, find_particles
from passband.store.columns import rows_csv
from passband.store.files import write_whole

DRAWS = 2000
COUNTS = (6, 10, 20, 40)
KEPT = Path("out/survey")
HEAD = ("domain", "n", "quantity", "k", "method", "coverage", "mean_width")
LEAST_COVERAGE, LEAST_IMAGES = 0.87, 19
WIDTHS = {10: 0.21, 20: 0.14}
"""Of mean F1 in A&B_C, at most."""
Ends = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """A folder whose every image is labelled, and a quantity of it."""

    name: str
    quantity: str
    truth: float
    proxy: np.ndarray
    ratio: Callable[[Design], Ratio]
    values: np.ndarray | None
    """Of each image, where the quantity is their mean."""


def say(folder: Folder, method: str, k: int) -> tuple[float, float]:
    """Coverage and mean width over all draws; every method sees the same ones, but for strata."""
    n, rng = len(folder.proxy), np.random.default_rng(0)
    strata = strata_by(folder.proxy, k) if method == "Passband, strata" else np.zeros(n, np.int64)
    held = width = 0.0
    for _ in range(DRAWS):
        low, high = METHODS[method](folder, Design(strata=strata, labelled=draw(strata, k, rng)))
        held += low - 1e-9 <= folder.truth <= high + 1e-9
        width += high - low
    return held / DRAWS, width / DRAWS


def by_passband(folder: Folder, design: Design) -> Ends:
    return ends(folder.ratio(design), design)


def by_labels(folder: Folder, design: Design) -> Ends:
    return ends(folder.ratio(design).without_proxy(), design)


def by_student(folder: Folder, design: Design) -> Ends:
    return ends(replace(folder.ratio(design), size=None), design)


def ends(ratio: Ratio, design: Design) -> Ends:
    said = survey_ratio(ratio, design)
    return (0.0, 0.0) if said is None else (said.low, said.high)


def by_ppi(folder: Folder, design: Design, lam: float | None = None) -> Ends:
    from ppi_py import ppi_mean_ci

    assert folder.values is not None
    rest = np.delete(folder.proxy, design.labelled)
    with np.errstate(all="ignore"):
        said = ppi_mean_ci(
            folder.values[design.labelled], folder.proxy[design.labelled], rest, alpha=0.1, lam=lam
        )
    low, high = (float(np.squeeze(end)) for end in said)
    return low, high


METHODS: dict[str, Callable[[Folder, Design], Ends]] = {
    "labels only": by_labels,
    "Passband": by_passband,
    "Passband, strata": by_passband,
    "Student's alone": by_student,
    "ppi-python": by_ppi,
    "ppi-python, lambda 1": lambda folder, design: by_ppi(folder, design, 1.0),
}


def domains(table: Path) -> list[Folder]:
    """Mean F1 of each domain, its estimates from the others."""
    kept = KEPT / "li2025.json"
    if not kept.exists():
        done = evaluate(read_table(table).rows, model="passband", coverage=None).repeats[0]
        rows = list(zip(done.domains, done.truth[:, 0].tolist(), done.value[:, 0].tolist(), strict=True))
        write_whole(kept, json.dumps(rows))
    rows = json.loads(kept.read_text("utf-8"))
    return [
        mean_folder(
            name,
            "mean F1",
            np.array([t for d, t, _ in rows if d == name]),
            np.array([v for d, _, v in rows if d == name]),
        )
        for name in sorted({d for d, _, _ in rows})
    ]


def mean_folder(
    name: str, quantity: str, truth: np.ndarray, proxy: np.ndarray, size: np.ndarray | None = None
) -> Folder:
    reach = None if size is None else float(truth.mean())
    return Folder(
        name=name,
        quantity=quantity,
        truth=float(truth.mean()),
        proxy=proxy,
        ratio=lambda d: mean_of(truth[d.labelled], proxy, d, reach=reach, size=size),
        values=truth,
    )


def particles(folder: Path) -> list[Folder]:
    """Objects of an image, their mean diameter and pooled F1, on all of EMPS."""
    kept = KEPT / "emps.json"
    if not kept.exists():
        write_whole(
            kept, json.dumps([measured(folder, p) for p in sorted((folder / "images").glob("*.png"))])
        )
    columns = np.array(json.loads(kept.read_text("utf-8")), np.float64).T
    truth, found, hits, truth_sum, found_sum = columns
    size, same = found + 1, np.full(len(found), 0.5)

    def diameter(d: Design) -> Ratio:
        return Ratio(
            numerator=truth_sum[d.labelled],
            denominator=truth[d.labelled],
            proxy_numerator=found_sum,
            proxy_denominator=found,
            highest=np.inf,
            reach=float(truth_sum.sum() / truth.sum()),
            size=size,
        )

    def pooled(d: Design) -> Ratio:
        return Ratio(
            numerator=2 * hits[d.labelled],
            denominator=(truth + found)[d.labelled],
            proxy_numerator=same * found,
            proxy_denominator=found,
            size=size,
        )

    f1 = np.where(truth + found > 0, 2 * hits / np.maximum(truth + found, 1), 1.0)
    mean = truth_sum.sum() / truth.sum()
    whole = 2 * hits.sum() / (truth + found).sum()
    objects = mean_folder("EMPS", "objects of an image", truth, found, size)
    return [
        objects,
        replace(objects, quantity="mean diameter, pixels", truth=mean, ratio=diameter, values=None),
        replace(objects, quantity="F1 of all objects", truth=whole, ratio=pooled, values=None),
        mean_folder("EMPS", "mean F1", f1, same),
    ]


def measured(folder: Path, path: Path) -> list[float]:
    """Outlined and found objects of an image, those that match, and the sums of their diameters."""
    found = from_label_image(find_particles(read_micrograph(path), ExtractionSettings()))
    outlines = np.asarray(Picture.open(folder / "segmaps" / path.name)).astype(np.int32)
    truth = from_label_image(outlines)
    pairs = match_boxes(truth.boxes_xyxy, found.boxes_xyxy, OPTIMAL).pairs
    sums = [float(measure_sizes(d, None, None).diameters.sum()) for d in (truth, found)]
    return [len(truth), len(found), len(pairs), *sums]


def methods_for(folder: Folder, k: int) -> list[str]:
    names = ["labels only", "Passband"]
    if len(set(strata_by(folder.proxy, k).tolist())) > 1 and folder.quantity == "mean F1":
        names.append("Passband, strata")
    if folder.quantity != "mean F1":
        names.append("Student's alone")
    if find_spec("ppi_py") and folder.values is not None and np.ptp(folder.proxy) > 0:
        names += ["ppi-python", "ppi-python, lambda 1"]
    return names


def bars(rows: list[tuple]) -> list[str]:
    """Each bar beside what was measured."""
    told = []
    scores = [
        r for r in rows if r[0] != "EMPS" and r[4] == "Passband" and r[3] == 10 and r[1] >= LEAST_IMAGES
    ]
    worst = min(scores, key=lambda r: r[5])
    told.append(
        f"mean F1, k = 10, {len(scores)} domains of {LEAST_IMAGES} images or more: least coverage "
        f"{worst[5]:.3f} ({worst[0]}), wanted {LEAST_COVERAGE}"
    )
    for k, wanted in WIDTHS.items():
        for r in rows:
            if r[0] == "A&B_C" and r[3] == k and (r[4].startswith("Passband") or r[4] == "labels only"):
                bar = f", wanted at most {wanted}" if r[4] != "labels only" else ""
                told.append(f"mean F1 of A&B_C, k = {k}, {r[4]}: width {r[6]:.3f}{bar}; coverage {r[5]:.3f}")
    for r in rows:
        if r[0] == "EMPS" and r[3] == 10 and r[4] == "Passband":
            told.append(
                f"EMPS, {r[2]}, k = 10: coverage {r[5]:.3f}, wanted {LEAST_COVERAGE}; width {r[6]:.3g}"
            )
    return told


def main(data: Path) -> None:
    rows: list[tuple] = []
    if not find_spec("ppi_py"):
        print("ppi-python is not installed (pip install 'passband[peers]'): its rows are left out")
    print(f"{HEAD[0]:<15}{HEAD[1]:>4}  {HEAD[2]:<23}{HEAD[3]:>3}  {HEAD[4]:<22}{HEAD[5]:>9}{HEAD[6]:>12}")
    for folder in [*domains(data / "li2025" / "data_all_2.csv"), *particles(data / "emps")]:
        for k in COUNTS:
            if k >= len(folder.proxy):
                continue
            for method in methods_for(folder, k):
                row = (folder.name, len(folder.proxy), folder.quantity, k, method, *say(folder, method, k))
                rows.append(row)
                print(
                    f"{row[0]:<15}{row[1]:>4}  {row[2]:<23}{k:>3}  {method:<22}{row[5]:>9.3f}{row[6]:>12.4g}"
                )
    table = [HEAD, *((*r[:5], f"{r[5]:.4f}", f"{r[6]:.4g}") for r in rows)]
    write_whole(Path("studies/results/survey.csv"), rows_csv(table))
    print("\n" + "\n".join(bars(rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data)
