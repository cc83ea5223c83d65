"""A meta-set: simulated foils taken again in other ways, with what the detector's answers on them tell.

Every foil is drawn of a domain, and taken as it is and twice in other ways: with another defocus (other side
too), dose, camera, magnification, with the negative, uneven illumination, or as people send it; what is there
stays the same. Beside the measured scores stands what boxes tell, and what more can be asked without labels:
of candidates down to a score of 0.05, of the answers on changed copies, and of the rims of what was found.

    python studies/meta_set.py rows [COUNT] [BUNDLE]    COUNT foils a domain, 10 by default; 2 s an image
    python studies/meta_set.py table                    errors of held-out domains, with and without cues

What ships is calibrated on such images, of other foils, by what its boxes tell alone: `calibration_rows`.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from sklearn.ensemble import ExtraTreesRegressor

from cavity_images import labelled, sent
from passband.cavities.draws import draw_set
from passband.cavities.image import CavityRecord
from passband.detections.detections import Detections
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import SHIPPED, Bundle, read_bundle
from passband.detectors.infer import detect
from passband.detectors.rescale import resized
from passband.estimate.evaluation.metrics import auroc
from passband.estimate.features import PAPER_FEATURES
from passband.estimate.in_domain import UNKNOWN, Taken
from passband.estimate.regressor import TARGETS
from passband.estimate.rows import CalibrationRow
from passband.judge.calibrate import calibration_row
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.write_tiff import SIMULATED
from passband.store.columns import rows_csv
from passband.store.files import write_whole

ROWS = Path("studies/results/meta_rows.csv")
CALIBRATION = Path("studies/results/calibration_rows.csv")
NAMES = (
    *(f"{s}:{f}" for s in ("A", "B", "C", "W", "H", "T") for f in ("under", "over")),
    *("A:in", "B:in", "C:in", "H:in"),
    *("A-empty:under", "B-empty:over", "W-empty:over", "H-empty:under"),
    *("A-starved:under", "B-starved:under", "A-cluttered:under", "A-cluttered:over"),
    *("C-smeared:under", "C-smeared:over"),
)
SEED, CALIBRATION_SEED, WAYS_SEED = 58004, 2004, 8004
"""Those of foils rise by a thousand a domain and by one a foil, and share none."""
WEAKEST = 0.05
"""Score of the weakest candidate, as torchvision keeps them."""
LARGEST = 300
"""Objects whose rims are looked at, the best ones."""
SHRINK, NOISE, BLUR = 0.75, 0.5, 1.0
Pair = tuple[Micrograph, Detections]


def as_it_is(record: CavityRecord, rng: np.random.Generator) -> Pair:
    return labelled(record, "")


def other_defocus(record: CavityRecord, rng: np.random.Generator) -> Pair:
    factor = math.exp(rng.uniform(math.log(0.2), math.log(4))) * (-1 if rng.random() < 0.5 else 1)
    conditions = replace(record.conditions, C10=factor * record.conditions.C10)
    return labelled(replace(record, conditions=conditions), "")


def other_dose(record: CavityRecord, rng: np.random.Generator) -> Pair:
    dose = math.exp(rng.uniform(math.log(0.02), math.log(5))) * record.conditions.dose
    return labelled(replace(record, conditions=replace(record.conditions, dose=dose)), "")


def other_camera(record: CavityRecord, rng: np.random.Generator) -> Pair:
    half = math.exp(rng.uniform(math.log(0.03), math.log(0.8)))
    return labelled(replace(record, conditions=replace(record.conditions, mtf_half=half)), "")


def negative(record: CavityRecord, rng: np.random.Generator) -> Pair:
    micrograph, truth = labelled(record, "")
    return replace(micrograph, pixels=micrograph.pixels.max() - micrograph.pixels), truth


def unevenly_lit(record: CavityRecord, rng: np.random.Generator) -> Pair:
    micrograph, truth = labelled(record, "")
    y, x = (np.linspace(-1, 1, n) for n in micrograph.shape)
    depth, (across, down) = rng.uniform(0.2, 0.8), rng.uniform(-0.6, 0.6, 2)
    light = 1 - depth * ((y[:, None] - down) ** 2 + (x[None, :] - across) ** 2) / 2
    return replace(micrograph, pixels=(micrograph.pixels * light.clip(0.05)).astype(np.float32)), truth


def other_scale(record: CavityRecord, rng: np.random.Generator) -> Pair:
    """Of an unknown pixel size, so that nothing brings it back."""
    micrograph, truth = labelled(record, "")
    factor = math.exp(rng.uniform(math.log(0.5), math.log(2)))
    pixels = resized(micrograph.pixels, factor)
    boxes = truth.boxes_xyxy * np.tile([pixels.shape[1] / 512, pixels.shape[0] / 512], 2)
    return replace(micrograph, pixels=pixels, pixel_size=None), Detections(
        image_shape=pixels.shape, boxes_xyxy=boxes, scores=np.ones(len(boxes))
    )


def as_people_send_it(record: CavityRecord, rng: np.random.Generator) -> Pair:
    return sent(record, "", rng)


WAYS: dict[str, Callable[[CavityRecord, np.random.Generator], Pair]] = {
    "as it is": as_it_is,
    "defocus": other_defocus,
    "dose": other_dose,
    "camera": other_camera,
    "negative": negative,
    "light": unevenly_lit,
    "scale": other_scale,
    "export": as_people_send_it,
}


LOOKS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, float]]] = {
    "noise": lambda p: (noisier(p), 1.0),
    "shrunk": lambda p: (resized(p, SHRINK), SHRINK),
    "negative": lambda p: (p.max() - p, 1.0),
    "blur": lambda p: (ndimage.gaussian_filter(p, BLUR), 1.0),
}


def noisier(pixels: np.ndarray) -> np.ndarray:
    spread = float(np.subtract(*np.percentile(pixels, (75, 25)))) / 1.349
    noise = np.random.default_rng(0).standard_normal(pixels.shape).astype(np.float32)
    return np.asarray(pixels + NOISE * spread * noise, np.float32)


def evidence(micrograph: Micrograph, bundle: Bundle) -> tuple[Detections, dict[str, float]]:
    """The answer at the bundle's threshold, and what else tells of it."""
    cut = bundle.score_threshold
    candidates = detect(micrograph, down_to_the_weakest(bundle))
    answer = candidates.above(cut)
    n = len(answer)
    told = {"soft": math.log((1 + float(candidates.scores.sum())) / (1 + n))}
    for name, factor in (("far_below", 0.3), ("below", 0.6)):
        told[f"nested_{name}"] = nested_f1(n, int((candidates.scores >= factor * cut).sum()))
    told["nested_above"] = nested_f1(n, int((candidates.scores >= 1 - 0.3 * (1 - cut)).sum()))
    for name, look in LOOKS.items():
        pixels, scale = look(micrograph.pixels)
        size = None if micrograph.pixel_size is None else micrograph.pixel_size / scale
        other = detect(replace(micrograph, pixels=pixels, pixel_size=size), bundle)
        boxes = other.boxes_xyxy / scale
        same = object_scores(match_boxes(answer.boxes_xyxy, boxes, OPTIMAL))
        told[f"same_{name}"] = same.f1 if n + len(other) else 1.0
        told[f"more_{name}"] = math.log((1 + len(other)) / (1 + n))
    return answer, told | rims(micrograph.pixels, answer)


