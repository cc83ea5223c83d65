"""Runs the tests marked ``training`` as other processors would, and with other random draws.

``other_kernels.py [CORES]``: kernels that this processor cannot run are left out, and named. A network's sums
differ in their last bits from kernel to kernel, and training makes much of them; a law that holds on one
processor by luck fails here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

ORACLE = """
import numpy, scipy.linalg, torch
from threadpoolctl import threadpool_info
a = numpy.random.default_rng(0).normal(size=(96, 96)).astype("f")
scipy.linalg.cholesky(numpy.linalg.inv(a @ a.T + 96 * numpy.eye(96, dtype="f")))
torch.nn.functional.conv2d(torch.ones(1, 3, 32, 32), torch.ones(4, 3, 3, 3)) @ torch.ones(30, 8)
blas = {p["architecture"] for p in threadpool_info() if p["internal_api"] == "openblas"}
print(torch.backends.cpu.get_cpu_capability(), *sorted(blas))
"""
"""Uses the kernels, and says which are in use."""

LIMITS = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}
TORCH: dict[str, dict[str, str]] = {
    "as it is": {},
    "torch: SSE": LIMITS,
    "torch: AVX2": {**LIMITS, **{"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
    | {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
OPENBLAS = (
    "Prescott", "Core2", "Nehalem", "Sandybridge", "Haswell", "SkylakeX", "Cooperlake", "Sapphirerapids",
    "Bulldozer", "Zen", "ARMV8", "NEOVERSEN1", "NEOVERSEV1",
)  # fmt: skip
DRAWS = 3


def kernels_in_use(changed: dict[str, str]) -> str | None:
    """What numpy, scipy and torch say that they use; None where the processor cannot."""
    done = subprocess.run(
        [sys.executable, "-c", ORACLE], env={**os.environ, **changed}, capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else None


def main(cores: str = "1") -> int:
    """Run, and print a table; the exit status is 1 where a test failed."""
    parallel = ["-n", cores, "--dist", "loadfile"] if int(cores) > 1 else []
    plain = kernels_in_use({})
    wanted = [(name, changed, draw) for name, changed in TORCH.items() for draw in range(DRAWS)]
    wanted += [
        (f"OpenBLAS: {name}", {"OPENBLAS_CORETYPE": name}, i % DRAWS) for i, name in enumerate(OPENBLAS)
    ]
    rows, failed, seen = [], False, set[tuple[str, int]]()
    for name, changed, draw in wanted:
        used = kernels_in_use(changed)
        if used is None or (changed and used == plain):
            rows.append(
                (
                    name,
                    "-",
                    used or "",
                    "this processor cannot run it" if used is None else "the same kernels",
                )
            )
            continue
        if (used, draw) in seen:
            rows.append((name, "-", used, "ran under another name"))
            continue
        seen.add((used, draw))
        print(f"== {name}, draws {draw}: {used}", flush=True)
        words = ["-q", "--tb=short", "-m", "training and not slow", "--draws", str(draw), *parallel]
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "pytest", *words], env={**os.environ, **changed})
        failed |= done.returncode != 0
        told = f"{'passed' if done.returncode == 0 else 'FAILED'}, {time.monotonic() - start:.0f} s"
        rows.append((name, str(draw), used, told))
    print(f"\n{'kernels':28}{'draws':>6}  {'in use':32}")
    for name, draws, used, told in rows:
        print(f"{name:28}{draws:>6}  {used:32}{told}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
