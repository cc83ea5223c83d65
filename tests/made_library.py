"""A small library of discs and bars, some labelled, and models fitted to it; made once for all tests."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from made_once import made_once
from passband.micrographs.many import Reading
from passband.particles.extraction.find import ExtractionSettings
from passband.particles.fit import ParticleConfig
from passband.particles.library.fit import fit_library
from passband.particles.library.labels import label_library
from passband.particles.library.library import extend_library, open_library
from passband.particles.networks.train_rvae import RVAETraining

WHOLE = ExtractionSettings(split=False)
QUICK = {"steps": 60, "pool": 600, "training": RVAETraining(epochs=1)}


def draw(seed: int, cells: int = 4) -> np.ndarray:
    """A disc or a bar, of chance size and turn, in each cell of 48 pixels; bars are the odd ones."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 48 * cells, : 48 * cells]
    pixels = 0.02 * rng.standard_normal(y.shape)
    for cell in range(cells**2):
        row, column = divmod(cell, cells)
        dy, dx = y - 48 * row - 23.5, x - 48 * column - 23.5
        if cell % 2:
            turn = rng.uniform(0, np.pi)
            along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
            pixels[(np.abs(along) <= 14) & (np.abs(across) <= 5)] += 1
        else:
            pixels[np.hypot(dy, dx) <= rng.uniform(7, 10)] += 1
    return pixels.astype(np.float32)


def make_library(folder: Path, *, pixel_size: float | None = 5.0, labels: int = 4) -> Path:
    """Two micrographs and their library, the first ``labels`` of both shapes labelled; its folder."""
    images = folder / "images"
    images.mkdir(parents=True)
    for seed, name in enumerate("ab"):
        np.save(images / f"{name}.npy", draw(seed))
    paths = sorted(map(str, images.iterdir()))
    extend_library(folder / "lib", paths, WHOLE, reading=Reading(pixel_size=pixel_size))
    if labels:
        library = open_library(folder / "lib")
        shapes = np.where(library.table["eccentricity"] > 0.7, "bar", "disc")
        rows = [i for name in ("bar", "disc") for i in np.flatnonzero(shapes == name)[:labels]]
        lines = [f"{library.table['particle'][i]},{shapes[i]}" for i in rows]
        (folder / "labels.csv").write_text("\n".join(["particle,label", *lines]) + "\n")
        label_library(folder / "lib", folder / "labels.csv")
    return folder / "lib"


@functools.cache
def made_library() -> Path:
    """A library that no test may change."""
    return made_once("library", make_library) / "lib"


@functools.cache
def made_bundle(*, generative: bool = True) -> Path:
    """A bundle fitted to it, with an autoencoder or without."""
    config = ParticleConfig(name="made", generative=generative, **QUICK)
    name = "all.bundle" if generative else "classes.bundle"
    return made_once(name, lambda bundle: fit_library(made_library(), bundle, config))
