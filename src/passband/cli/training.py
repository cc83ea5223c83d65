"""Commands that train."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import show_progress


class Backbone(StrEnum):
    """Size of the detector."""

    slim = "slim"
    resnet50 = "resnet50"


def train_detector(
    out: Annotated[Path, typer.Option(help="Folder for bundle, log and checkpoint. Run again to resume.")],
    domains: Annotated[
        str, typer.Option(help="Simulated domains, SET:FOCUS, separated by commas.")
    ] = "A:under,B:under,C:under",
    backbone: Annotated[Backbone, typer.Option(help="slim, or the paper's resnet50.")] = Backbone.slim,
    images: Annotated[int, typer.Option(min=1, help="How many images to simulate.")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 2300,
    seed: Annotated[int, typer.Option(min=0, help="Of images, crops and first weights.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Bundle whose weights to start from.")] = None,
) -> None:
    """Train a detector on simulated micrographs and write its bundle, yet without calibration.

    For example `passband train detector --out mine --domains A:under,A:over`.
    """
    from passband.detectors.bundle import write_bundle
    from passband.detectors.mask_rcnn import PAPER, SLIM
    from passband.detectors.train import TrainConfig, train_detector

    config = TrainConfig(
        detector=SLIM if backbone is Backbone.slim else PAPER,
        name=out.resolve().name,
        domains=tuple(domains.split(",")),
        images=images,
        steps=steps,
        seed=seed,
        start=None if start is None else str(start),
    )
    with show_progress("training") as progress:
        bundle = train_detector(config, out, progress=progress)
    write_bundle(bundle, out / "bundle.safetensors")
    typer.echo(f"wrote {out / 'bundle.safetensors'}; make it estimate with `passband calibrate`")
