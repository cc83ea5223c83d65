"""HRTEM from atoms to micrographs, stage by stage beside abTEM 1.0.11, in one run on one core.

    python benchmarks/bench_hrtem.py [SCENES]

Processor time, medians of alternating runs, so that other work on the machine falls on both.
The scene is one of ours: CdSe particles on amorphous carbon in a field of 102.4 Å, 512 x 512 points at
0.2 Å, 36 slices of 2 Å. Both run in this process, which keeps freed memory as our own simulating processes
do; what abTEM takes before that is printed too. Ratios are medians over pairs run in turn. Beside each wave
stands its error: the image on the particles, at the worst of three foci, against 0.067 Å and 1 Å slices of
the same program (abTEM's atoms stand still, ours move). abTEM's potential is its "infinite" one; it computes
lens images one by one and as a series, and the faster counts. Where a CUDA device is there, waves and images
are timed on it too. With SCENES (20 if not given), whole scenes with 20 conditions each are timed.
"""

import os

os.environ |= dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

import math
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.fft
import torch

from passband.hrtem.specimen.labels import disc_labels
from passband.hrtem.specimen.specimen import Specimen, SpecimenRanges, build_specimen, draw_specimen
from passband.hrtem.wave.allocator import keep_freed_memory
from passband.hrtem.wave.focal_average import focal_nodes
from passband.hrtem.wave.imaging import image_intensity, simulate_micrographs
from passband.hrtem.wave.potential import (
    antialias_band,
    potential_band,
    projected_potential,
    sampling_band,
)
from passband.hrtem.wave.scattering import ExitWave, WaveSettings, exit_wave, exit_waves, wave_from_array
from passband.optics.bands import from_band, to_band
from passband.optics.camera import count_electrons
from passband.optics.conditions import ConditionRanges, ImagingConditions, Uniform, draw_conditions
from passband.optics.transfer import lens_of
from passband.units import electron_wavelength

warnings.simplefilter("ignore")
torch.set_num_threads(1)
N, SLICES, DOSE, IMAGES = 512, 36, 400.0, 20
CONDITIONS = draw_conditions(
    ConditionRanges(C10=Uniform(low=-600.0, high=-100.0), focal_spread=10.0), IMAGES, seed=0
)


def medians(*works: Callable[[], object], times: int = 9, warm: int = 2) -> list[float]:
    """Processor seconds of each, run in turn."""
    taken: list[list[float]] = [[] for _ in works]
    for i in range(times + warm):
        for work, seconds in zip(works, taken, strict=True):
            start = time.process_time()
            work()
            if i >= warm:
                seconds.append(time.process_time() - start)
    return [float(np.median(s)) for s in taken]


def scene(number: int = 0) -> Specimen:
    """One of the default specimens, the first that is no deeper than 36 slices, made just as deep."""
    ranges = SpecimenRanges(thickness=(20.0, 30.0), diameters=(25.0, 38.0))
    for seed in range(1000 * number, 1000 * number + 200):
        s = build_specimen(draw_specimen(ranges, seed))
        if s.cell[2] <= 2.0 * SLICES:
            return replace(s, cell=(*s.cell[:2], 2.0 * SLICES))
    raise SystemExit("no scene is shallow enough")


def fastest_fft() -> dict[str, float]:
    """Seconds of one complex transform of 512 x 512 in single precision, by library."""
    import pyfftw

    field = torch.randn(N, N, dtype=torch.complex64)
    plain = field.numpy()
    aligned, out = (pyfftw.empty_aligned((N, N), "complex64") for _ in range(2))
    plan = pyfftw.FFTW(aligned, out, axes=(0, 1), flags=("FFTW_PATIENT",))
    aligned[:] = plain
    real = field.real.contiguous()
    found = medians(
        lambda: torch.fft.fft2(field),
        lambda: scipy.fft.fft2(plain),
        plan,
        lambda: torch.fft.rfft2(real),
        times=41,
    )
    return dict(zip(("torch", "SciPy", "pyFFTW", "torch, real"), found, strict=True))


def ratios(peer: Callable[[], object], *works: Callable[[], object], times: int = 9) -> list[list[float]]:
    """Of each work the peer's milliseconds, its own, and the peer's over its own: medians of runs in turn."""
    taken: list[list[float]] = [[] for _ in (peer, *works)]
    for i in range(times + 1):
        for work, seconds in zip((peer, *works), taken, strict=True):
            start = time.process_time()
            work()
            if i:
                seconds.append(1e3 * (time.process_time() - start))
    peers = np.array(taken[0])
    return [[np.median(peers), np.median(t), np.median(peers / np.array(t))] for t in taken[1:]]


def show(name: str, found: list[float], said: str, count: int = 1) -> None:
    print(f"{name:<48}{found[0] / count:9.2f}{found[1] / count:9.2f}{found[2]:8.2f} x   {said}")


