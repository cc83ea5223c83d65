"""Figures of particles show the numbers given, and refuse what does not fit."""

import jaxtyping
import numpy as np
import pytest
from matplotlib.figure import Figure

from particle_figures import (
    AccuracyLine,
    draw_accuracy_curve,
    draw_accuracy_map,
    draw_confusion,
    draw_latent_map,
    draw_manifold,
)
from passband.errors import ParameterError
from passband.particles.library.figures import draw_crops

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 5, 8, 8))
CLASSES = ("rod", "cube", "disc")


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_a_manifold_has_its_images_in_their_places_and_names_them():
    axes = draw_manifold(IMAGES, CLASSES, np.linspace(-1, 1, 5), factor="size").axes[0]
    shown = np.asarray(axes.images[0].get_array())
    for k in range(3):
        for j in range(5):
            np.testing.assert_array_equal(shown[9 * k : 9 * k + 8, 9 * j : 9 * j + 8], IMAGES[k, j])
    assert shown.shape == (26, 44)
    assert [t.get_text() for t in axes.get_yticklabels()] == list(CLASSES)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["-1", "-0.5", "0", "0.5", "1"]
    assert axes.get_xlabel() == "size"


def test_confusion_tells_counts_and_row_shares():
    counts = np.array([[9, 1, 0], [0, 5, 5], [0, 0, 0]])
    axes = draw_confusion(counts, CLASSES).axes[0]
    assert texts(axes)[:6] == ["9\n90 %", "1\n10 %", "0", "0", "5\n50 %", "5\n50 %"]
    assert axes.get_title() == "14 of 20 right: accuracy 0.700"
    assert "accuracy" not in draw_confusion(np.zeros((3, 3), int), CLASSES).axes[0].get_title()


def test_curves_are_sorted_banded_and_published_ones_have_no_line():
    x = np.array([90.0, 15, 60])
    ours = AccuracyLine(
        name="ours", disorder=x, accuracy=1 - x / 1000, low=0.9 - x / 1000, high=1.1 - x / 1000
    )
    theirs = AccuracyLine(name="theirs", disorder=x, accuracy=1 - x / 200, published=True)
    axes = draw_accuracy_curve([ours, theirs], disorder="turn").axes[0]
    line, points = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [15, 60, 90])
    np.testing.assert_allclose(line.get_ydata(), [0.985, 0.94, 0.91])
    assert (line.get_linestyle(), points.get_linestyle()) == ("-", "None")
    assert points.get_markerfacecolor() == "none"
    assert len(axes.collections) == 1  # the one band
    assert axes.get_ylim()[0] < 0.55  # the least value is seen
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["ours", "theirs"]


def test_a_map_shows_percent_and_the_published_one_on_the_same_colours():
    accuracy = np.array([[1.0, 0.9], [0.8, np.nan]])
    figure = draw_accuracy_map(accuracy, np.array([0.0, 5]), np.array([0.0, 30]), published=accuracy / 2)
    assert [texts(a) for a in figure.axes[:2]] == [
        ["100.0", "90.0", "80.0", "?"],
        ["50.0", "45.0", "40.0", "?"],
    ]
    assert {m.get_clim() for a in figure.axes[:2] for m in a.collections} == {(0.4, 1.0)}
    assert len(draw_accuracy_map(accuracy, np.array([0.0, 5]), np.array([0.0, 30])).axes) == 2  # and its bar


def test_a_map_of_factors_has_every_particle_once():
    label = np.array([0, 0, 1, 5, -1, 2])
    axes = draw_latent_map(RNG.normal(size=(6, 2)), label, CLASSES, names=("a", "b")).axes[0]
    assert sum(len(c.get_offsets()) for c in axes.collections) == 6
    legend = [t.get_text() for t in axes.get_legend().get_texts()]
    assert legend == ["none of them (2)", "rod (2)", "cube (1)", "disc (1)"]
    draw_latent_map(np.zeros((0, 2)), np.zeros(0, int), CLASSES).draw_without_rendering()


def test_more_classes_than_colours_still_differ():
    label = np.arange(20)
    axes = draw_latent_map(RNG.normal(size=(20, 2)), label, [str(k) for k in label]).axes[0]
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in axes.collections}
    assert len(looks) == 20


def test_crops_stand_in_rows_with_their_captions():
    figure = draw_crops(IMAGES[0], list("abcde"), columns=3, title="some")
    shown = [a for a in figure.axes if a.images]
    assert [a.get_title() for a in shown] == list("abcde")
    assert len(figure.axes) == 6
    assert len(draw_crops(IMAGES[0, :1]).axes) == 1


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    one = np.ones(2)
    for call, words in (
        (lambda: draw_manifold(IMAGES, CLASSES[:2], np.arange(5.0)), "2 classes"),
        (lambda: draw_confusion(np.ones((2, 3), int), CLASSES), "each of 3 classes"),
        (lambda: draw_accuracy_curve([]), "no line"),
        (lambda: AccuracyLine(name="a", disorder=np.ones(2), accuracy=np.ones(3)), "line 'a'"),
        (lambda: AccuracyLine(name="a", disorder=one, accuracy=one, low=one), "both ends"),
        (lambda: draw_accuracy_map(np.ones((2, 2)), np.ones(3), np.ones(2)), "3 shears"),
        (lambda: draw_accuracy_map(np.full((1, 1), np.nan), np.ones(1), np.ones(1)), "no number"),
        (lambda: draw_latent_map(np.ones((3, 3)), np.ones(3, int), CLASSES), r"\(n, 2\)"),
        (lambda: draw_crops(IMAGES[0], ["a"]), "5 came with 1"),
        (lambda: draw_crops(IMAGES[0, :0]), "0 came"),
    ):
        with pytest.raises(ParameterError, match=words):
            call()


def test_single_axes_can_be_shared():
    sheet = Figure()
    one, two, three = sheet.subplots(1, 3)
    line = AccuracyLine(name="a", disorder=np.arange(2.0), accuracy=np.ones(2))
    assert draw_confusion(np.eye(3, dtype=int), CLASSES, axes=one) is sheet
    assert draw_accuracy_curve([line], axes=two) is sheet
    assert draw_latent_map(np.ones((1, 2)), np.zeros(1, int), CLASSES, axes=three) is sheet
