"""HRTEM from atoms to micrographs in two minutes: a small dataset, its check, and pictures of it.

    python studies/hrtem.py [FOLDER]      default out/hrtem

The dataset is made by `passband simulate hrtem studies/hrtem_small.toml`; the pictures show the lens,
one scene's exit wave, that scene under twelve imaging conditions, and the labels. Where real tiles are at
hand ($PASSBAND_DATA/nanoparticles), simulated scenes of their kind are drawn beside them.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from passband.drawing.saving import save_figure
from passband.hrtem.dataset.check import check_dataset, check_in_words
from passband.hrtem.dataset.contact_sheet import write_contact_sheet
from passband.hrtem.dataset.dataset import open_dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study_file import read_study
from passband.hrtem.wave.figures import draw_conditions, draw_contrast_transfer, draw_exit_wave
from passband.optics.conditions import ImagingConditions
from realism import ALL, FAR, TILES, data_folder, draw_beside, real_tiles, simulated

STUDY = Path(__file__).with_name("hrtem_small.toml")
BASE = {"energy": 300e3, "angular_spread": 0.0, "pixel_size": 0.2}
TWELVE = [
    ImagingConditions(C10=-defocus, C30=cs, focal_spread=spread, dose=dose, **BASE)
    for defocus, cs, spread, dose in (
        (0.0, 0.0, 10.0, 400.0),
        (60.0, 0.0, 10.0, 400.0),
        (-60.0, 0.0, 10.0, 400.0),
        (250.0, 0.0, 10.0, 400.0),
        (60.0, 0.0, 10.0, 30.0),
        (60.0, 0.0, 10.0, 100.0),
        (60.0, 0.0, 10.0, 2000.0),
        (60.0, 0.0, 40.0, 2000.0),
        (583.0, 1.2e7, 30.0, 400.0),
        (400.0, 1.2e7, 30.0, 400.0),
        (1000.0, 1.2e7, 30.0, 400.0),
        (-1000.0, 1.2e7, 30.0, 400.0),
    )
]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    done = simulate_dataset(read_study(STUDY), folder / "dataset", study_text=STUDY.read_text("utf-8"))
    print(f"{done.made} scenes simulated, {done.kept} kept, {time.perf_counter() - start:.0f} s")
    print(check_in_words(check_dataset(folder / "dataset")))
    dataset = open_dataset(folder / "dataset")
    wave = dataset.scene(0).wave
    scherzer = ImagingConditions(energy=300e3, C10=-583.0, C30=1.2e7, focal_spread=30.0, angular_spread=3e-4)
    figures = {
        "contrast_transfer": draw_contrast_transfer(scherzer),
        "exit_wave": draw_exit_wave(wave),
        "conditions": draw_conditions(wave, TWELVE),
    }
    for name, figure in figures.items():
        print(save_figure(figure, folder / f"{name}.png"))
    print(write_contact_sheet(dataset, folder / "scenes"))
    beside(folder / "beside_real.png")


def beside(path: Path) -> None:
    """Real tiles above simulated scenes of their kind, if there are any."""
    real = real_tiles(data_folder())
    if not real:
        print("no real tiles here to draw beside: set PASSBAND_DATA to the folder that holds nanoparticles/")
        return
    study = replace(read_study(TILES), scenes=2, images_per_scene=3)
    print(save_figure(draw_beside(list(simulated(study, FAR, [ALL])), real), path))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/hrtem"))
