"""Every GPU measurement in one command, of under nine minutes: `make gpu`. Writes a table.

Waves a second (batches of 1 and 8) and micrographs a second (lens and Poisson noise) of fields of 256 and 512
points; networks an hour of the tiny recipe, stacked by 1, 8, 64 and 256, their images drawn beforehand, and
the share of the device's bandwidth that their activations alone would take. With ``--device cpu`` and few
repetitions it runs anywhere, to be tried.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from passband.detectors.train_many import train_many
from passband.detectors.train_segmenter import SegmenterConfig
from passband.detectors.unet import NETWORKS, UNetConfig
from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.hrtem.wave.scattering import exit_waves
from passband.optics.conditions import ConditionRanges, Uniform, draw_conditions
from passband.store.columns import rows_csv
from passband.store.files import write_whole

STEPS, CROP, BATCH = 90, 64, 32
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}
"""Of a device's memory by its data sheet, bytes/s."""


def seconds(work: Callable[[], object], device: str, times: int) -> float:
    """Wall seconds of the fastest of several, after one to warm up."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def waves_and_images(device: str, times: int) -> list[list[object]]:
    """Waves and micrographs a second."""
    rows: list[list[object]] = []
    for points in (256, 512):
        side = points * 0.2
        ranges = SpecimenRanges(cell=(side, side), count=(1, 1), diameters=(20, 30), thickness=(20, 40))
        specimens = [build_specimen(draw_specimen(ranges, seed=0))] * 8  # a batch has slices of one thickness
        for batch in (1, 8):
            took = seconds(lambda some=specimens[:batch]: exit_waves(some, device=device), device, times)
            rows.append(["exit waves", f"{points} points, batches of {batch}", f"{batch / took:.3g}", "1/s"])
        wave = exit_waves(specimens[:1], device=device)[0]
        focus = ConditionRanges(C10=Uniform(low=-600, high=-100))
        conditions = draw_conditions(focus, 8 if device == "cpu" else 256, seed=0)
        took = seconds(lambda w=wave, c=conditions: simulate_micrographs(w, c, seed=0), device, times)
        rows.append(["micrographs", f"{points} points, 400 e/A2", f"{len(conditions) / took:.3g}", "1/s"])
    return rows


def bytes_a_step(network: UNetConfig) -> float:
    """What a training step of one network moves at least: activations, written and read both ways."""
    levels = [(w, CROP * CROP / 4**i) for i, w in enumerate(network.widths)]
    numbers = sum(w * pixels * (4 if i == len(levels) - 1 else 8) for i, (w, pixels) in enumerate(levels))
    return BATCH * numbers * 2 * 4


def networks(device: str, steps: int, stacks: tuple[int, ...], bandwidth: float) -> list[list[object]]:
    """Networks an hour of the tiny recipe, stacked."""
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 128, 128), np.int32)
    labels[:, 30:90, 40:100] = 1
    pixels = (labels + rng.standard_normal(labels.shape)).astype(np.float32)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        i = int(rng.integers(len(pixels)))
        return pixels[i], labels[i]

    rows: list[list[object]] = []
    for count in stacks:
        configs = [
            SegmenterConfig(
                network=NETWORKS["tiny"],
                crop=CROP,
                batch=BATCH,
                steps=steps,
                stock=8,
                fresh=0,
                seed=s,
                image_seed=0,
                device=device,
            )
            for s in range(count)
        ]
        train_many(configs[:1], [draw])
        began = time.perf_counter()
        train_many(configs, [draw] * count)
        took = (time.perf_counter() - began) * STEPS / steps
        rows.append(
            ["networks", f"tiny, {count} at once, {STEPS} steps", f"{3600 * count / took:.3g}", "1/h"]
        )
        if bandwidth:
            share = bytes_a_step(NETWORKS["tiny"]) * STEPS * count / took / bandwidth
            rows.append(["share of bandwidth", f"tiny, {count} at once", f"{100 * share:.2g}", "%"])
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path("studies/results/gpu.csv"))
    parser.add_argument("--steps", type=int, default=40, help="timed; the table scales to the recipe's")
    parser.add_argument("--stacks", default="1,8,64,256")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument(
        "--bandwidth", type=float, help="bytes/s of the device's memory, if it is no H100 or H200"
    )
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing is measured (--device cpu tries the command)")
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "cpu"
    rows = [["what", "of", "value", "unit"], ["device", name, "", ""]]
    rows += waves_and_images(args.device, args.times)
    stacks = tuple(int(n) for n in args.stacks.split(","))
    known = (rate for card, rate in BANDWIDTH.items() if card in name)
    rows += networks(args.device, args.steps, stacks, args.bandwidth or next(known, 0.0))
    write_whole(args.out, rows_csv(rows))
    print("\n".join("  ".join(map(str, row)) for row in rows))


if __name__ == "__main__":
    main()
