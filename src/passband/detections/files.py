"""Any detector's output to `Detections`: files of every common form, and the values of libraries.

COCO JSON (results and ground truth, Detectron2's included), YOLO text files, label images; torchvision
dictionaries and Ultralytics results, told by their attributes: neither library is imported.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from passband.detections.coco import read_coco, read_image_list, write_coco
from passband.detections.detections import Detections
from passband.detections.gathering import Faults, Gathered, shown
from passband.detections.image_names import MAX_PIXELS, KnownImages, checked_shapes, note_others
from passband.detections.masks import centre_pixel, mask_from_polygons, masks_from_labels, tight_mask
from passband.detections.yolo import read_yolo
from passband.errors import DetectionsError

__all__ = [
    "FORMATS",
    "from_label_image",
    "from_torchvision",
    "from_ultralytics",
    "read_detections",
    "write_coco",
]

_LABEL_SUFFIXES = (".npy", ".tif", ".tiff", ".png")
# What segmentation tools add to the name of the image.
_LABEL_ENDINGS = ("_cp_masks", "_labels", "_label", "_masks", "_mask")
_MASK_CUT = 0.5


def read_detections(
    path: str | os.PathLike[str],
    *,
    images: Mapping[str, tuple[int, int]] | None = None,
    image_list: str | os.PathLike[str] | None = None,
    score_threshold: float | None = None,
    format: str | None = None,
    skip_others: bool = False,
) -> dict[str, Detections]:
    """Read detections, or annotations, from a file or folder.

    Parameters
    ----------
    path
        A COCO results or ground-truth file, a YOLO text file or a folder of them, a label image (npy, tif,
        png) or a folder of them, or a folder with Detectron2's coco_instances_results.json.
    images
        Image name to (height, width) in pixels: the images that the file may speak of. Entries find their
        image by name, by name without suffix, or by the number that the name is. Needed by YOLO files, and
        by COCO results without an image list.
    image_list
        COCO file whose "images" give names and sizes for the image numbers of a results file.
    score_threshold
        Keep objects with a score at or above this, and record it as the detector's threshold.
    format
        A key of `FORMATS` where the file's suffix does not tell.
    skip_others
        Pass over entries for images not among ``images``, unless there are no others; else they are faults.

    Returns
    -------
    dict
        Image name, as in ``images`` or else the last part of the name in the file, to `Detections`.
        An image that the file lists without objects has none; one that it does not list is absent.

    Raises
    ------
    DetectionsError
        One error that names the file and every fault in it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("0 0.5 0.5 0.25 0.5 0.9")
    ...     found = read_detections(folder, images={"a.png": (64, 128)})
    >>> found["a.png"].boxes_xyxy.tolist(), found["a.png"].scores.tolist()
    ([[48.0, 16.0, 80.0, 48.0]], [0.9])
    """
    path = Path(path)
    faults = Faults(path)
    shapes = None if images is None else checked_shapes(images, faults)
    if format is not None and format not in FORMATS:
        faults.add(f"format must be one of {', '.join(map(repr, FORMATS))}, got {format!r}")
    faults.raise_if_any()
    ids = None
    if image_list is not None:
        shapes, ids = read_image_list(Path(image_list), shapes)
    known = KnownImages(shapes=shapes, ids=ids, skip_others=skip_others)
    try:
        if not path.exists():
            raise DetectionsError(f"{path} does not exist; wanted a file or folder of detections")
        if path.is_dir() and (path / "coco_instances_results.json").exists():
            path = path / "coco_instances_results.json"
        found = FORMATS[format or _format_of(path)](path, known)
    except OSError as error:
        raise DetectionsError(f"{path} cannot be read: {error.strerror or error}") from error
    if score_threshold is not None:
        found = {name: d.above(score_threshold) for name, d in found.items()}
    return found


def from_torchvision(
    prediction: Mapping[str, Any], image_shape: tuple[int, int], *, score_threshold: float = 0.0
) -> Detections:
    """Take a torchvision detector's output, or target, for one image.

    Parameters
    ----------
    prediction
        "boxes" (n, 4), and where there are any "scores" (n,) and "masks" (n, 1, H, W) or (n, H, W), as
        tensors or arrays. Masks are cut at 0.5; one that nowhere reaches it keeps the pixel at the centre
        of its box. Without scores every score is 1.
    image_shape
        Height and width of the image in pixels.
    score_threshold
        The detector kept objects at or above this score; others are dropped.

    Returns
    -------
    Detections
        In the order given.

    Raises
    ------
    DetectionsError
        Naming every fault.

    Examples
    --------
    >>> import numpy as np
    >>> from_torchvision({"boxes": np.array([[1.0, 2, 5, 6]]), "scores": np.array([0.5])}, (8, 8)).areas
    array([16.])
    """
    faults = Faults("this torchvision prediction")
    if "boxes" not in prediction:
        faults.add(f"wanted 'boxes', got {', '.join(map(repr, prediction)) or 'nothing'}")
        faults.raise_if_any()
    boxes = _array(prediction["boxes"])
    scores = _array(prediction["scores"]) if "scores" in prediction else np.ones(len(boxes))
    masks = prediction.get("masks")
    boxes, scores = _checked(boxes, scores, faults)
    outlines = None
    if masks is not None:
        soft = _array(masks)
        if soft.ndim == 4 and soft.shape[1] == 1:
            soft = soft[:, 0]
        if soft.shape != (len(boxes), *image_shape):
            faults.add(f"masks must be {(len(boxes), 1, *image_shape)}, got {_array(masks).shape}")
        elif soft.dtype.kind not in "fiub":
            faults.add(f"masks must be numbers, got {soft.dtype}")
        else:
            outlines = [tight_mask(m >= _MASK_CUT) for m in soft]
    return _assembled(image_shape, boxes, scores, outlines, faults).above(score_threshold)


def from_ultralytics(result: Any, *, score_threshold: float = 0.0) -> Detections:
    """Take one Ultralytics result: a `Results` object, told by its attributes.

    Parameters
    ----------
    result
        With orig_shape (height, width), boxes.xyxy (n, 4), boxes.conf (n,), and masks or None. The outlines
        masks.xy are used, which are in pixels of the original image whatever size the network worked at.
    score_threshold
        The detector kept objects at or above this score; others are dropped.

    Returns
    -------
    Detections
        In the order given.

    Raises
    ------
    DetectionsError
        Naming every fault.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> boxes = SimpleNamespace(xyxy=np.array([[1.0, 2, 5, 6]]), conf=np.array([0.5]))
    >>> len(from_ultralytics(SimpleNamespace(orig_shape=(8, 8), boxes=boxes, masks=None)))
    1
    """
    faults = Faults("this Ultralytics result")
    try:
        shape = (int(result.orig_shape[0]), int(result.orig_shape[1]))
        boxes, scores = _array(result.boxes.xyxy), _array(result.boxes.conf)
        masks = getattr(result, "masks", None)
        polygons = None if masks is None else [_array(p).tolist() for p in masks.xy]
    except (AttributeError, TypeError, IndexError, ValueError) as error:
        raise DetectionsError(
            f"wanted an Ultralytics result with orig_shape, boxes.xyxy and boxes.conf: {error}"
        ) from error
    boxes, scores = _checked(boxes, scores, faults)
    outlines = None
    if polygons is not None and len(polygons) != len(boxes):
        faults.add(f"{len(polygons)} outlines for {len(boxes)} boxes")
    elif polygons is not None:
        outlines = []
        for i, polygon in enumerate(polygons):
            flat = [v for point in polygon for v in point]
            try:
                # The outline of an object smaller than the network's mask pixel has fewer than three points.
                outlines.append(mask_from_polygons([flat], shape) if len(polygon) >= 3 else None)
            except DetectionsError as error:
                faults.add(str(error), f"object {i}")
                outlines.append(None)
    return _assembled(shape, boxes, scores, outlines, faults).above(score_threshold)


def from_label_image(labels: npt.NDArray[Any]) -> Detections:
    """Take a label image: 0 is background, every other number is one object, with score 1.

    Parameters
    ----------
    labels
        Whole numbers (y, x).

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
    masks = masks_from_labels(labels)
    return Detections(
        image_shape=(labels.shape[0], labels.shape[1]),
        boxes_xyxy=np.array([m.box_xyxy for m in masks], np.float64).reshape(-1, 4),
        scores=np.ones(len(masks)),
        masks=masks,
        scored=False,
    )


