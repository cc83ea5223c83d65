"""COCO files: results and ground truth in, everything Passband knows of detections out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Gathered, inside, number, shown
from passband.detections.image_names import KnownImages, checked_shape, is_id, note_others, short_names
from passband.detections.masks import centre_pixel, mask_from_polygons, mask_from_rle, rle_from_mask
from passband.errors import DetectionsError
from passband.store.files import write_whole
from passband.types import InstanceMask

_Box = tuple[float, float, float, float]


def read_coco(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read a COCO file: a results list, or an object with images and annotations.

    Boxes, polygons, and run lengths packed or not are read; a missing box is taken from the outline, a
    missing score of an annotation is 1. Categories are not told apart, as in either rule of matching.

    Parameters
    ----------
    path
        The JSON file.
    known
        The images it may speak of. A results list holds image numbers alone, so it needs their names and
        sizes; known images without an entry then have no detections.

    Returns
    -------
    dict
        Image name to `Detections`, images without objects included.

    Raises
    ------
    DetectionsError
        Naming every fault of the file.
    """
    faults = Faults(path)
    document = load_json(path)
    names = _category_names(document)
    images: dict[int | str, str | None]
    if isinstance(document, list):
        if known.shapes is None:
            raise DetectionsError(
                f"{path} is a COCO results list, which names no image sizes: give images={{name: (height, "
                "width)}, or the ground-truth file as image_list"
            )
        gathered = {name: Gathered(shape=shape, has_categories=True) for name, shape in known.shapes.items()}
        images, entries, scored = {}, document, True
        matched = not entries
    elif isinstance(document, dict) and isinstance(document.get("annotations"), list):
        gathered, images = _images(document, known, faults, bool(names))
        entries, scored, matched = document["annotations"], False, True
    else:
        raise DetectionsError(
            f"{path} is no COCO file: wanted a list of results, or an object with lists images and "
            f"annotations, got {_outline(document)}"
        )
    all_scored = all(isinstance(e, dict) and "score" in e for e in entries)
    for g in gathered.values():
        if g.scored is None:  # of a file without an entry nothing can be said, and nothing is asked
            g.scored = all_scored
    others: dict[str, None] = {}
    for place, entry in enumerate(entries):
        where = f"entry {place}"
        if not isinstance(entry, dict):
            faults.add("an entry must be an object", f"{where} ({shown(entry)})")
            continue
        image_id = entry.get("image_id")
        if isinstance(document, list):
            name = _found(known.find_id, image_id, others, faults)
            matched = matched or name is not None
        else:
            name = images.get(image_id) if is_id(image_id) else None
            if not is_id(image_id) or image_id not in images:
                faults.add("the file lists no such image", f"image_id {shown(image_id)}")
        if name is not None:
            _add_entry(entry, gathered[name], scored, where, faults, names)
    note_others(others, known, matched, faults)
    result = {name: g.detections(name, faults) for name, g in gathered.items()}
    faults.raise_if_any()
    return {name: d for name, d in result.items() if d is not None}


def read_image_list(
    path: Path, shapes: Mapping[str, tuple[int, int]] | None
) -> tuple[dict[str, tuple[int, int]], dict[int | str, str]]:
    """Read which image each number of a COCO results file means.

    Parameters
    ----------
    path
        A COCO ground-truth file, or a list of images as in its "images".
    shapes
        Image name to (height, width) of the images in question, or None for all that are listed.

    Returns
    -------
    tuple
        Image name to (height, width), and image number to image name.

    Raises
    ------
    DetectionsError
        Naming every fault of the list: a listed size may not differ from the given one.
    """
    faults = Faults(path)
    document = load_json(path)
    if isinstance(document, list):
        document = {"images": document}
    gathered, images = _images(document, KnownImages(shapes=shapes, skip_others=True), faults)
    faults.raise_if_any()
    listed = {name: g.shape for name, g in gathered.items()}
    ids = {image_id: name for image_id, name in images.items() if name is not None}
    return dict(listed if shapes is None else shapes), ids


