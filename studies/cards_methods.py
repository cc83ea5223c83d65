"""What else a person would try on the cards, each as a function of labelled and unlabelled crops.

A method takes labelled crops (n, 48, 48), labels, unlabelled crops and a seed, and gives a function from
crops to class scores (n, 4), the largest being the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from passband.particles.networks.alignment import centroids, move_back
from passband.particles.networks.fit_invariant import fit_classifier
from passband.particles.networks.harmonics import HarmonicSettings, harmonics
from passband.particles.networks.invariant import (
    Classification,
    ClassifierSettings,
    InvariantClassifier,
    classify_crops,
)
from passband.particles.networks.warping import Affine, deform

Scores = Callable[[np.ndarray], np.ndarray]
Method = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Scores]
SETTINGS = HarmonicSettings(size=48)


class _Ours:
    """Probabilities, and the whole answer where it is asked for."""

    def __init__(self, model: InvariantClassifier) -> None:
        self.model = model

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        return self.answer(crops).probabilities

    def answer(self, crops: np.ndarray) -> Classification:
        """With distances."""
        return classify_crops(self.model, crops)


def ours(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
    """Circular harmonics, their invariants, a small network, self-training."""
    settings = ClassifierSettings(harmonics=SETTINGS, seed=seed)
    model = fit_classifier(crops, labels, settings, classes=4, unlabelled=unlabelled).model
    return _Ours(model)


def ours_labelled_only(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
    """The same without a look at unlabelled crops."""
    return ours(crops, labels, unlabelled[:0], seed)


def ours_in_seconds(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
    """The same with 100 steps, and no noise or unlabelled crops."""
    settings = ClassifierSettings(harmonics=SETTINGS, seed=seed, steps=100, hidden=128)
    model = fit_classifier(crops, labels, settings, classes=4).model
    return _Ours(model)


def _moved(x: torch.Tensor, rng: np.random.Generator, *, affine: bool) -> torch.Tensor:
    n, wide = len(x), float(affine)
    how = Affine(
        angle=rng.uniform(-180, 180, n),
        shear_x=wide * rng.uniform(-10, 10, n),
        shear_y=wide * rng.uniform(-10, 10, n),
        scale=1 + wide * rng.uniform(-0.1, 0.1, n),
        shift_x=wide * rng.uniform(-4.8, 4.8, n),
        shift_y=wide * rng.uniform(-4.8, 4.8, n),
    )
    return deform(x, how, 48)


def _noised(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Noise and contamination as `passband.particles.networks.invariant.Nuisances` draws them."""
    n = len(x)
    low, high = np.array([(0.0, 0.3), (0.5, 0.9)])[rng.integers(2, size=n)].T
    spread = np.where(rng.random(n) < 0.5, rng.uniform(low, high), 0).astype(np.float32)[:, None, None]
    share = (0.15 * rng.random(n) * (rng.random(n) < 0.25))[:, None, None]
    x = x + torch.from_numpy(spread * rng.standard_normal(x.shape, np.float32))
    return x + torch.from_numpy((rng.random(x.shape) < share).astype(np.float32))


def _cnn(*, turns: bool, affine: bool, noise: bool, epochs: int = 30) -> Method:
    def fit(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            layers += [
                nn.Conv2d(before, after, 5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(576, 4))
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        copies = max(1, 800 // len(crops))
        x, y = torch.from_numpy(np.tile(crops, (copies, 1, 1))), torch.from_numpy(np.tile(labels, copies))
        steps = epochs * -(-len(x) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        for _ in range(epochs):
            for chosen in torch.from_numpy(rng.permutation(len(x))).split(64):
                batch = _moved(x[chosen], rng, affine=affine) if turns else x[chosen]
                batch = _noised(batch, rng) if noise else batch
                loss = nn.functional.cross_entropy(net(batch[:, None]), y[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        net.eval()

        def scores(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                parts = [net(b[:, None]).softmax(1) for b in torch.from_numpy(images).split(500)]
            return torch.cat(parts).numpy()

        return scores

    return fit


def polar(crops: np.ndarray) -> np.ndarray:
    """Moduli of circular harmonics about the centroid, (n, rings x (1 + orders))."""
    rings, orders = SETTINGS.rings, SETTINGS.orders
    images = torch.from_numpy(crops)
    poses = torch.zeros(len(images), 4)
    poses[:, 1:3] = centroids(images)
    c = harmonics(move_back(images, poses), SETTINGS)
    waves = c[:, rings:].view(len(c), 2, orders, rings)
    return torch.cat([c[:, :rings], waves.square().sum(1).sqrt().flatten(1)], 1).numpy()


def moments(crops: np.ndarray) -> np.ndarray:
    """Hu's seven moments that a turn, shift or magnification does not change, as logarithms, (n, 7)."""
    from skimage.measure import moments_central, moments_hu, moments_normalized

    hu = np.stack([moments_hu(moments_normalized(moments_central(c.astype(float)))) for c in crops])
    return np.nan_to_num(np.sign(hu) * np.log10(np.abs(hu) + 1e-12))


def flat(crops: np.ndarray) -> np.ndarray:
    """Pixels, (n, 2304)."""
    return crops.reshape(len(crops), -1)


def _sklearn(make: Callable[[int], object], features: Callable[[np.ndarray], np.ndarray]) -> Method:
    def fit(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
        model = make(seed)
        model.fit(features(crops), labels)  # type: ignore[attr-defined]
        return lambda x: model.predict_proba(features(x))  # type: ignore[attr-defined]

    return fit


def _svm(seed: int) -> object:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=10, random_state=seed))


def polar_svm(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
    """Polar Fourier magnitudes and a support vector machine, scikit-learn's defaults at C = 10."""
    model = _svm(seed).fit(polar(crops), labels)  # type: ignore[attr-defined]
    return lambda x: np.eye(4)[model.predict(polar(x))]


def label_spreading(crops: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scores:
    """Label spreading over 3,000 unlabelled crops by polar Fourier magnitudes."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.semi_supervised import LabelSpreading

    some = unlabelled[np.random.default_rng(seed).permutation(len(unlabelled))[:3000]]
    x = np.concatenate([polar(crops), polar(some)])
    scaler = StandardScaler().fit(x)
    model = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.2, max_iter=100)
    model.fit(scaler.transform(x), np.r_[labels, np.full(len(some), -1)])
    return lambda y: np.nan_to_num(model.predict_proba(scaler.transform(polar(y))))


def _forest(seed: int) -> object:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(300, random_state=seed)


def _boosting(seed: int) -> object:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=50, random_state=seed)


METHODS: dict[str, Method] = {
    "ours": ours,
    "ours, labelled crops only": ours_labelled_only,
    "ours, 100 steps": ours_in_seconds,
    "CNN, no augmentation": _cnn(turns=False, affine=False, noise=False),
    "CNN, turned": _cnn(turns=True, affine=False, noise=False),
    "CNN, full affine": _cnn(turns=True, affine=True, noise=False, epochs=60),
    "CNN, full affine and noise": _cnn(turns=True, affine=True, noise=True, epochs=60),
    "polar Fourier + SVM": polar_svm,
    "label spreading, polar": label_spreading,
    "random forest, pixels": _sklearn(_forest, flat),
    "random forest, moments": _sklearn(_forest, moments),
    "gradient boosting, pixels": _sklearn(_boosting, flat),
    "gradient boosting, moments": _sklearn(_boosting, moments),
}
"""By the name in the tables."""
