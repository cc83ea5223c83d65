"""A training as a small film: each class as its first factor changes, and the accuracy pass by pass."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from particle_figures import tile_images
from passband.drawing.saving import ACCENT
from passband.errors import ParameterError
from passband.store.files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_WIDTH, _COLOURS = 480, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingFrame:
    """One moment of a training.

    Parameters
    ----------
    manifold
        Images (classes, values, y, x) in [0, 1].
    accuracy
        On test crops after each pass so far, at least one.
    """

    manifold: Float[np.ndarray, "k n y x"]
    accuracy: Sequence[float]


def animate_training(frames: Sequence[TrainingFrame], path: str | Path, *, seconds: float = 0.4) -> Path:
    """Write a training as a small film: the manifold, and the test accuracy so far.

    Parameters
    ----------
    frames
        In their order, at least one, manifolds of one shape.
    path
        Ends in .gif, or in .png for an animated PNG.
    seconds
        Each is shown; the last one four times as long.

    Returns
    -------
    Path
        Of the file, written whole or not at all.

    Raises
    ------
    ParameterError
        If there is no frame, one does not fit the others, or the ending is another.
    PassbandError
        If the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    kind = {".gif": "GIF", ".png": "PNG"}.get(path.suffix.lower())
    faults = [] if kind else [f"{path}: films are written as .gif or .png, not {path.suffix or 'that'!r}"]
    if not frames:
        faults.append("no frame came, wanted at least one")
    shapes = {frame.manifold.shape for frame in frames}
    if len(shapes) > 1 or any(len(shape) != 4 or not np.prod(shape) for shape in shapes):
        faults.append(
            f"manifolds of {', '.join(map(str, sorted(shapes)))}; wanted one (classes, values, y, x)"
        )
    if any(not len(frame.accuracy) for frame in frames):
        faults.append("a frame without an accuracy; wanted one for each pass so far")
    if faults:
        raise ParameterError("film of a training: " + "; ".join(faults))
    last = max(len(frame.accuracy) for frame in frames)
    low = min(value for frame in frames for value in frame.accuracy)
    pictures = [_picture(frame, last, low) for frame in frames]
    # One palette for all, and no dithering: what does not change must not flicker.
    palette = pictures[-1].quantize(_COLOURS)
    pictures = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    content = io.BytesIO()
    milliseconds = max(20, round(1000 * seconds))
    pictures[0].save(
        content,
        kind,
        save_all=True,
        append_images=pictures[1:],
        duration=[milliseconds] * (len(pictures) - 1) + [4 * milliseconds],
        loop=0,
        optimize=True,
    )
    return write_whole(path, content.getvalue())


def _picture(frame: TrainingFrame, last: int, low: float) -> Picture:
    """A picture of one moment: the manifold above, the accuracy so far below."""
    from matplotlib.figure import Figure
    from PIL import Image

    k, n, height, width = frame.manifold.shape
    tall = 4.4 * (k * height) / (n * width) + 1.5
    figure = Figure(figsize=(4.8, tall), layout="constrained", dpi=_WIDTH / 4.8)
    above, below = figure.subplots(2, 1, height_ratios=(tall - 1.5, 1.3))
    above.imshow(tile_images(frame.manifold), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    above.set_axis_off()
    passes = np.arange(1, len(frame.accuracy) + 1)
    below.plot(passes, frame.accuracy, color=ACCENT, marker="o", markersize=3, linewidth=1.4)
    low = max(0.0, low - 0.05 * (1 - low) - 0.01)
    below.set(xlim=(0.5, last + 0.5), ylim=(low, 1.01), xlabel="pass", ylabel="test accuracy")
    below.set_title(f"pass {len(passes)}: {frame.accuracy[-1]:.3f}", fontsize=9)
    below.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return Image.open(content).convert("RGB")
