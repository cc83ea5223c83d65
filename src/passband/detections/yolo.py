"""YOLO text files: a line for each object, in parts of the image's width and height."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from passband.detections.detections import Detections
from passband.detections.gathering import MIXED_SCORES, Faults, Gathered, gathered_detections
from passband.detections.image_names import KnownImages, match_files, place_for
from passband.detections.numbers import number, shown
from passband.errors import DetectionsError

# Text files that annotation tools leave among the labels.
NO_LABELS = frozenset(
    {"classes.txt", "obj.names", "train.txt", "val.txt", "test.txt", "notes.txt", "readme.txt"}
)
_MAX_BYTES = 2**27
_EDGE = 1.01  # positions reach this far beyond 1 by rounding; whole numbers beyond it are no positions


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One object's numbers, its class first."""

    file: str
    where: str
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """What follows box or outline, decided for all files at once.

    Parameters
    ----------
    two
        Lines of an odd count of 7 and more end in a confidence and a track id.
    ids
        Lines of an even count end in a track id, and in a confidence otherwise.
    """

    two: bool
    ids: bool


def read_yolo(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read YOLO labels or predictions: one text file, or a folder with one for each image.

    A line is "class cx cy w h" for a box, or "class x y x y x y ..." for an outline of three or more points;
    a confidence may follow, and a track id. Box, confidence and track id are as many numbers as an outline of
    three points: which is which is decided for all files together. A missing confidence is 1. Classes are
    named by classes.txt, where it lies among the files, and by their number otherwise.

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
    if path.is_dir():
        files = [f for f in sorted(path.glob("*.txt")) if f.name.lower() not in NO_LABELS]
        if not files:
            faults.add("the folder holds no .txt file with labels")
    matched = match_files(files, known, lambda f: f.stem, faults)
    faults.raise_if_any()
    read = {name: _lines(file, name, known) for name, file in matched.items()}
    everything = [line for lines in read.values() for line in lines]
    _refuse_pixels(everything, path)
    columns = _columns(everything)
    if columns.two or columns.ids:
        known.notes.say("the last number of a line was taken for a track id and left out")
    names = _class_names(path if path.is_dir() else path.parent)
    with_score = [_has_confidence(line, columns) for line in everything]
    scored = all(with_score)
    if any(with_score) and not scored:
        known.notes.say(MIXED_SCORES)
    gathered = {name: place_for(name, known) for name in (known.shapes if path.is_dir() else matched)}
    known.notes.fileless += [name for name in gathered if name not in matched]
    for name, image in gathered.items():
        image.has_categories, image.scored = True, scored
        for line in read.get(name, ()):
            _add_object(line, columns, image, names)
    return gathered_detections({n: g for n, g in gathered.items() if n not in known.notes.refused}, faults)


def is_yolo(file: Path) -> bool:
    """Whether a text file may hold labels: it is empty, or its first line is of five or more numbers."""
    try:
        with file.open(encoding="utf-8-sig") as f:
            first = next(
                (line for line in (f.readline(4096) for _ in range(20)) if line.strip() and line[0] != "#"),
                "",
            )
    except (OSError, UnicodeDecodeError):
        return False
    words = first.split()
    return not words or (len(words) >= 5 and all(_value(word) is not None for word in words[:5]))


def _lines(file: Path, name: str, known: KnownImages) -> list[_Line]:
    """The objects of one file; lines that are none are counted, and a file that cannot be read refused."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise DetectionsError(f"has more than {_MAX_BYTES:,} bytes")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        known.notes.refuse(name, f"{file.name} cannot be read: {error.strerror or error}")
        return []
    except (UnicodeDecodeError, DetectionsError) as error:
        known.notes.refuse(
            name, f"{file.name} {error if isinstance(error, DetectionsError) else 'is not text'}"
        )
        return []
    words = [word for line in lines if not line.lstrip().startswith("#") for word in line.split()]
    if words and all(_value(word) is None for word in words):
        known.notes.refuse(name, f"{file.name} holds text without numbers, no labels")
        return []
    found = []
    for place, line in enumerate(lines, start=1):
        where = f"{file.name} line {place}"
        if line.lstrip().startswith("#"):
            continue
        values = [_value(word) for word in line.split()]
        numbers = [v for v in values if v is not None]
        if len(numbers) < len(values):
            known.notes.objects += 1
            known.notes.leave_out(
                "lines held anything but finite numbers and were left out", f"{where} ({shown(line)})"
            )
        elif 0 < len(values) < 5:
            known.notes.objects += 1
            known.notes.leave_out(
                "lines held neither a class and a box (5 numbers and more) nor an outline (7 and more), and "
                "were left out",
                where,
            )
        elif values:
            found.append(_Line(file=file.name, where=where, values=numbers))
    return found


def _refuse_pixels(lines: Sequence[_Line], path: Path) -> None:
    """Refuse files in pixels: their boxes would all be clipped to nothing."""
    far = [line.where for line in lines if max(map(abs, line.values[1:5])) > 2]
    if len(far) * 2 > len(lines):
        raise DetectionsError(
            f"{path} cannot be used: positions must be parts of the image's width and height, in [0, 1], but "
            f"those of {', '.join(far[:3])}{' and more' if len(far) > 3 else ''} look like pixels; "
            "divide them by the image's size"
        )


def _columns(lines: Sequence[_Line]) -> _Columns:
    """What the numbers after boxes and outlines are, from all lines together."""
    odd = [line.values for line in lines if len(line.values) >= 7 and len(line.values) % 2]
    even = [(line.file, line.values[-1]) for line in lines if len(line.values) % 2 == 0]
    ids = [v[-1] for v in odd]
    two = (
        bool(odd)
        and all(v == int(v) and v >= 1 for v in ids)
        and all(0 <= v[-2] <= 1 for v in odd)
        # Of points at the lower edge the last number is 1 too; a track id of 1 alone tells boxes only.
        and (max(ids) > _EDGE or all(len(v) == 7 for v in odd))
    )
    tracked = any(v > _EDGE for _, v in even) and all(v == int(v) for _, v in even)
    # Of one image no two objects are of one track: such numbers are confidences in percent.
    return _Columns(two=two, ids=tracked and len(set(even)) == len(even))


def _has_confidence(line: _Line, columns: _Columns) -> bool:
    if len(line.values) % 2:
        return columns.two and len(line.values) >= 7
    return not columns.ids


def _add_object(line: _Line, columns: _Columns, image: Gathered, names: Sequence[str]) -> None:
    """Add the object of one line."""
    kind, values = line.values[0], list(line.values[1:])
    score = 1.0
    if len(line.values) % 2 == 0:
        last = values.pop()
        score = 1.0 if columns.ids else last
    elif columns.two and len(line.values) >= 7:
        values.pop()
        score = values.pop()
    category = f"{kind:g}"
    if kind == int(kind) and 0 <= kind < len(names):
        category = names[int(kind)]
    height, width = image.shape
    if len(values) == 4:
        cx, cy, w, h = values
        box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        image.add(box, score, where=line.where, category=category)
        return
    points = [
        v * side
        for pair in zip(values[::2], values[1::2], strict=True)
        for v, side in zip(pair, (width, height), strict=True)
    ]
    image.add_outline([points], score, where=line.where, category=category)


def _class_names(folder: Path) -> list[str]:
    """Names of the classes, in the order of their numbers, where classes.txt tells them."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder / "classes.txt").read_text(encoding="utf-8-sig")
        return [line.strip() for line in text.splitlines()]
    return []


def _value(word: str) -> float | None:
    """Give a finite number from a word, or None."""
    try:
        return number(float(word))
    except ValueError:
        return None