def read_label_images(path: Path, known: KnownImages) -> dict[str, Detections]:
    """Read one label image (npy, tif, png), or a folder of them, named like their images."""
    faults = Faults(path)
    files = [path]
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in _LABEL_SUFFIXES]
        if not files:
            faults.add(f"the folder holds no label image ({', '.join(_LABEL_SUFFIXES)})")
    found: dict[str, Detections] = {}
    others: list[str] = []
    for file in files:
        plain = next((file.stem.removesuffix(e) for e in _LABEL_ENDINGS if file.stem.endswith(e)), file.stem)
        try:
            name = file.name if known.shapes is None else known.find(file.name) or known.find(plain)
            if name is None:
                others.append(file.name)
                continue
            if name in found:
                faults.add(f"several files are for image {name!r}", file.name)
                continue
            found[name] = from_label_image(_label_array(file))
        except DetectionsError as error:
            faults.add(f"{file.name}: {error}")
            continue
        wanted = None if known.shapes is None else known.shapes[name]
        if wanted is not None and found[name].image_shape != wanted:
            size = "{} x {}".format(*found[name].image_shape)
            faults.add(f"{file.name} is {size}, image {name!r} is {wanted[0]} x {wanted[1]} (height x width)")
    note_others(others, known, bool(found), faults)
    faults.raise_if_any()
    return found


