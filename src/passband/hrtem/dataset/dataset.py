"""A dataset of simulated micrographs: waves on disk, images drawn from them when they are asked for.

A multislice calculation serves every lens, dose and camera, so what is stored of a specimen is its exit
wave and its labels. An image follows from the wave, imaging conditions and a seed: the dataset's own
images, the same at every call, or new ones without end for training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from passband.errors import DatasetError, ParameterError
from passband.hrtem.dataset.store import (
    STUDY,
    DatasetStore,
    SceneRecord,
    ShardRecord,
    open_array,
    read_item,
    read_manifest,
    read_shard,
)
from passband.hrtem.dataset.study import SPLITS, SimulationStudy
from passband.hrtem.specimen.specimen import SpecimenRecord
from passband.optics.conditions import ConditionRanges, ImagingConditions, draw_conditions
from passband.types import Image

if TYPE_CHECKING:
    from torch import Tensor

    from passband.hrtem.wave.scattering import ExitWave, WaveSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One specimen of a dataset, with what its images are drawn from.

    Parameters
    ----------
    number
        In the dataset, from 0.
    split
        "train", "validation" or "test".
    specimen
        The record that the specimen was built from.
    wave
        Its exit wave, of the whole cell.
    labels
        int32 (y, x): 0 background, i on particle i; where two overlap, the later one. Periodic where images
        show the whole cell.
    conditions
        Those of the dataset's own images of this scene.
    noise_seed
        Of the counting noise of those images.
    ranges
        What conditions are drawn from in this dataset.
    window
        Rows and columns that images show of the cell; None for all.
    label_waves
        Settings of the waves that phase labels come from; None for disc labels.
    """

    number: int
    split: str
    specimen: SpecimenRecord
    wave: ExitWave
    labels: Integer[np.ndarray, "y x"]
    conditions: tuple[ImagingConditions, ...]
    noise_seed: int
    ranges: ConditionRanges
    window: tuple[slice, slice] | None = None
    label_waves: WaveSettings | None = None

    @property
    def whole_shape(self) -> tuple[int, int]:
        """Pixels (y, x) of an image of the whole cell."""
        from passband.hrtem.wave.imaging import image_shape

        return image_shape(self.wave, self.conditions[0].pixel_size)

    def _shown(self, images: Tensor) -> Tensor:
        """What images of the whole cell show of it."""
        return images if self.window is None else images[:, self.window[0], self.window[1]]

    def images(self) -> Tensor:
        """The dataset's own micrographs of this scene.

        Returns
        -------
        Tensor
            float32 (b, y, x), electrons per pixel (intensity where the dose is infinite); the same at
            every call.
        """
        from passband.hrtem.wave.imaging import simulate_micrographs

        return self._shown(simulate_micrographs(self.wave, self.conditions, seed=self.noise_seed))

    def image(self, place: int) -> Image:
        """One of the dataset's own micrographs of this scene, the same as in `images`.

        Parameters
        ----------
        place
            From 0; the number of conditions is the number of images.

        Returns
        -------
        array
            float32 (y, x).
        """
        from passband.hrtem.wave.imaging import simulate_micrographs

        images = simulate_micrographs(self.wave, [self.conditions[place]], seed=self.noise_seed, first=place)
        return np.asarray(self._shown(images)[0].numpy())

    def draw_images(
        self, count: int, *, seed: int, ranges: ConditionRanges | None = None
    ) -> tuple[Tensor, list[ImagingConditions]]:
        """Draw new micrographs of this scene, as training does.

        Parameters
        ----------
        count
            How many.
        seed
            Of conditions and noise; another one gives other images.
        ranges
            What conditions are drawn from; the dataset's own if not given.

        Returns
        -------
        tuple of Tensor and list
            float32 (count, y, x) as in `images`, and the conditions of each.
        """
        from passband.hrtem.wave.imaging import simulate_micrographs

        conditions = draw_conditions(ranges or self.ranges, count, seed=seed)
        return self._shown(simulate_micrographs(self.wave, conditions, seed=seed)), conditions


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A dataset on disk; scenes are read when they are asked for, their checksums compared.

    Parameters
    ----------
    store
        Where it is and what it follows from.
    """

    store: DatasetStore
    _shards: dict[int, ShardRecord] = field(default_factory=dict, repr=False)
    _arrays: dict[str, tuple[ShardRecord, Any]] = field(default_factory=dict, repr=False)

    @property
    def study(self) -> SimulationStudy:
        """What the dataset follows from."""
        return self.store.study

    def __len__(self) -> int:
        """How many scenes there are when it is finished."""
        return self.study.scenes

    def split(self, name: str) -> tuple[int, ...]:
        """Scene numbers of a split.

        Parameters
        ----------
        name
            "train", "validation" or "test". A specimen is in one of them with all its images.

        Returns
        -------
        tuple of int
            Ascending.

        Raises
        ------
        ParameterError
            If there is no such split.
        """
        if name not in self.store.splits:
            raise ParameterError(f"no split {name!r}, wanted one of {', '.join(SPLITS)}")
        return self.store.splits[name]

    def finished(self) -> list[int]:
        """Numbers of the scenes that are there; checksums are compared when a scene is read."""
        shards = range(self.store.shards)
        return [i for s in shards if self.store.record_path(s).exists() for i in self.store.scenes_of(s)]

    def record(self, number: int) -> SceneRecord:
        """What is stored of a scene beside its arrays.

        Parameters
        ----------
        number
            Of the scene, from 0.

        Raises
        ------
        ParameterError
            If there is no scene of this number.
        DatasetError
            If it is not simulated yet, or its record is damaged.
        """
        shard = self._shard(number)
        return shard.scenes[number % self.store.scenes_per_shard]

    def labels(self, number: int) -> Integer[np.ndarray, "y x"]:
        """Label image of a scene, int32 (y, x), of what images show: 0 background, i on particle i."""
        whole = self._read("labels", number)
        rows, columns = self.study.window((whole.shape[0], whole.shape[1]))
        return whole[rows, columns].astype(np.int32)

    def wave(self, number: int) -> ExitWave:
        """Exit wave of a scene."""
        import torch

        from passband.hrtem.wave.scattering import ExitWave
        from passband.optics.bands import Band

        spectrum = self._read("waves", number)
        grid, (u, v) = self._arrays["waves"][1].attrs, spectrum.shape
        band = Band(shape=tuple(grid["shape"]), extent=tuple(grid["extent"]), kept=(v, u))
        return ExitWave(spectrum=torch.from_numpy(spectrum.copy()), band=band, energy=grid["energy"])

    def scene(self, number: int) -> Scene:
        """One scene with its wave, labels and the conditions of its images.

        Parameters
        ----------
        number
            From 0.

        Raises
        ------
        ParameterError
            If there is no scene of this number.
        DatasetError
            If it is not simulated yet, or a file of it is damaged.
        """
        study, record = self.study, self.record(number)
        drawn = draw_conditions(
            study.imaging, study.images_per_scene, seed=study.scene_seed(number, "conditions")
        )
        return Scene(
            number=number,
            split=next(name for name in SPLITS if number in self._members[name]),
            specimen=record.specimen,
            wave=self.wave(number),
            labels=self.labels(number),
            conditions=tuple(drawn),
            noise_seed=study.scene_seed(number, "noise"),
            ranges=study.imaging,
            window=self._window(number),
            label_waves=study.wave if study.labels == "phase" else None,
        )

    def scenes(self, numbers: Sequence[int] | None = None) -> Iterator[Scene]:
        """Scenes one by one.

        Parameters
        ----------
        numbers
            Which; all of them if not given.
        """
        for number in range(len(self)) if numbers is None else numbers:
            yield self.scene(number)

    def _window(self, number: int) -> tuple[slice, slice] | None:
        if self.study.specimen.field is None:
            return None
        whole = self._read("labels", number)
        return self.study.window((whole.shape[0], whole.shape[1]))

    def _shard(self, number: int) -> ShardRecord:
        """Record of the shard that a scene is in."""
        if not 0 <= number < len(self):
            raise ParameterError(f"no scene {number}, wanted 0 to {len(self) - 1}")
        place = number // self.store.scenes_per_shard
        if place not in self._shards:
            found = read_shard(self.store, place)
            if found is None:
                raise DatasetError(
                    f"{self.store.folder}: scene {number} is not simulated yet; {_go_on(self.store)}"
                )
            self._shards[place] = found
        return self._shards[place]

    def _read(self, name: str, number: int) -> np.ndarray:
        """A scene of an array, which is opened once and described alike by all records."""
        shard = self._shard(number)
        if name not in self._arrays or self._arrays[name][0].arrays != shard.arrays:
            self._arrays[name] = shard, open_array(self.store, name, shard)
        return read_item(self.store, self._arrays[name][1], name, self.record(number))

    @cached_property
    def _members(self) -> dict[str, frozenset[int]]:
        return {name: frozenset(part) for name, part in self.store.splits.items()}


def open_dataset(folder: str | Path, *, unfinished: bool = False) -> Dataset:
    """Open a dataset made by `passband simulate hrtem`.

    Parameters
    ----------
    folder
        Of the dataset.
    unfinished
        Whether one is accepted that lacks scenes.

    Raises
    ------
    DatasetError
        If there is none, it is unfinished or damaged, or of a newer format.
    """
    dataset = Dataset(store=read_manifest(folder))
    there = len(dataset.finished())
    if there < len(dataset) and not unfinished:
        raise DatasetError(
            f"{folder} is not finished: {there} of {len(dataset)} scenes; {_go_on(dataset.store)}"
        )
    return dataset


def _go_on(store: DatasetStore) -> str:
    study = store.folder / STUDY if (store.folder / STUDY).exists() else Path("STUDY.toml")
    return f"`passband simulate hrtem {study} --out {store.folder}` goes on with it"
