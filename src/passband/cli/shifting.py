"""Commands on how far a network sees: the shift between two sets of images, what to train under."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import angstrom, progress_or_log


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


def design(
    target: Annotated[
        Path, typer.Option(help="TOML file with [conditions], the range to hold over, as for shift.")
    ],
    budget: Annotated[int, typer.Option(help="How many conditions to train under.")] = 4,
    out: Annotated[Path | None, typer.Option(help="Write them as TOML, a table [[train]] for each.")] = None,
    verify: Annotated[
        Path | None,
        typer.Option(help="Folder: train networks by this design and by the usual ways, and test them all."),
    ] = None,
    network: Annotated[str, typer.Option(help="tiny, small or published, for --verify.")] = "tiny",
    seeds: Annotated[int, typer.Option(min=1, help="Networks of each way, for --verify.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Propose training conditions, so that a network holds over a whole range of them.

    For example `passband design --target range.toml --budget 4 --out train.toml`, with range.toml of three
    lines: `[conditions]`, `defocus_nm = [10, 100]`, `focal_spread = [10, 40]`.

    The condition that is worst served decides: how alike it transfers to the training condition nearest to
    it. Beside the design stand as many conditions drawn from the range, and its middle alone. --verify trains
    networks by all three and tests them over the range; run it again to go on.
    """
    import json as json_text

    from passband.generalise.design import about_design, design_to_json, design_training, write_conditions
    from passband.generalise.shift import read_set

    made = design_training(read_set(target), budget)
    found = None
    if verify is not None:
        from passband.generalise.verify import verify_design

        with progress_or_log("design") as progress:
            found = verify_design(made, verify, network=network, seeds=seeds, progress=progress)
    if out is not None:
        write_conditions(made, out)
    if json:
        told = json_text.loads(design_to_json(made))
        if found is not None:
            told["measured"] = found
        sys.stdout.write(json_text.dumps(told) + "\n")
        return
    for name, words in about_design(made):
        typer.echo(f"{name + ':':<16}{words}")
    for way, scores in (found or {}).items():
        typer.echo(f"{way + ', F1:':<16}worst condition {scores['worst']:.3f}, mean {scores['mean']:.3f}")
    if out is not None:
        typer.echo(f"wrote {out}")
