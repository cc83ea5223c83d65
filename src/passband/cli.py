"""The command line: parse, call, print. What it prints is made elsewhere.

Exit status: 0 all done; 2 something could not be read or the call was wrong, also where ``--fail-on``
is met, as the judgement is then incomplete; 3 ``--fail-on`` met; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from passband.errors import PassbandError

if TYPE_CHECKING:  # heavy modules are imported where they are used: help must come at once
    from passband.assessment import Outcome
    from passband.learn.bundle import Bundle
    from passband.policy import Answer


class _Commands(TyperGroup):
    """Turns every error into one line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PassbandError as e:
            _stop(str(e), 2)
        except BrokenPipeError:
            raise
        except OSError as e:
            _stop(f"{e.filename or 'a file'}: {e.strerror or e}", 2)
        except KeyboardInterrupt:
            kept = "what is finished is kept where --report or --out was given"
            _stop(f"interrupted; {kept}: run the same command again to go on", 130)
        except Exception as e:
            usage = isinstance(e, typer.Abort) or hasattr(e, "exit_code")  # Typer's own, shown by Typer
            if usage or os.environ.get("PASSBAND_TRACEBACK"):
                raise
            wanted = "please report it with what it prints under PASSBAND_TRACEBACK=1"
            _stop(f"unexpected {type(e).__name__}: {e}; this is a fault in Passband, {wanted}", 1)


def _stop(message: str, status: int) -> None:
    typer.echo(f"passband: {message}", err=True)
    raise typer.Exit(status)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Tells whether a model's answer on a micrograph can be trusted: trust, review or reject, "
    "with an estimated F1 and the reasons.\n\nStart with `passband assess my_image.dm4`, or try it "
    "without data: `passband simulate cavities --out demo --count 3`, then `passband assess demo`.",
)  # fmt: skip
simulate_app = typer.Typer(no_args_is_help=True, help="Simulate micrographs with known truth.")
train_app = typer.Typer(no_args_is_help=True, help="Train a detector on simulated micrographs.")


def _print_version(wanted: bool) -> bool:
    if wanted:
        from passband import __version__

        typer.echo(__version__)
        raise typer.Exit(0)
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


app.add_typer(simulate_app, name="simulate")
app.add_typer(train_app, name="train")


class Target(StrEnum):
    """What is estimated."""

    f1 = "f1"
    precision = "precision"
    recall = "recall"
    swelling_error = "swelling_error"


class Protocol(StrEnum):
    """What is held out."""

    random = "random"
    grouped = "grouped"
    domain = "leave-one-domain-out"
    set = "leave-one-set-out"


class FailOn(StrEnum):
    """The mildest verdict that makes the exit status 3."""

    review = "review"
    reject = "reject"


class Focus(StrEnum):
    """Side of focus."""

    under = "under"
    over = "over"
    in_focus = "in"


class Backbone(StrEnum):
    """Size of the detector."""

    slim = "slim"
    resnet50 = "resnet50"


BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Detector and calibration; the shipped one if not given.")
]
SidecarOption = Annotated[
    Path | None,
    typer.Option("--sidecar", help="CSV with a column of file names and one of pixel sizes (nm/pixel)."),
]


