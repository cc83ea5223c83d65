"""The segmenter that ships for HRTEM: simulate, train, try on what it never saw; `make generalist`.

Trained on simulated scenes alone: nine materials, gold and silver most often, six shapes, three energies,
particles of 1.5 to 15 nm that touch, overlap and are uneven, on carbon, silicon nitride and graphene, all
that `microscopes` tells, varied in scale, absorption, grain and light. It is tried on the 20 real tiles of
`nanoparticles`, on real micrographs of `emps`, and on simulated conditions where a threshold fails. Nothing
of the real data is trained on, nor chosen by, but in the row of ten labelled tiles.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from PIL import Image as Pictures
from skimage.filters import threshold_otsu

from passband.detectors.bundle import Bundle, read_bundle, write_bundle
from passband.detectors.scenes import SceneImages, varied_images
from passband.detectors.segment import segment
from passband.detectors.train_segmenter import Draw, SegmenterConfig, train_segmenter
from passband.detectors.unet import UNetConfig
from passband.detectors.vary import Variation, draw_variation, vary
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

SCENES = {"300keV": 60, "200keV": 40, "80keV": 30, "300keV-large": 28, "200keV-large": 16}
"""How many, by electron energy; large ones have large particles."""
MATERIALS = ("CdSe", "ZnS", "Au", "Ag", "Cu", "Fe", "Si", "Fe3O4", "Co3O4")
OFTEN = ("Au", "Au", "Ag", *MATERIALS)
FILMS = ("carbon", "carbon", "carbon", "silicon nitride", "silicon nitride", "graphene")
DEFOCI = (-100, -50, -10, 0, 10, 50, 100)
DIAMETERS = (15, 150)
COARSE = 0.32
"""Pixels of images of large scenes, Å; waves do not carry apertures beyond 20 mrad there."""
COARSEST = 1.2
"""Pixels after binning, Å."""
WAY_STEPS = 600
SHAPES = ("sphere", "wulff", "octahedron", "truncated octahedron", "decahedron", "icosahedron")
Labelled = tuple[np.ndarray, np.ndarray]
Mask = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Way:
    """What may be done differently in training: network, loss, and what of it `draw_variation` takes."""

    widths: tuple[int, ...] = (8, 16, 32, 64)
    crop: int = 128
    batch: int = 12
    loss: str = "entropy and overlap"
    opaque: bool = False
    bright: float = 0.0
    halfway: bool = False

    def variations(self, most_bin: float) -> Callable[[np.random.Generator], Variation]:
        """Draws what is done to an image."""
        return partial(
            draw_variation,
            most_bin=most_bin, opaque=self.opaque, bright=self.bright, halfway=self.halfway,
        )  # fmt: skip


DEEPER = Way(widths=(8, 16, 32, 64, 128), crop=192, batch=6)
WAYS = {
    "first": Way(),
    "deeper, larger crops": DEEPER,
    "entropy alone": Way(loss="entropy"),
    "outlines halfway": Way(halfway=True),
    "opaque and bright": Way(opaque=True, bright=0.25),
}
"""Tried briefly beside each other by `--ways`."""
SHIPPED_WAY = replace(DEEPER, opaque=True, bright=0.25, halfway=True)


def study(name: str, scenes: int) -> SimulationStudy:
    """Scenes of all materials at one energy; large ones on coarser waves, of which some per cent are off."""
    volts, large = name.partition("keV")[::2]
    energy = float(volts) * 1e3
    return SimulationStudy(
        scenes=scenes,
        seed=2000 + round(energy / 1e3) + 500 * bool(large),
        labels="phase",
        splits=Splits(train=0.8, validation=0.1, test=0.1),
        specimen=SpecimenRanges(
            materials=OFTEN,
            mixed_share=0.1,
            shapes=SHAPES,
            diameters=(50, DIAMETERS[1]) if large else (DIAMETERS[0], 70),
            count=(0, 5),
            cell=(204.8, 204.8) if large else (102.4, 102.4),
            least_distance=(-7, 10),
            touching_share=0.25,
            substrates=FILMS,
            thickness=(10, 120),
            roughness=(0, 4),
            wedge=(0, 0.3),
            embedded_share=0.15,
            near_zone_share=0.15,
            rounding=(0, 1),
            surface_roughness=(0, 2),
            disorder=(0, 0.3),
        ),
        wave=WaveSettings(
            energy=energy,
            absorption=0.8,
            pixel_size=0.3 if large else None,
            slice_thickness=4.0 if large else None,
        ),
        imaging=ConditionRanges(energy=energy, pixel_size=COARSE if large else 0.2),
    )


def microscopes(of: ConditionRanges) -> list[ConditionRanges]:
    """All that microscopes of the field are likely to do: corrected and not, near focus and far from it."""
    common = replace(
        of,
        phi12=Uniform(low=0, high=np.pi),
        aperture=Uniform(low=0.01, high=0.02 if of.pixel_size == COARSE else 0.03),
        mtf_half=Uniform(low=0.15, high=0.6),
        vibration=Uniform(low=0.1, high=0.7),
        drift_y=Uniform(low=-0.6, high=0.6),
        drift_x=Uniform(low=-0.6, high=0.6),
        inelastic_share=Uniform(low=0, high=0.12),
        quantum_efficiency=Uniform(low=0.5, high=1),
        dqe_falloff=Uniform(low=0, high=0.8),
    )
    lenses = (
        {
            "C10": Uniform(low=-300, high=300),
            "C12": Uniform(low=0, high=30),
            "C30": Uniform(low=-1e5, high=1e5),
            "focal_spread": Uniform(low=5, high=14),
        },
        {
            "C10": Uniform(low=-1200, high=400),
            "C12": Uniform(low=0, high=60),
            "C30": Uniform(low=4e6, high=1.4e7),
            "focal_spread": Uniform(low=15, high=50),
            "angular_spread": Uniform(low=0, high=4e-4),
        },
        {
            "C10": Uniform(low=-2600, high=2000),
            "C12": Uniform(low=0, high=150),
            "C30": Uniform(low=0, high=2.7e7),
            "focal_spread": Uniform(low=5, high=30),
            "angular_spread": Uniform(low=0, high=4e-4),
        },
    )
    doses = (Uniform(low=30, high=600), Uniform(low=300, high=4000))
    return [replace(common, dose=dose, **lens) for lens in lenses for dose in doses]


def mixed(sources: Sequence[Draw]) -> Draw:
    """Any of the sources."""
    return lambda rng: sources[int(rng.integers(len(sources)))](rng)


def varied(datasets: Sequence[Dataset], split: str, way: Way) -> Draw:
    """Varied images of a split of all datasets."""
    draws = []
    for d in datasets:
        own = d.study.imaging
        images = mixed([SceneImages(d, d.split(split), ranges=ranges) for ranges in microscopes(own)])
        variations = way.variations(COARSEST / float(own.pixel_size))  # type: ignore[arg-type]
        draws.append(varied_images(images, least=way.crop, variations=variations))
    return mixed(draws)


def train(
    datasets: Sequence[Dataset], out: Path, steps: int, way: Way, *, start: Bundle | None = None
) -> Bundle:
    """The network, from all datasets; from a bundle's weights at two thirds of the rate."""
    config = SegmenterConfig(
        network=UNetConfig(widths=way.widths), name="hrtem-generalist", crop=way.crop, batch=way.batch,
        steps=steps, stock=96, fresh=1, seed=2 if start else 1, look=250, loss=way.loss,
        learning_rate=2e-3 if start else 3e-3,
    )  # fmt: skip
    held, rng = varied(datasets, "validation", way), np.random.default_rng(0)
    fine = min(float(d.study.imaging.pixel_size) for d in datasets)
    return train_segmenter(
        config,
        varied(datasets, "train", way),
        out,
        depends={"datasets": [d.study.digest() for d in datasets], "way": asdict(way)},
        start=start,
        validation=[held(rng) for _ in range(24)],
        training={
            "simulated": True,
            "varied": True,
            "materials": list(MATERIALS),
            "energies": sorted({d.study.wave.energy for d in datasets}),
            "conditions": {"defocus_nm": [-200, 260], "cs_mm": [0, 2.7], "dose": [30, 4000]},
            "pixel_size": [fine, COARSEST],
            "diameters": list(DIAMETERS),
            "outlines": "halfway" if way.halfway else "last atoms",
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


def by_network(bundle: Bundle, pixel_size: float | None = None) -> Mask:
    """Masks by a network, which may be told the pixel size."""
    return lambda pixels: (
        segment(Micrograph(pixels=pixels, name="tile", pixel_size=pixel_size), bundle)[0] > 0.5
    )


def by_threshold(blur: float, *, dark: bool = True) -> Mask:
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


def steady(of: Dataset) -> ConditionRanges:
    """A corrected microscope in a quiet room with a good camera."""
    return replace(
        of.study.imaging, focal_spread=10.0, aperture=0.02, vibration=0.3, mtf_half=0.3,
        inelastic_share=0.05, quantum_efficiency=0.8,
    )  # fmt: skip


def simulated(
    datasets: Sequence[Dataset], defocus_nm: float, dose: float, *, halfway: bool = False
) -> list[Labelled]:
    """The test scenes at one condition."""
    found = []
    for d in datasets:
        ranges = replace(steady(d), C10=-10 * defocus_nm, dose=dose)
        for pixels, labels in SceneImages(d, d.split("test"), ranges=ranges).each(seed=7):
            if labels.any():
                wanted = vary(pixels, labels, Variation(halfway=True))[1] if halfway else labels
                found.append((pixels, wanted > 0))
    return found


def refined(bundle: Bundle, labelled: Sequence[Labelled], steps: int) -> Bundle:
    """The network trained further on labelled tiles."""
    assert isinstance(bundle.detector, UNetConfig)
    images = [(pixels, mask.astype(np.int32)) for pixels, mask in labelled]
    config = SegmenterConfig(
        network=bundle.detector, crop=128, batch=12, steps=steps, learning_rate=1e-3, fresh=1, seed=2
    )
    return train_segmenter(config, lambda rng: images[int(rng.integers(len(images)))], start=bundle)


def at_pixel(datasets: Sequence[Dataset], pixel: float) -> list[Labelled]:
    """The test scenes 100 nm under focus at 400 e/A2, dark in the middle, in pixels of another size."""
    found = []
    for d in datasets:
        own = float(d.study.imaging.pixel_size)  # type: ignore[arg-type]
        ranges = replace(steady(d), C10=-1000.0, dose=400, pixel_size=min(pixel, own))
        for place, (image, labels) in enumerate(SceneImages(d, d.split("test"), ranges=ranges).each(seed=9)):
            finer, coarser = image.shape[0] // labels.shape[0], pixel / own
            repeats = (4, 4) if coarser > 1 else (1, 1)
            labels = np.tile(np.kron(labels, np.ones((finer, finer), np.int32)), repeats)
            variation = Variation(bin=max(1.0, coarser), absorption=0.3, seed=place)
            pixels, labels = vary(np.tile(image, repeats), labels, variation)
            if labels.any():
                found.append((pixels, labels > 0))
    return found


def scores(images: Sequence[Labelled], ways: Sequence[Mask]) -> np.ndarray:
    """Pixel F1 of every image by every way."""
    return np.array([[f1(way(pixels), wanted) for way in ways] for pixels, wanted in images])


def panels(pixels: np.ndarray, wanted: np.ndarray, ways: Sequence[Mask], side: int) -> np.ndarray:
    """An image, and for each way the image with the truth in green and what is found in red."""
    low, high = np.percentile(pixels, (0.5, 99.5))
    size = (round(side * pixels.shape[1] / pixels.shape[0]), side)
    grey = Pictures.fromarray((np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8))
    shown = np.asarray(grey.resize(size, Pictures.Resampling.BOX)) // 23 * 23
    parts = [np.stack([shown] * 3, -1)]
    for way in ways:
        parts.append(parts[0].copy())
        for mask, colour in ((wanted, (0, 200, 0)), (way(pixels), (255, 0, 0))):
            small = np.asarray(Pictures.fromarray(mask).resize(size, Pictures.Resampling.NEAREST))
            parts[-1][small ^ scipy.ndimage.binary_erosion(small, border_value=1)] = colour
    return np.hstack([np.pad(p, ((2, 2), (2, 2), (0, 0)), constant_values=255) for p in parts])


def picture(rows: Sequence[Labelled], ways: Sequence[Mask], path: Path, side: int = 360) -> None:
    """Images below one another, each beside what is found."""
    parts = [panels(pixels, wanted, ways, side) for pixels, wanted in rows]
    width = max(p.shape[1] for p in parts)
    wide = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in parts]
    Pictures.fromarray(np.vstack(wide)).save(path, optimize=True)


def apart(reached: np.ndarray) -> dict[str, list[int]]:
    """Where the network is ahead of thresholds, and where it is behind the truth, the clearest first."""
    ahead, behind = reached[:, 1:].max(1) - reached[:, 0], reached[:, 0]
    return {"ahead": np.argsort(ahead).tolist(), "behind": np.argsort(behind).tolist()}


def show_cases(datasets: Sequence[Dataset], ways: Sequence[Mask], out: Path, count: int = 4) -> None:
    """Pictures of simulated images, each of another scene, that the network alone segments, or not."""
    images: list[Labelled] = []
    for defocus in DEFOCI:
        images += simulated(datasets, defocus, 400)
    scenes = len(images) // len(DEFOCI)
    for name, order in apart(scores(images, ways)).items():
        first = {i % scenes: i for i in reversed(order)}
        kept = [i for i in order if first[i % scenes] == i][:count]
        picture([images[i] for i in kept], ways[::2], out / f"generalist_{name}.png", 170)


def try_ways(datasets: Sequence[Dataset], out: Path, steps: int) -> list[list[object]]:
    """Each way trained briefly, and measured on images of validation scenes and, at its end, on real ones."""
    rows: list[list[object]] = [
        ["way", "weights", "seconds", "to_last_atoms", "halfway", "nanoparticles", "emps"]
    ]
    held = {
        halfway: varied(datasets, "validation", replace(DEEPER, halfway=halfway)) for halfway in (False, True)
    }
    seen = [[draw(np.random.default_rng([5, i])) for i in range(60)] for draw in held.values()]
    sets = [[(pixels, labels > 0) for pixels, labels in images if labels.any()] for images in seen]
    data = Path(os.environ.get("PASSBAND_DATA", "../shared/data"))
    sets += [tiles(data / "nanoparticles"), emps(data / "emps")] if data.is_dir() else []
    for name, way in WAYS.items():
        started = time.process_time()
        bundle = train(datasets, out / "ways" / name.replace(" ", "-").replace(",", ""), steps, way)
        took = time.process_time() - started
        reached = [scores(images, [by_network(bundle)]).mean() for images in sets]
        weights = sum(v.numel() for v in bundle.weights.values())
        rows.append([name, weights, round(took), *(f"{s:.3f}" for s in reached)])
        print("  ".join(map(str, rows[-1])), flush=True)
        write_whole(out / "generalist_ways.csv", rows_csv(rows))
    return rows


def main() -> None:
    """Train and try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=float, default=1.0, help="how many times as many")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--again", type=int, default=5000, help="steps of a second round")
    parser.add_argument("--ways", action="store_true", help="try every way briefly instead, and ship none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    datasets = [
        simulate_dataset(study(name, max(10, round(n * args.scenes))), out / f"scenes-{name}").dataset
        for name, n in SCENES.items()
    ]
    if args.ways:
        try_ways(datasets, out, WAY_STEPS)
        return
    first = train(datasets, out / "training", args.steps, SHIPPED_WAY)
    trained = train(datasets, out / "training-again", args.again, SHIPPED_WAY, start=first)
    write_bundle(trained, out / "bundle.safetensors")
    bundle = read_bundle(out / "bundle.safetensors")
    rows: list[list[object]] = [["images", "condition", "n", "network", "otsu_blur_2", "otsu_blur_4"]]
    ways = [by_network(bundle), by_threshold(2), by_threshold(4)]

    def tell(images: str, condition: str, reached: np.ndarray) -> None:
        means = [f"{s:.3f}" for s in reached.mean(0)]
        rows.append([images, condition, len(reached), *means, *[""] * (3 - len(means))])
        print("  ".join(map(str, rows[-1])), flush=True)

    for defocus in DEFOCI:
        for dose in (50, 400):
            tell("simulated", f"{defocus} nm {dose} e/A2", scores(simulated(datasets, defocus, dose), ways))
        seen = simulated(datasets, defocus, 400, halfway=True)
        tell("simulated, outlines halfway", f"{defocus} nm 400 e/A2", scores(seen, ways))
    draw = varied(datasets, "test", SHIPPED_WAY)
    images = [draw(np.random.default_rng([9, i])) for i in range(200)]
    seen = [(pixels, labels > 0) for pixels, labels in images if labels.any()]
    tell("simulated, outlines halfway", "all that is trained on", scores(seen, ways))
    picture(seen[:12], ways[::2], out / "varied.png", 240)
    show_cases(datasets, ways, out)
    for pixel in (0.1, 2.4):
        images = at_pixel([d for d in datasets if d.study.imaging.pixel_size == 0.2], pixel)
        tell("simulated", f"{pixel} A pixels not known", scores(images, ways))
        tell("simulated", f"{pixel} A pixels known", scores(images, [by_network(bundle, pixel)]))
    data = Path(os.environ.get("PASSBAND_DATA", "../shared/data"))
    if (data / "nanoparticles").is_dir():
        real = tiles(data / "nanoparticles")
        tell("nanoparticles", "no real label", scores(real, ways))
        picture(real[::5], ways, out / "nanoparticles.png")
        places = np.random.default_rng(0).permutation(len(real))
        one, other = [real[i] for i in places[:10]], [real[i] for i in places[10:]]
        both = [
            scores(unseen, [by_network(refined(bundle, labelled, 200))])
            for labelled, unseen in ((one, other), (other, one))
        ]
        tell("nanoparticles", "ten labelled tiles", np.concatenate(both))
    if (data / "emps").is_dir():
        real = emps(data / "emps")
        reached = scores(real, ways)
        tell("emps", "no real label", reached)
        sides = [scores(real, [by_threshold(blur), by_threshold(blur, dark=False)]).max(1) for blur in (2, 4)]
        tell("emps", "thresholds told which side is right", np.column_stack([reached[:, 0], *sides]))
        for name, order in apart(reached).items():
            picture([real[i] for i in order[:6]], ways[::2], out / f"emps_{name}.png", 240)
    write_whole(out / "generalist.csv", rows_csv(rows))


if __name__ == "__main__":
    main()
