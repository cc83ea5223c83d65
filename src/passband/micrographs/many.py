"""Many micrograph files: which a path stands for, and how each is read."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from passband.errors import ParameterError, PassbandError, ReadError
from passband.micrographs.masks_beside import masks_beside
from passband.micrographs.micrograph import GIVEN, Micrograph
from passband.micrographs.readers import SUFFIXES, count_frames, read_mean, read_micrograph
from passband.micrographs.scale_bar import find_scale_bar
from passband.micrographs.sidecar import not_listed, sidecar_pixel_size

Errors = tuple[tuple[str, str], ...]
"""Pairs of a path and what was wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How micrographs are read.

    Parameters
    ----------
    pixel_size
        Å, in place of what the files say, or None.
    sidecar
        Pixel sizes in Å by file name, in place of what the files say.
    frame
        Which image of a stack, from 0, or "mean" of all of them, or "all", each by itself, or None.
    permissive
        Accept what can be made sense of, as `read_micrograph` does.
    defocus
        Å, positive is underfocus, in place of what the files say, or None.
    instrument
        The microscope's name, in place of what the files say, or empty.
    """

    pixel_size: float | None = None
    sidecar: Mapping[str, float] = field(default_factory=dict)
    frame: int | Literal["mean", "all"] | None = None
    permissive: bool = False
    defocus: float | None = None
    instrument: str = ""

    def given_pixel_size(self, path: str) -> float | None:
        """Å, where it is not left to the file to say."""
        return self.pixel_size or sidecar_pixel_size(self.sidecar, path)

    def notes_on(self, files: Sequence[str]) -> tuple[str, ...]:
        """What is to be said of these files before they are read: which the sidecar lacks."""
        lacking = "" if self.pixel_size else not_listed(self.sidecar, files)
        return (lacking,) if lacking else ()

    def images(self, files: Sequence[str]) -> tuple[str, ...]:
        """What is to be read of files: of a film each frame, as "film.mrc#0", where that was asked for."""
        if self.frame != "all":
            return tuple(files)
        frames = ((file, frame) for file in files for frame in frames_of(file, slice(None)))
        return tuple(file if frame is None else f"{file}#{frame}" for file, frame in frames)

    def read(self, path: str) -> Micrograph:
        """One micrograph, a file or a frame as `images` names it, with the pixel size that holds for it."""
        path, own = file_and_frame(path)
        frame = self.frame if own is None and self.frame != "all" else own
        if frame == "mean":
            micrograph = read_mean(path, pixel_size=self.pixel_size, permissive=self.permissive)
        else:
            micrograph = read_micrograph(
                path, frame=frame, pixel_size=self.pixel_size, permissive=self.permissive
            )
        if own is not None:
            micrograph = replace(micrograph, name=f"{micrograph.name}#{own}")
        if self.defocus is not None:
            sources = {**micrograph.sources, "defocus": GIVEN}
            micrograph = replace(micrograph, defocus=self.defocus, sources=sources)
        if self.instrument:
            micrograph = replace(micrograph, instrument=self.instrument)
        listed = sidecar_pixel_size(self.sidecar, path)
        if self.pixel_size is None and listed is not None:
            return micrograph.calibrated(listed, "the sidecar table")
        if micrograph.pixel_size is None and (bar := find_scale_bar(micrograph.pixels)) is not None:
            words = (
                f"{bar.words!r} on {bar.length:.0f} px, lettering read with confidence {bar.confidence:.2f}"
            )
            return replace(
                micrograph.calibrated(bar.pixel_size, f"the scale bar in the image ({words})"),
                written=(bar.bar, bar.label),
            )
        return micrograph


def file_and_frame(image: str) -> tuple[str, int | None]:
    """The file of an image and, of one named as a film's frame, which it is, from 0.

    Examples
    --------
    >>> file_and_frame("a.tif")
    ('a.tif', None)
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".mrc") as film:
    ...     file_and_frame(f"{film.name}#12")[1]
    12
    """
    found = re.fullmatch(r"(.+)#(\d{1,9})", image, re.DOTALL)
    if not found or Path(image).exists() or not Path(found[1]).exists():
        return image, None
    return found[1], int(found[2])


def frames_of(file: str, wanted: slice) -> Sequence[int | None]:
    """Which frames of a film are meant; [None] is a file as one micrograph, or what is wrong with it."""
    try:
        count = count_frames(file)
    except PassbandError:
        return [None]  # reading it says why
    if count == 1:
        return [None]
    return range(count)[wanted] or [count]  # reading the frame after the last says how many there are


def find_micrographs(paths: Sequence[str], notes: list[str] | None = None) -> tuple[tuple[str, ...], Errors]:
    """Expand folders and wildcards to files, each once; masks beside their images are left out.

    Parameters
    ----------
    paths
        Files, folders (their readable files, not those of folders within) and wildcards
        (``**`` for any folders).
    notes
        Where given, it is appended how many masks were left out.

    Returns
    -------
    files, errors
        Files in the order given, those of a folder or wildcard sorted by name; and each folder or
        wildcard that holds none, and each mask whose image is not among the files.

    Examples
    --------
    >>> find_micrographs(["b.tif", "a.tif", "./b.tif"])
    (('b.tif', 'a.tif'), ())
    """
    files: dict[Path, str] = {}
    errors = []
    for path in paths:
        try:
            for file in _expanded(path):
                files.setdefault(Path(file).resolve(), file)
        except PassbandError as e:
            errors.append((path, str(e)))
    masks = masks_beside(files.values(), SUFFIXES)
    alone = {mask: image for mask, image in masks.items() if image.resolve() not in files}
    for mask, image in alone.items():
        errors.append((mask, f"is a mask of {image.name} beside it, not a micrograph; give the image"))
    if len(masks) > len(alone) and notes is not None:
        some = [Path(m).name for m in masks if m not in alone]
        what = "a mask beside its image is" if len(some) == 1 else f"{len(some):,} masks beside images are"
        notes.append(f"{what} no micrograph: {', '.join(some[:3])}{', ...' if len(some) > 3 else ''}")
    return tuple(path for path in files.values() if path not in masks), tuple(errors)


def frame_from_text(text: str, *, each: bool = False) -> int | Literal["mean", "all"]:
    """Which image of a stack a number from 0, or "mean", names; or "all", where each may be asked for.

    Raises
    ------
    ParameterError
        If it names none.

    Examples
    --------
    >>> frame_from_text("3"), frame_from_text("mean")
    (3, 'mean')
    """
    if text == "mean":
        return "mean"
    if text == "all" and each:
        return "all"
    if not text.isascii() or not text.isdigit():
        ways = "from 0, mean or all" if each else "from 0, or mean"
        raise ParameterError(f"frame is a number {ways}, got {text!r}")
    return int(text)


def frames_from_text(text: str) -> slice:
    """Which frames of each film "all" or "FIRST:LAST:STEP" names, from 0, the last left out.

    Raises
    ------
    ParameterError
        If it names none.

    Examples
    --------
    >>> frames_from_text("all"), frames_from_text("10:20")
    (slice(None, None, None), slice(10, 20, None))
    """
    if text == "all":
        return slice(None)
    found = re.fullmatch(r"(\d*):(\d*)(?::(\d+))?", text)
    first, last, step = ((int(p) if p else None) for p in found.groups()) if found else (None, None, 0)
    if step == 0 or (last is not None and last <= (first or 0)):
        raise ParameterError(f"frames are all, 0:100 (the last left out) or 0:100:5, got {text!r}")
    return slice(first, last, step)


def without_name(message: str, path: str) -> str:
    """A message that begins with a path, without it, for where the path stands already.

    Examples
    --------
    >>> without_name("a.tif: no such file", "a.tif")
    'no such file'
    """
    return message.removeprefix(path).removeprefix(":").lstrip()


def _expanded(path: str) -> Iterator[str]:
    """Files that a path stands for."""
    known = "can be read: " + " ".join(SUFFIXES)
    place = Path(path)
    try:
        if place.is_dir():
            inside = sorted(p for p in place.iterdir() if _readable(p))
            if not inside:
                within = f"; folders within it are not looked into: give them, or '{place}/**/*' in quotes"
                deeper = within if any(p.is_dir() for p in place.iterdir()) else ""
                raise ReadError(f"the folder holds no micrograph{_others(place)}{deeper}; {known}")
            yield from (str(p) for p in inside)
        elif not place.exists() and glob.has_magic(path):
            matched = sorted(p for p in glob.glob(path, recursive=True) if _readable(Path(p)))  # noqa: PTH207
            if not matched:
                raise ReadError(f"the pattern matches no micrograph; {known}")
            yield from matched
        else:
            yield path  # reading says what is wrong with it
    except OSError as e:
        raise ReadError(f"cannot be looked into: {e.strerror or e}") from e


def _others(folder: Path) -> str:
    """Which kinds of file a folder holds instead, in words."""
    kinds = Counter(p.suffix.lower() or "without a suffix" for p in folder.iterdir() if p.is_file())
    listed = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5))
    return f" but {listed}{', ...' if len(kinds) > 5 else ''}" if kinds else ""


def _readable(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
