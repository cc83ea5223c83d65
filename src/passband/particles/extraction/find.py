"""Particles in a micrograph: settings, and finding them without a network.

Finding is thresholding, splitting at necks, and rules on size and border: it suits particles that differ
in brightness from what is around them. Where they do not, give the outlines of a detector instead.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.types import Image, LabelImage, Mask
from passband.units import NM

POLARITIES = ("auto", "bright", "dark")
THRESHOLDS = ("otsu", "local")
LEAST_DIAMETER_PX = 8.0
"""Diameter under which nothing is taken for a particle unless another is asked for: grain, not shape."""
LEVELS_APART = 2.75
"""Least distance of the two levels of brightness, in standard deviations within them, for there to be
particles at all. Otsu's threshold splits anything: a micrograph of Gaussian noise, smoothed or not, into
halves sqrt(2 / pi) / sqrt(1 - 2 / pi) x 2 = 2.65 apart."""
Indices = npt.NDArray[np.int64]
_BACKGROUND = 8
"""The slow background of "local" is a Gaussian of the shorter side over this."""
_SPECK = 12
"""Holes of so few pixels are filled: grain, not shape."""
_CONCAVE = 0.7
"""Solidity at which a shape does not look like a particle at all."""


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """How particles are found and cut out.

    Of a pair of fields in nm and in pixels, the one in nm holds where it is given and the pixel size is
    known, the one in pixels everywhere else.

    Parameters
    ----------
    polarity
        Particles are "bright" or "dark" on their background; "auto" decides for each micrograph: of the
        two, those whose shapes are convex and lie away from the border.
    threshold
        "otsu": one threshold for the micrograph. "local": the same after the slow background, a Gaussian
        of an eighth of the shorter side, is subtracted, for uneven illumination or support.
    smoothing
        Standard deviation of the Gaussian before thresholding, in pixels.
    split
        Cut touching particles apart at their necks. Without it, particles that touch are one: a cluster.
    neck
        How much narrower than the lesser of two parts the neck between them must be, as a share, for them
        to be two particles; in (0, 1). The larger, the fewer are cut.
    least_solidity
        Share of its convex hull that a particle fills at least, in [0, 1].
    least_share
        Diameter that a particle has at least, as a share of that of the micrograph's typical one, in
        [0, 1]: half of all particles' area is of particles up to the typical one. Keeps out dust and
        lettering; 0 where sizes differ widely. This and solidity are rules of single particles: where they
        are not split, a cluster is kept with one of its particles.
    least_diameter_nm, least_diameter_px
        Diameter, of the disc of the same area, that particles have at least; 8 pixels where not given.
    greatest_diameter_nm, greatest_diameter_px
        That they have at most.
    keep_border
        Keep particles that touch the micrograph's edge, which are seen in part.
    size
        Side of a crop in pixels.
    window_nm, window_px
        Width of what a crop shows. Where neither is given, it follows from the particles (see
        `window_of` and `passband.extend_library`).
    hide_neighbours
        Replace the pixels of other particles in a crop by the level of the background.

    Raises
    ------
    ParameterError
        Naming every fault.

    Examples
    --------
    >>> ExtractionSettings(polarity="grey", size=2)
    Traceback (most recent call last):
    passband.errors.ParameterError: settings of extraction: polarity must be one of 'auto', 'bright', \
