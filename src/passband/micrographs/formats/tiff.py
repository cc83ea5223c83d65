"""TIFF: 8, 16, 32 bit grey, palette and RGB, with the calibration of seven dialects."""

from __future__ import annotations

import contextlib
import html
import itertools
import math
import re
from typing import Any

import numpy as np

from passband.micrographs.picture import (
    INSTRUMENT,
    PERMISSIVE,
    Pixels,
    RawImage,
    RefusalError,
    Request,
    check_image,
    choose_frame,
    in_angstrom,
    named,
    quantity,
    raw_image,
    refuse_units,
    square_pixel,
    unescaped,
)

# No deflate stream unpacks to more than this many times its length.
_DEFLATE_RATIO = 1032
_DEFLATE_CODES = (8, 32946)
_FEW_PAGES = 16
_MOST_OME_IMAGES = 1000
_METRE = 1e10  # Å


def read_tiff(request: Request) -> RawImage:
    """One page of a TIFF: 8, 16, 32 bit grey, palette or RGB, with the calibration of seven dialects."""
    import tifffile

    # Pages are walked directly: tifffile's series follow the file names in OME metadata to other files.
    with tifffile.TiffFile(request.path, _multifile=False) as tif:
        first = _page(tif, 0)
        count = len(tif.pages)
        virtual = int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1
        if count == 1 and virtual > 1 and first.is_contiguous:
            # ImageJ writes one page for a whole stack past 4 GB.
            check_image(first.shape, request)
            index = choose_frame(virtual, f"frames of {_size(first)} (an ImageJ stack)", request)
            dtype = np.dtype(first.dtype).newbyteorder(tif.byteorder)
            step = first.imagelength * first.imagewidth * dtype.itemsize
            picture = raw_image(request, first.dataoffsets[0] + index * step, first.shape[:2], dtype)
            return RawImage(
                pixels=picture.pixels,
                notes=picture.notes,
                quantities=_tiff_calibration(tif, first, request)[0],
                instrument=_tiff_instrument(tif),
                acquired=_tiff_date(tif, first),
            )
        choices = _tiff_images(tif, count)
        notes = []
        if len(choices) == 1 and count > 1:
            notes.append(f"image {choices[0] + 1} of the file's {count} was read: the others are overviews")
        page = _page(tif, choices[choose_frame(len(choices), f"images, the first {_size(first)}", request)])
        quantities, more = _tiff_calibration(tif, page, request)
        picture = _tiff_pixels(tif, page, request)
        return RawImage(
            pixels=picture.pixels,
            quantities=quantities,
            notes=(*notes, *picture.notes, *more),
            instrument=_tiff_instrument(tif),
            acquired=_tiff_date(tif, page),
        )


def _page(tif: Any, index: int) -> Any:
    """A page as a full page, not as tifffile's lighter frame."""
    page = tif.pages[index]
    return page if hasattr(page, "photometric") else page.keyframe


def _size(page: Any) -> str:
    return f"{page.imagelength} x {page.imagewidth}"


def _tiff_images(tif: Any, count: int) -> list[int]:
    """Pages that are images: no thumbnails, and not the coloured overview beside the one grey original."""
    if not 1 < count <= _FEW_PAGES:
        return list(range(count))
    pages = [_page(tif, i) for i in range(count)]
    full = [i for i, page in enumerate(pages) if not page.is_reduced] or list(range(count))
    grey = [i for i in full if pages[i].samplesperpixel == 1]
    return grey if len(grey) == 1 else full


def _tiff_pixels(tif: Any, page: Any, request: Request) -> RawImage:
    """Decode a page after its declared sizes were found possible."""
    if page.dtype is None or page.imagedepth != 1 or page.axes not in ("YX", "YXS", "SYX"):
        raise RefusalError(
            f"its image has axes {page.axes or '(none)'} of shape {page.shape} in a type that is not read; "
            "save it as 8, 16 or 32 bit grey"
        )
    dtype = np.dtype(page.dtype)
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    stored = math.prod(shape) * max(page.bitspersample, 1) / 8
    contiguous = bool(page.is_contiguous) and page.axes != "SYX"
    ratio = {1: 1.0, **dict.fromkeys(_DEFLATE_CODES, float(_DEFLATE_RATIO))}.get(
        int(page.compression), math.inf
    )
    check_image(
        shape if shape[2] > 1 else shape[:2], request, least_bytes=0 if contiguous else stored / ratio
    )
    if contiguous and dtype.kind in "iuf" and page.bitspersample == 8 * dtype.itemsize:
        # Predictor and fill order do not apply to uncompressed data of whole bytes.
        row = (shape[0], shape[1] * shape[2])
        raw = raw_image(request, page.dataoffsets[0], row, dtype.newbyteorder(tif.byteorder))
        pixels = raw.pixels.reshape(shape) if shape[2] > 1 else raw.pixels
        return _tiff_meaning(page, RawImage(pixels=pixels, notes=raw.notes), request)
    ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max(ends, default=0) > request.file_size and not request.permissive:
        raise RefusalError(
            f"its image data end at byte {max(ends)}, but it has {request.file_size} bytes: it is truncated; "
            f"get a complete copy, or read what is there, {PERMISSIVE}"
        )
    pixels = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    return _tiff_meaning(page, RawImage(pixels=pixels), request)


