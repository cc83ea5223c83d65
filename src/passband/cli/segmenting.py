"""The command that segments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.foreign import print_notes
from passband.cli.shell import (
    FramesOption,
    PermissiveOption,
    PixelSizeOption,
    SidecarOption,
    reading_of,
    show_progress,
)
from passband.words import counted


def segment(
    images: Annotated[
        list[str], typer.Argument(help="Micrographs, folders, or wildcards in quotes ('run*/*.dm4').")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, COCO and the page.")],
    bundle: Annotated[
        str, typer.Option(help="A segmenter's bundle file, or hrtem: the generalist that ships.")
    ] = "hrtem",
    pixel_size_nm: PixelSizeOption = None,
    sidecar: SidecarOption = None,
    frame: FramesOption = None,
    permissive: PermissiveOption = False,
    labels: Annotated[bool, typer.Option(help="Write label images of the objects too, as TIFF.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Segment micrographs: a mask of each, the objects as COCO, and a page of their outlines.

    For example:

    - `passband segment image.dm4 --out masks`

    - `passband segment 'run*/*.tif' --bundle mine/bundle.safetensors --out masks --labels`

    Exit status: 0 all done, 2 something could not be read.
    """
    import json as to_json

    from passband.detectors.bundle import named_bundle
    from passband.detectors.segment_files import segment_files

    reading = reading_of(pixel_size_nm, sidecar, frame, permissive, each=True)
    with show_progress("segmenting") as progress:
        outcome = segment_files(
            images, named_bundle(bundle), out, reading=reading, labels=labels, progress=progress
        )
    if json:
        listed = [
            {"path": s.path, "mask": str(s.mask), "objects": len(s.detections), "share": round(s.share, 6)}
            for s in outcome.done
        ]
        errors = [{"path": path, "error": words} for path, words in outcome.errors]
        document = {"images": listed, "errors": errors, "notes": outcome.notes}
        sys.stdout.write(to_json.dumps(document, indent=2) + "\n")
    else:
        for s in outcome.done:
            typer.echo(f"{s.path}: {counted(len(s.detections), 'object')}, {100 * s.share:.1f} % of the area")
        if outcome.page is not None:
            typer.echo(f"wrote {outcome.page}")
    print_notes(outcome.notes)
    for path, words in outcome.errors:
        typer.echo(f"passband: {path}: {words}", err=True)
    raise typer.Exit(2 if outcome.errors else 0)
