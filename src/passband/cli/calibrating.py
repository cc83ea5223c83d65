"""Commands that want labelled micrographs: calibrate, score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passband.cli.foreign import (
    CategoryOption,
    ImageListOption,
    ScoreThresholdOption,
    StrictOption,
    detections_file,
    labelled_images,
    print_notes,
)
from passband.cli.shell import (
    BundleOption,
    FrameOption,
    InstrumentOption,
    PermissiveOption,
    PixelSizeOption,
    SidecarOption,
    bundle_from,
    progress_or_log,
    reading_of,
)
from passband.words import counted

if TYPE_CHECKING:
    from passband.detections.given import DetectionsFile
    from passband.judge.calibrated import Calibrated

ImagesOption = Annotated[
    list[str], typer.Option(help="Labelled micrographs: folder, file or wildcard; may be given again.")
]
AnnotationsOption = Annotated[
    Path, typer.Option(help="What is there: COCO, YOLO, label images and more (docs/judge.md).")
]
DetectionsOption = Annotated[
    Path | None,
    typer.Option(help="What your own detector found there, in any of these forms, instead of a bundle's."),
]


def calibrate(
    images: ImagesOption,
    annotations: AnnotationsOption,
    out: Annotated[Path, typer.Option(help="The new bundle or calibration (.safetensors).")],
    detections: DetectionsOption = None,
    name: Annotated[
        str | None, typer.Option(help="What to call your detector.", show_default="the detections' name")
    ] = None,
    bundle: BundleOption = None,
    image_list: ImageListOption = None,
    score_threshold: ScoreThresholdOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    pixel_size_nm: PixelSizeOption = None,
    sidecar: SidecarOption = None,
    frame: FrameOption = None,
    permissive: PermissiveOption = False,
    instrument: InstrumentOption = "",
    anew: Annotated[
        bool, typer.Option("--anew", help="Fit to these images alone, however few folders they are from.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit estimates to labelled micrographs of your own: of a bundle's network, or of your own detector.

    Your own detector, whatever it is (YOLO, Cellpose, Detectron2, a person): give what it found in the
    labelled images. What is known of many detectors is adapted to it. Three labelled images say something,
    ten much.

    - `passband calibrate --images some/ --annotations truth.json --detections yolo/ --out yolo.safetensors`

    - `passband assess others/ --detections yolo/ --bundle yolo.safetensors`

    A bundle: its network is run on the images. With a few images (5 to 20 do) of one kind, the calibration
    that the bundle has is adapted to that kind. With 30 or more from several folders a new one is fitted;
    each folder counts as one domain, and the intervals hold for new domains.

    - `passband calibrate --images labelled/ --annotations truth.json --out mine.safetensors`

    Told before and after: how far estimates of F1 are off on the labelled images, and how many intervals
    hold, each image left out once; and what ten more labels would buy.
    """
    from passband.errors import ParameterError

    labelled = labelled_images(
        images, annotations, _found(detections, image_list, score_threshold, category, strict),
        category, strict, reading_of(pixel_size_nm, sidecar, frame, permissive, instrument=instrument),
    )  # fmt: skip
    done: Calibrated[Any]
    if detections is not None:
        from passband.judge.calibrate_own import calibrate_own
        from passband.judge.own_detector import write_own_detector

        if bundle is not None or anew:
            raise ParameterError("--bundle and --anew are of a bundle's network, --detections of your own")
        with progress_or_log("calibrating") as progress:
            done = calibrate_own(labelled, name=name or detections.stem, progress=progress)
        write_own_detector(done.result, out)
    else:
        from passband.detectors.bundle import write_bundle
        from passband.judge.calibrate import calibrate_on

        if name is not None:
            raise ParameterError("--name is what to call your own detector: give its --detections too")
        with progress_or_log("calibrating") as progress:
            done = calibrate_on(labelled, bundle_from(bundle), anew=anew, progress=progress)
        write_bundle(done.result, out)
    _tell(done, out, json)


def score(
    images: ImagesOption,
    annotations: AnnotationsOption,
    out: Annotated[Path, typer.Option(help="The table (.csv), an image a row, for `passband evaluate`.")],
    detections: DetectionsOption = None,
    bundle: BundleOption = None,
    image_list: ImageListOption = None,
    score_threshold: ScoreThresholdOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    pixel_size_nm: PixelSizeOption = None,
    sidecar: SidecarOption = None,
    frame: FrameOption = None,
    permissive: PermissiveOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a detector on labelled micrographs: F1, precision and recall of each image, as a table.

    For example `passband score --images some/ --annotations truth.json --detections yolo/ --out rows.csv`,
    then `passband evaluate rows.csv`. Each folder of images is a domain. Without --detections a bundle's
    network is run.
    """
    from passband.judge.score import score_labelled, scored_in_words, scored_to_json

    labelled = labelled_images(
        images, annotations, _found(detections, image_list, score_threshold, category, strict),
        category, strict, reading_of(pixel_size_nm, sidecar, frame, permissive),
    )  # fmt: skip
    with progress_or_log("scoring") as progress:
        scored = score_labelled(
            labelled, None if detections is not None else bundle_from(bundle), out, progress=progress
        )
    print_notes(scored.notes)
    sys.stdout.write(scored_to_json(scored) if json else scored_in_words(scored) + "\n")
    typer.echo(f"wrote {out}: {counted(len(scored.rows), 'row')}", err=json)


def _found(
    path: Path | None,
    image_list: Path | None,
    score_threshold: float | None,
    category: list[str] | None,
    strict: bool,
) -> DetectionsFile | None:
    """The file of detections; classes and strictness are of the annotations too, so they need none."""
    if path is None:
        return detections_file(None, image_list, score_threshold, None, False)
    return detections_file(path, image_list, score_threshold, category, strict)


def _tell(done: Calibrated[Any], out: Path, json: bool) -> None:
    from passband.estimate.records import from_record
    from passband.judge.calibrated import calibrated_in_words, calibrated_to_json

    print_notes(done.notes)
    sys.stdout.write(calibrated_to_json(done) if json else calibrated_in_words(done) + "\n")
    typer.echo(f"wrote {out}: {from_record(done.result.calibration).statement}", err=json)
