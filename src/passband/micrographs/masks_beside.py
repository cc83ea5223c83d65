"""Which files are the masks of an image beside them, by what segmentation tools name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

# Cellpose, Omnipose and micro-sam; napari, ImageJ, StarDist; Passband's own.
_MASK = r"(?:cp_masks|omni_masks|masks?|labels?|lbl|instances?|segmentation|cellpose|stardist|sam)"
# What they leave beside the masks.
_BY_PRODUCT = r"(?:cp_outlines|outlines|cp_output|cp_flows|flows|dp|seg)"
_ENDING = re.compile(rf"^(?P<plain>.+?)[_\-. ](?:{_MASK}|(?P<by>{_BY_PRODUCT}))$", re.IGNORECASE)
_BEGINNING = re.compile(r"^(?:masks?|labels?)[_\-. ](?P<plain>.+)$", re.IGNORECASE)
_FOLDERS = frozenset({"mask", "masks", "label", "labels", "annotations", "segmentations"})


def image_stem(stem: str) -> str | None:
    """The image's part of a mask's name without its suffix; None where it is not named like a mask.

    Examples
    --------
    >>> image_stem("a_cp_masks"), image_stem("labels-a"), image_stem("a")
    ('a', 'a', None)
    """
    found = _ENDING.match(stem) or _BEGINNING.match(stem)
    return found["plain"] if found else None


def is_by_product(stem: str) -> bool:
    """Whether a name is that of what a tool leaves beside its masks: flows, outlines, a pickle.

    Examples
    --------
    >>> is_by_product("a_seg"), is_by_product("a_masks")
    (True, False)
    """
    found = _ENDING.match(stem)
    return bool(found and found["by"])


def masks_beside(files: Iterable[str], suffixes: Sequence[str]) -> dict[str, Path]:
    """Those files that are masks of an image which lies beside them, each with that image.

    Parameters
    ----------
    files
        Paths.
    suffixes
        Of images, in lower case.

    Returns
    -------
    dict
        Path of the mask, as given, to that of the image.
    """

    @cache
    def images_in(folder: Path) -> dict[str, Path]:
        try:
            there = sorted(folder.iterdir())
        except OSError:
            return {}
        return {p.stem.removesuffix(".ome"): p for p in reversed(there) if p.suffix.lower() in suffixes}

    found = {}
    for file in files:
        path = Path(file)
        plain = image_stem(path.stem)
        image = images_in(path.parent).get(plain) if plain else None
        if image is None and path.parent.name.lower() in _FOLDERS:
            above = path.parent.parent
            for folder in (above / "images", above):
                image = image or images_in(folder).get(path.stem) or images_in(folder).get(plain or path.stem)
        if image is not None:
            found[file] = image
    return found
