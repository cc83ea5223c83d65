"""A scale bar burned into an image tells its pixel size, or nothing: never a wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from passband.detections.detections import Detections
from passband.micrographs import scale_bar
from passband.micrographs.many import Reading
from passband.micrographs.scale_bar import bar_of, find_scale_bar, length_of, may_hold_bar

needs_reader = pytest.mark.skipif(
    not scale_bar.installed(), reason="RapidOCR is not installed: pip install passband[ocr]"
)
LEVELS = {"white": (255, None), "black": (0, None), "white on black": (255, 0), "black on white": (0, 255)}


def foil(seed: int = 0, shape: tuple[int, int] = (512, 640)) -> Image.Image:
    """A specimen in the middle of the grey levels: noise, a gradient, discs with bright and dark rims."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    grey = 120 + 0.06 * (x - y) + rng.normal(0, 12, shape)
    for _ in range(12):
        cy, cx, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(8, 40)
        away = np.hypot(y - cy, x - cx) - r
        grey += 60 * (away < 0) - 70 * (np.abs(away) < 2)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def drawn(
    text: str,
    length: int,
    *,
    look: str = "white",
    size: int = 28,
    place: str = "above",
    thick: int = 6,
    seed=0,
):
    """The image, with lettering above or below its bar or in the middle of it, lower right."""
    image = foil(seed)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    ink, ground = LEVELS[look]
    left, top = 640 - length - 40, 420
    box = draw.textbbox((0, 0), text, font=font)
    middle = left + (length - (box[2] - box[0])) // 2
    if ground is not None:
        draw.rectangle((min(left, middle) - 12, top - size - 20, 620, top + size + 30), fill=ground)
    if place == "parted":
        half = (length - (box[2] - box[0])) // 2 - 4
        for a in (left, left + length - half):
            draw.rectangle((a, top, a + half - 1, top + 1), fill=ink)
        for a in (left, left + length - 2):
            draw.rectangle((a, top - 8, a + 1, top + 9), fill=ink)
        draw.text((middle, top - (box[1] + box[3]) / 2), text, fill=ink, font=font)
    else:
        draw.rectangle((left, top, left + length - 1, top + thick - 1), fill=ink)
        draw.text(
            (middle, top - size - 10 if place == "above" else top + thick + 2), text, fill=ink, font=font
        )
    return np.asarray(image, np.float32)


@needs_reader
@pytest.mark.parametrize(
    ("text", "length", "angstrom", "look"),
    [
        ("100 nm", 150, 1000.0, "white"),
        ("20nm", 90, 200.0, "black"),
        ("0.5 um", 200, 5000.0, "white on black"),
        ("2 nm", 110, 20.0, "black on white"),
    ],
)
def test_a_bar_tells_its_pixel_size_whatever_its_ink(text, length, angstrom, look):
    bar = find_scale_bar(drawn(text, length, look=look))
    assert bar is not None and bar.confidence > 0.8
    assert bar.pixel_size == pytest.approx(angstrom / length, rel=0.015)
    assert bar.bar.right - bar.bar.left == pytest.approx(length, abs=2)


@needs_reader
@pytest.mark.parametrize("size", [16, 44])
@pytest.mark.parametrize("place", ["above", "below", "parted"])
def test_lettering_above_below_and_in_the_middle_small_and_large(place, size):
    bar = find_scale_bar(drawn("200 nm", 260, place=place, size=size, look="white on black"))
    assert bar is not None and bar.pixel_size == pytest.approx(2000 / 260, rel=0.015)


@needs_reader
@pytest.mark.parametrize("pixels", [
    np.asarray(foil(3), np.float32),
    drawn("37 nm", 150),  # no usual length
    drawn("PTFE", 150),
    drawn("5.0 mm", 150),  # a working distance
], ids=["nothing", "unusual", "a word", "a distance"])  # fmt: skip
def test_what_is_no_scale_bar_tells_nothing(pixels):
    assert find_scale_bar(pixels) is None


@needs_reader
def test_lettering_without_its_bar_and_two_that_disagree_tell_nothing():
    alone = foil(1)
    ImageDraw.Draw(alone).text((500, 440), "100 nm", fill=255, font=ImageFont.load_default(28))
    assert find_scale_bar(np.asarray(alone, np.float32)) is None
    two = drawn("100 nm", 150)
    other = drawn("100 nm", 100, seed=0)
    two[:300] = other[212:512]
    assert find_scale_bar(two) is None


@needs_reader
@pytest.mark.parametrize(("size", "cut"), [(28, 40), (28, 105), (20, 112), (16, 120)])
def test_half_of_a_parted_bar_is_not_taken_for_the_whole(size, cut):
    """Its other half is cut short or gone, by the edge of the image say."""
    pixels = drawn("200 nm", 300, place="parted", look="white on black", size=size)
    pixels[400:450, 640 - 40 - cut :] = 0
    assert find_scale_bar(pixels) is None


