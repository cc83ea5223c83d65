"""Crops to learn classes from: a few labelled, many not, some to test on; in memory and as ``.npz``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from passband.errors import ParameterError, ReadError
from passband.store.files import write_whole
from passband.store.npz import NPZ_FAULTS, npz_fault

_WANTED = (
    "an .npz with X_lab (n, size, size) and y_lab (n,), and if you like X_unl, y_unl, X_test, y_test and "
    "classes (names)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CropSet:
    """Crops of one size with what is known of them.

    Parameters
    ----------
    classes
        Their names; a label is a place in this list.
    labelled, labels
        Crops float32 (n, size, size), and their classes, integers (n,).
    unlabelled
        Crops without labels; none if not given.
    test
        Crops that nothing is learnt from.
    unlabelled_truth, test_truth
        Their classes where known, for scores alone; -1 is "none of the classes".
    about
        JSON values: where they come from.

    Raises
    ------
    ParameterError
        Naming every fault: shapes, values that are not finite, classes out of range.
    """

    classes: tuple[str, ...]
    labelled: Float32[np.ndarray, "n size size"]
    labels: Int[np.ndarray, " n"]
    unlabelled: Float32[np.ndarray, "m size size"] | None = None
    test: Float32[np.ndarray, "k size size"] | None = None
    unlabelled_truth: Int[np.ndarray, " m"] | None = None
    test_truth: Int[np.ndarray, " k"] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        parts = {
            "labelled": (self.labelled, self.labels),
            "unlabelled": (self.unlabelled, self.unlabelled_truth),
        }
        parts["test"] = (self.test, self.test_truth)
        sizes = set()
        for name, (crops, classes) in parts.items():
            if crops is None:
                continue
            faults += crop_faults(crops, name)
            sizes.add(crops.shape[1:])
            if classes is not None and classes.shape != crops.shape[:1]:
                faults.append(f"{name}: {len(crops)} crops but {classes.size} labels")
            least = 0 if name == "labelled" else -1
            if (
                classes is not None
                and classes.size
                and not least <= classes.min() <= classes.max() < len(self.classes)
            ):
                faults.append(f"{name}: labels must be 0 to {len(self.classes) - 1}")
        if len(sizes) > 1:
            faults.append(f"crops of different sizes: {', '.join(str(s) for s in sorted(sizes))}")
        if faults:
            raise ParameterError("crops: " + "; ".join(faults))


def crop_faults(crops: np.ndarray, name: str = "crops") -> list[str]:
    """What makes an array unfit as crops, in words.

    Examples
    --------
    >>> crop_faults(np.zeros((2, 8, 8, 3), np.float32))
    ['crops: shape (2, 8, 8, 3), wanted (n, size, size): grey, square; turn RGB to grey first']
    """
    if crops.ndim != 3 or crops.shape[1] != crops.shape[2]:
        wanted = "wanted (n, size, size): grey, square" + (
            "; turn RGB to grey first" if crops.ndim == 4 else ""
        )
        return [f"{name}: shape {crops.shape}, {wanted}"]
    faults = []
    if len(crops) and not 8 <= crops.shape[1] <= 512:
        faults.append(f"{name}: {crops.shape[1]} pixels a side, wanted 8 to 512")
    bad = np.flatnonzero(~np.isfinite(crops).all(axis=(1, 2)))
    if bad.size:
        shown = ", ".join(map(str, bad[:5])) + (" ..." if bad.size > 5 else "")
        faults.append(f"{name}: {bad.size} of them hold values that are not finite (numbers {shown})")
    return faults


def write_crop_set(crops: CropSet, path: str | Path) -> Path:
    """Write crops as ``.npz``: X_lab, y_lab, X_unl, y_unl, X_test, y_test, classes, about.

    Crops within [0, 1] are stored as bytes, others as float32.

    Examples
    --------
    >>> import tempfile
    >>> crops = CropSet(classes=("a",), labelled=np.ones((1, 8, 8), np.float32), labels=np.array([0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_crop_set(write_crop_set(crops, Path(folder) / "a.npz")).labels.tolist()
    [0]
    """
    arrays = {"classes": np.array(crops.classes), "about": np.array(json.dumps(dict(crops.about)))}
    parts = (
        ("lab", crops.labelled, crops.labels),
        ("unl", crops.unlabelled, crops.unlabelled_truth),
        ("test", crops.test, crops.test_truth),
    )
    for name, images, truth in parts:
        if images is not None:
            arrays[f"X_{name}"] = _as_bytes(images)
        if truth is not None:
            arrays[f"y_{name}"] = truth.astype(np.int64)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return write_whole(path, content.getvalue())


def read_crop_set(path: str | Path) -> CropSet:
    """Read crops from ``.npz``; integers of 8 or 16 bits are scaled to [0, 1] by their type's range.

    Raises
    ------
    ReadError
        If the file is missing, damaged or holds something else, naming every fault.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as e:
        raise ReadError(f"{path}: no such file; wanted {_WANTED}") from e
    except NPZ_FAULTS as e:
        raise ReadError(f"{path}: cannot be read ({npz_fault(path, e)}); wanted {_WANTED}") from e
    if ("X_lab" not in arrays or "y_lab" not in arrays) and not {"X_test", "X_unl"} & set(arrays):
        raise ReadError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; wanted {_WANTED}")
    try:
        return _crop_set(arrays)
    except (ParameterError, ValueError, TypeError) as e:
        raise ReadError(f"{path}: {e}; wanted {_WANTED}") from e


def scaled(values: np.ndarray) -> np.ndarray:
    """Bytes and 16-bit integers to [0, 1] by their type's range; floats as they are, float32.

    Examples
    --------
    >>> scaled(np.array([0, 255], np.uint8)).tolist()
    [0.0, 1.0]
    """
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    if values.dtype.kind not in "fiub":
        raise ParameterError(f"crops of type {values.dtype}, wanted numbers")
    numbers: np.ndarray = values.astype(np.float32)
    return numbers


def _crop_set(arrays: dict[str, np.ndarray]) -> CropSet:
    images = {n: scaled(arrays[f"X_{n}"]) for n in ("lab", "unl", "test") if f"X_{n}" in arrays}
    truth = {n: _labels(arrays[f"y_{n}"]) for n in ("lab", "unl", "test") if f"y_{n}" in arrays}
    known = [t.max() for t in truth.values() if t.size]
    count = int(max(known, default=0)) + 1
    names = tuple(map(str, arrays["classes"])) if "classes" in arrays else tuple(map(str, range(count)))
    about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    if not isinstance(about, dict):
        raise ParameterError("about must be a JSON object")
    size = next(iter(images.values())).shape[1:]
    return CropSet(
        classes=names,
        labelled=images.get("lab", np.zeros((0, *size), np.float32)),
        labels=truth.get("lab", np.zeros(0, np.int64)),
        unlabelled=images.get("unl"),
        unlabelled_truth=truth.get("unl"),
        test=images.get("test"),
        test_truth=truth.get("test"),
        about=about,
    )


def _labels(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2 and values.shape[1] > 1:  # one-hot
        values = values.argmax(1)
    whole: np.ndarray = np.rint(np.asarray(values, np.float64))
    if not np.array_equal(whole, values):
        raise ParameterError("labels must be whole numbers")
    numbers: np.ndarray = whole.astype(np.int64)
    return numbers


def _as_bytes(images: np.ndarray) -> np.ndarray:
    if images.size and images.min() >= 0 and images.max() <= 1:
        images = np.rint(images * 255).astype(np.uint8)
    return images if images.dtype == np.uint8 else np.asarray(images, np.float32)