@lru_cache(maxsize=2)
def down_to_the_weakest(bundle: Bundle) -> Bundle:
    return replace(bundle, score_threshold=WEAKEST)


def nested_f1(one: int, other: int) -> float:
    """F1 of two answers of which one holds the other."""
    return 2 * min(one, other) / (one + other) if one + other else 1.0


def rims(pixels: np.ndarray, found: Detections) -> dict[str, float]:
    """How much brighter objects are inside, and their rims, than what surrounds them; in local deviations."""
    inside, rim = [], []
    for x0, y0, x1, y1 in found.boxes_xyxy[:LARGEST]:
        cy, cx, ry, rx = (y0 + y1) / 2, (x0 + x1) / 2, (y1 - y0) / 2 + 0.5, (x1 - x0) / 2 + 0.5
        top, left = max(0, int(cy - 2.2 * ry)), max(0, int(cx - 2.2 * rx))
        part = pixels[top : int(cy + 2.2 * ry) + 1, left : int(cx + 2.2 * rx) + 1]
        if part.size < 9:
            continue
        y, x = (np.arange(n) + first + 0.5 for n, first in zip(part.shape, (top, left), strict=True))
        r = np.hypot((y[:, None] - cy) / ry, (x[None, :] - cx) / rx)
        around = part[r > 1.5]
        middle, edge = part[r < 0.7], part[(r > 0.85) & (r < 1.3)]
        if min(len(around), len(middle), len(edge)) < 2:
            continue
        spread = float(around.std()) + 1e-9
        inside.append((float(middle.mean()) - float(around.mean())) / spread)
        rim.append((float(edge.mean()) - float(around.mean())) / spread)
    a, b = np.clip(inside or [0.0], -5, 5), np.clip(rim or [0.0], -5, 5)
    return {
        "inside": float(a.mean()),
        "inside_spread": float(a.std()),
        "rim": float(b.mean()),
        "rim_spread": float(b.std()),
        "ringed": float(np.mean(a * b < -0.1)),
    }


