"""Commands on a whole folder: draw images to be labelled, and say what their labels tell of all of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.foreign import (
    CategoryOption,
    ImageListOption,
    ScoreThresholdOption,
    StrictOption,
    detections_file,
)
from passband.cli.shell import (
    BundleOption,
    FrameOption,
    PermissiveOption,
    PixelSizeOption,
    SidecarOption,
    ThicknessOption,
    angstrom,
    progress_or_log,
    reading_of,
)
from passband.words import counted


def draw(
    images: Annotated[
        list[str], typer.Argument(help="The folder; or files, several folders, wildcards in quotes.")
    ],
    out: Annotated[Path, typer.Option(help="New folder of the task: images, detections, the draw.")],
    detections: Annotated[
        Path | None,
        typer.Option(help="What your detector found (docs/judge.md lists the forms); else the bundle's own."),
    ] = None,
    bundle: BundleOption = None,
    image_list: ImageListOption = None,
    score_threshold: ScoreThresholdOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    count: Annotated[int, typer.Option(min=1, help="How many images are drawn.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw: another seed, other images.")] = 0,
    pixel_size_nm: PixelSizeOption = None,
    thickness_nm: ThicknessOption = None,
    sidecar: SidecarOption = None,
    frame: FrameOption = None,
    permissive: PermissiveOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw images of a folder at random, to be labelled, before anyone looks.

    - `passband survey draw images/ --count 10 --seed 1 --out task`

    - `passband survey draw images/ --detections found.json --out task`

    The task holds the images, a COCO file with the detections filled in for CVAT, Label Studio or napari, and
    a README.txt. From 20 images on they are drawn within three strata of estimated F1. Run the same command
    again to go on after a stop.

    Exit status: 0 all done, 2 something could not be read and is not of the folder that is surveyed.
    """
    import json as json_text

    from passband.judge.many import Plan
    from passband.judge.survey import Drawing, draw_survey
    from passband.judge.survey_task import IMAGES
    from passband.kinds import JudgeFile

    plan = Plan(
        judge=JudgeFile(path=bundle, thickness=angstrom(thickness_nm))(),
        reading=reading_of(pixel_size_nm, sidecar, frame, permissive),
        detections=detections_file(detections, image_list, score_threshold, category, strict),
    )
    with progress_or_log("assessing") as progress:
        task, errors = draw_survey(images, plan, Drawing(out=out, count=count, seed=seed), progress=progress)
    drawn = [task.members[d.place].path for d in task.drawn]
    if json:
        told = {
            "n": len(task.members),
            "drawn": drawn,
            "images": [str(out / IMAGES / d.name) for d in task.drawn],
            "notes": list(task.notes),
            "errors": [{"path": path, "error": words} for path, words in errors],
        }
        sys.stdout.write(json_text.dumps(told) + "\n")
    else:
        typer.echo("\n".join(drawn))
        typer.echo(f"\n{len(drawn)} of {counted(len(task.members), 'image')} drawn: {out} says what to do")
    for words in task.notes:
        typer.echo(f"passband: {words}", err=True)
    if errors:
        typer.echo(f"passband: not surveyed ({len(errors)}):", err=True)
    for path, words in errors:
        typer.echo(f"  {path}: {words}", err=True)
    raise typer.Exit(2 if errors else 0)


def result(
    task: Annotated[Path, typer.Argument(help="Folder that `passband survey draw` wrote.")],
    annotations: Annotated[
        Path,
        typer.Option(help="The labels (docs/judge.md lists the forms), named like the task's images."),
    ],
    category: CategoryOption = None,
    strict: StrictOption = False,
    coverage: Annotated[float, typer.Option(help="How often an interval is to contain what holds.")] = 0.9,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what the labels of the drawn images tell of the whole folder, with intervals.

    - `passband survey result task --annotations exported.json`

    - `passband survey result task --annotations exported.json --json`

    F1, precision and recall; number of objects and their density, diameters, area fraction and swelling, each
    corrected for what the detector misses and makes up, beside what the labels alone would say. Labels of
    images that were not drawn are passed over. Where a drawn image has no labels, the intervals are not
    called valid.
    """
    from passband.judge.survey_result import survey_result
    from passband.judge.survey_words import survey_in_words, survey_to_json

    file = detections_file(annotations, None, None, category, strict)
    assert file is not None
    done = survey_result(task, file, coverage=coverage)
    sys.stdout.write(survey_to_json(done) if json else survey_in_words(done))
    for words in done.invalid if json else ():
        typer.echo(f"passband: not valid: {words}", err=True)
