"""A dataset's images as files that every other program reads: TIFF with COCO truth, or npz."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from passband.detections.detections import Detections
from passband.detections.masks import tight_mask
from passband.detections.write_coco import write_coco
from passband.errors import ParameterError
from passband.hrtem.dataset.dataset import Dataset, Scene
from passband.hrtem.specimen.labels import particle_masks
from passband.hrtem.specimen.specimen import build_specimen
from passband.hrtem.wave.focal_average import focal_nodes
from passband.micrographs.write_tiff import imagej_tiff
from passband.optics.conditions import ImagingConditions
from passband.store.columns import rows_csv
from passband.store.files import write_whole
from passband.types import InstanceMask, LabelImage, Progress

SLIVER = 3
"""Pixels."""
TRUTH, CONDITIONS, STAMP = "truth.coco.json", "conditions.csv", "export.json"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written.

    Parameters
    ----------
    folder
        With a folder for each split, and ``conditions.csv``: of each image its conditions, and of
        how many coherent images, its ``terms``, the focal average is the sum (1: the envelope alone).
    images
        How many micrographs.
    """

    folder: Path
    images: int


def truth_of_labels(labels: LabelImage) -> Detections:
    """What is there to be found in an image, from its label image.

    Parameters
    ----------
    labels
        (y, x): 0 background, i on particle i. What is periodic in the simulation is cut at the border of
        an image: a particle across it counts as two objects, and a sliver at the border under 3 pixels
        across as none.

    Returns
    -------
    Detections
        One for each connected part of a particle, with its mask and a score of 1.

    Examples
    --------
    >>> labels = np.zeros((8, 8), np.int32)
    >>> labels[2:5, [0, 1, 2, 5, 6, 7]] = 1
    >>> truth_of_labels(labels).boxes_xyxy.tolist()
    [[0.0, 2.0, 3.0, 5.0], [5.0, 2.0, 8.0, 5.0]]
    """
    return _truth([mask for _, mask in _objects(labels)], labels.shape)


def truth_of_scene(scene: Scene) -> tuple[Detections, list[int]]:
    """What is there to be found in the images of a scene, whole also where particles overlap.

    Parameters
    ----------
    scene
        Where its particles' outlines may overlap, each is drawn by itself from the scene's record.

    Returns
    -------
    tuple of Detections and list
        As `truth_of_labels`, with the number of the particle that each object is of.
    """
    found = _objects(scene.labels)
    if scene.specimen.least_distance is not None and scene.specimen.least_distance < 0:
        specimen, shape = build_specimen(scene.specimen), scene.whole_shape
        rows, columns = scene.window or (slice(None), slice(None))
        found = []
        for i, mask in enumerate(particle_masks(specimen, shape, scene.label_waves), 1):
            alone = mask[rows, columns].astype(np.int32)
            found += [(i, part) for _, part in _objects(alone)]
    shape = (scene.labels.shape[0], scene.labels.shape[1])
    return _truth([mask for _, mask in found], shape), [i for i, _ in found]


def _truth(masks: list[InstanceMask], shape: tuple[int, ...]) -> Detections:
    boxes = np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4)
    return Detections(
        image_shape=(shape[0], shape[1]), boxes_xyxy=boxes, scores=np.ones(len(boxes)), masks=tuple(masks)
    )


def _objects(labels: LabelImage) -> list[tuple[int, InstanceMask]]:
    """Each connected part of a particle that is no sliver, with the particle's label."""
    found: list[tuple[int, InstanceMask]] = []
    for value, where in enumerate(scipy.ndimage.find_objects(labels), 1):
        if where is None:
            continue
        parts, count = scipy.ndimage.label(labels[where] == value, structure=np.ones((3, 3)))
        for part in range(1, count + 1):
            mask = tight_mask(parts == part, y=where[0].start, x=where[1].start)
            assert mask is not None
            if not _is_sliver(mask, labels.shape):
                found.append((value, mask))
    return found


def _categories(dataset: Dataset) -> list[dict[str, str]]:
    """What an object of a dataset may be, in an order that all its splits share."""
    of = dataset.study.specimen
    return [
        {"name": f"{material} {shape}", "supercategory": "particle", "material": material, "shape": shape}
        for material in of.materials
        for shape in of.shapes
        if shape in of.known[material].shapes
    ]


def _kinds(scene: Scene, numbers: Sequence[int], categories: Sequence[dict[str, str]]) -> list[int]:
    """Which category each of some particles is of."""
    places = {(c["material"], c["shape"]): i for i, c in enumerate(categories)}
    particles = [scene.specimen.particles[number - 1] for number in numbers]
    return [places[p.material, p.shape] for p in particles]


