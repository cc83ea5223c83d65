"""Parsers of open formats: TIFF with its dialects, PNG, JPEG, MRC and NumPy arrays.

Each takes a `Request` and gives a `Picture` or raises; they run in the parser process only.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from passband.data.picture import (
    Picture,
    Pixels,
    RefusalError,
    Request,
    check_image,
    choose_frame,
    in_angstrom,
    quantity,
    raw_image,
    square_pixel,
)

# No deflate stream unpacks to more than this many times its length.
_DEFLATE_RATIO = 1032
_DEFLATE_CODES = (8, 32946)
_FEW_PAGES = 16
_METRE = 1e10


def read_tiff(request: Request) -> Picture:
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
            return Picture(
                pixels=picture.pixels, notes=picture.notes, quantities=_tiff_calibration(tif, first)[0]
            )
        choices = _tiff_images(tif, count)
        notes = []
        if len(choices) == 1 and count > 1:
            notes.append(f"image {choices[0] + 1} of the file's {count} was read: the others are overviews")
        page = _page(tif, choices[choose_frame(len(choices), f"images, the first {_size(first)}", request)])
        quantities, more = _tiff_calibration(tif, page)
        picture = _tiff_pixels(tif, page, request)
        return Picture(pixels=picture.pixels, quantities=quantities, notes=(*notes, *picture.notes, *more))


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


def _tiff_pixels(tif: Any, page: Any, request: Request) -> Picture:
    """Decode a page after its declared sizes were found possible."""
    if page.dtype is None or page.imagedepth != 1 or page.axes not in ("YX", "YXS", "SYX"):
        raise RefusalError(
            f"its image has axes {page.axes or '(none)'} of shape {page.shape} in a type that is not read; "
            "save it as 8, 16 or 32 bit grey"
        )
    dtype = np.dtype(page.dtype)
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    stored = math.prod(shape) * max(page.bitspersample, 1) / 8
    contiguous = bool(page.is_contiguous) and page.samplesperpixel == 1
    ratio = {1: 1.0, **dict.fromkeys(_DEFLATE_CODES, float(_DEFLATE_RATIO))}.get(
        int(page.compression), math.inf
    )
    check_image(
        shape if shape[2] > 1 else shape[:2], request, least_bytes=0 if contiguous else stored / ratio
    )
    if contiguous and dtype.kind in "iuf" and page.bitspersample == 8 * dtype.itemsize:
        # Predictor and fill order do not apply to uncompressed data of whole bytes.
        return _tiff_meaning(
            page, raw_image(request, page.dataoffsets[0], shape[:2], dtype.newbyteorder(tif.byteorder))
        )
    ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max(ends, default=0) > request.file_size and not request.permissive:
        raise RefusalError(
            f"its image data end at byte {max(ends)}, but it has {request.file_size} bytes: it is truncated; "
            "get a complete copy, or pass permissive=True to read what is there"
        )
    pixels = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    return _tiff_meaning(page, Picture(pixels=pixels))


def _tiff_meaning(page: Any, picture: Picture) -> Picture:
    """Apply palette and polarity, and refuse samples that are no colours."""
    pixels, notes = picture.pixels, list(picture.notes)
    photometric = int(page.photometric)
    if photometric == 3 and pixels.ndim == 2 and pixels.dtype.kind == "u":
        pixels = np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1)
        if (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        notes.append("palette colours looked up")
    elif photometric == 0 and pixels.ndim == 2 and pixels.dtype.kind == "u":
        pixels = np.asarray(2**page.bitspersample - 1 - pixels, pixels.dtype)
        notes.append("stored with zero as white; inverted")
    elif pixels.ndim == 3 and pixels.shape[2] > 2 and photometric not in (2, 6):
        raise RefusalError(
            f"its pixels have {pixels.shape[2]} samples that are neither grey nor RGB; save it as grey"
        )
    elif pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        notes.append("alpha channel left out")
    return Picture(pixels=pixels, notes=tuple(notes))


def _tiff_calibration(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """Pixel size and energy from the first dialect of TIFF metadata that has them."""
    for dialect in _TIFF_DIALECTS:
        with contextlib.suppress(Exception):  # a damaged tag is no reason to lose the image
            quantities, notes = dialect(tif, page)
            if quantities or notes:
                return quantities, notes
    return {}, []


def _imagej(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    if not tif.is_imagej:
        return {}, []
    unit = str((tif.imagej_metadata or {}).get("unit", ""))
    x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
    return square_pixel(
        in_angstrom(y[1] / y[0], unit), in_angstrom(x[1] / x[0], unit), "ImageJ description and resolution"
    )


def _ome(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    text = page.description or tif.pages[0].description
    if "<OME" not in text[:2000]:
        return {}, []
    sizes = []
    for axis in "YX":
        value = re.search(rf'PhysicalSize{axis}="([^"]{{1,40}})"', text)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]{{1,40}})"', text)
        sizes.append(in_angstrom(float(value[1]), unit[1] if unit else "µm") if value else None)
    return square_pixel(sizes[0], sizes[1], "OME PhysicalSize")


def _digital_micrograph(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    tags = {t.code: t.value for t in page.tags}
    if 65009 not in tags:
        return {}, []
    return square_pixel(
        in_angstrom(float(tags[65009]), str(tags.get(65003, ""))),
        in_angstrom(float(tags[65010]), str(tags.get(65004, ""))),
        "DigitalMicrograph tags",
    )


def _olympus(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    tags = {t.code: t.value for t in page.tags}
    sis = tags.get(33560) or {}
    if not isinstance(sis, dict) or "pixelsizex" not in sis:
        return {}, []
    return square_pixel(sis["pixelsizey"] * _METRE, sis["pixelsizex"] * _METRE, "Olympus SIS tag")


def _zeiss(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
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


def _thermo_fisher(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    fei = tif.fei_metadata or {}
    if not isinstance(fei, dict) or "Scan" not in fei:
        return {}, []
    x, y = (float(fei["Scan"][k]) * _METRE for k in ("PixelWidth", "PixelHeight"))
    quantities, notes = square_pixel(y, x, "Thermo Fisher tag")
    return {
        **quantities,
        **quantity("energy", fei.get("Beam", {}).get("HV"), 1.0, "Thermo Fisher tag"),
    }, notes


def _tvips(tif: Any, page: Any) -> tuple[dict[str, tuple[float, str]], list[str]]:
    tvips = tif.tvips_metadata or {}
    if "PixelSizeX" not in tvips:
        return {}, []
    quantities, notes = square_pixel(
        float(tvips["PixelSizeY"]) * 10, float(tvips["PixelSizeX"]) * 10, "TVIPS tag"
    )
    return {**quantities, **quantity("energy", tvips.get("HighTension"), 1e3, "TVIPS tag")}, notes


_TIFF_DIALECTS = (_digital_micrograph, _imagej, _ome, _olympus, _zeiss, _thermo_fisher, _tvips)


def read_png(request: Request) -> Picture:
    """A PNG with Pillow; with imagecodecs where Pillow would halve the depth of 16-bit colour."""
    with Path(request.path).open("rb") as f:
        header = f.read(33)
    if len(header) < 33 or header[12:16] != b"IHDR":
        raise RefusalError("it is a PNG without a header: it is truncated or damaged; get a complete copy")
    width, height, depth, colour = struct.unpack(">IIBB", header[16:26])
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    shape = (height, width, samples) if samples > 1 else (height, width)
    check_image(shape, request, least_bytes=height * width * samples * depth / 8 / _DEFLATE_RATIO)
    if depth == 16 and samples > 1:
        import imagecodecs

        pixels: Pixels = imagecodecs.png_decode(Path(request.path).read_bytes())
        if pixels.shape != shape:
            raise RefusalError(f"its pixels have shape {pixels.shape}, its header says {shape}")
        return Picture(pixels=pixels)
    return _pillow(request, "PNG")


def read_jpeg(request: Request) -> Picture:
    """A JPEG with Pillow."""
    return _pillow(request, "JPEG")


def _pillow(request: Request, kind: str) -> Picture:
    """Decode with Pillow, after a look at the size that it found in the header."""
    from PIL import Image, ImageFile

    Image.MAX_IMAGE_PIXELS = None  # ours is the budget
    ImageFile.LOAD_TRUNCATED_IMAGES = request.permissive
    notes = []
    with Image.open(request.path, formats=(kind,)) as image:
        size = (image.height, image.width)
        check_image((*size, len(image.getbands())), request)
        count = int(getattr(image, "n_frames", 1))
        image.seek(choose_frame(count, f"frames of {size[0]} x {size[1]}", request))
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            notes.append(f"{image.mode} colours converted to RGB")
            pixels = np.asarray(image.convert("RGB"))
        elif image.mode in ("P", "PA"):
            notes.append("palette colours looked up")
            pixels = np.asarray(image.convert("RGB"))
        else:
            pixels = np.asarray(image)
        if image.mode in ("LA", "RGBA"):
            notes.append("alpha channel left out")
        if request.permissive and getattr(image, "tile", None):
            notes.append("truncated file: its last rows were filled in")
    if pixels.ndim == 3 and pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
        notes.append("all colours equal; read as grey")
    return Picture(pixels=pixels, notes=tuple(notes))


def read_mrc(request: Request) -> Picture:
    """One section of an MRC file; header and extended header by mrcfile."""
    import mrcfile.mrcfile
    import mrcfile.utils

    with Path(request.path).open("rb") as f:
        head = f.read(1024)
    if len(head) < 1024:
        raise RefusalError(
            f"an MRC header has 1024 bytes, and it has {len(head)}: it is truncated; get a complete copy"
        )
    extended = min(abs(struct.unpack_from(order + "i", head, 92)[0]) for order in "<>")
    if 1024 + extended > request.file_size:
        raise RefusalError(f"its extended header of {extended} bytes ends beyond the file: it is damaged")
    try:
        mrc = mrcfile.mrcfile.MrcFile(request.path, "r", permissive=request.permissive, header_only=True)
    except ValueError as e:
        raise RefusalError(
            f"its MRC header is not valid ({e}); pass permissive=True to try all the same"
        ) from e
    with mrc:
        header = mrc.header
        columns, rows, sections, mode = (int(header[k]) for k in ("nx", "ny", "nz", "mode"))
        if mode in (3, 4):
            raise RefusalError(
                f"it holds a complex image of {rows} x {columns} (an FFT; MRC mode {mode}), not an image"
            )
        dtype = mrcfile.utils.data_dtype_from_header(header)
        check_image((rows, columns), request)
        index = choose_frame(sections, f"frames of {rows} x {columns}", request)
        size = mrc.voxel_size
        quantities, notes = square_pixel(
            in_angstrom(float(size.y), "Å"),
            in_angstrom(float(size.x), "Å"),
            "MRC header (cell over sampling)",
        )
        quantities.update(_mrc_microscope(mrc, index))
        start = 1024 + max(int(header.nsymbt), 0)
    packed = mode == 101  # two 4-bit pixels a byte
    shape = (rows, (columns + 1) // 2 if packed else columns)
    image = raw_image(request, start + index * shape[0] * shape[1] * dtype.itemsize, shape, dtype)
    pixels = image.pixels
    if packed:
        low = image.pixels.view(np.uint8)
        pixels = np.stack((low & 15, low >> 4), axis=-1).reshape(rows, -1)[:, :columns]
    return Picture(pixels=pixels, quantities=quantities, notes=(*image.notes, *notes))


def _mrc_microscope(mrc: Any, index: int) -> dict[str, tuple[float, str]]:
    """Energy and defocus from an extended header of Thermo Fisher's kind."""
    found: dict[str, tuple[float, str]] = {}
    with contextlib.suppress(Exception):  # many programs leave rubbish there
        if not mrc.header.exttyp.item().startswith(b"FEI"):
            return found
        entry = mrc.indexed_extended_header[index]
        found.update(quantity("energy", entry["HT"], 1.0, "MRC extended header (HT)"))
        if int(entry["Instrument mode"]) == 1:  # TEM; 2 is STEM. Their negative is underfocus.
            found.update(quantity("defocus", entry["Defocus"], -_METRE, "MRC extended header (Defocus)"))
    return found


