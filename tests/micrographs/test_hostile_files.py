"""Any bytes give a micrograph or a `ReadError`: valid files of every format, mutated.

`PASSBAND_MUTATIONS` is the number for each format: 100 by default, 5,000 in the slow target.
"""

import os
import struct
import time
import zlib

import numpy as np
import pytest

from passband.errors import ReadError
from passband.micrographs import parser_process, readers
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import read_micrograph

MUTATIONS = int(os.environ.get("PASSBAND_MUTATIONS", "100"))
FORMATS = {
    "tiff": (
        "grey16.tif",
        "grey8.tif",
        "deflate.tif",
        "lzw_tiles.tif",
        "imagej_stack.tif",
        "ome.ome.tif",
        "rgb.tif",
    ),
    "png": ("grey16.png", "grey8.png", "rgb.png", "palette.png", "rgb16.png", "noise.png"),
    "jpeg": ("grey.jpg", "rgb.jpeg"),
    "bmp": ("grey8.bmp", "rgb.bmp"),
    "mrc": ("grey.mrc", "stack.mrc"),
    "npy": ("grey.npy", "fortran_stack.npy"),
    "dm3": ("grey.dm3",),
    "dm4": ("grey.dm4", "stack.dm4"),
    "emd ncem": ("ncem.emd",),
    "emd velox": ("velox.emd",),
    "ser": ("grey.ser", "stack.ser"),
}
EXTREMES = (0, 1, 2, 127, 128, 255, 30000, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
HEADER = 1024
# Beyond the promise: what it takes to notice on a busy machine.
SLACK_S = 5.0


def flip(data, rng):
    """Up to 16 bytes anywhere, half of the time in the header."""
    out = bytearray(data)
    reach = min(len(out), HEADER if rng.random() < 0.5 else len(out))
    for at in rng.integers(0, reach, rng.integers(1, 17)):
        out[at] ^= int(rng.integers(1, 256))
    return bytes(out)


def truncate(data, rng):
    return data[: rng.integers(0, len(data))]


def insert(data, rng):
    at = int(rng.integers(0, len(data) + 1))
    block = rng.choice([b"\0", b"\xff", rng.bytes(1)]) * int(rng.integers(1, 4096))
    return data[:at] + (rng.bytes(len(block)) if rng.random() < 0.3 else block) + data[at:]


def delete(data, rng):
    start, stop = sorted(int(n) for n in rng.integers(0, len(data), 2))
    return data[:start] + data[min(stop, start + 256) :]


def splice(data, rng):
    """A piece of the file over another."""
    a, b = (int(n) for n in rng.integers(0, len(data), 2))
    n = int(rng.integers(1, 512))
    piece = data[a : a + n]
    return data[:b] + piece + data[b + len(piece) :]


def extreme(data, rng):
    """A few numbers, mostly in the header, replaced by the least and the largest of their kind."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        size = int(rng.choice([1, 2, 4, 8]))
        reach = min(len(out), HEADER if rng.random() < 0.8 else len(out)) - size
        at = int(rng.integers(0, max(reach, 1)))
        value = EXTREMES[rng.integers(len(EXTREMES))] % 2 ** (8 * size)
        out[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return bytes(out)


WAYS = (flip, truncate, insert, delete, splice, extreme)


def mend(name, data):
    """A PNG's checksums made right again, or no mutation would get past them."""
    if not name.endswith(".png"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        end = at + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def mutated(data, name, seed):
    """A mutation that a name and a seed decide, and the options to read it with."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    out = WAYS[seed % len(WAYS)](data, rng)
    if rng.random() < 0.9:  # keep the first bytes, or few mutations would reach a parser
        keep = next((len(magic) for magic in readers._MAGIC if data.startswith(magic)), 0)
        out = data[:keep] + out[keep:]
    if rng.random() < 0.7:
        out = mend(name, out)
    frame = (None, 0, 1)[rng.integers(3)]
    return out, {"frame": frame, "permissive": bool(rng.random() < 0.5)}


def survive(path, data, options):
    """Read; True where a micrograph came of it. Anything but a micrograph or a ReadError fails the test."""
    path.write_bytes(data)
    start, child = time.monotonic(), parser_process._child
    try:
        m = read_micrograph(path, **options)
    except ReadError as e:
        message = str(e)
        assert message.startswith(str(path)) and message.isprintable() and len(message) < 1500
        m = None
    same = child is not None and child is parser_process._child  # a new one loads its libraries first
    limit = readers.TIME_LIMIT_S + SLACK_S + (0 if same else parser_process.START_LIMIT_S)
    assert time.monotonic() - start < limit
    assert m is None or (isinstance(m, Micrograph) and m.pixels.size <= readers.PIXEL_BUDGET)
    return m is not None


@pytest.mark.parametrize("kind", FORMATS)
def test_mutations_of_made_files(tmp_path, image_files, capfd, kind):
    names = FORMATS[kind]
    read = 0
    for seed in range(MUTATIONS):
        name = names[seed // len(WAYS) % len(names)]
        data, options = mutated(image_files[name], name, seed)
        read += survive(tmp_path / name, data, options)
    assert capfd.readouterr() == ("", ""), "a library spoke to the user's terminal"
    # Mutations that all fail at the first byte, or that all change nothing, would test nothing.
    assert 0 < read < MUTATIONS


def test_mutations_of_vendors_files(tmp_path, formats_folder, capfd):
    each = max(MUTATIONS // 10, 5)
    for path in sorted(formats_folder.iterdir()):
        data = path.read_bytes()
        for seed in range(each):
            mutation, options = mutated(data, path.name, seed)
            survive(tmp_path / path.name, mutation, options)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", readers.SUFFIXES)
def test_noise_and_nothing(tmp_path, suffix):
    rng = np.random.default_rng(0)
    magic = next((m for m, kind in readers._MAGIC.items() if kind == readers._KINDS[suffix]), b"")
    for data in (
        magic,
        magic + bytes(4096),
        magic + b"\xff" * 4096,
        *(magic + rng.bytes(4096) for _ in range(4)),
    ):
        if data:
            survive(tmp_path / f"a{suffix}", data, {"permissive": True})
