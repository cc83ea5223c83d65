"""Reading a file through the guarded child process, beside the library called directly, in one run.

The ratio is the price of the guard: a warm child, its checks, and the pixels' way back.
"""

import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np
import tifffile

from passband.micrographs.readers import read_micrograph

PEERS = {
    ".tif": lambda p: tifffile.imread(p).astype(np.float32),
    ".mrc": lambda p: mrcfile.read(p).astype(np.float32),
    ".npy": lambda p: np.load(p).astype(np.float32),
}


def median(f: object, path: Path, times: int = 15) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        f(path)  # type: ignore[operator]
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


with tempfile.TemporaryDirectory() as folder:
    for side in (256, 2048):
        pixels = np.random.default_rng(0).integers(0, 60000, (side, side)).astype(np.uint16)
        for suffix, peer in PEERS.items():
            path = Path(folder) / f"{side}{suffix}"
            if suffix == ".tif":
                tifffile.imwrite(path, pixels)
            elif suffix == ".mrc":
                mrcfile.write(path, pixels)
            else:
                np.save(path, pixels)
            read_micrograph(path)  # the child is warm from here on
            ours, theirs = median(read_micrograph, path), median(peer, path)
            print(
                f"{suffix} {side} x {side}: guarded {1e3 * ours:6.1f} ms, library {1e3 * theirs:6.1f} ms, "
                f"{ours / theirs:5.1f} x"
            )