def jobs(count: int) -> list[tuple[str, int, str]]:
    """Domain, number of the foil, and way, three for each foil."""
    listed = []
    for k, name in enumerate(NAMES):
        for i in range(count):
            rng = np.random.default_rng([WAYS_SEED, 1, k, i])
            others = rng.choice([w for w in WAYS if w != "as it is"], 2, replace=False)
            listed += [(name, i, way) for way in ("as it is", *others.tolist())]
    return sorted(listed, key=lambda job: job[1])  # so that a part of them has every domain


def taken_again(name: str, i: int, way: str, seed: int) -> tuple[CavityRecord, Micrograph, Detections]:
    """A foil of a domain, its image in one of the ways, and what is there."""
    (record,) = draw_set([name], 1, seed=seed + 1000 * NAMES.index(name) + i)
    rng = np.random.default_rng([seed, 2, NAMES.index(name), i, list(WAYS).index(way)])
    micrograph, truth = WAYS[way](record, rng)
    return record, replace(micrograph, name=f"{name}/{i}"), truth


def line(path: Path, looks: bool, job: tuple[str, int, str]) -> dict[str, str]:
    """One image's row, as text; with what changed copies tell, or of the boxes alone."""
    torch.set_num_threads(1)
    name, i, way = job
    seed, bundle = SEED if looks else CALIBRATION_SEED, bundle_at(path)
    record, micrograph, truth = taken_again(name, i, way, seed)
    answer, told = evidence(micrograph, bundle) if looks else (detect(micrograph, bundle), {})
    row = calibration_row(micrograph, answer, replace(truth, masks=None), domain=name)
    scores = {t: getattr(row, t) for t in TARGETS}
    numbers = {
        **scores,
        "pixel_size": record.conditions.pixel_size,
        "truth": len(truth),
        **row.features,
        **told,
    }
    return {"domain": name, "image": row.image, "way": way} | {k: f"{v:.6g}" for k, v in numbers.items()}


@lru_cache(maxsize=2)
def bundle_at(path: Path) -> Bundle:
    return read_bundle(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline=""))) if path.exists() else []


def write_rows(lines: Sequence[Mapping[str, str]], path: Path) -> None:
    write_whole(path, rows_csv([list(lines[0]), *(list(r.values()) for r in lines)]))


def rows(count: int, bundle: Path, *, looks: bool = True) -> None:
    """Detect in all images, two processes at a time; goes on where it stopped."""
    path = ROWS if looks else CALIBRATION
    done = read_rows(path)
    held = {(r["image"], r["way"]) for r in done}
    wanted = [job for job in jobs(count) if (f"{job[0]}/{job[1]}", job[2]) not in held]
    with ProcessPoolExecutor(2) as pool:
        for n, values in enumerate(pool.map(partial(line, bundle, looks), wanted, chunksize=2), 1):
            done.append(values)
            if n % 20 == 0 or n == len(wanted):
                write_rows(done, path)
                print(f"rows {n}/{len(wanted)}", flush=True)


