"""Commands that train."""

from __future__ import annotations

import sys
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passband.cli.foreign import CategoryOption, StrictOption, labelled_images, print_notes
from passband.cli.shell import (
    Device,
    DeviceOption,
    FrameOption,
    PermissiveOption,
    PixelSizeOption,
    SidecarOption,
    progress_or_log,
    reading_of,
    show_progress,
)

if TYPE_CHECKING:
    from passband.detections.labelled import Labelled
    from passband.micrographs.many import Reading


class Network(StrEnum):
    """Size of the U-Net."""

    tiny = "tiny"
    small = "small"
    published = "published"


class Split(StrEnum):
    """What is held out."""

    image = "image"
    folder = "folder"


class Backbone(StrEnum):
    """Size of the detector."""

    slim = "slim"
    resnet50 = "resnet50"


def train_detector(
    out: Annotated[Path, typer.Option(help="Folder for bundle, logs and checkpoint. Run again to resume.")],
    images: Annotated[
        list[str] | None,
        typer.Option(help="Your labelled micrographs: folder, file or wildcard; may be given again."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="What is there: COCO, YOLO, label images and more (docs/judge.md)."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Where the weights start: shipped, none, or a bundle's file.",
            show_default="shipped for your own images, none for simulated ones",
        ),
    ] = None,
    validate: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of your images that is held out and measured.")
    ] = 0.2,
    split: Annotated[Split, typer.Option(help="Hold out images one by one, or whole folders.")] = Split.image,
    active: Annotated[
        int,
        typer.Option(min=0, help="Name so many of your images without labels that are to be labelled next."),
    ] = 0,
    category: CategoryOption = None,
    strict: StrictOption = False,
    pixel_size_nm: PixelSizeOption = None,
    sidecar: SidecarOption = None,
    frame: FrameOption = None,
    permissive: PermissiveOption = False,
    domains: Annotated[
        str | None,
        typer.Option(
            help="Simulated domains, SET:FOCUS, separated by commas.", show_default="A:under,B:under,C:under"
        ),
    ] = None,
    simulated: Annotated[
        int | None, typer.Option(min=1, help="How many images to simulate.", show_default="1000")
    ] = None,
    backbone: Annotated[
        Backbone | None,
        typer.Option(help="Of simulated training: slim, or the paper's resnet50.", show_default="slim"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps.", show_default="2000; of simulated images 2300")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of split, images, crops and first weights.")] = 0,
    device: DeviceOption = Device.cpu,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a detector: on your own labelled micrographs, or on simulated ones.

    Your own: some images are held out, and F1 on them is told before and after. Classes keep their names;
    boxes without outlines do. Ten images are a beginning; each step takes about a second of one core.

    - `passband train detector --images some/ --annotations truth.json --out mine`

    - `passband train detector --images all/ --annotations ten.json --out mine --active 10` names the images
      that it would learn most from

    - `passband assess others/ --bundle mine/bundle.safetensors`, after `passband calibrate` on images that it
      was not trained on

    Simulated: `passband train detector --out mine --domains A:under,A:over`.
    """
    from passband.errors import ParameterError

    own = bool(images or annotations)
    simulating: dict[str, object] = {"--domains": domains, "--simulated": simulated, "--backbone": backbone}
    of_own: dict[str, object] = {
        "--active": active,
        "--category": category,
        "--strict": strict,
        "--pixel-size-nm": pixel_size_nm,
        "--sidecar": sidecar,
        "--frame": frame,
        "--permissive": permissive,
    }
    given = [name for name, value in (simulating if own else of_own).items() if value]
    if given:
        kind = "simulated images; these are your own" if own else "your own images: give --images too"
        raise ParameterError(f"{', '.join(given)}: of training on {kind}")
    if own:
        _train_on_own(
            _own_images(
                images,
                annotations,
                category,
                strict,
                reading_of(pixel_size_nm, sidecar, frame, permissive),
            ),
            out,
            start=start,
            validate=validate,
            split=split,
            active=active,
            steps=steps,
            seed=seed,
            device=device,
            json=json,
        )
        return
    from passband.detectors.bundle import write_bundle
    from passband.detectors.config import PAPER, SLIM
    from passband.detectors.train import TrainConfig, train_detector

    config = TrainConfig(
        detector=PAPER if backbone is Backbone.resnet50 else SLIM,
        name=out.resolve().name,
        domains=tuple(domains.split(",")) if domains else TrainConfig.domains,
        images=simulated or TrainConfig.images,
        steps=steps or TrainConfig.steps,
        seed=seed,
        start=_start(start or "none"),
        device=device.value,
    )
    with progress_or_log("training") as progress:
        bundle = train_detector(config, out, progress=progress)
    path = out / "bundle.safetensors"
    write_bundle(bundle, path)
    if json:
        typer.echo(dumps({"bundle": str(path), "training": dict(bundle.training)}))
    typer.echo(f"wrote {path}; make it estimate with `passband calibrate`", err=json)


def _start(name: str) -> str | None:
    """The file of the bundle to start from."""
    from passband.detectors.bundle import SHIPPED, bundle_file

    return None if name == "none" else str(SHIPPED if name == "shipped" else bundle_file(name))


def _own_images(
    images: list[str] | None,
    annotations: Path | None,
    category: list[str] | None,
    strict: bool,
    reading: Reading,
) -> Labelled:
    from passband.errors import ParameterError

    if not images:
        raise ParameterError("--annotations say what is in your own images: give these with --images")
    if annotations is None:
        raise ParameterError(
            f"--images {images[0]}: what is in them is to be learnt; give it with --annotations (COCO, YOLO, "
            "label images; to simulate a number of images it is --simulated)"
        )
    return labelled_images(images, annotations, None, category, strict, reading)


def _train_on_own(
    labelled: Labelled,
    out: Path,
    *,
    start: str | None,
    validate: float,
    split: Split,
    active: int,
    steps: int | None,
    seed: int,
    device: Device,
    json: bool,
) -> None:
    from passband.detectors.train_labelled import (
        OwnTraining,
        train_on_labelled,
        trained_in_words,
        trained_to_json,
    )

    first = _start(start or "shipped")
    training = OwnTraining(
        start=None if first is None else Path(first),
        steps=steps or OwnTraining.steps,
        validate=validate,
        split=split.value,
        suggest=active,
        seed=seed,
        device=device.value,
    )
    with progress_or_log("training") as progress:
        trained = train_on_labelled(labelled, out, training, progress=progress)
    path = out / "bundle.safetensors"
    print_notes(trained.notes)
    sys.stdout.write(trained_to_json(trained, bundle=str(path)) if json else trained_in_words(trained) + "\n")
    typer.echo(
        f"wrote {path}; make it estimate with `passband calibrate --bundle {path}` on images that it was not "
        "trained on",
        err=json,
    )


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
    device: DeviceOption = Device.cpu,
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
