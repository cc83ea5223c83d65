"""What segmenters are told of their own answers: `make generalist` does this after the training.

    python studies/segmenters_judged.py out/generalist [--ship]

Takes OUT/bundle.safetensors, which `studies/generalist.py` trained. Fresh scenes are imaged by every kind of
microscope of that study, and beyond them (farther from focus, with fewer electrons), varied as in training.
The network's answers on them, and what these tell of themselves, calibrate its estimate of pixel F1, each
kind of microscope a domain. Its map, F1 by focus and dose, goes into the bundle beside it.

Then the estimate is tried where nothing was calibrated: the 20 real tiles of `nanoparticles`, and every sixth
micrograph of `emps`, apart those whose particles are darker than what is around them, as on a film. Five
specialists, small networks trained at one focus and dose each and calibrated in the same way, stand beside
it: which network should be used on an image is asked of the estimates alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from generalist import (
    COARSEST,
    SHIPPED_WAY,
    Labelled,
    emps,
    f1,
    microscopes,
    steady,
    study,
    tiles,
)
from passband.detectors.bundle import SHIPPED_NAMES, Bundle, read_bundle, write_bundle
from passband.detectors.scenes import SceneImages, varied_images
from passband.detectors.segment import segment, segment_with_evidence
from passband.detectors.train_segmenter import Draw, SegmenterConfig, train_segmenter
from passband.detectors.unet import segmenter_network
from passband.detectors.vary import Variation, vary
from passband.estimate.performance import estimate_scores
from passband.estimate.records import from_record
from passband.estimate.rows import CalibrationRow
from passband.hrtem.dataset.dataset import Dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import Splits
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.judge.calibrate import calibrate_bundle, pixel_row
from passband.micrographs.micrograph import Micrograph
from passband.optics.conditions import ConditionRanges, Uniform
from passband.store.columns import rows_csv
from passband.store.files import write_whole

RESULTS = Path(__file__).parent / "results"
SCENES = {"300keV": 30, "200keV": 16, "80keV": 14, "300keV-large": 12}
IMAGES = 36
"""Of each domain."""
BEYOND: dict[str, dict[str, object]] = {
    "far under focus": {"C10": Uniform(low=-4500, high=-2600)},
    "far over focus": {"C10": Uniform(low=2000, high=4000)},
    "few electrons": {"dose": Uniform(low=5, high=30)},
}
SPECIALISTS = {
    "10 nm, 400 e/A2": (10.0, 400.0),
    "-50 nm, 400 e/A2": (-50.0, 400.0),
    "50 nm, 100 e/A2": (50.0, 100.0),
    "100 nm, 400 e/A2": (100.0, 400.0),
    "200 nm, 1000 e/A2": (200.0, 1000.0),
}
"""Defocus and dose that a small network is trained at."""
MAP_DEFOCI = (-200, -150, -100, -50, -25, -10, 0, 10, 25, 50, 100, 150, 200, 260)
MAP_DOSES = (50, 200, 1000, 4000)
MAP_SCENES, MAP_BIN = 12, 2.0
GOOD = 0.8


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One kind of microscope looking at one set of scenes."""

    name: str
    draw: Draw


def fresh(out: Path) -> list[Dataset]:
    """Scenes that no network was trained on."""
    found = []
    for name, count in SCENES.items():
        of = study(name, count)
        of = replace(of, seed=of.seed + 50, splits=Splits(train=1.0, validation=0.0, test=0.0))
        found.append(simulate_dataset(of, out / f"judged-{name}").dataset)
    return found


def images_of(of: Dataset, ranges: ConditionRanges) -> Draw:
    """Varied images of all scenes of a dataset."""
    own = float(of.study.imaging.pixel_size)  # type: ignore[arg-type]
    source = SceneImages(of, of.split("train"), ranges=ranges)
    return varied_images(source, least=96, variations=SHIPPED_WAY.variations(COARSEST / own))


def domains(datasets: Sequence[Dataset]) -> Iterator[Domain]:
    """What the estimate is calibrated on."""
    for name, of in zip(SCENES, datasets, strict=True):
        every = microscopes(of.study.imaging)
        for i, ranges in enumerate(every):
            yield Domain(name=f"{name} {LENSES[i // 2]} {DOSES[i % 2]}", draw=images_of(of, ranges))
        if not name.endswith("large"):
            for beyond, change in BEYOND.items():
                yield Domain(name=f"{name} {beyond}", draw=images_of(of, replace(every[4], **change)))


