"""Both recipes on the table published with the random-forest predictor, 832 rows of real micrographs.

    python studies/published_table.py PATH/data_all_2.csv

Prints the published protocol (10 x random 5-fold, F1 accuracy only) and one domain held out, its
images removed from training wherever they occur, with 90 % intervals.
"""

import sys
from pathlib import Path

from passband.estimate.evaluate import evaluate, format_table
from passband.estimate.tables import read_published_table

if len(sys.argv) != 2:
    sys.exit(__doc__)
rows = read_published_table(Path(sys.argv[1]))
held_out = [evaluate(rows, model=m, protocol="leave-one-domain-out") for m in ("paper-rf", "passband")]
print(format_table([*held_out, evaluate(rows, model="paper-rf", protocol="random", coverage=None)]))
for name, m in held_out[1].domains["f1"].items():
    print(f"passband f1, held out {name:<16} n {m.n:>3}  MAE {m.mae:.3f}  covered {m.coverage:.2f}")
