"""Scale bars burned into published micrographs, read and compared with what a person reads.

    python studies/scale_bars.py ../shared/data/emps
    python studies/scale_bars.py ../shared/data/emps every      all 366, to be looked at: five minutes

Every ninth image of the EMPS set from the eighth on, 40 in all, was read by eye beforehand: the lettering of
its scale bar, or none where no bar or no lettering can be made out. The choices were made on every ninth from
the fourth on. Prints each image's lettering, the bar's length in pixels and the pixel size, and how many are
right, wrong and left unknown; draws every bar that was found with its ends, to be looked at, into
out/scale_bars.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from passband.micrographs.readers import read_micrograph
from passband.micrographs.scale_bar import ScaleBar, find_scale_bar, length_of
from passband.store.files import write_whole

RESULTS = Path("studies/results/scale_bars.txt")
PICTURE = Path("out/scale_bars.png")
FIRST, STEP, COUNT = 7, 9, 40
READ = {
    "0e41d62d5d": "20 nm", "1a29c5b84f": "200 nm", "1ecd5c901c": "50 nm", "2556313831": "100 nm",
    "2bc87a8698": "1 um", "3027f9ffe7": "10 um", "36de69b2c0": "100 nm", "3bbd05202e": "50 nm",
    "427ebc9e15": "100 nm", "478a6c42ec": "100 nm", "51f82fcb93": "100 nm", "5898a2ac02": "50 nm",
    "62e729e838": "20 nm", "6a291d0bb4": "50 nm", "72507b07bc": "50 nm", "7701ac03c1": "300 nm",
    "7f50b86c4b": "200 nm", "83fd5c9288": "200 nm", "8e68b05e0e": "1 um", "9928dad0ac": "20 nm",
    "a492171fa8": "200 nm", "aa968ec1b2": "1 um", "b16f4f83a4": "200 nm", "b657336f23": "200 nm",
    "c5c0825297": "1 um", "d04d7ced9f": "2 um", "d8eff0e0bd": "100 nm", "e071eefebb": "200 nm",
    "e6bfc43298": "200 nm", "f6f3758bf4": "1 um",
}  # fmt: skip


def main(folder: Path, every: bool) -> None:
    files = sorted((folder / "images").iterdir())
    files = files if every else files[FIRST::STEP][:COUNT]
    lines, tiles = [f"{'image':<12}{'by eye':>8}{'read':>10}{'bar, px':>9}{'nm/px':>9}"], []
    right = wrong = 0
    for path in files:
        pixels = read_micrograph(path).pixels
        bar, eye = find_scale_bar(pixels), READ.get(path.stem)
        agrees = bar is not None and eye is not None and length_of(bar.words) == length_of(eye)
        right += agrees
        wrong += bar is not None and not agrees
        told = "" if bar is None else f"{bar.words:>10}{bar.length:>9.1f}{bar.pixel_size / 10:>9.3f}"
        lines.append(f"{path.stem:<12}{eye or '-':>8}{told}")
        if bar is not None:
            tiles.append(_tile(pixels, bar, path.stem))
    if every:
        lines.append(f"{len(tiles)} of {len(files)} are read")
    else:
        lines.append(
            f"{len(READ)} of {len(files)} can be read by eye; {right} are read right, {wrong} wrong, "
            f"{len(READ) - right} left unknown"
        )
        write_whole(RESULTS, "\n".join(lines) + "\n")
    print("\n".join(lines))
    sheet = Image.new("RGB", (4 * 390, -(-len(tiles) // 4) * 176))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % 4 * 390, i // 4 * 176))
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.save(PICTURE)
    print(f"the bars with their ends: {PICTURE}")


def _tile(pixels: np.ndarray, bar: ScaleBar, name: str) -> Image.Image:
    b, label = bar.bar, bar.label
    left, right = max(0, min(b.left, label.left) - 15), max(b.right, label.right) + 15
    top, bottom = max(0, min(b.top, label.top) - 12), max(b.bottom, label.bottom) + 12
    part = Image.fromarray(pixels[top:bottom, left:right].astype(np.uint8)).convert("RGB")
    scale = min(380 / part.width, 150 / part.height)
    part = part.resize((int(part.width * scale), int(part.height * scale)), Image.Resampling.NEAREST)
    draw, middle = ImageDraw.Draw(part), (b.left + b.right) / 2
    for x in (middle - bar.length / 2, middle + bar.length / 2):
        draw.line([((x - left) * scale, 0), ((x - left) * scale, part.height)], fill=(255, 0, 0))
    tile = Image.new("RGB", (390, 176))
    tile.paste(part, (0, 16))
    ImageDraw.Draw(tile).text((2, 2), f"{name} {bar.words} {bar.length:.1f} px", fill=(0, 255, 0))
    return tile


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), every=sys.argv[2:] == ["every"])
