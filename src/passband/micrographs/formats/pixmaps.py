"""PNG, JPEG and BMP, which hold no calibration."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from passband.micrographs.picture import (
    PERMISSIVE,
    Pixels,
    RawImage,
    RefusalError,
    Request,
    check_image,
    choose_frame,
)

# No deflate stream unpacks to more than this many times its length.
_DEFLATE_RATIO = 1032


def read_png(request: Request) -> RawImage:
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
        return RawImage(pixels=pixels)
    return _pillow(request, "PNG")


def read_jpeg(request: Request) -> RawImage:
    """A JPEG with Pillow."""
    return _pillow(request, "JPEG")


def read_bmp(request: Request) -> RawImage:
    """A Windows bitmap with Pillow."""
    return _pillow(request, "BMP")


def _pillow(request: Request, kind: str) -> RawImage:
    """Decode with Pillow; where that fails and the request is permissive, take what could be decoded."""
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        return _pillow_image(request, kind)
    except (OSError, SyntaxError) as e:  # Pillow's words for truncated and for damaged
        if not request.permissive:
            raise RefusalError(
                f"it is truncated or damaged ({e}); get a complete copy, or read what is there, {PERMISSIVE}"
            ) from e
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    picture = _pillow_image(request, kind)
    note = "truncated or damaged file: what could not be decoded was filled in"
    return RawImage(pixels=picture.pixels, notes=(note, *picture.notes))


def _pillow_image(request: Request, kind: str) -> RawImage:
    """One frame, after a look at the size that Pillow found in the header."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is the budget
    notes = []
    with Image.open(request.path, formats=(kind,)) as image:
        size = (image.height, image.width)
        check_image((*size, len(image.getbands())), request)
        count = int(getattr(image, "n_frames", 1))
        image.seek(choose_frame(count, f"frames of {size[0]} x {size[1]}", request))
        if request.labels and image.mode in ("P", "PA"):
            pixels = np.asarray(image.getchannel(0))  # the places in the palette
        elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "P", "PA"):
            notes.append("palette colours looked up" if image.mode[0] == "P" else f"{image.mode} read as RGB")
            pixels = np.asarray(image.convert("RGB"))
        else:
            pixels = np.asarray(image)
        if image.mode in ("LA", "RGBA"):
            notes.append("alpha channel left out")
    if pixels.ndim == 3 and pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
        notes.append("all colours equal; read as grey")
    return RawImage(pixels=pixels, notes=tuple(notes))
