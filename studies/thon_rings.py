"""How well Thon rings tell defocus and astigmatism, and whether the flag is right.

Multislice scenes of crystalline particles on amorphous carbon, seen through lenses drawn at random, by
the pipeline that makes training images. Thresholds and the error's scale were chosen on the set
"choose"; the table is of the set "report", whose seeds are others.

    python studies/thon_rings.py rows [choose|report]   simulate and fit, 10 minutes each on two cores
    python studies/thon_rings.py                        rows where missing, table and figure
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen, draw_specimen
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.hrtem.wave.scattering import ExitWave, exit_wave
from passband.optics.conditions import ImagingConditions
from passband.optics.thon import fit_thon_rings
from passband.store.files import write_whole

SEEDS = {"choose": 51_000, "report": 134_000}
SCENES = {"choose": 80, "report": 70}
IMAGES = 3  # of each scene
WIDE = 4  # one scene in four is twice as wide and cropped, so that its images are not periodic
PIXELS = 512
PIXEL_SIZE = 0.2
ENERGY = 300e3
DOSE = 400.0
RIGHT = 50.0  # Å: a fit within it is right
MATERIALS = ("CdSe", "ZnS", "Au", "Ag", "Cu", "Fe", "Si", "Fe3O4")
ROWS = Path("out/thon_rings")
RESULT = Path("studies/results/thon_rings.txt")
FIGURE = Path("docs/gallery/thon_rings.png")
Row = dict[str, Any]


def scene(kind: str, i: int) -> tuple[Specimen, bool, float]:
    """A specimen, whether it is wide, and how far the middle of what carries rings lies below focus."""
    rng = np.random.default_rng([SEEDS[kind], i])
    wide, bare = i % WIDE == WIDE - 1, i % 8 == 4
    side = PIXELS * PIXEL_SIZE * (2 if wide else 1)
    ranges = SpecimenRanges(
        materials=(str(rng.choice(MATERIALS)),),
        diameters=(20.0, 50.0 if wide else 40.0),
        count=(1 if bare else 0, 12 if wide else 5),
        cell=(side, side),
        thickness=(0.0, 0.0) if bare else (20.0, 80.0),
    )
    specimen = build_specimen(draw_specimen(ranges, SEEDS[kind] + i))
    z = specimen.positions[specimen.particle == 0, 2]
    carbon = float(specimen.focus_plane - (z.min() + z.max()) / 2) if len(z) else 0.0
    return specimen, wide, carbon


def lenses(kind: str, i: int, specimen: Specimen, depth: float) -> list[tuple[str, ImagingConditions]]:
    """The conditions of a scene's images, and what is special about each."""
    drawn, bare = [], not (specimen.particle == 0).any()
    for j in range(IMAGES):
        rng = np.random.default_rng([SEEDS[kind], i, j])
        what = "no carbon" if bare else str(rng.choice(["rings", "in focus", "noisy"], p=[0.7, 0.15, 0.15]))
        C30 = float(rng.choice([0.0, 1e4, rng.uniform(0, 1.2e7), rng.uniform(0, 1.2e7)]))
        focus, C12 = float(rng.uniform(300, 3000) * rng.choice([-1, 1])), float(rng.uniform(0, 100))
        if what == "in focus":  # of the film; half of them in a lens that makes no rings at all
            focus, C12 = float(rng.uniform(-100, 100)) - depth, float(rng.uniform(0, 30))
            C30 = C30 if rng.random() < 0.5 else 0.0
        lens = ImagingConditions(
            energy=ENERGY,
            C10=focus,
            C12=C12,
            phi12=float(rng.uniform(0, math.pi)),
            C30=C30,
            focal_spread=float(rng.uniform(10, 50)),
            dose=float(10 ** rng.uniform(0.3, 1.6)) if what == "noisy" else DOSE,
            pixel_size=PIXEL_SIZE,
        )
        drawn.append((what, lens))
    return drawn


def micrographs(wave: ExitWave, conditions: list[ImagingConditions], seed: int) -> list[np.ndarray]:
    return list(simulate_micrographs(wave, conditions, seed=seed).numpy())


