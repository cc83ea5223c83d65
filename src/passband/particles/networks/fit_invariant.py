"""Fitting of the classifier of `invariant`: deformed crops, noise, one loop, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as nnf

from passband.adam import Adam, one_cycle
from passband.errors import ParameterError
from passband.particles.networks.harmonics import harmonic_basis, harmonics, invariants
from passband.particles.networks.invariant import (
    BATCH,
    LEVELS,
    ClassifierSettings,
    InvariantClassifier,
    classify_crops,
    roughness,
)
from passband.particles.networks.warping import Affine, deform
from passband.types import Progress

_AT_EACH = 3000
_SHRINKAGE = 0.1
_CALIBRATION_SHARE = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedClassifier:
    """A classifier and what fitting it showed.

    Parameters
    ----------
    model
        The classifier.
    held_out_accuracy
        On labelled crops kept from a first fit, deformed by the nuisances; NaN with too few to keep any.
    pseudo_labelled
        Unlabelled crops that the second round learnt from.
    """

    model: InvariantClassifier
    held_out_accuracy: float
    pseudo_labelled: int


@torch.random.fork_rng(devices=[])
def fit_classifier(
    labelled: Float32[np.ndarray, "n y x"],
    labels: Int[np.ndarray, " n"],
    settings: ClassifierSettings,
    *,
    classes: int,
    unlabelled: Float32[np.ndarray, "m y x"] | None = None,
    progress: Progress | None = None,
) -> FittedClassifier:
    """Fit a classifier to labelled crops, and to unlabelled ones it then is sure of.

    A quarter of the labelled crops, where each class has at least four, is kept from a first fit to
    measure its accuracy, to calibrate probabilities (a temperature) and to set the reach beyond which a
    crop is rejected; the final fit has all. With fewer the labelled crops themselves set the reach.

    Parameters
    ----------
    labelled, labels
        Crops and the number of each one's class.
    settings
        What to fit.
    classes
        How many there are; each must have a labelled crop.
    unlabelled
        Other crops, or None.
    progress
        Called as work goes on.

    Raises
    ------
    ParameterError
        If a class has no label, or there are fewer than two.
    """
    _refuse(labelled, labels, classes, settings.harmonics.size)
    report = progress or (lambda what, done, total: None)
    pool = deformed_pool(labelled, labels, settings, seed=settings.seed)
    rng = np.random.default_rng([settings.seed, 3])
    kept = _kept(labels, classes, rng)
    accuracy, temperature = float("nan"), torch.ones(())
    reach = None
    if kept.any():
        inside, outside = _part(pool, ~kept), _part(pool, kept)
        first = InvariantClassifier(settings, classes)
        _train(first, [inside], settings, report, "fit to three quarters")
        _learn_spreads(first, inside)
        accuracy, temperature, reach = _calibrate(first, outside, settings)
    model = InvariantClassifier(settings, classes)
    _train(model, [pool], settings, report, "fit")
    sure = 0
    few = np.bincount(labels, minlength=classes).min() < settings.self_training
    if unlabelled is not None and len(unlabelled) and few:
        _learn_distances(model, pool)
        pseudo = _pseudo_labels(model, unlabelled, settings)
        if pseudo is not None:
            sure = len(np.unique(pseudo.source))
            _train(model, [pool, pseudo], settings, report, "fit with unlabelled crops")
            pool = _joined(pool, pseudo)
    _learn_distances(model, pool)
    model.temperature.copy_(temperature)
    if reach is not None:
        model.reach.copy_(torch.maximum(model.reach, reach))
    model.eval()
    return FittedClassifier(model=model, held_out_accuracy=accuracy, pseudo_labelled=sure)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Circular harmonics of deformed crops, without noise, and the roughness of these.

    ``source`` is the crop that each was made from.
    """

    coefficients: Float32[Tensor, "p c"]
    roughness: Float32[Tensor, " p"]
    labels: Int[Tensor, " p"]
    source: Int[np.ndarray, " p"]


