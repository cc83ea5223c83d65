"""The folder of a survey: images that were drawn to be labelled, what was found in them, and the sealed draw.

Whoever labels needs ``images`` and ``detections.coco.json`` alone; ``draw.json`` holds what was known of the
whole folder before anyone looked, with a checksum of itself.
"""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from passband import __version__
from passband.detections.detections import Detections
from passband.detections.files import write_coco
from passband.errors import DatasetError, PassbandError
from passband.micrographs.many import Reading
from passband.micrographs.micrograph import Micrograph
from passband.store.files import write_whole
from passband.store.folders import StoreKind, read_manifest
from passband.store.sealed import file_sha256, sealed
from passband.types import Boxes, Vector

TASK = StoreKind(
    noun="survey",
    format="passband-survey",
    version=1,
    manifest="draw.json",
    stems="draw",
    make="passband survey draw images/ --out task",
)
IMAGES, DETECTIONS, README = "images", "detections.coco.json", "README.txt"

_WORDS = """\
{count} of {n} images, drawn at random (seed {seed}) before anyone looked at them.

1. Open the images of the folder {images} that are listed below in CVAT, Label Studio, napari or any other
   annotation tool.
2. If the tool reads COCO, import {detections}: what the detector found is filled in.
   Correct it: delete what is not there, mend what is off, and above all add what was missed.
3. Label every image listed, also the poor ones, also those with nothing in them: one left out makes the
   result invalid, because the draw is what makes it true.
4. Export as COCO, YOLO or label images, named like the images, and run

       passband survey result {task} --annotations EXPORTED

Change nothing in this folder: write the exported file elsewhere.

{names}
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One image of the surveyed folder, as it was known before the draw.

    Parameters
    ----------
    path
        Of the file.
    sha256
        Of its content.
    image_shape
        Height and width in pixels.
    pixel_size
        Å, or None.
    estimates
        "f1", "precision" and "recall" without labels; empty where there are none.
    diameters
        Of the objects found, pixels, float64 (n,).
    object_area
        Of all objects found, in pixels.
    """

    path: str
    sha256: str
    image_shape: tuple[int, int]
    pixel_size: float | None
    estimates: Mapping[str, float]
    diameters: Vector
    object_area: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One image that was drawn to be labelled.

    Parameters
    ----------
    place
        Of its member in the population.
    name
        Of the image in the task that annotation tools open.
    files
        Every file of it in the task, name to checksum: the original, and a picture where tools cannot read
        that.
    boxes_xyxy
        What was found, pixels, float64 (n, 4).
    """

    place: int
    name: str
    files: Mapping[str, str]
    boxes_xyxy: Boxes


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a draw recorded.

    Parameters
    ----------
    folder
        Of the task.
    seed
        Of the draw.
    members
        The population, one or more.
    strata
        int64 (n,): of each member, from 0.
    drawn
        In the order of the population.
    thickness
        Of the foil in Å, or None.
    source
        What found the objects, in words.
    notes
        What was noticed when drawing, in words.
    """

    folder: Path
    seed: int
    members: tuple[Member, ...]
    strata: np.ndarray
    drawn: tuple[Drawn, ...]
    thickness: float | None
    source: str
    notes: tuple[str, ...]


def write_task(task: Task, found: Sequence[Detections], reading: Reading) -> Task:
    """Write the folder of a draw, whole or not at all.

    Parameters
    ----------
    task
        Whose drawn images have a place alone; their names and files are filled in.
    found
        What was found in each of them.
    reading
        How the originals are read, where a picture of them is to be made.

    Returns
    -------
    Task
        As `read_task` gives it.

    Raises
    ------
    DatasetError
        If the folder is there already and holds something.
    PassbandError
        If it cannot be written, or an original can no longer be read.
    """
    folder = task.folder
    refuse_begun(folder)
    partial = folder.parent / f".{folder.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / IMAGES).mkdir(parents=True)
        drawn = []
        for one, name in zip(
            task.drawn, _names([task.members[d.place].path for d in task.drawn]), strict=True
        ):
            member = task.members[one.place]
            files = _put(partial / IMAGES, name, member, reading)
            drawn.append({"place": one.place, "files": files, "boxes_xyxy": one.boxes_xyxy.tolist()})
        shown = [_shown(d["files"]) for d in drawn]
        write_coco(partial / DETECTIONS, dict(zip(shown, found, strict=True)))
        words = _WORDS.format(
            count=len(drawn), n=len(task.members), seed=task.seed, images=IMAGES, detections=DETECTIONS,
            task=folder.name, names="\n".join(shown),
        )  # fmt: skip
        write_whole(partial / README, words)
        write_whole(partial / TASK.manifest, sealed(_record(task, drawn, file_sha256(partial / DETECTIONS))))
        partial.rename(folder)
    except OSError as e:
        raise PassbandError(
            f"{folder} cannot be written: {e.strerror or e}; choose a folder that you may write to, with room"
        ) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read_task(folder)


