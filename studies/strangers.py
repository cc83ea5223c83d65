"""Pictures that are no micrographs of cavities, given to the detector that ships and its calibration.

    python studies/strangers.py [--emps FOLDER]      default $PASSBAND_DATA/emps; left out where absent

There is nothing to find in 64 crops of photographs, which scikit-image and scikit-learn carry inside
their packages, and in 64 drawings made here; whatever is found is false. Sixty micrographs of
particles (B. Yildirim and J. M. Cole, J. Chem. Inf. Model. 61 (2021) 1136) are no strangers to a
microscopist but are to the detector; their measured F1 is against the annotated particles.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from passband.detections.masks import masks_from_labels
from passband.detections.matching import OPTIMAL, match_boxes
from passband.detections.scores import object_scores
from passband.detectors.bundle import Bundle, default_bundle
from passband.drawing.saving import save_figure
from passband.estimate.calibration import Calibration, Outlook
from passband.estimate.features import detection_features, image_features
from passband.estimate.performance import estimate_scores
from passband.estimate.records import from_record
from passband.judge.figures import draw_verdicts
from passband.judge.verdict import Verdict
from passband.kinds import assess
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph
from passband.store.files import write_whole
from passband.types import Image

SIDE, MANY, PARTICLES, SEED = 512, 64, 60, 128
FREE = (  # public domain or CC0 by scikit-image's documentation; the others are not drawn
    "astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "grass", "gravel",
    "hubble_deep_field", "microaneurysms", "retina", "rocket", "text",
)  # fmt: skip
OTHERS = ("coins", "immunohistochemistry", "moon", "page")


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A picture, what was said of it, and whether it may be shown."""

    micrograph: Micrograph
    verdict: Verdict
    outlook: Outlook | None
    shown: bool

    @property
    def f1(self) -> float:
        """Estimated F1; 0 where the picture was rejected unseen."""
        return 0.0 if self.outlook is None else self.outlook.estimates["f1"].value


def judge(micrograph: Micrograph, bundle: Bundle, calibration: Calibration, *, shown: bool) -> Judged:
    verdict, outlook = assess(micrograph, bundle), None
    if verdict.estimates:
        known = {**detection_features(verdict.detections), **image_features(micrograph)}
        outlook = estimate_scores(calibration, {n: known[n] for n in calibration.features})
    return Judged(micrograph=micrograph, verdict=verdict, outlook=outlook, shown=shown)


# Photographs


def pictures() -> dict[str, Image]:
    """Whole pictures in grey, from the packages' own folders."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    found = {name: getattr(data, name)() for name in (*FREE, *OTHERS)}
    found["motorcycle_left"], found["motorcycle_right"], _ = data.stereo_motorcycle()
    samples = load_sample_images()
    found |= {Path(n).stem: p for n, p in zip(samples.filenames, samples.images, strict=True)}
    return {name: grey(pixels) for name, pixels in found.items()}


def grey(pixels: np.ndarray) -> Image:
    """Luminance (ITU-R BT.601), 0 to 255."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    return (pixels[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(np.float32)


