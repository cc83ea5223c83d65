"""Peak memory of inference by side of the tile, which the constants of `detectors.infer` must bound.

The image is dense with objects and noise, so that proposals and masks are as many as they get.
Each size runs in a process of its own: a peak cannot be taken back. With the word "large", what a micrograph
of 8,000 x 8,000 pixels takes, of time and of memory.
"""

import os
import resource
import subprocess
import sys

SIDES = (256, 512, 768, 1024)


def peak(side: int, backbone: str) -> None:
    import numpy as np
    import torch

    from passband.cavities.draws import draw_set
    from passband.cavities.image import simulate_cavities
    from passband.detectors import infer
    from passband.detectors.bundle import Bundle, default_bundle
    from passband.detectors.config import PAPER
    from passband.detectors.mask_rcnn import build_detector
    from passband.micrographs.micrograph import Micrograph

    torch.set_num_threads(1)
    if backbone == "slim":
        bundle = default_bundle()
    else:
        torch.manual_seed(0)  # fresh weights find everything everywhere: the worst case
        weights = build_detector(PAPER).state_dict()
        bundle = Bundle(name="paper", detector=PAPER, weights=weights, score_threshold=0.06)
    (record,) = draw_set(["B:under"], 1, seed=5, shape=(side, side))
    pixels = simulate_cavities(record).pixels
    infer.TILES = (side,)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = infer.detect(Micrograph(pixels=np.ascontiguousarray(pixels), name="b"), bundle, memory_gb=1e3)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    bound = infer.needed_bytes(bundle.detector, pixels.shape, side)
    print(
        f"{backbone:<9}{side:>5} px tile: {len(found):>4} objects, base {before / 1e6:>5.0f} MB, "
        f"{(after - before) / side**2:>6.0f} bytes/pixel, peak {after / 1e6:>6.0f} MB, "
        f"bound {bound / 1e6:>6.0f} MB {'ok' if after <= bound else 'EXCEEDED'}"
    )


def large(side: int = 8000) -> None:
    import time

    import numpy as np
    import torch

    from passband.cavities.draws import draw_set
    from passband.cavities.image import simulate_cavities
    from passband.detectors.bundle import default_bundle
    from passband.detectors.infer import detect
    from passband.micrographs.micrograph import Micrograph

    torch.set_num_threads(1)
    (record,) = draw_set(["A:under"], 1, seed=77)
    foil = simulate_cavities(record).pixels
    copies = -(-side // len(foil))
    pixels = np.ascontiguousarray(np.tile(foil, (copies, copies))[:side, :side])
    start = time.process_time()
    found = detect(Micrograph(pixels=pixels, name="large"), default_bundle())
    taken, most = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{side} x {side}: {len(found)} objects, {taken:.0f} s of one core, peak {most:.1f} GB")


if __name__ == "__main__":
    if sys.argv[1:] == ["large"]:
        large()
    elif len(sys.argv) == 3:
        peak(int(sys.argv[1]), sys.argv[2])
    else:
        for kind in ("slim", "resnet50"):
            for length in SIDES if kind == "slim" else SIDES[:3]:
                subprocess.run([sys.executable, __file__, str(length), kind], check=True, env={**os.environ})
