"""A detector that nothing was known of, on published micrographs of particles: `make own-detector`.

Of the EMPS data set (B. Yildirim and J. M. Cole, doi:10.1021/acs.jcim.0c01455) every third micrograph with
at least three outlined particles; found by a threshold (`passband.particles.extraction.find`), an object's
confidence being 1 - exp(-c), c its contrast against a rim of 5 pixels in deviations of the image. It writes
what YOLO would: a line of text for each object. Then, as a user has it: k images drawn at random are labelled
and calibrate the detector, the others are told and compared with their measured F1; with the confidences and
without, beside Student's interval of the labelled images' F1. Twenty draws each.

    python studies/own_detector.py FOLDER [OUT]    holds images and segmaps; five minutes on one core
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.ndimage
import scipy.stats

from passband.detections.detections import Detections
from passband.detections.files import from_label_image
from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled, read_labelled
from passband.errors import PassbandError
from passband.estimate.calibration import Calibration
from passband.estimate.left_out import Told, told
from passband.estimate.performance import adapt
from passband.estimate.records import from_record
from passband.estimate.rows import CalibrationRow
from passband.judge.calibrate_own import scored_rows
from passband.judge.own_detector import any_detector
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph
from passband.particles.extraction.find import find_particles
from passband.store.files import write_whole

RESULTS = Path("studies/results")
EVERY, LEAST, RIM = 3, 3, 5
LABELLED = (3, 5, 10, 20, 40)
DRAWS = 20


def found_in(micrograph: Micrograph) -> Detections:
    """What the threshold finds, with confidences."""
    labels = find_particles(micrograph)
    found = from_label_image(labels)
    spread, scores = float(micrograph.pixels.std()), []
    for i, window in enumerate(scipy.ndimage.find_objects(labels), 1):
        y, x = (slice(max(0, s.start - RIM), s.stop + RIM) for s in window)
        inside = labels[y, x] == i
        rim = scipy.ndimage.binary_dilation(inside, iterations=RIM) & (labels[y, x] == 0)
        pixels = micrograph.pixels[y, x]
        outside = pixels[rim].mean() if rim.any() else micrograph.pixels.mean()
        scores.append(1 - np.exp(-abs(pixels[inside].mean() - outside) / spread))
    return replace(found, scores=np.array(scores, np.float64), scored=True)


def yolo(found: Detections) -> str:
    """Lines of class, centre, size and confidence, in parts of the image."""
    height, width = found.image_shape
    lines = []
    for (x0, y0, x1, y1), score in zip(found.boxes_xyxy.tolist(), found.scores.tolist(), strict=True):
        place = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
        lines.append(" ".join(["0", *(f"{v:.6f}" for v in place), f"{score:.4f}"]) + "\n")
    return "".join(lines)


def written(folder: Path, out: Path) -> list[str]:
    """The micrographs that are used, whose findings lie in a folder then."""
    used = []
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "images").iterdir())[::EVERY]:
        text = out / f"{path.stem}.txt"
        if not text.exists():
            try:
                micrograph = read_micrograph(path)
            except PassbandError:
                continue
            write_whole(text, yolo(found_in(micrograph)))
        used.append(str(path))
    return used


def alone(rows: Sequence[CalibrationRow], rest: Sequence[CalibrationRow]) -> Told:
    """What labels say by themselves."""
    scores, truth = (np.array([r.f1 for r in some]) for some in (rows, rest))
    half = scipy.stats.t.ppf(0.95, len(scores) - 1) * scores.std(ddof=1) * np.sqrt(1 + 1 / len(scores))
    low, high = np.clip([scores.mean() - half, scores.mean() + half], 0, 1)
    return Told(
        mae=float(np.abs(scores.mean() - truth).mean()),
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        width=float(high - low),
    )


def line(what: str, count: int, each: Sequence[Told]) -> str:
    mean = {name: float(np.mean([getattr(t, name) for t in each])) for name in ("coverage", "width", "mae")}
    worst = min(t.coverage for t in each)
    return (
        f"{what:<22}{count:>9}{mean['coverage']:>16.2f} ({worst:.2f}){mean['width']:>8.2f}{mean['mae']:>8.3f}"
    )


def main() -> None:
    """Find, label, calibrate, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "own_detector")
    args = parser.parse_args()
    started = time.perf_counter()
    files = written(args.folder, args.out / "yolo")
    labelled = Labelled(
        images=files,
        annotations=DetectionsFile(path=args.folder / "segmaps"),
        detections=DetectionsFile(path=args.out / "yolo"),
    )
    usable = read_labelled(labelled)
    enough = {path: truth for path, truth in usable.truth.items() if len(truth) >= LEAST}
    usable = replace(usable, truth=enough)
    lines = [
        f"{len(enough)} micrographs, {sum(map(len, enough.values()))} outlined particles, "
        f"{sum(len(usable.found[p]) for p in enough)} found",
        f"{'':<22}{'labelled':>9}{'hold (worst draw)':>23}{'width':>8}{'error':>8}",
    ]
    for scored in (True, False):
        rows, _ = scored_rows(usable, scored=scored, domain="threshold")
        start: Calibration = from_record(any_detector(scored=scored).calibration)
        name = "with confidences" if scored else "without"
        if scored:
            f1 = np.array([r.f1 for r in rows])
            lines.insert(1, f"measured F1 {f1.mean():.3f}, deviation {f1.std():.3f}")
            lines.append(line("nothing labelled", 0, [told(start, rows)]))
        for count in LABELLED:
            each, labels = [], []
            for draw in range(DRAWS):
                order = np.random.default_rng(draw).permutation(len(rows))
                few, rest = [rows[i] for i in order[:count]], [rows[i] for i in order[count:]]
                each.append(told(adapt(start, few, domain="threshold"), rest))
                labels.append(alone(few, rest))
            lines.append(line(name, count, each))
            if scored:
                lines.append(line("labels alone", count, labels))
    text = "\n".join(lines) + "\n"
    print(f"{text}{time.perf_counter() - started:.0f} s in all")
    write_whole(RESULTS / "own_detector.txt", text)


if __name__ == "__main__":
    main()
