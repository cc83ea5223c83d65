"""Fresnel-contrast cavities in a metal foil, with the mask of every one.

Draw, record, apply: `draw_cavities` of `cavities.draws` makes a `CavityRecord`, plain
numbers and seeds; `simulate_cavities` turns a record into an image, the same bit for bit each time.

A cavity is missing material. Where the projected thickness of the foil falls from t to t - T, the
wave loses phase C_E V0 T and is attenuated less; the lens turns the phase into Fresnel fringes, a
dark ring around a bright interior in underfocus and the reverse in overfocus.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Float64

from passband.cavities.optics import count_electrons, frequency_squared, propagate_to_image
from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions
from passband.types import Image, InstanceMask, LabelImage, Wave
from passband.units import interaction_constant

Shape = Literal["ellipsoid", "truncated octahedron"]
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Body:
    """A closed body in the foil: a cavity or a precipitate.

    Parameters
    ----------
    shape
        "ellipsoid" (a sphere where the semi-axes agree) or "truncated octahedron".
    x, y
        Centre, Å from the image's upper left corner; may lie outside the image.
    semi_axes
        Three half extents in Å; of a truncated octahedron, the distances of its {100} faces.
    rotation
        Unit quaternion (w, x, y, z) from the body's axes to the microscope's.
    truncation
        Distance of the {111} faces, for the truncated octahedron only: 0.75 is the regular
        truncated octahedron, 1 the cuboctahedron, 1.5 the cube.
    """

    shape: Shape
    x: float
    y: float
    semi_axes: tuple[float, float, float]
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    truncation: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Foil:
    """The matrix that holds the cavities.

    Parameters
    ----------
    thickness
        Mean thickness, Å.
    wedge
        Relative change of thickness from one side of the image to the other, (y, x).
    mean_inner_potential
        V0, volts.
    attenuation_length
        Thickness over which the intensity falls to 1/e, Å.
    inelastic
        Share of the intensity in inelastically scattered electrons, which a defocused lens
        spreads into an even background.
    """

    thickness: float
    wedge: tuple[float, float] = (0.0, 0.0)
    mean_inner_potential: float = 22.0
    attenuation_length: float = 230.0
    inelastic: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A dislocation: an arc of dark diffraction contrast.

    Parameters
    ----------
    x, y
        Start, Å.
    angle
        Direction at the start, rad.
    curvature
        Change of direction per Å, rad/Å.
    length
        Å.
    depth
        Natural logarithm of the intensity lost on the line.
    wavelength
        Period of its oscillating contrast along the line, Å; 0 for none.
    """

    x: float
    y: float
    angle: float
    curvature: float
    length: float
    depth: float
    wavelength: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Random fields over the whole foil, each rebuilt from its seed.

    Parameters
    ----------
    seed
        Of all the fields.
    bend_depth, bend_width, bend_length
        Bend contours: logarithmic intensity lost on a contour, its width in units of the
        deviation field, and the field's correlation length in Å.
    mottle_depth, mottle_length
        Strain and damage contrast: logarithmic depth and correlation length in Å.
    speckle_phase, speckle_length
        Amorphous surface layers: root-mean-square phase in rad and correlation length in Å.
    """

    seed: int = 0
    bend_depth: float = 0.0
    bend_width: float = 0.3
    bend_length: float = 1500.0
    mottle_depth: float = 0.0
    mottle_length: float = 100.0
    speckle_phase: float = 0.0
    speckle_length: float = 3.0


@dataclass(frozen=True, kw_only=True)
class CavityRecord:
    """Everything that an image of cavities follows from.

    Parameters
    ----------
    shape
        Height and width of the image in pixels.
    conditions
        Lens, dose and camera, with the pixel size.
    foil, texture
        The matrix and its contrast.
    cavities, precipitates, dislocations
        What lies in it.
    line_width
        Of the dislocations, Å.
    noise_seed
        Of the counting noise.
    domain, focus
        Where the record was drawn from, in words.
    """

    shape: tuple[int, int]
    conditions: ImagingConditions
    foil: Foil
    texture: Texture = field(default_factory=Texture)
    cavities: tuple[Body, ...] = ()
    precipitates: tuple[Body, ...] = ()
    precipitate_potential: float = 4.0
    precipitate_depth: float = 0.4
    dislocations: tuple[Line, ...] = ()
    line_width: float = 30.0
    noise_seed: int = 0
    domain: str = ""
    focus: str = ""

    def to_json(self) -> str:
        """The record as one line of JSON; floats keep every bit."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> CavityRecord:
        """The record that `to_json` wrote.

        Raises
        ------
        ParameterError
            If the text is not such a record.
        """
        try:
            d: dict[str, Any] = json.loads(text)
            if d.pop("format") != FORMAT:
                raise ParameterError(f"cavity record of another format; this version reads {FORMAT}")
            d["shape"] = tuple(d["shape"])
            d["conditions"] = ImagingConditions(**d["conditions"])
            d["foil"] = Foil(**{**d["foil"], "wedge": tuple(d["foil"]["wedge"])})
            d["texture"] = Texture(**d["texture"])
            d["cavities"] = tuple(_body(b) for b in d["cavities"])
            d["precipitates"] = tuple(_body(b) for b in d["precipitates"])
            d["dislocations"] = tuple(Line(**line) for line in d["dislocations"])
            return cls(**d)
        except (KeyError, TypeError, json.JSONDecodeError) as e:
            raise ParameterError(f"not a cavity record as CavityRecord.to_json writes it: {e!r}") from e


