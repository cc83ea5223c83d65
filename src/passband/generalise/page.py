"""A study as one page: its map, its curves, its table."""

from __future__ import annotations

import math
from pathlib import Path

from passband.drawing.html import page
from passband.drawing.parts import embed
from passband.drawing.saving import save_figure
from passband.generalise.export import study_rows
from passband.generalise.map import GeneralisationMap, draw_curves, draw_map, generalisation_map
from passband.generalise.run import study_status
from passband.generalise.study import Study
from passband.generalise.telling import study_in_words
from passband.store.files import write_whole
from passband.words import counted


def write_study_report(folder: str | Path, study: Study, out: str | Path) -> Path:
    """Write report.html, map.png and curves.png of what a study has so far.

    Parameters
    ----------
    folder
        Of the study.
    study
        That it was begun with.
    out
        Folder to write to.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DatasetError
        If there is no study, or no row yet.
    """
    rows, status = study_rows(folder), study_status(folder)
    f1, loss = generalisation_map(rows), generalisation_map(rows, "loss")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    save_figure(draw_map(f1), out / "map.png")
    save_figure(draw_curves(f1), out / "curves.png")
    figures = [
        embed(draw_map(f1), "Map", "Bright is good. The diagonal is where networks are at home."),
        embed(draw_curves(f1), "Curves", "Bands are one standard deviation between networks."),
        embed(draw_curves(loss, score="loss"), "Loss", "Cross-entropy, and one less soft Dice."),
    ]
    html = page(
        "generalise/page.html",
        title=f"Study {study.name}",
        headline=f"Study {study.name}",
        subtitle=f"{counted(len(rows), 'row')} of {counted(status.done, 'network')}",
        footer="Made by Passband. All are tested on the same images, of scenes that none learnt from.",
        about=study_in_words(study).splitlines(),
        failures=status.errors,
        figures=figures,
        train=", ".join(f1.train),
        test=", ".join(f1.test),
        columns=f1.test_names,
        rows=_table(f1),
    )
    return write_whole(out / "report.html", html)


def _table(of: GeneralisationMap) -> list[tuple[str, list[str]]]:
    return [
        (name, [_cell(*pair) for pair in zip(of.mean[i], of.deviation[i], strict=True)])
        for i, name in enumerate(of.train_names)
    ]


def _cell(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" + ("" if math.isnan(deviation) else f" ± {deviation:.3f}")
