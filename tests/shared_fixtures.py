"""Settings of the libraries, and a detector and a bundle that cost nothing, for tests of what uses them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.testing
from hypothesis import HealthCheck, settings

from made_discs import detect_discs, detect_discs_and_see
from passband.cavities.image import simulate_cavities
from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle, read_bundle, write_bundle
from passband.detectors.config import SLIM
from passband.judge.calibrate import calibrate_bundle, calibration_row
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

# An example may take long on a machine that has other work; the same are tried everywhere.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", PATIENT, derandomize=True, max_examples=50)  # twice as many below
settings.register_profile("other draws", PATIENT)
settings.load_profile("suite")

# Sums, and so the last bits of a wave, depend on how many threads share them: one, as in the product.
torch.set_num_threads(1)

# Building the command line takes longer than many a command that a test gives: once is enough.
typer.testing._get_command = functools.cache(typer.testing._get_command)


def draw_others(draws: int) -> None:
    """Other draws from every fixed seed: what holds of a training holds of any, not of one by luck."""
    settings.load_profile("other draws")
    default_rng, manual_seed = np.random.default_rng, torch.manual_seed

    def other_rng(seed: Any = None) -> np.random.Generator:
        fixed = isinstance(seed, int | np.integer | list | tuple | np.ndarray)
        return default_rng([*np.atleast_1d(seed).tolist(), draws] if fixed else seed)

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed((seed + 7_368_787 * draws) % 2**63)

    np.random.default_rng = other_rng
    torch.manual_seed = lambda seed: manual_seed((seed + 7_368_787 * draws) % 2**63)
    torch.Generator = Generator  # type: ignore[misc]


Make = Callable[..., tuple[Micrograph, Detections]]


def make_discs(
    seed: int,
    *,
    count: int = 9,
    noise: float = 0.3,
    side: int = 96,
    name: str = "",
    pixel_size: float | None = 4.0,
) -> tuple[Micrograph, Detections]:
    """Bright discs on noise, and the truth; the more noise, the worse a detector does."""
    rng = np.random.default_rng([seed, count])
    pixels = noise * rng.standard_normal((side, side)).astype(np.float32)
    y, x = np.mgrid[:side, :side]
    cells = rng.permutation((side // 24) ** 2)[:count]
    masks = []
    for cell in cells:
        row, column = divmod(int(cell), side // 24)
        disc = np.hypot(y - 24 * row - 12, x - 24 * column - 12) <= rng.uniform(4, 8)
        rows, columns = np.flatnonzero(disc.any(1)), np.flatnonzero(disc.any(0))
        pixels[disc] += 1
        crop = disc[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        masks.append(InstanceMask(y=int(rows[0]), x=int(columns[0]), pixels=crop))
    boxes = np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4)
    truth = Detections(
        image_shape=(side, side), boxes_xyxy=boxes, scores=np.ones(len(boxes)), masks=tuple(masks)
    )
    micrograph = Micrograph(
        pixels=pixels.astype(np.float32), name=name or f"{seed}.tif", pixel_size=pixel_size
    )
    return micrograph, truth


@pytest.fixture(scope="session")
def discs() -> Make:
    """Maker of small micrographs with their truth."""
    return make_discs


@pytest.fixture(scope="session")
def uncalibrated() -> Bundle:
    return Bundle(
        name="discs", detector=SLIM, weights={}, score_threshold=0.5, training={"pixel_size": [2.0, 6.0]}
    )


@pytest.fixture(scope="session")
def bundle_path(uncalibrated: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle's file."""
    rows = []
    for i in range(60):
        level = (0.2, 0.3, 0.4, 2.5)[i % 4] * np.random.default_rng(i).uniform(0.7, 1.4)
        micrograph, truth = make_discs(i, count=6 + i % 8, noise=level)
        found = detect_discs(micrograph, uncalibrated)
        rows.append(calibration_row(micrograph, found, truth, domain="discs"))
    path = tmp_path_factory.mktemp("bundle") / "discs.safetensors"
    write_bundle(calibrate_bundle(uncalibrated, rows), path)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)


_simulate_once = functools.cache(simulate_cavities)


@pytest.fixture
def simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings on the same cavities share their images, which cost more than a few steps do."""
    monkeypatch.setattr("passband.detectors.train.simulate_cavities", _simulate_once)


@pytest.fixture
def fake_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `assess` and `calibrate` find discs without a network."""
    monkeypatch.setattr("passband.judge.verdict.detect", detect_discs)
    monkeypatch.setattr("passband.judge.verdict.detect_and_see", detect_discs_and_see)