def _body(d: dict[str, Any]) -> Body:
    return Body(**{**d, "semi_axes": tuple(d["semi_axes"]), "rotation": tuple(d["rotation"])})


@dataclass(frozen=True, kw_only=True)
class CavityImage:
    """A simulated image with its ground truth.

    Parameters
    ----------
    pixels
        float32 (y, x): counts, or intensity where the dose is infinite.
    instances
        The mask of each cavity that shows in the image, cropped at its borders; slivers under
        3 pixels across at a border are left out.
    record
        What it was made from.
    """

    pixels: Image
    instances: tuple[InstanceMask, ...]
    record: CavityRecord

    @property
    def labels(self) -> LabelImage:
        """Label image: 0 background, i + 1 on instance i; where two overlap, the later one."""
        labels = np.zeros(self.pixels.shape, np.int32)
        for i, m in enumerate(self.instances):
            height, width = m.pixels.shape
            labels[m.y : m.y + height, m.x : m.x + width][m.pixels] = i + 1
        return labels


def simulate_cavities(record: CavityRecord) -> CavityImage:
    """Image of cavities in a foil by wave optics, with the mask of each.

    Parameters
    ----------
    record
        From `draw_cavities`, from `CavityRecord.from_json`, or written by hand.

    Returns
    -------
    CavityImage
        The image in counts and the masks of the cavities' projections.

    References
    ----------
    M. Rühle and M. Wilkens, Cryst. Lattice Defects 6 (1975) 129: contrast of cavities by
    defocusing.

    Examples
    --------
    >>> c = ImagingConditions(C10=-1e4, pixel_size=4.0)
    >>> hole = Body(shape="ellipsoid", x=128.0, y=128.0, semi_axes=(40.0, 40.0, 40.0))
    >>> image = simulate_cavities(
    ...     CavityRecord(shape=(64, 64), conditions=c, foil=Foil(thickness=600.0), cavities=(hole,))
    ... )
    >>> centre, ring = image.pixels[32, 32], image.pixels[32, 43]
    >>> bool(ring < image.pixels[0, 0] < centre)
    True
    """
    wave, removed = exit_wave(record)
    image_wave = propagate_to_image(wave, record.conditions)
    margin = _margin(record.shape)
    height, width = record.shape
    inside = np.s_[margin : margin + height, margin : margin + width]
    intensity = (image_wave.real**2 + image_wave.imag**2)[inside]
    share = np.float32(record.foil.inelastic)
    intensity = (1 - share) * intensity + share * intensity.mean()
    pixels = count_electrons(np.ascontiguousarray(intensity), record.conditions, record.noise_seed)
    shown = (_instance(r, margin, record.shape) for r in removed)
    return CavityImage(pixels=pixels, instances=tuple(m for m in shown if m is not None), record=record)


Patch = tuple[int, int, Float64[np.ndarray, "h w"]]


