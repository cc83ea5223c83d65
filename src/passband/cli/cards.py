"""Commands of the playing-card benchmark and of models of crops: cards make, rvae fit, rvae classify."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passband.cli.shell import show_progress

if TYPE_CHECKING:
    from passband.particles.crop_files import Summary

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def make_cards(
    out: Annotated[Path, typer.Option(help="File to write, .npz.")],
    protocol: Annotated[
        str, typer.Option(help="paper-notebook (made the paper's figures) or paper-text (what it says).")
    ] = "paper-notebook",
    angle: Annotated[float, typer.Option(help="Unlabelled and test cards turn by +- this, degrees.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    labels: Annotated[
        int | None, typer.Option(min=1, help="Labelled cards a suit; 200 if not given.")
    ] = None,
    noise: Annotated[float, typer.Option(min=0, help="Of the test cards: standard deviation.")] = 0.0,
    contamination: Annotated[
        float, typer.Option(min=0, max=1, help="Of the test cards: share of pixels brightened by 1.")
    ] = 0.0,
    templates: Annotated[
        Path | None, typer.Option(help=".npz of square arrays, one a suit; our own drawings if not given.")
    ] = None,
) -> None:
    """Draw labelled, unlabelled and test cards: X_lab, y_lab, X_unl, y_unl, X_test, y_test, 48 x 48 pixels.

    For example `passband cards make --angle 60 --seed 2 --out cards.npz`.
    """
    from passband.particles.cards import card_set, read_templates
    from passband.particles.crop_sets import write_crop_set

    cards = card_set(
        protocol,
        angle=angle,
        seed=seed,
        labels=labels,
        templates=None if templates is None else read_templates(templates),
        test={"noise": noise, "contamination": contamination},
    )
    write_crop_set(cards, out)
    parts = (cards.labelled, cards.unlabelled, cards.test)
    counts = " + ".join(str(0 if p is None else len(p)) for p in parts)
    typer.echo(f"wrote {out}: {counts} labelled, unlabelled and test cards; next: passband rvae fit {out}")


def fit_rvae(
    data: Annotated[Path, typer.Argument(help=".npz with X_lab, y_lab, and X_unl if there are unlabelled.")],
    out: Annotated[Path, typer.Option(help="Bundle to write. Run again to go on after a kill.")],
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Passes of the autoencoder; 0 trains the classifier alone.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the classifier.")] = 1200,
    pool: Annotated[
        int, typer.Option(min=1, help="Deformed crops that it learns from; fewer are quicker, and worse.")
    ] = 12_800,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    reference: Annotated[
        bool, typer.Option("--reference", help="pyroVED's ss-rVAE and its recipe in place of ours.")
    ] = False,
    invariances: Annotated[
        str | None, typer.Option(help="Of the autoencoder: some of rotation,translation,scale; or none.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Learn classes from few labelled crops and many unlabelled ones, with poses and factors.

    For example `passband rvae fit cards.npz --out cards.safetensors`, then `passband rvae classify`.
    """
    from passband.particles.crop_files import choose_config, fit_bundle

    config = choose_config(epochs=epochs, seed=seed, reference=reference, invariances=invariances)
    config = replace(config, steps=steps, pool=pool)
    with show_progress("learning:") as progress:
        summary = fit_bundle(data, out, config=config, progress=progress)
    _say(summary, json)


def classify_rvae(
    bundle: Annotated[Path, typer.Argument(help="From `passband rvae fit`.")],
    data: Annotated[Path, typer.Argument(help=".npz with X_test (or X_unl); y_test gives the accuracy.")],
    out: Annotated[Path | None, typer.Option(help="CSV of every crop's classes, pose and factors.")] = None,
    json: JsonOption = False,
) -> None:
    """Classify crops: how many of each class, how sure, how many unlike all that was seen.

    For example `passband rvae classify cards.safetensors cards.npz --json`.
    """
    from passband.particles.crop_files import classify_file

    summary = classify_file(bundle, data, table=out)
    _say(summary, json)


def _say(summary: Summary, json: bool) -> None:
    from passband.particles.crop_files import summary_in_words, summary_to_json

    sys.stdout.write(summary_to_json(summary) if json else summary_in_words(summary) + "\n")