def read_npy(request: Request) -> Picture:
    """One image of a NumPy array file; never an object array."""
    from numpy.lib import format as npy

    with Path(request.path).open("rb") as f:
        version = npy.read_magic(f)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise RefusalError(f"its .npy format is version {version}; 1.0, 2.0 and 3.0 are read")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(f)
        start = f.tell()
    if dtype.hasobject:
        raise RefusalError("it holds Python objects, which could run code; save a numeric array")
    if dtype.kind == "c":
        raise RefusalError(f"it holds a complex array of shape {shape} (an FFT), not an image")
    if dtype.kind not in "biuf":
        raise RefusalError(f"it holds an array of {dtype}, not an image; save a numeric array")
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise RefusalError(f"it holds an array of shape {shape}; an image has two axes (y, x)")
    if len(shape) > 2 and shape[-1] in (3, 4) and dtype.kind == "u" and min(shape[-3:-1]) > 4:
        colours = int(shape[-1])
        shape = shape[:-1]
    else:
        colours = 1
    frames = math.prod(shape[:-2])
    size = (int(shape[-2]), int(shape[-1]))
    check_image((*size, colours) if colours > 1 else size, request)
    index = choose_frame(frames, f"frames of {size[0]} x {size[1]}", request)
    if fortran:
        if math.prod(shape) * colours * dtype.itemsize + start > request.file_size:
            raise RefusalError(
                "it declares more pixels than it holds: it is truncated or damaged; get a complete copy"
            )
        whole = shape if colours == 1 else (*shape, colours)
        array = np.memmap(request.path, dtype, "r", start, whole, order="F")
        place = np.unravel_index(index, shape[:-2]) if len(shape) > 2 else ()
        return Picture(pixels=np.array(array[tuple(int(i) for i in place)]))
    if colours > 1:
        wide = raw_image(
            request,
            start + index * math.prod(size) * colours * dtype.itemsize,
            (size[0], size[1] * colours),
            dtype,
        )
        return Picture(pixels=wide.pixels.reshape(*size, colours), notes=wide.notes)
    return raw_image(request, start + index * math.prod(size) * dtype.itemsize, size, dtype)
