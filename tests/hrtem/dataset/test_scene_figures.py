from __future__ import annotations

import numpy as np
import pytest

from passband.errors import ParameterError
from passband.hrtem.dataset.scene_figures import ScenePanel, draw_scenes, label_overlay
from passband.micrographs.micrograph import Micrograph


def panel(side: int = 32) -> ScenePanel:
    labels = np.zeros((side, side), np.int32)
    labels[4:12, 4:12], labels[20:28, 20:28] = 1, 2
    pixels = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    return ScenePanel(micrograph=Micrograph(pixels=pixels, name="a"), labels=labels, title="3", words="w")


def test_a_panel_for_each_scene_with_image_and_overlay() -> None:
    figure = draw_scenes([panel() for _ in range(5)], columns=4)
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 5
    assert all(len(axes.images) == 2 for axes in drawn)
    assert drawn[0].get_title(loc="left") == "3\nw"


def test_outlines_lie_inside_their_labels_and_colours_tell_them_apart() -> None:
    p = panel()
    overlay = label_overlay(p.labels, width=2)
    assert (overlay[..., 3] > 0).tolist() == (p.labels > 0).tolist()
    assert (overlay[p.labels == 1, 3] > 128).sum() == 8 * 8 - 4 * 4
    assert not np.array_equal(overlay[8, 8, :3], overlay[24, 24, :3])


def test_a_particle_across_the_border_has_no_outline_along_it() -> None:
    labels = np.zeros((16, 16), np.int32)
    labels[4:12, [0, 1, 2, 3, 12, 13, 14, 15]] = 1
    overlay = label_overlay(labels, width=1)
    assert overlay[7, 0, 3] < 128
    assert overlay[7, 15, 3] < 128
    assert overlay[7, 3, 3] > 128


def test_nothing_or_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ParameterError, match="no scene"):
        draw_scenes([])
    p = panel()
    with pytest.raises(ParameterError, match="do not fit"):
        draw_scenes([ScenePanel(micrograph=p.micrograph, labels=p.labels[1:], title="")])
