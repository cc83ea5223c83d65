"""A contact sheet of a simulated dataset: some of its images with their labels, as a page and a picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from passband.drawing.html import page
from passband.drawing.parts import Box, scale_bar
from passband.drawing.saving import save_figure
from passband.drawing.thumbnails import Picture, picture_of, within_budget
from passband.errors import DatasetError
from passband.hrtem.dataset.dataset import Dataset, Scene
from passband.hrtem.dataset.export import truth_of_scene
from passband.hrtem.dataset.scene_figures import ScenePanel, draw_scenes
from passband.hrtem.dataset.study import SPLITS
from passband.hrtem.dataset.summary import summarise_dataset, summary_lines
from passband.hrtem.specimen.specimen import SpecimenRecord
from passband.micrographs.micrograph import Micrograph
from passband.optics.about import conditions_in_words
from passband.store.files import write_whole
from passband.types import Progress
from passband.units import NM
from passband.words import counted

NO_BREAK = "\N{NO-BREAK SPACE}"
SIDE = 440
"""Longer side of a picture in the page, in pixels."""
ON_PICTURE = 24
"""Scenes on the PNG at most; the page shows all that are asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Card:
    """What the sheet shows of one scene."""

    scene: Scene
    image: Micrograph
    picture: Picture
    bar: Box | None
    particles: str
    conditions: str
    sizes: str


def write_contact_sheet(
    dataset: Dataset,
    folder: str | Path,
    *,
    count: int = 24,
    progress: Progress | None = None,
) -> Path:
    """Write contact_sheet.html and contact_sheet.png: images of some scenes, labels outlined.

    Parameters
    ----------
    dataset
        Finished or not.
    folder
        Made where it is missing.
    count
        How many scenes, evenly spaced in the order of the splits; of each, another of its images in turn.
    progress
        Called with the scene begun, how many are done, and how many there are.

    Returns
    -------
    Path
        Of the page; it needs no network and no other file.

    Raises
    ------
    DatasetError
        If no scene is finished, or one is damaged.
    PassbandError
        If a file cannot be written.
    """
    numbers = chosen_scenes(dataset, count)
    if not numbers:
        raise DatasetError(f"{dataset.store.folder} holds no finished scene to show yet")
    cards = []
    for place, number in enumerate(numbers):
        if progress:
            progress(f"scene {number}", place, len(numbers))
        cards.append(_card(dataset.scene(number), place))
    folder = Path(folder)
    figure = draw_scenes(
        [
            ScenePanel(
                micrograph=c.image,
                labels=c.scene.labels,
                title=f"{c.scene.number} ({c.scene.split}): {c.particles}",
                words=c.conditions,
            )
            for c in cards[:ON_PICTURE]
        ],
        columns=4,
        title=f"{dataset.store.folder.resolve().name}: {counted(len(dataset), 'scene')}",
    )
    save_figure(figure, folder / "contact_sheet.png", dpi=110)
    return write_whole(folder / "contact_sheet.html", _page(dataset, cards))


def chosen_scenes(dataset: Dataset, count: int) -> list[int]:
    """Finished scenes to show, evenly spaced in the order of the splits, ascending within each.

    Parameters
    ----------
    dataset
        Finished or not.
    count
        How many at most.
    """
    there = set(dataset.finished())
    ordered = [i for name in SPLITS for i in dataset.split(name) if i in there]
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round()
    return [ordered[int(place)] for place in places]


def particles_words(scene: Scene) -> str:
    """The particles of a scene, in short."""
    kinds = Counter((p.material, p.shape) for p in scene.specimen.particles)
    if not kinds:
        return f"{substrate_words(scene.specimen)} alone"
    times = {kind: f"{n} × " if n > 1 else "" for kind, n in kinds.items()}  # noqa: RUF001
    return ", ".join(f"{times[kind]}{' '.join(kind)}" for kind in kinds)


def substrate_words(record: SpecimenRecord) -> str:
    """What the particles of a specimen lie on, in short."""
    if record.substrate == "none" or not record.thickness:
        return "no film"
    return {"packed carbon": "carbon"}.get(record.substrate, record.substrate)


def _card(scene: Scene, place: int) -> _Card:
    which = place % len(scene.conditions)
    conditions = scene.conditions[which]
    pixels = scene.image(which)
    image = Micrograph(
        pixels=pixels, name=f"scene {scene.number}, image {which}", pixel_size=conditions.pixel_size
    )
    picture = picture_of(image, truth_of_scene(scene)[0], side=SIDE)
    words = conditions_in_words(conditions).replace(" ", NO_BREAK)
    return _Card(
        scene=scene,
        image=image,
        picture=picture,
        bar=scale_bar(picture, conditions.pixel_size, size=1.5),
        particles=particles_words(scene),
        conditions=words.replace(f",{NO_BREAK}", ", "),  # a line breaks between two of them alone
        sizes=_sizes(scene),
    )


def _sizes(scene: Scene) -> str:
    """Diameters and zone axes of the particles, and what they lie on."""
    sizes = ", ".join(
        f"{p.diameter / NM:.1f}{' near [' + ' '.join(map(str, p.zone)) + ']' if p.zone else ''}"
        for p in scene.specimen.particles
    )
    film = substrate_words(scene.specimen)
    if scene.specimen.thickness:
        film += f" {scene.specimen.thickness / NM:.1f} nm"
    return (f"⌀ {sizes} nm, " if sizes else "") + film


def _page(dataset: Dataset, cards: list[_Card]) -> str:
    summary = summarise_dataset(dataset)
    pictures = within_budget([c.picture for c in cards])
    name = dataset.store.folder.resolve().name
    return page(
        "hrtem/dataset/contact_sheet.html",
        title=f"{name}: simulated dataset",
        headline=name,
        subtitle="Simulated dataset",
        summary=[(what, words) for what, words in summary_lines(summary) if what != "dataset"],
        shown=_shown(len(cards), summary.finished),
        cards=[replace(c, picture=p) for c, p in zip(cards, pictures, strict=True)],
        footer="Beside this page: contact_sheet.png.",
    )


def _shown(shown: int, finished: int) -> str:
    which = "All" if shown == finished else f"{shown} of"
    return (
        f"{which} {counted(finished, 'scene')}, one image of each. Outlines are the labels: the union of "
        "the projected atoms' discs, closed. Where an image shows its whole cell, a particle across the "
        "border appears on both sides."
    )
