"""Simulating a micrograph of cavities, beside the bare cost of its lens in numpy, in one run."""

import time

import numpy as np

from passband.cavities.draws import draw_set
from passband.cavities.image import simulate_cavities

taken, bare = {"A": [], "B": [], "C": []}, []
for record in draw_set(["A:under", "B:under", "C:under"], 30, seed=9):
    start = time.perf_counter()
    simulate_cavities(record)
    taken[record.domain].append(time.perf_counter() - start)
    wave = np.ones((616, 616), np.complex128)
    start = time.perf_counter()
    np.fft.ifft2(np.fft.fft2(wave))
    bare.append(time.perf_counter() - start)
for domain, seconds in taken.items():
    print(
        f"set {domain}, 512 x 512: median {np.median(seconds):.3f} s, longest {max(seconds):.3f} s "
        f"(target 0.3 s), {np.median(seconds) / np.median(bare):.1f} x one pair of numpy's transforms"
    )
