"""Commands that simulate micrographs with known truth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import show_progress


class Focus(StrEnum):
    """Side of focus."""

    under = "under"
    over = "over"
    in_focus = "in"


def simulate_cavities(
    out: Annotated[Path, typer.Option(help="Folder for the images, records and truth. Run again to resume.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 10,
    domain: Annotated[str, typer.Option(help="A: steels; B: helium bubbles, dense; C: faceted voids.")] = "A",
    focus: Annotated[Focus, typer.Option(help="Side of focus.")] = Focus.under,
    seed: Annotated[int, typer.Option(min=0, help="Image i follows from the seed and i alone.")] = 0,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of an image in pixels.")] = 512,
) -> None:
    """Simulate micrographs of cavities in a foil: 16-bit TIFF, records, and COCO truth.

    For example `passband simulate cavities --out demo --count 20 --domain B --focus over --seed 1`.
    """
    from passband.data.simulated import write_simulated
    from passband.physics.cavity_domains import draw_set

    records = list(draw_set([f"{domain}:{focus.value}"], count, seed=seed, shape=(size, size)))
    with show_progress("simulating") as progress:
        truth = write_simulated(out, records, progress=progress)
    typer.echo(f"{count} micrographs in {out}, what is there to be found in {truth}")
