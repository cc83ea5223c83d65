"""Small valid files of every format, made here: those of vendors are packed by hand."""

import io
import json
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

PIXEL_SIZE_NM = 0.25
VOLTAGE = 200e3
INSTRUMENT = "TEAM 0.5"


@pytest.fixture(scope="session")
def true_pixels():
    """What the files below hold: uint16 (12, 20), no symmetry, values above 8 bits."""
    return (np.arange(240, dtype=np.uint16).reshape(12, 20) * 257 + 13).astype(np.uint16)


@pytest.fixture(scope="session")
def image_files(tmp_path_factory, true_pixels):
    """File name to bytes."""
    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _tiffs(folder, true_pixels)
        _pictures(folder, true_pixels)
        _mrcs(folder, true_pixels)
        _emds(folder, true_pixels)
    np.save(folder / "grey.npy", true_pixels)
    np.save(folder / "fortran_stack.npy", np.asfortranarray(np.stack([true_pixels, true_pixels + 1])))
    (folder / "grey.dm3").write_bytes(dm_file(true_pixels, version=3))
    (folder / "grey.dm4").write_bytes(dm_file(true_pixels, version=4))
    (folder / "stack.dm4").write_bytes(dm_file(np.stack([true_pixels, true_pixels + 1]), version=4))
    (folder / "grey.ser").write_bytes(ser_file([true_pixels]))
    (folder / "stack.ser").write_bytes(ser_file([true_pixels, true_pixels + 1], version=0x0220))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def formats_folder():
    """The folder of vendors' own files; they are not part of the repository."""
    root = Path(os.environ.get("PASSBAND_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (root / "formats").is_dir():
        pytest.skip(f"no vendors' files: {root / 'formats'} is not there; set PASSBAND_DATA to run this")
    return root / "formats"


def _tiffs(folder, pixels):
    import tifffile

    per_um = 1000 / PIXEL_SIZE_NM
    tifffile.imwrite(folder / "grey16.tif", pixels)
    tifffile.imwrite(folder / "grey8.tif", (pixels >> 8).astype(np.uint8), byteorder=">")
    tifffile.imwrite(folder / "float32.tiff", pixels.astype(np.float32))
    tifffile.imwrite(folder / "deflate.tif", pixels, compression="zlib", predictor=True)
    tifffile.imwrite(folder / "lzw_tiles.tif", np.tile(pixels, (3, 2)), compression="lzw", tile=(16, 16))
    tifffile.imwrite(folder / "rgb.tif", np.stack([pixels, pixels * 0, pixels], -1), photometric="rgb")
    tifffile.imwrite(
        folder / "imagej_stack.tif",
        np.stack([pixels, pixels + 1]),
        imagej=True,
        resolution=(per_um, per_um),
        metadata={"unit": "um", "axes": "ZYX"},
    )
    size = {f"PhysicalSize{axis}": PIXEL_SIZE_NM for axis in "XY"}
    unit = {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    tifffile.imwrite(folder / "ome.ome.tif", pixels, metadata={"axes": "YX", **size, **unit})


def _pictures(folder, pixels):
    import imagecodecs
    from PIL import Image

    eight = (pixels >> 8).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "grey16.png")
    Image.fromarray(eight).save(folder / "grey8.png")
    Image.fromarray(np.stack([eight, eight // 2, eight // 3], -1)).save(folder / "rgb.png")
    Image.fromarray(eight).convert("P").save(folder / "palette.png")
    colour = np.stack([pixels, pixels // 2, pixels // 3], -1)
    (folder / "rgb16.png").write_bytes(imagecodecs.png_encode(colour))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    Image.fromarray(np.tile(eight, (4, 4))).save(folder / "grey.jpg", quality=95)
    Image.fromarray(eight).save(folder / "grey8.bmp")
    Image.fromarray(np.stack([eight, eight // 2, eight // 3], -1)).save(folder / "rgb.bmp")
    Image.fromarray(np.stack([eight, eight // 2, eight // 3], -1)).save(folder / "rgb.jpeg")


def _mrcs(folder, pixels):
    import mrcfile

    with mrcfile.new(folder / "grey.mrc") as mrc:
        mrc.set_data(pixels)
        mrc.voxel_size = 10 * PIXEL_SIZE_NM
    with mrcfile.new(folder / "stack.mrc") as mrc:
        mrc.set_data(np.stack([pixels, pixels + 1]).astype(np.float32))
        mrc.voxel_size = 10 * PIXEL_SIZE_NM


def _emds(folder, pixels):
    import h5py

    with h5py.File(folder / "ncem.emd", "w") as f:
        f.attrs.update({"version_major": 0, "version_minor": 2})
        f.create_group("microscope").attrs.update({"voltage": VOLTAGE, "name": INSTRUMENT})
        home = f.create_group("signals/image")
        home.attrs["emd_group_type"] = 1
        home["data"] = pixels.T
        for i, n in enumerate(pixels.T.shape, 1):
            home[f"dim{i}"] = np.arange(n) * PIXEL_SIZE_NM
            home[f"dim{i}"].attrs["units"] = "[n_m]"
    with h5py.File(folder / "velox.emd", "w") as f:
        f["Version"] = [json.dumps({"format": "Velox", "version": "1"}).encode()]
        home = f.create_group("Data/Image/0123456789abcdef")
        stack = np.stack([pixels, pixels + 1], -1)
        home.create_dataset("Data", data=stack, chunks=(*pixels.shape, 1), compression="gzip")
        size = str(PIXEL_SIZE_NM * 1e-9)
        words = json.dumps(
            {
                "BinaryResult": {
                    "Detector": "HAADF",
                    "PixelSize": {"width": size, "height": size},
                    "PixelUnitX": "m",
                    "PixelUnitY": "m",
                },
                "Optics": {
                    "AccelerationVoltage": str(VOLTAGE),
                    "Defocus": "-1.5e-6",
                    "OperatingMode": "1",
                },
                "Instrument": {"InstrumentModel": "Titan", "InstrumentId": "3492"},
                "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1456581911"}},
            }
        ).encode()
        column = np.frombuffer(words.ljust(1000, b"\0"), np.uint8)
        home["Metadata"] = np.stack([column, column], -1)


def dm_file(pixels, *, version, unit="nm", data_type=None, beside=()):
    """A DigitalMicrograph file: a tree of big-endian tags whose values are little-endian.

    ``beside`` are further images: pixels, unit, name.
    """
    word = ">i" if version == 3 else ">q"

    def tag(name, body, group):
        head = struct.pack(">BH", 20 if group else 21, len(name)) + name.encode()
        return head + (b"" if version == 3 else struct.pack(">q", len(body))) + body

    def group(name, *tags):
        return tag(name, struct.pack(">BB", 1, 0) + struct.pack(word, len(tags)) + b"".join(tags), True)

    def leaf(name, info, data):
        head = b"%%%%" + struct.pack(word, len(info)) + b"".join(struct.pack(word, i) for i in info)
        return tag(name, head + data, False)

    def number(name, value):
        return leaf(name, [6], struct.pack("<f", value))

    def whole(name, value):
        return leaf(name, [5], struct.pack("<I", value))

    def text(name, value):
        return leaf(name, [20, 4, len(value)], value.encode("utf-16-le"))

    def image(pixels, unit, name):
        axes = [
            group(
                "", number("Origin", 0), number("Scale", PIXEL_SIZE_NM if i < 2 else 1), text("Units", unit)
            )
            for i in range(pixels.ndim)
        ]
        brightness = group("Brightness", number("Origin", 0), number("Scale", 1), text("Units", ""))
        # DM's own codes: 10 is uint16 as a pixel type; 4 is its code as a tag's element.
        return group(
            "",
            group(
                "ImageData",
                group("Calibrations", brightness, group("Dimension", *axes)),
                leaf("Data", [20, 4, pixels.size], pixels.astype("<u2").tobytes()),
                whole("DataType", 10 if data_type is None else data_type),
                group("Dimensions", *(whole("", n) for n in pixels.shape[::-1])),
                whole("PixelDepth", 2),
            ),
            group("ImageTags", group("Microscope Info", number("Voltage", VOLTAGE))),
            text("Name", name),
        )

    lists = group("ImageList", image(pixels, unit, "made"), *(image(*one) for one in beside))
    root = struct.pack(">BB", 1, 0) + struct.pack(word, 1) + lists
    size = struct.pack(word, len(root))
    return struct.pack(">i", version) + size + struct.pack(">i", 1) + root


def ser_file(frames, *, version=0x0210):
    """A TIA series of uint16 images; version 0x0220 has 64-bit offsets."""
    rows, columns = frames[0].shape
    size = "<I" if version <= 0x0210 else "<Q"
    head = struct.pack("<HHHIIII", 0x4949, 0x0197, version, 0x4122, 0x4152, len(frames), len(frames))
    dimension = struct.pack("<IddII", len(frames), 0, 1, 0, 0) + struct.pack("<I", 0)
    table = len(head) + struct.calcsize(size) + 4 + len(dimension)
    start = table + 2 * len(frames) * struct.calcsize(size)
    element = 50 + 2 * rows * columns
    out = io.BytesIO()
    out.write(head + struct.pack(size, table) + struct.pack("<I", 1) + dimension)
    steps = [start + i * (element + 8) for i in range(len(frames))]
    for offset in (*steps, *(s + element for s in steps)):
        out.write(struct.pack(size, offset))
    step = PIXEL_SIZE_NM * 1e-9
    for frame in frames:
        out.write(struct.pack("<ddIddIHII", 0, step, 0, 0, step, 0, 2, columns, rows))
        out.write(frame[::-1].astype("<u2").tobytes())  # bottom row first
        out.write(struct.pack("<HHI", 0x4152, 0, 0))
    return out.getvalue()


@pytest.fixture(scope="session")
def make_dm():
    return dm_file


@pytest.fixture(scope="session")
def make_ser():
    return ser_file