def write_coco(
    path: str | os.PathLike[str],
    detections: Mapping[str, Detections],
    *,
    categories: Sequence[Mapping[str, str]] = ({"name": "object"},),
    kinds: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Write detections as one COCO file, with images, annotations, scores and packed run lengths.

    Besides COCO's own keys it holds each image's "score_threshold", "scored", "has_masks" and
    "has_categories", and each object's "bbox_xyxy", so that `passband.detections.files.read_detections`
    gives back the same values exactly.
    Masks come back cropped to their pixels.

    Parameters
    ----------
    path
        The JSON file; it is never half there.
    detections
        Image file name to `Detections`.
    categories
        Each with a "name", and what else is to be said of it; numbered from 1 in the file. Classes that
        only the detections name come after them.
    kinds
        Image file name to the place in ``categories`` of each of its objects; where not given the
        detections' own classes count, and the first where they have none.

    Raises
    ------
    DetectionsError
        If a mask is empty or outside its image.
    PassbandError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from passband.detections.files import read_detections
    >>> d = Detections(image_shape=(64, 64), boxes_xyxy=np.array([[3.0, 4, 13, 16]]), scores=np.array([0.9]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_coco(Path(folder, "found.json"), {"a.png": d})
    ...     read_detections(Path(folder, "found.json"))["a.png"].boxes_xyxy.tolist()
    [[3.0, 4.0, 13.0, 16.0]]
    """
    path = Path(path)
    faults = Faults(path)
    told = [c["name"] for c in categories]
    told += dict.fromkeys(c for d in detections.values() for c in d.categories or () if c not in told)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, d) in enumerate(detections.items(), start=1):
        height, width = (int(n) for n in d.image_shape)
        images.append(
            {
                "id": image_id,
                "file_name": name,
                "height": height,
                "width": width,
                "score_threshold": float(d.score_threshold),
                "scored": d.scored,
                "has_masks": d.masks is not None,
                "has_categories": kinds is not None or d.categories is not None,
            }
        )
        for i, (box, score) in enumerate(zip(d.boxes_xyxy.tolist(), d.scores.tolist(), strict=True)):
            x0, y0, x1, y1 = box
            kind = kinds[name][i] if kinds else told.index(d.categories[i]) if d.categories else 0
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": 1 + kind,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "bbox_xyxy": box,
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
                "score": score,
            }
            if d.masks is not None:
                try:
                    annotation["segmentation"] = rle_from_mask(d.masks[i], (height, width))
                    annotation["area"] = int(d.masks[i].pixels.sum())
                except DetectionsError as error:
                    faults.add(str(error), f"image {name!r}, object {i}")
            annotations.append(annotation)
    faults.raise_if_any()
    document = {
        "info": {"description": "detections written by Passband"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": i, **category}
            for i, category in enumerate([*categories, *({"name": n} for n in told[len(categories) :])], 1)
        ],
    }
    write_whole(path, json.dumps(document, indent=1) + "\n")


def load_json(path: Path) -> Any:
    """Parse a JSON file, or raise a `DetectionsError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DetectionsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DetectionsError(f"{path} is not JSON: {error}; wanted a COCO file") from error


def _category_names(document: object) -> dict[object, str]:
    """Number of each category to its name, where a document lists them."""
    rows = document.get("categories") if isinstance(document, dict) else None
    return {
        row["id"]: str(row.get("name", row["id"]))
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and is_id(row.get("id"))
    }


def _images(
    document: dict[str, Any], known: KnownImages, faults: Faults, has_categories: bool = False
) -> tuple[dict[str, Gathered], dict[int | str, str | None]]:
    """Images that a document lists: one place to gather for each, and number to name (None: passed over)."""
    rows = document.get("images") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        faults.add(f"wanted a list of images, got {_outline(document)}")
        faults.raise_if_any()
        return {}, {}
    gathered: dict[str, Gathered] = {}
    images: dict[int | str, str | None] = {}
    files = [r.get("file_name") for r in rows if isinstance(r, dict)]
    short = short_names(f for f in files if isinstance(f, str))
    others: dict[str, None] = {}
    for place, row in enumerate(rows):
        if not (isinstance(row, dict) and is_id(row.get("id")) and isinstance(row.get("file_name"), str)):
            words = "an image must have an id (number or text) and a file_name (text)"
            faults.add(words, f"image {place} ({shown(row)})")
            continue
        image_id, file = row["id"], row["file_name"]
        if image_id in images:
            faults.add("two images have the same id", shown(image_id))
            continue
        name = short[file] if known.shapes is None else _found(known.find, file, others, faults)
        images[image_id] = name
        if name is None:
            continue
        if name in gathered:
            faults.add("the file lists an image twice", repr(name))
            continue
        wanted = None if known.shapes is None else known.shapes[name]
        shape = _shape(row, name, wanted, faults)
        gathered[name] = _place_for(row, wanted or shape, faults, has_categories)
        if shape is None:
            images[image_id] = None
    note_others(others, known, bool(gathered), faults)
    return gathered, images


def _place_for(
    row: dict[str, Any], shape: tuple[int, int] | None, faults: Faults, has_categories: bool
) -> Gathered:
    """Where the entries of an image are gathered."""
    threshold = number(row.get("score_threshold", 0.0))
    if threshold is None:
        faults.add("score_threshold must be a number", f"image {row['file_name']!r}")
    # An image of unknown size keeps its entries out of the way of the other faults.
    return Gathered(
        shape=shape or (1, 1),
        score_threshold=threshold or 0.0,
        has_masks=row.get("has_masks") is True,
        scored=row["scored"] if isinstance(row.get("scored"), bool) else None,
        has_categories=has_categories and row.get("has_categories") is not False,
    )


def _shape(
    row: dict[str, Any], name: str, wanted: tuple[int, int] | None, faults: Faults
) -> tuple[int, int] | None:
    """The size that a document gives an image, or that of the image itself; None where neither can be."""
    shape = wanted
    if wanted is None or "height" in row or "width" in row:
        shape = checked_shape(row.get("height"), row.get("width"), f"image {row['file_name']!r}", faults)
    if shape is not None and wanted is not None and shape != wanted:
        faults.add(
            "the file was made for images of another size (height x width)",
            f"{name!r} is {wanted[0]} x {wanted[1]}, the file says {shape[0]} x {shape[1]}",
        )
    return shape


def _found(
    find: Callable[[object], str | None], label: object, others: dict[str, None], faults: Faults
) -> str | None:
    """Name of the image that a label means; without one it joins the others, with several it is a fault."""
    try:
        name = find(label)
    except DetectionsError as error:
        faults.add(str(error))
        return None
    if name is None:
        others[shown(label)] = None
    return name


def _add_entry(
    entry: dict[str, Any],
    image: Gathered,
    scored: bool,
    where: str,
    faults: Faults,
    names: Mapping[object, str],
) -> None:
    """Add one result or annotation to its image, or note its faults."""
    score = number(entry.get("score", None if scored else 1.0))
    if score is None or not 0 <= score <= 1:
        got = shown(entry["score"]) if "score" in entry else "none"
        faults.add("the score must be a number in [0, 1]", f"{where} ({got})")
    mask, outlined = _mask(entry.get("segmentation"), image, where, faults)
    box = _box(entry, where, faults) if entry.get("bbox") is not None else None
    if entry.get("bbox") is None:
        if mask is not None:
            box = mask.box_xyxy
        else:
            faults.add("an entry must have a bbox or a segmentation with a pixel", where)
    if box is not None and not inside(box, image.shape):
        size = "{} x {}".format(*image.shape)
        faults.add(f"a bbox must lie in its image of {size}", f"{where} ({shown(entry.get('bbox'))})")
    if box is None or score is None or not 0 <= score <= 1:
        return
    if outlined and mask is None:
        mask = centre_pixel(box, image.shape)
    number_of = entry.get("category_id")
    image.add(box, score, mask, names.get(number_of, str(number_of)) if is_id(number_of) else "")


def _box(entry: dict[str, Any], where: str, faults: Faults) -> _Box | None:
    """Corners of an entry's box, or None with the fault noted."""
    box = entry["bbox"]
    values = [number(v) for v in box] if isinstance(box, list) else []
    x, y, width, height = values if len(values) == 4 else [None] * 4
    if x is None or y is None or width is None or height is None:
        faults.add("a bbox must be four finite numbers x, y, width, height", f"{where} ({shown(box)})")
        return None
    if width <= 0 or height <= 0:
        faults.add("width and height of a bbox must be more than 0", f"{where} ({shown(box)})")
        return None
    corners = (x, y, x + width, y + height)
    # Of a box that begins outside the image, width and height lose bits of the far corner; take the corners
    # themselves where Passband wrote them and they still fit.
    exact = entry.get("bbox_xyxy")
    if isinstance(exact, list) and len(exact) == 4:
        exact = [number(v) for v in exact]
        if None not in exact and np.allclose(exact, corners, rtol=1e-12, atol=1e-9):
            return exact[0], exact[1], exact[2], exact[3]
    return corners


def _mask(segmentation: Any, image: Gathered, where: str, faults: Faults) -> tuple[InstanceMask | None, bool]:
    """Mask of a segmentation (None: no pixel), and whether there is a segmentation at all."""
    if segmentation is None or segmentation == []:
        return None, False
    try:
        if isinstance(segmentation, dict):
            return mask_from_rle(segmentation, image.shape), True
        if isinstance(segmentation, list):
            return mask_from_polygons(segmentation, image.shape), True
        raise DetectionsError(f"a segmentation must be polygons or run lengths, got {shown(segmentation)}")
    except DetectionsError as error:
        faults.add(str(error), where)
        return None, True


def _outline(document: object) -> str:
    """Say what a JSON document is, in a few words."""
    if isinstance(document, dict):
        return f"an object with {', '.join(map(repr, list(document)[:8])) or 'nothing'}"
    return f"a list of {len(document)}" if isinstance(document, list) else shown(document)
