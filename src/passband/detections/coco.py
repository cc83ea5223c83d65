"""COCO files of results and of ground truth, Detectron2's included, to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passband.detections.detections import Detections
from passband.detections.gathering import MIXED_SCORES, Faults, Gathered, gathered_detections
from passband.detections.image_names import KnownImages, checked_shape, is_id, note_others, short_names
from passband.detections.json_files import load_json, outline_of
from passband.detections.masks import Box, box_mask, centre_pixel, mask_from_rle
from passband.detections.numbers import number, shown
from passband.errors import DetectionsError
from passband.types import InstanceMask


def read_coco(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read a COCO file: a results list, or an object with images and annotations.

    Boxes, polygons, and run lengths packed or not are read; a missing box is taken from the outline, a
    missing score of an annotation is 1. Crowd regions are kept apart from the objects.

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
    names = category_names(document)
    if isinstance(document, list):
        if known.shapes is None:
            raise DetectionsError(
                f"{path} is a COCO results list, which names no image sizes: give images={{name: (height, "
                "width)}, or the ground-truth file as image_list"
            )
        told = any(isinstance(e, dict) and is_id(e.get("category_id")) for e in document)
        gathered = {
            name: Gathered(shape=shape, notes=known.notes, has_categories=told)
            for name, shape in known.shapes.items()
        }
        _add_results(document, gathered, known, faults)
    elif isinstance(document, dict) and isinstance(document.get("annotations"), list):
        gathered, images = _images(document, known, faults, bool(names))
        faults.raise_if_any()
        _add_annotations(document["annotations"], gathered, images, names)
    else:
        raise DetectionsError(
            f"{path} is no COCO file: wanted a list of results, or an object with lists images and "
            f"annotations, got {outline_of(document)}"
        )
    faults.raise_if_any()
    return gathered_detections(
        {name: g for name, g in gathered.items() if name not in known.notes.refused}, faults
    )


def read_image_list(path: Path, known: KnownImages) -> KnownImages:
    """Read which image, and which class, each number of a COCO results file means.

    Parameters
    ----------
    path
        A COCO ground-truth file, or a list of images as in its "images".
    known
        The images in question.

    Returns
    -------
    KnownImages
        The same images, or all that are listed, with what the numbers mean.

    Raises
    ------
    DetectionsError
        Naming every fault of the list. An image that is listed with a size that is not its own is refused
        in the notes.
    """
    faults = Faults(path)
    document = load_json(path)
    if isinstance(document, list):
        document = {"images": document}
    gathered, images = _images(document, known, faults)
    faults.raise_if_any()
    listed = {name: g.shape for name, g in gathered.items()}
    ids = {image_id: name for image_id, name in images.items() if name is not None}
    shapes = listed if known.shapes is None else known.shapes
    return KnownImages(shapes=shapes, ids=ids, kinds=category_names(document), notes=known.notes)


def _add_results(
    entries: Sequence[Any], gathered: dict[str, Gathered], known: KnownImages, faults: Faults
) -> None:
    """Add the entries of a results list to their images."""
    scored = any(isinstance(e, dict) and e.get("score") is not None for e in entries)
    others: dict[str, None] = {}
    matched = not entries
    for place, entry in enumerate(entries):
        where = f"entry {place}"
        if not isinstance(entry, dict):
            words = "entries were no objects and were left out"
            known.notes.leave_out(words, f"{where} ({shown(entry)})", of=len(entries))
            continue
        label = entry.get("image_id", entry.get("file_name"))
        name = known.find_id(label)
        if name is None:
            others.update({} if known.candidates(label) and known.ids is None else {shown(label): None})
            continue
        matched = True
        _add_entry(entry, gathered[name], None if scored else 1.0, where, known.kinds)
    for g in gathered.values():
        g.scored = scored or not entries
    note_others(others, known, matched, faults)


def _add_annotations(
    entries: Sequence[Any],
    gathered: dict[str, Gathered],
    images: Mapping[int | str, str | None],
    names: Mapping[int | str, str],
) -> None:
    """Add the annotations of a document to their images, of which ``images`` gives the names."""
    told = [isinstance(e, dict) and e.get("score") is not None for e in entries]
    scored = all(told)
    notes = next(iter(gathered.values())).notes if gathered else None
    if notes and any(told) and not scored:
        notes.say(MIXED_SCORES)
    for g in gathered.values():
        if g.scored is None:
            g.scored = scored
    for place, entry in enumerate(entries):
        where = f"entry {place}"
        if not isinstance(entry, dict):
            if notes:
                words = "entries were no objects and were left out"
                notes.leave_out(words, f"{where} ({shown(entry)})", of=len(entries))
            continue
        image_id = entry.get("image_id")
        if not is_id(image_id) or image_id not in images:
            if notes:
                notes.leave_out(
                    "entries were of an image that the file does not list, and were left out",
                    f"image_id {shown(image_id)}",
                    of=len(entries),
                )
            continue
        name = images[image_id]
        if name is not None:
            _add_entry(entry, gathered[name], 1.0, where, names)


def category_names(document: object) -> dict[int | str, str]:
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
        faults.add(f"wanted a list of images, got {outline_of(document)}")
        faults.raise_if_any()
        return {}, {}
    gathered: dict[str, Gathered] = {}
    images: dict[int | str, str | None] = {}
    files = [r.get("file_name") for r in rows if isinstance(r, dict)]
    short = short_names(f for f in files if isinstance(f, str))
    others: dict[str, None] = {}
    for place, row in enumerate(rows):
        if not (isinstance(row, dict) and is_id(row.get("id")) and isinstance(row.get("file_name"), str)):
            words = "images had no id (number or text) or no file_name (text), and were left out"
            known.notes.leave_out(words, f"image {place} ({shown(row)})", of=len(rows))
            continue
        image_id, file = row["id"], row["file_name"]
        name = short[file] if known.shapes is None else known.find(file)
        if image_id in images and name != images[image_id]:  # whose are its objects?
            for one in (name, images[image_id]):
                if one is not None:
                    known.notes.refuse(one, f"it and another image have the same id, {shown(image_id)}")
                    gathered.pop(one, None)
            images[image_id] = None
            continue
        images[image_id] = name
        if name is None:
            others.update({} if known.candidates(file) else {shown(file): None})
            continue
        if name in gathered:
            known.notes.doubt(f"the file lists {name!r} more than once, and the first was taken")
            images[image_id] = None
            continue
        wanted = None if known.shapes is None else known.shapes[name]
        shape = _shape(row, name, wanted, known, Path(faults.source).name)
        if shape is None:
            images[image_id] = None
            continue
        gathered[name] = _place_for(row, shape, known, has_categories)
    note_others(others, known, bool(gathered), faults)
    return gathered, images


def _place_for(
    row: dict[str, Any], shape: tuple[int, int], known: KnownImages, has_categories: bool
) -> Gathered:
    """Where the entries of an image are gathered."""
    threshold = number(row.get("score_threshold", 0.0))
    return Gathered(
        shape=shape,
        notes=known.notes,
        score_threshold=threshold or 0.0,
        has_masks=row.get("has_masks") is True,
        scored=row["scored"] if isinstance(row.get("scored"), bool) else None,
        has_categories=has_categories and row.get("has_categories") is not False,
    )


def _shape(
    row: dict[str, Any], name: str, wanted: tuple[int, int] | None, known: KnownImages, source: str
) -> tuple[int, int] | None:
    """The size that a document gives an image, or that of the image itself; None, refused, for neither."""
    if wanted is not None and row.get("height") is None and row.get("width") is None:
        return wanted
    faults = Faults(source)
    shape = checked_shape(row.get("height"), row.get("width"), f"image {row['file_name']!r}", faults)
    if shape is None:
        if wanted is not None:
            known.notes.say(f"the file gives no size of {name!r} that can be; its own was taken")
            return wanted
        try:
            faults.raise_if_any()
        except DetectionsError as error:
            known.notes.refuse(name, str(error).partition("used: ")[2])
        return None
    if wanted is not None and shape != wanted:
        known.notes.refuse(
            name,
            f"{faults.source} was made for an image of another size (height x width): "
            f"{name!r} is {wanted[0]} x {wanted[1]}, the file says {shape[0]} x {shape[1]}",
        )
        return None
    return shape


def _add_entry(
    entry: dict[str, Any],
    image: Gathered,
    score: float | None,
    where: str,
    names: Mapping[int | str, str],
) -> None:
    """Add one result or annotation to its image; ``score`` is that of an entry without one."""
    mask, unread = _mask(entry.get("segmentation"), image, where)
    box = _box(entry)
    if box is None and mask is not None:
        box = mask.box_xyxy
    if box is None:
        image.notes.objects += 1
        words = (
            "objects had neither a bbox of four finite numbers nor an outline with a pixel, and were left out"
        )
        image.notes.leave_out(words, f"{where} ({unread or shown(entry.get('bbox'))})")
        return
    if entry.get("iscrowd") in (1, True):
        place = image.placed(box, where)
        if place is not None:
            image.crowds.append(mask or box_mask(place, image.shape))
        return
    if unread:
        image.notes.mend("outlines could not be used, and boxes stand in for them", f"{where} ({unread})")
    elif mask is None and entry.get("segmentation"):
        mask = centre_pixel(box, image.shape)
    number_of, own = entry.get("category_id"), entry.get("score")
    kind = names.get(number_of, str(number_of)) if is_id(number_of) else ""
    image.add(box, score if own is None else own, mask, where=where, category=kind)


def _box(entry: dict[str, Any]) -> Box | None:
    """Corners of an entry's box, or None where it has none of four finite numbers."""
    box = entry.get("bbox")
    values = [number(v) for v in box] if isinstance(box, list) else []
    x, y, width, height = values if len(values) == 4 else [None] * 4
    if x is None or y is None or width is None or height is None:
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


def _mask(segmentation: Any, image: Gathered, where: str) -> tuple[InstanceMask | None, str]:
    """Mask of a segmentation (None: there is none, or it has no pixel), and why it cannot be read."""
    if segmentation is None or segmentation == []:
        return None, ""
    try:
        if isinstance(segmentation, dict):
            return mask_from_rle(segmentation, image.shape), ""
        if isinstance(segmentation, list):
            return image.outline(segmentation, where), ""
        raise DetectionsError(f"a segmentation must be polygons or run lengths, got {shown(segmentation)}")
    except DetectionsError as error:
        return None, str(error)
