"""DigitalMicrograph dm3 and dm4, their tags read by RosettaSciIO."""

from __future__ import annotations

import contextlib
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from passband.micrographs.picture import (
    RawImage,
    RefusalError,
    Request,
    check_image,
    choose_frame,
    in_angstrom,
    is_energy,
    named,
    quantity,
    raw_image,
    refuse_units,
    square_pixel,
)


def read_dm(request: Request) -> RawImage:
    """One image of a DigitalMicrograph file, its tags parsed by RosettaSciIO."""
    from rsciio.digitalmicrograph._api import ImageObject

    with Path(request.path).open("rb") as f:
        reader = _guarded_reader(f, request)
        try:
            reader.parse_file()
        except struct.error as e:
            raise RefusalError("its tags break off: it is truncated or damaged; get a complete copy") from e
        images = [ImageObject(tags, f) for tags in reader.get_image_dictionaries() or ()]
        pictures = [image for image in images if _no_picture(image) is None]
        if not images:
            raise RefusalError("it holds no image besides its thumbnail")
        if len(images) == 1 or (len(pictures) == 1 and request.frame is None):
            image = pictures[0] if pictures else images[0]
            found = _dm_image(image, -1, request)
            others = [_no_picture(i) for i in images if i is not image]
            passed = (f"the only picture in it; passed over: {'; '.join(map(str, others[:4]))}",)
            return replace(found, notes=(*found.notes, *passed)) if others else found
        listed = ", ".join(f"{n}: {_dm_name(image)}" for n, image in enumerate(images[:8]))
        image = images[choose_frame(len(images), f"separate images ({listed})", request)]
        return _dm_image(image, 0, request)


def _guarded_reader(f: BinaryIO, request: Request) -> Any:
    """RosettaSciIO's tag reader, which believes every length it reads, made to look at the file's size."""
    from rsciio.digitalmicrograph._api import DigitalMicrographReader

    size = request.file_size
    # Longer lists than this in tags are gain references and the like, and take seconds to unpack.
    long_list = 4096

    class Guarded(DigitalMicrographReader):  # type: ignore[misc]
        def _fits(self, count: int, each: int = 1) -> None:
            if count < 0 or count * each > size - self.f.tell():
                raise RefusalError(
                    f"a tag at byte {self.f.tell()} declares {count} values, which the file cannot hold: "
                    "it is truncated or damaged; get a complete copy"
                )

        def read_string(self, length: int, skip: bool = False) -> Any:
            self._fits(length)
            if skip:
                return super().read_string(length, skip=True)
            data = self.f.read(length)
            try:
                return data.decode("utf8")
            except UnicodeDecodeError:
                return data.decode("latin-1")

        def parse_struct_definition(self) -> tuple[int, ...]:
            self.read_l_or_q(self.f, "big")
            fields = self.read_l_or_q(self.f, "big")
            if not 0 < fields <= 256:
                raise RefusalError(
                    f"a tag declares a record of {fields} fields: it is damaged; get a complete copy"
                )
            return tuple(
                (self.read_l_or_q(self.f, "big"), self.read_l_or_q(self.f, "big"))[1] for _ in range(fields)
            )

        def read_array(self, size: int, enc_eltype: int, extra: Any = None, skip: bool = False) -> Any:
            each = self.get_data_reader(enc_eltype)[1] or 1
            if not (skip and enc_eltype in self.simple_type):  # pixels may be missing; that is seen later
                self._fits(size, each)
            elif size < 0:
                raise RefusalError(
                    f"its image data declare {size} pixels: it is damaged; get a complete copy"
                )
            if not skip and enc_eltype in self.simple_type and enc_eltype != 4 and size > long_list:
                self.f.seek(size * each, 1)
                return []
            return super().read_array(size, enc_eltype, extra, skip)

    return Guarded(f)


def _no_picture(image: Any) -> str | None:
    """What an image of a file is instead of a picture, in words; None where it is one."""
    shape = tuple(int(n) for n in image.shape)
    words = " x ".join(str(n) for n in shape)
    form = str(image.imdict.get("ImageTags", {}).get("Meta Data.Format", ""))
    in_energy = any(is_energy(str(unit)) for unit in image.units)
    spectra = form in ("Spectrum", "Spectrum image") or "spim" in image.imdict.get("ImageTags", {})
    if spectra or in_energy or len(shape) < 2:
        what = f"{image.signal_type} " if image.signal_type else ""
        return f"a stack of {what}spectra ({'1 x ' * (len(shape) < 2)}{words})"
    if np.dtype(image.dtype).kind == "c" or int(image.imdict.ImageData.DataType) in (5, 27, 28):
        return f"a complex image of {words} (an FFT)"
    return None


def _dm_name(image: Any) -> str:
    """Name and size of an image, as DigitalMicrograph shows them."""
    words = " x ".join(str(int(n)) for n in image.shape)
    name = " ".join(str(image.imdict.get("Name", "")).split())[:40]
    return f"{name} {words}".strip()


def _dm_image(image: Any, frame: int, request: Request) -> RawImage:
    """Pixels and calibration of one image; frame -1 means that the request's frame chooses in a stack."""
    shape = tuple(int(n) for n in image.shape)
    words = " x ".join(str(n) for n in shape)
    tags = image.imdict.get("ImageTags", {})
    units = tuple(str(u) for u in image.units)
    if (other := _no_picture(image)) is not None:
        raise RefusalError(f"it holds {other}, not an image")
    dtype = np.dtype(image.dtype)
    notes = refuse_units(units[-2:], request)
    if any(n < 1 for n in shape):
        raise RefusalError(f"its header declares an image of {words} pixels, which is none")
    check_image(shape[-2:], request)
    frames = math.prod(shape[:-2])
    if frame < 0:
        frame = choose_frame(frames, f"frames of {shape[-2]} x {shape[-1]}", request)
    data = image.imdict.ImageData.Data
    step = shape[-2] * shape[-1] * dtype.itemsize
    if data["endian"] == "big" and dtype.names is None:
        dtype = dtype.newbyteorder(">")
    picture = raw_image(
        request, int(data["offset"]) + frame * step, (shape[-2], shape[-1]), dtype,
        limit=int(data["size_bytes"]) - frame * step,
    )  # fmt: skip
    y, x = (in_angstrom(float(s), u) for s, u in zip(image.scales[-2:], units[-2:], strict=True))
    quantities, more = square_pixel(y, x, "DM tag Calibrations.Dimension")
    with contextlib.suppress(Exception):  # a damaged tag is no reason to lose the image
        quantities.update(quantity("energy", tags["Microscope Info"]["Voltage"], 1.0, "DM tag Voltage"))
    instrument = acquired = ""
    with contextlib.suppress(Exception):
        instrument = named(tags["Microscope Info"]["Name"])
    with contextlib.suppress(Exception):
        bar = tags["DataBar"]
        acquired = named(bar.get("Acquisition Date"), bar.get("Acquisition Time"))
    return RawImage(
        pixels=picture.pixels,
        quantities=quantities,
        notes=(*notes, *picture.notes, *more),
        instrument=instrument,
        acquired=acquired,
    )