'dark', got 'grey'; size must be a whole number from 8 to 1024, got 2
    """

    polarity: str = "auto"
    threshold: str = "otsu"
    smoothing: float = 1.5
    split: bool = True
    neck: float = 0.2
    least_solidity: float = 0.8
    least_share: float = 0.3
    least_diameter_nm: float | None = None
    least_diameter_px: float | None = None
    greatest_diameter_nm: float | None = None
    greatest_diameter_px: float | None = None
    keep_border: bool = False
    size: int = 48
    window_nm: float | None = None
    window_px: float | None = None
    hide_neighbours: bool = False

    def __post_init__(self) -> None:
        faults = _setting_faults(self)
        if faults:
            raise ParameterError("settings of extraction: " + "; ".join(faults))

    def values(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return asdict(self)


def find_particles(micrograph: Micrograph, settings: ExtractionSettings | None = None) -> LabelImage:
    """Find the particles of a micrograph by their brightness.

    Parameters
    ----------
    micrograph
        Any size; constant, noisy and empty ones have no particles.
    settings
        How; the defaults where not given.

    Returns
    -------
    int32 (y, x)
        0 background, i on particle i, numbered from the top.

    Raises
    ------
    ParameterError
        If a limit is in nm alone and the micrograph's pixel size is not known.

    References
    ----------
    N. Otsu, A threshold selection method from gray-level histograms, doi:10.1109/TSMC.1979.4310076.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> two = (np.hypot(y - 20, x - 20) < 9) | (np.hypot(y - 40, x - 44) < 7)
    >>> labels = find_particles(Micrograph(pixels=two.astype(np.float32), name="two.tif"))
    >>> np.bincount(labels.ravel())[1:].tolist(), [int(two[:30].sum()), int(two[30:].sum())]
    ([257, 145], [249, 145])
    """
    from skimage.filters import threshold_otsu

    settings = settings or ExtractionSettings()
    limits = limits_px(micrograph, settings)
    smooth = _smooth(micrograph.pixels, settings)
    labels = np.zeros(micrograph.shape, np.int32)
    if smooth.min() == smooth.max():
        return labels
    bright = smooth > threshold_otsu(smooth)  # type: ignore[no-untyped-call]
    if not _two_levels(smooth, bright):
        return labels
    masks = {"bright": bright, "dark": ~bright}
    if settings.polarity != "auto":
        masks = {settings.polarity: masks[settings.polarity]}
    found = [_objects(mask, settings, limits) for mask in masks.values()]
    chosen: LabelImage = max(found, key=lambda objects: objects.likeness).labels
    return chosen


def in_pixels(
    nm: float | None, px: float | None, micrograph: Micrograph, what: str = "a limit"
) -> float | None:
    """A length of the settings in pixels: from nm where that is given and can be, else as in pixels."""
    if nm is not None and micrograph.pixel_size is not None:
        return nm * NM / micrograph.pixel_size
    if nm is not None and px is None:
        raise ParameterError(
            f"{what} is given in nm and the pixel size of {micrograph.name} is not known; "
            "give its pixel size, or the length in pixels"
        )
    return px


def limits_px(micrograph: Micrograph, settings: ExtractionSettings) -> tuple[float, float]:
    """Least and greatest diameter in pixels of this micrograph."""
    s = settings
    least = in_pixels(s.least_diameter_nm, s.least_diameter_px, micrograph, "the least diameter")
    most = in_pixels(s.greatest_diameter_nm, s.greatest_diameter_px, micrograph, "the greatest diameter")
    return LEAST_DIAMETER_PX if least is None else least, math.inf if most is None else most


def within_limits(labels: LabelImage, limits: tuple[float, float], *, keep_border: bool) -> LabelImage:
    """Those of a size within the limits and, unless they may, not at the border; numbered anew."""
    diameters = np.sqrt(4 * np.bincount(labels.ravel()) / math.pi)
    keep = (diameters > 0) & (diameters >= limits[0]) & (diameters <= limits[1])
    if not keep_border:
        edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
        keep[np.unique(np.concatenate(edges))] = False
    return _only(labels, np.flatnonzero(keep))


def _smooth(pixels: Image, settings: ExtractionSettings) -> Image:
    """The micrograph without hot pixels, grain and, where asked, its slow background."""
    from scipy.ndimage import gaussian_filter

    low, high = np.percentile(pixels, [0.1, 99.9])
    if low == high:  # a few particles on a background of one value
        low, high = pixels.min(), pixels.max()
    spread = float(high) - float(low) or 1.0
    # To a unit range first, so that squares of the largest float32 do not overflow.
    smooth: Image = ((np.clip(pixels, low, high).astype(np.float64) - float(low)) / spread).astype(np.float32)
    smooth = gaussian_filter(smooth, settings.smoothing)
    if settings.threshold == "local":
        smooth = smooth - gaussian_filter(smooth, min(pixels.shape) / _BACKGROUND, mode="nearest")
    return smooth


def _two_levels(smooth: Image, bright: Mask) -> bool:
    """Whether bright and dark pixels are two levels, further apart than the halves of noise."""
    parts = [smooth[bright].astype(np.float64), smooth[~bright].astype(np.float64)]
    within = math.sqrt(sum(p.size * float(p.var()) for p in parts) / smooth.size)
    return float(parts[0].mean() - parts[1].mean()) > LEVELS_APART * within


@dataclass(frozen=True, kw_only=True, eq=False)
class _Objects:
    """What a mask gives: the objects wanted, and how much they look like particles."""

    labels: LabelImage
    likeness: float


def _objects(mask: Mask, settings: ExtractionSettings, limits: tuple[float, float]) -> _Objects:
    """Separate objects of a mask, by all rules.

    How much they look like particles is the area of those off the border, each by how convex it is:
    background between particles is one concave piece that reaches the border, or concave remnants.
    """
    from skimage.measure import regionprops

    pieces, parts = _parts(mask, settings.neck)
    # Rules on shape are for single particles; a cluster is kept where one of its particles is.
    free = limits if settings.split else (limits[0], math.inf)
    parts = within_limits(parts, free, keep_border=settings.keep_border or not settings.split)
    solidity = [float(r.solidity) for r in regionprops(parts)]  # type: ignore[no-untyped-call]
    solid = np.flatnonzero(np.array(solidity) >= settings.least_solidity) + 1
    parts = _only(parts, _not_specks(parts, solid, settings.least_share))
    if settings.split:
        wanted = parts
    else:
        wanted = _only(pieces, np.unique(pieces[parts > 0]).astype(np.int64))
        wanted = within_limits(wanted, limits, keep_border=settings.keep_border)
    inner = within_limits(parts, limits=(0, math.inf), keep_border=False)
    seen: Any = regionprops(inner)  # type: ignore[no-untyped-call]
    return _Objects(labels=wanted, likeness=sum(r.area * max(0.0, r.solidity - _CONCAVE) for r in seen))


def _not_specks(labels: LabelImage, which: Indices, least_share: float) -> Indices:
    """Of some particles, those with a diameter of at least a share of the typical one."""
    if not which.size:
        return which
    areas = np.bincount(labels.ravel())[which].astype(np.float64)
    order = np.argsort(areas)
    typical = areas[order][np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)]
    large: Indices = which[areas >= least_share**2 * typical]
    return large


def _only(labels: LabelImage, which: Indices) -> LabelImage:
    """Some objects of a label image, numbered anew in the same order."""
    keep = np.zeros(int(labels.max()) + 1, bool)
    keep[which] = True
    keep[0] = False
    only: LabelImage = np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]
    return only


def _parts(mask: Mask, neck: float) -> tuple[LabelImage, LabelImage]:
    """Connected pieces of a mask, and the same cut at their necks.

    A piece's holes are filled where that makes its parts more convex, or no less: those inside a particle,
    but not the gaps between particles that touch, without which they could not be told apart.
    """
    from scipy.ndimage import binary_fill_holes, label

    whole = binary_fill_holes(mask)
    holes = label(whole & ~mask)[0]
    mask = mask | (np.bincount(holes.ravel()) <= _SPECK)[holes] & whole
    pieces = label(whole, structure=np.ones((3, 3)))[0].astype(np.int32)
    parts = _split(whole, neck)
    if (whole & ~mask).any():
        open_parts = _split(mask, neck)
        fill = _convexity(parts, pieces) >= _convexity(open_parts, pieces)
        parts = np.where(fill[pieces], parts, np.where(open_parts > 0, open_parts + parts.max(), 0))
        pieces = np.where(fill[pieces] | mask, pieces, 0)
    return pieces, parts


def _convexity(parts: LabelImage, pieces: LabelImage) -> npt.NDArray[np.float64]:
    """Mean solidity of each piece's parts, by area."""
    from skimage.measure import regionprops

    area, sums = np.zeros(int(pieces.max()) + 1), np.zeros(int(pieces.max()) + 1)
    for part in regionprops(parts):  # type: ignore[no-untyped-call]
        y, x = part.coords[0]
        area[pieces[y, x]] += part.area
        sums[pieces[y, x]] += part.area * part.solidity
    mean: npt.NDArray[np.float64] = sums / np.maximum(area, 1)
    return mean