@needs_reader
def test_the_ground_of_lettering_is_no_bar():
    """A white box around bold letters, and no bar at all."""
    image = foil(2)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(36)
    left, top, right, bottom = draw.textbbox((440, 400), "10 nm", font=font)
    for margin in (3, 8, 14):
        draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=255)
        draw.text((440, 400), "10 nm", fill=0, font=font, stroke_width=1)
        assert find_scale_bar(np.asarray(image, np.float32)) is None


@needs_reader
def test_the_file_s_own_size_and_the_user_s_come_first_and_the_source_is_told(tmp_path):
    Image.fromarray(drawn("100 nm", 200).astype(np.uint8)).save(tmp_path / "a.png")
    read = Reading().read(str(tmp_path / "a.png"))
    assert read.pixel_size == pytest.approx(5.0, rel=0.015)
    assert "the scale bar in the image ('100 nm' on 200 px" in read.sources["pixel_size"]
    given = Reading(pixel_size=3.0).read(str(tmp_path / "a.png"))
    assert given.pixel_size == 3.0 and given.written == ()
    listed = Reading(sidecar={"a.png": 4.0}).read(str(tmp_path / "a.png"))
    assert listed.pixel_size == 4.0 and listed.written == ()
    bar, label = read.written
    boxes = np.array(
        [
            [bar.left, bar.top - 1, bar.right, bar.bottom],
            [label.left, label.top, label.right, label.bottom],
            [50.0, 50, 90, 90],
        ],
        np.float64,
    )
    found = Detections(image_shape=read.shape, boxes_xyxy=boxes, scores=np.ones(3))
    assert found.outside(read.written).boxes_xyxy.tolist() == [[50.0, 50, 90, 90]]


def test_without_the_library_nothing_is_told_and_nothing_breaks(monkeypatch):
    monkeypatch.setattr(scale_bar, "find_spec", lambda name: None)
    assert find_scale_bar(drawn("100 nm", 150)) is None


def test_most_images_without_a_drawn_edge_are_not_even_read():
    """The level top of a large disc may look like one: then it is read, and nothing is there."""
    assert all(may_hold_bar(drawn("100 nm", 150, seed=seed)) for seed in range(8))
    assert sum(may_hold_bar(np.asarray(foil(seed), np.float32)) for seed in range(8)) <= 2


@pytest.mark.parametrize(
    ("words", "angstrom"),
    [
        ("100 nm", 1e3), ("100nm", 1e3), ("|100 nm|", 1e3), ("0.2 µm", 2e3),
        ("1μm", 1e4), ("1 um", 1e4), ("5 Å", 5.0),
        ("2.5 nm", 25.0), ("1,5 µm", 1.5e4), ("0 nm", None), ("nm", None), ("12 nm", None), ("100 nn", None),
        ("1.0 kx", None), ("2 pm", None), ("WD 5 nm", None), ("10000 nm", 1e5),
    ],
)  # fmt: skip
def test_lengths_of_lettering(words, angstrom):
    assert length_of(words) == (None if angstrom is None else pytest.approx(angstrom))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (257.0, 0.0), (0.001, -3.0), (1e-30, 0.0)])
def test_whether_a_bar_may_be_there_does_not_depend_on_the_unit_nor_on_where_strips_end(gain, offset):
    """Sixteen bits, counts below zero; and the bar on every row around the end of a strip."""
    rng = np.random.default_rng(1)
    plain = rng.normal(120, 12, (2 * scale_bar._STRIP, 64)).clip(0, 255).astype(np.float32)
    plain[0, :2] = 0, 255
    assert not may_hold_bar((plain * np.float32(gain) + np.float32(offset)).astype(np.float32))
    for top in range(scale_bar._STRIP - 4, scale_bar._STRIP + 4):
        pixels = plain.copy()
        pixels[top : top + 3, 20:50] = 255
        assert may_hold_bar((pixels * np.float32(gain) + np.float32(offset)).astype(np.float32)), top


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (40, 2), (3, 3), (scale_bar._STRIP + 1, 5)])
def test_the_smallest_images_hold_none(shape):
    assert find_scale_bar(np.arange(np.prod(shape), dtype=np.float32).reshape(shape)) is None
    assert find_scale_bar(np.full(shape, 7, np.float32)) is None


def test_a_label_that_lies_on_nothing_has_no_bar():
    flat = np.full((60, 80), 90, np.float32)
    label = scale_bar.Label("1 nm", 10.0, 1.0, scale_bar.Region(20, 20, 40, 60))
    assert bar_of(flat, label) is None
