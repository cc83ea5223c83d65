"""What the study of realism measures is what it says."""

import os
from pathlib import Path

import numpy as np
import pytest

from realism import ALL, FAR, GOLD_111, Shown, fringes, in_bands, real_tiles

DATA = Path(os.environ.get("PASSBAND_DATA", "")) / "nanoparticles"


def shown(pixels: np.ndarray, mask: np.ndarray) -> Shown:
    return Shown(pixels=pixels.astype(np.float32), mask=mask, of=FAR, way=ALL, scene=0)


def made(side: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """White noise about 100, of deviation 5 on carbon and 10 about 80 in a disc."""
    y, x = np.indices((side, side)) - side // 2
    mask = np.hypot(y, x) < side / 3
    noise = np.random.default_rng(0).standard_normal((side, side))
    return np.where(mask, 80 + 10 * noise, 100 + 5 * noise), mask


def test_measures_are_those_of_a_made_image() -> None:
    pixels, mask = made()
    ratio, _, darkening = shown(pixels, mask).measures()
    assert ratio == pytest.approx(2, rel=0.03)
    assert darkening == pytest.approx(-4, rel=0.03)
    # A blur leaves the same share of any white noise, where it does not mix both sides of the outline.
    assert shown(pixels, mask).measures(rim=8)[1] == pytest.approx(2, rel=0.1)


def test_grey_values_may_be_scaled_and_moved() -> None:
    pixels, mask = made()
    for rim in (0, 4):
        one, other = (shown(p, mask).measures(rim) for p in (pixels, 3 * pixels - 50))
        np.testing.assert_allclose(one, other, rtol=1e-4)
    np.testing.assert_allclose(shown(pixels, mask).standing()[~mask].std(), 1, rtol=1e-5)


def test_a_fringe_is_found_in_the_particle_alone_and_white_noise_has_none() -> None:
    pixels, mask = made()
    assert fringes(shown(pixels, mask)) == []
    x = np.arange(256)[None, :]
    lattice = pixels + 8 * np.cos(2 * np.pi * 0.25 * x) * mask
    assert fringes(shown(lattice, mask)) == pytest.approx([0.25], abs=1 / 128)


def test_white_noise_has_as_much_power_in_every_band() -> None:
    flat = np.random.default_rng(1).standard_normal((256, 256))
    assert np.ptp(in_bands([shown(flat, flat > 9)])) < 0.1


@pytest.mark.skipif(not DATA.is_dir(), reason="the real tiles are not here")
def test_real_tiles_tell_their_pixel_size() -> None:
    tiles = real_tiles(DATA)
    assert len(tiles) == 20 and all(t.mask.shape == t.pixels.shape for t in tiles)
    found = [f for t in tiles[::4] for f in fringes(t)]
    assert len(found) >= 5
    assert np.median(found) * GOLD_111 == pytest.approx(0.59, abs=0.02)
    assert all(t.measures()[2] < -1 for t in tiles)


def test_no_real_tile_is_no_error(tmp_path) -> None:
    assert real_tiles(tmp_path) == []
