"""Commands on how far a network sees: the shift between two sets of images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import angstrom


def shift(
    train: Annotated[
        str,
        typer.Argument(help="TOML file with [conditions], folder of a dataset, bundle, or micrograph."),
    ],
    test: Annotated[str, typer.Argument(help="The same, of what comes after.")],
    energy_kev: Annotated[float | None, typer.Option(help="Of a micrograph whose file does not say.")] = None,
    cs_mm: Annotated[
        float | None, typer.Option(help="Of a micrograph; without it the rings must tell it.")
    ] = None,
    pixel_size_nm: Annotated[
        float | None, typer.Option(help="nm per pixel of a micrograph whose file does not say.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw both |T|: .png, .svg or .pdf.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how far two sets of images are apart in what they transfer, before anything is trained or tested.

    - `passband shift train.toml test.toml --plot shift.png`

    - `passband shift hrtem image.dm4 --energy-kev 300 --cs-mm 1.2`

    A file of conditions is a table [conditions] with defocus_nm (positive is underfocus), cs_mm, focal_spread
    (Å), energy_kev and dose (e/Å²), each a number or [lowest, highest]. What is left out is that of a
    corrected microscope at 300 kV, and said.
    """
    from passband.generalise.shift import about_shift, draw_shift, read_set, shift_between, shift_to_json
    from passband.units import KEV, MM

    given = {
        "energy": None if energy_kev is None else energy_kev * KEV,
        "C30": None if cs_mm is None else cs_mm * MM,
        "pixel_size": angstrom(pixel_size_nm),
    }
    found = shift_between(read_set(train, **given), read_set(test, **given))
    if json:
        sys.stdout.write(shift_to_json(found))
    else:
        for name, words in about_shift(found):
            typer.echo(f"{name + ':':<16}{words}")
    if plot is not None:
        from passband.drawing.saving import save_figure

        typer.echo(f"drawn: {save_figure(draw_shift(found), plot)}", err=json)
