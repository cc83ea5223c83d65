"""Label images of particles, from the atoms or from the exit waves; periodic everywhere.

The default label of a particle is the union of discs about its projected atoms, closed: whatever a disc
of the closing's radius cannot reach from outside belongs to the particle. It depends on the atoms alone,
not on material or lens. The phase label follows a published study and does depend on the material.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Complex, Float64, Int, Int32

from passband.errors import ParameterError
from passband.hrtem.specimen.specimen import Specimen, isolate
from passband.hrtem.wave.scattering import WaveSettings, exit_wave

ATOM_RADIUS = 1.4
"""Of the disc about a projected atom, Å: half a bond of the heavier materials."""
CLOSING_RADIUS = 3.0
"""Of the disc that closes the gaps between atoms, Å: about the widest spacing of rows in the materials."""
PHASE_THRESHOLD = math.pi / 16
_WRAP = -math.pi / 2  # phases lie above this, so that those of heavy columns do not turn negative at pi


def disc_labels(
    specimen: Specimen,
    shape: tuple[int, int],
    *,
    atom_radius: float = ATOM_RADIUS,
    closing_radius: float = CLOSING_RADIUS,
) -> Int32[np.ndarray, "y x"]:
    """Label image of a specimen's particles by their projected atoms.

    Pixel (i, j) is the point y = i * pixel, x = j * pixel. A pixel lies on a
    particle if it lies in the disc of one of its atoms, or if no disc of the closing's radius that covers
    it fits between those.

    Parameters
    ----------
    specimen
        Atoms with the particle that each belongs to.
    shape
        Pixels in y and x over the whole cell.
    atom_radius, closing_radius
        Å; no closing where it is 0.

    Returns
    -------
    array
        int32 (y, x): 0 background, i on particle i; where two overlap, the later one.

    Raises
    ------
    ParameterError
        If the shape is not two positive numbers, or a radius is negative or half the cell.

    Examples
    --------
    >>> from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
    >>> specimen = build_specimen(draw_specimen(SpecimenRanges(count=(2, 2)), seed=1))
    >>> np.unique(disc_labels(specimen, (256, 256))).tolist()
    [0, 1, 2]
    """
    pixel = _pixel(specimen.cell[:2], shape)
    if not (
        atom_radius > 0 and closing_radius >= 0 and atom_radius + closing_radius < min(specimen.cell[:2]) / 2
    ):
        raise ParameterError(
            f"radii of atom and closing must be above 0 and 0 or more, together under half the cell "
            f"{specimen.cell[:2]} Å; got {atom_radius} and {closing_radius} Å"
        )
    labels = np.zeros(shape, np.int32)
    for i in range(1, specimen.count + 1):
        atoms = specimen.positions[specimen.particle == i][:, 1::-1]
        if len(atoms):
            _draw(labels, i, atoms / pixel, pixel, (atom_radius, closing_radius))
    return labels


def particle_masks(
    specimen: Specimen, shape: tuple[int, int], settings: WaveSettings | None = None
) -> Iterator[Bool[np.ndarray, "y x"]]:
    """Where each particle is, also where another lies before it, which a label image cannot say.

    Parameters
    ----------
    specimen
        Whole.
    shape
        Pixels (y, x) over the whole cell.
    settings
        Of the waves that phase labels come from; None for disc labels.

    Yields
    ------
    array
        Boolean (y, x), of particle 1, 2, ...

    Examples
    --------
    >>> from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
    >>> ranges = SpecimenRanges(count=(2, 2), least_distance=-10.0, touching_share=1.0, cell=(76.8, 76.8))
    >>> specimen = build_specimen(draw_specimen(ranges, seed=1))
    >>> both = sum(int(m.sum()) for m in particle_masks(specimen, (128, 128)))
    >>> both > (disc_labels(specimen, (128, 128)) > 0).sum()
    np.True_
    """
    for i in range(1, specimen.count + 1):
        alone = isolate(specimen, i)
        of_one = replace(alone, particle=np.ones_like(alone.particle))
        labels = disc_labels(of_one, shape) if settings is None else exit_wave_labels(of_one, shape, settings)
        yield labels > 0


def exit_wave_labels(
    specimen: Specimen, shape: tuple[int, int], settings: WaveSettings | None = None
) -> Int32[np.ndarray, "y x"]:
    """Phase labels of a specimen: each particle's exit wave is calculated alone.

    Parameters
    ----------
    specimen
        Without a particle all is background.
    shape
        Pixels (y, x) of the label image, square on the cell.
    settings
        Of the waves.

    Returns
    -------
    array
        int32 (y, x): 0 background, i on particle i.

    Raises
    ------
    ParameterError
        If a wave cannot be calculated.

    References
    ----------
    Elemental Microscopy dataset EM000010: the threshold of pi/16.

    Examples
    --------
    >>> from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
    >>> small = SpecimenRanges(cell=(40.96, 40.96), diameters=(15, 20), count=(1, 1))
    >>> exit_wave_labels(build_specimen(draw_specimen(small, 0)), (128, 128)).max()
    np.int32(1)
    """
    settings = settings or WaveSettings()
    if specimen.count == 0:
        return np.zeros(shape, np.int32)
    pixel = specimen.cell[1] / shape[0]
    coarse = replace(settings, band=min(settings.band, 0.45 / pixel))
    waves = [
        exit_wave(isolate(specimen, i), coarse).on_grid(shape).numpy() for i in range(1, specimen.count + 1)
    ]
    return phase_labels(waves, pixel_size=pixel)


def phase_labels(
    waves: Sequence[Complex[np.ndarray, "y x"]],
    *,
    pixel_size: float,
    threshold: float = PHASE_THRESHOLD,
    closing_radius: float = CLOSING_RADIUS,
) -> Int32[np.ndarray, "y x"]:
    """Label image of particles by the phase of each one's own exit wave.

    Parameters
    ----------
    waves
        Complex (y, x), one for each particle alone in vacuum, where the wave is 1.
    pixel_size
        Å.
    threshold
        Least phase on a particle, rad. Phases are counted from -pi/2 to 3 pi/2, so that the strong ones
        of heavy columns stay positive.
    closing_radius
        Of the closing of what is above the threshold, Å; none where it is 0.

    Returns
    -------
    array
        int32 (y, x): 0 background, i + 1 on the particle of wave i; where two overlap, the later one.

    Raises
    ------
    ParameterError
        If there are no waves, they differ in shape or are not finite, or the pixel size is not positive.

    Examples
    --------
    >>> wave = np.ones((32, 32), np.complex64)
    >>> wave[10:20, 10:20] *= np.exp(0.5j)
    >>> int((phase_labels([wave], pixel_size=0.5) == 1).sum())
    100
    """
    if not len(waves):
        raise ParameterError("phase labels need the exit wave of at least one particle, got none")
    if len({w.shape for w in waves}) > 1:
        raise ParameterError(f"exit waves must agree in shape, got {sorted({w.shape for w in waves})}")
    if not (math.isfinite(pixel_size) and pixel_size > 0):
        raise ParameterError(f"the pixel size must be a positive number of Å, got {pixel_size}")
    if not all(np.isfinite(w).all() for w in waves):
        raise ParameterError("exit waves must be finite numbers throughout")
    labels = np.zeros(waves[0].shape, np.int32)
    pixel = np.array([pixel_size, pixel_size])
    for i, wave in enumerate(waves, 1):
        phase = np.angle(wave * np.exp(-1j * (_WRAP + math.pi))) + _WRAP + math.pi
        above = phase > threshold
        if closing_radius:
            margin = math.ceil(2 * closing_radius / pixel_size) + 2
            closed = _closed(np.pad(above, margin, mode="wrap"), pixel, closing_radius)
            above = closed[margin:-margin, margin:-margin]
        labels[above] = i
    return labels


def _pixel(cell: tuple[float, ...], shape: tuple[int, int]) -> Float64[np.ndarray, 2]:
    if len(shape) != 2 or min(shape) < 1:
        raise ParameterError(f"the shape of a label image must be two positive numbers, got {shape}")
    return np.array([cell[1] / shape[0], cell[0] / shape[1]])


def _draw(
    labels: Int32[np.ndarray, "y x"],
    index: int,
    atoms: Float64[np.ndarray, "n 2"],
    pixel: Float64[np.ndarray, 2],
    radii: tuple[float, float],
) -> None:
    """Write one particle into the labels: discs about its atoms (in pixels), closed.

    Worked out in a window about the particle, which the cell's period may cut in two.
    """
    period = np.array(labels.shape)
    radius, closing = radii
    margin = np.ceil((radius + 2 * closing) / pixel).astype(int) + 2
    start, atoms = _unwrapped(atoms, period)
    first = np.floor(start).astype(int) - margin
    size = np.ceil(atoms.max(0)).astype(int) + margin + 1 - first
    inside = _discs(_with_images(atoms - first, period, size, radius / pixel), size, pixel, radius)
    inside = _closed(inside, pixel, closing)
    for here, there in _pieces(int(first[0]), len(inside), int(period[0])):
        for across, along in _pieces(int(first[1]), inside.shape[1], int(period[1])):
            labels[there, along][inside[here, across]] = index


def _pieces(first: int, length: int, period: int) -> Iterator[tuple[slice, slice]]:
    """A run of a periodic axis, cut where a period ends: where in the run, and where in the period."""
    done = 0
    while done < length:
        start = (first + done) % period
        step = min(length - done, period - start)
        yield slice(done, done + step), slice(start, start + step)
        done += step


def _unwrapped(
    atoms: Float64[np.ndarray, "n 2"], period: Int[np.ndarray, 2]
) -> tuple[Float64[np.ndarray, 2], Float64[np.ndarray, "n 2"]]:
    """Cut the period at its widest gap without atoms, so that a particle lies in one piece."""
    start = np.empty(2)
    for axis in (0, 1):
        at = np.sort(atoms[:, axis])
        gaps = np.diff(at, append=at[0] + period[axis])
        start[axis] = at[(int(np.argmax(gaps)) + 1) % len(at)]
    return start, start + np.mod(atoms - start, period)


def _with_images(
    atoms: Float64[np.ndarray, "n 2"],
    period: Int[np.ndarray, 2],
    size: Int[np.ndarray, 2],
    reach: Float64[np.ndarray, 2],
) -> Float64[np.ndarray, "m 2"]:
    """The atoms and those of their periodic images whose discs reach into the window."""
    for axis in (0, 1):
        step = np.zeros(2)
        step[axis] = period[axis]
        before, after = atoms - step, atoms + step
        atoms = np.concatenate(
            [
                atoms,
                before[before[:, axis] > -reach[axis]],
                after[after[:, axis] < size[axis] + reach[axis]],
            ]
        )
    return atoms


def _discs(
    atoms: Float64[np.ndarray, "n 2"],
    size: Int[np.ndarray, 2],
    pixel: Float64[np.ndarray, 2],
    radius: float,
) -> Bool[np.ndarray, "y x"]:
    """The union of discs, exact for every pixel: each row of a disc is a run from one pixel to another."""
    height, width = (int(v) for v in size)
    reach = math.floor(radius / pixel[0]) + 1
    y, x = atoms.T
    rows = np.rint(y).astype(np.int32)
    starts, ends = [], []
    for step in range(-reach, reach + 1):
        row = rows + step
        half = (radius / pixel[1]) ** 2 - ((row - y) * (pixel[0] / pixel[1])) ** 2
        kept = (half >= 0) & (row >= 0) & (row < height)
        half, at = np.sqrt(half[kept]), x[kept]
        line = row[kept] * (width + 1)
        starts.append(line + np.clip(np.ceil(at - half), 0, width).astype(np.int32))
        ends.append(line + np.clip(np.floor(at + half) + 1, 0, width).astype(np.int32))
    count = height * (width + 1)
    edges = np.bincount(np.concatenate(starts), minlength=count)
    edges -= np.bincount(np.concatenate(ends), minlength=count)
    return edges.reshape(height, width + 1).cumsum(1)[:, :-1] > 0


def _closed(
    inside: Bool[np.ndarray, "y x"], pixel: Float64[np.ndarray, 2], radius: float
) -> Bool[np.ndarray, "y x"]:
    """Grown by a disc, then shrunk by it; beyond the window nothing is inside."""
    if radius == 0:
        return inside
    outside = ~_grown(inside, pixel, radius)
    outside[:, [0, -1]] = outside[[0, -1]] = True
    return ~_grown(outside, pixel, radius)


def _grown(
    inside: Bool[np.ndarray, "y x"], pixel: Float64[np.ndarray, 2], radius: float
) -> Bool[np.ndarray, "y x"]:
    """Pixels whose disc of a radius meets the inside.

    The disc is a stack of horizontal runs, the shorter the farther from its centre: the inside is grown
    along the rows one pixel at a time, and shifted up and down when the run has a row's length.
    """
    height, width = inside.shape
    reach = min(math.floor(radius / pixel[0] + 1e-9), height - 1)
    squares = [radius**2 - (k * pixel[0]) ** 2 for k in range(reach + 1)]
    runs = [min(math.floor(math.sqrt(max(s, 0.0)) / pixel[1] + 1e-9), width - 1) for s in squares]
    grown = np.zeros_like(inside)
    row, length = inside.copy(), 0
    for k in range(reach, -1, -1):
        while length < runs[k]:
            length += 1
            row[:, length:] |= inside[:, :-length]
            row[:, :-length] |= inside[:, length:]
        grown[k:] |= row[: height - k]
        grown[: height - k] |= row[k:]
    return grown