LENSES, DOSES = ("near focus", "uncorrected", "far from focus"), ("low dose", "high dose")


def rows_of(bundle: Bundle, every: Sequence[Domain], what: str) -> list[CalibrationRow]:
    """The network's answers on every domain, with their true scores."""
    rows = []
    for number, domain in enumerate(every):
        for i in range(IMAGES):
            pixels, labels = domain.draw(np.random.default_rng([31, number, i]))
            image = Micrograph(pixels=pixels, name=f"{domain.name} {i}")
            found, told = segment_with_evidence(image, bundle)
            rows.append(pixel_row(image, found, told, labels > 0, domain=domain.name))
        print(f"{what}: domain {number + 1} of {len(every)}", flush=True)
    return rows


def specialist(name: str, of: Dataset) -> Bundle:
    """A small network trained at one focus and dose."""
    defocus, dose = SPECIALISTS[name]
    ranges = replace(steady(of), C10=Uniform(low=-10 * defocus - 20, high=-10 * defocus + 20), dose=dose)
    config = SegmenterConfig(
        network=segmenter_network("small"), name=name, crop=128, batch=12, steps=600, stock=96, fresh=1,
        learning_rate=3e-3, seed=3,
    )  # fmt: skip
    source = SceneImages(of, of.split("train"), ranges=ranges)
    variations = SHIPPED_WAY.variations(COARSEST / 0.2)
    return train_segmenter(config, varied_images(source, least=config.crop, variations=variations))


def network_map(bundle: Bundle, of: Dataset) -> dict[str, object]:
    """Mean F1 of a network by focus and dose, on scenes that it was not trained on, outlines halfway."""
    f1s = np.zeros((len(MAP_DOSES), len(MAP_DEFOCI)))
    scenes = [n for n in of.split("train") if of.scene(n).labels.any()][:MAP_SCENES]
    for i, dose in enumerate(MAP_DOSES):
        for j, defocus in enumerate(MAP_DEFOCI):
            ranges = replace(steady(of), C10=-10.0 * defocus, dose=float(dose))
            images = SceneImages(of, scenes, ranges=ranges).each(seed=3)
            seen = [vary(*image, Variation(bin=MAP_BIN, halfway=True)) for image in images]
            f1s[i, j] = np.mean([f1(answer(bundle, pixels), labels > 0) for pixels, labels in seen])
        print(f"map: dose {i + 1} of {len(MAP_DOSES)}", flush=True)
    return {
        "defocus_nm": list(MAP_DEFOCI),
        "dose": list(MAP_DOSES),
        "f1": f1s.round(3).tolist(),
        "pixel_size": float(of.study.imaging.pixel_size) * MAP_BIN,  # type: ignore[arg-type]
    }


def answer(bundle: Bundle, pixels: np.ndarray) -> np.ndarray:
    """What a network finds."""
    return np.asarray(segment(Micrograph(pixels=pixels, name="scene"), bundle)[0] > 0.5)


def told(bundle: Bundle, images: Sequence[Labelled], of: str) -> list[list[object]]:
    """Measured and estimated pixel F1 of every image."""
    calibration = from_record(bundle.calibration)  # type: ignore[arg-type]
    rows: list[list[object]] = []
    for number, (pixels, wanted) in enumerate(images):
        image = Micrograph(pixels=pixels, name=f"{of} {number}")
        row = pixel_row(image, *segment_with_evidence(image, bundle), wanted, domain=of)
        said = estimate_scores(calibration, dict(row.features))
        e = said.estimates["f1"]
        rows.append(
            [
                of,
                number,
                bundle.name,
                *(round(float(v), 4) for v in (row.f1, e.value, e.low, e.high, said.novelty)),
            ]
        )
    return rows


