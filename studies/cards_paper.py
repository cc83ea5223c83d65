"""The experiments of the paper on the cards, for the reference model and for ours.

    python studies/cards_paper.py [FOLDER] [--epochs 30]      default out/cards_paper; half an hour a core

Takes ss-VAE and ss-rVAE by the reference's recipe (`cards_curve.py`) and our classifier, trained on one set
(protocol paper-notebook, 800 labels at +-4 degrees, 12,000 unlabelled cards at +-60), and tests all three on
fresh cards: over turns (Figure 3a; there each point has a training of its own), over shear and turns (4a,
beside the published values), confusion (4b, c), background noise (4e), density and intensity of
contamination (4f). A run that was stopped goes on. The recovered templates are used where PASSBAND_DATA has
them, else the suits drawn here.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cards_curve import reference_model
from particle_figures import (
    AccuracyLine,
    draw_accuracy_curve,
    draw_accuracy_map,
    draw_confusion,
    draw_manifold,
)
from passband.drawing.saving import save_figure
from passband.particles.bundle import read_particle_model, write_particle_model
from passband.particles.cards import PROTOCOLS, card_set, draw_cards, make_cards
from passband.particles.fit import ParticleConfig, fit_particle_model
from passband.particles.model import ParticleModel, classify_particles, traverse
from passband.store.files import write_whole
from recovered_cards import templates

RESULTS = Path(__file__).parent / "results"
ANGLES = np.array([0, 24, 48, 60, 72, 84, 96, 120, 144, 180])
PUBLISHED = np.array([0.977, 0.944, 0.899, 0.873, 0.823, 0.78, 0.748, 0.717, 0.693, 0.666])
"""Figure 4a of doi:10.1039/d3dd00196b in the row of the training's shear."""
NOISE = np.array([0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
DENSITY, INTENSITY = np.array([0, 0.05, 0.1, 0.2, 0.3]), np.array([0.5, 1.0, 2.0])
SHEAR = np.arange(0, 31, 5)
TEST = 500


class Bench:
    """Fresh test cards and accuracies on them."""

    def __init__(self, shapes: list[np.ndarray]) -> None:
        self.shapes, self.seed = shapes, 70_000

    def cards(self, **changes: object) -> tuple[np.ndarray, np.ndarray]:
        """Test cards whose disorder differs so from the protocol's; new ones at each call."""
        self.seed += 1
        disorder = replace(PROTOCOLS["paper-notebook"].unlabelled, **changes)  # type: ignore[arg-type]
        record = draw_cards(disorder, TEST, seed=self.seed)
        return make_cards(record, self.shapes), record.suit

    def over(self, models: dict[str, ParticleModel], draws: list[dict[str, object]]) -> dict[str, np.ndarray]:
        """Accuracy of each model on each draw; all see the same cards."""
        out: dict[str, list[float]] = {name: [] for name in models}
        for changes in draws:
            images, truth = self.cards(**changes)
            for name, model in models.items():
                out[name].append(float((classify_particles(model, images).label == truth).mean()))
        return {name: np.array(values) for name, values in out.items()}


def train(folder: Path, epochs: int) -> dict[str, ParticleModel]:
    """The three models: those of an earlier run, or new ones."""
    path = folder / "ours.safetensors"
    if not path.exists():
        cards = card_set("paper-notebook", angle=60, seed=0, templates=templates())
        model = fit_particle_model(cards, ParticleConfig(name="ours", generative=False))
        write_particle_model(model, path)
    models = {"ours": read_particle_model(path)}
    return models | {name: reference_model(name, 0, epochs) for name in ("ss-VAE", "ss-rVAE")}


def main() -> None:
    """Train, test, draw, write the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("out/cards_paper"))
    parser.add_argument("--epochs", type=int, default=30)
    asked = parser.parse_args()
    folder: Path = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    models, bench = train(folder, asked.epochs), Bench(list(templates().values()))
    lines = [f"trained for {asked.epochs} epochs on seed 0; {4 * TEST} fresh cards a number"]

    def table(title: str, head: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        lines.extend(["", f"{title:24}" + "".join(f"{h:8g}" for h in head)])
        lines.extend(f"{n:24}" + "".join(f"{v:8.3f}" for v in values) for n, values in rows.items())

    turns = bench.over(models, [{"angle": float(a)} for a in ANGLES])
    table("greatest turn", ANGLES, {**turns, "published ss-rVAE": PUBLISHED})
    curves = [AccuracyLine(name=n, disorder=ANGLES.astype(float), accuracy=v) for n, v in turns.items()]
    curves.append(
        AccuracyLine(
            name="ss-rVAE, published", disorder=ANGLES.astype(float), accuracy=PUBLISHED, published=True
        )
    )
    save_figure(draw_accuracy_curve(curves), folder / "turns.png")
    noise = bench.over(models, [{"noise": float(s)} for s in NOISE])
    table("noise at 60 degrees", NOISE, noise)
    lined = [AccuracyLine(name=n, disorder=NOISE, accuracy=v) for n, v in noise.items()]
    save_figure(draw_accuracy_curve(lined, disorder="noise (standard deviation)"), folder / "noise.png")
    for intensity in INTENSITY:
        draws = [{"contamination": float(d), "contamination_intensity": float(intensity)} for d in DENSITY]
        table(f"contamination of {intensity:g}", DENSITY, bench.over(models, draws))
    at = ANGLES[[0, 3, 6, 7, 9]]
    maps: dict[str, list[np.ndarray]] = {n: [] for n in models}
    for shear in SHEAR:
        found = bench.over(models, [{"angle": float(a), "shear": (0.0, float(shear))} for a in at])
        for n in models:
            maps[n].append(found[n])
    for n in models:
        table(f"{n}: shear, turn", at, {f"  {s} degrees": row for s, row in zip(SHEAR, maps[n], strict=True)})
        figure = draw_accuracy_map(np.array(maps[n]), SHEAR.astype(float), at.astype(float))
        save_figure(figure, folder / f"map_{n}.png")
        images, truth = bench.cards(angle=60.0)
        said, counts = classify_particles(models[n], images).label, np.zeros((4, 4), int)
        np.add.at(counts, (truth, said), 1)
        save_figure(draw_confusion(counts, models[n].classes), folder / f"confusion_{n}.png")
        if models[n].generator is not None:
            values = np.linspace(-2, 2, 9)
            for factor in (0, 1):
                rows = np.stack([traverse(models[n], k, factor, values) for k in range(4)])
                figure = draw_manifold(rows, models[n].classes, values, factor=f"{n}: factor {factor + 1}")
                save_figure(figure, folder / f"manifold_{n}_{factor + 1}.png")
    text = "\n".join(lines) + "\n"
    write_whole(folder / "cards_paper.txt", text)
    if os.environ.get("PASSBAND_DATA"):
        write_whole(RESULTS / "cards_paper.txt", text)
    print(text)


if __name__ == "__main__":
    main()
