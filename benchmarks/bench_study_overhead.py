"""What a study costs beside its runs: 10,000 trivial runs, their result files, the ledger, by each engine.

The peers are the standard library's pool of processes with tasks sent one by one and nothing kept, and a bare
file a run, empty: some systems take a millisecond to make one. So each engine is measured on the disk, and in
memory, where files cost little. The driver's memory is measured at 1,000 and at 10,000 runs: it must not grow
with them. From these figures follows what a million runs would need.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

TARGET_MS = {"inline": 1.0, "processes": 1.0, "dask": 4.0}


def trivial(study: dict[str, Any], run: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    return [{"f1": 0.5, "loss": 1.0}] * 3


def nothing(number: int) -> int:
    return number


def measure(engine: str, count: int, where: str) -> None:
    """Run a study in this process and print its figures as JSON."""
    workers = cores()
    from passband.engines.settings import EngineSettings
    from passband.generalise.run import RunOptions, Work, run_study
    from passband.generalise.study import Axes, Study

    study = Study(
        seeds=10,
        train=Axes(defocus_nm=tuple(i / 10 for i in range(count // 10))),
        test=Axes(defocus_nm=(-10.0, 0.0, 10.0)),
    )
    options = RunOptions(
        engine=EngineSettings(engine=engine, workers=workers),
        work=Work(task="bench_study_overhead:trivial", prepare=None),
    )
    with tempfile.TemporaryDirectory(dir=where) as folder:
        begun = time.perf_counter()
        status = run_study(study, folder, options)
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        run_study(study, folder, options)
        again = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with os.scandir(Path(folder, "results")) as files:
            size = sum(file.stat().st_size for file in files)
        ledger = Path(folder, "ledger.sqlite").stat().st_size
    assert status.done == count and status.rows == 3 * count
    figures = {
        "ms": 1e3 * seconds / count,
        "again_ms": 1e3 * again / count,
        "file_bytes": size / count,
        "ledger_bytes": ledger / count,
        "peak_mb": peak,
    }
    print(json.dumps(figures))


def figures_of(engine: str, count: int, where: str) -> dict[str, float]:
    """The same in a process of its own: a peak cannot be taken back."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, __file__, engine, str(count), where],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bare_file(where: str) -> float:
    """Milliseconds that making an empty file takes."""
    with tempfile.TemporaryDirectory(dir=where) as folder:
        begun = time.perf_counter()
        for i in range(2_000):
            Path(folder, str(i)).touch()
        return (time.perf_counter() - begun) / 2


def scene_bytes() -> float:
    """What a scene of a study takes on disk: wave, labels, record."""
    from passband.generalise.study import Structures, Study
    from passband.generalise.work import prepare

    with tempfile.TemporaryDirectory() as folder:
        prepare(Study(structures=Structures(scenes=8)).values(), folder)
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 8


def tell_scale(figures: dict[str, float], *, scene: float, seconds: float = 10, jobs: int = 1_000) -> None:
    """What a million runs of so many seconds would need, from what was measured."""
    runs = 1_000_000
    print(
        f"a million runs of {seconds:g} s and 3 test conditions, from the figures by processes on the disk:\n"
        f"  {runs * seconds / 3600:,.0f} hours of one core; an array of {jobs:,} jobs has "
        f"{runs // jobs:,} runs a job, {runs / jobs * seconds / 3600:.1f} hours each\n"
        f"  a parcel is one run, as runs of more than 2 s are\n"
        f"  the driver is at it for {runs * figures['ms'] / 6e4:.0f} minutes beside the runs; a second start "
        f"takes {runs * figures['again_ms'] / 1e3:.0f} s\n"
        f"  result files: {runs:,}, {runs * figures['file_bytes'] / 1e9:.1f} GB, "
        f"{runs * 4096 / 1e9:.1f} GB in blocks of 4 kB; "
        f"ledger: {runs * figures['ledger_bytes'] / 1e9:.1f} GB\n"
        f"  waves: {scene / 1e6:.2f} MB a scene, {70 * scene / 1e6:.0f} MB for 70 scenes, whatever the "
        "number of runs: once for each set of materials and diameters"
    )


def main() -> None:
    begun = time.perf_counter()
    with ProcessPoolExecutor(cores()) as pool:
        for future in [pool.submit(nothing, i) for i in range(10_000)]:
            future.result()
    peer = 1e3 * (time.perf_counter() - begun) / 10_000
    print(f"a pool of {cores()} processes, nothing kept: {peer:.2f} ms a task")
    measured = {}
    places = {"disk": tempfile.gettempdir(), "memory": "/dev/shm"}
    for place, where in places.items():
        if not Path(where).is_dir():
            continue
        print(f"{place}: an empty file takes {bare_file(where):.2f} ms")
        for engine, target in TARGET_MS.items():
            few, many = (figures_of(engine, count, where) for count in (1_000, 10_000))
            measured[place, engine] = many
            print(
                f"  {engine:<10}{many['ms']:>6.2f} ms a run ({many['ms'] / peer:.1f} times the pool; "
                f"target {target:g} {'met' if many['ms'] < target else 'MISSED'}), "
                f"a second start {many['again_ms']:.3f}; "
                f"driver's peak {few['peak_mb']:.0f} MB at 1,000 runs, {many['peak_mb']:.0f} MB at 10,000; "
                f"{many['file_bytes']:.0f} bytes of file, {many['ledger_bytes']:.0f} of ledger a run"
            )
    tell_scale(measured["disk", "processes"], scene=scene_bytes())


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    else:
        main()