def photographs() -> Iterator[tuple[str, Image]]:
    """Every picture in crops, then close-ups: windows of half its size, enlarged twice."""
    whole, made = pictures(), 0
    for name, pixels in whole.items():
        for i, part in enumerate(crops(pixels)):
            yield f"{name} {i + 1}", part
            made += 1
    rng, names = np.random.default_rng(SEED), list(whole)
    for k in range(MANY - made):
        pixels = whole[names[k % len(names)]]
        height, width = (min(side // 2, SIDE // 2) for side in pixels.shape)
        y, x = rng.integers(pixels.shape[0] - height), rng.integers(pixels.shape[1] - width)
        close = ndimage.zoom(pixels[y : y + height, x : x + width], 2, order=1)
        yield f"{names[k % len(names)]} close {k // len(names) + 1}", close


def crops(pixels: Image) -> Iterator[Image]:
    """Crops of at most 512 x 512 spread over a picture, the middle where one must do."""
    starts, sides = [], [min(SIDE, side) for side in pixels.shape]
    for side, short in zip(pixels.shape, sides, strict=True):
        n = min(2, max(1, round(side / SIDE)))
        starts.append([(side - short) // 2] if n == 1 else [0, side - short])
    for y in starts[0]:
        for x in starts[1]:
            yield pixels[y : y + sides[0], x : x + sides[1]]


# Drawings


def drawings() -> Iterator[tuple[str, Image]]:
    """Eight drawings of each kind, from one seed."""
    for k, (name, draw) in enumerate(KINDS.items()):
        for i in range(MANY // len(KINDS)):
            pixels = draw(np.random.default_rng((SEED, k, i)), i)
            yield f"{name} {i + 1}", np.clip(pixels, 0, 255).round().astype(np.float32)


def draw_text(rng: np.random.Generator, i: int) -> np.ndarray:
    figure, size = sheet(), int(rng.integers(7, 15))
    for row in np.arange(0.96, 0.03, -size / 300):
        words = ["".join(rng.choice(list("abcdefghiklmnoprstuvw"), rng.integers(2, 10))) for _ in range(14)]
        figure.text(0.05, row, " ".join(words)[: int(640 / size)], fontsize=size, family="DejaVu Serif")
    return printed(figure)


def draw_plot(rng: np.random.Generator, i: int) -> np.ndarray:
    figure = sheet()
    for axes in figure.subplots(1 + i % 2, 1 + i // 4, squeeze=False).flat:
        for _ in range(rng.integers(1, 6)):
            marker = str(rng.choice(["", "o", "s", "^"]))
            axes.plot(rng.normal(size=25).cumsum(), marker=marker, color=str(rng.uniform(0, 0.7)))
        axes.grid(bool(i % 3))
    return printed(figure)


def draw_checkerboard(rng: np.random.Generator, i: int) -> np.ndarray:
    board = np.indices((SIDE, SIDE)) // int(rng.integers(8, 80))
    pixels = 40.0 + 170 * (board.sum(axis=0) % 2)
    if i % 2:
        pixels = ndimage.rotate(pixels, float(rng.uniform(5, 85)), reshape=False, order=1, mode="reflect")
    return ndimage.gaussian_filter(pixels, i / 2) + rng.normal(0, 2 * (i % 4), pixels.shape)


def draw_gradient(rng: np.random.Generator, i: int) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE)) / SIDE - rng.uniform(0, 1, (2, 1, 1))
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.hypot(x, y) if i % 2 else x * np.cos(turn) + y * np.sin(turn)
    return 255 * (ramp - ramp.min()) / np.ptp(ramp) + rng.normal(0, 3 * (i % 4), ramp.shape)


def draw_shapes(rng: np.random.Generator, i: int) -> np.ndarray:
    """Circles and polygons, filled or in outline, which a detector of round things may well find."""
    from matplotlib.patches import Circle, RegularPolygon

    figure = sheet(str(rng.uniform(0.3, 1)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, SIDE), ylim=(0, SIDE))
    axes.axis("off")
    for _ in range(rng.integers(10, 60)):
        centre, radius = rng.uniform(0, SIDE, 2), rng.uniform(5, 40)
        face, edge, width = str(rng.uniform(0, 1)), str(rng.uniform(0, 1)), float(rng.uniform(0, 4))
        style = {"facecolor": face, "edgecolor": edge, "linewidth": width, "fill": bool(rng.random() < 0.6)}
        corners = int(rng.integers(3, 8))
        turned = RegularPolygon(centre, corners, radius=radius, orientation=rng.uniform(0, 6), **style)
        axes.add_patch(turned if i % 2 and rng.random() < 0.7 else Circle(centre, radius, **style))
    return printed(figure)


def draw_map(rng: np.random.Generator, i: int) -> np.ndarray:
    height = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(15, 50))
    figure = sheet()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    if i % 2:
        axes.contourf(height, levels=int(rng.integers(4, 12)), cmap="gray")
    lines = axes.contour(
        height, levels=int(rng.integers(6, 20)), colors="0.2", linewidths=rng.uniform(0.5, 2)
    )
    if i % 4 < 2:
        axes.clabel(lines, fontsize=7, fmt="%.3f")
    for place in rng.uniform(30, SIDE - 30, (12, 2)):
        axes.plot(*place, marker="o", color="k", markersize=rng.uniform(3, 9), markerfacecolor="w")
    return printed(figure)


def draw_noise(rng: np.random.Generator, i: int) -> np.ndarray:
    """White noise, blurred noise, and counts of few electrons over nothing."""
    if i % 4 == 3:
        return rng.poisson(rng.uniform(1, 20), (SIDE, SIDE)) * 10.0
    pixels = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), (0, 1, 4, 0)[i % 4] * (1 + i // 4))
    return 128 + 40 * pixels / pixels.std()


def draw_stripes(rng: np.random.Generator, i: int) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE))
    pixels = np.zeros((SIDE, SIDE))
    for _ in range(1 + i // 3):
        turn, period = rng.uniform(0, np.pi), rng.uniform(6, 80)
        pixels += np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
    pixels = np.sign(pixels) if i % 3 == 2 else pixels
    return 128 + 100 * pixels / np.abs(pixels).max() + rng.normal(0, 4 * (i % 3), pixels.shape)


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "text": draw_text,
    "plot": draw_plot,
    "checkerboard": draw_checkerboard,
    "gradient": draw_gradient,
    "shapes": draw_shapes,
    "map": draw_map,
    "noise": draw_noise,
    "stripes": draw_stripes,
}


def sheet(colour: str = "1") -> Figure:
    return Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor=colour, layout=None)


