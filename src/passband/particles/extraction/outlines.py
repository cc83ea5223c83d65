"""Outlines of particles that came from elsewhere, as label images; and which particles touch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from passband.detections.detections import Detections
from passband.detections.masks import masks_from_labels
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.particles.extraction.find import ExtractionSettings, Indices, limits_px, within_limits
from passband.types import LabelImage


def labels_of_detections(detections: Detections) -> LabelImage:
    """Draw a detector's objects into a label image.

    Parameters
    ----------
    detections
        Objects with masks; where there are boxes only, each is taken for the ellipse that fills its box.

    Returns
    -------
    int32 (y, x)
        0 background, i on object i - 1. Pixels of several objects are those of the one of highest score;
        an object that is covered by others has none.

    Examples
    --------
    >>> boxes = np.array([[0.0, 0, 4, 4], [3, 1, 6, 3]])
    >>> found = Detections(image_shape=(4, 8), boxes_xyxy=boxes, scores=np.array([0.5, 0.9]))
    >>> labels_of_detections(found)[:2].tolist()
    [[0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 2, 2, 2, 0, 0]]
    """
    height, width = detections.image_shape
    labels = np.zeros((height, width), np.int32)
    for i in np.argsort(detections.scores, kind="stable"):
        if detections.masks is not None:
            mask = detections.masks[i]
            y, x, pixels = mask.y, mask.x, mask.pixels
        else:
            x0, y0, x1, y1 = detections.boxes_xyxy[i]
            y, x = max(0, math.floor(y0)), max(0, math.floor(x0))
            rows = (np.arange(y, min(height, math.ceil(y1))) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
            columns = (np.arange(x, min(width, math.ceil(x1))) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
            pixels = rows[:, None] ** 2 + columns[None] ** 2 <= 1
        region = labels[y : y + pixels.shape[0], x : x + pixels.shape[1]]
        region[pixels[: region.shape[0], : region.shape[1]]] = i + 1
    return labels


def kept_labels(micrograph: Micrograph, labels: LabelImage, settings: ExtractionSettings) -> LabelImage:
    """Apply the rules on size and border to outlines from elsewhere, and number them anew.

    Parameters
    ----------
    micrograph
        Whose pixel size says what limits in nm are.
    labels
        (y, x) of whole numbers: 0 background, every other number one particle.
    settings
        With ``split`` off, particles that touch are first joined to clusters.

    Returns
    -------
    int32 (y, x)
        0 background, i on particle i, in the order of the numbers given.

    Raises
    ------
    ParameterError
        If the label image is of another shape, or a limit is in nm alone and the pixel size is not known.
    DetectionsError
        If the label image is not of whole numbers, or holds a negative one.

    Examples
    --------
    >>> labels = np.zeros((40, 40), np.int32)
    >>> labels[:12, :12], labels[20:32, 20:32] = 3, 9
    >>> m = Micrograph(pixels=np.zeros((40, 40), np.float32), name="a.tif")
    >>> np.unique(kept_labels(m, labels, ExtractionSettings()), return_counts=True)[1].tolist()
    [1456, 144]
    """
    if labels.shape != micrograph.shape:
        raise ParameterError(
            f"the label image is {labels.shape[0]} x {labels.shape[1]} pixels, micrograph "
            f"{micrograph.name!r} {micrograph.shape[0]} x {micrograph.shape[1]}; give that of the same image"
        )
    limits = limits_px(micrograph, settings)
    masks = masks_from_labels(labels)
    numbered = np.zeros(labels.shape, np.int32)
    for i, mask in enumerate(masks, start=1):
        height, width = mask.pixels.shape
        numbered[mask.y : mask.y + height, mask.x : mask.x + width][mask.pixels] = i
    joined = numbered if settings.split else clusters_of(numbered, gap=0).labels
    return within_limits(joined, limits, keep_border=settings.keep_border)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """Particles that touch, put together.

    Parameters
    ----------
    labels
        int32 (y, x): 0 background, c on cluster c.
    counts
        int64 (n,): how many particles cluster c = 1 ... n holds, at index c - 1.
    members
        int64 (m,): the cluster of each particle, in the order of the particles' numbers.
    """

    labels: LabelImage
    counts: Indices
    members: Indices


def clusters_of(labels: LabelImage, *, gap: float = 2.0) -> Clusters:
    """Group particles that touch, or nearly, into clusters.

    Parameters
    ----------
    labels
        Whole numbers (y, x): 0 background, every other number one particle.
    gap
        Particles with no more than so many pixels of background between them, in a straight line from
        pixel to pixel, count as touching; 0: only those with a side or corner in common.

    Returns
    -------
    Clusters
        Those of one particle included. Clusters are numbered by their first particle.

    Raises
    ------
    ParameterError
        If the gap is not a number from 0.
    DetectionsError
        If the label image is not of whole numbers, or holds a negative one.

    Examples
    --------
    >>> row = np.array([[1, 1, 0, 0, 2, 0, 0, 0, 5]])
    >>> clusters_of(row, gap=2).labels.tolist(), clusters_of(row, gap=2).counts.tolist()
    ([[1, 1, 0, 0, 1, 0, 0, 0, 2]], [2, 1])
    """
    from scipy.ndimage import distance_transform_edt
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not (isinstance(gap, (int, float)) and math.isfinite(gap) and gap >= 0):
        raise ParameterError(f"gap must be a number of pixels from 0, got {gap!r}")
    masks = masks_from_labels(labels)
    numbered = np.zeros(np.shape(labels), np.int32)
    pairs = []
    for i, mask in enumerate(masks, start=1):
        height, width = mask.pixels.shape
        numbered[mask.y : mask.y + height, mask.x : mask.x + width][mask.pixels] = i
    # From centre to centre of pixels: one more than the pixels between; a corner in common is sqrt 2.
    reach = max(math.sqrt(2), gap + 1) + 1e-6
    margin = math.ceil(reach)
    for i, mask in enumerate(masks, start=1):
        y, x = max(0, mask.y - margin), max(0, mask.x - margin)
        part = numbered[
            y : mask.y + mask.pixels.shape[0] + margin, x : mask.x + mask.pixels.shape[1] + margin
        ]
        near = part[distance_transform_edt(part != i) <= reach]
        pairs += [(i - 1, j - 1) for j in np.unique(near[near > i]).tolist()]
    n = len(masks)
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    which = np.empty(0, np.int64)
    if n:
        which = connected_components(graph, directed=False)[1].astype(np.int64) + 1
    joined = np.concatenate([[0], which]).astype(np.int32)
    return Clusters(labels=joined[numbered], counts=np.bincount(which, minlength=1)[1:], members=which)
