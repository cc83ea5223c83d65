"""Everything Passband knows of detections to one COCO file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from passband.detections.detections import Detections
from passband.detections.gathering import Faults
from passband.detections.masks import rle_from_mask
from passband.errors import DetectionsError
from passband.store.files import write_whole


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
    >>> import numpy as np
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
        for crowd in d.crowds:
            x0, y0, x1, y1 = crowd.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(crowd.pixels.sum()),
                    "iscrowd": 1,
                    "score": 1.0,
                    "segmentation": rle_from_mask(crowd, (height, width)),
                }
            )
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