def _tiff_meaning(page: Any, picture: RawImage, request: Request) -> RawImage:
    """Apply palette and polarity, and refuse samples that are no colours."""
    pixels, notes = picture.pixels, list(picture.notes)
    photometric = int(page.photometric)
    if request.labels:  # numbers, whatever they are shown as
        return picture
    if photometric == 3 and pixels.ndim == 2 and pixels.dtype.kind == "u":
        pixels = np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1)
        if (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        notes.append("palette colours looked up")
    elif photometric == 0 and pixels.ndim == 2:
        pixels = _inverted(pixels, page.bitspersample)
        notes.append("stored with zero as white; inverted")
    elif pixels.ndim == 3 and pixels.shape[2] > 2 and photometric not in (2, 6):
        raise RefusalError(
            f"its pixels have {pixels.shape[2]} samples that are neither grey nor RGB; save it as grey"
        )
    elif pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        notes.append("alpha channel left out")
    return RawImage(pixels=pixels, notes=tuple(notes))


def _inverted(pixels: Pixels, bits: int) -> Pixels:
    """Black for white, without an overflow."""
    if pixels.dtype.kind == "u":
        return np.asarray(2**bits - 1 - pixels, pixels.dtype)
    return np.invert(pixels) if pixels.dtype.kind in "ib" else -pixels


def _tiff_calibration(
    tif: Any, page: Any, request: Request
) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """Pixel size and energy from the first dialect of TIFF metadata that has them."""
    damaged: list[str] = []
    for name, dialect in _TIFF_DIALECTS.items():
        try:
            quantities, notes = dialect(tif, page, request)
        except RefusalError:
            raise
        except Exception:  # a damaged tag is no reason to lose the image
            damaged.append(f"its calibration by {name} could not be understood and was left out")
            continue
        if quantities or notes:
            return quantities, [*notes, *damaged]
    return {}, damaged


def _tiff_instrument(tif: Any) -> str:
    """The microscope's name as ImageJ's Info or a Thermo Fisher tag has it."""
    with contextlib.suppress(Exception):  # a damaged tag is no reason to lose the image
        if tif.is_imagej:
            info = str((tif.imagej_metadata or {}).get("Info", ""))[: 2**16]
            found = re.search(rf"^{INSTRUMENT} = (.{{1,200}})$", info, re.MULTILINE)
            return named(found[1] if found else None)
        fei = tif.fei_metadata or {}
        return named(fei.get("System", {}).get("Type"))
    return ""


_DATE = 306
_VENDORS_TAGS = {33560, 34118, 34119, 34680, 34682, 37706, 65009}
"""Of Olympus, Zeiss, Thermo Fisher, TVIPS and DigitalMicrograph: what saves a file anew drops them."""


def _tiff_date(tif: Any, page: Any) -> str:
    """When a microscope's program says that the image was taken; not when a file was written."""
    with contextlib.suppress(Exception):  # a damaged tag is no reason to lose the image
        sem, user = tif.sem_metadata or {}, (tif.fei_metadata or {}).get("User", {})
        text = str(page.description or tif.pages[0].description)[: 2**16]
        found = re.search(r"<(?:\w{1,40}:)?AcquisitionDate>([^<]{1,80})<", text)
        tags = {tag.code: tag.value for tag in (*tif.pages[0].tags, *page.tags)}
        return (
            named(*(str(sem[name][1]) for name in ("ap_date", "ap_time") if name in sem))
            or named(*(str(user[name]) for name in ("Date", "Time") if name in user))
            or named(found[1] if found else None)
            or named(tags.get(_DATE) if _VENDORS_TAGS & set(tags) else None)
        )
    return ""


def _imagej(tif: Any, page: Any, request: Request) -> tuple[dict[str, tuple[float, str]], list[str]]:
    if not tif.is_imagej:
        return {}, []
    unit = unescaped(str((tif.imagej_metadata or {}).get("unit", "")))
    notes = list(refuse_units((unit,), request))
    if notes:
        return {}, notes
    if not unit or any(name not in page.tags for name in ("XResolution", "YResolution")):
        return {}, []
    x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
    return square_pixel(
        in_angstrom(y[1] / y[0], unit), in_angstrom(x[1] / x[0], unit), "ImageJ description and resolution"
    )


def _ome(tif: Any, page: Any, request: Request) -> tuple[dict[str, tuple[float, str]], list[str]]:
    text = page.description or tif.pages[0].description
    if not re.search(r"<(?:\w{1,40}:)?OME\b", text[:2000]):
        return {}, []
    pixels = _ome_pixels(text, page.index)
    sizes, units = [], []
    for axis in "YX":
        value, unit = (
            re.search(rf"""\bPhysicalSize{axis}{rest}\s*=\s*(["'])(.{{1,40}}?)\1""", pixels)
            for rest in ("", "Unit")
        )
        units.append(html.unescape(unit[2]) if unit else "µm")
        sizes.append(in_angstrom(float(value[2]), units[-1]) if value else None)
    notes = list(refuse_units(tuple(units), request))
    return ({}, notes) if notes else square_pixel(sizes[0], sizes[1], "OME PhysicalSize")


def _ome_pixels(text: str, page: int) -> str:
    """The attributes of the image in OME-XML that a page belongs to; those of the first if none says so."""
    tag = re.compile(r"<(?:\w{1,40}:)?Pixels\b([^>]*)>(.*?)(?=<(?:\w{1,40}:)?Pixels\b|\Z)", re.DOTALL)
    images = [(found[1], found[2]) for found in itertools.islice(tag.finditer(text), _MOST_OME_IMAGES)]
    begin = 0
    for attributes, within in images:

        def number(name: str, where: str, otherwise: int) -> int:
            found = re.search(rf"""\b{name}\s*=\s*["'](\d{{1,9}})["']""", where)
            return int(found[1]) if found else otherwise

        planes = math.prod(number(f"Size{axis}", attributes, 1) for axis in "ZCT")
        told = re.findall(r"<(?:\w{1,40}:)?TiffData\b([^>]*)>", within)
        spans = [(number("IFD", t, -1), number("PlaneCount", t, 1)) for t in told]
        spans = [(first, count) for first, count in spans if first >= 0] or [(begin, planes)]
        if any(first <= page < first + count for first, count in spans):
            return attributes
        begin += planes
    return images[0][0] if images else ""


def _digital_micrograph(
    tif: Any, page: Any, request: Request
) -> tuple[dict[str, tuple[float, str]], list[str]]:
    tags = {t.code: t.value for t in page.tags}
    if 65009 not in tags:
        return {}, []
    return square_pixel(
        in_angstrom(float(tags[65009]), str(tags.get(65003, ""))),
        in_angstrom(float(tags[65010]), str(tags.get(65004, ""))),
        "DigitalMicrograph tags",
    )


def _olympus(tif: Any, page: Any, request: Request) -> tuple[dict[str, tuple[float, str]], list[str]]:
    tags = {t.code: t.value for t in page.tags}
    sis = tags.get(33560) or {}
    if not isinstance(sis, dict) or "pixelsizex" not in sis:
        return {}, []
    return square_pixel(sis["pixelsizey"] * _METRE, sis["pixelsizex"] * _METRE, "Olympus SIS tag")


def _zeiss(tif: Any, page: Any, request: Request) -> tuple[dict[str, tuple[float, str]], list[str]]:
    sem = tif.sem_metadata or {}
    for name in ("ap_image_pixel_size", "ap_pixel_size"):
        if name in sem:
            size = in_angstrom(float(sem[name][1]), str(sem[name][2]))
            quantities, notes = square_pixel(size, size, f"Zeiss tag {name}")
            energy = sem.get("ap_actualkv") or sem.get("ap_manualkv") or ("", 0, "kV")
            factor = 1.0 if str(energy[2]).strip() == "V" else 1e3
            return {
                **quantities,
                **quantity("energy", energy[1], factor, "Zeiss tag, electron voltage"),
            }, notes
    return {}, []


def _thermo_fisher(tif: Any, page: Any, request: Request) -> tuple[dict[str, tuple[float, str]], list[str]]:
    fei = tif.fei_metadata or {}
    if not isinstance(fei, dict) or "Scan" not in fei:
        return {}, []
    x, y = (float(fei["Scan"][k]) * _METRE for k in ("PixelWidth", "PixelHeight"))
    quantities, notes = square_pixel(y, x, "Thermo Fisher tag")
    return {
        **quantities,
        **quantity("energy", fei.get("Beam", {}).get("HV"), 1.0, "Thermo Fisher tag"),
    }, notes


def _tvips(tif: Any, page: Any, request: Request) -> tuple[dict[str, tuple[float, str]], list[str]]:
    tvips = tif.tvips_metadata or {}
    if "PixelSizeX" not in tvips:
        return {}, []
    quantities, notes = square_pixel(
        float(tvips["PixelSizeY"]) * 10, float(tvips["PixelSizeX"]) * 10, "TVIPS tag"
    )
    return {**quantities, **quantity("energy", tvips.get("HighTension"), 1e3, "TVIPS tag")}, notes


_TIFF_DIALECTS = {
    "DigitalMicrograph": _digital_micrograph,
    "ImageJ": _imagej,
    "OME-XML": _ome,
    "Olympus": _olympus,
    "Zeiss": _zeiss,
    "Thermo Fisher": _thermo_fisher,
    "TVIPS": _tvips,
}
