"""Of which format a file or folder of detections is: told here, by suffix and by what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from passband.detections.imagej import ROI_SUFFIXES
from passband.detections.json_files import load_json
from passband.detections.label_studio import is_label_studio
from passband.detections.labels import LABEL_SUFFIXES
from passband.detections.qupath import is_geojson
from passband.detections.ultralytics import is_ultralytics
from passband.detections.yolo import NO_LABELS, is_yolo
from passband.errors import DetectionsError
from passband.micrographs.masks_beside import image_stem

DETECTRON2 = "coco_instances_results.json"
_JSON = (".json", ".geojson")
_PICKLES = (".pth", ".pt", ".pkl", ".pickle")
_BY_SUFFIX = {
    ".json": "coco", ".txt": "yolo", **dict.fromkeys(LABEL_SUFFIXES, "labels"),
    **dict.fromkeys(ROI_SUFFIXES, "imagej"), ".geojson": "qupath",
}  # fmt: skip
# What is not read, and what its tool can write instead.
_INSTEAD = {
    ".xml": "export it as COCO",
    ".h5": "export the labels as TIFF",
    ".hdf5": "export the labels as TIFF",
    ".mrc": "save the labels as TIFF",
    ".jpg": "JPEG changes the numbers of labels; save them as PNG or TIFF",
    ".jpeg": "JPEG changes the numbers of labels; save them as PNG or TIFF",
    ".csv": "export it as COCO",
    ".qpdata": "in QuPath choose File, Export objects as GeoJSON",
    ".qpproj": "in QuPath choose File, Export objects as GeoJSON",
    ".tar": "unpack it",
    ".gz": "unpack it",
}
# Where tools put their results within the folder of a run.
_WITHIN = ("inference", "labels", "masks")
_WORDS = {
    "yolo": "YOLO text files",
    "labels": "label images",
    "imagej": "ImageJ regions",
    "json": "JSON files",
}


def told_format(path: Path) -> tuple[Path, str, str]:
    """What to read, its key of `passband.detections.files.FORMATS`, and what is passed over, in words.

    Raises
    ------
    DetectionsError
        If it is of no format that is read; the message says what to give instead.
    """
    if path.is_dir():
        return _told_of_folder(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise DetectionsError(
            f"{path} is a pickle, which can run code and is never opened; "
            f"give {DETECTRON2}, which Detectron2 writes beside it"
        )
    if suffix not in _BY_SUFFIX:
        instead = f"; {_INSTEAD[suffix]}" if suffix in _INSTEAD else ""
        raise DetectionsError(f"{path} has no suffix of a detection file ({', '.join(_BY_SUFFIX)}){instead}")
    return path, _told_of_json(path) if suffix in _JSON else _BY_SUFFIX[suffix], ""


def _told_of_json(path: Path) -> str:
    """Key of the format that a JSON document is of; COCO's reader says what is wrong with any other."""
    document = load_json(path)
    tests = {"qupath": is_geojson, "labelstudio": is_label_studio, "ultralytics": is_ultralytics}
    return next((key for key, test in tests.items() if test(document)), _BY_SUFFIX[path.suffix.lower()])


def _told_of_folder(path: Path) -> tuple[Path, str, str]:
    """What to read of a folder: what is named like annotations goes before what may be anything."""
    files = [f for f in sorted(path.iterdir()) if f.is_file() and not f.name.startswith(".")]
    if any(f.name == DETECTRON2 for f in files):
        return path / DETECTRON2, "coco", ""

    def of(suffixes: Sequence[str]) -> list[Path]:
        return [f for f in files if f.suffix.lower() in suffixes]

    texts = [f for f in of([".txt"]) if f.name.lower() not in NO_LABELS and is_yolo(f)]
    images = of(LABEL_SUFFIXES)
    held = {
        "yolo": any(f.stat().st_size for f in texts),
        "labels": any(image_stem(f.stem) for f in images),
        "imagej": bool(of(ROI_SUFFIXES)),
        "json": bool(of(_JSON)),
    }
    found = [key for key, there in held.items() if there]
    if not found:
        found = ["yolo"] if texts else ["labels"] if images else []
    if found:
        more = ", ".join(_WORDS[key] for key in found[1:])
        words = f"{path} holds {more} too: its {_WORDS[found[0]]} were read"
        return path, found[0], words if more else ""
    for name in _WITHIN:
        if (path / name).is_dir():
            return _told_of_folder(path / name)
    raise DetectionsError(
        f"{path} holds neither YOLO text files nor label images (npy, tif, png) nor ImageJ regions (zip, "
        "roi) nor JSON"
    )
