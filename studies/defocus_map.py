"""The table of the defocus study in few columns: `make defocus-map`."""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path

from passband.store.columns import rows_csv
from passband.store.files import write_whole

COLUMNS = ("train_defocus_nm", "test_defocus_nm", "seed", "f1", "loss")


def main() -> None:
    """From the exported table to the one that is kept."""
    source, out = map(Path, sys.argv[1:])
    with source.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    kept = [[f"{float(row[c]):.5g}" for c in COLUMNS] for row in rows]
    kept.sort(key=lambda row: [float(v) for v in row[:3]])
    write_whole(out, rows_csv([COLUMNS, *kept]))
    cells: dict[tuple[str, str], list[float]] = {}
    for train, test, _, f1, _ in kept:
        cells.setdefault((train, test), []).append(float(f1))
    home = [statistics.mean(v) for (train, test), v in cells.items() if train == test]
    deviations = [statistics.stdev(v) for v in cells.values() if len(v) > 1]
    print(
        f"{len(kept)} rows in {out}; mean F1 at home {min(home):.2f} to {max(home):.2f}, least of all cells "
        f"{min(map(statistics.mean, cells.values())):.2f}; deviation of a cell's networks "
        f"{statistics.median(deviations):.2f} in the median, {max(deviations):.2f} at most"
    )


if __name__ == "__main__":
    main()