def rows_of(job: tuple[str, int]) -> list[Row]:
    """Simulate and fit the images of one scene."""
    import torch

    torch.set_num_threads(1)
    kind, i = job
    specimen, wide, depth = scene(kind, i)
    wave = exit_wave(specimen)
    drawn = lenses(kind, i, specimen, depth)
    rows = []
    for (what, lens), whole in zip(
        drawn, micrographs(wave, [c for _, c in drawn], SEEDS[kind] + i), strict=True
    ):
        views = {"periodic": whole} if not wide else {"cropped": whole[:PIXELS, :PIXELS], "1024 px": whole}
        for view, pixels in views.items():
            start = time.perf_counter()
            fit = fit_thon_rings(
                np.ascontiguousarray(pixels), pixel_size=PIXEL_SIZE, energy=ENERGY, C30=lens.C30
            )
            seconds = time.perf_counter() - start
            known = {n: getattr(lens, n) for n in ("C10", "C12", "phi12", "C30", "focal_spread", "dose")}
            head = {"scene": i, "what": what, "view": view, "depth": depth, "particles": specimen.count}
            rows.append(head | known | {"seconds": seconds, "fit": asdict(fit)})
    return rows


def all_rows(kind: str) -> list[Row]:
    """Rows of a set; goes on where it stopped."""
    ROWS.mkdir(parents=True, exist_ok=True)
    kept = ROWS / f"{kind}.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    held = {r["scene"] for r in done}
    wanted = [(kind, i) for i in range(SCENES[kind]) if i not in held]
    if wanted:
        with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            for n, rows in enumerate(pool.map(rows_of, wanted), 1):
                done += rows
                if n % 10 == 0 or n == len(wanted):
                    write_whole(kept, "".join(json.dumps(r) + "\n" for r in done))
                    print(f"{kind} {n}/{len(wanted)}", flush=True)
    return sorted(done, key=lambda r: r["scene"])


def judged(row: Row) -> Row:
    """A row with its truth, its error, and whether the flag was right."""
    fit, truth = row["fit"], row["C10"] + row["depth"]
    error = fit["defocus"] - abs(truth)
    good = abs(error) < RIGHT
    # Where no rings can be asked for, silence is right whatever the fit says.
    flag = good if fit["believed"] else not good or row["what"] != "rings"
    return row | {"truth": truth, "error": error, "good": good, "flag": flag}


def share(values: list[bool] | np.ndarray) -> str:
    return f"{100 * sum(values) / len(values):5.1f} %" if len(values) else "    -  "


def lines_of(rows: list[Row]) -> list[str]:
    """The table of a set."""
    small = [r for r in rows if r["view"] != "1024 px"]
    film = [r for r in small if r["what"] == "rings"]
    text = [
        f"{len(small)} images of {PIXELS} x {PIXELS} px, {PIXEL_SIZE} A, {ENERGY / 1e3:g} kV, of "
        f"{len({r['scene'] for r in small})} scenes; errors in A of |defocus| of the carbon's middle",
        "",
        f"error on {len(film)} images with carbon, |C10| 300 to 3000 A, {DOSE:g} e/A2",
        f"  {'|defocus|':<14}{'n':>5}{'median':>8}{'90 %':>8}{'worst':>8}{'believed':>10}{'wrong':>7}",
    ]

    def line(name: str, chosen: list[Row]) -> str:
        error = np.abs([r["error"] for r in chosen])
        believed = [r for r in chosen if r["fit"]["believed"]]
        numbers = "".join(f"{v:8.1f}" for v in (np.median(error), np.percentile(error, 90), error.max()))
        wrong = sum(not r["good"] for r in believed)
        return f"  {name:<14}{len(chosen):>5}{numbers}{len(believed):>10}{wrong:>7}"

    for low, high in ((0, 600), (600, 1200), (1200, 2000), (2000, 3200)):
        chosen = [r for r in film if low <= abs(r["truth"]) < high]
        if chosen:
            text.append(line(f"{low} to {high}", chosen))
    text.append(line("all", film))
    for view in ("periodic", "cropped", "1024 px"):
        chosen = [r for r in rows if r["what"] == "rings" and r["view"] == view]
        if chosen:
            text.append(line(view, chosen))
            far = [r for r in chosen if abs(r["truth"]) >= 2000]
            text += [line("  over 2000", far)] if far else []
    for name, low, high in (("no particle", 0, 0), ("1 to 3", 1, 3), ("4 and more", 4, 99)):
        chosen = [r for r in film if low <= r["particles"] <= high]
        text += [line(name, chosen)] if chosen else []
    text += ["", "reported standard errors of believed fits (1 and 2 of a Gaussian: 68.3 and 95.4 %)"]
    trusted = [r for r in film if r["fit"]["believed"]]
    for name, pulls in pulls_of(trusted).items():
        text.append(
            f"  {name:<14}{len(pulls):>5}   within 1 {share(pulls < 1)}   within 2 {share(pulls < 2)}"
        )
    told = [r for r in trusted if r["fit"]["sign"]]
    right = [r["fit"]["sign"] * r["truth"] < 0 for r in told]
    corrected = [r["fit"]["sign"] == 0 for r in trusted if r["C30"] <= 1e4]
    text += [
        "",
        f"sign of defocus: told in {len(told)} of {len(trusted)}, right in {share(right)}; with C30 of "
        f"10000 A or less left open in {share(corrected)}",
        "",
        f"flag: right where it says yes and the error is under {RIGHT:g} A, or says no and the error is "
        "larger or no rings could be asked for",
        f"  {'':<14}{'n':>5}{'yes, right':>12}{'yes, wrong':>12}{'no, fit right':>15}{'no, wrong':>11}"
        f"{'flag right':>12}",
    ]
    for name in ("rings", "in focus", "noisy", "no carbon", "all"):
        chosen = [r for r in small if name in (r["what"], "all")]
        counts = [
            sum(r["fit"]["believed"] == b and r["good"] == g for r in chosen)
            for b, g in ((True, True), (True, False), (False, True), (False, False))
        ]
        cells = "".join(f"{c:>{w}}" for c, w in zip(counts, (12, 12, 15, 11), strict=True))
        text.append(f"  {name:<14}{len(chosen):>5}{cells}{share([r['flag'] for r in chosen]):>12}")
    near = [abs(r["error"]) < 30 for r in small]
    silent = [not r["fit"]["believed"] and r["what"] != "rings" for r in small]
    strict = [n == r["fit"]["believed"] or q for n, r, q in zip(near, small, silent, strict=True)]
    wasted = [r["good"] == r["fit"]["believed"] for r in small]
    right_ones = sum(r["flag"] for r in small)
    low = stats.beta.ppf(0.05, right_ones, len(small) - right_ones + 1)
    return [
        *text,
        f"  all: at least {100 * low:.1f} % with 95 % confidence (Clopper-Pearson)",
        f"  all, with 30 A in place of {RIGHT:g} A: {share(strict)}",
        f"  all, were silence about a right fit wrong everywhere: {share(wasted)}",
    ]


