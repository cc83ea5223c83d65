"""The lens's contrast transfer, exit waves, and one scene under many imaging conditions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from passband.drawing.saving import ACCENT, QUIET, place
from passband.errors import ParameterError
from passband.hrtem.wave.imaging import simulate_micrographs
from passband.hrtem.wave.scattering import ExitWave
from passband.optics.about import conditions_in_words
from passband.optics.conditions import ImagingConditions
from passband.optics.resolution import first_zero, information_limit, transfer_profile
from passband.optics.transfer import lens_of, spatial_envelope, temporal_envelope
from passband.units import NM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_contrast_transfer(conditions: ImagingConditions, *, axes: Axes | None = None) -> Figure:
    """Contrast transfer over spatial frequency, with its envelopes, first zero and information limit.

    Parameters
    ----------
    conditions
        The lens.
    axes
        To draw on; a new figure's if not given.

    Returns
    -------
    Figure
        With the contrast of a weak phase, sin(chi), between -1 and 1.
    """
    figure, axes = place(axes, (7.0, 4.0))
    limit = information_limit(conditions)
    k = torch.linspace(0, 1.25 * limit, 4000, dtype=torch.float64)
    lens = lens_of([replace(conditions, aperture=math.inf)], dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    temporal = temporal_envelope(k[None, :] ** 2, lens)[0, 0].numpy()
    spatial = spatial_envelope(zero, k[None, :], lens)[0, 0].numpy()
    contrast, shown = transfer_profile(conditions, k).numpy() / 2, k.numpy()
    axes.axhline(0, color=QUIET, lw=0.8)
    axes.fill_between(shown, -temporal * spatial, temporal * spatial, color=ACCENT, alpha=0.10, lw=0)
    axes.plot(shown, contrast, color=ACCENT, lw=1.4, label="sin χ with envelopes")
    if conditions.focal_spread > 0:
        axes.plot(shown, temporal, color="#c26a1b", lw=1.1, ls="--", label="focal spread")
    if conditions.angular_spread > 0:
        axes.plot(shown, spatial, color="#3b7d4f", lw=1.1, ls=":", label="angular spread")
    marks = [(limit, "information limit")]
    found = first_zero(conditions)
    if found is not None:
        marks.append((found, "first zero"))
    for where, name in marks:
        axes.axvline(where, color=QUIET, lw=0.8, ls=(0, (4, 3)))
        axes.annotate(
            f"{name}\n{1 / where:.2f} Å",
            (where, -1.0),
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=8,
            color="#505050",
        )
    axes.set(
        xlim=(0, shown[-1]), ylim=(-1.05, 1.05), xlabel="spatial frequency (1/Å)", ylabel="contrast transfer"
    )
    axes.set_title(conditions_in_words(conditions), fontsize=10)
    axes.legend(edgecolor="none", framealpha=0.9, fontsize=8, loc="upper right")
    return figure


def draw_exit_wave(wave: ExitWave) -> Figure:
    """Amplitude and phase of an exit wave, side by side.

    Returns
    -------
    Figure
        With a bar for each, the phase in rad against the vacuum's.
    """
    from matplotlib.figure import Figure

    array = wave.array.cpu().numpy()
    figure = Figure(figsize=(9.4, 4.3), layout="constrained")
    amplitude, phase = figure.subplots(1, 2)
    height, width = wave.band.extent
    size = (0, width / NM, height / NM, 0)
    for axes, values, name, colours in (
        (amplitude, np.abs(array), "amplitude", "gray"),
        (phase, np.angle(array), "phase (rad)", "viridis"),
    ):
        low, high = np.percentile(values, (0.1, 99.9))
        shown = axes.imshow(values, cmap=colours, vmin=low, vmax=high, extent=size, interpolation="nearest")
        axes.set(title=name, xlabel="x (nm)")
        figure.colorbar(shown, ax=axes, shrink=0.85)
    amplitude.set_ylabel("y (nm)")
    return figure


def draw_conditions(
    wave: ExitWave, conditions: Sequence[ImagingConditions], *, seed: int = 0, columns: int = 4
) -> Figure:
    """One specimen under many imaging conditions.

    Parameters
    ----------
    wave
        Its exit wave.
    conditions
        At least one; what tells them apart stands above each image.
    seed
        Of the counting noise.
    columns
        How many stand in a row.

    Returns
    -------
    Figure
        Each image in its own grey scale, half a percent of its pixels clipped at each end.

    Raises
    ------
    ParameterError
        If there are no conditions, or they do not fit the wave.
    """
    from matplotlib.figure import Figure

    if not conditions:
        raise ParameterError("no imaging conditions were given; at least one is needed")
    columns = min(columns, len(conditions))
    rows = math.ceil(len(conditions) / columns)
    figure = Figure(figsize=(2.9 * columns, 3.15 * rows), layout="constrained")
    all_axes = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
    images = simulate_micrographs(wave, conditions, seed=seed).cpu().numpy()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, image, c in zip(all_axes, images, conditions, strict=False):
        low, high = np.percentile(image, (0.5, 99.5))
        axes.imshow(image, cmap="gray", vmin=low, vmax=high)
        words = conditions_in_words(c, unlike=conditions)
        axes.set_title(textwrap.fill(words, 34, break_long_words=False), fontsize=8, loc="left")
    return figure
