"""How well Thon rings tell defocus and astigmatism, and whether a fit that is believed is right.

Films whose waves and lenses are abTEM's, seen by a camera of their own (studies/thon_cases.py). Thresholds
were chosen on the sets "choose ...", the later three of which had been reports until they showed an answer
that was believed and wrong (3, 2 and 1 of 400); the table is of the set "report", whose seeds are others.

    python studies/thon_rings.py rows [SET ...]   make and fit: a quarter of an hour for 40 films on two cores
    python studies/thon_rings.py                  rows where missing, table and figure
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

from passband.optics.thon import ThonFit, fit_thon_rings
from passband.store.files import write_whole
from thon_cases import ROOT, UNFAIR_KINDS, WAVES, prepare

RIGHT = 50.0  # Å: a fit within it is right
RESULT = Path("studies/results/thon_rings.txt")
TABLE = Path("studies/results/thon_rings.csv")
FIGURE = Path("docs/gallery/thon_rings.png")
SHOWN = ("report", 1, 1)  # set, wave and case of the figure: gold on its film
Row = dict[str, Any]


def rows_of(job: tuple[str, int]) -> list[Row]:
    """Fits of one wave's images; made once."""
    kind, i = job
    kept = ROOT / kind / f"{i:02d}" / "fits.json"
    if kept.exists():
        done: list[Row] = json.loads(kept.read_text())
        return done
    rows = []
    for row in prepare(kind, i):
        pixels = np.load(ROOT / kind / f"{i:02d}" / f"{row['case']}.npy")
        start = time.perf_counter()
        fit = fit_thon_rings(pixels, **row["known"])
        seconds = time.perf_counter() - start
        rows.append(row | {"side": len(pixels), "seconds": seconds, "fit": asdict(fit)})
    write_whole(kept, json.dumps(rows))
    return rows


def all_rows(kind: str) -> list[Row]:
    """Rows of a set; goes on where it stopped."""
    rows: list[Row] = []
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for n, some in enumerate(pool.map(rows_of, [(kind, i) for i in range(WAVES[kind])]), 1):
            rows += some
            print(f"{kind} {n}/{WAVES[kind]}", file=sys.stderr, flush=True)
    return [r | {"error": error_of(r)} for r in rows]


def error_of(row: Row) -> float:
    """Å from the truth; of two heights, from the nearer."""
    errors = [row["fit"]["defocus"] - abs(row["truth"] + step) for step in {0.0, row["step"]}]
    return min(errors, key=abs)


def line(name: str, rows: list[Row]) -> str:
    """How many are believed, and how far off these are."""
    believed = [r for r in rows if r["fit"]["believed"]]
    errors = np.abs([r["error"] for r in believed]) if believed else np.array([math.nan])
    wrong = sum(abs(r["error"]) > RIGHT for r in believed)
    numbers = "".join(f"{v:8.1f}" for v in (np.median(errors), np.percentile(errors, 90), errors.max()))
    return f"  {name:<32}{len(rows):>5}{len(believed):>10}{wrong:>7}{numbers}"


