"""Segment many micrographs into a folder: a mask of each, all objects as COCO, and a page of outlines."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from passband.detections.detections import Detections
from passband.detections.write_coco import write_coco
from passband.detectors.bundle import Bundle
from passband.detectors.segment import object_mask, segment_objects
from passband.detectors.unet import UNetConfig
from passband.drawing.html import page
from passband.drawing.parts import Box, scale_bar
from passband.drawing.thumbnails import Picture, picture_of, within_budget
from passband.errors import ParameterError, PassbandError
from passband.micrographs.many import Errors, Reading, file_and_frame, find_micrographs, without_name
from passband.micrographs.micrograph import Micrograph
from passband.store.files import write_whole
from passband.types import Progress
from passband.words import counted

SIDE = 640
"""Longer side of a picture on the page, pixels."""


class Segmented(NamedTuple):
    """What was found in one micrograph, and where its mask was written."""

    path: str
    mask: Path
    detections: Detections
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What was done.

    Parameters
    ----------
    done
        In the order of the files.
    errors
        Pairs of a path and what was wrong with it.
    page
        Of outlines; None where nothing was segmented, and so no file written.
    notes
        What was left out of the files given, a sentence each.
    """

    done: tuple[Segmented, ...]
    errors: Errors
    page: Path | None
    notes: tuple[str, ...] = ()


class _Shown(NamedTuple):
    name: str
    picture: Picture
    bar: Box | None
    found: str
    share: float


def segment_files(
    paths: Sequence[str],
    bundle: Bundle,
    out: str | Path,
    *,
    reading: Reading | None = None,
    labels: bool = False,
    memory_gb: float = 6.0,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment files into a folder.

    Parameters
    ----------
    paths
        Files, folders and wildcards, as of `micrographs.many.find_micrographs`.
    bundle
        Of a U-Net.
    out
        Folder: ``NAME_mask.png`` (0 and 255, the image's size), ``detections.coco.json``, ``segments.html``.
    reading
        How files are read.
    labels
        Whether to write ``NAME_labels.tif`` too: uint16, 0 background, i on object i, best score first.
    memory_gb
        Memory the process may take.
    progress
        Called as work goes on.

    Raises
    ------
    ParameterError
        If the bundle is no segmenter.
    PassbandError
        If a file cannot be written. What cannot be read is told in the outcome.
    """
    if not isinstance(bundle.detector, UNetConfig):
        raise ParameterError(
            f"bundle {bundle.name!r} holds a {bundle.detector.in_words}, wanted a U-Net that segments; "
            "`passband assess` uses it"
        )
    notes: list[str] = []
    reading = reading or Reading()
    files, errors = find_micrographs(paths, notes)
    notes += reading.notes_on(files)
    files = reading.images(files)
    failed = list(errors)
    done: list[Segmented] = []
    shown: list[_Shown] = []
    names = file_names(files)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(files):
        if progress:
            progress(Path(path).name, i, len(files))
        try:
            micrograph = reading.read(path)
            found = segment_objects(micrograph, bundle, memory_gb=memory_gb)
        except PassbandError as e:
            failed.append((path, without_name(str(e), path)))
            continue
        mask = object_mask(found)
        written = write_whole(out / f"{names[i]}_mask.png", _png(mask.astype(np.uint8) * 255))
        if labels:
            write_whole(out / f"{names[i]}_labels.tif", _label_tiff(found))
        done.append(Segmented(path, written, found, float(mask.mean())))
        shown.append(_shown(path, micrograph, found, float(mask.mean())))
    if not done:
        return Segmentation(done=(), errors=tuple(failed), page=None, notes=tuple(notes))
    write_coco(out / "detections.coco.json", {s.path: s.detections for s in done})
    pictures = within_budget([s.picture for s in shown])
    html = page(
        "detectors/segments.html",
        title="Segments",
        headline=f"{counted(len(done), 'micrograph')} segmented",
        subtitle=f"by {bundle.name}, {bundle.detector.in_words}",
        footer="Made by Passband. Masks are not yet to be trusted: see what passband assess says of them.",
        segments=[s._replace(picture=p) for s, p in zip(shown, pictures, strict=True)],
        errors=failed,
    )
    written = write_whole(out / "segments.html", html)
    return Segmentation(done=tuple(done), errors=tuple(failed), page=written, notes=tuple(notes))


def file_names(paths: Sequence[str]) -> list[str]:
    """What the results of files are called: without folder and suffix where that tells them apart.

    Examples
    --------
    >>> file_names(["a/x.tif", "a/y.tif", "b/x.tif", "b/x.png"])
    ['a_x', 'y', 'b_x', 'b_x.png']
    """
    places = [_frame_apart(p) for p in paths]
    stems = Counter(p.stem for p in places)
    names: list[str] = []
    for i, p in enumerate(places):
        inside = f"{p.parent.name}_{p.stem}", f"{p.parent.name}_{p.name}", f"{p.parent.name}_{p.name}_{i}"
        ways = [p.stem, *inside] if stems[p.stem] == 1 else inside
        names.append(next(way for way in ways if way not in names))
    return names


def _frame_apart(image: str) -> Path:
    """film_3.mrc for the frame "film.mrc#3" of a film."""
    file, frame = file_and_frame(image)
    place = Path(file)
    return place if frame is None else place.with_name(f"{place.stem}_{frame}{place.suffix}")


def _shown(path: str, micrograph: Micrograph, found: Detections, share: float) -> _Shown:
    picture = picture_of(micrograph, found, side=SIDE)
    return _Shown(
        path, picture, scale_bar(picture, micrograph.pixel_size), counted(len(found), "object"), share
    )


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _label_tiff(found: Detections) -> bytes:
    import tifffile

    labels = np.zeros(found.image_shape, np.uint16)
    for i, m in reversed(list(enumerate(found.masks or (), 1))):
        height, width = m.pixels.shape
        labels[m.y : m.y + height, m.x : m.x + width][m.pixels] = i
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, compression="zlib")
    return buffer.getvalue()
