"""From a study to a dataset: specimen, wave and labels of every scene, by one process or several.

A worker is a process of one thread that takes one shard after another. Nothing depends on which worker makes
a shard, or on how many there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from passband.engines.settings import chosen_engine
from passband.engines.tasks import run_values
from passband.errors import CoarseSamplingWarning, DatasetError, ParameterError
from passband.hrtem.dataset.dataset import Dataset, open_dataset
from passband.hrtem.dataset.store import DATASET, DatasetStore, read_manifest, shard_faults
from passband.hrtem.dataset.study import SimulationStudy
from passband.hrtem.dataset.writing import SimulatedScene, begin_dataset, dataset_writer, write_shard
from passband.hrtem.specimen.labels import disc_labels, exit_wave_labels
from passband.hrtem.specimen.specimen import SpecimenRecord, build_specimen, draw_specimen
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.imaging import image_shape
from passband.hrtem.wave.scattering import exit_wave
from passband.store.sealed import file_sha256
from passband.types import Progress


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoarseSamplingWarning)  # told once, of the study
            return _scene(study, draw_specimen(study.specimen, seed))
    except ParameterError as e:
        raise ParameterError(f"scene {number} (seed {seed}) cannot be simulated: {e}") from e


def _scene(study: SimulationStudy, record: SpecimenRecord) -> SimulatedScene:
    specimen = build_specimen(record)
    wave = exit_wave(specimen, study.wave)
    pixel_size = study.imaging.pixel_size
    assert isinstance(pixel_size, (int, float))
    shape = image_shape(wave, pixel_size)
    phase = study.labels == "phase"
    labels = exit_wave_labels(specimen, shape, study.wave) if phase else disc_labels(specimen, shape)
    return SimulatedScene(specimen=record, wave=wave, labels=labels)


def simulate_dataset(
    study: SimulationStudy,
    folder: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
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
    scheduler
        Address of a Dask scheduler, whose workers see the same folder, in place of processes here.
    study_text
        The file that the study was read from, kept beside the data.
    progress
        Called with the scene just finished, how many are done, and how many there are: after each
        scene within this process, after each shard of at most 16 elsewhere.

    Raises
    ------
    DatasetError
        If the folder is of another study or in use, or cannot be written.
    ParameterError
        If there is to be no worker, or no specimen can be drawn.
    PassbandError
        If workers die, memory runs out, or the scheduler is lost.
    """
    chosen_engine(workers, scheduler, most=1)  # faults of the arguments are told before a folder is made
    if not has_dataset(folder):
        _refuse_uneven(study)
    if fault := study.sampling_fault:
        warnings.warn(
            f"{fault}; leave [wave] pixel_size and slice_thickness out, and they are chosen",
            CoarseSamplingWarning,
            stacklevel=2,
        )
    store = begin_dataset(folder, study, study_text=study_text)
    settings = chosen_engine(workers, scheduler, most=store.shards)
    done = made = 0

    def advance(now: str, scenes: int) -> None:
        nonlocal done
        done += scenes
        if progress:
            progress(now, done, study.scenes)

    here = settings.engine == "inline"
    function = partial(_make_shard, store, advance) if here else partial(_make_shard_of, *_name(store))
    with dataset_writer(store), closing(run_values(function, range(store.shards), settings)) as shards:
        for shard, new in shards:
            span = store.scenes_of(shard)
            made += len(span) if new else 0
            if not here:
                advance(f"scene {span[-1]}" if new else "", len(span))
    return SimulationOutcome(dataset=open_dataset(folder), made=made, kept=done - made)


def _refuse_uneven(study: SimulationStudy) -> None:
    """Sides that images do not divide into pixels of the size that they say."""
    cell, size = study.specimen.cell, study.imaging.pixel_size
    assert isinstance(size, (int, float))
    pixels = [max(1, round(side / size)) for side in cell]
    if any(abs(side / size / count - 1) > 1e-4 for side, count in zip(cell, pixels, strict=True)):
        whole = ", ".join(f"{count * size:.6g}" for count in pixels)
        raise ParameterError(
            f"a cell of {cell[0]:g} x {cell[1]:g} Å is no whole number of image pixels of {size:g} Å; "
            f"take [specimen] cell = [{whole}], or another pixel_size"
        )


def has_dataset(folder: str | Path) -> bool:
    """Whether a dataset was begun in a folder."""
    return (Path(folder) / DATASET.manifest).is_file()


def _make_shard(store: DatasetStore, advance: Callable[[str, int], None], shard: int) -> bool:
    """Simulate a shard's scenes, unless they are there and whole; whether it did."""
    keep_freed_memory()
    span = store.scenes_of(shard)
    if shard_faults(store, shard) == []:
        advance("", len(span))
        return False
    scenes = []
    for number in span:
        scenes.append(simulate_scene(store.study, number))
        if number < span[-1]:
            advance(f"scene {number}", 1)
    write_shard(store, shard, scenes)
    advance(f"scene {span[-1]}", 1)
    return True


def _name(store: DatasetStore) -> tuple[str, str]:
    """What a worker knows a dataset by: its folder and the checksum of its manifest."""
    return str(store.folder.absolute()), file_sha256(store.folder / DATASET.manifest)


def _make_shard_of(folder: str, manifest: str, shard: int) -> bool:
    """What a worker does."""
    return _make_shard(_store(folder, manifest), lambda *_: None, shard)


@lru_cache(maxsize=2)
def _store(folder: str, manifest: str) -> DatasetStore:
    """A dataset, read once for all its shards."""
    store = read_manifest(folder)
    if _name(store) != (folder, manifest):
        raise DatasetError(
            f"{folder} is another dataset where a worker sees it; the workers of a scheduler must see "
            "the folder of this machine"
        )
    return store
