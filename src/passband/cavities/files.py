"""Simulated micrographs as files: images, the records they can be rebuilt from, and the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from passband.cavities.image import CavityImage, CavityRecord, simulate_cavities
from passband.detections.detections import Detections
from passband.detections.files import read_detections, write_coco
from passband.errors import DetectionsError
from passband.micrographs.write_tiff import imagej_tiff
from passband.store.files import write_whole
from passband.types import Progress

GAIN = 10.0
"""Grey levels per electron in a file, so that whole numbers lose nothing against the noise."""
TRUTH = "truth.coco.json"


def truth_of(image: CavityImage) -> Detections:
    """What is there to be found in a simulated image: every score is 1.

    Returns
    -------
    Detections
        One for each instance, with its mask.
    """
    boxes = np.array([m.box_xyxy for m in image.instances], np.float64).reshape(-1, 4)
    shape = (image.pixels.shape[0], image.pixels.shape[1])
    return Detections(
        image_shape=shape, boxes_xyxy=boxes, scores=np.ones(len(boxes)), masks=tuple(image.instances)
    )


def write_simulated(
    folder: str | Path,
    records: Sequence[CavityRecord],
    *,
    progress: Progress | None = None,
) -> Path:
    """Simulate records into a folder: 16-bit TIFF with its pixel size, record as JSON, COCO truth.

    Parameters
    ----------
    folder
        Gets ``SET_FOCUS_0000.tif`` ..., ``records/SET_FOCUS_0000.json`` ... and ``truth.coco.json``.
        What an earlier run of the same records has finished is left as it is.
    records
        From `passband.cavities.domains.draw_set`.
    progress
        Called with the file begun, how many are done, and how many there are.

    Returns
    -------
    Path
        Of the COCO file.

    Raises
    ------
    PassbandError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from passband.cavities.draws import draw_set
    >>> records = list(draw_set(["A:under"], 1, seed=0, shape=(64, 64)))
    >>> with tempfile.TemporaryDirectory() as out:
    ...     _ = write_simulated(out, records)
    ...     sorted(p.name for p in Path(out).rglob("*.*"))
    ['A_under_0000.json', 'A_under_0000.tif', 'truth.coco.json']
    """
    folder = Path(folder)
    truth: dict[str, Detections] = {}
    known: dict[str, Detections] = {}
    with contextlib.suppress(DetectionsError):  # none yet, or damaged: made anew
        known = read_detections(folder / TRUTH)
    try:
        for i, record in enumerate(records):
            name = f"{record.domain}_{record.focus}_{i:04d}"
            image, text = folder / f"{name}.tif", folder / "records" / f"{name}.json"
            if progress:
                progress(image.name, i, len(records))
            if image.name in known and image.exists() and _same(text, record):
                truth[image.name] = known[image.name]
                continue
            simulated = simulate_cavities(record)
            levels = np.clip(np.round(simulated.pixels * GAIN), 0, 65535).astype(np.uint16)
            write_whole(image, imagej_tiff(levels, simulated.record.conditions.pixel_size))
            write_whole(text, record.to_json() + "\n")
            truth[image.name] = truth_of(simulated)
    finally:
        if truth:  # also of a run that is stopped, so that the next one can go on
            write_coco(folder / TRUTH, truth)
    if progress:
        progress("", len(records), len(records))
    return folder / TRUTH


def _same(path: Path, record: CavityRecord) -> bool:
    try:
        return path.read_text("utf-8") == record.to_json() + "\n"
    except (OSError, UnicodeDecodeError):
        return False
