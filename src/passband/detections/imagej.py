"""Regions of interest of ImageJ: a .roi file, or a .zip of them, never unpacked to disk."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from passband.detections.detections import Detections
from passband.detections.gathering import MAX_OBJECTS, Faults, Gathered, gathered_detections
from passband.detections.image_names import KnownImages, match_files, place_for
from passband.detections.masks import without_holes
from passband.errors import DetectionsError

ROI_SUFFIXES = (".zip", ".roi")
_MAX_ROI = 2**24
"""The most bytes of one region; a freehand outline of a million points has fewer."""
_MAX_ARCHIVE = 2**27
_MAX_UNPACKED = 2**29
_ENTRY = b"PK\x01\x02"  # begins each entry of the list that an archive holds of its files
_MANY_RINGS = 1000
_DECORATION = re.compile(r"(^|[_\-. ])(roi[_\-. ]?set|rois?)($|[_\-. ])", re.IGNORECASE)


def read_imagej(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read regions of interest: one file named like its image, or a folder of them.

    "RoiSet" in a name is passed over; RoiSet.zip alone is for the one image given. Lines, angles and points
    have no area and are left out.

    Parameters
    ----------
    path
        A .roi or .zip file, or a folder.
    known
        The images, whose sizes are needed.

    Raises
    ------
    DetectionsError
        If the images are not known, or none of the files is for one of them.
    """
    if known.shapes is None:
        raise DetectionsError(f"{path} names no image size: give images={{name: (height, width)}}")
    faults = Faults(path)
    files = [path]
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in ROI_SUFFIXES]
    only = next(iter(known.shapes)) if len(known.shapes) == 1 else ""

    def label_of(file: Path) -> str:
        return _DECORATION.sub("", file.stem) or only or file.stem

    matched = match_files(files, known, label_of, faults)
    faults.raise_if_any()
    gathered: dict[str, Gathered] = {}
    for name, file in matched.items():
        image = place_for(name, known)
        image.has_masks, image.scored = True, False
        try:
            for where, data in _regions(file):
                _add(data, image, f"{file.name} {where}")
        except (OSError, DetectionsError) as error:
            known.notes.refuse(name, f"{file.name} cannot be read: {error}")
            continue
        gathered[name] = image
    return gathered_detections(gathered, faults)


def _regions(file: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each region of a file, bounded before they are unpacked."""
    limit = _MAX_ROI if file.suffix.lower() == ".roi" else _MAX_ARCHIVE
    if file.stat().st_size > limit:
        raise DetectionsError(f"it has more than {limit:,} bytes, which no set of regions has")
    data = file.read_bytes()
    if file.suffix.lower() == ".roi":
        yield "", data
        return
    entries = data.count(_ENTRY)  # zipfile makes an object of every entry, however many
    if entries > MAX_OBJECTS:
        raise DetectionsError(f"the archive holds {entries:,} entries, more than {MAX_OBJECTS:,}")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        rows = [r for r in archive.infolist() if r.filename.lower().endswith(".roi")]
    except Exception as error:  # it raises of every kind on damaged bytes
        raise DetectionsError(f"it is no archive, or a damaged one ({error})") from error
    if not rows:
        raise DetectionsError("the archive holds no .roi file")
    left = _MAX_UNPACKED
    for row in rows:
        try:
            with archive.open(row) as entry:  # what is declared may be a lie: what comes is counted
                region = entry.read(_MAX_ROI + 1)
        except Exception as error:  # zlib and decryption too
            yield f"{row.filename[:80]} ({error})", b""  # which is told, and the others go on
            continue
        left -= len(region)
        if len(region) > _MAX_ROI or left < 0:
            raise DetectionsError(f"{row.filename[:80]!r} unpacks to more bytes than regions have")
        yield row.filename[:80], region


def _add(data: bytes, image: Gathered, where: str) -> None:
    """Add the object of one region."""
    from roifile import ROI_TYPE, ImagejRoi

    logging.getLogger("roifile").addHandler(logging.NullHandler())  # or it would speak to the terminal
    try:
        roi: Any = ImagejRoi.frombytes(data)
        has_area = roi.roitype in (
            ROI_TYPE.POLYGON,
            ROI_TYPE.RECT,
            ROI_TYPE.OVAL,
            ROI_TYPE.FREEHAND,
            ROI_TYPE.TRACED,
        )
        rings = (
            [ring.astype(float).ravel().tolist() for ring in roi.coordinates(multi=True)] if has_area else []
        )
    except Exception as error:  # a library may raise anything at all on damaged bytes
        image.notes.objects += 1
        image.notes.leave_out("regions were damaged and were left out", f"{where} ({error})"[:200])
        return
    rings = [ring for ring in rings if len(ring) >= 6]
    if not rings:
        image.notes.objects += 1
        image.notes.leave_out("regions had no area, as lines and points, and were left out", where)
        return
    outer, holes = [rings[0]], list[list[float]]()
    for ring in rings[1:]:  # of a composite region
        (holes if len(rings) < _MANY_RINGS and _is_inside(ring, outer, image, where) else outer).append(ring)
    before = len(image.masks)
    image.add_outline(outer, 1.0, where=where)
    mask = image.masks[-1] if len(image.masks) > before else None
    cut = [m for m in (image.outline([hole], where) for hole in holes) if m is not None]
    if mask is not None and cut:
        image.masks[-1] = without_holes(mask, cut) or mask


def _is_inside(ring: list[float], outer: list[list[float]], image: Gathered, where: str) -> bool:
    """Whether a ring lies in what others outline: then it is a hole."""
    try:
        small, large = image.outline([ring], where), image.outline(outer, where)
    except DetectionsError:
        return False
    return small is not None and large is not None and without_holes(small, [large]) is None
