"""A real detector on real micrographs with real labels, out of its domain: `make loops`.

Thirteen frames of dislocation loops in titanium, heated from 25 to 600 C (nomelabs, in situ TEM annealing of
Ti, MIT), in order of temperature, labelled by others. Four of them, evenly spaced, train a detector as
`passband train detector` does; nothing is chosen on the other nine, on which it is then tested: F1, precision
and recall at box IoU 0.5, its threshold the 0.5 that it is given where no image is held out.

Then what the product says of it on the nine: calibrated on four of them, the other five are told, over all
126 choices of four; and the nine as a folder that is surveyed by four, over all 126 draws. The figure shows
the estimates along the temperature, calibrated on the four coldest.

The labels themselves: neighbouring frames that show the same place are registered by the phase of their
spectra, and the labels of one are scored against those of the other as if they were a detector's.

    python studies/loops.py train [FOLDER]    half an hour of one core; goes on from its checkpoint
    python studies/loops.py tell [FOLDER]     two minutes; leaves studies/results/loops.{txt,csv} and a figure
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch

from passband.detections.detections import Detections
from passband.detections.given import DetectionsFile
from passband.detections.labelled import Labelled, LabelledImages, read_labelled
from passband.detections.matching import OPTIMAL, MatchingRule
from passband.detections.measured import measured_scores
from passband.detectors.bundle import SHIPPED, Bundle, default_bundle, read_bundle
from passband.detectors.infer import detect
from passband.detectors.train_labelled import OwnTraining, train_on_labelled
from passband.drawing.saving import ACCENT, QUIET, place, save_figure
from passband.estimate.calibration import Calibration, Estimate
from passband.estimate.left_out import Told, told
from passband.estimate.performance import adapt, estimate_scores
from passband.estimate.records import from_record
from passband.estimate.rows import CalibrationRow
from passband.estimate.sampling import Design
from passband.estimate.survey import Ratio, mean_of, survey_ratio
from passband.judge.calibrate import calibration_row
from passband.judge.own_detector import any_detector
from passband.store.columns import rows_csv
from passband.store.files import write_whole

OUT, RESULTS = Path("out/loops"), Path("studies/results")
FIGURE = Path("docs/gallery/loops.png")
TRAINED_ON = (0, 4, 8, 12)
STEPS = 2000
LABELLED = 4
LOOSE = MatchingRule(kind="optimal", iou=0.1)


def labelled(folder: Path, which: Sequence[int] | None = None) -> Labelled:
    """Frames in order of temperature, all or some."""
    frames = sorted(str(f) for f in (folder / "images").glob("*.jpg"))
    some = frames if which is None else [frames[i] for i in which]
    return Labelled(images=some, annotations=DetectionsFile(path=folder / "labels"))


def train(folder: Path) -> None:
    started = time.perf_counter()

    def say(what: str, done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            print(f"{what} {done}/{total} {time.perf_counter() - started:.0f} s", flush=True)

    training = OwnTraining(start=SHIPPED, steps=STEPS, validate=0)
    train_on_labelled(labelled(folder, TRAINED_ON), OUT, training, progress=say)


def tell(folder: Path) -> None:
    bundle = read_bundle(OUT / "bundle.safetensors")
    usable = read_labelled(labelled(folder))
    names = [Path(path).stem.removeprefix("frame_") for path in usable.truth]
    rows, loose, first = [], [], []
    for path, micrograph in usable.each():
        found, truth = detect(micrograph, bundle), usable.truth[path]
        rows.append(calibration_row(micrograph, found, truth, domain="loops"))
        loose.append(measured_scores(truth, found, LOOSE).f1)
        first.append(measured_scores(truth, detect(micrograph, default_bundle())).f1)
    test = [i for i in range(len(rows)) if i not in TRAINED_ON]
    tested = [rows[i] for i in test]
    lines = [
        f"frame      F1  precision  recall  F1 at IoU 0.1  labelled  shipped detector's F1   ({OPTIMAL})",
        *(
            f"{names[i]}{'*' if i in TRAINED_ON else ' '}  {r.f1:6.3f}  {r.precision:9.3f}  {r.recall:6.3f}"
            f"  {loose[i]:13.3f}  {len(usable.truth[path]):8d}  {first[i]:6.3f}"
            for i, (r, path) in enumerate(zip(rows, usable.truth, strict=True))
        ),
        "* trained on",
        f"mean F1 of the nine: {np.mean([r.f1 for r in tested]):.3f}, at IoU 0.1 "
        f"{np.mean([loose[i] for i in test]):.3f}; shipped detector {np.mean([first[i] for i in test]):.3f}",
        "",
        *calibrated(bundle, tested),
        "",
        *surveyed(
            bundle, tested, [len(usable.truth[path]) for i, path in enumerate(usable.truth) if i in test]
        ),
        "",
        *labels_again(usable, names),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    write_whole(RESULTS / "loops.txt", text)
    table = [["frame", "trained_on", "f1", "precision", "recall", "f1_iou_0_1", "labelled", "shipped_f1"]]
    for i, (r, path) in enumerate(zip(rows, usable.truth, strict=True)):
        values = (r.f1, r.precision, r.recall, loose[i])
        table.append(
            [
                names[i],
                str(i in TRAINED_ON),
                *(f"{v:.4f}" for v in values),
                str(len(usable.truth[path])),
                f"{first[i]:.4f}",
            ]
        )
    write_whole(RESULTS / "loops.csv", rows_csv(table))
    draw(bundle, tested, [names[i] for i in test])


def start_of(bundle: Bundle) -> Calibration:
    """What is known of any detector, at the threshold of this one."""
    known = from_record(any_detector(scored=True).calibration)
    return replace(known, score_threshold=bundle.score_threshold)


def calibrated(bundle: Bundle, tested: Sequence[CalibrationRow]) -> list[str]:
    """How well five frames are told by four, over all choices."""
    start, each = start_of(bundle), []
    for few in itertools.combinations(range(len(tested)), LABELLED):
        rest = [r for i, r in enumerate(tested) if i not in few]
        each.append(told(adapt(start, [tested[i] for i in few], domain="loops"), rest))
    none = told(start, tested)
    cold = told(adapt(start, tested[:LABELLED], domain="loops"), tested[LABELLED:])
    return [
        "F1 told                                   error  intervals hold  width",
        _line("nothing labelled, nine frames", none.mae, none.coverage, none.width),
        _line(
            "four labelled, five told, 126 choices", *(_mean(each, n) for n in ("mae", "coverage", "width"))
        ),
        _line("the four coldest labelled", cold.mae, cold.coverage, cold.width),
    ]


def _line(what: str, error: float, held: float, width: float) -> str:
    return f"{what:<40}{error:>7.3f}{held:>16.2f}{width:>7.2f}"


def _mean(each: Sequence[Told], name: str) -> float:
    return float(np.mean([getattr(t, name) for t in each]))


def surveyed(bundle: Bundle, tested: Sequence[CalibrationRow], there: Sequence[int]) -> list[str]:
    """How often the folder's mean F1 and number of objects lie in the intervals of four labelled frames."""
    start = start_of(bundle)
    guess = np.array([_told(start, r).value for r in tested])
    f1 = np.array([r.f1 for r in tested])
    found = np.array([r.features["count"] for r in tested], np.float64)
    counts = np.array(there, np.float64)
    reach = max(1.0, float(counts.mean()), float(found.mean()))
    told_of = {
        "mean F1": (f1.mean(), lambda d: mean_of(f1[d.labelled], guess, d)),
        "objects an image": (
            counts.mean(),
            lambda d: mean_of(counts[d.labelled], found, d, reach=reach, size=found + 1),
        ),
    }
    lines = ["the nine surveyed by four, all draws       truth  intervals hold  width"]
    for what, (truth, ratio_of) in told_of.items():
        held, width = [], []
        for few in itertools.combinations(range(len(tested)), LABELLED):
            design = Design(strata=np.zeros(len(tested), np.int64), labelled=np.array(few))
            ratio: Ratio = ratio_of(design)
            said = survey_ratio(ratio, design)
            assert said is not None
            held.append(said.low <= truth <= said.high)
            width.append(said.high - said.low)
        lines.append(_line(what, truth, float(np.mean(held)), float(np.mean(width))))
    return lines


