"""Learn the four suits from 15 labelled cards each, turned by any angle, and show what was learnt.

    python studies/cards.py [FOLDER]      default out/cards

60 labelled cards within 4 degrees of upright, 4,000 unlabelled and 4,000 test cards turned by anything up to
180 degrees, with shear, scale and shifts (protocol paper-notebook, suits drawn here). Beside the
model: what a support vector machine on polar Fourier magnitudes makes of the same 60 labels. The film shows
the first factor of each suit pass by pass, and how many cards the generative part alone explains best by
their own suit.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from cards_methods import polar_svm
from film import TrainingFrame, animate_training
from particle_figures import (
    draw_confusion,
    draw_latent_map,
    draw_manifold,
)
from passband.drawing.saving import save_figure
from passband.particles.bundle import write_particle_model
from passband.particles.cards import (
    PROTOCOLS,
    STRANGERS,
    SYMMETRY,
    angle_error,
    draw_cards,
    draw_template,
    draw_templates,
    make_cards,
)
from passband.particles.crop_sets import CropSet
from passband.particles.fit import ParticleConfig, fit_particle_model
from passband.particles.library.figures import draw_crops
from passband.particles.model import (
    ParticleModel,
    classify_particles,
    describe_particles,
    explained_best,
    reconstruct,
    traverse,
)
from passband.particles.networks.rvae import RVAE
from passband.particles.networks.train_rvae import Epoch, RVAETraining

LABELLED, UNLABELLED, TEST = 15, 1000, 1000
STEPS = np.linspace(-2, 2, 9)


def cards(seed: int) -> tuple[CropSet, object]:
    """What is learnt from, and the record of the test cards."""
    far = replace(PROTOCOLS["paper-notebook"].unlabelled, angle=180)
    near = draw_cards(PROTOCOLS["paper-notebook"].labelled, LABELLED, seed=seed)
    others = draw_cards(far, UNLABELLED, seed=seed + 1)
    test = draw_cards(far, TEST, seed=seed + 2)
    return (
        CropSet(
            classes=tuple(draw_templates()),
            labelled=make_cards(near),
            labels=near.suit,
            unlabelled=make_cards(others),
            test=make_cards(test),
            test_truth=test.suit,
        ),
        test,
    )


def manifold(model: ParticleModel, factor: int | str, values: np.ndarray) -> np.ndarray:
    """Every class (row) as one factor takes values (columns)."""
    return np.stack([traverse(model, k, factor, values) for k in range(len(model.classes))])


def main(folder: Path) -> None:
    """Train, measure, draw."""
    torch.set_num_threads(1)
    crops, record = cards(seed=11)
    frames: list[TrainingFrame] = []
    began = time.process_time()

    explained: list[float] = []
    assert crops.test is not None and crops.test_truth is not None and crops.unlabelled is not None
    few, theirs = crops.test[:200], crops.test_truth[:200]

    def watch(generator: RVAE, epoch: Epoch) -> None:
        seen = ParticleModel(name="", classes=crops.classes, classifier=None, generator=generator)
        explained.append(float((explained_best(seen, few) == theirs).mean()))
        frames.append(TrainingFrame(manifold=manifold(seen, 0, STEPS), accuracy=tuple(explained)))
        print(f"pass {epoch.number:2}: bound {epoch.bound:6.1f} nats, {epoch.seconds:4.0f} s", flush=True)

    config = ParticleConfig(name="cards", training=RVAETraining(epochs=30, learning_rate=2e-3), seed=1)
    model = fit_particle_model(crops, config, folder=folder / "run", on_epoch=watch)
    write_particle_model(model, folder / "cards.safetensors")
    print(f"trained in {time.process_time() - began:.0f} s of processor time")
    animate_training(frames, folder / "training.gif")
    report(model, crops, record, folder)


def report(model: ParticleModel, crops: CropSet, record: object, folder: Path) -> None:
    """Numbers and pictures."""
    assert crops.test is not None and crops.test_truth is not None and crops.unlabelled is not None
    d = describe_particles(model, crops.test)
    truth, said = crops.test_truth, d.answer.label
    baseline = polar_svm(crops.labelled, crops.labels, crops.unlabelled, 0)(crops.test).argmax(1)
    strange = make_cards(
        draw_cards(replace(PROTOCOLS["paper-notebook"].unlabelled, angle=180), 250, seed=99),
        [draw_template(s) for s in STRANGERS.values()],
    )
    rejected = classify_particles(model, strange).rejected.mean()
    print(f"{'accuracy at any angle':44}{(said == truth).mean():.4f}")
    print(f"{'  polar Fourier + SVM, the same labels':44}{(baseline == truth).mean():.4f}")
    print(f"{'  published for 200 labels a class':44}0.67")
    print(f"{'rejected: cards / shapes never seen':44}{d.answer.rejected.mean():.3f} / {rejected:.3f}")
    affine = record.affine  # type: ignore[attr-defined]
    symmetry = np.array([SYMMETRY[c] for c in crops.classes])[truth]
    for name, angle in (("drawn angle", affine.angle), ("turn with shear", affine.rotation)):
        error = np.median(angle_error(d.angle.astype(float), angle, symmetry))
        print(f"{'median error of the angle, ' + name:44}{error:.2f} degrees")
    for k, suit in enumerate(crops.classes):
        mine = (truth == k) & (said == k)
        scale = abs(spearmanr(d.scale[mine], affine.scale[mine])[0])
        shear = [abs(spearmanr(z[mine], affine.strain[mine])[0]) for z in d.latent.T]
        print(f"{suit:10} rank correlation: scale {scale:.3f}, shear with its factor {max(shear):.3f}")
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (truth, said), 1)
    save_figure(draw_confusion(counts, crops.classes), folder / "confusion.png")
    for factor, values in ((0, STEPS), (1, STEPS), ("scale", np.linspace(0.85, 1.15, 9))):
        name = f"factor {factor + 1}" if isinstance(factor, int) else factor
        figure = draw_manifold(manifold(model, factor, values), crops.classes, values, factor=name)
        save_figure(figure, folder / f"manifold_{name.replace(' ', '_')}.png")
    some = np.arange(16)
    both = np.stack([crops.test[some], reconstruct(model, d)[some]], 1).reshape(-1, 48, 48).clip(0, 1)
    captions = [c for i in some for c in (crops.classes[truth[i]], f"{d.angle[i]:.0f}°, x {d.scale[i]:.2f}")]
    save_figure(
        draw_crops(both, captions, columns=8, title="cards and their reconstructions"), folder / "cards.png"
    )
    save_figure(draw_latent_map(d.latent[:, :2], said, crops.classes), folder / "latent.png")
    print(f"pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/cards"))
