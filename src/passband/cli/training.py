"""Commands that train."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import show_progress


class Network(StrEnum):
    """Size of the U-Net."""

    tiny = "tiny"
    small = "small"
    published = "published"


class Device(StrEnum):
    """Where to train."""

    cpu = "cpu"
    cuda = "cuda"


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
    from passband.detectors.config import PAPER, SLIM
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


def train_segmenter(
    data: Annotated[Path, typer.Option(help="Dataset that `passband simulate hrtem` made.")],
    out: Annotated[Path, typer.Option(help="Folder for bundle, log and checkpoint. Run again to resume.")],
    network: Annotated[
        Network, typer.Option(help="30,000 weights, 130,000, or 14 million as published.")
    ] = Network.small,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1200,
    crop: Annotated[int, typer.Option(min=8, help="Side of a training crop, pixels.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 12,
    instances: Annotated[
        bool, typer.Option(help="Learn borders too, so that objects which touch are told apart.")
    ] = False,
    vary: Annotated[
        bool, typer.Option(help="Vary scale, absorption, grain and light beyond what is simulated.")
    ] = False,
    start: Annotated[Path | None, typer.Option(help="Bundle whose weights to start from.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights, images and crops.")] = 0,
    patience: Annotated[
        int,
        typer.Option(
            min=0, help="Stop when so many looks at the validation scenes, one in 100 steps, were no better."
        ),
    ] = 0,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
) -> None:
    """Train a U-Net to segment, on a simulated dataset's training scenes, and write its bundle.

    Images are drawn on the fly from the stored waves, under the dataset's ranges of conditions; the weights
    that do best on its validation scenes are kept. For example
    `passband train segmenter --data ds --out mine --network tiny --steps 300 --crop 64`.
    """
    from passband.detectors.bundle import read_bundle, write_bundle
    from passband.detectors.scenes import train_on_dataset
    from passband.detectors.train_segmenter import SegmenterConfig
    from passband.detectors.unet import segmenter_network
    from passband.hrtem.dataset.dataset import open_dataset

    config = SegmenterConfig(
        network=segmenter_network(network.value, instances=instances),
        name=out.resolve().name,
        steps=steps,
        crop=crop,
        batch=batch,
        seed=seed,
        patience=patience,
        look=100,
        device=device.value,
    )
    dataset = open_dataset(data)
    with show_progress("training") as progress:
        bundle = train_on_dataset(
            config,
            dataset,
            out,
            varied=vary,
            start=None if start is None else read_bundle(start),
            progress=progress,
        )
    write_bundle(bundle, out / "bundle.safetensors")
    typer.echo(f"wrote {out / 'bundle.safetensors'}; use it with `passband segment IMAGES --bundle` and it")
