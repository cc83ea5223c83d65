"""From a study to a dataset: specimen, wave and labels of every scene, in several processes.

Each worker is a process of one thread that takes one shard after another. It is told what to do on its
stdin and ends at once when that closes, so a killed run leaves nobody working. Nothing depends on which
worker makes a shard, or on how many there are.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passband.errors import DatasetError, ParameterError, PassbandError
from passband.hrtem.dataset.dataset import Dataset, open_dataset
from passband.hrtem.dataset.store import (
    DATASET,
    DatasetStore,
    read_manifest,
    shard_faults,
)
from passband.hrtem.dataset.study import SimulationStudy
from passband.hrtem.dataset.writing import SimulatedScene, begin_dataset, dataset_writer, write_shard
from passband.hrtem.specimen.labels import disc_labels, exit_wave_labels
from passband.hrtem.specimen.specimen import build_specimen, draw_specimen
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.imaging import image_shape
from passband.hrtem.wave.scattering import exit_wave
from passband.processes import ONE_THREAD, core_count, one_thread
from passband.types import Progress

# -P keeps the working directory, which may be a folder of strangers' files, from being imported from.
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from passband.hrtem.dataset.simulate import serve
serve()
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulationOutcome:
    """What a run did.

    Parameters
    ----------
    dataset
        Finished.
    made, kept
        How many scenes were simulated now, and how many were there from an earlier run.
    """

    dataset: Dataset
    made: int
    kept: int


def simulate_scene(study: SimulationStudy, number: int) -> SimulatedScene:
    """One scene of a study: specimen, exit wave, labels.

    Parameters
    ----------
    study
        What to draw from.
    number
        Of the scene, from 0; the scene follows from it and the study's seed alone.

    Raises
    ------
    ParameterError
        If no specimen can be drawn from the ranges.
    """
    seed = study.scene_seed(number, "specimen")
    try:
        record = draw_specimen(study.specimen, seed)
        specimen = build_specimen(record)
        wave = exit_wave(specimen, study.wave)
        pixel_size = study.imaging.pixel_size
        assert isinstance(pixel_size, (int, float))
        shape = image_shape(wave, pixel_size)
        phase = study.labels == "phase"
        labels = exit_wave_labels(specimen, shape, study.wave) if phase else disc_labels(specimen, shape)
    except ParameterError as e:
        raise ParameterError(f"scene {number} (seed {seed}) cannot be simulated: {e}") from e
    return SimulatedScene(specimen=record, wave=wave, labels=labels)


def simulate_dataset(
    study: SimulationStudy,
    folder: str | Path,
    *,
    workers: int | None = None,
    study_text: str | None = None,
    progress: Progress | None = None,
) -> SimulationOutcome:
    """Simulate a study into a folder; what an earlier run has finished is checked and kept.

    Parameters
    ----------
    study
        What to simulate.
    folder
        New, empty, or begun with the same study. It can be resumed after any interruption.
    workers
        How many processes, as many as cores if not given; the dataset is the same, bit for bit. One
        works within this process.
    study_text
        The file that the study was read from, kept beside the data.
    progress
        Called with the scene just finished, how many are done, and how many there are.

    Raises
    ------
    DatasetError
        If the folder is of another study or in use, or cannot be written.
    ParameterError
        If there is to be no worker, or no specimen can be drawn.
    PassbandError
        If a worker died.
    """
    if workers is not None and workers < 1:
        raise ParameterError(f"workers must be at least 1, got {workers}")
    store = begin_dataset(folder, study, study_text=study_text)
    count = min(workers or core_count(), store.shards)
    done = made = 0
    with dataset_writer(store):
        events = _inline(store) if count == 1 else _in_processes(store, count)
        with contextlib.closing(events):
            for event in events:
                done += event.scenes
                made += event.scenes if event.made else 0
                if progress:
                    progress(event.now, done, study.scenes)
    return SimulationOutcome(dataset=open_dataset(folder), made=made, kept=done - made)


def has_dataset(folder: str | Path) -> bool:
    """Whether a dataset was begun in a folder."""
    return (Path(folder) / DATASET.manifest).is_file()


@dataclass(frozen=True, kw_only=True)
class _Event:
    """So many scenes more are done; made now, or found whole."""

    now: str
    scenes: int
    made: bool


def make_shard(store: DatasetStore, shard: int) -> Generator[_Event]:
    """Simulate a shard's scenes, unless they are there and whole.

    Yields
    ------
    event
        For each scene that is simulated, or for all those that are kept.
    """
    span = store.scenes_of(shard)
    if shard_faults(store, shard) == []:
        yield _Event(now="", scenes=len(span), made=False)
        return
    scenes = []
    for number in span:
        scenes.append(simulate_scene(store.study, number))
        if number < span[-1]:
            yield _Event(now=f"scene {number}", scenes=1, made=True)
    write_shard(store, shard, scenes)
    yield _Event(now=f"scene {span[-1]}", scenes=1, made=True)


def serve() -> None:
    """Be a worker: a folder, then one shard after another, come on stdin; events go to stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not get among the answers
    orders: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    import torch

    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        store = read_manifest(json.loads(orders.get()))
        while True:
            for event in make_shard(store, int(orders.get())):
                _tell(answers, {"now": event.now, "scenes": event.scenes, "made": event.made})
            _tell(answers, {"finished": True})
    except PassbandError as e:
        _tell(answers, {"error": str(e)})
    except MemoryError:
        _tell(answers, {"error": "memory ran out; run again with fewer --workers, what is finished is kept"})
    except Exception as e:
        if os.environ.get("PASSBAND_TRACEBACK"):
            raise
        _tell(answers, {"fault": f"{type(e).__name__}: {e}"})


