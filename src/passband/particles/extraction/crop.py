"""Particles cut from a micrograph: crops of one size on one scale, bright on dark, with what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32

from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.particles.extraction.find import ExtractionSettings, in_pixels
from passband.types import Image, LabelImage, Mask
from passband.units import NM

COLUMNS: Mapping[str, type[np.generic]] = {
    "number": np.int64, "y": np.float64, "x": np.float64,
    "box_y0": np.int64, "box_x0": np.int64, "box_y1": np.int64, "box_x1": np.int64,
    "area_px": np.int64, "diameter_px": np.float64, "diameter_nm": np.float64,
    "orientation_degrees": np.float64, "eccentricity": np.float64, "solidity": np.float64,
    "pixel_size": np.float64, "touches_border": np.bool_, "scale": np.float64, "outside": np.float64,
}  # fmt: skip
"""Columns of a table of particles. ``number``: in the label image. ``y``, ``x``: centre of gravity, in
pixels, whole numbers at the centres of pixels. ``box_...``: upper ends exclusive. ``diameter_...``: of the
disc of the same area. ``orientation_degrees``: of the long axis, from second moments, counter-clockwise
from the x axis with y up, in [0, 180). ``pixel_size``: Å. ``scale``: micrograph pixels in a crop pixel.
``outside``: share of the crop beyond the micrograph's edge. What is not known is NaN."""
WINDOW = 1.25
"""An automatic window over the 90th percentile of the particles' reach."""
_PERCENTILES = 0.5, 99.5
_OWN_PERCENTILES = 1.0, 99.0
_RIM = 2
"""Pixels around a hidden neighbour that are hidden with it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Particles:
    """The particles of one micrograph.

    Parameters
    ----------
    source
        Name of the micrograph.
    crops
        float32 (n, size, size) in [0, 1], particles brighter than the background.
    masks
        bool (n, size, size): the particle's own pixels.
    table
        Arrays of length n by the names of `COLUMNS`.
    """

    source: str
    crops: Float32[np.ndarray, "n size size"]
    masks: Bool[np.ndarray, "n size size"]
    table: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.crops)


def reaches(labels: LabelImage) -> npt.NDArray[np.float64]:
    """Side of the smallest window, centred on the centre of gravity, that shows all of each particle.

    Parameters
    ----------
    labels
        (y, x): 0 background, i on particle i.

    Returns
    -------
    float64 (n,)
        In pixels.

    Examples
    --------
    >>> labels = np.zeros((9, 9), np.int32)
    >>> labels[2:5, 1:8] = 1
    >>> reaches(labels).tolist()
    [7.0]
    """
    from skimage.measure import regionprops

    sides = []
    for region in regionprops(labels):  # type: ignore[no-untyped-call]
        (y, x), (y0, x0, y1, x1) = region.centroid, region.bbox
        sides.append(2 * max(y - y0 + 0.5, y1 - 0.5 - y, x - x0 + 0.5, x1 - 0.5 - x))
    return np.array(sides, np.float64)


def window_of(micrograph: Micrograph, labels: LabelImage, settings: ExtractionSettings) -> float:
    """Width of what the crops of a micrograph show.

    Parameters
    ----------
    micrograph, labels
        The micrograph and its particles.
    settings
        Whose window is taken where it has one. Without, the window is 1.25 times the 90th percentile of
        the particles' `reaches`: nine in ten are seen whole.

    Returns
    -------
    float
        In pixels of the micrograph.

    Raises
    ------
    ParameterError
        If the window is in nm alone and the pixel size is not known.
    """
    given = in_pixels(settings.window_nm, settings.window_px, micrograph, "the window")
    if given is not None:
        return given
    sides = reaches(labels)
    return WINDOW * float(np.percentile(sides, 90)) if sides.size else float(settings.size)


def cut_particles(
    micrograph: Micrograph, labels: LabelImage, settings: ExtractionSettings | None = None
) -> Particles:
    """Cut each particle out, centred, on the micrograph's common scale.

    Grey levels become [0, 1] for the whole micrograph at once: 0 is the lesser of its 0.5th percentile and
    the 1st of its particles' pixels, 1 the greater of the 99.5th and 99th, what is beyond is clipped; where
    particles are dark, it is turned over. A constant micrograph gives 0 everywhere. Downscaled crops are
    smoothed first. Beyond the micrograph's edge a crop holds the median of the background.

    Parameters
    ----------
    micrograph
        That the labels are of.
    labels
        (y, x): 0 background, i on particle i.
    settings
        Polarity ("auto": brighter or darker than the ring around them), size, window, neighbours.

    Returns
    -------
    Particles
        In the order of the labels.

    Raises
    ------
    ParameterError
        If the label image is of another shape, or the window is in nm alone and the pixel size unknown.

    Examples
    --------
    >>> pixels = np.full((40, 60), 200, np.float32)
    >>> pixels[10:20, 30:50] = 50
    >>> cut = cut_particles(Micrograph(pixels=pixels, name="a.tif"), (pixels < 100).astype(np.int32))
    >>> cut.crops.shape, float(cut.crops[0, 24, 24]), float(cut.crops[0, 0, 0])
    ((1, 48, 48), 1.0, 0.0)
    >>> [cut.table[name].round(3).tolist() for name in ("x", "orientation_degrees", "scale")]
    [[39.5], [0.0], [0.521]]
    """
    from skimage.measure import regionprops

    settings = settings or ExtractionSettings()
    if labels.shape != micrograph.shape:
        raise ParameterError(
            f"the label image is {labels.shape[0]} x {labels.shape[1]} pixels, micrograph "
            f"{micrograph.name!r} {micrograph.shape[0]} x {micrograph.shape[1]}; give that of the same image"
        )
    size, window = settings.size, window_of(micrograph, labels, settings)
    scale = window / size
    levels = _levels(micrograph.pixels, labels > 0, settings.polarity)
    outside = levels[labels == 0]
    background = float(np.median(outside)) if outside.size else 0.0
    regions = regionprops(labels)  # type: ignore[no-untyped-call]
    crops = np.zeros((len(regions), size, size), np.float32)
    masks = np.zeros((len(regions), size, size), bool)
    rows: list[dict[str, Any]] = []
    steps = (np.arange(size) - (size - 1) / 2) * scale
    for i, region in enumerate(regions):
        y, x = region.centroid
        hidden = region.label if settings.hide_neighbours else 0
        crops[i], masks[i] = _crop(levels, labels, (y + steps, x + steps), background, region.label, hidden)
        seen = [
            np.mean((c + steps >= -0.5) & (c + steps < n - 0.5))
            for c, n in zip((y, x), labels.shape, strict=True)
        ]
        row = _measures(region, labels.shape, micrograph.pixel_size)
        rows.append({**row, "scale": scale, "outside": 1 - float(seen[0] * seen[1])})
    table = {name: np.array([row[name] for row in rows], kind) for name, kind in COLUMNS.items()}
    return Particles(source=micrograph.name, crops=crops, masks=masks, table=table)


def _levels(pixels: Image, inside: Mask, polarity: str) -> Image:
    """The micrograph in [0, 1], particles bright."""
    low, high = (float(v) for v in np.percentile(pixels, _PERCENTILES))
    if inside.any():
        own = np.percentile(pixels[inside], _OWN_PERCENTILES)
        low, high = min(low, float(own[0])), max(high, float(own[1]))
    if low == high:
        low, high = float(pixels.min()), float(pixels.max())
    if low == high:
        return np.zeros(pixels.shape, np.float32)
    levels = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
    dark = polarity == "dark" or (polarity == "auto" and _darker(levels, inside))
    return 1 - levels if dark else levels


def _darker(levels: Image, inside: Mask) -> bool:
    """Whether particles are darker than the ring around them."""
    from scipy.ndimage import distance_transform_edt

    if inside.all() or not inside.any():
        return False
    around = ~inside & (distance_transform_edt(~inside) <= 10)
    return bool(levels[inside].mean(dtype=np.float64) < levels[around].mean(dtype=np.float64))


def _crop(
    levels: Image,
    labels: LabelImage,
    at: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    background: float,
    own: int,
    hidden: int,
) -> tuple[Float32[np.ndarray, "size size"], Bool[np.ndarray, "size size"]]:
    """One crop and its mask, at rows and columns; ``hidden``: whose neighbours are not shown, or 0."""
    from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates

    rows, columns = at
    sigma = max(0.0, (rows[1] - rows[0] - 1) / 2)
    margin = math.ceil(3 * sigma) + _RIM + 2
    place = tuple(
        slice(max(0, math.floor(p[0]) - margin), min(n, math.ceil(p[-1]) + margin + 1))
        for p, n in zip(at, labels.shape, strict=True)
    )
    part, which = levels[place], labels[place]
    if hidden:
        others = binary_dilation((which != 0) & (which != hidden), iterations=_RIM) & (which != hidden)
        part = np.where(others, np.float32(background), part)
    if sigma > 0:
        part = gaussian_filter(part, sigma, mode="nearest", truncate=3.0)
    grid = np.meshgrid(rows - place[0].start, columns - place[1].start, indexing="ij")
    # Half a pixel beyond the outermost centres still belongs to the micrograph.
    beyond = np.logical_or.reduce(
        [
            (g < -0.5 - p.start) | (g >= n - 0.5 - p.start)
            for g, p, n in zip(grid, place, labels.shape, strict=True)
        ]
    )
    crop = map_coordinates(part, grid, order=1, mode="nearest")
    mask = map_coordinates((which == own).astype(np.uint8), grid, order=0, mode="nearest") > 0
    return np.where(beyond, np.float32(background), crop), mask & ~beyond


def _measures(region: Any, shape: tuple[int, ...], pixel_size: float | None) -> dict[str, Any]:
    """What is measured on one particle's outline."""
    y0, x0, y1, x1 = region.bbox
    diameter = math.sqrt(4 * region.area / math.pi)
    return {
        "number": region.label,
        "y": region.centroid[0],
        "x": region.centroid[1],
        "box_y0": y0,
        "box_x0": x0,
        "box_y1": y1,
        "box_x1": x1,
        "area_px": region.area,
        "diameter_px": diameter,
        "diameter_nm": math.nan if pixel_size is None else diameter * pixel_size / NM,
        # scikit-image counts from the rows' axis, which points down.
        "orientation_degrees": (math.degrees(region.orientation) + 90) % 180,
        "eccentricity": region.eccentricity,
        "solidity": region.solidity,
        "pixel_size": math.nan if pixel_size is None else pixel_size,
        "touches_border": y0 == 0 or x0 == 0 or y1 == shape[0] or x1 == shape[1],
    }
