"""JSON that Label Studio exports: rectangles, ellipses, polygons and brush strokes of many images."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Gathered, gathered_detections
from passband.detections.image_names import KnownImages, note_others, place_for
from passband.detections.json_files import load_json
from passband.detections.masks import box_mask, tight_mask
from passband.detections.numbers import number, shown
from passband.errors import DetectionsError
from passband.types import InstanceMask

# What Label Studio puts before the name of a file that was uploaded.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_ELLIPSE_POINTS = 64


def is_label_studio(document: object) -> bool:
    """Whether a document is a list of Label Studio's tasks."""
    first = document[0] if isinstance(document, list) and document else None
    return isinstance(first, dict) and "data" in first and ("annotations" in first or "predictions" in first)


def read_label_studio(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read an export in the form "JSON": of each task the first annotation that was not cancelled.

    Where no task has one, the predictions are read, with their scores.

    Parameters
    ----------
    path
        The JSON file.
    known
        The images, whose sizes are needed.

    Raises
    ------
    DetectionsError
        If the images are not known, or the file speaks of none of them.
    """
    if known.shapes is None:
        raise DetectionsError(f"{path} names no image size: give images={{name: (height, width)}}")
    faults = Faults(path)
    tasks = load_json(path)
    if not is_label_studio(tasks):
        raise DetectionsError(
            f'{path} is no export of Label Studio in the form "JSON"; export it as that, or as COCO'
        )
    key = "annotations" if any(_answers(task, "annotations") for task in tasks) else "predictions"
    gathered: dict[str, Gathered] = {}
    others: list[str] = []
    for place, task in enumerate(tasks):
        label = _image_of(task)
        name = known.find(label) or known.find(_UPLOAD.sub("", label))
        if name is None:
            if not known.candidates(label):
                others.append(label)
            continue
        if name in gathered:
            known.notes.doubt(f"the file lists {name!r} more than once, and the first was taken")
            continue
        answers = _answers(task, key)
        if not answers:
            continue  # nobody has looked at it
        if len(answers) > 1:
            known.notes.say("tasks with several annotations were read by the first of each")
        image = place_for(name, known)
        image.scored = key == "predictions"
        gathered[name] = image
        results = answers[0].get("result")
        for number_of, result in enumerate(results if isinstance(results, list) else ()):
            where = f"task {place} result {number_of}"
            score = result.get("score", answers[0].get("score")) if isinstance(result, dict) else None
            _add(result, image, score if image.scored else 1.0, where)
        image.has_categories = any(image.categories)
    note_others(others, known, bool(gathered), faults)
    return gathered_detections(gathered, faults)


def _answers(task: Any, key: str) -> list[dict[str, Any]]:
    """The annotations, or predictions, of a task that count."""
    rows = task.get(key) if isinstance(task, dict) else None
    return [
        r
        for r in (rows if isinstance(rows, list) else ())
        if isinstance(r, dict) and not r.get("was_cancelled")
    ]


def _image_of(task: Any) -> str:
    """Name of the file of a task: the last part of the first value of its data that is a path."""
    data = task.get("data") if isinstance(task, dict) else None
    values = [v for v in (data if isinstance(data, dict) else {}).values() if isinstance(v, str) and "." in v]
    return PurePosixPath(unquote(values[0].partition("?")[0])).name if values else ""


def _add(result: Any, image: Gathered, score: object, where: str) -> None:
    """Add the object of one result."""
    value = result.get("value") if isinstance(result, dict) else None
    value = value if isinstance(value, dict) else {}
    kind = str(result.get("type", "")) if isinstance(result, dict) else ""
    if kind in ("choices", "textarea", "rating", "number", "relation"):
        return
    labels = value.get(kind)
    name = str(labels[0]) if isinstance(labels, list) and labels else ""
    try:
        if kind.startswith("brush"):
            mask = _brushed(value.get("rle"), image.shape)
            if mask is None:
                raise DetectionsError("no pixel is brushed")
            image.add(mask.box_xyxy, score, mask, where=where, category=name)
            return
        outline = _outline(kind, value, image.shape)
    except DetectionsError as error:
        image.notes.objects += 1
        image.notes.leave_out("objects could not be used and were left out", f"{where} ({error})")
        return
    if kind.startswith("rectangle") and not number(value.get("rotation", 0)):
        xs, ys = outline[0::2], outline[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
        image.add(box, score, box_mask(box, image.shape), where=where, category=name)
    else:
        image.add_outline([outline], score, where=where, category=name)


def _outline(kind: str, value: dict[str, Any], shape: tuple[int, int]) -> list[float]:
    """Points in pixels of a shape whose numbers are percent of the image's width and height."""
    if kind.startswith("polygon"):
        rows = value.get("points")
        flat = [v for p in rows if isinstance(p, list) for v in p[:2]] if isinstance(rows, list) else []
        points = np.array(_numbers(flat), np.float64).reshape(-1, 2)
        turned, centre = 0.0, np.zeros(2)
    elif kind.startswith("rectangle"):
        x, y, w, h = _numbers([value.get(key) for key in ("x", "y", "width", "height")])
        points, centre = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]), np.array([x, y])
        turned = number(value.get("rotation", 0)) or 0.0
    elif kind.startswith("ellipse"):
        x, y, a, b = _numbers([value.get(key) for key in ("x", "y", "radiusX", "radiusY")])
        t = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
        points, centre = np.stack([x + a * np.cos(t), y + b * np.sin(t)], axis=1), np.array([x, y])
        turned = number(value.get("rotation", 0)) or 0.0
    else:
        raise DetectionsError(f"type {shown(kind)}; rectangles, ellipses, polygons and brushes are read")
    unit = np.array([shape[1], shape[0]]) / 100
    points, centre = points * unit, centre * unit
    c, s = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    outline: list[float] = ((points - centre) @ np.array([[c, s], [-s, c]]) + centre).ravel().tolist()
    return outline


def _numbers(values: Sequence[Any]) -> list[float]:
    """Finite numbers, or an error."""
    found = [number(v) for v in values]
    if not found or None in found or len(found) % 2:
        raise DetectionsError(f"wanted pairs of finite numbers, got {shown(list(values))}")
    return [v for v in found if v is not None]


def _brushed(packed: Any, shape: tuple[int, int]) -> InstanceMask | None:
    """Pixels of a brush: bits of run lengths of an RGBA image, of which the last channel counts.

    References
    ----------
    The format is thi.ng's rle-pack, https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack.
    """
    if not isinstance(packed, list) or not all(isinstance(v, int) and 0 <= v < 256 for v in packed):
        raise DetectionsError(f"run lengths must be a list of bytes, got {shown(packed)}")
    bits = (np.unpackbits(np.array(packed, np.uint8)) + 48).tobytes().decode("ascii")
    at = 0

    def take(size: int) -> int:
        nonlocal at
        if at + size > len(bits):
            raise DetectionsError("its run lengths end too early")
        at += size
        return int(bits[at - size : at], 2)

    count = take(32)
    if count != 4 * shape[0] * shape[1]:
        raise DetectionsError(
            f"its run lengths are of {count // 4} pixels, the image has {shape[0] * shape[1]}"
        )
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out = np.zeros(count, bool)
    i = 0
    while i < count:
        same = take(1)
        stop = min(i + 1 + take(sizes[take(2)]), count)
        if same:
            out[i:stop] = take(word) > 0
        else:
            for j in range(i, stop):
                out[j] = take(word) > 0
        i = stop
    return tight_mask(out.reshape(*shape, 4)[..., 3])
