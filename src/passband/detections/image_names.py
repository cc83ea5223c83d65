"""Which image a detection file speaks of: by name, by name without its suffix, or by number."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from passband.detections.gathering import Faults, Gathered, Notes
from passband.detections.numbers import shown, whole_number

# Room for 30,000 x 30,000; a larger size in a file is damage or an attack, and is not allocated.
MAX_PIXELS = 2**30


@dataclass(frozen=True, kw_only=True)
class KnownImages:
    """The images that a detection file may speak of, and where it is noted what was made of it.

    Parameters
    ----------
    shapes
        Image name to (height, width) in pixels, or None where any image is accepted.
    ids
        Number used by a COCO results file to image name, or None without a COCO image list.
    kinds
        Number of each class in a results file to its name, where a COCO image list tells it.
    notes
        What a reader mends, leaves out or passes over.

    Examples
    --------
    >>> known = KnownImages(shapes={"run/a.png": (64, 64), "17.tif": (32, 32)})
    >>> known.find("a.png"), known.find("a"), known.find(17), known.find("b")
    ('run/a.png', 'run/a.png', '17.tif', None)
    """

    shapes: Mapping[str, tuple[int, int]] | None = None
    ids: Mapping[int | str, str] | None = None
    kinds: Mapping[int | str, str] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes, compare=False)
    _by_name: dict[str, list[str]] = field(init=False, repr=False, compare=False)
    _by_stem: dict[str, list[str]] = field(init=False, repr=False, compare=False)
    _by_folded: dict[str, list[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, list[str]] = {}
        by_stem: dict[str, list[str]] = {}
        for name in self.shapes or ():
            by_name.setdefault(base_name(name), []).append(name)
            by_stem.setdefault(stem(name), []).append(name)
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_by_stem", by_stem)
        folded: dict[str, list[str]] = {}
        for name in self.shapes or ():
            folded.setdefault(stem(name).casefold(), []).append(name)
        object.__setattr__(self, "_by_folded", folded)

    def candidates(self, label: object) -> list[str]:
        """Names of the images that a label may mean."""
        if not is_id(label):
            return []
        if self.shapes is None:
            return [base_name(label)] if isinstance(label, str) else []
        if label in self.shapes:
            return [str(label)]
        if isinstance(label, int):
            # Ultralytics turns "000017.png" into the number 17.
            return [n for s, names in self._by_stem.items() for n in names if _is_number(s, label)]
        last = base_name(label)
        tries = (
            (self._by_name, last), (self._by_stem, last), (self._by_stem, stem(label)),
            (self._by_folded, stem(label).casefold()),
        )  # fmt: skip
        found = next((table[key] for table, key in tries if key in table), [])
        if not found and label.isdecimal() and len(label) < 20:
            return self.candidates(int(label))
        path = "/" + label.replace("\\", "/").lstrip("./")
        ends = [n for n in found if ("/" + n.replace("\\", "/")).endswith(path)]
        return ends if len(ends) == 1 else found  # two folders may hold images of one name

    def find(self, label: object) -> str | None:
        """Name of the image that a label means, or None where there is none.

        Where it may mean several, these are refused in the notes.
        """
        found = self.candidates(label)
        for name in found if len(found) > 1 else ():
            words = f"{shown(label)} may be any of {', '.join(sorted(found))}"
            self.notes.refuse(name, f"{words}: give images of different names, or one of them")
        return found[0] if len(found) == 1 else None

    def find_id(self, image_id: object) -> str | None:
        """Name of the image with a number: by the image list alone where there is one, else like `find`."""
        if self.ids is None:
            return self.find(image_id)
        return self.ids.get(image_id) if is_id(image_id) else None


def is_id(value: object) -> TypeGuard[int | str]:
    """Whether a value can be an image's number in a COCO file: a whole number or text."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def note_others(others: Iterable[str], known: KnownImages, matched: bool, faults: Faults) -> None:
    """Count the labels of images that are not among those known in a note.

    A file that speaks of other images only is a fault: it is the wrong file, and reading it as "nothing was
    found" would be a wrong answer.
    """
    labels = list(dict.fromkeys(others))
    if not labels:
        return
    if matched or known.notes.refused:
        some = ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
        images = "1 more image" if len(labels) == 1 else f"{len(labels):,} more images"
        known.notes.say(f"it speaks of {images} than are given, passed over: {some}")
        return
    for label in labels:
        faults.add("it speaks of images that are not among those given", label + _nearest(label, known))
    numbers = all(label.isdecimal() for label in labels)
    if numbers and known.ids is None:
        faults.add("it names images by number: give the COCO file that lists them (--image-list)")


