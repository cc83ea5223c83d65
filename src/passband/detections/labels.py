"""Label images to detections: one number an object, or a binary mask that is split into its objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from passband.detections.detections import Detections
from passband.detections.gathering import MAX_MASK_PIXELS, MAX_OBJECTS, Faults
from passband.detections.image_names import KnownImages, match_files
from passband.detections.masks import masks_from_labels, tight_mask
from passband.errors import DetectionsError, ReadError
from passband.micrographs.masks_beside import image_stem, is_by_product
from passband.micrographs.readers import read_labels
from passband.types import InstanceMask

LABEL_SUFFIXES = (".npy", ".tif", ".tiff", ".png")
# A photograph taken for labels: more numbers than this, and fewer equal neighbours than that.
_FEW_LABELS = 20
_EQUAL_NEIGHBOURS = 0.5
# A mask is white on black: the largest number of one and of two bytes.
_WHITE = (2**8 - 1, 2**16 - 1)


def from_label_image(labels: npt.NDArray[Any]) -> Detections:
    """Take a label image: 0 is background, every other number is one object, with score 1.

    Parameters
    ----------
    labels
        Whole numbers (y, x); of true and false, each connected piece is one object, corners included.

    Returns
    -------
    Detections
        In the order of the numbers, each with its mask and the mask's box.

    Raises
    ------
    DetectionsError
        If the array is not two-dimensional, not of whole numbers, or holds a negative one.

    Examples
    --------
    >>> from_label_image(np.array([[0, 2, 2], [1, 0, 0]])).boxes_xyxy.tolist()
    [[0.0, 1.0, 1.0, 2.0], [1.0, 0.0, 3.0, 1.0]]
    """
    labels = np.asarray(labels)
    if labels.dtype == bool and labels.ndim == 2:
        whole = tight_mask(labels)
        return _detections((labels.shape[0], labels.shape[1]), () if whole is None else _pieces(whole))
    masks = masks_from_labels(labels)
    return _detections((labels.shape[0], labels.shape[1]), masks)


def read_label_images(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read one label image (npy, tif, png), or a folder of them, named like their images.

    What segmentation tools add to a name (``_cp_masks``, ``_masks``, ``_labels``) is passed over. An image is
    never taken for its own labels. Where no file holds more than one number they are binary masks.

    Parameters
    ----------
    path
        The file, or the folder.
    known
        The images.

    Raises
    ------
    DetectionsError
        Naming every fault.
    """
    faults = Faults(path)
    matched = match_files(_label_files(path, known, faults), known, _label_of, faults)
    faults.raise_if_any()
    shapes, found = {}, {}
    binary: list[str] = []
    for name, file in matched.items():
        try:
            labels = _labels(file, name, known)
        except (DetectionsError, ReadError) as error:
            words = str(error).removeprefix(f"{file.parent}/").replace(" from the microscope", "")
            known.notes.refuse(name, words)
            continue
        shapes[name], found[name] = (labels.shape[0], labels.shape[1]), masks_from_labels(labels)
        if int(labels.max()) in _WHITE and len(found[name]) == 1:
            binary.append(name)
        _bound(known, found[name])
    if all(len(masks) <= 1 for masks in found.values()):
        binary = [name for name, masks in found.items() if masks]
    for name in binary:
        found[name] = _pieces(found[name][0])
        _bound(known, found[name])
    if binary:
        one = "a binary mask was" if len(binary) == 1 else f"{len(binary):,} binary masks were"
        objects = sum(len(found[name]) for name in binary)
        known.notes.say(f"{one} split into connected objects, corners included: {objects:,} in all")
    return {name: _detections(shapes[name], masks) for name, masks in found.items()}


def _label_files(path: Path, known: KnownImages, faults: Faults) -> list[Path]:
    """The files that may be labels: masks first, then what bears the plain name, never an image itself."""
    files = [path]
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in LABEL_SUFFIXES and f.name[0] != "."]
        if not files:
            faults.add(f"the folder holds no label image ({', '.join(LABEL_SUFFIXES)})")
            return []
    pickles = [f.name for f in files if f.name.lower().endswith("_seg.npy")]
    images = {Path(name).resolve() for name in known.shapes or ()}
    files = [f for f in files if f.resolve() not in images and not is_by_product(f.stem)]
    named = {image_stem(f.stem) for f in files}
    files = [f for f in files if f.stem not in named]  # beside its masks a plain name is an image
    if files:
        return sorted(files, key=lambda f: (image_stem(f.stem) is None, f.name))
    if pickles:
        faults.add(
            "Cellpose's _seg.npy is a pickle, which can run code and is never opened; save the masks as "
            "_cp_masks (Cellpose: --save_png or --save_tif, in its window Ctrl+N)",
            pickles[0],
        )
    else:
        faults.add("it holds only the images themselves, no labels of them")
    return []


def _label_of(file: Path) -> str:
    """The image's part of a label image's name."""
    return image_stem(file.stem) or file.name


def _labels(file: Path, name: str, known: KnownImages) -> npt.NDArray[np.int32]:
    """The labels of an image, of its size, or an error that says what is there instead."""
    labels, notes = read_labels(file)
    for note in notes:
        known.notes.say(note)
    wanted = (labels.shape[0], labels.shape[1]) if known.shapes is None else known.shapes[name]
    if labels.shape != wanted:
        size = "{} x {}".format(*labels.shape)
        raise DetectionsError(
            f"{file.name} is {size}, image {name!r} is {wanted[0]} x {wanted[1]} (height x width)"
        )
    pairs = (labels[:, 1:] > 0) & (labels[:, :-1] > 0)
    equal = np.count_nonzero(pairs & (labels[:, 1:] == labels[:, :-1]))
    if equal < _EQUAL_NEIGHBOURS * np.count_nonzero(pairs) and len(np.unique(labels)) > _FEW_LABELS:
        raise DetectionsError(f"{file.name} is an image, not labels of one: most neighbouring pixels differ")
    return labels


def _pieces(mask: InstanceMask) -> tuple[InstanceMask, ...]:
    """The connected pieces of a mask, corners included."""
    from scipy.ndimage import label

    numbered, count = label(mask.pixels, np.ones((3, 3), bool))
    if count > MAX_OBJECTS:
        raise DetectionsError(
            f"a binary mask falls into {count:,} pieces: it is noise, not a mask of objects"
        )
    return tuple(
        InstanceMask(y=m.y + mask.y, x=m.x + mask.x, pixels=m.pixels) for m in masks_from_labels(numbered)
    )


def _bound(known: KnownImages, masks: Sequence[InstanceMask]) -> None:
    """Count objects and their pixels, and refuse what no set of images has."""
    known.notes.objects += len(masks)
    known.notes.mask_pixels += sum(m.pixels.size for m in masks)
    if known.notes.objects > MAX_OBJECTS or known.notes.mask_pixels > MAX_MASK_PIXELS:
        raise DetectionsError("the label images hold more objects than are read at once; give fewer images")


def _detections(shape: tuple[int, int], masks: tuple[InstanceMask, ...]) -> Detections:
    """Detections of some masks, without scores of a detector."""
    return Detections(
        image_shape=shape,
        boxes_xyxy=np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4),
        scores=np.ones(len(masks)),
        masks=masks,
        scored=False,
    )