def calibration_rows() -> list[CalibrationRow]:
    """What the boxes tell of each image, for a calibration. Only foils as they are are of the instrument."""
    told = []
    for r in read_rows(CALIBRATION):
        of_boxes = {k: float(v) for k, v in r.items() if k not in SAID}
        plain = Taken(instrument=SIMULATED, pixel_size=float(r["pixel_size"]))
        told.append(
            CalibrationRow(
                features=of_boxes,
                **{t: float(r[t]) for t in TARGETS},
                domain=r["domain"],
                image=r["image"],
                taken=plain if r["way"] == "as it is" else UNKNOWN,
            )
        )
    return told


SAID = ("domain", "image", "way", "pixel_size", "truth", *TARGETS)
CUES = {
    "candidates": ("soft", "nested_far_below", "nested_below", "nested_above"),
    **{name: (f"same_{name}", f"more_{name}") for name in LOOKS},
    "rims": ("inside", "inside_spread", "rim", "rim_spread", "ringed"),
}
EVERY = tuple(name for names in CUES.values() for name in names)
SETS = {
    "boxes": (),
    **{f"boxes + {name}": names for name, names in CUES.items()},
    "all": EVERY,
    **{f"all - {name}": tuple(c for c in EVERY if c not in names) for name, names in CUES.items()},
}
RESAMPLES = 1000


def learn(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    trees = ExtraTreesRegressor(120, min_samples_leaf=3, max_features=0.5, random_state=0, n_jobs=1).fit(x, y)
    return lambda at: np.asarray(trees.predict(at))


def held_out(x: np.ndarray, y: np.ndarray, domain: np.ndarray, way: np.ndarray, meta: bool) -> np.ndarray:
    """Estimates of a domain's images in a way from other domains and ways; or from foils as they are."""
    value = np.full_like(y, np.nan)
    for d in np.unique(domain):
        for w in np.unique(way):
            out = (domain == d) & (way == w)
            known = domain != d
            known &= (way != w) | (way == "as it is") if meta else way == "as it is"
            if out.any():
                value[out] = learn(x[known], y[known])(x[out])
    return value


def table() -> None:
    """What each cue brings: errors with domain and way held out, bootstrap over foils."""
    lines = read_rows(ROWS)
    domain, way, image = (np.array([r[n] for r in lines]) for n in ("domain", "way", "image"))
    y = np.array([[float(r[t]) for t in TARGETS] for r in lines])
    nothing = np.array([float(r["count"]) == 0 for r in lines])
    foils, of = np.unique(image, return_inverse=True)
    draws = np.random.default_rng(0).integers(0, len(foils), (RESAMPLES, len(foils)))
    weights = np.array([np.bincount(d, minlength=len(foils)) for d in draws])[:, of]
    counts = f"{len(lines)} images, {len(foils)} foils, {len(np.unique(domain))} domains"
    print(f"{counts}; nothing found in {nothing.mean():.2f}")
    heads = "".join(f"{h:>7}" for h in ("MAE", "prec.", "recall", "R2", "AUROC"))
    print(f"{'inputs':<22}{heads}{'found 0':>9}{'its AUROC':>10}  MAE less that of boxes, 95 %")
    base = None
    for meta in (False, True):
        for name, cues in SETS.items():
            x = np.array([[float(r[n]) for n in (*PAPER_FEATURES, *cues)] for r in lines])
            said = held_out(x, y, domain, way, meta)
            off = np.abs(said - y)
            base = off[:, 0] if base is None else base
            change = off[:, 0] - base
            spread = np.percentile((weights * change).sum(1) / weights.sum(1), (2.5, 97.5))
            r2 = 1 - np.square(said[:, 0] - y[:, 0]).sum() / np.square(y[:, 0] - y[:, 0].mean()).sum()
            blank = auroc(y[nothing, 0] > 0.5, said[nothing, 0])
            print(
                f"{('meta: ' if meta else '') + name:<22}"
                + "".join(f"{v:7.3f}" for v in (*off.mean(0), r2))
                + f"{auroc(y[:, 0] < 0.5, -said[:, 0]):7.3f}{off[nothing, 0].mean():9.3f}{blank:10.3f}"
                + f"  {change.mean():+.4f} ({spread[0]:+.4f} to {spread[1]:+.4f})",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = sys.argv[1:]
    if not words or words[0] not in ("rows", "table"):
        sys.exit(__doc__)
    if words[0] == "table":
        table()
    else:
        rows(int(words[1]) if len(words) > 1 else 10, Path(words[2]) if len(words) > 2 else SHIPPED)