def _told(calibration: Calibration, row: CalibrationRow) -> Estimate:
    return estimate_scores(calibration, {n: row.features[n] for n in calibration.features}).estimates["f1"]


def labels_again(usable: LabelledImages, names: Sequence[str]) -> list[str]:
    """Labels of one frame scored against those of the next where both show the same place."""
    lines = ["labels of a frame against those of the next, where both show the same place"]
    before = None
    for (path, micrograph), name in zip(usable.each(), names, strict=True):
        pixels = micrograph.pixels
        band = scipy.ndimage.gaussian_filter(pixels, 3) - scipy.ndimage.gaussian_filter(pixels, 30)
        if before is not None:
            shift, peak = registered(before[0], band)
            if peak > 12:
                truth, found = (common(usable.truth[p], s) for p, s in ((before[1], (0, 0)), (path, shift)))
                truth, found = inside(truth, shift), inside(found, shift)
                both = [measured_scores(truth, found, rule).f1 for rule in (OPTIMAL, LOOSE)]
                lines.append(
                    f"{before[2]} {name}: moved by {shift[0]}, {shift[1]} pixels; "
                    f"F1 {both[0]:.2f}, at IoU 0.1 {both[1]:.2f}"
                )
            else:
                lines.append(f"{before[2]} {name}: not registered (peak {peak:.1f} deviations)")
        before = band, path, name
    return lines


