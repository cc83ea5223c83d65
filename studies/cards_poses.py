"""Poses and factors of cards: how well the generative part knows angle, scale and shear.

    python studies/cards_poses.py [--seeds 3] [--epochs 25]      six minutes a seed

800 labels at +-4 degrees, 12,000 unlabelled cards at +-180, protocol paper-notebook; 4,000 fresh test cards.
"Drawn" is the error of the angle a card was drawn with, "whole" that of the turn that angle and shear amount
to (`Affine.rotation` of `particles.warping`), and "between" how far the two are apart: by a card alone the
angle it was drawn with cannot be known better. Medians, degrees. Rank correlations are of the factor that has
the largest, the same for all cards of a suit.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from passband.particles.bundle import read_particle_model, write_particle_model
from passband.particles.cards import PROTOCOLS, SYMMETRY, angle_error, draw_cards, make_cards
from passband.particles.crop_sets import CropSet
from passband.particles.fit import ParticleConfig, fit_particle_model
from passband.particles.model import ParticleModel, describe_particles
from passband.particles.networks.train_rvae import RVAETraining
from passband.store.files import write_whole
from recovered_cards import drawn, labelled, templates

RESULTS = Path(__file__).parent / "results"
EPOCHS = 25


def learnt(seed: int, epochs: int) -> ParticleModel:
    """The model of a seed: that of an earlier run, or a new one."""
    path = Path(f"out/cards_180_{seed}_{epochs}.safetensors")
    if not path.exists():
        shapes = templates()
        images = list(shapes.values())
        crops, labels = labelled(images, 200, seed)
        others = drawn(images, 3000, 1000 + seed, angle=180)[0]
        training = RVAETraining(epochs=epochs, learning_rate=2e-3, seed=seed)
        known = CropSet(classes=tuple(shapes), labelled=crops, labels=labels, unlabelled=others)
        write_particle_model(fit_particle_model(known, ParticleConfig(training=training, seed=seed)), path)
    return read_particle_model(path)


def main() -> None:
    """Print and keep the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args()
    shapes = templates()
    names, images = tuple(shapes), list(shapes.values())
    lines = [f"{'seed suit':14}{'right':>8}{'drawn':>8}{'whole':>8}{'between':>8}{'scale':>8}{'shear':>8}"]
    every: list[list[float]] = []
    for seed in range(asked.seeds):
        model = learnt(seed, asked.epochs)
        far = replace(PROTOCOLS["paper-notebook"].unlabelled, angle=180)
        record = draw_cards(far, 1000, seed=6000 + seed)
        test = make_cards(record, images)
        d = describe_particles(model, test)
        symmetry = np.array([SYMMETRY.get(n, 1) for n in names])[record.suit]
        errors = [
            angle_error(d.angle.astype(float), a, symmetry)
            for a in (record.affine.angle, record.affine.rotation)
        ]
        errors.append(angle_error(record.affine.rotation, record.affine.angle, symmetry))
        right = d.answer.label == record.suit
        for k, name in enumerate(names):
            mine = (record.suit == k) & right
            scale = abs(spearmanr(d.scale[mine], record.affine.scale[mine])[0])
            shear = max(abs(spearmanr(z[mine], record.affine.strain[mine])[0]) for z in d.latent.T)
            of = record.suit == k
            row = [right[of].mean(), *(np.median(e[of]) for e in errors), scale, shear]
            every.append([float(v) for v in row])
            lines.append(f"{f'{seed} {name}':14}" + "".join(f"{v:8.3f}" for v in row))
        whole = [right.mean(), *(np.median(e) for e in errors)]
        lines.append(f"{f'{seed} all':14}" + "".join(f"{v:8.3f}" for v in whole))
        print("\n".join(lines), flush=True)
    lines.append(f"{'least':14}" + " " * 32 + "".join(f"{min(r[i] for r in every):8.3f}" for i in (4, 5)))
    write_whole(RESULTS / "cards_poses.txt", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