def image_error(specimen: Specimen, wave: ExitWave, reference: ExitWave) -> float:
    """In percent of the deviation, on the particles, at the worst of three foci."""
    common = {"energy": 300e3, "C30": 0.0, "focal_spread": 10.0, "angular_spread": 0.0}
    lenses = lens_of([ImagingConditions(C10=c, **common) for c in (0.0, -100.0, 100.0)], dtype=torch.float64)
    inside = torch.as_tensor(disc_labels(specimen, (N, N)) > 0)
    pairs = zip(*(image_intensity(w, lenses, foci=5, shape=(N, N)) for w in (wave, reference)), strict=True)
    return max(100 * float(((f - r)[inside].square().mean().sqrt()) / r[inside].std()) for f, r in pairs)


def at_focus(wave: "object", specimen: Specimen, thickness: float) -> ExitWave:
    """abTEM's wave at our focus plane."""
    array = np.ascontiguousarray(wave.array.T)  # type: ignore[attr-defined]
    found = wave_from_array(array, pixel_size=specimen.cell[0] / array.shape[1], energy=300e3, band=1.25)
    ky, kx = found.band.frequencies()
    back = specimen.cell[2] - specimen.focus_plane + thickness / 2
    phase = math.pi * electron_wavelength(300e3) * (ky * ky + kx * kx) * back
    return replace(found, spectrum=found.spectrum * torch.polar(torch.ones_like(phase), phase))


def against_abtem(fft: float) -> None:
    import abtem
    import ase

    from passband.hrtem.wave.scattering import _behind

    abtem.config.set({"device": "cpu", "dask.lazy": False, "diagnostics.progress_bar": False})
    specimen = scene()
    atoms = ase.Atoms(numbers=specimen.numbers, positions=specimen.positions, cell=specimen.cell, pbc=True)

    def peers_wave(sampling: float = 0.2, thickness: float = 2.0) -> "abtem.Waves":
        potential = abtem.Potential(
            atoms, sampling=sampling, slice_thickness=thickness, projection="infinite"
        )
        return abtem.PlaneWave(energy=300e3).multislice(potential)

    def our_wave(settings: WaveSettings) -> ExitWave:
        _behind.cache_clear()  # no substrate from an earlier run
        return exit_wave(specimen, settings)

    before = medians(peers_wave, times=5)[0]
    settings = {
        "atoms to exit wave, 0.2 Å, slices of 2 Å (ms)": WaveSettings(pixel_size=0.2, slice_thickness=2.0),
        "the same, slices of 4 Å": WaveSettings(pixel_size=0.2, slice_thickness=4.0),
        "the default for CdSe: 0.18 Å, 4 Å": WaveSettings(),
        "the default for Au: 0.12 Å, 2 Å": WaveSettings(pixel_size=0.12, slice_thickness=2.0),
    }
    said = ("2.5 x", "", "0.67 x; 1 x moonshot", "0.67 x; 1 x moonshot")
    wave, cropped = exit_wave(specimen, WaveSettings(pixel_size=0.2, band=math.inf)), exit_wave(specimen)
    peer = abtem.Waves(np.ascontiguousarray(wave.array.numpy().T), energy=300e3, sampling=0.2)
    quiet = [replace(c, dose=math.inf) for c in CONDITIONS]
    ctfs = [abtem.CTF(C10=c.C10, focal_spread=c.focal_spread) for c in CONDITIONS]
    series = abtem.CTF(C10=np.array([c.C10 for c in CONDITIONS]), focal_spread=10.0)

    def by_one(noise: bool) -> None:
        for ctf in ctfs:
            image = peer.apply_ctf(ctf).intensity()
            if noise:
                image.poisson_noise(dose_per_area=DOSE, seed=1)

    def at_once(noise: bool) -> None:
        image = peer.apply_ctf(series).intensity()
        if noise:
            image.poisson_noise(dose_per_area=DOSE, seed=1)

    images_before = [v / IMAGES for v in medians(lambda: by_one(False), lambda: by_one(True), times=3)]
    keep_freed_memory()  # as the product's own processes do; from here on it serves both
    found = ratios(peers_wave, *(lambda s=s: our_wave(s) for s in settings.values()), times=7)
    fine = exit_wave(specimen, WaveSettings(pixel_size=1 / 15, slice_thickness=1.0))
    peers_fine = at_focus(peers_wave(1 / 15, 1.0), specimen, 1.0)
    error = image_error(specimen, at_focus(peers_wave(), specimen, 2.0), peers_fine)
    for (name, how), row, wanted in zip(settings.items(), found, said, strict=True):
        off = image_error(specimen, our_wave(how), fine)
        show(name, row, f"{wanted:<22}errors {error:.1f} %, {off:.2f} %")

    def envelopes() -> None:
        for c in quiet:
            image_intensity(cropped, lens_of([c], dtype=torch.float64), shape=(N, N))

    quick = min((by_one, at_once), key=lambda way: medians(lambda: way(False), times=3)[0])
    nodes = max(len(focal_nodes(c, cropped)) for c in quiet)
    lens = ratios(lambda: quick(False), envelopes, lambda: simulate_micrographs(cropped, quiet, seed=0))
    show("lens alone, the envelope as abTEM has it", lens[0], "4 x", IMAGES)
    show(f"lens alone, focal average of {nodes} images", lens[1], "", IMAGES)
    noisy = ratios(
        lambda: quick(True),
        lambda: simulate_micrographs(cropped, CONDITIONS, seed=0, noise="gaussian"),
        lambda: simulate_micrographs(cropped, CONDITIONS, seed=0, noise="poisson"),
    )
    show("focal average and Gaussian noise", noisy[0], "8 x", IMAGES)
    show("focal average and exact Poisson noise", noisy[1], "4 x", IMAGES)
    image, noisy_image = images_before
    print(
        f"Before freed memory is kept abTEM takes {1e3 * before:.0f} ms a wave, {1e3 * image:.1f} ms an "
        f"image and {1e3 * noisy_image:.1f} ms with noise. One transform of 512 x 512: {1e3 * fft:.2f} ms."
    )

    band = potential_band(sampling_band(specimen, 0.2))
    exact = projected_potential(specimen, pixel_size=0.2, slice_thickness=2.0)
    built = abtem.Potential(atoms, sampling=0.2, slice_thickness=2.0, projection="infinite").build()
    reference = structure_factors(specimen, band)
    for name, slices in (("ours", exact.sum(0)), ("abTEM's", torch.as_tensor(built.array.sum(0).T.copy()))):
        found_band = to_band(slices + 0j, band) / slices.numel()
        off = (found_band - reference).norm() / reference.norm()
        print(f"error of {name} potential inside the band, against structure factors: {off:.1e}")


