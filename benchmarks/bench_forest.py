"""Estimating one row: our stored forest beside scikit-learn's own predict, in one run."""

import time

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from passband.estimate.forest import from_sklearn, predict

rng = np.random.default_rng(0)
x, y = rng.normal(size=(600, 8)), rng.random((600, 3))
model = RandomForestRegressor(100, random_state=0, min_samples_leaf=3, n_jobs=1).fit(x, y)
forest = from_sklearn(model)
row = x[:1]


def median(f: object, times: int = 60) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        f()  # type: ignore[operator]
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


ours, peer = median(lambda: predict(forest, row)), median(lambda: model.predict(row))
print(f"one row, 100 trees: ours {1e3 * ours:.2f} ms, scikit-learn {1e3 * peer:.2f} ms, {peer / ours:.1f} x")
