"""Commands that simulate micrographs with known truth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import SchedulerOption, progress_or_log, show_progress
from passband.words import counted


class Focus(StrEnum):
    """Side of focus."""

    under = "under"
    over = "over"
    in_focus = "in"


def simulate_cavities(
    out: Annotated[Path, typer.Option(help="Folder for the images, records and truth. Run again to resume.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 10,
    domain: Annotated[
        str,
        typer.Option(
            help="A: steels; B: helium bubbles, dense; C: faceted voids; W: every size, foil and camera; "
            "others by `passband info`."
        ),
    ] = "A",
    focus: Annotated[Focus, typer.Option(help="Side of focus.")] = Focus.under,
    seed: Annotated[int, typer.Option(min=0, help="Image i follows from the seed and i alone.")] = 0,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of an image in pixels.")] = 512,
) -> None:
    """Simulate micrographs of cavities in a foil: 16-bit TIFF, records, and COCO truth.

    For example `passband simulate cavities --out demo --count 20 --domain B --focus over --seed 1`.
    """
    from passband.cavities.draws import draw_set
    from passband.cavities.files import write_simulated

    records = list(draw_set([f"{domain}:{focus.value}"], count, seed=seed, shape=(size, size)))
    with show_progress("simulating") as progress:
        truth = write_simulated(out, records, progress=progress)
    typer.echo(f"{counted(count, 'micrograph')} in {out}, what is there to be found in {truth}")


def simulate_hrtem(
    study: Annotated[Path, typer.Argument(help="TOML file: specimens, waves and images to draw.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset. Run again to resume.")],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, of one thread each.", show_default="one for each core"),
    ] = None,
    scheduler: SchedulerOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with a dataset that was begun; never begin one.")
    ] = False,
) -> None:
    """Simulate high-resolution micrographs of nanoparticles: a dataset of exit waves and labels.

    For example `passband simulate hrtem studies/hrtem_small.toml --out sets/small`.

    The same study gives the same dataset, bit for bit, whatever the number of workers. A run that was
    stopped, even killed, goes on with the same command. Images are drawn from the waves when they are
    needed: `passband dataset export` writes them, `passband dataset show` tells what there is.
    """
    from passband.errors import DatasetError
    from passband.hrtem.dataset.simulate import has_dataset, simulate_dataset
    from passband.hrtem.dataset.study_file import read_study

    wanted = read_study(study)
    if resume and not has_dataset(out):
        raise DatasetError(f"{out} holds no dataset to go on with; leave out --resume to begin one")
    text = study.read_text("utf-8")
    with progress_or_log("simulating") as progress:
        done = simulate_dataset(
            wanted, out, workers=workers, scheduler=scheduler, study_text=text, progress=progress
        )
    kept = f", {done.kept} of them from an earlier run" if done.kept else ""
    each = counted(wanted.images_per_scene, "micrograph")
    typer.echo(
        f"{counted(len(done.dataset), 'scene')}{kept}, {each} of each, in {out}; "
        f"look at them with `passband dataset show {out} --report`"
    )