def exit_wave(record: CavityRecord) -> tuple[Wave, list[Patch]]:
    """Wave below the foil on a grid with a margin, and each cavity's projected thickness on it.

    Parameters
    ----------
    record
        Foil, bodies and texture.

    Returns
    -------
    wave, removed
        complex64 (y, x) with a margin on each side, and for each cavity the row, column and
        projected thickness in Å of the patch that it covers.

    Examples
    --------
    >>> foil = Foil(thickness=600.0)
    >>> c = ImagingConditions(pixel_size=4.0)
    >>> wave, removed = exit_wave(CavityRecord(shape=(64, 64), conditions=c, foil=foil))
    >>> wave.shape, removed
    ((128, 128), [])
    """
    pixel_size, margin = record.conditions.pixel_size, _margin(record.shape)
    shape = (record.shape[0] + 2 * margin, record.shape[1] + 2 * margin)
    foil, texture = record.foil, record.texture
    wy, wx = foil.wedge
    ramp = 1 + np.add.outer(wy * np.linspace(-0.5, 0.5, shape[0]), wx * np.linspace(-0.5, 0.5, shape[1]))
    thickness = foil.thickness * ramp
    removed = [p for b in record.cavities if (p := _projected(b, pixel_size, margin, shape)) is not None]
    for y, x, t in removed:
        thickness[y : y + t.shape[0], x : x + t.shape[1]] -= t
    np.maximum(thickness, 0, out=thickness)  # overlapping cavities cannot remove more than there is
    phase = foil.mean_inner_potential * (thickness - foil.thickness)
    log_intensity = -thickness / foil.attenuation_length
    for body in record.precipitates:
        patch = _projected(body, pixel_size, margin, shape)
        if patch is not None:
            y, x, t = patch
            where = np.s_[y : y + t.shape[0], x : x + t.shape[1]]
            phase[where] += record.precipitate_potential * t
            log_intensity[where] -= record.precipitate_depth * t / t.max()
    phase *= interaction_constant(record.conditions.energy)
    log_intensity += foil.thickness / foil.attenuation_length  # the plain foil has intensity 1
    log_intensity += _diffraction(record, shape, margin)
    rng = np.random.default_rng([texture.seed, 1])
    if texture.speckle_phase > 0:
        phase += texture.speckle_phase * _field(rng, shape, texture.speckle_length / pixel_size)
    wave = np.exp((0.5 * log_intensity).astype(np.float32) + 1j * phase.astype(np.float32))
    return wave.astype(np.complex64), removed