def refuse_begun(folder: Path) -> None:
    """Refuse a folder that is there already: a draw after a look would be no random one.

    Raises
    ------
    DatasetError
        If it holds something, or is a file.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if (folder / TASK.manifest).exists():
        raise DatasetError(f"{folder} holds a draw already; label its images, or choose a new folder")
    if folder.exists():
        raise DatasetError(f"{folder} is there already and is no survey; choose a new folder")


def read_task(folder: Path) -> Task:
    """Read what a draw recorded.

    Raises
    ------
    DatasetError
        If there is none, or the record was edited.
    """
    record = read_manifest(folder, TASK)
    try:
        return _task(folder, record)
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise DatasetError(f"{folder / TASK.manifest} is no draw's: {type(e).__name__} {e}; draw anew") from e


def changes_of(task: Task) -> list[str]:
    """What was changed in a task's images by hand, in words; files that were removed are none."""
    told = []
    for one in task.drawn:
        for name, digest in one.files.items():
            path = task.folder / IMAGES / name
            if path.is_file() and file_sha256(path) != digest:
                told.append(f"{IMAGES}/{name} is not the image that was drawn: it was changed by hand")
    return told


def is_as_drawn(task: Task, annotations: Path) -> bool:
    """Whether annotations are the detections as they were filled in, to the byte."""
    record = read_manifest(task.folder, TASK)
    return annotations.is_file() and file_sha256(annotations) == record["detections_sha256"]


def _record(task: Task, drawn: Sequence[Mapping[str, Any]], detections_sha256: str) -> dict[str, Any]:
    return {
        "format": TASK.format,
        "version": TASK.version,
        "made_by": __version__,
        "seed": task.seed,
        "source": task.source,
        "thickness": task.thickness,
        "notes": list(task.notes),
        "detections_sha256": detections_sha256,
        "drawn": list(drawn),
        "population": [
            {
                "path": m.path,
                "sha256": m.sha256,
                "image_shape": list(m.image_shape),
                "pixel_size": m.pixel_size,
                "stratum": int(stratum),
                "estimates": dict(m.estimates),
                "found": len(m.diameters),
                "object_area_px": m.object_area,
                "diameters_px": m.diameters.tolist(),
            }
            for m, stratum in zip(task.members, task.strata, strict=True)
        ],
    }


def _task(folder: Path, record: Mapping[str, Any]) -> Task:
    rows = record["population"]
    members = tuple(
        Member(
            path=r["path"],
            sha256=r["sha256"],
            image_shape=(r["image_shape"][0], r["image_shape"][1]),
            pixel_size=r["pixel_size"],
            estimates=r["estimates"],
            diameters=np.array(r["diameters_px"], np.float64),
            object_area=r["object_area_px"],
        )
        for r in rows
    )
    drawn = tuple(
        Drawn(
            place=d["place"],
            name=_shown(d["files"]),
            files=d["files"],
            boxes_xyxy=np.array(d["boxes_xyxy"], np.float64).reshape(-1, 4),
        )
        for d in record["drawn"]
    )
    return Task(
        folder=folder,
        seed=record["seed"],
        members=members,
        strata=np.array([r["stratum"] for r in rows], np.int64),
        drawn=drawn,
        thickness=record["thickness"],
        source=record["source"],
        notes=tuple(record["notes"]),
    )


def _shown(files: Mapping[str, str]) -> str:
    """Of an image's files, the one that annotation tools open: the last."""
    return list(files)[-1]


def _names(paths: Sequence[str]) -> list[str]:
    """A name for each image: that of its file, with its folder's before it where two share one.

    Two that share a stem would share a picture's name, and a label image's.
    """
    stems = Counter(Path(p).stem for p in paths)
    names: dict[str, str] = {}
    for p in map(Path, paths):
        first = stem = p.stem if stems[p.stem] == 1 else f"{p.resolve().parent.name}_{p.stem}"
        number = 2
        while stem in names:
            stem, number = f"{first}_{number}", number + 1
        names[stem] = f"{stem}{p.suffix}"
    return list(names.values())


def _put(images: Path, name: str, member: Member, reading: Reading) -> dict[str, str]:
    """Copy an original, with a picture where annotation tools would not show it; name to checksum."""
    original = images / name
    shutil.copyfile(member.path, original)
    files = {name: file_sha256(original)}
    if files[name] != member.sha256:
        raise PassbandError(f"{member.path} was changed while images were drawn; draw again")
    if not _shown_by_tools(original):
        shown = images / (
            f"{original.stem}.png" if original.suffix.lower() != ".png" else f"{original.stem}_8bit.png"
        )
        write_whole(shown, _png(reading.read(member.path)))
        files[shown.name] = file_sha256(shown)
    return files


def _shown_by_tools(path: Path) -> bool:
    """Whether annotation tools show a file as it is: JPEG, and PNG of 8 bits."""
    if path.suffix.lower() == ".png":
        with path.open("rb") as f:
            return f.read(25)[24:] <= b"\x08"
    return path.suffix.lower() in (".jpg", ".jpeg")


def _png(micrograph: Micrograph) -> bytes:
    """8-bit grey on the same pixels, its darkest and brightest half percent clipped."""
    from PIL import Image

    low, high = np.percentile(micrograph.pixels, (0.5, 99.5))
    grey = np.clip((micrograph.pixels - low) / max(float(high - low), 1e-30), 0, 1) * 255
    content = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(content, "PNG")
    return content.getvalue()