def lines_of(rows: list[Row]) -> list[str]:
    """The table of a set."""
    head = f"  {'':<32}{'n':>5}{'believed':>10}{'wrong':>7}{'median':>8}{'90 %':>8}{'worst':>8}"
    fair = [r for r in rows if r["kind"] == "fair"]
    unfair = [r for r in rows if r["kind"] != "fair"]
    text = [
        f"{len(rows)} images of {len({r['wave'] for r in rows})} films; errors in A of |defocus| of "
        f"the film's middle, of the believed; wrong is more than {RIGHT:g} A off",
        "",
        "fair: 300 to 20000 A of both signs, 30 to 2000 e/A2, Cs 0 to 2.7 mm, astigmatism, MTF, drift",
        head,
        line("all", fair),
    ]
    for low, high in ((0, 600), (600, 2000), (2000, 6000), (6000, 30000)):
        text.append(line(f"{low} to {high} A", [r for r in fair if low <= abs(r["truth"]) < high]))
    for low, high in ((0, 100), (100, 400), (400, 3000)):
        text.append(line(f"{low} to {high} e/A2", [r for r in fair if low <= r["dose"] < high]))
    for side in sorted({(r["pixel"], r["energy"], r["side"]) for r in fair}):
        of = [r for r in fair if (r["pixel"], r["energy"], r["side"]) == side]
        text.append(line(f"{side[2]} px of {side[0]:g} A, {side[1] / 1e3:g} keV", of))
    text += [line("with gold particles", [r for r in fair if r["gold"]]), "", "unfair", head]
    text += [line("all", unfair)]
    text += [line(name, [r for r in unfair if r["kind"] == name]) for name in UNFAIR_KINDS]
    believed = [r for r in fair if r["fit"]["believed"]]
    text += ["", "reported standard errors of the fair and believed (1 and 2 of a Gaussian: 68.3 and 95.4 %)"]
    for name, pulls in pulls_of(believed).items():
        within = "   ".join(f"within {n} {100 * float((pulls < n).mean()):5.1f} %" for n in (1, 2))
        text.append(f"  {name:<14}{len(pulls):>5}   {within}")
    relative = [100 * r["error"] / abs(r["truth"]) for r in believed]
    text += [
        "",
        f"error of the fair and believed: standard deviation {np.std(relative):.2f} % of the defocus",
        "(between CTFFIND3 and CTFFIND4, on nine sets of cryo-EM micrographs: 0.2 to 6.9 %, most about 1 %;",
        "Rohou and Grigorieff, J. Struct. Biol. 192 (2015) 216, table 3)",
    ]
    told = [r for r in rows if r["fit"]["sign"] and r["fit"]["believed"] and abs(r["error"]) <= RIGHT]
    right = sum(r["fit"]["sign"] * r["truth"] < 0 for r in told)
    wrong = sum(r["fit"]["believed"] and abs(r["error"]) > RIGHT for r in rows)
    most = stats.beta.ppf(0.95, wrong + 1, len(rows) - wrong)
    return [
        *text,
        "",
        f"sign of defocus: told in {len(told)}, right in {right}",
        f"believed and wrong: {wrong} of {len(rows)}, at most {100 * most:.1f} % with 95 % confidence",
        f"a fit takes {np.median([r['seconds'] for r in rows]):.1f} s in the median, two at a time",
    ]


def pulls_of(rows: list[Row]) -> dict[str, np.ndarray]:
    """Distances from the truth in reported standard errors."""

    def turned(r: Row) -> float:
        # Without a sign the angle told is that of underfocus.
        other = (math.pi / 2) * (r["fit"]["sign"] == 0 and r["truth"] > 0)
        return abs((r["fit"]["phi12"] - r["phi12"] - other + math.pi / 2) % math.pi - math.pi / 2)

    of = {
        "defocus": [abs(r["error"]) / r["fit"]["defocus_error"] for r in rows],
        "C12": [abs(r["fit"]["C12"] - r["C12"]) / r["fit"]["C12_error"] for r in rows],
        "phi12": [turned(r) / r["fit"]["phi12_error"] for r in rows],
    }
    return {name: np.array(values) for name, values in of.items()}


def table_of(rows: list[Row]) -> str:
    """A line for each image, as CSV."""
    names = ("wave", "case", "kind", "truth", "C12", "C30", "dose", "drift", "pixel", "energy", "gold")
    fitted = ("defocus", "defocus_error", "C12", "information_limit", "rings", "gain", "believed")
    lines = [",".join([*names, *(f"fit_{n}" for n in fitted)])]
    for r in rows:
        values = [r[n] for n in names] + [r["fit"][n] for n in fitted]
        lines.append(",".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values))
    return "\n".join(lines) + "\n"