def _listen(orders: queue.Queue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)  # whoever gave orders is gone: nobody waits for this work


def _tell(answers: io.TextIOWrapper, words: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(words) + "\n")
        answers.flush()
    except BrokenPipeError:
        os._exit(0)


def _inline(store: DatasetStore) -> Generator[_Event]:
    """All shards in this process, on one thread as a worker has."""
    keep_freed_memory()
    with one_thread():
        for shard in range(store.shards):
            yield from make_shard(store, shard)


def _in_processes(store: DatasetStore, count: int) -> Generator[_Event]:
    """All shards by several workers, events as they come; on any end the workers are gone."""
    shards: queue.SimpleQueue[int] = queue.SimpleQueue()
    for shard in range(store.shards):
        shards.put(shard)
    events: queue.SimpleQueue[_Event | BaseException | None] = queue.SimpleQueue()
    processes = [_start() for _ in range(count)]
    threads = [threading.Thread(target=_drive, args=(p, store, shards, events)) for p in processes]
    try:
        for thread in threads:
            thread.start()
        working = count
        while working:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                working -= 1
            else:
                yield event
    finally:
        for p in processes:
            p.kill()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        for p in processes:
            _close(p)


def _start() -> subprocess.Popen[str]:
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, json.dumps(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("PASSBAND_TRACEBACK") else subprocess.DEVNULL,
        env={**os.environ, **ONE_THREAD},
        text=True,
        start_new_session=True,  # Ctrl-C is ours to answer
    )


def _drive(
    process: subprocess.Popen[str],
    store: DatasetStore,
    shards: queue.SimpleQueue[int],
    events: queue.SimpleQueue[_Event | BaseException | None],
) -> None:
    """Give one worker its shards and pass on what it says, its last words before that it is gone."""
    assert process.stdout is not None
    try:
        _order(process, json.dumps(str(store.folder.absolute())))
        while True:
            try:
                shard = shards.get_nowait()
            except queue.Empty:
                break
            _order(process, str(shard))
            for line in process.stdout:
                words = json.loads(line)
                if "error" in words:
                    raise DatasetError(words["error"])
                if "fault" in words:
                    raise RuntimeError(f"a worker of the simulation failed: {words['fault']}")
                if "finished" in words:
                    break
                events.put(_Event(**words))
            else:
                raise BrokenPipeError
        events.put(None)
    except (BrokenPipeError, ValueError):
        status = process.wait()
        events.put(
            PassbandError(
                f"a worker of the simulation died (exit status {status}), perhaps because memory ran out; "
                "what is finished is kept: run the same command again, with fewer --workers"
            )
        )
    except Exception as e:
        events.put(e)


def _order(process: subprocess.Popen[str], words: str) -> None:
    """Tell a worker what to do; one that is gone already may have said why, which is read next."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(words + "\n")
        process.stdin.flush()


def _close(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()