def printed(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return grey(np.asarray(canvas.buffer_rgba()))


# What was said


def line(name: str, judged: Sequence[Judged]) -> str:
    """One group's shares as a line of the table."""
    n, high = len(judged), [j for j in judged if j.f1 > 0.5]
    silent = sum(j.outlook.abstained for j in high if j.outlook)
    novel = sum(j.outlook.novelty > 1 for j in high if j.outlook)
    good = len(high) - silent
    found = sum(len(j.verdict.detections) > 0 for j in judged)
    answers = Counter(j.verdict.verdict for j in judged)
    counts = "".join(f"{answers[a]:>8}" for a in ("trust", "review", "reject"))
    return (
        f"{name:<22}{n:>7}{found / n:>8.1%}{len(high) / n:>11.1%}"
        f"{f'{silent} of {len(high)}':>12}{f'{novel} of {len(high)}':>12}{good / n:>11.1%}{counts}"
    )


HEAD = (
    f"{'':<22}{'images':>7}{'found':>8}{'F1 > 0.5':>11}{'abstained':>12}{'novel':>12}{'said good':>11}"
    f"{'trust':>8}{'review':>8}{'reject':>8}"
)
NOTES = """
found      something was found at the score threshold
F1 > 0.5   estimated above one half
abstained  of these, the estimate calls itself none: too wide an interval, or a novel image
novel      of these, the image lies outside what the calibration knows
said good  estimated above one half and not abstained
Every picture is declared to have pixels of {size:.2f} Å, amid the detector's training, so that an unknown
or odd pixel size speaks against none of them."""


def words(j: Judged) -> str:
    v, o = j.verdict, j.outlook
    assert o is not None
    e = o.estimates["f1"]
    return (
        f"    {j.micrograph.name:<24}{e.value:.2f} ({e.low:.2f} to {e.high:.2f})  {v.verdict:<8}"
        f"novelty {o.novelty:5.2f}  {len(v.detections):>3} found{'  abstained' if o.abstained else ''}"
    )


def particles(folder: Path) -> Iterator[tuple[Micrograph, np.ndarray]]:
    """Micrographs of particles with their annotated boxes."""
    from PIL import Image as Picture

    names = sorted(p.name for p in (folder / "images").glob("*.png"))
    for i in np.sort(np.random.default_rng(SEED).choice(len(names), PARTICLES, replace=False)):
        masks = masks_from_labels(np.array(Picture.open(folder / "segmaps" / names[i])))
        boxes = np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4)
        yield replace(read_micrograph(folder / "images" / names[i]), name=names[i]), boxes


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    bundle = default_bundle()
    if bundle.calibration is None:
        raise SystemExit(
            f"the bundle {bundle.name!r} holds no calibration; run studies/shipped_bundle.py fit"
        )
    calibration = from_record(bundle.calibration)
    size = float(np.sqrt(np.prod(bundle.training["pixel_size"])))

    def group(images: Iterator[tuple[str, Image]], free: Callable[[str], bool]) -> list[Judged]:
        found = []
        for name, pixels in images:
            image = Micrograph(pixels=np.ascontiguousarray(pixels), name=name, pixel_size=size)
            found.append(judge(image, bundle, calibration, shown=free(name)))
            if len(found) % 16 == 0:
                print(f"{len(found)} pictures, the last {name}", flush=True)
        return found

    photos = group(photographs(), lambda name: name.split()[0] in FREE)
    drawn = group(drawings(), lambda _: True)
    both = [*photos, *drawn]
    text = [HEAD, line("photographs", photos), line("drawings", drawn), line("both", both)]
    extra: list[str] = []
    if (folder / "images").is_dir():
        seen, measured = [], []
        for micrograph, boxes in particles(folder):
            j = judge(micrograph.calibrated(size, "the study"), bundle, calibration, shown=False)
            seen.append(j)
            found = match_boxes(boxes, j.verdict.detections.boxes_xyxy, OPTIMAL)
            measured.append(object_scores(found).f1)
        text.append(line("particles", seen))
        right = sum(m > 0.5 for j, m in zip(seen, measured, strict=True) if j.f1 > 0.5)
        extra = [
            "",
            f"Particles: measured F1 {np.mean(measured):.2f} in the mean, above one half in "
            f"{sum(m > 0.5 for m in measured)} of {len(seen)} images,",
            f"and in {right} of those {sum(j.f1 > 0.5 for j in seen)} estimated above one half.",
        ]
    best = sorted(both, key=lambda j: -j.f1)
    text += [NOTES.format(size=size), *extra, "", "Highest estimated F1 of photographs and drawings:"]
    text += [words(j) for j in best[:12]]
    content = "\n".join(text) + "\n"
    print(content)
    write_whole(Path("studies/results/strangers.txt"), content)
    picked = [j for j in best if j.shown][:8]
    figure = draw_verdicts([(replace(j.micrograph, pixel_size=None), j.verdict) for j in picked])
    print(save_figure(figure, Path("docs/gallery/strangers.png"), dpi=56))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--emps", type=Path, default=Path(os.environ.get("PASSBAND_DATA", "")) / "emps")
    main(parser.parse_args().emps)