FORMATS: dict[str, Callable[[Path, KnownImages], dict[str, Detections]]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "labels": read_label_images,
}
"""Every form of detection file that can be read, by name."""


def _format_of(path: Path) -> str:
    """Key of `FORMATS` for a path, from its suffix or from what a folder holds."""
    if path.is_dir():
        suffixes = {f.suffix.lower() for f in path.iterdir()}
        if ".txt" in suffixes:
            return "yolo"
        if suffixes & set(_LABEL_SUFFIXES):
            return "labels"
        raise DetectionsError(f"{path} holds neither YOLO text files nor label images (npy, tif, png)")
    suffix = path.suffix.lower()
    if suffix in (".pth", ".pt", ".pkl", ".pickle"):
        raise DetectionsError(
            f"{path} is a pickle, which can run code and is never opened; "
            "give coco_instances_results.json, which Detectron2 writes beside it"
        )
    by_suffix = {".json": "coco", ".txt": "yolo", **dict.fromkeys(_LABEL_SUFFIXES, "labels")}
    if suffix not in by_suffix:
        raise DetectionsError(
            f"{path} has no suffix of a detection file ({', '.join(by_suffix)}); "
            f"name its format: {', '.join(map(repr, FORMATS))}"
        )
    return by_suffix[suffix]


def _label_array(file: Path) -> npt.NDArray[Any]:
    """Pixels of a label image, read without pickles and within a budget of pixels."""
    try:
        if file.suffix.lower() == ".npy":
            # Mapped first: a header that declares more than the file holds is refused before any allocation.
            labels = np.load(file, mmap_mode="r", allow_pickle=False)
            _refuse_too_large(labels.size)
            return np.array(labels)
        if file.suffix.lower() in (".tif", ".tiff"):
            from tifffile import TiffFile

            with TiffFile(file) as tif:
                _refuse_too_large(tif.series[0].size)
                return np.asarray(tif.series[0].asarray())
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is our own
            with Image.open(file) as image:
                _refuse_too_large(image.width * image.height)
                return np.asarray(image)
    except DetectionsError:
        raise
    except Exception as error:  # decoders raise of every kind on damaged files
        reason = getattr(error, "strerror", None) or error
        raise DetectionsError(f"cannot be read as a label image: {reason}") from error


def _refuse_too_large(pixels: int) -> None:
    """Refuse more pixels than an image may have."""
    if pixels > MAX_PIXELS:
        raise DetectionsError(f"holds {pixels} pixels, more than {MAX_PIXELS}")


def _array(value: Any) -> npt.NDArray[Any]:
    """Array of a tensor on any device, of an array, or of a list."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _checked(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any], faults: Faults
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes (n, 4) and scores (n,) as float64; whatever else is a fault, raised where nothing can follow."""
    if boxes.size == 0:
        boxes = np.zeros((0, 4))
    if boxes.dtype.kind not in "fiu" or scores.dtype.kind not in "fiu":
        faults.add(f"boxes and scores must be numbers, got {boxes.dtype} and {scores.dtype}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        faults.add(f"boxes must be (n, 4) and scores (n,), got {boxes.shape} and {shown(scores.shape)}")
    faults.raise_if_any()
    return boxes.astype(np.float64), scores.astype(np.float64)


def _assembled(
    image_shape: tuple[int, int],
    boxes: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    outlines: list[Any] | None,
    faults: Faults,
) -> Detections:
    """Give the detections of one image, or one error with every fault."""
    image = Gathered(shape=(int(image_shape[0]), int(image_shape[1])), has_masks=outlines is not None)
    for i, (box, score) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True)):
        mask = None
        if outlines is not None:
            mask = outlines[i] or centre_pixel(box if np.isfinite(box).all() else [0] * 4, image.shape)
        image.add((box[0], box[1], box[2], box[3]), score, mask)
    found = image.detections("this one", faults)
    faults.raise_if_any()
    assert found is not None
    return found
