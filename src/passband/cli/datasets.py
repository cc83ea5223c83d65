"""Commands on simulated datasets: check, show, export."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import show_progress
from passband.words import counted

Folder = Annotated[Path, typer.Argument(help="Folder made by `passband simulate hrtem`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Form(StrEnum):
    """What images are exported as."""

    tiff = "tiff"
    npz = "npz"


class Split(StrEnum):
    """Part of a dataset."""

    train = "train"
    validation = "validation"
    test = "test"


def check_dataset(folder: Folder, json: Json = False) -> None:
    """Read a whole dataset, compare every checksum, and say what is wrong.

    For example `passband dataset check sets/au`.

    Exit status: 0 whole, 2 something is wrong or lacking.
    """
    from passband.hrtem.dataset.check import check_dataset, check_in_words, check_to_json

    with show_progress("checking") as progress:
        found = check_dataset(folder, progress=progress)
    sys.stdout.write(check_to_json(found) if json else check_in_words(found) + "\n")
    raise typer.Exit(0 if found.passed else 2)


def show_dataset(
    folder: Folder,
    report: Annotated[
        bool, typer.Option("--report", help="Make a contact sheet: images with their labels, HTML and PNG.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the contact sheet; FOLDER/report if not given.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many scenes it shows.")] = 24,
    json: Json = False,
) -> None:
    """Say what a dataset holds; with --report, make a contact sheet of it.

    For example `passband dataset show sets/au --report`.
    """
    from passband.hrtem.dataset.dataset import open_dataset
    from passband.hrtem.dataset.summary import summarise_dataset, summary_in_words, summary_to_json

    dataset = open_dataset(folder, unfinished=True)
    summary = summarise_dataset(dataset)
    sys.stdout.write(summary_to_json(summary) if json else summary_in_words(summary) + "\n")
    if report or out is not None:
        from passband.hrtem.dataset.contact_sheet import write_contact_sheet

        with show_progress("drawing") as progress:
            page = write_contact_sheet(dataset, out or folder / "report", count=count, progress=progress)
        typer.echo(f"contact sheet: {page} and {page.with_suffix('.png').name}", err=json)


def export_dataset(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="New folder for the images. Run again to resume.")],
    form: Annotated[
        Form, typer.Option("--format", help="tiff: images and COCO truth; npz: arrays of each scene.")
    ] = Form.tiff,
    split: Annotated[
        list[Split] | None, typer.Option(help="Only this part; may be given again.", show_default="all")
    ] = None,
) -> None:
    """Write a dataset's images as TIFF with COCO truth, or as npz, in a folder for each split.

    Images are float32 (y, x), electrons per pixel. COCO has a mask for each particle, its category the
    material and shape. An npz has images (image, y, x), labels (y, x) with i on particle i, and each imaging
    condition (image,), as conditions.csv: lengths in Å, energy in eV, angles in rad, dose in e/Å².

    For example `passband dataset export sets/au --out au-tiff --split test`.
    """
    from passband.hrtem.dataset.dataset import open_dataset
    from passband.hrtem.dataset.export import export_dataset

    parts = [s.value for s in split or Split]
    with show_progress("exporting") as progress:
        done = export_dataset(open_dataset(folder), out, form=form.value, splits=parts, progress=progress)
    typer.echo(f"{counted(done.images, 'micrograph')} in {done.folder}")
