"""Judging detections: every stage from their masks to an estimate with its interval, beside peers.

    python benchmarks/bench_estimate.py

One core, in seconds of its own time, so that other work on the machine does not count. The peers are
scikit-image's region properties of the same masks, and scikit-learn's forest of 100 trees asked about
one row; our stored copy of that forest stands beside it.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skimage.measure import regionprops
from sklearn.ensemble import RandomForestRegressor

from passband.detections.detections import Detections
from passband.detectors.bundle import default_bundle
from passband.estimate.calibration import Outlook
from passband.estimate.features import detection_features, image_features
from passband.estimate.forest import from_sklearn, predict
from passband.estimate.performance import estimate_scores
from passband.estimate.records import from_record
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask


@dataclass(frozen=True, kw_only=True)
class Case:
    side: int
    count: int
    diameters: tuple[int, int]
    target: float  # seconds
    times: int


CASES = (
    Case(side=512, count=50, diameters=(16, 32), target=0.010, times=60),
    Case(side=2048, count=10_000, diameters=(9, 12), target=0.100, times=7),
)


def median(f: Callable[[], object], times: int) -> float:
    f()
    taken = []
    for _ in range(times):
        start = time.process_time()
        f()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def disc(rng: np.random.Generator, case: Case) -> InstanceMask:
    """An ellipse that is nearly round, anywhere in the image."""
    h, w = rng.integers(case.diameters[0], case.diameters[1] + 1, 2)
    y, x = np.ogrid[:h, :w]
    pixels = ((y - (h - 1) / 2) / (h / 2)) ** 2 + ((x - (w - 1) / 2) / (w / 2)) ** 2 <= 1
    return InstanceMask(y=int(rng.integers(case.side - h)), x=int(rng.integers(case.side - w)), pixels=pixels)


def found(case: Case) -> Detections:
    rng = np.random.default_rng(0)
    masks = tuple(disc(rng, case) for _ in range(case.count))
    return Detections(
        image_shape=(case.side, case.side),
        boxes_xyxy=np.array([m.box_xyxy for m in masks]),
        scores=rng.beta(8, 2, case.count),
        masks=masks,
    )


def properties(masks: tuple[InstanceMask, ...]) -> float:
    """Perimeter, area and area of the convex hull of each mask, by scikit-image."""
    total = 0.0
    for mask in masks:
        r = regionprops(mask.pixels.astype(np.uint8))[0]
        total += r.perimeter + r.area + r.area_convex
    return total


calibration = from_record(default_bundle().calibration)
for case in CASES:
    noise = np.random.default_rng(1).normal(100, 10, (case.side, case.side)).astype(np.float32)
    micrograph, detections = Micrograph(pixels=noise, name="noise"), found(case)
    features = {**detection_features(detections), **image_features(micrograph)}
    features = {name: features[name] for name in calibration.features}

    def whole(m: Micrograph = micrograph, d: Detections = detections) -> Outlook:
        known = {**detection_features(d), **image_features(m)}
        return estimate_scores(calibration, {name: known[name] for name in calibration.features})

    stages: dict[str, Callable[[], object]] = {
        "features of the detections": lambda d=detections: detection_features(d),
        "features of the image": lambda m=micrograph: image_features(m),
        "estimate with interval": lambda f=features: estimate_scores(calibration, f),
    }
    print(f"{case.count} detections with masks, {case.side} x {case.side} pixels")
    taken = {name: median(f, case.times) for name, f in stages.items()}
    for name, seconds in taken.items():
        print(f"    {name:<28}{1e3 * seconds:9.2f} ms")
    total = median(whole, case.times)
    verdict = "met" if total <= case.target else f"missed by {total / case.target:.2f} x"
    print(f"    {'all three':<28}{1e3 * total:9.2f} ms, target {1e3 * case.target:.0f} ms: {verdict}")
    peer, ours = median(lambda d=detections: properties(d.masks), 3), taken["features of the detections"]
    print(f"    scikit-image, same masks    {1e3 * peer:9.2f} ms, {peer / ours:.1f} x our features of them")

rng = np.random.default_rng(0)
x, y = rng.normal(size=(600, 8)), rng.random((600, 3))
model = RandomForestRegressor(100, random_state=0, min_samples_leaf=3, n_jobs=1).fit(x, y)
forest, row = from_sklearn(model), x[:1]
ours, peer = median(lambda: predict(forest, row), 60), median(lambda: model.predict(row), 60)
estimate = taken["estimate with interval"]
print("one row")
print(f"    scikit-learn, 100 trees     {1e3 * peer:9.2f} ms")
print(f"    our stored forest           {1e3 * ours:9.2f} ms, {peer / ours:.1f} x as fast")
print(f"    estimate with interval      {1e3 * estimate:9.2f} ms, {peer / estimate:.1f} x as fast")
