from __future__ import annotations

import numpy as np
import pytest

from passband.detections.detections import Detections
from passband.drawing.saving import save_figure
from passband.errors import ParameterError, PassbandError
from passband.judge.figures import draw_detections, draw_sizes
from passband.judge.verdict import measure_sizes


def test_every_detection_is_outlined_in_the_colour_of_its_score(discs) -> None:
    micrograph, truth = discs(1)
    figure = draw_detections(micrograph, truth, title="discs")
    image, bar = figure.axes
    (lines,) = image.collections
    assert len(lines.get_paths()) == len(truth)
    np.testing.assert_array_equal(lines.get_array(), truth.scores)
    assert bar.get_ylabel() == "detection score"
    for path, box in zip(lines.get_paths(), truth.boxes_xyxy, strict=True):
        np.testing.assert_allclose(path.get_extents().extents, box, atol=0.51)


def test_the_scale_bar_has_the_length_it_says(discs) -> None:
    micrograph, truth = discs(1, pixel_size=4.0)
    axes = draw_detections(micrograph, truth).axes[0]
    (bar,) = axes.patches
    said = float(axes.texts[0].get_text().removesuffix(" nm"))
    assert bar.get_width() * 0.4 == pytest.approx(said)
    unknown = draw_detections(*discs(1, pixel_size=None)).axes[0]
    assert not unknown.patches


def test_an_image_and_detections_of_another_shape_are_refused(discs) -> None:
    with pytest.raises(ParameterError, match="do not fit"):
        draw_detections(discs(1)[0], discs(1, side=120)[1])


def test_a_histogram_counts_every_object(discs) -> None:
    _, truth = discs(1, count=9)
    for pixel_size, unit in ((4.0, "nm"), (None, "pixels")):
        axes = draw_sizes(measure_sizes(truth, pixel_size, None)).axes[0]
        assert sum(bar.get_height() for bar in axes.patches) == 9
        assert axes.get_xlabel() == f"diameter ({unit})"
    empty = Detections(image_shape=(96, 96), boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))
    assert "nothing was found" in draw_sizes(measure_sizes(empty, 4.0, None)).axes[0].texts[0].get_text()


def test_a_figure_is_written_whole_and_always_the_same(discs, tmp_path) -> None:
    sizes = measure_sizes(discs(1)[1], 4.0, None)
    figure = draw_sizes(sizes)
    first = save_figure(figure, tmp_path / "new" / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    again = draw_sizes(sizes)
    assert save_figure(again, tmp_path / "new" / "a.png").read_bytes() == first
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    with pytest.raises(ParameterError, match="png"):
        save_figure(figure, tmp_path / "a.xyz")
    (tmp_path / "file").write_text("")
    with pytest.raises(PassbandError, match="cannot be written"):
        save_figure(figure, tmp_path / "file" / "a.png")
