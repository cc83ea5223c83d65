"""The generalisation map as a page: measured, predicted, what sigma says, and images of each condition."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from scipy.ndimage import binary_erosion
from torch import Tensor

from passband.drawing.html import data_address, page
from passband.drawing.parts import embed
from passband.drawing.saving import save_figure
from passband.errors import DatasetError, ParameterError
from passband.generalise.export import study_rows
from passband.generalise.folder import open_study
from passband.generalise.map import GeneralisationMap, draw_map, generalisation_map
from passband.generalise.predict import Pairs, pairs_of, predict_held_out
from passband.generalise.telling import study_in_words
from passband.generalise.work import images_tested
from passband.store.columns import rows_csv
from passband.store.files import write_whole
from passband.types import Progress
from passband.words import counted

SCORE = "image_f1"
_SHOWN = 6
"""Images of each condition."""
_EDGE = (255, 176, 0)


@dataclass(frozen=True, kw_only=True)
class MapReport:
    """What was written of a map.

    Parameters
    ----------
    page
        The HTML file.
    networks, rows
        How many.
    error
        Mean error of the predicted F1, both conditions left out; None where too few were there.
    """

    page: Path
    networks: int
    rows: int
    error: float | None


def write_map_report(folder: str | Path, out: str | Path, *, progress: Progress | None = None) -> MapReport:
    """Write map.html, map.csv and pictures of a study: each network's F1 beside what was predicted of it.

    Parameters
    ----------
    folder
        Of the study, finished or not.
    out
        Folder to write to.
    progress
        Called as work goes on.

    Raises
    ------
    DatasetError
        If there is no study, or no row yet.
    PassbandError
        If a file cannot be written.
    """
    rows, begun, out = study_rows(folder), open_study(folder), Path(out)
    tell = progress or (lambda *_: None)
    tell("predicting", 0, 2)
    measured, pairs = generalisation_map(rows, SCORE), pairs_of(rows, training=begun.study.training)
    predicted, why = _predicted(rows, pairs)
    out.mkdir(parents=True, exist_ok=True)
    save_figure(draw_map(measured), out / "map.png")
    figures = [embed(draw_map(measured), "Measured", "Bright is good. Empty cells are not measured yet.")]
    error = None
    if predicted is not None:
        error = float(np.mean([abs(r["predicted_f1"] - r[SCORE]) for r in predicted]))
        told = generalisation_map(predicted, "predicted_f1")
        figure = draw_map(told, score="predicted F1")
        save_figure(figure, out / "predicted.png")
        figures.append(embed(draw_map(told, score="predicted F1"), "Predicted", _CAPTION.format(error)))
    alike = [{**r, "sigma": s} for r, s in zip(rows, _sigma(pairs), strict=True)]
    figures.append(embed(draw_map(generalisation_map(alike, "sigma"), score="sigma"), "Sigma", _ALIKE))
    tell("drawing", 1, 2)
    html = page(
        "generalise/map.html",
        title=f"Map of {begun.study.name}",
        headline=f"How far the networks of {begun.study.name} see",
        subtitle=f"{counted(len({r['run'] for r in rows}), 'network')}, {counted(len(rows), 'row')}",
        footer="Made by Passband. Outlines are the truth; the networks are not kept.",
        about=study_in_words(begun.study).splitlines(),
        why=why,
        figures=figures,
        train=", ".join(measured.train),
        test=", ".join(measured.test),
        columns=measured.test_names,
        rows=_table(measured, None if predicted is None else generalisation_map(predicted, "predicted_f1")),
        conditions=_conditions(begun, measured),
    )
    write_whole(out / "map.csv", _csv(predicted or rows))
    written = write_whole(out / "map.html", html)
    tell("done", 2, 2)
    return MapReport(page=written, networks=len({r["run"] for r in rows}), rows=len(rows), error=error)


_CAPTION = (
    "From what each network's own answers say, by networks of other training conditions tested under other "
    "conditions; F1 is {:.3f} off in the mean."
)
_ALIKE = "How alike two conditions transfer, from the conditions alone: the cosine of what they transfer."


def _predicted(rows: Sequence[Mapping[str, Any]], pairs: Pairs) -> tuple[list[dict[str, Any]] | None, str]:
    """The rows with what is predicted of each, or why there is nothing."""
    try:
        found = predict_held_out(pairs, "images")
    except ParameterError as e:
        return None, f"Nothing is predicted: {e}."
    told = zip(rows, found.score, found.low, found.high, strict=True)
    return [{**r, "predicted_f1": float(p), "low": float(a), "high": float(b)} for r, p, a, b in told], ""


def _sigma(pairs: Pairs) -> np.ndarray:
    return pairs.columns["metrics"][:, pairs.names["metrics"].index("sigma")]


def _table(
    measured: GeneralisationMap, predicted: GeneralisationMap | None
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of each training condition, for each test condition what was measured and what was predicted."""
    told = measured.mean * np.nan if predicted is None else predicted.mean
    cells = [
        [(_number(m), _number(p)) for m, p in zip(*pair, strict=True)]
        for pair in zip(measured.mean, told, strict=True)
    ]
    return list(zip(measured.train_names, cells, strict=True))


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _conditions(begun: Any, of: GeneralisationMap) -> list[tuple[str, str]]:
    """Of each test condition its name and a strip of images with the outlines of their objects."""
    points = {tuple(p.columns("test")[c] for c in of.test): p for p in begun.study.test_points()}
    shown = []
    for name, values in zip(of.test_names, of.test_values, strict=True):
        try:
            strip = _strip(*images_tested(begun.path, begun.study, points[values]))
        except DatasetError:
            strip = ""
        shown.append((name, strip))
    return shown


def _strip(images: Tensor, objects: Tensor) -> str:
    tiles = []
    for image, inside in zip(images[:_SHOWN, 0].numpy(), objects[:_SHOWN, 0].numpy() > 0, strict=True):
        low, high = np.percentile(image, (0.5, 99.5))
        grey = np.clip((image - low) / max(high - low, 1e-30), 0, 1) * 255
        tile = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
        tile[inside & ~binary_erosion(inside, border_value=1)] = _EDGE
        tiles.append(np.pad(tile, ((0, 0), (0, 4), (0, 0)), constant_values=128))
    content = io.BytesIO()
    Pillow.fromarray(np.concatenate(tiles, axis=1)[:, :-4]).save(content, "WEBP", quality=70)
    return data_address(content.getvalue(), "image/webp")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = list(rows[0])
    return rows_csv([heads, *([row.get(h, "") for h in heads] for row in rows)])
