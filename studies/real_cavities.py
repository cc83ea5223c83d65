"""What a detector finds in 48 published micrographs of cavities, beside how many their authors annotated.

    python studies/real_cavities.py ../shared/data [BUNDLE]      a minute and a half on one core

The published table has for each of these images the counts, precision and recall of several networks, from
which the number of annotated cavities follows (counts x precision / recall; the median of its rows). From it
the rank correlation of the numbers and the mean of 2 min(n, n') / (n + n'), the most that F1 can be, over all
images and over those of each set. Nothing was chosen on them. Draws every image with its boxes into
out/real_cavities_0.png and so on, to be looked at. Of the detector that ships it leaves
studies/results/real_cavities.csv.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.stats import spearmanr

from passband.detections.detections import Detections
from passband.detectors.bundle import SHIPPED, read_bundle
from passband.detectors.infer import detect
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_sidecar
from passband.store.columns import rows_csv
from passband.store.files import write_whole

RESULTS = Path("studies/results/real_cavities.csv")
OUT = Path("out")
SIDE, ACROSS = 420, 4


def annotated(table: Path) -> dict[str, float]:
    """Annotated objects of each image of the published table."""
    told = defaultdict(list)
    with table.open(newline="", encoding="utf-8-sig") as f:
        for row in csv.DictReader(f):
            count, precision, recall = (float(row[k] or 0) for k in ("counts", "precision", "recall"))
            if recall > 0:
                told[row["names"]].append(count * precision / recall)
    return {name: float(np.median(values)) for name, values in told.items()}


def image_set(name: str) -> str:
    """Which of the published sets an image is of: C has numbers of five digits, B names such as 04_02.jpg."""
    stem, suffix = Path(name).stem, Path(name).suffix
    return "C" if stem.isdigit() and suffix == ".png" else "B" if suffix == ".jpg" else "A"


def main(data: Path, bundle: Path) -> None:
    torch.set_num_threads(1)
    detector, truth = read_bundle(bundle), annotated(data / "li2025" / "data_all_2.csv")
    reading = Reading(sidecar=read_sidecar(data / "cavities" / "image_nm_pixel_conversions.csv"))
    rows, tiles = [], []
    for path in sorted((data / "cavities" / "images").iterdir()):
        micrograph = reading.read(str(path))
        found = detect(micrograph, detector)
        n, there = len(found), truth.get(path.name, float("nan"))
        most = 2 * min(n, there) / max(n + there, 1e-9)
        rows.append((path.name, image_set(path.name), n, round(there), round(most, 3)))
        tiles.append(tile(micrograph, found, f"{path.name[:30]}  {n} found, {there:.0f} annotated"))
    if bundle == SHIPPED:
        write_whole(RESULTS, rows_csv([("image", "set", "found", "annotated", "most_f1"), *rows]))
    for which in ("A", "B", "C", "ABC"):
        some = [r for r in rows if r[1] in which]
        n, there, most = (np.array([r[k] for r in some], float) for k in (2, 3, 4))
        rho = spearmanr(n, there).statistic
        print(f"{which:<4}{len(some):>4} images: {n.sum():>6.0f} found, {there.sum():>6.0f} annotated, "
              f"rank correlation {rho:.3f}, mean of the most that F1 can be {most.mean():.3f}")  # fmt: skip
    OUT.mkdir(exist_ok=True)
    for k in range(0, len(tiles), ACROSS**2):
        sheet = Image.new("RGB", (ACROSS * SIDE, ACROSS * SIDE))
        for i, one in enumerate(tiles[k : k + ACROSS**2]):
            sheet.paste(one, (i % ACROSS * SIDE, i // ACROSS * SIDE))
        sheet.save(OUT / f"real_cavities_{k // ACROSS**2}.png")


def tile(micrograph: Micrograph, found: Detections, words: str) -> Image.Image:
    low, high = np.percentile(micrograph.pixels, (0.5, 99.5))
    grey = (np.clip((micrograph.pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    scale = (SIDE - 4) / max(image.size)
    image = image.resize((int(image.width * scale), int(image.height * scale)))
    draw = ImageDraw.Draw(image)
    for box, score in zip(found.boxes_xyxy * scale, found.scores, strict=True):
        draw.rectangle(box.tolist(), outline=(255, 60, 0) if score > 0.9 else (255, 220, 0))
    draw.text((3, 3), words, fill=(0, 255, 0))
    return image


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else SHIPPED)