def deformed_pool(
    crops: Float32[np.ndarray, "n y x"],
    labels: Int[np.ndarray, " n"],
    settings: ClassifierSettings,
    *,
    seed: int,
    size: int | None = None,
) -> Pool:
    """Deform crops by the nuisances and by turns, and keep the circular harmonics of the results.

    About ``size`` of them, each crop as often as another and at least once; `ClassifierSettings.pool` if not
    given.
    """
    rng = np.random.default_rng([seed, 1])
    nuisances, side = settings.nuisances, settings.harmonics.size
    copies = max(1, round((settings.pool if size is None else size) / max(len(crops), 1)))
    source = np.tile(np.arange(len(crops)), copies)
    parts, rough = [], []
    for i in range(0, len(source), BATCH):
        of = source[i : i + BATCH]
        n, full = len(of), nuisances.shift * side
        affine = Affine(
            angle=rng.uniform(-180, 180, n),
            shear_x=rng.uniform(-nuisances.shear, nuisances.shear, n),
            shear_y=rng.uniform(-nuisances.shear, nuisances.shear, n),
            scale=1 + rng.uniform(-nuisances.scale, nuisances.scale, n),
            shift_x=rng.uniform(-full, full, n),
            shift_y=rng.uniform(-full, full, n),
        )
        images = crops[of]
        if nuisances.mirrored:
            images = np.where(rng.random(n)[:, None, None] < 0.5, images[:, :, ::-1], images)
        moved = deform(torch.from_numpy(images), affine, side)
        parts.append(harmonics(moved, settings.harmonics))
        rough.append(roughness(moved))
    return Pool(
        coefficients=torch.cat(parts),
        roughness=torch.cat(rough),
        labels=torch.from_numpy(labels[source]),
        source=source,
    )


