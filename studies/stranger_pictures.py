"""Pictures that are no micrographs of cavities.

Photographs, drawings, diffraction patterns, spectra; and two kinds that no choice was made on: maps of
grains, and lattices of particles in HRTEM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from passband.types import Image

SIDE, MANY, SEED = 512, 64, 128
FREE = (  # public domain or CC0 by scikit-image's documentation; the others are not drawn
    "astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "grass", "gravel",
    "hubble_deep_field", "microaneurysms", "retina", "rocket", "text",
)  # fmt: skip
OTHERS = ("coins", "immunohistochemistry", "moon", "page")


# Photographs


def pictures() -> dict[str, Image]:
    """Whole pictures in grey, from the packages' own folders."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    found = {name: getattr(data, name)() for name in (*FREE, *OTHERS)}
    found["motorcycle_left"], found["motorcycle_right"], _ = data.stereo_motorcycle()
    samples = load_sample_images()
    found |= {Path(n).stem: p for n, p in zip(samples.filenames, samples.images, strict=True)}
    return {name: grey(pixels) for name, pixels in found.items()}


def grey(pixels: np.ndarray) -> Image:
    """Luminance (ITU-R BT.601), 0 to 255."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    return (pixels[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(np.float32)


def photographs() -> Iterator[tuple[str, Image]]:
    """Every picture in crops, then close-ups: windows of half its size, enlarged twice."""
    whole, made = pictures(), 0
    for name, pixels in whole.items():
        for i, part in enumerate(crops(pixels)):
            yield f"{name} {i + 1}", part
            made += 1
    rng, names = np.random.default_rng(SEED), list(whole)
    for k in range(MANY - made):
        pixels = whole[names[k % len(names)]]
        height, width = (min(side // 2, SIDE // 2) for side in pixels.shape)
        y, x = rng.integers(pixels.shape[0] - height), rng.integers(pixels.shape[1] - width)
        close = ndimage.zoom(pixels[y : y + height, x : x + width], 2, order=1)
        yield f"{names[k % len(names)]} close {k // len(names) + 1}", close


def crops(pixels: Image) -> Iterator[Image]:
    """Crops of at most 512 x 512 spread over a picture, the middle where one must do."""
    starts, sides = [], [min(SIDE, side) for side in pixels.shape]
    for side, short in zip(pixels.shape, sides, strict=True):
        n = min(2, max(1, round(side / SIDE)))
        starts.append([(side - short) // 2] if n == 1 else [0, side - short])
    for y in starts[0]:
        for x in starts[1]:
            yield pixels[y : y + sides[0], x : x + sides[1]]


# Drawings


def drawings() -> Iterator[tuple[str, Image]]:
    """Eight drawings of each kind, from one seed."""
    for k, (name, draw) in enumerate(KINDS.items()):
        yield from drawn(name, draw, MANY // len(KINDS), k)


def patterns() -> Iterator[tuple[str, Image]]:
    return drawn("diffraction", draw_diffraction, MANY // 2, len(KINDS))


def spectra() -> Iterator[tuple[str, Image]]:
    return drawn("spectrum", draw_spectrum, MANY // 2, len(KINDS) + 1)


def grains() -> Iterator[tuple[str, Image]]:
    return drawn("grains", draw_grains, MANY // 2, len(KINDS) + 2)


def lattices() -> Iterator[tuple[str, Image]]:
    """Particles on carbon at the resolution of atoms, two foci of each."""
    from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
    from passband.hrtem.wave.imaging import simulate_micrographs
    from passband.hrtem.wave.scattering import exit_waves
    from passband.optics.conditions import ConditionRanges, Uniform, draw_conditions

    side = SIDE * 0.2
    ranges = SpecimenRanges(cell=(side, side), count=(1, 6), diameters=(20, 45), thickness=(20, 60))
    focus = ConditionRanges(C10=Uniform(low=-900, high=900), dose=Uniform(low=100, high=2000), pixel_size=0.2)
    for i in range(MANY // 4):
        wave = exit_waves([build_specimen(draw_specimen(ranges, seed=SEED + i))])[0]
        made = simulate_micrographs(wave, draw_conditions(focus, 2, seed=SEED + i), seed=i)
        for j, pixels in enumerate(made):
            yield f"lattice {2 * i + j + 1}", pixels.numpy().astype(np.float32)


def drawn(name: str, draw: Draw, count: int, k: int) -> Iterator[tuple[str, Image]]:
    for i in range(count):
        pixels = draw(np.random.default_rng((SEED, k, i)), i)
        yield f"{name} {i + 1}", np.clip(pixels, 0, 255).round().astype(np.float32)


def draw_text(rng: np.random.Generator, i: int) -> np.ndarray:
    figure, size = sheet(), int(rng.integers(7, 15))
    for row in np.arange(0.96, 0.03, -size / 300):
        words = ["".join(rng.choice(list("abcdefghiklmnoprstuvw"), rng.integers(2, 10))) for _ in range(14)]
        figure.text(0.05, row, " ".join(words)[: int(640 / size)], fontsize=size, family="DejaVu Serif")
    return printed(figure)


def draw_plot(rng: np.random.Generator, i: int) -> np.ndarray:
    figure = sheet()
    for axes in figure.subplots(1 + i % 2, 1 + i // 4, squeeze=False).flat:
        for _ in range(rng.integers(1, 6)):
            marker = str(rng.choice(["", "o", "s", "^"]))
            axes.plot(rng.normal(size=25).cumsum(), marker=marker, color=str(rng.uniform(0, 0.7)))
        axes.grid(bool(i % 3))
    return printed(figure)


def draw_checkerboard(rng: np.random.Generator, i: int) -> np.ndarray:
    board = np.indices((SIDE, SIDE)) // int(rng.integers(8, 80))
    pixels = 40.0 + 170 * (board.sum(axis=0) % 2)
    if i % 2:
        pixels = ndimage.rotate(pixels, float(rng.uniform(5, 85)), reshape=False, order=1, mode="reflect")
    return ndimage.gaussian_filter(pixels, i / 2) + rng.normal(0, 2 * (i % 4), pixels.shape)


def draw_gradient(rng: np.random.Generator, i: int) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE)) / SIDE - rng.uniform(0, 1, (2, 1, 1))
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.hypot(x, y) if i % 2 else x * np.cos(turn) + y * np.sin(turn)
    return 255 * (ramp - ramp.min()) / np.ptp(ramp) + rng.normal(0, 3 * (i % 4), ramp.shape)


def draw_shapes(rng: np.random.Generator, i: int) -> np.ndarray:
    """Circles and polygons, filled or in outline, which a detector of round things may well find."""
    from matplotlib.patches import Circle, RegularPolygon

    figure = sheet(str(rng.uniform(0.3, 1)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, SIDE), ylim=(0, SIDE))
    axes.axis("off")
    for _ in range(rng.integers(10, 60)):
        centre, radius = rng.uniform(0, SIDE, 2), rng.uniform(5, 40)
        face, edge, width = str(rng.uniform(0, 1)), str(rng.uniform(0, 1)), float(rng.uniform(0, 4))
        style = {"facecolor": face, "edgecolor": edge, "linewidth": width, "fill": bool(rng.random() < 0.6)}
        corners = int(rng.integers(3, 8))
        turned = RegularPolygon(centre, corners, radius=radius, orientation=rng.uniform(0, 6), **style)
        axes.add_patch(turned if i % 2 and rng.random() < 0.7 else Circle(centre, radius, **style))
    return printed(figure)


def draw_map(rng: np.random.Generator, i: int) -> np.ndarray:
    height = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(15, 50))
    figure = sheet()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    if i % 2:
        axes.contourf(height, levels=int(rng.integers(4, 12)), cmap="gray")
    lines = axes.contour(
        height, levels=int(rng.integers(6, 20)), colors="0.2", linewidths=rng.uniform(0.5, 2)
    )
    if i % 4 < 2:
        axes.clabel(lines, fontsize=7, fmt="%.3f")
    for place in rng.uniform(30, SIDE - 30, (12, 2)):
        axes.plot(*place, marker="o", color="k", markersize=rng.uniform(3, 9), markerfacecolor="w")
    return printed(figure)


def draw_noise(rng: np.random.Generator, i: int) -> np.ndarray:
    """White noise, blurred noise, and counts of few electrons over nothing."""
    if i % 4 == 3:
        return rng.poisson(rng.uniform(1, 20), (SIDE, SIDE)) * 10.0
    pixels = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), (0, 1, 4, 0)[i % 4] * (1 + i // 4))
    return 128 + 40 * pixels / pixels.std()


def draw_stripes(rng: np.random.Generator, i: int) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE))
    pixels = np.zeros((SIDE, SIDE))
    for _ in range(1 + i // 3):
        turn, period = rng.uniform(0, np.pi), rng.uniform(6, 80)
        pixels += np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
    pixels = np.sign(pixels) if i % 3 == 2 else pixels
    return 128 + 100 * pixels / np.abs(pixels).max() + rng.normal(0, 4 * (i % 3), pixels.shape)


def draw_diffraction(rng: np.random.Generator, i: int) -> np.ndarray:
    """Spots of a crystal or rings of many, about a central beam, with a beam stop on every other one."""
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2 - rng.uniform(-30, 30, (2, 1, 1))
    r = np.hypot(x, y)
    fall = np.exp(-r / rng.uniform(60, 160))
    if i % 2:
        radii, width = np.cumsum(rng.uniform(18, 60, 8)), rng.uniform(1, 4)
        made = sum(rng.uniform(0.2, 1) * np.exp(-(((r - q) / width) ** 2) / 2) for q in radii)
        made = made * (1 + rng.uniform(0, 2) * ndimage.gaussian_filter(rng.normal(size=r.shape), 2))
    else:
        length, turn, angle = rng.uniform(22, 70), rng.uniform(0, np.pi), rng.uniform(1.0, 2.1)
        across = length * np.array(
            [[np.cos(turn), np.sin(turn)], [np.cos(turn + angle), np.sin(turn + angle)]]
        )
        u, v = np.einsum("ab,byx->ayx", np.linalg.inv(across.T), np.stack([x, y]))
        off = np.hypot(u - np.rint(u), v - np.rint(v)) * length
        made = np.exp(-((off / rng.uniform(2, 7)) ** 2) / 2)
    counts = rng.uniform(20, 400) * (fall * made + 0.3 * fall**2 + 3 * np.exp(-((r / 9) ** 2) / 2))
    seen = rng.poisson(counts.clip(0)).astype(float)
    seen = np.log1p(seen) if i % 3 else seen
    seen = 255 * seen / np.percentile(seen, rng.uniform(98, 99.9))
    if i % 4 < 2:
        seen[(np.abs(y) < rng.uniform(6, 16)) & (x < 14)] = 4
    return seen


def draw_spectrum(rng: np.random.Generator, i: int) -> np.ndarray:
    """An energy-loss spectrum as a line of every row, or curves of several, filled or not."""
    energy = np.linspace(0.05, 1, SIDE)
    rows = []
    for _ in range(6):
        curve = energy ** -rng.uniform(0.5, 3)
        for edge in rng.uniform(0.1, 0.95, rng.integers(1, 5)):
            curve = curve + rng.uniform(0.2, 4) * (energy > edge) * (energy / edge) ** -3.0
            curve = curve + rng.uniform(0, 8) * np.exp(-(((energy - edge) / 0.01) ** 2) / 2)
        rows.append(curve / curve.max())
    if i % 2:
        mix = ndimage.gaussian_filter1d(rng.uniform(0, 1, (SIDE, 6)), rng.uniform(3, 60), axis=0)
        lines = (mix / mix.sum(1, keepdims=True)) @ np.array(rows)
        seen = rng.poisson(rng.uniform(20, 2000) * lines).astype(float) ** rng.uniform(0.3, 1)
        return 255 * seen / np.percentile(seen, 99.5)
    figure = sheet()
    axes = figure.add_axes((0, 0, 1, 1) if i % 4 else (0.1, 0.1, 0.85, 0.85))
    for curve in rows[: 1 + i % 5]:
        noisy = curve + rng.normal(0, 0.02, SIDE)
        (axes.fill_between if i % 8 > 3 else axes.plot)(energy, noisy, color=str(rng.uniform(0, 0.8)))
    axes.set_yscale("log" if i % 6 == 0 else "linear")
    return printed(figure)


def draw_grains(rng: np.random.Generator, i: int) -> np.ndarray:
    """Grains, each of its own grey, etched or not, polished well or badly, as by a light microscope."""
    from scipy.spatial import cKDTree

    places = rng.uniform(0, SIDE, (int(rng.integers(20, 400)), 2))
    near, which = cKDTree(places).query(np.indices((SIDE, SIDE)).reshape(2, -1).T, k=2)
    pixels = rng.uniform(60, 200, len(places))[which[:, 0]].reshape(SIDE, SIDE)
    if i % 2:
        pixels[(near[:, 1] - near[:, 0]).reshape(SIDE, SIDE) < rng.uniform(1, 4)] = rng.uniform(0, 60)
    for _ in range(int(rng.integers(0, 8)) * (i % 3)):
        y, x, turn = *rng.uniform(0, SIDE, 2), rng.uniform(0, np.pi)
        off = (np.indices((SIDE, SIDE))[0] - y) * np.cos(turn) - (np.indices((SIDE, SIDE))[1] - x) * np.sin(
            turn
        )
        pixels[np.abs(off) < 1] += rng.uniform(-60, 60)
    return ndimage.gaussian_filter(pixels, rng.uniform(0.4, 1.5)) + rng.normal(
        0, rng.uniform(1, 15), pixels.shape
    )


Draw = Callable[[np.random.Generator, int], np.ndarray]
KINDS: dict[str, Draw] = {
    "text": draw_text,
    "plot": draw_plot,
    "checkerboard": draw_checkerboard,
    "gradient": draw_gradient,
    "shapes": draw_shapes,
    "map": draw_map,
    "noise": draw_noise,
    "stripes": draw_stripes,
}


def sheet(colour: str = "1") -> Figure:
    return Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor=colour, layout=None)


def printed(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return grey(np.asarray(canvas.buffer_rgba()))
