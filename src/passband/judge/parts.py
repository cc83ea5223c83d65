"""What is finished of a report, one small file per micrograph, so that a stopped run can go on."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passband.detections.detections import Detections
from passband.detections.masks import mask_from_rle, rle_from_mask
from passband.drawing.thumbnails import Picture
from passband.errors import PassbandError
from passband.estimate.calibration import Estimate
from passband.judge.sheet import Sheet
from passband.judge.verdict import Verdict, measure_sizes
from passband.store.parts import read_part, write_part
from passband.types import InstanceMask

FORMAT = 3


def save_part(path: Path, sheet: Sheet) -> None:
    """Write one micrograph's sheet, whole or not at all.

    Parameters
    ----------
    path
        Of the part.
    sheet
        All numbers are kept to the last bit, so that a resumed run gives the same report.

    Raises
    ------
    PassbandError
        If it cannot be written.
    """
    v, d, p = sheet.verdict, sheet.verdict.detections, sheet.picture
    masks = None if d.masks is None else [rle_from_mask(m, d.image_shape)["counts"] for m in d.masks]
    record = {
        "format": FORMAT,
        "path": v.path,
        "verdict": v.verdict,
        "reasons": v.reasons,
        "estimates": {n: [e.value, e.low, e.high, e.coverage] for n, e in v.estimates.items()},
        "novelty": v.novelty,
        "pixel_size": v.sizes.pixel_size,
        "pixel_size_source": v.pixel_size_source,
        "extra_passes": v.extra_passes,
        "thickness": v.sizes.thickness,
        "image_shape": d.image_shape,
        "boxes_xyxy": d.boxes_xyxy.tolist(),
        "scores": d.scores.tolist(),
        "score_threshold": d.score_threshold,
        "scored": d.scored,
        "categories": d.categories,
        "masks": masks,
        "crowds": [rle_from_mask(m, d.image_shape)["counts"] for m in d.crowds],
        "conditions": sheet.conditions,
        "picture": {
            "data": base64.b64encode(p.data).decode(),
            "width": p.width,
            "height": p.height,
            "scale": p.scale,
            "outlines": p.outlines,
        },
    }
    write_part(path, record)


def load_part(path: Path, name: str) -> Sheet | None:
    """Read a part back.

    Parameters
    ----------
    path
        Where `save_part` may have written it.
    name
        What the micrograph is called now; the same content may have come under another name.

    Returns
    -------
    Sheet or None
        None where there is no part, or it is damaged or of another format: then the work is done anew.
    """
    record = read_part(path)
    try:
        return _sheet(record, name) if record is not None and record["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError, IndexError, PassbandError):
        return None


def _sheet(record: Mapping[str, Any], name: str) -> Sheet:
    height, width = record["image_shape"]
    counts = record["masks"]

    def unpacked(counts: Sequence[str]) -> tuple[InstanceMask, ...]:
        found = [mask_from_rle({"size": [height, width], "counts": c}, (height, width)) for c in counts]
        return tuple(m for m in found if m is not None)

    detections = Detections(
        image_shape=(height, width),
        boxes_xyxy=np.array(record["boxes_xyxy"], np.float64).reshape(-1, 4),
        scores=np.array(record["scores"], np.float64),
        masks=None if counts is None else unpacked(counts),
        score_threshold=record["score_threshold"],
        scored=record["scored"],
        categories=None if record["categories"] is None else tuple(record["categories"]),
        crowds=unpacked(record["crowds"]),
    )
    estimates = {
        n: Estimate(value=value, low=low, high=high, coverage=coverage)
        for n, (value, low, high, coverage) in record["estimates"].items()
    }
    verdict = Verdict(
        path=name,
        verdict=record["verdict"],
        reasons=tuple(record["reasons"]),
        detections=detections,
        estimates=estimates,
        novelty=record["novelty"],
        sizes=measure_sizes(detections, record["pixel_size"], record["thickness"]),
        pixel_size_source=str(record["pixel_size_source"]),
        extra_passes=int(record["extra_passes"]),
    )
    picture = record["picture"]
    return Sheet(
        verdict=verdict,
        conditions=tuple((str(name), str(words)) for name, words in record["conditions"]),
        picture=Picture(
            data=base64.b64decode(picture["data"], validate=True),
            width=picture["width"],
            height=picture["height"],
            scale=picture["scale"],
            outlines=tuple(picture["outlines"]),
        ),
    )
