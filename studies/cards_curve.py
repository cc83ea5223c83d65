"""How ss-VAE and ss-rVAE learn by the setting reference: accuracy over the passes, beside the paper's.

    python studies/cards_curve.py [--seeds 3] [--only SEED] [--epochs 30]      ten minutes of a core a seed
    python studies/cards_curve.py --film [--only SEED] [--epochs 10]           both trainings as films

Protocol paper-notebook: 800 labels at +-4 degrees, 12,000 unlabelled cards at +-60, 4,000 test cards of
another seed. `--only` trains one seed, so that two cores can share the work; a run that was stopped goes on,
and then its film shows the passes of the last start. A film has a frame a pass: each class as the first
factor goes from -2 to 2 standard deviations, and the accuracy so far.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from film import TrainingFrame, animate_training
from passband.particles.bundle import read_particle_model, write_particle_model
from passband.particles.cards import card_set
from passband.particles.fit import ParticleConfig, fit_particle_model
from passband.particles.model import ParticleModel, classify_particles, traverse
from passband.particles.networks.rvae import RVAE
from passband.particles.networks.train_rvae import REFERENCE_TRAINING, Epoch
from passband.store.files import write_whole
from recovered_cards import templates

RESULTS = Path(__file__).parent / "results"
FOLDER = Path("out/cards_curve")
PUBLISHED = {1: 0.29, 2: 0.47, 5: 0.57, 10: 0.60, 20: 0.83, 30: 0.86}
"""Of ss-rVAE, in the notebook of doi:10.1039/d3dd00196b that made its figures."""
KINDS: dict[str, tuple[str, ...]] = {"ss-rVAE": ("rotation", "translation"), "ss-VAE": ()}


def reference_model(name: str, seed: int, epochs: int) -> ParticleModel:
    """The model of a seed, its curve kept beside it: that of an earlier run, or a new one."""
    path = FOLDER / f"{name}_{seed}_{epochs}.safetensors"
    if path.exists():
        return read_particle_model(path)
    cards = card_set("paper-notebook", angle=60, seed=seed, templates=templates())
    images, truth = cards.test, cards.test_truth
    assert images is not None
    curve = FOLDER / f"{name}_{seed}_{epochs}.csv"
    curve.parent.mkdir(parents=True, exist_ok=True)

    accuracies: list[float] = []
    frames: list[TrainingFrame] = []

    def tell(generator: RVAE, epoch: Epoch) -> None:
        seen = ParticleModel(name="", classes=cards.classes, classifier=None, generator=generator)
        accuracy = float((classify_particles(seen, images).label == truth).mean())
        print(f"{name} seed {seed} epoch {epoch.number}: {accuracy:.3f}, {epoch.seconds:.0f} s", flush=True)
        accuracies.append(accuracy)
        rows = np.stack([traverse(seen, k, 0, np.linspace(-2, 2, 5)) for k in range(len(cards.classes))])
        frames.append(TrainingFrame(manifold=rows, accuracy=tuple(accuracies)))
        kept = curve.read_text().splitlines()[: epoch.number - 1] if curve.exists() else []
        write_whole(curve, "\n".join([*kept, f"{epoch.number},{accuracy:.4f},{epoch.seconds:.1f}"]) + "\n")

    training = replace(REFERENCE_TRAINING, epochs=epochs, seed=seed)
    config = ParticleConfig(name=name, reference=True, invariances=KINDS[name], training=training, seed=seed)
    run = FOLDER / f"{name}_{seed}_{epochs}"
    model = fit_particle_model(cards, config, folder=run, on_epoch=tell)
    if frames:
        animate_training(frames, path.with_suffix(".gif"))
    write_particle_model(model, path)
    return read_particle_model(path)


def curve_of(name: str, seed: int, epochs: int) -> np.ndarray:
    """Accuracy and seconds of processor time after each pass, (epochs, 2)."""
    reference_model(name, seed, epochs)
    with (FOLDER / f"{name}_{seed}_{epochs}.csv").open() as f:
        return np.array([[float(r[1]), float(r[2])] for r in csv.reader(f)])


def main() -> None:
    """Train, print and keep the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--film", action="store_true", help="ten passes of both kinds, and no table")
    asked = parser.parse_args()
    if asked.film:
        for name in KINDS:
            reference_model(name, asked.only or 0, asked.epochs or 10)
        return
    asked.epochs = asked.epochs or 30
    if asked.only is not None:
        reference_model("ss-rVAE", asked.only, asked.epochs)
        return
    at = [e for e in PUBLISHED if e <= asked.epochs]
    lines = [f"{'accuracy after pass':20}" + "".join(f"{e:7d}" for e in at) + "   s a pass  s to 86 %"]
    curves = {("ss-rVAE", seed): curve_of("ss-rVAE", seed, asked.epochs) for seed in range(asked.seeds)}
    curves["ss-VAE", 0] = curve_of("ss-VAE", 0, asked.epochs)
    for (name, seed), curve in curves.items():
        there = np.flatnonzero(curve[:, 0] >= 0.86)
        spent = f"{curve[there[0], 1]:10.0f}" if len(there) else f"{'-':>10}"
        row = "".join(f"{curve[e - 1, 0]:7.3f}" for e in at)
        lines.append(f"{f'{name}, seed {seed}':20}{row}{curve[-1, 1] / len(curve):11.1f}{spent}")
    mean = np.mean([c[:, 0] for (name, _), c in curves.items() if name == "ss-rVAE"], axis=0)
    lines.append(f"{'ss-rVAE, mean':20}" + "".join(f"{mean[e - 1]:7.3f}" for e in at))
    lines.append(f"{'ss-rVAE, published':20}" + "".join(f"{PUBLISHED[e]:7.3f}" for e in at))
    text = "\n".join(lines) + "\n"
    write_whole(RESULTS / "cards_curve.txt", text)
    print(text)


if __name__ == "__main__":
    main()