class _Noise:
    """Noise and contamination of crops, drawn for their harmonics: a linear map of white noise.

    Harmonics of noise are Gaussian with the covariance of the basis. A random share of pixels at a constant
    is, over a ring, nearly Gaussian too, about the share.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        basis = harmonic_basis(settings.harmonics).double()
        covariance = basis.T @ basis
        values, vectors = torch.linalg.eigh(covariance)
        self.root = (vectors * values.clamp(min=0).sqrt()).T.float()
        self.total = basis.sum(0).float()
        self.nuisances = settings.nuisances

    def add(self, coefficients: Tensor, generator: torch.Generator) -> Tensor:
        """With noise and contamination as the nuisances have them."""
        n, ranges = len(coefficients), torch.tensor(self.nuisances.noise)
        chance = torch.rand(n, 4, generator=generator)
        low, high = ranges[torch.randint(len(ranges), (n,), generator=generator)].T
        spread = torch.where(chance[:, 0] < 0.5, low + (high - low) * chance[:, 1], torch.zeros(n))
        share = self.nuisances.contamination * chance[:, 3] * (chance[:, 2] < 0.25)
        width = (spread**2 + share * (1 - share)).sqrt()[:, None]
        return self.at(coefficients + share[:, None] * self.total, width, generator)

    def at(self, coefficients: Tensor, width: Tensor | float, generator: torch.Generator) -> Tensor:
        """With white noise of a standard deviation."""
        white = torch.randn(coefficients.shape, generator=generator)
        noisy: Tensor = coefficients + width * (white @ self.root)
        return noisy


def _train(
    model: InvariantClassifier,
    pools: list[Pool],
    settings: ClassifierSettings,
    report: Progress,
    what: str,
) -> None:
    """The one loop: a batch of each pool, noise on top, cross-entropy."""
    generator = torch.Generator().manual_seed(settings.seed)
    noise = _Noise(settings)
    with torch.no_grad():
        seen = invariants(noise.add(pools[0].coefficients, generator), settings.harmonics)
        model.mean.copy_(seen.mean(0))
        model.spread.copy_(seen.std(0).clamp(min=1e-3 * float(seen.std())))
    torch.manual_seed(settings.seed)
    for layer in model.network:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    optimizer = Adam(model.parameters(), learning_rate=settings.learning_rate, weight_decay=1e-2)
    classes = [
        [m for k in range(model.classes) if len(m := torch.nonzero(p.labels == k)[:, 0])] for p in pools
    ]
    each = settings.batch // len(pools)
    model.train()
    for step in range(settings.steps):
        one_cycle(optimizer, step, settings.steps, settings.learning_rate)
        coefficients, labels = [], []
        for pool, members in zip(pools, classes, strict=True):
            chosen = torch.cat([_some(m, each // len(members) + 1, generator) for m in members])
            coefficients.append(pool.coefficients[chosen])
            labels.append(pool.labels[chosen])
        features = model.features(noise.add(torch.cat(coefficients), generator))
        loss = nnf.cross_entropy(model.network(features), torch.cat(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == settings.steps:
            report(what, step + 1, settings.steps)


def _some(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return members[torch.randint(len(members), (count,), generator=generator)]


@torch.no_grad()
def _learn_distances(model: InvariantClassifier, pool: Pool) -> None:
    """Centres, spreads, and what few distances exceed."""
    _learn_spreads(model, pool)
    model.reach.copy_(_reach(model, pool))


@torch.no_grad()
def _learn_spreads(model: InvariantClassifier, pool: Pool) -> None:
    """Centres of the classes and the spread within them, of crops with and without noise."""
    generator = torch.Generator().manual_seed(model.settings.seed + 2)
    f = model.features(_Noise(model.settings).add(pool.coefficients, generator)).double()
    centres = torch.stack([f[pool.labels == k].mean(0) for k in range(model.classes)])
    within = f - centres[pool.labels]
    covariance = within.T @ within / len(within)
    level = covariance.diagonal().mean()
    eye = torch.eye(len(covariance), dtype=torch.float64)
    values, vectors = torch.linalg.eigh((1 - _SHRINKAGE) * covariance + _SHRINKAGE * level * eye)
    whitening = vectors / values.sqrt()
    model.whitening.copy_(whitening)
    model.centres.copy_(centres @ whitening)
    model.edges.copy_(pool.roughness.mean())


@torch.no_grad()
def _calibrate(
    model: InvariantClassifier, pool: Pool, settings: ClassifierSettings
) -> tuple[float, Tensor, Tensor]:
    """Accuracy, temperature and reach on crops that the model has not seen."""
    generator = torch.Generator().manual_seed(settings.seed + 1)
    noisy = _Noise(settings).add(pool.coefficients, generator)
    logits = model.network(model.features(noisy))
    temperatures = torch.logspace(-0.7, 1.3, 81)
    losses = torch.stack([nnf.cross_entropy(logits / t, pool.labels) for t in temperatures])
    accuracy = float((logits.argmax(1) == pool.labels).float().mean())
    return accuracy, temperatures[losses.argmin()], _reach(model, pool)


@torch.no_grad()
def _reach(model: InvariantClassifier, pool: Pool) -> Tensor:
    """The distance that few crops of a pool exceed, at each level of noise."""
    generator = torch.Generator().manual_seed(model.settings.seed + 3)
    chosen = torch.randperm(len(pool.labels), generator=generator)[:_AT_EACH]
    noise, reach = _Noise(model.settings), []
    for level in LEVELS:
        f = model.features(noise.at(pool.coefficients[chosen], level, generator))
        reach.append(torch.quantile(model.raw_distance(f), 1 - model.settings.rejected))
    return torch.stack(reach)


def _pseudo_labels(
    model: InvariantClassifier, crops: Float32[np.ndarray, "m y x"], settings: ClassifierSettings
) -> Pool | None:
    """Unlabelled crops that the model is sure of, and that are like the labelled ones."""
    answer = classify_crops(model, crops)
    sure = np.flatnonzero((answer.probabilities.max(1) > 0.9) & (answer.distance < 1.5))
    if not len(sure):
        return None
    rng = np.random.default_rng([settings.seed, 2])
    chosen = np.sort(rng.choice(sure, min(len(sure), settings.pool), replace=False))
    return deformed_pool(crops[chosen], answer.label[chosen], settings, seed=settings.seed + 1)


def _joined(a: Pool, b: Pool) -> Pool:
    return Pool(
        coefficients=torch.cat([a.coefficients, b.coefficients]),
        roughness=torch.cat([a.roughness, b.roughness]),
        labels=torch.cat([a.labels, b.labels]),
        source=np.concatenate([a.source, b.source]),
    )


def _part(pool: Pool, of: Bool[np.ndarray, " n"]) -> Pool:
    chosen = np.flatnonzero(of[pool.source])
    return Pool(
        coefficients=pool.coefficients[chosen],
        roughness=pool.roughness[chosen],
        labels=pool.labels[chosen],
        source=pool.source[chosen],
    )


def _kept(labels: np.ndarray, classes: int, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    """A quarter of each class, or none at all if a class has fewer than four."""
    kept = np.zeros(len(labels), bool)
    members = [np.flatnonzero(labels == k) for k in range(classes)]
    if min(map(len, members)) >= 4:
        for m in members:
            kept[rng.choice(m, max(1, int(_CALIBRATION_SHARE * len(m))), replace=False)] = True
    return kept


def _refuse(crops: np.ndarray, labels: np.ndarray, classes: int, size: int) -> None:
    faults = []
    if crops.ndim != 3 or crops.shape[1:] != (size, size):
        faults.append(f"crops of shape {crops.shape}, wanted (n, {size}, {size})")
    elif not np.isfinite(crops).all():
        faults.append("some labelled crops hold values that are not finite")
    elif len(crops) and not np.ptp(crops, axis=(1, 2)).any():
        faults.append("every labelled crop is constant: there is nothing to tell them apart by")
    if len(crops) != len(labels):
        faults.append(f"{len(crops)} labelled crops but {len(labels)} labels")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        faults.append(f"labels must be 0 to {classes - 1}")
    if classes < 2:
        faults.append(f"{classes} class: at least two are wanted")
    if not len(labels):
        faults.append("no labels: label a few crops of each class")
    else:
        missing = sorted(set(range(classes)) - set(np.asarray(labels).tolist()))
        if missing:
            faults.append(f"no labelled crop of class {', '.join(map(str, missing))}")
    if faults:
        raise ParameterError("classifier: " + "; ".join(faults))
