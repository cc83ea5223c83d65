"""The segmenter that ships for HRTEM: simulate, train, try on what it never saw; `make generalist`.

Trained on simulated scenes alone: nine materials, six shapes, three energies, carbon of .5 to 10 nm, all
that `conditions` tells, varied in scale, absorption, grain and light. It is tried on the 20 real tiles of
`nanoparticles`, on real micrographs of `emps`, and on simulated conditions where a threshold fails. Nothing
of the real data is trained on, nor chosen by, but in the row of ten labelled tiles.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from PIL import Image as Pictures
from skimage.filters import threshold_otsu

from passband.detectors.bundle import SHIPPED_NAMES, Bundle, read_bundle, write_bundle
from passband.detectors.scenes import SceneImages, varied_images
from passband.detectors.segment import segment
from passband.detectors.train_segmenter import Draw, SegmenterConfig, train_segmenter
from passband.detectors.unet import UNetConfig
from passband.hrtem.dataset.dataset import Dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import SimulationStudy, Splits
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.scattering import WaveSettings
from passband.micrographs.micrograph import Micrograph
from passband.optics.conditions import ConditionRanges, Uniform
from passband.store.columns import rows_csv
from passband.store.files import write_whole

ENERGIES = (300e3, 200e3, 80e3)
MATERIALS = ("CdSe", "ZnS", "Au", "Ag", "Cu", "Fe", "Si", "Fe3O4", "Co3O4")
SHAPES = ("sphere", "wulff", "octahedron", "truncated octahedron", "decahedron", "icosahedron")
NETWORK = UNetConfig(widths=(8, 16, 32, 64))
Labelled = tuple[np.ndarray, np.ndarray]


def study(energy: float, scenes: int) -> SimulationStudy:
    """Scenes of all materials at one energy."""
    return SimulationStudy(
        scenes=scenes,
        seed=1000 + round(energy / 1e3),
        labels="phase",
        splits=Splits(train=0.8, validation=0.1, test=0.1),
        specimen=SpecimenRanges(
            materials=MATERIALS,
            shapes=SHAPES,
            diameters=(15, 60),
            count=(0, 6),
            least_distance=2.0,
            thickness=(5, 100),
            embedded_share=0.2,
        ),
        wave=WaveSettings(energy=energy),
        imaging=ConditionRanges(energy=energy),
    )


def conditions(energy: float) -> ConditionRanges:
    """All that a microscope of the field is likely to do."""
    return ConditionRanges(
        energy=energy,
        C10=Uniform(low=-2000, high=2000),
        C30=Uniform(low=0, high=2.7e7),
        C12=Uniform(low=0, high=100),
        phi12=Uniform(low=0, high=np.pi),
        focal_spread=Uniform(low=5, high=14),
        dose=Uniform(low=30, high=2500),
        mtf_half=Uniform(low=0.15, high=0.6),
    )


def mixed(sources: Sequence[Draw]) -> Draw:
    """Any of the sources."""
    return lambda rng: sources[int(rng.integers(len(sources)))](rng)


def train(datasets: Sequence[Dataset], out: Path, steps: int) -> Bundle:
    """The network, from all datasets."""
    config = SegmenterConfig(
        network=NETWORK, name="hrtem-generalist", crop=128, batch=12, steps=steps, stock=96, fresh=2, seed=1,
        look=250,
    )  # fmt: skip

    def source(split: str) -> Draw:
        draws = [SceneImages(d, d.split(split), ranges=conditions(d.study.wave.energy)) for d in datasets]
        return varied_images(mixed(draws), least=config.crop)

    held = source("validation")
    rng = np.random.default_rng(0)
    return train_segmenter(
        config,
        source("train"),
        out,
        depends={"datasets": [d.study.digest() for d in datasets]},
        validation=[held(rng) for _ in range(24)],
        training={
            "simulated": True,
            "varied": True,
            "materials": list(MATERIALS),
            "energies": list(ENERGIES),
            "conditions": {"defocus_nm": [-200, 200], "cs_mm": [0, 2.7], "dose": [30, 2500]},
        },
        progress=lambda what, done, total: (
            print(f"{what} {done} of {total}", flush=True) if done % 500 == 0 else None
        ),
    )


def say(what: str, done: int, total: int) -> None:
    """A line now and then."""
    if done % 500 == 0:
        print(f"{what} {done} of {total}", flush=True)


def f1(found: np.ndarray, wanted: np.ndarray) -> float:
    """Pixel F1."""
    return float(2 * (found & wanted).sum() / max(1, found.sum() + wanted.sum()))


def by_network(bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """Masks by a network."""
    return lambda pixels: segment(Micrograph(pixels=pixels, name="tile"), bundle)[0] > 0.5


def by_threshold(blur: float, *, dark: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """Masks by Gaussian blur and Otsu's threshold."""

    def mask(pixels: np.ndarray) -> np.ndarray:
        smooth = scipy.ndimage.gaussian_filter(pixels, blur)
        inside = smooth < threshold_otsu(smooth)  # type: ignore[no-untyped-call]
        return np.asarray(inside if dark else ~inside)

    return mask


