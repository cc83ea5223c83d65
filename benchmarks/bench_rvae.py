"""The ss-rVAE of the reference setting beside pyroVED 0.3.0, and our classifier, in one run on one core.

    python benchmarks/bench_rvae.py [--memory ours|reference]

Processor time. The crops are cards, 48 x 48, batches of 64; pyroVED is timed over a few batches, in turn
with ours, and both are multiplied to an epoch of 12,000 unlabelled and 800 labelled crops: 188 and 13
batches. Peak memory is that of a process of its own that trains three batches, or that loads torch alone, or
makes an optimiser of `torch.optim`, which ours do without. The classifier is timed
from labelled crops to 99 % at 180 degrees, and in crops per second.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from passband.adam import Adam
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.particles.cards import PROTOCOLS, card_set, draw_cards, make_cards
from passband.particles.networks.fit_invariant import fit_classifier
from passband.particles.networks.harmonics import HarmonicSettings
from passband.particles.networks.invariant import ClassifierSettings, classify_crops
from passband.particles.networks.objective import Step, unlabelled_objective
from passband.particles.networks.rvae import RVAE, class_probabilities, reference_settings
from passband.particles.networks.train_rvae import REFERENCE_TRAINING

warnings.simplefilter("ignore")
torch.set_num_threads(1)
BATCHES = 188 + 13
BATCH = 64


def ours_step(images: torch.Tensor) -> Callable[[], None]:
    """One step on an unlabelled batch, with a classifier that has learnt to be sure."""
    model = RVAE(reference_settings(48, 4))
    optimizer = Adam(model.parameters(), learning_rate=REFERENCE_TRAINING.learning_rate)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        how = Step(1.0, REFERENCE_TRAINING.sampling, generator)
        optimizer.zero_grad()
        for some in images.split(16):  # as train_rvae does with four classes
            unlabelled_objective(model, some, class_probabilities(model, some), how).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def reference_step(images: torch.Tensor, *, invariant: bool = True) -> Callable[[], None]:
    """One step of pyroVED's trainer on the same batch."""
    import pyroved

    model = pyroved.models.ssiVAE(
        (48, 48), latent_dim=2, num_classes=4, invariances=["r", "t"] if invariant else None, device="cpu"
    )
    trainer = pyroved.trainers.auxSVItrainer(model, lr=5e-4, device="cpu")
    return lambda: trainer.compute_loss(images.flatten(1), scale_factor=1.0, aux_loss_multiplier=30)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


HIGH_WATER = "int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1e6"
"""GB that a process needed at most; getrusage counts its parent's pages too."""
OPTIMISER = "torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))])"


def process(*arguments: str) -> list[float]:
    """The numbers that a process of its own prints."""
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return [float(word) for word in run.stdout.split()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--memory", choices=("ours", "reference"))
    asked = parser.parse_args()
    record = draw_cards(PROTOCOLS["paper-notebook"].unlabelled, BATCH // 4, seed=0)
    images = torch.from_numpy(make_cards(record))
    if asked.memory:
        step = ours_step(images) if asked.memory == "ours" else reference_step(images)
        for _ in range(3):
            step()
        print(eval(HIGH_WATER))
        return
    print(f"torch {torch.__version__}, one thread; seconds of processor time")
    plain = reference_step(images, invariant=False)  # first, alone: Pyro has one store of parameters
    times = [seconds(lambda: [plain() for _ in range(5)]) / 5 for _ in range(5)]
    epoch = {"pyroVED ss-VAE": float(np.median(times[1:])) * BATCHES}
    theirs, mine = reference_step(images), ours_step(images)
    pairs = [(seconds(theirs), seconds(lambda: [mine() for _ in range(10)]) / 10) for _ in range(6)]
    slow, fast = np.median(pairs[1:], axis=0) * BATCHES
    epoch |= {"pyroVED ss-rVAE": float(slow), "ours, setting reference": float(fast)}
    for name, value in epoch.items():
        print(f"{name:28}{value:10.1f} s an epoch {slow / value:8.1f} x")
    keep_freed_memory()
    step = ours_step(images)
    kept = float(np.median([seconds(lambda: [step() for _ in range(10)]) / 10 for _ in range(5)])) * BATCHES
    print(f"{'ours, freed memory kept':28}{kept:10.1f} s an epoch {slow / kept:8.1f} x")
    for what in ("reference", "ours"):
        print(f"peak memory, {what:15}{process(__file__, '--memory', what)[0]:10.2f} GB")
    print(f"{'torch alone':28}{process('-c', f'import torch; print({HIGH_WATER})')[0]:10.2f} GB")
    clock = "time.process_time()"
    spent, needed = process(
        "-c", f"import time, torch; t = {clock}; {OPTIMISER}; print({clock} - t, {HIGH_WATER})"
    )
    print(f"{'torch and its first Adam':28}{needed:10.2f} GB, {spent:.1f} s")
    far = card_set("paper-notebook", angle=180, seed=1)
    assert far.test is not None and far.test_truth is not None
    for steps in (25, 50, 100):
        settings = ClassifierSettings(harmonics=HarmonicSettings(size=48), steps=steps, hidden=128)
        start = time.process_time()
        model = fit_classifier(far.labelled, far.labels, settings, classes=4).model
        spent = time.process_time() - start
        accuracy = float((classify_crops(model, far.test).label == far.test_truth).mean())
        print(f"classifier, {steps:4} steps{spent:19.1f} s, {accuracy:.4f} at 180 degrees")
    model = fit_classifier(
        far.labelled, far.labels, ClassifierSettings(harmonics=HarmonicSettings(size=48), steps=50), classes=4
    ).model
    many = np.concatenate([far.test] * 4)
    rates = [len(many) / seconds(lambda: classify_crops(model, many)) for _ in range(5)]
    print(f"classify {np.median(rates):24,.0f} crops/s")


if __name__ == "__main__":
    main()
