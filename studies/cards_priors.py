"""Priors of the angle compared: how well an rVAE that is told the classes knows the turn of cards.

    python studies/cards_priors.py [--epochs 8]      two minutes of a core a row

Unlabelled cards turned by +-180 degrees, 3,000 a suit, protocol paper-notebook, their suits given; 200
labelled ones a suit within 4 degrees say what upright is. Median error of the turn on 2,000 fresh cards,
modulo the suit's symmetry, the share that is off by more than 30 degrees, and the bound on -log p(x) at the
end. "From a start" is what `passband rvae fit` does: the encoder corrects the turn that correlates best with
the class's template. "Normal" is the reference's prior, in radians and not wrapped. The two circular priors
have a concentration of 0 here, at which both are uniform: their rows must agree. One seed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from passband.particles.cards import PROTOCOLS, SYMMETRY, angle_error, draw_cards, make_cards
from passband.particles.networks.rvae import RVAE, CropsAsClasses, RVAESettings
from passband.particles.networks.train_rvae import RVAETraining, train_rvae
from passband.store.files import write_whole
from recovered_cards import drawn, labelled, templates

RESULTS = Path(__file__).parent / "results"
EVERY = ("rotation", "translation", "scale")
ROWS = {
    "normal": RVAESettings(size=48, classes=4, invariances=EVERY, angle_prior="normal"),
    "projected normal": RVAESettings(size=48, classes=4, invariances=EVERY, angle_prior="projected-normal"),
    "von Mises": RVAESettings(size=48, classes=4, invariances=EVERY),
    "von Mises, from a start": RVAESettings(
        size=48, classes=4, invariances=EVERY, start_pose=True, angle_concentration=4.0
    ),
}


def turns(model: RVAE, images: np.ndarray, suits: np.ndarray) -> np.ndarray:
    """Of cards, degrees from upright."""
    label = torch.from_numpy(suits)
    with torch.inference_mode():
        found = model.encode(
            torch.from_numpy(images).clamp(0, 1), CropsAsClasses(torch.arange(len(label)), label)
        )
        turn = found.pose[:, 0] - model.upright(found.latent, label)[:, 0]
    return np.rad2deg(turn.numpy()).astype(float)


def main() -> None:
    """Print and keep the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    shapes = list(templates().values())
    crops, labels = labelled(shapes, 200, 0)
    others, suits = drawn(shapes, 3000, 1000, angle=180)
    record = draw_cards(replace(PROTOCOLS["paper-notebook"].unlabelled, angle=180), 500, seed=6500)
    test, symmetry = make_cards(record, shapes), np.array(list(SYMMETRY.values()))[record.suit]
    lines = [f"{f'after {asked.epochs} passes':28}{'median':>8}{'> 30':>8}{'bound':>8}"]
    for name, settings in ROWS.items():
        model = RVAE(settings)
        log = train_rvae(
            model,
            torch.from_numpy(crops).clamp(0, 1),
            torch.from_numpy(labels),
            torch.from_numpy(others).clamp(0, 1),
            RVAETraining(epochs=asked.epochs, learning_rate=2e-3),
            probabilities=torch.eye(4)[torch.from_numpy(suits)],
        )
        error = angle_error(turns(model, test, record.suit), record.affine.rotation, symmetry)
        row = f"{np.median(error):8.2f}{(error > 30).mean():8.3f}{log[-1].bound:8.1f}"
        lines.append(f"{name:28}{row}")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    write_whole(RESULTS / "cards_priors.txt", text)
    print(text)


if __name__ == "__main__":
    main()
