"""HRTEM from atoms to micrographs, stage by stage beside abTEM 1.0.11, in one run on one core.

    python benchmarks/bench_hrtem.py [SCENES]

Seconds of processor time, medians of alternating runs, so that other work on the machine falls on both.
The scene is one of ours: particles on amorphous carbon in a field of 102.4 Å, 512 x 512 points, cut to
36 slices of 2 Å. The floor of a stage is what its Fourier transforms alone take with the fastest library
here (of torch, SciPy, pyFFTW). abTEM's potential is its "infinite" one; it computes lens images one
by one and as a series, and the faster counts; it is timed as it comes, and again after this process
was told to keep freed memory, as our own simulating processes are. Where a CUDA device is there, waves
and images are timed on it too. With SCENES (20 if not given), whole scenes with 20 conditions each are timed.
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
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.hrtem.wave.potential import projected_potential, sampling_band
from passband.hrtem.wave.scattering import WaveSettings, exit_wave, exit_waves
from passband.optics.bands import from_band, to_band
from passband.optics.camera import count_electrons
from passband.optics.conditions import ConditionRanges, Uniform, draw_conditions

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


def show(name: str, ours: float, peer: float, floor: float, wanted: str) -> None:
    print(
        f"{name:<44}{1e3 * peer:10.2f}{1e3 * ours:10.2f}{peer / ours:8.2f} x{1e3 * floor:10.2f}"
        f"{ours / floor:9.1f} x   {wanted}"
    )


def against_abtem(fft: float) -> None:
    import abtem
    import ase

    abtem.config.set({"device": "cpu", "dask.lazy": False, "diagnostics.progress_bar": False})
    specimen = scene()
    atoms = ase.Atoms(numbers=specimen.numbers, positions=specimen.positions, cell=specimen.cell, pbc=True)
    settings = WaveSettings(band=math.inf)

    def peers_wave() -> "abtem.Waves":
        potential = abtem.Potential(atoms, sampling=0.2, slice_thickness=2.0, projection="infinite")
        return abtem.PlaneWave(energy=300e3).multislice(potential)

    from passband.hrtem.wave.scattering import _behind

    def our_wave() -> object:
        _behind.cache_clear()  # no substrate from an earlier run
        return exit_wave(specimen, settings)

    plain_wave = medians(peers_wave, times=7)[0]
    # Potential: one real transform for each kind of atom in a slice, and one back; transmission limited to
    # the band, and propagation: two transforms each.
    kinds = 1.5
    floor = SLICES * ((kinds + 1) * fft / 2 + 4 * fft)
    wave = exit_wave(specimen, settings)
    cropped = exit_wave(specimen)
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

    peers = (
        lambda: by_one(False),
        lambda: at_once(False),
        lambda: by_one(True),
        lambda: at_once(True),
    )
    plain = [v / IMAGES for v in medians(*peers, times=5)]
    keep_freed_memory()  # as the product's own processes do; from here on it serves both
    tuned_wave, ours = medians(peers_wave, our_wave, times=7)
    show("atoms to exit wave, 36 slices (ms)", ours, plain_wave, floor, "1 x at least; 1.67 x moonshot")
    each = [
        v / IMAGES
        for v in medians(
            *peers,
            lambda: simulate_micrographs(wave, quiet, seed=0),
            lambda: simulate_micrographs(cropped, quiet, seed=0),
            lambda: simulate_micrographs(cropped, CONDITIONS, seed=0, noise="gaussian"),
            lambda: simulate_micrographs(cropped, CONDITIONS, seed=0, noise="poisson"),
            times=7,
        )
    ]
    lens, noisy = min(plain[:2]), min(plain[2:])
    show("lens, whole wave (ms an image)", each[4], lens, fft, "")
    show("lens, wave cropped to 1.25/Å", each[5], lens, fft, "3 x; 5 x moonshot")
    show("lens, Gaussian noise", each[6], noisy, fft, "6 x; 8 x moonshot")
    show("lens, exact Poisson noise", each[7], noisy, fft, "1.7 x; 3 x moonshot")
    print(
        f"abTEM one by one {1e3 * plain[0]:.1f} ms, as a series {1e3 * plain[1]:.1f} ms an image. With our "
        f"setting of the allocator it takes {1e3 * tuned_wave:.0f} ms a wave, {1e3 * min(each[:2]):.1f} ms "
        f"an image, {1e3 * min(each[2:4]):.1f} ms with noise: then ours is {tuned_wave / ours:.2f}, "
        f"{min(each[:2]) / each[5]:.2f}, {min(each[2:4]) / each[6]:.2f} (Gaussian) and "
        f"{min(each[2:4]) / each[7]:.2f} (exact) times as fast."
    )
    print(f"images a second: abTEM {1 / lens:.0f} and with noise {1 / noisy:.0f};", end=" ")
    print("ours", ", ".join(f"{1 / v:.0f}" for v in each[4:]))

    band = sampling_band(specimen, 0.2)
    exact = projected_potential(specimen, pixel_size=0.2, slice_thickness=2.0)
    built = abtem.Potential(atoms, sampling=0.2, slice_thickness=2.0, projection="infinite").build()
    reference = structure_factors(specimen, band)
    for name, slices in (("ours", exact.sum(0)), ("abTEM's", torch.as_tensor(built.array.sum(0).T.copy()))):
        found = to_band(slices + 0j, band) / slices.numel()
        error = (found - reference).norm() / reference.norm()
        print(f"error of {name} potential inside the band, against structure factors: {error:.1e}")


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
        disc_labels(specimen, wave.band.shape)
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
    print(f"  memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB at most (1.5)")


def parts() -> None:
    """Transforms within the antialiasing band, and exact counting, beside the libraries' own."""
    band = sampling_band(scene(), 0.2)
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
    print(f"\n{'':<44}{'abTEM':>10}{'ours':>10}{'faster':>10}{'FFT floor':>10}{'above it':>11}   wanted")
    try:
        against_abtem(fft)
    except ImportError as e:
        print(f"abTEM is not there ({e}); install passband[oracle] to compare")
    parts()
    whole_scenes(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    if torch.cuda.is_available():
        on_a_gpu()
    else:
        print("no GPU here: waves and images a second on one are not measured")


if __name__ == "__main__":
    main()
