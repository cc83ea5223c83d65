"""The command line: parse, call, print. What it prints is made elsewhere.

Exit status: 0 all done; 2 something could not be read or the call was wrong, also where ``--fail-on``
is met, as the judgement is then incomplete; 3 ``--fail-on`` met; 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

from passband.cli import (
    calibrating,
    cards,
    datasets,
    judging,
    particles,
    segmenting,
    shifting,
    simulating,
    studying,
    surveying,
    training,
    waves,
)  # fmt: skip
from passband.cli.shell import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Tells whether a model's answer on a micrograph can be trusted: trust, review or reject, "
    "with an estimated F1 and the reasons.\n\nStart with `passband assess my_image.dm4`, or try it "
    "without data: `passband simulate cavities --out demo --count 3`, then `passband assess demo`.",
)  # fmt: skip
simulate_app = typer.Typer(no_args_is_help=True, help="Simulate micrographs with known truth.")
dataset_app = typer.Typer(no_args_is_help=True, help="Check, show and export simulated datasets.")
cards_app = typer.Typer(no_args_is_help=True, help="Draw the playing-card benchmark.")
rvae_app = typer.Typer(no_args_is_help=True, help="Learn classes of crops from a few labels, and classify.")
particles_app = typer.Typer(
    no_args_is_help=True,
    help="Sort the particles of micrographs by shape, from a few labels: classes, poses, sizes and factors."
    "\n\nExtract them, label a few of each class in the library's particles.csv, then fit, classify, report:"
    "\n\n- `passband particles extract images/ --out lib`"
    "\n\n- `passband particles label lib lib/particles.csv`"
    "\n\n- `passband particles fit lib --out shapes.bundle`"
    "\n\n- `passband particles report lib shapes.bundle --out page`",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a network on simulated micrographs.")

study_app = typer.Typer(
    no_args_is_help=True,
    help="Train many networks, each under one imaging condition, and test each under all others too."
    "\n\nWrite what conditions in a TOML file, run it, and take the table:"
    "\n\n- `passband study run focus.toml --out focus`"
    "\n\n- `passband study status focus`"
    "\n\n- `passband study export focus --csv focus.csv`",
)

survey_app = typer.Typer(
    no_args_is_help=True,
    help="Say what holds of a whole folder from ten labelled images: scores, number of objects, sizes."
    "\n\n- `passband survey draw images/ --count 10 --seed 1 --out task`"
    "\n\n- label the images in task/images, starting from task/detections.coco.json"
    "\n\n- `passband survey result task --annotations exported.json`",
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from passband import __version__

        typer.echo(__version__)
        raise typer.Exit(0)
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


for command in (
    judging.assess, segmenting.segment, judging.info, calibrating.calibrate, calibrating.score,
    judging.evaluate,
    waves.ctf, waves.focus, waves.image, waves.multislice, shifting.shift, shifting.design,
):  # fmt: skip
    app.command()(command)
simulate_app.command("cavities")(simulating.simulate_cavities)
simulate_app.command("hrtem")(simulating.simulate_hrtem)
dataset_app.command("check")(datasets.check_dataset)
dataset_app.command("show")(datasets.show_dataset)
dataset_app.command("export")(datasets.export_dataset)
particles_app.command()(particles.extract)
particles_app.command()(particles.label)
particles_app.command()(particles.fit)
particles_app.command()(particles.classify)
particles_app.command()(particles.report)
train_app.command("detector")(training.train_detector)
train_app.command("segmenter")(training.train_segmenter)
study_app.command("run")(studying.run)
study_app.command("worker")(studying.worker)
study_app.command("status")(studying.status)
study_app.command("show")(studying.show)
study_app.command("export")(studying.export)
study_app.command("pack")(studying.pack)
study_app.command("report")(studying.report)
study_app.command("map")(studying.map_study)
survey_app.command("draw")(surveying.draw)
survey_app.command("result")(surveying.result)
cards_app.command("make")(cards.make_cards)
rvae_app.command("fit")(cards.fit_rvae)
rvae_app.command("classify")(cards.classify_rvae)
app.add_typer(simulate_app, name="simulate")
app.add_typer(dataset_app, name="dataset")
app.add_typer(cards_app, name="cards")
app.add_typer(rvae_app, name="rvae")
app.add_typer(train_app, name="train")
app.add_typer(particles_app, name="particles")
app.add_typer(study_app, name="study")
app.add_typer(survey_app, name="survey")


def main() -> None:
    """Run the command line."""
    app()