def structure_factors(specimen: Specimen, band: "object") -> torch.Tensor:
    """The projected potential's spectrum by direct sums, with what thermal motion the specimen has."""
    from passband.hrtem.wave.scattering_factors import scattering_factor
    from passband.units import POTENTIAL_PER_SCATTERING_FACTOR

    ky, kx = (k.numpy() for k in band.frequencies())  # type: ignore[attr-defined]
    k2 = ky**2 + kx**2
    total = np.zeros(k2.shape, complex)
    kinds = np.stack([specimen.numbers, specimen.thermal], 1)
    for z, u in np.unique(kinds, axis=0):
        here = specimen.positions[(kinds == (z, u)).all(1)]
        along_x = np.exp(-2j * np.pi * kx * here[:, 0])
        along_y = np.exp(-2j * np.pi * here[:, 1][:, None] * ky)
        factor = POTENTIAL_PER_SCATTERING_FACTOR * scattering_factor(int(z), k2)
        total += (along_x @ along_y) * factor * np.exp(-2 * np.pi**2 * u * k2)
    return torch.as_tensor(total / (band.extent[0] * band.extent[1]))  # type: ignore[attr-defined]


def whole_scenes(count: int) -> None:
    """Specimen, wave, labels and 20 micrographs of scenes of the default kind."""
    spent = dict.fromkeys(("specimen", "wave", "labels", "20 images"), 0.0)
    depth = 0.0
    for number in range(count):
        marks = [time.process_time()]
        specimen = build_specimen(draw_specimen(SpecimenRanges(), 10_000 + number))
        marks.append(time.process_time())
        wave = exit_wave(specimen)
        marks.append(time.process_time())
        disc_labels(specimen, (N, N))
        marks.append(time.process_time())
        simulate_micrographs(wave, CONDITIONS, seed=number)
        marks.append(time.process_time())
        for name, a, b in zip(spent, marks, marks[1:], strict=False):
            spent[name] += b - a
        depth += specimen.cell[2] / 2
    each = sum(spent.values()) / count
    print(f"\n{count} scenes with 20 conditions each, {depth / count:.0f} slices on average")
    print("  " + ", ".join(f"{n} {v / count:.3f} s" for n, v in spent.items()))
    print(f"  {each:.2f} s a scene: 2000 scenes take {2000 * each / 60:.0f} min (45 at most; 20 moonshot),")
    print("  calculated from these; on disk come compressing and writing")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  memory {most:.2f} GB at most (1.5), with what this process held of abTEM")