def _margin(shape: tuple[int, int]) -> int:
    """Pixels around the image that take up what the periodic lens wraps around: several fringes."""
    return max(32, min(shape) // 10)


def _field(rng: np.random.Generator, shape: tuple[int, int], length: float) -> Float64[np.ndarray, "y x"]:
    """Periodic Gaussian random field of unit variance with a Gaussian correlation length in pixels.

    A long field is made on a coarse grid and interpolated, which costs nothing it could show.
    """
    step = max(1, int(length / 4))
    coarse = (-(-shape[0] // step), -(-shape[1] // step))
    q2 = frequency_squared(coarse, 1.0)[:, : coarse[1] // 2 + 1]
    noise = rng.standard_normal(coarse).astype(np.float32)
    smooth = scipy.fft.rfft2(noise) * np.exp(-((np.pi * length / step) ** 2) * q2 / 2)
    smooth[0, 0] = 0
    values = np.asarray(scipy.fft.irfft2(smooth, s=coarse), np.float64)
    values /= values.std() + 1e-12
    if step == 1:
        return values
    zoomed = scipy.ndimage.zoom(values, step, order=3, mode="grid-wrap", grid_mode=True)
    return np.asarray(zoomed[: shape[0], : shape[1]], np.float64)


def _diffraction(record: CavityRecord, shape: tuple[int, int], margin: int) -> Float64[np.ndarray, "y x"]:
    """Logarithmic intensity lost to diffraction: bend contours, strain mottle, dislocations."""
    texture, pixel_size = record.texture, record.conditions.pixel_size
    rng = np.random.default_rng([texture.seed, 0])
    lost = np.zeros(shape)
    if texture.bend_depth > 0:
        deviation = _field(rng, shape, texture.bend_length / pixel_size)
        lost -= texture.bend_depth / (1 + (deviation / texture.bend_width) ** 2)
    if texture.mottle_depth > 0:
        mottle = _field(rng, shape, texture.mottle_length / pixel_size)
        lost -= texture.mottle_depth * np.where(mottle > 0, np.abs(mottle) ** 1.5, 0.3 * mottle)
    if record.dislocations:
        strokes = np.zeros(shape)
        for line in record.dislocations:
            _stroke(strokes, line, pixel_size, margin)
        sigma = record.line_width / pixel_size / 2
        blurred = scipy.ndimage.gaussian_filter(strokes, sigma, mode="constant", truncate=3)
        lost -= blurred * sigma * np.sqrt(2 * np.pi)  # a long straight line reaches its depth
    return np.maximum(lost, -4.0)


def _stroke(strokes: Float64[np.ndarray, "y x"], line: Line, pixel_size: float, margin: int) -> None:
    """Add one dislocation, as points half a pixel apart, to an image of line density."""
    s = np.arange(0, line.length, pixel_size / 2)
    direction = line.angle + line.curvature * s
    x = (line.x + np.cumsum(np.cos(direction)) * pixel_size / 2) / pixel_size + margin
    y = (line.y + np.cumsum(np.sin(direction)) * pixel_size / 2) / pixel_size + margin
    weight = np.full(s.shape, 0.5 * line.depth)
    if line.wavelength > 0:
        weight *= 1 + 0.8 * np.cos(2 * np.pi * s / line.wavelength)
    row, column = np.round(y).astype(int), np.round(x).astype(int)
    ok = (row >= 0) & (column >= 0) & (row < strokes.shape[0]) & (column < strokes.shape[1])
    np.add.at(strokes, (row[ok], column[ok]), weight[ok])


def _projected(body: Body, pixel_size: float, margin: int, shape: tuple[int, int]) -> Patch | None:
    """Projected thickness of a body along the beam on the pixels it can cover, or None outside."""
    reach = max(body.semi_axes) * (1.0 if body.shape == "ellipsoid" else np.sqrt(3))
    cx, cy, r = body.x / pixel_size + margin, body.y / pixel_size + margin, reach / pixel_size
    x0, x1 = max(0, int(np.floor(cx - r))), min(shape[1], int(np.ceil(cx + r)) + 1)
    y0, y1 = max(0, int(np.floor(cy - r))), min(shape[0], int(np.ceil(cy + r)) + 1)
    if x1 <= x0 or y1 <= y0:
        return None
    dx = (np.arange(x0, x1) + 0.5 - cx) * pixel_size
    dy = (np.arange(y0, y1) + 0.5 - cy) * pixel_size
    thickness = PROJECTIONS[body.shape](body, dy[:, None], dx[None, :])
    return (y0, x0, thickness) if thickness.any() else None


def _ellipsoid(body: Body, dy: Any, dx: Any) -> Float64[np.ndarray, "h w"]:
    rotation = _matrix(body.rotation)
    q = rotation @ np.diag(1 / np.square(body.semi_axes)) @ rotation.T
    b = q[0, 2] * dx + q[1, 2] * dy
    c = q[0, 0] * dx**2 + 2 * q[0, 1] * dx * dy + q[1, 1] * dy**2 - 1
    return np.asarray(2 * np.sqrt(np.maximum(b**2 - q[2, 2] * c, 0)) / q[2, 2])


_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / np.sqrt(3)
_FACES = np.concatenate([np.eye(3), -np.eye(3), _CORNERS])


def _truncated_octahedron(body: Body, dy: Any, dx: Any) -> Float64[np.ndarray, "h w"]:
    normals = _FACES @ _matrix(body.rotation).T
    a, b, c = body.semi_axes
    octahedral = body.truncation * 2 / np.sqrt(3) * (a + b + c) / 3
    distances = np.array([a, b, c, a, b, c] + [octahedral] * 8)
    top, bottom = np.inf, -np.inf
    outside = np.zeros(np.broadcast(dy, dx).shape, bool)
    for normal, distance in zip(normals, distances, strict=True):
        room = distance - normal[0] * dx - normal[1] * dy
        if abs(normal[2]) < 1e-9:
            outside |= room < 0
        elif normal[2] > 0:
            top = np.minimum(top, room / normal[2])
        else:
            bottom = np.maximum(bottom, room / normal[2])
    return np.where(outside, 0.0, np.maximum(top - bottom, 0))


PROJECTIONS = {"ellipsoid": _ellipsoid, "truncated octahedron": _truncated_octahedron}


def _matrix(q: tuple[float, float, float, float]) -> Float64[np.ndarray, "3 3"]:
    w, x, y, z = np.asarray(q) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _instance(patch: Patch, margin: int, shape: tuple[int, int]) -> InstanceMask | None:
    """The part of a cavity that lies in the image, cropped tightly; None under 3 pixels across."""
    y, x, thickness = patch
    y, x = y - margin, x - margin
    top, left = max(0, -y), max(0, -x)
    seen = thickness[top : max(top, shape[0] - y), left : max(left, shape[1] - x)] > 0
    if not seen.any():
        return None
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if min(rows[-1] - rows[0], columns[-1] - columns[0]) < 2:
        return None
    tight = seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return InstanceMask(y=y + top + int(rows[0]), x=x + left + int(columns[0]), pixels=tight)