def speed() -> str:
    """Time of a fit, the fastest of five, of one film seen by 512 and by 1024 pixels."""
    specimen, _, _ = scene("report", WIDE - 1)
    lens = ImagingConditions(energy=ENERGY, C10=-1200.0, C30=3e6, dose=DOSE, pixel_size=PIXEL_SIZE)
    whole = micrographs(exit_wave(specimen), [lens], 1)[0]
    told = []
    for pixels in (np.ascontiguousarray(whole[:PIXELS, :PIXELS]), whole):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            fit_thon_rings(pixels, pixel_size=PIXEL_SIZE, energy=ENERGY, C30=lens.C30)
            times.append(time.perf_counter() - start)
        told.append(f"{min(times):.2f} s for {pixels.shape[0]} px")
    return f"a fit, fastest of five, one thread: {', '.join(told)}"


def pulls_of(rows: list[Row]) -> dict[str, np.ndarray]:
    """Distances from the truth in reported standard errors."""
    focus = [abs(r["error"]) / r["fit"]["defocus_error"] for r in rows]
    size = [abs(r["fit"]["C12"] - r["C12"]) / r["fit"]["C12_error"] for r in rows]
    angle = [
        # Without a sign the angle told is that of underfocus.
        abs(
            (
                r["fit"]["phi12"]
                - r["phi12"]
                - (math.pi / 2) * (r["fit"]["sign"] == 0 and r["truth"] > 0)
                + math.pi / 2
            )
            % math.pi
            - math.pi / 2
        )
        / r["fit"]["phi12_error"]
        for r in rows
    ]
    return {"defocus": np.array(focus), "C12": np.array(size), "phi12": np.array(angle)}