def ways_tried() -> None:
    """An image of a wave that keeps half of the grid's frequencies: the transform in ways that were tried."""
    wave = exit_wave(scene())
    band = wave.band.on_grid((N, N))
    below, columns = band.kept[1] // 2, torch.fft.ifft(_padded(wave.spectrum), norm="forward")

    def squared(field: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(field).square_()
        return parts[..., 0] + parts[..., 1]

    def whole() -> torch.Tensor:
        return squared(torch.fft.ifft2(_padded(_padded(wave.spectrum).T), norm="forward"))

    def turned() -> torch.Tensor:
        rows = torch.fft.ifft(_padded(wave.spectrum), norm="forward")
        return squared(torch.fft.ifft(_padded(rows.T.contiguous()), norm="forward"))

    def in_blocks(size: int = 128) -> torch.Tensor:
        rows = torch.fft.ifft(_padded(wave.spectrum), norm="forward")
        image, block = rows.new_empty((N, N), dtype=torch.float32), rows.new_zeros((size, N))
        for y in range(0, N, size):
            block[:, : below + 1], block[:, -below:] = (
                rows[: below + 1, y : y + size].T,
                rows[-below:, y : y + size].T,
            )
            image[y : y + size] = squared(torch.fft.ifft(block, norm="forward"))
        return image

    def taken() -> torch.Tensor:
        return squared(from_band(wave.spectrum, band))

    works = (taken, whole, turned, in_blocks, lambda: torch.fft.ifft(columns))
    right = taken()
    assert all(torch.allclose(w(), right, atol=1e-4) for w in (whole, turned, in_blocks))
    names = (
        "as we do it",
        "whole",
        "turned between",
        "turned in blocks",
        "rows alone, half of them",
    )
    rng = np.random.Generator(np.random.SFC64(0))
    works += (lambda: torch.randn(N, N), lambda: rng.standard_normal((N, N), np.float32))
    names += ("normal numbers, torch", "numpy")
    print("wave to intensity (ms): ", end="")
    print(", ".join(f"{n} {1e3 * s:.2f}" for n, s in zip(names, medians(*works, times=41), strict=True)))


def _padded(spectrum: torch.Tensor) -> torch.Tensor:
    """The last axis with zeros between its positive and negative frequencies."""
    below = spectrum.shape[-1] // 2
    whole = spectrum.new_zeros((*spectrum.shape[:-1], N))
    whole[..., : below + 1], whole[..., -below:] = spectrum[..., : below + 1], spectrum[..., -below:]
    return whole


def parts() -> None:
    """Transforms within the antialiasing band, and exact counting, beside the libraries' own."""
    band = antialias_band(sampling_band(scene(), 0.2))
    field = torch.randn(N, N, dtype=torch.complex64)
    mean = torch.rand(N, N) * 2 * DOSE * 0.04
    rng, double = np.random.default_rng(0), mean.numpy().astype(np.float64)
    whole, banded, ours, numpys, torchs = medians(
        lambda: torch.fft.ifft2(torch.fft.fft2(field)),
        lambda: from_band(to_band(field, band), band),
        lambda: count_electrons(mean, seed=(0,), noise="poisson"),
        lambda: rng.poisson(double),
        lambda: torch.poisson(mean),
        times=41,
    )
    print(f"\nthere and back, whole {1e3 * whole:.2f} ms, within two thirds of Nyquist {1e3 * banded:.2f} ms")
    print(
        f"512 x 512 Poisson numbers of mean 16: ours {1e3 * ours:.1f} ms, numpy's {1e3 * numpys:.1f} ms, "
        f"torch's {1e3 * torchs:.1f} ms"
    )


def on_a_gpu() -> None:
    specimens = [scene(i) for i in range(8)]
    wave = exit_wave(specimens[0], device="cuda")
    for what, work, count in (
        ("waves", lambda: exit_waves(specimens, device="cuda"), len(specimens)),
        (
            "images",
            lambda: simulate_micrographs(wave, CONDITIONS * 16, seed=0, noise="gaussian"),
            16 * IMAGES,
        ),
    ):
        taken = []
        for _ in range(5):
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        print(f"{torch.cuda.get_device_name()}: {count / min(taken):.0f} {what}/s")


def main() -> None:
    libraries = fastest_fft()
    print("one complex transform, 512 x 512, single precision (ms):", end=" ")
    print(", ".join(f"{n} {1e3 * s:.2f}" for n, s in libraries.items()))
    fft = min(s for n, s in libraries.items() if "real" not in n)
    print(f"\n{'':<48}{'abTEM':>9}{'ours':>9}{'faster':>10}   wanted")
    try:
        against_abtem(fft)
    except ImportError as e:
        print(f"abTEM is not there ({e}); install passband[oracle] to compare")
    parts()
    ways_tried()
    whole_scenes(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    if torch.cuda.is_available():
        on_a_gpu()
    else:
        print("no GPU here: waves and images a second on one are not measured")


if __name__ == "__main__":
    main()