@app.command()
def assess(
    paths: Annotated[
        list[str], typer.Argument(help="Micrographs, folders, or wildcards in quotes ('run*/**/*.dm4').")
    ],
    detections: Annotated[
        Path | None,
        typer.Option(help="Judge these instead of the bundle's own: COCO, YOLO or label images."),
    ] = None,
    bundle: BundleOption = None,
    pixel_size_nm: Annotated[
        float | None, typer.Option(help="nm per pixel, in place of what the files say.")
    ] = None,
    thickness_nm: Annotated[
        float | None, typer.Option(help="Foil thickness in nm, for the swelling.")
    ] = None,
    sidecar: SidecarOption = None,
    frame: Annotated[int | None, typer.Option(help="Which image of a stack, from 0.")] = None,
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

    - `passband assess images/ --detections my_detector.json`

    Exit status: 0 all done, 2 something could not be read, 3 --fail-on met.
    """
    from passband.assessment import Plan, assess_files
    from passband.data.readers import read_sidecar
    from passband.policy import Policy
    from passband.verdict import verdicts_to_json

    plan = Plan(
        bundle=_bundle(bundle),
        policy=Policy(trust_f1=trust_f1, reject_f1=reject_f1),
        frame=frame,
        pixel_size=_angstrom(pixel_size_nm),
        sidecar={} if sidecar is None else read_sidecar(sidecar),
        thickness=_angstrom(thickness_nm),
        detections=detections,
    )
    with _progress("assessing") as progress:
        outcome = assess_files(paths, plan, report=report, progress=progress)
    if json:
        sys.stdout.write(verdicts_to_json(outcome.verdicts, outcome.errors))
    else:
        _print_verdicts(outcome)
    _print_errors(outcome)
    raise typer.Exit(_status(outcome, fail_on))


@app.command()
def info(
    path: Annotated[
        str | None, typer.Argument(help="A micrograph or a bundle; without it, Passband itself.")
    ] = None,
) -> None:
    """Say what Passband, a bundle or a micrograph file is.

    For example `passband info`, `passband info image.dm4`, `passband info my.safetensors`.
    """
    from passband import information

    if path is None:
        lines = information.about_passband()
    elif path.endswith(".safetensors"):
        lines = information.about_bundle(_bundle(Path(path)))
    else:
        lines = information.about_micrograph(path)
    for name, words in lines:
        typer.echo(f"{name + ':':<20}{words}")


@simulate_app.command("cavities")
def simulate_cavities(
    out: Annotated[Path, typer.Option(help="Folder for the images, records and truth. Run again to resume.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 10,
    domain: Annotated[str, typer.Option(help="A: steels; B: helium bubbles, dense; C: faceted voids.")] = "A",
    focus: Annotated[Focus, typer.Option(help="Side of focus.")] = Focus.under,
    seed: Annotated[int, typer.Option(min=0, help="Image i follows from the seed and i alone.")] = 0,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of an image in pixels.")] = 512,
) -> None:
    """Simulate micrographs of cavities in a foil: 16-bit TIFF, records, and COCO truth.

    For example `passband simulate cavities --out demo --count 20 --domain B --focus over --seed 1`.
    """
    from passband.data.simulated import write_simulated
    from passband.physics.cavity_domains import draw_set

    records = list(draw_set([f"{domain}:{focus.value}"], count, seed=seed, shape=(size, size)))
    with _progress("simulating") as progress:
        truth = write_simulated(out, records, progress=progress)
    typer.echo(f"{count} micrographs in {out}, what is there to be found in {truth}")


@train_app.command("detector")
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
    from passband.learn.bundle import write_bundle
    from passband.learn.detector import PAPER, SLIM
    from passband.learn.train import TrainConfig, train_detector

    config = TrainConfig(
        detector=SLIM if backbone is Backbone.slim else PAPER,
        name=out.resolve().name,
        domains=tuple(domains.split(",")),
        images=images,
        steps=steps,
        seed=seed,
        start=None if start is None else str(start),
    )
    with _progress("training") as progress:
        bundle = train_detector(config, out, progress=progress)
    write_bundle(bundle, out / "bundle.safetensors")
    typer.echo(f"wrote {out / 'bundle.safetensors'}; make it estimate with `passband calibrate`")


@app.command()
def calibrate(
    images: Annotated[
        list[str], typer.Option(help="Labelled micrographs: folder, file or wildcard; may be given again.")
    ],
    annotations: Annotated[Path, typer.Option(help="What is there: COCO, YOLO or label images.")],
    out: Annotated[Path, typer.Option(help="The new bundle (.safetensors).")],
    bundle: BundleOption = None,
    sidecar: SidecarOption = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Fit to these images alone, however few folders they are from.")
    ] = False,
) -> None:
    """Fit a bundle's estimates to labelled micrographs of your own.

    With a few images (5 to 20 do) of one kind, the calibration that the bundle has is adapted to that kind.
    With 30 or more from several folders a new one is fitted; each folder counts as one domain, and the
    intervals hold for new domains.

    For example `passband calibrate --images labelled/ --annotations labels.json --out mine.safetensors`.
    """
    from passband.assessment import calibrate_files
    from passband.data.readers import read_sidecar
    from passband.learn.bundle import write_bundle

    table = {} if sidecar is None else read_sidecar(sidecar)
    with _progress("calibrating") as progress:
        done = calibrate_files(
            images, annotations, _bundle(bundle), sidecar=table, anew=anew, progress=progress
        )
    write_bundle(done, out)
    from passband.estimate.records import from_record

    assert done.calibration is not None
    typer.echo(f"wrote {out}: {from_record(done.calibration).statement}")


@app.command()
def evaluate(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV of labelled rows: image, domain, f1, precision, recall, "
            "features; or the table of Li et al."
        ),
    ],
    target: Annotated[Target, typer.Option(help="What is estimated.")] = Target.f1,
    protocol: Annotated[Protocol, typer.Option(help="What is held out.")] = Protocol.domain,
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
    from passband.evaluation import Question, answer_in_words, answer_to_json, evaluate_file

    question = Question(
        target=target.value, protocol=protocol.value, model=model, repeats=seeds, few_shot=few_shot
    )
    with _progress("evaluating") as progress:
        answer = evaluate_file(table, question, progress=progress)
    sys.stdout.write(answer_to_json(answer) if json else answer_in_words(answer) + "\n")
    if report is not None and answer.evaluation is not None:
        from passband.report.evaluation import write_evaluation

        typer.echo(f"report: {write_evaluation(report, answer.evaluation, subtitle=table.name)}", err=json)


def main() -> None:
    """Run the command line."""
    app()


def _bundle(path: Path | None) -> Bundle:
    from passband.learn.bundle import default_bundle, read_bundle

    return default_bundle() if path is None else read_bundle(path)


def _angstrom(nm: float | None) -> float | None:
    from passband.units import NM

    return None if nm is None else nm * NM


def _status(outcome: Outcome, fail_on: FailOn | None) -> int:
    if outcome.errors:
        return 2
    bad = {None: (), FailOn.review: ("review", "reject"), FailOn.reject: ("reject",)}[fail_on]
    return 3 if any(v.verdict in bad for v in outcome.verdicts) else 0


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr, where a person looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(now: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"{what} {now}".replace("[", r"\["))

        yield show


def _print_verdicts(outcome: Outcome) -> None:
    """A table of verdicts on stdout."""
    from collections import Counter

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from passband.report.sheet import short_paths

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    if outcome.verdicts:
        folder, names = short_paths([v.path for v in outcome.verdicts])
        table = Table(box=None, pad_edge=False)
        table.add_column("micrograph", no_wrap=True)
        for heading in ("verdict", "estimated F1", "objects", "first reason"):
            table.add_column(heading, no_wrap=heading == "estimated F1")
        styles: dict[Answer, str] = {"trust": "green", "review": "yellow", "reject": "red"}
        for name, v in zip(names, outcome.verdicts, strict=True):
            e = v.estimates.get("f1")
            f1 = "-" if e is None else f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})"
            rest = (Text(f1), Text(str(len(v.detections))), Text(v.reasons[0]))  # Text: nothing is markup
            table.add_row(Text(name), Text(v.verdict, styles[v.verdict]), *rest)
        console.print(table)
        counts = Counter(v.verdict for v in outcome.verdicts)
        where = f" in {folder}" if folder else ""
        typer.echo("\n" + ", ".join(f"{counts[verdict]} {verdict}" for verdict in styles) + where)
    if outcome.page is not None:
        again = f", {outcome.reused} of them from an earlier run" if outcome.reused else ""
        typer.echo(f"report on {len(outcome.verdicts)} micrographs{again}: {outcome.page}")


def _print_errors(outcome: Outcome) -> None:
    """What could not be assessed, on stderr, after everything else."""
    if outcome.errors:
        typer.echo(f"passband: not assessed ({len(outcome.errors)}):", err=True)
    for path, words in outcome.errors:
        typer.echo(f"  {path}: {words}", err=True)
