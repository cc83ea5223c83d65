"""Files of any detector's output, and of annotations, to `Detections`: every form that is read, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from passband.detections.coco import read_coco, read_image_list
from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Notes
from passband.detections.image_names import KnownImages, checked_shapes
from passband.detections.imagej import read_imagej
from passband.detections.json_files import forget_json
from passband.detections.label_studio import read_label_studio
from passband.detections.labels import from_label_image, read_label_images
from passband.detections.libraries import from_torchvision, from_ultralytics
from passband.detections.qupath import read_qupath
from passband.detections.telling import told_format
from passband.detections.ultralytics import read_ultralytics
from passband.detections.write_coco import write_coco
from passband.detections.yolo import read_yolo
from passband.errors import DetectionsError

__all__ = [
    "FORMATS",
    "from_label_image",
    "from_torchvision",
    "from_ultralytics",
    "read_detections",
    "write_coco",
]


def read_detections(
    path: str | os.PathLike[str],
    *,
    images: Mapping[str, tuple[int, int]] | None = None,
    image_list: str | os.PathLike[str] | None = None,
    score_threshold: float | None = None,
    format: str | None = None,
    notes: Notes | None = None,
) -> dict[str, Detections]:
    """Read detections, or annotations, from a file or folder.

    What is a little wrong is mended, objects that cannot be used are left out, images that cannot be read
    are refused: each is noted, and the rest goes on.

    Parameters
    ----------
    path
        A COCO results or ground-truth file, a YOLO text file, JSON of Ultralytics or Label Studio, GeoJSON of
        QuPath, regions of ImageJ (zip, roi), a label image (npy, tif, png); a folder of any of these; or one
        with Detectron2's coco_instances_results.json.
    images
        Image name to (height, width) in pixels: the images in question; others are counted in a note.
        Entries find their image by name, by name without suffix, or by the number that the name is. Needed
        by all but COCO ground truth and label images.
    image_list
        COCO file whose "images" give names and sizes for the image numbers of a results file.
    score_threshold
        Keep objects with a score at or above this, and record it as the detector's threshold.
    format
        A key of `FORMATS` where neither suffix nor content tells.
    notes
        Takes what was mended, left out, refused and passed over; if it is strict, the first three are
        errors.

    Returns
    -------
    dict
        Image name, as in ``images`` or else the last part of the name in the file, to `Detections`.
        An image that the file lists without objects has none; one that it does not list is absent, as is
        one that is refused.

    Raises
    ------
    DetectionsError
        If the file cannot be used at all: one error that names it and every fault in it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("0 0.5 0.5 0.25 0.5 0.9")
    ...     found = read_detections(folder, images={"a.png": (64, 128)})
    >>> found["a.png"].boxes_xyxy.tolist(), found["a.png"].scores.tolist()
    ([[48.0, 16.0, 80.0, 48.0]], [0.9])
    """
    path, notes = Path(path), notes or Notes()
    faults = Faults(path)
    shapes = None if images is None else checked_shapes(images, faults)
    if format is not None and format not in FORMATS:
        faults.add(f"format must be one of {', '.join(map(repr, FORMATS))}, got {format!r}")
    faults.raise_if_any()
    known = KnownImages(shapes=shapes, notes=notes)
    try:
        if image_list is not None:
            known = read_image_list(Path(image_list), known)
        if not path.exists():
            raise DetectionsError(f"{path} does not exist; wanted a file or folder of detections")
        if format is None:
            path, format, more = told_format(path)
            if more:
                notes.say(more)
        found = FORMATS[format](path, known)
    except OSError as error:
        raise DetectionsError(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        forget_json()
    for name in found:
        notes.refused.pop(name, None)
    notes.raise_if_strict(path)
    notes.raise_if_nothing_left(path, found)
    if score_threshold is not None:
        found = {name: d.above(score_threshold) for name, d in found.items()}
    return found


def read_json_files(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read a folder of JSON files, each by what it holds; one that cannot be used stops no other."""
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in (".json", ".geojson"))
    found: dict[str, Detections] = {}
    failed: list[DetectionsError] = []
    for file in files:
        try:
            _, format, _ = told_format(file)
            some = FORMATS[format](file, known)
        except DetectionsError as error:
            failed.append(error)
            continue
        for name, d in some.items():
            if len(found.get(name, ())) and len(d):
                known.notes.doubt(f"several files are for image {name!r}, and the first was taken")
            elif name not in found or len(d):
                found[name] = d
    if failed and not found:
        raise failed[0]
    if failed:
        known.notes.say(f"{len(failed):,} of {len(files):,} files were passed over: {failed[0]}")
    return found


FORMATS: dict[str, Callable[[Path, KnownImages], dict[str, Detections]]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "labels": read_label_images,
    "ultralytics": read_ultralytics,
    "imagej": read_imagej,
    "qupath": read_qupath,
    "labelstudio": read_label_studio,
    "json": read_json_files,
}
"""Every form of detection file that can be read, by name."""
