"""How well particles are found without a network, on published micrographs with outlined particles.

The images are those of the EMPS data set (B. Yildirim and J. M. Cole, J. Chem. Inf. Model. 61 (2021)
1136, doi:10.1021/acs.jcim.0c01455): figures of articles, with their scale bars and lettering. Micrographs
are halved by a hash of the name: the settings are chosen on one half, and told on both. The defaults of
smoothing, neck, solidity and least share were tried before on a third of the first half.

    python studies/particle_extraction.py FOLDER    holds images and segmaps; about five minutes on one core
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from passband.detections.masks import masks_from_labels
from passband.detections.matching import (
    OPTIMAL,
    Candidates,
    Matches,
    mask_iou,
    match_boxes,
    match_optimal,
)
from passband.detections.scores import Scores, object_scores
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph
from passband.particles.extraction.find import ExtractionSettings, find_particles
from passband.particles.extraction.outlines import clusters_of, kept_labels
from passband.store.files import write_whole
from passband.types import InstanceMask, LabelImage

TRIED = {
    "otsu": ExtractionSettings(),
    "local": ExtractionSettings(threshold="local"),
}
GAP = 2
"""Pixels of background between particles that count as touching."""
TOUCHING, COVER = 0.25, 0.5
"""A micrograph is separable where at most this share of its particles touch another, and its particles
cover at most this share of it."""
MOST_MEMBERS = 4
SENSIBLE = 12, 256
"""Diameters of clusters that are counted, in pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """A micrograph and its outlines, of which those that extraction looks for are the truth."""

    micrograph: Micrograph
    outlines: LabelImage
    truth: tuple[InstanceMask, ...]
    separable: bool


def labelled(folder: Path, name: str) -> Labelled:
    micrograph = replace(read_micrograph(folder / "images" / name), name=name)
    outlines = np.asarray(Picture.open(folder / "segmaps" / name)).astype(np.int32)
    clusters = clusters_of(outlines, gap=GAP)
    touching = float(np.mean(clusters.counts[clusters.members - 1] > 1)) if clusters.members.size else 0.0
    return Labelled(
        micrograph=micrograph,
        outlines=outlines,
        truth=masks_from_labels(kept_labels(micrograph, outlines, ExtractionSettings())),
        separable=touching <= TOUCHING and float((outlines > 0).mean()) <= COVER,
    )


def scores(truth: Sequence[InstanceMask], found: Sequence[InstanceMask]) -> tuple[Scores, Scores]:
    """By the IoU of boxes, and by that of masks."""
    boxes = [np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4) for masks in (truth, found)]
    iou = mask_iou(truth, found)
    i, j = np.nonzero(iou >= OPTIMAL.iou)
    pairs = match_optimal(Candidates(truth=i, predicted=j, iou=iou[i, j]))
    by_mask = Matches(pairs=pairs, n_truth=len(truth), n_predicted=len(found), rule=OPTIMAL)
    return object_scores(match_boxes(*boxes, OPTIMAL)), object_scores(by_mask)


def line(name: str, half: Sequence[Labelled], every: Sequence[Scores]) -> str:
    told = []
    for only in (True, False):
        chosen = [s for one, s in zip(half, every, strict=True) if one.separable or not only]
        f1 = [s.f1 for s in chosen]
        hits = sum(s.true_positives for s in chosen)
        wrong, missed = sum(s.false_positives for s in chosen), sum(s.misses for s in chosen)
        pooled = 2 * hits / max(1, 2 * hits + wrong + missed)
        precision, recall = hits / max(1, hits + wrong), hits / max(1, hits + missed)
        told.append(
            f"{len(chosen):>5}{np.median(f1):>8.3f}{np.mean(f1):>8.3f}{pooled:>8.3f}"
            f"{precision:>7.2f}{recall:>6.2f}"
        )
    return f"{name:<30}" + "  ".join(told)


HEAD = (
    " " * 30 + "separable" + " " * 35 + "all\n" + " " * 30
    + "  ".join(f"{'n':>5}{'median':>8}{'mean':>8}{'pooled':>8}{'prec.':>7}{'rec.':>6}" for _ in range(2))
)  # fmt: skip


def clusters(half: Sequence[Labelled]) -> tuple[Counter[int], Counter[int]]:
    """How many clusters have 1, 2, ... members and do not touch the border, and in how many micrographs."""
    found: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    rules = ExtractionSettings(split=False, least_diameter_px=SENSIBLE[0], greatest_diameter_px=SENSIBLE[1])
    for one in half:
        groups = clusters_of(one.outlines, gap=GAP)
        kept = kept_labels(one.micrograph, groups.labels, replace(rules, split=True))
        numbers = np.unique(groups.labels[kept > 0])
        sizes = groups.counts[numbers - 1].tolist()
        found.update(sizes)
        seen.update(set(sizes))
    return found, seen


def main(folder: Path) -> None:
    names = sorted(p.name for p in (folder / "images").glob("*.png"))
    halves: tuple[list[Labelled], list[Labelled]] = ([], [])
    without = 0
    for name in names:
        one = labelled(folder, name)
        without += not one.truth
        halves[int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2].append(one)
    chosen_on, told_on = ([one for one in half if one.truth] for half in halves)
    print(f"{len(names)} micrographs, {without} without a whole particle", flush=True)
    results = {}
    for name, settings in TRIED.items():
        results[name] = [
            scores(one.truth, masks_from_labels(find_particles(one.micrograph, settings)))
            for one in chosen_on
        ]
        print(line(name, chosen_on, [s[1] for s in results[name]]), flush=True)
    best = max(results, key=lambda name: float(np.mean([s[1].f1 for s in results[name]])))
    default = next(name for name, settings in TRIED.items() if settings == ExtractionSettings())
    held = {
        name: [
            scores(one.truth, masks_from_labels(find_particles(one.micrograph, TRIED[name])))
            for one in told_on
        ]
        for name in dict.fromkeys((default, best))
    }
    count, seen = clusters([*halves[0], *halves[1]])
    text = [
        f"Particles found without a network in {len(names)} micrographs of EMPS, {without} of them left out: "
        "no outline is",
        "whole (off the border) and at least 8 pixels across. F1 of objects, " + str(OPTIMAL) + ",",
        "or the same with the IoU of masks. Median and mean of micrographs; F1, precision and recall of all",
        f"particles pooled. Separable by their outlines alone: at most {TOUCHING:.0%} of the particles "
        f"within {GAP} pixels of another,",
        f"at most {COVER:.0%} of the micrograph covered.",
        "",
        "First half: mask IoU >= 0.5, settings tried",
        HEAD,
        *(line(name, chosen_on, [s[1] for s in results[name]]) for name in results),
        "",
        f"Highest mean of all: {best}. The default is: {default}.",
        "",
        "Second half, not looked at before",
        HEAD,
    ]
    for k, rule in ((1, "mask IoU"), (0, "box IoU")):
        text += [line(f"{name}; {rule}", told_on, [s[k] for s in held[name]]) for name in held]
    text += [
        "",
        f"Outlines within {GAP} pixels of each other put together, {SENSIBLE[0]} to {SENSIBLE[1]} pixels "
        "across and off the border:",
        f"{'members':<12}{'clusters':>10}{'micrographs':>13}",
        *(f"{n:<12}{count[n]:>10}{seen[n]:>13}" for n in range(1, MOST_MEMBERS + 1)),
        f"{'more':<12}{sum(v for k, v in count.items() if k > MOST_MEMBERS):>10}",
    ]
    content = "\n".join(text) + "\n"
    print("\n" + content)
    write_whole(Path("studies/results/particle_extraction.txt"), content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