def _nearest(label: str, known: KnownImages) -> str:
    """The given image whose name is most like a label, in words."""
    names = [base_name(n) for n in list(known.shapes or ())[:1000]]
    wanted = base_name(label.strip("'\""))
    near = difflib.get_close_matches(wanted, names, 1, 0.5) or names[:1]
    return f" (nearest: {near[0]})" if near else ""


def match_files(
    files: Iterable[Path], known: KnownImages, label_of: Callable[[Path], str], faults: Faults
) -> dict[str, Path]:
    """Which of the files, each named like its image, is whose; the first where there are several."""
    found: dict[str, Path] = {}
    others: list[str] = []
    for file in files:
        label = label_of(file)
        name = file.name if known.shapes is None else known.find(label)
        if name is None and not known.candidates(label):
            others.append(file.name)
        elif name is None:
            continue  # it may be of several, which are refused
        elif name in found:
            words = f"{found[name].name} was taken for image {name!r}, and {file.name} left out"
            known.notes.doubt(words)
        else:
            found[name] = file
    note_others(others, known, bool(found), faults)
    return found


def place_for(name: str, known: KnownImages) -> Gathered:
    """Where the objects of a known image are gathered."""
    assert known.shapes is not None
    return Gathered(shape=known.shapes[name], notes=known.notes)


def _is_number(text: str, wanted: int) -> bool:
    """Whether a text of digits means a number; very long ones mean none."""
    return text.isdecimal() and len(text) < 20 and int(text) == wanted


def base_name(name: str) -> str:
    """Last part of a path written with either slash."""
    return PurePosixPath(name.replace("\\", "/")).name or name


def stem(name: str) -> str:
    """Last part of a path without its suffix; "a_0.5nm" has none, as no suffix begins with a digit."""
    path = PurePosixPath(base_name(name))
    return path.stem.removesuffix(".ome") if path.suffix[1:2].isalpha() else path.name


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name to its last part, or to itself where two images share that part.

    Examples
    --------
    >>> short_names(["x/a.png", "x/b.png", "y/b.png"])
    {'x/a.png': 'a.png', 'x/b.png': 'x/b.png', 'y/b.png': 'y/b.png'}
    """
    names = list(names)
    uses: dict[str, int] = defaultdict(int)
    for name in names:
        uses[base_name(name)] += 1
    return {name: base_name(name) if uses[base_name(name)] == 1 else name for name in names}


def checked_shape(height: object, width: object, where: str, faults: Faults) -> tuple[int, int] | None:
    """Give (height, width) as whole numbers of pixels, or None with the fault noted."""
    h, w = whole_number(height), whole_number(width)
    if h is None or w is None:
        got = f"{shown(height)} x {shown(width)}"
        faults.add(
            "height and width of an image must be whole numbers, 1 or more",
            f"{where} (height x width: {got})",
        )
        return None
    if h * w > MAX_PIXELS:
        faults.add(f"an image may have at most {MAX_PIXELS} pixels", f"{where} ({h} x {w})")
        return None
    return h, w


def checked_shapes(images: Mapping[str, tuple[int, int]], faults: Faults) -> dict[str, tuple[int, int]]:
    """Names and (height, width) as whole numbers, with every fault noted."""
    shapes = {}
    for name, size in images.items():
        try:
            height, width = size
        except (TypeError, ValueError):
            faults.add("an image's size must be (height, width)", f"{name!r} ({shown(size)})")
            continue
        shape = checked_shape(height, width, repr(str(name)), faults)
        if shape is not None:
            shapes[str(name)] = shape
    return shapes