def tiles(folder: Path) -> list[Labelled]:
    """The 20 real tiles and their hand masks."""
    found = []
    for path in sorted((folder / "images").glob("*.png"), key=lambda p: int(p.stem.split("_")[1])):
        mask = folder / "labels" / path.name.replace("image", "label")
        pixels = np.asarray(Pictures.open(path).convert("L"), np.float32)
        found.append((pixels, np.asarray(Pictures.open(mask).convert("L")) > 127))
    return found


def emps(folder: Path, count: int = 60) -> list[Labelled]:
    """Every sixth real micrograph of particles, with all particles as one mask."""
    found = []
    paths = sorted((folder / "images").iterdir())
    for path in paths[:: max(1, len(paths) // count)]:
        truth = next((folder / "segmaps").glob(f"{path.stem}.*"))
        pixels = np.asarray(Pictures.open(path).convert("L"), np.float32)
        found.append((pixels, np.asarray(Pictures.open(truth)) > 0))
    return found


def simulated(datasets: Sequence[Dataset], defocus_nm: float, dose: float) -> list[Labelled]:
    """The test scenes at one condition."""
    found = []
    for d in datasets:
        energy = d.study.wave.energy
        ranges = ConditionRanges(energy=energy, C10=-10 * defocus_nm, dose=dose, focal_spread=10.0)
        for pixels, labels in SceneImages(d, d.split("test"), ranges=ranges).each(seed=7):
            if labels.any():
                found.append((pixels, labels > 0))
    return found


def refined(bundle: Bundle, labelled: Sequence[Labelled], steps: int) -> Bundle:
    """The network trained further on labelled tiles."""
    assert isinstance(bundle.detector, UNetConfig)
    images = [(pixels, mask.astype(np.int32)) for pixels, mask in labelled]
    config = SegmenterConfig(
        network=bundle.detector, crop=128, batch=12, steps=steps, learning_rate=1e-3, fresh=1, seed=2
    )
    return train_segmenter(config, lambda rng: images[int(rng.integers(len(images)))], start=bundle)


def picture(rows: Sequence[Labelled], mask: Callable[[np.ndarray], np.ndarray], path: Path) -> None:
    """Images, with the truth in green and what is found in red."""
    shown = []
    for pixels, wanted in rows:
        low, high = np.percentile(pixels, (0.5, 99.5))
        grey = (np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        both = np.stack([grey] * 3, -1)
        for m, colour in ((wanted, (0, 220, 0)), (mask(pixels), (255, 0, 0))):
            edge = m ^ scipy.ndimage.binary_erosion(m)
            both[edge] = colour
        part = np.hstack([np.stack([grey] * 3, -1), both])
        shown.append(np.asarray(Pictures.fromarray(part).resize((1024, 512))))
    Pictures.fromarray(np.vstack(shown)).save(path)


def main() -> None:
    """Train and try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=60, help="of each energy")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--ship", action="store_true", help="replace the bundle that ships")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    datasets = [
        simulate_dataset(study(e, args.scenes), out / f"scenes-{e / 1e3:.0f}keV").dataset for e in ENERGIES
    ]
    write_bundle(train(datasets, out / "training", args.steps), out / "bundle.safetensors")
    bundle = read_bundle(out / "bundle.safetensors")
    rows: list[list[object]] = [["images", "condition", "n", "network", "otsu_blur_2", "otsu_blur_4"]]
    ways = [by_network(bundle), by_threshold(2), by_threshold(4)]
    for defocus in (-100, -50, -10, 0, 10, 50, 100):
        for dose in (50, 400):
            images = simulated(datasets, defocus, dose)
            scores = [np.mean([f1(way(p), m) for p, m in images]) for way in ways]
            rows.append(
                ["simulated", f"{defocus} nm {dose} e/A2", len(images), *(f"{s:.3f}" for s in scores)]
            )
    data = Path(os.environ.get("PASSBAND_DATA", "../shared/data"))
    if (data / "nanoparticles").is_dir():
        real = tiles(data / "nanoparticles")
        scores = [np.mean([f1(way(p), m) for p, m in real]) for way in ways]
        rows.append(["nanoparticles", "no real label", len(real), *(f"{s:.3f}" for s in scores)])
        picture(real[::5], ways[0], out / "nanoparticles.png")
        order = np.random.default_rng(0).permutation(len(real))
        one, other = [real[i] for i in order[:10]], [real[i] for i in order[10:]]
        both = []
        for labelled, unseen in ((one, other), (other, one)):
            way = by_network(refined(bundle, labelled, 200))
            both += [f1(way(p), m) for p, m in unseen]
        rows.append(["nanoparticles", "ten labelled tiles", len(both), f"{np.mean(both):.3f}", "", ""])
    if (data / "emps").is_dir():
        real = emps(data / "emps")
        scores = [np.mean([f1(way(p), m) for p, m in real]) for way in ways]
        rows.append(["emps", "no real label", len(real), *(f"{s:.3f}" for s in scores)])
        picture(real[::15], ways[0], out / "emps.png")
    write_whole(out / "generalist.csv", rows_csv(rows))
    print("\n".join("  ".join(map(str, row)) for row in rows))
    if args.ship:
        write_bundle(bundle, SHIPPED_NAMES["hrtem"])


if __name__ == "__main__":
    main()