def _split(mask: Mask, neck: float) -> LabelImage:
    """Cut a mask at its necks: a watershed of the distance to the edge.

    Two tops of that distance are two particles where every way between them falls below (1 - neck) of the
    lower: maxima of height -log(1 - neck) of the logarithm, whatever the size.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    # Smoothed by a pixel: steps of the outline are no necks.
    distance = gaussian_filter(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].astype(np.float64), 1.0)
    height = np.where(mask, np.log(np.maximum(distance, 0.5)), math.log(0.5))
    lowered = reconstruction(height + math.log(1 - neck), height)  # type: ignore[no-untyped-call]
    # What is left of a top when the flood has levelled everything lower than it by less than the height.
    residue = height - lowered
    tops, _ = label((residue >= -math.log(1 - neck) - 1e-9) & mask, structure=np.ones((3, 3)))
    split: LabelImage = watershed(-height, tops, mask=mask).astype(np.int32)  # type: ignore[no-untyped-call]
    return split


def _setting_faults(s: ExtractionSettings) -> list[str]:
    """Every fault of the settings, in words."""
    return _choice_faults(s) + _share_faults(s) + _length_faults(s)


def _choice_faults(s: ExtractionSettings) -> list[str]:
    faults = []
    for name, known in (("polarity", POLARITIES), ("threshold", THRESHOLDS)):
        if getattr(s, name) not in known:
            faults.append(f"{name} must be one of {', '.join(map(repr, known))}, got {getattr(s, name)!r}")
    for name in ("split", "keep_border", "hide_neighbours"):
        if not isinstance(getattr(s, name), bool):
            faults.append(f"{name} must be true or false, got {getattr(s, name)!r}")
    return faults


def _share_faults(s: ExtractionSettings) -> list[str]:
    faults = []
    if not (_number(s.smoothing) and 0 <= s.smoothing <= 100):
        faults.append(f"smoothing must be a number of pixels from 0 to 100, got {s.smoothing!r}")
    if not (_number(s.neck) and 0 < s.neck < 1):
        faults.append(f"neck must be a share between 0 and 1, got {s.neck!r}")
    for name in ("least_solidity", "least_share"):
        if not (_number(getattr(s, name)) and 0 <= getattr(s, name) <= 1):
            faults.append(f"{name} must be a share from 0 to 1, got {getattr(s, name)!r}")
    return faults


def _length_faults(s: ExtractionSettings) -> list[str]:
    faults = []
    if isinstance(s.size, bool) or not isinstance(s.size, int) or not 8 <= s.size <= 1024:
        faults.append(f"size must be a whole number from 8 to 1024, got {s.size!r}")
    for kind in ("least_diameter", "greatest_diameter", "window"):
        for name in (f"{kind}_nm", f"{kind}_px"):
            value = getattr(s, name)
            if value is not None and not (_number(value) and 0 < value < math.inf):
                faults.append(f"{name} must be a positive number, got {value!r}")
    for unit in ("nm", "px"):
        least, most = getattr(s, f"least_diameter_{unit}"), getattr(s, f"greatest_diameter_{unit}")
        if _number(least) and _number(most) and least > most:
            faults.append(f"no diameter is at least {least!r} and at most {most!r} {unit}")
    return faults


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
