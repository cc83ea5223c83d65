"""How many foci an image needs: errors of the envelope and of Gauss-Hermite means, on simulated scenes.

    python studies/focal_average.py

Error: deviation from the mean over 61 foci, over the image's own; 300 keV, 300 Å underfocus, no
spherical aberration, no noise; three default scenes, waves stored to 1.25/Å and whole.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
from passband.hrtem.wave.imaging import focal_points, image_intensity
from passband.hrtem.wave.scattering import ExitWave, WaveSettings, exit_wave
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import lens_of
from passband.store.files import write_whole

RESULT = Path("studies/results/focal_average.txt")
FOCI = (0, 3, 5, 7, 9, 11)


def errors(wave: ExitWave, spread: float) -> list[str]:
    c = ImagingConditions(
        energy=300e3, C10=-300.0, C30=0.0, focal_spread=spread, angular_spread=0.0, pixel_size=0.2
    )
    lens = lens_of([c], dtype=torch.float64)
    exact = image_intensity(wave, lens, foci=61)
    chosen = focal_points(c, wave)
    off = [image_intensity(wave, lens, foci=n) - exact for n in (*FOCI, chosen)]
    return [f"{100 * float(e.std() / exact.std()):7.2f}" for e in off] + [f"{chosen:7d}"]


def main() -> None:
    torch.set_num_threads(1)
    head = "".join(f"{'envelope' if n == 0 else n:>9}" for n in FOCI)
    lines = ["python studies/focal_average.py", "error in % of the deviation, by number of foci", ""]
    lines.append(f"{'scene':<8}{'band':<8}{'spread':<6}{head}   chosen  foci")
    for seed in (2, 5, 8):
        specimen = build_specimen(draw_specimen(SpecimenRanges(), seed))
        for band in (1.25, math.inf):
            wave = exit_wave(specimen, WaveSettings(band=band))
            for spread in (10.0, 15.0, 30.0, 60.0):
                row = "  ".join(errors(wave, spread))
                lines.append(f"{seed:<8}{band:<8g}{spread:<6g}{row}")
    text = "\n".join(lines) + "\n"
    print(text)
    write_whole(RESULT, text)


if __name__ == "__main__":
    main()