def figure() -> None:
    """A spectrum beside the fitted rings, and the power along them."""
    from matplotlib.figure import Figure
    from scipy import fft

    from passband.drawing.saving import ACCENT, QUIET, save_figure
    from passband.optics.thon import ring_profile
    from passband.units import electron_wavelength

    # The first whose particles' spots show beside the rings.
    specimen = next(
        s for s, wide, _ in (scene("report", i) for i in range(SCENES["report"])) if s.count >= 3 and not wide
    )
    lens = ImagingConditions(
        energy=ENERGY,
        C10=-900.0,
        C12=80.0,
        phi12=0.6,
        C30=2e6,
        focal_spread=15.0,
        dose=DOSE,
        pixel_size=PIXEL_SIZE,
    )
    pixels = micrographs(exit_wave(specimen), [lens], 1)[0]
    told = fit_thon_rings(pixels, pixel_size=PIXEL_SIZE, energy=ENERGY, C30=lens.C30)
    wavelength = electron_wavelength(ENERGY)
    k = fft.fftshift(fft.fftfreq(PIXELS, PIXEL_SIZE))
    ky, kx = np.meshgrid(k, k, indexing="ij")
    C10 = told.C10 if told.C10 is not None else -told.defocus

    def rings(k2: np.ndarray, focus: np.ndarray | float) -> np.ndarray:
        return np.sin(math.pi * wavelength * k2 * (focus + 0.5 * lens.C30 * wavelength**2 * k2)) ** 2

    power = np.abs(fft.fftshift(fft.fft2(pixels - pixels.mean()))) ** 2
    profile = ring_profile(pixels, PIXEL_SIZE)
    radius = np.hypot(ky, kx)
    flat = power / np.interp(radius, profile.frequency, profile.background)
    flat /= np.median(flat[(radius > 0.1) & (radius < 1)])
    # Smoothed as an eye would: single powers scatter by their own size.
    smooth = fft.ifft2(
        fft.fft2(np.minimum(flat, 6))
        * np.exp(-2 * (math.pi * 1.2) ** 2 * (fft.fftfreq(PIXELS)[:, None] ** 2 + fft.fftfreq(PIXELS) ** 2))
    ).real
    model = rings(radius**2, C10 + told.C12 * np.cos(2 * (np.arctan2(ky, kx) - told.phi12)))
    low, high = np.percentile(smooth[(radius > 0.15) & (radius < 0.7)], (5, 97))
    shown = np.where(kx >= 0, np.clip((smooth - low) / (high - low), 0, 1), model)
    drawn = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1.25))
    left.imshow(
        np.where(radius > 0.1, shown, 0), cmap="gray", extent=(k[0], k[-1], k[-1], k[0]), vmin=0, vmax=1
    )
    left.set(xlim=(-0.8, 0.8), ylim=(0.8, -0.8), xlabel="frequency (1/Å)", ylabel="frequency (1/Å)")
    left.set_title("left: fitted rings   right: power spectrum", fontsize=10)
    edge = np.linspace(0, 2 * math.pi, 200)
    left.plot(
        told.information_limit * np.cos(edge),
        told.information_limit * np.sin(edge),
        color=ACCENT,
        lw=1,
        ls="--",
    )
    right.plot(
        profile.frequency, profile.signal, color=QUIET, lw=1, label="ring power over its trend, less 1"
    )
    # The mean over azimuth, as rings of an astigmatic lens are no circles.
    azimuth = np.linspace(0, math.pi, 90, endpoint=False)[:, None]
    mean = rings(profile.frequency**2, C10 + told.C12 * np.cos(2 * (azimuth - told.phi12))).mean(axis=0)
    right.plot(
        profile.frequency, 2 * mean - 1, color=ACCENT, lw=1.5, label="-cos 2chi of the fit, mean over azimuth"
    )
    right.axvline(told.information_limit, color=ACCENT, lw=1, ls="--")
    right.set(xlim=(0.1, 1.0), ylim=(-1.1, 1.6), xlabel="frequency (1/Å)")
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    middle = specimen.positions[specimen.particle == 0, 2]
    depth = specimen.focus_plane - (middle.min() + middle.max()) / 2
    right.set_title(
        f"defocus {told.defocus:.0f} ± {told.defocus_error:.0f} Å (true {-(lens.C10 + depth):.0f}), "
        f"astigmatism {told.C12:.0f} ± {told.C12_error:.0f} Å ({lens.C12:.0f}),"
        f"\nlimit {told.information_limit:.2f} /Å",
        fontsize=10,
    )
    save_figure(drawn, FIGURE)


def machine() -> str:
    """The processor's name, where the system tells it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    rows = [judged(r) for r in all_rows("report")]
    head = f"seeds {SEEDS['report']} on; {machine()}"
    text = "\n".join(["python studies/thon_rings.py", head, *lines_of(rows), "", speed()])
    print(text)
    write_whole(RESULT, text + "\n")
    figure()


if __name__ == "__main__":
    if sys.argv[1:2] == ["rows"]:
        for name in sys.argv[2:] or list(SEEDS):
            all_rows(name)
    else:
        main()
