"""GeoJSON that QuPath exports of one image: polygons in pixels, with holes, and the class of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Gathered, gathered_detections
from passband.detections.image_names import KnownImages, match_files, place_for
from passband.detections.json_files import load_json, outline_of
from passband.detections.masks import without_holes
from passband.detections.numbers import shown
from passband.errors import DetectionsError


def is_geojson(document: object) -> bool:
    """Whether a document is a collection of features, or a list of them."""
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and first.get("type") in ("FeatureCollection", "Feature")


def read_qupath(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read one image's objects: polygons and multipolygons in pixels; points and lines have no area.

    Parameters
    ----------
    path
        GeoJSON named like its image, as QuPath's "Export objects as GeoJSON" writes.
    known
        The images, whose sizes are needed.

    Raises
    ------
    DetectionsError
        If the file is no GeoJSON, the images are not known, or this one is not among them.
    """
    if known.shapes is None:
        raise DetectionsError(f"{path} names no image size: give images={{name: (height, width)}}")
    document = load_json(path)
    features = document.get("features") if isinstance(document, dict) else document
    if isinstance(document, dict) and document.get("type") == "Feature":
        features = [document]
    if not isinstance(features, list):
        raise DetectionsError(f"{path} is no GeoJSON: wanted a list of features, got {outline_of(document)}")
    faults = Faults(path)
    matched = match_files([path], known, lambda f: f.name.removesuffix(f.suffix), faults)
    faults.raise_if_any()
    gathered = {name: place_for(name, known) for name in matched}
    for image in gathered.values():
        image.has_masks, image.scored = True, False
        for place, feature in enumerate(features):
            _add(feature, image, f"{path.name} feature {place}")
        image.has_categories = any(image.categories)
    return gathered_detections(gathered, faults)


def _add(feature: Any, image: Gathered, where: str) -> None:
    """Add the object of one feature, if it has an area."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    geometry = geometry if isinstance(geometry, dict) else {}
    parts = geometry.get("coordinates")
    if geometry.get("type") == "Polygon":
        parts = [parts]
    rings = (
        [[_flat(ring) for ring in part] for part in parts or () if isinstance(part, list) and part]
        if isinstance(parts, list)
        else []
    )
    if geometry.get("type") not in ("Polygon", "MultiPolygon") or not rings:
        image.notes.objects += 1
        image.notes.leave_out(
            "features were no polygons and were left out", f"{where} ({shown(geometry.get('type'))})"
        )
        return
    about = feature.get("properties")
    about = about if isinstance(about, dict) else {}
    kind = about.get("classification")
    name = str(kind.get("name", "")) if isinstance(kind, dict) else ""
    before = len(image.masks)
    image.add_outline([part[0] for part in rings], 1.0, where=where, category=name)
    mask = image.masks[-1] if len(image.masks) > before else None
    try:
        holes = [image.outline([hole], where) for part in rings for hole in part[1:]]
    except DetectionsError:
        image.notes.mend("holes could not be read and were filled", where)
        return
    if mask is not None and holes:
        image.masks[-1] = without_holes(mask, [h for h in holes if h is not None]) or mask


def _flat(ring: Any) -> list[Any]:
    """x0, y0, x1, y1, ... of a ring; something that is no outline where it is none."""
    if not isinstance(ring, list) or not all(isinstance(p, list) and len(p) >= 2 for p in ring):
        return [None]
    return [v for point in ring for v in point[:2]]
