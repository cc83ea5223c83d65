"""What narrower intervals for images like those of the calibration are worth, on images never looked at.

    python studies/in_domain.py          about ten minutes on one core

Fresh simulated images of the shipped detector: of nine domains that it was trained on, of three others that
its calibration knows, and of eight that this does not know (starved foils over and in focus; cluttered,
smeared, of every kind and of tiny voids in focus). The same detections are told twice: as of an unknown
instrument, and as taken by that of the calibration. Trusted is what the default policy trusts; good is an F1
over 0.8 (optimal matching, box IoU 0.5). Leaves studies/results/in_domain.txt and in_domain.csv.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from cavity_images import labelled
from passband.cavities.draws import draw_set
from passband.cavities.image import CavityRecord
from passband.detections.matching import OPTIMAL
from passband.detections.measured import measured_scores
from passband.detectors.bundle import default_bundle
from passband.estimate.features import detection_features, image_features
from passband.estimate.in_domain import Taken
from passband.estimate.look import unlike
from passband.estimate.performance import estimate_scores
from passband.estimate.records import from_record
from passband.judge.policy import DEFAULT_POLICY, Evidence, weigh
from passband.judge.verdict import answer_of
from passband.micrographs.write_tiff import SIMULATED
from passband.store.columns import rows_csv
from passband.store.files import write_whole

RESULTS = Path("studies/results")
SEED = 9002
KINDS = {
    "trained on": {f"{s}:{f}": 20 for s in "ABC" for f in ("under", "over", "in")},
    "known": {f"{s}:under": 20 for s in ("A-starved", "B-starved", "C-smeared")},
    "unknown": {
        **{f"{s}:{f}": 10 for s in ("A-starved", "B-starved") for f in ("over", "in")},
        **{f"{s}:in": 10 for s in ("A-cluttered", "C-smeared", "W", "T")},
    },
}
HEAD = (
    "domain", "image", "count", "f1",
    *(f"{mode}_{what}" for mode in ("new", "like") for what in ("f1", "low", "high", "verdict")),
)  # fmt: skip


def told(job: tuple[str, int, CavityRecord]) -> list[object]:
    """One image: its measured F1, and what is told of it as of a new domain and as of a known instrument."""
    torch.set_num_threads(1)
    domain, i, record = job
    micrograph, truth = labelled(record, f"{domain}/{i}")
    bundle = default_bundle()
    assert bundle.calibration is not None
    calibration = from_record(bundle.calibration)
    answer = answer_of(micrograph, bundle)
    found = answer.detections
    features = {**detection_features(found), **image_features(micrograph)}
    wanted = {name: features[name] for name in calibration.features}
    strange = unlike(bundle.look, answer.seen) if bundle.look and answer.seen is not None else 0.0
    line: list[object] = [domain, i, len(found), measured_scores(truth, found, OPTIMAL).f1]
    for instrument in ("", SIMULATED):
        taken = Taken(instrument=instrument, pixel_size=micrograph.pixel_size)
        outlook = estimate_scores(calibration, wanted, taken, unlike=strange)
        evidence = Evidence(
            detections=found,
            outlook=outlook,
            bundle_name=bundle.name,
            pixel_size=micrograph.pixel_size,
            trained_pixel_size=tuple(bundle.training["pixel_size"]),
        )
        e = outlook.estimates["f1"]
        line += [e.value, e.low, e.high, weigh(evidence, DEFAULT_POLICY)[0].answer]
    return line


def summary(name: str, lines: list[list[object]]) -> list[str]:
    """Both ways to tell, over some images; coverage and width where something was found."""
    table = [dict(zip(HEAD, line, strict=True)) for line in lines]
    good = np.array([row["f1"] > 0.8 for row in table])  # type: ignore[operator]
    some = np.array([row["count"] > 0 for row in table])  # type: ignore[operator]
    said = []
    for mode, words in (("new", "as a new domain"), ("like", "as like images")):
        trusted = np.array([row[f"{mode}_verdict"] == "trust" for row in table])
        low, high, f1 = (
            np.array([row[c] for row in table], float) for c in (f"{mode}_low", f"{mode}_high", "f1")
        )
        held = ((low <= f1) & (f1 <= high))[some].mean()
        right = f"{good[trusted].mean():6.0%} of {trusted.sum():3}" if trusted.any() else "   none    "
        of_good = f"{trusted[good].mean():6.0%} of {good.sum():3}" if good.any() else "   none    "
        cells = f"{of_good:>13}{right:>15}{held:9.2f}{(high - low)[some].mean():7.2f}"
        said.append(f"{name:<16}{len(table):>4}  {words:<17}{cells}")
    return said


def main() -> None:
    jobs = [
        (name, i, record)
        for domains in KINDS.values()
        for k, (name, count) in enumerate(domains.items())
        for i, record in enumerate(draw_set([name], count, seed=SEED + 1000 * k))
    ]
    lines = []
    with ProcessPoolExecutor(2) as pool:
        for line in pool.map(told, jobs, chunksize=2):
            lines.append(line)
            if len(lines) % 40 == 0 or len(lines) == len(jobs):
                print(f"images {len(lines)}/{len(jobs)}", flush=True)
    heads = f"{'trusted of good':>15}{'good of trusted':>15}{'hold':>7}{'width':>7}"
    head = f"{'domains':<16}{'n':>4}  {'told':<17}{heads}"
    text = [head]
    for kind, domains in KINDS.items():
        text += summary(kind, [line for line in lines if line[0] in domains])
    for name in dict.fromkeys(line[0] for line in lines):
        text += summary(str(name), [line for line in lines if line[0] == name])[1:]
    print("\n".join(text))
    plain = [[f"{v:.4f}" if isinstance(v, float) else v for v in line] for line in lines]
    write_whole(RESULTS / "in_domain.csv", rows_csv([list(HEAD), *plain]))
    write_whole(RESULTS / "in_domain.txt", "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