def figure() -> None:
    """A spectrum beside the fitted rings, and the power along them."""
    from matplotlib.figure import Figure
    from scipy import fft

    from passband.drawing.saving import ACCENT, QUIET, save_figure
    from passband.optics.thon import ring_profile
    from passband.units import electron_wavelength

    kind, i, case = SHOWN
    row = prepare(kind, i)[case]
    pixels = np.load(ROOT / kind / f"{i:02d}" / f"{case}.npy")
    told: ThonFit = fit_thon_rings(pixels, **row["known"])
    size, pixel = row["known"]["pixel_size"], row["known"]["pixel_size"]
    wavelength = electron_wavelength(row["energy"])
    k = fft.fftshift(fft.fftfreq(len(pixels), pixel))
    ky, kx = np.meshgrid(k, k, indexing="ij")
    C10 = told.C10 if told.C10 is not None else -told.defocus

    def rings(k2: np.ndarray, focus: np.ndarray | float) -> np.ndarray:
        return np.sin(math.pi * wavelength * k2 * (focus + 0.5 * told.C30 * wavelength**2 * k2)) ** 2

    power = np.abs(fft.fftshift(fft.fft2(pixels - pixels.mean()))) ** 2
    profile = ring_profile(pixels, size)
    radius = np.hypot(ky, kx)
    flat = power / np.interp(radius, profile.frequency, profile.background)
    flat /= np.median(flat[(radius > 0.1) & (radius < 1)])
    # Smoothed as an eye would: single powers scatter by their own size.
    q2 = fft.fftfreq(len(pixels))[:, None] ** 2 + fft.fftfreq(len(pixels)) ** 2
    smooth = fft.ifft2(fft.fft2(np.minimum(flat, 6)) * np.exp(-2 * (math.pi * 1.2) ** 2 * q2)).real
    model = rings(radius**2, C10 + told.C12 * np.cos(2 * (np.arctan2(ky, kx) - told.phi12)))
    low, high = np.percentile(smooth[(radius > 0.15) & (radius < 0.7)], (5, 97))
    shown = np.where(kx >= 0, np.clip((smooth - low) / (high - low), 0, 1), model)
    drawn = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1.25))
    shade = np.where(radius > 0.1, shown, 0)
    left.imshow(shade, cmap="gray", extent=(k[0], k[-1], k[-1], k[0]), vmin=0, vmax=1)
    left.set(xlim=(-0.8, 0.8), ylim=(0.8, -0.8), xlabel="frequency (1/Å)", ylabel="frequency (1/Å)")
    left.set_title("left: fitted rings   right: power spectrum", fontsize=10)
    edge, limit = np.linspace(0, 2 * math.pi, 200), told.information_limit
    left.plot(limit * np.cos(edge), limit * np.sin(edge), color=ACCENT, lw=1, ls="--")
    right.plot(
        profile.frequency, profile.signal, color=QUIET, lw=1, label="ring power over its trend, less 1"
    )
    # The mean over azimuth, as rings of an astigmatic lens are no circles.
    azimuth = np.linspace(0, math.pi, 90, endpoint=False)[:, None]
    mean = rings(profile.frequency**2, C10 + told.C12 * np.cos(2 * (azimuth - told.phi12))).mean(axis=0)
    label = "-cos 2chi of the fit, mean over azimuth"
    right.plot(profile.frequency, 2 * mean - 1, color=ACCENT, lw=1.5, label=label)
    right.axvline(limit, color=ACCENT, lw=1, ls="--")
    right.set(xlim=(0.1, 1.0), ylim=(-1.1, 1.6), xlabel="frequency (1/Å)")
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    right.set_title(
        f"defocus {told.defocus:.0f} ± {told.defocus_error:.0f} Å (true {abs(row['truth']):.0f}), "
        f"astigmatism {told.C12:.0f} ± {told.C12_error:.0f} Å ({row['C12']:.0f}),"
        f"\nlimit {limit:.2f} /Å, {row['dose']:.0f} e/Å²",
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
    rows = all_rows("report")
    text = "\n".join(["python studies/thon_rings.py", machine(), *lines_of(rows)])
    print(text)
    write_whole(RESULT, text + "\n")
    write_whole(TABLE, table_of(rows))
    figure()


if __name__ == "__main__":
    if sys.argv[1:2] == ["rows"]:
        for name in sys.argv[2:] or list(WAVES):
            print("\n".join(lines_of(all_rows(name))))
    else:
        main()