def registered(one: np.ndarray, other: np.ndarray) -> tuple[tuple[int, int], float]:
    """Rows and columns by which the other is to be moved onto the one, and its peak in deviations.

    The camera's own pattern stays in place: shifts of less than three pixels are not looked at.
    """
    window = np.outer(*(np.hanning(n) for n in one.shape))
    product = np.fft.rfft2(one * window) * np.conj(np.fft.rfft2(other * window))
    again = np.fft.irfft2(product / (np.abs(product) + 1e-6 * np.abs(product).max()), one.shape)
    for row in (-2, -1, 0, 1, 2):
        again[row, [-2, -1, 0, 1, 2]] = 0
    again = scipy.ndimage.gaussian_filter(again, 1, mode="wrap")
    y, x = np.unravel_index(int(again.argmax()), again.shape)
    shift = tuple(int(v) if v < n // 2 else int(v) - n for v, n in zip((y, x), again.shape, strict=True))
    return (shift[0], shift[1]), float(again.max() / again.std())


def common(d: Detections, shift: tuple[int, int]) -> Detections:
    """Boxes moved by rows and columns; what leaves the image is left out."""
    y, x = shift
    boxes = d.boxes_xyxy + np.array([x, y, x, y])
    height, width = d.image_shape
    kept = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    return Detections(image_shape=d.image_shape, boxes_xyxy=boxes[kept], scores=np.ones(int(kept.sum())))


def inside(d: Detections, shift: tuple[int, int]) -> Detections:
    """Those whose whole box both frames show."""
    (y, x), (height, width), b = shift, d.image_shape, d.boxes_xyxy
    kept = (b[:, 0] >= max(0, x)) & (b[:, 1] >= max(0, y))
    kept &= (b[:, 2] <= width + min(0, x)) & (b[:, 3] <= height + min(0, y))
    return Detections(image_shape=d.image_shape, boxes_xyxy=b[kept], scores=d.scores[kept])


def draw(bundle: Bundle, tested: Sequence[CalibrationRow], names: Sequence[str]) -> None:
    """Estimates along the temperature, before any label and with the four coldest, and what is true."""
    start = start_of(bundle)
    cold = adapt(start, tested[:LABELLED], domain="loops")
    figure, axes = place(None, (7, 3.6))
    places = np.arange(len(tested), dtype=float)
    for calibration, words, colour, by in (
        (start, "told, no label", QUIET, -0.08),
        (cold, "told, four coldest labelled", ACCENT, 0.08),
    ):
        said = [_told(calibration, r) for r in tested]
        shown = range(LABELLED, len(tested)) if calibration is cold else range(len(tested))
        axes.errorbar(
            [places[i] + by for i in shown],
            [said[i].value for i in shown],
            yerr=np.array([[said[i].value - said[i].low, said[i].high - said[i].value] for i in shown]).T,
            fmt="o",
            color=colour,
            capsize=3,
            label=words,
        )
    axes.plot(places, [r.f1 for r in tested], "k_", markersize=16, markeredgewidth=2, label="measured")
    axes.axvspan(-0.5, LABELLED - 0.5, color=ACCENT, alpha=0.08, linewidth=0)
    axes.set_xticks(places, names)
    axes.set_xlabel("frame, in order of temperature (25 to 600 °C)")
    axes.set_ylabel("F1 at box IoU 0.5")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    save_figure(figure, FIGURE)


def main() -> None:
    """Train, or tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["train", "tell"])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(os.environ.get("PASSBAND_DATA", "")) / "loops"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"train": train, "tell": tell}[args.what](args.folder)


if __name__ == "__main__":
    main()
