"""YOLO text files: a line for each object, in parts of the image's width and height."""

from __future__ import annotations

from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Gathered, inside, number, shown
from passband.detections.image_names import KnownImages, note_others
from passband.detections.masks import centre_pixel, mask_from_polygons
from passband.errors import DetectionsError

# Text files that annotation tools leave among the labels.
_NO_LABELS = {"classes.txt"}


def read_yolo(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read YOLO labels or predictions: one text file, or a folder with one for each image.

    A line is "class cx cy w h [confidence]" for a box, or "class x y x y x y ... [confidence]" for an
    outline of three or more points; a missing confidence is 1. Classes are not told apart.

    Parameters
    ----------
    path
        A file named like its image, or a folder of them.
    known
        The images, whose sizes are needed. In a folder, an image without a file has no detections, as
        YOLO writes none for it.

    Returns
    -------
    dict
        Image name to `Detections`.

    Raises
    ------
    DetectionsError
        Naming every fault of every file.
    """
    if known.shapes is None:
        raise DetectionsError(
            f"{path} holds YOLO labels, which are parts of the image: give images={{name: (height, width)}}"
        )
    faults = Faults(path)
    files = [path]
    gathered: dict[str, Gathered] = {}
    if path.is_dir():
        files = [f for f in sorted(path.glob("*.txt")) if f.name not in _NO_LABELS]
        if not files:
            faults.add("the folder holds no .txt file with labels")
        gathered = {name: Gathered(shape=shape) for name, shape in known.shapes.items()}
    seen: dict[str, str] = {}
    others: list[str] = []
    for file in files:
        try:
            name = known.find(file.stem)
        except DetectionsError as error:
            faults.add(str(error))
            continue
        if name is None:
            others.append(file.name)
            continue
        if name in seen:
            faults.add(f"several files are for image {name!r}", f"{seen[name]} and {file.name}")
            continue
        seen[name] = file.name
        gathered[name] = Gathered(shape=known.shapes[name])
        _add_lines(file, gathered[name], faults)
    note_others(others, known, bool(seen), faults)
    result = {name: g.detections(name, faults) for name, g in gathered.items()}
    faults.raise_if_any()
    return {name: d for name, d in result.items() if d is not None}


def _add_lines(file: Path, image: Gathered, faults: Faults) -> None:
    """Add every object of one file to its image, or note the faults."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        faults.add(f"{file.name} cannot be read: {error.strerror or error}")
        return
    except UnicodeDecodeError:
        faults.add(f"{file.name} is not text")
        return
    for place, line in enumerate(lines, start=1):
        where = f"{file.name} line {place}"
        words = line.split()
        if not words:
            continue
        values = [_value(word) for word in words]
        if any(v is None for v in values):
            faults.add("a line must hold finite numbers only", f"{where} ({shown(line)})")
            continue
        _add_object([v for v in values if v is not None], image, where, faults)


def _add_object(values: list[float], image: Gathered, where: str, faults: Faults) -> None:
    """Add the object of one line: 5 or 6 numbers are a box, more an outline; even counts end in a score."""
    if len(values) < 5:
        faults.add("a line must hold a class and a box (5 or 6 numbers) or an outline (7 or more)", where)
        return
    if len(values) % 2:
        image.scored = False
    score = values.pop() if len(values) % 2 == 0 else 1.0
    if not 0 <= score <= 1:
        faults.add("the confidence must be in [0, 1]", f"{where} ({score:g})")
        return
    if len(values) == 5 and min(values[3:]) <= 0:
        faults.add(
            "width and height of a box must be more than 0", f"{where} ({values[3]:g} x {values[4]:g})"
        )
        return
    if not all(-0.01 <= v <= 1.01 for v in values[1:]):
        faults.add("positions must be parts of the image's width and height, in [0, 1]", where)
        return
    height, width = image.shape
    if len(values) == 5:
        _, cx, cy, w, h = values
        box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        if not inside(box, image.shape):
            faults.add("a box must lie in its image", f"{where} ({', '.join(f'{v:g}' for v in values[1:])})")
            return
        image.add(box, score)
        return
    xs, ys = [v * width for v in values[1::2]], [v * height for v in values[2::2]]
    box = (min(xs), min(ys), max(xs), max(ys))
    if box[2] <= box[0] or box[3] <= box[1]:
        faults.add("an outline must have an extent in x and y", where)
        return
    try:
        polygon = [v for point in zip(xs, ys, strict=True) for v in point]
        mask = mask_from_polygons([polygon], image.shape)
    except DetectionsError as error:
        faults.add(str(error), where)
        return
    image.add(box, score, mask or centre_pixel(box, image.shape))


def _value(word: str) -> float | None:
    """Give a finite number from a word, or None."""
    try:
        return number(float(word))
    except ValueError:
        return None