def summary(table: list[list[object]]) -> Iterator[str]:
    """How well F1 is told, by images and network."""
    sets = list(dict.fromkeys(str(r[0]) for r in table))
    names = list(dict.fromkeys(str(r[2]) for r in table))
    heads = ("n", "F1", "told", "off", "covered", "width", "novel")
    yield f"{'images':<24}{'network':<20}" + "".join(f"{h:>9}" for h in heads)
    for of in sets:
        grid = np.array([[r[3:] for r in table if (r[0], r[2]) == (of, name)] for name in names], float)
        measured, value, low, high, novelty = np.moveaxis(grid, -1, 0)
        off, held = np.abs(value - measured), (low <= measured) & (measured <= high)
        for i, name in enumerate(names):
            means = [v[i].mean() for v in (measured, value, off, held, high - low, novelty > 1)]
            yield f"{of:<24}{name:<20}{measured.shape[1]:>9}" + "".join(f"{m:>9.3f}" for m in means)
        poor = measured < GOOD
        auroc = roc_auc_score(poor.ravel(), -value.ravel()) if 0 < poor.mean() < 1 else float("nan")
        ranks = [spearmanr(m, v).statistic for m, v in zip(measured.T, value.T, strict=True)]
        chosen, best = measured[value.argmax(0), np.arange(measured.shape[1])], measured.max(0)
        yield f"{of}, all networks: {off.mean():.3f} off, AUROC of F1 < {GOOD} {auroc:.3f}"
        yield (
            f"{of}, one network of six for each image: rank correlation {np.nanmean(ranks):.2f}; the chosen "
            f"one is within .02 of the best in {(best - chosen <= 0.02).mean():.0%}; mean F1 chosen "
            f"{chosen.mean():.3f}, best {best.mean():.3f}, any {measured.mean():.3f}, the generalist "
            f"{measured[0].mean():.3f}"
        )


def main() -> None:
    """Calibrate, draw the map, and try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ship", action="store_true", help="replace the bundle that ships, and the tables")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    out: Path = args.out
    datasets = fresh(out)
    every = list(domains(datasets))
    trained = read_bundle(out / "bundle.safetensors")
    place = out / "judged.safetensors"
    if not place.exists():
        bundle = calibrate_bundle(trained, rows_of(trained, every, "generalist"))
        known = network_map(bundle, datasets[0])
        write_bundle(replace(bundle, training={**bundle.training, "map": known}), place)
    bundles = [read_bundle(place)]
    training = simulate_dataset(study("300keV", 60), out / "scenes-300keV").dataset
    for i, name in enumerate(SPECIALISTS):
        place = out / f"specialist-{i}.safetensors"
        if not place.exists():
            one = specialist(name, training)
            write_bundle(calibrate_bundle(one, rows_of(one, every, name)), place)
        bundles.append(read_bundle(place))
    lines: list[str] = []
    for bundle in bundles:
        held = from_record(bundle.calibration).held_out  # type: ignore[arg-type]
        off = np.abs(held.estimated[:, 0] - held.measured[:, 0]).mean()
        spread = np.abs(held.measured[:, 0] - held.measured[:, 0].mean()).mean()
        lines.append(
            f"{bundle.name}: simulated, each domain held out: {off:.3f} off, the mean {spread:.3f}; "
            f"{from_record(bundle.calibration).statement}"  # type: ignore[arg-type]
        )
    data = Path(os.environ.get("PASSBAND_DATA", "../shared/data"))
    table: list[list[object]] = []
    if (data / "nanoparticles").is_dir():
        table += [r for b in bundles for r in told(b, tiles(data / "nanoparticles"), "nanoparticles")]
    if (data / "emps").is_dir():
        images = emps(data / "emps")
        dark = [
            pixels[mask].mean() < pixels[~mask].mean() if mask.any() else False for pixels, mask in images
        ]
        for of, kept in (("emps, dark particles", dark), ("emps, the others", np.logical_not(dark))):
            chosen = [image for image, k in zip(images, kept, strict=True) if k]
            table += [r for b in bundles for r in told(b, chosen, of)]
    if table:
        lines += summary(table)
    print("\n".join(lines))
    if args.ship:
        write_bundle(bundles[0], SHIPPED_NAMES["hrtem"])
        head = ["images", "number", "network", "f1", "estimated", "low", "high", "novelty"]
        write_whole(RESULTS / "segmenters_judged.csv", rows_csv([head, *table]))
        write_whole(RESULTS / "segmenters_judged.txt", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
