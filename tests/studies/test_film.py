"""Films of a training are small, whole and the same each time; frames that do not fit are refused."""

import jaxtyping
import numpy as np
import pytest
from PIL import Image

from film import TrainingFrame, animate_training
from passband.errors import ParameterError

IMAGES = np.random.default_rng(0).random((3, 5, 8, 8))


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_a_film_has_all_frames_the_last_one_longest_and_is_small(tmp_path, suffix):
    frames = [
        TrainingFrame(manifold=IMAGES * (i + 1) / 4, accuracy=[0.5, 0.7, 0.8, 0.9][: i + 1]) for i in range(4)
    ]
    path = animate_training(frames, tmp_path / f"film{suffix}", seconds=0.3)
    with Image.open(path) as film:
        assert film.n_frames == 4
        shown, times = [], []
        for i in range(4):
            film.seek(i)
            shown.append(film.convert("RGB").tobytes())
            times.append(film.info["duration"])
        assert times == [300, 300, 300, 1200]
        assert film.width == 480
    assert len(set(shown)) == 4
    assert path.stat().st_size < 100_000
    again = animate_training(frames, tmp_path / f"again{suffix}", seconds=0.3)
    assert again.read_bytes() == path.read_bytes()


def test_frames_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    frame = TrainingFrame(manifold=IMAGES, accuracy=[0.5])
    other = TrainingFrame(manifold=IMAGES[:2], accuracy=[])
    with pytest.raises(ParameterError, match=r"not .\.mp4.; no frame"):
        animate_training([], tmp_path / "a.mp4")
    with pytest.raises(ParameterError, match=r"manifolds of .*; a frame without"):
        animate_training([frame, other], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
