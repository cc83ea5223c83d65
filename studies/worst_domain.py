"""Why one domain of the published table is told worst: answers like its own are better elsewhere.

    python studies/worst_domain.py PATH/data_all_2.csv          two minutes on one core

First, each domain beside the others: where the measured F1 of an image lies among those of the 20 most
similar answers of other domains (the eight features of the published recipe, scaled as novelty scales
them; no row of the same image). In a domain that is like others, 5 % lie under the lowest 5 %.
Then quantile forests, another estimator altogether: coverage and width with each domain held out, the
nominal level chosen inside the other nine, each left out in turn (all of them get 90 %, or nine of ten, or
three of four). No row is abstained from. Leaves studies/results/worst_domain.txt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from passband.estimate import in_domain, novelty
from passband.estimate.intervals import found_something
from passband.estimate.regressor import RECIPES, training_rows
from passband.estimate.rows import RowTable, tabulate
from passband.estimate.tables import read_table
from passband.store.files import write_whole

NEAREST = 20
FEWEST = 10
LEAVES = (4, 8, 15)
LEVELS = {"all known domains": 1.0, "nine of ten": 0.9, "three of four": 0.75}
COVERAGE = 0.9
lines: list[str] = []


def say(text: str = "") -> None:
    print(text, flush=True)
    lines.append(text)


def scaled(table: RowTable, known: np.ndarray) -> np.ndarray:
    """The regressor's inputs of all rows, as scaled by some."""
    images = [name for name, k in zip(table.images, known, strict=True) if k]
    return novelty.scaled(novelty.fit_reference(table.inputs[known], images, 0), table.inputs)


def beside_others(table: RowTable) -> None:
    say(f"{'domain':<16}{'n':>5}{'F1':>7}{'F1 of like':>12}{'under 5 %':>11}{'over 95 %':>11}")
    domains, f1 = np.asarray(table.domains), table.scores[:, 0]
    for domain in np.unique(domains):
        here, known = domains == domain, training_rows(str(domain), table.domains, table.images)
        z = scaled(table, known)
        apart = ((z[here][:, None] - z[known][None]) ** 2).sum(axis=2)
        like = f1[known][np.argsort(apart, axis=1)[:, :NEAREST]]
        rank = (like <= f1[here][:, None]).mean(axis=1)
        say(
            f"{domain:<16}{here.sum():>5}{f1[here].mean():7.2f}{like.mean():12.2f}"
            f"{(rank <= 0.05).mean():11.2f}{(rank >= 0.95).mean():11.2f}"
        )


def needed(table: RowTable, out: np.ndarray, known: np.ndarray, leaf: int) -> np.ndarray:
    """The nominal levels at which a forest of some rows holds F1 of others."""
    z = scaled(table, known)
    grown = in_domain._grow(z[known], table.scores[known], 0, leaf)
    weights = in_domain._weights(*grown, z[out])
    return np.asarray(in_domain._needed(weights, table.scores[known], table.scores[out])[:, 0])


def forests(table: RowTable, leaf: int) -> None:
    domains, f1 = np.asarray(table.domains), table.scores[:, 0]
    names = np.unique(domains)
    held: dict[str, list[tuple[str, int, float, float]]] = {name: [] for name in LEVELS}
    for domain in names:
        out, known = domains == domain, training_rows(str(domain), table.domains, table.images)
        wanted = []
        for other in names[names != domain]:
            inside = known & (domains == other)
            rest = known & training_rows(str(other), table.domains, table.images)
            if inside.sum() < FEWEST:
                continue
            wanted.append(np.quantile(needed(table, inside, rest, leaf), COVERAGE))
        z = scaled(table, known)
        weights = in_domain._weights(*in_domain._grow(z[known], table.scores[known], 0, leaf), z[out])
        order = np.argsort(f1[known])
        reached, values = weights[:, order].cumsum(axis=1), f1[known][order]
        for name, share in LEVELS.items():
            level = min(float(np.quantile(wanted, share)), 0.995)
            low, high = (
                values[np.minimum((reached < q - 1e-9).sum(axis=1), len(values) - 1)]
                for q in ((1 - level) / 2, (1 + level) / 2)
            )
            inside = (low <= f1[out]) & (f1[out] <= high)
            held[name].append((str(domain), int(out.sum()), float(inside.mean()), float((high - low).mean())))
    for name, each in held.items():
        n, cover, width = (np.array([e[i] for e in each]) for i in (1, 2, 3))
        worst = each[int(cover.argmin())]
        second = sorted(cover)[1]
        say(
            f"{leaf:>4}  {name:<20}{(cover * n).sum() / n.sum():8.3f}{worst[2]:8.3f}  {worst[0]:<8}"
            f"{second:8.3f}{(width * n).sum() / n.sum():8.3f}"
        )


def main() -> None:
    rows = read_table(Path(sys.argv[1])).rows
    table = tabulate(rows, RECIPES["passband"])
    table = table.select(found_something(table))
    beside_others(table)
    say(f"\nleaf  {'level for':<20}{'hold':>8}{'worst':>8}  {'of':<8}{'second':>8}{'width':>8}")
    for leaf in LEAVES:
        forests(table, leaf)
    write_whole("studies/results/worst_domain.txt", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
