"""JSON that Ultralytics writes of one image: `Results.to_json`, a list of objects with box and outline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Gathered, gathered_detections
from passband.detections.image_names import KnownImages, match_files, place_for
from passband.detections.json_files import load_json
from passband.detections.numbers import number, shown
from passband.errors import DetectionsError


def is_ultralytics(document: object) -> bool:
    """Whether a document is a list of Ultralytics' objects."""
    first = document[0] if isinstance(document, list) and document else None
    return isinstance(first, dict) and isinstance(first.get("box"), dict) and "x1" in first["box"]


def read_ultralytics(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read one image's results, in pixels or, as ``normalize=True`` writes them, in parts of the image.

    Parameters
    ----------
    path
        JSON file named like its image.
    known
        The images, whose sizes are needed.

    Raises
    ------
    DetectionsError
        If the images are not known, or this one is not among them.
    """
    if known.shapes is None:
        raise DetectionsError(f"{path} names no image size: give images={{name: (height, width)}}")
    faults = Faults(path)
    entries = load_json(path)
    if not isinstance(entries, list):
        raise DetectionsError(f"{path} is no list of objects as Ultralytics' to_json writes")
    matched = match_files([path], known, lambda f: f.stem, faults)
    faults.raise_if_any()
    gathered = {name: place_for(name, known) for name in matched}
    for image in gathered.values():
        image.scored = all(isinstance(e, dict) and "confidence" in e for e in entries)
        unit = (image.shape[1], image.shape[0]) if _is_normalised(entries) else (1, 1)
        for place, entry in enumerate(entries):
            _add(entry, image, unit, f"{path.name} entry {place}")
        image.has_categories = any(image.categories)
    return gathered_detections(gathered, faults)


def _corners(entry: Any) -> list[float]:
    """x1, y1, x2, y2 of an entry; empty where they are not four numbers."""
    box = entry.get("box") if isinstance(entry, dict) else None
    values = [number(box.get(key)) for key in ("x1", "y1", "x2", "y2")] if isinstance(box, dict) else []
    return [v for v in values if v is not None] if None not in values else []


def _is_normalised(entries: Sequence[Any]) -> bool:
    """Whether no corner lies beyond 1."""
    return all(v <= 1.01 for entry in entries for v in _corners(entry))


def _add(entry: Any, image: Gathered, unit: tuple[int, int], where: str) -> None:
    """Add one object."""
    corners = _corners(entry)
    if not corners:
        image.notes.objects += 1
        image.notes.leave_out(
            "objects had no box of four finite numbers and were left out", f"{where} ({shown(entry)})"
        )
        return
    score, kind = entry.get("confidence", 1.0), str(entry.get("name", entry.get("class", "")))
    segments = entry.get("segments")
    x0, y0, x1, y1 = (v * unit[i % 2] for i, v in enumerate(corners))
    mask = None
    if isinstance(segments, dict) and segments.get("x"):
        xs, ys = segments.get("x"), segments.get("y")
        if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys):
            flat = [number(v) for point in zip(xs, ys, strict=True) for v in point]
            try:
                mask = image.outline(
                    [[None if v is None else v * unit[i % 2] for i, v in enumerate(flat)]], where
                )
            except DetectionsError as error:
                words = "outlines could not be used, and boxes stand in for them"
                image.notes.mend(words, f"{where} ({error})")
    image.add((x0, y0, x1, y1), score, mask, where=where, category=kind)
