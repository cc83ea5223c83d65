"""What is done to an image on its way to a file moves no cavity, and hides what it hides."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.cavities.draws import draw_set
from passband.cavities.export import Export, Writing, draw_export, export_image
from passband.cavities.image import CavityImage, simulate_cavities


@pytest.fixture(scope="module")
def image() -> CavityImage:
    (record,) = draw_set(["B:under"], 1, seed=3, shape=(192, 256))
    return simulate_cavities(record)


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(32, 32), (64, 300), (512, 512)]))
@settings(max_examples=30, deadline=None)
def test_whatever_is_drawn_gives_eight_bits_of_the_same_shape_and_the_same_again(seed, shape):
    rng = np.random.default_rng(seed)
    (record,) = draw_set(["A:under"], 1, seed=1, shape=(32, 32))
    noise = np.random.default_rng(0).poisson(20.0, shape).astype(np.float32)
    camera = CavityImage(pixels=noise, instances=(), record=record)
    export = draw_export(rng, shape)
    sent = export_image(camera, export)
    assert sent.pixels.shape == shape and sent.pixels.dtype == np.float32
    assert sent.pixels.min() >= 0 and sent.pixels.max() <= 255
    assert (sent.pixels == np.round(sent.pixels)).all()
    assert (export_image(camera, export).pixels == sent.pixels).all()


def test_the_camera_s_image_is_left_as_it_was(image):
    before = image.pixels.copy()
    export_image(image, Export(columns=(5,), scratches=((9.0, 9.0, 1.0, 2.0, 2.0),), smoothing=1.0))
    assert (image.pixels == before).all()


@pytest.mark.parametrize(
    "change", [{}, {"smoothing": 1.5}, {"gamma": 0.5}, {"quality": 60}, {"clipped": (2.0, 1.0)}]
)
def test_nothing_but_writing_takes_a_cavity_away_or_moves_one(image, change):
    sent = export_image(image, Export(**change))
    assert (sent.labels == image.labels).all()
    assert np.corrcoef(sent.pixels.ravel(), image.pixels.ravel())[0, 1] > 0.5


def test_under_a_data_bar_nothing_is_left_and_half_hidden_objects_are_cut(image):
    bar = 60
    sent = export_image(image, Export(data_bar=bar))
    edge = image.pixels.shape[0] - bar
    assert np.ptp(sent.pixels[edge:]) == 0
    whole = [m for m in image.instances if m.y + m.pixels.shape[0] <= edge]
    below = [m for m in image.instances if m.y >= edge]
    assert below and all(m.y + m.pixels.shape[0] <= edge for m in sent.instances)
    assert len(whole) <= len(sent.instances) <= len(image.instances) - len(below)
    for left in sent.instances:
        (mother,) = (
            m
            for m in image.instances
            if m.x <= left.x
            and m.y == left.y
            and m.pixels.any()
            and 2 * left.pixels.sum() >= m.pixels.sum()
            and (m.x, m.y) == (left.x, left.y)
        )
        assert left.pixels.sum() <= mother.pixels.sum()


@pytest.mark.parametrize("ground", [None, 0.0])
def test_a_scale_bar_is_burned_in_where_it_says(image, ground):
    writing = Writing(text="20 nm", y=10, x=20, size=16, bar=(6, 80), level=1.0, ground=ground)
    sent = export_image(image, Export(writings=(writing,)))
    white = (sent.pixels == 255).all(axis=0) | (sent.pixels[10:60] == 255).any(axis=0)
    assert white[20:100].all()
    rows = (sent.pixels[:, 20:101] == 255).all(axis=1)
    assert rows.sum() == writing.bar[0] + 1
    changed = export_image(image, Export()).pixels != sent.pixels
    assert changed[:60, :110].any() and not changed[70:].any() and not changed[:, 130:].any()


def test_dead_columns_are_dark_and_nothing_else_is(image):
    column = 100
    plain, sent = (export_image(image, Export(columns=c, clipped=(0.0, 0.0))) for c in ((), (column,)))
    assert sent.pixels[:, column].mean() < sent.pixels.mean() - sent.pixels.std()
    inside = np.delete(sent.pixels, column, 1), np.delete(plain.pixels, column, 1)
    assert np.corrcoef(inside[0].ravel(), inside[1].ravel())[0, 1] > 0.999


def test_what_is_drawn_covers_every_change():
    drawn = [draw_export(np.random.default_rng(i), (512, 512)) for i in range(300)]
    plain = replace(Export(), clipped=(0.0, 0.0))
    for name in ("scratches", "columns", "smoothing", "clipped", "gamma", "quality", "data_bar", "writings"):
        same = [getattr(d, name) == getattr(plain, name) for d in drawn]
        assert 10 < sum(same) < 295, name
