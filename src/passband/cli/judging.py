"""Commands that judge: assess, info, evaluate."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passband.cli.foreign import (
    CategoryOption,
    ImageListOption,
    ScoreThresholdOption,
    StrictOption,
    detections_file,
    print_notes,
)
from passband.cli.shell import (
    SHIPPED_BUNDLES,
    BundleOption,
    FrameOption,
    InstrumentOption,
    PermissiveOption,
    PixelSizeOption,
    SchedulerOption,
    SidecarOption,
    ThicknessOption,
    angstrom,
    bundle_of_any_kind,
    progress_or_log,
    reading_of,
    show_progress,
)
from passband.cli.verdicts import JsonOut, TableOut, print_errors

if TYPE_CHECKING:
    from passband.judge.many import Outcome


class Target(StrEnum):
    """What is estimated."""

    f1 = "f1"
    precision = "precision"
    recall = "recall"
    swelling_error = "swelling_error"


class ProtocolName(StrEnum):
    """What is held out."""

    random = "random"
    grouped = "grouped"
    domain = "leave-one-domain-out"
    set = "leave-one-set-out"


class FailOn(StrEnum):
    """The mildest verdict that makes the exit status 3."""

    review = "review"
    reject = "reject"


def assess(
    paths: Annotated[
        list[str], typer.Argument(help="Micrographs, folders, or wildcards in quotes ('run*/**/*.dm4').")
    ],
    detections: Annotated[
        Path | None,
        typer.Option(
            help="Judge these instead of the bundle's own: COCO, YOLO, label images and more (docs/judge.md)."
        ),
    ] = None,
    image_list: ImageListOption = None,
    score_threshold: ScoreThresholdOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    bundle: BundleOption = None,
    pixel_size_nm: PixelSizeOption = None,
    thickness_nm: ThicknessOption = None,
    sidecar: SidecarOption = None,
    instrument: InstrumentOption = "",
    defocus_nm: Annotated[
        float | None,
        typer.Option(
            help="Underfocus of all files, nm; negative is overfocus. Otherwise HRTEM's Thon rings tell it."
        ),
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option(help="Which image of a stack, from 0; or mean, of all of them; or all, one by one."),
    ] = None,
    permissive: PermissiveOption = False,
    frames: Annotated[
        str | None,
        typer.Option(help="Images of every stack, one by one: all, 0:1000 (the last left out) or 0:1000:10."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes, of one thread each.", show_default="this process, with all its threads"
        ),
    ] = None,
    scheduler: SchedulerOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, CSV, COCO and JSON. Run again to resume."),
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            help="Exit with status 3 if a verdict is this or worse (2 if a file could not be read)."
        ),
    ] = None,
    trust_f1: Annotated[float, typer.Option(help="Least estimated F1 that is trusted.")] = 0.8,
    reject_f1: Annotated[float, typer.Option(help="Estimated F1 below which to reject.")] = 0.5,
) -> None:
    """Judge micrographs: trust, review or reject, with an estimated F1 and reasons.

    For example:

    - `passband assess image.dm4`

    - `passband assess run7/ --sidecar sizes.csv --report run7-report`

    - `passband assess 'run*/*.tif' --json --fail-on reject > verdicts.json`

    - `passband assess images/ --detections my_detector.json --score-threshold 0.5`

    - `passband assess images/ --detections inference/ --image-list truth.json --category void`

    - `passband assess particles/ --bundle hrtem --pixel-size-nm 0.05`

    - `passband assess film.mrc --frames all --workers 8 --json > film.json`

    Verdicts do not depend on who gives them.

    Exit status: 0 all done, 2 something could not be read, 3 --fail-on met.
    """
    from passband.engines.settings import chosen_engine
    from passband.judge.many import Plan, assess_files
    from passband.judge.policy import Policy
    from passband.kinds import JudgeFile
    from passband.micrographs.many import frames_from_text

    if frame == "all" and frames is None:
        frame, frames = None, "all"
    policy = Policy(trust_f1=trust_f1, reject_f1=reject_f1)
    plan = Plan(
        judge=JudgeFile(path=bundle, policy=policy, thickness=angstrom(thickness_nm))(),
        reading=reading_of(
            pixel_size_nm,
            sidecar,
            frame,
            permissive,
            defocus_nm=defocus_nm,
            instrument=instrument,
            each=True,
        ),
        detections=detections_file(detections, image_list, score_threshold, category, strict),
        frames=None if frames is None else frames_from_text(frames),
    )
    engine = chosen_engine(workers, scheduler, most=sys.maxsize) if workers or scheduler else None
    with JsonOut() if json else TableOut() as out:
        with progress_or_log("assessing") as progress:
            outcome = assess_files(
                paths, plan, report=report, engine=engine, take=out.take, progress=progress
            )
        out.tell(outcome)
    print_notes(outcome.notes)
    print_errors(outcome)
    raise typer.Exit(_status(outcome, fail_on))


def info(
    path: Annotated[
        str | None,
        typer.Argument(help="A micrograph, a bundle, cavities or hrtem; without it, Passband itself."),
    ] = None,
    frame: FrameOption = None,
    permissive: PermissiveOption = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw where a bundle can be trusted: .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Say what Passband, a bundle or a micrograph file is.

    For example `passband info`, `passband info stack.mrc --frame 0`, `passband info my.safetensors`,
    `passband info hrtem --plot map.png`.
    """
    if plot is not None:
        _draw_map(path, plot)
    if path is None:
        from passband.judge.about import about_passband

        lines = about_passband()
    elif path.endswith((".safetensors", ".bundle")) or path in SHIPPED_BUNDLES:
        from passband.kinds import about_any

        lines = about_any(bundle_of_any_kind(Path(path)))
    else:
        from passband.micrographs.about import about_micrograph

        lines = about_micrograph(path, reading_of(None, None, frame, permissive))
    for name, words in lines:
        typer.echo(f"{name + ':':<20}{words}")


