"""Crops and micrographs of a library in forms that a page and a folder take: sprites, strips, a zip."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from passband.detections.detections import Detections
from passband.drawing.html import data_address
from passband.drawing.thumbnails import Picture, picture_of, within_budget
from passband.errors import PassbandError
from passband.micrographs.many import file_and_frame
from passband.micrographs.readers import read_micrograph
from passband.particles.library.library import ParticleLibrary
from passband.particles.library.store import MicrographRecord
from passband.store.sealed import content_sha256
from passband.types import Progress

ACROSS = 32
"""Crops in a row of a sprite sheet, and rows in a sheet."""
SPRITE_SIDE = 64
"""Larger crops are made smaller in a page."""
THUMBNAIL_SIDE = 460
THUMBNAILS = 150
"""Micrographs that a page shows at most."""
_BATCH = 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of files in a zip: the same crops give the same bytes


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A micrograph in the page, or why it is not there.

    Parameters
    ----------
    record
        Of the library.
    picture
        None where there is none.
    missing
        Why; empty where there is a picture.
    """

    record: MicrographRecord
    picture: Picture | None
    missing: str = ""


def batches(library: ParticleLibrary) -> Iterator[tuple[int, Float32[np.ndarray, "n y x"]]]:
    """The crops of a library, some at a time, and the place of the first of them.

    Parameters
    ----------
    library
        Perhaps larger than the memory.

    Returns
    -------
    iterator of (int, float32 array)

    Raises
    ------
    DatasetError
        If some are damaged.
    """
    for i, crops in enumerate(library.blocks(_BATCH)):
        yield i * _BATCH, crops


def crops_at(library: ParticleLibrary, chosen: Int[np.ndarray, " m"]) -> Float32[np.ndarray, "m y x"]:
    """Some crops of a library, in the order asked for.

    Returns
    -------
    float32 (m, size, size)
    """
    size = library.settings.size
    crops = np.zeros((len(chosen), size, size), np.float32)
    for first, some in batches(library):
        mine = (chosen >= first) & (chosen < first + len(some))
        crops[mine] = some[chosen[mine] - first]
    return crops


def sprite_sheets(crops: Float[np.ndarray, "n y x"]) -> list[str]:
    """Crops as data addresses of WebP pictures, `ACROSS` in a row and in a column.

    Parameters
    ----------
    crops
        In [0, 1].
    """
    sheets = []
    for first in range(0, len(crops), ACROSS**2):
        tiles = [_small(crop) for crop in crops[first : first + ACROSS**2]]
        rows, side = -(-len(tiles) // ACROSS), tiles[0].shape[0]
        whole = np.zeros((rows * ACROSS, side, side), np.uint8)
        whole[: len(tiles)] = tiles
        grid = whole.reshape(rows, ACROSS, side, side).transpose(0, 2, 1, 3)
        sheets.append(_address(grid.reshape(rows * side, ACROSS * side)))
    return sheets


def strip(images: Float[np.ndarray, "n y x"]) -> str:
    """Images side by side as the data address of a picture.

    Parameters
    ----------
    images
        In [0, 1].
    """
    return _address(np.hstack([_small(image) for image in images]))


def thumbnails(
    library: ParticleLibrary,
    chosen: Int[np.ndarray, " m"],
    *,
    progress: Progress | None = None,
) -> list[Thumbnail]:
    """Small pictures of the micrographs that particles come from.

    Parameters
    ----------
    library
        Of n particles.
    chosen
        Places of the particles; where their micrographs are too many, those with the most of them come.
    progress
        Called with the micrograph begun, how many are done, and how many there are.

    Returns
    -------
    list of Thumbnail
        One for each micrograph of the library, in the order of its particles. Files that are gone,
        unreadable or no longer the same have no picture.
    """
    records = library.records
    wanted = np.bincount(micrograph_of(library)[chosen], minlength=len(records))
    shown = set(np.argsort(-wanted, kind="stable")[:THUMBNAILS].tolist())
    found: list[Thumbnail] = []
    for i, record in enumerate(records):
        if progress:
            progress(record.source, i, len(records))
        if not wanted[i]:
            found.append(Thumbnail(record=record, picture=None, missing="no particle of it is in the page"))
        elif i not in shown:
            found.append(Thumbnail(record=record, picture=None, missing="left out to keep the page small"))
        else:
            found.append(_thumbnail(record))
    pictures = iter(within_budget([t.picture for t in found if t.picture is not None]))
    return [t if t.picture is None else Thumbnail(record=t.record, picture=next(pictures)) for t in found]


def micrograph_of(library: ParticleLibrary) -> Int[np.ndarray, " n"]:
    """Place of each particle's micrograph among those of the library.

    Returns
    -------
    int64 (n,)
    """
    counts = [record.count for record in library.records]
    return np.repeat(np.arange(len(counts)), counts)[: len(library)]


def crops_zip(library: ParticleLibrary, folders: Sequence[str], which: Int[np.ndarray, " n"]) -> bytes:
    """All crops as PNG files in a zip, a folder for each class.

    Parameters
    ----------
    library
        Of n particles.
    folders
        Names, of which those that a file system may not take are changed.
    which
        Of the folders each particle goes into.
    """
    from PIL import Image

    safe = [f"{re.sub(r'[^0-9A-Za-z._-]+', '_', name).strip('._') or 'class'}" for name in folders]
    names = [n if safe.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(safe)]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        for first, crops in batches(library):
            for i, crop in enumerate(crops, first):
                png = io.BytesIO()
                Image.fromarray(_bytes(crop)).save(png, "PNG")
                inside = f"crops/{names[which[i]]}/{library.table['particle'][i]}.png"
                file.writestr(zipfile.ZipInfo(inside, _EPOCH), png.getvalue())
    return content.getvalue()


def _thumbnail(record: MicrographRecord) -> Thumbnail:
    def missing(why: str) -> Thumbnail:
        return Thumbnail(record=record, picture=None, missing=why)

    file, frame = file_and_frame(record.place)
    if not Path(file).exists():
        return missing("the file is no longer where it was")
    try:
        micrograph = read_micrograph(file, frame=frame)
    except PassbandError as e:
        return missing(f"it cannot be read: {e}")
    if content_sha256(micrograph.pixels) != record.pixels_sha256:
        return missing("the file has changed since, or another of its frames was used")
    nothing = Detections(image_shape=micrograph.shape, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    return Thumbnail(record=record, picture=picture_of(micrograph, nothing, side=THUMBNAIL_SIDE))


def _small(crop: Float[np.ndarray, "y x"]) -> np.ndarray:
    """Bytes, at most `SPRITE_SIDE` a side."""
    from PIL import Image

    tile = _bytes(crop)
    if max(tile.shape) > SPRITE_SIDE:
        side = (SPRITE_SIDE, SPRITE_SIDE)
        tile = np.asarray(Image.fromarray(tile).resize(side, Image.Resampling.LANCZOS))
    return tile


def _bytes(crop: Float[np.ndarray, "y x"]) -> np.ndarray:
    grey: np.ndarray = np.rint(255 * np.clip(crop, 0, 1)).astype(np.uint8)
    return grey


def _address(grey: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(grey).save(content, "WEBP", quality=80, method=4)
    return data_address(content.getvalue(), "image/webp")
