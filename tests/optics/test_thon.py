"""Thon rings of films simulated here, whose lens is known."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from passband.errors import ParameterError
from passband.hrtem.specimen.specimen import SpecimenRanges, build_specimen, draw_specimen
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.hrtem.wave.scattering import exit_wave
from passband.optics.conditions import ImagingConditions
from passband.optics.periodogram import take_periodogram
from passband.optics.ring_doubts import Asked, tilt_of
from passband.optics.ring_model import RingProblem, climb
from passband.optics.thon import fit_thon_rings, ring_profile
from passband.units import electron_wavelength

PIXEL = 0.2
ENERGY = 300e3
WAVELENGTH = electron_wavelength(ENERGY)


def film(
    shape=(352, 352),
    *,
    C10,
    C12=0.0,
    phi12=0.0,
    C30=0.0,
    focal_spread=20.0,
    dose=400.0,
    strength=0.5,
    lattice=0.0,
    seed=0,
):
    """Counts of a thin random phase object, seen in first order: 1 + 2 V sin chi, with its envelope."""
    rng = np.random.default_rng(seed)
    ky, kx = np.fft.fftfreq(shape[0], PIXEL)[:, None], np.fft.rfftfreq(shape[1], PIXEL)[None]
    k2 = kx**2 + ky**2
    azimuth = np.arctan2(ky, kx)
    focus = C10 + C12 * np.cos(2 * (azimuth - phi12)) + 0.5 * C30 * WAVELENGTH**2 * k2
    chi = math.pi * WAVELENGTH * k2 * focus
    fall = np.exp(-((math.pi * WAVELENGTH * focal_spread * k2 / 2) ** 2)) / (1 + k2 / 0.4**2)
    potential = rng.normal(size=shape)
    if lattice:  # a crystal on a ninth of the image
        y, x = np.mgrid[: shape[0], : shape[1]] * PIXEL
        inside = (y < shape[0] * PIXEL / 3) & (x < shape[1] * PIXEL / 3)
        waves = sum(
            np.cos(2 * math.pi * (a * y + b * x)) for a, b in ((0.33, 0.1), (-0.1, 0.33), (0.23, 0.43))
        )
        potential += lattice * inside * waves
    image = 1 + np.fft.irfft2(np.fft.rfft2(potential) * 2 * np.sin(chi) * fall, s=shape) * strength
    if not math.isfinite(dose):
        return image.astype(np.float32)
    return rng.poisson(np.maximum(image, 0) * dose * PIXEL**2).astype(np.float32)


def fit(pixels, C30=0.0, **lens):
    return fit_thon_rings(pixels, pixel_size=PIXEL, energy=ENERGY, C30=C30, **lens)


def turn(a, b):
    """Angle between two axes without direction."""
    return abs((a - b + math.pi / 2) % math.pi - math.pi / 2)


@pytest.mark.parametrize(
    ("C10", "C12", "phi12", "C30"),
    [
        (-320.0, 15.0, 0.3, 0.0),
        (-900.0, 90.0, 1.2, 0.0),
        (-2900.0, 60.0, 2.9, 0.0),
        (-700.0, 40.0, 2.0, 1.2e7),
        (1500.0, 100.0, 0.1, 6e6),
        (2800.0, 25.0, 1.6, 1.2e7),
        (20.0, 50.0, 1.0, 1e7),  # in focus, yet spherical aberration makes rings
    ],
)
def test_the_lens_is_found(C10, C12, phi12, C30):
    told = fit(film(C10=C10, C12=C12, phi12=phi12, C30=C30), C30=C30)
    assert told.believed
    assert abs(told.defocus - abs(C10)) < 4 * told.defocus_error < 40
    assert abs(told.C12 - C12) < 4 * told.C12_error < 25
    assert turn(told.phi12, phi12) < 4 * told.phi12_error
    assert told.rings > 1
    if C30 and abs(C10) > 100:
        assert abs(told.C10 - C10) < 4 * told.defocus_error
        assert told.sign_confidence > 0.99


@pytest.mark.parametrize("C30", [0.0, 100.0])
def test_without_spherical_aberration_the_sign_is_left_open(C30):
    under, over = (
        fit(film(C10=s * 800.0, C12=60.0, phi12=p, C30=C30), C30=C30)
        for s, p in ((-1, 1.0), (1, 1.0 + math.pi / 2))
    )
    for told in (under, over):
        assert told.believed and told.sign == 0 and told.C10 is None
        assert told.sign_confidence < 0.9
        # Of the two lenses that give this spectrum the one at underfocus is told.
        assert turn(told.phi12, 1.0) < 4 * told.phi12_error
    assert under.defocus == pytest.approx(over.defocus, abs=4 * under.C12_error)


def test_standard_errors_are_those_of_repeated_images():
    C12, phi12 = 60.0, 0.7
    told = [fit(film((320, 320), C10=-1000.0, C12=C12, phi12=phi12, seed=s)) for s in range(10)]
    assert all(t.believed for t in told)
    for pulls in (
        np.array([(t.C12 - C12) / t.C12_error for t in told]),
        np.array([((t.phi12 - phi12 + 1) % math.pi - 1) / t.phi12_error for t in told]),
    ):
        # The mean square of 10 standard normal numbers lies in 0.17 to 2.9 but for twice in a thousand.
        assert 0.17 < (pulls**2).mean() < 2.9
    assert np.mean([abs(t.defocus - 1000) < t.defocus_error for t in told]) > 0.6


def test_a_turned_image_has_a_turned_lens():
    image = film((320, 400), C10=-1000.0, C12=70.0, phi12=0.4)
    told, turned, mirrored = (fit(np.ascontiguousarray(a)) for a in (image, np.rot90(image), image.T))
    for other in (turned, mirrored):
        assert other.defocus == pytest.approx(told.defocus, abs=0.5)
        assert abs(other.C12 - told.C12) < 0.5
    assert turn(turned.phi12, told.phi12 + math.pi / 2) < 0.01
    assert turn(mirrored.phi12, math.pi / 2 - told.phi12) < 0.01


def test_gain_and_offset_of_the_camera_do_not_matter():
    image = film(C10=-600.0)
    told, other = fit(image), fit(3 * image + 1000)
    assert other.defocus == pytest.approx(told.defocus, abs=0.01)
    assert other.gain == pytest.approx(told.gain, rel=1e-3)
    assert fit(image) == told


def test_a_crystal_s_spots_do_not_pull():
    clean = fit(film(C10=-700.0, C12=30.0))
    for lattice in (1.5, 8.0):
        told = fit(film(C10=-700.0, C12=30.0, lattice=lattice))
        assert told.believed and told.spots > clean.spots
        assert abs(told.defocus - 700) < 8
        assert told.defocus_error > told.C12_error  # unlike in a film alone, whose C12 is less certain


def test_the_borders_of_an_image_cut_from_a_larger_one_do_not_matter():
    told = fit(film((700, 700), C10=-1200.0, C12=40.0, phi12=1.0)[150:550, 200:600])
    assert told.believed
    assert abs(told.defocus - 1200) < 4 * told.defocus_error < 40
    y, x = np.mgrid[:400, :400] / 400
    shaded = film((400, 400), C10=-1200.0) * (1 + 0.3 * x + 0.2 * y**2)
    assert abs(fit(shaded.astype(np.float32)).defocus - 1200) < 10


@pytest.mark.parametrize("shape", [(256, 700), (500, 1300)])
def test_shapes_other_than_squares(shape):
    told = fit(film(shape, C10=-900.0, C12=40.0, phi12=0.8))
    assert told.believed
    assert abs(told.defocus - 900) < 4 * told.defocus_error < 40
    assert turn(told.phi12, 0.8) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_believed(seed):
    noise = np.random.default_rng(seed).poisson(16, (400, 400)).astype(np.float32)
    told = fit(noise, C30=1.2e7 * (seed % 2))
    assert not told.believed and "no rings" in told.reason


def test_what_shows_no_rings_is_not_believed():
    y, x = np.mgrid[:400, :400] * PIXEL
    fringes = (np.cos(2 * math.pi * 0.4 * x) * np.cos(2 * math.pi * 0.3 * y)).astype(np.float32)
    rng = np.random.default_rng(0)
    blobs = np.fft.irfft2(
        np.fft.rfft2(rng.normal(size=(400, 400)))
        * np.exp(-20 * (np.fft.fftfreq(400, PIXEL)[:, None] ** 2 + np.fft.rfftfreq(400, PIXEL) ** 2))
    )
    for pixels in (
        film(C10=0.0, C12=5.0),
        film(C10=-1000.0, dose=4.0),
        fringes + rng.normal(size=(400, 400)).astype(np.float32),
        fringes,
        blobs.astype(np.float32) * 500 + rng.normal(size=(400, 400)).astype(np.float32),
    ):
        assert not fit(pixels).believed


@pytest.mark.parametrize("seed", range(1, 3))
def test_two_heights_are_told(seed):
    """Half of the image at another height: what fits both lies between."""
    image, other = (
        film((400, 400), C10=c, dose=2000.0, seed=s) for c, s in ((-1000.0, seed), (-1200.0, 100 + seed))
    )
    image[:, 200:] = other[:, 200:]
    told = fit(image)
    assert not told.believed and told.sign == 0
    assert any(words in told.reason for words in ("two heights", "another defocus"))


def test_halves_of_one_height_agree_and_those_of_two_do_not():
    asked = Asked(pixel_size=PIXEL, energy=ENERGY, C30=(0.0, 0.0), defocus=2e4, astigmatism=None)
    for second, said in ((-1000.0, []), (-1100.0, ["left and right halves fit"])):
        image, other = (film((400, 400), C10=c, dose=2000.0, seed=s) for c, s in ((-1000.0, 1), (second, 2)))
        image[:, 200:] = other[:, 200:]
        problem = RingProblem(seen=take_periodogram(image, PIXEL), wavelength=WAVELENGTH).below(0.6)
        model = climb(problem, np.array([(second - 1000) / 2, 0, 0, 0, 0, 0, 0]))
        told = tilt_of(image, problem, model, asked)
        assert len(told) == len(said) and all(words in told[0] for words in said)


@pytest.mark.parametrize(
    ("true", "given", "C10"), [(1.2e7, 0.0, -1000.0), (0.3e7, 1.2e7, -1000.0), (1.2e7, 0.5e7, 1000.0)]
)
def test_a_wrong_spherical_aberration_is_noticed_and_the_right_one_proposed(true, given, C10):
    told = fit(film((400, 400), C10=C10, C30=true), C30=given)
    assert not told.believed and told.sign == 0
    proposed = float(re.search(r"a Cs of ([0-9.]+) mm", told.reason)[1])
    assert proposed == pytest.approx(true / 1e7, abs=0.15)


def test_rings_that_are_explained_in_part_are_no_answer():
    """Up to 0.4 /Å a wrong spherical aberration and focus have the rings of the right ones."""
    told = fit(film((400, 400), C10=-1000.0, C30=0.3e7), C30=1.2e7)
    assert not told.believed and "explain only" in told.reason


@pytest.mark.parametrize("scale", [0.9, 1.1, 1.25])
def test_a_wrong_pixel_size_is_noticed_where_spherical_aberration_tells_it(scale):
    image = film((400, 400), C10=-1000.0, C30=1.2e7)
    told = fit_thon_rings(image, pixel_size=scale * PIXEL, energy=ENERGY, C30=1.2e7)
    assert not told.believed
    proposed = float(re.search(r"pixels of ([0-9.]+) Å better", told.reason)[1])
    assert proposed == pytest.approx(PIXEL, rel=0.02)


@pytest.mark.parametrize("energy", [80e3, 200e3])
def test_a_wrong_energy_is_noticed_where_spherical_aberration_tells_it(energy):
    told = fit_thon_rings(film((400, 400), C10=1200.0, C30=1.2e7), pixel_size=PIXEL, energy=energy, C30=1.2e7)
    assert not told.believed and told.sign == 0


@pytest.mark.parametrize(("C10", "C30"), [(-600.0, 1.2e7), (1500.0, 2.7e7), (1500.0, 0.4e7)])
def test_an_unknown_spherical_aberration_is_fitted(C10, C30):
    told = fit(film((400, 400), C10=C10, C12=60.0, phi12=1.0, C30=C30), C30=None)
    assert told.believed and abs(told.C30 - C30) < 4 * told.C30_error < 0.4e7
    assert abs(told.C10 - C10) < 4 * told.defocus_error


def test_an_unknown_spherical_aberration_that_rings_do_not_tell_is_not_assumed():
    fine = film((1200, 1200), C10=-2000.0, C30=1.2e7, dose=100.0)
    coarse = fine.reshape(150, 8, 150, 8).sum(axis=(1, 3), dtype=np.float32)
    told, given = (fit_thon_rings(coarse, pixel_size=8 * PIXEL, energy=ENERGY, C30=c) for c in (None, 1.2e7))
    assert not told.believed and "give it" in told.reason
    assert given.believed and abs(given.defocus - 2000) < 30


def test_a_negative_spherical_aberration_is_that_of_a_corrected_lens():
    told = fit(film(C10=700.0, C30=-1e7), C30=-1e7)
    assert told.believed and abs(told.C10 - 700) < 4 * told.defocus_error


@pytest.mark.parametrize(
    ("bound", "said"),
    [({"most_defocus": 800.0}, "beyond the 800 Å"), ({"most_astigmatism": 150.0}, "beyond the 150 Å")],
)
def test_what_lies_beyond_the_bounds_is_found_and_not_believed(bound, said):
    image = film((352, 352), C10=-1200.0, C12=400.0, phi12=0.5)
    free, bounded = fit(image), fit(image, **bound)
    assert free.believed and abs(free.C12 - 400) < 4 * free.C12_error
    assert not bounded.believed and said in bounded.reason
    assert bounded.defocus == pytest.approx(free.defocus, abs=1)


@pytest.mark.parametrize("C10", [-6000.0, 19000.0])
def test_foci_up_to_two_micrometres_are_found_unasked(C10):
    """Of an image wide enough: pixels of 1 Å."""
    fine = film((2000, 2000), C10=C10, C12=abs(C10) / 5, phi12=0.4, strength=2.0)
    coarse = fine.reshape(400, 5, 400, 5).sum(axis=(1, 3), dtype=np.float32)
    told = fit_thon_rings(coarse, pixel_size=5 * PIXEL, energy=ENERGY, C30=0.0)
    assert told.believed
    assert abs(told.defocus - abs(C10)) < 4 * told.defocus_error < 60


@pytest.mark.parametrize("drift", [1.0, 1.6])
def test_drift_is_no_astigmatism(drift):
    image = film((400, 400), C10=-900.0, C12=0.0, dose=math.inf)
    ky, kx = np.fft.fftfreq(400, PIXEL)[:, None], np.fft.rfftfreq(400, PIXEL)[None]
    smeared = np.fft.irfft2(np.fft.rfft2(image) * np.sinc(drift * (0.8 * kx + 0.6 * ky)), s=image.shape)
    rng = np.random.default_rng(1)
    told = fit(rng.poisson(np.maximum(smeared, 0) * 400 * PIXEL**2).astype(np.float32))
    assert told.believed and abs(told.defocus - 900) < 4 * told.defocus_error
    assert 4 * told.C12_error > told.C12


@pytest.mark.parametrize("seed", range(3))
def test_the_film_s_own_rings_are_not_the_lens_s(seed):
    """In focus, amplitude contrast shows the structure factor of carbon: broad rings at 0.47 and 0.86 /Å."""
    rng = np.random.default_rng(seed)
    k = np.hypot(np.fft.fftfreq(512, PIXEL)[:, None], np.fft.rfftfreq(512, PIXEL))
    structure = 0.5 + np.exp(-(((k - 0.47) / 0.08) ** 2)) + 0.6 * np.exp(-(((k - 0.86) / 0.12) ** 2))
    seen = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(512, 512))) * np.sqrt(structure) / (1 + k**2 / 0.4**2))
    told = fit(rng.poisson((1 + 0.4 * seen).clip(0) * 2000 * PIXEL**2).astype(np.float32))
    assert not told.believed


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("C10, believed", [(-80.0, False), (-300.0, True)])
def test_less_than_half_a_ring_is_too_little_and_nearly_two_are_enough(C10, believed, seed):
    """Coarse pixels show frequencies up to 0.56/Å: 0.4 of a ring, and 1.9 rings."""
    fine = film((1200, 1200), C10=C10, dose=1600.0, seed=seed)
    coarse = fine.reshape(300, 4, 300, 4).sum(axis=(1, 3), dtype=np.float32)
    told = fit_thon_rings(coarse, pixel_size=4 * PIXEL, energy=ENERGY, C30=0.0)
    assert told.believed == believed
    if believed:
        assert abs(told.defocus + C10) < 12 and 1.7 < told.rings < 2.1


def test_a_larger_image_tells_more():
    """Beyond one tile of 1024 pixels, too."""
    gains = [fit(film((256, n), C10=-900.0)).gain for n in (256, 512, 1024, 2048)]
    assert gains[1] > 1.6 * gains[0] and gains[3] > 1.6 * gains[2]


def test_a_constant_image_tells_nothing():
    told = fit(np.ones((128, 128), np.float32))
    assert not told.believed and told.reason == "the image is constant"
    assert math.isnan(told.defocus) and told.C10 is None
    assert ring_profile(np.ones((128, 128), np.float32), PIXEL).frequency.size == 0


def test_evidence_grows_with_dose_and_the_error_shrinks():
    told = [fit(film(C10=-1000.0, dose=d)) for d in (100.0, 400.0, 1600.0)]
    assert [t.gain for t in told] == sorted(t.gain for t in told)
    assert told[0].C12_error > told[1].C12_error > told[2].C12_error


def test_the_information_limit_follows_the_focal_spread():
    limits = [fit(film(C10=-1000.0, focal_spread=d)).information_limit for d in (20.0, 90.0, 180.0)]
    assert 1.0 > limits[0] > limits[1] > limits[2] > 0.3
    assert fit(film(C10=-1000.0, focal_spread=20.0, dose=100.0)).information_limit < limits[0]


def test_every_fault_is_named_at_once():
    with pytest.raises(ParameterError) as fault:
        fit_thon_rings(np.zeros((16, 512), np.float32), pixel_size=0.0, energy=math.nan, C30=-math.inf)
    for word in ("pixel_size", "energy", "C30", "at least 64 x 64", "(16, 512)"):
        assert word in str(fault.value)
    holed = film((128, 128), C10=-900.0)
    holed[3, 4] = math.nan
    for call in (lambda: fit(holed), lambda: ring_profile(holed, PIXEL)):
        with pytest.raises(ParameterError, match="1 of 16384 pixels are not finite: replace them"):
            call()


def test_rings_of_the_profile_stand_where_the_lens_puts_them():
    C10 = -1500.0
    profile = ring_profile(film(C10=C10, dose=math.inf), PIXEL)
    phase = np.sin(math.pi * WAVELENGTH * C10 * profile.frequency**2) ** 2
    band = (profile.frequency > 0.15) & (profile.frequency < 0.6)
    assert np.corrcoef(profile.signal[band], phase[band])[0, 1] > 0.8
    assert (np.diff(profile.frequency) > 0).all()
    np.testing.assert_allclose(profile.signal, profile.power / profile.background - 1)


def test_the_profile_of_noise_is_flat_and_spots_do_not_show():
    noise = np.random.default_rng(1).normal(size=(512, 512)).astype(np.float32)
    x = np.arange(512) * PIXEL
    spotted = noise + np.cos(2 * math.pi * 0.5 * x).astype(np.float32) * np.cos(2 * math.pi * 0.5 * x)[
        :, None
    ].astype(np.float32)
    for pixels in (noise, spotted):
        profile = ring_profile(pixels, PIXEL)
        assert np.abs(profile.signal[profile.frequency > 0.3]).mean() < 0.1
        many = profile.frequency > 0.2  # the rings within are of few pixels, and the fit ends there
        assert profile.background[many] == pytest.approx(1 / math.log(2), rel=0.1)


def test_a_film_through_the_whole_simulation():
    """The plane in focus is the middle of the film: half its thickness above its lower face."""
    specimen = build_specimen(draw_specimen(SpecimenRanges(count=(2, 2), cell=(76.8, 76.8)), seed=5))
    z = specimen.positions[specimen.particle == 0, 2]
    depth = specimen.focus_plane - (z.min() + z.max()) / 2
    lens = ImagingConditions(
        energy=ENERGY,
        C10=-900.0,
        C12=50.0,
        phi12=0.9,
        C30=8e6,
        focal_spread=25.0,
        dose=400.0,
        pixel_size=PIXEL,
    )
    pixels = simulate_micrographs(exit_wave(specimen), [lens], seed=1)[0].numpy()
    told = fit(pixels, C30=8e6)
    assert told.believed and told.sign == 1
    assert abs(told.C10 - (lens.C10 + depth)) < 4 * told.defocus_error
    assert 2 * told.defocus_error < depth  # so that the middle is told from the faces
    assert turn(told.phi12, 0.9) < 0.15