def _draw_map(path: str | None, plot: Path) -> None:
    """Draw the map of a bundle, or say that it has none."""
    from passband.detectors.bundle import named_bundle
    from passband.drawing.saving import save_figure
    from passband.errors import ParameterError
    from passband.judge.policy import DEFAULT_POLICY
    from passband.judge.trust_map import draw_trust_map, trust_map

    known = None if path is None else trust_map(named_bundle(path).training)
    if known is None:
        raise ParameterError(f"{path or 'Passband itself'} holds no map to draw; a bundle that does is hrtem")
    typer.echo(f"drawn: {save_figure(draw_trust_map(known, DEFAULT_POLICY), plot)}", err=True)


def evaluate(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV of labelled rows: image, domain, f1, precision, recall, "
            "features; or the table of Li et al."
        ),
    ],
    target: Annotated[Target, typer.Option(help="What is estimated.")] = Target.f1,
    protocol: Annotated[ProtocolName, typer.Option(help="What is held out.")] = ProtocolName.domain,
    model: Annotated[
        str,
        typer.Option(
            help="passband, paper-rf, or a peer: predict-the-mean, mean-confidence, "
            "area-weighted-confidence, atc, doc, gradient-boosting, quantile-forest."
        ),
    ] = "passband",
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of random folds, or of the few shots.")] = 10,
    few_shot: Annotated[
        int, typer.Option(min=0, help="Labelled images of each held-out domain shown to the model.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for evaluation.html with figures.")] = None,
) -> None:
    """Measure how good label-free estimates are, on images whose scores were measured.

    - `passband evaluate rows.csv` leaves one domain out at a time

    - `passband evaluate rows.csv --model paper-rf --protocol random --report out`

    - `passband evaluate rows.csv --few-shot 10 --json`

    Intervals, their coverage and abstention are those of rows that the model did not see.
    """
    from passband.estimate.evaluation.question import Question, answer_in_words, answer_to_json, evaluate_file

    question = Question(
        target=target.value, protocol=protocol.value, model=model, repeats=seeds, few_shot=few_shot
    )
    with show_progress("evaluating") as progress:
        answer = evaluate_file(table, question, progress=progress)
    sys.stdout.write(answer_to_json(answer) if json else answer_in_words(answer) + "\n")
    if report is not None and answer.evaluation is not None:
        from passband.estimate.evaluation.page import write_evaluation

        typer.echo(f"report: {write_evaluation(report, answer.evaluation, subtitle=table.name)}", err=json)


def _status(outcome: Outcome, fail_on: FailOn | None) -> int:
    if outcome.errors:
        return 2
    bad = {None: (), FailOn.review: ("review", "reject"), FailOn.reject: ("reject",)}[fail_on]
    return 3 if any(outcome.counts.get(verdict) for verdict in bad) else 0