def _is_sliver(mask: InstanceMask, shape: tuple[int, ...]) -> bool:
    """Whether it is what the image's border leaves of an object, and too thin to be told."""
    x0, y0, x1, y1 = mask.box_xyxy
    at_border = x0 == 0 or y0 == 0 or x1 == shape[1] or y1 == shape[0]
    return at_border and min(x1 - x0, y1 - y0) < SLIVER


def export_dataset(
    dataset: Dataset,
    folder: str | Path,
    *,
    form: str = "tiff",
    splits: Sequence[str] = ("train", "validation", "test"),
    progress: Progress | None = None,
) -> Export:
    """Write a dataset's own images, those that `Scene.images` gives, into folders by split.

    Parameters
    ----------
    dataset
        Finished.
    folder
        New or empty, or one where the same export was stopped: what is there is kept.
    form
        A key of `FORMS`. "tiff": ``SPLIT/scene_0000_00.tif`` ..., float32 electrons per pixel with the
        pixel size, and the outlines of all particles, each whole also where another lies over it, their
        materials and shapes as categories, in ``SPLIT/truth.coco.json``. "npz":
        ``SPLIT/scene_0000.npz`` with images (b, y, x), labels (y, x), and each condition (b,).
    splits
        Which.
    progress
        Called with the file begun, how many scenes are done, and how many there are.

    Raises
    ------
    ParameterError
        If there is no such form or split, or the folder holds something else.
    PassbandError
        If a scene cannot be read or a file cannot be written.
    """
    folder = Path(folder)
    if form not in FORMS:
        raise ParameterError(f"no form {form!r} of export, wanted one of {', '.join(FORMS)}")
    numbers = {name: dataset.split(name) for name in splits}
    stamp = json.dumps({"form": form, "study": dataset.study.values()}, indent=1, sort_keys=True) + "\n"
    _claim(folder, stamp)
    rows: list[dict[str, Any]] = []
    categories = _categories(dataset)
    total, done = sum(map(len, numbers.values())), 0
    for split, members in numbers.items():
        truth: dict[str, Detections] = {}
        kinds: dict[str, list[int]] = {}
        for number in members:
            scene = dataset.scene(number)
            if progress:
                progress(f"{split}/scene_{number:04d}", done, total)
            done += 1
            names = FORMS[form](folder / split, scene)
            for place, (name, c) in enumerate(zip(names, scene.conditions, strict=True)):
                where = {"image": f"{split}/{name}", "split": split, "scene": number, "place": place}
                rows.append({**where, **asdict(c), "terms": len(focal_nodes(c, scene.wave))})
            if form == "tiff":
                there, particles = truth_of_scene(scene)
                truth |= dict.fromkeys(names, there)
                kinds |= dict.fromkeys(names, _kinds(scene, particles, categories))
        if truth:
            write_coco(folder / split / TRUTH, truth, categories=categories, kinds=kinds)
    write_whole(folder / CONDITIONS, _table(rows))
    return Export(folder=folder, images=len(rows))


def _claim(folder: Path, stamp: str) -> None:
    """Begin an export, or go on with the same one."""
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"{folder} is a file; choose a new folder for the export")
    path = folder / STAMP
    if folder.exists() and any(folder.iterdir()) and (not path.exists() or path.read_text("utf-8") != stamp):
        raise ParameterError(
            f"{folder} is not empty and holds no export of this dataset; choose a new folder"
        )
    write_whole(path, stamp)


def _write_tiff(folder: Path, scene: Scene) -> list[str]:
    names = [f"scene_{scene.number:04d}_{place:02d}.tif" for place in range(len(scene.conditions))]
    if not all((folder / name).exists() for name in names):
        for name, image, c in zip(names, scene.images().numpy(), scene.conditions, strict=True):
            write_whole(folder / name, imagej_tiff(image, c.pixel_size))
    return names


def _write_npz(folder: Path, scene: Scene) -> list[str]:
    name = f"scene_{scene.number:04d}.npz"
    if not (folder / name).exists():
        content = io.BytesIO()
        conditions = {
            f.name: np.array([getattr(c, f.name) for c in scene.conditions])
            for f in fields(ImagingConditions)
        }
        np.savez_compressed(
            content,
            images=scene.images().numpy(),
            labels=scene.labels.astype(np.uint16),
            specimen=np.array(scene.specimen.to_json()),
            **conditions,  # type: ignore[arg-type]
        )
        write_whole(folder / name, content.getvalue())
    return [name] * len(scene.conditions)


FORMS: dict[str, Callable[[Path, Scene], list[str]]] = {"tiff": _write_tiff, "npz": _write_npz}
"""How a scene is written into a folder; each gives the file of every image."""


def _table(rows: Sequence[dict[str, Any]]) -> str:
    headings = list(rows[0]) if rows else ["image"]
    return rows_csv([headings, *([row[h] for h in headings] for row in rows)])
